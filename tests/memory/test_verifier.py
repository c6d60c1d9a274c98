"""The verifier says VERIFIED of what holds, and of nothing else; it says why."""

import base64
import copy
import hashlib
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from holdfast.memory import leaf, merkle, verifier
from holdfast.memory.canonical import Rejected, canonical
from holdfast.memory.checkpoint import encode, sign, verifier_key
from holdfast.memory.leaf import Leaf, read_candidates, read_field, read_leaf, write_leaf
from holdfast.memory.verifier import read_proof, verify_bundle

SEED, OTHER_SEED = bytes(range(32)), bytes(32)
ORIGIN = "holdfast/feed"
KEY = verifier_key(ORIGIN, SEED)
SIZE = 11


class Log:
    """A log made by hand: each leaf with its fields, apart from all code that writes ledgers."""

    def __init__(self) -> None:
        self.disclosures: list[list[str]] = []
        self.leaves: list[str] = []
        for number in range(SIZE):
            kind = "erasure" if number == 8 else "retrieval"
            fields = {"as_of": number, "context": f"text {number}", "status": "injected"}
            if kind == "erasure":
                fields = {"count": 2, "events.0": ["ev_3", "ev_10"], "reason": "asked"}
            self.add(f"ev_{number}", kind, fields)

    def add(self, id_: str, kind: str, fields: dict[str, Any]) -> None:
        shown = [field(name, value) for name, value in sorted(fields.items())]
        digests = sorted(hashlib.sha256(each.encode()).digest() for each in shown)
        commit = hashlib.sha256(b"".join(digests)).hexdigest()
        sealed = hashlib.sha256(f"sealed {id_}".encode()).hexdigest()
        value = {"commit": commit, "id": id_, "sealed": sealed, "time": 1, "type": kind, "v": 1}
        self.leaves.append(json.dumps(value, sort_keys=True, separators=(",", ":")))
        self.disclosures.append(shown)

    def hashes(self, size: int) -> list[bytes]:
        return [merkle.hash_leaf(each.encode()) for each in self.leaves[:size]]

    def nodes(self, size: int) -> merkle.Nodes:
        hashes = self.hashes(size)
        return lambda level, index: merkle.root_of(hashes[index << level : (index + 1) << level])

    def note(self, size: int = SIZE, seed: bytes = SEED) -> str:
        return sign(ORIGIN, seed, size, merkle.root_of(self.hashes(size))).note

    def proof(self, index: int, size: int = SIZE, *, seed: bytes = SEED) -> str:
        hashes = merkle.inclusion_proof(self.nodes(size), index, size)
        lines = ["c2sp.org/tlog-proof@v1", f"index {index}", *map(encode, hashes), ""]
        return "\n".join([*lines, self.note(size, seed)])

    def entry(self, index: int, *, shown: int = 9, erased: bool = False) -> dict[str, Any]:
        entry: dict[str, Any] = {"leaf": self.leaves[index], "proof": self.proof(index)}
        if erased:
            return entry
        fields = self.disclosures[index]
        hidden = [hashlib.sha256(each.encode()).hexdigest() for each in fields[shown:]]
        return entry | {"disclosed": fields[:shown], "withheld": hidden}


def field(name: str, value: Any) -> str:
    salt = base64.b64encode(hashlib.sha256(name.encode()).digest()).decode()
    return canonical([salt, name, value]).decode()


LOG = Log()


def bundle(*entries: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"format": "holdfast-bundle-1", "entries": list(entries), **more}


def test_a_bundle_that_holds_is_verified_and_read() -> None:
    report = verify_bundle(bundle(LOG.entry(4)), KEY)
    (entry,) = report.entries
    assert report.verdict == "VERIFIED"
    assert report.checkpoint.size == SIZE
    assert (entry.index, entry.leaf.id, entry.leaf.type, entry.leaf.time) == (
        4, "ev_4", "retrieval", 1,
    )  # fmt: skip
    assert entry.fields == {"as_of": 4, "context": "text 4", "status": "injected"}
    assert (entry.withheld, entry.erased, entry.rows) == (0, False, ())
    assert str(report) == f"VERIFIED under {ORIGIN} at 11 leaves"
    assert str(entry) == "leaf 4: retrieval ev_4, 3 fields shown, 0 withheld"


