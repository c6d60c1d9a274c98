"""Whatever is wrong between SQL and Chroma, the doctor finds it, mends it, and ends clean."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tampering
from conftest import open_with
from fakes import FakeEmbedder

from holdfast import Holdfast
from holdfast.memory import erasure, vectors
from holdfast.memory.canonical import canonical
from holdfast.memory.chroma import collection_name
from holdfast.memory.errors import StorageError
from holdfast.retrieval.results import DoctorReport

TEXTS = ["I never eat nuts.", "I walk to work.", "Sundays are for my family."]


@pytest.fixture
def filled(fake: Holdfast) -> Holdfast:
    """Two subjects, a revision, a retirement, a decision, a retrieval: six versions in all."""
    first, second, _ = fake.add_many("ada", TEXTS)
    fake.add("bo", "Rain makes me happy.")
    fake.revise(first.id, "I never eat nuts or seeds.")
    fake.retire(second.id)
    fake.decide("ada", situation="Two offers", choice="the small one", reason="calm")
    fake.retrieve("ada", "work")
    return fake


VERSIONS = 6


def collection(holdfast: Holdfast, subject: str = "ada") -> Any:
    """Chroma's own collection of a subject, past everything that is tested here."""
    assert holdfast._chroma is not None  # pyright: ignore[reportPrivateUsage]
    return holdfast._chroma._collection(  # pyright: ignore[reportPrivateUsage]
        collection_name(holdfast.embedder.digest, holdfast.tenant, subject), create=True
    )


def everything(holdfast: Holdfast) -> Any:
    """All that both stores hold; vectors as they are once opened, as sealing differs each time."""
    rows = [row for row in tampering.dump(holdfast.settings.data) if '"vectors"' not in row]
    held = {}
    for subject in ("ada", "bo"):
        got = collection(holdfast, subject).get(include=["embeddings"])
        held[subject] = sorted(zip(got["ids"], np.asarray(got["embeddings"]).tolist(), strict=True))
    return (rows, tampering.opened_vectors(holdfast)), held


def found(report: DoctorReport) -> dict[str, int]:
    return {name: count for name, count in report.findings.items() if count}


def check_clean(holdfast: Holdfast) -> None:
    report = holdfast.doctor()
    assert (found(report), report.problems, report.ok) == ({}, [], True)
    assert "clean" in str(report)


def alter(holdfast: Holdfast) -> None:
    held = collection(holdfast).get(include=["embeddings"])
    rows = np.asarray(held["embeddings"])[:, ::-1].copy()
    collection(holdfast).upsert(ids=held["ids"][:2], embeddings=rows[:2])


def lose(holdfast: Holdfast) -> None:
    ids = collection(holdfast).get(include=[])["ids"]
    collection(holdfast).delete(ids=ids[1:4])


def make_orphan(holdfast: Holdfast) -> None:
    """What a kill between Chroma and the commit leaves."""

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vectors, "save", die)
        with pytest.raises(KeyboardInterrupt):
            holdfast.add("ada", "This was never acknowledged.")


def misplace(holdfast: Holdfast) -> None:
    """Bo's vector lies in Ada's collection too."""
    got = collection(holdfast, "bo").get(include=["embeddings"])
    assert collection(holdfast, "bo").name != collection(holdfast).name
    collection(holdfast).upsert(ids=got["ids"], embeddings=got["embeddings"])


def alter_sql(holdfast: Holdfast) -> None:
    key = tampering.key_of(holdfast, TEXTS[2])
    tampering.garble(holdfast, "vectors", "components", "statement_key = ?", key)


def truncate_sql(holdfast: Holdfast) -> None:
    key = tampering.key_of(holdfast, TEXTS[2])
    tampering.sql(holdfast, "UPDATE vectors SET components = x'01' WHERE statement_key = ?", key)


def swap_sql(holdfast: Holdfast) -> None:
    """One vector, whole and sealed for the same subject, lies in the place of another."""
    key, other = (tampering.key_of(holdfast, text) for text in (TEXTS[2], TEXTS[0]))
    tampering.sql(
        holdfast,
        "UPDATE vectors SET components = (SELECT components FROM vectors WHERE statement_key = ?)"
        " WHERE statement_key = ?",
        *(other, key),
    )


FAULTS: list[tuple[Callable[[Holdfast], None], dict[str, int]]] = [
    (alter, {"altered in Chroma": 2}),
    (lose, {"missing in Chroma": 3}),
    (make_orphan, {"orphaned in Chroma": 1}),
    (misplace, {"orphaned in Chroma": 1}),
    (alter_sql, {"altered in SQL": 1}),
    (truncate_sql, {"altered in SQL": 1}),
    (swap_sql, {"altered in SQL": 1}),
]


