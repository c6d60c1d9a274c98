"""The chain shows any change that was made to it while its head stands."""

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.memory import ledger
from holdfast.memory.database import Database
from holdfast.memory.errors import DamagedError, NotFoundError, StorageError
from holdfast.memory.models import Verification

COUNT = 5


def append(database: Database, payload: dict[str, Any], *subjects: str, tenant: str = "t") -> str:
    with database.write() as connection:
        return ledger.append(
            connection, tenant=tenant, type="retrieval", subjects=subjects, payload=payload
        )


def verified(database: Database, tenant: str = "t") -> Verification:
    with database.read() as connection:
        return ledger.verify(connection, tenant)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed database with a whole chain, never to be written to."""
    path = tmp_path_factory.mktemp("ledger") / "whole.db"
    database = Database(f"sqlite:///{path}", place="here")
    for number in range(COUNT):
        append(database, {"number": number}, "acme", "ada")
    append(database, {"number": 0}, "ada", tenant="other")
    database.close()
    return path


class Altered:
    """A copy of the chain, changed behind the program's back."""

    def __init__(self, whole: Path, folder: Path) -> None:
        self._path = folder / "altered.db"
        shutil.copy(whole, self._path)

    def change(self, *statements: str, values: tuple[Any, ...] = ()) -> "Altered":
        connection = sqlite3.connect(self._path)
        with connection:
            for statement in statements:
                assert connection.execute(statement, values).rowcount > 0
        connection.close()
        return self

    def verification(self) -> Verification:
        database = Database(f"sqlite:///{self._path}", place="here")
        try:
            return verified(database)
        finally:
            database.close()


@pytest.fixture
def altered(whole: Path, tmp_path: Path) -> Altered:
    return Altered(whole, tmp_path)


def test_what_is_appended_is_read_back_newest_first(database: Database) -> None:
    payload = {"text": "Ægir 海 🥜", "list": [1, {"deep": None}], "yes": True}
    first = append(database, payload, "acme", "ada")
    second = append(database, {}, "bo")
    with database.read() as connection:
        entries = ledger.entries(connection, "t")
        assert [entry.id for entry in entries] == [second, first]
        assert entries[1] == ledger.entry(connection, "t", first)
        assert (entries[1].payload, entries[1].subjects) == (payload, ("acme", "ada"))
        assert [entry.sequence for entry in entries] == [2, 1]
        assert entries[0].previous == entries[1].hash
        assert entries[1].previous == ledger.GENESIS
        assert [e.id for e in ledger.entries(connection, "t", subject="ada")] == [first]
        assert [e.id for e in ledger.entries(connection, "t", limit=1)] == [second]
        assert ledger.entries(connection, "t", subject="nobody") == []


def test_each_tenant_has_a_chain_of_its_own(database: Database) -> None:
    here = append(database, {"number": 1}, "ada")
    there = append(database, {"number": 1}, "ada", tenant="other")
    with database.read() as connection:
        assert ledger.entry(connection, "other", there).previous == ledger.GENESIS
        for tenant, foreign in (("t", there), ("other", here)):
            with pytest.raises(NotFoundError, match="holdfast audit list"):
                ledger.entry(connection, tenant, foreign)
            assert len(ledger.entries(connection, tenant, subject="ada")) == 1
    assert verified(database).checked == verified(database, "other").checked == 1
    assert verified(database, "third") == Verification(True, 0, ledger.GENESIS)


def test_an_entry_of_a_transaction_that_fails_is_not_there(database: Database) -> None:
    append(database, {"number": 1}, "ada")

    def fail() -> None:
        with database.write() as connection:
            ledger.append(connection, tenant="t", type="x", subjects=["ada"], payload={"n": 2})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (verified(database).ok, verified(database).checked) == (True, 1)
    append(database, {"number": 2}, "ada")
    assert (verified(database).ok, verified(database).checked) == (True, 2)


def test_a_whole_chain_is_verified_with_progress(database: Database) -> None:
    for number in range(300):
        append(database, {"number": number}, "ada")
    steps: list[tuple[int, int]] = []
    with database.read() as connection:
        found = ledger.verify(connection, "t", progress=lambda *step: steps.append(step))
        (newest,) = ledger.entries(connection, "t", limit=1)
    assert found == Verification(True, 300, newest.hash)
    assert steps == [(256, 300), (300, 300)]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_payload_reads_back_and_verifies(database: Database, value: Any) -> None:
    id_ = append(database, {"value": value}, "ada")
    with database.read() as connection:
        assert ledger.entry(connection, "t", id_).payload == {"value": value}
    assert verified(database).ok


OTHER_VALUES = ("altered", b"altered", 7, 2**61, 1.25, -1)


@pytest.mark.parametrize("value", OTHER_VALUES)
@pytest.mark.parametrize(
    "column",
    ["tenant", "sequence", "id", "type", "recorded_at", "payload", "previous", "hash"],
)
@pytest.mark.parametrize("sequence", [1, 3, COUNT])
def test_an_edit_of_any_column_of_any_entry_is_found(
    altered: Altered, column: str, value: Any, sequence: int
) -> None:
    altered.change(
        f"UPDATE evidence SET {column} = ? WHERE tenant = 't' AND sequence = {sequence}",
        values=(value,),
    )
    found = altered.verification()
    assert not found
    assert found.problem is not None
    if column != "sequence":  # which puts it elsewhere
        assert found.checked == sequence - 1


