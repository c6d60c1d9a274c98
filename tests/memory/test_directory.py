"""A data directory has one owner, found out by a lock that ends with its process."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import open_with
from fakes import FakeEmbedder

from holdfast import Holdfast
from holdfast.memory.directory import DataDirectory, known_storage_error, storage_error
from holdfast.memory.errors import LockedError, ReadOnlyError, StorageError, StorageFullError

OWNER = """
import sys, time
from pathlib import Path
from holdfast.memory.directory import DataDirectory
directory = DataDirectory(Path(sys.argv[1]))
directory.acquire(timeout=0)
print("owned", flush=True)
time.sleep(120)
"""


@contextmanager
def owned(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that owns a directory."""
    command = [sys.executable, "-c", OWNER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "owned\n"
            yield process
        finally:
            process.kill()


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that owns ``tmp_path / "data"``."""
    with owned(tmp_path / "data") as process:
        yield process


def test_a_directory_is_made_for_its_user_alone_and_names_its_owner(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path / "new" / "data")
    directory.acquire(timeout=0)
    assert directory.path.stat().st_mode & 0o777 == 0o700
    assert directory.owner() == {"pid": os.getpid()}
    assert directory.database.parent == directory.chroma.parent == directory.path
    directory.acquire(timeout=0)  # its own, again
    directory.release()
    assert directory.owner() == {}
    directory.release()  # not its own any more


def test_another_processs_directory_is_refused_with_its_pid_after_the_wait(
    tmp_path: Path, owner: subprocess.Popen[str]
) -> None:
    directory = DataDirectory(tmp_path / "data")
    for wait in (0.0, 0.4):
        began = time.monotonic()
        with pytest.raises(LockedError, match=rf"pid {owner.pid}\b.*--data"):
            directory.acquire(timeout=wait)
        assert wait <= time.monotonic() - began < wait + 2
    assert directory.owner() == {"pid": owner.pid}
    directory.release()
    assert directory.owner() == {"pid": owner.pid}, "who does not own it does not give it back"


def test_a_directory_is_free_once_its_owner_is_killed(
    tmp_path: Path, owner: subprocess.Popen[str]
) -> None:
    directory = DataDirectory(tmp_path / "data")
    owner.send_signal(signal.SIGKILL)
    directory.acquire(timeout=5)
    assert directory.owner() == {"pid": os.getpid()}
    directory.release()


def test_who_waits_gets_the_directory_when_its_owner_ends(
    tmp_path: Path, owner: subprocess.Popen[str]
) -> None:
    killer = threading.Timer(0.3, owner.kill)
    killer.start()
    directory = DataDirectory(tmp_path / "data")
    began = time.monotonic()
    directory.acquire(timeout=20)
    assert 0.1 < time.monotonic() - began < 10
    directory.release()
    killer.join()


def test_an_owner_file_alone_locks_nothing(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    for said in ('{"pid": 1}', "[1]", "{", ""):
        (tmp_path / "owner.json").write_text(said, encoding="utf-8")
        directory.acquire(timeout=0)
        assert json.loads((tmp_path / "owner.json").read_text(encoding="utf-8")) == {
            "pid": os.getpid()
        }
        directory.release()


def test_an_owner_that_did_not_say_who_it_is_is_still_refused(
    tmp_path: Path, owner: subprocess.Popen[str]
) -> None:
    (tmp_path / "data" / "owner.json").write_text('["garbled"]', encoding="utf-8")
    with pytest.raises(LockedError, match="its pid is not known"):
        DataDirectory(tmp_path / "data").acquire(timeout=0)


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_data_directory_that_is_a_file_is_said_to_be_one(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("words", encoding="utf-8")
    with pytest.raises(StorageError, match="is a file; choose a directory with --data"):
        DataDirectory(tmp_path / "file" / below).acquire(timeout=0)
    assert (tmp_path / "file").read_text(encoding="utf-8") == "words"


def test_an_owner_file_that_cannot_be_written_gives_the_lock_back(tmp_path: Path) -> None:
    (tmp_path / "owner.json").mkdir()
    directory = DataDirectory(tmp_path)
    with pytest.raises(StorageError):
        directory.acquire(timeout=0)
    (tmp_path / "owner.json").rmdir()
    other = DataDirectory(tmp_path)
    other.acquire(timeout=0)
    other.release()


def test_a_home_in_the_path_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert DataDirectory(Path("~/values")).path == tmp_path / "values"


def test_a_directory_without_data_cannot_be_opened_to_read(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="add a statement first"):
        DataDirectory(tmp_path / "none").read_only_uri()
    with pytest.raises(StorageError, match="holds no Holdfast data"):
        Holdfast.open(tmp_path / "none", read_only=True)
    assert not (tmp_path / "none").exists()


def test_the_record_can_be_read_while_another_process_owns_it(tmp_path: Path) -> None:
    path = tmp_path / "data # 100%?"  # what is special in a URI
    with open_with(FakeEmbedder(), path) as holdfast:
        (kept,) = holdfast.add("ada", "I never eat nuts.")
    with owned(path) as process:
        with pytest.raises(LockedError, match=f"pid {process.pid}"):
            open_with(FakeEmbedder(), path)
        with Holdfast.open(path, read_only=True) as looking:
            assert looking.statements("ada") == [kept]
            assert looking.history(kept.id) == [kept]
            assert looking.verify().ok


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(28, "No space left on device"), StorageFullError),
        (OSError(122, "Disk quota exceeded"), StorageFullError),
        (OSError(30, "Read-only file system"), ReadOnlyError),
        (PermissionError(13, "Permission denied", "/full/path"), ReadOnlyError),
        (RuntimeError("unable to open database file"), ReadOnlyError),
        (RuntimeError("database is locked"), LockedError),
        (OSError(27, "File too large"), StorageError),
        (OSError(5, "Input/output error"), StorageError),
    ],
)
def test_what_the_system_says_becomes_an_error_that_names_the_fix(
    error: Exception, kind: type[StorageError]
) -> None:
    told = storage_error(error, "/where")
    assert type(told) is kind
    assert "/where" in str(told)
    assert ";" in str(told), "what is wrong; what to do"


def test_what_is_not_known_is_named_by_its_kind_and_not_by_its_words() -> None:
    error = ValueError("I never eat nuts")
    assert known_storage_error(error, "/where") is None
    assert "ValueError" in str(storage_error(error, "/where"))
    assert "nuts" not in str(storage_error(error, "/where"))