def test_a_whole_record_is_clean_and_every_version_is_checked(filled: Holdfast) -> None:
    steps: list[tuple[int, int]] = []
    before = everything(filled)
    report = filled.doctor(progress=lambda *step: steps.append(step))
    assert report.checked == VERSIONS
    assert steps[-1] == (VERSIONS, VERSIONS)
    assert found(report) == found(filled.doctor(mend=False)) == {}
    assert everything(filled) == before


@pytest.mark.parametrize(
    ("break_", "expected"), FAULTS, ids=lambda value: getattr(value, "__name__", "")
)
def test_each_fault_is_reported_without_mending_then_mended_then_gone(
    filled: Holdfast, break_: Callable[[Holdfast], None], expected: dict[str, int]
) -> None:
    asked = filled.retrieve("ada", "Sundays with family", record=False)
    whole = everything(filled)
    break_(filled)
    broken = everything(filled)
    assert broken != whole
    report = filled.doctor(mend=False)
    assert found(report) == expected
    assert not report.ok
    assert sum("mend with: holdfast doctor" in problem for problem in report.problems) == 1
    others = [problem for problem in report.problems if "mend with" not in problem]
    if "altered in SQL" in expected:
        (problem,) = others
        assert "the ledger does not hold at the vector of statement " in problem
    else:
        assert others == []
    assert everything(filled) == broken, "looking changes nothing"
    report = filled.doctor()
    assert found(report) == expected
    assert {name: n for name, n in report.mended.items() if n} == expected
    assert report.ok
    check_clean(filled)
    assert everything(filled) == whole
    assert filled.retrieve("ada", "Sundays with family", record=False).context == asked.context


def test_all_faults_at_once_are_mended_in_one_run(filled: Holdfast) -> None:
    whole = everything(filled)
    for break_, _ in FAULTS[1:]:
        break_(filled)
    report = filled.doctor()
    assert report.ok
    assert len(found(report)) == 3
    check_clean(filled)
    assert everything(filled) == whole


@pytest.mark.parametrize("when", ["open", "closed"])
@pytest.mark.parametrize("how", ["deleted", "overwritten"])
def test_a_chroma_folder_that_is_lost_is_filled_again_from_sql(
    tmp_path: Path, how: str, when: str
) -> None:
    path, embedder = tmp_path / "data", FakeEmbedder()
    holdfast = open_with(embedder, path)
    holdfast.add_many("ada", TEXTS)
    if when == "closed":
        holdfast.close()
    if how == "deleted":
        shutil.rmtree(path / "chroma")
    else:
        (path / "chroma" / "chroma.sqlite3").write_bytes(b"no database at all " * 1000)
    if when == "closed":
        holdfast = open_with(embedder, path)
    embedder.texts.clear()
    with holdfast:
        assert holdfast.doctor().ok
        check_clean(holdfast)
    with open_with(embedder, path) as holdfast:
        check_clean(holdfast)
        assert holdfast.retrieve("ada", "nuts", record=False).repaired == 0
        assert len(collection(holdfast).get(include=[])["ids"]) == 3
    assert embedder.texts == ["nuts"], "nothing was embedded again"


def test_an_unreadable_store_is_only_reported_without_mending(tmp_path: Path) -> None:
    path = tmp_path / "data"
    with open_with(FakeEmbedder(), path) as holdfast:
        holdfast.add_many("ada", TEXTS)
    garbage = b"no database at all " * 1000
    (path / "chroma" / "chroma.sqlite3").write_bytes(garbage)
    with open_with(FakeEmbedder(), path) as holdfast:
        report = holdfast.doctor(mend=False)
        assert not report.ok
        assert report.findings["unreadable store"] == 1
        assert (path / "chroma" / "chroma.sqlite3").read_bytes() == garbage
        assert not (path / "chroma.damaged").exists()
        report = holdfast.doctor()
        assert (report.ok, report.mended["unreadable store"]) == (True, 1)
        assert (path / "chroma.damaged" / "chroma.sqlite3").read_bytes() == garbage
        check_clean(holdfast)


