"""Vectors by statement version and embedder, in SQL and in Chroma together.

Chroma is the vector store; the same int8 bytes lie in SQL, sealed with the subject's data
key and beside a keyed hash, and SQL is the truth. A vector is written to Chroma before the
transaction that makes its statement durable, so a fault in between leaves at most an
orphan, which the doctor removes. When read, every vector is compared with the hash in SQL;
one that is missing or differs is put back from SQL and counted.
"""

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Row, select, update

from . import policies, times
from .chroma import ChromaVectors, collection_name, parts_of
from .database import insert_missing
from .errors import DamagedError, StorageError
from .record import Snapshot, Transaction
from .schema import embedders, statements, subjects, vectors
from .sealing import Sealer

Int8 = NDArray[np.int8]
Progress = Callable[[int, int], None]
"""Called with (done, total) while something long runs."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors of some versions, by one embedder."""

    embedder: str
    """The embedder's digest."""
    matrix: Int8
    """(n, d)."""

    def note(self, row: int) -> dict[str, str]:
        """Give what the ledger keeps of one vector."""
        return {"embedder": self.embedder, "sha256": digest(self.matrix[row]).hex()}


@dataclass(frozen=True, slots=True)
class Found:
    """Vectors read for some versions, in the order asked for."""

    matrix: Int8
    """(n, d): one row for each key; zeros where ``absent`` or ``damaged``."""
    absent: list[str]
    """Keys that have no vector of this embedder in SQL either."""
    repaired: int
    """Vectors that were missing or altered in Chroma, and were read from SQL and put back."""
    damaged: list[str]
    """Keys whose vector in SQL had to be read and is not what was sealed there."""


def digest(components: Int8) -> bytes:
    """Give SHA-256 of one vector's int8 bytes."""
    return hashlib.sha256(components.tobytes()).digest()


def register(tx: Transaction, *, embedder: str, name: str, dimensions: int, scale: int) -> None:
    """Note an embedder before its first vector is written."""
    known = select(embedders.c.digest).where(embedders.c.digest == embedder)
    if tx.execute(known).first() is None:
        tx.execute(
            insert_missing(tx.connection, embedders).values(
                digest=embedder, name=name, dimensions=dimensions, scale=scale,
                first_used_at=times.now(),
            )
        )  # fmt: skip
    found = described(tx, embedder)
    if found is not None:
        policies.note(tx, policies.Basis("embedder", found))


def described(snapshot: Snapshot, embedder: str) -> dict[str, Any] | None:
    """Give what the ledger keeps of an embedder; None where it is not known."""
    found = [row for row in all_described(snapshot) if row["digest"] == embedder]
    return found[0] if found else None


