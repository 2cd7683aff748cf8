"""Outcomes that NumPy draws on the host: as they are distributed, typed and used."""

import inspect
import warnings
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.contrib.control_flow import cond, scan
from scipy import stats

from skaimz import NumPyroImpactClassifier, NumPyroImpactRegressor, metrics
from skaimz.exceptions import OutputWarning
from skaimz.sampling import Limits, limits, proofs
from skaimz.sampling.host_distributions import HOST_DISTRIBUTIONS, host_distribution, parameters_of

N_DRAWS, N_ROWS = 40, 60
X = np.linspace(-1, 1, 2 * N_ROWS).reshape(N_ROWS, 2)
LEVEL = {"level": np.zeros(N_DRAWS)}


def two(first, second):
    return np.array([first, second])


# Two distributions of each class, and SciPy's.
DISTRIBUTIONS = {
    "Poisson": (dist.Poisson, {"rate": two(0.3, 40.0)}, lambda rate: stats.poisson(rate)),
    "GammaPoisson": (
        dist.GammaPoisson,
        {"concentration": two(0.5, 8.0), "rate": two(2.0, 0.4)},
        lambda concentration, rate: stats.nbinom(concentration, rate / (1 + rate)),
    ),
    "NegativeBinomial2": (
        dist.NegativeBinomial2,
        {"mean": two(0.7, 20.0), "concentration": two(2.0, 5.0)},
        lambda mean, concentration: stats.nbinom(concentration, concentration / (concentration + mean)),
    ),
    "NegativeBinomialProbs": (
        dist.NegativeBinomialProbs,
        {"total_count": two(3.0, 7.5), "probs": two(0.2, 0.7)},
        lambda total_count, probs: stats.nbinom(total_count, 1 - probs),
    ),
    "NegativeBinomialLogits": (
        dist.NegativeBinomialLogits,
        {"total_count": two(3.0, 7.5), "logits": two(-1.5, 0.8)},
        lambda total_count, logits: stats.nbinom(total_count, 1 / (1 + np.exp(logits))),
    ),
    "Gamma": (
        dist.Gamma,
        {"concentration": two(0.4, 6.0), "rate": two(3.0, 0.2)},
        lambda concentration, rate: stats.gamma(concentration, scale=1 / rate),
    ),
    "Chi2": (dist.Chi2, {"df": two(1.0, 9.0)}, lambda df: stats.chi2(df)),
    "Beta": (
        dist.Beta,
        {"concentration1": two(0.6, 5.0), "concentration0": two(2.0, 3.0)},
        lambda concentration1, concentration0: stats.beta(concentration1, concentration0),
    ),
    "StudentT": (
        dist.StudentT,
        {"df": two(3.0, 20.0), "loc": two(-5.0, 2.0), "scale": two(0.3, 4.0)},
        lambda df, loc, scale: stats.t(df, loc, scale),
    ),
    "BinomialProbs": (
        dist.BinomialProbs,
        {"probs": two(0.1, 0.6), "total_count": np.array([4, 50])},
        lambda probs, total_count: stats.binom(total_count, probs),
    ),
    "BinomialLogits": (
        dist.BinomialLogits,
        {"logits": two(-2.0, 0.5), "total_count": np.array([4, 50])},
        lambda logits, total_count: stats.binom(total_count, 1 / (1 + np.exp(-logits))),
    ),
}
every_distribution = pytest.mark.parametrize("name", DISTRIBUTIONS)


def agrees(sample, distribution):
    """Whether a sample is of a distribution of SciPy, by a test at the level of one in a thousand."""
    if not hasattr(distribution, "pmf"):
        return stats.kstest(sample, distribution.cdf).pvalue > 1e-3
    # Values between quantiles are counted together, so that none is rare.
    edges = np.unique(distribution.ppf(np.linspace(0.02, 0.98, 30)))
    counts = np.bincount(np.searchsorted(edges, sample), minlength=len(edges) + 1)
    expected = len(sample) * np.diff(np.concatenate([[0], distribution.cdf(edges), [1]]))
    kept = expected > 0
    assert not counts[~kept].any()
    return stats.chisquare(counts[kept], expected[kept]).pvalue > 1e-3