def test_another_embedder_embeds_what_is_there_and_the_first_ones_vectors_stay(
    tmp_path: Path,
) -> None:
    path = tmp_path / "data"
    with open_with(FakeEmbedder("first"), path) as holdfast:
        holdfast.add_many("ada", TEXTS)
        asked = holdfast.retrieve("ada", "nuts")
        digest = holdfast.embedder.digest
    second = FakeEmbedder("second", dimensions=32)
    with open_with(second, path) as holdfast:
        report = holdfast.doctor(mend=False)
        assert found(report) == {"not of this embedder": 3}
        assert not report.ok
        assert second.texts == []
        report = holdfast.doctor()
        assert (found(report), report.ok) == ({"not of this embedder": 3}, True)
        assert sorted(second.texts) == sorted(TEXTS)
        check_clean(holdfast)
        assert holdfast.replay(str(asked.evidence_id)).same, "with the first one's vectors"
        with tampering.snapshot_of(holdfast) as snapshot:
            assert vectors.unembedded(snapshot, digest) == []
    with open_with(FakeEmbedder("first"), path) as holdfast:
        check_clean(holdfast)


def test_a_retrieval_under_another_embedder_embeds_what_is_there_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "data"
    with open_with(FakeEmbedder("first"), path) as holdfast:
        holdfast.add_many("ada", TEXTS)
    second = FakeEmbedder("second")
    with open_with(second, path) as holdfast:
        found_ = holdfast.retrieve("ada", "nuts")
        assert "nuts" in found_.context
        assert sorted(second.texts) == sorted([*TEXTS, "nuts"])
        check_clean(holdfast)


def test_an_interrupted_embedding_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.retrieval.library.EMBEDDING_BATCH", 10)
    path, texts = tmp_path / "data", [f"I like thing {number}." for number in range(45)]
    with open_with(FakeEmbedder("first"), path) as holdfast:
        holdfast.add_many("ada", texts[:30], split=False)
        holdfast.add_many("bo", texts[30:], split=False)
    second = FakeEmbedder("second")

    def stop(done: int, _: int) -> None:
        if done >= 20:
            raise KeyboardInterrupt

    with open_with(second, path) as holdfast, pytest.raises(KeyboardInterrupt):
        holdfast.doctor(progress=stop)
    assert len(second.texts) == 20
    steps: list[tuple[int, int]] = []
    with open_with(second, path) as holdfast:
        report = holdfast.doctor(progress=lambda *step: steps.append(step))
        assert (found(report), report.ok) == ({"not of this embedder": 25}, True)
        assert sorted(second.texts) == sorted(texts), "each text once"
        assert steps[:3] == [(10, 25), (20, 25), (25, 25)]
        check_clean(holdfast)
        assert len(holdfast.retrieve("bo", "thing", record=False).candidates) == 15
        assert holdfast.retrieve("ada", "thing", record=False).repaired == 0


def test_vectors_of_the_wrong_model_in_chroma_are_swept(filled: Holdfast) -> None:
    chroma = filled._chroma  # pyright: ignore[reportPrivateUsage]
    assert chroma is not None
    key = collection(filled).get(include=[])["ids"][0]
    chroma.put("f" * 64, "local", "ada", [key], np.ones((1, 48), np.int8))
    report = filled.doctor()
    assert found(report) == {"orphaned in Chroma": 1}
    check_clean(filled)


@pytest.mark.parametrize(
    "changes", ["hash = zeroblob(32)", "components = zeroblob(76), hash = zeroblob(32)"]
)
def test_what_cannot_be_mended_stays_a_problem_and_chroma_is_not_made_to_match(
    filled: Holdfast, changes: str
) -> None:
    key = tampering.key_of(filled, TEXTS[2])
    tampering.sql(filled, f"UPDATE vectors SET {changes} WHERE statement_key = ?", key)
    _, held = everything(filled)
    for _ in range(2):
        report = filled.doctor()
        assert not report.ok
        assert report.findings["altered in SQL"] == 1
        assert report.mended.get("altered in SQL", 0) == 0
        assert "restore the database from a backup" in report.problems[0]
        assert "the ledger does not hold at the vector of statement " in report.problems[1]
        assert everything(filled)[1] == held


def test_an_altered_text_whose_vector_is_altered_too_is_no_base_for_mending(
    filled: Holdfast,
) -> None:
    alter_sql(filled)
    tampering.reword(filled, TEXTS[2], text="Sundays are for work.")
    report = filled.doctor()
    assert not report.ok
    assert "restore the database from a backup" in report.problems[0]
    assert "Sundays" not in str(report)


