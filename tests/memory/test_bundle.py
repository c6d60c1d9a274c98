"""What is handed to an auditor: it verifies, and it shows no more than it should."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import tampering
from conftest import open_with
from fakes import FakeEmbedder

from holdfast import Holdfast
from holdfast.memory import ledger
from holdfast.memory.canonical import Rejected, canonical
from holdfast.memory.checkpoint import VerifierKey, decode, read_key
from holdfast.memory.errors import (
    DamagedError,
    ForkError,
    HoldfastError,
    InvalidInputError,
    NotFoundError,
)
from holdfast.memory.leaf import read_field
from holdfast.memory.models import Evidence
from holdfast.memory.published import verify_tiles
from holdfast.memory.verifier import Report, verify_bundle

ADA, FIRM, GONE, GUEST = "Quetzalcoatl", "Xylophone Works", "Bartholomew", "Philomena"
WORDS = """harpsichord marmalade Reykjavik zeppelin lighthouse kaleidoscope telegraph walrus
gingerbread obsidian""".split()
ASKED = "May I take a zeppelin to Reykjavik?"
SENT = hashlib.sha256(b"what was sent to the model").hexdigest()
TYPES = {
    "statement.put", "statement.supersede", "statement.retire", "statement.embed", "proposal.put",
    "proposal.confirm", "proposal.reject", "retrieval", "call.intent", "call.outcome", "check",
    "erasure", "policy", "embedder", "key.rotate", "export", "import", "gap",
}  # fmt: skip


@dataclass
class Filled:
    """A ledger with events of every type; some are erased."""

    hf: Holdfast
    folder: Path
    events: list[Evidence]
    key: VerifierKey
    asked: str
    """The retrieval for two subjects."""
    shown: dict[str, str] = field(default_factory=dict[str, str])
    """What the bundle of each event says where nothing is asked for by name."""
    whole: dict[str, str] = field(default_factory=dict[str, str])
    """The same, with every field asked for; of erased events there is none."""

    def of(self, kind: str, *, erased: bool = False) -> list[Evidence]:
        found = [e for e in self.events if e.type == kind and e.erased == erased]
        assert found, f"no event of type {kind}: nothing is tested"
        return found

    def verify(self, event: str, **how: Any) -> Report:
        return verify_bundle(
            json.loads(json.dumps(self.hf.audit.bundle(event, **how))), self.key, since=None
        )


def fill(hf: Holdfast, document: Any) -> str:
    """Let events of every type come about, all of them with private words; give a retrieval."""
    said = hf.add_many(
        ADA, ["I love harpsichord music", "I never eat marmalade", "Reykjavik is home"],
        split=False, contexts=["kaleidoscope"], source="telegraph",
    )  # fmt: skip
    hf.add_many(FIRM, ["Employees take the zeppelin", "Boats need a permit"], split=False)
    hf.decide(
        ADA, situation="The lighthouse", choice="a walrus", reason="obsidian", weighed=[said[0].id]
    )
    hf.revise(said[0].id, "I love harpsichord music in Reykjavik", reason="gingerbread")
    hf.retire(said[1].id, reason="the lighthouse closed")
    offered = hf.propose(ADA, "I like walrus songs.\n\nI like obsidian.", source="tool:telegraph")
    hf.confirm(offered[0].id)
    hf.reject(offered[1].id)
    hf.retrieve(ADA, ASKED)
    found = hf.retrieve([FIRM, ADA], ASKED, contexts=["kaleidoscope"])
    call = hf.audit.begin_call(
        str(found.evidence_id), provider="p", model="m-1", request_sha256=SENT
    )
    outcome = hf.audit.end_call(call, model="m-1b", response="the walrus answers")
    hf.audit.record_check(outcome, judgement="kept", by="a judge", why="marmalade was left out")
    hf.audit.record_gap("the lighthouse was dark", since="2026-01-01", until="2026-01-02")
    hf.load(GUEST, document)
    hf.export(ADA)
    hf.audit.rotate_key()
    hf.add(GONE, "I never saw a zeppelin.")
    hf.retrieve(GONE, ASKED)
    hf.erase(GONE, reason="gingerbread")
    return str(found.evidence_id)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    folder = tmp_path_factory.mktemp("bundles")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        with open_with(FakeEmbedder(), folder / "elsewhere") as other:
            other.add(GUEST, "I like gingerbread.")
            document = other.export(GUEST)
        with open_with(FakeEmbedder("earlier", 32), folder / "data") as earlier:
            earlier.add(ADA, "I walk past the lighthouse")
        with open_with(FakeEmbedder(), folder / "data") as hf:
            hf.doctor()  # embeds anew
            asked = fill(hf, document)
            events = hf.audit.events(limit=None)
            key = read_key(hf.audit.verifier_key)
            filled = Filled(hf, folder / "data", events, key, asked)
            for event in events:
                filled.shown[event.id] = said(hf.audit.bundle(event.id))
                if not event.erased:
                    fields = ["subjects", *event.payload]
                    filled.whole[event.id] = said(hf.audit.bundle(event.id, disclose=fields))
            yield filled


def said(bundle: dict[str, Any]) -> str:
    """Give all that stands in a bundle, as it was written."""
    parts = [
        text
        for entry in bundle["entries"]
        for part in entry.values()
        for text in ([part] if isinstance(part, str) else part)
    ]
    return "\n".join(str(part) for part in [bundle["key"], *parts])


def shown(bundle: dict[str, Any], entry: int = 0) -> dict[str, Any]:
    """Read what an entry discloses."""
    return dict(read_field(line) for line in bundle["entries"][entry]["disclosed"])


# Every event is proved


def test_every_type_of_event_is_proved_and_shown_whole_where_that_is_asked_for(
    filled: Filled,
) -> None:
    assert {event.type for event in filled.events} == TYPES
    for event in filled.events:
        if event.erased:
            continue
        whole = dict(event.payload)
        if event.subjects:
            whole["subjects"] = list(event.subjects)
        report = filled.verify(event.id, disclose=["subjects", *event.payload])
        (entry,) = report.entries
        assert report.verdict == "VERIFIED"
        assert report.checkpoint.size == len(filled.events)
        assert (entry.index, entry.leaf.id, entry.leaf.type) == (event.index, event.id, event.type)
        assert (entry.fields, entry.withheld) == (whole, 0)
        part = filled.verify(event.id).entries[0]
        assert len(part.fields) + part.withheld == len(whole)
        assert part.fields.items() <= whole.items()


def test_a_bundle_has_no_more_parts_than_it_needs_and_names_its_key(filled: Filled) -> None:
    bundle = filled.hf.audit.bundle(filled.asked)
    assert list(bundle) == ["format", "key", "entries"]
    assert (bundle["format"], bundle["key"]) == ("holdfast-bundle-1", str(filled.key))
    assert [set(entry) for entry in bundle["entries"]] == [
        {"leaf", "proof", "disclosed", "withheld", "corpora"}
    ]
    other = filled.hf.audit.bundle(filled.of("check")[0].id)
    assert [set(entry) for entry in other["entries"]] == [
        {"leaf", "proof", "disclosed", "withheld"}
    ]


def test_an_erased_event_is_shown_with_the_erasure_and_nothing_else_of_it(filled: Filled) -> None:
    (erasure,) = filled.of("erasure")
    for kind in ("statement.put", "retrieval"):
        (gone,) = filled.of(kind, erased=True)
        bundle = filled.hf.audit.bundle(gone.id)
        report = verify_bundle(bundle, filled.key)
        assert report.verdict == "VERIFIED-ERASED"
        assert [(entry.leaf.id, entry.erased) for entry in report.entries] == [
            (gone.id, True), (erasure.id, False),
        ]  # fmt: skip
        assert set(bundle["entries"][0]) == {"leaf", "proof"}
        assert shown(bundle, 1) == {"events.0": erasure.payload["events.0"]}
        assert len(bundle["entries"][1]["withheld"]) == len(erasure.payload) - 1
        with pytest.raises(InvalidInputError, match="names fields of: subjects"):
            filled.hf.audit.bundle(gone.id, disclose=["text"])
        with pytest.raises(Rejected, match="no erasure in the bundle names it"):
            verify_bundle(bundle | {"entries": bundle["entries"][:1]}, filled.key)


# What is shown


SHOWN = {
    "embedder": {"digest", "embedder"},
    "policy": {"digest", "policy"},
    "statement.put": {"statement", "chain"},
    "statement.supersede": {"statement", "ends", "chain"},
    "statement.retire": {"id", "ends", "chain"},
    "proposal.put": {"proposal", "revision", "chain"},
    "proposal.confirm": {"id", "decided", "revision", "chain"},
    "proposal.reject": {"id", "decided", "revision", "chain"},
    "retrieval": {
        "format", "versions", "as_of", "embedder", "corpora", "policy", "candidates", "injected",
        "status", "chain",
    },
    "call.outcome": {
        "intent", "model", "response_id", "input_tokens", "output_tokens", "finish_reason",
        "error", "chain",
    },
    "check": {"of", "judgement", "by", "statements", "chain"},
    "gap": {"since", "until"},
    "erasure": {"events.0", "count"},
    "export": {"statements", "chain"},
    "import": {"revision", "versions", "changed_at", "chain"},
    "key.rotate": {"before", "after", "data_keys"},
}  # fmt: skip
"""What a bundle discloses where nothing is asked for; two types are held by tests below."""


@pytest.mark.parametrize("kind", SHOWN)
def test_what_is_shown_by_default_is_what_nobody_can_be_known_by(filled: Filled, kind: str) -> None:
    for event in filled.of(kind):
        if not event.imported:
            bundle = filled.hf.audit.bundle(event.id)
            assert set(shown(bundle)) == SHOWN[kind], event.id


def hashes_of(texts: Sequence[str]) -> list[str]:
    return [hashlib.sha256(each).hexdigest() for t in texts for each in (t.encode(), canonical(t))]


def texts_of(filled: Filled) -> list[str]:
    return [s.text for who in (ADA, FIRM, GUEST) for s in filled.hf.statements(who)]


PRIVATE = {
    "names": lambda f: [ADA, FIRM, GONE, GUEST],
    "words": lambda f: WORDS,
    "plain hashes of texts": lambda f: hashes_of([ADA, FIRM, ASKED, *texts_of(f)]),
    "hashes of requests": lambda f: [e.payload["request"] for e in f.of("retrieval")],
    "hashes of contexts": lambda f: [e.payload["context_sha256"] for e in f.of("retrieval")],
    "vectors of requests": lambda f: [
        e.payload["segments"]["vectors"] for e in f.of("retrieval")
    ],
    "words of requests": lambda f: [
        canonical(e.payload["terms"]).decode() for e in f.of("retrieval")
    ],
    "hashes of vectors": lambda f: [e.payload["vector"]["sha256"] for e in f.of("statement.put")],
    "hashes of vectors that were made anew": lambda f: [
        hash_ for e in f.of("statement.embed") for hash_ in e.payload["vectors"].values()
    ],
    "hashes of documents that were given out": lambda f: [
        e.payload["sha256"] for e in f.of("export")
    ],
    "hashes of documents that were taken in": lambda f: [
        e.payload["sha256"] for e in f.of("import")
    ],
    "hashes of what was sent to a model": lambda f: [SENT],
}  # fmt: skip
"""Words and vectors of subjects, and hashes by which they could be guessed."""


@pytest.mark.parametrize("what", PRIVATE)
def test_nothing_private_is_shown_unless_it_is_asked_for_by_name(filled: Filled, what: str) -> None:
    needles = PRIVATE[what](filled)
    assert needles
    found = [
        (event.type, needle)
        for event in filled.events
        for needle in needles
        if needle.casefold() in filled.shown[event.id].casefold()
    ]
    assert found == []
    if not what.startswith("plain"):
        whole = "\n".join(filled.whole.values())
        assert any(needle in whole for needle in needles), "nothing was tested"


@pytest.mark.parametrize(
    "names", [[], ["status"], ["subjects"], ["context", "subjects"], ("request",), {"segments"}]
)
def test_what_is_asked_for_by_name_is_shown_and_nothing_else(filled: Filled, names: Any) -> None:
    bundle = filled.hf.audit.bundle(filled.asked, disclose=names)
    assert set(shown(bundle)) == set(names)
    (entry,) = verify_bundle(bundle, filled.key).entries
    event = filled.hf.audit.entry(filled.asked)
    assert entry.withheld == len(event.payload) + 1 - len(names)
    assert not entry.erased
    if "subjects" in names:
        assert entry.fields["subjects"] == [FIRM, ADA]
    assert "corpora" not in bundle["entries"][0]  # what it belongs to is not shown


def test_a_field_that_is_not_there_is_named_with_those_that_are(filled: Filled) -> None:
    with pytest.raises(InvalidInputError) as refused:
        filled.hf.audit.bundle(filled.of("gap")[0].id, disclose=["since", "text"])
    assert str(refused.value) == "disclose names fields of: reason, since, subjects, until"


def test_digests_of_what_is_withheld_tell_nothing_by_their_order(filled: Filled) -> None:
    """Sorted: else the third would be the third field."""
    bundle = filled.hf.audit.bundle(filled.asked, disclose=[])
    withheld = bundle["entries"][0]["withheld"]
    assert len(set(withheld)) == len(withheld) > 15
    assert withheld == sorted(withheld)
    whole = filled.hf.audit.bundle(filled.asked, disclose=["status"])["entries"][0]
    (line,) = whole["disclosed"]
    assert hashlib.sha256(line.encode()).hexdigest() not in whole["withheld"]
    assert set(whole["withheld"]) < set(withheld)


def test_each_field_has_a_salt_of_its_own(filled: Filled) -> None:
    lines = "\n".join(filled.whole.values()).splitlines()
    salts = [json.loads(line)[0] for line in lines if line.startswith('["')]
    assert len(set(salts)) == len(salts) > 150
    assert all(len(decode(salt, "a salt")) == 32 for salt in salts)


# What was scored


def test_a_line_of_scores_is_tied_to_a_statement_by_the_digest(filled: Filled) -> None:
    found = filled.hf.explain(filled.asked).retrieval
    bundle = filled.hf.audit.bundle(filled.asked)
    (entry,) = verify_bundle(bundle, filled.key).entries
    scored = {
        c.statement.id: (c.statement.version, c.score, c.verdict, c.parts["dense"])
        for c in found.candidates
    }
    assert len(scored) == len(entry.candidates) == 7
    for line in entry.candidates:
        assert scored[line["statement"]] == (
            line["version"], line["probability"] / 10**6, line["verdict"], line["dense"] / 10**6,
        )  # fmt: skip
    assert [len(rows) for rows in bundle["entries"][0]["corpora"]] == [2, 5]
    for subject, rows in enumerate(bundle["entries"][0]["corpora"]):
        text = "".join(f"{row}\n" for row in rows)
        digest = hashlib.sha256(text.encode()).hexdigest()
        assert entry.fields["corpora"][subject]["digest"] == digest
    rows = bundle["entries"][0]["corpora"]
    for changed in ([rows[1], rows[0]], [rows[0], rows[1][1:]], [rows[0], [*rows[1], "x 1 y"]]):
        forged = bundle | {"entries": [bundle["entries"][0] | {"corpora": changed}]}
        with pytest.raises(Rejected, match="not the statements that were scored"):
            verify_bundle(forged, filled.key)


def test_a_line_of_a_statement_tells_nothing_of_what_it_says(filled: Filled) -> None:
    """Its last word is a hash with the subject's key: a guessed text cannot be tested."""
    rows = filled.hf.audit.bundle(filled.asked)["entries"][0]["corpora"]
    library = filled.hf._library  # pyright: ignore[reportPrivateUsage]
    corpora = [library.corpus(subject) for subject in (FIRM, ADA)]
    for corpus, lines in zip(corpora, rows, strict=True):
        said = list(corpus._said())  # pyright: ignore[reportPrivateUsage]
        plain = {hashlib.sha256(each).hexdigest() for each in said}
        assert not plain & {line.split(" ")[2] for line in lines}


