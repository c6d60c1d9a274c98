"""Vectors by statement version and embedder, in SQL and in Chroma together.

Chroma is the vector store; the same int8 bytes and their SHA-256 lie in SQL, which is
the truth. A vector is written to Chroma before the transaction that makes its
statement durable, so a fault in between leaves at most an orphan, which the doctor
removes. When read, every vector is compared with the hash in SQL; one that is missing
or differs is put back from SQL and counted.
"""

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, select, update

from . import times
from .chroma import ChromaVectors, collection_name, parts_of
from .database import insert_missing
from .errors import StorageError
from .schema import embedders, statements, subjects, vectors

Int8 = NDArray[np.int8]
Progress = Callable[[int, int], None]
"""Called with (done, total) while something long runs."""


@dataclass(frozen=True, slots=True)
class Found:
    """Vectors read for some versions, in the order asked for."""

    matrix: Int8
    """(n, d): one row for each key; zeros where ``absent``."""
    hashes: list[bytes]
    absent: list[str]
    """Keys that have no vector of this embedder in SQL either."""
    repaired: int
    """Vectors that were missing or altered in Chroma, and were read from SQL and put back."""
    damaged: list[str]
    """Keys whose bytes in SQL had to be read and do not match their hash; their rows are
    as they were read, zeros where even the length is wrong."""


def digest(components: Int8) -> bytes:
    """Give SHA-256 of one vector's int8 bytes."""
    return hashlib.sha256(components.tobytes()).digest()


def register(
    connection: Connection, *, embedder: str, name: str, dimensions: int, scale: int
) -> None:
    """Note an embedder before its first vector is written."""
    known = select(embedders.c.digest).where(embedders.c.digest == embedder)
    if connection.execute(known).first() is None:
        connection.execute(
            insert_missing(connection, embedders).values(
                digest=embedder, name=name, dimensions=dimensions, scale=scale,
                first_used_at=times.now(),
            )
        )  # fmt: skip


def registered(connection: Connection, embedder: str) -> tuple[int, int]:
    """Read an embedder's dimensions and scale.

    Raises:
        StorageError: it was never used here.
    """
    row = connection.execute(
        select(embedders.c.dimensions, embedders.c.scale).where(embedders.c.digest == embedder)
    ).first()
    if row is None:
        raise StorageError(f"embedder {embedder[:12]} was never used in this database")
    return row.dimensions, row.scale


def save(connection: Connection, embedder: str, keys: Sequence[str], matrix: Int8) -> None:
    """Keep int8 vectors in SQL; a vector that is there already stays."""
    if not keys:
        return
    connection.execute(
        insert_missing(connection, vectors),
        [
            {
                "statement_key": key,
                "embedder": embedder,
                "components": row.tobytes(),
                "hash": digest(row),
            }
            for key, row in zip(keys, matrix, strict=True)
        ],
    )


def load(connection: Connection, embedder: str, keys: Sequence[str]) -> dict[str, Int8]:
    """Read vectors from SQL alone."""
    return {
        row.statement_key: np.frombuffer(row.components, np.int8)
        for part in parts_of(keys, 500)
        for row in connection.execute(
            select(vectors.c.statement_key, vectors.c.components).where(
                vectors.c.embedder == embedder, vectors.c.statement_key.in_(part)
            )
        )
    }


def restore(connection: Connection, embedder: str, key: str, components: Int8) -> None:
    """Put the bytes of a vector back that still match its recorded hash."""
    connection.execute(
        update(vectors)
        .where(
            vectors.c.statement_key == key,
            vectors.c.embedder == embedder,
            vectors.c.hash == digest(components),
        )
        .values(components=components.tobytes())
    )


def belonging(connection: Connection, collection: str, keys: Sequence[str]) -> set[str]:
    """Give those keys that SQL expects in a collection: by embedder, tenant and subject."""
    return {
        row.statement_key
        for part in parts_of(keys, 500)
        for row in connection.execute(
            select(vectors.c.statement_key, vectors.c.embedder, subjects.c.tenant, subjects.c.name)
            .join(statements, statements.c.key == vectors.c.statement_key)
            .join(subjects, subjects.c.key == statements.c.subject_key)
            .where(vectors.c.statement_key.in_(part))
        )
        if collection_name(row.embedder, row.tenant, row.name) == collection
    }


def unembedded(connection: Connection, embedder: str, limit: int | None = None) -> list[str]:
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
    return list(connection.execute(query.limit(limit)).scalars())


def read(
    connection: Connection,
    chroma: ChromaVectors | None,
    *,
    embedder: str,
    dimensions: int,
    tenant: str,
    subject: str,
    keys: Sequence[str],
) -> Found:
    """Read the vectors of some versions of one subject, and mend what Chroma lacks.

    Args:
        connection: to read hashes, and bytes where needed, on.
        chroma: None reads from SQL alone.
        embedder: digest of the embedder.
        dimensions: d.
        tenant: and
        subject: whose versions these are.
        keys: the versions' keys.
    """
    hashes = _hashes(connection, embedder, keys)
    wanted = [key for key in keys if key in hashes]
    held: dict[str, Int8] = {}
    broken = chroma is None
    if chroma is not None and wanted:
        try:
            for key, components in chroma.get(embedder, tenant, subject, wanted).items():
                if digest(components) == hashes[key]:
                    held[key] = components
        except StorageError:
            broken = True
    lacking = [key for key in wanted if key not in held]
    loaded = load(connection, embedder, lacking)
    damaged = [key for key in lacking if digest(loaded[key]) != hashes[key]]
    whole = [key for key in lacking if key not in set(damaged)]
    if chroma is not None and whole and not broken:
        with contextlib.suppress(StorageError):
            chroma.put(embedder, tenant, subject, whole, np.stack([loaded[key] for key in whole]))
    held |= loaded
    matrix = np.zeros((len(keys), dimensions), np.int8)
    for i, key in enumerate(keys):
        if key in held and held[key].shape == (dimensions,):
            matrix[i] = held[key]
    return Found(
        matrix=matrix,
        hashes=[hashes.get(key, b"") for key in keys],
        absent=[key for key in keys if key not in hashes],
        repaired=0 if chroma is None else len(whole),
        damaged=damaged,
    )


def _hashes(connection: Connection, embedder: str, keys: Sequence[str]) -> dict[str, bytes]:
    return {
        row.statement_key: row.hash
        for part in parts_of(keys, 500)
        for row in connection.execute(
            select(vectors.c.statement_key, vectors.c.hash).where(
                vectors.c.embedder == embedder, vectors.c.statement_key.in_(part)
            )
        )
    }
