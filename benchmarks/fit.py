"""First fit, second fit and cross-validation against the same work with NumPyro's own SVI on fresh objects.

Run with ``make bench``. The two sides take turns. Every repetition starts with empty compilation caches, fits twice and
then searches; for the last row our side searches with empty caches again, against the same search of NumPyro's.
"""

import argparse
import platform
import statistics
import time
import warnings

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import SVI, Predictive, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal
from numpyro.optim import Adam
from sklearn.datasets import load_diabetes
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.preprocessing import StandardScaler

import skaimz
from skaimz import NumPyroImpactRegressor
from skaimz.inference import mcmc, svi
from skaimz.kernels import trace
from skaimz.sampling import programs

NUM_STEPS, NUM_SAMPLES = 1000, 1000
RATES = (0.01, 0.02, 0.05, 0.1)
FOLDS = KFold(5)


def kernel(X, y=None):
    intercept = numpyro.sample("intercept", dist.Normal(0.0, 1.0))
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(intercept + X @ coef, sigma), obs=y)


def data():
    X, y = load_diabetes(return_X_y=True)
    return StandardScaler().fit_transform(X).astype(np.float32), ((y - y.mean()) / y.std()).astype(np.float32)


def forget():
    """Empty every cache of compiled programs, JAX's and ours."""
    jax.clear_caches()
    for module in (svi, mcmc, programs, trace):
        for value in vars(module).values():
            if hasattr(value, "cache_clear"):
                value.cache_clear()


def numpyro_fit(X, y, rate=0.05):
    guide = AutoNormal(kernel)
    result = SVI(kernel, guide, Adam(rate), Trace_ELBO()).run(jax.random.key(0), NUM_STEPS, X, y, progress_bar=False)
    draws = guide.sample_posterior(jax.random.key(1), result.params, X, y, sample_shape=(NUM_SAMPLES,))
    return jax.block_until_ready(draws)


def numpyro_search(X, y):
    scores = {}
    for rate in RATES:
        for train, test in FOLDS.split(X):
            draws = numpyro_fit(X[train], y[train], rate)
            mean = Predictive(kernel, draws)(jax.random.key(2), X[test])["y"].mean(axis=0)
            scores.setdefault(rate, []).append(r2_score(y[test], np.asarray(mean)))
    return {rate: np.mean(values) for rate, values in scores.items()}


def estimator():
    settings = skaimz.inference.SVI(num_steps=NUM_STEPS, num_samples=NUM_SAMPLES)
    return NumPyroImpactRegressor(kernel, inference=settings, random_state=0)


def our_fit(X, y):
    return estimator().fit(X, y)


def our_search(X, y):
    grid = {"inference__learning_rate": list(RATES)}
    return GridSearchCV(estimator(), grid, cv=FOLDS, refit=False).fit(X, y).cv_results_["mean_test_score"]


def seconds(function, *arguments):
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def measure(repeats):
    X, y = data()
    names = ("first fit", "second fit, fresh objects", "4 settings x 5 folds", "the same, nothing compiled before")
    rows = {name: ([], []) for name in names}
    for _ in range(repeats):
        for side, (fit, search) in enumerate(((numpyro_fit, numpyro_search), (our_fit, our_search))):
            forget()
            rows["first fit"][side].append(seconds(fit, X, y))
            rows["second fit, fresh objects"][side].append(seconds(fit, X, y))
            rows["4 settings x 5 folds"][side].append(seconds(search, X, y))
        # NumPyro compiles for fresh objects anew in any case.
        rows["the same, nothing compiled before"][0].append(rows["4 settings x 5 folds"][0][-1])
        forget()
        rows["the same, nothing compiled before"][1].append(seconds(our_search, X, y))
    return rows


def show(rows, repeats):
    print(
        f"\nFitting: diabetes data (442 x 10), auto_normal, {NUM_STEPS} steps, {NUM_SAMPLES} draws, float32; "
        f"seconds, median of {repeats} (min to max)\n"
        f"JAX {jax.__version__}, NumPyro {numpyro.__version__}, skaimz {skaimz.__version__}, "
        f"Python {platform.python_version()}, {jax.devices()[0].platform}\n"
    )
    print("| work | NumPyro `SVI.run` | skaimz | ratio of medians |")
    print("| --- | --- | --- | --- |")
    for name, (theirs, ours) in rows.items():
        cells = [f"{statistics.median(s):.3f} ({min(s):.3f} to {max(s):.3f})" for s in (theirs, ours)]
        print(f"| {name} | {cells[0]} | {cells[1]} | {statistics.median(theirs) / statistics.median(ours):.1f}x |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    warnings.simplefilter("ignore")
    show(measure(repeats), repeats)
