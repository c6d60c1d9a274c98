import copy
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tampering
from conftest import open_with
from fakes import FakeEmbedder

import holdfast
from holdfast import Holdfast, InvalidInputError, NotFoundError, Settings, StorageError
from holdfast.memory import times
from holdfast.memory.errors import ErasedError
from holdfast.retrieval import retriever
from holdfast.retrieval.context import CLOSING, OPENING
from holdfast.retrieval.evaluation import Outcome, evaluate

SECOND = 1_000_000


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Holdfast]:
    """One Holdfast for all tests that need no other; each has a subject of its own."""
    folder = tmp_path_factory.mktemp("shared")
    with open_with(FakeEmbedder(), folder / "data", key_file=folder / "shared.key") as opened:
        yield opened


def injected(found: holdfast.Retrieval) -> list[str]:
    return [candidate.statement.text for candidate in found.injected]


def topical(hf: Holdfast, subject: str, *texts: str, **how: Any) -> list[holdfast.Statement]:
    given = {"strength": "should", "scope": "topical", "split": False} | how
    return hf.add_many(subject, texts, **given)


# retrieve


def test_what_bears_on_a_request_is_injected_and_the_rest_is_not(bundled: Holdfast) -> None:
    bundled.add(
        "ada", "Be blunt with me. I never eat nuts: one crumb of cashew and I'm in hospital."
    )
    bundled.add("ada", "I prefer night trains over planes.")
    found = bundled.retrieve("ada", "Which nut desserts should I try in Sicily?")
    assert "nuts" in found.context
    assert "Be blunt" in found.context
    assert "trains" not in found.context
    assert found.status == "injected"
    assert {c.lane for c in found.injected} == {"always", "topical"}
    assert len(found.candidates) == 3
    bundled.retire(found.injected[0].statement.id)
    nothing = bundled.retrieve("ada", "How do I invert a matrix in NumPy?", threshold=0.9)
    assert (nothing.context, nothing.status, list(nothing.injected)) == ("", "none", [])
    assert nothing.evidence_id is not None


def test_a_retrieval_accounts_for_every_statement_in_force_best_first(shared: Holdfast) -> None:
    topical(shared, "all", "I love night trains", "I never eat nuts", "No planes for me")
    found = shared.retrieve("all", "night trains")
    assert len(found.candidates) == 3
    scores = [candidate.score for candidate in found.candidates]
    assert scores == sorted(scores, reverse=True)
    assert found.candidates[0].statement.text == "I love night trains"
    for candidate in found.candidates:
        assert 0 <= candidate.score <= 1
        assert set(candidate.parts) == {"dense", "lexical", "threshold"}
        assert candidate.parts["threshold"] == shared.settings.threshold_should
    assert list(found.injected) == [c for c in found.candidates if c.verdict == "injected"]
    assert found.context.startswith(OPENING)
    assert found.context.endswith(CLOSING)


def test_an_unknown_subject_gets_nothing_and_that_is_evidence_too(tmp_path: Path) -> None:
    with open_with(FakeEmbedder(), tmp_path / "data") as hf:
        found = hf.retrieve("nobody", "night trains")
        assert (found.status, found.context, len(found.candidates)) == ("none", "", 0)
        assert found.evidence_id is not None
        assert hf.replay(found.evidence_id)
        assert hf.explain(found.evidence_id).problems == []
        hf.add("nobody", "I love night trains")
        assert hf.replay(found.evidence_id)
        assert hf.subjects() == ["nobody"]


def test_subjects_are_isolated_from_each_other(shared: Holdfast) -> None:
    topical(shared, "isolated a", "I love night trains")
    topical(shared, "isolated b", "I hate night trains")
    for name, text in (
        ("isolated a", "I love night trains"),
        ("isolated b", "I hate night trains"),
    ):
        found = shared.retrieve(name, "night trains", threshold=0)
        assert [c.statement.text for c in found.candidates] == [text]
        assert {c.statement.subject for c in found.candidates} == {name}