def all_described(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Give what the ledger keeps of every embedder that was used in this database."""
    rows = snapshot.execute(select(embedders)).mappings()
    return [{str(name): value for name, value in row.items()} for row in rows]


def registered(snapshot: Snapshot, embedder: str) -> tuple[int, int]:
    """Read an embedder's dimensions and scale.

    Raises:
        StorageError: it was never used here.
    """
    found = described(snapshot, embedder)
    if found is None:
        raise StorageError(f"embedder {embedder[:12]} was never used in this database")
    return found["dimensions"], found["scale"]


def save(
    tx: Transaction, embedded: Embedded, keys: Sequence[str], sealers: Sequence[Sealer]
) -> None:
    """Keep vectors in SQL, each sealed for its subject; one that is there already stays."""
    if not keys:
        return
    tx.execute(
        insert_missing(tx.connection, vectors),
        [
            {
                "statement_key": key,
                "embedder": embedded.embedder,
                **_sealed(key, embedded.embedder, row.tobytes(), sealer),
            }
            for key, row, sealer in zip(keys, embedded.matrix, sealers, strict=True)
        ],
    )


def load(
    snapshot: Snapshot, embedder: str, keys: Sequence[str], sealer: Sealer
) -> dict[str, Int8 | None]:
    """Read vectors of one subject from SQL alone; None for one that was altered there."""
    found: dict[str, Int8 | None] = {}
    for part in parts_of(keys, 500):
        query = select(vectors).where(
            vectors.c.embedder == embedder, vectors.c.statement_key.in_(part)
        )
        for row in snapshot.execute(query):
            found[row.statement_key] = None
            with contextlib.suppress(DamagedError):
                found[row.statement_key] = opened(row, sealer)
    return found


def refill(
    chroma: ChromaVectors, embedder: str, tenant: str, subject: str, held: dict[str, Int8 | None]
) -> None:
    """Put vectors of one subject that were read from SQL into Chroma, but for altered ones."""
    whole = {key: components for key, components in held.items() if components is not None}
    if whole:
        chroma.put(embedder, tenant, subject, list(whole), np.stack(list(whole.values())))


def opened(row: Row[Any], sealer: Sealer) -> Int8:
    """Open the vector in a row of the table.

    Raises:
        DamagedError: it is not what was sealed there, or its hash is another.
    """
    raw = sealer.open(row.components, _about(row.statement_key, row.embedder))
    if sealer.keyed_hash(raw) != row.hash:
        raise DamagedError("the hash of a vector was altered; mend it with: holdfast doctor")
    return np.frombuffer(raw, np.int8)


def restore(tx: Transaction, embedder: str, key: str, components: Int8, sealer: Sealer) -> bool:
    """Put a vector back that still has its recorded hash; tell whether it has."""
    sealed = _sealed(key, embedder, components.tobytes(), sealer)
    return bool(
        tx.execute(
            update(vectors)
            .where(
                vectors.c.statement_key == key,
                vectors.c.embedder == embedder,
                vectors.c.hash == sealed["hash"],
            )
            .values(components=sealed["components"])
        ).rowcount
    )


def _sealed(key: str, embedder: str, raw: bytes, sealer: Sealer) -> dict[str, bytes]:
    return {
        "components": sealer.seal(raw, _about(key, embedder)),
        "hash": sealer.keyed_hash(raw),
    }


def _about(key: str, embedder: str) -> str:
    return f"vector {key} {embedder[:16]}"


def belonging(snapshot: Snapshot, collection: str, keys: Sequence[str]) -> set[str]:
    """Give those keys that SQL expects in a collection: by embedder, tenant and subject."""
    return {
        row.statement_key
        for part in parts_of(keys, 500)
        for row in snapshot.execute(
            select(vectors.c.statement_key, vectors.c.embedder, subjects.c.tenant, subjects.c.name)
            .join(statements, statements.c.key == vectors.c.statement_key)
            .join(subjects, subjects.c.key == statements.c.subject_key)
            .where(vectors.c.statement_key.in_(part))
        )
        if collection_name(row.embedder, row.tenant, row.name) == collection
    }


def unembedded(snapshot: Snapshot, embedder: str, limit: int | None = None) -> list[str]:
    """List versions that have no vector of this embedder yet, oldest first."""
    query = (
        select(statements.c.key)
        .outerjoin(
            vectors,
            (vectors.c.statement_key == statements.c.key) & (vectors.c.embedder == embedder),
        )
        .where(vectors.c.statement_key.is_(None))
        .order_by(statements.c.recorded_at, statements.c.key)
    )
    return list(snapshot.execute(query.limit(limit)).scalars())


def read(
    snapshot: Snapshot,
    chroma: ChromaVectors | None,
    *,
    embedder: str,
    dimensions: int,
    tenant: str,
    subject: str,
    sealer: Sealer,
    keys: Sequence[str],
) -> Found:
    """Read the vectors of some versions of one subject, and mend what Chroma lacks.

    Args:
        snapshot: to read hashes, and bytes where needed, in.
        chroma: None reads from SQL alone.
        embedder: digest of the embedder.
        dimensions: d.
        tenant: and
        subject: whose versions these are, and
        sealer: with which their vectors are sealed.
        keys: the versions' keys.
    """
    hashes = _hashes(snapshot, embedder, keys)
    wanted = [key for key in keys if key in hashes]
    held: dict[str, Int8] = {}
    broken = chroma is None
    if chroma is not None and wanted:
        try:
            for key, components in chroma.get(embedder, tenant, subject, wanted).items():
                if sealer.keyed_hash(components.tobytes()) == hashes[key]:
                    held[key] = components
        except StorageError:
            broken = True
    loaded = load(snapshot, embedder, [key for key in wanted if key not in held], sealer)
    whole = {key: components for key, components in loaded.items() if components is not None}
    if chroma is not None and whole and not broken:
        with contextlib.suppress(StorageError):
            refill(chroma, embedder, tenant, subject, loaded)
    held |= whole
    matrix = np.zeros((len(keys), dimensions), np.int8)
    for i, key in enumerate(keys):
        if key in held and held[key].shape == (dimensions,):
            matrix[i] = held[key]
    return Found(
        matrix=matrix,
        absent=[key for key in keys if key not in hashes],
        repaired=0 if chroma is None else len(whole),
        damaged=[key for key, components in loaded.items() if components is None],
    )


def _hashes(snapshot: Snapshot, embedder: str, keys: Sequence[str]) -> dict[str, bytes]:
    return {
        row.statement_key: row.hash
        for part in parts_of(keys, 500)
        for row in snapshot.execute(
            select(vectors.c.statement_key, vectors.c.hash).where(
                vectors.c.embedder == embedder, vectors.c.statement_key.in_(part)
            )
        )
    }
