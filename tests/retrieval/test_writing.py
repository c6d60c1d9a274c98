import itertools
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import tampering
from conftest import open_with
from fakes import FakeEmbedder

from holdfast import Added, Holdfast, InvalidInputError, NotFoundError
from holdfast.memory import times


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Holdfast]:
    """One Holdfast for all tests here; each has a subject of its own."""
    folder = tmp_path_factory.mktemp("shared")
    with open_with(FakeEmbedder(), folder / "data", key_file=folder / "shared.key") as holdfast:
        yield holdfast


def texts(statements: list[Any]) -> list[str]:
    return [statement.text for statement in statements]


# add


def test_add_splits_a_text_into_statements_in_its_order(shared: Holdfast) -> None:
    said = "Be blunt with me. I never eat nuts: one crumb of cashew and I'm in hospital."
    added = shared.add("split", said)
    assert isinstance(added, Added)
    assert texts(added) == [
        "Be blunt with me.",
        "I never eat nuts: one crumb of cashew and I'm in hospital.",
    ]
    assert [(s.strength, s.scope) for s in added] == [("should", "always"), ("must", "topical")]
    assert (added.existing, added.similar, added.possible_revisions) == ([], [], [])
    assert added.new == list(added)
    assert sorted(texts(shared.statements("split"))) == sorted(texts(added))


def test_what_the_caller_says_goes_before_what_the_words_say(shared: Holdfast) -> None:
    added = shared.add(
        "attributes", "I never eat nuts. I prefer trains.", split=False, kind="goal",
        strength="prefer", scope="always", contexts=["work", "Travel", "work"],
        valid_from="2026-01-01", valid_to=date(2999, 1, 1), source="diary",
    )  # fmt: skip
    (statement,) = added
    assert statement.text == "I never eat nuts. I prefer trains."
    assert (statement.kind, statement.strength, statement.scope) == ("goal", "prefer", "always")
    assert statement.contexts == ("work", "Travel")
    assert statement.valid_from == datetime(2026, 1, 1, tzinfo=UTC)
    assert statement.valid_to == datetime(2999, 1, 1, tzinfo=UTC)
    assert (statement.source, statement.version, statement.retired_at) == ("diary", 1, None)
    assert shared.statement(statement.id) == statement
    assert shared.history(statement.id) == [statement]


def test_equal_text_is_stored_once_and_reported(shared: Holdfast) -> None:
    first = shared.add("equal", "I like Café  Žižkov.")
    again = shared.add("equal", " I like  Cafe\u0301\tZ\u030ciz\u030ckov.\n")
    assert again == first
    assert again.existing == list(first)
    assert again.new == []
    assert len(shared.statements("equal")) == 1
    other_case = shared.add("equal", "I like café Žižkov.")
    assert other_case.existing == []
    assert len(shared.statements("equal")) == 2


def test_equal_text_within_one_call_is_stored_once_and_keeps_its_places(shared: Holdfast) -> None:
    added = shared.add("twice", "I like trains. I like boats. I like trains.")
    assert texts(added) == ["I like trains.", "I like boats.", "I like trains."]
    assert added[0] == added[2]
    assert len(shared.statements("twice")) == 2
    assert added.existing == []


def test_text_that_was_retired_or_has_expired_is_stored_anew(shared: Holdfast) -> None:
    (first,) = shared.add("anew", "I like trains.")
    shared.retire(first.id)
    (second,) = shared.add("anew", "I like trains.")
    assert second.id != first.id
    past = {"valid_from": "2020-01-01", "valid_to": "2021-01-01"}
    (ended,) = shared.add("anew", "I like boats.", **past)  # type: ignore[arg-type]
    (again,) = shared.add("anew", "I like boats.")
    assert again.id != ended.id


def test_what_lies_close_is_stored_and_reported_never_merged(shared: Holdfast) -> None:
    (walks,) = shared.add("close", "I love long walks by the sea.")
    (evening,) = shared.add("close", "No alcohol after 8 in the evening.")
    longer = shared.add("close", "I love long walks by the sea air today.")
    assert [(p.statement.id, p.other.id) for p in longer.similar] == [(longer[0].id, walks.id)]
    assert longer.possible_revisions == []
    later = shared.add("close", "No alcohol after 9 in the evening.")
    assert [(p.statement.id, p.other.id) for p in later.possible_revisions] == [
        (later[0].id, evening.id)
    ]
    assert later.similar == []
    assert 0.6 < later.possible_revisions[0].score <= 1
    assert len(shared.statements("close")) == 4


