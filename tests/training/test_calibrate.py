import json

import numpy as np
import pytest

from holdfast.retrieval.calibration import SHIPPED, read_table
from holdfast.retrieval.embedder import BundledEmbedder
from holdfast.retrieval.scoring import ONE
from training.calibrate import (
    SIZES,
    Asked,
    best_threshold,
    calibration_error,
    count,
    design,
    f_measure,
    fit_logistic,
    make_table,
    probability,
    select,
)


def asked(totals: list[int], bears: list[bool] | None = None, strength: str = "should") -> Asked:
    given = [False] * len(totals) if bears is None else bears
    names = np.array([strength] * len(totals))
    dense = np.array(totals, np.int64)[:, None]
    return Asked("m", dense, np.zeros(len(totals), np.int64), np.array(given), names)


def test_the_fit_finds_the_curve_that_two_groups_lie_on() -> None:
    # 1 of 5 at x = 0 and 3 of 4 at x = 1: the curve goes through both, in closed form
    x = np.array([0.0] * 5 + [1.0] * 4)
    y = np.array([True] + [False] * 4 + [True] * 3 + [False])
    slope, offset = fit_logistic(np.column_stack([x, np.ones(9)]), y)
    assert offset == pytest.approx(np.log(0.2 / 0.8), abs=1e-9)
    assert slope + offset == pytest.approx(np.log(0.75 / 0.25), abs=1e-9)


def test_the_fit_finds_the_curve_that_drew_the_data() -> None:
    generator = np.random.default_rng(5)
    x = generator.normal(0.3, 0.2, 40_000)
    y = generator.random(40_000) < 1 / (1 + np.exp(-(12 * x - 5)))
    features = np.column_stack([x, np.ones(len(x))])
    slope, offset = fit_logistic(features, y)
    assert slope == pytest.approx(12, rel=0.03)
    assert offset == pytest.approx(-5, rel=0.03)
    assert np.array_equal([slope, offset], fit_logistic(features, y))


@pytest.mark.parametrize("size", [1, 5, 8, 20, 200, 1_000])
def test_the_table_gives_what_was_fitted(size: int) -> None:
    weights = np.array([14.0, -4.0, -5.5, -7.5, -9.0])
    totals = np.random.default_rng(size).integers(-100_000, 800_000, size)
    one = asked(totals.tolist())
    table = make_table(weights, 180_000)
    features, _ = design([one], 180_000)
    expected = 1 / (1 + np.exp(-features @ weights))
    # the table is a line between its knots; between powers of two the size is one too
    exact = size in (1, 8)
    assert np.abs(probability(one, table) - expected).max() < (0.01 if exact else 0.03)


def test_the_shipped_table_is_for_the_bundled_embedder_and_rises() -> None:
    shipped = json.loads(SHIPPED.read_text(encoding="utf-8"))
    assert shipped["embedder"] == BundledEmbedder().digest, "python -m training.calibrate"
    table = read_table()
    assert list(table["probabilities"]) == shipped["probabilities"]
    assert np.all(np.diff(table["sizes"]) >= 0), "the larger a memory, the more by chance"
    assert table["gap"][0] > 0
    assert table["probabilities"][-1] > 0.99 * ONE
    assert SIZES[0] < 20


def test_at_most_five_are_selected_the_most_probable_first() -> None:
    one = asked([0] * 7)
    chances = np.array([0.5, 0.9, 0.6, 0.7, 0.8, 0.4, 0.95])
    levels = {"must": 0.1, "should": 0.45, "prefer": 0.9}
    (taken,) = select([one], [chances], levels)
    assert taken.tolist() == [False, True, True, True, True, False, True]


def test_false_alarms_are_counted_over_prompts_that_nothing_bears_on() -> None:
    several = [asked([0, 0], [True, False]), asked([0, 0]), asked([0, 0])]
    taken = [np.array([True, True]), np.array([True, False]), np.array([False, False])]
    found = count(several, taken)
    assert (found.right, found.given, found.wanted) == (1, 3, 1)
    assert (found.alarms, found.nothing) == (1, 2)
    assert found.f1 == pytest.approx(0.5)


def test_the_best_threshold_leans_as_beta_says() -> None:
    chance = np.array([0.9, 0.5, 0.3, 0.2, 0.2, 0.2, 0.05])
    bears = np.array([True, True, False, True, False, False, False])
    thresholds = [best_threshold(chance, bears, beta) for beta in (2.0, 1.0, 0.5)]
    assert thresholds == [0.06, 0.31, 0.31]
    assert f_measure(chance >= 0.31, bears, 1) == pytest.approx(0.8)
    assert f_measure(chance >= 0.95, bears, 1) == 0


def test_the_calibration_error_is_the_gap_between_chance_and_truth() -> None:
    chance = np.array([0.25] * 4 + [0.75] * 4 + [0.01] * 50)
    right = np.array([True] + [False] * 3 + [True] * 3 + [False] + [True] * 50)
    assert calibration_error(chance, right) == pytest.approx(0)
    assert calibration_error(chance, ~right) == pytest.approx(0.5)
