"""Variational fits against posteriors in closed form, and what a fit may not depend on."""

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
from numpyro.distributions import constraints
from numpyro.infer import autoguide, init_to_value
from numpyro.infer.util import log_density

from skaimz.exceptions import GuideWarning, LocalGuideWarning, NonFiniteLossWarning, UnsettledGuideWarning
from skaimz.inference import SVI, Data, course, fit, resolve_inference, resume, svi
from skaimz.kernels import Inputs, trace_kernel

# Short fits need not have settled; where a warning is meant, a test waits for it.
pytestmark = [
    pytest.mark.filterwarnings("ignore::skaimz.exceptions.UnsettledGuideWarning"),
    pytest.mark.filterwarnings("ignore::skaimz.exceptions.GuideWarning"),
]

PRIOR, NOISE = 2.0, 0.5
N_ROWS = 20
STEPS = 1500
COVARIANCE = np.array([[1.0, 0.6], [0.6, 0.5]], np.float32)


def make_kernel():
    """Return one of many equal kernels: no two are the same object."""

    def kernel(X, y=None):
        theta = numpyro.sample("theta", dist.Normal(0, PRIOR).expand([2]).to_event(1))
        numpyro.sample("y", dist.Normal(X @ theta, NOISE), obs=y)

    return kernel


def centred_kernel(X, y=None):
    theta = numpyro.sample("theta", dist.Normal(0, PRIOR).expand([2]).to_event(1))
    numpyro.sample("y", dist.Normal((X - X.mean(0)) @ theta, NOISE), obs=y)


def param_kernel(X, y=None):
    """Has a maximum-likelihood solution, and no posterior."""
    loc = numpyro.param("loc", 0.0)
    scale = numpyro.param("scale", 1.0, constraint=constraints.positive)
    numpyro.sample("y", dist.Normal(loc + 0 * X[:, 0], scale), obs=y)


def noise_kernel(X, y=None):
    """Learn the noise by maximum marginal likelihood."""
    theta = numpyro.sample("theta", dist.Normal(0, PRIOR).expand([2]).to_event(1))
    noise = numpyro.param("noise", 1.0, constraint=constraints.positive)
    numpyro.sample("y", dist.Normal(X @ theta, noise), obs=y)


def local_kernel(X, y=None):
    with numpyro.plate("rows", X.shape[0]):
        z = numpyro.sample("z", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(z, 1), obs=y)


def local_guide(X, y=None):
    """Find each row's latent from its outcome, so that minibatches can be used."""
    slope = numpyro.param("slope", 0.0)
    scale = numpyro.param("scale", 1.0, constraint=constraints.positive)
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("z", dist.Normal(slope * y, scale))


def mean_field_guide(X, y=None):
    loc = numpyro.param("loc", jnp.zeros(2))
    scale = numpyro.param("scale", jnp.ones(2), constraint=constraints.positive)
    numpyro.sample("theta", dist.Normal(loc, scale).to_event(1))


def made_rows(n_rows=N_ROWS, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, 2)) @ np.array([[1.0, 0.6], [0.0, 0.8]])
    y = X @ [1.0, -1.0] + NOISE * rng.normal(size=n_rows)
    return {"X": X.astype(dtype), "y": y.astype(dtype)}


def posterior_of(rows, weight=None):
    """Return mean, covariance and the mean-field standard deviations of the conjugate posterior."""
    X, y = rows["X"].astype(float), rows["y"].astype(float)
    weight = np.ones(len(y)) if weight is None else weight
    precision = (X * weight[:, None]).T @ X / NOISE**2 + np.eye(2) / PRIOR**2
    covariance = np.linalg.inv(precision)
    return covariance @ (X * weight[:, None]).T @ y / NOISE**2, covariance, np.diag(precision) ** -0.5


def run(kernel, rows, settings, seed=0, weight=None):
    """Fit a kernel, and return it with what came of it."""
    traced, numbers = trace_kernel(kernel, Inputs({"X": rows["X"]}, {}), "X", "y")
    settings = resolve_inference(settings)
    return traced, settings, fit(traced, Data(numbers, rows, {}, weight), settings, seed)


