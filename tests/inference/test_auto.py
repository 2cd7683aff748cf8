"""The default inference: what each rung finds, against posteriors that are known, in any units."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy.special import log_expit

from skaimz.exceptions import EffectiveSampleSizeWarning, RHatWarning
from skaimz.inference import Auto, Data, explore, fit, resolve_inference, resume, shuffle
from skaimz.kernels import Inputs, default, trace_kernel
from skaimz.kernels.default import LinearRegression

POWERS = [-9, -3, 0, 4, 9]


def line(X, y=None, *, unit, column):
    """Have a posterior that is conjugate given s, with a flat enough prior; X[:, 1] is nearly X[:, 0]."""
    a = numpyro.sample("a", dist.Normal(50.0 * unit, 40.0 * unit))
    b = numpyro.sample("b", dist.Normal(0.0, 100.0 * unit / column).expand([2]).to_event(1))
    s = numpyro.sample("s", dist.HalfNormal(20.0 * unit))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(a + X @ b, s), obs=y)


def made(unit=1.0, column=1.0):
    rng = np.random.default_rng(4)
    first = rng.normal(size=60)
    X = np.column_stack([first, 0.99 * first + 0.14 * rng.normal(size=60)])
    y = 52.0 + X @ [8.0, -3.0] + 5.0 * rng.normal(size=60)
    return column * X, unit * y


def line_moments():
    """Return means and standard deviations of a, b and s in units of one, by sums over a grid of s."""
    X, y = made()
    Z = np.column_stack([np.ones(60), X])
    prior_mean, prior_precision = np.array([50.0, 0.0, 0.0]), np.diag([1 / 40.0**2, 1e-4, 1e-4])
    grid = np.linspace(2.0, 12.0, 2001)
    log_weight, means, covariances = [], [], []
    for s in grid:
        precision = Z.T @ Z / s**2 + prior_precision
        covariance = np.linalg.inv(precision)
        mean = covariance @ (Z.T @ y / s**2 + prior_precision @ prior_mean)
        marginal = s**2 * np.eye(60) + Z @ np.linalg.inv(prior_precision) @ Z.T
        off = y - Z @ prior_mean
        log_weight.append(
            -0.5 * (off @ np.linalg.solve(marginal, off) + np.linalg.slogdet(marginal)[1]) - 0.5 * (s / 20.0) ** 2
        )
        means.append(mean)
        covariances.append(covariance)
    weight = np.exp(np.array(log_weight) - max(log_weight))
    weight /= weight.sum()
    means = np.array(means)
    mean = weight @ means
    within = np.tensordot(weight, np.array(covariances), 1)
    covariance = within + (means - mean).T @ ((means - mean) * weight[:, None])
    s_mean = weight @ grid
    return (
        np.array([*mean, s_mean]),
        np.array([*np.sqrt(np.diag(covariance)), np.sqrt(weight @ (grid - s_mean) ** 2)]),
    )


def run(kernel, rows, settings="auto", seed=0, weight=None, x64=True):
    """Fit a kernel, and return it with what came of it."""
    inputs = {name: array for name, array in rows.items() if name != "y"}
    with jax.enable_x64(x64):
        traced, numbers = trace_kernel(kernel, Inputs(inputs, {}), "X", "y")
        settings = resolve_inference(settings)
        return traced, settings, fit(traced, Data(numbers, rows, {}, weight), settings, seed)


def assert_moments(draws, mean, sd, *, of_mean=0.15, of_sd=0.1):
    draws = draws.reshape(-1, *draws.shape[2:]).astype(float)
    assert (np.abs(draws.mean(0) - mean) < of_mean * sd).all()
    np.testing.assert_allclose(draws.std(0), sd, rtol=of_sd)


# The mode


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("column_power", [0, 6])
def test_units_change_nothing_but_the_units(power, column_power):
    unit, column = 10.0**power, 10.0**column_power
    X, y = made(unit, column)
    *_, result = run(functools.partial(line, unit=unit, column=column), {"X": X, "y": y})
    mean, sd = line_moments()
    draws = result.draws
    scaled = np.concatenate(
        [draws["a"][..., None] / unit, draws["b"] * column / unit, draws["s"][..., None] / unit], axis=-1
    )
    assert_moments(scaled, mean, sd)
    assert result.diagnostics["rung"] == "mode"
    assert result.diagnostics["k_hat"] < 0.7
    # The same numbers but for rounding.
    X, y = made()
    *_, plain = run(functools.partial(line, unit=1.0, column=1.0), {"X": X, "y": y})
    np.testing.assert_allclose(draws["a"] / unit, plain.draws["a"], rtol=1e-4)
    np.testing.assert_allclose(draws["b"] * column / unit, plain.draws["b"], rtol=1e-3, atol=1e-3)


def test_float32_rows_have_float32_draws_of_the_same_posterior():
    X, y = made()
    rows = {"X": X.astype(np.float32), "y": y.astype(np.float32)}
    *_, result = run(functools.partial(line, unit=1.0, column=1.0), rows, x64=False)
    assert {draw.dtype for draw in result.draws.values()} == {np.dtype(np.float32)}
    mean, sd = line_moments()
    assert_moments(result.draws["b"], mean[1:3], sd[1:3])


def logistic(X, y=None):
    b = numpyro.sample("b", dist.Normal(0.0, 5.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Bernoulli(logits=b * X[:, 0]), obs=y)


def test_a_skewed_posterior_is_weighted_to_its_moments():
    # Eight rows that a threshold separates: the mode is far from the mean.
    x, y = np.array([-2.0, -1.5, -1.0, -0.4, 0.3, 0.9, 1.4, 2.2]), np.array([0, 0, 0, 0, 1, 1, 1, 1])
    grid = np.linspace(-5, 40, 45_001)
    log_density = log_expit(np.outer(grid, x) * (2 * y - 1)).sum(1) - 0.5 * (grid / 5) ** 2
    weight = np.exp(log_density - log_density.max())
    weight /= weight.sum()
    mean = weight @ grid
    sd = np.sqrt(weight @ (grid - mean) ** 2)
    assert mean - grid[np.argmax(weight)] > 0.3 * sd
    *_, result = run(logistic, {"X": x[:, None], "y": y})
    assert_moments(result.draws["b"], mean, sd)


def test_weights_are_repeated_rows_to_the_last_bit():
    X, y = made()
    weight = (np.arange(60) % 4).astype(float)
    kernel = functools.partial(line, unit=1.0, column=1.0)
    *_, weighted = run(kernel, {"X": X, "y": y}, weight=weight)
    places = np.random.default_rng(0).permutation(np.repeat(np.arange(60), weight.astype(int)))
    *_, repeated = run(kernel, {"X": X[places], "y": y[places]})
    for name, draw in weighted.draws.items():
        np.testing.assert_array_equal(draw, repeated.draws[name])


def test_fresh_draws_are_of_the_same_posterior():
    X, y = made()
    traced, settings, result = run(functools.partial(line, unit=1.0, column=1.0), {"X": X, "y": y})
    more = resume(traced, result, settings, 1, 3000)
    mean, sd = line_moments()
    assert more["b"].shape == (1, 3000, 2)
    assert_moments(more["b"], mean[1:3], sd[1:3])


def test_a_fit_of_equal_kernels_compiles_nothing(compilations):
    X, y = made()
    run(functools.partial(line, unit=1.0, column=1.0), {"X": X, "y": y})
    compilations.clear()
    run(functools.partial(line, unit=3.0, column=2.0), {"X": X[:50], "y": y[:50]})
    assert compilations == []


# Chains


def schools(X, y=None, *, sigma):
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("schools", X.shape[0]):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("y", dist.Normal(theta, sigma), obs=y)


@pytest.mark.filterwarnings("ignore::skaimz.exceptions.FitWarning")
def test_a_funnel_is_climbed_out_of():
    # Eight schools, centred: the density has no mode. Reference means of posteriordb.
    y = np.array([28.0, 8, -3, 7, -1, 1, 18, 12])
    sigma = np.array([15.0, 10, 16, 11, 9, 11, 10, 18])
    *_, result = run(schools, {"X": np.ones((8, 1)), "y": y, "sigma": sigma})
    assert result.method == "mcmc"
    assert result.diagnostics["rungs"][0]["why"]
    assert result.draws["mu"].mean() == pytest.approx(4.41, abs=0.5)
    assert result.draws["tau"].mean() == pytest.approx(3.60, abs=0.9)


def mixture(X, y=None):
    m = numpyro.sample("m", dist.Normal(0, 5).expand([2]).to_event(1))
    parts = dist.Normal(m[None, :], 1.0)
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.MixtureSameFamily(dist.Categorical(probs=jnp.array([0.5, 0.5])), parts), obs=y)


def test_two_modes_are_told():
    rng = np.random.default_rng(1)
    y = np.concatenate([rng.normal(-2, 1, 50), rng.normal(2, 1, 50)])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        *_, result = run(mixture, {"X": np.zeros((100, 1)), "y": y})
    assert [rung["rung"] for rung in result.diagnostics["rungs"]] == ["mode", "nuts"]
    assert result.diagnostics["rungs"][0]["why"] == "several modes"
    assert {warning.category for warning in caught} == {RHatWarning, EffectiveSampleSizeWarning}


# The closed form


def standardised(X, y):
    return LinearRegression.of({"X": X, "y": y}, None, None)


def test_the_default_kernel_is_drawn_from_in_closed_form():
    X, y = made(1e5, 1e-4)
    kernel = standardised(X, y)
    *_, result = run(kernel, {"X": X, "y": y}, Auto(num_samples=4000))
    assert result.diagnostics["rung"] == "exact"
    # By sums over a grid of tau of normal posteriors given it.
    t, Z = (y - kernel.y_mean) / kernel.y_scale, np.column_stack([np.ones(60), (X - kernel.x_mean) / kernel.x_scale])
    prior = np.diag([1.0, 2.5**2, 2.5**2])
    grid = np.linspace(0.05, 1.5, 3000)
    log_weight, means, squares = [], [], []
    for tau in grid:
        marginal = tau**2 * np.eye(60) + Z @ prior @ Z.T
        log_weight.append(-0.5 * (t @ np.linalg.solve(marginal, t) + np.linalg.slogdet(marginal)[1]) - tau)
        covariance = np.linalg.inv(Z.T @ Z / tau**2 + np.linalg.inv(prior))
        means.append(covariance @ Z.T @ t / tau**2)
        squares.append(np.diag(covariance) + means[-1] ** 2)
    weight = np.exp(np.array(log_weight) - max(log_weight))
    weight /= weight.sum()
    mean = weight @ np.array(means)
    sd = np.sqrt(weight @ np.array(squares) - mean**2)
    found = np.concatenate([result.draws["alpha"][..., None], result.draws["beta"]], axis=-1)
    assert_moments(found, mean, sd, of_mean=0.06, of_sd=0.05)
    tau = weight @ grid
    assert_moments(result.draws["tau"], tau, np.sqrt(weight @ (grid - tau) ** 2), of_mean=0.02, of_sd=0.03)


@pytest.mark.parametrize("n_columns", [1, 30])
def test_an_exact_fit_has_next_to_no_noise(n_columns):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20, n_columns))
    y = 7.0 + X[:, 0] * 3.0
    kernel = standardised(X, y)
    traced, settings, result = run(kernel, {"X": X, "y": y})
    slope = kernel.y_scale * result.draws["beta"][0, :, 0] / kernel.x_scale[0]
    if n_columns == 1:
        np.testing.assert_allclose(slope, 3.0, atol=1e-6)
        assert result.draws["tau"].max() < 1e-6
    else:  # more columns than rows: many fit
        assert abs(slope.mean() - 3.0) < 2 * slope.std()
    more = resume(traced, result, settings, 5, 100)
    assert more["beta"].shape == (1, 100, n_columns)


def test_closed_form_draws_go_on_as_the_fit_did():
    X, y = made()
    traced, settings, result = run(standardised(X, y), {"X": X, "y": y})
    more = resume(traced, result, settings, 9, 1000)
    for name, draw in result.draws.items():
        assert_moments(more[name], draw[0].mean(0), draw[0].std(0))


# Refusals


def beta(X, y=None):
    a = numpyro.sample("a", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Beta(jnp.exp(a + X[:, 0]), 2.0), obs=y)


def binomial(X, y=None, *, trials):
    a = numpyro.sample("a", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Binomial(trials, logits=a + X[:, 0]), obs=y)


def truncated(X, y=None):
    a = numpyro.sample("a", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.TruncatedNormal(a, 1.0, low=X[:, 0]), obs=y)


@pytest.mark.parametrize("inference", ["auto", "svi", "mcmc"])
@pytest.mark.parametrize(
    ("kernel", "change"),
    [
        (beta, {"y": 0.0}),
        (beta, {"y": 1.0}),
        (binomial, {"y": 9}),
        (truncated, {"y": -7.0}),
    ],
)
def test_outcomes_outside_a_support_that_depends_on_data_are_named(kernel, change, inference):
    rng = np.random.default_rng(0)
    rows = {"X": rng.normal(size=(12, 1)) * 0.1, "y": np.full(12, 0.5)}
    if kernel is binomial:
        rows |= {"y": np.full(12, 3), "trials": np.full(12, 5)}
    rows["y"] = rows["y"].copy()
    rows["y"][[2, 7]] = change["y"]
    with pytest.raises(ValueError, match=r"Site 'y': the values in 2 row\(s\), 2, 7, lie outside the support"):
        run(kernel, rows, inference)


def of_logarithms(X, y=None):
    b = numpyro.sample("b", dist.Normal(0.0, 1.0))
    numpyro.factor("penalty", jnp.log(-1.0 - b**2))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(b * X[:, 0], 1.0), obs=y)


@pytest.mark.parametrize("inference", ["auto", "svi", "mcmc"])
def test_a_posterior_without_density_is_refused(inference):
    rows = {"X": np.ones((10, 1)), "y": np.ones(10)}
    with pytest.raises(ValueError, match="no finite density at the prior's median, nor at any of 64 draws"):
        run(of_logarithms, rows, inference)


# Many rows


def poisson(X, y=None):
    coef = numpyro.sample("coef", dist.Normal(0.0, 3.0).expand([3]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Poisson(jnp.exp(X @ coef)), obs=y)


@pytest.fixture(scope="module")
def counts():
    rng = np.random.default_rng(5)
    X = np.column_stack([np.ones(3000), rng.normal(size=(3000, 2))])
    return X, rng.poisson(np.exp(X @ [0.5, 0.8, -0.4])).astype(float)


@pytest.fixture
def few_rows_are_many(monkeypatch):
    monkeypatch.setattr(shuffle, "BLOCK_ROWS", 100)
    monkeypatch.setattr(shuffle, "WINDOW_ROWS", 1600)
    monkeypatch.setattr(explore, "SHARE", 4)
    monkeypatch.setattr(explore, "BLOCK_ROWS", 700)


@pytest.mark.parametrize("where", ["in memory", "on disk"])
def test_many_rows_are_looked_at_in_blocks(counts, few_rows_are_many, monkeypatch, tmp_path, where):
    X, y = counts
    weight = np.random.default_rng(6).integers(0, 4, size=3000).astype(float)
    rows = {"X": X, "y": y}
    if where == "on disk":
        monkeypatch.setattr(explore, "HELD_BYTES", 0)
        np.save(tmp_path / "X.npy", X)
        rows["X"] = np.load(tmp_path / "X.npy", mmap_mode="r")
    *_, result = run(poisson, rows, weight=weight)
    assert result.diagnostics["rung"] == "mode"
    (rung,) = result.diagnostics["rungs"]
    assert rung["evaluations"] < 4000 + 30  # draws, and steps over all rows
    # With thousands of rows the posterior is normal around its mode, which Newton's method finds.
    coef = np.zeros(3)
    for _ in range(20):
        rate = weight * np.exp(X @ coef)
        precision = X.T @ (rate[:, None] * X) + np.eye(3) / 9
        coef = coef + np.linalg.solve(precision, X.T @ (weight * y - rate) - coef / 9)
    assert_moments(result.draws["coef"], coef, np.sqrt(np.diag(np.linalg.inv(precision))))


def test_outcomes_outside_the_support_are_named_among_many(counts, few_rows_are_many):
    X, y = counts
    y = y.copy()
    y[[1800, 2999]] = -1
    with pytest.raises(ValueError, match=r"Site 'y': the values in 1 row\(s\), (1800|2999), lie outside the support"):
        run(poisson, {"X": X, "y": y})


def test_closed_form_of_blocks_is_that_of_all_rows(monkeypatch):
    X, y = made()
    weight = np.linspace(0.0, 2.0, 60)
    kernel = standardised(X, y)
    whole = kernel.closed_form(X, y, weight)
    monkeypatch.setattr(default, "BLOCK_ROWS", 7)
    for found, expected in zip(kernel.closed_form(X, y, weight), whole, strict=True):
        np.testing.assert_allclose(np.abs(found), np.abs(expected), rtol=1e-9)
