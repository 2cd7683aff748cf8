"""Ready NumPyro objects: taken with all that they hold, or refused by name."""

import functools
import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import numpyro.infer
import optax
import pytest
from arviz_stats.base import array_stats
from numpyro import handlers
from numpyro.infer import HMC, HMCECS, NUTS, DiscreteHMCGibbs, HMCGibbs, MixedHMC, Trace_ELBO, autoguide
from numpyro.infer.gibbs import CustomGibbs, DiscreteGibbs, Gibbs, discrete_latent_sites
from numpyro.infer.initialization import init_to_value
from numpyro.infer.svi import SVIRunResult
from numpyro.infer.util import potential_energy
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score

from skaimz import NumPyroImpactRegressor
from skaimz.exceptions import FitWarning
from skaimz.inference import MCMC, SVI, resolve_inference
from skaimz.inference.recipes import refuse_other_models
from skaimz.kernels import ByValue

# Chains and fits are short. NumPyro itself tells of sites that a guide leaves out, and of few chains.
pytestmark = [
    pytest.mark.filterwarnings("ignore::skaimz.exceptions.FitWarning"),
    pytest.mark.filterwarnings("ignore:Found vars in model but not guide"),
    pytest.mark.filterwarnings("ignore:Setting n_chains to at least"),
    pytest.mark.usefixtures("quick_compilation"),
]

N_ROWS, NOISE = 40, 1.5
PROBABILITIES = [0.2, 0.5, 0.3]


def regression(X, y=None, *, shift=0.0):
    a = numpyro.sample("a", dist.Normal(0.0, 1.0))
    b = numpyro.sample("b", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(shift + a + b * X[:, 0], NOISE), obs=y)


def choice(X, y=None):
    """Three slopes, of which one is true."""
    c = numpyro.sample("c", dist.Categorical(jnp.array(PROBABILITIES)))
    a = numpyro.sample("a", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(a + 0.6 * c * X[:, 0], NOISE), obs=y)


def subsampled(X, y=None):
    """Rows of which a fit sees ten at a time."""
    a = numpyro.sample("a", dist.Normal(0.0, 1.0))
    b = numpyro.sample("b", dist.Normal(0.0, 1.0))
    if y is None:
        with numpyro.plate("rows", X.shape[0]):
            numpyro.sample("y", dist.Normal(a + b * X[:, 0], NOISE))
    else:
        with numpyro.plate("rows", X.shape[0], subsample_size=10):
            x, seen = numpyro.subsample(X[:, 0], event_dim=0), numpyro.subsample(y, event_dim=0)
            numpyro.sample("y", dist.Normal(a + b * x, NOISE), obs=seen)


def global_part(X, y=None):
    mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
    return X, y, mu


def local_part(given):
    X, y, mu = given
    with numpyro.plate("rows", X.shape[0]):
        z = numpyro.sample("z", dist.Normal(mu, 1.0))
        numpyro.sample("y", dist.Normal(z, 1.0), obs=y)


def hierarchy(X, y=None):
    local_part(global_part(X, y))


def guide_of_slope(X, y=None, *, shift=0.0):
    loc = numpyro.param("loc", 0.0)
    scale = numpyro.param("scale", 0.3, constraint=dist.constraints.positive)
    return {"b": numpyro.sample("b", dist.Normal(loc, scale))}


tempered = handlers.scale(regression, scale=0.01)

rng = np.random.default_rng(0)
X = rng.normal(size=(N_ROWS, 1))
Y = 0.7 + 1.1 * X[:, 0] + NOISE * rng.normal(size=N_ROWS)
ONES_AND_X = np.column_stack([np.ones(N_ROWS), X[:, 0]])


def exact(offset=0.0, temperature=1.0):
    """Return mean and covariance of ``(a, b)`` under `regression`, where prior and likelihood are flattened alike."""
    precision = ONES_AND_X.T @ ONES_AND_X / NOISE**2 + np.eye(2)
    mean = np.linalg.solve(precision, ONES_AND_X.T @ (Y - offset) / NOISE**2)
    return mean, np.linalg.inv(precision) / temperature


def exact_choice():
    """Return probabilities of ``c``, and for each of its values mean and variance of ``a``."""
    weights, means = [], []
    variance = 1 / (N_ROWS / NOISE**2 + 1)
    covariance = NOISE**2 * np.eye(N_ROWS) + np.ones((N_ROWS, N_ROWS))
    for c in range(3):
        off = Y - 0.6 * c * X[:, 0]
        weights.append(np.log(PROBABILITIES[c]) - off @ np.linalg.solve(covariance, off) / 2)
        means.append(variance * off.sum() / NOISE**2)
    weights = np.exp(np.array(weights) - max(weights))
    return weights / weights.sum(), np.array(means), variance


def fitted(kernel, inference, **arguments):
    return NumPyroImpactRegressor(kernel, inference=inference, random_state=0).fit(X, Y, **arguments)


