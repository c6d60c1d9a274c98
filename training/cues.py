"""How much of the labels can be told without comparing anything.

A regression on the text's vector sees only the prompt, or only the statement, and says of
each pair whether the one bears on the other; it is judged on bags of domains that it was not
fitted on. Near .5 is good: then nothing is learnt, or reported, that is a manner of writing.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from .labelled import Bag

FOLDS = 5
SEED = 20
Vectors = Callable[[Sequence[str]], NDArray[np.float32]]


def report(bags: Sequence[Bag], vectors: Vectors) -> list[str]:
    """Give a line to print for each kind of cue.

    Args:
        bags: of which pairs within a bag are labelled; those of one statement have no
            contrast and say nothing here.
        vectors: texts → (n, d).
    """
    several = [bag for bag in bags if len(bag.statements) > 1]
    prompts = [text for bag in several for text in bag.prompts]
    statements = [text for bag in several for text in bag.statements]
    by_prompt = np.concatenate([bag.bears.mean(1) for bag in several])
    by_statement = np.concatenate([bag.bears.mean(0) for bag in several])
    some = np.concatenate([bag.bears.any(1) for bag in several]).astype(float)
    heights = [len(bag.prompts) for bag in several]
    widths = [len(bag.statements) for bag in several]
    owners = [bag.domain for bag in several for _ in bag.prompts]
    about = [bag.domain for bag in several for _ in bag.statements]
    return [
        f"{name}: AUROC {_auroc(vectors(texts), domains, share, weights):.3f}"
        for name, texts, domains, share, weights in (
            ("prompt alone, does this statement bear", prompts, owners, by_prompt,
             np.repeat(widths, heights)),
            ("prompt alone, does anything bear", prompts, owners, some, np.ones(len(prompts))),
            ("statement alone, does it bear on this prompt", statements, about, by_statement,
             np.repeat(heights, widths)),
        )
    ]  # fmt: skip


def _auroc(
    features: NDArray[np.float32],
    domains: Sequence[str],
    share: NDArray[np.float64],
    pairs: NDArray[Any],
) -> float:
    """Give the AUROC over pairs of a regression judged on domains left out.

    Args:
        features: (n, d).
        domains: n.
        share: (n,), of the text's pairs in which it bears.
        pairs: (n,), how many pairs it is in.
    """
    names = sorted(set(domains))
    folds = np.random.default_rng(SEED).permutation(len(names)) % FOLDS
    of = dict(zip(names, folds, strict=True))
    fold = np.array([of[name] for name in domains])
    scores = np.zeros(len(features))
    both = np.concatenate([features, features])
    labels = np.repeat([1, 0], len(features))
    weights = np.concatenate([share * pairs, (1 - share) * pairs])
    for each in range(FOLDS):
        inside = np.concatenate([fold != each] * 2) & (weights > 0)
        model: Any = LogisticRegression(max_iter=500, C=1.0)
        model.fit(both[inside], labels[inside], sample_weight=weights[inside])
        scores[fold == each] = model.decision_function(features[fold == each])
    return float(roc_auc_score(labels, np.concatenate([scores, scores]), sample_weight=weights))
