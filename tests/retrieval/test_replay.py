import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tampering
from conftest import open_with
from fakes import FakeEmbedder

from holdfast import Candidate, Holdfast, Retrieval
from holdfast.memory.errors import DamagedError, ErasedError, InvalidInputError
from holdfast.memory.leaf import corpus_digest
from holdfast.retrieval import replay as replaying
from holdfast.retrieval import scoring
from holdfast.retrieval.embedder import quantise
from holdfast.retrieval.library import Library

TEXTS = [
    "I love night trains",
    "I never eat nuts",
    "No planes, ever",
    "Be blunt with me.",
    "I work best at night",
]
LATER = "2100-01-01"


def library_of(hf: Holdfast) -> Library:
    return hf._library  # pyright: ignore[reportPrivateUsage]


def prepare(hf: Holdfast) -> Retrieval:
    hf.add_many("ada", TEXTS, split=False)
    hf.decide("ada", situation="Two night jobs", choice="trains", reason="I love trains")
    hf.add_many("acme", ["Employees take trains", "Planes need a permit"], split=False)
    return hf.retrieve(
        ["acme", "ada"], "Which night trains to Rome?", threshold=0.1, limit=3, contexts=["work"]
    )


def assert_same(hf: Holdfast, found: Retrieval) -> None:
    """Replay is the same, and explain gives back exactly what the caller saw."""
    again = hf.replay(str(found.evidence_id))
    assert again, str(again)
    explained = hf.explain(str(found.evidence_id))
    assert explained.problems == []
    for name in ("context", "status", "evidence_id"):
        assert getattr(explained.retrieval, name) == getattr(found, name)
    assert list(explained.retrieval.candidates) == list(found.candidates)
    assert list(explained.retrieval.injected) == list(found.injected)


def test_evidence_replays_after_every_later_change(fake: Holdfast) -> None:
    found = prepare(fake)
    candidates = list(found.candidates)
    assert_same(fake, found)
    fake.add("ada", "I love night trains to Rome most of all")
    assert_same(fake, found)
    for place, candidate in enumerate(candidates):
        if place % 2:
            fake.revise(candidate.statement.id, f"Something else {place}", valid_from="2020-01-01")
        else:
            fake.retire(candidate.statement.id, reason="over")
        assert_same(fake, found)
    fake.propose("ada", "I love boats", source="tool")
    assert_same(fake, found)
    assert fake.verify()


def test_evidence_replays_after_reopening_without_chroma_and_with_another_embedder(
    tmp_path: Path,
) -> None:
    path = tmp_path / "data"
    with open_with(FakeEmbedder(), path) as hf:
        found = prepare(hf)
    with open_with(FakeEmbedder(), path) as hf:
        assert_same(hf, found)
    shutil.rmtree(path / "chroma")
    with open_with(FakeEmbedder(), path) as hf:
        assert_same(hf, found)
    with open_with(FakeEmbedder("other", 32), path) as hf:
        assert_same(hf, found)
        anew = hf.retrieve(["acme", "ada"], "Which night trains to Rome?")
        assert_same(hf, anew)
        assert_same(hf, found)
    with open_with(FakeEmbedder(), path, threshold_should=0.9, limit=1) as hf:
        assert_same(hf, found)
        assert_same(hf, anew)


def test_a_retrieval_of_a_past_moment_replays(fake: Holdfast) -> None:
    fake.add("ada", "I love trains", valid_from="2020-01-01", valid_to="2021-01-01")
    found = fake.retrieve("ada", "trains", as_of="2020-06-01", threshold=0)
    assert len(found.injected) == 1
    fake.add("ada", "I hate trains", valid_from="2020-02-01")
    assert_same(fake, found)
    assert len(fake.retrieve("ada", "trains", as_of="2020-06-01").candidates) == 2


# What was altered