def test_a_vector_altered_by_somebody_with_the_key_is_a_problem_that_names_it(
    filled: Holdfast,
) -> None:
    (statement,) = [s for s in filled.statements("ada") if s.text == TEXTS[2]]
    other = np.full(filled.embedder.dimensions, 3, np.int8)
    tampering.reseal_vector(filled, TEXTS[2], other)
    report = filled.doctor()
    (problem,) = report.problems
    assert f"does not hold at the vector of statement {statement.id} version 1" in problem
    assert "altered outside Holdfast: compare with a backup" in problem


def test_a_text_that_cannot_be_read_is_a_problem_and_stops_nothing_else(filled: Holdfast) -> None:
    (statement,) = [s for s in filled.statements("ada") if s.text == TEXTS[2]]
    key = tampering.key_of(filled, TEXTS[2])
    tampering.garble(filled, "statements", "body", "key = ?", key)
    lose(filled)
    report = filled.doctor()
    assert found(report) == {"missing in Chroma": 3}
    assert report.mended["missing in Chroma"] == 3
    (problem,) = report.problems
    assert f"does not hold at statement {statement.id} version 1" in problem


def test_a_text_and_its_vector_that_cannot_be_read_are_problems_and_stop_nothing_else(
    filled: Holdfast,
) -> None:
    key = tampering.key_of(filled, TEXTS[2])
    alter_sql(filled)
    tampering.garble(filled, "statements", "body", "key = ?", key)
    lose(filled)
    report = filled.doctor()
    assert report.findings["altered in SQL"] == 1
    assert report.findings["missing in Chroma"] > 0
    assert report.mended["missing in Chroma"] == report.findings["missing in Chroma"]
    assert any("restore the database from a backup" in problem for problem in report.problems)


def test_an_altered_leaf_and_a_loose_row_are_problems_that_name_the_backup(
    filled: Holdfast,
) -> None:
    signed = filled.audit.checkpoint()
    (entry,) = filled.evidence()
    written = json.loads(entry.leaf)
    leaf = canonical(written | {"time": written["time"] + 1})
    change = "UPDATE ledger SET leaf = ? WHERE position = ?"
    tampering.sql(filled, change, leaf, entry.index)
    report = filled.doctor()
    (problem,) = report.problems
    assert f"the ledger does not hold at the leaves before {signed.size}" in problem
    assert "backup" in problem
    tampering.sql(filled, change, entry.leaf.encode(), entry.index)
    check_clean(filled)
    tampering.sql(filled, "DELETE FROM subjects WHERE name = 'bo'")
    report = filled.doctor()
    assert not report.ok
    assert [p for p in report.problems if "the ledger does not hold at" in p and "backup" in p]
    assert [p for p in report.problems if "lost the row of subjects" in p and "backup" in p]


def test_a_lost_row_of_the_record_is_a_problem_that_names_it(filled: Holdfast) -> None:
    (statement,) = [s for s in filled.statements("ada") if s.text == TEXTS[2]]
    key = tampering.key_of(filled, TEXTS[2])
    tampering.sql(filled, "DELETE FROM vectors WHERE statement_key = ?", key)
    tampering.sql(filled, "DELETE FROM statements WHERE key = ?", key)
    report = filled.doctor()
    (problem,) = report.problems
    assert f"does not hold at statement {statement.id} version 1: its row is missing" in problem


def test_what_an_erasure_left_in_the_files_is_finished(
    filled: Holdfast, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(erasure, "purge", die)
        with pytest.raises(KeyboardInterrupt):
            filled.erase("ada")
    report = filled.doctor(mend=False)
    assert report.findings["left by an erasure"] == 1
    assert not report.ok
    report = filled.doctor()
    assert (report.ok, report.mended["left by an erasure"]) == (True, 1)
    check_clean(filled)
    assert filled.verify().verdict == "VERIFIED-ERASED"
    assert filled.subjects() == ["bo"]


def test_the_doctor_checks_every_tenant_of_the_database(tmp_path: Path) -> None:
    path = tmp_path / "data"
    for tenant in ("one", "two"):
        with open_with(FakeEmbedder(), path, tenant=tenant) as holdfast:
            holdfast.add_many("ada", TEXTS)
            ids = collection(holdfast).get(include=[])["ids"]
            collection(holdfast).delete(ids=ids)
    with open_with(FakeEmbedder(), path, tenant="one") as holdfast:
        report = holdfast.doctor()
        assert (report.checked, found(report)) == (6, {"missing in Chroma": 6})
        check_clean(holdfast)


def test_opened_read_only_there_is_nothing_to_check_against(filled: Holdfast) -> None:
    with (
        Holdfast.open(filled.settings.data, read_only=True) as looking,
        pytest.raises(StorageError, match="read-only"),
    ):
        looking.doctor()
