"""A disk that is full or read-only, a directory that is held, newer or damaged.

Each gives an error that names the fix, loses nothing that was acknowledged, and leaves
nothing half there; once the cause is gone the same engine goes on.
"""

import ctypes
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import open_with
from fakes import FakeEmbedder
from sqlalchemy import event, text
from test_faults import check_doctor_mends, check_nothing_half_there

from holdfast import Holdfast, Settings
from holdfast.memory.database import Database
from holdfast.memory.errors import (
    ConfigurationError,
    DamagedError,
    LockedError,
    NewerVersionError,
    ReadOnlyError,
    StorageError,
    StorageFullError,
)
from holdfast.retrieval.embedder import MODEL_DIRECTORY, BundledEmbedder

HOLDFAST = Path(sys.executable).with_name("holdfast")
TESTS = Path(__file__).parent
EVENING = "I never schedule anything on the evening of day {}, the children come first. "


def evening(day: object) -> str:
    return EVENING.format(day) * 6


def until_refused(write: Callable[[int], Any], most: int = 2000) -> tuple[list[Any], StorageError]:
    """Write until it is refused; give what was acknowledged, and the refusal."""
    done: list[Any] = []
    for number in range(most):
        try:
            done.append(write(number))
        except StorageError as error:
            return done, error
    pytest.fail("nothing was refused")


def check_exactly(holdfast: Holdfast, acknowledged: list[Any]) -> None:
    """What was acknowledged is there, at its last version, and nothing else."""
    assert {s.id: s for s in holdfast.statements("ada")} == {s.id: s for s in acknowledged}
    check_nothing_half_there(holdfast)


def fill_and_free(holdfast: Holdfast, fill: Callable[[], None], free: Callable[[], None]) -> None:
    """Every kind of write is refused clearly on a full disk, and goes on once there is space."""
    first = holdfast.add("ada", "I never eat nuts.")[0]
    kept = holdfast.retrieve("ada", "What may I cook with nuts?")
    fill()
    refusals: list[StorageError] = []

    def refused(write: Callable[[int], Any]) -> list[Any]:
        done, refusal = until_refused(write)
        refusals.append(refusal)
        return done

    added = refused(lambda n: holdfast.add("ada", evening(n), split=False)[0])
    many = refused(
        lambda n: holdfast.add_many("ada", [evening(f"{n} {i}") for i in range(60)], split=False)
    )
    revised = refused(lambda n: holdfast.revise(first.id, f"I never eat nuts, {evening(n)}"))
    decided = refused(
        lambda n: holdfast.decide("ada", situation=evening(n), choice="to wait", reason="it keeps")
    )
    found = refused(lambda n: holdfast.retrieve("ada", "What may I cook with nuts?"))
    for refusal in refusals:
        assert isinstance(refusal, StorageFullError), refusal
        assert "free some" in str(refusal)
        assert "evening" not in str(refusal)
    answer = holdfast.retrieve("ada", "What may I cook with nuts?", record=False, threshold=0)
    assert answer.injected[0].statement.id == first.id  # reading needs no space
    free()
    acknowledged = [first, *added, *(s for part in many for s in part), *revised]
    acknowledged += [decision.statement for decision in decided]
    check_exactly(holdfast, acknowledged)
    assert {e.id for e in holdfast.evidence(limit=None)} == {
        kept.evidence_id,
        *(retrieval.evidence_id for retrieval in found),
    }
    acknowledged.append(holdfast.add("ada", "Sundays are for my family.")[0])
    acknowledged.append(holdfast.revise(first.id, "I never eat nuts or seeds."))
    again = holdfast.retrieve("ada", "What may I cook with nuts?")
    assert again.evidence_id
    check_doctor_mends(holdfast)
    check_exactly(holdfast, acknowledged)
    assert all(holdfast.replay(e.id).same for e in holdfast.evidence(limit=None))