def numpyro_svi(model, guide=None, **static):
    guide = autoguide.AutoNormal(model) if guide is None else guide
    return numpyro.infer.SVI(model, guide, numpyro.optim.Adam(0.03), Trace_ELBO(), **static)


def numpyro_mcmc(sampler, num_chains=2, **options):
    counts = {"num_warmup": 150, "num_samples": 300, "chain_method": "sequential", "progress_bar": False}
    return numpyro.infer.MCMC(sampler, num_chains=num_chains, **(counts | options))


def assert_mean(draws, expected):
    """Compare the mean of draws ``(n_chains, n_draws)`` with its value within four standard errors."""
    draws = np.asarray(draws, float)
    ess = array_stats.ess(draws, chain_axis=0, draw_axis=1, method="mean")
    assert ess > 50
    assert draws.mean() == pytest.approx(expected, abs=4 * draws.std() / np.sqrt(ess))


def assert_regression(posterior, mean, covariance, of_sd=0.25):
    for i, name in enumerate("ab"):
        assert_mean(posterior[name], mean[i])
        assert posterior[name].std() == pytest.approx(np.sqrt(covariance[i, i]), rel=of_sd)


def guide_list(model=regression, of_slope=None):
    """Return a guide of ``a`` and one of ``b``, a point where none is given."""
    parts = autoguide.AutoGuideList(model)
    parts.append(autoguide.AutoNormal(handlers.block(model, hide=["b"])))
    parts.append(of_slope or autoguide.AutoDelta(handlers.block(handlers.seed(model, 3), expose=["b"])))
    return parts


def update_of_level(rng_key, gibbs_sites, hmc_sites):
    off = jnp.asarray(Y) - hmc_sites["b"] * jnp.asarray(X[:, 0])
    variance = 1 / (N_ROWS / NOISE**2 + 1)
    return {"a": dist.Normal(variance * off.sum() / NOISE**2, variance**0.5).sample(rng_key)}


# Its own model

