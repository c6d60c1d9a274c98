import base64
import hashlib
import json
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tampering

from holdfast import Evidence, Holdfast
from holdfast.memory.errors import DamagedError, ErasedError, InvalidInputError
from holdfast.retrieval.evidence import COLUMNS, from_evidence

SECRET = "Xylophonist Quetzalcoatl wonders whether trains cross Bratislava"


def parts(value: Any) -> list[Any]:
    """List every value in a payload, keys too."""
    if isinstance(value, dict):
        return [each for pair in value.items() for side in pair for each in parts(side)]
    if isinstance(value, list):
        return [each for item in value for each in parts(item)]
    return [value]


@pytest.fixture
def recorded(fake: Holdfast) -> Evidence:
    fake.add_many("ada", ["I love trains", "I never eat nuts", "Be blunt with me."], split=False)
    fake.retrieve("ada", SECRET, threshold=0, contexts=["Work"])
    return fake.evidence()[0]


def test_a_payload_holds_what_took_part_and_no_floats(recorded: Evidence) -> None:
    payload = recorded.payload
    assert {type(part) for part in parts(payload)} <= {str, int}
    assert set(payload["versions"]) == {"holdfast", "scoring", "selection", "context"}
    assert payload["policy"]["thresholds"] == [0, 0, 0]
    assert len(payload["policy"]["calibration"]["totals"].split()) > 2
    assert payload["contexts"] == ["work"]
    assert payload["status"] == "injected"
    text = payload["context"]
    assert payload["context_sha256"] == hashlib.sha256(text.encode()).hexdigest()
    assert recorded.subjects == ("ada",)
    (corpus,) = payload["corpora"]
    assert (corpus["revision"], corpus["count"]) == (1, 3)
    assert len(corpus["digest"]) == 64
    assert len(payload["injected"]) == 3


def test_each_thing_that_took_part_is_a_field_that_can_be_shown_alone(recorded: Evidence) -> None:
    assert set(recorded.payload) == {
        "format", "versions", "request", "segments", "terms", "contexts", "as_of", "embedder",
        "corpora", "policy", "candidates", "injected", "status", "context", "context_sha256",
        "chain",
    }  # fmt: skip


def test_a_payload_holds_the_requests_hash_and_not_its_words(recorded: Evidence) -> None:
    written = json.dumps(recorded.payload, ensure_ascii=False).casefold()
    for word in ("xylophonist", "quetzalcoatl", "wonders", "whether", "bratislava", "cross"):
        assert word not in written
    assert recorded.payload["terms"] == ["trains"]
    turn = hashlib.sha256(SECRET.encode()).digest()
    assert recorded.payload["request"] == hashlib.sha256(turn).hexdigest()


def test_a_payload_reads_back_as_it_was_written(fake: Holdfast, recorded: Evidence) -> None:
    back = from_evidence(recorded)
    found = fake.explain(recorded.id).retrieval
    assert back.context == found.context
    assert back.columns["verdict"].tolist() == [0, 0, 0]
    assert back.query.vectors.dtype == np.int8
    assert back.query.vectors.shape == (1, fake.embedder.dimensions)
    assert back.query.scale == fake.embedder.scale
    assert back.embedder == fake.embedder.digest
    assert list(back.columns) == list(COLUMNS)
    assert [(each.subject, each.revision, each.count) for each in back.subjects] == [("ada", 1, 3)]
    total = back.columns["dense"] + back.columns["lexical"] // 10
    assert (back.columns["total"] == total).all()


def damaged(evidence: Evidence, *path: str, value: Any = None) -> Evidence:
    """Copy evidence with one value of its payload gone or replaced."""
    copied = json.loads(json.dumps(evidence.payload))
    at = copied
    for key in path[:-1]:
        at = at[key]
    if value is None:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return replace(evidence, payload=copied)


def test_a_payload_that_cannot_be_read_is_an_error_that_names_the_check(
    recorded: Evidence,
) -> None:
    packed = base64.b64encode(zlib.compress(b"too short")).decode()
    for broken in (
        damaged(recorded, "request"),
        damaged(recorded, "segments"),
        damaged(recorded, "corpora"),
        replace(recorded, subjects=()),
        replace(recorded, subjects=("ada", "bo")),
        damaged(recorded, "corpora", value=[]),
        damaged(recorded, "corpora", value=[{"revision": 1}]),
        damaged(recorded, "policy", "thresholds"),
        damaged(recorded, "context"),
        damaged(recorded, "context_sha256"),
        damaged(recorded, "status"),
        damaged(recorded, "candidates", value="no base64!"),
        damaged(recorded, "candidates", value="AAAA"),
        damaged(recorded, "candidates", value=packed),
        damaged(recorded, "segments", "vectors", value="AAA"),
        damaged(recorded, "policy", "calibration", value={}),
        damaged(recorded, "segments", "weights", value=5),
        damaged(recorded, "policy", "thresholds", value=[1]),
        damaged(recorded, "format"),
    ):
        with pytest.raises(DamagedError, match="holdfast audit verify"):
            from_evidence(broken)
    with pytest.raises(DamagedError, match="retrieval-9"):
        from_evidence(damaged(recorded, "format", value="retrieval-9"))


def test_evidence_of_something_else_is_refused_and_says_of_what_it_is(fake: Holdfast) -> None:
    fake.add("ada", "I love trains")
    (stored,) = fake.audit.events(types=["statement.put"])
    for call in (fake.explain, fake.replay):
        with pytest.raises(InvalidInputError, match=r"evidence of statement\.put, not of a retri"):
            call(stored.id)


def test_erased_evidence_says_where_the_proof_of_it_is_still_to_be_had(
    fake: Holdfast, recorded: Evidence
) -> None:
    fake.erase("ada")
    with pytest.raises(ErasedError, match=f"holdfast audit bundle {recorded.id}"):
        from_evidence(fake.audit.entry(recorded.id))


def test_evidence_of_500_candidates_stays_under_8_kilobytes(bundled: Holdfast) -> None:
    words = """trains planes boats nuts work money friends dogs music nights honesty gardens bread
        letters rivers windows taxes chess wool maps paint salt clocks bees""".split()
    texts = [
        f"When it comes to {words[i % 24]} I think first of {words[i * 7 // 24 % 24]}, case {i}"
        for i in range(500)
    ]
    bundled.add_many("ada", texts, split=False, scope="topical")
    found = bundled.retrieve("ada", "Which night trains should my friend take to Ljubljana?")
    assert len(found.candidates) == 500
    (evidence,) = bundled.evidence("ada")
    size = len(json.dumps(evidence.payload, separators=(",", ":"), ensure_ascii=False).encode())
    assert size < 8_192
    query = "SELECT length(sealed) FROM payloads WHERE position = ?"
    ((stored,),) = tampering.rows(bundled, query, evidence.index)
    assert size < stored < size + 1_024, "a salt for each field, a nonce and a tag"
    assert bundled.replay(evidence.id)
    assert bundled.explain(evidence.id).retrieval.candidates == found.candidates
