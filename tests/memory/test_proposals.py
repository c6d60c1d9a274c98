"""Proposals wait for their subject's word, and are decided once."""

import threading
from typing import Any

import pytest

from holdfast import Holdfast, InvalidInputError, NotFoundError
from holdfast.memory import proposals, store
from holdfast.memory.database import Database
from holdfast.memory.models import Proposal
from holdfast.retrieval.library import draft


def propose(
    database: Database, words: str, tenant: str = "local", subject: str = "ada"
) -> Proposal:
    with database.write() as connection:
        change = store.begin_change(connection, tenant, subject)
        new = draft(
            words, kind="value", strength="should", scope="topical",
            contexts=("work", "büro"), source="model:some",
        )  # fmt: skip
        return proposals.write(connection, tenant, change, new)


def listed(database: Database, status: Any, tenant: str = "local") -> list[Proposal]:
    with database.read() as connection:
        return proposals.of_subject(connection, tenant, "ada", status)


def decide(database: Database, proposal: Proposal, status: Any, tenant: str = "local") -> Proposal:
    with database.write() as connection:
        change = store.begin_change(connection, tenant, "ada")
        return proposals.decide(connection, tenant, change, proposal, status, "st_some")


def test_a_proposal_is_open_until_it_is_decided_and_then_stays_so(database: Database) -> None:
    first, second = propose(database, "first"), propose(database, "second")
    propose(database, "another's", subject="bo")
    propose(database, "another tenant's", tenant="other")
    assert (first.status, first.decided_at, first.statement_id) == ("open", None, None)
    assert (first.text, first.contexts, first.subject) == ("first", ("work", "büro"), "ada")
    assert listed(database, "open") == [first, second]
    decided = decide(database, first, "confirmed")
    assert (decided.status, decided.statement_id) == ("confirmed", "st_some")
    assert decided.decided_at is not None
    assert decided.decided_at > decided.proposed_at
    assert listed(database, "open") == [second]
    assert listed(database, None) == [decided, second]
    with pytest.raises(InvalidInputError, match="was confirmed before; propose anew"):
        decide(database, first, "rejected")
    assert listed(database, "rejected") == []


def test_another_tenants_proposal_is_not_found_and_not_decided(database: Database) -> None:
    proposal = propose(database, "first")
    with database.read() as connection, pytest.raises(NotFoundError):
        proposals.read(connection, "other", proposal.id)
    with pytest.raises(NotFoundError):
        decide(database, proposal, "confirmed", tenant="other")
    assert listed(database, "open") == [proposal]
    assert listed(database, None, tenant="other") == []


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