def test_rows_that_no_longer_agree_are_left_out_and_the_event_is_proved(fake: Holdfast) -> None:
    fake.add_many("ada", ["I love night trains", "I never eat nuts"], split=False)
    asked = str(fake.retrieve("ada", "night trains").evidence_id)
    assert "corpora" in fake.audit.bundle(asked)["entries"][0]
    tampering.reword(fake, "I never eat nuts", text="I eat nuts")
    bundle = fake.audit.bundle(asked)
    assert "corpora" not in bundle["entries"][0]
    (entry,) = verify_bundle(bundle, read_key(fake.audit.verifier_key)).entries
    assert len(entry.candidates) == 2
    assert "statement" not in entry.candidates[0]


# Growing: what was kept before is continued


def grow(hf: Holdfast, to: int) -> None:
    """Append events until there are so many."""
    held = hf.audit._record  # pyright: ignore[reportPrivateUsage]
    with held.snapshot() as snapshot:
        log = ledger.log(snapshot)
    start = 0 if log is None else log.size
    held.transact(
        lambda tx: [ledger.append(tx, "gap", {"reason": f"{n}"}) for n in range(start, to)] and None
    )


SIZES = (1, 2, 255, 256, 257, 512, 515)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Holdfast, dict[int, str]]]:
    """A ledger that grew, with the checkpoints that were kept on the way."""
    folder = tmp_path_factory.mktemp("growing")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        with open_with(FakeEmbedder(), folder / "data") as hf:
            notes: dict[int, str] = {}
            for size in SIZES:
                grow(hf, size)
                notes[size] = hf.audit.checkpoint().note
            yield hf, notes


