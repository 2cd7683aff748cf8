"""Kernels with networks, compared with the networks applied by hand and with NumPyro's own results."""

import functools
import pickle

import equinox as eqx
import jax
import jax.numpy as jnp
import networks
import numpy as np
import pytest
import xarray as xr
from flax import nnx
from numpyro.infer import Predictive, Trace_ELBO
from scipy.stats import norm
from sklearn.base import clone

from skaimz import NumPyroImpactRegressor, open_draws
from skaimz.exceptions import FitWarning, OutputWarning
from skaimz.inference import MCMC, SVI, shuffle, svi

SHORT = SVI(num_steps=200, learning_rate=0.02, num_samples=20)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 2)).astype(np.float32)
    return X, (np.tanh(X[:, 0]) + 0.1 * rng.normal(size=40)).astype(np.float32)


def by_hand(kernel, params, X):
    """Apply the network of a kernel with fitted parameters, by its own library."""
    weights = params.get("net$params", params.get("a/net$params"))
    if kernel in (networks.of_flax, networks.in_scope):
        return networks.Linen().apply({"params": weights}, X)
    if kernel is networks.of_nnx:
        graph, state = nnx.split(networks.NNX)
        nnx.replace_by_pure_dict(state, weights)
        return nnx.merge(graph, state)(X)
    if kernel is networks.of_eqx:
        return jax.vmap(jax.tree.map(lambda own, leaf: leaf if leaf is not None else own, networks.EQX, weights))(X)
    return networks.STAX[1](weights, X)[..., 0]


LEARNED = [networks.of_flax, networks.of_nnx, networks.of_eqx, networks.of_stax, networks.in_scope]


@pytest.fixture(scope="module")
def models(data):
    return {kernel: NumPyroImpactRegressor(kernel, inference=SHORT, random_state=0).fit(*data) for kernel in LEARNED}


