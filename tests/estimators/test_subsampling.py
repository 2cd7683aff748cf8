"""Plates that subsample: minibatches in fits that can have them, all rows everywhere else."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import scipy.stats
from numpyro.infer import HMCECS, NUTS

from skaimz import NumPyroImpactRegressor
from skaimz.exceptions import OutputWarning
from skaimz.inference import MCMC, SVI

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 1))
Y = 2.0 * X[:, 0] + RNG.normal(size=200)
PRECISION = (X**2).sum() + 1
MEAN, STD = X[:, 0] @ Y / PRECISION, PRECISION**-0.5
DRAWS = {"slope": RNG.normal(2.0, 0.1, size=50)}


def by_index(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0], subsample_size=20) as chosen:
        numpyro.sample("y", dist.Normal(slope * X[chosen, 0], 1.0), obs=None if y is None else y[chosen])


def by_statement(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0], subsample_size=20):
        x = numpyro.subsample(X, event_dim=1)
        seen = None if y is None else numpyro.subsample(y, event_dim=0)
        numpyro.sample("y", dist.Normal(slope * x[:, 0], 1.0), obs=seen)


def of_table(X, y=None, *, n=200):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", n, subsample_size=X.shape[0]):
        numpyro.sample("y", dist.Normal(slope * X[:, 0], 1.0), obs=y)


def in_a_fit_alone(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0], subsample_size=None if y is None else 20) as chosen:
        numpyro.sample("y", dist.Normal(slope * X[chosen, 0], 1.0), obs=None if y is None else y[chosen])


KERNELS = [by_index, by_statement, of_table, in_a_fit_alone]


@pytest.mark.parametrize("kernel", KERNELS)
def test_all_rows_are_predicted_and_scored_without_a_scale(kernel):
    model = NumPyroImpactRegressor(kernel, posterior=DRAWS, dtype="float64", random_state=0)
    slope = DRAWS["slope"]
    for n in (7, 30, 200):
        np.testing.assert_allclose(model.predict(X[:n]), slope.mean() * X[:n, 0], rtol=1e-6)
        found = model.log_likelihood(X[:n], Y[:n])["log_likelihood"]["y"][0]
        np.testing.assert_allclose(found, scipy.stats.norm.logpdf(Y[:n], slope[:, None] * X[:n, 0]), rtol=1e-6)
    assert model.fit(X, Y).kernel_spec_.rows_mix is None


ECS = HMCECS(NUTS(by_statement), num_blocks=2, proxy=HMCECS.taylor_proxy({"slope": jnp.asarray(MEAN)}))
FITS = [
    (by_index, SVI(num_steps=4000, learning_rate=0.02)),
    (by_statement, MCMC(ECS, num_warmup=300, num_samples=600)),
    (in_a_fit_alone, "auto"),
    (by_index, SVI(batch_size=50, num_epochs=200)),
    (of_table, SVI(batch_size=50, num_epochs=200)),
]


@pytest.mark.parametrize(("kernel", "inference"), FITS)
def test_posteriors(kernel, inference):
    model = NumPyroImpactRegressor(kernel, inference=inference, dtype="float64", random_state=0).fit(X, Y)
    slope = model.posterior_["slope"]
    assert abs(slope.mean() - MEAN) < 0.6 * STD
    np.testing.assert_allclose(slope.std(), STD, rtol=0.3)


def test_rows_of_a_larger_table_are_scaled_to_it_as_in_numpyro():
    rows, y = X[:50], Y[:50]
    model = NumPyroImpactRegressor(of_table, inference=SVI(num_steps=3000), dtype="float64", random_state=0).fit(
        rows, y
    )
    precision = 4 * (rows**2).sum() + 1
    assert abs(model.posterior_["slope"].mean() - 4 * rows[:, 0] @ y / precision) < 0.3 * precision**-0.5
    np.testing.assert_allclose(model.posterior_["slope"].std(), precision**-0.5, rtol=0.2)


def test_weights_reach_minibatches_of_skaimz_alone():
    model = NumPyroImpactRegressor(by_index, inference=SVI(num_steps=10), random_state=0)
    with pytest.raises(ValueError, match="the kernel draws minibatches of its own: set `SVI"):
        model.fit(X, Y, sample_weight=np.ones(200))


def numbered(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]) as row:
        numpyro.sample("y", dist.Normal(slope * X[row, 0] + 0.01 * row, 1.0), obs=y)


def shifted(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]) as row:
        numpyro.sample("y", dist.Normal(slope * X[row - 1, 0], 1.0), obs=y)


@pytest.mark.parametrize("kernel", [numbered, shifted])
@pytest.mark.filterwarnings("ignore::skaimz.exceptions.SpeedWarning")
def test_numbers_of_rows_that_matter_keep_rows_together(kernel):
    model = NumPyroImpactRegressor(kernel, posterior=DRAWS, dtype="float64")
    expected = {
        "numbered": DRAWS["slope"].mean() * X[:, 0] + 0.01 * np.arange(200),
        "shifted": DRAWS["slope"].mean() * np.roll(X[:, 0], 1),
    }[kernel.__name__]
    np.testing.assert_allclose(model.predict(X), expected, rtol=1e-6)
    assert model.fit(X, Y).kernel_spec_.rows_mix is not None


def in_another_order(X, places, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(slope * X[places, 0], 1.0), obs=None if y is None else y[places])


@pytest.mark.filterwarnings("ignore::skaimz.exceptions.SpeedWarning")
def test_outcomes_in_another_order_are_told_of():
    places = RNG.permutation(200)
    model = NumPyroImpactRegressor(in_another_order, posterior=DRAWS, dtype="float64")
    with pytest.warns(OutputWarning, match="or y in another order"):
        model.fit(X, Y, places=places)
    np.testing.assert_allclose(model.predict(X, places=places), DRAWS["slope"].mean() * X[places, 0], rtol=1e-6)


def without_a_branch(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]) as row:
        numpyro.sample("y", dist.Normal(slope * X[row, 0], 1.0), obs=y[row])


def test_kernels_that_need_an_outcome_are_told_that_predictions_have_none():
    with pytest.raises(TypeError) as caught:
        NumPyroImpactRegressor(without_a_branch).fit(X, Y)
    assert any("without an outcome, which is None there" in note for note in caught.value.__notes__)


def with_effects(X, y=None):
    """An effect of each row, of which a minibatch has some."""
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0], subsample_size=50) as chosen:
        effect = numpyro.sample("effect", dist.Normal(0.0, 1.0))
        numpyro.sample("y", dist.Normal(slope * X[chosen, 0] + effect, 1.0), obs=None if y is None else y[chosen])


@pytest.mark.filterwarnings("ignore::skaimz.exceptions.RowsOfFitWarning")
def test_effects_of_rows_have_draws_for_all_rows():
    settings = SVI(guide="auto_normal", num_steps=3000, learning_rate=0.03)
    model = NumPyroImpactRegressor(with_effects, inference=settings, dtype="float64", random_state=0).fit(X, Y)
    effect = model.posterior_["effect"][0]
    assert effect.shape[1] == 200
    expected = (Y - MEAN * X[:, 0]) / 2
    np.testing.assert_allclose(effect.mean(0), expected, atol=0.4)
    assert jnp.shape(model.predict(X)) == (200,)