def test_several_subjects_stand_in_order_of_precedence(shared: Holdfast) -> None:
    topical(shared, "org", "Employees book the cheapest trains", strength="must")
    topical(shared, "person", "I love night trains", strength="must")
    for order in (["org", "person"], ["person", "org"]):
        found = shared.retrieve([*order, order[0]], "night trains", threshold=0)
        assert [c.statement.subject for c in found.injected] == order
        at = [found.context.index(f"Of {name}:") for name in order]
        assert at == sorted(at)
        assert found.evidence_id is not None
        assert shared.evidence(order[1])[0].subjects == tuple(order)
        assert shared.replay(found.evidence_id)
        assert shared.explain(found.evidence_id).retrieval.candidates == found.candidates
    assert shared.retrieve(["org"], "trains").context.count("Of org:") == 0
    for none in ([], [""], [5], 5):
        with pytest.raises(InvalidInputError):
            shared.retrieve(none, "night trains")  # type: ignore[arg-type]


def test_one_subject_among_several_may_be_unknown(shared: Holdfast) -> None:
    topical(shared, "known", "I love night trains")
    for order in (["known", "unknown"], ["unknown", "known"]):
        found = shared.retrieve(order, "night trains", threshold=0)
        assert injected(found) == ["I love night trains"]
        assert shared.replay(str(found.evidence_id))


def test_contexts_exclude_only_where_both_sides_name_some(shared: Holdfast) -> None:
    topical(shared, "contexts", "I love trains at work", contexts=["Work"])
    topical(shared, "contexts", "I love trains at home", contexts=["home", "family"])
    topical(shared, "contexts", "I love trains")
    at_work = shared.retrieve("contexts", "trains", contexts=["WORK"], threshold=0)
    verdicts = {c.statement.text: c.verdict for c in at_work.candidates}
    assert verdicts == {
        "I love trains at work": "injected",
        "I love trains at home": "out_of_context",
        "I love trains": "injected",
    }
    assert shared.replay(str(at_work.evidence_id))
    assert len(shared.retrieve("contexts", "trains", threshold=0).injected) == 3
    with pytest.raises(InvalidInputError, match="list of names"):
        shared.retrieve("contexts", "trains", contexts="work")


def test_limit_budget_and_threshold_of_a_call_go_before_the_settings(shared: Holdfast) -> None:
    texts = [f"I love trains {i}" for i in range(8)]
    topical(shared, "limits", *texts)

    def verdicts(**how: Any) -> list[str]:
        return [
            c.verdict for c in shared.retrieve("limits", "trains", threshold=0, **how).candidates
        ]

    assert verdicts().count("injected") == shared.settings.limit
    assert verdicts(limit=2).count("injected") == 2
    assert verdicts(limit=0).count("injected") == 0
    assert verdicts(limit=100).count("injected") == 8
    assert verdicts(budget=0).count("over_budget") == 8
    assert 0 < verdicts(limit=100, budget=40).count("injected") < 8
    strict = shared.retrieve("limits", "trains", threshold=1)
    assert {c.verdict for c in strict.candidates} == {"below_threshold"}
    assert strict.candidates[0].parts["threshold"] == 1


@pytest.mark.parametrize(
    ("how", "named"),
    [
        ({"limit": -1}, "limit"),
        ({"limit": 2.5}, "limit"),
        ({"budget": -1}, "budget"),
        ({"budget": "many"}, "budget"),
        ({"threshold": 1.1}, "threshold"),
        ({"threshold": float("nan")}, "threshold"),
        ({"as_of": "soon"}, "as_of"),
        ({"request": ""}, "request"),
        ({"request": 5}, "request"),
        ({"subject": " "}, "subject"),
    ],
)
def test_a_retrieval_that_cannot_be_made_is_refused_and_not_recorded(
    shared: Holdfast, how: dict[str, Any], named: str
) -> None:
    before = len(shared.evidence(limit=None))
    with pytest.raises(InvalidInputError, match=named):
        shared.retrieve(**{"subject": "refused", "request": "trains"} | how)
    assert len(shared.evidence(limit=None)) == before


def test_a_must_that_does_not_fit_degrades_the_retrieval(shared: Holdfast) -> None:
    topical(shared, "degraded", "I never take trains", strength="must")
    topical(shared, "degraded", "I love trains")
    found = shared.retrieve("degraded", "trains", threshold=0, budget=0)
    assert (found.status, found.context) == ("degraded", "")
    assert shared.replay(str(found.evidence_id))