@pytest.mark.parametrize("size", SIZES)
def test_a_bundle_shows_that_a_kept_checkpoint_is_continued(
    kept: tuple[Holdfast, dict[int, str]], size: int
) -> None:
    hf, notes = kept
    key = read_key(hf.audit.verifier_key)
    for event in (hf.audit.events(limit=None)[-1], hf.audit.events(limit=1)[0]):
        bundle = hf.audit.bundle(event.id, since=notes[size])
        assert verify_bundle(bundle, key, since=notes[size]).checkpoint.size == 515
        if size < 515:
            with pytest.raises(Rejected):
                verify_bundle(hf.audit.bundle(event.id), key, since=notes[size])
        for other in {1, 257} - {size}:
            with pytest.raises(Rejected):
                verify_bundle(bundle, key, since=notes[other])


def test_every_leaf_of_a_long_log_is_proved(kept: tuple[Holdfast, dict[int, str]]) -> None:
    hf, _ = kept
    key = read_key(hf.audit.verifier_key)
    events = hf.audit.events(limit=None)
    for index in (0, 1, 254, 255, 256, 257, 511, 512, 514):
        event = events[514 - index]
        (entry,) = verify_bundle(hf.audit.bundle(event.id), key).entries
        assert (entry.index, entry.leaf.id) == (index, event.id)


