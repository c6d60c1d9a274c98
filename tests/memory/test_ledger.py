"""The log takes events in order, binds their fields, names nobody, and reads them back."""

import ast
import base64
import hashlib
import json
import threading
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from holdfast.memory import ledger, merkle, policies, proposals, store, tiles
from holdfast.memory.canonical import GREATEST, canonical
from holdfast.memory.errors import DamagedError, ErasedError, InvalidInputError, NotFoundError
from holdfast.memory.ledger import Encoded
from holdfast.memory.models import EVENT_TYPES, EventType
from holdfast.memory.record import Record, Transaction

Fields = dict[str, Any]


def append(
    record: Record,
    fields: Fields,
    *subjects: str,
    type: EventType = "retrieval",  # noqa: A002
) -> str:
    def work(tx: Transaction) -> str:
        keys = [store.ensure_subject(tx, name).key for name in subjects]
        return ledger.append(tx, type, fields, subjects=keys)

    return record.transact(work)


def row(record: Record, event: str) -> Any:
    with record.database.read() as connection:
        query = (
            "SELECT l.*, p.sealed FROM ledger l LEFT JOIN payloads p "
            "ON p.tenant = l.tenant AND p.position = l.position WHERE event = :event"
        )
        return connection.execute(text(query), {"event": event}).one()


def test_what_is_appended_is_read_back_newest_first(record: Record) -> None:
    fields = {"text": "Ægir 海 🥜", "list": [1, {"deep": None}], "yes": True}
    first = append(record, fields, "acme", "ada")
    second = append(record, {}, "bo", type="check")
    with record.snapshot() as snapshot:
        entries = ledger.entries(snapshot)
        assert [entry.id for entry in entries] == [second, first]
        assert entries[1] == ledger.entry(snapshot, first)
        assert {name: entries[1].payload[name] for name in fields} == fields
        assert (entries[1].subjects, entries[1].index, entries[1].type) == (
            ("acme", "ada"), 0, "retrieval",
        )  # fmt: skip
        assert [e.id for e in ledger.entries(snapshot, subject="ada")] == [first]
        assert [e.id for e in ledger.entries(snapshot, types=["check"])] == [second]
        assert [e.id for e in ledger.entries(snapshot, limit=1)] == [second]
        assert ledger.entries(snapshot, subject="nobody") == []
        assert ledger.subject_keys(snapshot, 0) == [1, 2]


def test_a_leaf_holds_what_the_design_says_and_names_nobody(record: Record) -> None:
    event = append(record, {"text": "I never eat nuts"}, "quillon")
    found = row(record, event)
    leaf = json.loads(found.leaf)
    assert set(leaf) == {"v", "type", "id", "time", "commit", "sealed"}
    assert canonical(leaf) == found.leaf
    assert (leaf["v"], leaf["type"], leaf["id"]) == (1, "retrieval", event)
    assert leaf["sealed"] == hashlib.sha256(found.sealed).hexdigest()
    assert len(found.leaf) < 400
    for secret in (b"quillon", b"nuts", hashlib.sha256(b"quillon").hexdigest().encode()):
        assert secret not in found.leaf
    assert b"nuts" not in found.sealed


def test_the_commitment_binds_each_field_with_a_salt_of_its_own(record: Record) -> None:
    fields = {"one": 1, "two": "2", "same": 1}
    event = append(record, fields)
    with record.snapshot() as snapshot:
        lines = ledger.lines_of(snapshot, 0, event)
    salts: set[str] = set()
    for line in lines:
        salt, name, value = json.loads(line)
        assert canonical([salt, name, value]) == line
        assert len(base64.b64decode(salt)) == 32
        assert fields[name] == value
        salts.add(salt)
    assert len(salts) == len(fields) == len(lines)
    digests = sorted(hashlib.sha256(line).digest() for line in lines)
    assert (
        json.loads(row(record, event).leaf)["commit"]
        == hashlib.sha256(b"".join(digests)).hexdigest()
    )


def test_the_same_fields_never_give_the_same_leaf(record: Record) -> None:
    leaves = [json.loads(row(record, append(record, {"n": 1}, "ada")).leaf) for _ in range(3)]
    for name in ("id", "commit", "sealed"):
        assert len({leaf[name] for leaf in leaves}) == 3


def test_events_of_a_subject_are_numbered_and_name_the_one_before(record: Record) -> None:
    first = append(record, {}, "ada")
    append(record, {}, "bo")
    second = append(record, {}, "bo", "ada")
    third = append(record, {}, "ada")
    with record.snapshot() as snapshot:
        chains = {e.id: e.payload["chain"] for e in ledger.entries(snapshot)}
    assert chains[first] == [{"previous": None, "sequence": 1}]
    assert chains[second][1] == {"previous": first, "sequence": 2}
    assert chains[second][0]["sequence"] == 2
    assert chains[third] == [{"previous": second, "sequence": 3}]


