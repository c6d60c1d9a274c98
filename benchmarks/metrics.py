"""What quality is measured with: recall, ranks, selection, and intervals. Pure.

Recall@k is the fraction of a query's relevant statements among its first k; hit@k is whether
any of them is there. With one relevant statement a query the two are the same.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
RESAMPLES = 10_000
_AT_ONCE = 2_000_000
"""Random numbers drawn at once by the bootstrap."""


def recall(ranking: Sequence[str], relevant: AbstractSet[str], k: int) -> float:
    """Give the fraction of the relevant ids that are among the first k."""
    return len(relevant.intersection(ranking[:k])) / len(relevant)


def hit(ranking: Sequence[str], relevant: AbstractSet[str], k: int) -> float:
    """Give 1 if any relevant id is among the first k, else 0."""
    return float(not relevant.isdisjoint(ranking[:k]))


def reciprocal_rank(ranking: Sequence[str], relevant: AbstractSet[str]) -> float:
    """Give 1 / rank of the first relevant id; 0 if there is none."""
    return next((1 / rank for rank, i in enumerate(ranking, 1) if i in relevant), 0.0)


@dataclass(frozen=True, slots=True)
class Selection:
    """How right what was injected is, over (prompt, statement) pairs of many prompts."""

    gold: float
    """Share of the relevant pairs that were injected: recall."""
    precision: float
    """Share of the injected pairs that are relevant; nan when nothing was injected."""
    f1: float
    fired: float
    """Share of the prompts for which anything was injected."""
    per_prompt: float
    """Statements injected for a prompt, on average."""


def selection(
    injected: Sequence[AbstractSet[str]], relevant: Sequence[AbstractSet[str]]
) -> Selection:
    """Count over all prompts together (micro-averaged).

    Args:
        injected: for each prompt the ids that were injected.
        relevant: for each prompt the ids that are relevant; empty when none is.
    """
    right = sum(len(i & r) for i, r in zip(injected, relevant, strict=True))
    given, wanted = sum(map(len, injected)), sum(map(len, relevant))
    return Selection(
        gold=right / wanted if wanted else float("nan"),
        precision=right / given if given else float("nan"),
        f1=2 * right / (given + wanted) if given + wanted else float("nan"),
        fired=sum(map(bool, injected)) / len(injected),
        per_prompt=given / len(injected),
    )


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean difference with its interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.mean:+.1f} [{100 * self.low:+.1f}, {100 * self.high:+.1f}]"


def paired_bootstrap(
    ours: Sequence[float], theirs: Sequence[float], *, seed: int, resamples: int = RESAMPLES
) -> Difference:
    """Give the mean difference over queries, with its 95% percentile interval.

    Args:
        ours: a figure for each query.
        theirs: the same figure for the same queries.
        seed: of the resampling.
        resamples: how often queries are drawn anew, with replacement.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    """
    difference = np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)
    generator = np.random.default_rng(seed)
    n, means, done = len(difference), np.empty(resamples), 0
    while done < resamples:
        some = min(max(1, _AT_ONCE // n), resamples - done)
        drawn = generator.integers(0, n, (some, n))
        means[done : done + some] = difference[drawn].mean(axis=1)
        done += some
    low, high = np.percentile(means, [2.5, 97.5])
    return Difference(float(difference.mean()), float(low), float(high))


def threshold_for(best: Sequence[float], share: float) -> float:
    """Give the threshold that a given share of prompts reaches with its best score.

    Args:
        best: the highest score of each prompt on which nothing bears.
        share: which part of them may fire, 0 to 1.
    """
    ordered = sorted(best, reverse=True)
    allowed = int(share * len(ordered))
    return ordered[allowed - 1] if allowed else float(np.nextafter(ordered[0], np.inf))


def above(
    ranking: Sequence[str], scores: Sequence[float], threshold: float, most: int
) -> frozenset[str]:
    """Give the ids among the first ``most`` whose score reaches the threshold."""
    return frozenset(i for i, s in zip(ranking[:most], scores, strict=False) if s >= threshold)


def auroc(scores: Sequence[float] | Floats, labels: Sequence[bool], weights: Floats) -> float:
    """Give the chance that a positive scores above a negative; ties count half.

    Args:
        scores: (n,).
        labels: n labels, both kinds present.
        weights: (n,), how often each counts.
    """
    values, places = np.unique(np.asarray(scores, np.float64), return_inverse=True)
    positive = np.bincount(places, np.where(labels, weights, 0.0), len(values))
    negative = np.bincount(places, np.where(labels, 0.0, weights), len(values))
    below = np.cumsum(negative) - negative
    won = (positive * (below + negative / 2)).sum()
    return float(won / (positive.sum() * negative.sum()))