def test_a_line_costs_what_it_takes_once_escaped(shared: Holdfast) -> None:
    topical(shared, "escaped", "trains " + "<" * 400)
    found = shared.retrieve("escaped", "trains", threshold=0, budget=200)
    assert [c.verdict for c in found.candidates] == ["over_budget"]


def test_without_record_nothing_is_written(shared: Holdfast) -> None:
    topical(shared, "unrecorded", "I love trains")
    before = len(shared.evidence(limit=None))
    found = shared.retrieve("unrecorded", "trains", record=False)
    assert found.evidence_id is None
    assert len(shared.evidence(limit=None)) == before
    recorded = shared.retrieve("unrecorded", "trains")
    assert recorded.candidates == found.candidates
    assert recorded.context == found.context


def test_a_retrieval_as_of_a_time_sees_what_held_then(shared: Holdfast) -> None:
    topical(shared, "then", "I love night trains", valid_from="2020-01-01", valid_to="2022-01-01")
    topical(shared, "then", "I love slow boats", valid_from="2022-01-01")
    for moment, text in (("2021-01-01", "I love night trains"), (None, "I love slow boats")):
        found = shared.retrieve("then", "trains boats", as_of=moment, threshold=0)
        assert injected(found) == [text]
        assert shared.replay(str(found.evidence_id))
    assert shared.retrieve("then", "trains", as_of="2019-01-01").candidates == []


def test_messages_without_the_users_words_get_only_always_statements(shared: Holdfast) -> None:
    topical(shared, "wordless", "I love trains")
    shared.add("wordless", "Answer in French.", scope="always")
    result = [{"type": "tool_result", "tool_use_id": "1", "content": "I love trains"}]
    for message in (
        {"role": "assistant", "content": "I love trains"},
        {"role": "user", "content": result},
    ):
        found = shared.retrieve("wordless", [message])
        assert injected(found) == ["Answer in French."]
        assert shared.replay(str(found.evidence_id))


@pytest.mark.parametrize(
    "request_text",
    [
        "tr\x00ains",
        "trains \ud800",
        "поезда",
        "قطارات\u200f",
        "🚂\u200d🚃",
        "列車" * 900,
        "a" * 9000,
    ],
)
def test_any_unicode_can_be_asked(shared: Holdfast, request_text: str) -> None:
    topical(shared, "unicode", "I love trains", "Я люблю поезда", "列車が好き")
    found = shared.retrieve("unicode", request_text)
    assert len(found.candidates) == 3
    assert shared.replay(str(found.evidence_id))


def test_any_unicode_can_be_asked_of_the_bundled_model(bundled: Holdfast) -> None:
    bundled.add("ada", "I love trains.")
    for text in ("tr\x00ains \ud800", "поезда 列車 🚂\u200d🚃", "\u202etrains", "列" * 3000):
        assert bundled.replay(str(bundled.retrieve("ada", text).evidence_id))


# Erasing at the same time


@pytest.mark.parametrize("comes_back", [False, True])
def test_a_retrieval_for_a_subject_that_is_erased_meanwhile_is_refused_and_writes_nothing(
    fake: Holdfast, monkeypatch: pytest.MonkeyPatch, comes_back: bool
) -> None:
    topical(fake, "ada", "I love night trains")
    topical(fake, "bo", "I hate night trains")
    after_erasing: list[list[str]] = []

    def erasing(*given: Any) -> Outcome:
        """Score; then, before it is recorded, the subject is erased."""
        outcome = evaluate(*given)
        fake.erase("ada")
        if comes_back:
            topical(fake, "ada", "I love slow boats")
        after_erasing.append(tampering.dump(fake.settings.data))
        return outcome

    with monkeypatch.context() as patch:
        patch.setattr(retriever, "evaluate", erasing)
        with pytest.raises(ErasedError, match="erased while this was retrieved; ask again") as e:
            fake.retrieve(["bo", "ada"], "night trains")
    assert "trains" not in str(e.value)
    assert [tampering.dump(fake.settings.data)] == after_erasing
    assert fake.evidence() == []
    assert fake.subjects() == (["ada", "bo"] if comes_back else ["bo"])
    again = fake.retrieve(["bo", "ada"], "night trains", threshold=0)
    held = ["I hate night trains", "I love slow boats"] if comes_back else ["I hate night trains"]
    assert sorted(c.statement.text for c in again.candidates) == held
    assert fake.replay(str(again.evidence_id))
    assert fake.verify().verdict == "VERIFIED-ERASED"


