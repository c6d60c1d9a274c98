"""Corpora and a request's vectors → scores, verdicts and the block of text. Pure.

The engine and the replay of its evidence both go through ``evaluate``, so that the
same input cannot give them different results.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np

from ..memory.models import Statement
from . import context, scoring, selection
from .corpus import Corpus, joined
from .results import Candidate, Lane, Retrieval
from .scoring import ONE, Int8, Int64, Scores
from .selection import VERDICTS, Policy, Pool, Selection

Table = Mapping[str, Sequence[int]]


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked of the corpora; all of it is kept in the evidence."""

    vectors: Int8
    """(s, d): one for each segment."""
    weights: tuple[int, ...]
    """s weights, in thousandths."""
    terms: tuple[str, ...]
    """Words for the lexical part that occur in some corpus."""
    contexts: frozenset[str]
    scale: int
    """Of the int8 vectors."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of n candidates: those of the first subject first, each sorted by id."""

    corpora: tuple[Corpus, ...]
    scores: Scores
    probability: Int64
    """(n,), in millionths."""
    selection: Selection
    context: str

    def statement(self, row: int) -> Statement:
        """Give the statement of a row."""
        for corpus in self.corpora:
            if row < len(corpus):
                return corpus.versions[row].statement
            row -= len(corpus)
        raise IndexError(row)

    def candidate(self, row: int) -> Candidate:
        """Give what became of a row."""
        statement = self.statement(row)
        lane: Lane = "always" if statement.scope == "always" else "topical"
        return Candidate(
            statement=statement,
            lane=lane,
            score=int(self.probability[row]) / ONE,
            parts={
                "dense": int(self.scores.dense[row]) / ONE,
                "lexical": int(self.scores.lexical[row]) / ONE,
                "threshold": int(self.selection.thresholds[row]) / ONE,
            },
            verdict=VERDICTS[int(self.selection.verdicts[row])],
        )

    def retrieval(self, evidence_id: str | None = None, repaired: int = 0) -> Retrieval:
        """Give what callers see of it."""
        return Retrieval(
            context=self.context,
            status=self.selection.status,
            evidence_id=evidence_id,
            injected=[self.candidate(row) for row in self.selection.injected],
            candidates=Candidates(self, self.selection.order),
            repaired=repaired,
        )


class Candidates(Sequence[Candidate]):
    """Candidates made when looked at: hundreds are scored, a few are read."""

    __slots__ = ("_outcome", "_rows")

    def __init__(self, outcome: Outcome, rows: Sequence[int]) -> None:
        self._outcome = outcome
        self._rows = rows

    @overload
    def __getitem__(self, index: int) -> Candidate: ...
    @overload
    def __getitem__(self, index: slice) -> "Candidates": ...
    def __getitem__(self, index: int | slice) -> "Candidate | Candidates":
        if isinstance(index, slice):
            return Candidates(self._outcome, self._rows[index])
        return self._outcome.candidate(int(self._rows[index]))

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Candidate]:
        return (self._outcome.candidate(int(row)) for row in self._rows)

    def __add__(self, other: Sequence[Candidate]) -> list[Candidate]:
        return [*self, *other]

    def __radd__(self, other: Sequence[Candidate]) -> list[Candidate]:
        return [*other, *self]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"[{', '.join(map(repr, self))}]"


def evaluate(corpora: Sequence[Corpus], query: Query, policy: Policy, table: Table) -> Outcome:
    """Score all statements of the corpora, select, and render what is injected.

    Args:
        corpora: one for each subject, in order of precedence.
        query: what is asked.
        policy: thresholds and budgets.
        table: the calibration, from totals to probabilities (``calibration``).
    """
    dense = np.concatenate(
        [
            scoring.by_segment(corpus.matrix, query.vectors, query.weights, scale=query.scale)
            for corpus in corpora
        ]
    )
    lexical = joined([corpus.lexicon.score(query.terms) for corpus in corpora])
    scores = scoring.best(dense, lexical)
    always = joined([c.always for c in corpora])
    in_context = joined([c.in_context(query.contexts) for c in corpora])
    levels = scoring.levels(dense, lexical, in_context & ~always, table)
    probability = scoring.probabilities(levels, table)
    pool = Pool(
        probability=probability,
        total=scores.total,
        strength=joined([c.strength for c in corpora]),
        always=always,
        in_context=in_context,
        tokens=joined([c.tokens for c in corpora]),
        precedence=np.repeat(np.arange(len(corpora)), [len(c) for c in corpora]),
        ids=corpora[0].ids if len(corpora) == 1 else [i for c in corpora for i in c.ids],
    )
    chosen = selection.select(pool, policy)
    outcome = Outcome(tuple(corpora), scores, probability, chosen, "")
    text = context.render(
        [outcome.statement(row) for row in chosen.injected], [c.subject for c in corpora]
    )
    return replace(outcome, context=text)
