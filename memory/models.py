"""The things that are kept: statements, decisions, proposals, evidence.

Values only: frozen, comparable, without behaviour but for how they print. They
know nothing of SQL, vectors or ranking. Times are aware datetimes in UTC, with
microseconds.
"""

from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Any, Literal, get_args

Kind = Literal["value", "preference", "boundary", "commitment", "goal", "decision"]
Strength = Literal["must", "should", "prefer"]
Scope = Literal["topical", "always"]
ProposalStatus = Literal["open", "confirmed", "rejected"]

KINDS: tuple[Kind, ...] = get_args(Kind)
STRENGTHS: tuple[Strength, ...] = get_args(Strength)
SCOPES: tuple[Scope, ...] = get_args(Scope)


def html_table(rows: list[tuple[str, Any]]) -> str:
    """Render (name, value) pairs as a table; every value is escaped."""
    body = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th>"
        f"<td style='text-align:left'>{escape(str(value))}</td></tr>"
        for name, value in rows
        if value not in (None, (), "")
    )
    return f"<table>{body}</table>"


@dataclass(frozen=True, slots=True)
class Statement:
    """One version of one thing that a subject said, in their words.

    ``valid_from`` and ``valid_to`` (exclusive; None: open) say when it holds in
    the subject's life. ``recorded_at`` and ``retired_at`` say when this version
    was written down, and when it was superseded by the next or retired. A
    version with ``retired_at`` still answers questions about the time before.
    """

    id: str
    subject: str
    text: str
    kind: Kind
    strength: Strength
    scope: Scope
    contexts: tuple[str, ...]
    version: int
    valid_from: datetime
    valid_to: datetime | None
    recorded_at: datetime
    retired_at: datetime | None
    source: str
    reason: str | None = None
    """Why this version was written, as given to ``revise`` or ``retire``."""

    def __str__(self) -> str:
        return f"{self.id}  {self.strength} · {self.kind}: {self.text}"

    def _repr_html_(self) -> str:
        return html_table(
            [
                ("statement", self.text),
                ("id", f"{self.id} version {self.version}"),
                ("subject", self.subject),
                ("read as", f"{self.strength} · {self.kind} · {self.scope}"),
                ("contexts", ", ".join(self.contexts)),
                ("valid from", self.valid_from.isoformat(timespec="seconds")),
                ("valid to", self.valid_to and self.valid_to.isoformat(timespec="seconds")),
                ("retired", self.retired_at and self.retired_at.isoformat(timespec="seconds")),
                ("source", self.source),
                ("reason", self.reason),
            ]
        )


@dataclass(frozen=True, slots=True)
class Weighed:
    """A statement that a decision weighed, at the version that was weighed."""

    statement_id: str
    version: int


@dataclass(frozen=True, slots=True)
class Decision:
    """A precedent: what was decided in a situation, why, and what was weighed."""

    statement: Statement
    situation: str
    choice: str
    reason: str
    weighed: tuple[Weighed, ...]

    @property
    def id(self) -> str:
        """The id of the decision's statement."""
        return self.statement.id

    def __str__(self) -> str:
        return f"{self.id}  {self.situation} → {self.choice}, because {self.reason}"

    def _repr_html_(self) -> str:
        return html_table(
            [
                ("situation", self.situation),
                ("choice", self.choice),
                ("reason", self.reason),
                ("weighed", ", ".join(w.statement_id for w in self.weighed)),
                ("id", self.id),
            ]
        )


@dataclass(frozen=True, slots=True)
class Proposal:
    """A statement put forward by somebody other than the subject.

    It is never injected. ``statement_id`` names the statement that the subject's
    confirmation made of it.
    """

    id: str
    subject: str
    text: str
    kind: Kind
    strength: Strength
    scope: Scope
    contexts: tuple[str, ...]
    source: str
    status: ProposalStatus
    proposed_at: datetime
    decided_at: datetime | None
    statement_id: str | None

    def __str__(self) -> str:
        return f"{self.id}  {self.status} (from {self.source}): {self.text}"

    def _repr_html_(self) -> str:
        return html_table(
            [("proposal", self.text), ("id", self.id), ("from", self.source),
             ("status", self.status)]
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Evidence:
    """One entry of the evidence chain.

    ``payload`` holds integers, texts, lists and objects; no floats. ``hash`` is
    SHA-256 over the canonical JSON (RFC 8785) of the entry's header, which holds
    the payload's hash and ``previous``, the hash of the entry before: so the chain
    shows any later change.
    """

    id: str
    tenant: str
    sequence: int
    type: str
    subjects: tuple[str, ...]
    recorded_at: datetime
    payload: dict[str, Any]
    previous: str
    hash: str

    def __str__(self) -> str:
        when = self.recorded_at.isoformat(timespec="seconds")
        return f"{self.id}  {when}  {self.type} for {', '.join(self.subjects)}"

    def _repr_html_(self) -> str:
        return html_table(
            [
                ("evidence", self.id),
                ("type", self.type),
                ("subjects", ", ".join(self.subjects)),
                ("recorded", self.recorded_at.isoformat(timespec="seconds")),
                ("sequence", self.sequence),
                ("hash", self.hash),
                ("previous", self.previous),
            ]
        )


@dataclass(frozen=True, slots=True)
class Verification:
    """Whether a chain of evidence holds; if not, where and why it breaks first."""

    ok: bool
    checked: int
    """How many entries were read."""
    head: str
    """Hash of the last entry that holds."""
    failed_at: str | None = None
    """Id (or sequence number) of the first entry that does not hold."""
    problem: str | None = None

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        if self.ok:
            return f"VERIFIED: {self.checked} entries, head {self.head[:16]}"
        return f"FAILED at {self.failed_at}: {self.problem}"

    def _repr_html_(self) -> str:
        return html_table([("verification", str(self))])
