"""Writes of many threads in shared transactions: each is durable, or undone by itself alone."""

import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, MetaData, create_engine, event, insert, select, text
from sqlalchemy.exc import OperationalError

from holdfast.memory.commits import GroupCommit
from holdfast.memory.database import Database
from holdfast.memory.errors import ReadOnlyError, StorageError, StorageFullError
from holdfast.memory.schema import unfinished

POSTGRESQL = os.environ.get("HOLDFAST_TEST_POSTGRESQL_URL")
PATIENCE = 30  # seconds; nothing here waits so long unless it is broken

Job = Callable[[Connection], Any]


@dataclass
class Outcome:
    """What became of a job, for its caller."""

    result: Any = None
    error: BaseException | None = None


class Commits:
    """Group commit on a real database; counts its commits and holds it up."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.group = GroupCommit(self._transaction)
        self.committed = 0
        self.refusing: BaseException | None = None
        """What every commit raises."""
        self.begins_with: BaseException | None = None
        """What every transaction raises before it begins."""
        event.listen(database.engine, "commit", self._count)

    @contextmanager
    def _transaction(self) -> Generator[Connection]:
        if self.begins_with is not None:
            raise self.begins_with
        with self.database.write() as connection:
            yield connection

    def _count(self, connection: Connection) -> None:
        if self.refusing is not None:
            raise self.refusing
        self.committed += 1

    def start(self, job: Job) -> tuple[threading.Thread, Outcome]:
        """Run a job for a thread of its own."""
        outcome = Outcome()

        def call() -> None:
            try:
                outcome.result = self.group.run(job)
            except BaseException as error:
                outcome.error = error

        thread = threading.Thread(target=call, daemon=True)  # one that hangs fails one test only
        thread.start()
        return thread, outcome

    def together(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Run jobs that wait at one moment, in this order; give what became of each."""
        with self.held():
            started = [self.start_waiting(job) for job in jobs]
        for thread, _ in started:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        return [outcome for _, outcome in started]

    @contextmanager
    def held(self) -> Generator[None]:
        """Keep the thread busy, with a job that writes nothing, while the block runs."""
        hold = Hold()
        thread, outcome = self.start(hold)
        hold.wait_begun()
        yield
        hold.release()
        thread.join(PATIENCE)
        assert (outcome.result, outcome.error) == ("held", None)

    def start_waiting(self, job: Job) -> tuple[threading.Thread, Outcome]:
        """Run a job for a thread of its own; come back once it waits."""
        before = self.waiting
        started = self.start(job)
        wait_until(lambda: self.waiting > before)
        return started

    @property
    def waiting(self) -> int:
        return self.group._waiting.qsize()  # pyright: ignore[reportPrivateUsage]

    def names(self) -> list[str]:
        """What is durable, sorted."""
        with self.database.read() as connection:
            return sorted(connection.execute(select(unfinished.c.key)).scalars())


class Hold:
    """A job that goes on until it is released."""

    def __init__(self) -> None:
        self._begun = threading.Event()
        self._released = threading.Event()

    def __call__(self, connection: Connection) -> str:
        self._begun.set()
        if not self._released.wait(PATIENCE):
            raise TimeoutError
        return "held"

    def wait_begun(self) -> None:
        assert self._begun.wait(PATIENCE)

    def release(self) -> None:
        self._released.set()


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.001)


def give_time(holds: Callable[[], bool]) -> None:
    """Wait for what makes a test tell more; it must pass without it too."""
    until = time.monotonic() + 2
    while not holds() and time.monotonic() < until:
        time.sleep(0.001)


def put(name: str) -> Job:
    def job(connection: Connection) -> str:
        connection.execute(insert(unfinished), {"key": name, "detail": ""})
        return name

    return job


def fail(name: str, error: BaseException) -> Job:
    """Write, and then raise."""

    def job(connection: Connection) -> None:
        put(name)(connection)
        raise error

    return job