@pytest.mark.parametrize("index", range(SIZE))
@pytest.mark.parametrize("shown", [0, 1, 2])
def test_any_leaf_is_verified_with_only_some_of_its_fields_shown(index: int, shown: int) -> None:
    (entry,) = verify_bundle(bundle(LOG.entry(index, shown=shown)), KEY).entries
    assert (entry.index, len(entry.fields), entry.withheld) == (index, shown, 3 - shown)
    assert not entry.erased


def test_an_erased_event_is_verified_by_the_erasure_that_names_it() -> None:
    gone, erasure = LOG.entry(3, erased=True), LOG.entry(8)
    report = verify_bundle(bundle(gone, erasure), KEY)
    assert report.verdict == "VERIFIED-ERASED"
    assert [entry.erased for entry in report.entries] == [True, False]
    assert str(report.entries[0]) == "leaf 3: retrieval ev_3, erased"
    assert verify_bundle(bundle(LOG.entry(3), erasure), KEY).verdict == "VERIFIED"


def missing(entry: dict[str, Any], *others: dict[str, Any]) -> str:
    with pytest.raises(Rejected) as refused:
        verify_bundle(bundle(entry, *others), KEY)
    return str(refused.value)


def test_a_missing_payload_that_no_erasure_names_is_rejected() -> None:
    words = "its payload is missing, and no erasure in the bundle names it"
    unnamed = LOG.entry(4, erased=True)
    assert missing(unnamed) == f"leaf 4 (ev_4): {words}"
    assert words in missing(unnamed, LOG.entry(8))
    named = LOG.entry(3, erased=True)
    assert words in missing(named)
    assert words in missing(named, LOG.entry(8, erased=True))  # an erasure that is itself gone
    assert words in missing(named, LOG.entry(8, shown=0))  # one that does not show what it names
    assert words in missing(LOG.entry(10, erased=True), LOG.entry(8))  # named before it was
    assert words in missing(LOG.entry(8, erased=True), LOG.entry(8, erased=True))


def test_another_event_cannot_pose_as_an_erasure() -> None:
    log = Log()
    log.add("ev_fake", "retrieval", {"events.0": ["ev_3"]})
    log.add("ev_odd", "erasure", {"events": ["ev_3"], "other.events.0": ["ev_3"]})

    def entry(index: int, *, gone: bool = False) -> dict[str, Any]:
        held: dict[str, Any] = {"leaf": log.leaves[index], "proof": log.proof(index, SIZE + 2)}
        return held if gone else held | {"disclosed": log.disclosures[index]}

    for pretender in (SIZE, SIZE + 1):
        assert "no erasure" in missing(entry(3, gone=True), entry(pretender))
    assert verify_bundle(bundle(entry(3, gone=True), entry(8)), KEY).verdict == "VERIFIED-ERASED"


def test_an_erasure_cannot_name_itself_and_names_a_list() -> None:
    log = Log()
    log.add("ev_self", "erasure", {"events.0": ["ev_self"]})
    held = {"leaf": log.leaves[SIZE], "proof": log.proof(SIZE, SIZE + 1)}
    assert "no erasure" in missing(held, held | {"disclosed": log.disclosures[SIZE]})
    log.add("ev_text", "erasure", {"events.0": "ev_3 and others"})
    gone = {"leaf": log.leaves[3], "proof": log.proof(3, SIZE + 2)}
    told = {"leaf": log.leaves[-1], "proof": log.proof(SIZE + 1, SIZE + 2)}
    assert missing(gone, told | {"disclosed": log.disclosures[-1]}) == "events.0 is no list"


# What was altered


def changed(change: Callable[[dict[str, Any]], Any], index: int = 4) -> str:
    entry = copy.deepcopy(LOG.entry(index, shown=2))
    change(entry)
    return missing(entry)


