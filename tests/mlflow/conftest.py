"""A store of MLflow's in a file, and models that were fitted once."""

import os
import warnings

# Before MLflow is first imported: nothing is to be sent anywhere.
os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")

import numpy as np
import pytest
import zoo
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skaimz import NumPyroImpactClassifier, NumPyroImpactRegressor
from skaimz.inference import SVI

# Too few steps for a judgement on whether the loss has settled.
SHORT = SVI(num_steps=50, num_samples=40)


@pytest.fixture(scope="session")
def mlflow():
    """MLflow, whose own modules warn while they are imported."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(?s).*Any type hint is inferred as AnyType", UserWarning)
        warnings.filterwarnings("ignore", "The ``noload`` loader strategy", DeprecationWarning)
        import mlflow.pyfunc
        import mlflow.sklearn
        import mlflow.store.tracking.sqlalchemy_store
    return mlflow


@pytest.fixture(scope="session")
def _database(mlflow, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mlflow")
    address = f"sqlite:///{folder / 'mlflow.db'}"
    mlflow.MlflowClient(address).create_experiment("tests", artifact_location=(folder / "artifacts").as_uri())
    return address


@pytest.fixture
def store(mlflow, _database, monkeypatch):
    """MLflow, with a new database for the session."""
    # Errors in what is logged are raised, rather than reported.
    monkeypatch.setenv("MLFLOW_AUTOLOGGING_TESTING", "true")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(_database)
    mlflow.set_experiment("tests")
    yield mlflow
    mlflow.end_run()
    mlflow.set_tracking_uri(before)


@pytest.fixture
def _no_inference(mlflow, monkeypatch):
    """Skip the process in which MLflow finds what a model imports."""
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