# The cache: it follows every change and the passing of time


def changes(hf: Holdfast, subject: str) -> list[tuple[Callable[[], Any], list[str]]]:
    """Give changes, and what is in force after each."""
    (nuts,) = hf.add(subject, "I never eat nuts")
    (proposal,) = hf.propose(subject, "I like proposals", source="tool")
    decided = "Offers. Chosen: small. Because: known."
    return [
        (lambda: hf.add(subject, "I love trains"), ["I love trains", "I never eat nuts"]),
        (
            lambda: hf.revise(nuts.id, "I never eat figs"),
            ["I love trains", "I never eat figs"],
        ),
        (lambda: hf.retire(nuts.id), ["I love trains"]),
        (
            lambda: hf.decide(subject, situation="Offers", choice="small", reason="known"),
            ["I love trains", decided],
        ),
        (
            lambda: hf.confirm(proposal.id),
            ["I like proposals", "I love trains", decided],
        ),
        (
            lambda: hf.add_many(subject, ["No planes", "No boats"]),
            ["I like proposals", "I love trains", "No boats", "No planes", decided],
        ),
        (
            lambda: hf.add(subject, "Long over", valid_from="2000-01-01", valid_to="2001-01-01"),
            ["I like proposals", "I love trains", "No boats", "No planes", decided],
        ),
    ]


@pytest.mark.parametrize("warm", [True, False])
def test_a_retrieval_sees_every_change_before_it(shared: Holdfast, warm: bool) -> None:
    subject = f"changes {warm}"
    evidence: list[str] = []
    for change, in_force in changes(shared, subject):
        if warm:
            shared.retrieve(subject, "anything", record=False)
        change()
        found = shared.retrieve(subject, "anything")
        assert sorted(c.statement.text for c in found.candidates) == sorted(in_force)
        listed = [statement.text for statement in shared.statements(subject)]
        assert sorted(listed) == sorted(in_force)
        evidence.append(str(found.evidence_id))
    assert all(shared.replay(each) for each in evidence)