def same_bits(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def share_of_equal(a, b):
    """Return how many draws of ``a`` are in ``b``, at any place: a few float32 numbers meet by chance."""
    return np.isin(a, b).mean()


@pytest.fixture(scope="module")
def rows():
    return made_rows()


@pytest.fixture(scope="module")
def fitted(rows):
    return run(make_kernel(), rows, SVI(num_steps=STEPS, num_samples=4000))


def correlated_kernel(X, y=None):
    theta = numpyro.sample("theta", dist.Normal(0, PRIOR).expand([2, 2]).to_event(2))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.MultivariateNormal(X @ theta, COVARIANCE), obs=y)


def fit_only_kernel(X, y=None):
    theta = numpyro.sample("theta", dist.Normal(0, PRIOR).expand([2]).to_event(1))
    numpyro.sample("y", dist.Normal(X @ theta, NOISE), obs=y)
    if y is not None:
        numpyro.factor("penalty", -(((X @ theta).sum()) ** 2))


def pseudo_kernel(X, y=None):
    theta = numpyro.sample("theta", dist.Normal(0, PRIOR).expand([2]).to_event(1))
    numpyro.sample("y", dist.Normal(X @ theta, NOISE), obs=y)
    numpyro.sample("pseudo", dist.Normal(X @ theta, NOISE), obs=0.0)


# Posteriors


def assert_close(draws, mean, sd, *, of_mean=0.2, of_sd=0.2):
    assert np.abs(draws.mean(0) - mean).max() < of_mean * np.min(sd)
    np.testing.assert_allclose(draws.std(0), sd, rtol=of_sd)


def test_a_mean_field_guide_reaches_its_optimum(rows, fitted):
    mean, covariance, sd = posterior_of(rows)
    assert np.abs(covariance[0, 1] / np.sqrt(np.prod(np.diag(covariance)))) > 0.7  # so that the families differ
    draws = fitted[2].draws["theta"]
    assert draws.shape == (1, 4000, 2)
    assert draws.dtype == np.float32
    assert_close(draws[0], mean, sd)


@pytest.mark.parametrize(
    ("guide", "of_sd"), [("auto_multivariate_normal", 0.2), ("auto_lowrank", 0.2), ("auto_laplace", 0.05)]
)
def test_guides_with_covariance_reach_the_posterior(rows, guide, of_sd):
    mean, covariance, _ = posterior_of(rows)
    *_, result = run(make_kernel(), rows, SVI(guide=guide, num_steps=STEPS, num_samples=4000))
    draws = result.draws["theta"][0]
    assert_close(draws, mean, np.sqrt(np.diag(covariance)), of_mean=0.3, of_sd=of_sd)
    expected = covariance[0, 1] / np.sqrt(np.prod(np.diag(covariance)))
    assert np.corrcoef(draws.T)[0, 1] == pytest.approx(expected, abs=0.06)


@pytest.mark.parametrize("batch_size", [None, 7])
@pytest.mark.parametrize("n_rows", [16, N_ROWS], ids=["full", "padded"])
def test_rows_of_a_multivariate_output_can_be_padded_and_batched(batch_size, n_rows):
    X = made_rows(n_rows)["X"]
    y = np.random.default_rng(1).multivariate_normal(np.zeros(2), COVARIANCE, n_rows).astype(np.float32)
    y += X @ np.array([[1.0, 0.0], [-1.0, 2.0]], np.float32)
    settings = SVI(guide="auto_delta", num_steps=2 * STEPS, batch_size=batch_size)
    traced, _, result = run(correlated_kernel, {"X": X, "y": y}, settings)
    assert traced.spec.can_be_padded
    inverse = np.linalg.inv(COVARIANCE.astype(float))
    precision = np.kron(X.T.astype(float) @ X, inverse) + np.eye(4) / PRIOR**2
    mode = np.linalg.solve(precision, (X.T @ y @ inverse).ravel()).reshape(2, 2)
    np.testing.assert_allclose(result.draws["theta"][0, 0], mode, atol=2e-3 if batch_size is None else 0.05)


