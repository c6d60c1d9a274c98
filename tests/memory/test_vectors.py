"""Vectors in SQL and Chroma together: what is lost or altered is found by hash when read."""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select, text

from holdfast.memory import ledger, store, vectors
from holdfast.memory.chroma import ChromaVectors, collection_name
from holdfast.memory.errors import StorageError
from holdfast.memory.record import Record, Transaction
from holdfast.memory.schema import vectors as vectors_table
from holdfast.memory.sealing import Sealer
from holdfast.memory.vectors import Embedded
from holdfast.retrieval.library import draft

EMBEDDER, OTHER = "1" * 64, "2" * 64
DIMENSIONS = 8


def register(tx: Transaction, embedder: str) -> None:
    vectors.register(tx, embedder=embedder, name="a", dimensions=DIMENSIONS, scale=200)


class Kept:
    """Three statements of one subject with their vectors, in both stores."""

    def __init__(self, record: Record, folder: Path) -> None:
        self.record, self.folder = record, folder
        self.chroma = ChromaVectors(folder=folder)
        self.matrix = np.random.default_rng(3).integers(-127, 128, (3, DIMENSIONS), np.int8)
        drafts = [
            draft(f"words {i}", kind="value", strength="should", scope="topical", source="subject")
            for i in range(3)
        ]
        self.keys = [each.key for each in drafts]
        self.chroma.put(EMBEDDER, "t", "ada", self.keys, self.matrix)

        def work(tx: Transaction) -> Sealer:
            register(tx, EMBEDDER)
            register(tx, OTHER)
            change = store.begin_change(tx, "ada")
            store.write(tx, change, drafts, Embedded(EMBEDDER, self.matrix))
            return tx.sealer(change.subject.data_key)

        self.sealer = record.transact(work)

    def read(self, keys: list[str] | None = None, embedder: str = EMBEDDER) -> vectors.Found:
        return self._read(self.chroma, keys, embedder)

    def read_sql(self) -> vectors.Found:
        return self._read(None, None, EMBEDDER)

    def _read(
        self, chroma: ChromaVectors | None, keys: list[str] | None, embedder: str
    ) -> vectors.Found:
        with self.record.snapshot() as snapshot:
            return vectors.read(
                snapshot,
                chroma,
                embedder=embedder,
                dimensions=DIMENSIONS,
                tenant="t",
                subject="ada",
                sealer=self.sealer,
                keys=self.keys if keys is None else keys,
            )

    def stored(self, column: str) -> list[Any]:
        """A column of the table, in the order of the keys."""
        with self.record.snapshot() as snapshot:
            rows = snapshot.execute(select(vectors_table)).mappings()
            found = {row["statement_key"]: row[column] for row in rows}
        return [found[key] for key in self.keys]

    def collection(self) -> Any:
        """Chroma's own collection, past everything that is tested here."""
        return self.chroma._collection(  # pyright: ignore[reportPrivateUsage]
            collection_name(EMBEDDER, "t", "ada"), create=False
        )

    def alter_sql(self, column: str, value: Any) -> None:
        """Write a value of any type in the place of the first vector's."""
        edit = text(f"UPDATE vectors SET {column} = :value WHERE statement_key = :key")
        with self.record.database.write() as connection:
            done = connection.execute(edit, {"value": value, "key": self.keys[0]})
        assert done.rowcount == 1

    def resealed(self, components: bytes, about: str | None = None) -> bytes:
        """What one who has the subject's key can put in the place of the first vector."""
        return self.sealer.seal(components, about or f"vector {self.keys[0]} {EMBEDDER[:16]}")


@pytest.fixture
def kept(record: Record, tmp_path: Path) -> Iterator[Kept]:
    kept = Kept(Record(record.database, record.vault, "t"), tmp_path / "chroma")
    yield kept
    kept.chroma.close()


def check_whole(kept: Kept, found: vectors.Found, repaired: int = 0) -> None:
    assert np.array_equal(found.matrix, kept.matrix)
    assert (found.absent, found.damaged, found.repaired) == ([], [], repaired)
    assert kept.stored("hash") == [kept.sealer.keyed_hash(row.tobytes()) for row in kept.matrix]


