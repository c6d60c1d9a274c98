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
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from fakes import FakeEmbedder
from sqlalchemy import (
    Connection,
    MetaData,
    bindparam,
    create_engine,
    insert,
    inspect,
    select,
    text,
)
from sqlalchemy.exc import OperationalError

from holdfast import Holdfast, Settings
from holdfast.memory import decisions, ledger, proposals, store, vectors
from holdfast.memory.carry import carry
from holdfast.memory.chroma import ChromaVectors
from holdfast.memory.database import MIGRATIONS, SCHEMA_VERSION, Database
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
from holdfast.memory.keys import KeySource
from holdfast.memory.models import Weighed
from holdfast.memory.record import Record, Snapshot, installation_id, open_vault
from holdfast.memory.schema import metadata, unfinished

SECRET = "I never eat nuts, and nobody may know"


def row(name: str) -> dict[str, Any]:
    """A row of the one table that needs no other."""
    return {"key": name, "detail": "one"}


def opened(path: Path, **how: Any) -> Database:
    return Database(f"sqlite:///{path}", place="the test's folder", **how)


def test_every_connection_syncs_its_commits_and_holds_to_foreign_keys(database: Database) -> None:
    def pragmas(connection: Any) -> list[Any]:
        names = ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
        return [connection.execute(text(f"PRAGMA {name}")).scalar() for name in names]

    with database.write() as first, database.read() as second:
        assert [pragmas(first), pragmas(second)] == [["wal", 2, 1, 1]] * 2


def test_a_row_that_needs_another_is_refused(database: Database) -> None:
    with pytest.raises(StorageError), database.write() as connection:
        connection.execute(text("INSERT INTO decisions VALUES ('no statement', 'a')"))
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
        connection.execute(insert(unfinished), row("ada"))
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
        connection.execute(insert(unfinished), row("ada"))
    looking = Database(f"{path.as_uri()}?mode=ro", place="here", read_only=True)
    with looking.read() as connection:
        assert connection.execute(select(unfinished.c.key)).scalars().all() == ["ada"]
    with pytest.raises(ReadOnlyError, match="without read_only"), looking.write():
        pass
    with pytest.raises(ReadOnlyError, match="without read_only"):
        looking.transact(lambda connection: pytest.fail("it was run"))
    with pytest.raises(ReadOnlyError), looking.read() as connection:
        connection.execute(insert(unfinished), row("bo"))
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
        connection.execute(insert(unfinished), row("ada"))
    database.close()


def test_a_read_sees_one_state_while_others_write(database: Database) -> None:
    with database.write() as connection:
        connection.execute(insert(unfinished), row("ada"))
    with database.read() as reading:
        assert reading.execute(select(unfinished.c.key)).scalars().all() == ["ada"]
        with database.write() as connection:
            connection.execute(insert(unfinished), row("bo"))
        assert reading.execute(select(unfinished.c.key)).scalars().all() == ["ada"]
    with database.read() as connection:
        assert len(connection.execute(select(unfinished.c.key)).all()) == 2


ONE = select(unfinished).where(unfinished.c.key == bindparam("called"))
NOTE = insert(unfinished).values(key=bindparam("called"), detail=bindparam("what"))


def test_a_glance_sees_what_was_committed_last(database: Database) -> None:
    assert database.glance(ONE, {"called": "ada"}) is None
    with database.write() as connection:
        connection.execute(insert(unfinished), [row("ada"), row("bo")])
        assert database.glance(ONE, {"called": "ada"}) is None
    for name in ("ada", "bo", "ada"):
        found = database.glance(ONE, {"called": name})
        assert found is not None
        assert tuple(found) == (name, "one")
    with database.write() as connection:  # a glance leaves nothing open that would hold it up
        connection.execute(unfinished.update().values(detail="two"))
    assert tuple(database.glance(ONE, {"called": "ada"}) or ()) == ("ada", "two")


def test_a_glance_that_fails_says_so_as_a_read_does(database: Database) -> None:
    with database.write() as connection:
        connection.execute(text("DROP TABLE unfinished"))
    with pytest.raises(StorageError) as caught:
        database.glance(ONE, {"called": SECRET})
    assert "nuts" not in str(caught.value)


