"""What an auditor reads and is given, what an operator keeps up, and what became of a call."""

import contextlib
import hashlib
import shutil
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import tampering
from conftest import open_with
from fakes import FakeEmbedder

from holdfast import Holdfast
from holdfast.memory import ledger, rotation, verification
from holdfast.memory.canonical import Rejected
from holdfast.memory.checkpoint import read_checkpoint, read_key
from holdfast.memory.errors import (
    ConfigurationError,
    ErasedError,
    ForkError,
    InvalidInputError,
    KeyUnavailableError,
    LockedError,
    NotFoundError,
    ReadOnlyError,
)
from holdfast.memory.keys import from_file, key_name, write_file
from holdfast.memory.models import Evidence
from holdfast.memory.record import Record, Snapshot
from holdfast.memory.signer import Signer
from holdfast.memory.verifier import verify_bundle
from holdfast.retrieval.audit import Audit

SENT = hashlib.sha256(b"sent").hexdigest()


def node(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def root(leaves: Sequence[str]) -> bytes:
    """Compute a root as RFC 6962 defines it."""
    if len(leaves) < 2:
        return node(b"\0", leaves[0].encode())
    middle = 1 << (len(leaves) - 1).bit_length() - 1
    return node(b"\1", root(leaves[:middle]), root(leaves[middle:]))


def leaves(hf: Holdfast) -> list[str]:
    return [event.leaf for event in hf.audit.events(limit=None)[::-1]]


def grow(hf: Holdfast, count: int) -> None:
    """Append so many events about nobody."""
    record = hf.audit._record  # pyright: ignore[reportPrivateUsage]
    record.transact(
        lambda tx: [ledger.append(tx, "gap", {"reason": str(n)}) for n in range(count)] and None
    )


# Reading events


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Holdfast]:
    """A ledger to read, with some 70 events about several subjects; one of them is erased."""
    folder = tmp_path_factory.mktemp("reading")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        with open_with(FakeEmbedder(), folder / "data") as hf:
            said = hf.add_many("ada", ["I love trains", "I never eat nuts"], split=False)
            hf.add_many("acme", [f"Rule {n} of the house" for n in range(50)], split=False)
            hf.add("gone", "I like cats.")
            hf.retire(said[1].id)
            hf.retrieve("ada", "trains")
            hf.retrieve(["acme", "ada"], "trains")
            hf.retrieve(["acme", "gone"], "cats")
            hf.audit.record_gap("the disk was full", since="2026-01-01")
            hf.erase("gone")
            yield hf


def test_events_come_newest_first_with_all_that_was_recorded(read: Holdfast) -> None:
    events = read.audit.events(limit=None)
    assert [event.index for event in events] == list(range(len(events)))[::-1]
    assert len({event.id for event in events}) == len(events)
    assert [event.recorded_at for event in events] == sorted(
        (event.recorded_at for event in events), reverse=True
    )
    newest, gap = events[:2]
    assert (newest.type, newest.subjects, newest.erased) == ("erasure", (), False)
    assert (gap.type, gap.tenant) == ("gap", "local")
    for event in events:
        assert read.audit.entry(event.id) == event
        assert event.hash == node(b"\0", event.leaf.encode()).hex()
        assert event.id in event.leaf
        assert not event.imported


@pytest.mark.parametrize(
    ("asked", "types"),
    [
        ({"subject": "ada"},
         ["retrieval", "retrieval", "statement.retire", "statement.put", "statement.put"]),
        ({"subject": "ada", "types": ["retrieval"]}, ["retrieval"] * 2),
        ({"subject": "ada", "types": ["gap"]}, []),
        ({"subject": "acme", "types": ("retrieval", "statement.put"), "limit": 3},
         ["retrieval", "retrieval", "statement.put"]),
        ({"subject": "gone"}, []),
        ({"subject": "nobody"}, []),
        ({"types": ["statement.retire", "gap"]}, ["gap", "statement.retire"]),
        ({"types": {"policy"}, "limit": None}, ["policy"]),
        ({"types": []}, []),
        ({"limit": 2}, ["erasure", "gap"]),
        ({"limit": 0}, []),
    ],
)  # fmt: skip
def test_events_are_chosen_by_subject_type_and_number(
    read: Holdfast, asked: dict[str, Any], types: list[str]
) -> None:
    events = read.audit.events(**asked)
    assert [event.type for event in events] == types
    if "subject" in asked:
        assert all(event.erased or asked["subject"] in event.subjects for event in events)


def test_events_before_a_place_in_the_ledger_go_on_where_a_list_ended(read: Holdfast) -> None:
    everything = read.audit.events(limit=None)
    first = read.audit.events(limit=2)
    rest = read.audit.events(before=first[-1].index, limit=None)
    assert [each.id for each in (*first, *rest)] == [each.id for each in everything]
    assert read.audit.events(before=0) == []
    with pytest.raises(InvalidInputError, match="before"):
        read.audit.events(before=-1)


