"""Automatic logging of fits."""

import joblib
import numpy as np
import numpyro
import numpyro.infer
import pytest
import zoo
from numpyro.infer.autoguide import AutoNormal
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from zoo_inputs import shifted

import skaimz.mlflow
from skaimz import NumPyroImpactRegressor
from skaimz.estimators._base import ImpactEstimator
from skaimz.inference import SVI

pytestmark = [
    pytest.mark.usefixtures("_no_inference"),
    # A use of SQLAlchemy in MLflow 3.0.
    pytest.mark.filterwarnings("ignore:The Query.get.. method is considered legacy"),
]


@pytest.fixture
def runs(store, tmp_path):
    """Functions that return what has been logged since the start of the test, oldest first."""
    client = store.MlflowClient()
    experiment = client.get_experiment_by_name(str(tmp_path)).experiment_id
    yield lambda: client.search_runs([experiment], order_by=["attributes.start_time"])
    skaimz.mlflow.autolog(disable=True)
    store.sklearn.autolog(disable=True)


@pytest.fixture
def estimator(regressor):
    return NumPyroImpactRegressor(zoo.conjugate, inference=regressor.inference, random_state=1)


def models(store, run):
    return store.search_logged_models([run.info.experiment_id], output_format="list")


def artifacts(store, run):
    return {each.path for each in store.MlflowClient().list_artifacts(run.info.run_id)}


def test_run_of_its_own(store, runs, estimator, data):
    skaimz.mlflow.autolog(extra_tags={"team": "a"}, registered_model_name="impact", log_input_examples=True)
    fitted = estimator.fit(*data)
    assert fitted is estimator
    [run] = runs()
    assert (run.info.status, store.active_run()) == ("FINISHED", None)
    assert (run.data.tags["team"], run.data.tags["mlflow.autologging"]) == ("a", "skaimz")
    assert run.data.params["kernel"] == "zoo.conjugate"
    assert run.data.metrics["loss_final"] == fitted.fit_result_.diagnostics["loss_final"]
    assert artifacts(store, run) == {"kernel.py", "diagnostics.json", "posterior.nc"}
    [model] = models(store, run)
    assert model.source_run_id == run.info.run_id
    loaded = store.pyfunc.load_model("models:/impact/1")
    wanted = fitted.predict_quantiles(data[0])
    np.testing.assert_array_equal(loaded.predict(data[0], params={"output": "quantiles"}), wanted)
    np.testing.assert_array_equal(loaded.input_example, data[0][:5])


def test_run_that_is_active(store, runs, estimator, data):
    skaimz.mlflow.autolog(log_models=False, log_posterior=False)
    with store.start_run() as active:
        estimator.fit(X=data[0], y=data[1])
        assert store.active_run().info.run_id == active.info.run_id
    [run] = runs()
    assert run.data.params["seed"] == "1"
    assert artifacts(store, run) == {"kernel.py", "diagnostics.json"}
    assert models(store, run) == []
    skaimz.mlflow.autolog(exclusive=True)
    with store.start_run():
        estimator.fit(*data)
    assert runs()[-1].data.params == {}


def test_disable(runs, estimator, data):
    before = ImpactEstimator.fit
    skaimz.mlflow.autolog()
    assert ImpactEstimator.fit is not before
    skaimz.mlflow.autolog(disable=True)
    assert ImpactEstimator.fit is before
    estimator.fit(*data)
    assert runs() == []


def test_failed_fit(store, runs, estimator, data):
    skaimz.mlflow.autolog()
    with pytest.raises(ValueError, match="NaN"):
        estimator.fit(data[0] * np.nan, data[1])
    [run] = runs()
    assert (run.info.status, store.active_run()) == ("FAILED", None)
    assert run.data.params["inference__num_steps"] == "50"


def test_fit_outlives_failed_logging(runs, estimator, regressor, data, monkeypatch):
    def full(*_):
        raise OSError("disk full")

    monkeypatch.setenv("MLFLOW_AUTOLOGGING_TESTING", "false")
    monkeypatch.setattr("skaimz.mlflow._autolog.record_fit", full)
    skaimz.mlflow.autolog()
    np.testing.assert_array_equal(estimator.fit(*data).predict(data[0]), regressor.predict(data[0]))
    assert [run.info.status for run in runs()] == ["FAILED"]


