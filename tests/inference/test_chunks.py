"""Long work in pieces: every step once, in order, whatever the clock says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skaimz.inference import chunks
from skaimz.inference.chunks import CHUNK_STEPS, run_in_chunks


class Clock:
    """A clock that only steps move, so that chunk sizes follow from the test alone."""

    def __init__(self, seconds_per_step: float):
        self.now = 0.0
        self.seconds_per_step = seconds_per_step
        self.calls: list[tuple[int, int]] = []

    def perf_counter(self) -> float:
        return self.now

    def step(self, start: int, count: int) -> None:
        self.calls.append((start, count))
        self.now += count * self.seconds_per_step

    @property
    def sizes(self) -> list[int]:
        return [count for _, count in self.calls]


@pytest.fixture
def clock_of(monkeypatch):
    def make(seconds_per_step):
        clock = Clock(seconds_per_step)
        monkeypatch.setattr(chunks, "time", clock)
        return clock

    return make


@given(total=st.integers(0, 5000), first=st.integers(1, 300), power=st.floats(-7, 1))
def test_every_step_is_done_once_and_in_order(total, first, power):
    clock = Clock(10**power)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "time", clock)
        run_in_chunks(clock.step, total, label="", verbose=0, first=first)
    steps = [start + i for start, count in clock.calls for i in range(count)]
    assert steps == list(range(total))
    assert all(1 <= count <= CHUNK_STEPS for count in clock.sizes)


def test_no_steps_are_no_calls(clock_of):
    clock = clock_of(0.1)
    run_in_chunks(clock.step, 0, label="", verbose=0)
    assert clock.calls == []


def test_slow_steps_make_small_chunks(clock_of):
    clock = clock_of(0.05)
    run_in_chunks(clock.step, 30, label="", verbose=0, first=10)
    # A quarter of a second holds five such steps.
    assert clock.sizes == [10, 5, 5, 5, 5]


def test_a_step_longer_than_a_chunk_is_done_alone(clock_of):
    clock = clock_of(3.0)
    run_in_chunks(clock.step, 4, label="", verbose=0, first=1)
    assert clock.sizes == [1, 1, 1, 1]


def test_fast_steps_make_chunks_that_grow_to_the_largest(clock_of):
    clock = clock_of(1e-6)
    run_in_chunks(clock.step, 3000, label="", verbose=0, first=4)
    assert clock.sizes == [4, 32, 256, CHUNK_STEPS, CHUNK_STEPS, 3000 - 292 - 2 * CHUNK_STEPS]


def test_chunks_recover_from_a_slow_first_one(clock_of):
    clock = clock_of(1e-6)

    def step(start, count):
        clock.step(start, count)
        if start == 0:
            clock.now += 10.0  # the compiler

    run_in_chunks(step, 1000, label="", verbose=0, first=64)
    assert clock.sizes[:4] == [64, 2, 16, 128]


def test_keyboard_interrupt_ends_the_work():
    calls = []

    def step(start, count):
        calls.append((start, count))
        if len(calls) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_in_chunks(step, 100, label="", verbose=0, first=1)
    assert len(calls) == 2
    assert calls[0] == (0, 1)


def test_progress_is_shown_only_where_asked_for(capsys):
    run_in_chunks(lambda start, count: "loss 1.5", 5, label="Variational", verbose=1)
    shown = capsys.readouterr().err
    assert "Variational" in shown
    assert "5/5" in shown
    assert "loss 1.5" in shown
    run_in_chunks(lambda start, count: "loss 1.5", 5, label="Variational", verbose=0)
    assert capsys.readouterr().err == ""