OTHERS = {
    "NumPyro's SVI": (numpyro_svi(tempered, autoguide.AutoNormal(regression)), "The NumPyro SVI object"),
    "its guide": (numpyro_svi(regression, autoguide.AutoNormal(tempered)), "The guide AutoNormal"),
    "our SVI's guide": (SVI(autoguide.AutoNormal(tempered)), "The guide AutoNormal"),
    "a blocked guide": (
        SVI(autoguide.AutoNormal(handlers.block(tempered, hide=["a"]))),
        "The guide AutoNormal",
    ),
    "a part of a guide": (
        SVI(guide_list(of_slope=autoguide.AutoDelta(handlers.block(tempered, hide=["a"])))),
        "The guide AutoDelta",
    ),
    "NumPyro's MCMC": (numpyro_mcmc(NUTS(tempered)), "The sampler NUTS"),
    "our MCMC's sampler": (MCMC(NUTS(tempered)), "The sampler NUTS"),
    "an ensemble": (MCMC(numpyro.infer.AIES(tempered)), "The sampler AIES"),
    "Gibbs": (MCMC(HMCGibbs(NUTS(tempered), update_of_level, ["a"])), "The sampler HMCGibbs"),
    "HMCECS": (MCMC(HMCECS(NUTS(tempered))), "The sampler HMCECS"),
    "settings that were resolved": (resolve_inference(numpyro_mcmc(NUTS(tempered))), "The sampler NUTS"),
    "a clone of these": (clone(resolve_inference(numpyro_mcmc(NUTS(tempered)))), "The sampler NUTS"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_objects_of_another_model_are_refused(name):
    inference, holder = OTHERS[name]
    message = (
        f"{holder} is built on `handlers.scale` of `regression`, which is not the estimator's kernel, `regression`: "
        "the fit would follow the kernel and ignore that model. Give that model as `kernel`"
    )
    model = NumPyroImpactRegressor(regression, inference=inference)
    with pytest.raises(ValueError, match=re.escape(message)):
        model.fit(X, Y)
    if hasattr(model, "partial_fit"):
        with pytest.raises(ValueError, match=re.escape(message)):
            model.partial_fit(X, Y)


def test_the_default_kernel_is_another_model_too():
    message = "built on `regression`, which is not the estimator's kernel, an object of class LinearRegression"
    with pytest.raises(ValueError, match=message):
        fitted(None, numpyro_svi(regression))


def test_the_model_as_kernel_is_what_is_fitted():
    # Ten times the standard deviation, in closed form.
    mean, covariance = exact(temperature=0.01)
    guide = autoguide.AutoLaplaceApproximation(handlers.scale(regression, scale=0.01))
    posterior = fitted(tempered, SVI(guide, num_steps=500, num_samples=2000)).posterior_
    assert_regression(posterior, mean, covariance, of_sd=0.1)


def test_models_are_compared_by_what_they_do():
    def make(shift):
        def kernel(X, y=None):
            regression(X, y, shift=shift)

        return kernel

    refuse_other_models([("One", make(1.0)), ("None", None)], make(1.0))
    with pytest.raises(ValueError, match="Two is built on `kernel`, which is not the estimator's kernel, `kernel`"):
        refuse_other_models([("One", make(1.0)), ("Two", make(2.0))], make(1.0))
    # Numeric hyperparameters are those of the estimator's kernel, and may be searched.
    one, two = (functools.partial(regression, shift=shift) for shift in (1.0, 2.0))
    refuse_other_models([("One", one)], two)
    with pytest.raises(ValueError, match="One is built on a partial of `regression`"):
        refuse_other_models([("One", one)], functools.partial(choice))


# Static arguments


@pytest.fixture(scope="module")
def shifted():
    with warnings.catch_warnings(category=FitWarning, action="ignore"):
        return fitted(regression, numpyro_svi(regression, shift=7.0))


def test_static_arguments_reach_the_kernel(shifted):
    mean, _ = exact(offset=7.0)
    # The optimum of a mean field is the mean.
    assert shifted.posterior_["a"].mean() == pytest.approx(mean[0], abs=0.15)
    assert shifted.posterior_["b"].mean() == pytest.approx(mean[1], abs=0.15)


def test_static_arguments_hold_in_predictions(shifted):
    expected = 7.0 + shifted.posterior_["a"].mean() + shifted.posterior_["b"].mean() * X[:5, 0]
    np.testing.assert_allclose(shifted.predict(X[:5]), expected, rtol=1e-6)


def test_static_arguments_hold_before_a_fit():
    model = NumPyroImpactRegressor(regression, inference=numpyro_svi(regression, shift=700.0), random_state=0)
    prior = model.sample_prior_predictive(X[:5], num_samples=20)["prior_predictive"]["y"]
    assert 690 < float(prior.min()) < float(prior.max()) < 710


def test_an_argument_is_given_once():
    model = NumPyroImpactRegressor(regression, inference=numpyro_svi(regression, shift=7.0))
    with pytest.raises(ValueError, match=r"The argument 'shift' is 7\.0 in the NumPyro object given as `inf"):
        model.fit(X, Y, shift=8.0)
    model.set_params(inference=numpyro_svi(regression, drift=7.0))
    with pytest.raises(TypeError, match="drift"):
        model.fit(X, Y)


# What is refused


def warmed_up():
    mcmc = numpyro_mcmc(NUTS(regression), num_chains=1)
    mcmc.post_warmup_state = "a state"
    return mcmc


def finished_svi():
    return SVIRunResult({"a_auto_loc": jnp.zeros(())}, None, jnp.zeros(2))


class Density(numpyro.infer.mcmc.MCMCKernel):
    """A sampler of a user's own that has no model."""

    sample_field = "z"

    def init(self, rng_key, num_warmup, init_params, model_args, model_kwargs):
        raise NotImplementedError

    def sample(self, state, model_args, model_kwargs):
        raise NotImplementedError


class Model(Density):
    """A sampler that keeps its model where nobody else can replace it."""

    model = staticmethod(regression)


def potential(z):
    return (z["a"] ** 2 + z["b"] ** 2) / 2


REFUSALS = {
    "postprocess_fn": (
        lambda: numpyro_mcmc(NUTS(regression), postprocess_fn=lambda z: z),
        "has a `postprocess_fn`.*`numpyro.deterministic`",
    ),
    "post_warmup_state": (warmed_up, "has a `post_warmup_state`.*`posterior`"),
    "SVIRunResult": (finished_svi, r"`inference=skaimz.inference.SVI\(guide=guide, init_params=result.params\)`"),
    "potential_fn": (
        lambda: numpyro_mcmc(NUTS(potential_fn=potential)),
        "the sampler NUTS has no model but a density of its own, such as `potential_fn`.*`posterior`",
    ),
    "potential_fn of Barker": (
        lambda: numpyro_mcmc(numpyro.infer.BarkerMH(potential_fn=potential)),
        "the sampler BarkerMH has no model",
    ),
    "a sampler without model": (lambda: MCMC(Density()), "the sampler Density has no model"),
    "a fixed model": (lambda: MCMC(Model()), "the sampler Model cannot be given another model.*`wrap_model`"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_would_be_ignored_is_refused(name):
    make, message = REFUSALS[name]
    with pytest.raises(ValueError, match=message):
        resolve_inference(make())


@pytest.mark.parametrize("kind", [autoguide.AutoGuideList, autoguide.AutoSemiDAIS])
def test_guides_of_parts_are_objects(kind):
    with pytest.raises(TypeError, match=f"SVI: {kind.__name__} is made of more than a model"):
        SVI(kind).checked()


# Objects that have run


@pytest.fixture(scope="module")
def run_mcmc():
    ready = numpyro_mcmc(NUTS(regression), num_samples=60)
    ready.run(jax.random.key(1), X.astype(np.float32), Y.astype(np.float32))
    return ready


def test_a_finished_mcmc_is_fitted_anew(run_mcmc):
    again = fitted(regression, run_mcmc).posterior_
    fresh = fitted(regression, numpyro_mcmc(NUTS(regression), num_samples=60)).posterior_
    assert all(np.array_equal(again[name], fresh[name]) for name in "ab")


def test_draws_of_a_finished_mcmc_are_taken_with_their_chains(run_mcmc):
    model = NumPyroImpactRegressor(regression, posterior=run_mcmc, random_state=0)
    expected = run_mcmc.get_samples(group_by_chain=True)
    flat = run_mcmc.get_samples()
    means = np.asarray(flat["a"]).mean() + np.asarray(flat["b"]).mean() * X[:, 0]
    np.testing.assert_allclose(model.predict(X), means, rtol=1e-5)
    for each in (clone(model).fit(X, Y), NumPyroImpactRegressor(regression).set_posterior_sample(run_mcmc)):
        assert each.posterior_["a"].shape == (2, 60)
        np.testing.assert_array_equal(each.posterior_["a"], expected["a"])


def test_draws_of_an_mcmc_need_a_run():
    with pytest.raises(ValueError, match="an MCMC object that has not run: call its `run`"):
        NumPyroImpactRegressor(regression, posterior=numpyro_mcmc(NUTS(regression))).predict(X)


def test_arrays_that_numpyro_has_seen_are_read_in_their_own_precision():
    # JAX keeps the constants of a program as long as that lives; rows that are not padded would be one of them.
    seen = Y.copy()

    def level():
        numpyro.sample("y", dist.Normal(numpyro.sample("a", dist.Normal(0.0, 1.0)), 1.5), obs=seen)

    program = jax.jit(lambda z: potential_energy(level, (), {}, z))
    program({"a": 0.0})
    settings = SVI(autoguide.AutoDelta(hierarchy), numpyro.optim.SGD(0.0), num_steps=1, num_samples=2)
    settings.init_params = {"mu_auto_loc": 0.0, "z_auto_loc": np.zeros(N_ROWS)}
    model = NumPyroImpactRegressor(hierarchy, inference=settings, random_state=0).fit(X, seen)
    expected = (1 + 2 * N_ROWS) * np.log(2 * np.pi) / 2 + (Y**2).sum() / 2
    assert model.fit_result_.losses[0] == pytest.approx(expected, rel=1e-12)


# Where a fit starts

PARAMS = {"a_auto_loc": 3.0, "a_auto_scale": 0.2, "b_auto_loc": -2.0, "b_auto_scale": 0.01}


@pytest.fixture(scope="module")
def taken_over():
    params = {name: jnp.float32(value) for name, value in PARAMS.items()}
    return fitted(regression, SVI(autoguide.AutoNormal(regression), init_params=params, num_steps=0))


def test_no_steps_leave_the_guide_as_it_was_given(taken_over):
    assert taken_over.fit_result_.params == {name: pytest.approx(value) for name, value in PARAMS.items()}
    assert taken_over.fit_result_.losses.shape == (0,)
    for draws in (taken_over.posterior_, taken_over.sample_posterior(1000)["posterior"]):
        assert_mean(draws["a"], 3.0)
        assert_mean(draws["b"], -2.0)
        assert float(draws["a"].std()) == pytest.approx(0.2, rel=0.1)
        assert float(draws["b"].std()) == pytest.approx(0.01, rel=0.1)


def test_a_fit_goes_on_from_parameters():
    # The first loss of a point is minus the log joint there.
    def at(a, b):
        own = dist.Normal(0, 1).log_prob(jnp.array([a, b])).sum()
        return -float(own + dist.Normal(a + b * X[:, 0], NOISE).log_prob(Y).sum())

    guide = autoguide.AutoDelta(regression, init_loc_fn=init_to_value(values={"a": 0.4, "b": 0.3}))
    settings = SVI(guide, numpyro.optim.SGD(0.0), num_steps=1, num_samples=2, total_rows=N_ROWS)
    for params, place in (
        ({"a_auto_loc": 3.0, "b_auto_loc": -2.0}, (3.0, -2.0)),
        ({"a_auto_loc": 3.0}, (3.0, 0.3)),
        (None, (0.4, 0.3)),
    ):
        model = NumPyroImpactRegressor(regression, inference=clone(settings).set_params(init_params=params))
        assert model.fit(X, Y).fit_result_.losses[0] == pytest.approx(at(*place), rel=1e-5)
        assert model.partial_fit(X, Y).fit_result_.losses[1] == pytest.approx(at(*place), rel=1e-5)
    started = NumPyroImpactRegressor(regression, inference=settings.set_params(init_params={"a_auto_loc": 3.0}))
    assert started.partial_fit(X, Y).fit_result_.losses[0] == pytest.approx(at(3.0, 0.3), rel=1e-5)


@pytest.mark.parametrize(
    ("guide", "params", "message"),
    [
        (autoguide.AutoNormal(regression), {"c_auto_loc": 1.0}, r"has \['c_auto_loc'\], but the parameters of the"),
        (autoguide.AutoNormal(regression), {"a_auto_loc": [1.0]}, r"'a_auto_loc' .* has the shape \(1,\), but .* \(\)"),
        ("auto_normal", PARAMS, r"needs a guide object or function, such as `AutoNormal\(kernel\)`"),
    ],
)
def test_parameters_that_are_not_the_guides_are_refused(guide, params, message):
    with pytest.raises(ValueError, match=message):
        fitted(regression, SVI(guide, init_params=params, num_steps=1))


@pytest.mark.parametrize("params", [{}, finished_svi, 3], ids=["empty", "result", "number"])
@pytest.mark.parametrize("kind", [SVI, MCMC])
def test_parameters_are_a_dictionary(kind, params):
    params = params() if callable(params) else params
    with pytest.raises(TypeError, match=f"{kind.__name__}: `init_params` must be a dictionary of names and arrays"):
        kind(init_params=params).checked()


@pytest.mark.parametrize("sampler", ["ready", "named"])
def test_chains_begin_where_they_are_told(sampler):
    mean, covariance = exact()
    root = np.linalg.cholesky(covariance)
    starts = mean + np.array([[300.0, 0.0], [0.0, -300.0]]) @ root.T
    settings = {"num_warmup": 0, "num_samples": 1, "num_chains": 2}
    settings["init_params"] = dict(zip("ab", starts.T, strict=True))
    options = {"num_steps": 1, "trajectory_length": None}
    if sampler == "ready":
        ready = HMC(regression, step_size=1.0, inverse_mass_matrix=covariance, dense_mass=True, **options)
        settings["sampler"] = ready
    else:
        settings |= {"sampler": "hmc", "sampler_options": options}
    draws = fitted(regression, MCMC(**settings)).posterior_
    found = np.column_stack([draws["a"][:, 0], draws["b"][:, 0]])
    # One leapfrog step of length 1 halves the distance of a normal distribution's mean, and adds a normal momentum.
    off = np.linalg.solve(root, (found - (mean + starts) / 2).T)
    assert np.abs(off).max() < 6


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"a": [0.0, 0.0]}, r"must have values for \['a', 'b'\], got \['a'\]"),
        ({"a": 0.0, "b": 0.0}, r"of 'a' must have the shape \(2,\) for 2 chain\(s\), got \(\)"),
    ],
)
@pytest.mark.parametrize("sampler", ["nuts", NUTS(regression)], ids=["named", "ready"])
def test_starts_that_are_not_the_sites_are_refused(sampler, params, message):
    with pytest.raises(ValueError, match=message):
        fitted(regression, MCMC(sampler, num_chains=2, init_params=params))


