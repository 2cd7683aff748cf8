"""JAX as several processes: fits are refused, and each process predicts on its own devices."""

import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zoo

import skaimz
from skaimz import NumPyroImpactRegressor
from skaimz.inference import MCMC

SCRIPT = Path(__file__).with_name("processes_script.py")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::skaimz.exceptions.FitWarning", "ignore::skaimz.exceptions.SpeedWarning"),
]


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).normal(size=(60, 2))


@pytest.fixture(scope="module")
def model(X):
    chains = MCMC(num_warmup=30, num_samples=20, num_chains=2, chain_method="parallel")
    return NumPyroImpactRegressor(zoo.conjugate, inference=chains, random_state=0).fit(X, X[:, 0])


@pytest.fixture(scope="module")
def found(X, model, tmp_path_factory):
    """Return what two processes, of two devices each, found."""
    folder = tmp_path_factory.mktemp("processes")
    (folder / "given").write_bytes(pickle.dumps((model, X)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    places = os.pathsep.join(str(Path(place).parent) for place in (zoo.__file__, Path(skaimz.__file__).parent))
    environment = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": places}
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(rank), str(port), str(folder)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for process in processes:
            _, told = process.communicate(timeout=120)
            assert process.returncode == 0, told
    finally:
        for process in processes:
            process.kill()
    return [pickle.loads((folder / f"found {rank}").read_bytes()) for rank in range(2)]


def test_fits_are_refused(found):
    for one in found:
        assert one["devices"] == (2, 4)
        assert list(one["refused"]) == ["svi", "in parts", "mcmc"]
        for told in one["refused"].values():
            assert told.startswith("JAX runs as 2 processes (`jax.distributed`), and a fit is not spread over them")


def test_predictions_are_those_of_one_process(found, model, X):
    draws = model.sample_posterior_predictive(X)["posterior_predictive"]["y"]
    effect = model.estimate_effect(X, scenarios={"on": {"columns": {0: 1.0}}})["on"]["effect"]
    for one in found:
        np.testing.assert_allclose(one["predict"], model.predict(X), rtol=1e-12)
        np.testing.assert_allclose(one["interval"], model.predict_interval(X), rtol=1e-12)
        np.testing.assert_allclose(one["draws"], draws, rtol=1e-12)
        np.testing.assert_allclose(one["effect"], effect, rtol=1e-12)


def test_chains_go_on_with_the_devices_of_their_process(found, model):
    draws = model.sample_posterior(20)["posterior"]["coef"]
    for one in found:
        np.testing.assert_allclose(one["chains go on"], draws, rtol=1e-6)