def replaced(name: str, old: str, new: str) -> Callable[[dict[str, Any]], None]:
    def change(entry: dict[str, Any]) -> None:
        assert old in entry[name]
        entry[name] = entry[name].replace(old, new)

    return change


def set_field(place: int, text: str) -> Callable[[dict[str, Any]], None]:
    return lambda entry: entry["disclosed"].__setitem__(place, text)


SHOWN = LOG.disclosures[4]
SALT = json.loads(SHOWN[0])[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (replaced("leaf", '"ev_4"', '"ev_5"'), "leaf 4 is not included"),
        (replaced("leaf", '"time":1', '"time":2'), "leaf 4 is not included"),
        (replaced("leaf", '"time":1', '"time":1.0'), "float is not among"),
        (replaced("leaf", '"time":1', '"time":true'), "has not the fields of a leaf"),
        (replaced("leaf", '"time":1', '"time":"1"'), "has not the fields of a leaf"),
        (replaced("leaf", '"v":1', '"v":2'), "take a newer verifier"),
        (replaced("leaf", '"v":1', '"v":0'), "of a later version"),
        (replaced("leaf", ',"v":1', ""), "has not the fields of a leaf"),
        (replaced("leaf", '"v":1', '"v":1,"x":1'), "has not the fields of a leaf"),
        (replaced("leaf", '"commit"', '"Commit"'), "has not the fields of a leaf"),
        (replaced("leaf", '"v":1', '"v": 1'), "JSON is not canonical"),
        (lambda entry: entry.update(leaf="[]"), "the leaf is no object"),
        (lambda entry: entry.update(leaf="{"), "this is no JSON"),
        (lambda entry: entry.update(leaf=7), "a leaf is no text"),
        (lambda entry: entry.pop("leaf"), "a leaf is no text"),
        (lambda entry: entry.pop("proof"), "a proof is no text"),
        (replaced("proof", "tlog-proof@v1", "tlog-proof@v2"), "begins with c2sp.org/tlog-proof"),
        (replaced("proof", "index 4", "index 5"), "leaf 5 is not included"),
        (replaced("proof", "index 4", "index 11"), "leaf 11 lies outside a tree of 11"),
        (replaced("proof", "index 4", "index 04"), "the index is no whole number"),
        (replaced("proof", "index 4", "Index 4"), "names no index"),
        (replaced("proof", "index 4\n", ""), "names no index"),
        (replaced("proof", "\n11\n", "\n12\n"), "signature is not that of the key"),
        (lambda entry: entry.update(proof="c2sp.org/tlog-proof@v1"), "names no index"),
        (lambda entry: entry.update(proof=LOG.proof(4, seed=OTHER_SEED)), "not signed by"),
        (lambda entry: entry.update(proof=LOG.proof(3)), "leaf 3 is not included"),
        (lambda entry: entry["disclosed"].pop(), "not those that were recorded"),
        (lambda entry: entry["withheld"].pop(), "not those that were recorded"),
        (lambda entry: entry["withheld"].append("0" * 64), "not those that were recorded"),
        (lambda entry: entry["withheld"].append("0" * 62), "a hash is not 32 bytes"),
        (lambda entry: entry["withheld"].append("zz"), "a digest is no hexadecimal"),
        (lambda entry: entry["withheld"].append(1), "a digest is no text"),
        (lambda entry: entry.update(withheld={}), "withheld is no list"),
        (lambda entry: entry.update(disclosed="x"), "disclosed is no list"),
        (lambda entry: entry["disclosed"].append(1), "a field is no text"),
        (lambda entry: entry["disclosed"].append(SHOWN[0]), "a field is shown twice"),
        (set_field(0, SHOWN[0].replace("4", "5", 1)), "not those that were recorded|salt"),
        (set_field(0, canonical([SALT, "as_of", 5]).decode()), "not those that were recorded"),
        (set_field(0, canonical([SALT, "status", 4]).decode()), "not those that were recorded"),
        (set_field(0, SHOWN[0].replace(",", ", ")), "JSON is not canonical"),
        (set_field(0, canonical([SALT, "as_of"]).decode()), "salt, name and value"),
        (set_field(0, canonical([SALT, "as_of", 4, 4]).decode()), "salt, name and value"),
        (set_field(0, canonical([SALT, 4, 4]).decode()), "a field's name is no text"),
        (set_field(0, canonical([4, "as_of", 4]).decode()), "a salt is no text"),
        (set_field(0, canonical(["QQ==", "as_of", 4]).decode()), "a salt is not 32 bytes"),
        (set_field(0, canonical(["?", "as_of", 4]).decode()), "a salt is no base64"),
        (set_field(0, canonical({"as_of": 4}).decode()), "a field is no list"),
        (set_field(0, '"\ud800"'), "no canonical JSON"),
    ],
)  # fmt: skip
def test_an_altered_entry_is_rejected_and_says_why(
    change: Callable[[dict[str, Any]], Any], words: str
) -> None:
    found = changed(change)
    assert any(each in found for each in words.split("|")), found