@pytest.mark.parametrize(
    ("column", "value", "named"),
    [
        ("strength", "must", "the injected bytes"),
        ("scope", "always", "statements of subject 2"),
        ("kind", "goal", "statements of subject 2"),
        ("id", "st_2222", "statements of subject 2"),
        ("version", 5, "statements of subject 2"),
        ("valid_to", 1, r"statements of subject 2 .* \(5 now, 6 then\)"),
        ("revision_from", 999, r"statements of subject 2 .* \(5 now, 6 then\)"),
    ],
)
def test_a_statement_altered_in_the_database_is_noticed(
    fake: Holdfast, column: str, value: Any, named: str
) -> None:
    found = prepare(fake)
    key = tampering.key_of(fake, "I love night trains")
    tampering.sql(fake, f"UPDATE statements SET {column} = ? WHERE key = ?", value, key)
    check_noticed(fake, found, named)
    ((id_, version),) = tampering.rows(
        fake, "SELECT id, version FROM statements WHERE key = ?", key
    )
    check_verification_names(fake, f"statement {id_} version {version}")


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ({"text": "I love night boats"}, "the injected bytes"),
        ({"contexts": ["home"]}, r"verdict of \d candidates"),
    ],
)
def test_words_altered_by_somebody_with_the_key_are_noticed(
    fake: Holdfast, said: dict[str, Any], named: str
) -> None:
    found = prepare(fake)
    (statement,) = [c.statement for c in found.candidates if c.statement.text == TEXTS[0]]
    tampering.reword(fake, "I love night trains", **said)
    check_noticed(fake, found, named)
    check_verification_names(fake, f"statement {statement.id} version 1")


def check_noticed(fake: Holdfast, found: Retrieval, named: str) -> None:
    again = fake.replay(str(found.evidence_id))
    assert not again
    assert re.search(named, str(again)), str(again)
    explained = fake.explain(str(found.evidence_id))
    assert explained.retrieval.context == found.context
    assert any("statements of subject 2" in difference for difference in again.differences)
    assert explained.problems
    assert all("subject 2" in problem for problem in explained.problems)
    if "5 now" in named:
        assert (list(explained.retrieval.candidates), list(explained.retrieval.injected)) == (
            [],
            [],
        )
        assert again.retrieval is None


def check_verification_names(fake: Holdfast, where: str) -> None:
    verified = fake.verify()
    assert not verified
    assert (verified.failed_at, verified.problem) == (
        where,
        "its row is not what the ledger recorded",
    )


@pytest.mark.parametrize("text", ["I love night trains", "No planes, ever"])
def test_words_altered_by_somebody_without_the_key_are_damage(fake: Holdfast, text: str) -> None:
    found = prepare(fake)
    key = tampering.key_of(fake, text)
    tampering.garble(fake, "statements", "body", "key = ?", key)
    check_damage(fake, found, key)


def test_words_swapped_by_somebody_without_the_key_are_damage(fake: Holdfast) -> None:
    found = prepare(fake)
    key, other = (tampering.key_of(fake, text) for text in TEXTS[:2])
    tampering.sql(
        fake,
        "UPDATE statements SET body = (SELECT body FROM statements WHERE key = ?) WHERE key = ?",
        *(other, key),
    )
    check_damage(fake, found, key)


def check_damage(fake: Holdfast, found: Retrieval, key: str) -> None:
    """What was sealed cannot be read; the evidence still says what was injected."""
    damage = f"what was sealed for statement {key} was altered in the database"
    again = fake.replay(str(found.evidence_id))
    assert (again.same, again.retrieval) == (False, None)
    (difference,) = again.differences
    assert difference.startswith(damage)
    assert "holdfast audit verify" in difference
    explained = fake.explain(str(found.evidence_id))
    assert explained.problems == [difference]
    assert (explained.retrieval.context, explained.retrieval.status) == (
        found.context,
        found.status,
    )
    assert (list(explained.retrieval.candidates), explained.retrieval.injected) == ([], [])
    assert fake.replay(again.evidence_id, as_of=LATER).differences == [difference]
    with pytest.raises(DamagedError, match=damage):
        fake.statements("ada")
    verified = fake.verify()
    assert not verified
    assert "its row cannot be read" in str(verified.problem)


