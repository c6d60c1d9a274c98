"""The append-only log in SQL: events as leaves of a tree, with payloads that can be erased.

A leaf is small canonical JSON: a random id, a type, a time, a commitment to the payload
and the hash of the payload as it is stored. It names nobody and is never deleted. The
payload's fields are each committed to with a salt of their own, so that one can be shown
without the others, and sealed with the data keys of the subjects that it is about. Per
subject the payloads are numbered and name the event before.

It knows nothing of what fields mean. It never begins or commits a transaction: an event
becomes durable together with whatever else its caller writes.
"""

import base64
import hashlib
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from sqlalchemy import ColumnElement, Row, bindparam, insert, select, update

from . import tiles, times
from .canonical import Rejected, canonical
from .errors import DamagedError, ErasedError, InvalidInputError, NotFoundError
from .identifiers import is_id, new_id, quoted
from .leaf import Leaf, field_digest, payload_commit, read_field, read_leaf, write_leaf
from .merkle import HASH_SIZE, hash_leaf
from .models import EventType, Evidence
from .record import Snapshot, Transaction
from .schema import ledger, ledgers, payloads, subject_events, subjects
from .sealing import Sealer

ID_SIGNS = 26  # 130 random bits
MOST_EVENTS_IN_FIELD = 256
"""Ids of erased events that one field of an erasure names."""

# Made once: building a statement costs as much as running it.
_LOG = select(ledgers.c.size, ledgers.c.data_key).where(ledgers.c.tenant == bindparam("of"))
_GROW = update(ledgers).where(ledgers.c.tenant == bindparam("of")).values(size=bindparam("to"))
_LEAF = insert(ledger)
_PAYLOAD = insert(payloads)
_ABOUT = insert(subject_events)
_SUBJECT = select(
    subjects.c.name, subjects.c.data_key, subjects.c.events, subjects.c.last_event
).where(subjects.c.key == bindparam("called"))
_COUNT = (
    update(subjects)
    .where(subjects.c.key == bindparam("called"))
    .values(events=bindparam("to"), last_event=bindparam("event"))
)

_HEAD = (
    select(ledger.c.position, ledger.c.type, payloads.c.position.label("payload"))
    .outerjoin(
        payloads,
        (payloads.c.tenant == ledger.c.tenant) & (payloads.c.position == ledger.c.position),
    )
    .where(ledger.c.tenant == bindparam("of"), ledger.c.event == bindparam("called"))
)
_KEYS = (
    select(subject_events.c.subject_key)
    .where(subject_events.c.tenant == bindparam("of"), subject_events.c.position == bindparam("at"))
    .order_by(subject_events.c.place)
)


class Encoded(bytes):
    """A field's value that is canonical JSON already: what is the same in many events."""


@dataclass(frozen=True, slots=True)
class Log:
    """A tenant's ledger: its name in checkpoints, its size, and its keys."""

    name: str
    size: int
    data_key: str
    signing_key: str

    @property
    def origin(self) -> str:
        """What the log is called in its checkpoints."""
        return f"holdfast/{self.name}"


class _About(NamedTuple):
    """Where a subject stands that an event is about."""

    key: int
    name: str
    data_key: str
    events: int
    last_event: str | None


def append(
    tx: Transaction,
    type: EventType,  # noqa: A002 - the field's name
    fields: Mapping[str, Any],
    *,
    subjects: Sequence[int] = (),
    event: str | None = None,
) -> str:
    """Write one event at the end of the ledger, inside the caller's transaction.

    Args:
        tx: the event is durable when it is.
        type: such as ``retrieval``.
        fields: what is recorded: texts, whole numbers, lists, objects; no fractions.
        subjects: keys of those whom it is about, in order of precedence; their names and
            their numbers of events are added to the fields.
        event: its id, where it has one already.

    Returns:
        The event's id.

    Raises:
        ErasedError: a subject is no longer there.
    """
    size, tenant_key = _log(tx)
    event = event or new_id("ev", ID_SIGNS)
    about = [_subject(tx, key) for key in subjects]
    held = dict(fields)
    if about:
        held["subjects"] = [each.name for each in about]
        held["chain"] = [
            {"previous": each.last_event, "sequence": each.events + 1} for each in about
        ]
    lines = _disclosures(held)
    keys = [each.data_key for each in about] or [tenant_key]
    sealed = Sealer.joint(list(map(tx.sealer, keys))).seal(b"\n".join(lines), event)
    leaf = write_leaf(
        Leaf(
            id=event,
            type=type,
            time=times.now() // 1000,
            commit=payload_commit([field_digest(line) for line in lines]),
            sealed=hashlib.sha256(sealed).hexdigest(),
        )
    )
    place = {"tenant": tx.tenant, "position": size}
    tx.quick(_LEAF, **place, event=event, type=type, leaf=leaf)
    tx.quick(_PAYLOAD, **place, sealed=sealed)
    for order, each in enumerate(about):
        number = each.events + 1
        tx.quick(_ABOUT, **place, subject_key=each.key, sequence=number, place=order)
        tx.quick(_COUNT, called=each.key, to=number, event=event)
    tx.quick(_GROW, of=tx.tenant, to=size + 1)
    if (size + 1) % tiles.WIDTH == 0:
        tiles.extend(tx, size + 1)
    tx.record.appended = True
    return event