def test_a_quick_statement_is_a_part_of_its_transaction(database: Database) -> None:
    with database.write() as connection:
        for name in ("ada", "bo"):
            given = {"called": name, "what": "one"}
            assert database.quick(connection, NOTE, given) is None, "it gives no rows"
            found = database.quick(connection, ONE, {"called": name})
            assert tuple(found or ()) == (name, "one")
            assert database.glance(ONE, {"called": name}) is None, "not before it is durable"
        connection.rollback()
    with database.write() as connection:
        assert database.quick(connection, ONE, {"called": "ada"}) is None
        database.quick(connection, NOTE, {"called": "ada", "what": "two"})
    assert tuple(database.glance(ONE, {"called": "ada"}) or ()) == ("ada", "two")


@pytest.mark.parametrize("how", ["a constraint", "an operation"])
def test_a_quick_statement_that_fails_says_so_without_what_was_in_it(
    database: Database, how: str
) -> None:
    def work(connection: Connection) -> None:
        given = {"called": SECRET, "what": "one"}
        database.quick(connection, NOTE, given)
        if how == "an operation":
            connection.execute(text("DROP TABLE unfinished"))
        database.quick(connection, NOTE, given)

    def in_a_block() -> None:
        with database.write() as connection:
            work(connection)

    for write in (in_a_block, lambda: database.transact(work)):
        with pytest.raises(StorageError) as caught:
            write()
        error: BaseException | None = caught.value
        assert "nuts" not in str(error)
        assert error.__cause__ is None
        assert error.__suppress_context__
        assert database.glance(ONE, {"called": SECRET}) is None, "all of it was undone"


def test_what_was_transacted_is_durable_when_its_result_is_given(
    database: Database, tmp_path: Path
) -> None:
    def work(connection: Connection) -> str:
        connection.execute(insert(unfinished), row("ada"))
        return "done"

    assert database.transact(work) == "done"
    with closing(sqlite3.connect(tmp_path / "test.db")) as another:
        assert another.execute("SELECT key FROM unfinished").fetchall() == [("ada",)]


def test_what_fails_in_a_transaction_is_raised_as_it_was_and_undone(database: Database) -> None:
    class OwnError(Exception):
        pass

    def work(connection: Connection) -> None:
        connection.execute(insert(unfinished), row("ada"))
        raise OwnError

    with pytest.raises(OwnError):
        database.transact(work)
    with database.read() as connection:
        assert connection.execute(select(unfinished)).all() == []
    assert database.transact(lambda connection: connection.execute(select(unfinished)).all()) == []


def test_what_the_database_says_in_a_transaction_is_told_in_our_words(database: Database) -> None:
    with pytest.raises(StorageError, match="OperationalError") as caught:
        database.transact(lambda c: c.execute(text(f"SELECT '{SECRET}' FROM no_such_table")))
    assert "nuts" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_transaction_on_a_database_that_is_busy_says_so_and_the_next_one_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.memory.database.BUSY_TIMEOUT", 50)
    path = tmp_path / "test.db"
    database = opened(path)
    ran: list[str] = []

    def work(connection: Connection) -> None:
        connection.execute(insert(unfinished), row("ada"))
        ran.append("ada")

    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LockedError, match="busy in another process"):
            database.transact(work)
        other.execute("ROLLBACK")
    assert ran == []
    database.transact(work)
    assert ran == ["ada"]
    database.close()


def test_writes_in_blocks_and_in_transactions_take_turns_and_lose_nothing(
    database: Database,
) -> None:
    failures: list[BaseException] = []

    def block(name: str) -> None:
        with database.write() as connection:
            connection.execute(insert(unfinished), row(name))

    def transaction(name: str) -> None:
        database.transact(lambda connection: connection.execute(insert(unfinished), row(name)))

    def work(hand: int) -> None:
        try:
            for number in range(10):
                (block if hand % 2 else transaction)(f"{hand} {number}")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(hand,)) for hand in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with database.read() as connection:
        found = set(connection.execute(select(unfinished.c.key)).scalars())
    assert found == {f"{hand} {number}" for hand in range(8) for number in range(10)}


def test_writers_take_turns_and_lose_nothing(database: Database) -> None:
    failures: list[BaseException] = []

    def work(hand: int) -> None:
        try:
            for number in range(10):
                with database.write() as connection:
                    connection.execute(insert(unfinished), row(f"{hand} {number}"))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(hand,)) for hand in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with database.read() as connection:
        assert len(connection.execute(select(unfinished.c.key)).all()) == 80


