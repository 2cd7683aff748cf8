"""Logging of the results of a fit."""

import functools
import inspect
import json

import numpy as np
import numpyro
import pytest
import xarray as xr
import zoo
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression

import skaimz.mlflow
from skaimz import NumPyroImpactRegressor
from skaimz.inference import MCMC, SVI
from skaimz.inference.diagnostics import check_chains
from skaimz.mlflow._record import kernel_source, metrics_of, parameters_of, thinned


@pytest.fixture
def run(store):
    """An active run, and functions that read what was logged to it."""

    class Run:
        def __init__(self):
            self.run_id = store.start_run().info.run_id
            self.client = store.MlflowClient()

        @property
        def data(self):
            return self.client.get_run(self.run_id).data

        def history(self, name):
            return {each.step: each.value for each in self.client.get_metric_history(self.run_id, name)}

        def artifact(self, name):
            return store.artifacts.download_artifacts(run_id=self.run_id, artifact_path=name)

        def text(self, name):
            with open(self.artifact(name)) as file:
                return file.read()

    yield Run()
    store.end_run()


def test_log_fit(run, regressor, data):
    skaimz.mlflow.log_fit(regressor)
    found = run.data
    assert found.params["kernel"] == "zoo.conjugate"
    assert found.params["inference__num_steps"] == "50"
    assert found.params["inference__guide"] == "auto_normal"
    assert [found.params[name] for name in ("n_rows", "n_features", "seed")] == ["40", "2", "1"]
    losses = regressor.fit_result_.losses
    assert run.history("loss") == {step + 1: float(loss) for step, loss in enumerate(losses)}
    assert found.metrics["loss_final"] == regressor.fit_result_.diagnostics["loss_final"]
    assert found.metrics["loss_is_finite"] == 1.0
    assert found.tags["estimator_class"] == "skaimz.estimators._regressor.NumPyroImpactRegressor"
    assert run.text("kernel.py") == inspect.getsource(zoo.conjugate)
    assert json.loads(run.text("diagnostics.json")) == regressor.fit_result_.diagnostics
    with xr.open_datatree(run.artifact("posterior.nc"), engine="h5netcdf") as tree:
        again = NumPyroImpactRegressor.from_datatree(zoo.conjugate, tree.load())
    np.testing.assert_array_equal(again.predict(data[0]), regressor.predict(data[0]))


def test_log_fit_of_a_search(run, search):
    skaimz.mlflow.log_fit(search, posterior=False)
    found = run.data
    assert found.tags["estimator_name"] == "Pipeline"
    assert found.params["standardscaler__with_mean"] == "True"
    best = search.best_params_["numpyroimpactregressor__kernel__prior_scale"]
    assert found.params["numpyroimpactregressor__kernel__prior_scale"] == str(best)
    assert found.params["numpyroimpactregressor__inference__num_steps"] == "50"
    assert run.text("kernel.py") == inspect.getsource(zoo.Shrinkage)
    assert {each.path for each in run.client.list_artifacts(run.run_id)} == {"kernel.py", "diagnostics.json"}


def test_log_fit_starts_a_run(store, regressor):
    skaimz.mlflow.log_fit(regressor, posterior=False)
    assert store.active_run() is not None
    with pytest.raises(TypeError, match="`model` must be"):
        skaimz.mlflow.log_fit(LinearRegression())
    with pytest.raises(NotFittedError):
        skaimz.mlflow.log_fit(NumPyroImpactRegressor())


def test_losses_are_thinned():
    losses = np.arange(25_000.0)
    found = thinned(losses)
    assert len(found) == 1000
    assert (found[1], found[25_000]) == (0.0, 24_999.0)
    assert all(losses[step - 1] == loss for step, loss in found.items())
    assert set(np.diff(list(found))) == {25, 26}
    assert thinned(np.array([3.0])) == {1: 3.0}
    assert thinned(None) == {}


def test_worst_diagnostics():
    rng = np.random.default_rng(0)
    draws = {"good": rng.normal(size=(4, 400)), "bad": rng.normal(size=(4, 400)) + np.arange(4)[:, None]}
    draws["constant"] = np.ones((4, 400))
    diagnostics = check_chains(draws, np.eye(4, 400, dtype=bool))
    assert metrics_of(diagnostics) == {
        "num_chains": 4.0,
        "finite": 1.0,
        "r_hat_max": diagnostics["r_hat"]["bad"],
        "ess_min": diagnostics["ess"]["bad"],
        "num_divergences": 4.0,
    }
    assert metrics_of({"r_hat": {"a": None}, "ess": {}}) == {}


def test_parameters():
    def of(inference):
        model = NumPyroImpactRegressor(functools.partial(zoo.renamed, offset=1.0), inference=inference)
        return parameters_of(model, model)

    # A name means the same settings as an object with default parameters.
    assert {k: v for k, v in of("svi").items() if k != "inference"} == {
        k: v for k, v in of(SVI()).items() if k != "inference"
    }
    assert of("mcmc")["inference__num_warmup"] == "1000"
    recipe = numpyro.infer.MCMC(numpyro.infer.NUTS(zoo.linear), num_warmup=7, num_samples=8)
    assert of(recipe)["inference__num_warmup"] == "7"
    assert of(MCMC(num_chains=3))["inference__num_chains"] == "3"


def test_source():
    wrapped = numpyro.handlers.substitute(functools.partial(zoo.renamed, offset=1.0), data={})
    assert kernel_source(wrapped) == inspect.getsource(zoo.renamed)
    assert kernel_source(zoo.Shrinkage()) == inspect.getsource(zoo.Shrinkage)

    def inner(X, y=None):
        zoo.conjugate(X, y)

    assert kernel_source(inner) == "def inner(X, y=None):\n    zoo.conjugate(X, y)\n"
    space = {"__name__": "elsewhere"}
    exec("def kernel(X, y=None): pass", space)
    assert kernel_source(space["kernel"]).startswith("# The source of elsewhere.kernel is not available: ")
