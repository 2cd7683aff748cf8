"""Discrete latent sites: summed out exactly, in fits and after them, and inferred from outcomes."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import numpyro.infer
import pytest
from numpyro import handlers
from numpyro.infer import NUTS, DiscreteHMCGibbs, TraceEnum_ELBO
from numpyro.infer.autoguide import AutoNormal
from scipy import stats
from scipy.special import logsumexp

from skaimz import NumPyroImpactClassifier, NumPyroImpactRegressor
from skaimz.exceptions import StateWarning
from skaimz.inference import MCMC, SVI

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 1)).astype(np.float32)
Z = rng.random(60) < 0.3
Y = (2 * X[:, 0] + 6 * Z + rng.normal(size=60)).astype(np.float32)
NEW = np.array([[-1.0], [0.5], [2.0]], np.float32)
# States of a row's component: all mass of a posterior of `b` lies on this grid.
GRID = np.linspace(0.5, 3.5, 601)


def mixture(X, y=None):
    b = numpyro.sample("b", dist.Normal(0, 1))
    with numpyro.plate("rows", X.shape[0]):
        z = numpyro.sample("z", dist.Bernoulli(0.3), infer={"enumerate": "parallel"})
        numpyro.sample("y", dist.Normal(X[:, 0] * b + 6 * z, 1.0), obs=y)


def log_densities_of_states(b, X, y):
    """Return the log densities ``(2, ..., n_rows)`` of each state and outcome."""
    mean = np.multiply.outer(b, X[:, 0])
    return np.stack([
        np.log(0.7) + stats.norm.logpdf(y, mean, 1), np.log(0.3) + stats.norm.logpdf(y, mean + 6, 1)
    ])  # fmt: skip


def exact_b(weight=1.0):
    """Return mean and standard deviation of the posterior of `b`, by quadrature."""
    log_p = (weight * logsumexp(log_densities_of_states(GRID, X, Y), axis=0)).sum(axis=-1) - GRID**2 / 2
    p = np.exp(log_p - logsumexp(log_p))
    mean = p @ GRID
    return mean, np.sqrt(p @ (GRID - mean) ** 2)


SHORT = {"num_warmup": 300, "num_samples": 600, "progress_bar": False}
WAYS = {
    "auto": "auto",
    "mcmc": MCMC(num_warmup=300, num_samples=600, num_chains=1),
    "ready NUTS": numpyro.infer.MCMC(NUTS(mixture), **SHORT),
    "svi": SVI(num_steps=1500, loss=TraceEnum_ELBO()),
    "ready SVI": numpyro.infer.SVI(
        mixture, AutoNormal(handlers.block(mixture, hide=["z"])), numpyro.optim.Adam(0.003), TraceEnum_ELBO()
    ),
    "Gibbs": numpyro.infer.MCMC(DiscreteHMCGibbs(NUTS(mixture)), **SHORT),
}


@pytest.fixture(scope="module")
def fits():
    return {}


def fitted(fits, name):
    if name not in fits:
        fits[name] = NumPyroImpactRegressor(mixture, inference=WAYS[name], random_state=0).fit(X, Y)
    return fits[name]


@pytest.mark.parametrize("name", WAYS)
def test_every_inference_sums_over_the_states_of_rows(fits, name):
    model = fitted(fits, name)
    mean, std = exact_b()
    b = model.posterior_["b"]
    assert b.mean() == pytest.approx(mean, abs=0.3 * std)
    assert b.std() == pytest.approx(std, rel=0.2)
    assert set(model.posterior_) == ({"b", "z"} if name == "Gibbs" else {"b"})
    assert model.fit_result_.draws.keys() == model.posterior_.keys()


@pytest.mark.parametrize("name", ["auto", "Gibbs"])
def test_what_follows_a_fit_is_exact_given_the_draws(fits, name):
    model = fitted(fits, name)
    b = model.posterior_["b"].ravel().astype(float)
    mean, std = model.predict(NEW, return_std=True)
    by_draw = np.multiply.outer(b, NEW[:, 0].astype(float)) + 6 * 0.3
    np.testing.assert_allclose(mean, by_draw.mean(axis=0), rtol=1e-5)
    variance = 1 + 36 * 0.3 * 0.7 + by_draw.var(axis=0)
    np.testing.assert_allclose(std, np.sqrt(variance), rtol=1e-4)
    by_state = log_densities_of_states(b, X.astype(float), Y.astype(float))
    density = model.log_likelihood_on_batch(X, Y, return_datatree=False)["y"]
    np.testing.assert_allclose(density.reshape(-1, 60), logsumexp(by_state, axis=0), atol=1e-4)
    posterior = model.infer_discrete(X, Y)
    expected = np.exp(by_state - logsumexp(by_state, axis=0)).mean(axis=1)
    np.testing.assert_allclose(posterior.probabilities["z"], expected.T, atol=1e-5)
    np.testing.assert_array_equal(posterior.states["z"], [0, 1])
    assert (posterior.most_probable("z") == Z).mean() > 0.98


def test_draws_hold_states_and_conditions_set_them(fits):
    model = fitted(fits, "mcmc")
    draws = model.sample_posterior_predictive_on_batch(
        NEW, in_sample=False, return_sites=["z", "y"], return_datatree=False
    )
    z, n = draws["z"][0], draws["z"].size
    assert z.mean() == pytest.approx(0.3, abs=5 * 0.46 / np.sqrt(n))
    rest = draws["y"][0] - model.posterior_["b"][0][:, None] * NEW[:, 0] - 6 * z
    assert stats.kstest(rest.ravel(), "norm").pvalue > 1e-3
    with pytest.warns(StateWarning, match=r"states of \['z'\] are drawn given the other sites, but not given the out"):
        model.sample_posterior_predictive_on_batch(X, return_sites="z")
    set_to_one = model.sample_posterior_predictive_on_batch(NEW, condition={"z": 1}, return_datatree=False)["y"][0]
    np.testing.assert_allclose(set_to_one.mean(), 6 + (model.posterior_["b"].mean() * NEW).mean(), atol=0.15)
    slope = model.estimate_slope(NEW, 0)["0"]["effect"].to_numpy()
    np.testing.assert_allclose(slope[0], model.posterior_["b"][0], rtol=1e-4)


def test_weights_repeat_rows(fits):
    model = NumPyroImpactRegressor(mixture, random_state=0)
    weighted = model.fit(X, Y, sample_weight=np.full(60, 2.0)).posterior_["b"]
    mean, std = exact_b(2.0)
    assert weighted.mean() == pytest.approx(mean, abs=0.2 * std)
    assert weighted.std() == pytest.approx(std, rel=0.1)


def known(X, y=None):
    """A mixture without any unknown parameter."""
    with numpyro.plate("rows", X.shape[0]):
        z = numpyro.sample("z", dist.Categorical(np.array([0.2, 0.5, 0.3])))
        numpyro.sample("y", dist.Normal(2 * X[:, 0] + 3.0 * z, jnp.array([1.0, 0.5, 2.0])[z]), obs=y)


def test_a_mixture_of_known_components():
    model = NumPyroImpactRegressor(known, inference=SVI(num_steps=1, num_samples=3), random_state=0).fit(X, Y)
    p, scale, means = np.array([0.2, 0.5, 0.3]), np.array([1.0, 0.5, 2.0]), 2 * X + 3 * np.arange(3)
    by_state = np.log(p) + stats.norm.logpdf(Y[:, None], means, scale)
    total = logsumexp(by_state, axis=1)
    density = model.log_likelihood_on_batch(X, Y, return_datatree=False)["y"]
    np.testing.assert_allclose(density[0], np.broadcast_to(total, (3, 60)), atol=1e-5)
    mean, std = model.predict(X, return_std=True)
    np.testing.assert_allclose(mean, means @ p, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(std, np.sqrt((scale**2 + means**2) @ p - (means @ p) ** 2), rtol=1e-4)
    np.testing.assert_allclose(
        model.infer_discrete(X, Y).probabilities["z"], np.exp(by_state - total[:, None]), atol=1e-5
    )


def test_effects_of_a_row_on_its_state_have_slopes():
    def kernel(X, y=None):
        numpyro.sample("unused", dist.Normal(0, 1))
        with numpyro.plate("rows", X.shape[0]):
            z = numpyro.sample("z", dist.Bernoulli(logits=X[:, 0]))
            numpyro.sample("y", dist.Normal(3.0 * z, 1.0), obs=y)

    model = NumPyroImpactRegressor(kernel, posterior={"unused": np.zeros(4)}, random_state=0)
    p = 1 / (1 + np.exp(-NEW[:, 0]))
    np.testing.assert_allclose(model.predict(NEW), 3 * p, rtol=1e-5)
    slope = model.estimate_slope(NEW, 0)["0"]["effect"].to_numpy()
    np.testing.assert_allclose(slope, np.mean(3 * p * (1 - p)), rtol=1e-4)


def two_outputs(X, y=None):
    """A state of each row that its two outputs share, and random effects that depend on the state."""
    spread = numpyro.sample("spread", dist.HalfNormal(1))
    with numpyro.plate("rows", X.shape[0], dim=-2):
        z = numpyro.sample("z", dist.Bernoulli(0.4))
        with numpyro.plate("outputs", 2):
            numpyro.sample("y", dist.Normal(X + z, spread), obs=y)


def test_outputs_of_a_row_share_its_state():
    y = np.column_stack([Y, Y + 1])
    model = NumPyroImpactRegressor(two_outputs, posterior={"spread": np.array([0.5, 1.0])}, random_state=0)
    density = model.log_likelihood(X, y)["log_likelihood"]["y"]
    spread = np.array([0.5, 1.0])[:, None, None]
    by_state = [np.log(p) + stats.norm.logpdf(y, X + z, spread).sum(axis=2) for z, p in ((0, 0.6), (1, 0.4))]
    np.testing.assert_allclose(density[0], logsumexp(by_state, axis=0), rtol=1e-4)
    assert density.dims == ("chain", "draw", "rows")
    np.testing.assert_allclose(model.predict(NEW), np.repeat(NEW + 0.4, 2, axis=1), rtol=1e-5)


def hidden_label(X, y=None):
    """A classifier with a label that is sometimes wrong."""
    b = numpyro.sample("b", dist.Normal(0, 2))
    with numpyro.plate("rows", X.shape[0]):
        label = numpyro.sample("label", dist.Bernoulli(logits=b * X[:, 0]))
        numpyro.sample("y", dist.Bernoulli(jnp.array([0.1, 0.8])[label]), obs=y)


def test_class_probabilities_are_sums():
    model = NumPyroImpactClassifier(hidden_label, posterior={"b": np.array([1.0, 2.0])}, random_state=0)
    p = (1 / (1 + np.exp(-np.multiply.outer([1.0, 2.0], NEW[:, 0])))).mean(axis=0)
    np.testing.assert_allclose(model.predict_proba(NEW)[:, 1], 0.1 + 0.7 * p, rtol=1e-5)


# Sites that all rows share

TIMES = np.arange(40.0)[:, None]
AFTER = np.where(np.arange(40) < 23, 1.0, 2.5) + np.random.default_rng(1).normal(size=40)


def switch(X, y=None):
    level = numpyro.sample("level", dist.Normal(0, 3))
    at = numpyro.sample("at", dist.DiscreteUniform(1, 39))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(level + 1.5 * (X[:, 0] >= at), 1.0), obs=y)


def test_a_switch_point_has_exact_draws():
    model = NumPyroImpactRegressor(switch, random_state=0).fit(TIMES, AFTER)
    grid, states = np.linspace(-0.5, 2.5, 301), np.arange(1, 40)
    mean = grid[:, None, None] + 1.5 * (np.arange(40) >= states[:, None])
    log_p = stats.norm.logpdf(AFTER, mean, 1).sum(axis=-1) + stats.norm.logpdf(grid, 0, 3)[:, None]
    p = np.exp(log_p - logsumexp(log_p))
    at, level = model.posterior_["at"], model.posterior_["level"]
    assert at.shape == level.shape
    assert level.mean() == pytest.approx(p.sum(axis=1) @ grid, abs=0.02)
    found = np.bincount(at.ravel(), minlength=40)[1:] / at.size
    np.testing.assert_allclose(found, p.sum(axis=0), atol=5 * 0.5 / np.sqrt(at.size))
    posterior = model.infer_discrete(TIMES, AFTER)
    np.testing.assert_allclose(posterior.probabilities["at"], p.sum(axis=0), atol=0.02)
    np.testing.assert_array_equal(posterior.states["at"], states)
    # A pair of draws belongs together: the joint distribution is that of the posterior.
    joint = (level * at).mean() - level.mean() * at.mean()
    expected = states @ p.T @ grid - (p.sum(axis=1) @ grid) * (p.sum(axis=0) @ states)
    assert joint == pytest.approx(expected, abs=0.15)
    assert model.sample_posterior(50)["posterior"]["at"].shape == (1, 50)
    with pytest.raises(ValueError, match=r"`sample_weight` needs rows that stand alone.*\['at'\] are summed out"):
        model.fit(TIMES, AFTER, sample_weight=np.ones(40))


def counted(X, y=None):
    with numpyro.plate("rows", X.shape[0]):
        n = numpyro.sample("n", dist.Poisson(3.0))
        numpyro.sample("y", dist.Normal(n, 1.0), obs=y)


@pytest.mark.parametrize("inference", ["auto", "svi", "mcmc"])
def test_sites_without_bound_are_refused(inference):
    with pytest.raises(ValueError, match=r"\['n'\] do not have a finite number of states"):
        NumPyroImpactRegressor(counted, inference=inference).fit(X, Y)


def test_missing_outcomes_are_left_out_of_the_sum():
    kept = np.arange(60) % 7 > 0
    y = np.where(kept, Y, np.nan)
    model = NumPyroImpactRegressor(mixture, missing_outcomes="ignore", random_state=0).fit(X, y)
    mean, sd = exact_b(kept)
    assert model.posterior_["b"].mean() == pytest.approx(mean, abs=0.15 * sd)
    assert model.posterior_["b"].std() == pytest.approx(sd, rel=0.1)


# Labels of items by annotators who err (Dawid and Skene), and inputs that are missing


def annotated(X, y=None):
    """Three annotators label each row; the first column of X is 1 for items that are hard."""
    right = numpyro.sample("right", dist.Beta(2, 1).expand([3]).to_event(1))
    with numpyro.plate("items", X.shape[0], dim=-2):
        c = numpyro.sample("c", dist.Bernoulli(0.4), infer={"enumerate": "parallel"})
        with numpyro.plate("annotators", 3, dim=-1):
            p = jnp.where(X[:, :1] > 0, 0.5, right)
            numpyro.sample("y", dist.Bernoulli(jnp.where(c == 1, p, 1 - p)), obs=y)


def test_annotators():
    right = np.array([[0.9, 0.8, 0.6], [0.7, 0.95, 0.5]])
    y = np.array([[1, 1, 0], [0, 0, 1], [1, 0, 0], [1, 1, 1]])
    X = np.array([[0.0], [0.0], [1.0], [0.0]])
    model = NumPyroImpactRegressor(annotated, posterior={"right": right}, random_state=0)
    p = np.where(X > 0, 0.5, right[:, None])
    by_state = [np.log(share) + np.log(np.where(y == c, p, 1 - p)).sum(axis=-1) for c, share in enumerate([0.6, 0.4])]
    total = logsumexp(by_state, axis=0)
    density = model.log_likelihood_on_batch(X, y, in_sample=False, return_datatree=False)["y"]
    np.testing.assert_allclose(density[0], total, rtol=1e-5)
    expected = np.exp(by_state - total).mean(axis=1).T
    probabilities = model.infer_discrete(X, y, in_sample=False).probabilities["c"]
    np.testing.assert_allclose(probabilities.reshape(4, 2), expected, rtol=1e-4)


def imputed(X, y=None):
    """A binary input that is missing where it is -1."""
    share = numpyro.sample("share", dist.Beta(2, 2))
    seen = X[:, 0] >= 0
    with numpyro.plate("rows", X.shape[0]):
        with handlers.mask(mask=seen):
            numpyro.sample("a_seen", dist.Bernoulli(share), obs=jnp.where(seen, X[:, 0], 0.0))
        with handlers.mask(mask=~seen):
            a = numpyro.sample("a", dist.Bernoulli(share), infer={"enumerate": "parallel"})
        numpyro.sample("y", dist.Normal(jnp.where(seen, X[:, 0], a), 0.5), obs=y)


def test_discrete_inputs_are_imputed():
    X = np.array([[0.0], [1.0], [-1.0], [-1.0]] * 5)
    y = np.array([0.1, 0.8, 0.9, 0.4] * 5)
    model = NumPyroImpactRegressor(imputed, random_state=0).fit(X, y)
    grid = np.linspace(0.005, 0.995, 199)[:, None]
    normal = stats.norm.logpdf(y[:4], np.array([[0.0], [1.0]]), 0.5)
    both = np.logaddexp(np.log(1 - grid) + normal[0, 2:], np.log(grid) + normal[1, 2:])
    log_p = stats.beta.logpdf(grid[:, 0], 2, 2) + 5 * (np.log(grid * (1 - grid))[:, 0] + both.sum(axis=1))
    p = np.exp(log_p - logsumexp(log_p))
    assert model.posterior_["share"].mean() == pytest.approx(p @ grid[:, 0], abs=0.01)
    share = model.posterior_["share"].ravel()[:, None]
    density = model.log_likelihood_on_batch(X, y, return_datatree=False)["y"][0, :, :4]
    expected = np.logaddexp(np.log(1 - share) + normal[0, 2:], np.log(share) + normal[1, 2:])
    np.testing.assert_allclose(density[:, 2:], expected, rtol=1e-4)
    np.testing.assert_allclose(density[:, :2], np.broadcast_to([normal[0, 0], normal[1, 1]], (len(density), 2)))
    np.testing.assert_allclose(model.predict(X[:3]), [0, 1, share.mean()], atol=1e-4)
