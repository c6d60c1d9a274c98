"""A tenant's statements with their vectors: the one place where SQL, Chroma and the embedder meet.

It reads a subject's corpus and writes versions. It knows nothing of requests or
verdicts. Write order: vector to Chroma first, then one SQL transaction that holds the
statement, its int8 bytes and everything that goes with it.
"""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import groupby

import numpy as np

from ..memory import decisions, store, times, vectors
from ..memory.chroma import ChromaVectors
from ..memory.errors import DamagedError, StorageError
from ..memory.identifiers import new_key
from ..memory.models import Decision, Kind, Scope, Statement, Strength
from ..memory.record import Record, Snapshot, Transaction
from ..memory.vectors import Embedded, Progress
from ..memory.versions import Change, Draft, Subject, Version, begin
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
        record: Record,
        chroma: ChromaVectors | None,
        embedder: Embedder,
        cache: CorpusCache,
        *,
        brief: bool = False,
    ) -> None:
        """Keep the parts; ``brief`` reads vectors from SQL alone and leaves Chroma unopened."""
        self._reads_chroma = not brief
        self.record = record
        self.chroma = chroma
        self.embedder = embedder
        self.tenant = record.tenant
        self.cache = cache

    # Reading

    def corpus(self, subject: str) -> Corpus:
        """Give what a subject's statements in force are now, from the cache if it is current."""
        named = {"of": self.tenant, "called": subject}
        stands = self.record.database.glance(store.SUBJECT, named)
        if stands is None:
            return empty(subject, self.embedder.dimensions)
        corpus = self.cache.get(subject, stands[3], stands[1], times.now())
        if corpus is None:
            with self.record.snapshot() as snapshot:
                found = store.subject(snapshot, subject)
                if found is None:  # erased since the line above
                    return empty(subject, self.embedder.dimensions)
                at = found.present()
                corpus = self._load(snapshot, found, as_of=at)
            self.cache.put(replace(corpus, repaired=0) if corpus.repaired else corpus)  # told once
        return corpus

    def note_added(self, change: Change, versions: Sequence[Version], matrix: Int8) -> None:
        """Bring the cached corpus up to a change that only added statements, if it is there.

        Otherwise the next reader loads it.
        """
        subject = change.subject
        before = self.cache.get(subject.name, subject.data_key, change.revision - 1, change.at)
        if before is not None:
            self.cache.put(before.extended(change, versions, matrix))

    def statements(
        self, subject: str, as_of: int | None, known_at: int | None, *, include_retired: bool
    ) -> list[Statement]:
        """List what held at a valid time, as far as was recorded by a record time; None: now."""
        with self.record.snapshot() as snapshot:
            found = store.subject(snapshot, subject)
            if found is None:
                return []
            versions = store.as_known(
                snapshot,
                found,
                as_of=found.present() if as_of is None else as_of,
                known_at=known_at,
                include_retired=include_retired,
            )
        ordered = sorted(versions, key=lambda each: (each.statement.recorded_at, each.place))
        return [version.statement for version in ordered]

    def decisions(self, subject: str, as_of: int | None) -> list[Decision]:
        """List the decisions that stand at a valid time, oldest first; None: now."""
        with self.record.snapshot() as snapshot:
            found = store.subject(snapshot, subject)
            if found is None:
                return []
            return decisions.standing(
                snapshot, found, as_of=found.present() if as_of is None else as_of
            )

    def corpus_as_of(self, subject: str, as_of: int | None) -> Corpus:
        """Give what held at a valid time, as far as is known now, not kept; None: ``corpus``."""
        if as_of is None:
            return self.corpus(subject)
        with self.record.snapshot() as snapshot:
            found = store.subject(snapshot, subject)
            if found is None:
                return empty(subject, self.embedder.dimensions)
            return self._load(snapshot, found, as_of=as_of)

    def corpus_at_revision(
        self, subject: str, revision: int | None, as_of: int, embedder: str
    ) -> Corpus:
        """Give what held when a retrieval was recorded, with the vectors of its embedder.

        Without a revision: as far as is known now. It needs neither Chroma nor the model.
        """
        with self.record.snapshot() as snapshot:
            found = store.subject(snapshot, subject)
            if found is None:
                return empty(subject, self.embedder.dimensions)
            versions = store.as_known(snapshot, found, as_of=as_of, revision=revision)
            sealer = snapshot.sealer(found.data_key)
            if not versions:  # then its embedder may never have been used here
                matrix = np.zeros((0, self.embedder.dimensions), np.int8)
            else:
                dimensions, _ = vectors.registered(snapshot, embedder)
                held = self._read(snapshot, None, found, versions, embedder, dimensions)
                if held.absent and revision is None:
                    raise StorageError(
                        f"{len(held.absent)} statements have no vector of the model with which "
                        "this was retrieved, so they cannot be scored as they would have been"
                    )
                matrix = held.matrix
        revision = found.revision if revision is None else revision
        return Corpus(subject, revision, versions, matrix, found.data_key, sealer, at=as_of)

    def _load(self, snapshot: Snapshot, found: Subject, *, as_of: int) -> Corpus:
        versions = store.as_known(snapshot, found, as_of=as_of)
        ends = store.next_boundary(snapshot, found, after=as_of)
        held = self._vectors(snapshot, found, versions)
        if held.absent:
            snapshot.connection.rollback()  # the write below needs the database to itself
            self.embed_versions(held.absent)
            held = self._vectors(snapshot, found, versions)
        return Corpus(
            subject=found.name,
            revision=found.revision,
            versions=versions,
            matrix=held.matrix,
            data_key=found.data_key,
            sealer=snapshot.sealer(found.data_key),
            at=as_of,
            ends=ends,
            repaired=held.repaired,
        )

    def _vectors(
        self, snapshot: Snapshot, found: Subject, versions: Sequence[Version]
    ) -> vectors.Found:
        chroma = self.chroma if self._reads_chroma else None
        embedder = self.embedder
        held = self._read(snapshot, chroma, found, versions, embedder.digest, embedder.dimensions)
        if held.damaged:
            raise DamagedError(
                f"{len(held.damaged)} vectors in the database were altered; mend them with: "
                "holdfast doctor"
            )
        return held

    def _read(
        self,
        snapshot: Snapshot,
        chroma: ChromaVectors | None,
        found: Subject,
        versions: Sequence[Version],
        embedder: str,
        dimensions: int,
    ) -> vectors.Found:
        return vectors.read(
            snapshot,
            chroma,
            embedder=embedder,
            dimensions=dimensions,
            tenant=self.tenant,
            subject=found.name,
            sealer=snapshot.sealer(found.data_key),
            keys=[version.key for version in versions],
        )

    # Writing

    def embed(
        self, subject: str, drafts: Sequence[Draft], progress: Progress | None = None
    ) -> Embedded:
        """Embed drafts and put their vectors into Chroma, one beside the other.

        Vectors of drafts that are never written are orphans.

        Raises:
            InvalidInputError: a draft would end before it begins; nothing was embedded.
        """
        for draft in drafts:
            begin(draft, times.now())
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
        return self.embedded(
            np.concatenate(parts) if parts else np.zeros((0, self.embedder.dimensions), np.int8)
        )

    def embedded(self, matrix: Int8) -> Embedded:
        """Say of vectors that they are this embedder's."""
        return Embedded(self.embedder.digest, matrix)

    def quantised(self, texts: Sequence[str]) -> Int8:
        """Embed texts as they are kept: int8."""
        return quantise(self.embedder.embed(texts), self.embedder.scale)

    def register(self, tx: Transaction) -> None:
        """Note this embedder, in the transaction that writes vectors of it."""
        vectors.register(
            tx,
            embedder=self.embedder.digest,
            name=self.embedder.name,
            dimensions=self.embedder.dimensions,
            scale=self.embedder.scale,
        )

    def embed_versions(
        self, keys: Sequence[str], progress: Callable[[int], None] | None = None
    ) -> None:
        """Embed stored versions with this embedder, batch by batch, each durable at once.

        So an interrupted run goes on where it stopped.
        """
        for start in range(0, len(keys), EMBEDDING_BATCH):
            with self.record.snapshot() as snapshot:
                rows = store.read_texts(snapshot, keys[start : start + EMBEDDING_BATCH])
            matrix = self.quantised([row.text for row in rows])
            numbered = groupby(enumerate(rows), lambda each: each[1].subject)
            parts = [[i for i, _ in own] for _, own in numbered]
            for own in parts:
                if self.chroma is not None:
                    whose = (rows[own[0]].tenant, rows[own[0]].name)
                    own_keys = [rows[i].key for i in own]
                    self.chroma.put(self.embedder.digest, *whose, own_keys, matrix[own])
            self.record.transact(partial(self._save, rows=rows, matrix=matrix, parts=parts))
            if progress:
                progress(start + len(rows))

    def _save(
        self,
        tx: Transaction,
        rows: Sequence[store.Text],
        matrix: Int8,
        parts: Sequence[Sequence[int]],
    ) -> None:
        for own in parts:
            theirs = tx.of(rows[own[0]].tenant)
            self.register(theirs)
            store.save_anew(theirs, self.embedded(matrix[list(own)]), [rows[i] for i in own])

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
