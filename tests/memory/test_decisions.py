"""Decisions with the versions that they weighed, through the store and through the engine."""

from pathlib import Path
from typing import Any

import pytest
from fakes import FakeEmbedder
from sqlalchemy import select, text

from holdfast import Holdfast, InvalidInputError, NotFoundError
from holdfast.memory import store
from holdfast.memory.errors import DamagedError
from holdfast.memory.models import Decision, Weighed
from holdfast.memory.schema import decisions, statements


@pytest.fixture
def other(fake: Holdfast) -> Holdfast:
    """Another tenant on the same database without a vector store."""
    return Holdfast(
        database=fake._database,  # pyright: ignore[reportPrivateUsage]
        chroma=None,
        embedder=FakeEmbedder(),
        settings=fake.settings,
        tenant="other",
    )


def decide(holdfast: Holdfast, *weighed: str, subject: str = "ada", number: int = 0) -> Decision:
    return holdfast.decide(
        subject,
        situation=f"Job offer {number}",
        choice="the smaller team",
        reason="I know everyone there",
        weighed=weighed,
    )


def test_a_decision_keeps_the_versions_it_weighed_in_their_order(fake: Holdfast) -> None:
    first, second = fake.add_many("ada", ["I like small teams.", "Money is not all."])
    fake.revise(first.id, "I like very small teams.")
    decision = decide(fake, second.id, first.id, second.id)
    assert decision.weighed == (Weighed(second.id, 1), Weighed(first.id, 2))
    assert decision.id == decision.statement.id
    assert decision.statement.kind == "decision"
    fake.revise(first.id, "Team size no longer matters.")
    fake.retire(second.id)
    assert fake.decisions("ada") == [decision], "what was weighed then stays what it was"


def test_decisions_stand_in_the_order_in_which_they_were_made(fake: Holdfast) -> None:
    made = [decide(fake, number=number) for number in range(3)]
    assert fake.decisions("ada") == made
    moment = made[1].statement.valid_from
    assert fake.decisions("ada", as_of=moment) == made[:2]
    fake.retire(made[0].id)
    assert fake.decisions("ada") == made[1:]
    assert fake.decisions("nobody") == []


def test_a_decision_whose_statement_was_revised_no_longer_stands_as_it_was(fake: Holdfast) -> None:
    decision = decide(fake)
    fake.revise(decision.id, "I would choose the larger team now.")
    assert fake.decisions("ada") == []
    assert fake.decisions("ada", as_of=decision.statement.valid_from)[0].choice == decision.choice


def test_only_a_subjects_own_statements_of_the_same_tenant_can_be_weighed(
    fake: Holdfast, other: Holdfast
) -> None:
    (own,) = fake.add("ada", "I like small teams.")
    (anothers,) = fake.add("bo", "I like large teams.")
    with pytest.raises(InvalidInputError, match="no statement of this subject"):
        decide(fake, own.id, anothers.id)
    with pytest.raises(NotFoundError):
        decide(other, own.id)
    with pytest.raises(NotFoundError):
        decide(fake, "st_none")
    assert fake.decisions("ada") == other.decisions("ada") == []
    assert [s.id for s in fake.statements("ada")] == [own.id]


def test_decisions_of_two_tenants_under_one_name_are_two_lists(
    fake: Holdfast, other: Holdfast
) -> None:
    here, there = decide(fake, number=1), decide(other, number=2)
    assert fake.decisions("ada") == [here]
    assert other.decisions("ada") == [there]


def test_no_call_reaches_what_belongs_to_another_tenant(fake: Holdfast, other: Holdfast) -> None:
    (statement,) = fake.add("ada", "I like small teams.")
    (proposal,) = fake.propose("ada", "I like trains.", source="model:some")
    found = fake.retrieve("ada", "small teams")
    assert found.evidence_id is not None
    for call, id_ in (
        (other.statement, statement.id),
        (other.history, statement.id),
        (lambda id_: other.revise(id_, "mine now"), statement.id),
        (other.retire, statement.id),
        (other.confirm, proposal.id),
        (other.reject, proposal.id),
        (other.explain, found.evidence_id),
        (other.replay, found.evidence_id),
        (other.audit.entry, found.evidence_id),
    ):
        with pytest.raises(NotFoundError):
            call(id_)
    assert other.statements("ada") == other.proposals("ada", status=None) == other.evidence() == []
    assert other.evidence("ada") == other.subjects() == []
    assert other.audit.events(limit=None) == other.audit.events("ada", limit=None) == []
    assert fake.statements("ada") == [statement]
    assert fake.proposals("ada") == [proposal]
    assert other.retrieve("ada", "small teams", record=False).candidates == []