def test_a_full_database_refuses_writes_and_goes_on_when_there_is_space(fake: Holdfast) -> None:
    most = 1 << 30

    def limit(connection: Any, *_: Any) -> None:
        connection.execute(f"PRAGMA max_page_count = {most}")

    def fill() -> None:
        nonlocal most
        with fake._database.read() as connection:
            most = connection.execute(text("PRAGMA page_count")).scalar_one() + 12

    def free() -> None:
        nonlocal most
        most = 1 << 30

    event.listen(fake._database.engine, "checkout", limit)
    fill_and_free(fake, fill, free)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, made full and free with ``mount -o remount``."""
    place = tmp_path / "disk"
    place.mkdir()
    try:
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64m", "none", place], capture_output=True
        )
    except OSError:
        pytest.skip("there is no mount command here")
    if made.returncode:
        pytest.skip("mounting a small disk needs root and the right to mount")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def remount(place: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", place], check=True)


def used(place: Path) -> int:
    return shutil.disk_usage(place).used // 1024


def test_a_full_disk_refuses_writes_to_both_stores_and_goes_on_when_there_is_space(
    small_disk: Path,
) -> None:
    with open_with(FakeEmbedder(), small_disk / "data") as holdfast:
        holdfast.add("bo", "I walk to work.")
        fill_and_free(
            holdfast,
            lambda: remount(small_disk, f"size={used(small_disk) + 300}k"),
            lambda: remount(small_disk, "size=64m"),
        )


def test_a_full_vector_store_stops_writing_and_the_doctor_leaves_it_in_place(
    small_disk: Path, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "chroma").symlink_to(small_disk)
    with open_with(FakeEmbedder(), tmp_path / "data") as holdfast:
        acknowledged = [holdfast.add("ada", "I never eat nuts.")[0]]
        remount(small_disk, f"size={used(small_disk) + 200}k")
        done, refusal = until_refused(
            lambda n: holdfast.add_many(
                "ada", [evening(f"{n} {i}") for i in range(50)], split=False
            )
        )
        acknowledged += [statement for part in done for statement in part]
        assert isinstance(refusal, StorageFullError)
        assert str(tmp_path / "data" / "chroma") in str(refusal)
        with pytest.raises(StorageFullError, match="free some"):
            holdfast.revise(acknowledged[0].id, evening("x"))
        assert holdfast.retrieve("ada", "nuts").evidence_id  # from the database alone
        holdfast.doctor()
        assert not (tmp_path / "data" / "chroma.damaged").exists()
        check_exactly(holdfast, acknowledged)
        remount(small_disk, "size=64m")
        acknowledged.append(holdfast.add("ada", "Sundays are for my family.")[0])
        check_doctor_mends(holdfast)
        check_exactly(holdfast, acknowledged)


def test_a_disk_too_small_to_begin_on_is_said_to_be_full(small_disk: Path) -> None:
    remount(small_disk, "size=100k")
    with pytest.raises(StorageFullError, match="free some"):
        open_with(FakeEmbedder(), small_disk / "data")
    remount(small_disk, "size=64m")
    with open_with(FakeEmbedder(), small_disk / "data") as holdfast:
        holdfast.add("ada", "I never eat nuts.")
        check_doctor_mends(holdfast)


LIMITED = f"""
import resource, sys
sys.path.insert(0, {str(TESTS)!r})
from test_storage_faults import *
with open_with(FakeEmbedder(), Path(sys.argv[1])) as holdfast:
    kept = [holdfast.add("ada", "I never eat nuts.")[0]]
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))
    done, refusal = until_refused(lambda n: holdfast.add("ada", evening(n), split=False)[0])
    kept += done
    assert "ulimit -f" in str(refusal) and "holdfast doctor" in str(refusal), refusal
    for write in (
        lambda: holdfast.revise(kept[0].id, evening("x")),
        lambda: holdfast.retrieve("ada", "nuts"),
    ):
        with pytest.raises(StorageError, match="ulimit -f"):
            write()
    check_exactly(holdfast, kept)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    kept.append(holdfast.add("ada", "Sundays are for my family.")[0])
    check_doctor_mends(holdfast)
    check_exactly(holdfast, kept)
