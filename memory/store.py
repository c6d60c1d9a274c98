"""Every query on statements; the only file that writes them.

Two time axes. Valid time: ``valid_from`` to ``valid_to`` is when a statement holds in
the subject's life. Record time: ``recorded_at`` to ``retired_at`` is when this version
was the newest in the record; retiring a statement also notes, as ``ends_at``, from when
on it no longer holds. So a version holds at valid time t, as known at record time k, when

    recorded_at ≤ k  and  valid_from ≤ t < valid_to, and
    no later version recorded by k has begun by t, and
    no retirement of it or of a later version, recorded by k, has ``ends_at`` ≤ t

and at most one version of a statement does. Any change raises its subject's revision
by one, and appends to the ledger what it wrote, in the same transaction. What was said is
sealed with the subject's data key. Functions never commit.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
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

from . import ledger, times, vectors
from .database import insert_missing
from .errors import InvalidInputError, NotFoundError
from .identifiers import is_id, new_id, quoted
from .models import EventType, Statement
from .record import Snapshot, Transaction
from .schema import statements, subjects
from .sealing import Sealer
from .vectors import Embedded
from .versions import (
    Change,
    Draft,
    Kept,
    Subject,
    Version,
    build,
    described,
    ends_of,
    kept_row,
    new_row,
    open_body,
)

SUBJECT = select(
    subjects.c.key, subjects.c.revision, subjects.c.changed_at, subjects.c.data_key
).where(subjects.c.tenant == bindparam("of"), subjects.c.name == bindparam("called"))
"""Where a subject stands: its key, revision, change time and data key, by ``of`` (tenant)
and ``called``."""


def subject(snapshot: Snapshot, name: str) -> Subject | None:
    """Read where a subject stands; None if nothing was ever recorded for it."""
    row = snapshot.quick(SUBJECT, of=snapshot.tenant, called=name)
    return None if row is None else Subject(row[0], name, row[1], row[2], row[3])


def subject_names(snapshot: Snapshot) -> list[str]:
    """List the subjects of a tenant."""
    named = select(subjects.c.name).where(subjects.c.tenant == snapshot.tenant)
    return list(snapshot.execute(named.order_by(subjects.c.name)).scalars())


def ensure_subject(tx: Transaction, name: str) -> Subject:
    """Give where a subject stands; one that is new gets its data key."""
    found = subject(tx, name)
    if found is None:
        new = {
            "tenant": tx.tenant, "name": name, "revision": 0, "changed_at": 0, "events": 0,
            "data_key": tx.vault.create(tx.connection, tx.tenant),
        }  # fmt: skip
        tx.execute(insert_missing(tx.connection, subjects), [new])
        found = subject(tx, name)
        assert found is not None
    return found


def begin_change(tx: Transaction, name: str) -> Change:
    """Raise a subject's revision and give the change its record time.

    Record time is the wall clock, but always later than the subject's last change,
    also when the clock was set back. Every change writes an event of its subject.
    """
    found = ensure_subject(tx, name)
    change = Change(found, found.revision + 1, max(times.now(), found.changed_at + 1))
    place_change(tx, change)
    return change


def place_change(tx: Transaction, change: Change) -> None:
    """Note a change as its subject's latest."""
    tx.quick(_CHANGED, called=change.subject.key, to=change.revision, at=change.at)


_CHANGED = (
    update(subjects)
    .where(subjects.c.key == bindparam("called"))
    .values(revision=bindparam("to"), changed_at=bindparam("at"))
)


def write(
    tx: Transaction,
    change: Change,
    drafts: Sequence[Draft],
    embedded: Embedded,
    about: Mapping[str, Any] | None = None,
) -> list[Version]:
    """Write new statements, each as its version 1, with their vectors.

    Args:
        tx: the transaction.
        change: of one subject.
        drafts: n statements.
        embedded: their n vectors.
        about: further fields for their events.

    Raises:
        InvalidInputError: a statement would end before it begins.
    """
    sealer = tx.sealer(change.subject.data_key)
    rows = [
        new_row(tx.tenant, change, draft, sealer, new_id("st"), version=1, place=place)
        for place, draft in enumerate(drafts)
    ]
    if rows:
        tx.execute(insert(statements), rows)
    vectors.save(tx, embedded, [row["key"] for row in rows], [sealer] * len(rows))
    versions = [build(row, change.subject.name, sealer) for row in rows]
    for place, row in enumerate(rows):
        fields = {**described(row, sealer), "vector": embedded.note(place), **(about or {})}
        ledger.append(tx, "statement.put", fields, subjects=[change.subject.key])
    return versions


