"""Functions that run in one thread at a time, and a cache that threads share."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from skaimz.runtime import one_at_a_time, shared


def in_threads(function, n_threads=4):
    with ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(lambda _: function(), range(n_threads), timeout=60))


def test_one_at_a_time():
    inside = []

    @one_at_a_time
    def enter():
        inside.append(threading.get_ident())
        time.sleep(0.01)
        seen = list(inside)
        inside.remove(threading.get_ident())
        return seen

    # Another function under the lock, which may call the first one.
    outer = one_at_a_time(lambda: enter())
    assert all(len(seen) == 1 for seen in in_threads(enter) + in_threads(outer))


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_the_turn_ends_with_an_error(error):
    @one_at_a_time
    def fail():
        raise error

    with pytest.raises(error):
        fail()
    assert in_threads(one_at_a_time(lambda: "entered")) == ["entered"] * 4


def test_what_is_shared_is_made_once():
    made = []

    @shared(maxsize=2)
    def make(number):
        """Made."""
        time.sleep(0.01)
        made.append(number)
        return object()

    assert len(set(in_threads(lambda: make(1)))) == 1
    assert made == [1]
    assert make.__doc__ == "Made."
    make(2), make(3), make(1)
    assert made == [1, 2, 3, 1]
    make.cache_clear()
    assert make.cache_info() == (0, 0, 2, 0)
