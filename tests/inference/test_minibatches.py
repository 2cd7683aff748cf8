"""Rows that are read a part at a time give the fit of the same rows in memory."""

import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from numpyro.distributions import constraints
from numpyro.infer import autoguide
from numpyro.infer.initialization import init_to_value

from skaimz.inference import SVI, Data, chunks, course, fit, partial_fit, resolve_inference, resume, shuffle
from skaimz.inference import minibatches as minibatches_module
from skaimz.inference.minibatches import Passes, minibatches, needs_stream
from skaimz.kernels import Inputs, trace_kernel

pytestmark = [
    pytest.mark.filterwarnings("ignore::skaimz.exceptions.UnsettledGuideWarning"),
    pytest.mark.usefixtures("quick_compilation", "small_windows", "_short_stacks"),
]

N_ROWS, BLOCK, WINDOW = 203, 8, 64
TRUE = np.array([1.0, -1.0])


@pytest.fixture(scope="module")
def _short_stacks():
    """Stacks of few minibatches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(minibatches_module, "STACK_ROWS", 50)
        yield


class Source:
    """An array that can only be sliced, and remembers of what."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.ndim = array, array.shape, array.dtype, array.ndim
        self.asked = []

    def __len__(self):
        return len(self.array)

    def __getitem__(self, part):
        assert isinstance(part, slice)
        self.asked.append(self.array[part].shape[0])
        return self.array[part].copy()


def made(dtype=np.float32, n_rows=N_ROWS):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, 2))
    y = X @ TRUE + 0.5 * rng.normal(size=n_rows)
    return {"X": X.astype(dtype), "y": y.astype(dtype)}, rng.uniform(0, 2, n_rows).astype(dtype)


def as_sources(rows):
    return {name: Source(array) for name, array in rows.items()}


def run(rows, inference, weight=None, kernel=zoo.conjugate, seed=3):
    traced, numbers = trace_kernel(kernel, Inputs({"X": rows["X"]}, {}), "X", "y")
    inference = resolve_inference(inference)
    return traced, inference, fit(traced, Data(numbers, rows, {}, weight), inference, seed)


def go_on(rows, inference, weight=None, before=None, seed=3):
    traced, numbers = trace_kernel(zoo.conjugate, Inputs({"X": rows["X"]}, {}), "X", "y")
    return partial_fit(traced, Data(numbers, rows, {}, weight), resolve_inference(inference), seed, before)


def mean_field(X, y=None):
    loc = numpyro.param("loc", np.zeros(2, X.dtype))
    scale = numpyro.param("scale", np.ones(2, X.dtype), constraint=constraints.positive)
    numpyro.sample("coef", dist.Normal(loc, scale).to_event(1))


def threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("skaimz")]


# Minibatches


def places_of(n_rows, epoch):
    program = jax.jit(shuffle.ordered, static_argnums=2)
    return np.asarray(program(np.arange(n_rows, dtype=np.uint32), n_rows, 2 * WINDOW + n_rows, 5, epoch))


