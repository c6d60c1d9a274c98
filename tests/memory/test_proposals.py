"""Proposals wait for their subject's word, and are decided once."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from holdfast import Holdfast, InvalidInputError, NotFoundError
from holdfast.memory import ledger, proposals, store
from holdfast.memory.errors import DamagedError
from holdfast.memory.models import Evidence, Proposal
from holdfast.memory.record import Record, Transaction
from holdfast.memory.schema import proposals as table
from holdfast.retrieval.library import draft


def propose(record: Record, words: str, subject: str = "ada") -> Proposal:
    new = draft(
        words, kind="value", strength="should", scope="topical",
        contexts=("work", "büro"), source="model:some",
    )  # fmt: skip
    return record.transact(lambda tx: proposals.write(tx, store.begin_change(tx, subject), new))


def listed(record: Record, status: Any) -> list[Proposal]:
    with record.snapshot() as snapshot:
        return proposals.of_subject(snapshot, "ada", status)


def decide(record: Record, proposal: Proposal, status: Any) -> Proposal:
    def work(tx: Transaction) -> Proposal:
        change = store.begin_change(tx, "ada")
        return proposals.decide(tx, change, proposal, status, "st_some")

    return record.transact(work)


def events(record: Record) -> list[Evidence]:
    """The ledger, oldest first."""
    with record.snapshot() as snapshot:
        return ledger.entries(snapshot)[::-1]


@pytest.fixture
def other(record: Record) -> Record:
    """Another tenant's record in the same database."""
    return Record(record.database, record.vault, "other")


def test_a_proposal_is_open_until_it_is_decided_and_then_stays_so(
    record: Record, other: Record
) -> None:
    first, second = propose(record, "first"), propose(record, "second")
    propose(record, "another's", subject="bo")
    propose(other, "another tenant's")
    assert (first.status, first.decided_at, first.statement_id) == ("open", None, None)
    assert (first.text, first.contexts, first.subject) == ("first", ("work", "büro"), "ada")
    assert listed(record, "open") == [first, second]
    decided = decide(record, first, "confirmed")
    assert (decided.status, decided.statement_id) == ("confirmed", "st_some")
    assert decided.decided_at is not None
    assert decided.decided_at > decided.proposed_at
    assert listed(record, "open") == [second]
    assert listed(record, None) == [decided, second]
    told = events(record)
    with pytest.raises(InvalidInputError, match="was confirmed before; propose anew"):
        decide(record, first, "rejected")
    assert listed(record, "rejected") == []
    assert listed(record, None) == [decided, second]
    assert events(record) == told


def test_another_tenants_proposal_is_not_found_and_not_decided(
    record: Record, other: Record
) -> None:
    proposal = propose(record, "first")
    with other.snapshot() as snapshot:
        with pytest.raises(NotFoundError):
            proposals.read(snapshot, proposal.id)
        assert proposals.known_ids(snapshot, [proposal.id]) == set()
    with pytest.raises(NotFoundError):
        decide(other, proposal, "confirmed")
    assert listed(record, "open") == [proposal]
    assert listed(other, None) == []
    assert events(other) == []


def test_each_change_of_a_proposal_is_an_event_with_what_it_changed(record: Record) -> None:
    first, second = propose(record, "first"), propose(record, "second")
    confirmed = decide(record, first, "confirmed")
    decide(record, second, "rejected")
    told = events(record)
    assert [event.type for event in told] == [
        "proposal.put", "proposal.put", "proposal.confirm", "proposal.reject",
    ]  # fmt: skip
    for number, event in enumerate(told, 1):
        assert event.subjects == ("ada",)
        assert event.payload.pop("chain")[0]["sequence"] == number
        assert event.payload.pop("revision") == number
    assert told[0].payload == {
        "proposal": {
            "id": first.id, "kind": "value", "strength": "should", "scope": "topical",
            "proposed_at": first.proposed_at.isoformat(),
        },
        "text": "first", "contexts": ["work", "büro"], "source": "model:some",
    }  # fmt: skip
    assert confirmed.decided_at is not None
    decided_at = confirmed.decided_at.isoformat()
    assert told[2].payload == {
        "id": first.id,
        "decided": {"status": "confirmed", "decided_at": decided_at, "statement_id": "st_some"},
    }