def test_a_checkpoint_of_another_log_is_no_beginning(
    kept: tuple[Holdfast, dict[int, str]], filled: Filled
) -> None:
    foreign = filled.hf.audit.checkpoint().note
    with pytest.raises(InvalidInputError, match="the checkpoint cannot be used"):
        kept[0].audit.bundle(kept[0].audit.events(limit=1)[0].id, since=foreign)


# A ledger that was altered


def test_what_does_not_verify_is_not_handed_out(fake: Holdfast) -> None:
    fake.add_many("ada", ["I love night trains", "I never eat nuts"], split=False)
    first, second = fake.audit.events(types=["statement.put"])[::-1]
    tampering.reseal_payload(fake, first.id, lambda fields: fields.update(text="I eat nuts"))
    with pytest.raises(DamagedError, match=r"does not verify .*not those that were recorded"):
        fake.audit.bundle(first.id)
    tampering.garble(fake, "payloads", "sealed", "position = ?", first.index)
    with pytest.raises(DamagedError, match=f"sealed for {first.id} was altered"):
        fake.audit.bundle(first.id)
    assert fake.audit.bundle(second.id)


def test_a_payload_that_no_erasure_accounts_for_is_not_passed_off_as_erased(
    fake: Holdfast,
) -> None:
    fake.add_many("ada", ["I love night trains", "I never eat nuts"], split=False)
    fake.add("bo", "I like cats.")
    fake.erase("bo")
    event = fake.audit.events("ada", limit=1)[0]
    tampering.sql(fake, "DELETE FROM payloads WHERE position = ?", event.index)
    with pytest.raises(DamagedError, match="is missing, and no erasure names it"):
        fake.audit.bundle(event.id)