def on_host(distribution, dtype=np.float64, seed=0):
    """Draw one outcome for every entry of a distribution's shape, as a pass does."""
    base = distribution
    while hasattr(base, "base_dist"):
        base = base.base_dist
    with jax.enable_x64(dtype == np.float64):
        parameters = {name: np.asarray(array) for name, array in parameters_of(distribution).items()}
        kind = jax.eval_shape(distribution.sample, jax.random.key(0)).dtype
    return host_distribution(type(base)).draw(np.random.default_rng(seed), parameters, np.dtype(kind))


def drawn_from(distribution):
    """Return a kernel whose outcome has a distribution that is given the rows, and sites before and after it."""

    def kernel(X, y=None):
        level = numpyro.sample("level", dist.Normal(0.0, 1.0))
        before = numpyro.deterministic("before", jnp.exp(level + X[:, 0]))
        with numpyro.plate("rows", X.shape[0]):
            outcome = numpyro.sample("y", distribution(before), obs=y)
        numpyro.deterministic("double", 2 * outcome)

    return kernel


def model_of(distribution, draws=LEVEL):
    return NumPyroImpactRegressor(drawn_from(distribution), posterior=draws, random_state=3)


def outcomes_of(model, X=X, **settings):
    return model.sample_posterior_predictive_on_batch(X, return_datatree=False, return_sites=["y"], **settings)["y"][0]


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch):
    monkeypatch.setattr(limits, "DEFAULT", Limits(most_tile_rows=16))


def test_every_distribution_is_tested():
    assert HOST_DISTRIBUTIONS.keys() - {distribution for distribution, _, _ in DISTRIBUTIONS.values()} == {
        dist.BetaProportion
    }
    assert host_distribution(dist.BetaProportion) is host_distribution(dist.Beta)
    assert host_distribution(dist.Normal) is None


