"""A data directory: made when missing, owned by one process at a time.

Embedded Chroma demands a single owner. The lock is the operating system's and ends
with the process, however it ends. ``owner.json`` beside it only says who holds it
(pid, and for long-lived owners the path of their socket); it is never taken as the lock.
"""

import json
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from .errors import DamagedError, LockedError, ReadOnlyError, StorageError, StorageFullError
from .places import OWNER_NAME, owner_of

DATABASE_NAME = "holdfast.db"
CHROMA_NAME = "chroma"
LOCK_NAME = "lock"
LEAST_WAIT = 0.2
"""Seconds for which even an owner that can be spoken to is waited for: it may have been
killed, and its successor have yet to put its own name down."""

FULL = "no space is left in {path}; free some, or choose another directory with --data"
READ_ONLY = (
    "{path} cannot be written to; make it writable for this user, or choose another "
    "directory with --data or HOLDFAST_DATA"
)
DISK_REFUSES = (
    "the disk refuses to read or write in {path}; look for a limit on the size of files "
    "(ulimit -f), a lost mount or a failing disk, then run: holdfast doctor"
)


def storage_error(error: BaseException, path: Path | str) -> StorageError:
    """Turn what the system or SQLite said into an error that names the fix."""
    return known_storage_error(error, path) or StorageError(
        f"the storage in {path} failed ({type(error).__name__}); look at the directory and its "
        "disk, run holdfast doctor, or choose another directory with --data"
    )


def known_storage_error(error: BaseException, path: Path | str) -> StorageError | None:
    """Do the same for what is known to stand behind certain words; None for all others."""
    told = getattr(error, "orig", None) or getattr(error, "strerror", None) or error
    said = str(told).lower()
    if any(words in said for words in ("is full", "disk full", "no space", "quota")):
        return StorageFullError(FULL.format(path=path))
    if any(words in said for words in ("readonly", "read-only", "permission denied")):
        return ReadOnlyError(READ_ONLY.format(path=path))
    if "unable to open" in said:
        return ReadOnlyError(READ_ONLY.format(path=path))
    if "locked" in said:
        return LockedError(f"the database in {path} is busy in another process; try again")
    if "could not decode to utf-8" in said:
        return DamagedError(
            f"a text in the database in {path} is no UTF-8: it was altered; restore the database "
            "from a backup"
        )
    if "i/o error" in said or "file too large" in said:
        return StorageError(DISK_REFUSES.format(path=path))
    return None


@contextmanager
def held(path: Path, timeout: float, what: str) -> Generator[None]:
    """Hold a lock file while the block runs.

    Args:
        path: of the file; made, with its folder, where it is missing.
        timeout: seconds to wait for another process.
        what: the other process would be doing, for the message.

    Raises:
        LockedError: another process still holds it.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(path, timeout=timeout, mode=0o600):
            yield
    except Timeout:
        raise LockedError(f"another process is {what} ({path}); try again") from None
    except OSError as error:
        raise storage_error(error, path.parent) from None


class DataDirectory:
    """The directory of one embedded installation, held until ``release``."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self._lock = FileLock(self.path / LOCK_NAME, mode=0o600)

    @property
    def database(self) -> Path:
        """The SQLite file: the system of record."""
        return self.path / DATABASE_NAME

    @property
    def chroma(self) -> Path:
        """Chroma's folder; it can be made again from the database."""
        return self.path / CHROMA_NAME

    def acquire(self, timeout: float) -> None:
        """Make the directory if it is missing, and own it.

        Args:
            timeout: seconds to wait for another owner; one that can be spoken to (a server)
                stays, and is hardly waited for.

        Raises:
            LockedError: another process still owns it; the message names its pid.
            ReadOnlyError, StorageFullError: it cannot be made or written to.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._lock.is_locked:
                self._wait(timeout)
            self._write_owner()
        except Timeout:
            raise LockedError(
                f"{self.path} is in use by another process ({self._owner_in_words()}); "
                "stop it, wait for it, or choose another directory with --data"
            ) from None
        except OSError as error:
            self._lock.release()
            if isinstance(error, (FileExistsError, NotADirectoryError)):
                raise StorageError(
                    f"{self.path} is a file; choose a directory with --data"
                ) from None
            raise storage_error(error, self.path) from None

    def release(self) -> None:
        """Give the directory back."""
        if self._lock.is_locked:
            (self.path / OWNER_NAME).unlink(missing_ok=True)
            self._lock.release()

    def announce(self, address: Path | None) -> None:
        """Tell other processes the socket at which the owner can be spoken to; None: no more."""
        self._write_owner({} if address is None else {"address": str(address)})

    def owner(self) -> dict[str, Any]:
        """Say who holds the directory: ``pid``, and ``address`` if it can be spoken to."""
        return owner_of(self.path)

    def _wait(self, timeout: float) -> None:
        began = time.monotonic()
        while True:
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                waited = time.monotonic() - began
                stays = waited >= LEAST_WAIT and "address" in self.owner()
                if stays or waited >= timeout:
                    raise
                time.sleep(0.02)
            else:
                return

    def _owner_in_words(self) -> str:
        pid = self.owner().get("pid")
        return f"pid {pid}" if isinstance(pid, int) else "its pid is not known"

    def _write_owner(self, more: dict[str, str] | None = None) -> None:
        path = self.path / OWNER_NAME
        beside = path.with_suffix(".new")  # so that nobody reads half of it
        beside.write_text(json.dumps({"pid": os.getpid(), **(more or {})}), encoding="utf-8")
        beside.replace(path)

    def read_only_uri(self) -> str:
        """Give the URI under which the database can be read without owning the directory.

        Raises:
            StorageError: there is no database to read.
        """
        try:
            exists = self.database.exists()
        except PermissionError:
            raise ReadOnlyError(
                f"{self.path} cannot be read by this user; make it readable, or choose another "
                "directory with --data or HOLDFAST_DATA"
            ) from None
        if not exists:
            raise StorageError(
                f"{self.path} holds no Holdfast data; add a statement first, or choose "
                "another directory with --data or HOLDFAST_DATA"
            )
        wal = self.database.with_name(DATABASE_NAME + "-wal")
        fixed = not os.access(self.path, os.W_OK) and not wal.exists()
        return f"{self.database.as_uri()}?mode=ro{'&immutable=1' if fixed else ''}"
