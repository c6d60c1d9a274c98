"""Every query on statements; the only file that writes them.

Two time axes. Valid time: ``valid_from`` to ``valid_to`` is when a statement holds in
the subject's life. Record time: ``recorded_at`` to ``retired_at`` is when this version
was the newest in the record; retiring a statement also notes, as ``ends_at``, from when
on it no longer holds. So a version holds at valid time t, as known at record time k, when

    recorded_at ≤ k  and  valid_from ≤ t < valid_to, and
    no later version recorded by k has begun by t, and
    no retirement of it or of a later version, recorded by k, has ``ends_at`` ≤ t

and at most one version of a statement does. Any change raises its subject's revision
by one. Functions take a connection and never commit.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    RowMapping,
    and_,
    bindparam,
    exists,
    func,
    insert,
    not_,
    or_,
    select,
    true,
    update,
)

from . import times
from .database import insert_missing
from .errors import InvalidInputError, NotFoundError
from .identifiers import is_id, new_id, quoted
from .models import Kind, Scope, Statement, Strength
from .schema import statements, subjects


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
    """Where a subject stands: its revision, and when that was recorded."""

    key: int
    name: str
    revision: int
    changed_at: int


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one subject: the revision that it makes, and its record time."""

    subject: Subject
    revision: int
    at: int


SUBJECT = select(subjects.c.key, subjects.c.revision, subjects.c.changed_at).where(
    subjects.c.tenant == bindparam("of"), subjects.c.name == bindparam("called")
)
"""Where a subject stands: its key, revision and change time, by ``of`` (tenant) and ``called``."""


def subject(connection: Connection, tenant: str, name: str) -> Subject | None:
    """Read where a subject stands; None if nothing was ever recorded for it."""
    row = connection.execute(SUBJECT, {"of": tenant, "called": name}).first()
    return None if row is None else Subject(row.key, name, row.revision, row.changed_at)


def subject_names(connection: Connection, tenant: str) -> list[str]:
    """List the subjects of a tenant."""
    return list(
        connection.execute(
            select(subjects.c.name).where(subjects.c.tenant == tenant).order_by(subjects.c.name)
        ).scalars()
    )


def begin_change(connection: Connection, tenant: str, name: str) -> Change:
    """Raise a subject's revision and give the change its record time.

    Record time is the wall clock, but always later than the subject's last change,
    also when the clock was set back.
    """
    if subject(connection, tenant, name) is None:
        new = insert_missing(connection, subjects)
        connection.execute(new.values(tenant=tenant, name=name, revision=0, changed_at=0))
    where = and_(subjects.c.tenant == tenant, subjects.c.name == name)
    connection.execute(update(subjects).where(where).values(revision=subjects.c.revision + 1))
    found = subject(connection, tenant, name)
    assert found is not None
    at = max(times.now(), found.changed_at + 1)
    connection.execute(update(subjects).where(where).values(changed_at=at))
    return Change(found, found.revision, at)


def write(
    connection: Connection, tenant: str, change: Change, drafts: Sequence[Draft]
) -> list[Version]:
    """Write new statements, each as its version 1.

    Raises:
        InvalidInputError: a statement would end before it begins.
    """
    rows = [
        _new_row(tenant, change, draft, new_id("st"), version=1, place=place)
        for place, draft in enumerate(drafts)
    ]
    if rows:
        connection.execute(insert(statements), rows)
    return [_inserted(row, change.subject.name) for row in rows]


def revise(
    connection: Connection,
    tenant: str,
    change: Change,
    old: Version,
    draft: Draft,
    reason: str | None,
) -> Version:
    """Write the next version of a statement; the one before holds until the new one begins."""
    before = old.statement
    row = _new_row(
        tenant, change, draft, before.id, version=before.version + 1, place=0, reason=reason
    )
    _close(connection, change, old.key, None, None)
    connection.execute(insert(statements), [row])
    return _inserted(row, change.subject.name)


def retire(
    connection: Connection, tenant: str, change: Change, old: Version, reason: str | None
) -> Statement:
    """Note that a statement no longer holds, from this change on."""
    _close(connection, change, old.key, change.at, reason)
    return latest(connection, tenant, old.statement.id).statement


def latest(connection: Connection, tenant: str, statement_id: str) -> Version:
    """Read the newest version of a statement.

    Raises:
        NotFoundError: this tenant has no statement with that id.
    """
    return _to_version(_rows_of(connection, tenant, statement_id)[-1])