def test_a_retrieval_sees_what_begins_and_ends_by_the_passing_of_time(
    shared: Holdfast, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = times.now()
    at = times.to_datetime
    topical(shared, "passing", "I love trains", valid_to=at(start + 10 * SECOND))
    topical(
        shared, "passing", "I love boats",
        valid_from=at(start + 5 * SECOND), valid_to=at(start + 20 * SECOND),
    )  # fmt: skip
    expected = {
        1: ["I love trains"],
        4.999999: ["I love trains"],
        5: ["I love boats", "I love trains"],
        9.999999: ["I love boats", "I love trains"],
        10: ["I love boats"],
        20: [],
        30: [],
    }
    evidence: list[str] = []
    for seconds, texts in expected.items():
        monkeypatch.setattr(times, "now", lambda s=seconds: start + round(s * SECOND))
        found = shared.retrieve("passing", "trains boats")
        assert sorted(c.statement.text for c in found.candidates) == texts, seconds
        evidence.append(str(found.evidence_id))
    monkeypatch.undo()
    assert all(shared.replay(each) for each in evidence)


def test_several_subjects_are_read_at_one_moment_also_when_the_clock_is_set_back(
    shared: Holdfast, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = times.now()
    topical(shared, "moment a", "I love trains", valid_to=times.to_datetime(start + 10 * SECOND))
    shared.retrieve("moment a", "trains", record=False)
    monkeypatch.setattr(times, "now", lambda: start + 20 * SECOND)
    topical(shared, "moment b", "I love boats")
    monkeypatch.setattr(times, "now", lambda: start + 5 * SECOND)
    found = shared.retrieve(["moment a", "moment b"], "trains boats", threshold=0)
    assert injected(found) == ["I love boats"]
    assert shared.replay(str(found.evidence_id))


def test_a_cache_without_room_changes_no_result(tmp_path: Path) -> None:
    with open_with(FakeEmbedder(), tmp_path / "data", cache_statements=0) as hf:
        topical(hf, "ada", "I love trains", "I never eat nuts")
        first = hf.retrieve("ada", "trains", threshold=0)
        assert hf.retrieve("ada", "trains", threshold=0).candidates == first.candidates


# inject


def test_inject_puts_the_context_into_copies_of_the_messages(shared: Holdfast) -> None:
    topical(shared, "inject", "I love night trains")
    messages = [
        {"role": "system", "content": "Be terse."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "night trains", "extra": {"kept": [1]}},
    ]
    before = copy.deepcopy(messages)
    result = shared.inject("inject", messages, threshold=0)
    assert messages == before
    assert result.messages[:3] == before[:3]
    assert result.messages[3]["content"] == f"night trains\n\n{result.retrieval.context}"
    assert result.messages[3]["extra"] == {"kept": [1]}
    assert shared.replay(str(result.retrieval.evidence_id))
    system = shared.inject("inject", messages, placement="system", threshold=0)
    assert system.messages[1] == {"role": "system", "content": system.retrieval.context}
    again = shared.inject("inject", result.messages, threshold=0, record=False)
    assert again.retrieval.candidates == result.retrieval.candidates
    nothing = shared.inject("inject", messages, threshold=1)
    assert nothing.messages == before


def test_the_placement_that_is_set_is_the_default(tmp_path: Path) -> None:
    with open_with(FakeEmbedder(), tmp_path / "data", placement="system") as hf:
        hf.add("ada", "Answer in French.", scope="always")
        placed = hf.inject("ada", [{"role": "user", "content": "Hello"}]).messages
        assert [message["role"] for message in placed] == ["system", "user"]


@pytest.mark.parametrize(
    ("messages", "placement"),
    [
        ("a prompt", None),
        ({"role": "user", "content": "one message"}, None),
        ([{"role": "user", "content": "trains"}], "assistant"),
        ([{"role": "assistant", "content": "no user message"}], None),
        ([], "user"),
        (["no message"], "system"),
    ],
)
def test_what_cannot_be_placed_is_refused_and_not_recorded(
    shared: Holdfast, messages: Any, placement: Any
) -> None:
    before = len(shared.evidence(limit=None))
    with pytest.raises(InvalidInputError):
        shared.inject("inject badly", messages, placement=placement)
    assert len(shared.evidence(limit=None)) == before


# Opening


def test_open_makes_a_directory_that_a_second_owner_cannot_have(tmp_path: Path) -> None:
    path = tmp_path / "new" / "data"
    settings = Settings.load(tmp_path, lock_timeout=0)
    with Holdfast.open(path, settings=settings) as hf:
        assert hf.settings.data == path
        assert (path / "holdfast.db").exists()
        with pytest.raises(StorageError, match="in use by another process"):
            Holdfast.open(path, settings=settings)
        hf.add("ada", "I love trains.")
    with Holdfast.open(path, settings=settings) as hf:
        assert [statement.text for statement in hf.statements("ada")] == ["I love trains."]


def test_a_directory_that_could_not_be_opened_is_given_back(tmp_path: Path) -> None:
    bad = Settings.load(tmp_path, database_url="nonsense")
    with pytest.raises(holdfast.ConfigurationError, match="HOLDFAST_DATABASE_URL"):
        Holdfast.open(tmp_path / "data", settings=bad)
    with Holdfast.open(tmp_path / "data") as hf:
        assert hf.verify()
    with pytest.raises(InvalidInputError, match="tenant"):
        Holdfast.open(tmp_path / "data", tenant="a\nb")


def test_read_only_looks_without_owning_or_writing(tmp_path: Path) -> None:
    with Holdfast.open(tmp_path / "data") as owner:
        (statement,) = owner.add("ada", "I love night trains.")
        recorded = owner.retrieve("ada", "night trains")
        with Holdfast.open(tmp_path / "data", read_only=True) as reader:
            assert reader.statements("ada") == [statement]
            assert reader.history(statement.id) == [statement]
            found = reader.retrieve("ada", "night trains", record=False)
            assert found.candidates == recorded.candidates
            assert found.context == recorded.context
            assert reader.explain(str(recorded.evidence_id)).problems == []
            assert reader.replay(str(recorded.evidence_id))
            assert reader.verify()
            for write in (
                lambda: reader.retrieve("ada", "night trains"),
                lambda: reader.add("ada", "I hate boats."),
                lambda: reader.retire(statement.id),
                reader.doctor,
            ):
                with pytest.raises(StorageError):
                    write()
        assert owner.statements("ada") == [statement]
        assert len(owner.evidence()) == 1


def test_the_embedder_of_an_engine_embeds(bundled: Holdfast) -> None:
    vectors = bundled.embedder.embed(["I love trains", "I hate boats"])
    assert vectors.shape == (2, bundled.embedder.dimensions)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert (bundled.embedder.embed(["I love trains"])[0] == vectors[0]).all()


@pytest.mark.parametrize("limit", [-1, 2.5, "all"])
def test_a_list_of_evidence_has_a_whole_number_of_entries_or_all(
    shared: Holdfast, limit: Any
) -> None:
    with pytest.raises(InvalidInputError, match="limit is a whole number"):
        shared.evidence(limit=limit)
    assert shared.evidence("nobody at all", limit=None) == []


def test_what_is_not_there_is_an_error_that_says_how_to_find_what_is(shared: Holdfast) -> None:
    for call in (shared.explain, shared.replay):
        with pytest.raises(NotFoundError, match="no evidence 'ev_none'"):
            call("ev_none")
    for call in (shared.history, shared.statement, shared.retire):
        with pytest.raises(NotFoundError, match="no statement 'st_none'"):
            call("st_none")


def test_the_names_of_the_package_are_there_and_no_others() -> None:
    assert set(holdfast.__all__) <= set(dir(holdfast)) | {"__version__"}
    for name in holdfast.__all__:
        assert getattr(holdfast, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        holdfast.nonsense  # noqa: B018


# Threads


def test_threads_that_add_and_retrieve_at_once_lose_nothing(tmp_path: Path) -> None:
    threads, rounds = 8, 5
    start = threading.Barrier(threads)
    with open_with(FakeEmbedder(), tmp_path / "data") as hf:

        def work(number: int) -> list[str]:
            start.wait()
            evidence: list[str] = []
            for turn in range(rounds):
                (own,) = hf.add("shared", f"I love train {number} {turn}", split=False)
                found = hf.retrieve(["shared", f"own {number % 2}"], f"train {number}", threshold=0)
                assert own.id in {c.statement.id for c in found.candidates}
                evidence.append(str(found.evidence_id))
                (other,) = hf.add(f"own {number % 2}", f"Boat {number} {turn}", split=False)
                if turn % 2:
                    hf.revise(other.id, f"Ship {number} {turn}")
                else:
                    hf.retire(other.id)
            return evidence

        with ThreadPoolExecutor(threads) as pool:
            evidence = [each for found in pool.map(work, range(threads)) for each in found]
        assert len(hf.statements("shared")) == threads * rounds
        assert len(set(evidence)) == threads * rounds
        differing = [str(r) for r in map(hf.replay, evidence) if not r]
        assert differing == []
        assert len(hf.evidence(limit=None)) == threads * rounds
        verified = hf.verify()
        assert verified, str(verified)
        assert verified.checked == 4 * threads * rounds + 2  # the embedder and the policy once
        assert len(hf.retrieve("shared", "train").candidates) == threads * rounds


def test_threads_that_say_the_same_at_once_store_it_once(tmp_path: Path) -> None:
    start = threading.Barrier(8)
    with open_with(FakeEmbedder(), tmp_path / "data") as hf:

        def work(_: int) -> str:
            start.wait()
            return hf.add("ada", "I love trains")[0].id

        with ThreadPoolExecutor(8) as pool:
            ids = set(pool.map(work, range(8)))
        assert len(ids) == 1
        assert len(hf.statements("ada")) == 1
        assert len(hf.retrieve("ada", "trains").candidates) == 1


def test_evidence_is_durable_before_the_caller_has_its_id(shared: Holdfast) -> None:
    topical(shared, "durable", "I love trains")
    found = shared.retrieve("durable", "trains")
    stored = tampering.rows(
        shared,
        "SELECT count(*) FROM ledger JOIN payloads USING (tenant, position) WHERE event = ?",
        found.evidence_id,
    )
    assert stored == [(1,)]
