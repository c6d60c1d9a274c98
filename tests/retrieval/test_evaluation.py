from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pytest
from fakes import FakeEmbedder
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.memory.models import KINDS, SCOPES, STRENGTHS, Statement
from holdfast.memory.versions import Version
from holdfast.retrieval.calibration import read_table
from holdfast.retrieval.corpus import Corpus, empty
from holdfast.retrieval.embedder import quantise
from holdfast.retrieval.evaluation import Candidates, Outcome, Query, evaluate
from holdfast.retrieval.selection import Policy

EMBEDDER = FakeEmbedder(dimensions=24)
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
WORDS = st.sampled_from("nuts cashew trains planes night desk salary honest".split())
STATEMENT = st.tuples(
    st.lists(WORDS, min_size=1, max_size=6).map(" ".join),
    st.sampled_from(STRENGTHS),
    st.sampled_from(SCOPES),
    st.sampled_from([(), ("work",), ("home",)]),
    st.sampled_from(KINDS),
)
CORPORA = st.lists(st.lists(STATEMENT, max_size=6), min_size=1, max_size=3)


def make_corpora(subjects: Sequence[Sequence[tuple[str, str, str, tuple[str, ...], str]]]):
    corpora: list[Corpus] = []
    for place, rows in enumerate(subjects):
        versions = [
            Version(
                f"key{place}-{i}",
                Statement(
                    id=f"st_{i:03d}{place}", subject=f"subject {place}", text=text,
                    kind=kind, strength=strength, scope=scope, contexts=contexts, version=1,
                    valid_from=MOMENT, valid_to=None, recorded_at=MOMENT, retired_at=None,
                    source="subject",
                ),
                0,
                None,
            )
            for i, (text, strength, scope, contexts, kind) in enumerate(rows)
        ]  # fmt: skip
        matrix = quantise(EMBEDDER.embed([row[0] for row in rows]), EMBEDDER.scale)
        corpora.append(Corpus(f"subject {place}", 1, versions, matrix))
    return corpora


def make_query(text: str, contexts: frozenset[str] = frozenset()) -> Query:
    vectors = quantise(EMBEDDER.embed([text]), EMBEDDER.scale)
    return Query(vectors, (1000,), tuple(text.split()), contexts, EMBEDDER.scale)


POLICY = Policy((100_000, 200_000, 300_000), 3, 60, 40)


@settings(max_examples=60)
@given(CORPORA, st.lists(WORDS, min_size=1, max_size=4).map(" ".join))
def test_the_same_input_gives_the_same_outcome(
    subjects: list[list[tuple[str, str, str, tuple[str, ...], str]]], asked: str
) -> None:
    query = make_query(asked, frozenset({"work"}))
    first, second = (
        evaluate(make_corpora(subjects), query, POLICY, read_table()) for _ in range(2)
    )
    assert first.context == second.context
    assert list(first.selection.order) == list(second.selection.order)
    assert (first.selection.verdicts == second.selection.verdicts).all()
    assert (first.scores.total == second.scores.total).all()


@settings(max_examples=60)
@given(CORPORA, st.lists(WORDS, min_size=1, max_size=4).map(" ".join))
def test_a_statement_scores_the_same_beside_other_subjects(
    subjects: list[list[tuple[str, str, str, tuple[str, ...], str]]], asked: str
) -> None:
    query, table = make_query(asked), read_table()
    corpora = make_corpora(subjects)
    together = evaluate(corpora, query, POLICY, table)
    alone = [evaluate([corpus], query, POLICY, table) for corpus in corpora]
    assert together.scores.total.tolist() == [t for o in alone for t in o.scores.total.tolist()]
    table = {
        name: table[name] for name in ("totals", "probabilities")
    }  # without what else is there
    together = evaluate(corpora, query, POLICY, table)
    alone = [evaluate([corpus], query, POLICY, table) for corpus in corpora]
    assert together.probability.tolist() == [p for o in alone for p in o.probability.tolist()]


@settings(max_examples=60)
@given(CORPORA, st.lists(WORDS, min_size=1, max_size=4).map(" ".join))
def test_the_context_shows_what_was_injected_and_nothing_else(
    subjects: list[list[tuple[str, str, str, tuple[str, ...], str]]], asked: str
) -> None:
    outcome = evaluate(make_corpora(subjects), make_query(asked), POLICY, read_table())
    candidates = Candidates(outcome, outcome.selection.order)
    assert len(candidates) == sum(map(len, subjects))
    for candidate in candidates:
        shown = f"[{candidate.statement.id}] {candidate.statement.text}" in outcome.context
        assert shown == (candidate.verdict == "injected")
        assert candidate.lane == candidate.statement.scope
        if candidate.lane == "always":
            assert candidate.parts["threshold"] == 0
            assert candidate.verdict in ("injected", "over_budget")
    assert bool(outcome.context) == bool(outcome.selection.injected)


def test_a_query_without_segments_gives_only_always_statements() -> None:
    rows = [("nuts", "must", "topical", (), "value"), ("honest", "should", "always", (), "value")]
    query = Query(np.zeros((0, 24), np.int8), (), (), frozenset(), EMBEDDER.scale)
    outcome = evaluate(make_corpora([rows]), query, POLICY, read_table())
    found = Candidates(outcome, outcome.selection.order)
    assert {c.statement.text: c.verdict for c in found} == {
        "nuts": "below_threshold",
        "honest": "injected",
    }


def test_no_statements_at_all_give_no_context() -> None:
    nothing = [empty("ada", 24), empty("bob", 24)]
    outcome = evaluate(nothing, make_query("nuts"), POLICY, read_table())
    assert (outcome.context, outcome.selection.status) == ("", "none")
    with pytest.raises(IndexError):
        outcome.statement(0)


def test_candidates_say_what_their_score_is_made_of() -> None:
    rows = [("nuts cashew", "must", "topical", (), "value")]
    outcome: Outcome = evaluate(
        make_corpora([rows]), make_query("nuts cashew"), POLICY, read_table()
    )
    candidate = Candidates(outcome, outcome.selection.order)[0]
    assert candidate.parts["dense"] == pytest.approx(1, abs=0.02)
    assert 0 < candidate.parts["lexical"] < 1
    assert candidate.parts["threshold"] == 0.1
    assert candidate.score > 0.9


def test_candidates_are_read_like_a_list() -> None:
    rows = [("nuts", "must", "topical", (), "value")] * 3
    outcome = evaluate(make_corpora([rows]), make_query("nuts"), POLICY, read_table())
    candidates = Candidates(outcome, outcome.selection.order)
    as_list = list(candidates)
    assert candidates == as_list
    assert as_list == candidates
    assert candidates + as_list[:1] == [*as_list, as_list[0]]
    assert as_list[:1] + candidates == [as_list[0], *as_list]
    assert candidates[:2] == as_list[:2]
    assert candidates[-1] == as_list[-1]
