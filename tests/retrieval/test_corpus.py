import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from holdfast.memory.models import Statement
from holdfast.memory.sealing import Sealer
from holdfast.memory.vectors import digest
from holdfast.memory.versions import Change, Subject, Version
from holdfast.retrieval.context import count_tokens, render_line
from holdfast.retrieval.corpus import NO_REVISION, Corpus, CorpusCache, empty, fold, joined

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
KEY = bytes(range(32))


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
        "data_key": "its own",
        "sealer": Sealer(KEY),
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
    change = Change(Subject(1, "ada", 2, 200, "its own"), 2, 200)
    extended = corpus.extended(change, new, matrix)
    assert extended.ids == ["st_0000", "st_0001", "st_0005", "st_0010", "st_0020", "st_0025"]
    assert [row[0] for row in extended.matrix.tolist()] == [0, 52, 40, 4, 8, 48]
    anew = make_corpus(versions=extended.versions, matrix=extended.matrix)
    assert (extended.rows, extended.digest) == (anew.rows, anew.digest)
    assert (extended.revision, extended.at, extended.ends) == (2, 200, 500)
    assert extended.data_key == corpus.data_key
    assert corpus.ids == ["st_0000", "st_0010", "st_0020"]
    unchanged = extended.extended(change, [], matrix[:0])
    assert unchanged.ids == extended.ids
    assert unchanged.digest == extended.digest


def test_the_digest_depends_on_all_that_statements_say_and_their_vectors() -> None:
    corpus = make_corpus()
    assert corpus.digest == make_corpus(at=5, revision=7).digest
    assert make_corpus(matrix=corpus.matrix + np.int8(1)).digest != corpus.digest
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


def test_the_digest_is_over_rows_that_say_nothing_without_the_subjects_key() -> None:
    corpus = make_corpus()
    written = "".join(f"{row}\n" for row in corpus.rows)
    assert corpus.digest == hashlib.sha256(written.encode()).hexdigest()
    assert [row.split()[:2] for row in corpus.rows] == [[id_, "1"] for id_ in corpus.ids]
    others = make_corpus(sealer=Sealer(bytes(32))).rows
    assert [row.split()[:2] for row in others] == [row.split()[:2] for row in corpus.rows]
    assert not {row.split()[2] for row in others} & {row.split()[2] for row in corpus.rows}


def test_the_digest_of_before_the_ledger_is_a_plain_hash_of_all_that_is_said() -> None:
    versions = [make_version(1, contexts=("Work", "sea")), make_version(2)]
    corpus = make_corpus(size=2, versions=versions)
    lines = [
        f"st_0001 1 {digest(corpus.matrix[0]).hex()} value should always "
        '["Work", "sea"] 15 statement 1 <b>\n',
        f"st_0002 1 {digest(corpus.matrix[1]).hex()} value should topical [] 15 statement 2 <b>\n",
    ]
    assert corpus.first_digest == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_a_corpus_without_some_statements_is_otherwise_the_same() -> None:
    corpus = make_corpus()
    left = corpus.without(["st_0010", "st_none"])
    assert left.ids == ["st_0000", "st_0020"]
    assert left.matrix.tolist() == corpus.matrix[[0, 2]].tolist()
    assert left.rows == [corpus.rows[0], corpus.rows[2]]
    assert len(left.tokens) == len(left.always) == len(left.in_context(frozenset({"x"}))) == 2
    assert corpus.ids == ["st_0000", "st_0010", "st_0020"]
    assert len(corpus.without(corpus.ids)) == 0


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
    assert cache.get("ada", "its own", 1, 0) is None
    corpus = make_corpus(ends=500)
    cache.put(corpus)
    assert cache.get("ada", "its own", 1, 499) is corpus
    assert cache.get("ada", "its own", 1, 500) is None
    assert cache.get("ada", "its own", 2, 100) is None
    assert cache.get("bob", "its own", 1, 100) is None
    cache.clear()
    assert cache.get("ada", "its own", 1, 100) is None


def test_the_cache_never_gives_what_was_erased_to_a_subject_of_the_same_name() -> None:
    cache = CorpusCache(100)
    cache.put(make_corpus())
    assert cache.get("ada", "another", 1, 0) is None
    assert cache.get("ada", "its own", 1, 0) is not None
    cache.drop("ada")
    cache.drop("ada")
    assert cache.get("ada", "its own", 1, 0) is None


def test_what_is_dropped_leaves_its_room_to_others() -> None:
    cache = CorpusCache(6)
    cache.put(make_corpus("a"))
    cache.put(make_corpus("b"))
    cache.drop("b")
    cache.put(make_corpus("c"))
    assert [in_cache(cache, name) for name in "abc"] == [True, False, True]


def in_cache(cache: CorpusCache, name: str) -> bool:
    return cache.get(name, "its own", 1, 0) is not None


def test_the_cache_lets_go_of_what_was_used_longest_ago() -> None:
    cache = CorpusCache(7)
    for name in ("a", "b"):
        cache.put(make_corpus(name))
    assert in_cache(cache, "a")
    cache.put(make_corpus("c"))
    assert [in_cache(cache, name) for name in "abc"] == [True, False, True]
    cache.put(make_corpus("a", size=1))
    cache.put(make_corpus("d"))
    assert [in_cache(cache, name) for name in "acd"] == [True, True, True]
    cache.put(make_corpus("e", size=8))
    assert [in_cache(cache, name) for name in "acde"] == [False] * 4


def test_the_cache_never_gives_back_what_is_too_large_for_it() -> None:
    cache = CorpusCache(0)
    cache.put(make_corpus())
    assert not in_cache(cache, "ada")
    cache.put(replace(empty("bob", 4), data_key="its own"))
    assert cache.get("bob", "its own", NO_REVISION, 0) is not None


def test_joining_one_array_copies_nothing() -> None:
    part = np.arange(3)
    assert joined([part]) is part
    assert joined([part, part]).tolist() == [0, 1, 2, 0, 1, 2]


def test_an_empty_corpus_has_no_rows() -> None:
    corpus = empty("ada", 4)
    assert (len(corpus), corpus.revision, corpus.matrix.shape) == (0, NO_REVISION, (0, 4))
    assert corpus.in_context(frozenset({"x"})).tolist() == []
    assert (corpus.rows, corpus.digest) == ([], hashlib.sha256(b"").hexdigest())
    with pytest.raises(AttributeError):
        corpus.revision = 3  # type: ignore[misc]
