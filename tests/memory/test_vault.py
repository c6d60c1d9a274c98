"""A data key for each subject: what it seals opens in its place only, and dies with the key."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select, text, update

from holdfast.memory import ledger, store
from holdfast.memory import vault as vaults
from holdfast.memory.database import Database
from holdfast.memory.errors import ConfigurationError, DamagedError, ErasedError
from holdfast.memory.keys import KeySource, from_file
from holdfast.memory.record import Record, Transaction, open_vault
from holdfast.memory.rotation import rotate
from holdfast.memory.schema import data_keys
from holdfast.memory.sealing import Sealer


@given(st.binary(), st.text(st.characters(codec="utf-8"), max_size=20))
def test_what_is_sealed_opens_as_it_was(plain: bytes, about: str) -> None:
    sealer = Sealer(bytes(32))
    sealed = sealer.seal(plain, about)
    assert sealer.open(sealed, about) == plain
    assert sealed != sealer.seal(plain, about)
    assert len(sealed) == len(plain) + 28


def test_sealed_values_cannot_be_altered_swapped_or_opened_with_another_key() -> None:
    sealer = Sealer(bytes(32))
    sealed = sealer.seal(b"I never eat nuts", "statement 1")
    for place in range(len(sealed)):
        with pytest.raises(DamagedError, match="statement 1 was altered"):
            sealer.open(
                sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :], "statement 1"
            )
    for other in (b"", sealed[:11], sealed[:-1], sealed + b"x"):
        with pytest.raises(DamagedError):
            sealer.open(other, "statement 1")
    with pytest.raises(DamagedError):
        sealer.open(sealed, "statement 2")
    with pytest.raises(DamagedError):
        Sealer(bytes(31) + b"\1").open(sealed, "statement 1")


def test_a_keyed_hash_is_equal_for_equals_and_differs_between_keys() -> None:
    one, two = Sealer(bytes(32)), Sealer(bytes(31) + b"\1")
    assert one.keyed_hash(b"nuts") == Sealer(bytes(32)).keyed_hash(b"nuts")
    assert one.keyed_hash(b"nuts") != one.keyed_hash(b"nut")
    assert one.keyed_hash(b"nuts") != two.keyed_hash(b"nuts")
    assert len(one.keyed_hash(b"")) == 32


def test_what_is_sealed_for_several_needs_the_keys_of_all_in_their_order() -> None:
    one, two = Sealer(bytes(32)), Sealer(bytes(31) + b"\1")
    joint = Sealer.joint([one, two])
    sealed = joint.seal(b"text", "x")
    assert Sealer.joint([Sealer(bytes(32)), two]).open(sealed, "x") == b"text"
    for sealer in (one, two, Sealer.joint([two, one]), Sealer.joint([one, one])):
        with pytest.raises(DamagedError):
            sealer.open(sealed, "x")
    assert Sealer.joint([one]) is one


def test_a_data_key_lies_wrapped_and_opens_again(database: Database, tmp_path: Path) -> None:
    source = KeySource(folder=tmp_path / "keys")
    vault = open_vault(database, source)
    with database.write() as connection:
        name = vault.create(connection, "local")
        secret = vault.secret(connection, name)
        row = connection.execute(select(data_keys)).one()
    assert len(secret) == 32
    assert secret not in row.wrapped
    again = open_vault(database, source)
    with database.read() as connection:
        assert again.secret(connection, name) == secret
        sealed = vault.sealer(connection, name).seal(b"text", "x")
        assert again.sealer(connection, name).open(sealed, "x") == b"text"
        with pytest.raises(DamagedError):
            again.secret(connection, name, "signing")


def test_a_data_key_put_in_anothers_place_or_tenant_does_not_open(
    database: Database, tmp_path: Path
) -> None:
    vault = open_vault(database, KeySource(folder=tmp_path / "keys"))
    with database.write() as connection:
        one, two = vault.create(connection, "local"), vault.create(connection, "local")
        taken = select(data_keys.c.wrapped).where(data_keys.c.key == two).scalar_subquery()
        connection.execute(update(data_keys).where(data_keys.c.key == one).values(wrapped=taken))
        with pytest.raises(DamagedError):
            vault.secret(connection, one)
        connection.execute(update(data_keys).where(data_keys.c.key == two).values(tenant="other"))
        with pytest.raises(DamagedError):
            vault.secret(connection, two)


def test_an_erased_data_key_is_gone_for_good(database: Database, tmp_path: Path) -> None:
    vault = open_vault(database, KeySource(folder=tmp_path / "keys"))
    with database.write() as connection:
        name = vault.create(connection, "local")
        vault.sealer(connection, name)
        vault.erase(connection, name)
    vault.forget()
    with database.read() as connection, pytest.raises(ErasedError):
        vault.sealer(connection, name)


def test_only_so_many_keys_are_held_in_memory(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vaults, "MOST_SEALERS", 3)
    vault = open_vault(database, KeySource(folder=tmp_path / "keys"))
    with database.write() as connection:
        names = [vault.create(connection, "local") for _ in range(6)]
        sealers = [vault.sealer(connection, name) for name in names]
        assert vault.sealer(connection, names[-1]) is sealers[-1]
        assert vault.sealer(connection, names[0]) is not sealers[0]
        assert len(vault._held) == 3  # pyright: ignore[reportPrivateUsage]


# Rotation


def filled(database: Database, source: KeySource, subjects: int) -> Record:
    record = Record(database, open_vault(database, source), "local")

    def work(tx: Transaction) -> None:
        for number in range(subjects):
            found = store.ensure_subject(tx, f"subject {number}")
            ledger.append(tx, "gap", {"n": number}, subjects=[found.key])

    record.transact(work)
    return record


def wrapped_by(database: Database) -> dict[str, int]:
    with database.read() as connection:
        rows = connection.execute(
            select(data_keys.c.wrapped_by, func.count()).group_by(data_keys.c.wrapped_by)
        )
        return {row[0]: row[1] for row in rows}


def test_a_rotation_wraps_every_key_anew_and_changes_nothing_else(
    database: Database, tmp_path: Path
) -> None:
    source = KeySource(folder=tmp_path / "keys")
    record = filled(database, source, 450)
    path = source.path(next(each.name for each in (tmp_path / "keys").iterdir()))
    before = from_file(path).current
    steps: list[tuple[int, int]] = []
    with database.read() as connection:
        sealed = connection.execute(text("SELECT sealed FROM payloads ORDER BY position")).all()
    event = rotate(record, source, progress=lambda *step: steps.append(step))
    after = from_file(path)
    assert after.names == [after.current, before]
    assert wrapped_by(database) == {after.current: 452}
    assert steps[-1] == (452, 452)
    assert [total for _, total in steps] == [452] * 3
    with database.read() as connection:
        rows = connection.execute(text("SELECT sealed FROM payloads ORDER BY position")).all()
        assert rows[:-1] == sealed
    with record.snapshot() as snapshot:
        noted = ledger.entry(snapshot, event)
        assert noted.type == "key.rotate"
        assert noted.payload == {"before": before, "after": after.current, "data_keys": 452}
        assert len(ledger.entries(snapshot, subject="subject 7")) == 1
    again = Record(database, open_vault(database, source), "local")
    with again.snapshot() as snapshot:
        assert ledger.entries(snapshot, subject="subject 7")[0].payload["n"] == 7


def test_the_old_key_is_dropped_only_when_it_is_asked_for(
    database: Database, tmp_path: Path
) -> None:
    source = KeySource(folder=tmp_path / "keys")
    record = filled(database, source, 2)
    rotate(record, source, drop_old=True)
    path = source.path(next(each.name for each in (tmp_path / "keys").iterdir()))
    assert len(from_file(path).names) == 1
    with Record(database, open_vault(database, source), "local").snapshot() as snapshot:
        assert len(ledger.entries(snapshot)) == 3


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("batches", [0, 1, 2])
def test_an_interrupted_rotation_goes_on_with_the_same_key(
    database: Database, tmp_path: Path, batches: int
) -> None:
    source = KeySource(folder=tmp_path / "keys")
    record = filled(database, source, 450)
    path = source.path(next(each.name for each in (tmp_path / "keys").iterdir()))
    real, done = record.transact, []

    def transact(work: Any) -> Any:
        if len(done) == batches:
            raise StoppedError
        done.append(1)
        return real(work)

    record.transact = transact  # type: ignore[method-assign]
    with pytest.raises(StoppedError):
        rotate(record, source)
    keys = from_file(path)
    assert wrapped_by(database).get(keys.current, 0) == 200 * batches
    again = Record(database, open_vault(database, source), "local")
    with again.snapshot() as snapshot:
        assert len(ledger.entries(snapshot)) == 450
    rotate(again, source)
    assert from_file(path).names == keys.names
    assert wrapped_by(database) == {keys.current: 452}


def test_with_a_key_in_the_environment_the_new_one_must_be_given_first(
    database: Database, tmp_path: Path
) -> None:
    old, new = "00" * 32, "11" * 32
    record = filled(database, KeySource(folder=tmp_path, master_key=old), 3)
    with pytest.raises(ConfigurationError, match="put the new key in front"):
        rotate(record, KeySource(folder=tmp_path, master_key=old))
    both = KeySource(folder=tmp_path, master_key=f"{new},{old}")
    rotate(Record(database, open_vault(database, both), "local"), both)
    alone = KeySource(folder=tmp_path, master_key=new)
    with Record(database, open_vault(database, alone), "local").snapshot() as snapshot:
        assert len(ledger.entries(snapshot)) == 4
    assert {each.name[:7] for each in tmp_path.iterdir()} == {"test.db"}  # no key file was made


@pytest.mark.parametrize("name", ["X'FF'", "7", "'text'", "'../../elsewhere'", f"'{'F' * 32}'"])
def test_a_database_that_names_no_installation_is_not_opened(tmp_path: Path, name: str) -> None:
    database = Database(f"sqlite:///{tmp_path / 'test.db'}", place="here")
    source = KeySource(folder=tmp_path / "keys")
    assert open_vault(database, source)
    with database.write() as connection:
        connection.execute(text(f"UPDATE installation SET id = {name}"))
    with pytest.raises(DamagedError, match="the name of the installation in here was altered"):
        open_vault(database, source)