@settings(max_examples=40)
@given(
    n_rows=st.sampled_from([65, 72, 130, 203]),
    share=st.floats(0, 1),
    num_steps=st.integers(1, 60),
    weighted=st.booleans(),
)
def test_minibatches_are_the_order_cut_in_pieces(n_rows, share, num_steps, weighted):
    size = max(1, int(share * (n_rows - 1)))
    number = Source(np.arange(n_rows, dtype=np.float32))
    weight = Source(1 + number.array) if weighted else None
    stacks = list(minibatches(Data({}, {"number": number}, {}, weight), Passes(n_rows, size, num_steps, 5)))
    assert sum(len(stack.sizes) for stack in stacks) == num_steps
    batches = (stack.minibatch(step) for stack in stacks for step in range(len(stack.sizes)))
    step = 0
    for epoch in range(-(-num_steps // -(-n_rows // size))):
        order = places_of(n_rows, epoch)
        for start in range(0, n_rows, size):
            if step == num_steps:
                break
            (_, rows, _, weights, _), inside = next(batches)
            expected = order[start : start + size]
            assert inside == len(expected)
            assert len(weights) == size
            np.testing.assert_array_equal(rows["number"][:inside], expected)
            np.testing.assert_array_equal(weights[inside:], 0)
            scaled = (1 + expected if weighted else np.ones(inside)) * (n_rows / inside)
            np.testing.assert_allclose(weights[:inside], scaled, rtol=1e-6)
            step += 1
    assert threads() == []


def test_few_rows_are_held_and_none_is_read_in_vain():
    number = Source(np.arange(10_000))
    weight = np.broadcast_to(np.float32(1), 10_000)
    steps = minibatches(Data({}, {"number": number}, {}, weight), Passes(10_000, 16, 40, 0))
    for done, stack in enumerate(steps, 1):
        # Three steps of 16 rows to a stack; the window they lie in, and the next one.
        seen = -(-done * 48 // WINDOW)
        assert sum(number.asked) <= 1 + (seen + 1) * WINDOW
        assert stack.data.weight.shape == (3, 16)
    # 640 rows are ten windows; and one row fills up epochs.
    assert sum(number.asked) == 1 + 640
    assert max(number.asked) == BLOCK


def test_the_next_window_is_read_while_one_is_worked_on():
    number = Source(np.arange(10_000))
    steps = minibatches(Data({}, {"number": number}, {}, np.ones(10_000)), Passes(10_000, 16, 40, 0))
    next(steps)
    end = time.monotonic() + 10
    while sum(number.asked) < 1 + 2 * WINDOW:
        assert time.monotonic() < end
        time.sleep(0.01)
    steps.close()


def test_weights_of_a_part_are_scaled_alike():
    """By a minibatch's own sum of weights they would not be: rows beside light ones would count more."""
    weight = np.zeros(N_ROWS, np.float32)
    weight[places_of(N_ROWS, 2)[:100]] = np.linspace(1, 2, 100)
    data = Data({}, {"X": np.arange(N_ROWS)}, {}, weight)
    stacks = list(minibatches(data, Passes(N_ROWS, 25, 9, 5, epoch=2), padded_size=32, scale=4.0))
    assert [len(stack.sizes) for stack in stacks] == [2, 2, 2, 2, 1]
    assert {stack.data.weight.shape for stack in stacks} == {(2, 32)}
    order, scaled = (
        np.concatenate([array[:, :25].ravel() for array in arrays])[:N_ROWS]
        for arrays in zip(*((stack.data.rows["X"], stack.data.weight) for stack in stacks), strict=True)
    )
    np.testing.assert_array_equal(order, places_of(N_ROWS, 2))
    sizes = np.where(np.arange(N_ROWS) < 200, 25, 3)
    np.testing.assert_allclose(scaled, weight[order] * (4 * N_ROWS / sizes), rtol=1e-6)


# Fits


FITS = {
    "steps": ({"num_steps": 100, "batch_size": 10}, True, np.float32),
    "epochs": ({"num_epochs": 3, "batch_size": 7}, False, np.float64),
    "more than a window": ({"num_epochs": 3, "batch_size": 100}, True, np.float64),
    "a guide function": ({"num_steps": 60, "batch_size": 10, "guide": mean_field}, False, np.float32),
}


@pytest.mark.parametrize("case", FITS)
def test_the_fit_is_that_of_rows_in_memory(case):
    changes, weighted, dtype = FITS[case]
    tolerance = {"rtol": 1e-5 if dtype == np.float32 else 1e-9}
    with jax.enable_x64(dtype == np.float64):
        rows, weight = made(dtype)
        sources = as_sources(rows)
        weight, lazy_weight = (weight, Source(weight)) if weighted else (None, None)
        inference = SVI(num_samples=20, **changes)
        traced, checked, expected = run(rows, inference, weight)
        *_, found = run(sources, inference, lazy_weight)
        again, fresh = (resume(traced, each, checked, 7, 10)["coef"] for each in (expected, found))
    np.testing.assert_allclose(found.losses, expected.losses, **tolerance)
    np.testing.assert_allclose(found.draws["coef"], expected.draws["coef"], **tolerance)
    np.testing.assert_allclose(fresh, again, **tolerance)
    assert found.draws["coef"].dtype == found.losses.dtype == dtype
    assert (found.n_rows, found.seen) == (N_ROWS, expected.seen)
    # Nothing of the size of the rows is asked for, or left.
    size = changes["batch_size"]
    assert max(sources["X"].asked) <= max(size, BLOCK)
    assert len(found.data["rows"]["X"]) <= (1 if "guide" not in changes else 64)


@pytest.fixture(scope="module")
def streamed():
    rows, _ = made()
    return run(as_sources(rows), SVI(guide="auto_multivariate_normal", num_steps=4000, batch_size=20, num_samples=4000))


def test_the_posterior_is_the_exact_one(streamed):
    rows, _ = made()
    X, y = rows["X"].astype(float), rows["y"].astype(float)
    covariance = np.linalg.inv(X.T @ X / 0.25 + np.eye(2))
    mean, sd = covariance @ X.T @ y / 0.25, np.sqrt(np.diag(covariance))
    draws = streamed[2].draws["coef"][0]
    assert np.abs(draws.mean(0) - mean).max() < 0.3 * sd.min()
    np.testing.assert_allclose(draws.std(0), sd, rtol=0.2)


@pytest.mark.parametrize("rows", [as_sources(made()[0]), made(n_rows=290)[0]], ids=["again", "other rows"])
def test_programs_are_shared_whatever_the_number_of_rows(streamed, compilations, rows):
    rows = {name: array if isinstance(array, Source) else Source(array) for name, array in rows.items()}
    run(rows, SVI(guide="auto_multivariate_normal", num_steps=50, batch_size=20, num_samples=4000))
    assert compilations == []


def test_at_most_six_programs_are_compiled(compilations):
    rows, _ = made()
    run(as_sources(rows), SVI(num_steps=30, batch_size=11, num_samples=20), kernel=zoo.linear)
    ours = {"jit(prior)", "jit(potential)", "jit(init)", "jit(advance)", "jit(draw)", "jit(_window_of)"}
    assert set(compilations) <= ours
    assert len(compilations) in (5, 6)


@pytest.mark.parametrize(("first", "seconds"), [(3, 0.0), (37, 1e9)])
def test_losses_do_not_depend_on_pieces(streamed, monkeypatch, first, seconds):
    def in_pieces(step, total, **options):
        return chunks.run_in_chunks(step, total, **{**options, "first": first})

    monkeypatch.setattr(chunks, "CHUNK_SECONDS", seconds)
    monkeypatch.setattr(course, "run_in_chunks", in_pieces)
    rows, _ = made()
    inference = SVI(guide="auto_multivariate_normal", num_steps=4000, batch_size=20, num_samples=4000)
    *_, found = run(as_sources(rows), inference)
    np.testing.assert_array_equal(found.losses, streamed[2].losses)


def test_a_memory_mapped_array_is_not_in_memory(tmp_path):
    rows, _ = made()
    mapped = np.memmap(tmp_path / "X", np.float32, "w+", shape=rows["X"].shape)
    mapped[:] = rows["X"]
    data = Data({}, {**rows, "X": mapped}, {}, None)
    assert needs_stream(data, N_ROWS)
    assert not needs_stream(data, WINDOW)
    assert not needs_stream(data._replace(rows=rows), N_ROWS)


@pytest.mark.filterwarnings("ignore::skaimz.exceptions.LocalGuideWarning")
def test_rows_of_one_window_are_loaded():
    rows, _ = made(n_rows=WINDOW)
    inference = SVI(num_steps=20, batch_size=16, num_samples=20)
    *_, expected = run(rows, inference, kernel=zoo.random_effects, seed=1)
    *_, found = run(as_sources(rows), inference, kernel=zoo.random_effects, seed=1)
    np.testing.assert_array_equal(found.draws["effect"], expected.draws["effect"])


def test_entries_for_each_row_are_refused():
    sources = as_sources(made()[0])
    with pytest.raises(ValueError, match=r"Sites \['effect'\] have an entry for each row.* Load them into memory"):
        run(sources, SVI(num_steps=20, batch_size=16, guide=mean_field), kernel=zoo.random_effects)
    with pytest.raises(ValueError, match="`batch_size` needs a kernel whose log density is a sum over rows"):
        run(sources, SVI(num_steps=20, batch_size=16), kernel=zoo.centring)
    with pytest.raises(ValueError, match="`batch_size`=204 exceeds the number of rows, 203"):
        run(sources, SVI(num_steps=20, batch_size=204))


def test_too_many_rows_are_refused():
    huge = np.broadcast_to(np.float32(0), (2**32, 2))
    with pytest.raises(ValueError, match=r"fewer than 2\*\*32 rows, got 4294967296: give `partial_fit` some of them"):
        run({"X": Source(huge), "y": Source(huge[:, 0])}, SVI(num_steps=20, batch_size=16))


# Parts


@pytest.mark.parametrize("weighted", [False, True])
def test_parts_are_learnt_from_alike(weighted):
    rows, weight = made()
    weight[:60] = 0.0
    weights = (weight, Source(weight)) if weighted else (None, None)
    inference = SVI(batch_size=10, num_steps=50, num_samples=20, total_rows=1000)
    found = []
    for each, source in zip(weights, (rows, as_sources(rows)), strict=True):
        before = go_on(source, inference, each)
        found.append((before, go_on(source, inference, each, before)))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one.losses, other.losses)
        np.testing.assert_array_equal(one.draws["coef"], other.draws["coef"])
        assert one.seen == other.seen
    once, twice = found[1]
    assert once.seen == (weight.sum(dtype=float) if weighted else N_ROWS)
    assert twice.seen == 2 * once.seen
    assert len(once.losses) == 21
    # The second pass has an order of its own.
    np.testing.assert_array_equal(twice.losses[: len(once.losses)], once.losses)
    assert not np.allclose(twice.losses[-15:], once.losses[-15:])


def test_a_part_is_an_epoch_of_a_fit():
    rows, weight = made()
    inference = SVI(batch_size=10, num_steps=21, num_samples=20)
    *_, fitted = run(rows, inference, weight)
    np.testing.assert_allclose(go_on(rows, inference, weight).losses, fitted.losses, rtol=1e-4)


def test_minibatches_without_weight_are_steps():
    rows, _ = made(n_rows=40)
    weight = np.zeros(40, np.float32)
    weight[:3] = 1.0
    found = go_on(as_sources(rows), SVI(batch_size=2, num_samples=20), Source(weight))
    assert np.isfinite(found.losses).all()
    assert (len(found.losses), found.seen) == (20, 3)
    with pytest.raises(ValueError, match="`sample_weight` is zero for every row"):
        go_on(as_sources(rows), SVI(batch_size=2), Source(np.zeros(40, np.float32)))


def test_a_part_leaves_its_last_minibatch_to_guide_functions():
    rows, _ = made()
    weight = np.arange(N_ROWS) % 3
    found = go_on(as_sources(rows), SVI(guide=mean_field, batch_size=10, num_samples=20), Source(weight))
    starts, places = shuffle.window_of(3, N_ROWS, 3, 0)
    last = ((starts[:, None] + np.arange(BLOCK)).ravel() % N_ROWS)[places][-3:]
    assert found.n_rows == 3
    np.testing.assert_array_equal(found.data["rows"]["X"][:3], rows["X"][last])
    # Whole numbers are scaled like others.
    expected = np.append(weight[last] * (N_ROWS / 3), np.zeros(len(found.data["weight"]) - 3))
    np.testing.assert_allclose(found.data["weight"], expected, rtol=1e-6)


@pytest.mark.parametrize("learn", [run, go_on])
def test_guides_that_look_at_all_rows_are_refused(learn):
    rows, _ = made()
    with pytest.raises(ValueError, match="AutoLaplaceApproximation looks at all rows"):
        learn(as_sources(rows), SVI(guide="auto_laplace", batch_size=10))


# Troubles


class Broken(Source):
    """Fails where it is read for the second time or later."""

    def __getitem__(self, part):
        if len(self.asked) > 20:
            raise OSError("the disk is gone")
        return super().__getitem__(part)


def test_an_error_of_the_source_is_the_error_of_the_fit():
    rows, _ = made()
    with pytest.raises(OSError, match="the disk is gone"):
        run({"X": Broken(rows["X"]), "y": rows["y"]}, SVI(num_steps=1500, batch_size=10, num_samples=20))
    assert threads() == []


def test_a_fit_that_is_interrupted_leaves_no_thread(monkeypatch):
    def interrupted(step, total, **options):
        step(0, 2)
        assert threads() != []
        raise KeyboardInterrupt

    monkeypatch.setattr(course, "run_in_chunks", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(as_sources(made()[0]), SVI(num_steps=1500, batch_size=10, num_samples=20))
    assert threads() == []


# Steps that are not finite


def rooted(X, y=None):
    """A density that is not a number where an input is negative and the coefficient is large."""
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0))
    root = jnp.sqrt(jnp.where(coef > 1.0, X[:, 0], jnp.abs(X[:, 0])))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(coef * root, 0.5), obs=y)


