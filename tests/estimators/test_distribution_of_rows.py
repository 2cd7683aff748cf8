"""Numbers for each row that a predictive distribution takes, and rows that depend on one another."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import zoo
from scipy import integrate, stats

from skaimz import NumPyroImpactRegressor
from skaimz.exceptions import MonteCarloWarning

pytestmark = pytest.mark.usefixtures("quick_compilation")

SD = 0.5
COEF = np.random.default_rng(1).normal([1.0, -0.5], 0.2, size=(40, 2))
X = np.random.default_rng(2).normal(size=(6, 2))
CENTRES = X @ COEF.T
Y = X @ [1.0, -0.5] + np.random.default_rng(3).normal(scale=0.7, size=6)
LEVELS = np.linspace(0.05, 0.95, 6)


@pytest.fixture(scope="module")
def distribution():
    return NumPyroImpactRegressor(zoo.conjugate, posterior={"coef": COEF}, random_state=0).predict_distribution(X)


def walk(X, y=None):
    with numpyro.plate("steps", X.shape[0]):
        move = numpyro.sample("move", dist.Normal(0.0, 1.0))
    numpyro.deterministic("level", jnp.cumsum(move))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(jnp.cumsum(move), 0.5), obs=y)


def angle(X, y=None):
    centre = numpyro.sample("centre", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.VonMises(centre + 0.0 * X[:, 0], 2.0), obs=y)


def test_each_outcome_may_have_its_own_probability(distribution):
    quantiles = distribution.ppf(LEVELS[:, None])
    assert quantiles.shape == (6, 1)
    cdf = stats.norm.cdf(quantiles, CENTRES, SD).mean(axis=1)
    np.testing.assert_allclose(cdf, LEVELS, atol=1e-6)
    assert (distribution.shape, distribution.is_discrete) == ((6,), False)
    with pytest.raises(ValueError, match=r"quantiles has the shape \(4,\), but the outcomes of these rows have \(6,\)"):
        distribution.ppf(LEVELS[:4, None])


def test_each_outcome_may_have_its_own_threshold(distribution):
    z = (Y[:, None] - CENTRES) / SD
    expected = (SD * stats.norm.pdf(z) - (Y[:, None] - CENTRES) * stats.norm.sf(z)).mean(axis=1)
    np.testing.assert_allclose(distribution.excess(Y), expected, atol=1e-7)
    np.testing.assert_allclose(distribution[2:4].excess(Y[2:4]), expected[2:4], atol=1e-7)


def test_the_score_of_each_row(distribution):
    def score(row):
        squared = lambda t: (stats.norm.cdf(t, CENTRES[row], SD).mean() - (t >= Y[row])) ** 2  # noqa: E731
        return sum(integrate.quad(squared, *ends)[0] for ends in ((-10, Y[row]), (Y[row], 10)))

    np.testing.assert_allclose(distribution.crps(Y), [score(row) for row in range(6)], atol=1e-6)


def test_drawn_outcomes_have_their_own_probabilities_too():
    model = NumPyroImpactRegressor(angle, posterior={"centre": np.zeros(4000)}, random_state=0)
    rows, levels = np.zeros((3, 1)), np.array([[0.2], [0.5], [0.9]])
    with pytest.warns(MonteCarloWarning):
        quantiles = model.predict_distribution(rows).ppf(levels)
    np.testing.assert_allclose(stats.vonmises.cdf(quantiles, 2.0), levels, atol=0.03)


@pytest.mark.filterwarnings("ignore:The kernel runs")
@pytest.mark.filterwarnings("ignore::skaimz.exceptions.PosteriorWarning")
def test_rows_that_depend_on_others_keep_them():
    """The third row of a walk is its third step, whatever rows are asked for."""
    known = np.random.default_rng(4).normal(size=(40, 5))
    model = NumPyroImpactRegressor(walk, posterior={"move": known}, random_state=0).fit(np.zeros((5, 1)), np.zeros(5))
    ahead = model.predict_distribution(np.zeros((9, 1)))
    later = ahead[5:]
    chosen = later[[3, 1]]
    np.testing.assert_allclose(chosen.var(), ahead.var()[[8, 6]], rtol=1e-6)
    assert chosen.var()[0] > 1.5 * ahead[:1].var()[0]
    levels = np.array([[0.1], [0.9]])
    np.testing.assert_allclose(chosen.ppf(levels)[:, 0], [ahead.ppf(0.1)[8], ahead.ppf(0.9)[6]], rtol=1e-5)
    y = np.array([1.0, -1.0])
    np.testing.assert_allclose(chosen.cdf(y), [ahead.cdf(1.0)[8], ahead.cdf(-1.0)[6]], rtol=1e-5)
    np.testing.assert_allclose(chosen.excess(y), [ahead.excess(1.0)[8], ahead.excess(-1.0)[6]], rtol=1e-5)
    assert chosen.sample(3).shape == (2, 3)
    assert repr(chosen) == "PredictiveDistribution of 2 rows"
