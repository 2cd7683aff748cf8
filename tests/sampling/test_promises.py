"""Draws do not depend on how they were computed, and are those of the kernel whatever its shape."""

import dataclasses
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import pytest
import xarray as xr
import zoo
from numpyro.infer import Predictive
from scipy import stats

from skaimz import NumPyroImpactRegressor
from skaimz.exceptions import SpeedWarning
from skaimz.inference import SVI
from skaimz.sampling import Limits, limits

TILE_ROWS, N_ROWS, N_DRAWS = 16, 50, 12
X = np.random.default_rng(0).normal(size=(N_ROWS, 2))
SCRIPT = Path(__file__).with_name("devices_script.py")
DEVICES = (1, 2, 4, 8)

interacts = pytest.mark.filterwarnings("ignore::skaimz.exceptions.SpeedWarning")


def normal(*shape, n_draws=N_DRAWS, seed=1):
    return np.random.default_rng(seed).normal(scale=0.5, size=(n_draws, *shape))


def with_draws(kernel, draws, num_chains=1, **settings):
    """Return an estimator with given posterior draws."""
    return NumPyroImpactRegressor(kernel, random_state=3, **settings).set_posterior_sample(draws, num_chains)


def drawn(model, X, in_sample=True, **settings):
    """Return predictive draws as arrays."""
    tree = model.sample_posterior_predictive(X, in_sample=in_sample, **settings)
    group = tree["posterior_predictive" if in_sample else "predictions"]
    return {name: variable.to_numpy() for name, variable in group.data_vars.items()}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def assert_mean(sample, mean, axis=None):
    """Compare a mean with what it should be, within five standard errors."""
    count = sample.size if axis is None else sample.shape[axis]
    error = sample.std(axis=axis) / np.sqrt(count)
    assert (np.abs(sample.mean(axis=axis) - mean) < 5 * error).all()


def change_limits(monkeypatch, **changes):
    monkeypatch.setattr(limits, "DEFAULT", dataclasses.replace(limits.DEFAULT, **changes))


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch):
    """Cut few rows into several tiles."""
    change_limits(monkeypatch, most_tile_rows=TILE_ROWS, matrix_tile_rows=(8, TILE_ROWS))


@pytest.fixture
def usual_tiles(monkeypatch):
    change_limits(monkeypatch, most_tile_rows=1024)


# Kernels with posterior draws for the rows of X.
EFFECTS = {"level": normal(), "spread": abs(normal(seed=2)), "effect": normal(N_ROWS)}
COUNTS = {"slope": normal(), "shift": normal(N_ROWS), "jitter": normal(3, N_ROWS)}
CASES = {
    "effects": (zoo.grouped, EFFECTS),
    "counts": (zoo.sensor_counts, COUNTS),
    "vectors": (zoo.correlated, {"slope": normal()}),
    "network": (zoo.network, {"first": normal(2, 32), "second": normal(32, 32), "last": normal(32)}),
    "all at once": (zoo.running, {"slope": normal()}),
    "all at once, on the host": (zoo.running_counts, {"slope": normal()}),
}
every_case = pytest.mark.parametrize(("kernel", "draws"), CASES.values(), ids=CASES)


# How they are computed


