"""What the engine hands back: values that print readably and know no engine."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Literal

from ..memory.models import Evidence, Kind, Scope, Statement, Strength, html_table
from .relation import Relation

Lane = Literal["always", "topical"]
Verdict = Literal["injected", "below_threshold", "over_budget", "out_of_context"]
Status = Literal["injected", "none", "degraded"]


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
    """``degraded``: a ``must`` statement bore on the request and did not fit."""
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
        rows = "".join(
            f"<tr><td>{c.score:.3f}</td><td>{escape(c.verdict)}</td>"
            f"<td>{escape(c.lane)}</td>"
            f"<td style='text-align:left'>{escape(c.statement.text)}</td></tr>"
            for c in self.candidates[:20]
        )
        return (
            f"<p>{escape(self.status)}: {len(self.injected)} of {len(self.candidates)} statements; "
            f"evidence {escape(self.evidence_id or 'not recorded')}</p>"
            "<table><tr><th>score</th><th>verdict</th><th>lane</th><th>statement</th></tr>"
            f"{rows}</table>"
        )


@dataclass(frozen=True, slots=True)
class Injection:
    """Chat messages with the context in the right place, and where it came from."""

    messages: list[dict[str, Any]]
    retrieval: Retrieval


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
        rows = "".join(
            f"<tr><td>{escape(s.id)}</td><td>{escape(s.strength)}</td><td>{escape(s.kind)}</td>"
            f"<td>{escape(s.scope)}</td><td style='text-align:left'>{escape(s.text)}</td></tr>"
            for s in self
        )
        return (
            "<table><tr><th>id</th><th>strength</th><th>kind</th><th>scope</th>"
            f"<th>statement</th></tr>{rows}</table>"
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
