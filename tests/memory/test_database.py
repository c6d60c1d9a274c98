"""Opening, migrating, transactions, and what errors say."""

import os
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from fakes import FakeEmbedder
from sqlalchemy import bindparam, insert, inspect, select, text
from sqlalchemy.exc import OperationalError

from holdfast import Holdfast, Settings
from holdfast.memory import store
from holdfast.memory.chroma import ChromaVectors
from holdfast.memory.database import SCHEMA_VERSION, Database
from holdfast.memory.errors import (
    ConfigurationError,
    DamagedError,
    LockedError,
    NewerVersionError,
    NotFoundError,
    ReadOnlyError,
    StorageError,
    StorageFullError,
)
from holdfast.memory.schema import metadata, subjects

SECRET = "I never eat nuts, and nobody may know"


def subject_row(name: str) -> dict[str, Any]:
    return {"tenant": "local", "name": name, "revision": 1, "changed_at": 1}


def opened(path: Path, **how: Any) -> Database:
    return Database(f"sqlite:///{path}", place="the test's folder", **how)


def test_every_connection_syncs_its_commits_and_holds_to_foreign_keys(database: Database) -> None:
    def pragmas(connection: Any) -> list[Any]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        return [connection.execute(text(f"PRAGMA {name}")).scalar() for name in names]

    with database.write() as first, database.read() as second:
        assert [pragmas(first), pragmas(second)] == [["wal", 2, 1]] * 2


def test_a_row_that_needs_another_is_refused(database: Database) -> None:
    with pytest.raises(StorageError), database.write() as connection:
        connection.execute(text("INSERT INTO decisions VALUES ('no statement', 'a', 'b', 'c')"))
    with database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM decisions")).scalar() == 0