def test_rows_without_a_signature(store, runs, estimator, data):
    # The argument of the kernel is no column, so the model cannot predict within MLflow.
    skaimz.mlflow.autolog(log_posterior=False)
    model = estimator.set_params(kernel=shifted).fit(*data, offset=np.ones(40))
    [run] = runs()
    [logged] = models(store, run)
    loaded = skaimz.mlflow.load_model(logged.model_uri)
    wanted = model.predict(data[0], offset=np.ones(40))
    np.testing.assert_array_equal(loaded.predict(data[0], offset=np.ones(40)), wanted)


@pytest.mark.parametrize("backend", ["sequential", "threading"])
def test_search(store, runs, estimator, data, backend):
    skaimz.mlflow.autolog(log_posterior=False)
    with joblib.parallel_backend(backend, n_jobs=2 if backend == "threading" else 1):
        search = GridSearchCV(estimator, {"inference__learning_rate": [0.01, 0.05]}, cv=2).fit(*data)
        cross_val_score(estimator, *data, cv=2)
    # Only the last fit, with the best parameters.
    [run] = runs()
    assert run.data.params["inference__learning_rate"] == str(search.best_params_["inference__learning_rate"])
    assert run.data.metrics["loss_final"] == search.best_estimator_.fit_result_.diagnostics["loss_final"]
    assert models(store, run) == []


def test_pipeline(store, runs, estimator, data):
    skaimz.mlflow.autolog(log_posterior=False)
    make_pipeline(StandardScaler(), LinearRegression()).fit(*data)
    assert runs() == []
    with store.start_run():
        pipeline = make_pipeline(StandardScaler(), estimator).fit(*data)
        info = skaimz.mlflow.log_model(pipeline, input_example=data[0][:2])
    [run] = runs()
    assert run.data.params["kernel"] == "zoo.conjugate"
    # Only the Pipeline, which the test logs: the estimator alone would get rows that are not scaled.
    assert [model.model_id for model in models(store, run)] == [info.model_id]
    loaded = store.pyfunc.load_model(info.model_uri)
    np.testing.assert_array_equal(loaded.predict(data[0]), pipeline.predict(data[0]))


NUMPYRO = {
    "MCMC": numpyro.infer.MCMC(numpyro.infer.NUTS(zoo.conjugate), num_warmup=20, num_samples=20, progress_bar=False),
    "SVI": SVI(AutoNormal(zoo.conjugate), numpyro.optim.Adam(0.05), num_steps=20, num_samples=20),
}


@pytest.mark.filterwarnings("ignore::skaimz.exceptions.FitWarning")
@pytest.mark.parametrize("name", NUMPYRO)
def test_numpyro_objects(store, runs, data, name):
    skaimz.mlflow.autolog(log_posterior=False)
    model = NumPyroImpactRegressor(zoo.conjugate, inference=NUMPYRO[name], random_state=1).fit(*data)
    [run] = runs()
    assert run.info.status == "FINISHED"
    assert run.data.params["inference__num_samples"] == "20"
    if name == "SVI":
        assert run.data.params["inference__optim"] == "numpyro.optim.Adam"
        assert run.data.params["inference__guide"] == "numpyro.infer.autoguide.AutoNormal"
    [logged] = models(store, run)
    np.testing.assert_array_equal(skaimz.mlflow.load_model(logged.model_uri).predict(data[0]), model.predict(data[0]))


@pytest.mark.parametrize("ours_first", [True, False])
def test_beside_mlflow_sklearn(store, runs, estimator, data, ours_first):
    # One candidate: MLflow logs several in parallel, and SQLite may then refuse the data set that they share.
    theirs = {"log_datasets": False, "log_post_training_metrics": False, "log_models": False, "max_tuning_runs": 1}
    for ours in (True, False) if ours_first else (False, True):
        if ours:
            skaimz.mlflow.autolog(log_posterior=False)
        else:
            store.sklearn.autolog(**theirs)
    pipeline = make_pipeline(StandardScaler(), estimator)
    grid = {"numpyroimpactregressor__inference__learning_rate": [0.01, 0.05]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(*data)
    [child], [run] = (
        [each for each in runs() if ("mlflow.parentRunId" in each.data.tags) == it] for it in (True, False)
    )
    assert run.data.tags["mlflow.autologging"] == "sklearn"
    assert run.data.metrics["best_cv_score"] == search.best_score_
    assert run.data.metrics["loss_final"] == search.best_estimator_[-1].fit_result_.diagnostics["loss_final"]
    assert artifacts(store, run) >= {"cv_results.csv", "kernel.py"}
    assert "loss" not in child.data.metrics
    assert models(store, run) == []
