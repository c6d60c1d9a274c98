"""Whoever can write to the database, and has no key, is found out by ``verify``.

Every column of every table is edited in turn, rows are removed, doubled and swapped, the
tail is dropped and checkpoints are reset, each time in a transaction that is then undone.
What was signed before lies outside the database, where the adversary does not reach.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import open_with
from fakes import FakeEmbedder
from sqlalchemy import Column, Connection, Table, func, select, text
from sqlalchemy.exc import IntegrityError

from holdfast import Holdfast
from holdfast.memory import schema, verification
from holdfast.memory.models import Verification
from holdfast.memory.record import Snapshot
from holdfast.memory.signer import Signer

WATCHED = [
    schema.ledger, schema.payloads, schema.statements, schema.decisions, schema.weighed,
    schema.proposals, schema.policies, schema.subjects, schema.vectors, schema.embedders,
    schema.subject_events, schema.tiles, schema.ledgers, schema.data_keys, schema.api_keys,
]  # fmt: skip
FREE = {"name", "created_at", "used_at"}
"""Of an access key: what no event records, as docs/audit.md says."""
COLUMNS = [
    (table, column)
    for table in WATCHED
    for column in table.columns
    if not (table is schema.api_keys and column.name in FREE)
]


def fill(hf: Holdfast) -> None:
    """Leave something in every table, and more leaves than fill a tile."""
    texts = ["I love night trains", "I never eat nuts", "No planes, ever", "Be blunt with me."]
    first = hf.add_many("ada", texts, split=False, contexts=["travel"])
    hf.add_many("acme", ["Employees take trains", "Planes need a permit"], split=False)
    for number in range(2):
        hf.decide(
            "ada", situation=f"Two jobs {number}", choice="trains", reason="I love trains",
            weighed=[first[0].id, first[1].id, first[2].id],
        )  # fmt: skip
    hf.revise(first[0].id, "I love night trains to Rome", reason="been there")
    hf.retire(first[1].id, reason="grown out of it")
    proposals = [hf.propose("ada", f"I like boats {n}.", source="tool")[0] for n in range(4)]
    hf.confirm(proposals[0].id)
    hf.reject(proposals[1].id)
    hf.add("gone", "This will be erased.")
    for number in range(250):
        hf.retrieve(["acme", "ada"] if number % 3 else "ada", f"night trains {number}")
    call = hf.audit.begin_call(hf.evidence(limit=1)[0].id, provider="p", model="m")
    hf.audit.end_call(call, model="m-1", response="yes")
    hf.retrieve(["acme", "gone"], "what will be erased")
    for subject in ("ada", "gone"):
        hf.access.create("a phone", role="personal", subject=subject)
    made = hf.access.create("an application", role="app", expires_at="2030-01-01", quota=9)[0]
    hf.access.rotate(made.id)
    hf.access.revoke(hf.access.create("an auditor", role="auditor")[0].id)
    hf.erase("gone", reason="asked")


SAYS_NOTHING = {  # the order of the subjects of an event whose payload is erased opens nothing
    "subject_events.place": "WHERE position IN (SELECT position FROM payloads)",
}


@dataclass
class Target:
    """A database under attack, and the checkpoint that the auditor kept."""

    holdfast: Holdfast
    kept: str

    def attack(self, *statements: str, values: dict[str, Any] | None = None) -> Verification | None:
        """Run statements, verify what they leave, and undo them; None: they are refused."""
        record = self.holdfast.audit._record  # pyright: ignore[reportPrivateUsage]
        engine = record.database.engine
        with engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            driver.execute("PRAGMA foreign_keys = OFF")
            connection.rollback()
            try:
                counts = [
                    connection.execute(text(each), values or {}).rowcount for each in statements
                ]
                assert counts[0] > 0, "nothing was changed"
                return self.verify(connection)
            except IntegrityError:
                return None
            finally:
                connection.rollback()
                driver.execute("PRAGMA foreign_keys = ON")

    def verify(self, connection: Connection) -> Verification:
        record = self.holdfast.audit._record  # pyright: ignore[reportPrivateUsage]
        signer: Signer = self.holdfast.audit._signer  # pyright: ignore[reportPrivateUsage]
        record.vault.forget()
        snapshot = Snapshot(connection, record.tenant, record.vault, record.database)
        signed = verification.read_signed(snapshot, signer)
        return verification.verify_state(snapshot, signed, self.kept)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    path = tmp_path_factory.mktemp("adversary")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CONFIG_HOME", str(path / "config"))
        with open_with(FakeEmbedder("earlier", 32), path / "data") as earlier:
            earlier.add("ada", "I walk to work")
        with open_with(FakeEmbedder(), path / "data") as hf:
            fill(hf)
            yield Target(hf, hf.audit.checkpoint().note)


def rows(target: Target, table: Table, but: str = "") -> list[int]:
    """Give the places of two rows: the first and the last."""
    query = f"SELECT rowid FROM {table.name} {but} ORDER BY rowid"
    with target.holdfast.audit._record.database.read() as connection:  # pyright: ignore[reportPrivateUsage]
        rowids = list(connection.execute(text(query)).scalars())
    assert rowids, f"{table.name} is empty: nothing is tested"
    return sorted({rowids[0], rowids[-1]})


def others(value: Any, neighbour: Any) -> list[Any]:
    """Give values that might be written in place of one."""
    if isinstance(value, bytes):
        return [bytes([value[0] ^ 1]) + value[1:], value[:-1], neighbour]
    if isinstance(value, str):
        return ["altered", value + " ", neighbour]
    if isinstance(value, int):
        return [value + 1, value - 1, 2**62, "text", neighbour]
    return ["altered", 7, neighbour]


OF_OTHER_KINDS = (b"\xff", "text", 7, 1.5)
"""Put into the last row of a table, in any column: it cannot be read as what it should be."""


def test_what_was_filled_in_holds(target: Target) -> None:
    found = target.holdfast.verify(checkpoint=target.kept)
    assert found.ok, found
    assert found.verdict == "VERIFIED-ERASED"
    assert found.checked == found.covered > 256
    for table in WATCHED:
        assert rows(target, table)


@pytest.mark.parametrize(
    ("table", "column"), COLUMNS, ids=[f"{table.name}.{column.name}" for table, column in COLUMNS]
)
def test_an_edit_of_any_column_is_found(target: Target, table: Table, column: Column[Any]) -> None:
    tried = 0
    places = rows(target, table, SAYS_NOTHING.get(f"{table.name}.{column.name}", ""))
    for place in places:
        with target.holdfast.audit._record.database.read() as connection:  # pyright: ignore[reportPrivateUsage]
            where = f"FROM {table.name} WHERE rowid"
            value = connection.execute(text(f"SELECT {column.name} {where} = {place}")).scalar()
            other = connection.execute(text(f"SELECT {column.name} {where} <> {place}")).scalar()
        odd = OF_OTHER_KINDS if place == places[-1] else ()
        for new in [*others(value, other), *odd, None]:
            if new == value and type(new) is type(value):
                continue
            found = target.attack(
                f"UPDATE {table.name} SET {column.name} = :new WHERE rowid = {place}",
                values={"new": new},
            )
            if found is None:
                continue
            tried += 1
            assert not found.ok, f"{table.name}.{column.name} of row {place}: {value!r} → {new!r}"
            assert found.problem
    assert tried >= 2


@pytest.mark.parametrize("table", WATCHED, ids=lambda table: table.name)
def test_a_row_that_is_removed_is_found(target: Target, table: Table) -> None:
    for place in rows(target, table):
        found = target.attack(f"DELETE FROM {table.name} WHERE rowid = {place}")
        assert found is not None
        assert not found.ok, f"{table.name} without row {place}"
    found = target.attack(f"DELETE FROM {table.name}")
    assert found is not None
    assert not found.ok, f"{table.name} emptied"


PLAIN = "(SELECT min(key) FROM statements WHERE kind <> 'decision')"


def columns_but(table: Table, *left_out: str) -> str:
    return ", ".join(column.name for column in table.columns if column.name not in left_out)


@pytest.mark.parametrize(
    ("table", "changes"),
    [
        (schema.ledger, {"position": "99999", "event": "'ev_another'"}),
        (schema.payloads, {"position": "99999"}),
        (schema.statements, {"key": "'another'", "id": "'st_another'"}),
        (schema.statements, {"key": "'another'", "version": "77"}),
        (
            schema.decisions,
            {"statement_key": "(SELECT min(key) FROM statements WHERE kind <> 'decision')"},
        ),
        (schema.weighed, {"position": "3"}),
        (schema.proposals, {"id": "'pr_another'"}),
        (schema.policies, {"position": "99999"}),
        (schema.subject_events, {"sequence": "99999", "place": "9"}),
        (schema.api_keys, {"id": "'another'"}),
        (schema.tiles, {"number": "99"}),
        (schema.tiles, {"level": "9"}),
    ],
    ids=lambda value: value.name if isinstance(value, Table) else "-".join(value),
)
def test_a_row_that_is_put_in_is_found(
    target: Target, table: Table, changes: dict[str, str]
) -> None:
    kept = columns_but(table, *changes)
    names, values = ", ".join([*changes, kept]), ", ".join([*changes.values(), kept])
    place = rows(target, table)[-1]
    found = target.attack(
        f"INSERT INTO {table.name} ({names}) "
        f"SELECT {values} FROM {table.name} WHERE rowid = {place}"
    )
    assert found is not None
    assert not found.ok


@pytest.mark.parametrize(("one", "other"), [(5, 6), (3, 250), (-1, -2)])
def test_two_payloads_that_are_swapped_are_found(target: Target, one: int, other: int) -> None:
    size = target.holdfast.audit.last_checkpoint().size  # pyright: ignore[reportOptionalMemberAccess]
    one, other = one % size - 2 * (one < 0), other % size - 2 * (other < 0)
    found = target.attack(
        f"UPDATE payloads SET position = -7 WHERE position = {one}",
        f"UPDATE payloads SET position = {one} WHERE position = {other}",
        f"UPDATE payloads SET position = {other} WHERE position = -7",
    )
    assert found is not None
    assert found.failed_at is not None
    assert found.failed_at.startswith(f"leaf {min(one, other)} ")


def test_two_leaves_that_change_places_are_found_with_all_that_belongs_to_them(
    target: Target,
) -> None:
    moves = [
        f"UPDATE {table} SET position = {new} WHERE position = {old}"
        for table in ("ledger", "payloads", "subject_events")
        for old, new in ((20, -7), (21, 20), (-7, 21))
    ]
    found = target.attack(*moves)
    assert found is not None
    assert not found.ok


@pytest.mark.parametrize("count", [1, 2, 100, 10_000])
def test_a_dropped_tail_is_found_also_with_sizes_and_checkpoints_made_to_match(
    target: Target, count: int
) -> None:
    with target.holdfast.audit._record.database.read() as connection:  # pyright: ignore[reportPrivateUsage]
        size = connection.execute(select(func.max(schema.ledger.c.position))).scalar_one() + 1
    left = max(0, size - count)
    drop = [
        f"DELETE FROM {table} WHERE position >= {left}"
        for table in ("ledger", "payloads", "subject_events")
    ]
    for more in (
        [],
        [f"UPDATE ledgers SET size = {left}"],
        [f"UPDATE ledgers SET size = {left}", "DELETE FROM checkpoints"],
        [f"UPDATE ledgers SET size = {left}", "DELETE FROM checkpoints", "DELETE FROM tiles"],
    ):
        found = target.attack(*drop, *more)
        assert found is not None
        assert not found.ok


def test_a_checkpoint_that_is_reset_is_found(target: Target) -> None:
    for statement in (
        "DELETE FROM checkpoints",
        "UPDATE checkpoints SET note = 'altered'",
        "UPDATE checkpoints SET size = size - 1",
        "UPDATE checkpoints SET log = 'another'",
        "UPDATE checkpoints SET note = replace(note, 'holdfast/', 'elsewhere/')",
    ):
        found = target.attack(statement)
        assert found is not None
        assert not found.ok, statement


def test_everything_of_the_tenant_removed_is_found(target: Target) -> None:
    everything = [f"DELETE FROM {table.name}" for table in WATCHED]
    found = target.attack(*everything)
    assert found is not None
    assert "was kept of it" in str(found.problem)
    record = target.holdfast.audit._record  # pyright: ignore[reportPrivateUsage]
    signer: Signer = target.holdfast.audit._signer  # pyright: ignore[reportPrivateUsage]
    with record.database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
        for statement in everything:
            connection.execute(text(statement))
        snapshot = Snapshot(connection, record.tenant, record.vault, record.database)
        found = verification.verify_state(snapshot, verification.read_signed(snapshot, signer))
        connection.rollback()
    assert not found.ok
    assert "checkpoints of it are in" in str(found.problem)


def test_a_fake_erasure_is_found(target: Target) -> None:
    """A payload that is removed, and an erasure that names it but was never recorded."""
    found = target.attack("DELETE FROM payloads WHERE position = 30")
    assert found is not None
    assert "its payload is missing, and no erasure names it" in str(found.problem)
    found = target.attack(
        "DELETE FROM payloads WHERE position = 30",
        "UPDATE ledger SET type = 'erasure' WHERE position = 31",
    )
    assert found is not None
    assert not found.ok


def test_a_payload_that_was_erased_and_is_put_back_is_found(target: Target) -> None:
    erased = next(e for e in target.holdfast.audit.events(limit=None) if e.erased)
    found = target.attack(
        "INSERT INTO payloads (tenant, position, sealed) "
        f"SELECT tenant, {erased.index}, sealed FROM payloads WHERE position = 30"
    )
    assert found is not None
    assert "it was erased, and its payload is there" in str(found.problem)


@pytest.mark.parametrize(
    "change", ["role = 'admin'", "revoked_at = NULL", "quota = NULL", "expires_at = NULL"]
)
def test_an_access_key_that_may_do_more_is_found_by_its_id(target: Target, change: str) -> None:
    column = change.split()[0]
    found = target.attack(f"UPDATE api_keys SET {change} WHERE {column} IS NOT NULL")
    assert found is not None
    assert str(found.failed_at).startswith("the access key ")
    assert found.problem == "its row is not what the ledger recorded"


def test_an_edit_names_the_leaf_or_the_row(target: Target) -> None:
    found = target.attack(
        "UPDATE ledger SET leaf = CAST(replace(leaf, :old, :new) AS BLOB) WHERE position = 40",
        values={"old": '"time":', "new": '"time":9'},
    )
    assert found is not None
    assert found.failed_at is not None
    assert found.failed_at.startswith("leaf 40")
    found = target.attack("UPDATE statements SET kind = 'goal' WHERE version = 2")
    assert found is not None
    assert found.failed_at is not None
    assert found.failed_at.startswith("statement st_")
    assert found.failed_at.endswith("version 2")
    assert found.problem == "its row is not what the ledger recorded"


def test_another_installations_identity_opens_nothing(target: Target, tmp_path: Path) -> None:
    """The id of the installation is bound into every wrapped key."""
    record = target.holdfast.audit._record  # pyright: ignore[reportPrivateUsage]
    before = record.vault._installation  # pyright: ignore[reportPrivateUsage]
    record.vault._installation = "another"  # pyright: ignore[reportPrivateUsage]
    try:
        with record.database.read() as connection:
            assert not target.verify(connection).ok
    finally:
        record.vault._installation = before  # pyright: ignore[reportPrivateUsage]
        record.vault.forget()
    assert target.holdfast.verify(checkpoint=target.kept).ok
