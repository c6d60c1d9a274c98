"""Group commit: the writes of all threads that wait at one moment share one transaction.

A commit waits for the disk; with one a write, that wait bounds all writers together. Here
one thread runs the jobs of all, in the order in which they came, each behind a savepoint
(where there are several) so that one that fails undoes itself alone, and commits once. Each
caller waits until the commit is durable. It knows nothing of what a job writes.
"""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from sqlalchemy import Connection

from .errors import HoldfastError, StorageError

MOST_JOBS = 256
"""Jobs that share one transaction."""

Result = TypeVar("Result")
Transaction = Callable[[], AbstractContextManager[Connection]]


class _Job:
    """A caller's work, and what became of it."""

    __slots__ = ("abandoned", "done", "error", "result", "work")

    def __init__(self, work: Callable[[Connection], Any]) -> None:
        self.work = work
        self.done = threading.Event()
        self.abandoned = False
        self.result: Any = None
        self.error: BaseException | None = None


class GroupCommit:
    """Runs jobs in shared transactions, on a thread of its own that starts when needed."""

    def __init__(self, transaction: Transaction) -> None:
        """Take what opens a transaction that commits when its block ends."""
        self._transaction = transaction
        self._waiting: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._handing_over = threading.Lock()

    def run(self, work: Callable[[Connection], Result]) -> Result:
        """Run work in a transaction; give its result once that is durable.

        Args:
            work: writes on the connection it is given. It may be run together with the
                work of other threads, whose changes it sees. Whatever it raises undoes
                what it wrote, and is raised here.

        Raises:
            StorageError: it could not be made durable; nothing of it was written.
        """
        job = _Job(work)
        try:
            self._hand_over(job)
            job.done.wait()
        except BaseException:  # interrupted: if it has not begun, it never will
            job.abandoned = True
            raise
        if job.error is not None:
            raise job.error
        return job.result

    def close(self) -> None:
        """Finish what waits, and stop; a job that comes later starts another thread."""
        with self._handing_over:
            thread, self._thread = self._thread, None
            if thread is not None:
                self._waiting.put(None)
        if thread is not None:
            thread.join()

    def _hand_over(self, job: _Job) -> None:
        with self._handing_over:
            if self._thread is None:  # with a queue of its own: the last one may not be empty yet
                self._waiting = SimpleQueue()
                self._thread = threading.Thread(
                    target=self._work, args=(self._waiting,), name="holdfast-commit", daemon=True
                )
                self._thread.start()
            self._waiting.put(job)

    def _work(self, waiting: SimpleQueue[_Job | None]) -> None:
        last = False
        while not last:
            jobs, last = _next(waiting)
            if jobs:
                self._run(jobs)

    def _run(self, jobs: list[_Job]) -> None:
        try:
            with self._transaction() as connection:
                attempt = _attempt if len(jobs) > 1 else _attempt_alone
                for job in jobs:
                    if not job.abandoned:
                        attempt(connection, job)
        except BaseException as error:  # of the commit, or of the connection itself
            for job in jobs:
                job.error = job.error or _copied(error)
        finally:
            for job in jobs:
                job.done.set()


def _next(waiting: SimpleQueue[_Job | None]) -> tuple[list[_Job], bool]:
    """Wait for a job, and take those that wait behind it too; and whether they are the last."""
    job = waiting.get()
    jobs: list[_Job] = []
    while job is not None:
        jobs.append(job)
        if len(jobs) == MOST_JOBS:
            return jobs, False
        try:
            job = waiting.get_nowait()
        except Empty:
            return jobs, False
    return jobs, True


def _attempt_alone(connection: Connection, job: _Job) -> None:
    """Run the only job of a transaction: what it raises undoes all of that."""
    try:
        job.result = job.work(connection)
    except BaseException as error:
        job.error = error
        raise


def _attempt(connection: Connection, job: _Job) -> None:
    """Run a job behind a savepoint, straight on the driver: SQLAlchemy's cost as much again."""
    driver: Any = connection.connection
    cursor = driver.cursor()
    cursor.execute("SAVEPOINT job")
    try:
        job.result = job.work(connection)
    except BaseException as error:
        job.error = error
        try:
            cursor.execute("ROLLBACK TO SAVEPOINT job")
        except Exception:  # the database undid the whole transaction by itself
            raise error from None
    cursor.execute("RELEASE SAVEPOINT job")
    cursor.close()


def _copied(error: BaseException) -> BaseException:
    """Give each caller an error of its own: they are raised in several threads."""
    if isinstance(error, HoldfastError):
        return type(error)(*error.args)
    return StorageError(f"the write could not be made durable ({type(error).__name__})")