"""


def test_a_limit_on_the_size_of_files_is_named_and_loses_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, tmp_path / "data"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


# Read-only


def bound_by_permissions() -> None:
    """Take root's right to pass over permissions from the process that is about to start."""
    library = ctypes.CDLL(None)
    for right in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        library.prctl(24, right, 0, 0, 0)  # PR_CAPBSET_DROP


READ_ONLY = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
from test_storage_faults import *
path = Path(sys.argv[1])
if os.access(path, os.W_OK):
    sys.exit(77)
for directory in (path, path / "below"):
    with pytest.raises(ReadOnlyError, match="make it writable"):
        Holdfast.open(directory)
with Holdfast.open(path, read_only=True) as holdfast:
    (statement,) = holdfast.statements("ada")
    assert holdfast.history(statement.id) == [statement]
    assert holdfast.retrieve("ada", "nuts?", record=False).injected
    (entry,) = holdfast.evidence()
    assert holdfast.replay(entry.id).same and holdfast.verify().ok
    for write in (
        lambda: holdfast.retrieve("ada", "nuts?"),
        lambda: holdfast.add("ada", "I walk to work."),
        lambda: holdfast.revise(statement.id, "I never eat seeds."),
        lambda: holdfast.retire(statement.id),
    ):
        with pytest.raises(ReadOnlyError, match="read-only"):
            write()
    assert holdfast.statements("ada") == [statement]
path.chmod(0)
with pytest.raises(ConfigurationError, match="make it and its directory readable"):
    Holdfast.open(path, read_only=True)
with pytest.raises(ReadOnlyError, match="make it readable"):
    Holdfast.open(path, read_only=True, settings=Settings(data=path))
