"""Chroma by key: exact, and every failure of it a StorageError. Embedded, and a real server."""

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import FakeEmbedder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from servers import chroma_server, free_port

from holdfast import Holdfast, Settings
from holdfast.memory.chroma import COLLECTIONS, MOST_ROWS, ChromaVectors, collection_name, parts_of
from holdfast.memory.database import Database
from holdfast.memory.directory import DataDirectory
from holdfast.memory.errors import ConfigurationError, ReadOnlyError, StorageError

E1, E2 = "1" * 64, "2" * 64


@pytest.fixture
def chroma(tmp_path: Path) -> Iterator[ChromaVectors]:
    chroma = ChromaVectors(folder=tmp_path / "chroma")
    yield chroma
    chroma.close()


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChromaVectors]:
    chroma = ChromaVectors(folder=tmp_path_factory.mktemp("lasting") / "chroma")
    yield chroma
    chroma.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real Chroma server."""
    with chroma_server(tmp_path_factory.mktemp("server") / "chroma", free_port()) as url:
        yield url


def every_component() -> np.ndarray[Any, np.dtype[np.int8]]:
    """Three rows that hold every int8 from -127 to 127."""
    row = np.arange(-127, 128, dtype=np.int8)
    return np.stack([row, row[::-1], np.roll(row, 100)])


def check_exact(chroma: ChromaVectors) -> None:
    matrix, keys = every_component(), ["a", "b", "c"]
    chroma.put(E1, "t", "ada", keys, matrix)
    got = chroma.get(E1, "t", "ada", ["c", "unknown", "a", "b"])
    assert sorted(got) == keys
    assert all(got[key].dtype == np.int8 for key in keys)
    assert all(np.array_equal(got[key], row) for key, row in zip(keys, matrix, strict=True))


def test_every_int8_component_comes_back_exact(chroma: ChromaVectors) -> None:
    check_exact(chroma)
    chroma.close()  # and from the disk
    got = chroma.get(E1, "t", "ada", ["b"])
    assert np.array_equal(got["b"], every_component()[1])


def test_every_int8_component_comes_back_exact_from_a_server(server: str) -> None:
    chroma = ChromaVectors(url=server)
    check_exact(chroma)
    assert chroma.place == "the Chroma server"
    chroma.close()


@given(arrays.arrays(np.int8, (4, 16), elements=st.integers(-127, 127)))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_vectors_come_back_exact_and_later_ones_replace_them(
    lasting: ChromaVectors, matrix: np.ndarray[Any, np.dtype[np.int8]]
) -> None:
    lasting.put(E1, "t", "ada", list("abcd"), matrix)
    got = lasting.get(E1, "t", "ada", list("abcd"))
    assert np.array_equal(np.stack([got[key] for key in "abcd"]), matrix)


def test_what_was_never_put_is_left_out_also_where_there_is_no_collection(
    chroma: ChromaVectors,
) -> None:
    assert chroma.get(E1, "t", "ada", ["a"]) == {}
    assert list(chroma.keys_by_collection()) == []
    chroma.put(E1, "t", "ada", [], np.zeros((0, 4), np.int8))
    chroma.put(E1, "t", "ada", ["a"], np.ones((1, 4), np.int8))
    assert chroma.get(E1, "t", "ada", ["b"]) == {}
    assert chroma.get(E1, "t", "ada", []) == {}


def test_more_rows_than_chroma_takes_at_once_are_sent_in_parts(chroma: ChromaVectors) -> None:
    count = MOST_ROWS + 700
    matrix = np.random.default_rng(5).integers(-127, 128, (count, 8), np.int8)
    keys = [f"key {i}" for i in range(count)]
    chroma.put(E1, "t", "ada", keys, matrix)
    got = chroma.get(E1, "t", "ada", keys)
    assert all(np.array_equal(got[key], matrix[i]) for i, key in enumerate(keys))
    ((name, found),) = chroma.keys_by_collection()
    assert sorted(found) == sorted(keys)
    chroma.delete(name, keys[: MOST_ROWS + 1])
    ((_, found),) = chroma.keys_by_collection()
    assert sorted(found) == sorted(keys[MOST_ROWS + 1 :])
    assert [len(part) for part in parts_of(keys, MOST_ROWS)] == [MOST_ROWS, 700]


def test_subjects_and_embedders_are_spread_over_a_fixed_number_of_collections() -> None:
    names = {collection_name(E1, "t", f"subject {i}") for i in range(2000)}
    assert len(names) == COLLECTIONS
    assert not names & {collection_name(E2, "t", f"subject {i}") for i in range(2000)}
    spread = {(collection_name(E1, t, "ada")) for t in map(str, range(200))}
    assert len(spread) == COLLECTIONS, "tenants are spread too"
    assert collection_name(E1, "a", "bc") == collection_name(E1, "a", "bc")


def test_chroma_is_told_neither_texts_nor_names(chroma: ChromaVectors, tmp_path: Path) -> None:
    chroma.put(E1, "Tenantius", "Subjectina", ["k"], np.ones((1, 4), np.int8))
    chroma.close()
    content = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert b"holdfast-1111111111111111-" in content
    assert b"Tenantius" not in content
    assert b"Subjectina" not in content


def in_files(folder: Path, parts: Sequence[bytes]) -> set[bytes]:
    """Those of the parts that lie somewhere in the files of a folder."""
    content = b"".join(p.read_bytes() for p in folder.rglob("*") if p.is_file())
    return {part for part in parts if part in content}


def test_a_collection_that_was_dropped_is_gone_and_no_other(chroma: ChromaVectors) -> None:
    ada, other = (collection_name(embedder, "t", "ada") for embedder in (E1, E2))
    for embedder in (E1, E2):
        chroma.put(embedder, "t", "ada", ["a"], np.ones((1, 4), np.int8))
    chroma.drop([ada, "holdfast-of-nobody"])
    assert chroma.get(E1, "t", "ada", ["a"]) == {}
    assert [name for name, _ in chroma.keys_by_collection()] == [other]
    assert list(chroma.get(E2, "t", "ada", ["a"])) == ["a"]
    chroma.drop([])
    chroma.put(E1, "t", "ada", ["b"], np.ones((1, 4), np.int8))
    assert list(chroma.get(E1, "t", "ada", ["a", "b"])) == ["b"], "it can be begun anew"


@pytest.mark.parametrize("count", [300, 900])  # before and after it comes to be in the index
def test_a_purge_leaves_nothing_of_a_dropped_collection_in_the_files(
    chroma: ChromaVectors, tmp_path: Path, count: int
) -> None:
    ada = collection_name(E1, "t", "ada")
    another = next(n for n in map(str, range(1000)) if collection_name(E1, "t", n) == ada)
    matrix = np.random.default_rng(9).integers(-127, 128, (3, count, 16), np.int8)
    keys = [[f"{whose}-{i:04d}" for i in range(count)] for whose in ("gone", "with", "apart")]
    chroma.put(E1, "t", "ada", keys[0], matrix[0])
    chroma.put(E1, "t", another, keys[1], matrix[1])  # in the same collection
    chroma.put(E2, "t", "bo", keys[2], matrix[2])
    rows = [row.astype(np.float32).tobytes() for row in matrix[0]]
    secrets = [*rows, *(key.encode() for key in keys[0])]
    folder = tmp_path / "chroma"
    assert in_files(folder, secrets) == set(secrets)
    indexed = any(rows[0] in path.read_bytes() for path in folder.rglob("data_level0.bin"))
    assert indexed == (count == 900)
    chroma.drop([ada])
    chroma.put(E1, "t", another, keys[1], matrix[1])
    assert in_files(folder, rows), "or a purge would have nothing to do"
    assert in_files(folder, secrets[count:])
    assert chroma.purge()
    assert in_files(folder, secrets) == set()
    for embedder, subject, number in ((E1, another, 1), (E2, "bo", 2)):
        got = chroma.get(embedder, "t", subject, keys[number])
        assert all(np.array_equal(got[k], matrix[number][i]) for i, k in enumerate(keys[number]))
    chroma.put(E1, "t", "ada", ["new"], matrix[0][:1])  # and it goes on
    assert np.array_equal(chroma.get(E1, "t", "ada", ["new"])["new"], matrix[0][0])


def test_a_purge_removes_what_was_put_aside_and_needs_no_folder(tmp_path: Path) -> None:
    chroma = ChromaVectors(folder=tmp_path / "chroma")
    check_exact(chroma)
    assert chroma.start_over()
    assert (tmp_path / "chroma.damaged").exists()
    assert chroma.purge()
    assert not (tmp_path / "chroma.damaged").exists()
    check_exact(chroma)
    chroma.close()


def test_the_files_of_a_server_are_not_purged(server: str) -> None:
    chroma = ChromaVectors(url=server)
    chroma.put(E2, "t", "to be dropped", ["a"], np.ones((1, 4), np.int8))
    chroma.drop([collection_name(E2, "t", "to be dropped")])
    assert chroma.get(E2, "t", "to be dropped", ["a"]) == {}
    assert not chroma.purge(), "they are its operator's"
    chroma.close()


def test_a_file_that_cannot_be_purged_is_a_storage_error(
    chroma: ChromaVectors, tmp_path: Path
) -> None:
    check_exact(chroma)
    chroma.close()
    (tmp_path / "chroma" / "chroma.sqlite3").write_bytes(b"no database at all " * 1000)
    with pytest.raises(StorageError):
        chroma.purge()


@pytest.mark.parametrize("wrong", [0.5, 128.0, -300.0, 1e30])
def test_a_vector_that_is_no_int8_any_more_is_left_out(chroma: ChromaVectors, wrong: float) -> None:
    chroma.put(E1, "t", "ada", ["a", "b"], np.ones((2, 4), np.int8))
    collection = chroma._collection(  # pyright: ignore[reportPrivateUsage]
        collection_name(E1, "t", "ada"), create=False
    )
    collection.upsert(ids=["a"], embeddings=np.array([[1, wrong, 1, 1]], np.float32))
    assert list(chroma.get(E1, "t", "ada", ["a", "b"])) == ["b"]


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_component_that_is_no_number_is_left_out(wrong: float) -> None:
    class Collection:
        """What a damaged index might give; Chroma itself refuses to store it."""

        def get(self, *, ids: list[str], include: list[str]) -> dict[str, Any]:
            return {"ids": ids, "embeddings": np.array([[1, wrong], [1, 2]], np.float32)}

    chroma = ChromaVectors(folder=Path("nowhere"))
    name = collection_name(E1, "t", "ada")
    chroma._collections[name] = Collection()  # pyright: ignore[reportPrivateUsage]
    assert list(chroma.get(E1, "t", "ada", ["a", "b"])) == ["b"]


def test_collections_of_others_in_the_same_store_are_left_alone(server: str) -> None:
    import chromadb

    port = int(server.rpartition(":")[2])
    client = chromadb.HttpClient(host="127.0.0.1", port=port)
    client.get_or_create_collection("somebody-elses", embedding_function=None)
    chroma = ChromaVectors(url=server)
    chroma.put(E2, "t", "ada", ["a"], np.ones((1, 4), np.int8))
    names = [name for name, _ in chroma.keys_by_collection()]
    assert "somebody-elses" not in names
    assert collection_name(E2, "t", "ada") in names
    assert not chroma.start_over(), "a server's data is its operator's"
    chroma.close()


def test_a_deleted_folder_is_made_anew(chroma: ChromaVectors, tmp_path: Path) -> None:
    import shutil

    check_exact(chroma)
    shutil.rmtree(tmp_path / "chroma")  # while it is open
    assert chroma.get(E1, "t", "ada", ["a"]) == {}
    check_exact(chroma)
    chroma.close()
    shutil.rmtree(tmp_path / "chroma")
    assert chroma.get(E1, "t", "ada", ["a"]) == {}
    check_exact(chroma)


def test_garbage_is_a_storage_error_and_starting_over_puts_it_aside(tmp_path: Path) -> None:
    folder = tmp_path / "chroma"
    chroma = ChromaVectors(folder=folder)
    check_exact(chroma)
    chroma.close()
    for round_ in range(2):
        (folder / "chroma.sqlite3").write_bytes(b"no database at all " * 1000)
        for _ in range(2):  # a failed start does not stick
            with pytest.raises(StorageError, match="mend the store with: holdfast doctor"):
                chroma.get(E1, "t", "ada", ["a"])
        with pytest.raises(StorageError):
            list(chroma.keys_by_collection())
        assert chroma.start_over()
        aside = folder.with_name("chroma.damaged") / "chroma.sqlite3"
        assert aside.read_bytes().startswith(b"no database at all"), round_
        check_exact(chroma)
        chroma.close()
    assert ChromaVectors(folder=tmp_path / "never made").start_over()


def test_a_store_that_was_made_read_only_says_so(chroma: ChromaVectors, tmp_path: Path) -> None:
    check_exact(chroma)
    (name,) = [name for name, _ in chroma.keys_by_collection()]

    class Refusing:
        """A collection on a disk that turned read-only."""

        def upsert(self, **_: Any) -> None:
            raise RuntimeError("error returned from database: attempt to write a readonly database")

    chroma._collections[name] = Refusing()  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(ReadOnlyError, match="make it writable"):
        chroma.put(E1, "t", "ada", ["a"], np.ones((1, 255), np.int8))
    check_exact(chroma)  # it was opened anew


def test_an_interrupt_is_not_taken_for_a_failure_of_the_store(chroma: ChromaVectors) -> None:
    check_exact(chroma)

    class Interrupted:
        def get(self, **_: Any) -> None:
            raise KeyboardInterrupt

    name = collection_name(E1, "t", "ada")
    chroma._collections[name] = Interrupted()  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(KeyboardInterrupt):
        chroma.get(E1, "t", "ada", ["a"])


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000",
        "ftp://here",
        "http://",
        "",
        "http://here:99999",
        "http://[::1",
        "http://h:x",
    ],
)
def test_a_url_that_is_none_is_a_configuration_error_that_shows_the_form(url: str) -> None:
    chroma = ChromaVectors(url=url)
    with pytest.raises(ConfigurationError, match="must be like http://localhost:8000"):
        chroma.get(E1, "t", "ada", ["a"])
    with pytest.raises(ConfigurationError):
        chroma.open()


def on_server(url: str, path: Path) -> Holdfast:
    directory = DataDirectory(path)
    directory.acquire(timeout=0)
    return Holdfast(
        database=Database(f"sqlite:///{directory.database}", place=str(path)),
        chroma=ChromaVectors(url=url),
        embedder=FakeEmbedder(),
        settings=Settings.load(path, chroma_url=url),
        tenant="local",
        directory=directory,
    )


def test_a_server_by_setting_holds_the_vectors_and_no_folder_is_made(
    server: str, tmp_path: Path
) -> None:
    path = tmp_path / "data"
    with Holdfast.open(path, settings=Settings.load(path, chroma_url=server)) as holdfast:
        (kept,) = holdfast.add("ada", "I never eat nuts.")
        assert [c.statement for c in holdfast.retrieve("ada", "nuts").injected] == [kept]
        assert holdfast.doctor().ok
    assert not (path / "chroma").exists()
    with Holdfast.open(path, settings=Settings.load(path, chroma_url=server)) as holdfast:
        found = holdfast.retrieve("ada", "nuts", record=False)
        assert [c.statement for c in found.injected] == [kept]
        assert found.repaired == 0


def test_a_server_that_is_down_stores_nothing_and_costs_no_retrieval(tmp_path: Path) -> None:
    port, path = free_port(), tmp_path / "data"
    with chroma_server(tmp_path / "server", port) as url, on_server(url, path) as holdfast:
        (kept,) = holdfast.add("ada", "I never eat nuts.")
        asked = holdfast.retrieve("ada", "nuts")
    with on_server(url, path) as holdfast:  # now nobody answers there
        for write in (
            lambda: holdfast.add("ada", "I walk to work."),
            lambda: holdfast.revise(kept.id, "I never eat seeds."),
            lambda: holdfast.decide("ada", situation="Two", choice="one", reason="less"),
        ):
            with pytest.raises(StorageError, match="HOLDFAST_CHROMA_URL") as caught:
                write()
            assert "walk" not in str(caught.value)
        assert holdfast.statements("ada") == holdfast.history(kept.id) == [kept]
        assert holdfast.decisions("ada") == []
        found = holdfast.retrieve("ada", "nuts", record=False)
        assert found.context == asked.context, "SQL is the truth"
        report = holdfast.doctor()
        assert not report.ok
        assert "HOLDFAST_CHROMA_URL" in report.problems[0]
        with chroma_server(tmp_path / "server", port):  # it is back
            assert holdfast.add("ada", "I walk to work.").new
            assert holdfast.doctor().ok
            assert holdfast.doctor().findings == dict.fromkeys(holdfast.doctor().findings, 0)


def test_a_server_that_lost_its_data_is_filled_again_from_sql(tmp_path: Path) -> None:
    port, path = free_port(), tmp_path / "data"
    with chroma_server(tmp_path / "one", port) as url, on_server(url, path) as holdfast:
        holdfast.add_many("ada", ["I never eat nuts.", "I walk to work."])
    with chroma_server(tmp_path / "two", port) as url, on_server(url, path) as holdfast:
        report = holdfast.doctor()
        assert report.mended["missing in Chroma"] == 2
        assert report.ok
        assert not any(holdfast.doctor().findings.values())


def test_vectors_lie_in_sqlite_as_chroma_says(chroma: ChromaVectors, tmp_path: Path) -> None:
    """``_notice_loss`` and the doctor's tests rely on where the embedded store keeps its file."""
    check_exact(chroma)
    connection = sqlite3.connect(tmp_path / "chroma" / "chroma.sqlite3")
    (count,) = connection.execute("SELECT count(*) FROM collections").fetchone()
    connection.close()
    assert count == 1