def test_any_change_of_a_subject_raises_its_revision_by_one(fake: Holdfast) -> None:
    def revision() -> int:
        with fake._record.snapshot() as snapshot:  # pyright: ignore[reportPrivateUsage]
            found = store.subject(snapshot, "ada")
            return 0 if found is None else found.revision

    (statement,) = fake.add("ada", "I like small teams.")
    (proposal, unwanted) = fake.propose("ada", "I like trains. I hate rain.", source="model:some")
    assert revision() == 2  # one call is one change, however much is in it
    fake.decisions("ada")
    fake.add("ada", "I like small teams.")  # known already
    before = revision()
    for number, change in enumerate(
        (
            lambda: fake.add_many("ada", ["One thing.", "Another thing."]),
            lambda: fake.revise(statement.id, "I like tiny teams."),
            lambda: decide(fake, statement.id),
            lambda: fake.confirm(proposal.id),
            lambda: fake.reject(unwanted.id),
            lambda: fake.propose("ada", "I like maps.", source="model:some"),
            lambda: fake.retire(statement.id),
        ),
        1,
    ):
        change()
        assert revision() == before + number
    fake.retrieve("ada", "teams")
    fake.add("bo", "Something else.")
    assert revision() == before + 7


def test_a_decision_is_one_event_with_its_parts_and_the_versions_it_weighed(
    fake: Holdfast,
) -> None:
    first, second = fake.add_many("ada", ["I like small teams.", "Money is not all."])
    revised = fake.revise(first.id, "I like very small teams.")
    before = fake.audit.events(limit=None)
    decision = decide(fake, second.id, first.id)
    with fake._record.snapshot() as snapshot:  # pyright: ignore[reportPrivateUsage]
        found = snapshot.execute(select(statements.c.id, statements.c.version, statements.c.key))
        keys = {(row.id, row.version): row.key for row in found}
    event, *others = fake.audit.events(limit=None)
    assert others == before
    assert (event.type, event.subjects) == ("statement.put", ("ada",))
    assert event.payload["statement"]["id"] == decision.id
    assert event.payload["text"] == decision.statement.text
    assert event.payload["decision"] == {
        "situation": "Job offer 0", "choice": "the smaller team",
        "reason": "I know everyone there",
        "weighed": [keys[second.id, 1], keys[revised.id, 2]],
    }  # fmt: skip


def test_the_parts_of_a_decision_lie_sealed_in_the_files(fake: Holdfast, tmp_path: Path) -> None:
    decision = decide(fake)
    fake.close()
    files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    content = b"".join(path.read_bytes() for path in files)
    assert decision.id.encode() in content
    for secret in ("Job offer", "smaller team", "everyone there"):
        assert secret.encode() not in content


@pytest.mark.parametrize("what", ["a bit", "a neighbour's", "another subject's", "a text"])
def test_parts_of_a_decision_that_were_altered_are_damaged_and_never_shown(
    fake: Holdfast, what: str
) -> None:
    decision = decide(fake, number=1)
    decide(fake, number=2)
    decide(fake, subject="bo", number=1)
    query = (
        select(decisions.c.body, statements.c.key)
        .join(statements, statements.c.key == decisions.c.statement_key)
        .order_by(statements.c.recorded_at)
    )
    with fake._database.read() as connection:  # pyright: ignore[reportPrivateUsage]
        own, neighbour, anothers = connection.execute(query).all()
    wrong: Any = {
        "a bit": own.body[:-1] + bytes([own.body[-1] ^ 1]),
        "a neighbour's": neighbour.body,
        "another subject's": anothers.body,
        "a text": "words",
    }[what]
    edit = text("UPDATE decisions SET body = :body WHERE statement_key = :key")
    with fake._database.write() as connection:  # pyright: ignore[reportPrivateUsage]
        connection.execute(edit, {"body": wrong, "key": own.key})
    with pytest.raises(DamagedError, match="holdfast audit verify") as caught:
        fake.decisions("ada")
    assert "team" not in str(caught.value)
    assert [each.situation for each in fake.decisions("bo")] == ["Job offer 1"]
    with fake._database.write() as connection:  # pyright: ignore[reportPrivateUsage]
        connection.execute(edit, {"body": own.body, "key": own.key})
    assert fake.decisions("ada")[0] == decision
