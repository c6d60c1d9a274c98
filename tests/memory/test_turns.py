"""Where in a conversation was injected what."""

import pytest

from holdfast.memory import store, times, turns
from holdfast.memory.record import Record


def subject(record: Record, name: str = "ada") -> int:
    return record.transact(lambda tx: store.ensure_subject(tx, name).key)


def test_a_place_is_found_again_by_its_subject_and_prefix_alone(record: Record) -> None:
    ada, bo = subject(record), subject(record, "bo")
    record.transact(lambda tx: turns.note(tx, ada, b"a", "ev_1"))
    record.transact(lambda tx: turns.note(tx, ada, b"b", "ev_2"))
    record.transact(lambda tx: turns.note(tx, bo, b"a", "ev_3"))
    with record.snapshot() as snapshot:
        assert turns.known(snapshot, ada, [b"a", b"c"]) == {b"a": "ev_1"}
        assert turns.known(snapshot, ada, [b"a", b"b"]) == {b"a": "ev_1", b"b": "ev_2"}
        assert turns.known(snapshot, bo, [b"a", b"b"]) == {b"a": "ev_3"}
        assert turns.known(snapshot, bo, []) == {}


def test_the_latest_injection_at_a_place_counts(record: Record) -> None:
    ada = subject(record)
    for event in ("ev_1", "ev_2"):
        record.transact(lambda tx, event=event: turns.note(tx, ada, b"a", event))
    with record.snapshot() as snapshot:
        assert turns.known(snapshot, ada, [b"a"]) == {b"a": "ev_2"}


def test_many_places_are_looked_up_at_once(record: Record) -> None:
    ada = subject(record)
    prefixes = [str(number).encode() for number in range(1200)]

    for start in range(0, 1200, 400):
        record.transact(
            lambda tx, start=start: [
                turns.note(tx, ada, each, "ev_1") for each in prefixes[start : start + 400]
            ]
        )
    with record.snapshot() as snapshot:
        assert len(turns.known(snapshot, ada, prefixes)) == 1200


def test_those_used_longest_ago_are_dropped(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = subject(record)
    for number in range(10):
        monkeypatch.setattr(times, "now", lambda number=number: 1000 + number)
        record.transact(lambda tx, number=number: turns.note(tx, ada, b"%d" % number, "ev_1"))
    assert record.transact(lambda tx: turns.prune(tx, 10)) == 0
    assert record.transact(lambda tx: turns.prune(tx, 4)) == 6
    with record.snapshot() as snapshot:
        found = turns.known(snapshot, ada, [b"%d" % number for number in range(10)])
    assert sorted(found) == [b"6", b"7", b"8", b"9"]
