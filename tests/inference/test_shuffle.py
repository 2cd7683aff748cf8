"""The order of minibatches' rows is a permutation, and looks random."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skaimz.inference.shuffle import shuffled

PROGRAM = jax.jit(shuffled, static_argnums=2)


def order(n_rows, most_rows, seed=0):
    places = np.minimum(np.arange(most_rows, dtype=np.uint32), n_rows - 1)
    return np.asarray(PROGRAM(places, n_rows, most_rows, jax.random.key(seed)))[:n_rows]


@settings(deadline=None, max_examples=60)
@given(st.sampled_from([1, 2, 3, 64, 1000, 4097]), st.floats(0, 1), st.integers(0, 2**31))
def test_every_row_comes_once(most_rows, share, seed):
    n_rows = max(1, int(share * most_rows))
    np.testing.assert_array_equal(np.sort(order(n_rows, most_rows, seed)), np.arange(n_rows))


def test_orders_are_as_different_as_random_ones():
    orders = np.stack([order(100, 128, seed) for seed in range(2000)])
    # Each row comes as often at each place: chi-square over the 100 x 100 table, whose margins are fixed.
    table = np.zeros((100, 100))
    for one in orders:
        table[np.arange(100), one] += 1
    chi_square = ((table - 20) ** 2 / 20).sum()
    assert abs(chi_square - 99**2) < 5 * np.sqrt(2 * 99**2)
    # Rows that follow one another are no nearer to each other than two random rows, (n + 1) / 3 on average.
    gaps = np.abs(np.diff(orders.astype(int), axis=1)).mean()
    assert gaps == pytest.approx(101 / 3, rel=0.01)


def test_the_order_depends_on_the_key_alone():
    np.testing.assert_array_equal(order(50, 64, 1), order(50, 64, 1))
    assert (order(50, 64, 1) != order(50, 64, 2)).any()
