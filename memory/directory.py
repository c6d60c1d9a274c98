"""A data directory: made when missing, owned by one process at a time.

Embedded Chroma demands a single owner. The lock is the operating system's and ends
with the process, however it ends. ``owner.json`` beside it only says who holds it
(pid, and for long-lived owners their address); it is never taken as the lock.
"""

import json
import os
from pathlib import Path
from typing import Any

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


def storage_error(error: BaseException, path: Path | str) -> StorageError:
    """Turn what the system or SQLite said into an error that names the fix."""
    said = str(getattr(error, "orig", None) or error).lower()
    if "full" in said or "no space" in said or "quota" in said:
        return StorageFullError(FULL.format(path=path))
    if "readonly" in said or "read-only" in said or "permission denied" in said:
        return ReadOnlyError(READ_ONLY.format(path=path))
    if "unable to open" in said:
        return ReadOnlyError(READ_ONLY.format(path=path))
    if "locked" in said:
        return LockedError(f"the database in {path} is busy in another process; try again")
    return StorageError(f"the storage in {path} failed: {type(error).__name__}")


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
            return json.loads((self.path / OWNER_NAME).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    def _owner_in_words(self) -> str:
        pid = self.owner().get("pid")
        return f"pid {pid}" if pid else "its pid is not known"

    def _write_owner(self) -> None:
        path = self.path / OWNER_NAME
        path.write_text(json.dumps({"pid": os.getpid()}), encoding="utf-8")

    def read_only_uri(self) -> str:
        """Give the URI under which the database can be read without owning the directory.

        Raises:
            StorageError: there is no database to read.
        """
        if not self.database.exists():
            raise StorageError(
                f"{self.path} holds no Holdfast data; add a statement first, or choose "
                "another directory with --data or HOLDFAST_DATA"
            )
        wal = self.database.with_name(DATABASE_NAME + "-wal")
        fixed = not os.access(self.path, os.W_OK) and not wal.exists()
        return f"{self.database.as_uri()}?mode=ro{'&immutable=1' if fixed else ''}"