@pytest.mark.parametrize(
    "kernel",
    [
        pytest.param(fit_only_kernel, id="a factor with an outcome alone"),
        pytest.param(pseudo_kernel, id="a scalar observed for every row"),
    ],
)
def test_padding_does_not_count(rows, kernel):
    *_, result = run(kernel, rows, SVI(guide="auto_delta", num_steps=STEPS))
    mode = {"theta": jnp.asarray(result.draws["theta"][0, 0])}
    gradient = jax.grad(lambda at: log_density(kernel, (), rows, at)[0])(mode)["theta"]
    np.testing.assert_allclose(gradient, 0, atol=0.1)


def test_a_delta_guide_finds_the_mode(rows):
    mean, *_ = posterior_of(rows)
    *_, result = run(make_kernel(), rows, SVI(guide="auto_delta", num_steps=STEPS, num_samples=10))
    assert np.ptp(result.draws["theta"], axis=1).max() == 0
    np.testing.assert_allclose(result.draws["theta"][0, 0], mean, atol=1e-3)
    mode = {"theta": jnp.asarray(mean, jnp.float32)}
    expected = -float(log_density(make_kernel(), (), rows, mode)[0])
    assert result.diagnostics["loss_final"] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    "guide",
    [
        "auto_iaf",
        "auto_bnaf",
        autoguide.AutoIAFNormal(make_kernel(), num_flows=1, hidden_dims=[4]),
        autoguide.AutoBNAFNormal(make_kernel(), num_flows=1, hidden_factors=[4]),
    ],
    ids=["auto_iaf", "auto_bnaf", "a small IAF", "a small BNAF"],
)
def test_a_flow_reaches_the_posterior(rows, guide):
    mean, covariance, _ = posterior_of(rows)
    *_, result = run(make_kernel(), rows, SVI(guide=guide, num_steps=STEPS))
    assert_close(result.draws["theta"][0], mean, np.sqrt(np.diag(covariance)), of_mean=0.5, of_sd=0.3)


@pytest.fixture(scope="module")
def fitted_by_function(rows):
    # The setting `learning_rate` must not reach an optimiser that has a rate of its own.
    settings = SVI(guide=mean_field_guide, optim=optax.adam(0.02), learning_rate=1e6, num_steps=STEPS)
    return run(make_kernel(), rows, settings)


def test_a_guide_function_and_an_optax_optimiser(rows, fitted_by_function):
    mean, _, sd = posterior_of(rows)
    result = fitted_by_function[2]
    assert result.params.keys() == {"loc", "scale"}
    np.testing.assert_allclose(result.params["scale"], sd, rtol=0.25)
    assert_close(result.draws["theta"][0], result.params["loc"], result.params["scale"], of_sd=0.1)
    assert np.abs(result.params["loc"] - mean).max() < 0.5 * sd.min()


def test_a_guide_function_can_be_drawn_from_again(fitted_by_function):
    traced, settings, result = fitted_by_function
    again = resume(traced, result, settings, 5, 1000)
    assert again["theta"].shape == (1, 1000, 2)
    assert not same_bits(again, result.draws)
    assert_close(again["theta"][0], result.params["loc"], result.params["scale"], of_sd=0.1)


def test_a_guide_object_and_a_ready_optimiser_keep_their_settings(rows):
    guide = autoguide.AutoNormal(make_kernel(), init_scale=0.3)
    before = dict(vars(guide))
    settings = SVI(guide=guide, optim=numpyro.optim.SGD(0.0), loss="trace_mean_field_elbo", num_steps=50)
    *_, result = run(make_kernel(), rows, settings)
    # A step size of nothing leaves the guide as it began.
    np.testing.assert_allclose(result.params["theta_auto_scale"], [0.3, 0.3], rtol=1e-6)
    assert vars(guide) == before


