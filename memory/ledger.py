"""The append-only log in SQL: append, read, verify.

A plain hash chain for each tenant. An entry's hash is SHA-256 over the canonical
JSON (RFC 8785) of its header, and the header holds the hash of the payload's bytes
and the hash of the entry before. It knows nothing of what a payload means, and
never begins or commits a transaction: an entry becomes durable together with
whatever else its caller writes.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import rfc8785
from sqlalchemy import Connection, Row, Select, bindparam, insert, select, update

from . import times
from .database import insert_missing
from .errors import DamagedError, NotFoundError
from .identifiers import is_id, new_id, quoted
from .models import Evidence, Verification
from .schema import evidence, evidence_subjects, ledgers

FORMAT = "holdfast-chain-1"
GENESIS = "0" * 64
"""What the first entry names as the hash before it."""

# Made once: building a statement costs as much as running it.
_HEAD = (
    select(ledgers.c.sequence, ledgers.c.head)
    .where(ledgers.c.tenant == bindparam("of"))
    .with_for_update()
)
_MOVE = (
    update(ledgers)
    .where(ledgers.c.tenant == bindparam("of"))
    .values(sequence=bindparam("last"), head=bindparam("hash"))
)
_ENTRY = insert(evidence)
_SUBJECT = insert(evidence_subjects)


def append(
    connection: Connection,
    *,
    tenant: str,
    type: str,  # noqa: A002 - the field's name
    subjects: Sequence[str],
    payload: Mapping[str, Any],
) -> str:
    """Write one entry at the end of a tenant's chain, inside the caller's transaction.

    Args:
        connection: in a writing transaction; the entry is durable when it commits.
        tenant: whose chain.
        type: the event, such as ``retrieval``.
        subjects: whom it is about, in order of precedence.
        payload: what is recorded: texts, integers, lists, objects; no floats.

    Returns:
        The id of the entry.
    """
    body = rfc8785.dumps(dict(payload))
    sequence, previous = _next(connection, tenant)
    header = {
        "format": FORMAT,
        "id": new_id("ev", 26),
        "payload": hashlib.sha256(body).hexdigest(),
        "previous": previous,
        "recorded_at": times.now(),
        "sequence": sequence,
        "subjects": list(subjects),
        "tenant": tenant,
        "type": type,
    }
    digest = _hash(header)
    connection.execute(
        _ENTRY,
        {
            "tenant": tenant,
            "sequence": sequence,
            "id": header["id"],
            "type": type,
            "recorded_at": header["recorded_at"],
            "payload": body,
            "previous": previous,
            "hash": digest,
        },
    )
    connection.execute(
        _SUBJECT,
        [
            {"tenant": tenant, "subject": subject, "sequence": sequence, "position": position}
            for position, subject in enumerate(subjects)
        ],
    )
    connection.execute(_MOVE, {"of": tenant, "last": sequence, "hash": digest})
    return str(header["id"])


def entry(connection: Connection, tenant: str, evidence_id: str) -> Evidence:
    """Read one entry.

    Raises:
        NotFoundError: this tenant has no such evidence.
    """
    query = select(evidence).where(evidence.c.tenant == tenant, evidence.c.id == evidence_id)
    row = connection.execute(query).first() if is_id(evidence_id) else None
    if row is None:
        raise NotFoundError(
            f"there is no evidence {quoted(evidence_id)}; list it with: holdfast audit list"
        )
    return _to_evidence(connection, row)


def entries(
    connection: Connection, tenant: str, *, subject: str | None = None, limit: int | None = None
) -> list[Evidence]:
    """Read entries, newest first; with ``subject`` only those about that subject."""
    query = select(evidence).where(evidence.c.tenant == tenant)
    if subject is not None:
        query = query.join(
            evidence_subjects,
            (evidence_subjects.c.tenant == evidence.c.tenant)
            & (evidence_subjects.c.sequence == evidence.c.sequence),
        ).where(evidence_subjects.c.subject == subject)
    rows = connection.execute(query.order_by(evidence.c.sequence.desc()).limit(limit)).all()
    return [_to_evidence(connection, row) for row in rows]


def verify(
    connection: Connection, tenant: str, *, progress: Callable[[int, int], None] | None = None
) -> Verification:
    """Compute every hash of a tenant's chain again, from the first entry to the head.

    Finds any edit, deletion, insertion or reordering of entries while the recorded
    head stands. It cannot find a chain rewritten as a whole together with its head:
    for that a hash must be kept elsewhere.
    """
    last = connection.execute(
        select(ledgers.c.sequence, ledgers.c.head).where(ledgers.c.tenant == tenant)
    ).first()
    total, head = (0, GENESIS) if last is None else (last.sequence, last.head)
    previous, checked = GENESIS, 0
    query = select(evidence).where(evidence.c.tenant == tenant).order_by(evidence.c.sequence)
    for row in connection.execute(query.execution_options(yield_per=1000)):
        problem = _problem(connection, row, checked + 1, previous)
        if problem:
            return Verification(False, checked, previous, row.id, problem)
        previous, checked = row.hash, checked + 1
        if progress and (checked % 256 == 0 or checked == total):
            progress(checked, total)
    if (checked, previous) != (total, head):
        return Verification(
            False, checked, previous, f"sequence {checked + 1}",
            f"the chain ends after {checked} entries, and its recorded head is entry {total}",
        )  # fmt: skip
    known = select(evidence.c.sequence).where(evidence.c.tenant == tenant)
    stray = select(evidence_subjects.c.sequence).where(
        evidence_subjects.c.tenant == tenant, evidence_subjects.c.sequence.not_in(known)
    )
    if connection.execute(stray.limit(1)).first() is not None:
        return Verification(
            False, checked, previous, f"sequence {checked + 1}",
            "a subject is named for an entry that is not there",
        )  # fmt: skip
    return Verification(True, checked, previous)


def _problem(connection: Connection, row: Row[Any], sequence: int, previous: str) -> str | None:
    if row.sequence != sequence:
        return f"entry {sequence} is missing"
    if row.previous != previous:
        return "it does not follow the entry before it"
    return None if _is_whole(connection, row) else "its content is not what was recorded"


def _is_whole(connection: Connection, row: Row[Any]) -> bool:
    """Tell whether what an entry holds gives the hash that was recorded."""
    subjects = connection.execute(_about(row.tenant, row.sequence)).all()
    if [about.position for about in subjects] != list(range(len(subjects))):
        return False
    try:
        return _hash(_header(row, [about.subject for about in subjects])) == row.hash
    except (TypeError, ValueError):  # a value such as no entry ever had
        return False


def _header(row: Row[Any], subjects: Sequence[str]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "id": row.id,
        "payload": hashlib.sha256(row.payload).hexdigest(),
        "previous": row.previous,
        "recorded_at": row.recorded_at,
        "sequence": row.sequence,
        "subjects": list(subjects),
        "tenant": row.tenant,
        "type": row.type,
    }


def _hash(header: dict[str, Any]) -> str:
    return hashlib.sha256(rfc8785.dumps(header)).hexdigest()


def _next(connection: Connection, tenant: str) -> tuple[int, str]:
    row = connection.execute(_HEAD, {"of": tenant}).first()
    if row is None:
        new = insert_missing(connection, ledgers)
        connection.execute(new.values(tenant=tenant, sequence=0, head=GENESIS))
        row = connection.execute(_HEAD, {"of": tenant}).one()
    return row.sequence + 1, row.head


def _subjects(connection: Connection, tenant: str, sequence: int) -> tuple[str, ...]:
    return tuple(connection.execute(_about(tenant, sequence)).scalars())


def _about(tenant: str, sequence: int) -> Select[Any, Any]:
    return (
        select(evidence_subjects.c.subject, evidence_subjects.c.position)
        .where(evidence_subjects.c.tenant == tenant, evidence_subjects.c.sequence == sequence)
        .order_by(evidence_subjects.c.position)
    )


def _to_evidence(connection: Connection, row: Row[Any]) -> Evidence:
    try:
        recorded_at = times.to_datetime(row.recorded_at)
        payload = json.loads(row.payload)
    except (TypeError, ValueError, OverflowError, RecursionError):
        raise DamagedError(
            f"entry {row.sequence} of the ledger cannot be read; see what was altered with: "
            "holdfast audit verify"
        ) from None
    return Evidence(
        id=row.id,
        tenant=row.tenant,
        sequence=row.sequence,
        type=row.type,
        subjects=_subjects(connection, row.tenant, row.sequence),
        recorded_at=recorded_at,
        payload=payload,
        previous=row.previous,
        hash=row.hash,
    )