# Guides that leave sites out, and guides of parts

STEPS = {"learning_rate": 0.03, "num_steps": 1500, "num_samples": 2000}
# Given the level's prior, the best normal distribution of the slope.
SLOPE_VARIANCE = 1 / ((X**2).sum() / NOISE**2 + 1)
SLOPE_MEAN = SLOPE_VARIANCE * (X[:, 0] @ Y) / NOISE**2


@pytest.mark.parametrize(
    "guide",
    [
        guide_of_slope,
        autoguide.AutoMultivariateNormal(handlers.block(regression, expose=["b"])),
    ],
    ids=["function", "AutoMultivariateNormal"],
)
def test_a_site_that_a_guide_leaves_out_has_its_prior(guide):
    model = fitted(regression, SVI(guide, **STEPS))
    posterior = model.posterior_
    assert posterior["a"].shape == posterior["b"].shape == (1, 2000)
    assert_mean(posterior["a"], 0.0)
    assert posterior["a"].std() == pytest.approx(1.0, rel=0.1)
    assert posterior["b"].mean() == pytest.approx(SLOPE_MEAN, abs=0.1)
    assert posterior["b"].std() == pytest.approx(SLOPE_VARIANCE**0.5, rel=0.2)
    assert abs(np.corrcoef(posterior["a"][0], posterior["b"][0])[0, 1]) < 0.1
    # Fresh draws are of both sites, too.
    assert_mean(model.sample_posterior(500)["posterior"]["a"], 0.0)
    # The density by the guide is that of the slope, times the prior of the level.
    log_q = model.to_datatree(X, Y)["sample_stats"]["log_q"]
    a, b = posterior["a"], posterior["b"]
    params = {name.rpartition("_")[2]: value for name, value in model.fit_result_.params.items()}
    scale = params["scale"] if "scale" in params else params["tril"].item()
    of_slope = dist.Normal(np.ravel(params["loc"]).item(), np.ravel(scale).item()).log_prob(b)
    np.testing.assert_allclose(log_q, of_slope + dist.Normal(0, 1).log_prob(a), rtol=1e-4, atol=1e-4)


