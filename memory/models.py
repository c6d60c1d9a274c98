"""The things that are kept: statements, decisions, proposals, evidence, keys.

Values only: frozen, comparable, without behaviour but for how they print. They
know nothing of SQL, vectors or ranking. Times are aware datetimes in UTC, with
microseconds.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Any, Literal, get_args

from . import times

Kind = Literal["value", "preference", "boundary", "commitment", "goal", "decision"]
Strength = Literal["must", "should", "prefer"]
Scope = Literal["topical", "always"]
ProposalStatus = Literal["open", "confirmed", "rejected"]

Role = Literal["admin", "app", "personal", "auditor"]
EventType = Literal[
    "statement.put", "statement.supersede", "statement.retire", "statement.embed",
    "proposal.put", "proposal.confirm", "proposal.reject", "retrieval", "call.intent",
    "call.outcome", "check", "erasure", "export", "import", "policy", "embedder", "key.create",
    "key.rotate", "key.revoke", "gap",
]  # fmt: skip
"""What an event of the ledger may be; ``docs/audit.md`` says what each one tells."""

KINDS: tuple[Kind, ...] = get_args(Kind)
STRENGTHS: tuple[Strength, ...] = get_args(Strength)
SCOPES: tuple[Scope, ...] = get_args(Scope)
ROLES: tuple[Role, ...] = get_args(Role)
EVENT_TYPES: tuple[EventType, ...] = get_args(EventType)


def html_table(rows: list[tuple[str, Any]]) -> str:
    """Render (name, value) pairs as a table; every value is escaped."""
    body = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th>"
        f"<td style='text-align:left'>{escape(str(value))}</td></tr>"
        for name, value in rows
        if value not in (None, (), "")
    )
    return f"<table>{body}</table>"


def html_rows(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Render rows under headings as a table; every cell is escaped."""
    left = " style='text-align:left'"
    head = "".join(f"<th{left}>{escape(name)}</th>" for name in headings)
    body = "".join(
        f"<tr>{''.join(f'<td{left}>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


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
    """Why this version was written, as given to ``revise``."""
    end_reason: str | None = None
    """Why the statement was retired, as given to ``retire``."""

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
                ("reason it was retired", self.end_reason),
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
    """One event of the ledger.

    ``payload`` holds the fields that were recorded: whole numbers, texts, lists and
    objects; no fractions. ``leaf`` is the canonical JSON that stands in the tree, and
    ``hash`` its hash there (RFC 6962), in hexadecimal.
    """

    id: str
    tenant: str
    index: int
    """Place in the ledger, from 0."""
    type: str
    subjects: tuple[str, ...]
    recorded_at: datetime
    payload: dict[str, Any]
    leaf: str
    hash: str
    erased: bool = False
    """Whether the payload is gone: then ``subjects`` and ``payload`` are empty."""

    @property
    def imported(self) -> bool:
        """Whether it was recorded elsewhere, or before the ledger, and was carried in."""
        return "imported" in self.payload

    def __str__(self) -> str:
        when = self.recorded_at.isoformat(timespec="seconds")
        whom = "erased" if self.erased else f"for {', '.join(self.subjects) or 'nobody'}"
        return f"{self.id}  {when}  {self.type} {whom}"

    def _repr_html_(self) -> str:
        return html_table(
            [
                ("evidence", self.id),
                ("type", self.type),
                ("subjects", ", ".join(self.subjects)),
                ("recorded", self.recorded_at.isoformat(timespec="seconds")),
                ("leaf", self.index),
                ("hash", self.hash),
                ("state", "erased" if self.erased else ""),
            ]
        )


Verdict = Literal["VERIFIED", "VERIFIED-ERASED", "FAILED"]


@dataclass(frozen=True, slots=True)
class Verification:
    """Whether the ledger holds, and the record with it; if not, where it breaks first."""

    ok: bool
    checked: int
    """Leaves that were read."""
    root: str
    """Root of the tree over them, in base64 as checkpoints have it."""
    erased: int = 0
    """Leaves whose payload an erasure accounts for."""
    covered: int = 0
    """Leaves under the newest checkpoint that was compared: what is below can no longer be
    changed unnoticed."""
    failed_at: str | None = None
    """What does not hold: a leaf's index and id, or a row of the record."""
    problem: str | None = None
    outside: int = 0
    """How many of those covered lie under a checkpoint that is kept outside the database."""

    @property
    def verdict(self) -> Verdict:
        """``VERIFIED``, ``VERIFIED-ERASED`` (some payloads were erased) or ``FAILED``."""
        if not self.ok:
            return "FAILED"
        return "VERIFIED-ERASED" if self.erased else "VERIFIED"

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        if not self.ok:
            return f"FAILED at {self.failed_at}: {self.problem}"
        erased = f", {self.erased} of them erased" if self.erased else ""
        return (
            f"{self.verdict}: {self.checked} leaves{erased}, {self.covered} under a checkpoint, "
            f"root {self.root}"
        )

    def _repr_html_(self) -> str:
        return html_table(
            [
                ("verdict", self.verdict),
                ("problem", self.problem and f"at {self.failed_at}: {self.problem}"),
                ("leaves checked", self.checked),
                ("erased", self.erased or ""),
                ("under a checkpoint", f"{self.covered}, {self.outside} of them kept outside"),
                ("root", self.root),
            ]
        )


@dataclass(frozen=True, slots=True)
class Erasure:
    """What an erasure removed, and what is left for others to remove."""

    evidence_id: str
    """Of the event that names the erased events; it is in the ledger for good."""
    statements: int
    """Versions of statements that were removed."""
    proposals: int
    events: int
    """Events whose payloads were removed; their leaves stay."""
    left: tuple[str, ...] = ()
    """What the operator of a server must still do."""

    def __str__(self) -> str:
        done = (
            f"erased {self.statements} versions, {self.proposals} proposals and the payloads of "
            f"{self.events} events; recorded as {self.evidence_id}"
        )
        return "\n".join([done, *self.left])

    def _repr_html_(self) -> str:
        return html_table(
            [
                ("versions of statements removed", self.statements),
                ("proposals removed", self.proposals),
                ("events whose payloads were removed", self.events),
                ("recorded as", self.evidence_id),
                ("left to do", "; ".join(self.left)),
            ]
        )


@dataclass(frozen=True, slots=True)
class Key:
    """What is known of a key: everything but its secret."""

    id: str
    tenant: str
    name: str
    role: Role
    subject: str | None
    """Whose it is, of a personal key."""
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    used_at: datetime | None
    """When it was last used, within a minute."""
    quota: int | None
    """Operations that it may do in a month; None: any number."""

    def holds(self, at: int) -> bool:
        """Tell whether the key lets its bearer in at a time in microseconds."""
        return all(
            end is None or at < times.to_micros(end) for end in (self.expires_at, self.revoked_at)
        )