def test_a_numpyro_svi_that_has_been_run_is_a_recipe(rows):
    kernel, other = make_kernel(), made_rows(7, seed=1)
    guide = autoguide.AutoNormal(kernel)
    ready = numpyro.infer.SVI(kernel, guide, numpyro.optim.Adam(0.02), numpyro.infer.Trace_ELBO())
    ready.run(jax.random.key(0), 3, other["X"], other["y"], progress_bar=False)
    before = [(dict(vars(thing)), repr(vars(thing))) for thing in (guide, ready)]
    settings = resolve_inference(ready)
    settings.num_steps = STEPS
    *_, result = run(make_kernel(), rows, settings)
    mean, _, sd = posterior_of(rows)
    assert result.draws.keys() == {"theta"}
    assert_close(result.draws["theta"][0], mean, sd, of_mean=0.5, of_sd=0.5)
    after = [(dict(vars(thing)), repr(vars(thing))) for thing in (guide, ready)]
    for (held, shown), (held_now, shown_now) in zip(before, after, strict=True):
        assert all(held[name] is held_now[name] for name in held)
        assert held.keys() == held_now.keys()
        assert shown == shown_now


# Kernels of other kinds


def test_a_kernel_without_latents_is_fitted_by_likelihood(rows):
    *_, result = run(param_kernel, rows, SVI(guide="auto_delta", num_steps=STEPS))
    assert result.draws == {}
    assert result.params["loc"] == pytest.approx(rows["y"].mean(), abs=1e-3)
    assert result.params["scale"] == pytest.approx(rows["y"].std(), abs=1e-3)


def test_a_kernel_without_latents_takes_the_default_guide(rows):
    *_, result = run(param_kernel, rows, SVI(num_steps=STEPS))
    assert result.params["loc"] == pytest.approx(rows["y"].mean(), abs=1e-3)


def test_params_of_a_kernel_are_learned_beside_its_latents(rows):
    *_, result = run(noise_kernel, rows, SVI(guide="auto_multivariate_normal", num_steps=STEPS))
    X, y = rows["X"].astype(float), rows["y"].astype(float)
    grid = np.linspace(0.2, 1.5, 400)
    evidence = []
    for noise in grid:
        covariance = noise**2 * np.eye(N_ROWS) + PRIOR**2 * X @ X.T
        evidence.append(-np.linalg.slogdet(covariance)[1] - y @ np.linalg.solve(covariance, y))
    assert result.params["noise"] == pytest.approx(grid[np.argmax(evidence)], rel=0.1)
    assert result.draws.keys() == {"theta"}


def test_local_latents_have_an_entry_for_each_row(rows):
    traced, settings, result = run(local_kernel, rows, SVI(num_steps=STEPS))
    assert result.draws["z"].shape == (1, 1000, N_ROWS)
    np.testing.assert_allclose(result.draws["z"][0].mean(0), rows["y"] / 2, atol=0.2)
    np.testing.assert_allclose(result.draws["z"][0].std(0), 0.5**0.5, rtol=0.3)
    assert resume(traced, result, settings, 3, 1000)["z"].shape == (1, 1000, N_ROWS)


# Padding and weights


def fixed_guide(value):
    return autoguide.AutoDelta(make_kernel(), init_loc_fn=init_to_value(values={"theta": value}))


VALUE = jnp.array([0.4, -0.7])
# A step size of nothing leaves the guide where it is, so that every loss is that of one known value.
STILL = {"guide": fixed_guide(VALUE), "optim": numpyro.optim.SGD(0.0), "num_samples": 5}


def loss_at_value(rows, weight=None):
    n_rows = len(rows["y"])
    prior = float(dist.Normal(0, PRIOR).log_prob(VALUE).sum())
    of_rows = np.asarray(dist.Normal(rows["X"] @ np.asarray(VALUE), NOISE).log_prob(rows["y"]), np.float64)
    return -prior - of_rows @ (np.ones(n_rows) if weight is None else weight), -prior - n_rows * of_rows


