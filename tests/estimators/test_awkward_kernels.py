"""Kernels that are easily answered wrongly, and the right answers."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers
from numpyro.infer.autoguide import AutoLaplaceApproximation
from numpyro.infer.util import log_density

from skaimz import NumPyroImpactRegressor
from skaimz.exceptions import OutputWarning, PosteriorWarning, RatioWarning, UnreachedOutputWarning
from skaimz.inference import MCMC, SVI
from skaimz.inference.data import Data, padded, weighted_model
from skaimz.kernels import Inputs, trace_kernel

DRAWS = {"slope": np.abs(np.random.default_rng(0).normal(1.0, 0.3, size=800))}
X = np.random.default_rng(1).normal(size=(5, 2))


def plain(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(slope * X[:, 0], 0.5), obs=y)


def with_hidden_level(X, y=None):
    with handlers.block(hide=["level"]):
        level = numpyro.sample("level", dist.Normal(0.0, 1.0))
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(level + slope * X[:, 0], 0.5), obs=y)


def with_dropout(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    key = numpyro.prng_key()
    kept = 1.0 if key is None else 2.0 * jax.random.bernoulli(key, 0.5)
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(slope * kept * X[:, 0], 0.5), obs=y)


def of_angles(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.VonMises(slope * X[:, 0], 2.0), obs=y)


def made(kernel, **settings):
    return NumPyroImpactRegressor(kernel, posterior=DRAWS, random_state=0, **settings)


def test_what_a_kernel_draws_unseen_is_averaged_over():
    for kernel, variance in ((with_hidden_level, 1.0), (with_dropout, (DRAWS["slope"] ** 2).mean() * X[:, 0] ** 2)):
        model = made(kernel)
        mean, std = model.predict(X, return_std=True)
        exact = DRAWS["slope"].mean() * X[:, 0]
        error = np.sqrt(variance / 800)
        assert (np.abs(mean - exact) < 4 * error).all()
        np.testing.assert_allclose(model.predict(X), mean, rtol=1e-6)
        np.testing.assert_allclose(std**2, 0.25 + DRAWS["slope"].var() * X[:, 0] ** 2 + variance, rtol=0.2)
        # All rows see the same random numbers.
        np.testing.assert_allclose(model.predict(X[2:3]), mean[2:3], rtol=1e-6)


def test_angles_are_numbers():
    model = made(of_angles)
    mean, std = model.predict(X, return_std=True)
    drawn = model.sample_y(X, n_samples=800)
    np.testing.assert_allclose(mean, drawn.mean(axis=1), atol=4 * 1.5 * 1.0 / np.sqrt(800))
    np.testing.assert_allclose(std, drawn.std(axis=1), rtol=0.15)


# Outcomes of two parts: whether anything was bought, and for how much.


def two_parts(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        some = numpyro.sample("some", dist.Bernoulli(logits=slope), obs=None if y is None else y > 0)
        with handlers.mask(mask=True if y is None else y > 0):
            numpyro.sample("y", dist.Normal(some * slope * X[:, 0], 0.5), obs=y)


def parts_by_other_names(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("amount", dist.Normal(slope * X[:, 0], 0.5), obs=y)
        numpyro.sample("root", dist.Normal(slope, 1.0), obs=None if y is None else jnp.sqrt(jnp.abs(y)))


def density_of(kernel, X, y, weight=None, **latents):
    traced, numbers = trace_kernel(kernel, Inputs({"X": X}, {}), "X", "y")
    data = padded(traced, Data(numbers, {"X": X, "y": y}, {}, weight), len(X))
    return float(log_density(weighted_model(traced), data, {}, latents)[0])


@pytest.mark.parametrize("kernel", [two_parts, parts_by_other_names])
def test_sites_that_are_observed_with_the_outcome_are_padded_and_weighted(kernel):
    y = np.array([0.3, -0.2, 1.0, -0.4, 0.8])
    often = np.array([1, 0, 3, 2, 1])
    expected = float(log_density(kernel, (np.repeat(X, often, 0), np.repeat(y, often)), {}, {"slope": 0.7})[0])
    assert density_of(kernel, X, y, often.astype(float), slope=0.7) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("inference", [SVI(num_steps=600), MCMC(num_warmup=300, num_samples=600)], ids=["svi", "mcmc"])
def test_sites_that_are_observed_with_the_outcome_are_drawn_without_it(inference):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 1))
    some = rng.random(200) < 1 / (1 + np.exp(-0.8))
    y = np.where(some, 0.8 * rows[:, 0] + 0.5 * rng.normal(size=200), -1.0)
    y = np.where(some, np.abs(y), y)
    model = NumPyroImpactRegressor(two_parts, inference=inference, random_state=0).fit(rows, y)
    assert list(model.posterior_) == ["slope"]
    slope = model.posterior_["slope"].ravel()
    bought = 1 / (1 + np.exp(-slope))
    mean, std = model.predict([[1.0], [-1.0]], return_std=True)
    np.testing.assert_allclose(mean, [(slope * bought).mean(), -(slope * bought).mean()], atol=0.05)
    np.testing.assert_allclose(model.predict([[1.0], [-1.0]]), mean, rtol=1e-6)
    np.testing.assert_allclose(std**2, 0.25 + (slope**2 * bought).mean() - mean**2, rtol=0.1)


def test_the_output_is_the_site_that_observes_the_outcome_itself():
    y = np.array([0.3, -0.2, 1.0, -0.4, 0.8])
    model = made(parts_by_other_names).fit(X, y)
    assert model.kernel_spec_.output == "amount"
    np.testing.assert_allclose(model.predict(X), DRAWS["slope"].mean() * X[:, 0], rtol=1e-5)


def of_logarithms(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(slope * X[:, 0], 0.5), obs=None if y is None else jnp.log(y))


def test_outcomes_that_the_kernel_changes_are_told_of():
    with pytest.warns(OutputWarning, match="computed from y"):
        made(of_logarithms).fit(X, np.ones(5))


def with_factor_of_all_rows(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    numpyro.factor("censored", -((slope * X[:, 1]) ** 2).sum())
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(slope * X[:, 0], 0.5), obs=y)


def with_factor_of_outcomes(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    if y is not None:
        numpyro.factor("censored", -((slope - y) ** 2).sum())
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(slope * X[:, 0], 0.5), obs=y)


@pytest.mark.parametrize("kernel", [with_factor_of_all_rows, with_factor_of_outcomes])
def test_weights_that_would_not_reach_a_site_are_refused(kernel):
    model = NumPyroImpactRegressor(kernel, random_state=0)
    with pytest.raises(ValueError, match="`sample_weight` would not reach the site 'censored'"):
        model.fit(X, X[:, 0], sample_weight=np.ones(5))


def with_param(X, y=None):
    level = numpyro.param("level", 0.5)
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(level + slope * X[:, 0], 0.5), obs=y)


def test_chains_do_not_leave_parameters_where_they_are():
    with pytest.raises(ValueError, match=r"MCMC does not learn \['level'\]"):
        NumPyroImpactRegressor(with_param, inference="mcmc").fit(X, X[:, 0])


def test_parameters_that_draws_do_not_hold_are_told_of():
    with pytest.warns(PosteriorWarning, match=r"Parameters \['level'\] keep their first value"):
        made(with_param).predict(X)
    # After a fit they are known.
    model = NumPyroImpactRegressor(with_param, inference=SVI(num_steps=200), random_state=0).fit(X, X[:, 0])
    level = model.fit_result_.params["level"]
    model.set_posterior_sample(DRAWS)
    np.testing.assert_allclose(model.predict(X), level + DRAWS["slope"].mean() * X[:, 0], rtol=1e-5)


def two_slopes(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ slope, 0.5), obs=y)


def test_a_laplace_approximation_by_minibatches_has_the_curvature_of_all_rows():
    # The first minibatch has the largest values: its curvature is not that of all.
    rows = np.sort(np.random.default_rng(0).normal(size=(400, 2)), axis=0)
    y = rows @ [1.0, -1.0] + 0.5 * np.random.default_rng(1).normal(size=400)
    settings = SVI(guide=AutoLaplaceApproximation, batch_size=20, num_steps=400, num_samples=2000)
    model = NumPyroImpactRegressor(two_slopes, inference=settings, random_state=0).fit(rows, y)
    exact = np.linalg.inv(rows.T @ rows / 0.25 + np.eye(2))
    np.testing.assert_allclose(model.posterior_["slope"][0].std(axis=0), np.sqrt(np.diag(exact)), rtol=0.1)
    with pytest.raises(ValueError, match="AutoLaplaceApproximation looks at all rows"):
        NumPyroImpactRegressor(two_slopes, inference=settings).partial_fit(rows, y)


def in_steps(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    level = jnp.array([0.0, 1.0, 3.0])[X[:, 1].astype(int)]
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(slope * X[:, 0] + level * (X[:, 0] > 0), 0.5), obs=y)


@pytest.mark.parametrize("average", [True, False])
def test_slopes_along_what_is_followed_in_steps_are_refused(average):
    rows = np.column_stack([X[:, 0], [0.0, 1.0, 2.0, 1.0, 2.0]])
    model = made(in_steps)
    with pytest.raises(ValueError, match="only in steps"):
        model.estimate_slope(rows, 1, average=average)
    slope = model.estimate_slope(rows, 0, average=average)["0"]["effect"]
    np.testing.assert_allclose(slope.mean(), DRAWS["slope"].mean(), rtol=1e-5)
    # Without any effect of the second column its slope is zero indeed, and is told of.
    rows[:, 0] = -1.0
    with pytest.warns(UnreachedOutputWarning):
        assert not model.estimate_slope(rows, 1, average=average)["1"]["effect"].any()


@pytest.mark.parametrize("contrast", ["ratio", "lift"])
def test_ratios_to_what_is_not_positive_are_told_of(contrast):
    model = made(plain)
    scenarios = {"more": {"columns": {0: 2.0}}}
    with pytest.warns(RatioWarning, match="800 of 800 averages of the baseline are not positive"):
        found = model.estimate_effect(X, baseline={"columns": {0: -1.0}}, scenarios=scenarios, contrast=contrast)
    expected = {"ratio": -2.0, "lift": -300.0}[contrast]
    np.testing.assert_allclose(found["more"]["effect"], expected, rtol=1e-5)
    model.estimate_effect(X, baseline={"columns": {0: 1.0}}, scenarios=scenarios, contrast=contrast)


def dreaming(X, y=None):
    """Sites that are there only where there is no outcome: one before it, for all rows, and one after it."""
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    shift = numpyro.sample("shift", dist.Normal(5.0, 0.1)) if y is None else 0.0
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(slope * X[:, 0] + shift, 0.5), obs=y)
        if y is None:
            numpyro.sample("dream", dist.Normal(slope, 1.0))


@pytest.mark.parametrize(
    "settings", [SVI(num_steps=2000, num_samples=400), SVI(num_steps=2000, num_samples=400, batch_size=30)]
)
def test_sites_that_are_there_without_an_outcome_alone(settings):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(60, 2))
    y = 1.5 * rows[:, 0] + 0.5 * rng.normal(size=60)
    model = NumPyroImpactRegressor(dreaming, inference=settings, random_state=0, dtype="float64").fit(rows, y)
    assert set(model.posterior_) == {"slope"}
    precision = rows[:, 0] @ rows[:, 0] / 0.25 + 1.0
    mean = rows[:, 0] @ y / 0.25 / precision
    assert abs(model.posterior_["slope"].mean() - mean) < 0.3 / np.sqrt(precision)
    np.testing.assert_allclose(model.predict(rows), mean * rows[:, 0] + 5.0, atol=0.1)
    drawn = model.sample_posterior_predictive(rows, in_sample=False, return_sites=["y", "dream", "shift"])[
        "predictions"
    ]
    assert abs(drawn["shift"].mean() - 5.0) < 5 * 0.1 / np.sqrt(400)
    assert abs(drawn["dream"].mean() - model.posterior_["slope"].mean()) < 5 / np.sqrt(400 * 60)


def small_only(X, y=None):
    shift = numpyro.sample("shift", dist.Normal(3.0, 1.0)) if X.shape[0] >= 3000 else 0.0
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(shift, 1.0), obs=y)


def test_sites_that_come_with_many_rows_are_refused():
    with pytest.raises(ValueError, match="Site 'shift' is in the kernel on 3001 rows, and is not on 1009"):
        NumPyroImpactRegressor(small_only).fit(np.ones((3001, 1)), np.ones(3001))