@pytest.mark.parametrize(("column", "value"), [("text", "No boats, ever"), ("strength", "prefer")])
def test_an_altered_statement_is_noticed_also_where_it_was_not_injected(
    fake: Holdfast, column: str, value: str
) -> None:
    found = prepare(fake)
    quiet = next(c for c in found.candidates if c.statement.text == "No planes, ever")
    assert quiet.verdict != "injected"
    if column == "text":
        tampering.reword(fake, "No planes, ever", text=value)
    else:
        key = tampering.key_of(fake, "No planes, ever")
        tampering.sql(fake, f"UPDATE statements SET {column} = ? WHERE key = ?", value, key)
    again = fake.replay(str(found.evidence_id))
    assert again.differences[0] == (
        "the statements of subject 2 in force then are not those in the record now (6 now, 6 then)"
    )
    check_verification_names(fake, f"statement {quiet.statement.id} version 1")


def test_a_vector_altered_in_the_database_is_noticed(fake: Holdfast) -> None:
    found = prepare(fake)
    key = tampering.key_of(fake, "I love night trains")
    tampering.garble(fake, "vectors", "components", "statement_key = ?", key)
    again = fake.replay(str(found.evidence_id))
    first = next(c for c in found.candidates if c.statement.text == "I love night trains")
    assert any(d.startswith("dense of 1 candidates") for d in again.differences)
    assert any(f"first {first.statement.id}: 0 now" in d for d in again.differences)
    assert any("statements of subject 2" in d for d in again.differences)
    tampering.sql(fake, "UPDATE vectors SET hash = zeroblob(32) WHERE statement_key = ?", key)
    again = fake.replay(str(found.evidence_id))
    assert any("statements of subject 2" in d for d in again.differences)
    verified = fake.verify()
    assert verified.failed_at == f"the vector of statement {first.statement.id} version 1"


def test_a_vector_altered_by_somebody_with_the_key_is_noticed(fake: Holdfast) -> None:
    found = prepare(fake)
    other = quantise(fake.embedder.embed(["I love slow boats"]), fake.embedder.scale)[0]
    tampering.reseal_vector(fake, "I love night trains", other)
    again = fake.replay(str(found.evidence_id))
    first = next(c for c in found.candidates if c.statement.text == "I love night trains")
    assert any(d.startswith("dense of 1 candidates") for d in again.differences)
    assert any(f"first {first.statement.id}: " in d for d in again.differences)
    assert any("statements of subject 2" in d for d in again.differences)
    check_verification_names(fake, f"the vector of statement {first.statement.id} version 1")


def drop_context(payload: dict[str, Any]) -> None:
    payload["context"] = payload["context"].replace("trains", "planes")


def set_columns(payload: dict[str, Any]) -> None:
    payload["policy"]["calibration"]["probabilities"] = " ".join(["1"] * 57)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (drop_context, "the injected bytes"),
        (drop_context, "the hash of the injected bytes"),
        (set_columns, "probability of 8 candidates"),
        (lambda p: p["policy"].update(limit=0), "verdict of"),
        (lambda p: p["policy"].update(thresholds=[999_999] * 3), "verdict of"),
        (lambda p: p["policy"].update(limit=0), "the injected bytes"),
        (lambda p: p.update(terms=[]), "lexical of"),
        (lambda p: p["segments"].update(weights=[500]), "dense of"),
        (lambda p: p.update(contexts=[]), None),
        (lambda p: p.update(status="degraded"), "status: injected now, degraded then"),
        (lambda p: p.update(injected=[]), "the list of injected statements"),
        (lambda p: p["corpora"][0].update(digest="0" * 64), "statements of subject 1"),
        (lambda p: p["corpora"][1].update(revision=1), "statements of subject 2"),
        (
            lambda p: p.update(as_of="1970-01-01T00:00:00+00:00"),
            "statements of subject 1",
        ),
        (lambda p: p["versions"].update(scoring="scoring-0"), "scoring rules are"),
        (lambda p: p["versions"].update(holdfast="9.9"), None),
    ],
)
def test_a_payload_altered_by_somebody_with_the_keys_is_named_by_replay_and_fails_verification(
    fake: Holdfast, change: Callable[[dict[str, Any]], None], named: str | None
) -> None:
    found = prepare(fake)
    (evidence,) = fake.evidence()
    payload = json.loads(json.dumps(evidence.payload))
    change(payload)
    tampering.reseal_payload(fake, evidence.id, change)
    assert fake.audit.entry(evidence.id).payload == payload
    again = fake.replay(str(found.evidence_id))
    assert again.same == (named is None)
    assert named is None or any(d.startswith(named) or named in d for d in again.differences)
    assert fake.explain(str(found.evidence_id)).retrieval.status == payload["status"]
    verified = fake.verify()
    assert not verified
    assert verified.failed_at == f"leaf {evidence.index} ({evidence.id})"
    assert verified.problem == "its payload is not the one that was recorded"


