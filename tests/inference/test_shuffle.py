"""The order of minibatches' rows is a permutation, looks random, and can be read a window at a time."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skaimz.inference import shuffle
from skaimz.inference.shuffle import ordered, shuffled, window_of
from skaimz.runtime import Purpose, key_of

PROGRAM = jax.jit(shuffled)


def order(n_rows, most_rows, seed=0, window=0):
    places = np.minimum(np.arange(most_rows, dtype=np.uint32), n_rows - 1)
    return np.asarray(PROGRAM(places, n_rows, jax.random.key(seed), window))[:n_rows]


@settings(max_examples=60)
@given(st.sampled_from([1, 2, 3, 64, 1000, 4097]), st.floats(0, 1), st.integers(0, 2**31), st.integers(0, 2**30))
def test_every_row_comes_once(most_rows, share, seed, window):
    n_rows = max(1, int(share * most_rows))
    np.testing.assert_array_equal(np.sort(order(n_rows, most_rows, seed, window)), np.arange(n_rows))


@pytest.mark.parametrize("by", ["seed", "window"])
def test_orders_are_as_different_as_random_ones(by):
    orders = np.stack([order(100, 128, **{by: number}) for number in range(2000)])
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
    np.testing.assert_array_equal(order(50, 64, 1), order(50, 128, 1))
    assert (order(50, 64, 1) != order(50, 64, 2)).any()
    assert (order(50, 64, 1) != order(50, 64, 1, window=1)).any()


def test_rows_of_one_window_are_permuted_once():
    expected = PROGRAM(np.arange(100, dtype=np.uint32), 100, key_of(7, Purpose.ROW_ORDER, 3), 0)
    found = jax.jit(ordered, static_argnums=2)(np.arange(100, dtype=np.uint32), 100, 128, 7, 3)
    np.testing.assert_array_equal(found, expected)
    starts, places = window_of(0, 100, 7, 3)
    assert starts.tolist() == [0]
    np.testing.assert_array_equal(places, expected)


# Windows of blocks, here of 16 and 4 rows

BLOCK, WINDOW, MOST = 4, 16, 256


@pytest.fixture(scope="module")
def epoch():
    """Return a function that gives the rows of an epoch in their order."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffle, "BLOCK_ROWS", BLOCK)
        patch.setattr(shuffle, "WINDOW_ROWS", WINDOW)
        program = jax.jit(lambda places, *numbers: ordered(places, numbers[0], MOST, *numbers[1:]))

        def rows_of(n_rows, seed=0, number=0):
            places = np.minimum(np.arange(MOST, dtype=np.uint32), n_rows - 1)
            return np.asarray(program(places, n_rows, np.uint32(seed), number))[:n_rows]

        yield rows_of


@settings(max_examples=100)
@given(n_rows=st.integers(WINDOW + 1, MOST), seed=st.integers(0, 2**32 - 1), number=st.integers(0, 1000))
def test_every_row_comes_once_in_windows(epoch, n_rows, seed, number):
    rows = epoch(n_rows, seed, number)
    np.testing.assert_array_equal(np.sort(rows), np.arange(n_rows))


@settings(max_examples=100)
@given(n_rows=st.integers(WINDOW + 1, MOST), seed=st.integers(0, 2**32 - 1), number=st.integers(0, 1000))
def test_a_window_is_a_few_blocks(epoch, n_rows, seed, number):
    rows = epoch(n_rows, seed, number)
    for window in range(-(-n_rows // WINDOW)):
        expected = rows[window * WINDOW : (window + 1) * WINDOW]
        starts, places = window_of(window, n_rows, seed, number)
        assert len(starts) <= WINDOW // BLOCK
        held = (starts[:, None] + np.arange(BLOCK)).ravel() % n_rows
        np.testing.assert_array_equal(held[places], expected)


@pytest.mark.parametrize("n_rows", [64, 66])
def test_each_row_is_as_likely_at_each_place(epoch, n_rows):
    n_orders = 2000
    orders = np.stack([epoch(n_rows, number=number) for number in range(n_orders)])
    for place in (0, 17, n_rows - 1):
        counts = np.bincount(orders[:, place], minlength=n_rows)
        chi_square = ((counts - n_orders / n_rows) ** 2).sum() * n_rows / n_orders
        assert abs(chi_square - (n_rows - 1)) < 5 * np.sqrt(2 * (n_rows - 1))
    # Windows and epochs have orders of their own.
    windows = orders[:2, :64].reshape(-1, WINDOW) % WINDOW
    assert len({tuple(window) for window in windows.tolist()}) == len(windows)
