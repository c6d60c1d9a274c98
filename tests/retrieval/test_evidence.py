import base64
import hashlib
import json
import zlib
from typing import Any

import numpy as np
import pytest

from holdfast import Evidence, Holdfast
from holdfast.memory.errors import DamagedError
from holdfast.retrieval.evidence import COLUMNS, from_payload

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
    assert payload["request"]["contexts"] == ["work"]
    assert payload["status"] == "injected"
    text = payload["context"]["text"]
    assert payload["context"]["sha256"] == hashlib.sha256(text.encode()).hexdigest()
    (subject,) = payload["subjects"]
    assert (subject["subject"], subject["count"]) == ("ada", 3)
    assert len(subject["corpus"]) == 64
    assert len(payload["injected"]) == 3


def test_a_payload_holds_the_requests_hash_and_not_its_words(recorded: Evidence) -> None:
    written = json.dumps(recorded.payload, ensure_ascii=False).casefold()
    for word in ("xylophonist", "quetzalcoatl", "wonders", "whether", "bratislava", "cross"):
        assert word not in written
    assert recorded.payload["request"]["terms"] == ["trains"]
    turn = hashlib.sha256(SECRET.encode()).digest()
    assert recorded.payload["request"]["sha256"] == hashlib.sha256(turn).hexdigest()


def test_a_payload_reads_back_as_it_was_written(fake: Holdfast, recorded: Evidence) -> None:
    back = from_payload(recorded.payload)
    found = fake.explain(recorded.id).retrieval
    assert back.context == found.context
    assert back.columns["verdict"].tolist() == [0, 0, 0]
    assert back.query.vectors.dtype == np.int8
    assert back.query.vectors.shape == (1, fake.embedder.dimensions)
    assert back.query.scale == fake.embedder.scale
    assert back.embedder == fake.embedder.digest
    assert list(back.columns) == list(COLUMNS)
    total = back.columns["dense"] + back.columns["lexical"] // 10
    assert (back.columns["total"] == total).all()


def damaged(payload: dict[str, Any], *path: str, value: Any = None) -> dict[str, Any]:
    """Copy a payload with one value gone or replaced."""
    copied = json.loads(json.dumps(payload))
    at = copied
    for key in path[:-1]:
        at = at[key]
    if value is None:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return copied


def test_a_payload_that_cannot_be_read_is_an_error_that_names_the_check(
    recorded: Evidence,
) -> None:
    packed = base64.b64encode(zlib.compress(b"too short")).decode()
    payload = recorded.payload
    for broken in (
        damaged(payload, "request"),
        damaged(payload, "subjects"),
        damaged(payload, "policy", "thresholds"),
        damaged(payload, "context", "text"),
        damaged(payload, "status"),
        damaged(payload, "candidates", value="no base64!"),
        damaged(payload, "candidates", value="AAAA"),
        damaged(payload, "candidates", value=packed),
        damaged(payload, "request", "vectors", value="AAA"),
        damaged(payload, "policy", "calibration", value={}),
        damaged(payload, "request", "weights", value=5),
        damaged(payload, "policy", "thresholds", value=[1]),
    ):
        with pytest.raises(DamagedError, match="holdfast audit verify"):
            from_payload(broken)
    with pytest.raises(DamagedError, match="retrieval-9"):
        from_payload(damaged(payload, "format", value="retrieval-9"))


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
    assert bundled.replay(evidence.id)
    assert bundled.explain(evidence.id).retrieval.candidates == found.candidates
