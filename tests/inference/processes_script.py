"""One of several processes that JAX runs as: what it refuses, and what it predicts with an estimator that it is given.

Run as ``python processes_script.py RANK PORT FOLDER`` with ``tests`` on the path, twice.
"""

import pickle
import sys
import warnings
from pathlib import Path

import jax
import zoo

from skaimz import NumPyroImpactRegressor
from skaimz.inference import MCMC, SVI


def refused(call):
    try:
        call()
    except RuntimeError as error:
        return str(error)
    return "nothing"


def main(rank, port, folder):
    jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=rank)
    model, X = pickle.loads((folder / "given").read_bytes())
    y = X[:, 0]
    fits = {
        "svi": NumPyroImpactRegressor(zoo.conjugate, inference=SVI()).fit,
        "in parts": NumPyroImpactRegressor(zoo.conjugate, inference=SVI()).partial_fit,
        "mcmc": NumPyroImpactRegressor(zoo.conjugate, inference=MCMC(chain_method="parallel")).fit,
    }
    found = {
        "devices": (jax.local_device_count(), jax.device_count()),
        "refused": {name: refused(lambda fit=fit: fit(X, y)) for name, fit in fits.items()},
        "predict": model.predict(X),
        "interval": model.predict_interval(X),
        "draws": model.sample_posterior_predictive(X)["posterior_predictive"]["y"].to_numpy(),
        "effect": model.estimate_effect(X, scenarios={"on": {"columns": {0: 1.0}}})["on"]["effect"].to_numpy(),
        "chains go on": model.sample_posterior(20)["posterior"]["coef"].to_numpy(),
    }
    (folder / f"found {rank}").write_bytes(pickle.dumps(found))


if __name__ == "__main__":
    warnings.simplefilter("error")

    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