def test_sites_of_rows_that_a_guide_leaves_out():
    guide = autoguide.AutoNormal(handlers.block(hierarchy, hide=["z"]))
    model = fitted(hierarchy, SVI(guide, **STEPS))
    posterior = model.posterior_
    assert posterior["z"].shape == (1, 2000, N_ROWS)
    # Each follows its prior given the other's draw.
    off = posterior["z"] - posterior["mu"][..., None]
    assert abs(off.mean()) < 4 / np.sqrt(off.size)
    assert off.std() == pytest.approx(1.0, rel=0.02)
    assert model.fit_result_.diagnostics["k_hat"] > 0.7


def test_a_list_of_guides():
    mean, _ = exact()
    posterior = fitted(regression, SVI(guide_list(of_slope=guide_of_slope), **STEPS)).posterior_
    # Means of a mean field are those of the posterior; spreads are conditional.
    assert posterior["a"].mean() == pytest.approx(mean[0], abs=0.08)
    assert posterior["a"].std() == pytest.approx((N_ROWS / NOISE**2 + 1) ** -0.5, rel=0.2)
    assert posterior["b"].mean() == pytest.approx(mean[1], abs=0.08)
    assert posterior["b"].std() == pytest.approx(SLOPE_VARIANCE**0.5, rel=0.2)


