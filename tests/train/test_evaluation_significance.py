"""Intervals, tests and correlations against values worked out by hand or known from tables."""

import math
import time

import numpy as np
import pytest

from aerial_train.evaluation.significance import auroc, bootstrap, correlation, mcnemar, rank_correlation, wilson


def test_wilson_interval():
    low, high = wilson(8, 10)
    assert (low, high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert wilson(0, 0) == (0, 1)
    assert wilson(10, 10)[1] == pytest.approx(1) and wilson(10, 10)[0] == pytest.approx(0.7225, abs=1e-4)


def test_bootstrap_of_a_share_is_near_its_binomial_interval():
    values = np.array([1.0] * 80 + [0.0] * 20)
    low, high = bootstrap([values], lambda groups: float(groups[0].mean()))
    assert (low, high) == (pytest.approx(0.72, abs=0.011), pytest.approx(0.88, abs=0.011))
    assert (low, high) == bootstrap([values], lambda groups: float(groups[0].mean()))
    assert bootstrap([], lambda groups: 0.5) == (0, 1)


def test_bootstrap_draws_each_group_from_itself():
    groups = [np.ones(5), np.zeros(50)]
    assert bootstrap(groups, lambda drawn: float(np.mean([g.mean() for g in drawn]))) == (0.5, 0.5)


def test_bootstrap_of_a_statistic_that_noise_raises_lies_around_it():
    values = np.array([0.5, -0.5] * 20)  # |mean| is 0, and more than that in nearly every draw
    low, high = bootstrap([values], lambda groups: abs(float(groups[0].mean())), noise_raises=True)
    assert low == 0 and 0 < high < 0.15
    assert bootstrap([values], lambda groups: abs(float(groups[0].mean())))[1] > high + 0.05


def test_mcnemar_is_an_exact_binomial_test():
    assert mcnemar(0, 0) == 1
    assert mcnemar(5, 5) == 1
    assert mcnemar(0, 6) == pytest.approx(2 / 64)
    assert mcnemar(8, 2) == mcnemar(2, 8) == pytest.approx(2 * (1 + 10 + 45) / 1024)
    assert 0 <= mcnemar(3000, 1000) < 1e-200


def test_mcnemar_of_tens_of_thousands_takes_no_time():
    started_s = time.process_time()
    # The normal distribution, with its correction for continuity: 299 / sqrt(40300) deviations.
    assert mcnemar(20_000, 20_300) == pytest.approx(math.erfc(299 / math.sqrt(2 * 40_300)), rel=1e-3)
    assert time.process_time() - started_s < 2


def test_correlations():
    x = np.array([1.0, 2.0, 3.0, 4.0])
    assert correlation(x, 5 - 2 * x) == pytest.approx(-1)
    assert correlation(x, np.ones(4)) is None and correlation(x[:2], x[:2]) is None
    assert rank_correlation(x, np.exp(x)) == pytest.approx(1)
    assert rank_correlation(x, np.array([1, 1, 2, 2])) == pytest.approx(2 / 5**0.5)


def test_auroc_counts_ties_half():
    positive = np.array([True, True, False, False])
    assert auroc(np.array([0.9, 0.4, 0.6, 0.1]), positive) == pytest.approx(3 / 4)
    assert auroc(np.full(4, 0.5), positive) == pytest.approx(1 / 2)
    assert auroc(np.ones(2), np.ones(2, bool)) is None
