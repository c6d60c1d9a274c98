import json

import numpy as np
import pytest

from holdfast.retrieval.calibration import SHIPPED, read_table
from holdfast.retrieval.scoring import ONE
from training.calibrate import (
    best_threshold,
    calibration_error,
    f_measure,
    fit_logistic,
    make_table,
)


def test_the_fit_finds_the_curve_that_two_groups_lie_on() -> None:
    # 1 of 5 at x = 0 and 3 of 4 at x = 1: the curve goes through both, in closed form
    x = np.array([0.0] * 5 + [1.0] * 4)
    y = np.array([True] + [False] * 4 + [True] * 3 + [False])
    slope, offset = fit_logistic(x, y)
    assert offset == pytest.approx(np.log(0.2 / 0.8), abs=1e-9)
    assert slope + offset == pytest.approx(np.log(0.75 / 0.25), abs=1e-9)


def test_the_fit_finds_the_curve_that_drew_the_data() -> None:
    generator = np.random.default_rng(5)
    x = generator.normal(0.3, 0.2, 40_000)
    y = generator.random(40_000) < 1 / (1 + np.exp(-(12 * x - 5)))
    slope, offset = fit_logistic(x, y)
    assert slope == pytest.approx(12, rel=0.03)
    assert offset == pytest.approx(-5, rel=0.03)
    assert (slope, offset) == fit_logistic(x, y)


def test_the_shipped_table_is_the_one_made_from_its_recorded_curve() -> None:
    shipped = json.loads(SHIPPED.read_text(encoding="utf-8"))
    made = make_table(float(shipped["slope"]), float(shipped["offset"]))
    assert shipped["totals"] == made["totals"]
    # the curve is recorded with six decimals
    assert np.abs(np.subtract(shipped["probabilities"], made["probabilities"])).max() <= 1
    assert list(read_table()["probabilities"]) == shipped["probabilities"]


def test_a_table_is_the_curve_in_millionths() -> None:
    table = make_table(10, -5)
    at = dict(zip(table["totals"], table["probabilities"], strict=True))
    assert at[ONE // 2] == ONE // 2
    assert at[0] + at[ONE] == ONE
    assert at[0] == round(ONE / (1 + np.exp(5)))


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