def history(connection: Connection, tenant: str, statement_id: str) -> list[Statement]:
    """Read every version of a statement, oldest first.

    Raises:
        NotFoundError: this tenant has no statement with that id.
    """
    return [_to_version(row).statement for row in _rows_of(connection, tenant, statement_id)]


def as_known(
    connection: Connection,
    found: Subject,
    *,
    as_of: int,
    known_at: int | None = None,
    revision: int | None = None,
    include_retired: bool = False,
) -> list[Version]:
    """Read what held at a valid time, as far as was known at a record time.

    Args:
        connection: to read on.
        found: the subject.
        as_of: valid time, in microseconds.
        known_at: record time, in microseconds; None: all that is recorded.
        revision: instead of ``known_at``: the subject's revision.
        include_retired: also the last version of statements that had ended by ``as_of``.

    Returns:
        At most one version of each statement, sorted by id.
    """
    query = _select().where(
        statements.c.subject_key == found.key,
        statements.c.valid_from <= as_of,
        _recorded(statements, known_at, revision),
    )
    if not include_retired:
        later = statements.alias("later")
        query = query.where(
            or_(statements.c.valid_to.is_(None), statements.c.valid_to > as_of),
            not_(_ended(statements, as_of, known_at, revision)),
            not_(
                exists().where(
                    later.c.tenant == statements.c.tenant,
                    later.c.id == statements.c.id,
                    later.c.version > statements.c.version,
                    _recorded(later, known_at, revision),
                    or_(later.c.valid_from <= as_of, _ended(later, as_of, known_at, revision)),
                )
            ),
        )
    versions: dict[str, Version] = {}
    query = query.order_by(statements.c.id, statements.c.version)
    for row in connection.execute(query).mappings():
        versions[row["id"]] = _to_version(row, known_at, revision)
    return list(versions.values())


def next_boundary(connection: Connection, found: Subject, *, after: int) -> int | None:
    """Tell when the set in force next changes by the mere passing of time; None: never."""
    columns = (statements.c.valid_from, statements.c.valid_to, statements.c.ends_at)
    bounds = [
        connection.execute(
            select(func.min(column)).where(statements.c.subject_key == found.key, column > after)
        ).scalar()
        for column in columns
    ]
    return min((bound for bound in bounds if bound is not None), default=None)


def equal_statements(
    connection: Connection, found: Subject, equalities: Iterable[bytes], *, as_of: int
) -> dict[bytes, Version]:
    """Find the statements not yet ended whose normalised text is among ``equalities``."""
    wanted = list(dict.fromkeys(equalities))
    result: dict[bytes, Version] = {}
    for start in range(0, len(wanted), 500):
        query = _select().where(
            statements.c.subject_key == found.key,
            statements.c.equality.in_(wanted[start : start + 500]),
            statements.c.retired_at.is_(None),
            or_(statements.c.valid_to.is_(None), statements.c.valid_to > as_of),
        )
        query = query.order_by(statements.c.recorded_at, statements.c.id)
        for row in connection.execute(query).mappings():
            result.setdefault(row["equality"], _to_version(row))
    return result


@dataclass(frozen=True, slots=True)
class Text:
    """The text of a version and whose it is, for embedding it anew."""

    key: str
    text: str
    tenant: str
    name: str


def read_texts(connection: Connection, keys: Sequence[str]) -> list[Text]:
    """Read the texts of versions; unknown keys are left out."""
    return [
        Text(row.key, row.text, row.tenant, row.name)
        for start in range(0, len(keys), 500)
        for row in connection.execute(
            select(statements.c.key, statements.c.text, subjects.c.tenant, subjects.c.name)
            .join(subjects, subjects.c.key == statements.c.subject_key)
            .where(statements.c.key.in_(keys[start : start + 500]))
        )
    ]


def version_owners(connection: Connection) -> list[tuple[str, str, list[str]]]:
    """List (tenant, subject, keys of all versions), over all tenants."""
    owners: dict[tuple[str, str], list[str]] = {}
    for row in connection.execute(
        select(subjects.c.tenant, subjects.c.name, statements.c.key)
        .join(statements, statements.c.subject_key == subjects.c.key)
        .order_by(subjects.c.key, statements.c.recorded_at, statements.c.key)
    ):
        owners.setdefault((row.tenant, row.name), []).append(row.key)
    return [(tenant, name, keys) for (tenant, name), keys in owners.items()]