def test_what_is_wrong_with_the_fields_names_the_leaf() -> None:
    assert changed(lambda entry: entry["withheld"].pop()).startswith("leaf 4 (ev_4): ")


def test_payloads_cannot_be_swapped_between_leaves() -> None:
    swapped = LOG.entry(4) | {"disclosed": LOG.disclosures[5]}
    assert "not those that were recorded" in missing(swapped)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ([], "the bundle is no object"),
        ({}, "no bundle of format holdfast-bundle-1"),
        ({"format": "holdfast-bundle-2", "entries": [LOG.entry(1)]}, "no bundle of format"),
        (bundle(), "has no entries"),
        ({"format": "holdfast-bundle-1"}, "entries is no list"),
        ({"format": "holdfast-bundle-1", "entries": [1]}, "an entry is no object"),
        (bundle({"leaf": "{}"}), "a proof is no text"),
    ],
)
def test_what_is_no_bundle_is_rejected(document: Any, words: str) -> None:
    with pytest.raises(Rejected, match=words):
        verify_bundle(document, KEY)


def test_entries_must_stand_under_one_checkpoint() -> None:
    other = LOG.entry(3) | {"proof": LOG.proof(3, 9)}
    assert missing(LOG.entry(4), other) == "the entries stand under different checkpoints"
    assert verify_bundle(bundle(LOG.entry(4), LOG.entry(3)), KEY).verdict == "VERIFIED"


def test_the_key_decides_and_the_bundles_own_does_not() -> None:
    forged = bundle(LOG.entry(4) | {"proof": LOG.proof(4, seed=OTHER_SEED)}, key=str(KEY))
    with pytest.raises(Rejected, match="not signed by"):
        verify_bundle(forged, KEY)


# Continuing a checkpoint that was kept


def since(size: int, consistency: Any, log: Log = LOG, seed: bytes = SEED) -> verifier.Report:
    document = bundle(LOG.entry(4), consistency=consistency)
    return verify_bundle(document, KEY, since=log.note(size, seed))


def consistency(size: int) -> list[str]:
    return list(map(encode, merkle.consistency_proof(LOG.nodes(SIZE), size, SIZE)))


@pytest.mark.parametrize("size", range(1, SIZE + 1))
def test_a_kept_checkpoint_that_is_continued_is_accepted(size: int) -> None:
    assert since(size, consistency(size)).verdict == "VERIFIED"