def test_a_payload_altered_by_somebody_without_the_keys_is_damage(fake: Holdfast) -> None:
    found = prepare(fake)
    (evidence,) = fake.evidence()
    tampering.garble(fake, "payloads", "sealed", "position = ?", evidence.index)
    for call in (fake.replay, fake.explain, fake.audit.entry):
        with pytest.raises(DamagedError, match=f"sealed for {evidence.id} was altered"):
            call(str(found.evidence_id))
    assert fake.verify().failed_at == f"leaf {evidence.index} ({evidence.id})"


def test_request_vectors_of_another_length_are_an_error(fake: Holdfast) -> None:
    found = prepare(fake)
    evidence = str(found.evidence_id)
    tampering.reseal_payload(fake, evidence, lambda p: p["segments"].update(vectors="AAAA"))
    again = fake.replay(evidence)
    assert (again.same, again.retrieval) == (False, None)
    (difference,) = again.differences
    assert "vectors of another length" in difference
    assert "holdfast audit verify" in difference
    assert fake.explain(evidence).problems == [difference]
    assert fake.replay(evidence, as_of=LATER).differences == [difference]


def test_altered_columns_are_named_with_both_values(fake: Holdfast) -> None:
    found = prepare(fake)
    (evidence,) = fake.evidence()
    other = fake.retrieve(["acme", "ada"], "No planes at all", limit=1)
    payload = {**evidence.payload, "candidates": fake.evidence()[0].payload["candidates"]}
    altered = replace(evidence, payload=payload)
    again = replaying.replay(library_of(fake), altered)
    assert {"dense", "lexical", "total", "probability"} <= {
        difference.split()[0] for difference in again.differences
    }
    assert all(" now, " in d and " then" in d for d in again.differences if " of " in d)
    explained = replaying.explain(library_of(fake), altered)
    assert sorted(c.score for c in explained.retrieval.candidates) == sorted(
        c.score for c in other.candidates
    )
    assert_same(fake, found)


