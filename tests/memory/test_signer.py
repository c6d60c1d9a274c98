"""Checkpoints are signed one on top of the other, and a fork never is."""

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from sqlalchemy import text

from holdfast.memory import ledger, merkle, signer, tiles
from holdfast.memory.checkpoint import Checkpoint, VerifierKey, read_checkpoint, sign
from holdfast.memory.database import Database
from holdfast.memory.errors import (
    DamagedError,
    ForkError,
    InvalidInputError,
    LockedError,
    StorageError,
)
from holdfast.memory.keys import KeySource
from holdfast.memory.ledger import Log
from holdfast.memory.record import Record, open_vault
from holdfast.memory.signer import Signer


class Place:
    """A database in a folder, its keys in another, and its signer."""

    def __init__(self, data: Path, keys: Path) -> None:
        self.path = data / "test.db"
        self._keys = keys
        self.open()

    def open(self) -> None:
        self.database = Database(f"sqlite:///{self.path}", place="here")
        source = KeySource(folder=self._keys)
        self.record = Record(self.database, open_vault(self.database, source), "local")
        self.folder = self._keys / "checkpoints"
        self.signer = Signer(self.record, self.folder)

    def grow(self, count: int) -> None:
        self.record.transact(
            lambda tx: [ledger.append(tx, "gap", {"n": n}) for n in range(count)] and None
        )

    def log(self) -> tuple[Log, VerifierKey]:
        with self.record.snapshot() as snapshot:
            log = ledger.log(snapshot)
            assert log is not None
            return log, signer.public_key(snapshot, log)

    def sign(self, **how: str) -> Checkpoint:
        signed = self.signer.sign(**how)
        assert signed is not None
        return signed

    def stored(self) -> list[int]:
        with self.record.snapshot() as snapshot:
            return [size for size, _ in signer.stored(snapshot, self.log()[0])]

    def kept(self) -> Checkpoint | None:
        return self.signer.kept(*self.log())

    def execute(self, statement: str) -> None:
        with self.database.write() as connection:
            assert connection.execute(text(statement)).rowcount

    def put_back(self, copy: Path) -> None:
        """Close, put an older copy of the database in place, and open it."""
        self.database.close()
        for path in self.path.parent.glob("test.db*"):
            path.unlink()
        shutil.copy(copy, self.path)
        self.open()

    def copy(self, to: Path) -> Path:
        self.database.close()
        shutil.copy(self.path, to)
        self.open()
        return to


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "data").mkdir()
    return Place(tmp_path / "data", tmp_path / "keys")


def test_a_checkpoint_covers_every_leaf_and_verifies_with_the_key_alone(place: Place) -> None:
    assert place.signer.sign() is None
    place.grow(300)
    signed = place.sign()
    log, key = place.log()
    assert read_checkpoint(signed.note, key) == signed
    assert (signed.size, signed.origin) == (300, log.origin)
    with place.record.snapshot() as snapshot:
        assert signed.root == merkle.root_of(tiles.leaf_hashes(snapshot, 0, 300))
    assert place.kept() == signed
    assert place.stored() == [300]


def test_each_checkpoint_continues_the_one_before(place: Place) -> None:
    before: Checkpoint | None = None
    for count in (1, 1, 254, 1, 300, 7):
        place.grow(count)
        signed = place.sign()
        if before is not None:
            with place.record.snapshot() as snapshot:
                nodes = tiles.TileNodes(snapshot, signed.size)
                proof = merkle.consistency_proof(nodes, before.size, signed.size)
            merkle.verify_consistency(before.size, signed.size, before.root, signed.root, proof)
        before = signed
    assert place.stored() == [1, 2, 256, 257, 557, 564]


def test_nothing_new_is_signed_where_nothing_was_added(place: Place) -> None:
    place.grow(3)
    assert place.sign() == place.sign()
    assert place.stored() == [3]


def test_what_was_signed_last_lies_outside_the_data_and_is_private(place: Place) -> None:
    place.grow(1)
    place.sign()
    log, _ = place.log()
    path = place.folder / log.name
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.folder.stat().st_mode) == 0o700
    assert sorted(each.name for each in place.folder.iterdir()) == [log.name, f"{log.name}.lock"]


def test_an_older_copy_that_was_put_back_is_never_signed(place: Place, tmp_path: Path) -> None:
    place.grow(5)
    place.sign()
    copy = place.copy(tmp_path / "older")
    place.grow(5)
    signed = place.sign()
    place.put_back(copy)
    with pytest.raises(ForkError, match="5 leaves, and 10 were signed: an older copy"):
        place.signer.sign()
    place.grow(5)  # other leaves, as many: a fork
    with pytest.raises(ForkError, match="the first 10 leaves are not those that were signed"):
        place.signer.sign()
    place.grow(20)
    with pytest.raises(ForkError, match="the first 10 leaves"):
        place.signer.sign()
    assert place.kept() == signed
    assert place.stored() == [5]


def test_two_copies_that_both_go_on_cannot_both_sign(place: Place, tmp_path: Path) -> None:
    place.grow(5)
    copy = place.copy(tmp_path / "copy")
    (tmp_path / "other").mkdir()
    shutil.copy(copy, tmp_path / "other" / "test.db")
    other = Place(tmp_path / "other", tmp_path / "keys")
    place.grow(1)
    other.grow(2)
    place.sign()
    with pytest.raises(ForkError):
        other.signer.sign()
    place.grow(4)
    assert place.sign().size == 10


def test_a_leaf_that_was_rewritten_is_never_signed(place: Place) -> None:
    place.grow(300)
    place.sign()
    place.grow(1)
    for position in (7, 280):
        place.execute(f"UPDATE ledger SET leaf = CAST('x' AS BLOB) WHERE position = {position}")
    with pytest.raises(ForkError, match="the first 300 leaves"):
        place.signer.sign()


