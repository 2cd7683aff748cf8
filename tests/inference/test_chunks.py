"""Long work in pieces: every step once, in order, whatever the clock says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skaimz.inference import chunks
from skaimz.inference.chunks import CHUNK_STEPS, Progress, Watch, run_in_chunks


class Clock:
    """A clock that only steps move, so that chunk sizes follow from the test alone."""

    def __init__(self, seconds_per_step: float):
        self.now = 0.0
        self.seconds_per_step = seconds_per_step
        self.calls: list[tuple[int, int]] = []

    def perf_counter(self) -> float:
        return self.now

    monotonic = perf_counter

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
        run_in_chunks(clock.step, total, first=first)
    steps = [start + i for start, count in clock.calls for i in range(count)]
    assert steps == list(range(total))
    assert all(1 <= count <= CHUNK_STEPS for count in clock.sizes)


def test_no_steps_are_no_calls(clock_of):
    clock = clock_of(0.1)
    run_in_chunks(clock.step, 0)
    assert clock.calls == []


def test_slow_steps_make_small_chunks(clock_of):
    clock = clock_of(0.05)
    run_in_chunks(clock.step, 30, first=10)
    # A quarter of a second holds five such steps.
    assert clock.sizes == [10, 5, 5, 5, 5]


def test_a_step_longer_than_a_chunk_is_done_alone(clock_of):
    clock = clock_of(3.0)
    run_in_chunks(clock.step, 4, first=1)
    assert clock.sizes == [1, 1, 1, 1]


def test_fast_steps_make_chunks_that_grow_to_the_largest(clock_of):
    clock = clock_of(1e-6)
    run_in_chunks(clock.step, 3000, first=4)
    assert clock.sizes == [4, 32, 256, CHUNK_STEPS, CHUNK_STEPS, 3000 - 292 - 2 * CHUNK_STEPS]


def test_chunks_recover_from_a_slow_first_one(clock_of):
    clock = clock_of(1e-6)

    def step(start, count):
        clock.step(start, count)
        if start == 0:
            clock.now += 10.0  # the compiler

    run_in_chunks(step, 1000, first=64)
    assert clock.sizes[:4] == [64, 2, 16, 128]


def test_keyboard_interrupt_ends_the_work():
    calls = []

    def step(start, count):
        calls.append((start, count))
        if len(calls) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_in_chunks(step, 100, first=1)
    assert len(calls) == 2
    assert calls[0] == (0, 1)


def shown(verbose, capsys):
    with Watch(verbose).phase("Variational", 5) as phase:
        run_in_chunks(lambda start, count: phase.advance(count, loss=1.5), 5)
    return capsys.readouterr().err


def test_progress_is_shown_only_where_asked_for(capsys):
    bar = shown(1, capsys)
    assert "Variational" in bar
    assert "5/5" in bar
    assert "loss 1.5" in bar
    assert shown(0, capsys) == ""


def test_a_callback_is_told_of_each_chunk_and_may_stop(clock_of):
    clock = clock_of(0.05)
    told = []

    def callback(progress):
        told.append(progress)
        return progress.done >= 15

    watch = Watch(callback=callback)
    with watch.phase("MCMC", 30) as phase:

        def step(start, count):
            clock.step(start, count)
            phase.advance(count, divergences=(0, start))

        assert run_in_chunks(step, 30, watch=watch, first=10) == 15
    assert told == [Progress("MCMC", 10, 30, None, 0), Progress("MCMC", 15, 30, None, 10)]
    assert watch.stopped == "the callback returned True"


def test_a_callback_that_returns_something_else_stops_nothing():
    watch = Watch(callback=lambda progress: progress.done)
    with watch.phase("SVI", 5) as phase:
        assert run_in_chunks(lambda start, count: phase.advance(count), 5, watch=watch, first=1) == 5


def test_divergences_are_added_up_over_chains():
    told = []
    with Watch(callback=told.append).phase("MCMC", 4) as phase:
        for chain, diverged in ((0, 2), (1, 3), (0, 5)):
            phase.advance(1, divergences=(chain, diverged))
    assert [progress.divergences for progress in told] == [2, 5, 8]


def test_a_spent_budget_stops_the_work():
    watch = Watch(time_budget=1e-9)
    with watch.phase("SVI", 5) as phase:
        assert run_in_chunks(lambda start, count: phase.advance(count), 5, watch=watch, first=1) == 1
    assert watch.stopped == "the time budget was spent"