def test_a_rewritten_ledger_gives_out_nothing(fake: Holdfast, tmp_path: Path) -> None:
    grow(fake, 5)
    event = fake.audit.events()[-1]
    fake.audit.checkpoint()
    tampering.sql(
        fake, "UPDATE ledger SET leaf = CAST(replace(leaf, '\"time\":1', '\"time\":2') AS BLOB)"
    )
    for give_out in (fake.audit.bundle, lambda _: fake.audit.export_log(tmp_path / "log")):
        with pytest.raises(ForkError, match="the first 5 leaves are not those that were signed"):
            give_out(event.id)
    assert not (tmp_path / "log").exists()


# Opened for reading alone


def signed_files(tmp_path: Path) -> dict[str, bytes]:
    """Read what the signer keeps."""
    folder = tmp_path / "config" / "holdfast" / "checkpoints"
    return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_ledger_opened_for_reading_shows_events_under_the_last_checkpoint(
    fake: Holdfast, tmp_path: Path
) -> None:
    fake.add("ada", "I never eat nuts.")
    fake.retrieve("ada", "nuts")
    signed = fake.audit.checkpoint()
    under = fake.audit.events()
    fake.add("ada", "I love night trains.")
    (after,) = fake.audit.events(limit=1)
    before = signed_files(tmp_path)
    with Holdfast.open(fake.settings.data, read_only=True) as reader:
        for event in under:
            bundle = reader.audit.bundle(event.id, since=signed.note)
            report = verify_bundle(bundle, read_key(reader.audit.verifier_key), since=signed.note)
            assert report.checkpoint == signed
        with pytest.raises(NotFoundError, match=r"not under a checkpoint yet.*audit checkpoint"):
            reader.audit.bundle(after.id)
    assert signed_files(tmp_path) == before
    assert fake.audit.bundle(after.id)


