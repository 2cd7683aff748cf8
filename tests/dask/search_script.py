"""A search on the workers of a cluster, with kernels of the main module: a program of its own.

Run as ``python search_script.py SCHEDULER``, or through standard input, as code of a notebook is run. What was found
comes out as JSON.
"""

import json
import sys
import warnings

import jax
import joblib
import numpy as np
import numpyro
import numpyro.distributions as dist
from distributed import Client
from sklearn.model_selection import GridSearchCV

from skaimz import NumPyroImpactRegressor
from skaimz.exceptions import FitWarning
from skaimz.inference import SVI

NOISE = 0.5

rng = np.random.default_rng(0)
X = rng.normal(size=(40, 2))
y = X @ [1.0, -2.0] + rng.normal(scale=NOISE, size=40)


def plain(X, y=None):
    """A function that reads a global."""
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ coef, NOISE), obs=y)


class Scaled:
    """An object whose number can be searched."""

    def __init__(self, prior_scale=1.0):
        self.prior_scale = prior_scale

    def get_params(self, deep=True):
        return {"prior_scale": self.prior_scale}

    def set_params(self, **params):
        vars(self).update(params)
        return self

    def __call__(self, X, y=None):
        coef = numpyro.sample("coef", dist.Normal(0.0, self.prior_scale).expand([X.shape[1]]).to_event(1))
        with numpyro.plate("rows", X.shape[0]):
            numpyro.sample("y", dist.Normal(X @ coef, NOISE), obs=y)


def estimator(kernel):
    return NumPyroImpactRegressor(kernel, inference=SVI(num_steps=50, num_samples=20), random_state=0)


def searched():
    grid = [{"kernel__prior_scale": [0.01, 1.0]}, {"kernel": [plain]}]
    search = GridSearchCV(estimator(Scaled()), grid, cv=3, error_score="raise").fit(X, y)
    return [search.cv_results_[f"split{fold}_test_score"].tolist() for fold in range(3)], search.predict(X).tolist()


def compilations():
    """Return how many programs this process compiles for more rows, and for as many and another number."""
    counts, rows = [], np.tile(X, (20, 1))

    def listen(event, _duration, **details):
        counts.append(event == "/jax/core/compile/backend_compile_duration")

    jax.monitoring.register_event_duration_secs_listener(listen)
    found = []
    for scale in (0.5, 2.0):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FitWarning)
            estimator(Scaled(scale)).fit(rows, rows[:, 0]).predict(rows)
        found.append(sum(counts))
        counts.clear()
    return found


if __name__ == "__main__":
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", FitWarning)
    with Client(sys.argv[1]) as client:
        alone = searched()
        with joblib.parallel_config("dask"):
            together = searched()
        counted = list(client.run(compilations).values())
    print(json.dumps({"alone": alone, "together": together, "compilations": counted}))