def test_read_tells_how_add_would_take_a_text_and_stores_nothing(bundled: Holdfast) -> None:
    bundled.add("ada", "I never eat nuts. I pay my bills on the first of the month.")
    before = bundled.audit.events(limit=1)[0].index
    text = "I never eat nuts. I pay my bills on the third of the month. I like slow trains."
    read = bundled.read("ada", text)
    assert bundled.audit.events(limit=1)[0].index == before
    assert texts(bundled.statements("ada")) == [
        "I never eat nuts.",
        "I pay my bills on the first of the month.",
    ]
    added = bundled.add("ada", text)
    assert [(r.text, r.kind, r.strength, r.scope) for r in read] == [
        (s.text, s.kind, s.strength, s.scope) for s in added
    ]
    assert [r.existing for r in read] == [added.existing[0], None, None]
    told = {(r.text, near.relation, near.other.id, near.score) for r in read for near in r.near}
    reports = {
        "similar": added.similar,
        "possible_revision": added.possible_revisions,
        "tension": added.tensions,
    }
    assert told
    assert told == {
        (pair.statement.text, relation, pair.other.id, pair.score)
        for relation, pairs in reports.items()
        for pair in pairs
    }


def test_read_takes_what_add_takes(shared: Holdfast) -> None:
    (whole,) = shared.read("reader", "Be brief. Be kind.", split=False, kind="goal")
    assert (whole.text, whole.kind) == ("Be brief. Be kind.", "goal")
    assert "Be brief" in str(whole)
    assert "<td" in whole._repr_html_()
    for text, how in ((" ", {}), ("x" * 2001, {}), ("Be brief.", {"kind": "mood"})):
        with pytest.raises(InvalidInputError):
            shared.read("reader", text, **how)
    assert shared.statements("reader") == []
    assert "reader" not in shared.subjects()


def test_what_others_say_is_refused_by_add(shared: Holdfast) -> None:
    for source in ("model", "tool", "import", "model:gpt", "Tool: search", " IMPORT"):
        with pytest.raises(InvalidInputError, match=r"propose\(\)"):
            shared.add("other source", "I like trains.", source=source)
        with pytest.raises(InvalidInputError, match=r"propose\(\)"):
            shared.add_many("other source", ["I like trains."], source=source)
    assert shared.statements("other source") == []