@pytest.mark.parametrize("n_rows", [17, 20, 32])
def test_the_loss_of_padded_rows_is_that_of_the_rows(n_rows):
    rows = made_rows(n_rows, seed=n_rows)
    *_, result = run(make_kernel(), rows, SVI(**STILL, num_steps=3))
    # NumPyro's own loss, of the kernel itself on the rows themselves.
    kernel = make_kernel()
    guide = autoguide.AutoDelta(kernel, init_loc_fn=init_to_value(values={"theta": VALUE}))
    own = numpyro.infer.SVI(kernel, guide, numpyro.optim.SGD(0.0), numpyro.infer.Trace_ELBO())
    expected = float(own.evaluate(own.init(jax.random.key(0), **rows), **rows))
    assert expected == pytest.approx(loss_at_value(rows)[0], rel=1e-5)
    np.testing.assert_allclose(result.losses, expected, rtol=1e-5)


def test_a_weight_counts_a_row_that_often(rows):
    often = np.arange(N_ROWS) % 4
    *_, result = run(make_kernel(), rows, SVI(**STILL, num_steps=2), weight=often.astype(np.float32))
    np.testing.assert_allclose(result.losses, loss_at_value(rows, often)[0], rtol=1e-5)


@pytest.mark.parametrize("often", [[1, 2, 3, 1, 0, 2, 1], [1, 0, 1, 0, 1, 1, 1], [2] * 7])
def test_weights_give_the_draws_of_repeated_rows(often):
    with jax.enable_x64(True):
        rows = made_rows(7, dtype=np.float64)
        repeated = {name: np.repeat(array, often, axis=0) for name, array in rows.items()}
        settings = SVI(num_steps=300, num_samples=100)
        *_, weighted = run(make_kernel(), rows, settings, weight=np.asarray(often, float))
        *_, plain = run(make_kernel(), repeated, settings)
        *_, unweighted = run(make_kernel(), rows, settings)
    assert weighted.draws["theta"].dtype == np.float64
    np.testing.assert_allclose(weighted.draws["theta"], plain.draws["theta"], rtol=1e-7)
    assert np.abs(weighted.draws["theta"] - unweighted.draws["theta"]).max() > 1e-3


def test_weights_need_an_output_with_an_entry_for_each_row(rows):
    def kernel(X, y=None):
        theta = numpyro.sample("theta", dist.Normal(0, 1).expand([2]).to_event(1))
        numpyro.sample("y", dist.Normal(X @ theta, 1.0).to_event(1), obs=y)

    with pytest.raises(ValueError, match="`sample_weight` needs an output whose log density has an entry for each row"):
        run(kernel, rows, SVI(), weight=np.ones(N_ROWS, np.float32))


# Minibatches


def shares(n_rows, batch_size):
    """Return the share of the rows that each minibatch of an epoch holds."""
    sizes = [min(batch_size, n_rows - start) for start in range(0, n_rows, batch_size)]
    return np.array(sizes) / n_rows


@pytest.mark.parametrize("n_rows", [20, 18, 17])
@pytest.mark.parametrize("weighted", [False, True])
def test_minibatch_losses_of_an_epoch_average_to_the_full_one(n_rows, weighted):
    rows = made_rows(n_rows, seed=1)
    weight = np.linspace(0, 2, n_rows).astype(np.float32) if weighted else None
    *_, result = run(make_kernel(), rows, SVI(**STILL, batch_size=4, num_epochs=3), weight=weight)
    full, _ = loss_at_value(rows, weight)
    of_epochs = result.losses.reshape(3, 5)
    np.testing.assert_allclose(of_epochs @ shares(n_rows, 4), full, rtol=1e-5)
    assert of_epochs.std() > 0.1 * abs(full)


@pytest.fixture(scope="module")
def losses_one_by_one():
    rows = made_rows(7, seed=2)
    *_, result = run(make_kernel(), rows, SVI(**STILL, batch_size=1, num_epochs=6))
    return rows, result.losses


def test_every_row_is_visited_once_an_epoch(losses_one_by_one):
    rows, losses = losses_one_by_one
    _, of_rows = loss_at_value(rows)
    assert losses.shape == (6 * 7,)
    for epoch in losses.reshape(6, 7):
        np.testing.assert_allclose(np.sort(epoch), np.sort(of_rows), rtol=1e-5)