@given(
    st.dictionaries(
        st.text(st.characters(codec="ascii", categories=["Ll"]), min_size=1, max_size=8),
        st.recursive(
            st.none() | st.booleans() | st.integers(-GREATEST, GREATEST) | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        ),
        max_size=5,
    )
)
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_fields_read_back(record: Record, fields: Fields) -> None:
    fields = {f"own_{name}": value for name, value in fields.items()}
    event = append(record, fields, "ada")
    with record.snapshot() as snapshot:
        payload = ledger.entry(snapshot, event).payload
    assert {name: payload[name] for name in fields} == fields


@pytest.mark.parametrize("value", [1.5, b"x", {1: 2}, 2**60, "\ud800", {"a": [1.0]}])
def test_what_has_no_canonical_form_is_refused_by_its_name_and_leaves_nothing(
    record: Record, value: Any
) -> None:
    append(record, {"n": 1})
    with pytest.raises(InvalidInputError, match="broken cannot be recorded"):
        append(record, {"broken": value}, "ada")
    with record.snapshot() as snapshot:
        log = ledger.log(snapshot)
        assert log is not None
        assert log.size == 1
        assert store.subject(snapshot, "ada") is None


def test_a_value_that_is_encoded_already_is_taken_as_it_is(record: Record) -> None:
    event = append(record, {"policy": Encoded(canonical({"b": 1, "a": [2]}))})
    with record.snapshot() as snapshot:
        assert ledger.entry(snapshot, event).payload == {"policy": {"b": 1, "a": [2]}}


def test_each_tenant_has_a_log_of_its_own(record: Record) -> None:
    other = Record(record.database, record.vault, "other")
    here, there = append(record, {"n": 1}, "ada"), append(other, {"n": 1}, "ada")
    with record.snapshot() as ours, other.snapshot() as theirs:
        assert ledger.entry(theirs, there).index == ledger.entry(ours, here).index == 0
        for snapshot, foreign in ((ours, there), (theirs, here)):
            with pytest.raises(NotFoundError, match="holdfast audit list"):
                ledger.entry(snapshot, foreign)
            assert len(ledger.entries(snapshot, subject="ada")) == 1
        one, two = ledger.log(ours), ledger.log(theirs)
        assert one is not None
        assert two is not None
        assert one.origin != two.origin
        assert one.origin.startswith("holdfast/")


@pytest.mark.parametrize("event", ["ev_unknown", "I never eat nuts", "", None, 7])
def test_an_unknown_event_is_not_found_and_quoted_only_if_it_is_an_id(
    record: Record, event: Any
) -> None:
    append(record, {})
    with record.snapshot() as snapshot, pytest.raises(NotFoundError) as refused:
        ledger.entry(snapshot, event)
    assert ("ev_unknown" in str(refused.value)) == (event == "ev_unknown")
    assert "nuts" not in str(refused.value)


def test_an_event_of_a_transaction_that_fails_is_not_there(record: Record) -> None:
    append(record, {"n": 1}, "ada")

    def fail(tx: Transaction) -> None:
        ledger.append(tx, "retrieval", {"n": 2}, subjects=[1])
        raise RuntimeError

    with pytest.raises(RuntimeError):
        record.transact(fail)
    event = append(record, {"n": 3}, "ada")
    with record.snapshot() as snapshot:
        entry = ledger.entry(snapshot, event)
        assert (entry.index, entry.payload["chain"][0]["sequence"]) == (1, 2)


def test_an_event_about_a_subject_that_is_gone_is_refused(record: Record) -> None:
    append(record, {"n": 1}, "ada")
    with pytest.raises(ErasedError, match="erased meanwhile"):
        record.transact(lambda tx: ledger.append(tx, "retrieval", {}, subjects=[1, 99]))
    with record.snapshot() as snapshot:
        assert len(ledger.entries(snapshot)) == 1


def test_several_events_of_one_transaction_stand_in_their_order(record: Record) -> None:
    def work(tx: Transaction) -> list[str]:
        key = store.ensure_subject(tx, "ada").key
        return [ledger.append(tx, "check", {"n": n}, subjects=[key]) for n in range(5)]

    events = record.transact(work)
    with record.snapshot() as snapshot:
        found = ledger.entries(snapshot)[::-1]
    assert [entry.id for entry in found] == events
    assert [entry.index for entry in found] == [0, 1, 2, 3, 4]
    assert [e.payload["chain"][0]["previous"] for e in found] == [None, *events[:-1]]