def test_what_is_whole_is_read_as_it_was_written(kept: Kept) -> None:
    check_whole(kept, kept.read())
    check_whole(kept, kept.read_sql())
    turned = kept.read(kept.keys[::-1])
    assert np.array_equal(turned.matrix, kept.matrix[::-1])
    with kept.record.snapshot() as snapshot:
        loaded = vectors.load(snapshot, EMBEDDER, [*kept.keys, "unknown"], kept.sealer)
    assert {key: row is not None and row.tolist() for key, row in loaded.items()} == dict(
        zip(kept.keys, kept.matrix.tolist(), strict=True)
    )


def test_neither_a_vector_nor_its_plain_hash_lies_in_sql_in_the_clear(
    kept: Kept, tmp_path: Path
) -> None:
    sealed, hashes = kept.stored("components"), kept.stored("hash")
    assert len({*sealed, *hashes}) == 6
    kept.record.database.close()
    content = b"".join(path.read_bytes() for path in tmp_path.glob("test.db*"))
    assert all(each in content for each in (*sealed, *hashes))
    for row in kept.matrix:
        assert row.tobytes() not in content
        assert vectors.digest(row) not in content
        assert vectors.digest(row) == hashlib.sha256(row.tobytes()).digest()


def test_the_ledger_keeps_the_embedder_and_the_hash_of_each_vector(kept: Kept) -> None:
    with kept.record.snapshot() as snapshot:
        put = ledger.entries(snapshot, types=["statement.put"])[::-1]
    assert [event.payload["vector"] for event in put] == [
        {"embedder": EMBEDDER, "sha256": vectors.digest(row).hex()} for row in kept.matrix
    ]


def test_a_vector_missing_in_chroma_is_put_back_once(kept: Kept) -> None:
    kept.collection().delete(ids=kept.keys[1:])
    check_whole(kept, kept.read(), repaired=2)
    check_whole(kept, kept.read())


@pytest.mark.parametrize("what", ["another vector", "fractions", "too large", "its neighbour"])
def test_a_vector_altered_in_chroma_is_put_back_once(kept: Kept, what: str) -> None:
    row = kept.matrix[1].astype(np.float32)
    wrong = {
        "another vector": row[::-1].copy(),
        "fractions": row + np.float32(0.25),
        "too large": row + np.float32(1000),
        "its neighbour": kept.matrix[2].astype(np.float32),  # stale: that of another version
    }[what]
    kept.collection().upsert(ids=[kept.keys[1]], embeddings=wrong[None])
    check_whole(kept, kept.read(), repaired=1)
    check_whole(kept, kept.read())


@pytest.mark.parametrize("open_", [True, False])
def test_a_chroma_folder_that_was_deleted_is_filled_again(kept: Kept, open_: bool) -> None:
    if not open_:
        kept.chroma.close()
    shutil.rmtree(kept.folder)
    check_whole(kept, kept.read(), repaired=3)
    check_whole(kept, kept.read())


def test_a_store_that_cannot_be_read_costs_no_vector(kept: Kept) -> None:
    kept.chroma.close()
    (kept.folder / "chroma.sqlite3").write_bytes(b"no database at all " * 1000)
    for _ in range(2):
        check_whole(kept, kept.read(), repaired=3)


def test_a_vector_that_was_never_made_is_absent_and_its_row_zero(kept: Kept) -> None:
    found = kept.read([kept.keys[0], "unknown"])
    assert found.absent == ["unknown"]
    assert not found.matrix[1].any()
    found = kept.read(embedder=OTHER)
    assert (found.absent, found.repaired) == (kept.keys, 0)
    assert kept.read([]).matrix.shape == (0, DIMENSIONS)


ALTERED = (
    "other bytes", "too short", "nothing", "a bit", "its neighbour's", "of another embedder",
    "another vector, resealed", "a shorter one, resealed", "a text", "a number",
)  # fmt: skip


def altered(kept: Kept, what: str) -> Any:
    own, neighbour, _ = kept.stored("components")
    return {
        "other bytes": b"\x01" * DIMENSIONS,
        "too short": b"\x01" * 3,
        "nothing": b"",
        "a bit": own[:-1] + bytes([own[-1] ^ 1]),
        "its neighbour's": neighbour,
        "of another embedder": kept.resealed(
            kept.matrix[0].tobytes(), f"vector {kept.keys[0]} {OTHER[:16]}"
        ),
        "another vector, resealed": kept.resealed(b"\x01" * DIMENSIONS),
        "a shorter one, resealed": kept.resealed(b"\x01" * 3),
        "a text": "words",
        "a number": 5,
    }[what]


