"""Fitted estimators come back from disk and from other processes, and predict to the bit as before."""

import json
import os
import pickle
import subprocess
import sys
import textwrap
import warnings

import cloudpickle
import joblib
import numpy as np
import numpyro
import pytest
import xarray as xr
import zoo
from numpyro.infer.autoguide import AutoNormal

from skaimz import NumPyroImpactClassifier, NumPyroImpactRegressor
from skaimz.exceptions import FitWarning
from skaimz.inference import MCMC, SVI

X = np.random.default_rng(0).normal(size=(30, 2))
y = X @ [1.0, 2.0] + 3.0
pytestmark = pytest.mark.filterwarnings("ignore::skaimz.exceptions.FitWarning")

TESTS = os.path.dirname(zoo.__file__)
LAMBDA = lambda X, y=None: zoo.conjugate(X, y)  # noqa: E731


@pytest.fixture(scope="module", params=["svi", "mcmc", "optax"])
def model(request):
    optax = pytest.importorskip("optax")
    settings = {
        "svi": SVI(num_steps=200, num_samples=100),
        "mcmc": MCMC(num_warmup=50, num_samples=50, num_chains=2),
        "optax": SVI(num_steps=200, num_samples=100, optim=optax.adam(0.01)),
    }[request.param]
    kernel = None if request.param == "svi" else zoo.linear
    with warnings.catch_warnings(category=FitWarning, action="ignore"):
        return NumPyroImpactRegressor(kernel, inference=settings, random_state=0).fit(X, y)


def predictions(model):
    mean, std = model.predict(X, return_std=True)
    return np.column_stack([mean, std, model.predict_quantiles(X), model.sample_y(X, 3)])


def in_new_process(code, *arguments):
    environment = os.environ | {"PYTHONPATH": TESTS}
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=300).stdout


def assert_same(one, other):
    np.testing.assert_array_equal(predictions(one), predictions(other))


def test_cloudpickle_and_joblib(model, tmp_path):
    assert_same(cloudpickle.loads(cloudpickle.dumps(model)), model)
    joblib.dump(model, tmp_path / "plain")
    joblib.dump(model, tmp_path / "small", compress=3)
    assert_same(joblib.load(tmp_path / "plain"), model)
    assert_same(joblib.load(tmp_path / "small"), model)
    mapped = joblib.load(tmp_path / "plain", mmap_mode="r")
    assert isinstance(next(iter(mapped.posterior_.values())), np.memmap)
    assert_same(mapped, model)


def test_pickle_goes_on_from_its_state(model):
    loaded = pickle.loads(pickle.dumps(model))
    assert_same(loaded, model)
    first, again = model.sample_posterior(5, random_state=7), loaded.sample_posterior(5, random_state=7)
    xr.testing.assert_equal(first["posterior"].dataset, again["posterior"].dataset)