def test_a_ledger_of_which_nothing_was_signed_gives_no_bundle_to_a_reader(fake: Holdfast) -> None:
    fake.add("ada", "I never eat nuts.")
    with Holdfast.open(fake.settings.data, read_only=True) as reader:
        event = reader.audit.events(limit=1)[0].id
        with pytest.raises(NotFoundError, match=r"nothing was signed yet; .*audit checkpoint"):
            reader.audit.bundle(event)
        assert reader.audit.last_checkpoint() is None


def test_a_reader_that_is_given_a_newer_checkpoint_than_it_has_is_told_so(
    fake: Holdfast, tmp_path: Path
) -> None:
    fake.add("ada", "I never eat nuts.")
    fake.audit.checkpoint()
    event = fake.audit.events(limit=1)[0].id
    old = tmp_path / "old"
    shutil.copytree(tmp_path / "config" / "holdfast" / "checkpoints", old)
    fake.add("ada", "I love night trains.")
    newer = fake.audit.checkpoint().note
    shutil.copytree(old, tmp_path / "config" / "holdfast" / "checkpoints", dirs_exist_ok=True)
    with (
        Holdfast.open(fake.settings.data, read_only=True) as reader,
        pytest.raises(HoldfastError),
    ):
        reader.audit.bundle(event, since=newer)


# The whole log as files


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def node(*parts: bytes) -> bytes:
    return hashlib.sha256(b"\1" + b"".join(parts)).digest()


def root(hashes: Sequence[bytes]) -> bytes:
    """Compute a root as RFC 6962 defines it."""
    if len(hashes) == 1:
        return hashes[0]
    middle = 1 << (len(hashes) - 1).bit_length() - 1
    return node(root(hashes[:middle]), root(hashes[middle:]))