def test_every_epoch_has_an_order_of_its_own(losses_one_by_one):
    orders = {tuple(np.argsort(epoch)) for epoch in losses_one_by_one[1].reshape(6, 7)}
    assert len(orders) == 6


def test_epochs_take_the_place_of_steps(rows):
    *_, result = run(make_kernel(), rows, SVI(**STILL, num_epochs=4, num_steps=77))
    assert result.losses.shape == (4,)  # an epoch of the full batch is one step
    *_, result = run(make_kernel(), rows, SVI(**STILL, num_steps=77))
    assert result.losses.shape == (77,)


@pytest.fixture(scope="module")
def fitted_by_minibatches(rows):
    return run(make_kernel(), rows, SVI(num_steps=3000, batch_size=6, num_samples=4000))


def test_minibatches_reach_the_posterior_of_the_full_batch(rows, fitted_by_minibatches):
    mean, _, sd = posterior_of(rows)
    assert_close(fitted_by_minibatches[2].draws["theta"][0], mean, sd, of_mean=0.5, of_sd=0.35)


@pytest.fixture(scope="module")
def locals_by_minibatches(rows):
    return run(local_kernel, rows, SVI(guide=local_guide, num_steps=2000, batch_size=8, num_samples=100))


def test_minibatches_with_a_guide_of_local_latents(locals_by_minibatches):
    *_, result = locals_by_minibatches
    assert result.params["slope"] == pytest.approx(0.5, abs=0.05)
    assert result.params["scale"] == pytest.approx(0.5**0.5, abs=0.05)


def test_minibatches_leave_draws_for_every_row(rows, locals_by_minibatches):
    draws = locals_by_minibatches[2].draws["z"]
    assert draws.shape == (1, 100, N_ROWS)
    np.testing.assert_allclose(draws[0].mean(0), rows["y"] / 2, atol=0.4)


def test_a_minibatch_cannot_exceed_the_rows(rows):
    with pytest.raises(ValueError, match="SVI: `batch_size`=21 exceeds the number of rows, 20"):
        run(make_kernel(), rows, SVI(batch_size=21))


def test_minibatches_need_rows_that_stand_alone(rows):
    message = "SVI: `batch_size` needs a kernel whose log density is a sum over rows, but site 'y'.*`batch_size=None`"
    with pytest.raises(ValueError, match=message):
        run(centred_kernel, rows, SVI(batch_size=4))


@pytest.mark.parametrize("guide", ["auto_normal", autoguide.AutoNormal(local_kernel)], ids=["name", "object"])
def test_minibatches_with_parameters_for_each_row_are_warned_of(rows, guide):
    with warnings.catch_warnings():
        warnings.simplefilter("error", LocalGuideWarning)  # before anything is compiled
        with pytest.raises(LocalGuideWarning, match=re.escape("Latent sites ['z'] have an entry for each row")):
            run(local_kernel, rows, SVI(guide=guide, batch_size=4))


# What a fit depends on, and what not


def test_one_seed_gives_the_same_bits(rows, fitted):
    settings = SVI(num_steps=STEPS, num_samples=4000)
    *_, again = run(make_kernel(), rows, settings)
    assert same_bits(again.draws, fitted[2].draws)
    assert np.array_equal(again.losses, fitted[2].losses)
    *_, other = run(make_kernel(), rows, settings, seed=2**32 - 1)
    assert share_of_equal(other.draws["theta"], fitted[2].draws["theta"]) < 0.01
    assert not np.array_equal(other.losses, fitted[2].losses)


def test_fresh_draws_follow_from_state_and_seed(rows, fitted):
    traced, settings, result = fitted
    assert same_bits(resume(traced, result, settings, 0, 4000), resume(traced, result, settings, 0, 4000))
    assert share_of_equal(resume(traced, result, settings, 0, 4000)["theta"], result.draws["theta"]) < 0.01
    fresh = resume(traced, result, settings, 1, 4000)
    assert share_of_equal(fresh["theta"], result.draws["theta"]) < 0.01
    mean, _, sd = posterior_of(rows)
    assert_close(fresh["theta"][0], mean, sd)
    assert resume(traced, result, settings, 1, 7)["theta"].shape == (1, 7, 2)