def test_a_new_process_predicts_to_the_bit(tmp_path):
    model = NumPyroImpactRegressor(zoo.linear, inference=SVI(num_steps=200, num_samples=100), random_state=0).fit(X, y)
    joblib.dump(model, tmp_path / "model")
    np.save(tmp_path / "X", X)
    code = """
        import sys, joblib, numpy as np
        model, X = joblib.load(sys.argv[1]), np.load(sys.argv[2])
        mean, std = model.predict(X, return_std=True)
        np.save(sys.argv[3], np.column_stack([mean, std, model.predict_quantiles(X), model.sample_y(X, 3)]))
    """
    in_new_process(code, tmp_path / "model", tmp_path / "X.npy", tmp_path / "found.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "found.npy"), predictions(model))


def test_kernels_in_main_travel_by_cloudpickle(tmp_path):
    code = """
        import sys, cloudpickle, numpy as np, numpyro, numpyro.distributions as dist
        from skaimz import NumPyroImpactRegressor
        from skaimz.inference import SVI
        SCALE = 0.5
        def kernel(X, y=None):
            coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
            numpyro.sample("y", dist.Normal(X @ coef, SCALE), obs=y)
        X = np.load(sys.argv[1])
        model = NumPyroImpactRegressor(kernel, inference=SVI(num_steps=50, num_samples=20), random_state=0)
        model.fit(X, X[:, 0])
        cloudpickle.dump(model, open(sys.argv[2], "wb"))
        np.save(sys.argv[3], model.predict(X))
    """
    np.save(tmp_path / "X", X)
    in_new_process(code, tmp_path / "X.npy", tmp_path / "model", tmp_path / "found.npy")
    with open(tmp_path / "model", "rb") as file:
        loaded = pickle.load(file)
    np.testing.assert_array_equal(loaded.predict(X), np.load(tmp_path / "found.npy"))


def make_closure(noise):
    import numpyro
    import numpyro.distributions as dist

    def kernel(X, y=None):
        coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
        numpyro.sample("y", dist.Normal(X @ coef, noise), obs=y)

    return kernel


@pytest.mark.parametrize("kernel", [LAMBDA, make_closure(0.3)], ids=["lambda", "closure"])
def test_kernels_without_a_name(kernel):
    model = NumPyroImpactRegressor(kernel, inference=SVI(num_steps=50, num_samples=20), random_state=0).fit(X, y)
    assert_same(cloudpickle.loads(cloudpickle.dumps(model)), model)
    with pytest.raises(pickle.PicklingError, match=r"cannot be pickled because it is not importable.*use cloudpickle"):
        pickle.dumps(model)
    with pytest.raises(pickle.PicklingError, match="use cloudpickle"):
        joblib.dump(model, os.devnull)


@pytest.mark.parametrize("form", ["memory", "netcdf", "zarr"])
def test_data_without_code(model, form, tmp_path):
    tree = model.to_datatree()
    if form == "netcdf":
        tree.to_netcdf(tmp_path / "model.nc", engine="h5netcdf")
        tree = xr.open_datatree(tmp_path / "model.nc", engine="h5netcdf")
    elif form == "zarr":
        tree.to_zarr(tmp_path / "model.zarr", consolidated=False)
        tree = xr.open_datatree(tmp_path / "model.zarr", engine="zarr", consolidated=False)
    loaded = NumPyroImpactRegressor.from_datatree(model.kernel, tree)
    assert_same(loaded, model)
    assert loaded.kernel_spec_ == model.kernel_spec_
    assert loaded.posterior_.keys() == model.posterior_.keys()


def test_ready_numpyro_objects_can_be_pickled():
    optim = numpyro.optim.Adam(0.01)
    inference = numpyro.infer.SVI(zoo.conjugate, AutoNormal(zoo.conjugate), optim, numpyro.infer.Trace_ELBO())
    model = NumPyroImpactRegressor(zoo.conjugate, inference=inference, random_state=0).fit(X, y)
    loaded = pickle.loads(pickle.dumps(model))
    assert_same(loaded, model)
    assert_same(loaded.fit(X, y), model)


def test_data_of_a_classifier_with_strings():
    labels = np.where(X[:, 0] > 0, "up", "down")
    model = NumPyroImpactClassifier(inference=SVI(num_steps=200, num_samples=50), random_state=0).fit(X, labels)
    tree = model.to_datatree()
    assert json.loads(tree.attrs["classes"]) == [[["down", "up"], "<U4"]]
    loaded = NumPyroImpactClassifier.from_datatree(None, tree)
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    with pytest.raises(ValueError, match="holds a 'NumPyroImpactClassifier', not a 'NumPyroImpactRegressor'"):
        NumPyroImpactRegressor.from_datatree(None, tree)
    with pytest.raises(ValueError, match="kernel=None"):
        NumPyroImpactClassifier.from_datatree(zoo.logistic, tree)


def test_a_kernel_without_latent_sites_comes_back_from_data():
    model = NumPyroImpactRegressor(zoo.without_latents, inference=SVI(num_steps=10, num_samples=7), random_state=0)
    model.fit(X, y)
    again = NumPyroImpactRegressor.from_datatree(zoo.without_latents, model.to_datatree())
    np.testing.assert_array_equal(again.predict_quantiles(X), model.predict_quantiles(X))
    assert again.sample_posterior_predictive(X)["posterior_predictive"].sizes["draw"] == 7


@pytest.mark.parametrize("kernel", [zoo.poisson, zoo.linear])
def test_a_tree_of_another_kernel_is_refused(kernel):
    """One lacks an argument that the other has, or the draws are of other sites."""
    X = np.zeros((3, 2))
    tree = NumPyroImpactRegressor(zoo.conjugate, posterior={"coef": np.ones((5, 2))}).fit(X, np.zeros(3)).to_datatree()
    with pytest.raises(ValueError, match="ass the kernel that the draws belong to"):
        NumPyroImpactRegressor.from_datatree(kernel, tree)