def _select() -> Any:
    return select(statements, subjects.c.name.label("subject")).join(
        subjects, subjects.c.key == statements.c.subject_key
    )


def _recorded(table: FromClause, known_at: int | None, revision: int | None) -> ColumnElement[bool]:
    """Tell whether a version was in the record."""
    if revision is not None:
        return table.c.revision_from <= revision
    return true() if known_at is None else table.c.recorded_at <= known_at


def _ended(
    table: FromClause, as_of: int, known_at: int | None, revision: int | None
) -> ColumnElement[bool]:
    """Tell whether a version had been retired, with effect by ``as_of``."""
    ended = and_(table.c.ends_at.is_not(None), table.c.ends_at <= as_of)
    if revision is not None:
        return and_(ended, table.c.revision_to <= revision)
    return ended if known_at is None else and_(ended, table.c.retired_at <= known_at)


def _rows_of(connection: Connection, tenant: str, statement_id: str) -> Sequence[RowMapping]:
    query = _select().where(statements.c.tenant == tenant, statements.c.id == statement_id)
    rows: Sequence[RowMapping] = ()
    if is_id(statement_id):
        rows = connection.execute(query.order_by(statements.c.version)).mappings().all()
    if not rows:
        raise NotFoundError(
            f"there is no statement {quoted(statement_id)}; list them with: holdfast list"
        )
    return rows


def _close(
    connection: Connection, change: Change, key: str, ends_at: int | None, reason: str | None
) -> None:
    done = connection.execute(
        update(statements)
        .where(statements.c.key == key, statements.c.retired_at.is_(None))
        .values(
            retired_at=change.at, revision_to=change.revision, ends_at=ends_at, end_reason=reason
        )
    )
    if not done.rowcount:
        raise InvalidInputError(
            "the statement was revised or retired meanwhile; look at its history and try again"
        )


def _new_row(
    tenant: str,
    change: Change,
    draft: Draft,
    statement_id: str,
    *,
    version: int,
    place: int,
    reason: str | None = None,
) -> dict[str, Any]:
    valid_from = change.at if draft.valid_from is None else draft.valid_from
    if draft.valid_to is not None and draft.valid_to <= valid_from:
        begins = times.to_datetime(valid_from).isoformat(timespec="seconds")
        raise InvalidInputError(
            f"valid_to must be later than valid_from ({begins}); give both in order"
        )
    return {
        "key": draft.key,
        "tenant": tenant,
        "subject_key": change.subject.key,
        "id": statement_id,
        "version": version,
        "text": draft.text,
        "equality": draft.equality,
        "kind": draft.kind,
        "strength": draft.strength,
        "scope": draft.scope,
        "contexts": json.dumps(draft.contexts),
        "source": draft.source,
        "reason": reason,
        "valid_from": valid_from,
        "valid_to": draft.valid_to,
        "recorded_at": change.at,
        "revision_from": change.revision,
        "place": place,
    }


def _inserted(row: dict[str, Any], name: str) -> Version:
    return _build(row | {"subject": name, "end_reason": None}, None)


def _to_version(
    row: RowMapping, known_at: int | None = None, revision: int | None = None
) -> Version:
    """Build a version as the record showed it: an end recorded later is not shown."""
    ended = row["retired_at"]
    if ended is not None and (
        (revision is not None and row["revision_to"] > revision)
        or (known_at is not None and ended > known_at)
    ):
        ended = None
    return _build(row, ended)


def _build(row: Mapping[Any, Any], ended: int | None) -> Version:
    valid_to: int | None = row["valid_to"]
    statement = Statement(
        id=row["id"],
        subject=row["subject"],
        text=row["text"],
        kind=row["kind"],
        strength=row["strength"],
        scope=row["scope"],
        contexts=() if row["contexts"] == "[]" else tuple(json.loads(row["contexts"])),
        version=row["version"],
        valid_from=times.to_datetime(row["valid_from"]),
        valid_to=None if valid_to is None else times.to_datetime(valid_to),
        recorded_at=times.to_datetime(row["recorded_at"]),
        retired_at=None if ended is None else times.to_datetime(ended),
        source=row["source"],
        reason=(row["end_reason"] if ended is not None else None) or row["reason"],
    )
    return Version(row["key"], statement, row["valid_from"], valid_to, row["place"])
