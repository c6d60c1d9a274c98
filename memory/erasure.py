"""Erasing a subject: everything goes but the leaves, which name nobody.

One transaction removes its rows, its data key and the payloads of every event about it,
and appends an event that names those events, so that a verifier can tell an erasure from
a loss. What the database's and Chroma's files still hold of it is then purged. What is
yet to be purged is noted in the same transaction, and goes on when the data are opened
again, if it was interrupted.
"""

import json

from sqlalchemy import Table, delete, func, insert, select

from . import access, ledger, store, vectors
from .canonical import canonical
from .chroma import ChromaVectors, collection_name
from .errors import LockedError, NotFoundError, ReadOnlyError, StorageError, StorageFullError
from .identifiers import new_key
from .ledger import MOST_EVENTS_IN_FIELD
from .models import Erasure
from .record import Record, Transaction
from .schema import (
    decisions,
    embedders,
    payloads,
    proposals,
    statements,
    subject_events,
    subjects,
    turns,
    unfinished,
    weighed,
)
from .schema import ledger as leaves
from .schema import vectors as vectors_table
from .versions import Subject

SERVER_OF_CHROMA = (
    "The Chroma server still holds deleted vectors in its files: its operator removes them with "
    "'chroma vacuum' while it is stopped, and from its backups."
)
SERVER_OF_SQL = (
    "PostgreSQL still holds deleted rows in its files, its log and its backups: its operator "
    "removes them with VACUUM FULL, and as the log and the backups are kept."
)


def erase(record: Record, name: str, reason: str | None) -> Erasure:
    """Remove a subject from the record, durably; the files are purged by ``purge``.

    Raises:
        NotFoundError: nothing is on record of it.
    """
    return record.transact(lambda tx: _erase(tx, name, reason))


def _erase(tx: Transaction, name: str, reason: str | None) -> Erasure:
    found = store.subject(tx, name)
    if found is None:
        raise NotFoundError("there is no such subject here; nothing was erased")
    positions = select(subject_events.c.position).where(subject_events.c.subject_key == found.key)
    events = list(
        tx.execute(
            select(leaves.c.event)
            .where(leaves.c.tenant == tx.tenant, leaves.c.position.in_(positions))
            .order_by(leaves.c.position)
        ).scalars()
    )
    collections = {
        collection_name(embedder, tx.tenant, name)
        for embedder in tx.execute(select(embedders.c.digest)).scalars()
    }
    tx.execute(
        delete(payloads).where(payloads.c.tenant == tx.tenant, payloads.c.position.in_(positions))
    )
    versions, proposed = _delete_rows(tx, found)
    tx.vault.erase(tx.connection, found.data_key)
    fields = {
        f"events.{number}": events[start : start + MOST_EVENTS_IN_FIELD]
        for number, start in enumerate(range(0, len(events), MOST_EVENTS_IN_FIELD))
    }
    event = ledger.append(tx, "erasure", {**fields, "count": len(events), "reason": reason})
    note(tx, sorted(collections))
    return Erasure(event, versions, proposed, len(events))


def _delete_rows(tx: Transaction, found: Subject) -> tuple[int, int]:
    keys = select(statements.c.key).where(statements.c.subject_key == found.key)
    tx.execute(delete(vectors_table).where(vectors_table.c.statement_key.in_(keys)))
    tx.execute(delete(weighed).where(weighed.c.decision_key.in_(keys)))
    tx.execute(delete(decisions).where(decisions.c.statement_key.in_(keys)))

    def remove(table: Table) -> int:
        return tx.execute(delete(table).where(table.c.subject_key == found.key)).rowcount

    counts = remove(statements), remove(proposals)
    remove(subject_events)
    remove(turns)
    access.remove(tx, found.key)
    tx.execute(delete(subjects).where(subjects.c.key == found.key))
    return counts


def note(tx: Transaction, collections: list[str]) -> None:
    """Note that files are to be purged, and which collections of Chroma to be made anew."""
    detail = canonical({"collections": collections}).decode()
    tx.execute(insert(unfinished), [{"key": new_key(), "detail": detail}])


def is_unfinished(record: Record) -> bool:
    """Tell whether something is yet to be purged."""
    with record.snapshot() as snapshot:
        count = select(func.count()).select_from(unfinished)
        return bool(snapshot.execute(count).scalar())


def purge(record: Record, chroma: ChromaVectors | None) -> tuple[str, ...]:
    """Remove from the files what was deleted from the record.

    Chroma's collections in which it lay are dropped and filled again from the database.

    Returns:
        What only the operator of a server can do.

    Raises:
        StorageError: a file could not be purged; what is left is noted and goes on later.
    """
    record.vault.forget()
    with record.snapshot() as snapshot:
        rows = snapshot.execute(select(unfinished)).all()
    names = sorted({name for row in rows for name in json.loads(row.detail)["collections"]})
    left: list[str] = []
    if chroma is not None:
        with chroma.alone():
            if not _purge(record, chroma, names):
                left.append(SERVER_OF_CHROMA)
    record.database.purge()
    if not record.database.is_sqlite:
        left.append(SERVER_OF_SQL)
    done = [row.key for row in rows]
    record.transact(lambda tx: tx.execute(delete(unfinished).where(unfinished.c.key.in_(done))))
    return tuple(left)


def _purge(record: Record, chroma: ChromaVectors, names: list[str]) -> bool:
    """Make collections anew without what was deleted, and clear the files.

    A process that was killed while Chroma wrote can leave a folder that Chroma fails on;
    then all of it is made anew from the database.
    """
    try:
        if names:
            chroma.drop(names)
            _fill(record, chroma, names)
        return chroma.purge()
    except (StorageFullError, ReadOnlyError, LockedError):
        raise
    except StorageError:
        if not chroma.start_over():
            raise
        _fill(record, chroma, None)
        return chroma.purge()


def _fill(record: Record, chroma: ChromaVectors, names: list[str] | None) -> None:
    """Fill collections (None: every one) with the vectors that belong in them."""
    with record.snapshot() as snapshot:
        known = list(snapshot.execute(select(embedders.c.digest)).scalars())
        for owner in store.version_owners(snapshot):
            for embedder in known:
                if names is None or collection_name(embedder, owner.tenant, owner.name) in names:
                    sealer = snapshot.sealer(owner.data_key)
                    held = vectors.load(snapshot, embedder, owner.keys, sealer)
                    vectors.refill(chroma, embedder, owner.tenant, owner.name, held)