def run_on(devices, path):
    """Run the script with so many devices, and return what it has to complain of."""
    # Code that is not optimised compiles faster, and has to give the same.
    more = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
    flags = f"{os.environ.get('XLA_FLAGS', '')} {more}"
    search = os.pathsep.join(filter(None, [str(SCRIPT.parents[1]), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": search}
    return subprocess.run(
        [sys.executable, SCRIPT, path], env=environment, capture_output=True, text=True, timeout=300
    ).stderr


@pytest.mark.slow
def test_draws_do_not_depend_on_devices(tmp_path):
    paths = {devices: tmp_path / f"{devices}.pickle" for devices in DEVICES}
    with ThreadPoolExecutor() as pool:
        complaints = list(pool.map(run_on, paths.keys(), paths.values()))
    assert all(path.exists() for path in paths.values()), complaints
    results = {}
    for devices, path in paths.items():
        counted, results[devices] = pickle.loads(path.read_bytes())
        assert counted == devices
    for devices in DEVICES:
        for case, quantities in results[devices].items():
            for (quantity, way), arrays in quantities.items():
                expected = results[1][case][quantity, "at once"]
                assert arrays.keys() == expected.keys()
                for name, array in arrays.items():
                    place = f"{name} of {case}: {quantity} {way} on {devices} devices"
                    assert array.dtype == expected[name].dtype, place
                    if array.dtype.kind == "f":
                        np.testing.assert_allclose(array, expected[name], rtol=1e-6, atol=1e-7, err_msg=place)
                    else:
                        np.testing.assert_array_equal(array, expected[name], err_msg=place)


@interacts
@every_case
def test_batches_and_stores_change_nothing(kernel, draws, tmp_path):
    model = with_draws(kernel, draws, num_chains=2)
    expected = drawn(model, X)
    assert_same(model.sample_posterior_predictive_on_batch(X, return_datatree=False), expected)
    for batch_size in (1, TILE_ROWS, 1000, None):
        assert_same(drawn(model, X, store="memory", batch_size=batch_size), expected)
        folder = tmp_path / str(batch_size)
        assert_same(drawn(model, X, store="zarr", batch_size=batch_size, output_dir=folder), expected)


@pytest.mark.parametrize(("workers", "ahead"), [(1, 0), (8, 8)])
@pytest.mark.parametrize("case", ["effects", "counts"])
def test_threads_change_nothing(case, workers, ahead, monkeypatch):
    kernel, draws = CASES[case]
    model = with_draws(kernel, draws)
    expected = drawn(model, X)
    change_limits(monkeypatch, workers=workers, steps_ahead=ahead)
    assert_same(drawn(model, X, batch_size=1), expected)


@interacts
@pytest.mark.parametrize("case", ["counts", "vectors", "all at once"])
def test_log_densities_are_those_of_scipy(case, tmp_path):
    kernel, draws = CASES[case]
    model = with_draws(kernel, draws, num_chains=2)
    slope = draws["slope"]
    if case == "counts":
        y = np.random.default_rng(5).poisson(3, (N_ROWS, 3))
        log_rate = 1 + slope[:, None] * X[:, 0] + draws["shift"]
        expected = stats.poisson.logpmf(y.T, np.exp(log_rate[:, None] + draws["jitter"]))
    elif case == "vectors":
        y = X[::-1]
        distribution = stats.multivariate_normal(cov=[[1.0, 0.6], [0.6, 0.5]])
        expected = distribution.logpdf(y - slope[:, None, None] * X)
    else:
        y = X[:, 1]
        expected = stats.norm.logpdf(y, np.cumsum(slope[:, None] * X[:, 0], axis=1), 0.5)
    expected = expected.reshape(2, -1, *expected.shape[1:])
    found = model.log_likelihood(X, y)["log_likelihood"]["y"]
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    stored = model.log_likelihood(X, y, store="zarr", batch_size=1, output_dir=tmp_path / "store")
    np.testing.assert_array_equal(stored["log_likelihood"]["y"], found)


@interacts
@every_case
def test_quantiles_are_those_of_the_draws(kernel, draws):
    model = with_draws(kernel, draws, num_chains=2)
    levels = [0.0, 0.1, 0.5, 1.0]
    outcomes = drawn(model, X, in_sample=False)["y"]
    outcomes = outcomes.reshape(-1, *outcomes.shape[2:])
    outcomes = np.moveaxis(outcomes, outcomes.shape.index(N_ROWS), 0)
    expected = np.moveaxis(np.quantile(outcomes, levels, axis=1), 0, -1)
    np.testing.assert_allclose(model.predict_quantiles(X, levels, method="draws"), expected, rtol=1e-12)


@interacts
@every_case
def test_no_random_number_is_used_twice(kernel, draws, monkeypatch):
    """Equal rows and equal posterior draws have outcomes of their own, in every tile, step and chain."""
    change_limits(monkeypatch, tile_elements=1)
    same = {name: np.full_like(draw, 0.7) for name, draw in draws.items()}
    outcomes = drawn(with_draws(kernel, same, num_chains=2), np.ones_like(X))["y"]
    outcomes = outcomes.reshape(-1, *outcomes.shape[2:])
    if outcomes.dtype.kind == "f":
        assert len(np.unique(outcomes)) == outcomes.size
    else:
        tile = Limits().least_tile_rows
        assert (outcomes[..., tile:] == outcomes[..., :-tile]).mean() < 0.3
        assert (outcomes[1:] == outcomes[:-1]).mean() < 0.3


# Row counts


@pytest.mark.parametrize("n_rows", [1, 1023, 1024, 1025])
@pytest.mark.parametrize("n_draws", [1, 7])
def test_row_counts_around_tile_borders(n_rows, n_draws, usual_tiles):
    X = np.random.default_rng(n_rows).normal(size=(n_rows, 2))
    level = normal(n_draws=n_draws)
    model = with_draws(zoo.grouped, {"level": level, "spread": np.ones(n_draws), "effect": normal(2, n_draws=n_draws)})
    found = drawn(model, X, in_sample=False, return_sites=["y", "mu", "effect"])
    assert found["y"].shape == (1, n_draws, n_rows)
    np.testing.assert_allclose(found["mu"], X[:, 0] + found["effect"], rtol=1e-12)
    noise = (found["y"] - found["mu"]) / 0.5
    effect = found["effect"][0] - level[:, None]
    assert len(np.unique(np.concatenate([noise, [effect]]))) == 2 * n_draws * n_rows
    if n_rows > 1:
        assert stats.kstest(noise.ravel(), "norm").pvalue > 1e-3
        assert stats.kstest(effect.ravel(), "norm").pvalue > 1e-3


@pytest.mark.parametrize("n_rows", [1, 1023, 1024, 1025])
def test_row_counts_on_the_host(n_rows, usual_tiles):
    X = np.random.default_rng(n_rows).normal(size=(n_rows, 2))
    model = with_draws(zoo.sensor_counts, {"slope": normal(), "shift": normal(2), "jitter": normal(3, 2)})
    found = drawn(model, X, in_sample=False)
    assert found["y"].shape == found["rate"].shape == (1, N_DRAWS, 3, n_rows)
    residual = (found["y"] - found["rate"]) / np.sqrt(found["rate"])
    assert_mean(residual, 0.0)
    assert_mean(residual**2, 1.0)


# Local latents


@pytest.mark.parametrize("store", ["memory", "zarr"])
def test_local_draws_are_used_row_by_row(store):
    model = NumPyroImpactRegressor(zoo.grouped, posterior=EFFECTS, random_state=3).fit(X, X[:, 1])
    tree = model.sample_posterior_predictive(X, store=store, batch_size=1)
    np.testing.assert_array_equal(tree["posterior"]["effect"][0], EFFECTS["effect"])
    found = tree["posterior_predictive"]
    np.testing.assert_allclose(found["mu"][0], X[:, 0] + EFFECTS["effect"], rtol=1e-12)
    assert stats.kstest(np.ravel(found["y"] - found["mu"]) / 0.5, "norm").pvalue > 1e-3
    model.cleanup()


@pytest.mark.parametrize("store", ["memory", "zarr"])
def test_local_draws_in_nested_plates(store):
    counts = np.random.default_rng(5).poisson(3, (N_ROWS, 3))
    model = NumPyroImpactRegressor(zoo.sensor_counts, posterior=COUNTS, random_state=3).fit(X, counts)
    found = model.sample_posterior_predictive(X, store=store, batch_size=1)["posterior_predictive"]
    assert found["y"].dims == found["rate"].dims == ("chain", "draw", "sensors", "rows")
    log_rate = 1 + COUNTS["slope"][:, None] * X[:, 0] + COUNTS["shift"]
    rate = np.exp(log_rate[:, None] + COUNTS["jitter"])
    np.testing.assert_allclose(found["rate"][0], rate, rtol=1e-12)
    residual = (found["y"].to_numpy()[0] - rate) / np.sqrt(rate)
    assert_mean(residual, 0.0)
    assert_mean(residual**2, 1.0)
    model.cleanup()


def test_local_draws_that_are_discrete():
    which = np.random.default_rng(6).integers(0, 2, (N_DRAWS, N_ROWS))
    model = with_draws(zoo.hidden_class, {"share": np.full(N_DRAWS, 0.5), "which": which})
    found = drawn(model, X, return_sites=["y", "which"])
    np.testing.assert_array_equal(found["which"][0], which)
    assert stats.kstest(np.ravel(found["y"] - X[:, 0] - 3 * which) / 0.5, "norm").pvalue > 1e-3


def test_new_rows_have_effects_from_their_conditional_prior():
    n_draws = 300
    level, spread = normal(n_draws=n_draws), 1 + abs(normal(n_draws=n_draws, seed=2))
    model = with_draws(zoo.grouped, {"level": level, "spread": spread, "effect": normal(4, n_draws=n_draws)})
    effect = drawn(model, X, in_sample=False, return_sites=["effect"])["effect"][0]
    standard = (effect - level[:, None]) / spread[:, None]
    assert stats.kstest(standard.ravel(), "norm").pvalue > 1e-3
    between_rows = np.corrcoef(standard.T)[np.triu_indices(N_ROWS, 1)]
    assert abs(between_rows).max() < 6 / np.sqrt(n_draws)
    mean, std = model.predict(X, return_std=True)
    variance = 0.25 + (spread**2).mean() + level.var()
    # Every row sees the same random effects.
    np.testing.assert_allclose(mean, X[:, 0] + level.mean(), atol=5 * np.sqrt(variance / n_draws))
    np.testing.assert_allclose(std**2, variance, rtol=5 * np.sqrt(2 / n_draws))


def test_new_rows_in_nested_plates():
    """What sensors share on a row, and what each has of its own."""
    n_draws = 100
    slope = normal(n_draws=n_draws)
    draws = {"slope": slope, "shift": normal(4, n_draws=n_draws), "jitter": normal(3, 4, n_draws=n_draws)}
    rate = drawn(with_draws(zoo.sensor_counts, draws), X, in_sample=False)["rate"][0]
    rest = np.log(rate) - 1 - (slope[:, None] * X[:, 0])[:, None]
    found = np.cov(rest.swapaxes(0, 1).reshape(3, -1))
    expected = 0.25 + np.diag(np.full(3, 0.09))
    np.testing.assert_allclose(found, expected, atol=5 * 0.34 * np.sqrt(2 / rest[:, 0].size))
    assert_mean(rest[:, 0], 0.0)


# What is set by row


@pytest.mark.parametrize("kind", ["intervention", "condition"])
def test_values_set_by_row_reach_their_rows(kind, tmp_path):
    model = with_draws(zoo.grouped, EFFECTS)
    effect = 100.0 * np.arange(N_ROWS)
    expected = np.tile(X[:, 0] + effect, (1, N_DRAWS, 1))
    found = drawn(model, X, **{kind: {"effect": effect}}, store="zarr", batch_size=1, output_dir=tmp_path / "store")
    np.testing.assert_allclose(found["mu"], expected, rtol=1e-12)


@pytest.mark.parametrize("n_rows", [N_ROWS - 20, N_ROWS + 1])
def test_values_for_another_number_of_rows_are_refused(n_rows):
    model = with_draws(zoo.grouped, EFFECTS)
    with pytest.raises(ValueError, match="effect"):
        model.sample_posterior_predictive_on_batch(X, intervention={"effect": np.arange(float(n_rows))})


def test_values_set_for_a_site_whose_rows_come_second():
    jitter = np.arange(3.0 * N_ROWS).reshape(3, N_ROWS) / 100
    found = drawn(with_draws(zoo.sensor_counts, COUNTS), X, intervention={"jitter": jitter})
    log_rate = 1 + COUNTS["slope"][:, None] * X[:, 0] + COUNTS["shift"]
    np.testing.assert_allclose(found["rate"][0], np.exp(log_rate[:, None] + jitter), rtol=1e-12)


# Shapes and types


@pytest.mark.parametrize("store", ["memory", "zarr"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sites_of_every_shape_and_type(store, dtype):
    coef = normal(2).astype(dtype)
    rows = X.astype(dtype)
    model = with_draws(zoo.many_shapes, {"coef": coef}, num_chains=2)
    found = model.sample_posterior_predictive(rows, store=store, batch_size=1)["posterior_predictive"]
    mu = coef @ rows.T
    parts = coef[:, None] * rows
    integer = np.dtype(f"i{rows.itemsize}")
    expected = {
        "y": (mu, ("rows",), dtype),
        "squared": (coef**2, ("squared_dim_0",), dtype),
        "total": (coef.sum(axis=1), (), dtype),
        "mu": (mu, ("rows",), dtype),
        "parts": (parts, ("rows", "parts_dim_1"), dtype),
        "turned": (parts.swapaxes(1, 2), ("turned_dim_0", "rows"), dtype),
        "above": (mu > 0, ("rows",), bool),
        "floored": (np.floor(mu), ("rows",), np.int16),
        "rounded": (mu, ("rows",), np.float32),
        "positive": ((coef > 0).sum(axis=1), (), integer),
    }
    assert set(found.data_vars) == set(expected)
    for name, (values, dims, kind) in expected.items():
        variable = found[name]
        assert variable.dims == ("chain", "draw", *dims), name
        assert variable.dtype == kind, name
        # A bfloat16 has 8 bits; noise has a standard deviation of one half.
        tolerance = {"rounded": {"rtol": 2**-8}, "y": {"atol": 3.0}}.get(name, {"rtol": 1e-5, "atol": 1e-6})
        np.testing.assert_allclose(variable, values.reshape(2, -1, *values.shape[1:]), **tolerance, err_msg=name)
    model.cleanup()


@pytest.mark.parametrize("store", ["memory", "zarr"])
def test_kernels_without_latents(store):
    model = NumPyroImpactRegressor(zoo.without_latents, inference=SVI(num_steps=1, num_samples=20), random_state=3)
    tree = model.fit(X, X[:, 1]).sample_posterior_predictive(X, store=store)
    assert set(tree.children) == {"posterior_predictive"}
    outcomes = tree["posterior_predictive"]["y"]
    assert outcomes.shape == (1, 20, N_ROWS)
    assert stats.kstest(np.ravel(outcomes - X[:, 0]) / 0.5, "norm").pvalue > 1e-3
    np.testing.assert_allclose(model.predict(X), X[:, 0], rtol=1e-12)
    model.cleanup()


def test_vectors_keep_their_correlation():
    n_draws = 200
    slope = normal(n_draws=n_draws)
    tree = with_draws(zoo.correlated, {"slope": slope}).sample_posterior_predictive_on_batch(X)
    outcomes = tree["posterior_predictive"]["y"]
    assert outcomes.dims == ("chain", "draw", "rows", "y_dim_1")
    noise = (outcomes.to_numpy()[0] - slope[:, None, None] * X).reshape(-1, 2)
    np.testing.assert_allclose(np.cov(noise.T), [[1.0, 0.6], [0.6, 0.5]], atol=5 * np.sqrt(2 / len(noise)))


# Chains


@interacts
@pytest.mark.parametrize("store", ["memory", "zarr"])
@pytest.mark.parametrize("kernel", [zoo.grouped, zoo.sensor_counts, zoo.running])
def test_chains_are_kept(kernel, store, monkeypatch):
    """Where fewer draws are taken at a time than a chain has, and their number does not divide it."""
    change_limits(monkeypatch, tile_elements=150)
    rows = X[:9]
    rng = np.random.default_rng(7)
    shapes = {"effect": (9,), "shift": (9,), "jitter": (3, 9)}
    names = {zoo.grouped: ["level", "spread", "effect"], zoo.sensor_counts: list(COUNTS), zoo.running: ["slope"]}
    draws = {name: abs(rng.normal(size=(2, 50, *shapes.get(name, ())))) for name in names[kernel]}
    posterior = xr.Dataset(
        {name: (("chain", "draw", *map("{}_{}".format, [name] * 2, range(draw.ndim - 2))), draw)
         for name, draw in draws.items()}
    )  # fmt: skip
    model = NumPyroImpactRegressor(kernel, posterior=posterior, random_state=3)
    tree = model.sample_posterior_predictive(rows, store=store)
    for name, draw in draws.items():
        np.testing.assert_array_equal(tree["posterior"][name], draw)
    found = tree["posterior_predictive"]
    if kernel is zoo.grouped:
        np.testing.assert_allclose(found["mu"], rows[:, 0] + draws["effect"], rtol=1e-12)
    elif kernel is zoo.running:
        np.testing.assert_allclose(found["mu"], np.cumsum(draws["slope"][..., None] * rows[:, 0], axis=-1), rtol=1e-12)
    else:
        log_rate = 1 + draws["slope"][..., None] * rows[:, 0] + draws["shift"]
        np.testing.assert_allclose(found["rate"], np.exp(log_rate[:, :, None] + draws["jitter"]), rtol=1e-12)
    assert found["y"].shape == (2, 50, *((3, 9) if kernel is zoo.sensor_counts else (9,)))
    model.cleanup()


# Rows that depend on one another


def test_rows_that_interact_agree_with_numpyro():
    n_draws = 400
    draws = {"slope": normal(n_draws=n_draws)}
    model = with_draws(zoo.running, draws)
    with pytest.warns(SpeedWarning, match="all rows at once, because its rows may depend on one another: .*cumsum"):
        found = drawn(model, X)
    np.testing.assert_allclose(found["mu"][0], np.cumsum(draws["slope"][:, None] * X[:, 0], axis=1), rtol=1e-9)
    assert stats.kstest(np.ravel(found["y"] - found["mu"]) / 0.5, "norm").pvalue > 1e-3
    with jax.enable_x64(True):
        theirs = np.asarray(Predictive(zoo.running, draws)(jax.random.key(0), X)["y"])
    ours = found["y"][0]
    error = np.sqrt(ours.var(axis=0) + theirs.var(axis=0)) / np.sqrt(n_draws)
    assert (abs(ours.mean(axis=0) - theirs.mean(axis=0)) < 5 * error).all()
    np.testing.assert_allclose(ours.std(axis=0), theirs.std(axis=0), rtol=5 / np.sqrt(n_draws))


# Distributions


def truncated_moments(draws, X):
    mu = X @ draws["coef"]
    distribution = stats.truncnorm(-1 - mu, 3 - mu, loc=mu)
    return distribution.mean(), distribution.var()


def two_classes(draws, X):
    share = draws["share"]
    return X[:, 0] + 3 * share, np.full(len(X), 0.25 + 9 * share * (1 - share))


def zero_inflated_moments(draws, X):
    share, rate = draws["share"], np.exp(X[:, 0])
    return (1 - share) * rate, (1 - share) * rate * (1 + share * rate)


def logistic_moments(draws, X):
    probability = 1 / (1 + np.exp(-X @ draws["coef"]))
    return probability, probability * (1 - probability)


COEF = np.array([0.6, -0.4])
DISTRIBUTIONS = {
    "discrete latent": (zoo.hidden_class, {"share": 0.3, "which": np.zeros(4, int)}, two_classes),
    "mixture": (zoo.mixture, {"share": 0.3}, two_classes),
    "zero-inflated": (zoo.zero_inflated, {"share": 0.3}, zero_inflated_moments),
    "truncated": (zoo.truncated, {"coef": COEF}, truncated_moments),
    "discrete": (zoo.logistic, {"coef": COEF}, logistic_moments),
}


@pytest.mark.parametrize(("kernel", "one", "moments"), DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
def test_means_and_variances(kernel, one, moments):
    n_draws = 1000
    draws = {name: np.repeat(np.asarray(value)[None], n_draws, axis=0) for name, value in one.items()}
    model = with_draws(kernel, draws)
    outcomes = drawn(model, X, in_sample=False)["y"][0]
    mean, variance = moments(one, X)
    assert_mean(outcomes, mean, axis=0)
    assert_mean((outcomes - mean) ** 2, variance, axis=0)
    error = 5 * np.sqrt(variance / n_draws)
    found, std = model.predict(X, return_std=True)
    assert (abs(found - mean) < error).all()
    np.testing.assert_allclose(std**2, variance, rtol=0.2)


def test_improper_priors():
    level = normal()
    found = drawn(with_draws(zoo.improper, {"level": level}), X)
    assert stats.kstest(np.ravel(found["y"] - level[:, None] - X[:, 0]) / 0.5, "norm").pvalue > 1e-3
