"""Cdfs, quantiles and probabilities against SciPy, and against NumPyro's own sampler."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import stats

from skaimz import NumPyroImpactRegressor
from skaimz.sampling import Limits, limits
from skaimz.sampling.composed import univariate

# NumPyro's distribution, made in double precision, SciPy's, and values inside and outside of the support.
REAL, COUNTS, SHARES = [-3.0, -0.2, 0.0, 1.3, 30.0], [-1.0, 0.0, 2.0, 2.5, 7.0, 10.0, 40.0], [-1.0, 0.0, 0.3, 0.99, 2.0]
FAMILIES = {
    "normal": (lambda: dist.Normal(1.0, 2.0), stats.norm(1, 2), REAL),
    "student": (lambda: dist.StudentT(3.0, 1.0, 2.0), stats.t(3, 1, 2), REAL),
    "student of few": (lambda: dist.StudentT(0.7, 1.0, 2.0), stats.t(0.7, 1, 2), [*REAL, -1e6, -1e22]),
    "student of many": (lambda: dist.StudentT(200.0, 0.0, 1.0), stats.t(200), REAL),
    "laplace": (lambda: dist.Laplace(1.0, 2.0), stats.laplace(1, 2), REAL),
    "logistic": (lambda: dist.Logistic(1.0, 2.0), stats.logistic(1, 2), REAL),
    "cauchy": (lambda: dist.Cauchy(1.0, 2.0), stats.cauchy(1, 2), REAL),
    "gumbel": (lambda: dist.Gumbel(1.0, 2.0), stats.gumbel_r(1, 2), REAL),
    "half normal": (lambda: dist.HalfNormal(2.0), stats.halfnorm(scale=2), REAL),
    "half cauchy": (lambda: dist.HalfCauchy(2.0), stats.halfcauchy(scale=2), REAL),
    "log-normal": (lambda: dist.LogNormal(0.5, 0.7), stats.lognorm(0.7, scale=np.exp(0.5)), REAL),
    "exponential": (lambda: dist.Exponential(2.0), stats.expon(scale=0.5), REAL),
    "gamma": (lambda: dist.Gamma(2.5, 3.0), stats.gamma(2.5, scale=1 / 3), [-1.0, 0.2, 0.9, 4.0, 30.0]),
    "gamma of many": (lambda: dist.Gamma(250.0, 3.0), stats.gamma(250, scale=1 / 3), [60.0, 80.0, 83.0, 100.0]),
    "chi square": (lambda: dist.Chi2(3.0), stats.chi2(3), [0.2, 3.0, 20.0]),
    "inverse gamma": (lambda: dist.InverseGamma(3.0, 2.0), stats.invgamma(3, scale=2), [-1.0, 0.2, 0.9, 4.0]),
    "weibull": (lambda: dist.Weibull(2.0, 1.5), stats.weibull_min(1.5, scale=2), [-1.0, 0.5, 2.0, 9.0]),
    "pareto": (lambda: dist.Pareto(2.0, 3.0), stats.pareto(3, scale=2), [1.0, 2.5, 9.0]),
    "uniform": (lambda: dist.Uniform(-1.0, 2.0), stats.uniform(-1, 3), [-3.0, 0.0, 1.5, 5.0]),
    "beta": (lambda: dist.Beta(2.0, 3.5), stats.beta(2, 3.5), SHARES),
    "truncated": (lambda: dist.TruncatedNormal(low=0.5, high=2.0), stats.truncnorm(0.5, 2), [0.2, 0.6, 1.9, 3.0]),
    "far tail": (lambda: dist.TruncatedNormal(0.0, 1.0, low=9.0), stats.truncnorm(9, np.inf), [8.0, 9.05, 9.3]),
    "bernoulli": (lambda: dist.Bernoulli(0.3), stats.bernoulli(0.3), [-1.0, 0.0, 0.5, 1.0]),
    "poisson": (lambda: dist.Poisson(4.0), stats.poisson(4), COUNTS),
    "negative binomial": (lambda: dist.NegativeBinomial2(4.0, 2.0), stats.nbinom(2, 2 / 6), COUNTS),
    "geometric": (lambda: dist.Geometric(0.3), stats.geom(0.3, loc=-1), COUNTS),
    "binomial": (lambda: dist.Binomial(10, 0.3), stats.binom(10, 0.3), COUNTS),
    "beta-binomial": (lambda: dist.BetaBinomial(2.0, 3.0, 10), stats.betabinom(10, 2, 3), COUNTS),
    "whole numbers": (lambda: dist.DiscreteUniform(-1, 7), stats.randint(-1, 8), COUNTS),
    "ordinal": (
        lambda: dist.OrderedLogistic(0.3, jnp.array([-1.0, 1.0])),
        stats.rv_discrete(values=([0, 1, 2], np.diff([0, *stats.logistic.cdf(np.array([-1, 1]) - 0.3), 1]))),
        [-1.0, 0.0, 1.0, 1.5, 2.0, 3.0],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_families_are_those_of_scipy(name):
    ours, theirs, values = FAMILIES[name]
    with jax.enable_x64():
        cdf, slope = jax.jit(lambda values: univariate(ours())(values))(np.array(values))
    np.testing.assert_allclose(cdf, theirs.cdf(values), rtol=1e-7, atol=1e-9)
    whole = not hasattr(theirs, "pdf") or isinstance(theirs, stats.rv_discrete)
    density = theirs.pmf(np.floor(values)) if whole or hasattr(theirs.dist, "pmf") else theirs.pdf(values)
    # At an end of the support the slope may be none.
    np.testing.assert_allclose(np.where(np.isnan(slope), density, slope), density, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", FAMILIES)
def test_ends(name, dtype):
    """Quantiles are searched for from the ends of the support, where a function may have no value."""
    with jax.enable_x64(dtype == np.float64):
        ours = univariate(FAMILIES[name][0]())
        cdf, _ = ours(np.array([-np.inf, np.inf], dtype))
        low, _ = (np.zeros(1), None) if ours.low is None else ours(np.asarray(ours.low, dtype)[None])
    np.testing.assert_array_equal(cdf, [0.0, 1.0])
    assert np.isfinite(low).all()


# The posterior predictive: a mixture over draws of a level and a spread

rng = np.random.default_rng(0)
N_DRAWS = 150
LEVEL, SPREAD = rng.normal(0.3, 0.4, N_DRAWS), rng.uniform(0.5, 1.5, N_DRAWS)
ROWS = np.array([[-1.0], [0.0], [0.8], [2.5]])
LEVELS = [0.001, 0.05, 0.5, 0.999]
SPIKE = 0.3


def _hurdle(mu, spread):
    return dist.HurdleGamma(SPIKE, 2.0, spread)


def _mixture(mu, spread):
    parts = [dist.Normal(mu - 2.0, spread), dist.Laplace(mu + 2.0, spread)]
    return dist.MixtureGeneral(dist.Categorical(probs=jnp.array([0.3, 0.7])), parts)


def _family(mu, spread):
    weights = dist.Categorical(probs=jnp.array([0.3, 0.7]))
    return dist.MixtureSameFamily(weights, dist.Normal(jnp.stack([mu - 9.0, mu + 9.0], -1), 0.1))


# From the level and the spread of a draw to NumPyro's distribution, and to a cdf by SciPy.
MIXTURES = {
    "normal": (dist.Normal, lambda y, mu, s: stats.norm.cdf(y, mu, s)),
    "student": (lambda mu, s: dist.StudentT(2.5, mu, s), lambda y, mu, s: stats.t.cdf(y, 2.5, mu, s)),
    "log-normal": (dist.LogNormal, lambda y, mu, s: stats.lognorm.cdf(y, s, scale=np.exp(mu))),
    "gamma": (
        lambda mu, s: dist.Gamma(s * 3, jnp.exp(mu)),
        lambda y, mu, s: stats.gamma.cdf(y, s * 3, scale=np.exp(-mu)),
    ),
    "inverse gamma": (
        lambda mu, s: dist.InverseGamma(s * 3, jnp.exp(mu)),
        lambda y, mu, s: stats.invgamma.cdf(y, s * 3, scale=np.exp(mu)),
    ),
    "beta": (lambda mu, s: dist.Beta(jnp.exp(mu), s), lambda y, mu, s: stats.beta.cdf(y, np.exp(mu), s)),
    "poisson": (lambda mu, s: dist.Poisson(jnp.exp(2 + mu)), lambda y, mu, s: stats.poisson.cdf(y, np.exp(2 + mu))),
    "negative binomial": (
        lambda mu, s: dist.NegativeBinomial2(jnp.exp(2 + mu), s),
        lambda y, mu, s: stats.nbinom.cdf(y, s, s / (s + np.exp(2 + mu))),
    ),
    "zero-inflated": (
        lambda mu, s: dist.ZeroInflatedPoisson(0.3, jnp.exp(mu)),
        lambda y, mu, s: 0.3 * (y >= 0) + 0.7 * stats.poisson.cdf(y, np.exp(mu)),
    ),
    "hurdle gamma": (_hurdle, lambda y, mu, s: SPIKE * (y >= 0) + (1 - SPIKE) * stats.gamma.cdf(y, 2, scale=1 / s)),
    "truncated": (
        lambda mu, s: dist.TruncatedNormal(mu, s, low=0.0),
        lambda y, mu, s: np.where(y < 0, 0, 1 - stats.norm.sf(y, mu, s) / stats.norm.sf(0, mu, s)),
    ),
    "mixture": (
        _mixture,
        lambda y, mu, s: 0.3 * stats.norm.cdf(y, mu - 2, s) + 0.7 * stats.laplace.cdf(y, mu + 2, s),
    ),
    "gap": (_family, lambda y, mu, s: 0.3 * stats.norm.cdf(y, mu - 9, 0.1) + 0.7 * stats.norm.cdf(y, mu + 9, 0.1)),
    "point": (lambda mu, s: dist.Delta(mu), lambda y, mu, s: 1.0 * (y >= mu)),
    "ordinal": (
        lambda mu, s: dist.OrderedLogistic(mu, jnp.array([-1.0, 0.0, 1.0])),
        lambda y, mu, s: stats.logistic.cdf(np.array([-1.0, 0.0, 1.0, np.inf])[int(y)] - mu) if y >= 0 else 0 * mu,
    ),
}


def model_of(distribution, dtype="float64", draws=slice(None)):
    def kernel(X, y=None):
        level = numpyro.sample("level", dist.Normal())
        spread = numpyro.sample("spread", dist.HalfNormal())
        with numpyro.plate("rows", len(X)):
            numpyro.sample("y", distribution(X[:, 0] + level, spread), obs=y)

    return NumPyroImpactRegressor(kernel, posterior={"level": LEVEL[draws], "spread": SPREAD[draws]}, dtype=dtype)


def cdf_of(theirs, y, row, draws=slice(None)):
    return np.mean(theirs(y, row + LEVEL[draws], SPREAD[draws]))


@pytest.mark.parametrize("name", MIXTURES)
def test_quantiles_and_probabilities_are_those_of_the_mixture(name, monkeypatch):
    # Four rows need no tile of hundreds.
    monkeypatch.setattr(limits, "DEFAULT", Limits(most_tile_rows=8))
    ours, theirs = MIXTURES[name]
    model = model_of(ours)
    found = model.predict_quantiles(ROWS, LEVELS)
    for row, quantiles in zip(ROWS[:, 0], found, strict=True):
        for level, quantile in zip(LEVELS, quantiles, strict=True):
            slack = 1e-6 * (1 + abs(quantile))
            assert cdf_of(theirs, quantile - slack, row) <= level <= cdf_of(theirs, quantile + slack, row)
    middle = found[:, 2]
    expected = [cdf_of(theirs, y, row) for y, row in zip(middle, ROWS[:, 0], strict=True)]
    np.testing.assert_allclose(model.predict_cdf(ROWS, middle), expected, atol=1e-8)
    above = model.predict_proba_above(ROWS, [middle[0], 1e9])
    np.testing.assert_allclose(above, [[1 - cdf_of(theirs, middle[0], row), 0] for row in ROWS[:, 0]], atol=1e-8)
