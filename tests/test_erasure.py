"""Erasing a subject leaves nothing of it in any file, and every proof valid."""

import hashlib
import itertools
import json
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import open_with
from fakes import FakeEmbedder

from holdfast import Holdfast
from holdfast.memory import erasure
from holdfast.memory.canonical import canonical
from holdfast.memory.checkpoint import read_key
from holdfast.memory.chroma import ChromaVectors
from holdfast.memory.database import Database
from holdfast.memory.errors import ErasedError, LockedError, NotFoundError, StorageError
from holdfast.memory.vectors import digest
from holdfast.memory.verifier import verify_bundle

GONE = "Quetzalcoatl Xylophonist"
TEXTS = [
    "I never eat cashew brittle in Reykjavik.",
    "Zeppelins frighten me beyond measure.",
    "Always call my grandmother Philomena on Sundays.",
    "I promised Bartholomew his sailing boat.",
]
OTHERS = {
    "acme": ["Employees take trains.", "Planes need a permit."],
    **{f"other {n}": [f"I water the {plant} every {n} days."] for n, plant in enumerate(
        ("fern", "cactus", "palm", "ivy", "orchid", "moss", "clover", "thistle") * 3
    )},
}  # fmt: skip
SECRET_WORDS = (
    "cashew brittle", "Reykjavik", "Zeppelins", "zeppelins", "Philomena", "Bartholomew",
    "Xylophonist", "Quetzalcoatl", "harpsichord", "marmalade", "lighthouse", "kaleidoscope",
)  # fmt: skip


@dataclass
class Secrets:
    """What must not be found any more, and the proofs that were given out before."""

    needles: dict[str, bytes] = field(default_factory=dict[str, bytes])
    events: list[str] = field(default_factory=list[str])
    bundles: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    note: str = ""
    key: str = ""


def fill(hf: Holdfast) -> Secrets:
    """Let a subject leave every kind of trace, beside others in the same collections."""
    for other, texts in OTHERS.items():
        hf.add_many(other, texts, split=False)
    said = hf.add_many(GONE, TEXTS, split=False, contexts=["harpsichord"])
    decision = hf.decide(
        GONE, situation="The lighthouse", choice="marmalade", reason="kaleidoscope",
        weighed=[said[0].id],
    )  # fmt: skip
    revised = hf.revise(said[1].id, "Zeppelins no longer frighten me.", reason="marmalade helped")
    hf.retire(said[2].id, reason="the lighthouse closed")
    proposals = hf.propose(GONE, "I like marmalade.\n\nI like harpsichord music.", source="tool")
    confirmed = hf.confirm(proposals[0].id)
    found = [hf.retrieve(GONE, "May I eat cashew brittle?"), hf.retrieve(["acme", GONE], "trains?")]
    call = hf.audit.begin_call(str(found[0].evidence_id), provider="p", model="marmalade-1")
    hf.audit.end_call(call, model="m", response="the lighthouse answers")
    hf.export(GONE)
    secrets = Secrets(note=hf.audit.checkpoint().note, key=hf.audit.verifier_key)
    for word in SECRET_WORDS:
        secrets.needles[f"word {word}"] = word.encode()
    versions = [*said, decision.statement, revised, confirmed]
    for version in versions:
        secrets.needles[f"id {version.id}"] = version.id.encode()
        row = library_vector(hf, version.text)
        secrets.needles[f"int8 of {version.id} v{version.version}"] = row.tobytes()
        secrets.needles[f"float32 of {version.id} v{version.version}"] = as_float(row)
        secrets.needles[f"hash of {version.id} v{version.version}"] = digest(row)
    for proposal in proposals:
        secrets.needles[f"id {proposal.id}"] = proposal.id.encode()
    for event in hf.audit.events(GONE, limit=None):
        secrets.events.append(event.id)
        shown = ("subjects", *event.payload)
        secrets.bundles.append(hf.audit.bundle(event.id, disclose=shown))
    for place, bundle in enumerate(secrets.bundles):
        for line in bundle["entries"][0]["disclosed"]:
            salt, name, _ = json.loads(line)
            secrets.needles[f"salt of {name} in bundle {place}"] = salt.encode()
    return secrets


