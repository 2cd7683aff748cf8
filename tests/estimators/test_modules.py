"""Kernels with networks, compared with the networks applied by hand and with NumPyro's own results."""

import pickle

import jax
import networks
import numpy as np
import pytest
import xarray as xr
from flax import nnx
from numpyro.infer import Predictive
from scipy.stats import norm
from sklearn.base import clone

from skaimz import NumPyroImpactRegressor, open_draws
from skaimz.exceptions import FitWarning
from skaimz.inference import MCMC, SVI

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


def running(params, X):
    state = params["net$state"]["batch_stats"]["BatchNorm_0"]
    return networks.Normalised().apply(
        {"params": params["net$params"], "batch_stats": params["net$state"]["batch_stats"]}, X, train=False
    ), state


@pytest.mark.parametrize("batch_size", [None, 16])
def test_batch_normalisation_trains_in_fit_and_evaluates_later(data, batch_size):
    X, y = data
    X = 3.0 + 2.0 * X
    settings = SVI(num_steps=200, num_samples=5, batch_size=batch_size)
    model = NumPyroImpactRegressor(networks.batch_norm, inference=settings, random_state=0).fit(X, y)
    params = model.fit_result_.params
    mean, state = running(params, X)
    np.testing.assert_allclose(model.predict(X), mean, rtol=1e-5, atol=1e-5)
    # One row alone is not normalised by itself.
    np.testing.assert_allclose(model.predict(X[:1]), mean[:1], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(state["mean"], X.mean(axis=0), atol=0.01 if batch_size is None else 1.0)
    np.testing.assert_allclose(state["var"], X.var(axis=0), rtol=0.01 if batch_size is None else 0.5)
    found = model.log_likelihood_on_batch(X, y, return_datatree=False)["y"][0]
    np.testing.assert_allclose(found[0], norm.logpdf(y, mean, networks.NOISE), rtol=1e-3, atol=1e-3)
    again = NumPyroImpactRegressor.from_datatree(networks.batch_norm, model.to_datatree())
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