def test_an_autoguide_keeps_no_training_rows(fitted):
    assert all(len(array) == 1 for array in fitted[2].data["rows"].values())
    assert all(isinstance(array, np.ndarray) for array in fitted[2].state)


@pytest.mark.parametrize("batch_size", [None, 6])
@pytest.mark.parametrize(("first", "seconds"), [(3, 0.0), (37, 1e9)])
def test_draws_do_not_depend_on_chunks(rows, in_pieces, batch_size, first, seconds):
    settings = SVI(num_steps=200, batch_size=batch_size, num_samples=4000)
    *_, expected = run(make_kernel(), rows, settings)
    pieces = in_pieces(course, first, seconds)
    *_, result = run(make_kernel(), rows, settings)
    # The last quarter of the steps is apart, to see whether the guide still moves in it.
    assert pieces == ([3] + [1] * 147 + [3] + [1] * 47 if first == 3 else [37, 113, 37, 13])
    assert same_bits(result.draws, expected.draws)
    assert np.array_equal(result.losses, expected.losses)


@pytest.mark.parametrize("change", [{}, {"learning_rate": 0.013}, {"num_steps": 70}, {"num_epochs": 9}])
@pytest.mark.usefixtures("fitted")
def test_equal_kernels_share_programs_whatever_the_numbers(rows, compilations, change):
    *_, result = run(make_kernel(), rows, SVI(**{"num_steps": 100, "num_samples": 4000} | change))
    assert len(result.losses) == change.get("num_epochs", change.get("num_steps", 100))
    assert compilations == []


@pytest.mark.parametrize("n_rows", [17, 32])
@pytest.mark.usefixtures("fitted", "fitted_by_minibatches")
def test_row_counts_of_one_bucket_share_programs(compilations, n_rows):
    rows = made_rows(n_rows)
    run(make_kernel(), rows, SVI(num_steps=50, num_samples=4000))
    run(make_kernel(), rows, SVI(num_steps=50, num_samples=4000), weight=np.ones(n_rows, np.float32))
    run(make_kernel(), rows, SVI(num_steps=50, num_samples=4000, batch_size=6))
    assert compilations == []


def test_the_learning_rate_matters_and_falls(rows):
    # With plain gradient steps and no noise the path of a delta guide shows the rate at each step.
    losses = {}
    for rate in (1e-4, 1e-3):
        settings = SVI(guide=fixed_guide(VALUE), optim="sgd", learning_rate=rate, num_steps=40, num_samples=5)
        losses[rate] = run(make_kernel(), rows, settings)[2].losses
    mean, covariance, _ = posterior_of(rows)
    precision = np.linalg.inv(covariance)
    for rate, found in losses.items():
        theta, expected = np.asarray(VALUE, np.float64), []
        for i in range(40):
            off = theta - mean
            expected.append(off @ precision @ off / 2)
            share = 0.01 + 0.99 * (1 + np.cos(np.pi * i / 40)) / 2
            theta = theta - rate * share * precision @ off
        np.testing.assert_allclose(found - found[0], np.array(expected) - expected[0], rtol=2e-3, atol=2e-3)


def test_caches_are_bounded():
    assert svi._programs.cache_info().maxsize is not None


# Troubles


def no_density(X, y=None):
    theta = numpyro.sample("theta", dist.Normal(0, PRIOR).expand([2]).to_event(1))
    numpyro.factor("never", jnp.log(-1.0 - theta @ theta))
    numpyro.sample("y", dist.Normal(X @ theta, NOISE), obs=y)


def test_a_loss_that_is_not_finite_is_told(rows):
    with pytest.warns(NonFiniteLossWarning, match="not finite at 100 of 100 steps, first at step 0"):
        *_, result = run(no_density, rows, SVI(guide=autoguide.AutoNormal(None), num_steps=100, num_samples=4000))
    assert result.diagnostics["loss_is_finite"] is False
    assert np.isfinite(result.draws["theta"]).all()  # the steps were skipped