def test_the_parts_of_a_list_are_left_as_they_are():
    parts = guide_list()
    numpyro_svi(regression, parts).run(jax.random.key(0), 2, X, Y, progress_bar=False)
    before = [dict(vars(each)) for each in (parts, *parts)]
    blank = SVI(parts).checked().guide
    assert ByValue.of(blank) == ByValue.of(SVI(guide_list()).checked().guide)
    params = {"a_auto_loc": 3.0, "a_auto_scale": 0.2, "b_auto_loc": -2.0}
    model = fitted(regression, SVI(parts, init_params=params, num_steps=0, num_samples=200))
    assert_mean(model.posterior_["a"], 3.0)
    assert (model.posterior_["b"] == -2.0).all()
    # A point has no density that draws could be weighed by.
    assert "k_hat" not in model.fit_result_.diagnostics
    assert model.sample_posterior(50)["posterior"]["b"].shape == (1, 50)
    assert [dict(vars(each)) for each in (parts, *parts)] == before


def test_a_guide_of_local_chains_is_numpyros_own():
    x, y = X[:4].astype("float32"), Y[:4].astype("float32")

    def guide():
        return autoguide.AutoSemiDAIS(hierarchy, local_part, autoguide.AutoNormal(global_part), K=1)

    own = numpyro_svi(hierarchy, guide())
    params = own.get_params(own.init(jax.random.key(0), x, y))
    params |= {"mu_auto_loc": jnp.asarray(0.5), "auto_z_0_loc": jnp.arange(4.0)[:, None]}
    theirs = jax.jit(lambda params: own.guide.sample_posterior(jax.random.key(1), params, x, y, sample_shape=(3000,)))(
        params
    )
    # Steps of no length leave the parameters as they are.
    settings = SVI(guide(), numpyro.optim.SGD(0.0), num_steps=2, num_samples=3000, init_params=params)
    ours = NumPyroImpactRegressor(hierarchy, inference=settings, random_state=0).fit(x, y)
    assert np.isfinite(ours.fit_result_.losses).all()
    assert ours.posterior_["z"].shape == (1, 3000, 4)
    for name in ("mu", "z"):
        one, two = np.asarray(theirs[name]), ours.posterior_[name][0]
        np.testing.assert_allclose(two.mean(0), one.mean(0), atol=6 * one.std() / np.sqrt(3000))
        np.testing.assert_allclose(two.std(0), one.std(0), rtol=0.1)


def test_a_guide_cannot_leave_an_improper_site_out():
    def kernel(X, y=None):
        a = numpyro.sample("a", dist.ImproperUniform(dist.constraints.real, (), ()))
        b = numpyro.sample("b", dist.Normal(0.0, 1.0))
        numpyro.sample("y", dist.Normal(a + b * X[:, 0], NOISE), obs=y)

    message = r"SVI: the guide leaves \['a'\] to their priors, which are improper"
    with pytest.raises(ValueError, match=message):
        fitted(kernel, SVI(guide_of_slope, num_steps=1))


# Samplers of every kind


def gibbs(model):
    return Gibbs([(DiscreteGibbs(model), discrete_latent_sites), (NUTS(model), None)])


CHOOSING = {
    "DiscreteHMCGibbs": DiscreteHMCGibbs(NUTS(choice), modified=True),
    "MixedHMC": MixedHMC(HMC(choice, trajectory_length=2.0), num_discrete_updates=4),
}
STATISTICS = {"acceptance_rate", "diverging", "energy", "lp", "n_steps", "step_size"}