@pytest.mark.parametrize("what", ALTERED)
def test_bytes_altered_in_sql_are_damaged_unless_chroma_has_them_whole(
    kept: Kept, what: str
) -> None:
    kept.alter_sql("components", altered(kept, what))
    check_whole(kept, kept.read())  # by the hash that was recorded, Chroma's are right
    assert kept.read_sql().damaged == [kept.keys[0]]
    assert not kept.read_sql().matrix[0].any(), "what is damaged is not given"
    kept.collection().delete(ids=kept.keys[:2])
    found = kept.read()
    assert found.damaged == [kept.keys[0]]
    assert found.repaired == 1
    assert np.array_equal(found.matrix[1:], kept.matrix[1:])
    held = kept.chroma.get(EMBEDDER, "t", "ada", kept.keys)
    assert sorted(held) == sorted(kept.keys[1:]), "what is damaged is not put back"
    with kept.record.snapshot() as snapshot:
        loaded = vectors.load(snapshot, EMBEDDER, kept.keys, kept.sealer)
    assert [loaded[key] is None for key in kept.keys] == [True, False, False]


@pytest.mark.parametrize("value", [b"\0" * 32, b"", "words", 5])
def test_a_hash_altered_in_sql_makes_its_vector_damaged(kept: Kept, value: Any) -> None:
    kept.alter_sql("hash", value)
    assert kept.read().damaged == kept.read_sql().damaged == [kept.keys[0]]


def test_the_plain_hash_of_other_bytes_in_place_of_the_keyed_one_makes_them_damaged(
    kept: Kept,
) -> None:
    kept.alter_sql("components", kept.resealed(b"\x01" * DIMENSIONS))
    kept.alter_sql("hash", hashlib.sha256(b"\x01" * DIMENSIONS).digest())
    kept.collection().upsert(ids=[kept.keys[0]], embeddings=np.ones((1, DIMENSIONS), np.float32))
    assert kept.read().damaged == kept.read_sql().damaged == [kept.keys[0]]


@pytest.mark.parametrize("whose", ["its neighbour's", "another embedder's"])
def test_a_whole_row_of_another_in_the_place_of_a_vector_is_damaged(kept: Kept, whose: str) -> None:
    key, embedder = kept.keys[1], EMBEDDER
    if whose == "another embedder's":
        key, embedder = kept.keys[0], OTHER
        others = Embedded(OTHER, kept.matrix[1:2])
        kept.record.transact(lambda tx: vectors.save(tx, others, [key], [kept.sealer]))
    here = vectors_table.c
    with kept.record.database.write() as connection:
        query = select(here.components, here.hash)
        other = connection.execute(
            query.where(here.statement_key == key, here.embedder == embedder)
        ).one()
        done = connection.execute(
            vectors_table.update()
            .where(here.statement_key == kept.keys[0], here.embedder == EMBEDDER)
            .values(components=other.components, hash=other.hash)
        )
    assert done.rowcount == 1
    assert kept.read().damaged == kept.read_sql().damaged == [kept.keys[0]]


def test_only_the_bytes_that_match_the_hash_can_be_restored(kept: Kept) -> None:
    def restored(row: int) -> bool:
        return kept.record.transact(
            lambda tx: vectors.restore(tx, EMBEDDER, kept.keys[0], kept.matrix[row], kept.sealer)
        )

    kept.alter_sql("components", b"\x01" * DIMENSIONS)
    assert not restored(1)
    assert kept.read_sql().damaged == [kept.keys[0]]
    assert restored(0)
    check_whole(kept, kept.read_sql())


def test_a_vector_that_is_there_stays_when_another_is_saved(kept: Kept) -> None:
    def work(tx: Transaction) -> None:
        turned = Embedded(EMBEDDER, kept.matrix[::-1])
        vectors.save(tx, turned, kept.keys, [kept.sealer] * 3)
        vectors.save(tx, Embedded(EMBEDDER, kept.matrix[:0]), [], [])

    kept.record.transact(work)
    check_whole(kept, kept.read_sql())