def test_other_rules_than_those_of_the_time_are_named(
    fake: Holdfast, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = prepare(fake)
    monkeypatch.setattr(scoring, "VERSION", "scoring-2")
    again = fake.replay(str(found.evidence_id))
    assert again.differences == ["scoring rules are scoring-2 now, scoring-1 then"]


# What would have been otherwise


def texts_of(candidates: Sequence[Candidate]) -> list[str]:
    return [candidate.statement.text for candidate in candidates]


def test_without_a_statement_the_next_one_would_have_been_injected(fake: Holdfast) -> None:
    prepare(fake)
    found = fake.retrieve(["acme", "ada"], "I love night trains at night", threshold=0.1, limit=2)
    first, *others = [c for c in found.injected if c.lane == "topical"]
    missed = [c for c in found.candidates if c.verdict == "over_budget"]
    otherwise = fake.replay(str(found.evidence_id), without=[first.statement.id])
    assert not otherwise.same
    assert otherwise.removed == [first]
    assert texts_of(otherwise.added) == texts_of(missed[:1])
    assert otherwise.added[0].verdict == "injected"
    assert otherwise.differences == [
        f"{missed[0].statement.id} would have been injected",
        f"{first.statement.id} would not have been injected",
    ]
    what_if = otherwise.retrieval
    assert what_if is not None
    assert what_if.evidence_id is None
    assert {c.statement.id for c in what_if.injected if c.lane == "topical"} == {
        c.statement.id for c in (*others, missed[0])
    }
    assert len(what_if.candidates) == len(found.candidates) - 1
    assert first.statement.text not in what_if.context
    assert missed[0].statement.text in what_if.context


def test_without_what_was_not_injected_nothing_would_have_been_otherwise(fake: Holdfast) -> None:
    fake.add_many("ada", TEXTS, split=False)
    found = fake.retrieve("ada", "night trains", threshold=0.5)
    quiet = [c.statement.id for c in found.candidates if c.verdict == "below_threshold"]
    assert quiet
    otherwise = fake.replay(str(found.evidence_id), without=quiet[:1])
    assert (otherwise.same, otherwise.differences) == (True, [])
    assert (otherwise.added, otherwise.removed) == ([], [])
    assert otherwise.retrieval is not None
    assert otherwise.retrieval.context == found.context


def test_without_any_statement_nothing_would_have_been_injected(fake: Holdfast) -> None:
    found = prepare(fake)
    everything = [c.statement.id for c in found.candidates]
    otherwise = fake.replay(str(found.evidence_id), without=everything)
    assert otherwise.removed == found.injected
    assert otherwise.differences[-1] == "status: none instead of injected"
    assert otherwise.retrieval is not None
    assert (otherwise.retrieval.context, otherwise.retrieval.status) == ("", "none")
    assert list(otherwise.retrieval.candidates) == []


def test_a_statement_that_was_retired_since_can_still_be_left_out(fake: Holdfast) -> None:
    found = prepare(fake)
    first = found.injected[0].statement
    fake.retire(first.id)
    assert fake.replay(str(found.evidence_id), without=[first.id]).removed == [found.injected[0]]


def test_at_another_date_what_held_then_would_have_been_injected(fake: Holdfast) -> None:
    fake.add("ada", "I love slow trains", valid_from="2020-01-01", valid_to="2021-01-01")
    fake.add("ada", "I love night trains", valid_from="2021-01-01")
    fake.add("ada", "I hate boats", valid_from="2019-01-01")
    found = fake.retrieve("ada", "Which trains?", threshold=0.45)
    assert texts_of(found.injected) == ["I love night trains"]
    otherwise = fake.replay(str(found.evidence_id), as_of="2020-06-01")
    assert texts_of(otherwise.added) == ["I love slow trains"]
    assert texts_of(otherwise.removed) == ["I love night trains"]
    assert otherwise.retrieval is not None
    assert sorted(texts_of(otherwise.retrieval.candidates)) == [
        "I hate boats",
        "I love slow trains",
    ]
    before = fake.replay(str(found.evidence_id), as_of="2018-01-01")
    assert (texts_of(before.removed), before.added) == (["I love night trains"], [])
    assert before.differences[-1] == "status: none instead of injected"
    (slow,) = otherwise.added
    both = fake.replay(str(found.evidence_id), as_of="2020-06-01", without=[slow.statement.id])
    assert (texts_of(both.removed), both.added) == (["I love night trains"], [])
    with pytest.raises(InvalidInputError, match="there is no candidate 'st_"):
        fake.replay(str(found.evidence_id), without=[slow.statement.id])


def test_another_date_is_answered_as_far_as_is_known_now(fake: Holdfast) -> None:
    fake.add("ada", "I love slow trains", valid_from="2020-01-01")
    found = fake.retrieve("ada", "Which trains?", threshold=0.3)
    same = fake.replay(str(found.evidence_id), as_of="2020-06-01")
    assert (same.same, same.added, same.removed) == (True, [], [])
    (later,) = fake.add("ada", "I love fast trains", valid_from="2020-01-01")
    otherwise = fake.replay(str(found.evidence_id), as_of="2020-06-01")
    assert [c.statement.id for c in otherwise.added] == [later.id]
    assert fake.replay(str(found.evidence_id)).same, "with what was known then"


def test_what_would_have_been_otherwise_is_computed_and_nothing_is_written(
    fake: Holdfast,
) -> None:
    found = prepare(fake)
    evidence, first = str(found.evidence_id), found.injected[0].statement.id
    before = tampering.dump(fake.settings.data)
    fake.replay(evidence)
    fake.replay(evidence, request="Which night trains to Rome?")
    assert not fake.replay(evidence, without=[first]).same
    fake.replay(evidence, as_of="2020-01-01")
    fake.replay(evidence, as_of=LATER, without=[first])
    fake.explain(evidence)
    replaying.scored_rows(library_of(fake), fake.audit.entry(evidence))
    assert tampering.dump(fake.settings.data) == before
    with Holdfast.open(fake.settings.data, read_only=True) as looking:
        assert looking.replay(evidence, without=[first]).removed == [found.injected[0]]


def test_nothing_is_said_to_be_otherwise_where_the_record_was_altered(
    fake: Holdfast,
) -> None:
    found = prepare(fake)
    quiet = tampering.key_of(fake, "No planes, ever")
    tampering.sql(fake, "UPDATE statements SET valid_to = 1 WHERE key = ?", quiet)
    first = found.injected[0].statement.id
    otherwise = fake.replay(str(found.evidence_id), without=[first])
    assert (otherwise.same, otherwise.added, otherwise.removed) == (False, [], [])
    assert otherwise.differences == fake.explain(str(found.evidence_id)).problems


def test_statements_that_were_no_candidates_are_refused_by_name(fake: Holdfast) -> None:
    found = prepare(fake)
    (foreign,) = fake.add("bo", "I love night trains")
    (later,) = fake.add("ada", "I love night trains and boats")
    for unknown in ("st_none", foreign.id, later.id):
        known = found.injected[0].statement.id
        with pytest.raises(InvalidInputError, match=f"there is no candidate '{unknown}'; ") as e:
            fake.replay(str(found.evidence_id), without=[known, unknown])
        assert f"holdfast audit show {found.evidence_id}" in str(e.value)
    for no_list in ("st_none", 5, {"st_none": 1}):
        wrong: Any = no_list
        with pytest.raises(InvalidInputError, match="without is a list of ids"):
            fake.replay(str(found.evidence_id), without=wrong)
    with pytest.raises(InvalidInputError, match="as_of is no ISO 8601 time"):
        fake.replay(str(found.evidence_id), as_of="soon")


# The request, embedded anew

REQUEST = "Which night trains to Rome?"


def test_a_request_embedded_anew_is_close_to_what_was_recorded(fake: Holdfast) -> None:
    found = prepare(fake)
    assert fake.replay(str(found.evidence_id)).embedding_cosine is None
    again = fake.replay(str(found.evidence_id), request=REQUEST)
    assert again.same, again
    assert again.embedding_cosine is not None
    assert replaying.LEAST_COSINE < again.embedding_cosine <= 1.000001


def test_a_conversation_is_embedded_anew_segment_by_segment(bundled: Holdfast) -> None:
    bundled.add_many("ada", TEXTS, split=False)
    messages = [
        {"role": "user", "content": "I want to go to Rome."},
        {"role": "assistant", "content": "When?"},
        {"role": "user", "content": "Overnight, please. Are there trains?"},
    ]
    found = bundled.retrieve("ada", messages)
    assert len(bundled.audit.entry(str(found.evidence_id)).payload["segments"]["weights"]) > 1
    again = bundled.replay(str(found.evidence_id), request=messages)
    assert again.same, again
    assert again.embedding_cosine == pytest.approx(1, abs=1 - replaying.LEAST_COSINE)
    with pytest.raises(InvalidInputError, match="its hash is another"):
        bundled.replay(str(found.evidence_id), request=messages[:-1])


def test_a_request_without_words_has_nothing_that_could_embed_otherwise(fake: Holdfast) -> None:
    prepare(fake)
    wordless = [{"role": "assistant", "content": "I love trains"}]
    found = fake.retrieve("ada", wordless)
    again = fake.replay(str(found.evidence_id), request=wordless)
    assert (again.same, again.embedding_cosine) == (True, 1.0)


@pytest.mark.parametrize("other", ["Which night trains to Rome", "Which boats?", "x" * 9000])
def test_another_request_than_the_recorded_one_is_refused_by_its_hash(
    fake: Holdfast, other: str
) -> None:
    found = prepare(fake)
    with pytest.raises(InvalidInputError, match="its hash is another") as refused:
        fake.replay(str(found.evidence_id), request=other)
    assert other not in str(refused.value)


def test_another_embedder_than_the_recorded_one_is_refused(tmp_path: Path) -> None:
    with open_with(FakeEmbedder(), tmp_path / "data") as hf:
        found = prepare(hf)
    with open_with(FakeEmbedder("other"), tmp_path / "data") as hf:
        with pytest.raises(InvalidInputError, match="HOLDFAST_EMBEDDER"):
            hf.replay(str(found.evidence_id), request=REQUEST)
        assert hf.replay(str(found.evidence_id)).same


def test_a_model_that_embeds_otherwise_than_it_did_is_named(tmp_path: Path) -> None:
    with open_with(FakeEmbedder(), tmp_path / "data") as hf:
        found = prepare(hf)
    changed = FakeEmbedder("another build")
    changed.digest = FakeEmbedder().digest
    with open_with(changed, tmp_path / "data") as hf:
        again = hf.replay(str(found.evidence_id), request=REQUEST)
        assert not again
        assert again.embedding_cosine is not None
        assert again.embedding_cosine < replaying.LEAST_COSINE
        (difference,) = again.differences
        assert difference == (
            f"the request embeds otherwise: cosine {again.embedding_cosine:.4f} to what it was then"
        )
        assert hf.replay(str(found.evidence_id)).same


# What was scored


def test_what_was_scored_is_given_as_the_rows_that_its_digests_are_over(fake: Holdfast) -> None:
    found = prepare(fake)
    evidence = fake.audit.entry(str(found.evidence_id))
    scored = replaying.scored_rows(library_of(fake), evidence)
    assert [corpus_digest(rows) for rows in scored] == [
        corpus["digest"] for corpus in evidence.payload["corpora"]
    ]
    assert sorted(row.split()[0] for rows in scored for row in rows) == sorted(
        c.statement.id for c in found.candidates
    )
    assert [len(rows) for rows in scored] == [2, 6]
    fake.revise(found.injected[0].statement.id, "I love boats", valid_from="2020-01-01")
    assert replaying.scored_rows(library_of(fake), evidence) == scored


def test_what_was_scored_is_not_given_where_it_no_longer_agrees(fake: Holdfast) -> None:
    found = prepare(fake)
    evidence = fake.audit.entry(str(found.evidence_id))
    first = replace(evidence, payload={**evidence.payload, "format": "retrieval-1"})
    assert replaying.scored_rows(library_of(fake), first) == []
    tampering.reword(fake, "No planes, ever", text="No boats, ever")
    assert replaying.scored_rows(library_of(fake), evidence) == []


# What was erased


@pytest.mark.parametrize("erased", ["acme", "ada"])
def test_erased_evidence_says_that_it_was_erased_and_what_is_left(
    fake: Holdfast, erased: str
) -> None:
    found = prepare(fake)
    kept = fake.retrieve("acme" if erased == "ada" else "ada", "Which night trains to Rome?")
    evidence = str(found.evidence_id)
    fake.erase(erased)
    entry = fake.audit.entry(evidence)
    assert (entry.erased, entry.subjects, entry.payload) == (True, (), {})
    calls: list[Callable[[], Any]] = [
        lambda: fake.explain(evidence),
        lambda: fake.replay(evidence),
        lambda: fake.replay(evidence, as_of=LATER),
        lambda: fake.replay(evidence, without=[found.injected[0].statement.id]),
        lambda: fake.replay(evidence, request=REQUEST),
        lambda: replaying.scored_rows(library_of(fake), entry),
    ]
    for call in calls:
        with pytest.raises(ErasedError, match=f"holdfast audit bundle {evidence}"):
            call()
    assert fake.audit.bundle(evidence)["entries"], "the way on leads somewhere"
    assert_same(fake, kept)
    verified = fake.verify()
    assert verified.verdict == "VERIFIED-ERASED", verified