def test_many_threads_append_at_once_and_every_event_has_one_place(record: Record) -> None:
    events: list[str] = []

    def write(hand: int) -> None:
        for n in range(20):
            events.append(append(record, {"n": n}, f"subject {hand % 3}"))

    threads = [threading.Thread(target=write, args=(hand,)) for hand in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with record.snapshot() as snapshot:
        found = ledger.entries(snapshot)[::-1]
    assert [entry.index for entry in found] == list(range(240))
    assert {entry.id for entry in found} == set(events)
    for subject in range(3):
        chain = [e.payload["chain"][0] for e in found if e.subjects == (f"subject {subject}",)]
        assert [link["sequence"] for link in chain] == list(range(1, 81))


@pytest.mark.parametrize("column", ["leaf", "sealed"])
def test_an_event_that_was_altered_is_damage_that_names_the_check(
    record: Record, column: str
) -> None:
    event = append(record, {"n": 1}, "ada")
    table = "ledger" if column == "leaf" else "payloads"
    with record.database.write() as connection:
        connection.execute(text(f"UPDATE {table} SET {column} = x'7b7d'"))
    with record.snapshot() as snapshot, pytest.raises(DamagedError, match="holdfast audit verify"):
        ledger.entry(snapshot, event)


def test_an_event_whose_payload_is_gone_is_shown_as_erased(record: Record) -> None:
    event = append(record, {"n": 1}, "ada")
    with record.database.write() as connection:
        connection.execute(text("DELETE FROM payloads"))
    with record.snapshot() as snapshot:
        entry = ledger.entry(snapshot, event)
        assert (entry.erased, entry.payload, entry.subjects) == (True, {}, ())
        with pytest.raises(ErasedError):
            ledger.lines_of(snapshot, 0, event)


# The tree over it


def test_tiles_give_every_node_that_proofs_need_at_any_size(record: Record) -> None:
    record.transact(lambda tx: [ledger.append(tx, "gap", {"n": n}) for n in range(1100)] and None)
    with record.snapshot() as snapshot:
        hashes = tiles.leaf_hashes(snapshot, 0, 1100)
        for size in (1, 2, 255, 256, 257, 511, 512, 513, 1023, 1024, 1100):
            nodes = tiles.TileNodes(snapshot, size)
            root = merkle.root(nodes, size)
            assert root == merkle.root_of(hashes[:size])
            for index in {0, size // 3, size - 1}:
                proof = merkle.inclusion_proof(nodes, index, size)
                merkle.verify_inclusion(hashes[index], index, size, proof, root)
        stored = sorted(tiles.stored(snapshot))
        assert [(level, number, len(raw) // 32) for level, number, raw in stored] == [
            (0, 0, 256), (0, 1, 256), (0, 2, 256), (0, 3, 256), (1, 0, 4),
        ]  # fmt: skip


def test_tiles_grow_over_several_levels(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "WIDTH", 4)
    monkeypatch.setattr(tiles, "HEIGHT", 2)
    for size in range(1, 150):
        append(record, {"n": size})
        with record.snapshot() as snapshot:
            hashes = tiles.leaf_hashes(snapshot, 0, size)
            assert merkle.root(tiles.TileNodes(snapshot, size), size) == merkle.root_of(hashes)
    with record.snapshot() as snapshot:
        widths = {(level, n): len(raw) // 32 for level, n, raw in tiles.stored(snapshot)}
    assert widths[2, 0] == 4
    assert widths[3, 0] == 2
    assert widths[1, 9] == 1
    assert all(widths[0, number] == 4 for number in range(37))


@pytest.mark.parametrize(
    "change", ["DELETE FROM tiles", "UPDATE tiles SET hashes = x'00'", "DELETE FROM ledger"]
)
def test_a_proof_over_tiles_or_leaves_that_were_altered_is_damage(
    record: Record, change: str
) -> None:
    record.transact(lambda tx: [ledger.append(tx, "gap", {"n": n}) for n in range(300)] and None)
    with record.database.write() as connection:
        connection.execute(text(change))
    with record.snapshot() as snapshot, pytest.raises(DamagedError, match="holdfast audit verify"):
        merkle.inclusion_proof(tiles.TileNodes(snapshot, 300), 7, 300)


def test_every_type_that_is_appended_is_a_known_one() -> None:
    folder = Path(ledger.__file__).parents[1]
    paths = [*folder.glob("memory/*.py"), *folder.glob("retrieval/*.py")]
    found = [
        node.args[1].value
        for path in paths
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "ledger.append"
        and isinstance(node.args[1], ast.Constant)
    ]
    assert {"retrieval", "import", "key.create", "statement.embed"} <= set(found)
    assert {*found, *proposals.EVENTS.values(), *get_args(policies.Kind)} <= set(EVENT_TYPES)
