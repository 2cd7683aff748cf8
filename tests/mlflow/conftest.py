"""An MLflow store in a file, and fitted models."""

import os
import warnings

# Set before MLflow is imported, so that it sends no usage data.
os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")

import numpy as np
import pytest
import zoo
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skaimz import NumPyroImpactClassifier, NumPyroImpactRegressor
from skaimz.inference import SVI

# Too few steps to decide whether the loss has settled.
SHORT = SVI(num_steps=50, num_samples=40)


@pytest.fixture(scope="session")
def mlflow(tmp_path_factory):
    """MLflow with a database for the test session, which is created on first use."""
    with warnings.catch_warnings():
        # MLflow's own modules warn while they are imported.
        warnings.simplefilter("ignore")
        import mlflow.pyfunc
        import mlflow.sklearn
        import mlflow.store.tracking.sqlalchemy_store
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}")
    return mlflow


@pytest.fixture
def store(mlflow, tmp_path, monkeypatch):
    """MLflow with an experiment for one test, whose artifacts are in the folder of the test."""
    # MLflow raises errors in automatic logging instead of reporting them.
    monkeypatch.setenv("MLFLOW_AUTOLOGGING_TESTING", "true")
    before = mlflow.get_tracking_uri()
    name = str(tmp_path)
    mlflow.set_experiment(experiment_id=mlflow.create_experiment(name, artifact_location=tmp_path.as_uri()))
    yield mlflow
    mlflow.end_run()
    mlflow.set_tracking_uri(before)


@pytest.fixture
def _no_inference(mlflow, monkeypatch):
    """Skip the process in which MLflow finds the packages that a model imports."""
    monkeypatch.setattr(mlflow.models, "infer_pip_requirements", lambda path, flavor, fallback: fallback)


@pytest.fixture(scope="session")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 2))
    return X, X @ [1.0, -2.0] + rng.normal(scale=0.5, size=40)


@pytest.fixture(scope="session")
def regressor(data):
    return NumPyroImpactRegressor(zoo.conjugate, inference=SHORT, random_state=1).fit(*data)


@pytest.fixture(scope="session")
def classifier(data):
    X, y = data
    labels = np.where(y > 0, "up", "down")
    return NumPyroImpactClassifier(zoo.logistic, inference=SHORT, random_state=1).fit(X, labels)


@pytest.fixture(scope="session")
def search(data):
    pipeline = make_pipeline(StandardScaler(), NumPyroImpactRegressor(zoo.Shrinkage(), inference=SHORT, random_state=1))
    return GridSearchCV(pipeline, {"numpyroimpactregressor__kernel__prior_scale": [0.1, 1.0]}, cv=2).fit(*data)