def library_vector(hf: Holdfast, text: str) -> Any:
    return hf._library.quantised([text])[0]  # pyright: ignore[reportPrivateUsage]


def as_float(row: Any) -> bytes:
    """Give a part of a vector as Chroma writes it, that no other vector has."""
    return row.astype(np.float32).tobytes()[:128]


def traces(folder: Path, secrets: Secrets) -> set[str]:
    """Scan every file under a folder, names included; give what was found and where."""
    found: set[str] = set()
    for path in sorted(folder.rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        for what, needle in secrets.needles.items():
            if needle in content or needle in path.name.encode():
                found.add(f"{what} in {path.relative_to(folder)}")
    return found


@pytest.fixture
def erased(tmp_path: Path) -> Iterator[tuple[Holdfast, Secrets]]:
    with open_with(FakeEmbedder(), tmp_path / "data") as hf:
        secrets = fill(hf)
        assert len(traces(tmp_path / "data", secrets)) > len(secrets.events)
        hf.erase(GONE, reason="asked")
        yield hf, secrets


def test_nothing_is_left_in_any_file(erased: tuple[Holdfast, Secrets], tmp_path: Path) -> None:
    hf, secrets = erased
    folder = hf.settings.data
    assert traces(folder, secrets) == set()
    assert traces(tmp_path / "config", secrets) == set()
    hf.close()
    assert traces(folder, secrets) == set()
    with open_with(FakeEmbedder(), folder) as again:
        again.retrieve("other 3", "May I eat cashew nuts?")
        assert traces(folder, secrets) == set()
        grown = [f"I water plant number {n}." for n in range(400)]  # the indexes grow
        again.add_many("other 3", grown, split=False)
        again.retrieve("other 3", "plants")
        assert not any(again.doctor().findings.values())
    assert traces(folder, secrets) == set()


def test_nothing_is_left_with_the_bundled_model_either(tmp_path: Path) -> None:
    with Holdfast.open(tmp_path / "data") as hf:
        secrets = fill(hf)
        hf.erase(GONE)
        assert traces(tmp_path / "data", secrets) == set()
        hf.retrieve("acme", "May I take the train?")
        hf.add_many("other 1", [f"I water plant number {n}." for n in range(150)], split=False)
    assert traces(tmp_path / "data", secrets) == set()


def test_vectors_of_every_embedder_go(tmp_path: Path) -> None:
    with open_with(FakeEmbedder("earlier", 64), tmp_path / "data") as hf:
        secrets = fill(hf)
    with open_with(FakeEmbedder(), tmp_path / "data") as hf:
        hf.doctor()  # embeds everything anew
        for text in TEXTS:
            row = library_vector(hf, text)
            secrets.needles[f"anew {text}"] = row.tobytes()
            secrets.needles[f"anew as float {text}"] = as_float(row)
        assert {f"anew {text}" for text in TEXTS} <= secrets.needles.keys()
        hf.erase(GONE)
        assert traces(tmp_path / "data", secrets) == set()
        assert not any(hf.doctor().findings.values())


def test_every_proof_that_was_given_out_still_verifies(erased: tuple[Holdfast, Secrets]) -> None:
    hf, secrets = erased
    key = read_key(secrets.key)
    assert hf.audit.verifier_key == secrets.key
    assert len(secrets.bundles) == len(secrets.events) > 10
    for bundle in secrets.bundles:
        assert verify_bundle(bundle, key).verdict == "VERIFIED"
    verified = hf.verify(checkpoint=secrets.note)
    assert verified.ok, verified
    assert verified.verdict == "VERIFIED-ERASED"
    assert verified.erased == len(secrets.events)


def test_an_erased_event_is_proved_with_its_erasure(erased: tuple[Holdfast, Secrets]) -> None:
    hf, secrets = erased
    for event in secrets.events:
        bundle = hf.audit.bundle(event, since=secrets.note)
        report = verify_bundle(bundle, read_key(secrets.key), since=secrets.note)
        assert report.verdict == "VERIFIED-ERASED"
        gone, noted = report.entries
        assert (gone.leaf.id, gone.erased) == (event, True)
        assert noted.leaf.type == "erasure"
        assert set(noted.fields) == {"events.0"}
    written = json.dumps([hf.audit.bundle(event) for event in secrets.events])
    assert not [
        what for what, needle in secrets.needles.items() if needle.decode("latin-1") in written
    ]


def test_many_events_are_named_in_parts_and_a_bundle_shows_only_its_own(fake: Holdfast) -> None:
    fake.add_many(GONE, [f"Promise number {n}." for n in range(600)], split=False)
    events = [event.id for event in fake.audit.events(GONE, limit=None)]
    erased = fake.erase(GONE)
    assert (erased.statements, erased.events) == (600, 600)
    noted = fake.audit.entry(erased.evidence_id)
    named = [noted.payload[f"events.{n}"] for n in range(3)]
    assert [len(part) for part in named] == [256, 256, 88]
    assert sorted(itertools.chain(*named)) == sorted(events)
    bundle = fake.audit.bundle(named[2][5])
    assert [json.loads(line)[1] for line in bundle["entries"][1]["disclosed"]] == ["events.2"]
    assert fake.verify().erased == 600


def test_a_guess_cannot_be_tested_against_what_is_left(erased: tuple[Holdfast, Secrets]) -> None:
    """A dictionary of the right texts finds nothing: the salts went with the payloads."""
    hf, secrets = erased
    left = b"".join(p.read_bytes() for p in hf.settings.data.rglob("*") if p.is_file())
    guesses = [GONE, *TEXTS, *SECRET_WORDS]
    for guess in guesses:
        for form in (
            guess.encode(), canonical(guess), canonical(["", "text", guess]),
            canonical(["text", guess]), canonical({"text": guess}),
        ):  # fmt: skip
            for made in (hashlib.sha256(form), hashlib.sha1(form), hashlib.blake2b(form)):
                assert made.digest() not in left
                assert made.hexdigest().encode() not in left
    for bundle in secrets.bundles:  # with the salts, which are gone, each guess could be tested
        entry = bundle["entries"][0]
        digests = sorted(hashlib.sha256(line.encode()).digest() for line in entry["disclosed"])
        commit = hashlib.sha256(b"".join(digests)).hexdigest()
        assert commit in entry["leaf"]
        assert not any(digest in left for digest in digests)


def test_what_was_erased_says_so_and_what_was_not_is_whole(
    erased: tuple[Holdfast, Secrets],
) -> None:
    hf, secrets = erased
    for event in secrets.events:
        assert hf.audit.entry(event).erased
    retrieval = next(e for e in secrets.events if hf.audit.entry(e).type == "retrieval")
    for call in (hf.explain, hf.replay):
        with pytest.raises(ErasedError, match=f"holdfast audit bundle {retrieval}"):
            call(retrieval)
    assert hf.statements(GONE) == []
    assert hf.proposals(GONE, status=None) == []
    assert GONE not in hf.subjects()
    with pytest.raises(NotFoundError):
        hf.export(GONE)
    for other, texts in OTHERS.items():
        assert [statement.text for statement in hf.statements(other)] == texts
        found = hf.retrieve(other, texts[0])
        assert found.repaired == 0
        assert hf.replay(str(found.evidence_id))
    assert not any(hf.doctor().findings.values())


def test_a_retrieval_for_several_goes_when_any_of_them_is_erased(fake: Holdfast) -> None:
    fake.add("acme", "Employees take trains.")
    fake.add(GONE, "I never eat nuts.")
    own = fake.retrieve("acme", "trains")
    shared = fake.retrieve(["acme", GONE], "trains and nuts")
    later = fake.retrieve("acme", "trains again")
    fake.erase(GONE)
    assert fake.replay(str(own.evidence_id))
    assert fake.replay(str(later.evidence_id))
    assert fake.audit.entry(str(shared.evidence_id)).erased
    assert [event.erased for event in fake.audit.events("acme")][:3] == [False, True, False]
    assert fake.verify().verdict == "VERIFIED-ERASED"


def test_a_subject_may_come_back_and_is_another(erased: tuple[Holdfast, Secrets]) -> None:
    hf, _ = erased
    hf.retrieve(GONE, "cashew")  # from what was held in memory nothing comes
    assert hf.retrieve(GONE, "cashew").candidates == []
    added = hf.add(GONE, TEXTS[0])
    assert added.existing == []
    assert [c.statement for c in hf.retrieve(GONE, "cashew").candidates] == list(added)
    assert hf.audit.entry(hf.evidence(limit=1)[0].id).payload["chain"][0]["sequence"] == 4
    assert hf.verify().ok
    hf.erase(GONE)
    assert hf.verify().ok


def test_a_corpus_of_an_erased_subject_is_not_taken_for_that_of_its_successor(
    fake: Holdfast,
) -> None:
    fake.add(GONE, "I never eat nuts.")
    fake.retrieve(GONE, "nuts")
    cache = fake._library.cache  # pyright: ignore[reportPrivateUsage]
    held = next(iter(cache._held.values()))  # pyright: ignore[reportPrivateUsage]
    fake.erase(GONE)
    fake.add(GONE, "I love cake.")
    cache.put(held)  # as a thread may that read it before
    assert [c.statement.text for c in fake.retrieve(GONE, "nuts").candidates] == ["I love cake."]


def test_an_unknown_subject_cannot_be_erased_and_nothing_is_recorded(fake: Holdfast) -> None:
    fake.add("ada", "I never eat nuts.")
    before = len(fake.audit.events(limit=None))
    with pytest.raises(NotFoundError, match="nothing was erased"):
        fake.erase("nobody")
    assert len(fake.audit.events(limit=None)) == before


def test_another_tenants_subject_of_that_name_stays(tmp_path: Path) -> None:
    with open_with(FakeEmbedder(), tmp_path / "data", tenant="other") as other:
        other.add(GONE, "I like cats.")
    with open_with(FakeEmbedder(), tmp_path / "data") as hf:
        hf.add(GONE, "I like dogs.")
        hf.erase(GONE)
    with open_with(FakeEmbedder(), tmp_path / "data", tenant="other") as other:
        found = other.retrieve(GONE, "cats")
        assert [c.statement.text for c in found.candidates] == ["I like cats."]
        assert found.repaired == 0
        assert other.verify()


# Faults on the way


class StoppedError(Exception):
    pass


def stop(*_: object, **__: object) -> None:
    raise StoppedError


@pytest.mark.parametrize(
    ("owner", "step"),
    [
        (ChromaVectors, "drop"),
        (ChromaVectors, "put"),
        (ChromaVectors, "purge"),
        (Database, "purge"),
    ],
)
def test_an_erasure_that_was_interrupted_goes_on_when_the_data_are_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: type, step: str
) -> None:
    folder = tmp_path / "data"
    with open_with(FakeEmbedder(), folder) as hf:
        secrets = fill(hf)
        with monkeypatch.context() as patched:
            patched.setattr(owner, step, stop)
            with pytest.raises(StoppedError):
                hf.erase(GONE)
        assert hf.statements(GONE) == []
        assert erasure.is_unfinished(hf.audit._record)  # pyright: ignore[reportPrivateUsage]
    with open_with(FakeEmbedder(), folder) as hf:
        assert traces(folder, secrets) == set()
        assert hf.verify().verdict == "VERIFIED-ERASED"
        assert not any(hf.doctor().findings.values())
    assert traces(folder, secrets) == set()


