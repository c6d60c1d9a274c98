"""Vectors in SQL and Chroma together: what is lost or altered is found by hash when read."""

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from holdfast.memory import store, vectors
from holdfast.memory.chroma import ChromaVectors, collection_name
from holdfast.memory.database import Database
from holdfast.memory.errors import StorageError
from holdfast.retrieval.library import draft

EMBEDDER, OTHER = "1" * 64, "2" * 64
DIMENSIONS = 8


class Kept:
    """Three statements of one subject with their vectors, in both stores."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database, self.folder = database, folder
        self.chroma = ChromaVectors(folder=folder)
        self.matrix = np.random.default_rng(3).integers(-127, 128, (3, DIMENSIONS), np.int8)
        drafts = [
            draft(f"words {i}", kind="value", strength="should", scope="topical", source="subject")
            for i in range(3)
        ]
        self.keys = [each.key for each in drafts]
        self.chroma.put(EMBEDDER, "t", "ada", self.keys, self.matrix)
        with database.write() as connection:
            change = store.begin_change(connection, "t", "ada")
            store.write(connection, "t", change, drafts)
            for embedder in (EMBEDDER, OTHER):
                vectors.register(
                    connection, embedder=embedder, name="a", dimensions=DIMENSIONS, scale=200
                )
            vectors.save(connection, EMBEDDER, self.keys, self.matrix)

    def read(self, keys: list[str] | None = None, embedder: str = EMBEDDER) -> vectors.Found:
        return self._read(self.chroma, keys, embedder)

    def read_sql(self) -> vectors.Found:
        return self._read(None, None, EMBEDDER)

    def _read(
        self, chroma: ChromaVectors | None, keys: list[str] | None, embedder: str
    ) -> vectors.Found:
        with self.database.read() as connection:
            return vectors.read(
                connection,
                chroma,
                embedder=embedder,
                dimensions=DIMENSIONS,
                tenant="t",
                subject="ada",
                keys=self.keys if keys is None else keys,
            )

    def collection(self) -> Any:
        """Chroma's own collection, past everything that is tested here."""
        return self.chroma._collection(  # pyright: ignore[reportPrivateUsage]
            collection_name(EMBEDDER, "t", "ada"), create=False
        )

    def alter_sql(self, column: str, value: Any) -> None:
        connection = sqlite3.connect(self.folder.parent / "test.db")
        with connection:
            done = connection.execute(
                f"UPDATE vectors SET {column} = ? WHERE statement_key = ?", (value, self.keys[0])
            )
        connection.close()
        assert done.rowcount == 1


@pytest.fixture
def kept(database: Database, tmp_path: Path) -> Iterator[Kept]:
    kept = Kept(database, tmp_path / "chroma")
    yield kept
    kept.chroma.close()


def check_whole(kept: Kept, found: vectors.Found, repaired: int = 0) -> None:
    assert np.array_equal(found.matrix, kept.matrix)
    assert found.hashes == [vectors.digest(row) for row in kept.matrix]
    assert (found.absent, found.damaged, found.repaired) == ([], [], repaired)


def test_what_is_whole_is_read_as_it_was_written(kept: Kept) -> None:
    check_whole(kept, kept.read())
    check_whole(kept, kept.read_sql())
    turned = kept.read(kept.keys[::-1])
    assert np.array_equal(turned.matrix, kept.matrix[::-1])
    with kept.database.read() as connection:
        loaded = vectors.load(connection, EMBEDDER, [*kept.keys, "unknown"])
    assert {key: row.tolist() for key, row in loaded.items()} == dict(
        zip(kept.keys, kept.matrix.tolist(), strict=True)
    )


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
    assert found.hashes[1] == b""
    assert not found.matrix[1].any()
    found = kept.read(embedder=OTHER)
    assert (found.absent, found.repaired) == (kept.keys, 0)
    assert kept.read([]).matrix.shape == (0, DIMENSIONS)


@pytest.mark.parametrize("value", [b"\x01" * DIMENSIONS, b"\x01" * 3, b""])
def test_bytes_altered_in_sql_are_damaged_unless_chroma_has_them_whole(
    kept: Kept, value: bytes
) -> None:
    kept.alter_sql("components", value)
    check_whole(kept, kept.read())  # by the hash that was recorded, Chroma's are right
    assert kept.read_sql().damaged == [kept.keys[0]]
    kept.collection().delete(ids=kept.keys[:2])
    found = kept.read()
    assert found.damaged == [kept.keys[0]]
    assert found.repaired == 1
    assert np.array_equal(found.matrix[1:], kept.matrix[1:])
    held = kept.chroma.get(EMBEDDER, "t", "ada", kept.keys)
    assert sorted(held) == sorted(kept.keys[1:]), "what is damaged is not put back"


def test_a_hash_altered_in_sql_makes_its_vector_damaged(kept: Kept) -> None:
    kept.alter_sql("hash", b"\0" * 32)
    assert kept.read().damaged == kept.read_sql().damaged == [kept.keys[0]]


def test_only_the_bytes_that_match_the_hash_can_be_restored(kept: Kept) -> None:
    kept.alter_sql("components", b"\x01" * DIMENSIONS)
    with kept.database.write() as connection:
        vectors.restore(connection, EMBEDDER, kept.keys[0], kept.matrix[1])
    assert kept.read_sql().damaged == [kept.keys[0]]
    with kept.database.write() as connection:
        vectors.restore(connection, EMBEDDER, kept.keys[0], kept.matrix[0])
    check_whole(kept, kept.read_sql())


def test_a_vector_that_is_there_stays_when_another_is_saved(kept: Kept) -> None:
    with kept.database.write() as connection:
        vectors.save(connection, EMBEDDER, kept.keys, kept.matrix[::-1])
        vectors.save(connection, EMBEDDER, [], kept.matrix[:0])
    check_whole(kept, kept.read_sql())


def test_an_embedder_is_registered_once_and_one_never_used_is_named(kept: Kept) -> None:
    with kept.database.write() as connection:
        vectors.register(connection, embedder=EMBEDDER, name="b", dimensions=1, scale=1)
        assert vectors.registered(connection, EMBEDDER) == (DIMENSIONS, 200)
    with kept.database.read() as connection, pytest.raises(StorageError, match="never used"):
        vectors.registered(connection, "3" * 64)


def test_what_is_not_embedded_yet_is_listed_oldest_first(kept: Kept) -> None:
    with kept.database.write() as connection:
        assert vectors.unembedded(connection, EMBEDDER) == []
        assert sorted(vectors.unembedded(connection, OTHER)) == sorted(kept.keys)
        change = store.begin_change(connection, "other", "bo")
        new = draft("new", kind="value", strength="should", scope="topical", source="subject")
        store.write(connection, "other", change, [new])
        vectors.save(connection, OTHER, kept.keys[:1], kept.matrix[:1])
        listed = vectors.unembedded(connection, OTHER)
        assert sorted(listed[:2]) == sorted(kept.keys[1:])
        assert listed[2:] == [new.key]
        assert vectors.unembedded(connection, OTHER, limit=1) == listed[:1]


def test_a_key_belongs_to_the_collection_of_its_embedder_and_subject_alone(kept: Kept) -> None:
    own = collection_name(EMBEDDER, "t", "ada")
    with kept.database.read() as connection:
        assert vectors.belonging(connection, own, [*kept.keys, "unknown"]) == set(kept.keys)
        for foreign in (collection_name(OTHER, "t", "ada"), "holdfast-of-nobody"):
            assert vectors.belonging(connection, foreign, kept.keys) == set()