@pytest.mark.filterwarnings("ignore::skaimz.exceptions.NonFiniteLossWarning")
def test_steps_that_are_not_finite_are_left_out_in_the_same_way():
    rows, _ = made(np.float64)
    rows = {"X": np.abs(rows["X"]), "y": 2.0 * np.sqrt(np.abs(rows["X"][:, 0]))}
    rows["X"][7, 0] = -1.0
    guide = autoguide.AutoNormal(rooted, init_loc_fn=init_to_value(values={"coef": 2.0}))
    inference = SVI(guide, num_steps=400, batch_size=10, num_samples=20)
    with jax.enable_x64(True):
        *_, expected = run(rows, inference, kernel=rooted)
        *_, found = run(as_sources(rows), inference, kernel=rooted)
    np.testing.assert_allclose(found.losses, expected.losses, rtol=1e-9)
    # 21 steps an epoch, of which the one with row 7 fails, and the others go on.
    for result in (found, expected):
        epochs = ~np.isfinite(result.losses[: 19 * 21].reshape(19, 21))
        np.testing.assert_array_equal(epochs.sum(axis=1), 1)
        assert len(set(epochs.argmax(axis=1))) > 1
        assert result.draws["coef"].mean() == pytest.approx(2.0, abs=0.1)


@pytest.mark.filterwarnings("ignore::skaimz.exceptions.FitWarning")
def test_a_fit_that_was_stopped_goes_on_with_the_same_minibatches(tmp_path):
    rows, _ = made()
    settings = {"num_steps": 1500, "batch_size": 20, "num_samples": 20}
    *_, whole = run(as_sources(rows), SVI(**settings), kernel=zoo.linear)
    stop = SVI(**settings, checkpoint_dir=tmp_path, callback=lambda progress: progress.done > 700)
    *_, part = run(as_sources(rows), stop, kernel=zoo.linear)
    assert 700 < len(part.losses) < 1500
    *_, found = run(as_sources(rows), SVI(**settings, checkpoint_dir=tmp_path), kernel=zoo.linear)
    np.testing.assert_allclose(found.losses, whole.losses, rtol=1e-6)
    np.testing.assert_allclose(found.draws["coef"], whole.draws["coef"], rtol=1e-6)
