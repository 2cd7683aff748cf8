"""Saved and loaded models, and their predictions within MLflow."""

import json
import subprocess
import sys
import textwrap
from importlib.metadata import version

import numpy as np
import pandas as pd
import pytest
import zoo
import zoo_inputs
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline

import skaimz.mlflow
from skaimz import NumPyroImpactRegressor

QUANTILES = {"output": "quantiles", "quantiles": [0.1, 0.9]}
PLAIN = {"pip_requirements": ["skaimz"]}


def served(mlflow, model, data, params=None, key="inputs"):
    """Return the response of the scoring server."""
    from mlflow.pyfunc import scoring_server

    body = json.dumps({key: data, "params": params or {}})
    answer = scoring_server.invocations(body, "application/json", model, model.metadata.get_input_schema())
    assert answer.status == 200
    return np.asarray(json.loads(answer.response)["predictions"])


@pytest.fixture(scope="module")
def saved(mlflow, regressor, data, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model"
    skaimz.mlflow.save_model(regressor, path, input_example=data[0][:3], **PLAIN)
    return path


def test_mlflow_is_optional():
    code = """
        import sys
        import skaimz, skaimz.mlflow
        assert "mlflow" not in sys.modules
        sys.modules["mlflow"] = None
        try:
            skaimz.mlflow.load_model("model")
        except ImportError as error:
            print(error)
    """
    found = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert found.stdout == "`load_model` needs MLflow: `pip install 'skaimz[mlflow]'`.\n"


def test_load_model(mlflow, saved, regressor, data):
    for loaded in (skaimz.mlflow.load_model(str(saved)), mlflow.sklearn.load_model(str(saved))):
        np.testing.assert_array_equal(loaded.predict(data[0]), regressor.predict(data[0]))
        np.testing.assert_array_equal(loaded.sample_y(data[0], 3), regressor.sample_y(data[0], 3))


def test_outputs_of_regression(mlflow, saved, regressor, data):
    X = data[0]
    model = mlflow.pyfunc.load_model(str(saved))
    expected = {
        "mean": regressor.predict(X),
        "quantiles": regressor.predict_quantiles(X, [0.1, 0.9]),
        "interval": regressor.predict_interval(X, 0.5),
        "draws": regressor.sample_y(X, 3, random_state=7),
    }
    asked = {"quantiles": [0.1, 0.9], "coverage": 0.5, "n_samples": 3, "random_state": 7}
    for output, wanted in expected.items():
        np.testing.assert_array_equal(model.predict(X, params={"output": output, **asked}), wanted)
        np.testing.assert_array_equal(served(mlflow, model, X.tolist(), {"output": output, **asked}), wanted)
    np.testing.assert_array_equal(model.predict(X), expected["mean"])
    np.testing.assert_array_equal(model.predict(X, params={"output": "draws"}), regressor.sample_y(X))
    assert model.get_raw_model().get_params().keys() == regressor.get_params().keys()
    with pytest.raises(ValueError, match=r"`output` must be one of \['mean', .*got 'median'"):
        model.predict(X, params={"output": "median"})


def test_outputs_of_classification(mlflow, classifier, data, tmp_path):
    X = data[0]
    skaimz.mlflow.save_model(classifier, tmp_path / "model", input_example=X[:3], **PLAIN)
    model = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    np.testing.assert_array_equal(served(mlflow, model, X.tolist()), classifier.predict(X))
    np.testing.assert_array_equal(served(mlflow, model, X.tolist(), {"output": "proba"}), classifier.predict_proba(X))
    np.testing.assert_array_equal(
        served(mlflow, model, X.tolist(), {"output": "draws", "n_samples": 4}), classifier.sample_y(X, 4)
    )
    assert [each.name for each in model.metadata.signature.params] == ["output", "n_samples", "random_state"]


def test_float32(mlflow, regressor, data, tmp_path):
    X = data[0].astype(np.float32)
    single = NumPyroImpactRegressor(zoo.conjugate, inference=regressor.inference, random_state=1).fit(X, data[1])
    skaimz.mlflow.save_model(single, tmp_path / "model", input_example=X[:3], **PLAIN)
    model = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    assert model.predict(X).dtype == np.float32
    # JSON contains the shortest decimal fraction of a double, which converts back to the same single.
    found = served(mlflow, model, X.tolist())
    assert (found == found.astype(np.float32)).all()
    np.testing.assert_array_equal(found.astype(np.float32), single.predict(X))


# MLflow compares the columns of a frame with a range.
@pytest.mark.filterwarnings("ignore:Operation with range is deprecated")
def test_columns_and_steps(mlflow, search, data, tmp_path):
    frame = pd.DataFrame(data[0], columns=["dose", "age"])
    model = clone(search.best_estimator_).fit(frame, data[1])
    skaimz.mlflow.save_model(model, tmp_path / "model", input_example=frame.head(3), **PLAIN)
    loaded = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    scaler, estimator = model
    wanted = estimator.predict_quantiles(scaler.transform(frame), [0.1, 0.9])
    np.testing.assert_array_equal(loaded.predict(frame, params=QUANTILES), wanted)
    rows = frame.to_dict(orient="split", index=False)
    np.testing.assert_array_equal(served(mlflow, loaded, rows, QUANTILES, key="dataframe_split"), wanted)
    assert loaded.metadata.get_input_schema().input_names() == ["dose", "age"]


def test_search(mlflow, search, data, tmp_path):
    X = data[0]
    # The parameters are declared even without an example or a signature.
    skaimz.mlflow.save_model(search, tmp_path / "model", **PLAIN)
    loaded = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    np.testing.assert_array_equal(loaded.predict(X), search.predict(X))
    scaler, estimator = search.best_estimator_
    wanted = estimator.predict_interval(scaler.transform(X), 0.5)
    np.testing.assert_array_equal(loaded.predict(X, params={"output": "interval", "coverage": 0.5}), wanted)
    assert skaimz.mlflow.load_model(str(tmp_path / "model")).best_params_ == search.best_params_


def test_kernel_in_a_module(mlflow, regressor, data, tmp_path, monkeypatch):
    source = tmp_path / "elsewhere_kernels.py"
    source.write_text("import zoo\n\ndef kernel(X, y=None):\n    zoo.conjugate(X, y)\n")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        from elsewhere_kernels import kernel

        model = NumPyroImpactRegressor(kernel, inference=regressor.inference, random_state=1).fit(*data)
        skaimz.mlflow.save_model(model, tmp_path / "model", code_paths=[str(source)], **PLAIN)
    source.unlink()
    del sys.modules["elsewhere_kernels"]
    path = list(sys.path)
    try:
        loaded = mlflow.pyfunc.load_model(str(tmp_path / "model"))
        np.testing.assert_array_equal(loaded.predict(data[0]), regressor.predict(data[0]))
    finally:
        sys.path[:] = path
        del sys.modules["elsewhere_kernels"]


def test_signature_of_ones_own(mlflow, regressor, data, tmp_path):
    signature = mlflow.models.infer_signature(data[0])
    skaimz.mlflow.save_model(regressor, tmp_path / "model", signature=signature, metadata={"team": "a"}, **PLAIN)
    described = mlflow.models.Model.load(tmp_path / "model")
    assert described.signature.inputs == signature.inputs
    assert described.signature.params.params[0].default == "mean"
    assert described.metadata == {"team": "a"}
    assert signature.params is None


@pytest.mark.usefixtures("_no_inference")
def test_requirements(regressor, tmp_path):
    skaimz.mlflow.save_model(regressor, tmp_path / "model", extra_pip_requirements=["einops>=0.8"])
    found = (tmp_path / "model" / "requirements.txt").read_text().splitlines()
    for name in ("jax", "jaxlib", "numpy", "numpyro", "scikit-learn", "skaimz", "cloudpickle", "mlflow"):
        assert f"{name}=={version(name)}" in found
    assert "einops>=0.8" in found


def test_refusals(mlflow, regressor, tmp_path):
    for others in (LinearRegression(), make_pipeline(LinearRegression())):
        with pytest.raises(TypeError, match=r"`model` must be a NumPyroImpactRegressor.*Use mlflow.sklearn"):
            skaimz.mlflow.save_model(others, tmp_path / "model")
    with pytest.raises(NotFittedError):
        skaimz.mlflow.log_model(NumPyroImpactRegressor(zoo.conjugate))
    with pytest.raises(TypeError, match="serialization_format"):
        skaimz.mlflow.save_model(regressor, tmp_path / "model", serialization_format="skops")
    mlflow.sklearn.save_model(
        LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0]),
        tmp_path / "other",
        serialization_format="pickle",
        pip_requirements=[],
    )
    with pytest.raises(TypeError, match="`model` must be"):
        skaimz.mlflow.load_model(str(tmp_path / "other"))