@pytest.mark.parametrize("kernel", LEARNED)
def test_predictions_are_the_network_applied_by_hand(models, data, kernel):
    model, (X, y) = models[kernel], data
    mean = np.asarray(by_hand(kernel, model.fit_result_.params, X))
    np.testing.assert_allclose(model.predict(X), mean, rtol=1e-5, atol=1e-6)
    assert np.mean((mean - y) ** 2) < 0.5 * y.var()
    sigma = model.posterior_["a/sigma" if kernel is networks.in_scope else "sigma"][0]
    densities = model.log_likelihood_on_batch(X, y, return_datatree=False)
    found = next(iter(densities.values()))
    np.testing.assert_allclose(found[0], norm.logpdf(y, mean, sigma[:, None]), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kernel", LEARNED)
def test_trees_and_pickles_give_the_same_predictions(models, data, kernel, tmp_path):
    model, (X, y) = models[kernel], data
    path = tmp_path / "tree.zarr"
    tree = model.to_datatree(X, y)
    tree.to_zarr(path, consolidated=False)
    for again in (
        pickle.loads(pickle.dumps(model)),
        NumPyroImpactRegressor.from_datatree(kernel, tree),
        NumPyroImpactRegressor.from_datatree(kernel, xr.open_datatree(path, engine="zarr", consolidated=False)),
    ):
        np.testing.assert_array_equal(again.predict_interval(X), model.predict_interval(X))


def test_slashes_become_dots_in_trees_and_stores(models, data, tmp_path):
    model, (X, _) = models[networks.in_scope], data
    assert model.posterior_.keys() == {"a/sigma"}
    drawn = model.sample_posterior_predictive(X, output_dir=tmp_path / "draws")
    own = model.sample_posterior_predictive_on_batch(X, return_datatree=False)["a/y"]
    np.testing.assert_array_equal(drawn["posterior_predictive"]["a.y"], own)
    assert open_draws(tmp_path / "draws")["posterior_predictive"]["a.y"].dims == ("chain", "draw", "a.rows")
    fresh = model.sample_posterior(20)
    assert clone(model).set_params(posterior=fresh).posterior["posterior"].data_vars.keys() == {"a.sigma"}
    other = pickle.loads(pickle.dumps(model)).set_posterior_sample(fresh)
    assert other.posterior_.keys() == {"a/sigma"}


def test_two_names_that_become_one_are_refused(data):
    with pytest.raises(ValueError, match=r"'a\.b' and 'a/b' would have one name"):
        NumPyroImpactRegressor(networks.with_equal_names).fit(*data)


def test_describe_has_a_row_for_each_array_of_a_network(models):
    table = models[networks.of_flax].describe()
    assert table.loc["net$params.Dense_1.kernel", ["kind", "shape"]].tolist() == ["param", "(2, 3)"]


@pytest.mark.parametrize("kernel", [networks.random_flax, networks.random_nnx, networks.random_eqx])
def test_draws_of_random_networks_are_those_of_numpyro(data, kernel):
    X, y = data
    short = MCMC(num_warmup=20, num_samples=10, num_chains=1)
    with pytest.warns(FitWarning):  # chains as short as these warn
        model = NumPyroImpactRegressor(kernel, inference=short, random_state=0).fit(X, y)
    draws = {name: draw[0] for name, draw in model.posterior_.items()}
    mean = Predictive(kernel, draws, return_sites=["mu"])(jax.random.key(0), X)["mu"]
    found = model.sample_posterior_predictive_on_batch(X, return_datatree=False, return_sites="mu")["mu"][0]
    np.testing.assert_allclose(found, mean, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(model.predict(X), mean.mean(axis=0), rtol=1e-4, atol=1e-5)


def test_automatic_inference_of_a_random_layer_finds_the_exact_posterior(data):
    X, y = data
    model = NumPyroImpactRegressor(networks.random_layer, random_state=0).fit(X, y)
    assert model.fit_result_.diagnostics["rung"] == "mode"
    precision = np.eye(2) + X.T @ X / networks.NOISE**2
    exact = np.linalg.solve(precision, X.T @ y / networks.NOISE**2)
    found = model.posterior_["net/kernel"][0, :, :, 0]
    error = np.sqrt(np.diag(np.linalg.inv(precision)))
    np.testing.assert_allclose(found.mean(axis=0), exact, atol=0.2 * error.max())
    np.testing.assert_allclose(found.std(axis=0), error, rtol=0.1)


@pytest.fixture(scope="module")
def shifted(data):
    return 3.0 + 2.0 * data[0], data[1]


@pytest.fixture(scope="module", params=[None, 16], ids=["all rows", "minibatches"])
def normalised(shifted, request):
    """40 rows in minibatches of 16 leave 8 rows for the last one, which other rows fill up."""
    settings = SVI(num_steps=200, num_samples=5, batch_size=request.param)
    return NumPyroImpactRegressor(networks.batch_norm, inference=settings, random_state=0).fit(*shifted)


def running(model):
    params = model.fit_result_.params
    return {"params": params["net$params"], **params["net$state"]}


def test_batch_normalisation_trains_in_fit_and_evaluates_later(normalised, shifted):
    X, y = shifted
    mean = networks.Normalised().apply(running(normalised), X, train=False)
    np.testing.assert_allclose(normalised.predict(X), mean, rtol=1e-5, atol=1e-5)
    # One row alone is not normalised by itself.
    np.testing.assert_allclose(normalised.predict(X[:1]), mean[:1], rtol=1e-5, atol=1e-5)
    found = normalised.log_likelihood_on_batch(X, y, return_datatree=False)["y"][0]
    np.testing.assert_allclose(found[0], norm.logpdf(y, mean, networks.NOISE), rtol=1e-3, atol=1e-3)
    again = NumPyroImpactRegressor.from_datatree(networks.batch_norm, normalised.to_datatree(X, y))
    np.testing.assert_array_equal(again.predict(X), normalised.predict(X))


def test_running_averages_are_those_of_the_minibatches(normalised, shifted):
    """Their last values are an average, with the weights of a momentum of 0.9, over the minibatches of the fit."""
    X, size = shifted[0], normalised.inference.batch_size
    state = running(normalised)["batch_stats"]["BatchNorm_0"]
    if size is None:
        np.testing.assert_allclose(state["mean"], X.mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(state["var"], X.var(axis=0), rtol=1e-4)
        return
    order = jax.jit(shuffle.ordered, static_argnums=2)
    places = np.arange(40, dtype=np.uint32)
    epochs = [np.asarray(order(places, 40, 40, normalised.seed_, epoch)) for epoch in range(67)]
    batches = [epoch[np.arange(start, start + size) % 40] for epoch in epochs for start in (0, 16, 32)][:200]
    mean = X[batches[0]].mean(axis=0)
    for batch in batches:
        mean = 0.9 * mean + 0.1 * X[batch].mean(axis=0)
    np.testing.assert_allclose(state["mean"], mean, rtol=1e-4)


def test_rows_that_are_read_in_parts_train_the_same_layers(shifted, monkeypatch, tmp_path):
    X, y = shifted
    for name, array in (("X", X), ("y", y)):
        np.save(tmp_path / f"{name}.npy", array)
    mapped = [np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "Xy"]
    settings = SVI(num_steps=20, num_samples=5, batch_size=16)
    model = NumPyroImpactRegressor(networks.batch_norm, inference=settings, random_state=0)
    monkeypatch.setattr(shuffle, "WINDOW_ROWS", 16)
    monkeypatch.setattr(shuffle, "BLOCK_ROWS", 8)
    svi._programs.cache_clear()
    in_memory = clone(model).fit(X, y)
    streamed = clone(model).fit(*mapped)
    svi._programs.cache_clear()
    for one, other in zip(*(jax.tree.leaves(each.fit_result_.params) for each in (in_memory, streamed)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_partial_fit_goes_on_with_the_running_averages(normalised, shifted):
    X, y = shifted
    model = pickle.loads(pickle.dumps(normalised))
    before = running(model)["batch_stats"]["BatchNorm_0"]["mean"]
    model.partial_fit(X[:16] + 1.0, y[:16])
    after = running(model)["batch_stats"]["BatchNorm_0"]["mean"]
    batch = (X[:16] + 1.0).mean(axis=0)
    np.testing.assert_allclose(after, 0.9 * before + 0.1 * batch, rtol=1e-4)


def test_a_killed_fit_goes_on_with_its_running_averages(shifted, tmp_path):
    X, y = shifted
    quiet = SVI(num_steps=300, num_samples=5)
    whole = NumPyroImpactRegressor(networks.batch_norm, inference=quiet, random_state=0).fit(X, y)

    def stop(progress):
        if progress.done >= 100:
            raise KeyboardInterrupt

    killed = SVI(num_steps=300, num_samples=5, checkpoint_dir=tmp_path, callback=stop)
    model = NumPyroImpactRegressor(networks.batch_norm, inference=killed, random_state=0)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    model.set_params(inference__callback=None).fit(X, y)
    for one, other in zip(*(jax.tree.leaves(each.fit_result_.params) for each in (whole, model)), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kernel", [networks.nnx_batch_norm, networks.dropout])
def test_dropout_trains_in_fit_and_is_off_later(shifted, kernel):
    X, y = shifted
    settings = SVI(num_steps=100, num_samples=5, batch_size=16)
    model = NumPyroImpactRegressor(kernel, inference=settings, random_state=0).fit(X, y)
    params = model.fit_result_.params
    weights = params["net$params"]
    if kernel is networks.dropout:
        mean = networks.Dropped().apply({"params": weights}, X, train=False)
    else:
        averages = params["net$state"]["state"]["norm"]
        assert params["net$state"]["state"]["drop"]["rngs"]["count"] > 100
        inputs = (X - averages["mean"]) / np.sqrt(averages["var"] + 1e-5)
        inputs = inputs * weights["norm"]["scale"] + weights["norm"]["bias"]
        mean = (inputs @ weights["last"]["kernel"] + weights["last"]["bias"])[:, 0]
    np.testing.assert_allclose(model.predict(X), mean, rtol=1e-4, atol=1e-4)
    sigma = model.posterior_["sigma"][0]
    found = model.log_likelihood_on_batch(X, y, return_datatree=False)["y"][0]
    np.testing.assert_allclose(found, norm.logpdf(y, mean, sigma[:, None]), rtol=1e-3, atol=1e-3)
    again = NumPyroImpactRegressor.from_datatree(kernel, model.to_datatree())
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


def test_states_of_equinox(shifted):
    X, y = shifted
    model = NumPyroImpactRegressor(networks.eqx_batch_norm, inference=SHORT, random_state=0).fit(X, y)
    params = model.fit_result_.params
    state = jax.tree.map(jnp.asarray, params["norm$state"]["state"])
    norm = eqx.combine(params["norm$params"], networks.EQX_NORM)
    hidden, _ = networks.normalised_by(eqx.nn.inference_mode(norm), X, state)
    mean = jax.vmap(eqx.combine(params["last$params"], networks.EQX_LAST))(hidden)[:, 0]
    np.testing.assert_allclose(model.predict(X), mean, rtol=1e-4, atol=1e-5)
    again = NumPyroImpactRegressor.from_datatree(networks.eqx_batch_norm, model.to_datatree())
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


@pytest.mark.filterwarnings("ignore::skaimz.exceptions.GuideWarning")
def test_automatic_inference_learns_weights_and_makes_whole_trees(data):
    X, y = data
    model = NumPyroImpactRegressor(networks.of_flax, random_state=0).fit(X, y)
    left = np.mean((model.predict(X) - y) ** 2)
    assert left < 0.1 * y.var()
    # Given the weights, the posterior of the noise is around the spread of what is left, with a spread of 1 / sqrt(2n).
    log_sigma = np.log(model.posterior_["sigma"])
    np.testing.assert_allclose(log_sigma.mean(), np.log(left) / 2, atol=0.1)
    np.testing.assert_allclose(log_sigma.std(), 80**-0.5, rtol=0.25)
    assert model.to_datatree(X, y)["sample_stats"]["log_q"].sizes["draw"] == 1000


def test_states_are_refused_where_nothing_would_keep_them(shifted):
    for inference, message in (
        (MCMC(), "MCMC does not keep the state of layers"),
        (SVI(loss=Trace_ELBO(num_particles=2)), "a loss of several particles does not keep the state of layers"),
    ):
        kernel = networks.random_batch_norm if isinstance(inference, MCMC) else networks.batch_norm
        with pytest.raises(ValueError, match=message):
            NumPyroImpactRegressor(kernel, inference=inference, random_state=0).fit(*shifted)


@pytest.mark.parametrize("kernel", [functools.partial(networks.of_any, layer=net) for net in networks.LAYERS])
def test_clones_share_programs_and_other_networks_do_not(data, kernel, compilations):
    model = NumPyroImpactRegressor(kernel, inference=SVI(num_steps=20, num_samples=5), random_state=0).fit(*data)
    model.predict(data[0])
    compilations.clear()
    clone(model).fit(*data).predict(data[0])
    assert compilations == []
    other = functools.partial(networks.of_any, layer=networks.widened(kernel.keywords["layer"]))
    clone(model).set_params(kernel=other).fit(*data).predict(data[0])
    assert compilations


# Guides that encode rows


@pytest.fixture(scope="module")
def outcomes():
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(240, 1))
    noise = networks.SPREAD * rng.normal(size=(240, 3))
    Y = (factor @ np.asarray(networks.LOADING) + noise).astype(np.float32)
    precision = 1 + np.sum(networks.LOADING**2) / networks.SPREAD**2
    return Y, Y @ np.asarray(networks.LOADING).T / networks.SPREAD**2 / precision, precision**-0.5


def encoded(guide, Y):
    settings = SVI(guide=guide, num_steps=800, learning_rate=0.03, num_samples=300, batch_size=50)
    return NumPyroImpactRegressor(networks.ppca, inference=settings, random_state=0).fit(Y[:200], Y[:200])


@pytest.fixture(scope="module")
def autoencoder(outcomes):
    return encoded(networks.encoder, outcomes[0])


def test_an_encoder_draws_factors_of_new_rows(autoencoder, outcomes):
    """The optimal encoder of probabilistic principal components is the exact posterior of a row's factor."""
    Y, loc, scale = (outcomes[0][200:], outcomes[1][200:], outcomes[2])
    np.testing.assert_allclose(autoencoder.predict(Y), loc @ networks.LOADING, atol=0.1)
    drawn = autoencoder.sample_posterior_predictive_on_batch(
        Y, in_sample=False, return_sites=["factor"], return_datatree=False
    )["factor"][0]
    np.testing.assert_allclose(drawn.mean(axis=0), loc, atol=0.12)
    np.testing.assert_allclose(drawn.std(axis=0), scale, rtol=0.2)
    # A row's draws depend neither on its company nor on where it is kept.
    np.testing.assert_array_equal(autoencoder.predict(Y[5:6]), autoencoder.predict(Y)[5:6])


def test_an_encoder_of_outcomes_needs_them(outcomes, autoencoder):
    Y = outcomes[0]
    model = encoded(networks.encoder_of_outcomes, Y)
    with pytest.warns(OutputWarning, match="drawn from their prior, and not from the guide, because it needs the out"):
        mean = model.predict(Y[200:])
    np.testing.assert_allclose(mean, 0.0, atol=0.2)
    found, expected = (
        each.log_likelihood_on_batch(Y[200:], Y[200:], in_sample=False, return_datatree=False)["y"]
        for each in (model, autoencoder)
    )
    np.testing.assert_allclose(found, expected, atol=0.1)


@pytest.mark.filterwarnings("ignore::skaimz.exceptions.RowsOfFitWarning")
def test_a_guide_with_parameters_for_rows_leaves_new_rows_to_the_prior(outcomes):
    Y = outcomes[0]
    settings = SVI(guide=networks.of_these_rows, num_steps=200, num_samples=400)
    model = NumPyroImpactRegressor(networks.ppca, inference=settings, random_state=0).fit(Y[:50], Y[:50])
    np.testing.assert_allclose(model.predict(Y[:50]), 0.0, atol=0.2)
    drawn = model.sample_posterior_predictive_on_batch(Y[:50], return_sites=["factor"], return_datatree=False)
    np.testing.assert_array_equal(drawn["factor"], model.posterior_["factor"])