def test_a_guide_that_is_far_from_the_posterior_is_told(rows):
    # Columns that hardly differ: a guide without correlations is far too narrow.
    near = {"X": rows["X"] @ np.array([[1.0, 1.0], [0.0, 0.05]], np.float32), "y": rows["y"]}
    found = {}
    for guide in ("auto_normal", "auto_multivariate_normal"):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            *_, result = run(make_kernel(), near, SVI(guide=guide, num_steps=STEPS), seed=4)
        found[guide] = {warning.category for warning in caught}, result
    warned, result = found["auto_normal"]
    assert warned == {GuideWarning}
    assert result.diagnostics["k_hat"] > 0.7
    mean, covariance, _ = posterior_of(near)
    assert_close(found["auto_multivariate_normal"][1].draws["theta"][0], mean, np.sqrt(np.diag(covariance)))
    assert found["auto_multivariate_normal"][0] == set()
    assert found["auto_multivariate_normal"][1].diagnostics["k_hat"] < 0.5


def test_outcomes_that_no_latent_allows_are_named(rows):
    broken = {"X": rows["X"], "y": np.where(np.arange(N_ROWS) % 7 == 3, np.nan, rows["y"]).astype(np.float32)}
    with pytest.raises(ValueError, match=r"Site 'y': the values in 3 row\(s\), 3, 10, 17, lie outside the support"):
        run(make_kernel(), broken, SVI(num_steps=100))


def test_a_loss_that_still_falls_is_told(rows):
    far = {"X": rows["X"], "y": 100 * rows["y"]}
    settings = SVI(guide=fixed_guide(VALUE), optim="sgd", learning_rate=1e-4, num_steps=100, num_samples=5)
    with pytest.warns(UnsettledGuideWarning, match="still moved by"):
        *_, result = run(make_kernel(), far, settings)
    assert result.diagnostics["guide_is_settled"] is False
    assert result.diagnostics["loss_is_finite"] is True


def test_a_fit_that_is_interrupted_ends(rows, monkeypatch):
    def interrupted(step, total, **options):
        step(0, 1)
        raise KeyboardInterrupt

    monkeypatch.setattr(course, "run_in_chunks", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(make_kernel(), rows, SVI(num_steps=100, num_samples=4000))


@pytest.mark.parametrize("guide", ["auto_multivariate_normal", "auto_delta"])
def test_early_stopping_ends_when_the_guide_has_settled(rows, guide):
    settings = SVI(guide=guide, num_steps=8000, early_stopping=True)
    *_, result = run(make_kernel(), rows, settings)
    assert len(result.losses) in (2000, 4000)
    assert result.diagnostics["guide_move"] <= 0.1
    mean, covariance, _ = posterior_of(rows)
    sd = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose((result.draws["theta"][0].mean(axis=0) - mean) / sd, 0.0, atol=0.1)


def test_early_stopping_takes_all_steps_where_the_guide_still_moves(rows):
    far = {"X": rows["X"], "y": 100 * rows["y"]}
    settings = SVI(
        guide=fixed_guide(VALUE), optim="sgd", learning_rate=1e-4, num_steps=200, num_samples=5, early_stopping=True
    )
    with pytest.warns(UnsettledGuideWarning, match="still moved by"):
        *_, result = run(make_kernel(), far, settings)
    assert len(result.losses) == 200


def point_guide(X, y=None):
    numpyro.sample("theta", dist.Delta(numpyro.param("at", jnp.zeros(2)), event_dim=1))


@pytest.mark.parametrize("batch_size", [None, 8])
@pytest.mark.parametrize("guide", ["auto_normal", point_guide])
def test_rows_behind_steps_that_are_not_finite_are_named(rows, guide, batch_size):
    broken = {"X": rows["X"], "y": np.where(np.arange(N_ROWS) % 7 == 3, np.nan, rows["y"]).astype(np.float32)}
    with pytest.raises(ValueError, match=r"Site 'y': the values in 3 row\(s\), 3, 10, 17, lie outside the support"):
        run(make_kernel(), broken, SVI(guide=guide, num_steps=100, batch_size=batch_size))