@pytest.mark.parametrize("name", CHOOSING)
def test_discrete_sites_are_sampled(name):
    probabilities, means, _ = exact_choice()
    model = fitted(choice, numpyro_mcmc(CHOOSING[name], num_samples=1000))
    posterior, result = model.posterior_, model.fit_result_
    assert np.issubdtype(posterior["c"].dtype, np.integer)
    for c, probability in enumerate(probabilities):
        assert_mean(posterior["c"] == c, probability)
    assert_mean(posterior["a"], probabilities @ means)
    assert set(result.sample_stats) == STATISTICS | ({"tree_depth"} if name == "DiscreteHMCGibbs" else set())
    assert all(each.shape == (2, 1000) for each in result.sample_stats.values())
    # The log density of each draw, as NumPyro states it.
    a, c = posterior["a"][0, -1], posterior["c"][0, -1]
    log_p = dist.Normal(a + 0.6 * c * X[:, 0], NOISE).log_prob(Y).sum() + dist.Normal(0, 1).log_prob(a)
    expected = float(log_p) + np.log(PROBABILITIES[c])
    assert result.sample_stats["lp"][0, -1] == pytest.approx(expected, rel=1e-4)
    predicted = posterior["a"].mean() + 0.6 * posterior["c"].mean() * X[:3, 0]
    np.testing.assert_allclose(model.predict(X[:3]), predicted, rtol=1e-5)
    assert np.issubdtype(model.sample_posterior(5)["posterior"]["c"].dtype, np.integer)