def test_what_was_proposed_lies_sealed_in_the_files(record: Record, tmp_path: Path) -> None:
    proposal = propose(record, "Oranges are a secret")
    record.database.close()
    content = b"".join(path.read_bytes() for path in tmp_path.glob("test.db*"))
    assert proposal.id.encode() in content
    for secret in ("Oranges are a secret", "model:some", "büro"):
        assert secret.encode() not in content


@pytest.mark.parametrize("what", ["a bit", "a neighbour's", "another subject's", "a text"])
def test_a_proposal_that_was_altered_is_damaged_and_never_shown(record: Record, what: str) -> None:
    first, second = propose(record, "first"), propose(record, "second")
    propose(record, "first", subject="bo")
    with record.snapshot() as snapshot:
        query = select(table.c.body).order_by(table.c.proposed_at)
        own, neighbour, anothers = snapshot.execute(query).scalars()
    wrong: Any = {
        "a bit": own[:-1] + bytes([own[-1] ^ 1]),
        "a neighbour's": neighbour,
        "another subject's": anothers,
        "a text": "words",
    }[what]
    edit = text("UPDATE proposals SET body = :body WHERE id = :id")
    with record.database.write() as connection:
        connection.execute(edit, {"body": wrong, "id": first.id})
    with record.snapshot() as snapshot:
        with pytest.raises(DamagedError, match="holdfast audit verify") as caught:
            proposals.read(snapshot, first.id)
        assert "second" not in str(caught.value)
        with pytest.raises(DamagedError):
            proposals.of_subject(snapshot, "ada", None)
        assert proposals.read(snapshot, second.id) == second
    told = events(record)
    with pytest.raises(DamagedError):
        decide(record, first, "confirmed")
    assert events(record) == told
    with record.snapshot() as snapshot:
        assert snapshot.execute(select(table.c.status).distinct()).scalars().all() == ["open"]


def test_proposals_that_are_restored_read_as_they_did_and_are_events(
    record: Record, other: Record
) -> None:
    first, second = propose(record, "first"), propose(record, "second")
    first = decide(record, first, "confirmed")
    taken = [replace(first, id="pr_a"), replace(second, id="pr_b")]  # ids are unique in a database

    def work(tx: Transaction) -> None:
        found = store.ensure_subject(tx, "ada")
        proposals.restore(tx, found, taken, {"imported": {"from": "here"}})

    other.transact(work)
    assert listed(other, None) == taken
    with other.snapshot() as snapshot:
        ids = [each.id for each in taken]
        assert proposals.known_ids(snapshot, [*ids, first.id]) == set(ids)
    told = events(other)
    assert [(event.type, event.imported) for event in told] == [
        ("proposal.put", True), ("proposal.confirm", True), ("proposal.put", True),
    ]  # fmt: skip
    assert told[1].payload["decided"] == events(record)[2].payload["decided"]


def test_a_proposal_confirmed_by_two_at_once_makes_one_statement(fake: Holdfast) -> None:
    (proposal,) = fake.propose("ada", "I like trains.", source="model:some")
    together = threading.Barrier(4)
    done: list[Any] = []
    refused: list[Any] = []

    def confirm() -> None:
        together.wait(10)
        try:
            done.append(fake.confirm(proposal.id))
        except InvalidInputError as error:
            refused.append(error)

    threads = [threading.Thread(target=confirm) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(done), len(refused)) == (1, 3)
    assert fake.statements("ada") == done
    assert all("was confirmed before" in str(error) for error in refused)
    assert fake.proposals("ada", status="confirmed")[0].statement_id == done[0].id