def revise(
    tx: Transaction,
    change: Change,
    old: Version,
    draft: Draft,
    embedded: Embedded,
    reason: str | None,
) -> Version:
    """Write the next version of a statement; the one before holds until the new one begins."""
    before = old.statement
    sealer = tx.sealer(change.subject.data_key)
    row = new_row(
        tx.tenant,
        change,
        draft,
        sealer,
        before.id,
        version=before.version + 1,
        place=0,
        reason=reason,
    )
    ends = _close(tx, change, old.key, None, None)
    tx.execute(insert(statements), [row])
    vectors.save(tx, embedded, [row["key"]], [sealer])
    fields = {**described(row, sealer), "vector": embedded.note(0), "ends": ends}
    ledger.append(tx, "statement.supersede", fields, subjects=[change.subject.key])
    return build(row, change.subject.name, sealer)


def retire(tx: Transaction, change: Change, old: Version, reason: str | None) -> Statement:
    """Note that a statement no longer holds, from this change on."""
    sealer = tx.sealer(change.subject.data_key)
    note = None if reason is None else sealer.seal(reason.encode(), f"end {old.key}")
    ends = _close(tx, change, old.key, change.at, note)
    fields = {"id": old.statement.id, "ends": ends, "end_reason": reason}
    ledger.append(tx, "statement.retire", fields, subjects=[change.subject.key])
    return latest(tx, old.statement.id).statement


def restore(
    tx: Transaction, found: Subject, kept: Sequence[Kept], origin: Mapping[str, Any]
) -> None:
    """Write versions as another record has them; their vectors are the caller's to write.

    Each is an event of its own, in the order in which they came about there.

    Args:
        tx: the transaction.
        found: the subject.
        kept: all versions of some statements.
        origin: fields that say where they come from, for their events.
    """
    sealer = tx.sealer(found.data_key)
    rows = [kept_row(tx.tenant, found, each, sealer) for each in kept]
    if rows:
        tx.execute(insert(statements), rows)
    ended = {(each.id, each.version): row for each, row in zip(kept, rows, strict=True)}
    events: list[tuple[int, int, EventType, dict[str, Any]]] = []
    for each, row in zip(kept, rows, strict=True):
        fields = {**described(row, sealer), "vector": each.vector, **origin}
        if each.decision is not None:
            fields["decision"] = each.decision
        if each.version > 1:
            fields["ends"] = ends_of(ended[each.id, each.version - 1])
        kind: EventType = "statement.put" if each.version == 1 else "statement.supersede"
        events.append((each.revision, each.place, kind, fields))
        if each.ends is not None and (each.id, each.version + 1) not in ended:
            fields = {"id": each.id, "ends": ends_of(row), "end_reason": each.ends.reason}
            fields |= origin
            events.append((each.ends.revision, 0, "statement.retire", fields))
    for _, _, kind, fields in sorted(events, key=lambda event: event[:2]):
        ledger.append(tx, kind, fields, subjects=[found.key])


def known_ids(snapshot: Snapshot, ids: Iterable[str]) -> set[str]:
    """Give those ids that statements of this tenant have already."""
    wanted = list(ids)
    found: set[str] = set()
    for start in range(0, len(wanted), 500):
        query = select(statements.c.id).where(
            statements.c.tenant == snapshot.tenant,
            statements.c.id.in_(wanted[start : start + 500]),
        )
        found.update(snapshot.execute(query).scalars())
    return found


def rows_of_subject(snapshot: Snapshot, found: Subject) -> Iterator[RowMapping]:
    """Read every version of a subject as it is stored, in the order of revisions."""
    query = select(statements).where(statements.c.subject_key == found.key)
    query = query.order_by(
        statements.c.revision_from, statements.c.place, statements.c.id, statements.c.version
    )
    yield from snapshot.execute(query).mappings()


def latest(snapshot: Snapshot, statement_id: str) -> Version:
    """Read the newest version of a statement.

    Raises:
        NotFoundError: this tenant has no statement with that id.
    """
    return _to_version(snapshot, _rows_of(snapshot, statement_id)[-1])


def history(snapshot: Snapshot, statement_id: str) -> list[Statement]:
    """Read every version of a statement, oldest first.

    Raises:
        NotFoundError: this tenant has no statement with that id.
    """
    return [_to_version(snapshot, row).statement for row in _rows_of(snapshot, statement_id)]