@pytest.mark.parametrize(
    ("how", "named"),
    [
        ({"text": ""}, "empty"),
        ({"text": " \u200b\n"}, "empty"),
        ({"text": "nul \x00"}, r"U\+0000"),
        ({"text": "lone \ud800"}, "surrogate"),
        ({"text": "x" * 1_000_000}, "100,000"),
        ({"text": "x" * 2_001, "split": False}, "2,000"),
        ({"text": b"bytes"}, "str"),
        ({"kind": "wish"}, "kind must be one of: value"),
        ({"strength": "may"}, "strength must be one of: must"),
        ({"scope": "all"}, "scope must be one of: topical"),
        ({"contexts": "work"}, "list of names"),
        ({"contexts": ["a\nb"]}, "one line"),
        ({"contexts": [f"c{i}" for i in range(33)]}, "at most 32"),
        ({"contexts": [5]}, "text"),
        ({"valid_from": "tomorrow"}, "valid_from is no ISO 8601"),
        ({"valid_to": 5}, "valid_to must be a datetime"),
        ({"valid_to": "2020-01-01"}, "valid_to must be later"),
        ({"valid_from": "2027-01-02", "valid_to": "2027-01-01"}, "valid_to must be later"),
        ({"source": "s" * 201}, "200"),
        ({"subject": ""}, "subject is empty"),
        ({"subject": "a\tb"}, "one line without tabs"),
        ({"subject": 7}, "name of a subject is a text"),
        ({"subject": "s" * 201}, "subject"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name_and_stores_nothing(
    shared: Holdfast, how: dict[str, Any], named: str
) -> None:
    before = shared.subjects()
    arguments = {"subject": "refused", "text": "A secret thing."} | how
    with pytest.raises(InvalidInputError, match=named) as raised:
        shared.add(**arguments)
    assert "secret" not in str(raised.value)
    assert shared.subjects() == before


def test_a_subject_of_another_tenant_is_another_subject(tmp_path: Path) -> None:
    with open_with(FakeEmbedder(), tmp_path / "data") as first:
        (statement,) = first.add("ada", "I like trains.")
        evidence = first.retrieve("ada", "trains").evidence_id
        assert evidence is not None
    with open_with(FakeEmbedder(), tmp_path / "data", tenant="other") as second:
        assert second.subjects() == []
        assert second.statements("ada") == []
        assert second.retrieve("ada", "trains", threshold=0).candidates == []
        for call in (second.history, second.statement, second.retire):
            with pytest.raises(NotFoundError, match="no statement"):
                call(statement.id)
        with pytest.raises(NotFoundError):
            second.explain(evidence)
        assert second.add("ada", "I like trains.").existing == []


# add_many


def test_add_many_gives_one_statement_for_each_text_unless_it_splits(shared: Holdfast) -> None:
    said = ["I like trains. I like boats.", "No planes.", "I like trains. I like boats."]
    steps: list[tuple[int, int]] = []
    whole = shared.add_many("many", said, split=False, progress=lambda a, b: steps.append((a, b)))
    assert texts(whole) == said
    assert whole[0] == whole[2]
    assert steps == [(2, 2)]
    split = shared.add_many("many split", said)
    assert texts(split)[:3] == ["I like trains.", "I like boats.", "No planes."]
    assert shared.add_many("nobody yet", []) == []
    assert "nobody yet" not in shared.subjects()


def test_add_many_stores_all_or_nothing(shared: Holdfast) -> None:
    with pytest.raises(InvalidInputError, match=r"U\+0007"):
        shared.add_many("atomic", ["I like trains.", "bell \x07", "No planes."])
    assert shared.statements("atomic") == []
    with pytest.raises(InvalidInputError, match="use add for one"):
        shared.add_many("atomic", "I like trains.")
    assert "atomic" not in shared.subjects()


def test_a_failure_inside_the_transaction_undoes_all_of_it(
    shared: Holdfast, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared.add("undone", "I like trains.")
    before = shared.retrieve("undone", "trains", record=False).candidates
    from holdfast.memory import vectors

    def fail(*arguments: Any) -> None:
        raise RuntimeError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(vectors, "save", fail)
        with pytest.raises(RuntimeError, match="the disk is gone"):
            shared.add_many("undone", ["No planes.", "No boats."])
    assert texts(shared.statements("undone")) == ["I like trains."]
    assert shared.retrieve("undone", "trains", record=False).candidates == before
    assert shared.add("undone", "No planes.").existing == []


def test_add_and_add_many_give_vectors_that_are_equal_bit_for_bit(bundled: Holdfast) -> None:
    said = [
        "I never eat nuts: one crumb of cashew and I'm in hospital.",
        "I prefer night trains over planes.",
        "No.",
        "Family dinners on Sundays come before work, always. " * 8,
    ]
    for text in said:
        bundled.add("one by one", text, split=False)
    bundled.add_many("together", said[::-1], split=False)
    opened = tampering.opened_vectors(bundled)
    (embedder,) = {embedder for _, embedder in opened}
    rows = sorted((t.text, opened[t.key, embedder][0]) for t in tampering.texts(bundled))
    assert len(rows) == 8
    assert all(components for _, components in rows)
    for first, second in zip(rows[::2], rows[1::2], strict=True):
        assert first == second


# decide


def test_a_decision_is_a_statement_of_situation_choice_and_reason(shared: Holdfast) -> None:
    (value,) = shared.add("decides", "I work best where I know everyone.")
    decision = shared.decide(
        "decides", situation="Two job offers in March", choice="the smaller team",
        reason="I work best where I know everyone", weighed=[value.id, value.id],
    )  # fmt: skip
    assert decision.statement.kind == "decision"
    assert decision.statement.text == (
        "Two job offers in March. Chosen: the smaller team. "
        "Because: I work best where I know everyone."
    )
    assert [(w.statement_id, w.version) for w in decision.weighed] == [(value.id, 1)]
    assert shared.decisions("decides") == [decision]
    assert shared.decisions("nobody") == []
    assert shared.decisions("decides", as_of="2020-01-01") == []
    found = shared.retrieve("decides", "job offers smaller team", threshold=0)
    assert decision.statement in [c.statement for c in found.injected]


def test_the_same_decision_is_stored_once(shared: Holdfast) -> None:
    parts = {"situation": "Offers", "choice": "the team", "reason": "known"}
    first = shared.decide("decides once", **parts)
    assert shared.decide("decides once", **parts) == first
    assert shared.decide("decides once", **parts | {"reason": "other"}) != first
    assert len(shared.statements("decides once")) == 2


def test_only_the_subjects_own_statements_are_weighed(shared: Holdfast) -> None:
    (foreign,) = shared.add("foreign", "I like trains.")
    for ids, error in (([foreign.id], InvalidInputError), (["st_none"], NotFoundError)):
        with pytest.raises(error):
            shared.decide("weighs", situation="a", choice="b", reason="c", weighed=ids)
    with pytest.raises(InvalidInputError, match="list of ids"):
        shared.decide("weighs", situation="a", choice="b", reason="c", weighed=foreign.id)
    assert shared.statements("weighs") == []
    for empty in ("situation", "choice", "reason"):
        parts = {"situation": "a", "choice": "b", "reason": "c"} | {empty: " "}
        with pytest.raises(InvalidInputError, match=empty):
            shared.decide("weighs", **parts)


# revise, retire, and what was when


def test_a_revision_is_the_next_version_and_the_one_before_stays(shared: Holdfast) -> None:
    (first,) = shared.add("revises", "No alcohol after 8.", contexts=["home"])
    second = shared.revise(first.id, "No alcohol after 9.", reason="summer")
    assert (second.id, second.version, second.text) == (first.id, 2, "No alcohol after 9.")
    assert (second.strength, second.contexts) == (first.strength, ("home",))
    assert second.reason == "summer"
    third = shared.revise(first.id, strength="prefer", contexts=[], valid_to="2999-01-01")
    assert (third.version, third.text, third.strength) == (3, second.text, "prefer")
    assert third.contexts == ()
    fourth = shared.revise(first.id, valid_to=None, kind="goal", scope="always", source="diary")
    assert (fourth.valid_to, fourth.kind, fourth.scope) == (None, "goal", "always")
    assert fourth.source == "diary"
    versions = shared.history(first.id)
    assert [v.version for v in versions] == [1, 2, 3, 4]
    assert [v.text for v in versions[:2]] == ["No alcohol after 8.", "No alcohol after 9."]
    for before, after in itertools.pairwise(versions):
        assert before.retired_at == after.recorded_at
    assert shared.statements("revises") == [fourth]


def test_a_revision_that_cannot_be_made_is_refused(shared: Holdfast) -> None:
    (statement,) = shared.add("revises badly", "I like trains.")
    with pytest.raises(InvalidInputError, match="changes nothing"):
        shared.revise(statement.id)
    with pytest.raises(InvalidInputError, match="changes nothing"):
        shared.revise(statement.id, "I like trains.")
    with pytest.raises(InvalidInputError, match="cannot change: subject, version"):
        shared.revise(statement.id, "x", version=3, subject="bob")
    with pytest.raises(InvalidInputError, match="strength must be"):
        shared.revise(statement.id, strength="may")
    with pytest.raises(InvalidInputError, match="valid_to must be later"):
        shared.revise(statement.id, "x", valid_to="2020-01-01")
    with pytest.raises(NotFoundError, match="no statement 'st_none'"):
        shared.revise("st_none", "x")
    shared.retire(statement.id)
    for call in (lambda: shared.revise(statement.id, "x"), lambda: shared.retire(statement.id)):
        with pytest.raises(InvalidInputError, match="is retired; add the statement anew"):
            call()
    assert [v.version for v in shared.history(statement.id)] == [1]


def test_a_revision_of_a_version_that_changed_meanwhile_is_refused(shared: Holdfast) -> None:
    (statement,) = shared.add("meanwhile", "I like trains.")
    embedder = shared.embedder
    assert isinstance(embedder, FakeEmbedder)
    original = embedder.embed

    def revised_meanwhile(given: Any, **how: Any) -> Any:
        embedder.embed = original  # type: ignore[method-assign]
        shared.revise(statement.id, "I like night trains.")
        return original(given, **how)

    embedder.embed = revised_meanwhile  # type: ignore[method-assign]
    with pytest.raises(InvalidInputError, match="revised meanwhile"):
        shared.revise(statement.id, "I like boats.")
    assert texts(shared.history(statement.id)) == ["I like trains.", "I like night trains."]


def test_a_retired_statement_stays_in_the_record(shared: Holdfast) -> None:
    (statement,) = shared.add("retires", "I like trains.")
    retired = shared.retire(statement.id, reason="moved to an island")
    assert retired.id == statement.id
    assert retired.retired_at is not None
    assert (retired.reason, retired.end_reason) == (None, "moved to an island")
    assert shared.statements("retires") == []
    assert shared.statements("retires", include_retired=True) == [retired]
    assert shared.history(statement.id) == [retired]
    before = retired.retired_at - timedelta(microseconds=1)
    assert texts(shared.statements("retires", as_of=before)) == ["I like trains."]
    assert texts(shared.statements("retires", known_at=before)) == ["I like trains."]


def test_valid_time_and_record_time_are_two_axes(shared: Holdfast) -> None:
    (old,) = shared.add("axes", "I eat meat.", valid_from="2020-01-01", valid_to="2024-01-01")
    (plan,) = shared.add("axes", "I live in Zagreb.", valid_from="2999-01-01")
    assert shared.statements("axes") == []
    assert texts(shared.statements("axes", as_of="2022-06-01")) == ["I eat meat."]
    assert texts(shared.statements("axes", as_of="2999-06-01")) == ["I live in Zagreb."]
    known = plan.recorded_at - timedelta(microseconds=1)
    assert shared.statements("axes", as_of="2999-06-01", known_at=known) == []
    assert texts(shared.statements("axes", as_of="2022-06-01", known_at=known)) == ["I eat meat."]
    assert shared.statements("axes", known_at="2020-01-01", as_of="2022-06-01") == []
    ended = shared.statements("axes", include_retired=True)
    assert [s.id for s in ended] == [old.id]
    assert shared.statements("nobody", include_retired=True) == []
    moved = shared.revise(plan.id, "I live in Split.")
    assert moved.valid_from == plan.valid_from


# proposals


def test_a_proposal_is_never_injected_until_it_is_confirmed(shared: Holdfast) -> None:
    proposals = shared.propose("proposes", "I love trains. I hate boats.", source="model:x")
    assert texts(proposals) == ["I love trains.", "I hate boats."]
    assert [p.status for p in proposals] == ["open", "open"]
    assert shared.retrieve("proposes", "trains", threshold=0).candidates == []
    assert shared.statements("proposes", include_retired=True) == []
    confirmed = shared.confirm(proposals[0].id)
    assert (confirmed.text, confirmed.source) == ("I love trains.", "model:x")
    found = shared.retrieve("proposes", "I love trains", threshold=0)
    assert [c.statement for c in found.injected] == [confirmed]
    rejected = shared.reject(proposals[1].id)
    assert rejected.status == "rejected"
    assert shared.proposals("proposes") == []
    every = {p.text: p for p in shared.proposals("proposes", status=None)}
    assert every["I love trains."].statement_id == confirmed.id
    assert shared.statements("proposes") == [confirmed]


def test_a_proposal_is_decided_once(shared: Holdfast) -> None:
    first, second = shared.propose("once", "I love trains. I hate boats.", source="tool")
    shared.confirm(first.id)
    shared.reject(second.id)
    for proposal in (first, second):
        for call in (shared.confirm, shared.reject):
            with pytest.raises(InvalidInputError, match="before"):
                call(proposal.id)
    with pytest.raises(NotFoundError, match="no proposal"):
        shared.confirm("pr_none")


def test_confirming_what_the_subject_said_already_stores_nothing_twice(shared: Holdfast) -> None:
    (statement,) = shared.add("said already", "I love trains.")
    (proposal,) = shared.propose("said already", "I love trains.", source="import")
    assert shared.confirm(proposal.id) == statement
    assert shared.statements("said already") == [statement]


def test_record_time_moves_on_when_the_clock_is_set_back(
    shared: Holdfast, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = shared.add("clock", "I love trains.")
    early = times.now() - 3_600_000_000
    monkeypatch.setattr(times, "now", lambda: early)
    (second,) = shared.add("clock", "I hate boats.")
    assert second.recorded_at > first.recorded_at
    assert len(shared.statements("clock")) == 2
    found = shared.retrieve("clock", "trains boats", threshold=0)
    assert len(found.candidates) == 2
    assert found.evidence_id is not None
    assert shared.replay(found.evidence_id)
