import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from holdfast.retrieval import scoring
from holdfast.retrieval.calibration import read_table
from holdfast.retrieval.scoring import ONE, Lexicon, Scores, probabilities, query_terms, words

SCALE = 400
WORDS = st.sampled_from("nuts cashew train plane night desk Dubrovnik rent Žana über 42".split())
TEXTS = st.lists(st.lists(WORDS, max_size=8).map(" ".join), max_size=12)


def score(
    matrix: np.ndarray, queries: np.ndarray, weights: list[int], lexical: np.ndarray, *, scale: int
) -> Scores:
    return scoring.best(scoring.by_segment(matrix, queries, weights, scale=scale), lexical)


def vectors(rows: int, seed: int, dimensions: int = 384) -> np.ndarray:
    """Random normalised vectors as they are kept."""
    raw = np.random.default_rng(seed).standard_normal((rows, dimensions))
    raw /= np.linalg.norm(raw, axis=1, keepdims=True)
    return np.clip(np.rint(raw * SCALE), -127, 127).astype(np.int8)


@given(st.integers(0, 40), st.integers(0, 6), st.integers(0, 2**32 - 1))
def test_float32_products_are_the_exact_integers(n: int, s: int, seed: int) -> None:
    matrix, queries = vectors(n, seed), vectors(s, seed + 1)
    weights = [1000, 850, 800, 680, 700, 600][:s]
    exact = matrix.astype(np.int64) @ queries.T.astype(np.int64)
    expected = (
        (exact * np.array(weights, np.int64) * 1000 // SCALE**2).max(axis=1)
        if s
        else np.zeros(n, np.int64)
    )
    found = score(matrix, queries, weights, np.zeros(n, np.int64), scale=SCALE)
    assert (found.dense == expected).all()
    assert (found.total == expected).all()
    assert found.dense.dtype == np.int64


def test_scores_do_not_depend_on_what_else_is_scored_even_over_more_rows_than_one_block() -> None:
    matrix, queries = vectors(8192 + 300, 1, 64), vectors(3, 2, 64)
    lexical = np.zeros(len(matrix), np.int64)
    together = score(matrix, queries, [1000, 850, 700], lexical, scale=SCALE)
    order = np.random.default_rng(3).permutation(len(matrix))
    shuffled = score(matrix[order], queries, [1000, 850, 700], lexical, scale=SCALE)
    assert (shuffled.dense == together.dense[order]).all()
    for row in (0, 8191, 8192, 8491):
        one = slice(row, row + 1)
        alone = score(matrix[one], queries, [1000, 850, 700], lexical[one], scale=SCALE)
        assert alone.dense[0] == together.dense[row]


def test_a_vector_scores_about_one_million_against_itself() -> None:
    matrix = vectors(5, 7)
    for row in range(5):
        one = matrix[row : row + 1]
        found = score(one, one, [1000], np.zeros(1, np.int64), scale=SCALE)
        assert found.dense[0] == pytest.approx(ONE, rel=0.01)


def test_the_best_weighted_segment_counts_and_lexical_adds_a_tenth() -> None:
    matrix = np.array([[100, 0], [0, 100]], np.int8)
    queries = np.array([[100, 0], [0, 100]], np.int8)
    found = score(matrix, queries, [1000, 850], np.array([0, 500_000]), scale=100)
    assert found.dense.tolist() == [1_000_000, 850_000]
    assert found.total.tolist() == [1_000_000, 900_000]


@given(TEXTS, st.lists(WORDS, max_size=10))
def test_lexical_scores_lie_from_zero_to_below_one(texts: list[str], terms: list[str]) -> None:
    found = Lexicon(texts).score(words(" ".join(terms)))
    assert len(found) == len(texts)
    assert ((found >= 0) & (found < ONE)).all()
    for text, value in zip(texts, found.tolist(), strict=True):
        assert (value > 0) == bool(set(words(text)) & set(words(" ".join(terms))))


@given(TEXTS, st.lists(WORDS, max_size=10), st.randoms())
def test_the_order_and_repetition_of_terms_do_not_matter(
    texts: list[str], terms: list[str], random: object
) -> None:
    lexicon = Lexicon(texts)
    asked = words(" ".join(terms))
    shuffled = [*asked, *asked]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert (lexicon.score(asked) == lexicon.score(shuffled)).all()


def test_lexical_scores_are_bm25_brought_to_a_fixed_scale() -> None:
    texts = ["nuts nuts cashew", "train"]
    lexicon = Lexicon(texts)
    average = 2.0
    frequency = 2 * 2.2 / (2 + 1.2 * (0.5 + 0.5 * 3 / average))
    rarity = math.log(1 + (2 - 1 + 0.5) / (1 + 0.5))
    bm25 = round(1000 * frequency * rarity)
    assert lexicon.score(["nuts"]).tolist() == [bm25 * ONE // (bm25 + 6000), 0]
    assert lexicon.known(["train", "boat", "train"]) == ["train"]


def test_words_leave_out_what_every_text_has_and_fold_case() -> None:
    assert words("I NEVER eat Straße-food, a 42!") == ["never", "eat", "strasse", "food", "42"]
    assert words("снег и Ночь") == ["снег", "ночь"]


def test_query_terms_are_unique_and_bounded() -> None:
    many = " ".join(f"word{i}" for i in range(500))
    assert len(query_terms([many, many])) == scoring.MOST_TERMS
    assert query_terms(["night train", "train"]) == ["night", "train"]


MEMORY = {"gap": (900,), "floor": (200_000,), "sizes": (-100, -50, 0, 40, 90)}
TOTALS = hnp.arrays(np.int64, st.integers(1, 40), elements=st.integers(-200_000, 1_200_000))


@given(TOTALS, st.data())
def test_levels_keep_the_order_of_the_totals_that_compete(
    totals: np.ndarray, data: st.DataObject
) -> None:
    counted = data.draw(hnp.arrays(np.bool_, len(totals)))
    found = scoring.level(totals, counted, MEMORY)
    assert found.dtype == np.int64
    own, levels = totals[counted], found[counted]
    order = np.argsort(own, kind="stable")
    rises = np.diff(own[order]) > 0
    assert (np.diff(levels[order])[rises] > 0).all()
    assert (np.diff(levels[order])[~rises] == 0).all()


def test_each_segment_is_looked_at_by_itself() -> None:
    dense = np.array([[600_000, 100_000], [400_000, 100_000], [0, 900_000]])
    lexical = np.array([0, 500_000, 0])
    counted = np.array([True, True, True])
    found = scoring.levels(dense, lexical, counted, MEMORY)
    share = np.array([0, 50_000, 0])
    each = [scoring.level(dense[:, j] + share, counted, MEMORY) for j in (0, 1)]
    assert found.tolist() == np.maximum(*each).tolist()
    assert found[0] == each[0][0], "the other segment's winner does not push it down"
    none = scoring.levels(dense[:, :0], lexical, counted, MEMORY)
    assert none.tolist() == scoring.level(share, counted, MEMORY).tolist()


def test_a_table_without_memory_leaves_totals_as_they_are() -> None:
    totals = np.array([5, 7])
    assert scoring.level(totals, np.array([True, True]), {}).tolist() == [5, 7]
    assert scoring.level(totals, np.array([False, False]), MEMORY).tolist() == [5, 7]


def test_what_leads_gains_and_what_trails_loses() -> None:
    totals = np.array([600_000, 400_000, 100_000, 900_000])
    counted = np.array([True, True, True, False])  # the last one competes with none
    found = scoring.level(totals, counted, MEMORY)
    size = -50 + (0 - -50) * (3 - 2) // 2
    assert found.tolist() == [
        600_000 + (600_000 - 400_000) * 900 // 1000 - size,
        400_000 + (400_000 - 600_000) * 900 // 1000 - size,
        100_000 + (100_000 - 600_000) * 900 // 1000 - size,
        900_000 + (900_000 - 600_000) * 900 // 1000 - size,
    ]
    alone = scoring.level(totals[:1], np.array([True]), MEMORY)
    assert alone.tolist() == [600_000 + (600_000 - 200_000) * 900 // 1000 + 100]
    level = scoring.level(totals[[0, 0]], np.array([True, True]), MEMORY)
    assert level.tolist() == [600_000 + 50] * 2, "neither leads"


def test_the_size_counts_between_powers_of_two_and_no_more_beyond_the_last() -> None:
    totals = np.zeros(64, np.int64)
    table = MEMORY | {"gap": (0,), "sizes": (0, 10, 20, 40)}
    sizes = {
        n: -int(scoring.level(totals[:n], np.ones(n, bool), table)[0]) for n in (1, 2, 3, 6, 8, 64)
    }
    assert sizes == {1: 0, 2: 10, 3: 15, 6: 30, 8: 40, 64: 40}


@given(
    hnp.arrays(np.int64, st.integers(0, 50), elements=st.integers(-2_000_000, 2_000_000)),
)
def test_probabilities_rise_with_the_total_and_stay_between_their_neighbours(
    totals: np.ndarray,
) -> None:
    table = read_table()
    totals = np.sort(totals)
    found = probabilities(totals, table)
    assert (np.diff(found) >= 0).all()
    knots, chances = np.array(table["totals"]), np.array(table["probabilities"])
    right = np.clip(np.searchsorted(knots, totals), 1, len(knots) - 1)
    low, high = chances[right - 1], chances[right]
    assert ((found >= low) & (found <= high)).all()


def test_probabilities_are_exact_at_the_knots_and_flat_outside() -> None:
    table = read_table()
    at_knots = probabilities(np.array(table["totals"]), table)
    assert at_knots.tolist() == list(table["probabilities"])
    outside = probabilities(np.array([-(10**9), 10**9]), table)
    assert outside.tolist() == [table["probabilities"][0], table["probabilities"][-1]]
    simple = {"totals": (0, 100), "probabilities": (0, 1000)}
    assert probabilities(np.array([0, 1, 50, 99, 100]), simple).tolist() == [0, 10, 500, 990, 1000]