def test_opening_again_migrates_nothing(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    opened(path).close()
    database = opened(path)
    with database.read() as connection:
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
        assert found == [SCHEMA_VERSION]
        assert inspect(connection).has_table("statements")
    database.close()


def test_closing_folds_the_log_back_into_one_file(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    database = opened(path)
    with database.write() as connection:
        connection.execute(insert(subjects), subject_row("ada"))
    assert (tmp_path / "test.db-wal").exists()
    database.close()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["test.db"]


def test_a_schema_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    opened(path).close()
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    for read_only in (False, True):
        url = f"{path.as_uri()}?mode=ro" if read_only else f"sqlite:///{path}"
        with pytest.raises(NewerVersionError, match=r"9999.*pip install --upgrade holdfast"):
            Database(url, place="the test's folder", read_only=read_only)


def test_a_database_of_an_older_version_is_not_migrated_read_only(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    sqlite3.connect(path).close()
    with pytest.raises(StorageError, match="open it once for writing"):
        Database(f"{path.as_uri()}?mode=ro", place="here", read_only=True)
    assert path.stat().st_size == 0


def test_read_only_reads_and_refuses_to_write(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    database = opened(path)
    with database.write() as connection:
        connection.execute(insert(subjects), subject_row("ada"))
    looking = Database(f"{path.as_uri()}?mode=ro", place="here", read_only=True)
    with looking.read() as connection:
        assert connection.execute(select(subjects.c.name)).scalars().all() == ["ada"]
    with pytest.raises(ReadOnlyError, match="without read_only"), looking.write():
        pass
    with pytest.raises(ReadOnlyError), looking.read() as connection:
        connection.execute(insert(subjects), subject_row("bo"))
    looking.close()
    database.close()


def test_a_file_that_is_no_database_is_damaged_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    path.write_bytes(b"these are no tables " * 300)
    with pytest.raises(DamagedError, match="restore it from a backup"):
        opened(path)
    assert path.read_bytes() == b"these are no tables " * 300


def test_a_place_without_a_folder_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(ReadOnlyError, match="make it writable"):
        opened(tmp_path / "missing" / "test.db")


def test_a_database_busy_in_another_process_is_an_error_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.memory.database.BUSY_TIMEOUT", 50)
    path = tmp_path / "test.db"
    database = opened(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LockedError, match="busy in another process"), database.write():
        pass
    other.execute("ROLLBACK")
    other.close()
    with database.write() as connection:
        connection.execute(insert(subjects), subject_row("ada"))
    database.close()


def test_a_read_sees_one_state_while_others_write(database: Database) -> None:
    with database.write() as connection:
        connection.execute(insert(subjects), subject_row("ada"))
    with database.read() as reading:
        assert reading.execute(select(subjects.c.name)).scalars().all() == ["ada"]
        with database.write() as connection:
            connection.execute(insert(subjects), subject_row("bo"))
        assert reading.execute(select(subjects.c.name)).scalars().all() == ["ada"]
    with database.read() as connection:
        assert len(connection.execute(select(subjects.c.name)).all()) == 2


ONE = select(subjects.c.name, subjects.c.revision).where(subjects.c.name == bindparam("called"))


def test_a_glance_sees_what_was_committed_last(database: Database) -> None:
    assert database.glance(ONE, {"called": "ada"}) is None
    with database.write() as connection:
        connection.execute(insert(subjects), [subject_row("ada"), subject_row("bo")])
        assert database.glance(ONE, {"called": "ada"}) is None
    for name in ("ada", "bo", "ada"):
        found = database.glance(ONE, {"called": name})
        assert found is not None
        assert tuple(found) == (name, 1)
    with database.write() as connection:  # a glance leaves nothing open that would hold it up
        connection.execute(subjects.update().values(revision=2))
    assert tuple(database.glance(ONE, {"called": "ada"}) or ()) == ("ada", 2)


def test_a_glance_that_fails_says_so_as_a_read_does(database: Database) -> None:
    with database.write() as connection:
        connection.execute(text("DROP TABLE subjects"))
    with pytest.raises(StorageError) as caught:
        database.glance(ONE, {"called": SECRET})
    assert "nuts" not in str(caught.value)


def test_writers_take_turns_and_lose_nothing(database: Database) -> None:
    failures: list[BaseException] = []

    def work(hand: int) -> None:
        try:
            for number in range(10):
                with database.write() as connection:
                    connection.execute(insert(subjects), subject_row(f"{hand} {number}"))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(hand,)) for hand in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with database.read() as connection:
        assert len(connection.execute(select(subjects.c.name)).all()) == 80


def test_a_failing_write_leaves_nothing_and_lets_the_next_one_in(database: Database) -> None:
    def fail() -> None:
        with database.write() as connection:
            connection.execute(insert(subjects), subject_row("ada"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    with database.write() as connection:
        assert connection.execute(select(subjects.c.name)).all() == []
        connection.execute(insert(subjects), subject_row("bo"))
    with database.read() as connection:
        assert connection.execute(select(subjects.c.name)).scalars().all() == ["bo"]


@pytest.mark.parametrize(
    "statement",
    [
        f"INSERT INTO subjects VALUES (1, '{SECRET}', NULL, 1, 1)",  # a constraint
        f"SELECT '{SECRET}' FROM no_such_table",  # an operation
        f"INSERT INTO subjects VALUES (:{SECRET.split()[0]}, 2)",  # a parameter that is missing
    ],
)
def test_no_error_carries_what_was_in_the_statement(database: Database, statement: str) -> None:
    with pytest.raises(StorageError) as caught, database.read() as connection:
        connection.execute(text(statement))
    error: BaseException | None = caught.value
    assert "nuts" not in str(error)
    assert error.__cause__ is None
    assert error.__suppress_context__


def test_the_parameters_of_a_failing_statement_are_hidden_from_every_traceback(
    database: Database,
) -> None:
    with database.write() as connection:
        connection.execute(insert(subjects), subject_row(SECRET))
    with pytest.raises(StorageError) as caught, database.write() as connection:
        connection.execute(insert(subjects), subject_row(SECRET))
    error: BaseException | None = caught.value
    while error is not None:
        assert "nuts" not in str(error)
        error = error.__context__


@pytest.mark.parametrize(
    ("said", "kind", "fix"),
    [
        ("database or disk is full", StorageFullError, "free some"),
        ("attempt to write a readonly database", ReadOnlyError, "make it writable"),
        ("database is locked", LockedError, "try again"),
        ("disk I/O error", StorageError, "failing disk"),
        ("something else", StorageError, "OperationalError"),
    ],
)
def test_what_sqlite_says_becomes_an_error_that_names_the_fix(
    database: Database, said: str, kind: type[StorageError], fix: str
) -> None:
    with pytest.raises(kind, match=fix) as caught, database.read():
        raise OperationalError(SECRET, {"text": SECRET}, sqlite3.OperationalError(said))
    assert type(caught.value) is kind
    assert "nuts" not in str(caught.value)


def test_a_sound_database_checks_clean_and_a_loose_row_is_found(
    database: Database, tmp_path: Path
) -> None:
    assert database.check() == []
    connection = sqlite3.connect(tmp_path / "test.db")
    with connection:
        connection.execute("INSERT INTO decisions VALUES ('lost', 'a', 'b', 'c')")
    connection.close()
    assert database.check() == ["a row of decisions has lost the row of statements that it needs"]


def test_a_damaged_page_is_found_by_the_check(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    database = opened(path)
    with database.write() as connection:
        connection.execute(insert(subjects), [subject_row(f"s {i}" * 40) for i in range(200)])
    database.close()
    content = bytearray(path.read_bytes())
    content[-4096 * 4 :] = os.urandom(4096 * 4)
    path.write_bytes(bytes(content))
    database = opened(path)
    found = database.check()
    assert found
    assert not any("nuts" in problem for problem in found)
    database.close()


@pytest.mark.parametrize("url", ["nonsense", "://", "nosuchdatabase://here/there"])
def test_what_is_no_database_url_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"postgresql\+psycopg://"):
        Database(url, place="the database server")


def test_a_missing_driver_is_an_error_that_names_the_pip_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'holdfast\[postgresql\]'"):
        Database("postgresql+psycopg://user:secret@127.0.0.1/none", place="the database server")


# PostgreSQL

POSTGRESQL = os.environ.get("HOLDFAST_TEST_POSTGRESQL_URL")


@pytest.fixture
def postgresql() -> Iterator[str]:
    """The URL of an empty PostgreSQL database, which is emptied again."""
    if not POSTGRESQL:
        pytest.skip("HOLDFAST_TEST_POSTGRESQL_URL names no PostgreSQL database to test on")
    yield POSTGRESQL
    database = Database(POSTGRESQL, place="the database server")
    with database.write() as connection:
        metadata.drop_all(connection)
        connection.execute(text("DROP TABLE alembic_version"))
    database.close()


def looking_at(url: str) -> closing[Database]:
    return closing(Database(url, place="the database server"))


def on_server(url: str, path: Path, tenant: str = "local") -> Holdfast:
    return Holdfast(
        database=Database(url, place="the database server"),
        chroma=ChromaVectors(folder=path / "chroma"),
        embedder=FakeEmbedder(),
        settings=Settings.load(path),
        tenant=tenant,
    )


def test_postgresql_has_the_same_schema_and_keeps_the_whole_record(
    postgresql: str, tmp_path: Path
) -> None:
    with on_server(postgresql, tmp_path / "one") as holdfast:
        with looking_at(postgresql) as database, database.read() as connection:
            assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        (nuts, walk) = holdfast.add_many("ada", ["I never eat nuts.", "I walk to work."])
        decision = holdfast.decide(
            "ada", situation="Two offers", choice="the small one", reason="calm", weighed=[nuts.id]
        )
        revised = holdfast.revise(nuts.id, "I never eat nuts or seeds.", reason="learnt")
        assert holdfast.retire(walk.id, reason="moved").reason == "moved"
        assert [s.version for s in holdfast.history(nuts.id)] == [1, 2]
        assert holdfast.statements("ada") == [decision.statement, revised]
        assert holdfast.decisions("ada") == [decision]
        before = holdfast.statements("ada", known_at=decision.statement.recorded_at)
        assert {s.text for s in before} >= {"I never eat nuts.", "I walk to work."}
        found = holdfast.retrieve("ada", "nuts and seeds")
        assert found.evidence_id is not None
        assert "seeds" in found.context
        assert holdfast.replay(found.evidence_id).same
        (proposal,) = holdfast.propose("ada", "I like trains.", source="model:some")
        assert holdfast.confirm(proposal.id).text == "I like trains."
        with on_server(postgresql, tmp_path / "two", tenant="other") as other:
            assert other.statements("ada") == []
            with pytest.raises(NotFoundError):
                other.history(nuts.id)
        report = holdfast.doctor()
        assert report.ok
        assert holdfast.doctor().findings == dict.fromkeys(report.findings, 0)
        assert holdfast.verify().checked == 1


def test_postgresql_loses_nothing_when_two_engines_begin_the_same_subjects_at_once(
    postgresql: str, tmp_path: Path
) -> None:
    failures: list[BaseException] = []
    together = threading.Barrier(2)

    def work(holdfast: Holdfast, hand: int) -> None:
        try:
            for number in range(12):
                together.wait(30)
                holdfast.add(f"subject {number}", f"I like thing {hand}.")
                holdfast.retrieve(f"subject {number}", "thing")
        except BaseException as error:
            failures.append(error)
            together.abort()

    engines = [on_server(postgresql, tmp_path / name) for name in ("one", "two")]
    threads = [threading.Thread(target=work, args=each[::-1]) for each in enumerate(engines)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for holdfast in engines:
        assert all(len(holdfast.statements(f"subject {n}")) == 2 for n in range(12))
        verification = holdfast.verify()
        assert (verification.ok, verification.checked) == (True, 24)
        holdfast.close()


def test_a_read_of_postgresql_sees_one_state_while_others_write(
    postgresql: str, tmp_path: Path
) -> None:
    with on_server(postgresql, tmp_path) as holdfast:
        (kept,) = holdfast.add("ada", "I walk to work.")
        with looking_at(postgresql) as database, database.read() as connection:
            assert store.latest(connection, "local", kept.id).statement == kept
            revised = holdfast.revise(kept.id, "I cycle to work.")
            assert store.latest(connection, "local", kept.id).statement == kept
            connection.rollback()
            assert store.latest(connection, "local", kept.id).statement == revised


def test_a_server_that_is_not_there_is_an_error_without_its_password() -> None:
    pytest.importorskip("psycopg", reason="needs: pip install 'holdfast[postgresql]'")
    with pytest.raises(StorageError) as caught:
        Database("postgresql+psycopg://user:secret@127.0.0.1:9/none", place="the server")
    assert "HOLDFAST_DATABASE_URL" in str(caught.value)
    assert "secret" not in str(caught.value)
