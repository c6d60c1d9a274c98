"""A data directory: made when missing, owned by one process at a time.

Embedded Chroma demands a single owner. The lock is the operating system's and ends
with the process, however it ends. ``owner.json`` beside it only says who holds it
(pid, and for long-lived owners their address); it is never taken as the lock.
"""

import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from filelock import FileLock, Timeout

from .errors import LockedError, ReadOnlyError, StorageError, StorageFullError

DATABASE_NAME = "holdfast.db"
CHROMA_NAME = "chroma"
LOCK_NAME = "lock"
OWNER_NAME = "owner.json"

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
            timeout: seconds to wait for another owner.

        Raises:
            LockedError: another process still owns it; the message names its pid.
            ReadOnlyError, StorageFullError: it cannot be made or written to.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._lock.is_locked:
                self._lock.acquire(timeout=timeout, poll_interval=0.02)
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

    def owner(self) -> dict[str, Any]:
        """Say who holds the directory: ``pid``, and ``address`` if it can be spoken to."""
        try:
            said = json.loads((self.path / OWNER_NAME).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return cast("dict[str, Any]", said) if isinstance(said, dict) else {}

    def _owner_in_words(self) -> str:
        pid = self.owner().get("pid")
        return f"pid {pid}" if isinstance(pid, int) else "its pid is not known"

    def _write_owner(self) -> None:
        path = self.path / OWNER_NAME
        path.write_text(json.dumps({"pid": os.getpid()}), encoding="utf-8")

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