def _subject(tx: Transaction, key: int) -> _About:
    row = tx.quick(_SUBJECT, called=key)
    if row is None:
        raise ErasedError("the subject was erased meanwhile; nothing was recorded")
    return _About(key, *row)


def tenant_key(snapshot: Snapshot) -> str | None:
    """Read the name of a tenant's own data key; None before its first event."""
    found = snapshot.quick(_LOG, of=snapshot.tenant)
    return None if found is None else found[1]


def begin(tx: Transaction) -> None:
    """Make a tenant's ledger and its keys, where it has had no event."""
    _log(tx)


def log(snapshot: Snapshot) -> Log | None:
    """Read where a tenant's ledger stands; None before its first event."""
    row = snapshot.execute(select(ledgers).where(ledgers.c.tenant == snapshot.tenant)).first()
    return None if row is None else Log(row.log, row.size, row.data_key, row.signing_key)


def rename(tx: Transaction, held: Log) -> None:
    """Give the ledger a new name: what was signed under the old one no longer speaks for it."""
    name = secrets.token_hex(16)
    tx.execute(update(ledgers).where(ledgers.c.tenant == tx.tenant).values(log=name))
    tx.vault.rewrap(tx.connection, held.signing_key, signing(held.name), signing(name))


def signing(name: str) -> str:
    """Give the purpose of the key that signs for a log."""
    return f"signing {name}"


def signing_purposes(snapshot: Snapshot) -> dict[str, str]:
    """Give, for all tenants, the keys that sign and what each was made for."""
    rows = snapshot.execute(select(ledgers.c.signing_key, ledgers.c.log))
    return {row.signing_key: signing(row.log) for row in rows}


def _log(tx: Transaction) -> Sequence[Any]:
    """Give the ledger's size and the tenant's own data key; begin it where there is none."""
    found = tx.quick(_LOG, of=tx.tenant)
    if found is None:
        name = secrets.token_hex(16)
        new = {
            "tenant": tx.tenant,
            "log": name,
            "size": 0,
            "data_key": tx.vault.create(tx.connection, tx.tenant),
            "signing_key": tx.vault.create(tx.connection, tx.tenant, signing(name)),
        }
        tx.execute(insert(ledgers), [new])
        found = (0, new["data_key"])
    return found


def _disclosures(fields: Mapping[str, Any]) -> list[bytes]:
    """Give the canonical JSON of [salt, name, value] for each field, with fresh salts."""
    salts = secrets.token_bytes(HASH_SIZE * len(fields))
    lines: list[bytes] = []
    for number, (name, value) in enumerate(fields.items()):
        salt = base64.b64encode(salts[HASH_SIZE * number : HASH_SIZE * (number + 1)])
        try:
            written = value if type(value) is Encoded else canonical(value)
        except Rejected as error:
            raise InvalidInputError(f"{name} cannot be recorded: {error}") from None
        lines.append(b'["%b","%b",%b]' % (salt, name.encode(), written))
    return lines


# Reading


def entry(snapshot: Snapshot, event: str) -> Evidence:
    """Read one event; of an erased one, what is left.

    Raises:
        NotFoundError: this tenant has no such event.
    """
    row = (
        snapshot.execute(_rows(snapshot, ledger.c.event == event)).first() if is_id(event) else None
    )
    if row is None:
        raise unknown(event)
    return _to_evidence(snapshot, row)


def entries(
    snapshot: Snapshot,
    *,
    subject: str | None = None,
    types: Iterable[str] | None = None,
    before: int | None = None,
    limit: int | None = None,
) -> list[Evidence]:
    """Read events, newest first; with ``subject`` only those about that subject.

    ``before``: only those whose place in the ledger is below it.
    """
    query = _rows(snapshot)
    if before is not None:
        query = query.where(ledger.c.position < before)
    if subject is not None:
        about = subject_events.join(subjects, subjects.c.key == subject_events.c.subject_key)
        query = query.where(
            ledger.c.position.in_(
                select(subject_events.c.position)
                .select_from(about)
                .where(subjects.c.tenant == snapshot.tenant, subjects.c.name == subject)
            )
        )
    if types is not None:
        query = query.where(ledger.c.type.in_(list(types)))
    rows = snapshot.execute(query.order_by(ledger.c.position.desc()).limit(limit)).all()
    return [_to_evidence(snapshot, row) for row in rows]


