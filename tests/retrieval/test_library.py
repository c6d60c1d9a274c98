"""Where SQL, Chroma and the embedder meet: the order of writing, and what is read."""

import threading
from typing import Any

import numpy as np
import pytest
import tampering
from conftest import open_with
from fakes import FakeEmbedder

from holdfast import Holdfast
from holdfast.memory import store, times, vectors
from holdfast.memory.chroma import ChromaVectors, collection_name
from holdfast.memory.errors import DamagedError, StorageError
from holdfast.memory.record import Snapshot
from holdfast.memory.vectors import Embedded
from holdfast.memory.versions import Draft, Subject
from holdfast.retrieval.library import EMBEDDING_BATCH, Library, draft, equality

TEXTS = ["I never eat nuts.", "I walk to work.", "Sundays are for my family."]


def library_of(holdfast: Holdfast) -> Library:
    return holdfast._library  # pyright: ignore[reportPrivateUsage]


def chroma_of(holdfast: Holdfast) -> ChromaVectors:
    chroma = library_of(holdfast).chroma
    assert chroma is not None
    return chroma


def orphans(holdfast: Holdfast) -> int:
    return holdfast.doctor(mend=False).findings["orphaned in Chroma"]


def drafts(*texts: str) -> list[Draft]:
    return [
        draft(text, kind="value", strength="should", scope="topical", source="subject")
        for text in texts
    ]