def test_fifty_events_are_listed_unless_another_number_is_asked_for(read: Holdfast) -> None:
    everything = read.audit.events(limit=None)
    assert len(everything) > 60
    assert read.audit.events() == everything[:50]
    assert read.audit.events(limit=55) == everything[:55]
    assert read.audit.events(None, types=None, limit=10**9) == everything


def test_of_an_erased_event_the_leaf_is_left(read: Holdfast) -> None:
    erased = [event for event in read.audit.events(limit=None) if event.erased]
    assert [event.type for event in erased] == ["retrieval", "statement.put"]
    for event in erased:
        assert (event.subjects, event.payload) == ((), {})
        assert read.audit.entry(event.id) == event
    assert erased[0] in read.audit.events("acme")


def test_the_events_of_a_subject_are_numbered_and_name_the_one_before(read: Holdfast) -> None:
    for subject in ("ada", "acme"):
        before, number = None, 0
        for event in read.audit.events(subject, limit=None)[::-1]:
            number += 1
            if not event.erased:
                link = event.payload["chain"][event.subjects.index(subject)]
                assert link == {"previous": before, "sequence": number}
            before = event.id
        assert number > 4
    assert "chain" not in read.audit.events(types=["gap"])[0].payload


def test_the_same_words_of_another_tenant_are_another_ledger(tmp_path: Path) -> None:
    keys: list[str] = []
    for tenant in ("one", "two"):
        with open_with(FakeEmbedder(), tmp_path / "data", tenant=tenant) as hf:
            assert hf.audit.verifier_key == ""
            assert hf.audit.events() == []
            hf.add("ada", "I like cats.")
            keys.append(hf.audit.verifier_key)
            assert hf.audit.checkpoint().size == 2
            assert {event.tenant for event in hf.audit.events()} == {tenant}
    assert len(set(keys)) == 2
    with open_with(FakeEmbedder(), tmp_path / "data", tenant="one") as hf:
        assert hf.audit.verifier_key == keys[0]
        read_key(keys[0])


# Checkpoints


def test_a_checkpoint_signs_every_event_and_adds_none(fake: Holdfast) -> None:
    fake.add_many("ada", [f"I like number {n}" for n in range(260)], split=False)
    for count in (0, 1, 5):
        grow(fake, count)
        signed = fake.audit.checkpoint()
        held = leaves(fake)
        assert (signed.size, signed.root) == (len(held), root(held))
        assert read_checkpoint(signed.note, read_key(fake.audit.verifier_key)) == signed
        assert fake.audit.checkpoint() == signed == fake.audit.last_checkpoint()
        assert len(leaves(fake)) == len(held)


def test_the_last_checkpoint_is_given_without_signing(fake: Holdfast, tmp_path: Path) -> None:
    assert fake.audit.last_checkpoint() is None
    grow(fake, 3)
    assert fake.audit.last_checkpoint() is None
    assert not (tmp_path / "config" / "holdfast" / "checkpoints").exists()
    signed = fake.audit.checkpoint()
    grow(fake, 2)
    assert fake.audit.last_checkpoint() == signed
    assert signed.size == 3
    with Holdfast.open(fake.settings.data, read_only=True) as reader:
        assert reader.audit.last_checkpoint() == signed
        assert reader.audit.verifier_key == fake.audit.verifier_key


def test_what_was_added_is_signed_when_the_data_are_closed(tmp_path: Path) -> None:
    with open_with(FakeEmbedder(), tmp_path / "data") as hf:
        grow(hf, 3)
    with open_with(FakeEmbedder(), tmp_path / "data") as hf:
        signed = hf.audit.last_checkpoint()
        assert signed is not None
        assert (signed.size, signed.root) == (3, root(leaves(hf)))


def test_a_signer_that_lost_its_file_goes_on_from_the_newest_checkpoint(
    fake: Holdfast, tmp_path: Path
) -> None:
    grow(fake, 3)
    older = fake.audit.checkpoint().note
    grow(fake, 3)
    newer = fake.audit.checkpoint().note
    shutil.rmtree(tmp_path / "config" / "holdfast" / "checkpoints")
    grow(fake, 1)
    with pytest.raises(ForkError, match="--since FILE"):
        fake.audit.checkpoint()
    assert fake.audit.last_checkpoint() is None
    assert fake.audit.checkpoint(since=newer).size == 7
    assert fake.audit.checkpoint(since=older).size == 7
    assert fake.verify(checkpoint=newer)