@pytest.mark.filterwarnings("ignore:Operation with range is deprecated")  # a warning of MLflow
@pytest.mark.parametrize("labels", [["north", "south", "west"], [1, 2, 3]], ids=str)
def test_categories_of_pandas_reach_the_model(mlflow, labels, tmp_path):
    """The error about unknown groups recommends a categorical column, which therefore must work."""
    frame = pd.DataFrame({"a": np.zeros(6), "group": pd.Categorical(labels * 2)})
    posterior = {"coef": np.zeros((2, 1)), "level": np.tile([1.0, 2.0, 3.0], (2, 1))}
    model = NumPyroImpactRegressor(zoo_inputs.by_group, column_args={"group": "group"}, posterior=posterior)
    skaimz.mlflow.save_model(model.fit(frame, np.zeros(6)), tmp_path / "model", input_example=frame[:3], **PLAIN)
    loaded = mlflow.pyfunc.load_model(tmp_path / "model")
    for rows in (frame, frame.assign(group=labels * 2), frame[1:2]):
        np.testing.assert_array_equal(loaded.predict(rows), model.predict(rows))
    split = {"columns": ["a", "group"], "data": [[0.0, labels[2]], [0.0, labels[0]]]}
    np.testing.assert_array_equal(served(mlflow, loaded, split, key="dataframe_split"), [3.0, 1.0])