def test_a_failing_write_leaves_nothing_and_lets_the_next_one_in(database: Database) -> None:
    def fail() -> None:
        with database.write() as connection:
            connection.execute(insert(unfinished), row("ada"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    with database.write() as connection:
        assert connection.execute(select(unfinished.c.key)).all() == []
        connection.execute(insert(unfinished), row("bo"))
    with database.read() as connection:
        assert connection.execute(select(unfinished.c.key)).scalars().all() == ["bo"]


@pytest.mark.parametrize(
    "statement",
    [
        f"INSERT INTO unfinished VALUES ('{SECRET}', NULL)",  # a constraint
        f"SELECT '{SECRET}' FROM no_such_table",  # an operation
        f"INSERT INTO unfinished VALUES (:{SECRET.split()[0]}, 2)",  # a parameter that is missing
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
        connection.execute(insert(unfinished), row(SECRET))
    with pytest.raises(StorageError) as caught, database.write() as connection:
        connection.execute(insert(unfinished), row(SECRET))
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
        ("Could not decode to UTF-8 column", DamagedError, "is no UTF-8: it was altered"),
        ("something else", StorageError, "OperationalError"),
    ],
)
def test_what_sqlite_says_becomes_an_error_that_names_the_fix(
    database: Database, said: str, kind: type[StorageError], fix: str
) -> None:
    driver = sqlite3.OperationalError(said)  # from ``quick``, past SQLAlchemy
    for error in (OperationalError(SECRET, {"text": SECRET}, driver), driver):
        with pytest.raises(kind, match=fix) as caught, database.read():
            raise error
        assert type(caught.value) is kind
        assert "nuts" not in str(caught.value)


def test_a_sound_database_checks_clean_and_a_loose_row_is_found(
    database: Database, tmp_path: Path
) -> None:
    assert database.check() == []
    connection = sqlite3.connect(tmp_path / "test.db")
    with connection:
        connection.execute("INSERT INTO decisions VALUES ('lost', 'a')")
    connection.close()
    assert database.check() == ["a row of decisions has lost the row of statements that it needs"]


def test_a_damaged_page_is_found_by_the_check(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    database = opened(path)
    with database.write() as connection:
        connection.execute(insert(unfinished), [row(f"s {i}" * 40) for i in range(200)])
    database.close()
    content = bytearray(path.read_bytes())
    content[-4096 * 4 :] = os.urandom(4096 * 4)
    path.write_bytes(bytes(content))
    database = opened(path)
    found = database.check()
    assert found
    assert not any("nuts" in problem for problem in found)
    database.close()


def in_files(folder: Path, what: str) -> bool:
    return any(what.encode() in path.read_bytes() for path in folder.glob("test.db*"))


@pytest.mark.parametrize("before", [False, True])
def test_a_purge_leaves_nothing_in_the_files_of_what_was_deleted(
    database: Database, tmp_path: Path, before: bool
) -> None:
    with database.write() as connection:
        connection.execute(insert(unfinished), [row(f"{SECRET} {i}" * 9) for i in range(200)])
        connection.execute(insert(unfinished), row("kept"))
    if before:  # by a version that did not overwrite what it deletes
        with closing(sqlite3.connect(tmp_path / "test.db", isolation_level=None)) as connection:
            connection.execute("PRAGMA secure_delete = OFF")
            connection.execute("DELETE FROM unfinished WHERE key != 'kept'")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    else:
        with database.write() as connection:
            connection.execute(unfinished.delete().where(unfinished.c.key != "kept"))
    assert in_files(tmp_path, "nuts"), "or a purge would have nothing to do"
    database.purge()
    assert not in_files(tmp_path, "nuts")
    with database.write() as connection:
        assert connection.execute(select(unfinished.c.key)).scalars().all() == ["kept"]
    assert database.check() == []


def test_a_purge_that_another_reader_holds_up_says_so_and_can_be_done_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.memory.database.BUSY_TIMEOUT", 50)
    database = opened(tmp_path / "test.db")
    with database.write() as connection:
        connection.execute(insert(unfinished), row(SECRET))
    with closing(sqlite3.connect(tmp_path / "test.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM unfinished").fetchone() == (1,)
        with database.write() as connection:
            connection.execute(unfinished.delete())
        with pytest.raises(LockedError, match="finish with: holdfast doctor"):
            database.purge()
        assert reader.execute("SELECT key FROM unfinished").fetchone() == (SECRET,)
        reader.execute("ROLLBACK")
    database.purge()
    assert not in_files(tmp_path, "nuts")
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
    engine = create_engine(POSTGRESQL)
    with engine.begin() as connection:
        everything = MetaData()
        everything.reflect(connection)
        everything.drop_all(connection)
    engine.dispose()


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
        assert holdfast.retire(walk.id, reason="moved").end_reason == "moved"
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
        (event,) = holdfast.evidence()
        assert event.id == found.evidence_id
        told = holdfast.audit.events(limit=None)[::-1]
        assert [event.type for event in told if event.type not in ("policy", "embedder")] == [
            "statement.put", "statement.put", "statement.put", "statement.supersede",
            "statement.retire", "retrieval", "proposal.put", "statement.put", "proposal.confirm",
        ]  # fmt: skip
        assert [event.index for event in told] == list(range(len(told)))
        verification = holdfast.verify()
        assert (verification.ok, verification.checked) == (True, len(told))


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
        types = [event.type for event in holdfast.audit.events(limit=None)]
        assert (types.count("statement.put"), types.count("retrieval")) == (24, 24)
        verification = holdfast.verify()
        assert (verification.ok, verification.checked) == (True, len(types))
        holdfast.close()


def test_a_read_of_postgresql_sees_one_state_while_others_write(
    postgresql: str, tmp_path: Path
) -> None:
    with on_server(postgresql, tmp_path) as holdfast:
        (kept,) = holdfast.add("ada", "I walk to work.")
        vault = holdfast._record.vault  # pyright: ignore[reportPrivateUsage]
        with looking_at(postgresql) as database, database.read() as connection:
            snapshot = Snapshot(connection, "local", vault, database)
            assert store.latest(snapshot, kept.id).statement == kept
            revised = holdfast.revise(kept.id, "I cycle to work.")
            assert store.latest(snapshot, kept.id).statement == kept
            connection.rollback()
            assert store.latest(snapshot, kept.id).statement == revised


# From schema 0001, on both


@pytest.fixture(params=["sqlite", "postgresql"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database with the schema 0001 and nothing in it."""
    url = f"sqlite:///{tmp_path / 'test.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql")
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    engine = create_engine(url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    engine.dispose()
    return url


OLD_ROWS: dict[str, list[dict[str, Any]]] = {
    "subjects": [{"key": 1, "tenant": "local", "name": "ada", "revision": 3, "changed_at": 30}],
    "statements": [
        {
            "key": key, "tenant": "local", "subject_key": 1, "id": id_, "version": version,
            "text": words, "equality": words.encode(), "kind": "value", "strength": "should",
            "scope": "topical", "contexts": "[]", "source": "subject", "reason": None,
            "valid_from": at, "valid_to": None, "recorded_at": at, "revision_from": at // 10,
            "place": 0, "retired_at": ended, "revision_to": ended and ended // 10,
            "ends_at": None, "end_reason": None,
        }
        for key, id_, version, words, at, ended in (
            ("k1", "st_a", 1, "I like tea.", 10, 20),
            ("k2", "st_a", 2, "I like green tea.", 20, None),
            ("k3", "st_b", 1, "Tea or coffee? Tea.", 30, None),
        )
    ],
    "embedders": [
        {"digest": "e" * 64, "name": "a", "dimensions": 4, "scale": 200, "first_used_at": 10}
    ],
    "vectors": [
        {"statement_key": key, "embedder": "e" * 64, "components": b"\1\2\3\4", "hash": b"h" * 32}
        for key in ("k1", "k2", "k3")
    ],
    "decisions": [{"statement_key": "k3", "situation": "s", "choice": "c", "reason": "r"}],
    "weighed": [{"decision_key": "k3", "position": 0, "statement_key": "k2"}],
    "proposals": [
        {
            "id": "pr_a", "tenant": "local", "subject_key": 1, "text": "I like milk.",
            "kind": "value", "strength": "should", "scope": "topical", "contexts": "[]",
            "source": "model:some", "status": "open", "proposed_at": 25, "decided_at": None,
            "statement_id": None,
        }
    ],
    "ledgers": [{"tenant": "local", "sequence": 1, "head": "f" * 64}],
    "evidence": [
        {
            "tenant": "local", "sequence": 1, "id": "ev_old", "type": "retrieval",
            "recorded_at": 40, "payload": b"{}", "previous": "0" * 64, "hash": "f" * 64,
        }
    ],
    "evidence_subjects": [{"tenant": "local", "subject": "ada", "sequence": 1, "position": 0}],
}  # fmt: skip


def check_schema_is_the_newest(database: Database) -> None:
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        for table in metadata.tables:
            found = inspect(connection)
            keys = [found.get_pk_constraint(table), *found.get_unique_constraints(table)]
            keys += found.get_foreign_keys(table)
            made = {c.name for c in metadata.tables[table].constraints}
            assert {key["name"] for key in keys} == made
        version = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        assert version == SCHEMA_VERSION


def test_a_database_of_the_first_schema_without_content_becomes_a_new_one(old: str) -> None:
    with looking_at(old) as database:
        check_schema_is_the_newest(database)
        assert len(installation_id(database)) == 32


def test_the_content_of_a_first_schema_is_put_aside_and_carried_into_the_ledger(
    old: str, tmp_path: Path
) -> None:
    engine = create_engine(old)
    with engine.begin() as connection:
        tables = MetaData()
        tables.reflect(connection)
        for name, rows in OLD_ROWS.items():
            connection.execute(insert(tables.tables[name]), rows)
    engine.dispose()
    with looking_at(old) as database:
        with database.read() as connection:
            aside = MetaData()
            aside.reflect(connection)
            for name, rows in OLD_ROWS.items():
                table = aside.tables["embedders" if name == "embedders" else f"before_{name}"]
                held = connection.execute(select(table)).mappings().all()
                assert sorted(map(repr, map(dict, held))) == sorted(map(repr, rows))
        vault = open_vault(database, KeySource(folder=tmp_path / "keys"))
        carry(database, vault)
        check_schema_is_the_newest(database)
        record = Record(database, vault, "local")
        with record.snapshot() as snapshot:
            found = store.subject(snapshot, "ada")
            assert found is not None
            assert (found.revision, found.changed_at) == (3, 30)
            history = store.history(snapshot, "st_a")
            assert [s.text for s in history] == ["I like tea.", "I like green tea."]
            (decision,) = decisions.standing(snapshot, found, as_of=50)
            assert (decision.id, decision.choice) == ("st_b", "c")
            assert decision.weighed == (Weighed("st_a", 2),)
            (proposal,) = proposals.of_subject(snapshot, "ada", None)
            assert (proposal.id, proposal.text) == ("pr_a", "I like milk.")
            evidence = ledger.entry(snapshot, "ev_old")
            assert evidence.imported
            assert evidence.subjects == ("ada",)
            held = vectors.load(
                snapshot, "e" * 64, ["k1", "k2", "k3"], snapshot.sealer(found.data_key)
            )
            assert [row is not None and row.tolist() for row in held.values()] == [[1, 2, 3, 4]] * 3
        # what comes after goes on from there
        added = record.transact(lambda tx: store.ensure_subject(tx, "bo"))
        assert added.key != found.key
        carry(database, vault)  # once done, there is nothing to carry
        check_schema_is_the_newest(database)


def test_a_database_of_the_first_schema_is_not_migrated_read_only(old: str) -> None:
    with pytest.raises(StorageError, match="open it once for writing"):
        Database(old, place="here", read_only=True)
    engine = create_engine(old)
    with engine.begin() as connection:
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        assert found == "0001"
        assert inspect(connection).has_table("evidence")
    engine.dispose()


def test_a_server_that_is_not_there_is_an_error_without_its_password() -> None:
    pytest.importorskip("psycopg", reason="needs: pip install 'holdfast[postgresql]'")
    with pytest.raises(StorageError) as caught:
        Database("postgresql+psycopg://user:secret@127.0.0.1:9/none", place="the server")
    assert "HOLDFAST_DATABASE_URL" in str(caught.value)
    assert "secret" not in str(caught.value)
