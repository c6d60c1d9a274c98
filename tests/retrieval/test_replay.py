import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import open_with
from fakes import FakeEmbedder

from holdfast import Holdfast, Retrieval
from holdfast.memory.errors import DamagedError
from holdfast.memory.models import Evidence
from holdfast.retrieval import replay as replaying
from holdfast.retrieval import scoring

TEXTS = [
    "I love night trains",
    "I never eat nuts",
    "No planes, ever",
    "Be blunt with me.",
    "I work best at night",
]


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


def alter(hf: Holdfast, statement: str, *values: Any) -> None:
    connection = sqlite3.connect(hf.settings.data / "holdfast.db", timeout=10)
    with connection:
        changed = connection.execute(statement, values).rowcount
    connection.close()
    assert changed > 0


@pytest.mark.parametrize(
    ("column", "value", "named"),
    [
        ("text", "I love night boats", "the injected bytes"),
        ("strength", "must", "the injected bytes"),
        ("scope", "always", "statements of subject 2"),
        ("kind", "goal", "statements of subject 2"),
        ("contexts", '["home"]', "verdict of 1 candidates"),
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
    alter(fake, f"UPDATE statements SET {column} = ? WHERE text = ?", value, "I love night trains")
    again = fake.replay(str(found.evidence_id))
    assert not again
    assert re.search(named, str(again)), str(again)
    explained = fake.explain(str(found.evidence_id))
    assert explained.retrieval.context == found.context
    if "statements of subject" in named:
        assert explained.problems
        assert all("subject 2" in problem for problem in explained.problems)
    if "5 now" in named:
        assert (list(explained.retrieval.candidates), list(explained.retrieval.injected)) == (
            [],
            [],
        )


@pytest.mark.parametrize(("column", "value"), [("text", "No boats, ever"), ("strength", "prefer")])
def test_an_altered_statement_is_noticed_also_where_it_was_not_injected(
    fake: Holdfast, column: str, value: str
) -> None:
    found = prepare(fake)
    quiet = next(c for c in found.candidates if c.statement.text == "No planes, ever")
    assert quiet.verdict != "injected"
    alter(fake, f"UPDATE statements SET {column} = ? WHERE text = ?", value, "No planes, ever")
    again = fake.replay(str(found.evidence_id))
    assert again.differences[0] == (
        "the statements of subject 2 in force then are not those in the record now (6 now, 6 then)"
    )


def test_a_vector_altered_in_the_database_is_noticed(fake: Holdfast) -> None:
    found = prepare(fake)
    key = "SELECT key FROM statements WHERE text = 'I love night trains'"
    alter(fake, f"UPDATE vectors SET components = zeroblob(48) WHERE statement_key = ({key})")
    again = fake.replay(str(found.evidence_id))
    first = next(c for c in found.candidates if c.statement.text == "I love night trains")
    assert any(d.startswith("dense of 1 candidates") for d in again.differences)
    assert any(f"first {first.statement.id}: 0 now" in d for d in again.differences)
    alter(fake, f"UPDATE vectors SET hash = zeroblob(32) WHERE statement_key = ({key})")
    again = fake.replay(str(found.evidence_id))
    assert any("statements of subject 2" in d for d in again.differences)


def drop_context(payload: dict[str, Any]) -> None:
    payload["context"]["text"] = payload["context"]["text"].replace("trains", "planes")


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
        (lambda p: p["request"].update(terms=[]), "lexical of"),
        (lambda p: p["request"].update(weights=[500]), "dense of"),
        (lambda p: p["request"].update(contexts=[]), None),
        (lambda p: p.update(status="degraded"), "status: injected now, degraded then"),
        (lambda p: p.update(injected=[]), "the list of injected statements"),
        (lambda p: p["subjects"][0].update(corpus="0" * 64), "statements of subject 1"),
        (lambda p: p["subjects"][1].update(revision=1), "statements of subject 2"),
        (lambda p: p.update(as_of=0), "statements of subject 1"),
        (lambda p: p["versions"].update(scoring="scoring-0"), "scoring rules are"),
        (lambda p: p["versions"].update(holdfast="9.9"), None),
    ],
)
def test_an_altered_payload_is_named_by_replay_and_breaks_the_chain(
    fake: Holdfast, change: Callable[[dict[str, Any]], None], named: str | None
) -> None:
    found = prepare(fake)
    (evidence,) = fake.evidence()
    payload = json.loads(json.dumps(evidence.payload))
    change(payload)
    alter(fake, "UPDATE evidence SET payload = ?", json.dumps(payload).encode())
    again = fake.replay(str(found.evidence_id))
    assert again.same == (named is None)
    assert named is None or any(d.startswith(named) or named in d for d in again.differences)
    assert fake.explain(str(found.evidence_id)).retrieval.status == payload["status"]
    verified = fake.verify()
    assert not verified
    assert verified.failed_at == evidence.id


def test_request_vectors_of_another_length_are_an_error(fake: Holdfast) -> None:
    found = prepare(fake)
    (evidence,) = fake.evidence()
    payload = json.loads(json.dumps(evidence.payload))
    payload["request"]["vectors"] = "AAAA"
    alter(fake, "UPDATE evidence SET payload = ?", json.dumps(payload).encode())
    for call in (fake.replay, fake.explain):
        with pytest.raises(DamagedError, match="another length"):
            call(str(found.evidence_id))


def test_altered_columns_are_named_with_both_values(fake: Holdfast) -> None:
    found = prepare(fake)
    (evidence,) = fake.evidence()
    other = fake.retrieve(["acme", "ada"], "No planes at all", limit=1)
    payload = {**evidence.payload, "candidates": fake.evidence()[0].payload["candidates"]}
    altered = Evidence(
        evidence.id, "local", 1, "retrieval", evidence.subjects, evidence.recorded_at, payload,
        evidence.previous, evidence.hash,
    )  # fmt: skip
    again = replaying.replay(fake._library, altered)  # pyright: ignore[reportPrivateUsage]
    assert {"dense", "lexical", "total", "probability"} <= {
        difference.split()[0] for difference in again.differences
    }
    assert all(" now, " in d and " then" in d for d in again.differences if " of " in d)
    explained = replaying.explain(fake._library, altered)  # pyright: ignore[reportPrivateUsage]
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