def test_a_log_is_written_as_the_specification_lays_it_out(
    kept: tuple[Holdfast, dict[int, str]], tmp_path: Path
) -> None:
    hf, notes = kept
    steps: list[tuple[int, int]] = []
    signed = hf.audit.export_log(tmp_path / "a" / "log", progress=lambda *step: steps.append(step))
    folder = tmp_path / "a" / "log"
    assert files(folder) == [
        "checkpoint", "tile/0/000", "tile/0/001", "tile/0/002.p/3", "tile/1/000.p/2",
        "tile/entries/000", "tile/entries/001", "tile/entries/002.p/3",
    ]  # fmt: skip
    assert steps == [(256, 515), (512, 515), (515, 515)]
    assert (folder / "checkpoint").read_text("utf-8") == signed.note == notes[515]
    leaves = [event.leaf.encode() for event in hf.audit.events(limit=None)[::-1]]
    hashes = [hashlib.sha256(b"\0" + leaf).digest() for leaf in leaves]
    assert root(hashes) == signed.root
    packed = b"".join(len(leaf).to_bytes(2) + leaf for leaf in leaves[256:512])
    assert (folder / "tile/entries/001").read_bytes() == packed
    assert (folder / "tile/0/000").read_bytes() == b"".join(hashes[:256])
    assert (folder / "tile/0/002.p/3").read_bytes() == b"".join(hashes[512:])
    above = root(hashes[:256]) + root(hashes[256:512])
    assert (folder / "tile/1/000.p/2").read_bytes() == above
    key = read_key(hf.audit.verifier_key)
    for size in SIZES:
        assert verify_tiles(folder, key, since=notes[size]) == signed


@pytest.mark.parametrize(("size", "grown"), [(3, 4), (255, 256), (256, 257), (200, 600)])
def test_a_log_that_grew_is_written_over_the_one_before(
    fake: Holdfast, tmp_path: Path, size: int, grown: int
) -> None:
    grow(fake, size)
    before = fake.audit.export_log(tmp_path / "log")
    key = read_key(fake.audit.verifier_key)
    assert verify_tiles(tmp_path / "log", key).size == size
    grow(fake, grown)
    after = fake.audit.export_log(str(tmp_path / "log"))
    assert verify_tiles(tmp_path / "log", key, since=before.note) == after
    assert after.size == grown
    fake.audit.export_log(tmp_path / "anew")
    written = {name: (tmp_path / "anew" / name).read_bytes() for name in files(tmp_path / "anew")}
    assert {name: (tmp_path / "log" / name).read_bytes() for name in written} == written


def test_an_exported_log_names_nobody_and_holds_no_words(filled: Filled, tmp_path: Path) -> None:
    signed = filled.hf.audit.export_log(tmp_path)
    assert verify_tiles(tmp_path, filled.key) == signed
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert filled.asked.encode() in written
    hashes = hashes_of([ADA, FIRM, GONE, GUEST, ASKED, *texts_of(filled)])
    for needle in (ADA, FIRM, GONE, GUEST, *WORDS, *hashes):
        assert needle.encode() not in written
        assert needle.casefold().encode() not in written.lower()


def test_a_folder_that_cannot_be_written_is_named(fake: Holdfast, tmp_path: Path) -> None:
    grow(fake, 1)
    (tmp_path / "taken").write_text("a file", "utf-8")
    for folder in (tmp_path / "taken", tmp_path / "taken" / "below"):
        with pytest.raises(InvalidInputError, match="taken"):
            fake.audit.export_log(folder)


def test_a_reader_exports_what_was_signed_and_no_more(fake: Holdfast, tmp_path: Path) -> None:
    grow(fake, 1)
    with Holdfast.open(fake.settings.data, read_only=True) as reader:
        with pytest.raises(NotFoundError, match="nothing was signed yet"):
            reader.audit.export_log(tmp_path / "log")
        assert not (tmp_path / "log").exists()
        signed = fake.audit.checkpoint()
        grow(fake, 1)
        assert reader.audit.export_log(tmp_path / "log") == signed
    assert verify_tiles(tmp_path / "log", read_key(fake.audit.verifier_key)) == signed