def test_tiles_that_are_not_those_of_the_leaves_are_never_signed(place: Place) -> None:
    """The new root comes from the leaves; tiles made to match another tree do not help."""
    place.grow(256)
    place.execute("UPDATE ledger SET leaf = CAST('x' AS BLOB) WHERE position = 7")
    with pytest.raises(DamagedError, match="tiles are not those of its leaves"):
        place.signer.sign()
    assert place.kept() is None
    place.execute("DELETE FROM tiles")
    with pytest.raises(DamagedError):
        place.signer.sign()


def test_a_missing_leaf_is_never_signed_over(place: Place) -> None:
    place.grow(10)
    place.execute("DELETE FROM ledger WHERE position = 9")
    with pytest.raises(DamagedError):
        place.signer.sign()
    place.execute("UPDATE ledgers SET size = 9")
    assert place.sign().size == 9


def lose(place: Place) -> None:
    shutil.rmtree(place.folder)


def test_a_signer_whose_file_is_lost_asks_for_the_newest_checkpoint(place: Place) -> None:
    place.grow(5)
    signed = place.sign()
    lose(place)
    place.grow(1)
    with pytest.raises(ForkError, match="holdfast audit checkpoint --since FILE"):
        place.signer.sign()
    assert place.sign(since=signed.note).size == 6
    assert place.sign().size == 6


def test_a_signer_whose_file_is_lost_with_no_checkpoint_signed_begins(place: Place) -> None:
    place.grow(5)
    assert place.sign().size == 5


@pytest.mark.parametrize(
    "note", ["", "text", sign("holdfast/another", bytes(32), 5, bytes(32)).note]
)
def test_a_checkpoint_of_something_else_is_refused_as_a_start(place: Place, note: str) -> None:
    place.grow(5)
    with pytest.raises(InvalidInputError, match="the checkpoint cannot be used"):
        place.signer.sign(since=note)


def test_of_two_checkpoints_the_newer_one_counts(place: Place) -> None:
    place.grow(5)
    old = place.sign()
    place.grow(5)
    place.sign()
    place.grow(1)
    assert place.sign(since=old.note).size == 11
    lose(place)
    assert place.sign(since=old.note).size == 11


def test_a_file_that_was_altered_stops_signing_and_says_what_to_do(place: Place) -> None:
    place.grow(5)
    place.sign()
    path = place.folder / place.log()[0].name
    path.write_text(path.read_text("utf-8").replace("\n5\n", "\n4\n"), "utf-8")
    with pytest.raises(DamagedError, match=r"was altered .*--since FILE"):
        place.signer.sign()


class StoppedError(Exception):
    pass


def stop(*_: object, **__: object) -> None:
    raise StoppedError


Crash = Callable[[pytest.MonkeyPatch, Place], None]
CRASHES: list[Crash] = [
    lambda patched, _: patched.setattr(signer, "write_durably", stop),
    lambda patched, place: patched.setattr(place.record, "transact", stop),
    lambda patched, _: patched.setattr(Path, "replace", stop),
]


@pytest.mark.parametrize("crash", CRASHES, ids=["before", "known outside", "stored"])
def test_a_crash_while_signing_forgets_no_checkpoint_that_anybody_can_have(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    crash: Callable[[pytest.MonkeyPatch, Place], None],
) -> None:
    place.grow(3)
    place.sign()
    place.grow(2)
    with monkeypatch.context() as patched:
        crash(patched, place)
        with pytest.raises(StoppedError):
            place.signer.sign()
    stored, kept = place.stored(), place.kept()
    assert kept is not None
    assert max(stored) <= kept.size
    place.grow(2)
    signed = place.sign()
    assert signed.size == 7
    assert place.kept() == signed
    assert place.stored()[-1] == 7


def test_one_process_at_a_time_signs(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signer, "LOCK_TIMEOUT", 0)
    place.grow(1)
    place.folder.mkdir(parents=True)
    held = FileLock(place.folder / f"{place.log()[0].name}.lock")
    with held, pytest.raises(LockedError, match="another process is signing"):
        place.signer.sign()
    assert place.sign().size == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to_is_named(place: Place) -> None:
    place.grow(1)
    place.folder.mkdir(parents=True)
    place.folder.chmod(0o500)
    with pytest.raises(StorageError, match=str(place.folder)):
        place.signer.sign()


def test_after_a_loss_the_log_goes_on_under_a_new_name_and_records_it(
    place: Place, tmp_path: Path
) -> None:
    place.grow(5)
    copy = place.copy(tmp_path / "older")
    place.grow(5)
    lost = place.sign()
    old_log, old_key = place.log()
    place.put_back(copy)
    with pytest.raises(ForkError):
        place.signer.sign()
    place.signer.start_over("the disk was lost")
    log, key = place.log()
    assert log.name != old_log.name
    signed = place.sign()
    assert (signed.size, signed.origin) == (6, log.origin)
    with place.record.snapshot() as snapshot:
        gap = ledger.entries(snapshot, limit=1)[0]
    assert gap.type == "gap"
    assert gap.payload == {
        "reason": "the disk was lost",
        "signed": {"origin": old_log.origin, "size": 10, "root": lost.root.hex()},
        "leaves": 5,
    }
    with pytest.raises(InvalidInputError):
        place.sign(since=lost.note)
    assert read_checkpoint(lost.note, old_key).size == 10
    assert str(key) != str(old_key)
    assert (place.folder / f"{old_log.name}.old").read_text("utf-8") == lost.note


def test_an_empty_ledger_cannot_start_over(place: Place) -> None:
    with pytest.raises(InvalidInputError, match="nothing to start over"):
        place.signer.start_over("why not")