def as_known(
    snapshot: Snapshot,
    found: Subject,
    *,
    as_of: int,
    known_at: int | None = None,
    revision: int | None = None,
    include_retired: bool = False,
) -> list[Version]:
    """Read what held at a valid time, as far as was known at a record time.

    Args:
        snapshot: to read in.
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
    for row in snapshot.execute(query).mappings():
        versions[row["id"]] = _to_version(snapshot, row, known_at, revision)
    return list(versions.values())


def next_boundary(snapshot: Snapshot, found: Subject, *, after: int) -> int | None:
    """Tell when the set in force next changes by the mere passing of time; None: never."""
    columns = (statements.c.valid_from, statements.c.valid_to, statements.c.ends_at)
    bounds = [
        snapshot.execute(
            select(func.min(column)).where(statements.c.subject_key == found.key, column > after)
        ).scalar()
        for column in columns
    ]
    return min((bound for bound in bounds if bound is not None), default=None)


def equal_statements(
    snapshot: Snapshot, found: Subject, equalities: Iterable[bytes], *, as_of: int
) -> dict[bytes, Version]:
    """Find the statements not yet ended whose normalised text is among ``equalities``."""
    sealer = snapshot.sealer(found.data_key)
    wanted = {sealer.keyed_hash(equality): equality for equality in equalities}
    keyed = list(wanted)
    result: dict[bytes, Version] = {}
    for start in range(0, len(keyed), 500):
        query = _select().where(
            statements.c.subject_key == found.key,
            statements.c.equality.in_(keyed[start : start + 500]),
            statements.c.retired_at.is_(None),
            or_(statements.c.valid_to.is_(None), statements.c.valid_to > as_of),
        )
        query = query.order_by(statements.c.recorded_at, statements.c.id)
        for row in snapshot.execute(query).mappings():
            result.setdefault(wanted[row["equality"]], _to_version(snapshot, row))
    return result


@dataclass(frozen=True, slots=True)
class Text:
    """The text of a version and whose it is, for embedding it anew."""

    key: str
    text: str
    tenant: str
    name: str
    subject: int
    sealer: Sealer


def read_texts(snapshot: Snapshot, keys: Sequence[str]) -> list[Text]:
    """Read the texts of versions, of any tenant, by subject; unknown keys are left out."""
    columns = (statements, subjects.c.data_key, subjects.c.name)
    found: list[Text] = []
    for start in range(0, len(keys), 500):
        query = select(*columns).join(subjects, subjects.c.key == statements.c.subject_key)
        query = query.where(statements.c.key.in_(keys[start : start + 500]))
        for row in snapshot.execute(query).mappings():
            sealer = snapshot.sealer(row["data_key"])
            text = open_body(row, sealer)["text"]
            whose = (row["tenant"], row["name"], row["subject_key"])
            found.append(Text(row["key"], text, *whose, sealer))
    return sorted(found, key=lambda each: each.subject)


def save_anew(tx: Transaction, embedded: Embedded, texts: Sequence[Text]) -> None:
    """Keep the vectors of stored versions of one subject, by an embedder new to them."""
    vectors.save(tx, embedded, [each.key for each in texts], [each.sealer for each in texts])
    hashes = {each.key: embedded.note(row)["sha256"] for row, each in enumerate(texts)}
    fields = {"embedder": embedded.embedder, "vectors": hashes}
    ledger.append(tx, "statement.embed", fields, subjects=[texts[0].subject])


@dataclass(frozen=True, slots=True)
class Owner:
    """A subject of any tenant, and the keys of all its versions."""

    tenant: str
    name: str
    data_key: str
    keys: list[str]


def version_owners(snapshot: Snapshot) -> list[Owner]:
    """List whose versions there are, over all tenants."""
    owners: dict[int, Owner] = {}
    for row in snapshot.execute(
        select(subjects, statements.c.key.label("version_key"))
        .join(statements, statements.c.subject_key == subjects.c.key)
        .order_by(subjects.c.key, statements.c.recorded_at, statements.c.key)
    ):
        owner = owners.setdefault(row.key, Owner(row.tenant, row.name, row.data_key, []))
        owner.keys.append(row.version_key)
    return list(owners.values())


def _select() -> Any:
    return select(statements, subjects.c.name.label("subject"), subjects.c.data_key).join(
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


def _rows_of(snapshot: Snapshot, statement_id: str) -> Sequence[RowMapping]:
    query = _select().where(statements.c.tenant == snapshot.tenant, statements.c.id == statement_id)
    rows: Sequence[RowMapping] = ()
    if is_id(statement_id):
        rows = snapshot.execute(query.order_by(statements.c.version)).mappings().all()
    if not rows:
        raise unknown(statement_id)
    return rows


def unknown(statement_id: object) -> NotFoundError:
    """Say that there is no such statement."""
    return NotFoundError(
        f"there is no statement {quoted(statement_id)}; list them with: holdfast list"
    )


def _close(
    tx: Transaction, change: Change, key: str, ends_at: int | None, note: bytes | None
) -> dict[str, Any]:
    """Fill in a version's end; give what the ledger keeps of it."""
    ends = {"retired_at": change.at, "revision_to": change.revision, "ends_at": ends_at}
    done = tx.execute(
        update(statements)
        .where(statements.c.key == key, statements.c.retired_at.is_(None))
        .values(**ends, end_note=note)
    )
    if not done.rowcount:
        raise InvalidInputError(
            "the statement was revised or retired meanwhile; look at its history and try again"
        )
    kept = ends_of({**ends, "key": key})
    assert kept is not None
    return kept


def _to_version(
    snapshot: Snapshot, row: RowMapping, known_at: int | None = None, revision: int | None = None
) -> Version:
    """Build a version as the record showed it: an end recorded later is not shown."""
    ended = row["retired_at"]
    if ended is not None and (
        (revision is not None and row["revision_to"] > revision)
        or (known_at is not None and ended > known_at)
    ):
        ended = None
    return build(row, row["subject"], snapshot.sealer(row["data_key"]), ended)
