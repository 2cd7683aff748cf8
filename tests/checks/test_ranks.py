"""Ranks of true values, and the test that they are uniform."""

import numpy as np
import pytest
from scipy.stats import chi2

from skaimz.checks import rank_of_first, uniformity


def test_a_rank_is_the_number_of_values_below():
    values = np.array([[2.0, 0.0], [1.0, 1.0], [3.0, 2.0], [0.5, 3.0]])
    np.testing.assert_array_equal(rank_of_first(values, np.random.default_rng(0)), [2, 0])


def test_ties_are_broken_at_random():
    rng = np.random.default_rng(0)
    found = [int(rank_of_first(np.array([1, 0, 1, 1, 2]), rng)) for _ in range(3000)]
    np.testing.assert_allclose(np.bincount(found, minlength=5) / 3000, [0, 1 / 3, 1 / 3, 1 / 3, 0], atol=0.03)


def test_uniform_ranks():
    assert uniformity(np.arange(100), 99, 10) == 1.0
    assert uniformity(np.arange(7), 6, 3) == pytest.approx(1.0)  # bins of 3, 2 and 2 ranks


def test_p_value_is_that_of_pearson():
    ranks = np.repeat([0, 5], [30, 20])  # in the first and the second of two bins
    assert uniformity(ranks, 9, 2) == pytest.approx(chi2.sf(2 * 5**2 / 25, df=1))


def test_ranks_at_both_ends_are_not_uniform():
    assert uniformity(np.repeat([0, 99], 20), 99, 4) < 1e-6
