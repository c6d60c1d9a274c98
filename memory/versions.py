"""A version of a statement: as it is about to be written, as it is stored, as it is shown.

What was said is sealed with its subject's data key; what SQL searches and sorts by is
not. Values and rows only: it knows no query (``store`` has them all).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import times
from .canonical import canonical
from .errors import InvalidInputError
from .models import Kind, Scope, Statement, Strength
from .sealing import Sealer


@dataclass(frozen=True, slots=True)
class Draft:
    """A version that is about to be written; its key is already that of its vector."""

    text: str
    equality: bytes
    kind: Kind
    strength: Strength
    scope: Scope
    contexts: tuple[str, ...]
    source: str
    valid_from: int | None
    valid_to: int | None
    key: str


@dataclass(frozen=True, slots=True)
class Version:
    """A stored version with what only the inside needs: its key and its bounds."""

    key: str
    statement: Statement
    valid_from: int
    valid_to: int | None
    place: int = 0
    """Among the statements that were written in one change."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Where a subject stands: its revision, when that was recorded, and its data key."""

    key: int
    name: str
    revision: int
    changed_at: int
    data_key: str

    def present(self) -> int:
        """Give the wall clock, but never a time before the subject's last change."""
        return max(times.now(), self.changed_at)


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one subject: the revision that it makes, and its record time."""

    subject: Subject
    revision: int
    at: int


@dataclass(frozen=True, slots=True)
class Ends:
    """How a version ended: closed by the next one, or (``ends_at``) retired."""

    retired_at: int
    revision: int
    ends_at: int | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Kept:
    """A version as another record has it, with all that says where it stands there."""

    draft: Draft
    id: str
    version: int
    reason: str | None
    recorded_at: int
    revision: int
    place: int
    ends: Ends | None
    vector: Mapping[str, str] | None
    """What the ledger keeps of its vector."""
    decision: Mapping[str, Any] | None
    """What the ledger keeps of a decision's parts."""


def described(row: Mapping[Any, Any], sealer: Sealer) -> dict[str, Any]:
    """Give what the ledger keeps of a version: every column, and what was sealed."""
    body = open_body(row, sealer)
    columns = ("key", "id", "version", "kind", "strength", "scope", "place")
    when = ("valid_from", "valid_to", "recorded_at")
    return {
        "statement": {
            **{name: row[name] for name in columns},
            **{name: times.written(row[name]) for name in when},
            "revision": row["revision_from"],
            "equality": row["equality"].hex(),
        },
        **body,
    }


def ends_of(row: Mapping[Any, Any]) -> dict[str, Any] | None:
    """Give what the ledger keeps of a version's end; None while it is open."""
    names = ("retired_at", "ends_at")
    when = {name: times.written(row[name]) for name in names}
    ends = {"key": row["key"], "revision": row["revision_to"], **when}
    return None if all(value is None for name, value in ends.items() if name != "key") else ends


def end_reason(row: Mapping[Any, Any], sealer: Sealer) -> str | None:
    """Open the reason for which a version ended."""
    note: bytes | None = row["end_note"]
    return None if note is None else sealer.open(note, f"end {row['key']}").decode()


def begin(draft: Draft, at: int) -> int:
    """Tell from when on a draft holds that is written at a time.

    Raises:
        InvalidInputError: it would end before it begins.
    """
    valid_from = at if draft.valid_from is None else draft.valid_from
    if draft.valid_to is not None and draft.valid_to <= valid_from:
        begins = times.to_datetime(valid_from).isoformat(timespec="seconds")
        raise InvalidInputError(
            f"valid_to must be later than valid_from ({begins}); give both in order"
        )
    return valid_from


def new_row(
    tenant: str,
    change: Change,
    draft: Draft,
    sealer: Sealer,
    statement_id: str,
    *,
    version: int,
    place: int,
    reason: str | None = None,
) -> dict[str, Any]:
    """Give the row of a version that a change writes.

    Raises:
        InvalidInputError: it would end before it begins.
    """
    valid_from = begin(draft, change.at)
    said = {
        "text": draft.text,
        "contexts": draft.contexts,
        "source": draft.source,
        "reason": reason,
    }
    return {
        "key": draft.key,
        "tenant": tenant,
        "subject_key": change.subject.key,
        "id": statement_id,
        "version": version,
        "body": seal_body(sealer, draft.key, said),
        "equality": sealer.keyed_hash(draft.equality),
        "kind": draft.kind,
        "strength": draft.strength,
        "scope": draft.scope,
        "valid_from": valid_from,
        "valid_to": draft.valid_to,
        "recorded_at": change.at,
        "revision_from": change.revision,
        "place": place,
    }


def kept_row(tenant: str, found: Subject, kept: Kept, sealer: Sealer) -> dict[str, Any]:
    """Give the row of a version as another record has it."""
    draft, ends = kept.draft, kept.ends
    change = Change(found, kept.revision, kept.recorded_at)
    row = new_row(tenant, change, draft, sealer, kept.id, version=kept.version, place=kept.place,
        reason=kept.reason,
    )  # fmt: skip
    if ends is None:
        return row | dict.fromkeys(("retired_at", "revision_to", "ends_at", "end_note"))
    note = None if ends.reason is None else sealer.seal(ends.reason.encode(), f"end {draft.key}")
    return row | {
        "retired_at": ends.retired_at,
        "revision_to": ends.revision,
        "ends_at": ends.ends_at,
        "end_note": note,
    }


def seal_body(sealer: Sealer, key: str, said: Mapping[str, Any]) -> bytes:
    """Seal what a version says: its text, contexts, source and reason."""
    return sealer.seal(canonical(said), f"statement {key}")


def open_body(row: Mapping[Any, Any], sealer: Sealer) -> dict[str, Any]:
    """Open what a version says: its text, contexts, source and reason."""
    return json.loads(sealer.open(row["body"], f"statement {row['key']}"))


def build(row: Mapping[Any, Any], name: str, sealer: Sealer, ended: int | None = None) -> Version:
    """Build a version from its row; ``ended``: when it ended, as far as is to be shown."""
    body = open_body(row, sealer)
    valid_to: int | None = row["valid_to"]
    statement = Statement(
        id=row["id"],
        subject=name,
        text=body["text"],
        kind=row["kind"],
        strength=row["strength"],
        scope=row["scope"],
        contexts=tuple(body["contexts"]),
        version=row["version"],
        valid_from=times.to_datetime(row["valid_from"]),
        valid_to=None if valid_to is None else times.to_datetime(valid_to),
        recorded_at=times.to_datetime(row["recorded_at"]),
        retired_at=None if ended is None else times.to_datetime(ended),
        source=body["source"],
        reason=body["reason"],
        end_reason=None if ended is None else end_reason(row, sealer),
    )
    return Version(row["key"], statement, row["valid_from"], valid_to, row["place"])
