"""What is asked of the posterior predictive distribution, against closed forms and quadrature by SciPy."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import zoo
from scipy import integrate, optimize, stats

from skaimz import NumPyroImpactRegressor, metrics
from skaimz.exceptions import MonteCarloWarning
from skaimz.sampling import Limits, limits

pytestmark = pytest.mark.usefixtures("quick_compilation")

N_DRAWS, SD = 40, 0.5
COEF = np.random.default_rng(1).normal([1.0, -0.5], 0.2, size=(N_DRAWS, 2))
X = np.random.default_rng(2).normal(size=(9, 2))
CENTRES = X @ COEF.T
Y = X @ [1.0, -0.5] + np.random.default_rng(3).normal(scale=0.7, size=9)


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch):
    monkeypatch.setattr(limits, "DEFAULT", Limits(most_tile_rows=8))


@pytest.fixture(scope="module")
def model():
    return NumPyroImpactRegressor(zoo.conjugate, posterior={"coef": COEF}, random_state=0)


def cdf(y, row):
    return stats.norm.cdf(y, CENTRES[row], SD).mean()


def test_scores_are_those_of_the_mixture(model):
    def spread(gap, sd):
        return gap * (2 * stats.norm.cdf(gap / sd) - 1) + 2 * sd * stats.norm.pdf(gap / sd)

    to_y = spread(Y[:, None] - CENTRES, SD).mean(axis=1)
    between = spread(CENTRES[:, :, None] - CENTRES[:, None], np.sqrt(2) * SD).mean(axis=(1, 2))
    np.testing.assert_allclose(-metrics.NegCRPS()(model, X, Y), (to_y - between / 2).mean(), atol=1e-7)
    far = np.full(9, 50.0)
    expected = 50 - CENTRES.mean(axis=1) - between / 2
    np.testing.assert_allclose(-metrics.NegCRPS()(model, X, far), expected.mean(), atol=1e-5)


def test_tails_are_those_of_the_mixture(model):
    z = (0.8 - CENTRES) / SD
    expected = (SD * stats.norm.pdf(z) - (0.8 - CENTRES) * stats.norm.sf(z)).mean(axis=1)
    np.testing.assert_allclose(model.predict_excess(X, 0.8), expected, atol=1e-7)
    lowest, highest = (model.predict_expected_shortfall(X, 0.05, tail=tail) for tail in ("lower", "upper"))
    for row in range(3):
        end = optimize.brentq(lambda y, row=row: cdf(y, row) - 0.05, -20, 20)
        below = integrate.quad(cdf, -20, end, args=(row,))[0]
        np.testing.assert_allclose(lowest[row], end - below / 0.05, atol=1e-5)
    # Both tails of the distribution with the opposite sign.
    mirrored = NumPyroImpactRegressor(zoo.conjugate, posterior={"coef": -COEF}, random_state=0)
    np.testing.assert_allclose(highest, -mirrored.predict_expected_shortfall(X, 0.05), atol=1e-5)


def test_the_shortest_interval(model):
    intervals = model.predict_interval(X, 0.8, kind="shortest")
    for row, (lower, upper) in enumerate(intervals):
        np.testing.assert_allclose(cdf(upper, row) - cdf(lower, row), 0.8, atol=1e-6)
        density = stats.norm.pdf(np.array([[lower], [upper]]), CENTRES[row], SD).mean(axis=1)
        np.testing.assert_allclose(density[0], density[1], rtol=1e-4)


def test_intervals_of_the_mean_are_those_over_the_draws(model):
    expected = np.quantile(CENTRES, [0.05, 0.95], axis=1).T
    np.testing.assert_allclose(model.predict_interval(X, of="mean"), expected, rtol=1e-6)


def test_what_a_scenario_changes(model):
    shifted = {"columns": {0: lambda old: old + 1}}
    above, quantile = (
        model.estimate_effect(X, scenarios={"more": shifted}, of=of)["more"]["effect"].values[0]
        for of in ({"above": 0.5}, {"quantile": 0.9})
    )
    expected = stats.norm.sf(0.5, CENTRES + COEF[:, 0], SD) - stats.norm.sf(0.5, CENTRES, SD)
    np.testing.assert_allclose(above, expected.mean(axis=0), atol=1e-7)
    np.testing.assert_allclose(quantile, COEF[:, 0], atol=1e-5)
    with pytest.raises(ValueError, match="`of` must be"):
        model.estimate_effect(X, scenarios={"more": shifted}, of={"below": 1.0})


def test_a_distribution_for_each_row(model):
    distribution = model.predict_distribution(X)
    some = distribution[[5, 1]]
    assert (len(distribution), len(some), len(distribution[2])) == (9, 2, 1)
    quantiles = some.ppf([0.1, 0.9])
    np.testing.assert_allclose(quantiles, model.predict_quantiles(X, [0.1, 0.9])[[5, 1]], rtol=1e-6)
    np.testing.assert_allclose(some.cdf(quantiles[:, 0]), 0.1, atol=1e-7)
    np.testing.assert_allclose(some.sf(quantiles[:, 1]), 0.1, atol=1e-7)
    np.testing.assert_allclose(some.mean(), CENTRES.mean(axis=1)[[5, 1]], rtol=1e-6)
    np.testing.assert_allclose(some.var(), CENTRES.var(axis=1)[[5, 1]] + SD**2, rtol=1e-6)
    density = stats.norm.pdf(Y[:, None], CENTRES, SD).mean(axis=1)
    np.testing.assert_allclose(distribution.pdf(Y), density, rtol=1e-6)
    assert some.sample(7).shape == (2, 7)


@pytest.mark.filterwarnings("ignore:Latent sites")
@pytest.mark.parametrize("kernel", [zoo.conjugate, zoo.random_effects])
def test_company_order_and_seed_change_no_quantile(kernel):
    models = [NumPyroImpactRegressor(kernel, posterior={"coef": COEF}, random_state=0) for _ in range(2)]
    every = models[0].predict_interval(X)
    order = np.random.default_rng(0).permutation(9)
    np.testing.assert_allclose(models[0].predict_interval(X[order]), every[order], rtol=1e-6)
    np.testing.assert_allclose(models[0].predict_interval(X[4:5]), every[4:5], rtol=1e-6)
    if kernel is zoo.conjugate:
        np.testing.assert_array_equal(models[1].set_params(random_state=7).predict_interval(X), every)


def test_rows_that_depend_on_one_another(model):
    with pytest.warns(match="all rows at once"):
        found = NumPyroImpactRegressor(zoo.centring, posterior={"coef": COEF}).predict_quantiles(X, [0.3])
    np.testing.assert_allclose(found, model.predict_quantiles(X - X.mean(axis=0), [0.3]), rtol=1e-6)


def with_states(X, y=None):
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        state = numpyro.sample("state", dist.Bernoulli(0.3))
        numpyro.sample("y", dist.Normal(X @ coef + 4.0 * state, 0.5), obs=y)


def test_states_of_rows_are_summed_out():
    model = NumPyroImpactRegressor(with_states, posterior={"coef": COEF}, random_state=0)
    found = model.predict_quantiles(X, [0.2, 0.9])
    parts = [stats.norm.cdf(found[:, :, None], CENTRES[:, None] + shift, SD).mean(axis=-1) for shift in (0, 4)]
    np.testing.assert_allclose(0.7 * parts[0] + 0.3 * parts[1], np.broadcast_to([0.2, 0.9], (9, 2)), atol=1e-7)
    np.testing.assert_allclose(model.predict_cdf(X, found[:, 1]), 0.9, atol=1e-7)


def several(X, y=None):
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        means = jnp.stack([X @ coef, -X @ coef], axis=-1)
        numpyro.sample("y", dist.MultivariateNormal(means, jnp.array([[0.25, 0.1], [0.1, 1.0]])), obs=y)


def test_each_of_several_outputs_has_its_own_quantiles():
    model = NumPyroImpactRegressor(several, posterior={"coef": COEF}, random_state=0)
    found = model.predict_quantiles(X, [0.2])
    assert found.shape == (9, 2, 1)
    for output, (sign, sd) in enumerate([(1, 0.5), (-1, 1.0)]):
        np.testing.assert_allclose(stats.norm.cdf(found[:, output], sign * CENTRES, sd).mean(axis=1), 0.2, atol=1e-7)
    np.testing.assert_allclose(model.predict_cdf(X, found[..., 0]), 0.2, atol=1e-7)


def counts(X, y=None):
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Poisson(jnp.exp(X @ coef)), obs=y)


def test_counts():
    model = NumPyroImpactRegressor(counts, posterior={"coef": COEF}, random_state=0)
    y, numbers = np.arange(9.0), np.arange(200)
    mass = stats.poisson.pmf(numbers[:, None, None], np.exp(CENTRES)).mean(axis=-1).T
    below = mass.cumsum(axis=1)
    score = ((below - (numbers >= y[:, None])) ** 2).sum(axis=1)
    np.testing.assert_allclose(-metrics.NegCRPS()(model, X, y), score.mean(), atol=1e-7)
    np.testing.assert_allclose(model.predict_excess(X, 2.5), mass @ np.maximum(numbers - 2.5, 0), atol=1e-7)
    np.testing.assert_allclose(model.predict_cdf(X, y), below[np.arange(9), y.astype(int)], atol=1e-9)
    strict = model.predict_cdf(X, y, strict=True)
    np.testing.assert_allclose(strict[1:], below[np.arange(1, 9), y.astype(int)[1:] - 1], atol=1e-9)
    with pytest.raises(ValueError, match="continuous"):
        model.predict_interval(X, kind="shortest")


def heavy(X, y=None):
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Cauchy(X @ coef, 1.0), obs=y)


def test_a_tail_without_a_mean_is_infinite():
    model = NumPyroImpactRegressor(heavy, posterior={"coef": COEF}, random_state=0)
    assert (model.predict_expected_shortfall(X, 0.1) == -np.inf).all()
    with pytest.raises(ValueError, match="not known in closed form"):
        model.predict_interval(X, of="mean")


def angles(X, y=None):
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.VonMises(X @ coef, 2.0), obs=y)


def test_outcomes_are_drawn_where_no_cdf_is_known():
    model = NumPyroImpactRegressor(angles, posterior={"coef": COEF}, random_state=0)
    drawn = model.predict_quantiles(X, [0.3], method="draws")
    with pytest.warns(MonteCarloWarning, match="VonMises"):
        found = model.predict_quantiles(X, [0.3])
    np.testing.assert_array_equal(found, drawn)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: model.predict_quantiles(X, method="sorted"), "`method` must be one of"),
        (lambda model: model.predict_interval(X, kind="widest"), "`kind` must be one of"),
        (lambda model: model.predict_interval(X, kind="shortest", method="draws"), "leave out `method` and `of`"),
        (lambda model: model.predict_interval(X, of="median"), "`of` must be one of"),
        (lambda model: model.predict_cdf(X, np.zeros(3)), "y has the shape"),
        (lambda model: model.predict_proba_above(X, np.nan), "`threshold` must be"),
        (lambda model: model.predict_proba_between(X, 2.0, 1.0), "must not be greater"),
        (lambda model: model.predict_expected_shortfall(X, tail="both"), "`tail` must be one of"),
    ],
)
def test_refusals(model, call, message):
    with pytest.raises(ValueError, match=message):
        call(model)