def test_a_vector_lies_in_chroma_before_its_statement_is_in_sql(
    fake: Holdfast, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = list[int]()
    kept = vectors.save

    def save(tx: Any, embedded: Embedded, keys: Any, sealers: Any) -> None:
        got = chroma_of(fake).get(embedded.embedder, "local", "ada", keys)
        assert all(np.array_equal(got[key], embedded.matrix[i]) for i, key in enumerate(keys))
        seen.append(tampering.rows(fake, "SELECT count(*) FROM statements")[0][0])
        kept(tx, embedded, keys, sealers)

    monkeypatch.setattr(vectors, "save", save)
    fake.add_many("ada", TEXTS)
    assert seen == [0]
    assert len(fake.statements("ada")) == 3


def test_a_fault_between_chroma_and_sql_leaves_only_orphans(
    fake: Holdfast, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    before = tampering.dump(fake.settings.data)
    with monkeypatch.context() as patch:
        patch.setattr(vectors, "save", die)
        for write in (
            lambda: fake.add_many("ada", TEXTS),
            lambda: fake.decide("ada", situation="a", choice="b", reason="c"),
        ):
            with pytest.raises(KeyboardInterrupt):
                write()
    assert fake.statements("ada") == []
    assert fake.subjects() == []
    assert tampering.dump(fake.settings.data) == before
    assert orphans(fake) == 4
    assert fake.doctor().ok
    assert orphans(fake) == 0


def test_a_fault_in_chroma_stores_nothing(fake: Holdfast, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise StorageError("the vector store failed")

    with monkeypatch.context() as patch:
        patch.setattr(chroma_of(fake), "put", refuse)
        with pytest.raises(StorageError):
            fake.add_many("ada", TEXTS)
    assert fake.subjects() == []
    assert fake.add_many("ada", TEXTS) == fake.statements("ada")


def test_many_texts_are_embedded_in_batches_and_come_back_in_their_order(fake: Holdfast) -> None:
    library, steps = library_of(fake), list[tuple[int, int]]()
    new = drafts(*(f"thing {number}" for number in range(2 * EMBEDDING_BATCH + 3)))
    embedded = library.embed("ada", new, lambda *step: steps.append(step))
    matrix = embedded.matrix
    assert embedded.embedder == fake.embedder.digest
    assert steps == [
        (EMBEDDING_BATCH, len(new)), (2 * EMBEDDING_BATCH, len(new)), (len(new), len(new)),
    ]  # fmt: skip
    got = chroma_of(fake).get(fake.embedder.digest, "local", "ada", [d.key for d in new])
    assert all(np.array_equal(got[d.key], matrix[i]) for i, d in enumerate(new))
    assert np.array_equal(matrix, library.quantised([d.text for d in new]))
    assert library.embed("ada", [], None).matrix.shape == (0, fake.embedder.dimensions)


def test_a_corpus_is_read_once_and_again_after_each_change(fake: Holdfast) -> None:
    library = library_of(fake)
    assert library.corpus("nobody").versions == []
    first, _, _ = fake.add_many("ada", TEXTS)
    corpus = library.corpus("ada")
    assert library.corpus("ada") is corpus
    assert [v.statement.text for v in corpus.versions if v.statement.id == first.id] == TEXTS[:1]
    fake.add("bo", "Another's word.")
    assert library.corpus("ada") is corpus
    fake.retire(first.id)
    assert {v.statement.text for v in library.corpus("ada").versions} == set(TEXTS[1:])
    assert library.corpus("ada").revision == 2


def test_a_corpus_is_of_one_state_of_the_record_also_where_somebody_writes_meanwhile(
    fake: Holdfast, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *_ = fake.add_many("ada", TEXTS)
    kept = store.subject

    def meanwhile(snapshot: Snapshot, name: str) -> Subject | None:
        """Another retires a statement once the subject's revision was read."""
        monkeypatch.setattr(store, "subject", kept)
        found = kept(snapshot, name)
        fake.retire(first.id)
        return found

    monkeypatch.setattr(store, "subject", meanwhile)
    found = fake.retrieve("ada", "nuts")
    assert [len(found.candidates), len(fake.statements("ada"))] == [3, 2]
    assert fake.replay(str(found.evidence_id)).same
    assert len(fake.retrieve("ada", "nuts").candidates) == 2


def test_a_corpus_of_the_past_holds_what_held_then(fake: Holdfast) -> None:
    library = library_of(fake)
    first, *_ = fake.add_many("ada", TEXTS)
    before = times.to_micros(first.recorded_at)
    fake.revise(first.id, "I eat nuts again.")
    then = library.corpus_as_of("ada", before)
    assert {v.statement.text for v in then.versions} == set(TEXTS)
    assert library.corpus_as_of("ada", before - 1).versions == []
    assert library.corpus_as_of("nobody", before).versions == []
    recorded = library.corpus_at_revision("ada", 1, before, fake.embedder.digest)
    assert {v.statement.text for v in recorded.versions} == set(TEXTS)
    assert np.array_equal(recorded.matrix, then.matrix)
    assert (recorded.rows, recorded.digest) == (then.rows, then.digest)
    assert recorded.data_key == then.data_key == library.corpus("ada").data_key
    assert library.corpus_at_revision("ada", 0, before, "never used").versions == []
    assert library.corpus_at_revision("nobody", 1, before, "never used").versions == []
    known_now = library.corpus_at_revision("ada", None, before, fake.embedder.digest)
    assert (known_now.revision, known_now.rows) == (2, then.rows)
    with pytest.raises(StorageError, match="never used"):
        library.corpus_at_revision("ada", 1, before, "f" * 64)


def test_a_corpus_in_the_vectors_of_another_model_is_given_whole_or_not_at_all(
    tmp_path: Any,
) -> None:
    path = tmp_path / "data"
    with open_with(FakeEmbedder("first"), path) as holdfast:
        (first,) = holdfast.add("ada", TEXTS[0])
        digest = holdfast.embedder.digest
    with open_with(FakeEmbedder("second"), path) as holdfast:
        holdfast.add("ada", TEXTS[1])
        library, now = library_of(holdfast), times.now()
        then = library.corpus_at_revision("ada", 1, now, digest)
        assert then.ids == [first.id]
        with pytest.raises(StorageError, match="1 statements have no vector of the model"):
            library.corpus_at_revision("ada", None, now, digest)


def test_vectors_put_back_are_counted_in_the_retrieval_that_found_them(fake: Holdfast) -> None:
    fake.add_many("ada", TEXTS)
    library_of(fake).cache.clear()
    name = collection_name(fake.embedder.digest, "local", "ada")
    collection = chroma_of(fake)._collection(name, create=False)  # pyright: ignore[reportPrivateUsage]
    ids = collection.get(include=[])["ids"]
    collection.delete(ids=ids[:1])
    collection.upsert(ids=ids[1:2], embeddings=np.full((1, 48), 3, np.float32))
    found = fake.retrieve("ada", "nuts work family", threshold=0)
    assert found.repaired == 2
    assert len(found.candidates) == 3
    assert fake.replay(str(found.evidence_id)).same
    library_of(fake).cache.clear()
    assert fake.retrieve("ada", "nuts work family", record=False).repaired == 0


def test_vectors_damaged_in_both_stores_are_an_error_until_the_doctor_has_mended_them(
    fake: Holdfast,
) -> None:
    fake.add_many("ada", TEXTS)
    asked = fake.retrieve("ada", "nuts", record=False)
    library_of(fake).cache.clear()
    tampering.sql(fake, "UPDATE vectors SET components = zeroblob(76)")
    assert fake.retrieve("ada", "nuts", record=False).context == asked.context  # Chroma's are whole
    library_of(fake).cache.clear()
    name = collection_name(fake.embedder.digest, "local", "ada")
    collection = chroma_of(fake)._collection(name, create=False)  # pyright: ignore[reportPrivateUsage]
    collection.delete(ids=collection.get(include=[])["ids"])
    with pytest.raises(DamagedError, match=r"3 vectors .* holdfast doctor"):
        fake.retrieve("ada", "nuts")
    assert fake.evidence() == []
    assert fake.doctor().ok
    assert fake.retrieve("ada", "nuts").context == asked.context


def test_equal_texts_have_equal_digests_whatever_their_form_and_spaces() -> None:
    assert equality("Cafe\u0301  on\nSundays") == equality("Café on Sundays")
    assert equality("no alcohol after 8") != equality("no alcohol after 9")
    assert len({each.key for each in drafts("a", "a", "a")}) == 3


def test_writers_of_two_subjects_at_once_each_get_their_own(tmp_path: Any) -> None:
    with open_with(FakeEmbedder(), tmp_path / "data") as holdfast:
        failures: list[BaseException] = []

        def work(hand: int) -> None:
            try:
                for number in range(5):
                    holdfast.add(f"subject {hand}", f"Thing {hand} {number} matters.")
                    corpus = library_of(holdfast).corpus(f"subject {hand}")
                    assert len(corpus.versions) == number + 1
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(hand,)) for hand in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        for hand in range(8):
            found = {s.text for s in holdfast.statements(f"subject {hand}")}
            assert found == {f"Thing {hand} {number} matters." for number in range(5)}
        assert holdfast.doctor().ok
        assert not any(holdfast.doctor().findings.values())