def subject_keys(snapshot: Snapshot, index: int) -> list[int]:
    """Give the keys of the subjects that an event is about, in order of precedence."""
    return [row[0] for row in snapshot.quick_all(_KEYS, of=snapshot.tenant, at=index)]


def follow(
    tx: Transaction, event: str, of: Sequence[str], kind: EventType, fields: Mapping[str, Any]
) -> str:
    """Append an event about the same subjects as another one.

    Args:
        tx: the transaction.
        event: the other one.
        of: types of which it must be.
        kind: the type of the new one.
        fields: of the new one.

    Raises:
        NotFoundError: this tenant has no such event.
        ErasedError: it was erased; nothing more is to be recorded of it.
        InvalidInputError: it is of another type.
    """
    found = tx.quick(_HEAD, of=tx.tenant, called=event) if is_id(event) else None
    if found is None:
        raise unknown(event)
    index, was, payload = found
    if payload is None:
        raise ErasedError(f"{event} was erased; nothing more is recorded of it")
    if was not in of:
        raise InvalidInputError(f"{event} is {was}; {kind} follows {' or '.join(of)}")
    return append(tx, kind, fields, subjects=subject_keys(tx, index))


def unknown(event: object) -> NotFoundError:
    """Say that there is no such event."""
    return NotFoundError(f"there is no evidence {quoted(event)}; list it with: holdfast audit list")


def lines_of(snapshot: Snapshot, index: int, event: str) -> list[bytes]:
    """Open a payload into the disclosures of its fields.

    Raises:
        ErasedError: it was erased.
        DamagedError: it is not what was sealed for this event.
    """
    sealed = snapshot.execute(
        select(payloads.c.sealed).where(
            payloads.c.tenant == snapshot.tenant, payloads.c.position == index
        )
    ).scalar()
    if sealed is None:
        raise ErasedError(f"what {event} recorded was erased with its subject")
    return _open(snapshot, index, event, sealed)


def _open(snapshot: Snapshot, index: int, event: str, sealed: bytes) -> list[bytes]:
    about = (
        select(subjects.c.data_key)
        .join(subject_events, subject_events.c.subject_key == subjects.c.key)
        .where(subject_events.c.tenant == snapshot.tenant, subject_events.c.position == index)
        .order_by(subject_events.c.place)
    )
    keys = list(snapshot.execute(about).scalars())
    if not keys:
        held = log(snapshot)
        assert held is not None
        keys = [held.data_key]
    return Sealer.joint(list(map(snapshot.sealer, keys))).open(sealed, event).split(b"\n")


def _rows(snapshot: Snapshot, *conditions: ColumnElement[bool]) -> Any:
    return (
        select(ledger, payloads.c.sealed)
        .outerjoin(
            payloads,
            (payloads.c.tenant == ledger.c.tenant) & (payloads.c.position == ledger.c.position),
        )
        .where(ledger.c.tenant == snapshot.tenant, *conditions)
    )


def _to_evidence(snapshot: Snapshot, row: Row[Any]) -> Evidence:
    try:
        leaf = read_leaf(row.leaf.decode())
        recorded_at = times.to_datetime(leaf.time * 1000)
        lines = [] if row.sealed is None else _open(snapshot, row.position, leaf.id, row.sealed)
        fields = dict(read_field(line.decode()) for line in lines)
    except (ValueError, AttributeError, OverflowError) as error:
        raise DamagedError(
            f"leaf {row.position} of the ledger cannot be read ({error}); see what was altered "
            "with: holdfast audit verify"
        ) from None
    imported = cast("dict[str, Any]", fields.get("imported", {}))
    if "recorded_at" in imported:
        recorded_at = times.to_datetime(times.to_micros(imported["recorded_at"]))
    return Evidence(
        id=leaf.id,
        tenant=snapshot.tenant,
        index=row.position,
        type=leaf.type,
        subjects=tuple(fields.pop("subjects", ())),
        recorded_at=recorded_at,
        payload=fields,
        leaf=row.leaf.decode(),
        hash=hash_leaf(row.leaf).hex(),
        erased=row.sealed is None,
    )
