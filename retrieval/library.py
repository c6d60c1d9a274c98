"""A tenant's statements with their vectors: the one place where SQL, Chroma and the embedder meet.

It reads a subject's corpus and writes versions. It knows nothing of requests or
verdicts. Write order: vector to Chroma first, then one SQL transaction that holds the
statement, its int8 bytes and everything that goes with it.
"""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from sqlalchemy import Connection

from ..memory import store, times, vectors
from ..memory.chroma import ChromaVectors
from ..memory.database import Database
from ..memory.errors import DamagedError
from ..memory.identifiers import new_key
from ..memory.models import Kind, Scope, Strength
from ..memory.store import Change, Draft, Subject, Version
from ..memory.vectors import Progress
from .corpus import Corpus, CorpusCache, empty
from .embedder import Embedder, quantise
from .scoring import Int8
from .splitting import equality_key

EMBEDDING_BATCH = 256
"""Texts embedded before their vectors are handed to Chroma."""


class Library:
    """What the engine keeps statements in."""

    def __init__(
        self,
        database: Database,
        chroma: ChromaVectors | None,
        embedder: Embedder,
        tenant: str,
        cache: CorpusCache,
        *,
        brief: bool = False,
    ) -> None:
        """Keep the parts; ``brief`` reads vectors from SQL alone and leaves Chroma unopened."""
        self._reads_chroma = not brief
        self.database = database
        self.chroma = chroma
        self.embedder = embedder
        self.tenant = tenant
        self.cache = cache

    # Reading

    def corpus(self, subject: str) -> Corpus:
        """Give what a subject's statements in force are now, from the cache if it is current."""
        stands = self.database.glance(store.SUBJECT, {"of": self.tenant, "called": subject})
        if stands is None:
            return empty(subject, self.embedder.dimensions)
        corpus = self.cache.get(subject, stands[1], times.now())
        if corpus is None:
            with self.database.read() as connection:
                found = store.subject(connection, self.tenant, subject)
                assert found is not None
                at = max(times.now(), found.changed_at)
                corpus = self._load(connection, found, as_of=at)
            self.cache.put(replace(corpus, repaired=0) if corpus.repaired else corpus)  # told once
        return corpus

    def note_added(self, change: Change, versions: Sequence[Version], matrix: Int8) -> None:
        """Bring the cached corpus up to a change that only added statements, if it is there.

        Otherwise the next reader loads it.
        """
        before = self.cache.get(change.subject.name, change.revision - 1, change.at)
        if before is not None:
            self.cache.put(before.extended(change, versions, matrix))

    def corpus_as_of(self, subject: str, as_of: int) -> Corpus:
        """Give what held at a valid time, as far as is known now; it is not kept."""
        with self.database.read() as connection:
            found = store.subject(connection, self.tenant, subject)
            if found is None:
                return empty(subject, self.embedder.dimensions)
            return self._load(connection, found, as_of=as_of)

    def corpus_at_revision(self, subject: str, revision: int, as_of: int, embedder: str) -> Corpus:
        """Give what held when a retrieval was recorded, with the vectors of its embedder.

        It needs neither Chroma nor the model.
        """
        with self.database.read() as connection:
            found = store.subject(connection, self.tenant, subject)
            if found is None:
                return empty(subject, self.embedder.dimensions)
            versions = store.as_known(connection, found, as_of=as_of, revision=revision)
            if not versions:  # then its embedder may never have been used here
                no_vectors = np.zeros((0, self.embedder.dimensions), np.int8)
                return Corpus(subject, revision, [], no_vectors, [], at=as_of)
            dimensions, _ = vectors.registered(connection, embedder)
            held = vectors.read(
                connection,
                None,
                embedder=embedder,
                dimensions=dimensions,
                tenant=self.tenant,
                subject=subject,
                keys=[version.key for version in versions],
            )
        return Corpus(subject, revision, versions, held.matrix, held.hashes, at=as_of)

    def _load(self, connection: Connection, found: Subject, *, as_of: int) -> Corpus:
        versions = store.as_known(connection, found, as_of=as_of)
        ends = store.next_boundary(connection, found, after=as_of)
        keys = [version.key for version in versions]
        held = self._vectors(connection, found.name, keys)
        if held.absent:
            connection.rollback()  # the write below needs the database to itself
            self.embed_versions(held.absent)
            held = self._vectors(connection, found.name, keys)
        return Corpus(
            subject=found.name,
            revision=found.revision,
            versions=versions,
            matrix=held.matrix,
            hashes=held.hashes,
            at=as_of,
            ends=ends,
            repaired=held.repaired,
        )

    def _vectors(self, connection: Connection, subject: str, keys: Sequence[str]) -> vectors.Found:
        held = vectors.read(
            connection,
            self.chroma if self._reads_chroma else None,
            embedder=self.embedder.digest,
            dimensions=self.embedder.dimensions,
            tenant=self.tenant,
            subject=subject,
            keys=keys,
        )
        if held.damaged:
            raise DamagedError(
                f"{len(held.damaged)} vectors in the database were altered; mend them with: "
                "holdfast doctor"
            )
        return held

    # Writing

    def embed(self, subject: str, drafts: Sequence[Draft], progress: Progress | None) -> Int8:
        """Embed drafts and put their vectors into Chroma, one beside the other.

        Returns:
            int8, (len(drafts), d). Vectors of drafts that are never written are orphans.
        """
        parts: list[Int8] = []
        pending: Future[None] | None = None
        total = len(drafts)
        with ThreadPoolExecutor(1) as pool:
            for start in range(0, total, EMBEDDING_BATCH):
                batch = drafts[start : start + EMBEDDING_BATCH]
                part = self.quantised([draft.text for draft in batch])
                parts.append(part)
                if pending is not None:
                    pending.result()
                pending = pool.submit(self.put, subject, [draft.key for draft in batch], part)
                if progress:
                    progress(start + len(batch), total)
            if pending is not None:
                pending.result()
        return np.concatenate(parts) if parts else np.zeros((0, self.embedder.dimensions), np.int8)

    def quantised(self, texts: Sequence[str]) -> Int8:
        """Embed texts as they are kept: int8."""
        return quantise(self.embedder.embed(texts), self.embedder.scale)

    def save_vectors(self, connection: Connection, keys: Sequence[str], matrix: Int8) -> None:
        """Keep vectors in SQL, in the transaction that writes their statements."""
        vectors.register(
            connection,
            embedder=self.embedder.digest,
            name=self.embedder.name,
            dimensions=self.embedder.dimensions,
            scale=self.embedder.scale,
        )
        vectors.save(connection, self.embedder.digest, keys, matrix)

    def embed_versions(
        self, keys: Sequence[str], progress: Callable[[int], None] | None = None
    ) -> None:
        """Embed stored versions with this embedder, batch by batch, each durable at once.

        So an interrupted run goes on where it stopped.
        """
        for start in range(0, len(keys), EMBEDDING_BATCH):
            with self.database.read() as connection:
                rows = store.read_texts(connection, keys[start : start + EMBEDDING_BATCH])
            matrix = self.quantised([row.text for row in rows])
            owners = sorted({(row.tenant, row.name) for row in rows})
            for tenant, name in owners:
                own = [i for i, row in enumerate(rows) if (row.tenant, row.name) == (tenant, name)]
                if self.chroma is not None:
                    self.chroma.put(
                        self.embedder.digest, tenant, name, [rows[i].key for i in own], matrix[own]
                    )
            with self.database.write() as connection:
                self.save_vectors(connection, [row.key for row in rows], matrix)
            if progress:
                progress(start + len(rows))

    def put(self, subject: str, keys: Sequence[str], matrix: Int8) -> None:
        """Put vectors into Chroma, before the transaction with their statements commits."""
        if self.chroma is not None:
            self.chroma.put(self.embedder.digest, self.tenant, subject, keys, matrix)


def draft(
    text: str,
    *,
    kind: Kind,
    strength: Strength,
    scope: Scope,
    contexts: Sequence[str] = (),
    source: str,
    valid_from: int | None = None,
    valid_to: int | None = None,
) -> Draft:
    """Make a version that is about to be written."""
    return Draft(
        text=text,
        equality=equality(text),
        kind=kind,
        strength=strength,
        scope=scope,
        contexts=tuple(contexts),
        source=source,
        valid_from=valid_from,
        valid_to=valid_to,
        key=new_key(),
    )


def equality(text: str) -> bytes:
    """Give what is equal for two texts that are the same statement."""
    return hashlib.sha256(equality_key(text).encode()).digest()
