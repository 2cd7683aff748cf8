"""A search in this process and in two others, with kernels of the main module: a program of its own.

Run as ``python parallel_script.py BACKEND``, or through standard input, as code of a notebook is run. What was found
comes out as JSON. The backend "dask" wants the address of a scheduler besides. The backend "fork" is no backend of
joblib's, but a process that is forked after JAX has started.
"""

import contextlib
import json
import multiprocessing
import os
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import joblib
import numpy as np
import numpyro
import numpyro.distributions as dist
import zoo
from sklearn.model_selection import GridSearchCV, cross_validate

import skaimz
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


def found(n_jobs):
    """Return what a search and a cross-validation give."""
    grid = [{"kernel__prior_scale": [0.01, 1.0]}, {"kernel": [zoo.conjugate]}]
    search = GridSearchCV(estimator(Scaled()), grid, cv=3, n_jobs=n_jobs, error_score="raise").fit(X, y)
    folds = cross_validate(estimator(Scaled()), X, y, cv=3, n_jobs=n_jobs, error_score="raise", return_estimator=True)
    return {
        "scores": [search.cv_results_[f"split{fold}_test_score"].tolist() for fold in range(3)],
        "best": int(search.best_index_),
        "predictions": search.predict(X).tolist(),
        "of folds": [model.predict(X).tolist() for model in folds["estimator"]],
    }


def fit_here(place):
    """Fit and predict in whatever process this is; return that, how often the compiler ran, and what is predicted.

    The place is a hyperparameter of a second kernel.
    """
    count = 0

    def listen(event, _duration, **details):
        nonlocal count
        count += event == "/jax/core/compile/backend_compile_duration"

    warnings.simplefilter("ignore", FitWarning)
    jax.monitoring.register_event_duration_secs_listener(listen)
    estimator(Scaled(1.0 + place)).fit(X, y)
    predicted = estimator(plain).fit(X, y).predict(X).tolist()
    jax.monitoring.unregister_event_duration_listener(listen)
    return os.getpid(), count, predicted


def predict_in_fork(model, pipe):
    try:
        pipe.send(model.predict(X).tolist())
    except RuntimeError as error:
        pipe.send(str(error))


def forked():
    model = estimator(plain).fit(X, y)
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=predict_in_fork, args=(model, there))
    process.start()
    told = here.recv() if here.poll(60) else "nothing"
    process.kill()
    return told


@contextlib.contextmanager
def client_of(address=None):
    if address is None:
        yield
        return
    from distributed import Client

    with Client(address):
        yield


def main(backend, *address):
    if backend == "fork":
        return forked()
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", FitWarning)
    result = {"alone": found(1), "fits": []}
    with client_of(*address), joblib.parallel_config(backend=backend):
        result["together"] = found(2)
        if backend != "multiprocessing":  # which starts processes anew for every call
            fits = joblib.Parallel(n_jobs=2)(joblib.delayed(fit_here)(place) for place in range(8))
            result["fits"] = [fit_here(8), *fits]
    return result


def run(*arguments, on_stdin=False, **environment):
    """Run this program, for a test, and return what it found."""
    places = os.pathsep.join(str(Path(place).parent) for place in (__file__, Path(skaimz.__file__).parent))
    done = subprocess.run(
        [sys.executable, "-" if on_stdin else __file__, *arguments],
        input=Path(__file__).read_text() if on_stdin else None,
        env=os.environ | {"PYTHONPATH": places} | environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "fork" in arguments or "fork" not in done.stderr
    return json.loads(done.stdout)


def check_same(result):
    """Check that a search in other processes found the same, and that each compiled its programs once."""
    assert result["together"] == result["alone"]
    assert result["alone"]["best"] != 0  # the prior that is too narrow
    by_process = {}
    for process, count, predicted in result["fits"]:
        by_process.setdefault(process, []).append(count)
        assert predicted == result["fits"][0][-1]
    # Kernels of the main module come anew with every task, and are known by value.
    assert all(count == 0 for counts in by_process.values() for count in counts[1:])


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