"""


@pytest.mark.parametrize("ended", ["closed", "killed"])
def test_a_read_only_directory_can_be_read_and_says_what_to_do_about_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: str
) -> None:
    path = tmp_path / "data"
    with Holdfast.open(path) as holdfast:
        holdfast.add("ada", "I never eat nuts.")
        holdfast.retrieve("ada", "nuts?")
        if ended == "killed":  # as a kill leaves it: with the write-ahead log beside it, unsigned
            shutil.copytree(path, tmp_path / "copy")
            path = tmp_path / "copy"
            assert (path / "holdfast.db-wal").stat().st_size
            shutil.copytree(tmp_path / "config", tmp_path / "copied-config")
            monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "copied-config"))
    for place in (path, *path.rglob("*")):
        place.chmod(0o555 if place.is_dir() else 0o444)
    done = subprocess.run(
        [sys.executable, "-c", READ_ONLY, path], capture_output=True, text=True,
        preexec_fn=bound_by_permissions if os.getuid() == 0 else None,
    )  # fmt: skip
    for place in (path, path / "chroma"):
        place.chmod(0o755)
    if done.returncode == 77:
        pytest.skip("permissions do not bind this user")
    assert done.returncode == 0, done.stderr


def test_a_directory_on_a_read_only_disk_is_named(small_disk: Path) -> None:
    with open_with(FakeEmbedder(), small_disk / "data") as holdfast:
        holdfast.add("ada", "I never eat nuts.")
    remount(small_disk, "ro")
    with pytest.raises(ReadOnlyError, match="make it writable"):
        open_with(FakeEmbedder(), small_disk / "data")
    with Holdfast.open(small_disk / "data", read_only=True) as holdfast:
        assert len(holdfast.statements("ada")) == 1
    remount(small_disk, "rw")
    with open_with(FakeEmbedder(), small_disk / "data") as holdfast:
        check_doctor_mends(holdfast)


# Held, newer


HOLD = """
import sys
from holdfast import Holdfast
with Holdfast.open(sys.argv[1]) as holdfast:
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def held(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that owns the directory ``tmp_path / "data"``."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "data"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    yield process
    process.communicate()


def test_a_held_directory_is_refused_after_the_wait_and_the_owner_is_named(
    tmp_path: Path, held: subprocess.Popen[str]
) -> None:
    settings = Settings(data=tmp_path / "data", lock_timeout=0.3)
    started = time.monotonic()
    with pytest.raises(LockedError, match=rf"pid {held.pid}\b.*--data"):
        Holdfast.open(settings=settings)
    assert 0.3 <= time.monotonic() - started < 3
    with Holdfast.open(tmp_path / "data", read_only=True) as holdfast:  # reading needs no lock
        assert holdfast.statements("ada") == []


def test_a_second_command_waits_for_the_owner_and_then_says_who_it_is_in_one_line(
    tmp_path: Path, held: subprocess.Popen[str]
) -> None:
    command = [HOLDFAST, "query", "desserts", "--data", tmp_path / "data"]
    started = time.monotonic()
    refused = subprocess.run(command, capture_output=True, text=True)
    waited = time.monotonic() - started
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert len(refused.stderr.splitlines()) == 1
    assert f"pid {held.pid}" in refused.stderr
    assert "stop it, wait for it, or choose another directory" in refused.stderr
    assert waited >= Settings().lock_timeout == 5
    waiting = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(0.5)
    held.communicate()  # the owner closes while the other waits
    out, err = waiting.communicate()
    assert (waiting.returncode, err) == (0, ""), err
    assert "evidence ev_" in out


def test_the_same_process_cannot_own_a_directory_twice(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "data", lock_timeout=0)
    with (
        open_with(FakeEmbedder(), tmp_path / "data"),
        pytest.raises(LockedError, match=f"pid {os.getpid()}"),
    ):
        Holdfast.open(settings=settings)


def test_a_garbled_owner_file_does_no_harm(tmp_path: Path, held: subprocess.Popen[str]) -> None:
    for said in (b"", b"[]", b"7", b'{"pid": "x\\ny"}', b"[" * 9999, b"\x00\xff"):
        (tmp_path / "data" / "owner.json").write_bytes(said)
        with pytest.raises(LockedError, match="its pid is not known"):
            Holdfast.open(settings=Settings(data=tmp_path / "data", lock_timeout=0))


def test_a_lock_file_that_is_deleted_while_held_costs_nothing_that_was_acknowledged(
    tmp_path: Path,
) -> None:
    with open_with(FakeEmbedder(), tmp_path / "data") as first:
        kept = [first.add("ada", "I never eat nuts.")[0]]
        (tmp_path / "data" / "lock").unlink()
        with open_with(FakeEmbedder(), tmp_path / "data") as second:
            for n in range(5):
                kept.append(first.add("ada", f"I walk to work on day {n}.")[0])
                kept.append(second.add("ada", f"I rest on the evening of day {n}.")[0])
                for each in (first, second):
                    assert len(each.retrieve("ada", "the evening").candidates) == len(kept)
            check_exactly(second, kept)
        check_exactly(first, kept)
        assert len(first.evidence()) == 10
    with open_with(FakeEmbedder(), tmp_path / "data") as third:
        check_doctor_mends(third)
        check_exactly(third, kept)


def test_a_directory_of_a_newer_version_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "data"
    with open_with(FakeEmbedder(), path) as holdfast:
        holdfast.add("ada", "I never eat nuts.")
    database = Database(f"sqlite:///{path / 'holdfast.db'}", place="here")
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    for read_only in (False, True):
        with pytest.raises(NewerVersionError, match=r"pip install --upgrade holdfast"):
            Holdfast.open(path, read_only=read_only)
    done = subprocess.run(
        [HOLDFAST, "list", "--data", path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "pip install --upgrade holdfast" in done.stderr
    connection = sqlite3.connect(path / "holdfast.db")
    assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]
    connection.close()


# Damaged


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "anchors.npy"])
def test_a_truncated_model_file_is_named_and_nothing_is_stored(tmp_path: Path, name: str) -> None:
    model = tmp_path / "model"
    shutil.copytree(MODEL_DIRECTORY, model, ignore=shutil.ignore_patterns("__pycache__"))
    whole = (model / name).read_bytes()
    (model / name).write_bytes(whole[: len(whole) // 2])
    damaged: Any = BundledEmbedder(model=model)
    with open_with(damaged, tmp_path / "data") as holdfast:
        for write in (
            lambda: holdfast.add("ada", "I never eat nuts."),
            lambda: holdfast.add_many("ada", ["I never eat nuts.", "I walk to work."]),
            lambda: holdfast.decide("ada", situation="An offer", choice="no", reason="too far"),
            lambda: holdfast.retrieve("ada", "nuts?"),
        ):
            with pytest.raises(DamagedError, match=rf"{name}.*pip install --force-reinstall"):
                write()
        assert holdfast.statements("ada") == []
        assert holdfast.evidence() == []
        (model / name).write_bytes(whole)
        kept = holdfast.add("ada", "I never eat nuts.")
        check_doctor_mends(holdfast)
        check_exactly(holdfast, kept)


def test_a_garbled_model_configuration_is_named(tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(MODEL_DIRECTORY, model, ignore=shutil.ignore_patterns("__pycache__"))
    for garbage in (b"", b"[]", b"\xff\x00", b'{"procedure": 1}'):
        (model / "embedder.json").write_bytes(garbage)
        with pytest.raises(DamagedError, match=r"embedder.json.*pip install --force-reinstall"):
            BundledEmbedder(model=model)


@pytest.mark.parametrize("when", ["closed", "open"])
@pytest.mark.parametrize("how", ["deleted", "overwritten", "truncated"])
def test_a_lost_or_damaged_chroma_folder_costs_no_statement_and_is_mended(
    tmp_path: Path, how: str, when: str
) -> None:
    path = tmp_path / "data"
    holdfast = open_with(FakeEmbedder(), path)
    kept = [holdfast.add("ada", "I never eat nuts.")[0]]
    asked = holdfast.retrieve("ada", "cooking with nuts")
    if when == "closed":
        holdfast.close()
    if how == "deleted":
        shutil.rmtree(path / "chroma")
    else:
        database = path / "chroma" / "chroma.sqlite3"
        size = database.stat().st_size
        content = b"no database " * (size // 12) if how == "overwritten" else b"SQLite"
        database.write_bytes(content)
    if when == "closed":
        holdfast = open_with(FakeEmbedder(), path)
    with holdfast:
        again = holdfast.retrieve("ada", "cooking with nuts")
        assert again.context == asked.context
        done: list[Any] = []
        refusal = ""
        try:
            done = holdfast.add("ada", "I walk to work.")
        except StorageError as error:
            refusal = str(error)
        assert done or "holdfast doctor" in refusal
        assert "walk" not in refusal
        check_exactly(holdfast, [*kept, *done])
        check_doctor_mends(holdfast)
        kept += [*done, holdfast.add("ada", "Sundays are for my family.")[0]]
        check_exactly(holdfast, kept)
    with open_with(FakeEmbedder(), path) as holdfast:  # what was written meanwhile is all there
        check_doctor_mends(holdfast)
        assert holdfast.retrieve("ada", "cooking with nuts").repaired == 0
        check_exactly(holdfast, kept)
        assert all(holdfast.replay(entry.id).same for entry in holdfast.evidence())


@pytest.mark.parametrize(
    "content",
    [b"nonsense = = 1", b"\xff\xfe", b"limit = -1", b"threshold_must = 'x'", b"colour = 1"],
)
def test_a_settings_file_that_cannot_be_used_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data"
    path.mkdir()
    (path / "holdfast.toml").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"holdfast\.toml"):
        Holdfast.open(path)
    done = subprocess.run([HOLDFAST, "list", "--data", path], capture_output=True, text=True)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert re.search(r"mend it|remove them|Correct it", done.stderr)
    (path / "holdfast.toml").unlink()
    with Holdfast.open(path) as holdfast:
        assert json.dumps(holdfast.subjects()) == "[]"


def test_a_database_that_is_none_is_said_to_be_damaged_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.mkdir()
    (path / "holdfast.db").write_bytes(b"this is no database at all " * 400)
    for read_only in (False, True):
        with pytest.raises(DamagedError, match="restore it from a backup"):
            Holdfast.open(path, read_only=read_only)
    assert (path / "holdfast.db").read_bytes().startswith(b"this is no database")
    with pytest.raises(StorageError, match="is a file; choose a directory"):
        Holdfast.open(path / "holdfast.db")
