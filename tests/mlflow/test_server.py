"""Models that other processes load from a tracking server, or serve, make bit by bit the same predictions."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import skaimz.mlflow
from skaimz import NumPyroImpactRegressor

HOST = "127.0.0.1"
pytestmark = pytest.mark.slow


def free_port():
    with socket.socket() as found:
        found.bind((HOST, 0))
        return found.getsockname()[1]


@contextlib.contextmanager
def serving(command, port, log, **environment):
    """Run a server of MLflow within a block, which starts when the server responds."""
    # MLflow looks for its commands on the path. All processes that it starts belong to one group, which ends with it.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    with (
        open(log, "w") as output,
        subprocess.Popen(
            [sys.executable, "-m", "mlflow", *command, "--host", HOST, "--port", str(port), "--workers", "1"],
            env=os.environ | {"PATH": path, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"} | environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process,
    ):
        try:
            deadline = time.monotonic() + 120
            while True:
                with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{HOST}:{port}/health"):
                    break
                assert process.poll() is None, Path(log).read_text()
                assert time.monotonic() < deadline, Path(log).read_text()
                time.sleep(0.2)
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def invoke(port, rows, **params):
    body = json.dumps({"inputs": rows.tolist(), "params": params}).encode()
    request = urllib.request.Request(f"http://{HOST}:{port}/invocations", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return np.array(json.load(answer)["predictions"])


@pytest.fixture(scope="module")
def model(data, regressor):
    def kernel(X, y=None):
        """A function that no module contains, so that the model must contain it."""
        coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
        with numpyro.plate("rows", X.shape[0]):
            numpyro.sample("y", dist.Normal(X @ coef, 0.5), obs=y)

    return NumPyroImpactRegressor(kernel, inference=regressor.inference, random_state=2).fit(*data)


def test_from_fit_to_http(store, model, data, tmp_path):
    mlflow, X = store, data[0]
    port, door = free_port(), free_port()
    address, database = f"http://{HOST}:{port}", mlflow.get_tracking_uri()
    command = ["server", "--backend-store-uri", database, "--artifacts-destination", str(tmp_path / "artifacts")]
    with serving(command, port, tmp_path / "server.log"):
        mlflow.set_tracking_uri(address)
        mlflow.set_experiment("served")
        with mlflow.start_run() as run:
            skaimz.mlflow.log_fit(model)
            info = skaimz.mlflow.log_model(model, registered_model_name="served", input_example=X[:3])
        client = mlflow.MlflowClient()
        losses = [each.value for each in client.get_metric_history(run.info.run_id, "loss")]
        np.testing.assert_array_equal(losses, model.fit_result_.losses)
        assert client.get_model_version("served", "1").run_id == run.info.run_id
        assert int(info.registered_model_version) == 1
        with open(mlflow.pyfunc.get_model_dependencies("models:/served/1")) as file:
            assert {"jaxlib", "numpyro", "skaimz"} <= {line.partition("==")[0] for line in file}
        loaded = skaimz.mlflow.load_model("models:/served/1")
        np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
        command = ["models", "serve", "--model-uri", "models:/served/1", "--env-manager", "local"]
        with serving(command, door, tmp_path / "model.log", MLFLOW_TRACKING_URI=address):
            np.testing.assert_array_equal(invoke(door, X), model.predict(X))
            quantiles = invoke(door, X, output="quantiles", quantiles=[0.1, 0.5])
            np.testing.assert_array_equal(quantiles, model.predict_quantiles(X, [0.1, 0.5]))
            drawn = invoke(door, X, output="draws", n_samples=4, random_state=9)
            np.testing.assert_array_equal(drawn, model.sample_y(X, 4, random_state=9))
