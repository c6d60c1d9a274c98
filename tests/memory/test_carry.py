"""A data directory from before the ledger opens, with everything that was in it, sealed."""

import logging
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from conftest import open_with
from fakes import FakeEmbedder
from sqlalchemy import inspect

from holdfast import Holdfast
from holdfast.memory import carry, ledger
from holdfast.memory.checkpoint import read_key
from holdfast.memory.database import Database
from holdfast.memory.errors import StorageError
from holdfast.memory.verifier import verify_bundle

DUMP = Path(__file__).with_name("before_ledger.sql")
CLEAR = (
    b"night trains",
    b"never eat nuts",
    b"slow travel",
    b"cats",
    b"Two night jobs",
    b"grown out",
)


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """A data directory as the version before left it, without its Chroma folder."""
    folder = tmp_path / "data"
    folder.mkdir()
    connection = sqlite3.connect(folder / "holdfast.db")
    connection.executescript(DUMP.read_text(encoding="utf-8"))
    connection.close()
    assert all(word in (folder / "holdfast.db").read_bytes() for word in CLEAR)
    return folder


def alter(folder: Path, statement: str) -> None:
    connection = sqlite3.connect(folder / "holdfast.db")
    with connection:
        assert connection.execute(statement).rowcount
    connection.close()


def test_statements_decisions_and_proposals_come_with_ids_times_and_history(before: Path) -> None:
    with open_with(FakeEmbedder(), before) as hf:
        said = {s.text: s for s in hf.statements("ada", include_retired=True)}
        assert set(said) == {
            "I love night trains to Rome", "I never eat nuts", "No planes, ever",
            "Be blunt with me.", "I work best at night", "I like slow travel.",
            "Two night jobs. Chosen: trains. Because: I love trains.",
        }  # fmt: skip
        trains = said["I love night trains to Rome"]
        assert (trains.version, trains.reason, trains.contexts) == (2, "been there", ("travel",))
        assert [s.text for s in hf.history(trains.id)] == ["I love night trains", trains.text]
        assert hf.history(trains.id)[0].retired_at == trains.recorded_at
        nuts = said["I never eat nuts"]
        assert (nuts.end_reason, nuts.retired_at is not None) == ("grown out of it", True)
        (decision,) = hf.decisions("ada")
        assert (decision.situation, decision.choice, decision.reason) == (
            "Two night jobs", "trains", "I love trains",
        )  # fmt: skip
        assert [w.statement_id for w in decision.weighed] == [trains.id, nuts.id]
        assert [(p.text, p.status, p.source) for p in hf.proposals("ada", status=None)] == [
            ("I like slow travel.", "confirmed", "model:x"),
            ("I like buses.", "rejected", "tool"),
            ("I like boats.", "open", "tool"),
        ]  # fmt: skip
        assert [s.text for s in hf.statements("acme")] == [
            "Employees take trains", "Planes need a permit",
        ]  # fmt: skip
        known = hf.statements("ada", known_at=trains.recorded_at, as_of=trains.recorded_at)
        assert "I never eat nuts" in {s.text for s in known}


def test_old_evidence_keeps_its_id_and_replays(before: Path) -> None:
    with open_with(FakeEmbedder(), before) as hf:
        evidence = hf.evidence()
        assert len(evidence) == 4
        for entry in evidence:
            assert entry.imported
            assert hf.replay(entry.id), str(hf.replay(entry.id))
            assert hf.explain(entry.id).problems == []
            assert entry.payload["imported"]["holds"] is True
            assert entry.payload["imported"]["from"] == "before the ledger"
        assert [entry.subjects for entry in evidence] == [
            ("ada",), ("nobody",), ("ada",), ("acme", "ada"),
        ]  # fmt: skip
        assert sorted(e.recorded_at for e in evidence) == [e.recorded_at for e in evidence[::-1]]
        assert evidence[0].recorded_at.isoformat().startswith("2026-11-26T18:16:3")


def test_the_ledger_verifies_and_goes_on(before: Path) -> None:
    with open_with(FakeEmbedder(), before) as hf:
        assert hf.verify(), str(hf.verify())
        assert hf.add("ada", "No planes, ever").existing
        again = hf.add("ada", "I never eat nuts")  # it was retired: a new one
        assert again.existing == []
        found = hf.retrieve("ada", "night trains")
        assert hf.replay(str(found.evidence_id))
        bundle = hf.audit.bundle(hf.evidence()[-1].id)
        assert verify_bundle(bundle, read_key(hf.audit.verifier_key)).verdict == "VERIFIED"
        assert hf.verify()
        assert hf.doctor().findings["missing in Chroma"] == 5  # it was never copied here
        assert not any(hf.doctor().findings.values())
    with open_with(FakeEmbedder(), before) as hf:
        assert hf.verify().covered == hf.verify().checked