def test_a_kept_checkpoint_that_is_not_continued_is_rejected() -> None:
    forked = Log()
    forked.leaves[2] = forked.leaves[2].replace('"time":1', '"time":9')
    with pytest.raises(Rejected, match="does not begin with the earlier tree"):
        since(6, consistency(6), forked)
    with pytest.raises(Rejected, match="two trees of 11 leaves differ"):
        since(11, [], forked)
    longer = Log()
    longer.add("ev_11", "retrieval", {"as_of": 11})
    with pytest.raises(Rejected, match="a tree of 12 leaves is no beginning of one of 11"):
        since(12, [], longer)
    with pytest.raises(Rejected, match="does not show that the log continues"):
        since(6, [])
    with pytest.raises(Rejected, match="hashes where"):
        since(6, consistency(6)[:1])
    with pytest.raises(Rejected, match="not signed by"):
        since(6, consistency(6), seed=OTHER_SEED)
    with pytest.raises(Rejected, match="consistency is no list"):
        since(6, "x")
    with pytest.raises(Rejected, match="a hash is no text"):
        since(6, [1])
    with pytest.raises(Rejected, match="a hash of the proof is no base64"):
        since(6, ["?"])
    with pytest.raises(Rejected, match="does not show that the log continues"):
        verify_bundle(bundle(LOG.entry(4)), KEY, since=LOG.note(6))


# A retrieval's rows and scores

ROWS = [["st_a 1 aa", "st_b 2 bb"], ["st_c 1 cc"]]
DIGESTS = [
    {"digest": hashlib.sha256("".join(f"{row}\n" for row in rows).encode()).hexdigest()}
    for rows in ROWS
]
NUMBERS = [(-70_000, 1, 265_000, 900_000, 0), (5, 0, 5, 2**31 - 1, 1), (0, 0, -1, 7, 3)]
PACKED = base64.b64encode(
    zlib.compress(
        b"".join(
            bytes(
                number.to_bytes(size, "little", signed=size > 1)[plane]
                for plane in range(size)
                for number in column
            )
            for size, column in zip((4, 4, 4, 4, 1), zip(*NUMBERS, strict=True), strict=True)
        )
    )
).decode()


def retrieval(candidates: Any = PACKED, **entry: Any) -> verifier.Entry:
    log = Log()
    log.add("ev_r", "retrieval", {"corpora": DIGESTS, "candidates": candidates})
    held = {"leaf": log.leaves[-1], "proof": log.proof(SIZE, SIZE + 1)}
    held |= {"disclosed": log.disclosures[-1], **entry}
    return verify_bundle(bundle(held), KEY).entries[0]


def test_the_scores_of_a_retrieval_are_read_beside_its_rows() -> None:
    found = retrieval(corpora=ROWS)
    assert found.rows == ("st_a 1 aa", "st_b 2 bb", "st_c 1 cc")
    assert [list(candidate.values())[:5] for candidate in found.candidates] == [
        [-70_000, 1, 265_000, 900_000, "injected"],
        [5, 0, 5, 2**31 - 1, "below_threshold"],
        [0, 0, -1, 7, "out_of_context"],
    ]
    assert list(found.candidates[0]) == [
        "dense", "lexical", "total", "probability", "verdict", "statement", "version",
    ]  # fmt: skip
    assert [(c["statement"], c["version"]) for c in found.candidates] == [
        ("st_a", 1), ("st_b", 2), ("st_c", 1),
    ]  # fmt: skip
    assert "statement" not in retrieval().candidates[0]
    assert verify_bundle(bundle(LOG.entry(4)), KEY).entries[0].candidates == []


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([ROWS[1], ROWS[0]], "not the statements that were scored"),
        ([ROWS[0]], "not the statements that were scored"),
        ([*ROWS, []], "not the statements that were scored"),
        ([ROWS[0], ["st_c 2 cc"]], "not the statements that were scored"),
        ([["\n".join(ROWS[0])], ROWS[1]], "a row is more than one line"),
        ([[], []], "not the statements that were scored"),
        ([ROWS[0], 1], "the rows is no list"),
        ([ROWS[0], [1]], "a row is no text"),
        ({}, "corpora is no list"),
    ],
)
def test_rows_that_were_not_scored_are_rejected(rows: Any, words: str) -> None:
    with pytest.raises(Rejected, match=words):
        retrieval(corpora=rows)