def test_what_memory_held_before_does_not_stay_in_an_index(tmp_path: Path) -> None:
    """An index is written with all the room it reserves, whatever that memory held."""
    with open_with(FakeEmbedder(), tmp_path / "data") as hf:
        for other, texts in OTHERS.items():
            hf.add_many(other, texts, split=False)
        written = list((tmp_path / "data" / "chroma").glob("*/*.bin"))
        for path in written:
            if path.name in ("data_level0.bin", "length.bin"):
                with path.open("r+b") as file:
                    file.seek(-len(GONE), os.SEEK_END)
                    file.write(GONE.encode())
        secrets = Secrets({"word": GONE.encode()})
        assert len(traces(tmp_path / "data", secrets)) > 10
        hf.add("acme", "Parcels go by train.")
        assert traces(tmp_path / "data", secrets) == set()
        assert not any(hf.doctor().findings.values())


def test_the_doctor_finishes_an_erasure_too(
    fake: Holdfast, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = fill(fake)
    with monkeypatch.context() as patched:
        patched.setattr(Database, "purge", stop)
        with pytest.raises(StoppedError):
            fake.erase(GONE)
    report = fake.doctor(mend=False)
    assert report.findings["left by an erasure"] == 1
    assert not report.ok
    assert fake.doctor().mended["left by an erasure"] == 1
    assert traces(fake.settings.data, secrets) == set()
    assert not any(fake.doctor().findings.values())


def test_a_reader_that_holds_the_log_is_named_and_nothing_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.memory.database.BUSY_TIMEOUT", 50)
    with open_with(FakeEmbedder(), tmp_path / "data") as hf:
        secrets = fill(hf)
        reader = sqlite3.connect(tmp_path / "data" / "holdfast.db", isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM statements").fetchone()
        with pytest.raises(LockedError, match="holdfast doctor"):
            hf.erase(GONE)
        assert hf.statements(GONE) == []
        reader.close()
        hf.doctor()
        assert traces(tmp_path / "data", secrets) == set()


def test_a_store_that_was_put_aside_as_damaged_goes_too(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with open_with(FakeEmbedder(), folder) as hf:
        secrets = fill(hf)
    (folder / "chroma" / "chroma.sqlite3").write_bytes(b"damaged " * 1000)
    with open_with(FakeEmbedder(), folder) as hf:
        assert hf.doctor().mended["unreadable store"] == 1
        assert (folder / "chroma.damaged").exists()
        hf.erase(GONE)
        assert not (folder / "chroma.damaged").exists()
        assert traces(folder, secrets) == set()


def test_a_store_that_fails_while_it_drops_is_made_anew(
    fake: Holdfast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one does now and then that was killed while it dropped a collection."""
    fake.add(GONE, TEXTS[0])
    fake.add("bo", "I love tea.")

    def fails(*_: Any) -> None:
        raise StorageError("the vector store failed (InternalError)")

    with monkeypatch.context() as patched:
        patched.setattr(ChromaVectors, "drop", fails)
        fake.erase(GONE)
    assert not any(fake.doctor(mend=False).findings.values())
    found = fake.retrieve("bo", "tea")
    assert (len(found.candidates), found.repaired) == (1, 0)
    folder = fake.settings.data / "chroma"
    assert not [path for path in folder.parent.iterdir() if path.name.startswith("chroma.")]


def test_an_index_that_a_crash_cut_off_is_made_anew_with_the_store(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with open_with(FakeEmbedder(), folder) as holdfast:
        holdfast.add_many("ada", [f"I never skip walk {n}." for n in range(900)], split=False)
        holdfast.add("bo", "I was here.")
    headers = list((folder / "chroma").rglob("header.bin"))
    assert headers, "or there is nothing to cut off"
    for header in headers:
        header.write_bytes(b"")
    with open_with(FakeEmbedder(), folder) as holdfast:
        assert holdfast.erase("bo").left == ()
        assert len(holdfast.statements("ada")) == 900
        assert not (folder / "chroma.damaged").exists()
        assert not any(holdfast.doctor().findings.values())