@pytest.fixture(params=["sqlite", "postgresql"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database, of each kind that there is."""
    url = f"sqlite:///{tmp_path / 'anywhere.db'}"
    if request.param == "postgresql":
        if not POSTGRESQL:
            pytest.skip("HOLDFAST_TEST_POSTGRESQL_URL names no PostgreSQL database to test on")
        url = POSTGRESQL
    database = Database(url, place="the test's place")
    yield database
    database.close()
    if request.param == "postgresql":
        engine = create_engine(url)
        with engine.begin() as connection:
            everything = MetaData()
            everything.reflect(connection)
            everything.drop_all(connection)
        engine.dispose()


@pytest.fixture
def commits(anywhere: Database) -> Iterator[Commits]:
    commits = Commits(anywhere)
    yield commits
    commits.group.close()


@pytest.fixture
def on_sqlite(database: Database) -> Iterator[Commits]:
    commits = Commits(database)
    yield commits
    commits.group.close()


# Sharing


def test_jobs_that_wait_at_one_moment_share_one_commit(commits: Commits) -> None:
    names = [f"job {number}" for number in range(20)]
    outcomes = commits.together([put(name) for name in names])
    assert [(outcome.result, outcome.error) for outcome in outcomes] == [(n, None) for n in names]
    assert commits.names() == sorted(names)
    assert commits.committed == 2, "one for the job that held them up, one for all of them"


def test_a_commit_is_shared_by_a_bounded_number_of_jobs(
    commits: Commits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.memory.commits.MOST_JOBS", 4)
    outcomes = commits.together([put(f"job {number}") for number in range(10)])
    assert [outcome.error for outcome in outcomes] == [None] * 10
    assert len(commits.names()) == 10
    assert commits.committed == 1 + 3


def test_jobs_run_in_the_order_in_which_they_came_and_see_what_was_written_before(
    commits: Commits,
) -> None:
    def look(connection: Connection) -> list[str]:
        return sorted(connection.execute(select(unfinished.c.key)).scalars())

    outcomes = commits.together([put("a"), look, put("b"), look])
    assert [outcome.result for outcome in outcomes] == ["a", ["a"], "b", ["a", "b"]]
    assert commits.committed == 2


def test_a_job_alone_is_committed_at_once_and_nothing_is_committed_without_one(
    commits: Commits,
) -> None:
    assert commits.committed == 0
    assert commits.group.run(put("a")) == "a"
    assert commits.names() == ["a"]
    assert commits.committed == 1


def test_writers_in_many_threads_lose_nothing_and_get_their_own_results(
    commits: Commits,
) -> None:
    failures: list[BaseException] = []
    start = threading.Barrier(8)

    def work(hand: int) -> None:
        try:
            start.wait(PATIENCE)
            for number in range(25):
                name = f"{hand} {number}"
                assert commits.group.run(put(name)) == name
                with pytest.raises(ValueError, match=name):
                    commits.group.run(fail(f"not {name}", ValueError(name)))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(hand,)) for hand in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert set(commits.names()) == {f"{hand} {number}" for hand in range(8) for number in range(25)}
    assert commits.committed <= 400


# Jobs that fail


def test_a_failing_job_undoes_itself_alone_and_its_neighbours_stay(commits: Commits) -> None:
    own = ValueError("its own")
    outcomes = commits.together([put("a"), fail("b", own), put("c"), put("a"), put("d")])
    assert [outcome.result for outcome in outcomes] == ["a", None, "c", None, "d"]
    assert outcomes[1].error is own
    assert outcomes[3].error is not None, "the second a is refused by the database"
    assert [outcome.error for outcome in outcomes[::2]] == [None] * 3
    assert commits.names() == ["a", "c", "d"]
    assert commits.committed == 2


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_job_that_ends_its_thread_ends_that_of_its_caller_and_the_next_one_is_run(
    commits: Commits, kind: type[BaseException]
) -> None:
    here = commits.group.run(lambda _: threading.get_ident())
    assert here != threading.get_ident()
    with pytest.raises(kind):
        commits.group.run(fail("a", kind()))
    first, second, third = commits.together([put("b"), fail("c", kind()), put("d")])
    assert (first.error, third.error) == (None, None)
    assert type(second.error) is kind
    assert commits.group.run(lambda _: threading.get_ident()) == here
    assert commits.names() == ["b", "d"]


# Transactions that fail


def refused(commits: Commits, outcomes: Sequence[Outcome]) -> list[StorageError]:
    """The errors of callers of whom each got one of its own; nothing was written."""
    errors = [outcome.error for outcome in outcomes if isinstance(outcome.error, StorageError)]
    assert len(errors) == len(outcomes)
    assert len({id(error) for error in errors}) == len(errors), "they are raised in many threads"
    assert commits.names() == []
    return errors


def check_goes_on(commits: Commits) -> None:
    assert commits.group.run(put("later")) == "later"
    assert [outcome.error for outcome in commits.together([put("x"), put("y")])] == [None] * 2
    assert commits.names() == ["later", "x", "y"]


def test_a_commit_that_fails_is_an_error_of_its_own_for_every_caller_and_leaves_nothing(
    commits: Commits,
) -> None:
    def break_the_disk(_: Connection) -> None:
        full = sqlite3.OperationalError("database or disk is full")
        commits.refusing = OperationalError("COMMIT", {}, full)

    own = ValueError("its own")
    outcomes = commits.together([break_the_disk, put("a"), put("b"), fail("c", own), put("d")])
    assert outcomes.pop(3).error is own
    for error in refused(commits, outcomes):
        if commits.database.is_sqlite:
            assert type(error) is StorageFullError
            assert "free some" in str(error)
    assert commits.committed == 1, "that of the job that held them up"
    commits.refusing = None
    check_goes_on(commits)


def test_a_commit_that_sqlite_itself_refuses_is_one_too(on_sqlite: Commits) -> None:
    def lose(connection: Connection) -> None:
        connection.execute(text("PRAGMA defer_foreign_keys = ON"))
        connection.execute(text("INSERT INTO decisions VALUES ('no statement', 'a')"))

    refused(on_sqlite, on_sqlite.together([put("a"), lose, put("b")]))
    check_goes_on(on_sqlite)


@pytest.mark.parametrize(
    ("raised", "kind", "said"),
    [
        (ReadOnlyError("make it writable"), ReadOnlyError, "make it writable"),
        (RuntimeError("secret words"), StorageError, "could not be made durable (RuntimeError)"),
        (KeyboardInterrupt("secret words"), StorageError, "(KeyboardInterrupt)"),
    ],
)
def test_a_transaction_that_cannot_begin_is_an_error_that_every_caller_gets(
    commits: Commits, raised: BaseException, kind: type[StorageError], said: str
) -> None:
    ran: list[str] = []

    def job(_: Connection) -> None:
        ran.append("ran")

    with commits.held():
        started = [commits.start_waiting(job) for _ in range(3)]
        commits.begins_with = raised  # the one that holds them up has begun already
    for thread, _ in started:
        thread.join(PATIENCE)
    for error in refused(commits, [outcome for _, outcome in started]):
        assert type(error) is kind
        assert said in str(error)
        assert "secret" not in str(error)
    assert ran == []
    commits.begins_with = None
    check_goes_on(commits)


def fill_the_disk(commits: Commits) -> Job:
    """Write more than there is room for."""

    def leave_no_room(connection: Any, *_: Any) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 10}")

    def make_room(connection: Any, *_: Any) -> None:
        connection.execute("PRAGMA max_page_count = 1000000")

    event.listen(commits.database.engine, "checkout", leave_no_room)
    event.listen(commits.database.engine, "checkin", make_room)

    def job(connection: Connection) -> None:
        much = {"key": "much", "detail": "words " * 100_000}
        connection.execute(insert(unfinished), much)

    return job


def break_off(commits: Commits) -> Job:
    """Have SQLite roll the whole transaction back."""

    def job(connection: Connection) -> None:
        statement = "INSERT OR ROLLBACK INTO unfinished VALUES ('a', 'again')"
        connection.execute(text(statement))

    return job


@pytest.mark.parametrize("how", [fill_the_disk, break_off])
def test_what_sqlite_undid_by_itself_fails_for_all_and_later_jobs_are_run(
    on_sqlite: Commits, how: Callable[[Commits], Job]
) -> None:
    undone: list[bool] = []
    job = how(on_sqlite)

    def undo(connection: Connection) -> None:
        try:
            job(connection)
        finally:
            driver: Any = connection.connection.driver_connection
            undone.append(not driver.in_transaction)

    outcomes = on_sqlite.together([put("a"), put("b"), undo, put("c"), put("d")])
    assert undone == [True], "or this shows nothing"
    kinds = {type(outcome.error) for outcome in outcomes[:2] + outcomes[3:]}
    assert len(kinds) == 1
    (kind,) = kinds
    assert issubclass(kind, StorageError)  # pyright: ignore[reportArgumentType]
    assert (kind is StorageFullError) == (how is fill_the_disk)
    assert outcomes[2].error is not None
    assert len({id(outcome.error) for outcome in outcomes}) == 5
    assert on_sqlite.names() == []
    assert on_sqlite.committed == 1, "that of the job that held them up"
    check_goes_on(on_sqlite)


# Interrupts, and the end


def interrupt_when_it_waits(thread: int) -> None:
    """Interrupt the main thread, once it waits for its job, as Ctrl-C does."""

    def waits() -> bool:
        frame = sys._current_frames()[thread]
        names: list[str] = []
        while frame is not None and len(names) < 4:
            names.append(frame.f_code.co_name)
            frame = frame.f_back
        return names[0] == "wait" and "run" in names

    wait_until(waits)
    signal.pthread_kill(thread, signal.SIGINT)


@pytest.fixture
def heeding_interrupts() -> Iterator[None]:
    """Ctrl-C raises, also where the tests were started in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeding_interrupts")
def test_a_job_whose_caller_was_interrupted_is_not_run_if_it_waits_behind_others(
    commits: Commits,
) -> None:
    ran: list[str] = []
    main = threading.get_ident()
    with commits.held():
        waiting = commits.start_waiting(put("before"))
        helper = threading.Thread(target=interrupt_when_it_waits, args=(main,))
        helper.start()
        with pytest.raises(KeyboardInterrupt):
            commits.group.run(lambda _: ran.append("it was run"))
        helper.join(PATIENCE)
        after = commits.start_waiting(put("after"))
    for thread, outcome in (waiting, after):
        thread.join(PATIENCE)
        assert outcome.error is None
    assert commits.group.run(put("later")) == "later"
    assert ran == []
    assert commits.names() == ["after", "before", "later"]


@pytest.mark.usefixtures("heeding_interrupts")
def test_a_job_whose_caller_was_interrupted_is_not_run_if_its_group_has_begun_without_it(
    commits: Commits,
) -> None:
    ran: list[str] = []
    main = threading.get_ident()
    hold, first = Hold(), Hold()
    holding = commits.start(hold)
    hold.wait_begun()
    beginning = commits.start_waiting(first)  # its group is this, and the one interrupted

    def interrupt() -> None:
        wait_until(lambda: commits.waiting == 2)
        hold.release()
        first.wait_begun()
        interrupt_when_it_waits(main)

    helper = threading.Thread(target=interrupt)
    helper.start()
    with pytest.raises(KeyboardInterrupt):
        commits.group.run(lambda _: ran.append("it was run"))
    helper.join(PATIENCE)
    first.release()
    for thread, outcome in (holding, beginning):
        thread.join(PATIENCE)
        assert outcome.error is None
    assert commits.group.run(put("later")) == "later"
    assert ran == []


def test_closing_finishes_what_waits_and_ends_the_thread(commits: Commits) -> None:
    assert commits.group.run(lambda _: threading.current_thread().name) == "holdfast-commit"
    hold = Hold()
    holding = commits.start(hold)
    hold.wait_begun()
    started = [commits.start_waiting(put(f"job {number}")) for number in range(5)]
    own = [commits.start_waiting(fail("bad", ValueError("its own")))]
    durable: list[list[str]] = []

    def close() -> None:
        commits.group.close()
        durable.append(commits.names())

    closing = threading.Thread(target=close)
    closing.start()
    give_time(lambda: commits.waiting == 7)  # that there are no more waits behind them
    hold.release()
    for thread in (closing, *(thread for thread, _ in (holding, *started, *own))):
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert [outcome.result for _, outcome in started] == [f"job {number}" for number in range(5)]
    assert isinstance(own[0][1].error, ValueError)
    assert durable == [[f"job {number}" for number in range(5)]], "when it was closed"
    assert "holdfast-commit" not in [thread.name for thread in threading.enumerate()]
    commits.group.close()  # again, and where nothing was ever run
    GroupCommit(commits.database.write).close()


def test_a_job_that_comes_while_the_rest_is_finished_holds_nothing_up(commits: Commits) -> None:
    hold = Hold()
    holding = commits.start(hold)
    hold.wait_begun()
    closing = threading.Thread(target=commits.group.close, daemon=True)
    closing.start()
    give_time(lambda: commits.waiting == 1)  # that there are no more
    late, outcome = commits.start(put("late"))
    give_time(lambda: commits.waiting != 1 or not late.is_alive())  # it is taken, or refused
    hold.release()
    for thread in (closing, holding[0], late):
        thread.join(PATIENCE)
    assert not closing.is_alive()
    assert not late.is_alive()
    assert isinstance(outcome.error, StorageError) or commits.names() == ["late"]