@pytest.mark.parametrize("count", [0, 2, 4])
def test_as_many_rows_as_scores_are_demanded_when_a_bundle_is_opened(count: int) -> None:
    packed = base64.b64encode(zlib.compress(bytes(17 * count))).decode()
    assert len(retrieval(packed).candidates) == count
    with pytest.raises(Rejected, match=r"leaf 11 \(ev_r\): there are not as many rows"):
        retrieval(packed, corpora=ROWS)


def test_scores_are_read_when_a_bundle_is_opened() -> None:
    with pytest.raises(Rejected, match=r"leaf 11 \(ev_r\): the candidates is no base64"):
        retrieval("?")


def test_rows_are_rejected_where_what_was_scored_is_not_shown() -> None:
    entry = LOG.entry(4) | {"corpora": ROWS}
    assert "not the statements that were scored" in missing(entry)


@pytest.mark.parametrize(
    ("packed", "words"),
    [
        ("?", "the candidates is no base64"),
        (base64.b64encode(b"no zlib").decode(), "cannot be unpacked"),
        (base64.b64encode(zlib.compress(bytes(16))).decode(), "cut off"),
        (base64.b64encode(zlib.compress(bytes(16) + b"\4")).decode(), "a verdict that there is"),
        (base64.b64encode(zlib.compress(bytes(16) + b"\xfc")).decode(), "a verdict that there is"),
    ],
)
def test_scores_that_cannot_be_unpacked_are_rejected(packed: str, words: str) -> None:
    with pytest.raises(Rejected, match=words):
        read_candidates(packed)


def test_no_more_scores_are_unpacked_than_fit_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaf, "MOST_UNPACKED", 17)
    assert len(read_candidates(base64.b64encode(zlib.compress(bytes(170))).decode())) == 1


# Proofs, leaves and fields on their own


def test_a_proof_may_carry_extra_data_of_others() -> None:
    text = LOG.proof(4).replace("index 4", "extra QUJD\nindex 4")
    assert read_proof(text, KEY)[0] == 4
    with pytest.raises(Rejected, match="names no index"):
        read_proof(LOG.proof(4).replace("index 4", "extra QUJD\nextra QUJD\nindex 4"), KEY)


def test_a_leaf_is_written_as_it_is_read() -> None:
    read = read_leaf(LOG.leaves[4])
    assert write_leaf(read) == LOG.leaves[4].encode()
    assert read == Leaf("ev_4", "retrieval", 1, read.commit, read.sealed)


def test_a_field_reads_back() -> None:
    assert read_field(SHOWN[1]) == ("context", "text 4")


# The command


def run(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str]:
    status = verifier.main(list(map(str, arguments)))
    return status, capsys.readouterr().out


def test_the_command_prints_the_verdict_and_exits_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, key, kept = tmp_path / "b.json", tmp_path / "key", tmp_path / "kept"
    path.write_text(json.dumps(bundle(LOG.entry(4), consistency=consistency(6))), "utf-8")
    key.write_text(f"{KEY}\n", "utf-8")
    kept.write_text(LOG.note(6), "utf-8")
    status, said = run(capsys, path, "--key", KEY, "--since", kept)
    assert (status, said.splitlines()) == (
        0, [f"VERIFIED under {ORIGIN} at 11 leaves",
            "  leaf 4: retrieval ev_4, 3 fields shown, 0 withheld"],
    )  # fmt: skip
    status, said = run(capsys, path, "--key", key, "--show")
    assert said.splitlines()[2:] == [
        "    as_of: 4", '    context: "text 4"', '    status: "injected"',
    ]  # fmt: skip
    path.write_text(json.dumps(bundle(LOG.entry(3, erased=True), LOG.entry(8))), "utf-8")
    assert run(capsys, path, "--key", key)[1].startswith("VERIFIED-ERASED under")
    path.write_text(json.dumps(bundle(LOG.entry(3, erased=True))), "utf-8")
    status, said = run(capsys, path, "--key", key)
    assert (status, said) == (
        1, "FAILED leaf 3 (ev_3): its payload is missing, and no erasure in the bundle names it\n",
    )  # fmt: skip