def test_other_devices_draw_themselves(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert all(host_distribution(distribution) is None for distribution in HOST_DISTRIBUTIONS)


# Distributions


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@every_distribution
def test_draws_are_distributed_as_scipy_says(name, dtype):
    distribution, parameters, expected = DISTRIBUTIONS[name]
    cast = {key: value.astype(dtype) if value.dtype.kind == "f" else value for key, value in parameters.items()}
    sample = on_host(distribution(**cast).expand((20_000, 2)), dtype)
    assert sample.shape == (20_000, 2)
    for place in range(2):
        one = expected(**{key: value[place] for key, value in parameters.items()})
        assert agrees(sample[:, place], one)
        error = np.sqrt(one.var() / len(sample))
        assert abs(sample[:, place].mean() - one.mean()) < 5 * error


WRAPPERS = {
    "expand": lambda distribution: distribution.expand((5000, 2)),
    "to_event": lambda distribution: distribution.expand((5000, 2)).to_event(1),
    "event first": lambda distribution: distribution.to_event(1).expand((5000,)),
    "mask": lambda distribution: distribution.expand((5000, 2)).mask(False),
    "mask of rows": lambda distribution: distribution.to_event(1).expand((5000,)).mask(np.arange(5000) % 2 == 0),
    "all": lambda distribution: distribution.mask(True).to_event(1).expand((5000,)).to_event(1).mask(True),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("name", ["Poisson", "StudentT", "BinomialLogits"])
def test_wrapped_distributions(name, wrapper):
    distribution, parameters, expected = DISTRIBUTIONS[name]
    sample = on_host(WRAPPERS[wrapper](distribution(**parameters)))
    assert sample.shape == (5000, 2)
    for place in range(2):
        assert agrees(sample[:, place], expected(**{key: value[place] for key, value in parameters.items()}))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@every_distribution
def test_draws_through_the_estimator(name, dtype):
    distribution, parameters, expected = DISTRIBUTIONS[name]
    second = {key: value[1] for key, value in parameters.items()}
    model = model_of(lambda before: distribution(**second).expand(before.shape))
    rows = X.astype(dtype)
    sample = outcomes_of(model, rows)
    with jax.enable_x64(dtype == np.float64):
        assert sample.dtype == jax.eval_shape(distribution(**second).sample, jax.random.key(0)).dtype
    assert agrees(sample.ravel(), expected(**second))
    levels = np.quantile(sample, [0.25, 0.5], axis=0).T
    np.testing.assert_allclose(model.predict_quantiles(rows, [0.25, 0.5], method="draws"), levels, rtol=1e-6)


def test_parameters_of_rows_and_draws_are_used():
    level = np.linspace(0, 3, N_DRAWS)
    sample = outcomes_of(model_of(dist.Poisson, {"level": level}), np.repeat(X, 10, axis=0))
    rate = np.exp(level[:, None] + np.repeat(X[:, 0], 10))
    residual = (sample - rate) / np.sqrt(rate)
    for axis in (0, 1):
        assert abs(residual.mean(axis=axis)).max() < 5 / np.sqrt(residual.shape[axis])
    assert abs(residual.var() - 1) < 5 * np.sqrt(2 / residual.size)


def test_vectors_of_distributions():
    rates = jnp.array([0.5, 3.0, 20.0])
    one = np.asarray(rates)

    def kernel(X, y=None):
        level = numpyro.sample("level", dist.Normal(0.0, 1.0))
        with numpyro.plate("rows", X.shape[0]):
            numpyro.sample("y", dist.Poisson(rates * jnp.exp(level)).to_event(1), obs=y)

    sample = outcomes_of(NumPyroImpactRegressor(kernel, posterior=LEVEL, random_state=3))
    assert sample.shape == (N_DRAWS, N_ROWS, 3)
    for place in range(3):
        assert agrees(sample[..., place].ravel(), stats.poisson(one[place]))


# What is computed from outcomes


def counts(before):
    return dist.Poisson(3 * before)


def sizes(before):
    return dist.Gamma(2.0, 1 / before)


@pytest.mark.parametrize(("distribution", "variance"), [(counts, 1.0), (sizes, 0.5)])
def test_sites_after_the_outcome_are_computed_from_it(distribution, variance):
    """JAX draws the outcome then."""
    found = model_of(distribution).sample_posterior_predictive_on_batch(X, return_datatree=False)
    assert set(found) == {"y", "before", "double"}
    assert found["double"].dtype == found["y"].dtype
    np.testing.assert_array_equal(found["double"], 2 * found["y"])
    mean = (3 if distribution is counts else 2) * np.exp(X[:, 0])
    residual = (found["y"] - mean) / (np.sqrt(mean) if distribution is counts else mean)
    assert abs(residual.mean()) < 5 * residual.std() / np.sqrt(residual.size)
    assert abs(residual.var() - variance) < 5 * (residual**2).std() / np.sqrt(residual.size)


def test_sites_before_the_outcome_change_nothing():
    model = model_of(counts)
    both = model.sample_posterior_predictive_on_batch(X, return_sites=["before", "y"], return_datatree=False)
    np.testing.assert_array_equal(both["y"][0], outcomes_of(model))
    np.testing.assert_allclose(both["before"][0], np.tile(np.exp(X[:, 0]), (N_DRAWS, 1)), rtol=1e-12)
    late = model.sample_posterior_predictive_on_batch(X, return_sites=["double"], return_datatree=False)
    assert abs(late["double"].mean() / 2 - both["y"].mean()) < 5 * np.sqrt(2 * 3.6 / both["y"].size)


def test_outcomes_that_are_given_are_not_drawn():
    sample = outcomes_of(model_of(counts), condition={"y": np.arange(N_ROWS)})
    np.testing.assert_array_equal(sample, np.tile(np.arange(N_ROWS), (N_DRAWS, 1)))


def test_the_host_is_in_use(monkeypatch):
    """So that the other tests test what they say."""
    model = model_of(counts)
    first = outcomes_of(model)
    monkeypatch.setattr(proofs, "host_distribution", lambda distribution: None)
    second = outcomes_of(model)
    assert (first != second).any()
    assert first.dtype == second.dtype
    assert abs(first.mean() - second.mean()) < 5 * np.sqrt(2 * first.mean() / first.size)


# Outcomes in the bodies of control flow


def scanned(distribution):
    """Each row's outcome is drawn around that of the row before."""

    def kernel(X, y=None):
        level = numpyro.sample("level", dist.Normal(0.0, 1.0))

        def step(before, row):
            x, outcome = row if y is not None else (row, None)
            drawn = numpyro.sample("y", distribution(before, level + x[0]), obs=outcome)
            return drawn.astype(X.dtype), None

        scan(step, jnp.zeros((), X.dtype), (X, y) if y is not None else X)

    return kernel


def branched(distribution):
    def kernel(X, y=None):
        level = numpyro.sample("level", dist.Normal(0.0, 1.0))

        def branch(x):
            with numpyro.plate("rows", x.shape[0]):
                numpyro.sample("y", distribution(0.0, level + x), obs=y)

        cond(level > 0, branch, branch, X[:, 0])

    return kernel


@pytest.mark.filterwarnings("ignore::skaimz.exceptions.SpeedWarning")
@pytest.mark.parametrize("kernel", [scanned, branched])
@pytest.mark.parametrize(
    ("distribution", "expected"),
    [
        (lambda _, x: dist.Poisson(jnp.exp(x)), lambda x: stats.poisson(np.exp(x))),
        (lambda _, x: dist.StudentT(5.0, x, 0.5), lambda x: stats.t(5.0, x, 0.5)),
    ],
    ids=["Poisson", "StudentT"],
)
def test_outcomes_in_bodies(kernel, distribution, expected):
    rows = np.full((500, 2), 0.4)
    model = NumPyroImpactRegressor(kernel(distribution), posterior=LEVEL, random_state=3, dtype="float64")
    sample = outcomes_of(model, rows)
    assert agrees(sample.ravel(), expected(0.4))
    levels = np.quantile(sample, [0.05, 0.95], axis=0).T
    np.testing.assert_allclose(model.predict_interval(rows, 0.9, method="draws"), levels, rtol=1e-6)


@pytest.mark.filterwarnings("ignore::skaimz.exceptions.SpeedWarning")
def test_outcomes_that_follow_one_another_are_one_path():
    """Steps of a walk are as long as one step, and its end is as far as all of them take it."""
    walk = scanned(lambda before, x: dist.StudentT(50.0, before, 1.0))
    sample = outcomes_of(NumPyroImpactRegressor(walk, posterior=LEVEL, random_state=3, dtype="float64"))
    steps = np.diff(sample, axis=1, prepend=0.0)
    assert agrees(steps.ravel(), stats.t(50.0))
    assert 0.7 < sample[:, -1].std() / np.sqrt(N_ROWS * 50 / 48) < 1.4


# Parameters at the edge

INF, NAN, LEAST, MOST = np.inf, np.nan, np.iinfo(np.int64).min, np.iinfo(np.int64).max
TINY, NEXT = np.finfo(float).tiny, 1 - np.finfo(float).eps
# The outcome to which a distribution shrinks as its parameters approach the edge of what they may be.
LIMITS = [
    (dist.Poisson, (0.0,), 0),
    (dist.Poisson, (-0.0,), 0),
    (dist.Poisson, (INF,), MOST),
    (dist.NegativeBinomial2, (0.0, 3.0), 0),
    (dist.NegativeBinomial2, (-0.0, 3.0), 0),
    (dist.NegativeBinomial2, (1e-320, 3.0), 0),
    (dist.NegativeBinomial2, (INF, 3.0), MOST),
    (dist.NegativeBinomialProbs, (4.0, 0.0), 0),
    (dist.NegativeBinomialProbs, (0.0, 0.5), 0),
    (dist.NegativeBinomialProbs, (4.0, 1.0), MOST),
    (dist.NegativeBinomialLogits, (4.0, -INF), 0),
    (dist.NegativeBinomialLogits, (4.0, -800.0), 0),
    (dist.NegativeBinomialLogits, (4.0, INF), MOST),
    (dist.GammaPoisson, (0.0, 2.0), 0),
    (dist.GammaPoisson, (2.0, INF), 0),
    (dist.GammaPoisson, (2.0, 0.0), MOST),
    (dist.GammaPoisson, (1e-300, 0.0), MOST),
    (dist.Gamma, (0.0, 2.0), 0.0),
    (dist.Gamma, (2.0, INF), 0.0),
    (dist.Gamma, (2.0, 0.0), INF),
    (dist.Gamma, (INF, 2.0), INF),
    (dist.Chi2, (0.0,), 0.0),
    (dist.Chi2, (INF,), INF),
    (dist.Beta, (0.0, 2.0), TINY),
    (dist.Beta, (2.0, 0.0), NEXT),
    (dist.BetaProportion, (0.0, 2.0), TINY),
    (dist.BetaProportion, (1.0, 2.0), NEXT),
    (dist.StudentT, (3.0, 7.0, 0.0), 7.0),
    (dist.StudentT, (3.0, INF, 2.0), INF),
    (dist.StudentT, (3.0, -INF, 2.0), -INF),
    (dist.BinomialProbs, (0.0, 7), 0),
    (dist.BinomialProbs, (1.0, 7), 7),
    (dist.BinomialProbs, (0.5, 0), 0),
    (dist.BinomialLogits, (-INF, 7), 0),
    (dist.BinomialLogits, (-800.0, 7), 0),
    (dist.BinomialLogits, (INF, 7), 7),
]
# Beyond the edge, and where the limit depends on how it is approached, there is no outcome.
NOTHING = [
    (dist.Poisson, (-1.0,)),
    (dist.Poisson, (NAN,)),
    (dist.NegativeBinomial2, (-1.0, 2.0)),
    (dist.NegativeBinomial2, (NAN, 2.0)),
    (dist.NegativeBinomial2, (0.0, 0.0)),
    (dist.NegativeBinomialProbs, (2.0, -0.1)),
    (dist.NegativeBinomialProbs, (2.0, 1.5)),
    (dist.NegativeBinomialProbs, (NAN, 0.5)),
    (dist.NegativeBinomialLogits, (2.0, NAN)),
    (dist.GammaPoisson, (-1.0, 2.0)),
    (dist.GammaPoisson, (2.0, -1.0)),
    (dist.GammaPoisson, (0.0, 0.0)),
    (dist.GammaPoisson, (INF, INF)),
    (dist.Gamma, (-1.0, 2.0)),
    (dist.Gamma, (2.0, -1.0)),
    (dist.Gamma, (NAN, 2.0)),
    (dist.Gamma, (2.0, NAN)),
    (dist.Chi2, (-1.0,)),
    (dist.Chi2, (NAN,)),
    (dist.Beta, (0.0, 0.0)),
    (dist.Beta, (-1.0, 2.0)),
    (dist.Beta, (2.0, NAN)),
    (dist.BetaProportion, (NAN, 2.0)),
    (dist.BetaProportion, (1.5, 2.0)),
    (dist.StudentT, (0.0, 1.0, 2.0)),
    (dist.StudentT, (NAN, 1.0, 2.0)),
    (dist.StudentT, (3.0, NAN, 2.0)),
    (dist.StudentT, (3.0, 1.0, -2.0)),
    (dist.StudentT, (3.0, 1.0, NAN)),
    (dist.BinomialProbs, (-0.1, 7)),
    (dist.BinomialProbs, (1.5, 7)),
    (dist.BinomialProbs, (NAN, 7)),
    (dist.BinomialProbs, (0.5, -1)),
    (dist.BinomialLogits, (NAN, 7)),
]
SMALLEST = {np.dtype(np.int64): LEAST, np.dtype(np.int32): np.iinfo(np.int32).min}


def drawn_at(distribution, parameters):
    """Draw at parameters that NumPyro refuses outside a trace, on the host and by NumPyro's own sampler."""
    with jax.enable_x64():
        given = {key: np.repeat(value, 300) if np.ndim(value) == 0 else value for key, value in parameters.items()}
        found = jax.jit(lambda given: parameters_of(distribution(**given)))(given)
        own = np.asarray(jax.jit(lambda given: distribution(**given).sample(jax.random.key(0)))(given))
    found = {name: np.asarray(array) for name, array in found.items()}
    return host_distribution(distribution).draw(np.random.default_rng(0), found, own.dtype), own


def named(distribution, values):
    return dict(zip(inspect.signature(distribution).parameters, values, strict=False))


def case_of(case):
    return f"{case[0].__name__}{case[1]}" if isinstance(case, tuple) else None


@pytest.mark.parametrize("case", LIMITS, ids=case_of)
def test_at_the_edge_an_outcome_is_the_limit(case):
    distribution, arguments, limit = case
    sample, own = drawn_at(distribution, named(distribution, arguments))
    if limit == MOST:
        # Within what NumPy's sampler adds to the greatest rate that it takes.
        assert (sample > 0.97 * MOST).all()
    else:
        np.testing.assert_array_equal(sample, limit)
        np.testing.assert_array_equal(own, limit)


@pytest.mark.parametrize("case", NOTHING, ids=case_of)
def test_beyond_the_edge_there_is_no_outcome(case):
    distribution, arguments = case
    sample, _ = drawn_at(distribution, named(distribution, arguments))
    np.testing.assert_array_equal(sample, SMALLEST.get(sample.dtype, np.nan))


def test_every_distribution_is_drawn_from_at_its_edge():
    assert (
        {distribution for distribution, *_ in LIMITS}
        == {distribution for distribution, _ in NOTHING}
        == HOST_DISTRIBUTIONS.keys()
    )


IMPOSSIBLE = {
    "Poisson": {"rate": NAN},
    "GammaPoisson": {"rate": -1.0},
    "NegativeBinomial2": {"mean": NAN},
    "Gamma": {"concentration": -1.0},
    "Beta": {"concentration0": NAN},
    "StudentT": {"scale": -1.0},
    "BinomialProbs": {"probs": 1.5},
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_one_impossible_parameter_leaves_the_others_as_they_are(name):
    distribution, parameters, expected = DISTRIBUTIONS[name]
    one = {key: value[1] for key, value in parameters.items()}
    bad = np.arange(4000) % 4 == 0
    mixed = {key: np.where(bad, IMPOSSIBLE[name].get(key, value), value) for key, value in one.items()}
    sample, _ = drawn_at(distribution, mixed)
    np.testing.assert_array_equal(sample[bad], SMALLEST.get(sample.dtype, np.nan))
    assert agrees(sample[~bad], expected(**one))


def test_counts_of_trials_that_float32_does_not_hold():
    count = 2**24 + 1
    assert (on_host(dist.BinomialProbs(np.ones(5, np.float32), np.full(5, count)), np.float32) == count).all()


# No outcome, as it is seen


def impossible(distribution):
    """Return a kernel whose outcome has no distribution where the first column is not positive."""
    return lambda before: distribution(jnp.where(before > 1, before, jnp.nan))


WITHOUT_OUTCOME = {
    "host, counts": dist.Poisson,
    "host, floats": dist.Chi2,
    "JAX, counts": lambda rate: dist.ZeroInflatedPoisson(0.3, rate),
    "JAX, classes": lambda rate: dist.Categorical(
        probs=jnp.stack([rate, 1 + rate, rate], -1) / (1 + 3 * rate)[..., None]
    ),
    "JAX, floats": lambda rate: dist.Normal(rate, 1.0),
}
BAD = X[:, 0] <= 0


@pytest.mark.parametrize("name", WITHOUT_OUTCOME)
def test_rows_without_an_outcome(name):
    model = model_of(impossible(WITHOUT_OUTCOME[name]))
    if "floats" in name:
        sample, nothing = outcomes_of(model), np.nan
    else:
        with pytest.warns(OutputWarning, match="no value for some rows"):
            sample = outcomes_of(model)
        nothing = np.iinfo(sample.dtype).min
        with pytest.warns(OutputWarning, match="no value for some rows"):
            assert (model.sample_y(X)[BAD] == nothing).all()
    np.testing.assert_array_equal(sample[:, BAD], nothing)
    assert (sample[:, ~BAD] > -10).all()
    with pytest.warns(OutputWarning, match="quantiles are NaN"):
        exact = model.predict_quantiles(X, [0.5])[:, 0]
    np.testing.assert_array_equal(np.isnan(exact), BAD)
    with pytest.warns(OutputWarning, match="quantiles are NaN"):
        quantiles = model.predict_quantiles(X, [0.5], method="draws")[:, 0]
    np.testing.assert_array_equal(np.isnan(quantiles), BAD)
    np.testing.assert_allclose(quantiles[~BAD], np.quantile(sample[:, ~BAD], 0.5, axis=0), rtol=1e-6)
    y = np.ones(N_ROWS)
    for scorer in (metrics.NegCRPS(), metrics.NegPinballLoss(), metrics.IntervalCoverage(), metrics.NegIntervalWidth()):
        assert np.isnan(scorer(model, X, y))
        assert np.isfinite(scorer(model, X[~BAD], y[~BAD]))


@pytest.mark.parametrize("average", [True, False])
def test_effects_on_rows_without_an_outcome(average):
    model = model_of(impossible(dist.Poisson))
    effects = {
        name: model.estimate_effect(rows, scenarios={"same": {}}, of="outcome", average=average)["same"]["effect"]
        for name, rows in {"good": X[~BAD], "bad": X}.items()
        if average or name == "good"
    }
    np.testing.assert_array_equal(effects["good"], 0.0)
    if average:
        assert np.isnan(effects["bad"]).all()


def test_classes_without_an_outcome():
    model = NumPyroImpactClassifier(drawn_from(impossible(WITHOUT_OUTCOME["JAX, classes"])), posterior=LEVEL)
    model.fit(X, np.arange(N_ROWS) % 3)
    with pytest.warns(OutputWarning, match=f"probabilities of {BAD.sum()} rows are NaN"):
        np.testing.assert_array_equal(np.isnan(model.predict_proba(X)).any(axis=1), BAD)
    with (
        pytest.warns(OutputWarning, match="rows are NaN"),
        pytest.raises(ValueError, match="Row 0 has no most probable"),
    ):
        model.predict(X)
    with pytest.warns(OutputWarning), pytest.raises(ValueError, match="no label to draw"):
        model.sample_y(X)
    assert set(model.predict(X[~BAD])) <= {0, 1, 2}


@pytest.mark.parametrize(("rate", "dtype"), [(1.5e9, np.float32), (1e12, np.float64)])
def test_high_rates(rate, dtype):
    sample = outcomes_of(model_of(lambda before: dist.Poisson(jnp.full_like(before, rate))), X.astype(dtype))
    np.testing.assert_allclose(sample.mean(), rate, rtol=1e-3)


EXTREME = {
    "heavy tails": lambda before: dist.StudentT(jnp.full_like(before, 0.1)),
    "high mean": lambda before: dist.GammaPoisson(2.0, jnp.full_like(before, 1e-38) / 10),
    "infinite": lambda before: dist.GammaPoisson(jnp.full_like(before, jnp.inf), 1.0),
}


@pytest.mark.parametrize("distribution", EXTREME.values(), ids=EXTREME)
def test_extreme_parameters_neither_warn_nor_fail(distribution):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outcomes_of(model_of(distribution), np.tile(X, (5, 1)).astype(np.float32))


# Distributions that only seem to be known


class Gamma(dist.Distribution):
    """A distribution of one's own that happens to be called as NumPyro's."""

    arg_constraints: ClassVar = {"size": dist.constraints.positive}
    support = dist.constraints.positive

    def __init__(self, size):
        self.size = size
        super().__init__(jnp.shape(size))

    def sample(self, key, sample_shape=()):
        return self.size * jax.random.exponential(key, sample_shape + self.batch_shape)

    def log_prob(self, value):
        return -value / self.size - jnp.log(self.size)


class Poisson(dist.Poisson):
    """Poisson's distribution, of even numbers only."""

    def sample(self, key, sample_shape=()):
        return 2 * super().sample(key, sample_shape)


class EvenPoisson(Poisson):
    pass


def test_foreign_distributions_of_the_same_name():
    sample = outcomes_of(model_of(Gamma)) / np.exp(X[:, 0])
    assert stats.kstest(sample.ravel(), "expon").pvalue > 1e-3


@pytest.mark.parametrize(
    "distribution",
    [
        EvenPoisson,
        Poisson,
    ],
)
def test_samplers_of_subclasses_are_used(distribution):
    sample = outcomes_of(model_of(distribution))
    np.testing.assert_array_equal(sample % 2, 0)


def test_outcomes_with_a_sample_shape():
    def kernel(X, y=None):
        level = numpyro.sample("level", dist.Normal(0.0, 1.0))
        outcome = None if y is None else y.T
        numpyro.sample("y", dist.Poisson(jnp.exp(level + X[:, 0])), obs=outcome, sample_shape=(3,))

    sample = outcomes_of(NumPyroImpactRegressor(kernel, posterior=LEVEL, random_state=3))
    assert sample.shape == (N_DRAWS, 3, N_ROWS)
