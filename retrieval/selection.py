"""Scores → verdicts: lanes, thresholds, budgets. Pure: integers in, integers out.

Every candidate gets one verdict. Statements with scope ``always`` have a lane and a
token budget of their own and need no score. Topical ones must reach the threshold of
their strength: ``must`` leans to recall, ``prefer`` to precision. Then budgets: in each
lane ``must`` comes first, and once a ``must`` had to be dropped nothing weaker takes
the room. Abstaining is normal.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..memory.models import STRENGTHS
from .results import Status, Verdict
from .scoring import ONE, Int64

VERSION = "selection-1"
"""Raised whenever the same scores would give other verdicts."""
VERDICTS: tuple[Verdict, ...] = ("injected", "below_threshold", "over_budget", "out_of_context")
INJECTED, BELOW_THRESHOLD, OVER_BUDGET, OUT_OF_CONTEXT = range(4)
MUST = STRENGTHS.index("must")

Codes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Policy:
    """What selection acts on; kept with every piece of evidence.

    ``thresholds`` are probabilities in millionths, by strength in the order of
    ``STRENGTHS``; ``limit`` counts topical statements; budgets are in tokens.
    """

    thresholds: tuple[int, int, int]
    limit: int
    budget: int
    always_budget: int

    def to_json(self) -> dict[str, Any]:
        """Give it as evidence keeps it."""
        return {
            "thresholds": list(self.thresholds),
            "limit": self.limit,
            "budget": self.budget,
            "always_budget": self.always_budget,
        }

    @property
    def of_nothing(self) -> "Policy":
        """The same where there is no place to put anything: no room in either lane."""
        return replace(self, limit=0, budget=0, always_budget=0)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Policy":
        """Read what ``to_json`` gave."""
        must, should, prefer = data["thresholds"]
        return cls((must, should, prefer), data["limit"], data["budget"], data["always_budget"])


@dataclass(frozen=True, slots=True)
class Pool:
    """What selection needs to know of n candidates, each an array (n,)."""

    probability: Int64
    """In millionths."""
    total: Int64
    strength: Codes
    """Places in ``STRENGTHS``."""
    always: NDArray[np.bool_]
    in_context: NDArray[np.bool_]
    tokens: Int64
    precedence: Int64
    """0 for the first subject."""
    ids: list[str]


@dataclass(frozen=True, slots=True)
class Selection:
    """What became of each candidate."""

    verdicts: Codes
    """(n,): places in ``VERDICTS``."""
    thresholds: Int64
    """(n,): what each had to reach; 0 in the always lane."""
    order: list[int]
    """The n rows, best first; ties by id."""
    injected: list[int]
    """Rows, in the order in which they stand in the context."""
    status: Status


def select(pool: Pool, policy: Policy) -> Selection:
    """Give every candidate its verdict."""
    needed = np.array(policy.thresholds, np.int64)[pool.strength]
    needed[pool.always] = 0
    verdicts = np.where(
        pool.always | (pool.probability >= needed), OVER_BUDGET, BELOW_THRESHOLD
    ).astype(np.uint8)
    verdicts[~pool.in_context] = OUT_OF_CONTEXT
    order = _best_first(pool)
    ranked: list[int] = order[verdicts[order] == OVER_BUDGET].tolist()  # those that await a budget

    def first(row: int) -> tuple[int, int, int]:
        is_must = pool.strength[row] == MUST
        strength = int(pool.strength[row]) if pool.always[row] else int(not is_must)
        precedence = int(pool.precedence[row])
        by_score = 0 if is_must or pool.always[row] else -int(pool.total[row])
        return strength, by_score, precedence

    ranked.sort(key=first)  # stable: equals stay best first
    always = [row for row in ranked if pool.always[row]]
    topical = [row for row in ranked if not pool.always[row]]
    injected = [
        *_fill(pool, always, policy.always_budget, len(always)),
        *_fill(pool, topical, policy.budget, policy.limit),
    ]
    verdicts[injected] = INJECTED
    dropped_must = any(
        pool.strength[row] == MUST and verdicts[row] == OVER_BUDGET for row in ranked
    )
    status: Status = "degraded" if dropped_must else "injected" if injected else "none"
    return Selection(verdicts, needed, order.tolist(), injected, status)


def thresholds(must: float, should: float, prefer: float) -> tuple[int, int, int]:
    """Turn probabilities into millionths."""
    return round(must * ONE), round(should * ONE), round(prefer * ONE)


def _best_first(pool: Pool) -> Int64:
    """Sort rows by total; equals by id (each subject's rows are sorted by id already)."""
    if pool.precedence.size and pool.precedence[-1] == 0:
        return np.argsort(-pool.total, kind="stable")
    place = np.empty(len(pool.ids), np.int64)
    place[sorted(range(len(pool.ids)), key=pool.ids.__getitem__)] = np.arange(len(pool.ids))
    return np.lexsort((place, -pool.total))


def _fill(pool: Pool, rows: Iterable[int], budget: int, limit: int) -> list[int]:
    """Take rows in order while they fit; after a dropped ``must`` nothing weaker."""
    taken: list[int] = []
    left, dropped_must = budget, False
    for row in rows:
        is_must = pool.strength[row] == MUST
        fits = len(taken) < limit and pool.tokens[row] <= left
        if fits and (is_must or not dropped_must):
            taken.append(row)
            left -= int(pool.tokens[row])
        elif is_must:
            dropped_must = True
    return taken