def test_the_command_shows_the_scores_of_a_retrieval(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = Log()
    log.add("ev_r", "retrieval", {"corpora": DIGESTS, "candidates": PACKED})
    held = {"leaf": log.leaves[-1], "proof": log.proof(SIZE, SIZE + 1)}
    held |= {"disclosed": log.disclosures[-1], "corpora": ROWS}
    path = tmp_path / "b.json"
    path.write_text(json.dumps(bundle(held)), "utf-8")
    assert "candidate" not in run(capsys, path, "--key", KEY)[1]
    lines = run(capsys, path, "--key", KEY, "--show")[1].splitlines()
    assert lines[-3].startswith('    candidate: {"dense": -70000, "lexical": 1')
    assert lines[-1].endswith('"verdict": "out_of_context", "statement": "st_c", "version": 1}')


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff", "no UTF-8 text"),
        (b"{", "this is no JSON"),
        (b"[]", "the bundle is no object"),
    ],
)
def test_a_file_that_is_no_bundle_fails_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, words: str
) -> None:
    path = tmp_path / "b.json"
    path.write_bytes(content)
    status, said = run(capsys, path, "--key", KEY)
    assert status == 1
    assert said.startswith("FAILED ")
    assert words in said


@pytest.mark.parametrize("missing", ["the bundle", "the key", "what was kept"])
def test_a_file_that_is_missing_is_bad_use_and_no_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    path, gone = tmp_path / "b.json", tmp_path / "gone"
    path.write_text("{}")
    line: list[Any] = {
        "the bundle": [gone, "--key", KEY],
        "the key": [path, "--key", gone],
        "what was kept": [path, "--key", KEY, "--since", gone],
    }[missing]
    assert verifier.main(list(map(str, line))) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "gone cannot be read: No such file" in said.err


def test_the_command_holds_a_bundle_and_a_log_against_the_kept_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forked = Log()
    forked.leaves[2] = forked.leaves[2].replace('"time":1', '"time":9')
    kept = tmp_path / "kept"
    kept.write_text(forked.note(6), "utf-8")
    path = tmp_path / "b.json"
    path.write_text(json.dumps(bundle(LOG.entry(4), consistency=consistency(6))), "utf-8")
    assert run(capsys, path, "--key", KEY)[0] == 0
    assert run(capsys, path, "--key", KEY, "--since", kept) == (
        1, "FAILED the proof does not begin with the earlier tree\n",
    )  # fmt: skip
    folder = tmp_path / "log"
    (folder / "tile/entries").mkdir(parents=True)
    packed = b"".join(len(each).to_bytes(2) + each.encode() for each in LOG.leaves)
    (folder / f"tile/entries/000.p/{SIZE}").parent.mkdir()
    (folder / f"tile/entries/000.p/{SIZE}").write_bytes(packed)
    (folder / "checkpoint").write_text(LOG.note(), "utf-8")
    assert run(capsys, folder, "--key", KEY) == (0, f"VERIFIED under {ORIGIN} at 11 leaves\n")
    assert run(capsys, folder, "--key", KEY, "--since", kept) == (
        1, "FAILED the first 6 leaves are not those of the checkpoint\n",
    )  # fmt: skip
    assert run(capsys, folder, "--key", verifier_key(ORIGIN, OTHER_SEED))[0] == 1
    steps: list[tuple[int, int]] = []
    verifier.verify_path(folder, KEY, progress=lambda *step: steps.append(step))
    assert steps == [(SIZE, SIZE)]


def test_the_command_says_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        verifier.main(["--help"])
    assert left.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    for words in (
        "--key KEY [--since FILE] [--show] BUNDLE",
        "Check a bundle, or an exported log, of Holdfast.",
        "BUNDLE a bundle, or a log's folder",
        "--key KEY the log's key, or a file that holds it",
        "--since FILE a checkpoint that you kept",
        "--show print the fields that are shown",
    ):
        assert words in said


def test_the_command_refuses_bad_use(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        verifier.main(["bundle.json"])
    assert left.value.code == 2
    assert "--key" in capsys.readouterr().err
