"""What the engine hands back: values that print readably and know no engine."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Literal, cast

from ..memory.models import (
    Evidence,
    Kind,
    Scope,
    Statement,
    Strength,
    html_rows,
    html_table,
)
from .relation import Relation

Lane = Literal["always", "topical"]
Verdict = Literal["injected", "below_threshold", "over_budget", "out_of_context"]
Status = Literal["injected", "none", "degraded"]
_MOST_SHOWN = 20
"""Candidates in the table of a retrieval."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A statement in force that was scored against a request.

    ``score`` is the calibrated probability, 0 to 1, that the statement bears on
    the request; it means the same for every request. ``parts`` are what it was
    made of: ``dense`` (cosine of the best segment, weighted), ``lexical`` (BM25
    on its fixed scale, 0 to 1), ``threshold`` (the probability that this
    candidate had to reach; 0 in the always lane).
    """

    statement: Statement
    lane: Lane
    score: float
    parts: dict[str, float]
    verdict: Verdict

    def __str__(self) -> str:
        return f"{self.score:6.1%}  {self.verdict:<15}  {self.statement.text}"

    def _repr_html_(self) -> str:
        return html_table(
            [
                ("statement", self.statement.text),
                ("score", f"{self.score:.3f}"),
                ("verdict", self.verdict),
                ("lane", self.lane),
                *((name, f"{value:.3f}") for name, value in self.parts.items()),
            ]
        )


@dataclass(frozen=True, slots=True)
class Retrieval:
    """What was chosen for one request, and everything that was considered."""

    context: str
    """The text to put in front of a model; "" when nothing bears on the request."""
    status: Status
    """``degraded``: a ``must`` statement bore on the request and had no place."""
    evidence_id: str | None
    """Id of the durable evidence; None with ``record=False``."""
    injected: list[Candidate]
    """In the order in which they were chosen."""
    candidates: Sequence[Candidate]
    """Every statement in force, best first; read like a list, made when looked at."""
    repaired: int = 0
    """Vectors found missing or altered while reading, and put back from SQL."""

    def __str__(self) -> str:
        head = f"{self.status}: {len(self.injected)} of {len(self.candidates)} statements"
        return "\n".join([head, *(f"  {candidate}" for candidate in self.injected)])

    def _repr_html_(self) -> str:
        more = len(self.candidates) - _MOST_SHOWN
        return (
            f"<p>{escape(self.status)}: {len(self.injected)} of {len(self.candidates)} statements; "
            f"evidence {escape(self.evidence_id or 'not recorded')}</p>"
            + _candidates(self.candidates[:_MOST_SHOWN])
            + (f"<p>and {more} more</p>" if more > 0 else "")
        )


def _candidates(shown: Iterable[Candidate]) -> str:
    return html_rows(
        ["score", "needed", "verdict", "lane", "strength", "statement"],
        [
            (
                f"{c.score:.3f}",
                f"{c.parts['threshold']:.2f}" if c.lane == "topical" else "",
                c.verdict,
                c.lane,
                c.statement.strength,
                c.statement.text,
            )
            for c in shown
        ],
    )


@dataclass(frozen=True, slots=True)
class Injection:
    """Chat messages with the context in the right place, and where it came from."""

    messages: list[dict[str, Any]]
    retrieval: Retrieval

    def __str__(self) -> str:
        return "\n".join(f"{message.get('role')}: {_said(message)}" for message in self.messages)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left;vertical-align:top'>{escape(str(m.get('role')))}</th>"
            f"<td style='text-align:left;white-space:pre-wrap'>{escape(_said(m))}</td></tr>"
            for m in self.messages
        )
        return (
            f"<table>{rows}</table><p>{escape(self.retrieval.status)}; "
            f"evidence {escape(self.retrieval.evidence_id or 'not recorded')}</p>"
        )


def _said(message: dict[str, Any]) -> str:
    """Give what a message says: its text, the texts of its parts, or else what it holds."""
    content = message.get("content")
    if isinstance(content, list):
        parts = cast("list[dict[str, Any]]", content)
        return "\n".join(str(part["text"]) for part in parts if part.get("text"))
    return content if isinstance(content, str) else ""


@dataclass(frozen=True, slots=True)
class Pair:
    """A statement just stored, and one already there that lies close to it."""

    statement: Statement
    other: Statement
    score: float
    """Cosine of the two, -1 to 1."""

    def __str__(self) -> str:
        return f"{self.statement.id} ~ {self.other.id} ({self.score:.2f}): {self.other.text}"


class Added(list[Statement]):
    """The statements that a text says, in its order: new ones and those already there.

    ``existing`` are the ones that were already stored word for word.
    ``similar``, ``possible_revisions`` and ``tensions`` are reports only: what they name
    was stored, and nothing was merged or changed.
    """

    def __init__(
        self,
        statements: Sequence[Statement] = (),
        *,
        existing: Sequence[Statement] = (),
        similar: Sequence[Pair] = (),
        possible_revisions: Sequence[Pair] = (),
        tensions: Sequence[Pair] = (),
    ) -> None:
        super().__init__(statements)
        self.existing = list(existing)
        self.similar = list(similar)
        self.possible_revisions = list(possible_revisions)
        self.tensions = list(tensions)

    @property
    def new(self) -> list[Statement]:
        """The statements that were not there before."""
        known = {statement.id for statement in self.existing}
        return [statement for statement in self if statement.id not in known]

    def __str__(self) -> str:
        return "\n".join(str(statement) for statement in self)

    def _repr_html_(self) -> str:
        existing = {statement.id for statement in self.existing}
        table = html_rows(
            ["id", "strength", "kind", "scope", "statement", ""],
            [
                (s.id, s.strength, s.kind, s.scope, s.text, "was there" * (s.id in existing))
                for s in self
            ],
        )
        reports = (
            ("similar", self.similar),
            ("possible revision", self.possible_revisions),
            ("tension", self.tensions),
        )
        pairs = [
            (relation, pair.statement.text, pair.other.text, f"{pair.score:.2f}")
            for relation, found in reports
            for pair in found
        ]
        return table + (
            html_rows(["report", "said now", "said before", "cosine"], pairs) if pairs else ""
        )


@dataclass(frozen=True, slots=True)
class Near:
    """A statement in force that one about to be said has to do with."""

    other: Statement
    relation: Relation
    score: float
    """Cosine of the two, -1 to 1."""


@dataclass(frozen=True, slots=True)
class Said:
    """One statement as ``add`` would store it; nothing was stored."""

    text: str
    kind: Kind
    strength: Strength
    scope: Scope
    existing: Statement | None
    """The same words, where they are there already: they would not be stored twice."""
    near: list[Near]
    """What lies close or pulls against it, closest first."""

    def __str__(self) -> str:
        return f"{self.strength} · {self.kind} · {self.scope}: {self.text}"

    def _repr_html_(self) -> str:
        return html_table(
            [
                ("statement", self.text),
                ("read as", f"{self.strength} · {self.kind} · {self.scope}"),
                ("already there", self.existing and self.existing.id),
                *((near.relation.replace("_", " "), near.other.text) for near in self.near),
            ]
        )


@dataclass(frozen=True, slots=True)
class Explanation:
    """The evidence of a retrieval, read back into statements, scores and verdicts."""

    evidence: Evidence
    retrieval: Retrieval
    problems: list[str] = field(default_factory=list[str])
    """What keeps the evidence from being read back in full; empty when all is there."""

    def __str__(self) -> str:
        return "\n".join([str(self.evidence), str(self.retrieval), *self.problems])

    def _repr_html_(self) -> str:
        problems = "".join(f"<p>{escape(problem)}</p>" for problem in self.problems)
        return self.evidence._repr_html_() + problems + self.retrieval._repr_html_()  # pyright: ignore[reportPrivateUsage]


@dataclass(frozen=True, slots=True)
class Replay:
    """Whether a recorded retrieval comes out the same again, bit for bit.

    Of a counterfactual: whether the same would have been injected.
    """

    evidence_id: str
    same: bool
    differences: list[str] = field(default_factory=list[str])
    """What differs, in words; empty when ``same``."""
    embedding_cosine: float | None = None
    """Least cosine of the recorded request vectors and ones embedded anew, where the request
    is given."""
    retrieval: Retrieval | None = None
    """What comes out now; None where the statements of the time cannot be rebuilt."""
    added: list[Candidate] = field(default_factory=list[Candidate])
    """Of a counterfactual: what would have been injected, and was not."""
    removed: list[Candidate] = field(default_factory=list[Candidate])
    """Of a counterfactual: what was injected, and would not have been."""

    def __bool__(self) -> bool:
        return self.same

    def __str__(self) -> str:
        if self.same:
            return f"{self.evidence_id}: same candidates, scores, verdicts and injected bytes"
        return f"{self.evidence_id}: differs: " + "; ".join(self.differences)

    def _repr_html_(self) -> str:
        said = html_table(
            [
                ("evidence", self.evidence_id),
                ("comes out", "the same" if self.same else "otherwise"),
                ("differences", "" if self.added or self.removed else "; ".join(self.differences)),
                ("cosine of the request", self.embedding_cosine and f"{self.embedding_cosine:.4f}"),
            ]
        )
        for heading, found in (
            ("would have been injected", self.added),
            ("would not have been injected", self.removed),
        ):
            said += f"<p>{heading}:</p>{_candidates(found)}" if found else ""
        return said


@dataclass(frozen=True, slots=True)
class Loaded:
    """What ``load`` wrote of a document, and what was there already."""

    subject: str
    versions: int
    """Versions of statements, decisions among them."""
    proposals: int
    existing: int

    def __str__(self) -> str:
        there = f"; {self.existing} were there already" if self.existing else ""
        return f"loaded {self.versions} versions and {self.proposals} proposals{there}"

    def _repr_html_(self) -> str:
        return html_table([("subject", self.subject), ("document", str(self))])


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """What ``doctor`` found, mended, and could not mend."""

    checked: int
    findings: dict[str, int]
    """How many of each kind of fault were found (missing, altered, orphaned, wrong_model, …)."""
    mended: dict[str, int]
    problems: list[str]
    """What could not be mended, in words that name the fix."""

    @property
    def ok(self) -> bool:
        """True when nothing is wrong any more."""
        return not self.problems

    def __str__(self) -> str:
        faults = ", ".join(f"{count} {name}" for name, count in self.findings.items() if count)
        state = "clean" if not faults else f"found {faults}"
        return f"{self.checked} vectors checked: {state}" + "".join(
            f"\n  {problem}" for problem in self.problems
        )

    def _repr_html_(self) -> str:
        return html_rows(
            ["fault", "found", "mended"],
            [(name, count, self.mended.get(name, 0)) for name, count in self.findings.items()],
        ) + html_table([("vectors checked", self.checked), ("left", "; ".join(self.problems))])
