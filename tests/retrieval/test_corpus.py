from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from holdfast.memory.models import Statement
from holdfast.memory.store import Change, Subject, Version
from holdfast.memory.vectors import digest
from holdfast.retrieval.context import count_tokens, render_line
from holdfast.retrieval.corpus import NO_REVISION, Corpus, CorpusCache, empty, fold, joined

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def make_version(
    number: int, *, begins: int = 0, ends: int | None = None, contexts: tuple[str, ...] = ()
) -> Version:
    statement = Statement(
        id=f"st_{number:04d}", subject="ada", text=f"statement {number} <b>", kind="value",
        strength="should", scope="always" if number % 2 else "topical", contexts=contexts,
        version=1, valid_from=EPOCH + timedelta(microseconds=begins),
        valid_to=None if ends is None else EPOCH + timedelta(microseconds=ends),
        recorded_at=EPOCH, retired_at=None, source="subject",
    )  # fmt: skip
    return Version(f"key{number}", statement, begins, ends)


def make_corpus(subject: str = "ada", size: int = 3, **changes: object) -> Corpus:
    matrix = np.arange(size * 4, dtype=np.int8).reshape(size, 4)
    given = {
        "revision": 1,
        "versions": [make_version(10 * i) for i in range(size)],
        "matrix": matrix,
        "hashes": [digest(row) for row in matrix],
        "at": 100,
    }
    return Corpus(subject, **(given | changes))  # type: ignore[arg-type]


def test_a_corpus_gives_what_selection_needs_of_its_statements() -> None:
    corpus = make_corpus(versions=[make_version(1), make_version(2), make_version(3)])
    assert len(corpus) == 3
    assert corpus.ids == ["st_0001", "st_0002", "st_0003"]
    assert corpus.always.tolist() == [True, False, True]
    assert corpus.strength.tolist() == [1, 1, 1]
    assert corpus.lexicon.known(["statement", "other"]) == ["statement"]


def test_a_statement_costs_what_its_line_in_the_block_costs() -> None:
    corpus = make_corpus()
    assert corpus.tokens.tolist() == [
        count_tokens(render_line(v.statement) + "\n") for v in corpus.versions
    ]


def test_extending_gives_what_reading_anew_would_give() -> None:
    corpus = make_corpus()
    new = [
        make_version(5),
        make_version(15, begins=900),
        make_version(25, begins=100, ends=500),
        make_version(1, ends=700),
    ]
    matrix = np.arange(40, 56, dtype=np.int8).reshape(4, 4)
    change = Change(Subject(1, "ada", 2, 200), 2, 200)
    extended = corpus.extended(change, new, matrix)
    assert extended.ids == ["st_0000", "st_0001", "st_0005", "st_0010", "st_0020", "st_0025"]
    assert [row[0] for row in extended.matrix.tolist()] == [0, 52, 40, 4, 8, 48]
    assert extended.hashes == [digest(row) for row in extended.matrix]
    assert (extended.revision, extended.at, extended.ends) == (2, 200, 500)
    assert corpus.ids == ["st_0000", "st_0010", "st_0020"]
    unchanged = extended.extended(change, [], matrix[:0])
    assert unchanged.ids == extended.ids
    assert unchanged.digest == extended.digest


def test_the_digest_depends_on_all_that_statements_say_and_their_vectors() -> None:
    corpus = make_corpus()
    assert corpus.digest == make_corpus(at=5, revision=7).digest
    other = corpus.matrix + np.int8(1)
    assert make_corpus(hashes=[digest(row) for row in other]).digest != corpus.digest
    assert make_corpus(size=2).digest != corpus.digest
    others = {
        make_corpus(
            versions=[replace(v, statement=replace(v.statement, **change)) for v in corpus.versions]
        ).digest
        for change in (
            {"text": "other"}, {"kind": "goal"}, {"strength": "must"}, {"scope": "always"},
            {"contexts": ("work",)}, {"contexts": ("wo", "rk")}, {"version": 2},
        )
    }  # fmt: skip
    assert len(others - {corpus.digest}) == 7


def test_contexts_limit_only_where_both_sides_name_some() -> None:
    free = make_corpus()
    assert free.in_context(frozenset({"work"})).tolist() == [True] * 3
    bound = make_corpus(
        versions=[
            make_version(0, contexts=("Work",)),
            make_version(1, contexts=("home", "Family  dinner")),
            make_version(2),
        ]
    )
    assert bound.in_context(frozenset()).tolist() == [True, True, True]
    assert bound.in_context(frozenset({fold("WORK")})).tolist() == [True, False, True]
    assert bound.in_context(frozenset({fold(" family dinner")})).tolist() == [False, True, True]


def test_the_cache_gives_a_corpus_only_for_its_revision_and_until_it_ends() -> None:
    cache = CorpusCache(100)
    assert cache.get("ada", 1, 0) is None
    corpus = make_corpus(ends=500)
    cache.put(corpus)
    assert cache.get("ada", 1, 499) is corpus
    assert cache.get("ada", 1, 500) is None
    assert cache.get("ada", 2, 100) is None
    assert cache.get("bob", 1, 100) is None
    cache.clear()
    assert cache.get("ada", 1, 100) is None


def test_the_cache_lets_go_of_what_was_used_longest_ago() -> None:
    cache = CorpusCache(7)
    for name in ("a", "b"):
        cache.put(make_corpus(name))
    assert cache.get("a", 1, 0) is not None
    cache.put(make_corpus("c"))
    assert [cache.get(name, 1, 0) is not None for name in "abc"] == [True, False, True]
    cache.put(make_corpus("a", size=1))
    cache.put(make_corpus("d"))
    assert [cache.get(name, 1, 0) is not None for name in "acd"] == [True, True, True]
    cache.put(make_corpus("e", size=8))
    assert [cache.get(name, 1, 0) is not None for name in "acde"] == [False] * 4


def test_the_cache_never_gives_back_what_is_too_large_for_it() -> None:
    cache = CorpusCache(0)
    cache.put(make_corpus())
    assert cache.get("ada", 1, 0) is None
    cache.put(empty("bob", 4))
    assert cache.get("bob", NO_REVISION, 0) is not None


def test_joining_one_array_copies_nothing() -> None:
    part = np.arange(3)
    assert joined([part]) is part
    assert joined([part, part]).tolist() == [0, 1, 2, 0, 1, 2]


def test_an_empty_corpus_has_no_rows() -> None:
    corpus = empty("ada", 4)
    assert (len(corpus), corpus.revision, corpus.matrix.shape) == (0, NO_REVISION, (0, 4))
    assert corpus.in_context(frozenset({"x"})).tolist() == []
    with pytest.raises(AttributeError):
        corpus.revision = 3  # type: ignore[misc]
