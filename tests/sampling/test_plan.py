"""Schedules cover every row and draw once, and only order tiles."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skaimz.sampling import Limits
from skaimz.sampling.job import cut
from skaimz.sampling.plan import make_plan

ROWS = st.integers(1, 5000)
SHARDS = st.integers(1, 9)
BATCH_ROWS = st.one_of(st.none(), st.integers(1, 10_000))


def described(width=1, rows_mix=None, multiplies_matrices=False):
    """Return what a schedule depends on of a kernel."""
    return SimpleNamespace(width=width, rows_mix=rows_mix, multiplies_matrices=multiplies_matrices)


def plan_of(spec, n_rows, n_draws, *, n_chains=1, **settings):
    posterior = SimpleNamespace(n_draws=n_draws, n_chains=n_chains)
    job = SimpleNamespace(
        spec=spec, posterior=posterior, n_rows=n_rows, total_rows=n_rows, first_row=0, past=None, limits=Limits()
    )
    return make_plan(job, **settings)


kernels = st.builds(described, width=st.integers(1, 2**22), multiplies_matrices=st.booleans())


@st.composite
def chains_and_draws(draw):
    n_chains = draw(st.integers(1, 5))
    return n_chains, n_chains * draw(st.integers(1, 60))


def batched(schedule, batch_rows):
    return schedule if batch_rows is None else schedule.in_batches(batch_rows)


@given(kernel=kernels, n_rows=ROWS, counts=chains_and_draws(), shards=SHARDS, batch_rows=BATCH_ROWS)
def test_tiles_cover_every_row_once(kernel, n_rows, counts, shards, batch_rows):
    n_chains, n_draws = counts
    schedule = batched(plan_of(kernel, n_rows, n_draws, n_chains=n_chains, shards=shards), batch_rows)
    visits = np.zeros(n_rows, int)
    last = 0
    for number, batch in enumerate(schedule.batches()):
        assert batch.number == number
        assert batch.rows.start == last < batch.rows.stop
        last = batch.rows.stop
        assert batch.draws == slice(0, n_draws)
        at = batch.rows.start
        for step in schedule.steps(batch):
            assert step.rows.start == at
            at = step.rows.stop
            assert step.draws == batch.draws
            assert step.tiles.dtype == np.uint32
            assert len(step.tiles) == shards
            rows = np.arange(step.rows.start, step.rows.stop)
            # A step's tiles lie one behind the other.
            assert len(rows) <= shards * schedule.tile_rows
            np.testing.assert_array_equal(
                step.tiles[(rows - rows[0]) // schedule.tile_rows], rows // schedule.tile_rows
            )
            visits[rows] += 1
        assert at == batch.rows.stop
    assert (visits == 1).all()


@given(kernel=kernels, n_rows=ROWS, counts=chains_and_draws(), shards=SHARDS)
def test_a_tile_depends_on_neither_shards_nor_chains(kernel, n_rows, counts, shards):
    n_chains, n_draws = counts
    one = plan_of(kernel, n_rows, n_draws)
    other = plan_of(kernel, n_rows, n_draws, n_chains=n_chains, shards=shards)
    assert (other.tile_rows, other.step_draws) == (one.tile_rows, one.step_draws)
    if not kernel.multiplies_matrices:
        assert plan_of(kernel, n_rows + 1000, n_draws).tile_rows == one.tile_rows


@given(kernel=kernels, n_rows=ROWS, n_draws=st.integers(1, 5000), shards=SHARDS)
def test_work_at_a_time_is_bounded(kernel, n_rows, n_draws, shards):
    schedule = plan_of(kernel, n_rows, n_draws, shards=shards)
    assert 1 <= schedule.draws_at_once <= n_draws
    assert schedule.tile_rows >= Limits().least_tile_rows
    numbers = schedule.tile_rows * schedule.draws_at_once * kernel.width
    if not kernel.multiplies_matrices:
        assert numbers <= max(Limits().tile_elements, Limits().least_tile_rows * kernel.width)


@given(
    width=st.integers(1, 2**22),
    matrices=st.booleans(),
    n_rows=ROWS,
    counts=chains_and_draws(),
    shards=SHARDS,
    batch_rows=BATCH_ROWS,
    says=st.sampled_from(["kernel", "caller"]),
)
def test_whole_schedules_cut_draws_within_chains(width, matrices, n_rows, counts, shards, batch_rows, says):
    n_chains, n_draws = counts
    kernel = described(width, "a reason" if says == "kernel" else None, matrices)
    schedule = plan_of(kernel, n_rows, n_draws, n_chains=n_chains, shards=shards, whole=says == "caller")
    assert schedule.whole
    schedule = batched(schedule, batch_rows)
    per_chain = n_draws // n_chains
    visits = np.zeros(n_draws, int)
    last = 0
    for number, batch in enumerate(schedule.batches()):
        assert batch.number == number
        assert batch.rows == slice(0, n_rows)
        assert batch.draws.start == last < batch.draws.stop
        last = batch.draws.stop
        assert batch.draws.start // per_chain == (batch.draws.stop - 1) // per_chain
        assert batch.draws.stop - batch.draws.start <= schedule.step_draws
        (step,) = schedule.steps(batch)
        assert (step.rows, step.draws, step.tiles.tolist()) == (batch.rows, batch.draws, [0])
        visits[batch.draws] += 1
    assert (visits == 1).all()
    assert schedule.step_draws * n_rows * width <= max(Limits().tile_elements, n_rows * width)


@given(n_rows=ROWS, batch_rows=st.integers(1, 10_000), n_draws=st.integers(1, 3000), shards=SHARDS)
def test_batches_are_the_least_whole_tiles(n_rows, batch_rows, n_draws, shards):
    schedule = plan_of(described(), n_rows, n_draws, shards=shards).in_batches(batch_rows)
    assert batch_rows <= schedule.batch_rows < batch_rows + schedule.tile_rows
    assert schedule.batch_rows % schedule.tile_rows == 0
    *full, last = (batch.rows.stop - batch.rows.start for batch in schedule.batches())
    assert set(full) <= {schedule.batch_rows}
    assert last <= schedule.batch_rows


@given(
    shape=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    axis=st.integers(0, 1),
    start=st.integers(0, 11),
    length=st.integers(1, 15),
)
def test_cut_pads_with_the_first_entry(shape, axis, start, length):
    array = np.arange(np.prod(shape)).reshape(shape)
    start = min(start, shape[axis] - 1)
    stop = min(start + length, shape[axis])
    found = np.moveaxis(cut(array, slice(start, stop), length, axis), axis, 0)
    expected = np.moveaxis(array, axis, 0)
    assert len(found) == length
    np.testing.assert_array_equal(found[: stop - start], expected[start:stop])
    np.testing.assert_array_equal(found[stop - start :], np.repeat(expected[[start]], length - (stop - start), axis=0))


def test_one_row_and_one_draw():
    schedule = plan_of(described(), 1, 1, shards=8)
    (batch,) = schedule.batches()
    (step,) = schedule.steps(batch)
    assert (step.rows, step.draws) == (slice(0, 1), slice(0, 1))
    assert step.tiles.tolist() == list(range(8))


@pytest.mark.parametrize("n_rows", [1023, 1024, 1025])
def test_the_last_tile_is_as_long_as_its_rows(n_rows):
    schedule = plan_of(described(), n_rows, 10).in_batches(1)
    assert schedule.tile_rows == 1024
    lengths = [step.rows.stop - step.rows.start for batch in schedule.batches() for step in schedule.steps(batch)]
    assert lengths == ([1024, 1] if n_rows == 1025 else [n_rows])