def test_an_older_copy_of_the_data_is_neither_signed_nor_given_out(tmp_path: Path) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy"
    with open_with(FakeEmbedder(), data) as hf:
        grow(hf, 3)
    shutil.copytree(data, copy)
    with open_with(FakeEmbedder(), data) as hf:
        grow(hf, 3)
    with open_with(FakeEmbedder(), copy) as hf:
        event = hf.audit.events()[0].id
        calls: list[Callable[[], Any]] = [
            hf.audit.checkpoint,
            lambda: hf.audit.bundle(event),
            lambda: hf.audit.export_log(tmp_path / "log"),
        ]
        for call in calls:
            with pytest.raises(ForkError, match="an older copy of the database was put back"):
                call()
        grow(hf, 9)
        with pytest.raises(ForkError, match="the first 6 leaves are not those that were signed"):
            hf.audit.checkpoint()
        assert not hf.verify()


def kept_outside(tmp_path: Path) -> dict[Path, bytes]:
    """Read the files that lie outside the data: the key, and what the signer keeps."""
    return {p: p.read_bytes() for p in (tmp_path / "config").rglob("*") if p.is_file()}


def test_a_ledger_holds_while_it_grows_and_is_signed(
    fake: Holdfast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process appends and signs wherever the check opens or reads a state."""
    grow(fake, 1)
    fake.audit.checkpoint()
    real = ledger.log

    def log(snapshot: Snapshot) -> ledger.Log | None:
        found = real(snapshot)
        with monkeypatch.context() as patched, ThreadPoolExecutor(1) as pool:
            patched.setattr(ledger, "log", real)
            pool.submit(lambda: (grow(fake, 1), fake.audit.checkpoint())).result()
        return found

    monkeypatch.setattr(ledger, "log", log)
    for _ in range(3):
        found = fake.verify()
        assert found.ok, found


def test_a_ledger_that_starts_over_while_it_is_checked_is_read_again(
    fake: Holdfast, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow(fake, 1)
    before = fake.audit.checkpoint()
    real = verification.read_signed
    read: list[str | None] = []

    def read_signed(snapshot: Snapshot, signer: Signer) -> verification.Signed:
        read.append((signed := real(snapshot, signer)).name)
        if len(read) == 1:
            with ThreadPoolExecutor(1) as pool:
                pool.submit(fake.audit.start_over, "the disk was lost").result()
        return signed

    monkeypatch.setattr(verification, "read_signed", read_signed)
    assert fake.verify().covered == before.size + 1
    assert len(set(read)) == 2


def test_leaves_that_were_signed_and_cut_off_are_counted(fake: Holdfast) -> None:
    grow(fake, 5)
    size = fake.audit.checkpoint().size
    for table in ("payloads", "ledger"):
        tampering.sql(fake, f"DELETE FROM {table} WHERE position >= 3")
    tampering.sql(fake, "UPDATE ledgers SET size = 3")
    found = fake.verify()
    assert (found.failed_at, found.checked) == ("leaf 3", 3)
    assert str(found.problem).startswith(f"it is missing: {size} leaves were signed, 3 are here;")


def test_a_reader_appends_nothing(fake: Holdfast, tmp_path: Path) -> None:
    grow(fake, 3)
    fake.audit.checkpoint()
    before = kept_outside(tmp_path)
    with Holdfast.open(fake.settings.data, read_only=True) as reader:
        for call in (
            lambda: reader.audit.record_gap("full", since="2026-01-01"),
            lambda: reader.audit.start_over("the disk was lost"),
        ):
            with pytest.raises(ReadOnlyError, match="open it without read_only"):
                call()
    assert kept_outside(tmp_path) == before
    assert len(leaves(fake)) == 3


def test_a_reader_signs_nothing(fake: Holdfast, tmp_path: Path) -> None:
    grow(fake, 3)
    signed = fake.audit.checkpoint()
    grow(fake, 1)
    before = kept_outside(tmp_path)
    with Holdfast.open(fake.settings.data, read_only=True) as reader:
        with pytest.raises(ReadOnlyError, match="open it without read_only"):
            reader.audit.checkpoint()
        assert reader.audit.last_checkpoint() == signed
    assert kept_outside(tmp_path) == before


# Starting over


def test_after_starting_over_the_log_has_another_name_and_tells_why(fake: Holdfast) -> None:
    fake.add("ada", "I never eat nuts.")
    before, old_key = fake.audit.checkpoint(), fake.audit.verifier_key
    signed = fake.audit.start_over("  the disk was lost ")
    key = fake.audit.verifier_key
    assert key != old_key
    assert read_checkpoint(signed.note, read_key(key)) == signed == fake.audit.last_checkpoint()
    assert (signed.size, signed.root) == (before.size + 1, root(leaves(fake)))
    assert signed.origin != before.origin
    (gap,) = fake.audit.events(limit=1)
    assert (gap.type, gap.subjects) == ("gap", ())
    assert gap.payload == {
        "reason": "the disk was lost",
        "signed": {"origin": before.origin, "size": before.size, "root": before.root.hex()},
        "leaves": before.size,
    }
    assert fake.verify().covered == signed.size
    broken = fake.verify(checkpoint=before.note)
    assert (broken.ok, broken.failed_at) == (False, "checkpoint")
    with pytest.raises(InvalidInputError, match="the checkpoint cannot be used"):
        fake.audit.bundle(gap.id, since=before.note)
    bundle = fake.audit.bundle(gap.id)
    assert verify_bundle(bundle, read_key(key)).checkpoint == signed
    with pytest.raises(Rejected, match="not signed by"):
        verify_bundle(bundle, read_key(old_key))


def test_a_ledger_that_started_over_goes_on_and_its_key_is_wrapped_anew_too(
    tmp_path: Path,
) -> None:
    with open_with(FakeEmbedder(), tmp_path / "data") as hf:
        grow(hf, 2)
        first = hf.audit.start_over("once")
        assert hf.audit.events(limit=1)[0].payload["signed"] is None  # nothing was signed before
        second = hf.audit.start_over("twice")
        assert len({first.origin, second.origin}) == 2
        hf.audit.rotate_key(drop_old=True)
        key = hf.audit.verifier_key
    with open_with(FakeEmbedder(), tmp_path / "data") as hf:
        assert hf.audit.verifier_key == key
        grow(hf, 1)
        assert hf.audit.checkpoint(since=second.note).size == second.size + 2
        assert hf.verify(checkpoint=second.note)


def test_another_tenants_ledger_does_not_start_over(tmp_path: Path) -> None:
    with open_with(FakeEmbedder(), tmp_path / "data", tenant="other") as other:
        grow(other, 2)
        key, note = other.audit.verifier_key, other.audit.checkpoint().note
    with open_with(FakeEmbedder(), tmp_path / "data") as hf:
        grow(hf, 1)
        hf.audit.start_over("the disk was lost")
    with open_with(FakeEmbedder(), tmp_path / "data", tenant="other") as other:
        assert other.audit.verifier_key == key
        assert other.verify(checkpoint=note)
        assert other.audit.checkpoint().note == note


# The installation's key


def key_file(tmp_path: Path) -> Path:
    (found,) = (tmp_path / "config").rglob("installation.key")
    return found


def wrapped_by(hf: Holdfast) -> set[str]:
    return {row[0] for row in tampering.rows(hf, "SELECT wrapped_by FROM data_keys")}


def test_a_rotation_gives_the_file_a_new_key_and_wraps_every_data_key_with_it(
    tmp_path: Path,
) -> None:
    with open_with(FakeEmbedder(), tmp_path / "data", tenant="other") as other:
        other.add("ada", "I like cats.")
        others_key = other.audit.verifier_key
    with open_with(FakeEmbedder(), tmp_path / "data") as hf:
        hf.add("ada", "I never eat nuts.")
        hf.add("bo", "I like dogs.")
        path = key_file(tmp_path)
        old = from_file(path).current
        count = len(tampering.rows(hf, "SELECT key FROM data_keys"))
        kept, key = hf.audit.checkpoint().note, hf.audit.verifier_key
        before = dict(tampering.rows(hf, "SELECT key, wrapped FROM data_keys"))
        steps: list[tuple[int, int]] = []
        event = hf.audit.rotate_key(progress=lambda *step: steps.append(step))
        new = from_file(path)
        assert new.names == [new.current, old]
        assert new.current != old
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert wrapped_by(hf) == {new.current}
        after = dict(tampering.rows(hf, "SELECT key, wrapped FROM data_keys"))
        assert after.keys() == before.keys()
        assert not set(after.values()) & set(before.values())
        assert steps == [(count, count)]
        noted = hf.audit.entry(event)
        assert (noted.type, noted.subjects) == ("key.rotate", ())
        assert noted.payload == {"before": old, "after": new.current, "data_keys": count}
        assert hf.audit.verifier_key == key
        assert hf.verify(checkpoint=kept)
        hf.add("cleo", "I like birds.")  # a new data key, wrapped with the new key at once
        assert wrapped_by(hf) == {new.current}
    with open_with(FakeEmbedder(), tmp_path / "data", tenant="other") as other:
        assert [s.text for s in other.statements("ada")] == ["I like cats."]
        assert other.audit.verifier_key == others_key
        assert [e.type for e in other.audit.events()] == ["statement.put", "embedder"]
        assert other.verify()


def test_without_the_old_key_only_what_was_wrapped_anew_opens(tmp_path: Path) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy"
    with open_with(FakeEmbedder(), data) as hf:
        hf.add("ada", "I never eat nuts.")
        hf.retrieve("ada", "nuts")
    shutil.copytree(data, copy)
    path = key_file(tmp_path)
    old = path.read_bytes()
    with open_with(FakeEmbedder(), data) as hf:
        hf.audit.rotate_key(drop_old=True)
        (new,) = from_file(path).names
        assert wrapped_by(hf) == {new}
        hf.add("bo", "I like dogs.")
    with open_with(FakeEmbedder(), data) as hf:
        assert hf.replay(hf.evidence()[0].id)
        assert hf.verify()
    with pytest.raises(KeyUnavailableError, match="put the right key back"):
        open_with(FakeEmbedder(), copy)  # a backup from before
    kept = path.read_bytes()
    path.write_bytes(old)
    with pytest.raises(KeyUnavailableError, match=f"sealed with the key {new}"):
        open_with(FakeEmbedder(), data)
    path.write_bytes(kept)
    with open_with(FakeEmbedder(), data) as hf:
        assert [s.text for s in hf.statements("ada")] == ["I never eat nuts."]


def test_the_old_key_stays_in_the_file_unless_it_is_to_go(tmp_path: Path) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy"
    with open_with(FakeEmbedder(), data) as hf:
        hf.add("ada", "I never eat nuts.")
    shutil.copytree(data, copy)
    with open_with(FakeEmbedder(), data) as hf:
        hf.audit.rotate_key()
        hf.audit.rotate_key()
        assert len(from_file(key_file(tmp_path)).names) == 3
    with open_with(FakeEmbedder(), copy) as hf:  # a backup from before still opens
        assert [s.text for s in hf.statements("ada")] == ["I never eat nuts."]


class StoppedError(Exception):
    pass


def interrupt(hf: Holdfast, monkeypatch: pytest.MonkeyPatch, batches: int) -> None:
    """Begin a rotation in batches of two keys, and stop it after some of them."""
    real = rotation._rewrap  # pyright: ignore[reportPrivateUsage]
    done: list[int] = []

    def rewrap(*arguments: Any, **named: Any) -> Any:
        if len(done) == batches:
            raise StoppedError
        done.append(1)
        return real(*arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(rotation, "BATCH", 2)
        patched.setattr(rotation, "_rewrap", rewrap)
        with pytest.raises(StoppedError):
            hf.audit.rotate_key()


@pytest.mark.parametrize("batches", [0, 1, 2])
def test_a_rotation_that_was_interrupted_goes_on_with_the_same_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batches: int
) -> None:
    with open_with(FakeEmbedder(), tmp_path / "data") as hf:
        for name in ("ada", "bo", "cleo", "dan"):
            hf.add(name, "I never eat nuts.")
        path = key_file(tmp_path)
        old = from_file(path).current
        interrupt(hf, monkeypatch, batches)
        new = from_file(path)
        by = tampering.rows(hf, "SELECT wrapped_by FROM data_keys")
        assert sum(each == (new.current,) for each in by) == 2 * batches
        assert hf.audit.events(types=["key.rotate"]) == []
        assert [s.text for s in hf.statements("dan")] == ["I never eat nuts."]
    with open_with(FakeEmbedder(), tmp_path / "data") as hf:
        assert hf.verify()
        hf.audit.rotate_key()
        assert from_file(path).names == new.names == [new.current, old]
        assert wrapped_by(hf) == {new.current}
        assert [s.text for s in hf.statements("ada")] == ["I never eat nuts."]
        assert hf.verify()


@pytest.mark.parametrize("how", ["interrupted", "from the environment"])
def test_the_event_of_a_rotation_names_the_key_from_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    old, new = "00" * 32, "11" * 32
    given: Any = {} if how == "interrupted" else {"master_key": old}
    with open_with(FakeEmbedder(), tmp_path / "data", **given) as hf:
        hf.add("ada", "I never eat nuts.")
        before = hf.audit._record.vault.wrapper.current  # pyright: ignore[reportPrivateUsage]
        if how == "interrupted":
            interrupt(hf, monkeypatch, 1)
    given = {} if how == "interrupted" else {"master_key": f"{new},{old}"}
    with open_with(FakeEmbedder(), tmp_path / "data", **given) as hf:
        noted = hf.audit.entry(hf.audit.rotate_key()).payload
        assert wrapped_by(hf) == {noted["after"]}
        assert noted["before"] == before


def test_a_key_from_the_environment_is_rotated_once_the_new_one_stands_in_front(
    tmp_path: Path,
) -> None:
    old, new = "00" * 32, "11" * 32
    with open_with(FakeEmbedder(), tmp_path / "data", master_key=old) as hf:
        hf.add("ada", "I never eat nuts.")
        size = hf.audit.checkpoint().size
        with pytest.raises(ConfigurationError, match=r"in front of the old one in HOLDFAST_MASTER"):
            hf.audit.rotate_key(drop_old=True)
        assert len(leaves(hf)) == size
    with open_with(FakeEmbedder(), tmp_path / "data", master_key=f"{new},{old}") as hf:
        hf.audit.rotate_key(drop_old=True)
        assert wrapped_by(hf) == {key_name(bytes.fromhex(new))}
    with open_with(FakeEmbedder(), tmp_path / "data", master_key=new) as hf:
        assert [s.text for s in hf.statements("ada")] == ["I never eat nuts."]
        assert hf.verify()
    with pytest.raises(KeyUnavailableError, match="HOLDFAST_MASTER_KEY holds"):
        open_with(FakeEmbedder(), tmp_path / "data", master_key=old)
    assert not list((tmp_path / "config").rglob("installation.key"))


def test_two_rotations_at_once_leave_the_key_that_the_data_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one begins while the first is about to drop the old key."""
    real, said = rotation.keep_only, list[str]()

    def second() -> None:
        with pytest.raises(LockedError, match=r"is rotating the installation's key .*try again"):
            hf.audit.rotate_key()
        said.append("refused")

    def keep_only(*arguments: Any) -> None:
        other = threading.Thread(target=second)
        other.start()
        other.join()
        real(*arguments)

    monkeypatch.setattr(rotation, "LOCK_TIMEOUT", 0.1)
    with open_with(FakeEmbedder(), tmp_path / "data") as hf:
        hf.add("ada", "I never eat nuts.")
        with monkeypatch.context() as patched:
            patched.setattr(rotation, "keep_only", keep_only)
            hf.audit.rotate_key(drop_old=True)
        assert said == ["refused"]
        assert {from_file(key_file(tmp_path)).current} == wrapped_by(hf)
    with open_with(FakeEmbedder(), tmp_path / "data") as hf:
        assert [s.text for s in hf.statements("ada")] == ["I never eat nuts."]
        assert hf.audit.rotate_key()


def test_rotations_that_wait_for_one_another_all_succeed(tmp_path: Path) -> None:
    with open_with(FakeEmbedder(), tmp_path / "data") as hf:
        hf.add("ada", "I never eat nuts.")
        with ThreadPoolExecutor(4) as pool:
            done = [pool.submit(hf.audit.rotate_key, drop_old=n % 2 == 0) for n in range(4)]
            assert len({each.result() for each in done}) == 4
        assert {from_file(key_file(tmp_path)).current} == wrapped_by(hf)
        assert hf.verify()


def test_a_rotation_keeps_the_old_key_while_a_data_key_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process that still has the old key in memory may make a data key with it."""
    with open_with(FakeEmbedder(), tmp_path / "data") as hf:
        hf.add("ada", "I never eat nuts.")
        old, real = hf.audit._record.vault.wrapper, rotation._drop_old  # pyright: ignore[reportPrivateUsage]

        def drop_old(record: Record, path: Path) -> None:
            new, record.vault.wrapper = record.vault.wrapper, old
            record.transact(lambda tx: tx.vault.create(tx.connection, tx.tenant))
            record.vault.wrapper = new
            real(record, path)

        with monkeypatch.context() as patched:
            patched.setattr(rotation, "_drop_old", drop_old)
            with pytest.raises(KeyUnavailableError, match=r"1 data keys .* no key was dropped"):
                hf.audit.rotate_key(drop_old=True)
        assert old.current in from_file(key_file(tmp_path)).names
        hf.audit.rotate_key(drop_old=True)
        assert {*from_file(key_file(tmp_path)).names} == wrapped_by(hf)


def test_a_rotation_begins_only_with_every_key_that_is_needed(tmp_path: Path) -> None:
    with open_with(FakeEmbedder(), tmp_path / "data") as hf:
        hf.add("ada", "I never eat nuts.")
        path = key_file(tmp_path)
        before = path.read_bytes()
        write_file(path, [bytes(32)])
        with pytest.raises(KeyUnavailableError, match="put the right key back"):
            hf.audit.rotate_key(drop_old=True)
        assert from_file(path).names == [key_name(bytes(32))]
        path.write_bytes(before)
        hf.add("bo", "I like dogs.")
        assert hf.verify()


def test_a_rotation_that_a_reader_asks_for_leaves_the_key_file_as_it_is(
    fake: Holdfast, tmp_path: Path
) -> None:
    fake.add("ada", "I never eat nuts.")
    before = key_file(tmp_path).read_bytes()
    with (
        Holdfast.open(fake.settings.data, read_only=True) as reader,
        pytest.raises(ReadOnlyError),
    ):
        reader.audit.rotate_key()
    assert key_file(tmp_path).read_bytes() == before


# What became of a call


@pytest.fixture
def asked(fake: Holdfast) -> str:
    """A retrieval for two subjects."""
    fake.add("acme", "Employees take trains.")
    fake.add("ada", "I never eat nuts.")
    return str(fake.retrieve(["acme", "ada"], "trains and nuts").evidence_id)


def without_chain(event: Evidence) -> dict[str, Any]:
    return {name: value for name, value in event.payload.items() if name != "chain"}


def test_a_call_and_its_judgement_are_recorded_with_exactly_what_was_given(
    fake: Holdfast, asked: str
) -> None:
    audit = fake.audit
    call = audit.begin_call(asked, provider=" a provider ", model="m-1", request_sha256=SENT)
    outcome = audit.end_call(
        call, model="m-1b", response_id="r-7", response="Grüße", input_tokens=12, output_tokens=0,
        finish_reason="stop", error=None,
    )  # fmt: skip
    check = audit.record_check(
        outcome, judgement="broken", by="a judge", statements=["st_one", "st_two"], why=" nuts "
    )
    early = audit.record_check(asked, judgement="unclear", by="a judge")
    events = [audit.entry(each) for each in (call, outcome, check, early)]
    assert [event.type for event in events] == ["call.intent", "call.outcome", "check", "check"]
    assert list(map(without_chain, events)) == [
        {"retrieval": asked, "provider": "a provider", "model": "m-1", "request_sha256": SENT},
        {
            "intent": call, "model": "m-1b", "response_id": "r-7",
            "response_sha256": hashlib.sha256("Grüße".encode()).hexdigest(),
            "input_tokens": 12, "output_tokens": 0, "finish_reason": "stop", "error": None,
        },
        {
            "of": outcome, "judgement": "broken", "by": "a judge",
            "statements": ["st_one", "st_two"], "reason": "nuts",
        },
        {"of": asked, "judgement": "unclear", "by": "a judge", "statements": [], "reason": None},
    ]  # fmt: skip
    before = audit.entry(asked)
    for event in events:  # about the same, each behind the one before
        assert event.subjects == ("acme", "ada")
        numbers = [link["sequence"] + 1 for link in before.payload["chain"]]
        assert event.payload["chain"] == [
            {"previous": before.id, "sequence": number} for number in numbers
        ]
        assert event.index == before.index + 1
        before = event
    assert fake.verify()


def test_of_a_call_that_failed_nothing_need_be_known(fake: Holdfast, asked: str) -> None:
    call = fake.audit.begin_call(asked, provider="p", model="m")
    assert without_chain(fake.audit.entry(call)) == {
        "retrieval": asked, "provider": "p", "model": "m", "request_sha256": None,
    }  # fmt: skip
    outcome = fake.audit.end_call(call, error="the provider did not answer")
    assert without_chain(fake.audit.entry(outcome)) == {
        "intent": call, "model": None, "response_id": None, "response_sha256": None,
        "input_tokens": None, "output_tokens": None, "finish_reason": None,
        "error": "the provider did not answer",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("response", "raw"),
    [("yes", b"yes"), (b"yes", b"yes"), ("", b""), (b"\xff\0", b"\xff\0"),
     ("\ud800", "\ud800".encode("utf-8", "surrogatepass"))],
)  # fmt: skip
def test_of_an_answer_only_its_hash_is_kept(
    fake: Holdfast, asked: str, response: str | bytes, raw: bytes
) -> None:
    call = fake.audit.begin_call(asked, provider="p", model="m")
    event = fake.audit.entry(fake.audit.end_call(call, response=response))
    assert event.payload["response_sha256"] == hashlib.sha256(raw).hexdigest()


def test_a_call_is_durable_before_it_is_made(fake: Holdfast, asked: str) -> None:
    call = fake.audit.begin_call(asked, provider="p", model="m")
    with Holdfast.open(fake.settings.data, read_only=True) as reader:
        assert reader.audit.entry(call).payload["retrieval"] == asked


def test_what_follows_what_is_enforced(fake: Holdfast, asked: str) -> None:
    audit = fake.audit
    put = audit.events(types=["statement.put"], limit=1)[0].id
    call = audit.begin_call(asked, provider="p", model="m")
    outcome = audit.end_call(call)
    check = audit.record_check(outcome, judgement="kept", by="a judge")
    gap = audit.record_gap("full", since="2026-01-01")
    size = len(leaves(fake))

    def begin(audit: Audit, event: str) -> str:
        return audit.begin_call(event, provider="p", model="m")

    def judge(audit: Audit, event: str) -> str:
        return audit.record_check(event, judgement="kept", by="a judge")

    wrong: list[tuple[Callable[[Audit, str], str], list[str], str]] = [
        (begin, [put, call, outcome, check, gap], "call.intent follows retrieval"),
        (Audit.end_call, [put, asked, outcome, check, gap], "call.outcome follows call.intent"),
        (judge, [put, call, check, gap], "check follows call.outcome or retrieval"),
    ]
    for record, events, words in wrong:
        for event in events:
            with pytest.raises(InvalidInputError, match=f"{event} is .*; {words}"):
                record(audit, event)
        with pytest.raises(NotFoundError, match="no evidence"):
            record(audit, "ev_2222")
    assert len(leaves(fake)) == size


def test_another_tenant_cannot_follow_an_event(tmp_path: Path) -> None:
    with open_with(FakeEmbedder(), tmp_path / "data", tenant="other") as other:
        theirs = str(other.retrieve("ada", "nuts").evidence_id)
    with open_with(FakeEmbedder(), tmp_path / "data") as hf:
        with pytest.raises(NotFoundError):
            hf.audit.begin_call(theirs, provider="p", model="m")
        assert hf.audit.events() == []


@pytest.mark.parametrize("gone", ["acme", "ada"])
def test_calls_and_judgements_are_erased_with_each_of_their_subjects(
    fake: Holdfast, asked: str, gone: str
) -> None:
    call = fake.audit.begin_call(asked, provider="p", model="m")
    outcome = fake.audit.end_call(call, response="yes")
    check = fake.audit.record_check(outcome, judgement="kept", by="a judge", why="no nuts")
    gap = fake.audit.record_gap("full", since="2026-01-01")
    events = [asked, call, outcome, check]
    fake.erase(gone)
    assert all(fake.audit.entry(event).erased for event in events)
    named = fake.audit.events(types=["erasure"])[0].payload["events.0"]
    assert set(events) < set(named)
    assert gap not in named
    assert fake.audit.entry(gap).payload["reason"] == "full"
    assert fake.verify().verdict == "VERIFIED-ERASED"


@pytest.mark.parametrize("gone", [["ada"], ["acme", "ada"]])
def test_nothing_more_is_recorded_of_what_was_erased(
    fake: Holdfast, asked: str, gone: list[str]
) -> None:
    """It would be about nobody, or about the others alone, and would outlive the erasure."""
    call = fake.audit.begin_call(asked, provider="p", model="m")
    outcome = fake.audit.end_call(call)
    for subject in gone:
        fake.erase(subject)
    size = len(leaves(fake))
    late: list[Callable[[], str]] = [
        lambda: fake.audit.begin_call(asked, provider="p", model="m"),
        lambda: fake.audit.end_call(call, response="no nuts for Ada"),
        lambda: fake.audit.record_check(asked, judgement="kept", by="j", why="Ada eats no nuts"),
        lambda: fake.audit.record_check(outcome, judgement="kept", by="j"),
    ]
    for record in late:
        with pytest.raises(ErasedError):
            record()
    assert len(leaves(fake)) == size


def test_what_became_of_a_call_is_taken_only_as_what_it_is(fake: Holdfast, asked: str) -> None:
    call = fake.audit.begin_call(asked, provider="p", model="m")
    taken: list[dict[str, Any]] = []
    for wrong in (
        {"model": 5}, {"response_id": ["r"]}, {"input_tokens": -1}, {"input_tokens": True},
        {"output_tokens": "many"}, {"finish_reason": {}}, {"error": ["words"]},
    ):  # fmt: skip
        given: dict[str, Any] = wrong
        with contextlib.suppress(InvalidInputError):
            fake.audit.end_call(call, **given)
            taken.append(given)
    assert taken == []


# Gaps


@pytest.mark.parametrize(
    ("since", "until", "written"),
    [
        ("2026-01-01", "2026-01-02T03:04:05+01:00",
         ("2026-01-01T00:00:00+00:00", "2026-01-02T02:04:05+00:00")),
        (date(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC),
         ("2026-01-01T00:00:00+00:00", "2026-01-01T00:00:00+00:00")),
    ],
)  # fmt: skip
def test_a_gap_is_recorded_about_nobody(
    fake: Holdfast, since: Any, until: Any, written: tuple[str, str]
) -> None:
    gap = fake.audit.entry(fake.audit.record_gap(" full ", since=since, until=until))
    assert (gap.type, gap.subjects) == ("gap", ())
    assert gap.payload == {"reason": "full", "since": written[0], "until": written[1]}
    assert fake.verify()


def test_a_gap_lasts_until_now_unless_it_ended_before(fake: Holdfast) -> None:
    before = datetime.now(UTC)
    gap = fake.audit.entry(fake.audit.record_gap("full", since="2026-01-01"))
    until = datetime.fromisoformat(gap.payload["until"])
    assert before <= until <= datetime.now(UTC)
    assert abs(gap.recorded_at - until) < timedelta(minutes=5)
    size = len(leaves(fake))
    for since in (datetime.now(UTC) + timedelta(days=1), "yesterday"):
        with pytest.raises(InvalidInputError):
            fake.audit.record_gap("full", since=since)
    assert len(leaves(fake)) == size