def test_vectors_read_from_sql_are_put_into_chroma_but_for_the_altered_ones(kept: Kept) -> None:
    kept.alter_sql("components", b"")
    kept.collection().delete(ids=kept.keys)
    with kept.record.snapshot() as snapshot:
        held = vectors.load(snapshot, EMBEDDER, kept.keys, kept.sealer)
    vectors.refill(kept.chroma, EMBEDDER, "t", "ada", held)
    got = kept.chroma.get(EMBEDDER, "t", "ada", kept.keys)
    assert {key: row.tolist() for key, row in got.items()} == dict(
        zip(kept.keys[1:], kept.matrix[1:].tolist(), strict=True)
    )
    vectors.refill(kept.chroma, EMBEDDER, "t", "nobody", {kept.keys[0]: None})
    assert kept.chroma.get(EMBEDDER, "t", "nobody", kept.keys) == {}


def test_an_embedder_is_registered_once_and_one_never_used_is_named(kept: Kept) -> None:
    def work(tx: Transaction) -> tuple[int, int]:
        vectors.register(tx, embedder=EMBEDDER, name="b", dimensions=1, scale=1)
        return vectors.registered(tx, EMBEDDER)

    assert kept.record.transact(work) == (DIMENSIONS, 200)
    with kept.record.snapshot() as snapshot:
        with pytest.raises(StorageError, match="never used"):
            vectors.registered(snapshot, "3" * 64)
        assert vectors.described(snapshot, "3" * 64) is None
        found = vectors.described(snapshot, EMBEDDER)
        assert found is not None
        assert isinstance(found.pop("first_used_at"), int)
        assert found == {
            "digest": EMBEDDER, "name": "a", "dimensions": DIMENSIONS, "scale": 200,
        }  # fmt: skip
        assert {each["digest"] for each in vectors.all_described(snapshot)} == {EMBEDDER, OTHER}


def test_an_embedder_is_an_event_of_the_ledger_when_it_is_another_than_last(kept: Kept) -> None:
    def told() -> list[str]:
        with kept.record.snapshot() as snapshot:
            noted = ledger.entries(snapshot, types=["embedder"])[::-1]
        return [event.payload["embedder"]["digest"] for event in noted]

    assert told() == [EMBEDDER, OTHER]
    for _ in range(2):
        kept.record.transact(lambda tx: register(tx, OTHER))
        assert told() == [EMBEDDER, OTHER]
    kept.record.transact(lambda tx: register(tx, EMBEDDER))
    assert told() == [EMBEDDER, OTHER, EMBEDDER]
    with kept.record.snapshot() as snapshot:
        assert snapshot.execute(text("SELECT count(*) FROM embedders")).scalar_one() == 2


def test_what_is_not_embedded_yet_is_listed_oldest_first(kept: Kept) -> None:
    new = draft("new", kind="value", strength="should", scope="topical", source="subject")
    others = Record(kept.record.database, kept.record.vault, "other")

    def add(tx: Transaction) -> None:
        register(tx, EMBEDDER)
        change = store.begin_change(tx, "bo")
        store.write(tx, change, [new], Embedded(EMBEDDER, kept.matrix[:1]))

    def embed_first(tx: Transaction) -> None:
        vectors.save(tx, Embedded(OTHER, kept.matrix[:1]), kept.keys[:1], [kept.sealer])

    with kept.record.snapshot() as snapshot:
        assert vectors.unembedded(snapshot, EMBEDDER) == []
        assert sorted(vectors.unembedded(snapshot, OTHER)) == sorted(kept.keys)
    others.transact(add)
    kept.record.transact(embed_first)
    with kept.record.snapshot() as snapshot:
        assert vectors.unembedded(snapshot, EMBEDDER) == []
        listed = vectors.unembedded(snapshot, OTHER)
        assert sorted(listed[:2]) == sorted(kept.keys[1:])
        assert listed[2:] == [new.key]
        assert vectors.unembedded(snapshot, OTHER, limit=1) == listed[:1]


def test_a_key_belongs_to_the_collection_of_its_embedder_and_subject_alone(kept: Kept) -> None:
    own = collection_name(EMBEDDER, "t", "ada")
    with kept.record.snapshot() as snapshot:
        assert vectors.belonging(snapshot, own, [*kept.keys, "unknown"]) == set(kept.keys)
        for foreign in (collection_name(OTHER, "t", "ada"), "holdfast-of-nobody"):
            assert vectors.belonging(snapshot, foreign, kept.keys) == set()