def test_every_tenant_is_carried_into_a_ledger_of_its_own(before: Path) -> None:
    with open_with(FakeEmbedder(), before):
        pass
    with open_with(FakeEmbedder(), before, tenant="other") as other:
        assert [s.text for s in other.statements("ada")] == ["Another tenant's Ada likes cats."]
        assert len(other.evidence()) == 1
        assert other.verify()


def test_nothing_that_was_said_stays_in_the_clear(before: Path) -> None:
    with open_with(FakeEmbedder(), before) as hf:
        hf.retrieve("ada", "a train")
        for path in before.rglob("*"):
            if path.is_file():
                assert not [word for word in CLEAR if word in path.read_bytes()], path
        with hf.audit._record.database.read() as connection:  # pyright: ignore[reportPrivateUsage]
            names = inspect(connection).get_table_names()
        assert not [name for name in names if name.startswith("before_")]


def test_it_says_what_it_carried_once(before: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "holdfast"), open_with(FakeEmbedder(), before):
        pass
    assert caplog.messages == [
        "carried 11 versions of statements and 5 pieces of evidence into the ledger; what was "
        "said is sealed now"
    ]
    caplog.clear()
    with open_with(FakeEmbedder(), before):
        pass
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("statement", "holds"),
    [
        ("UPDATE evidence SET payload = x'7b7d' WHERE sequence = 2 AND tenant = 'local'",
         [True, False, True, True]),
        ("UPDATE evidence SET hash = 'altered' WHERE sequence = 2 AND tenant = 'local'",
         [True, False, False, True]),
        ("DELETE FROM evidence WHERE sequence = 2 AND tenant = 'local'", [True, False, True]),
        ("UPDATE evidence_subjects SET subject = 'bo' WHERE sequence = 2 AND tenant = 'local'",
         [True, False, True, True]),
    ],
)  # fmt: skip
def test_evidence_whose_chain_was_broken_is_carried_in_and_says_so(
    before: Path, statement: str, holds: list[bool]
) -> None:
    alter(before, statement)
    with open_with(FakeEmbedder(), before) as hf:
        assert [e.payload["imported"]["holds"] for e in hf.evidence()[::-1]] == holds
        assert hf.verify()


def test_a_payload_that_cannot_be_read_is_kept_as_it_is(before: Path) -> None:
    alter(before, "UPDATE evidence SET payload = x'ff00' WHERE sequence = 2 AND tenant = 'local'")
    with open_with(FakeEmbedder(), before) as hf:
        entry = hf.evidence()[2]
        assert (entry.payload["format"], entry.payload["text"]) == ("unknown", "/wA=")
        with pytest.raises(StorageError, match="unknown"):
            hf.replay(entry.id)
        assert hf.verify()


class StoppedError(Exception):
    pass


def stop(*_: Any, **__: Any) -> None:
    raise StoppedError


@pytest.mark.parametrize("step", ["erasure.note", "proposals.restore", "ledger.append"])
def test_a_carrying_that_is_interrupted_is_all_undone_and_begins_again(
    before: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    module, name = step.split(".")
    with monkeypatch.context() as patched:
        patched.setattr(getattr(carry, module), name, stop)
        with pytest.raises(StoppedError):
            open_with(FakeEmbedder(), before)
    test_old_evidence_keeps_its_id_and_replays(before)
    test_the_ledger_verifies_and_goes_on(before)


def test_a_purge_that_is_interrupted_goes_on_when_the_data_are_opened(
    before: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Database, "purge", stop)
        with pytest.raises(StoppedError):
            open_with(FakeEmbedder(), before)
    test_nothing_that_was_said_stays_in_the_clear(before)


def test_an_old_directory_is_not_opened_for_reading_alone(before: Path) -> None:
    with pytest.raises(StorageError, match="open it once for writing"):
        Holdfast.open(before, read_only=True)


def test_an_old_directory_without_anything_in_it_opens_empty(
    before: Path, caplog: pytest.LogCaptureFixture
) -> None:
    connection = sqlite3.connect(before / "holdfast.db")
    with connection:
        for table in carry.TABLES:
            connection.execute(f"DELETE FROM {table}")
    connection.close()
    with open_with(FakeEmbedder(), before) as hf:
        assert hf.subjects() == []
        assert hf.verify()
        hf.add("ada", "I never eat nuts.")
        assert hf.verify()
    assert caplog.messages == []


def test_what_is_carried_exports_and_is_erased_like_all_else(before: Path) -> None:
    with open_with(FakeEmbedder(), before) as hf:
        document = hf.export("ada")
        assert len(document["statements"]) == 8
        hf.erase("ada")
        assert hf.verify().verdict == "VERIFIED-ERASED"
        with hf.audit._record.snapshot() as snapshot:  # pyright: ignore[reportPrivateUsage]
            put = ledger.entries(snapshot, types=["statement.put"])
            assert [entry.subjects for entry in put if not entry.erased] == [("acme",)] * 2
            assert len(put) == 9  # one version came by statement.supersede
        assert hf.load("ada", document).versions == 8
        assert hf.export("ada") == document
