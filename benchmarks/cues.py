"""How much of the labels of whole memories is given away without comparing anything.

A classifier sees only the prompt (does anything bear on it?), or only the statement (is it
relevant to a prompt?), and is tried on memories that it was not fitted on. Near .5 is good:
then a method cannot gain by recognising a manner of writing.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .datasets import Set
from .metrics import auroc

Vectors = Callable[[Sequence[str]], NDArray[np.float32]]
FOLDS = 10


def measure(memories: Set, vectors: Vectors, seed: int) -> tuple[list[str], str | None]:
    """Give the figures as lines to print, and what was skipped, if so.

    Args:
        memories: all of them, train and dev.
        vectors: texts → (n, d).
        seed: of the way memories are put into folds.
    """
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError:
        return [], "the prompt-only and statement-only classifiers: pip install scikit-learn"

    def left_out(texts: list[str], owners: list[str], labels: Any, weights: Any) -> float:
        """AUROC over memories left out, fold by fold, of a regression on the text's vector."""
        names = sorted(set(owners))
        folds = dict(zip(names, np.random.default_rng(seed).permutation(len(names)), strict=True))
        fold = np.array([folds[owner] % FOLDS for owner in owners])
        features, scores = vectors(texts), np.zeros(len(texts))
        for each in np.unique(fold):
            held = fold == each
            model: Any = LogisticRegression(max_iter=1000, class_weight="balanced", C=10)
            model.fit(features[~held], labels[~held], sample_weight=weights[~held])
            scores[held] = model.decision_function(features[held])
        return auroc(scores, labels, weights)

    queries = memories.queries
    some = np.array([bool(query.relevant) for query in queries])
    prompts = left_out(
        [q.text for q in queries], [q.user for q in queries], some, np.ones(len(queries))
    )
    statements = left_out(*_statements(memories))
    return [
        f"Cues in the memories, over {len(memories.users)} of them, each judged when left out: "
        f"AUROC of a classifier that sees only the prompt {prompts:.3f}, only the statement "
        f"{statements:.3f} (.5: none; above .65 false alarms here say little of manners of "
        "writing that it has not seen)."
    ], None


def _statements(memories: Set) -> tuple[list[str], list[str], Any, Any]:
    """Give each topical statement twice: as relevant and as not, weighted by how often."""
    counts = {
        item.id: [0, 0] for items in memories.users.values() for item in items
        if item.scope == "topical"
    }  # fmt: skip
    for query in memories.queries:
        for item in memories.users[query.user]:
            if item.scope == "topical":
                counts[item.id][item.id in query.relevant] += 1
    texts: list[str] = []
    owners: list[str] = []
    labels: list[bool] = []
    weights: list[int] = []
    for user, items in memories.users.items():
        for item in items:
            for label in (False, True):
                if item.scope == "topical" and counts[item.id][label]:
                    texts.append(item.text)
                    owners.append(user)
                    labels.append(label)
                    weights.append(counts[item.id][label])
    return texts, owners, np.array(labels), np.array(weights, np.float64)
