"""How much of the labels is given away without comparing anything, on what is reported on.

``training.cues`` says what is measured and how; scikit-learn does it where it is installed.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from training.labelled import Bag

from .datasets import Set

Vectors = Callable[[Sequence[str]], NDArray[np.float32]]


def measure(sets: Sequence[Set], vectors: Vectors) -> tuple[list[str], str | None]:
    """Give the figures as lines to print, and what was skipped, if so.

    Args:
        sets: whole memories with prompts.
        vectors: texts → (n, d).
    """
    try:
        from training import cues
    except ImportError:
        return [], "the prompt-only and statement-only classifiers: pip install scikit-learn"
    return [
        f"{items.title}: {line}" for items in sets for line in cues.report(_bags(items), vectors)
    ], None


def _bags(items: Set) -> list[Bag]:
    bags: list[Bag] = []
    for user, own in items.users.items():
        topical = [item for item in own if item.scope == "topical"]
        queries = [query for query in items.queries if query.user == user]
        bears = np.array([[item.id in query.relevant for item in topical] for query in queries])
        texts = [item.text for item in topical]
        bags.append(Bag(user, user, texts, [], [query.text for query in queries], bears))
    return bags