SAMPLERS = {
    "HMCGibbs": (regression, HMCGibbs(NUTS(regression), update_of_level, ["a"]), STATISTICS | {"tree_depth"}),
    "HMCECS": (
        subsampled,
        HMCECS(
            NUTS(subsampled),
            num_blocks=2,
            proxy=HMCECS.taylor_proxy({"a": jnp.asarray(0.7), "b": jnp.asarray(1.1)}),
        ),
        STATISTICS | {"tree_depth"},
    ),
    "BarkerMH": (regression, numpyro.infer.BarkerMH(regression), {"acceptance_rate", "lp", "step_size"}),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_reach_the_posterior(name):
    kernel, sampler, statistics = SAMPLERS[name]
    num_samples = 1500 if name == "BarkerMH" else 600
    model = fitted(kernel, numpyro_mcmc(sampler, num_warmup=300, num_samples=num_samples))
    assert_regression(model.posterior_, *exact(), of_sd=0.3)
    assert set(model.fit_result_.sample_stats) == statistics
    assert model.posterior_["a"].shape == (2, num_samples)


FRESH = {
    "HMC": (regression, HMC),
    "NUTS": (regression, NUTS),
    "SA": (regression, numpyro.infer.SA),
    "BarkerMH": (regression, numpyro.infer.BarkerMH),
    "HMCGibbs": (regression, lambda model: HMCGibbs(NUTS(model), update_of_level, ["a"])),
    "Gibbs": (choice, gibbs),
    "CustomGibbs": (regression, lambda model: Gibbs([(CustomGibbs(update_of_level), ["a"]), (HMC(model), None)])),
    "DiscreteHMCGibbs": (choice, lambda model: DiscreteHMCGibbs(NUTS(model))),
    "MixedHMC": (choice, lambda model: MixedHMC(HMC(model))),
    "HMCECS": (subsampled, lambda model: HMCECS(NUTS(model), num_blocks=2)),
}


@pytest.mark.parametrize("name", FRESH)
def test_samplers_are_read_without_their_past_and_left_as_they_are(name):
    model, make = FRESH[name]
    used = make(model)
    data = X.astype(np.float32), Y.astype(np.float32)
    jax.eval_shape(lambda: used.init(jax.random.key(0), 3, None, data, {}))
    before = dict(vars(used))
    estimator = dict(vars(used._estimator)) if isinstance(used, HMCECS) else None
    read = MCMC(used).checked()
    assert ByValue.of(read.sampler) == ByValue.of(MCMC(make(model)).checked().sampler)
    assert vars(used) == before
    if estimator is not None:
        assert vars(used._estimator) == estimator
        assert read.sampler._estimator is not used._estimator


@pytest.mark.parametrize("kind", [numpyro.infer.AIES, numpyro.infer.ESS])
def test_an_ensemble_has_two_chains_in_each_half(kind):
    with pytest.raises(ValueError, match="needs at least 4 chains, got `num_chains`=2"):
        MCMC(kind(regression), num_chains=2).checked()
    MCMC(kind(regression), num_chains=4).checked()


def test_samplers_that_need_a_gradient_move_without_discrete_sites():
    probabilities, means, _ = exact_choice()
    posterior = fitted(choice, MCMC(num_warmup=300, num_chains=2)).posterior_
    assert np.issubdtype(posterior["c"].dtype, np.integer)
    for c, probability in enumerate(probabilities):
        assert_mean(posterior["c"] == c, probability)
    assert_mean(posterior["a"], probabilities @ means)


def test_an_ensemble_keeps_its_number_of_chains():
    used = numpyro.infer.AIES(regression)
    data = X.astype(np.float32), Y.astype(np.float32)
    jax.eval_shape(lambda: used.init(jax.random.split(jax.random.key(0), 4), 3, None, data, {}))
    MCMC(used, num_chains=4).checked()
    with pytest.raises(ValueError, match=r"the sampler AIES has run with 4 chains, .* there are `num_chains`=6"):
        MCMC(used, num_chains=6).checked()


# scikit-learn's protocol, which methods of NumPyro's objects resemble

FOREIGN = {
    "NumPyro's SVI": numpyro_svi(regression),
    "NumPyro's MCMC": numpyro_mcmc(NUTS(regression), num_samples=20, num_warmup=20),
    "an optimiser and a guide of NumPyro's": SVI(
        autoguide.AutoNormal(regression), numpyro.optim.Adam(0.05), num_steps=20, num_samples=20
    ),
    "an optimiser of optax's": SVI(optim=optax.adam(0.05), num_steps=20, num_samples=20),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_parameters_clones_and_views(name):
    inference = FOREIGN[name]
    model = NumPyroImpactRegressor(regression, inference=inference, random_state=0)
    assert model.get_params(deep=False)["inference"] is inference
    nested = {each for each in model.get_params() if each.startswith("inference__")}
    ours = isinstance(inference, SVI)
    assert nested == ({f"inference__{each}" for each in inference.get_params()} if ours else set())
    copy = clone(model)
    assert type(copy.inference) is type(inference)
    assert copy.inference is not inference
    assert resolve_inference(copy.inference).num_samples == resolve_inference(inference).num_samples
    assert copy.kernel is regression
    assert copy.random_state == 0
    assert type(inference).__name__ in repr(model)
    assert "inference" in model._repr_html_()
    assert model.set_params(random_state=1).random_state == 1
    if not ours:
        with pytest.raises(ValueError, match="`inference__num_steps` cannot be set: `inference` is"):
            model.set_params(inference__num_steps=3)


def test_clones_keep_requests_of_arguments():
    with pytest.MonkeyPatch.context():
        from sklearn import config_context

        with config_context(enable_metadata_routing=True):
            model = NumPyroImpactRegressor(regression, inference=FOREIGN["NumPyro's SVI"])
            model.set_fit_request(sample_weight=True)
            assert clone(model).get_metadata_routing().fit.requests["sample_weight"] is True


def test_searches():
    model = NumPyroImpactRegressor(regression, inference=FOREIGN["an optimiser and a guide of NumPyro's"])
    search = GridSearchCV(model, {"random_state": [0, 1]}, cv=2, error_score="raise").fit(X, Y)
    assert search.best_estimator_.predict(X).shape == (N_ROWS,)


def test_searches_among_numpyro_objects():
    still, moving = numpyro.optim.SGD(0.0), numpyro.optim.Adam(0.05)
    guide = autoguide.AutoNormal(regression, init_loc_fn=init_to_value(values={"a": 0.0, "b": 0.0}), init_scale=1e-6)
    settings = SVI(guide, num_steps=99, num_samples=20)
    model = NumPyroImpactRegressor(regression, inference=settings, random_state=0)
    search = GridSearchCV(model, {"inference__optim": [still, moving]}, cv=2, error_score="raise").fit(X, Y)
    # What does not move predicts zeros.
    at_start = np.mean([r2_score(half, np.zeros(len(half))) for half in np.split(Y, 2)])
    first, second = search.cv_results_["mean_test_score"]
    assert first == pytest.approx(at_start, abs=1e-3)
    assert second == pytest.approx(cross_val_score(LinearRegression(), X, Y, cv=2).mean(), abs=0.1)
    ready = numpyro_svi(regression)
    search = GridSearchCV(model, {"inference": [settings, ready]}, cv=2).fit(X, Y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert "inference" in search._repr_html_()
    copied = clone({"inference": ready}, safe=False)["inference"]
    assert type(copied) is type(ready)
    assert copied is not ready


class Oddly:
    """A kernel whose method has the name of scikit-learn's, and another meaning."""

    def __call__(self, X, y=None):
        regression(X, y)

    def get_params(self, state):
        return {"loc": state}

    def set_params(self, state):
        raise NotImplementedError


def test_kernels_whose_methods_have_other_meanings():
    guide = autoguide.AutoNormal(Oddly())
    settings = SVI(guide, init_params={"a_auto_loc": 0.0}, num_steps=0, num_samples=5)
    model = NumPyroImpactRegressor(Oddly(), inference=settings)
    assert not any(name.startswith("kernel__") for name in model.get_params())
    assert isinstance(clone(model).fit(X, Y).kernel_, Oddly)


class Sloped(BaseEstimator):
    """A kernel with parameters of its own."""

    def __init__(self, shift=0.0):
        self.shift = shift

    def __call__(self, X, y=None):
        regression(X, y, shift=self.shift)


def test_kernels_with_parameters_keep_them():
    model = NumPyroImpactRegressor(Sloped(2.0), inference=FOREIGN["NumPyro's SVI"])
    assert model.get_params()["kernel__shift"] == 2.0
    assert clone(model).set_params(kernel__shift=3.0).kernel.shift == 3.0
    assert model.kernel.shift == 2.0