@pytest.mark.parametrize("value", OTHER_VALUES)
@pytest.mark.parametrize("column", ["tenant", "subject", "sequence", "position"])
def test_an_edit_of_any_column_of_who_it_is_about_is_found(
    altered: Altered, column: str, value: Any
) -> None:
    altered.change(
        f"UPDATE evidence_subjects SET {column} = ?"
        " WHERE tenant = 't' AND sequence = 2 AND subject = 'ada'",
        values=(value,),
    )
    assert not altered.verification()


@pytest.mark.parametrize("value", OTHER_VALUES)
@pytest.mark.parametrize("column", ["tenant", "sequence", "head"])
def test_an_edit_of_any_column_of_the_head_is_found(
    altered: Altered, column: str, value: Any
) -> None:
    altered.change(f"UPDATE ledgers SET {column} = ? WHERE tenant = 't'", values=(value,))
    found = altered.verification()
    assert (found.ok, found.checked) == (False, COUNT)


def swap(table: str, column: str, where: str) -> str:
    """Swap a column of the entries 2 and 3."""
    return (
        f"UPDATE {table} SET {column} = (SELECT o.{column} FROM {table} o WHERE o.tenant = 't'"
        f" AND o.sequence = 5 - {table}.sequence{where}) WHERE tenant = 't' AND sequence IN (2, 3)"
    )


@pytest.mark.parametrize(
    ("statements", "problem"),
    [
        (["DELETE FROM evidence WHERE tenant = 't' AND sequence = 3"], "entry 3 is missing"),
        (["DELETE FROM evidence WHERE tenant = 't' AND sequence = 1"], "entry 1 is missing"),
        (
            [f"DELETE FROM evidence WHERE tenant = 't' AND sequence = {COUNT}"],
            f"ends after {COUNT - 1} entries, and its recorded head is entry {COUNT}",
        ),
        (["DELETE FROM evidence WHERE tenant = 't'"], "ends after 0 entries"),
        (["DELETE FROM ledgers WHERE tenant = 't'"], "recorded head is entry 0"),
        (
            ["DELETE FROM evidence_subjects WHERE tenant = 't' AND subject = 'ada'"],
            "not what was recorded",
        ),
        (
            [  # one more entry at the end, made of the last one
                f"INSERT INTO evidence SELECT tenant, {COUNT + 1}, 'ev_2', type, recorded_at,"
                f" payload, hash, hash FROM evidence WHERE tenant = 't' AND sequence = {COUNT}"
            ],
            "not what was recorded",
        ),
        (
            ["INSERT INTO evidence_subjects VALUES ('t', 'eve', 2, 2)"],
            "not what was recorded",
        ),
        (
            [f"INSERT INTO evidence_subjects VALUES ('t', 'eve', {COUNT + 4}, 0)"],
            "an entry that is not there",
        ),
        ([swap("evidence", "payload", "")], "not what was recorded"),
        (
            [swap("evidence", "hash", "")],
            "not what was recorded",
        ),
        (
            [  # the two change places
                f"UPDATE evidence SET sequence = {number} WHERE tenant = 't' AND sequence = {old}"
                for old, number in ((2, 99), (3, 2), (99, 3))
            ],
            "does not follow the entry before it",
        ),
        (
            [  # who comes first
                "UPDATE evidence_subjects SET position = 1 - position"
                " WHERE tenant = 't' AND sequence = 4"
            ],
            "not what was recorded",
        ),
    ],
)
def test_deletion_insertion_and_reordering_are_found_and_named(
    altered: Altered, statements: list[str], problem: str
) -> None:
    found = altered.change(*statements).verification()
    assert not found
    assert found.problem is not None
    assert problem in found.problem
    assert "FAILED" in str(found)


def test_text_that_is_no_text_is_an_error_and_never_passes(altered: Altered) -> None:
    altered.change("UPDATE evidence SET type = CAST(x'fffe' AS TEXT) WHERE sequence = 2")
    with pytest.raises(StorageError):
        altered.verification()


@pytest.mark.parametrize(
    ("column", "value"),
    [("payload", b"no JSON"), ("payload", 5), ("recorded_at", "noon"), ("recorded_at", 2**61)],
)
def test_an_entry_that_cannot_be_read_is_damaged_and_the_message_names_the_check(
    database: Database, tmp_path: Path, column: str, value: Any
) -> None:
    id_ = append(database, {"text": "I never eat nuts"}, "ada")
    connection = sqlite3.connect(tmp_path / "test.db")
    with connection:
        connection.execute(f"UPDATE evidence SET {column} = ?", (value,))
    connection.close()
    with database.read() as connection:
        with pytest.raises(DamagedError, match="holdfast audit verify"):
            ledger.entry(connection, "t", id_)
        with pytest.raises(DamagedError, match="holdfast audit verify"):
            ledger.entries(connection, "t")
        assert not ledger.verify(connection, "t")
