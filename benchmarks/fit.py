"""First fit, second fit and a search against the same work with NumPyro's own SVI on fresh objects.

Run with ``make bench``. The two sides take turns. Every repetition starts with empty compilation caches, fits twice and
then searches 24 settings on 5 folds; for the last row our side searches with empty caches again, against the same
search of NumPyro's. NumPyro compiles for fresh objects anew, so that all its fits take the same time: of its 120 fits a
part is run, and the time is scaled to all. The table says how many were run.
"""

import argparse
import itertools
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
from skaimz.sampling import programs, proofs

NUM_STEPS, NUM_SAMPLES = 1000, 1000
RATES = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1)
SCALES = (0.03, 0.1, 0.3, 1.0)
SETTINGS = tuple(itertools.product(RATES, SCALES))
FOLDS = KFold(5)


class Regression:
    """Linear regression; the scale of the coefficients' prior can be searched."""

    def __init__(self, scale=1.0):
        self.scale = scale

    def get_params(self, deep=True):
        return {"scale": self.scale}

    def set_params(self, **params):
        vars(self).update(params)
        return self

    def __call__(self, X, y=None):
        intercept = numpyro.sample("intercept", dist.Normal(0.0, 1.0))
        coef = numpyro.sample("coef", dist.Normal(0.0, self.scale).expand([X.shape[1]]).to_event(1))
        sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
        with numpyro.plate("rows", X.shape[0]):
            numpyro.sample("y", dist.Normal(intercept + X @ coef, sigma), obs=y)


def data():
    X, y = load_diabetes(return_X_y=True)
    return StandardScaler().fit_transform(X).astype(np.float32), ((y - y.mean()) / y.std()).astype(np.float32)


def forget():
    """Empty every cache of compiled programs, JAX's and ours."""
    jax.clear_caches()
    for module in (svi, mcmc, programs, proofs, trace):
        for value in vars(module).values():
            if hasattr(value, "cache_clear"):
                value.cache_clear()


def numpyro_fit(X, y, rate=0.05, scale=1.0):
    kernel = Regression(scale)
    guide = AutoNormal(kernel)
    result = SVI(kernel, guide, Adam(rate), Trace_ELBO()).run(jax.random.key(0), NUM_STEPS, X, y, progress_bar=False)
    draws = guide.sample_posterior(jax.random.key(1), result.params, X, y, sample_shape=(NUM_SAMPLES,))
    return jax.block_until_ready(draws)


def numpyro_search(X, y, settings):
    scores = {}
    for rate, scale in settings:
        for train, test in FOLDS.split(X):
            draws = numpyro_fit(X[train], y[train], rate, scale)
            mean = Predictive(Regression(scale), draws)(jax.random.key(2), X[test])["y"].mean(axis=0)
            scores.setdefault((rate, scale), []).append(r2_score(y[test], np.asarray(mean)))
    return {setting: np.mean(values) for setting, values in scores.items()}


def estimator():
    settings = skaimz.inference.SVI(num_steps=NUM_STEPS, num_samples=NUM_SAMPLES)
    return NumPyroImpactRegressor(Regression(), inference=settings, random_state=0)


def our_fit(X, y):
    return estimator().fit(X, y)


def our_search(X, y):
    grid = {"inference__learning_rate": list(RATES), "kernel__scale": list(SCALES)}
    return GridSearchCV(estimator(), grid, cv=FOLDS, refit=False, error_score="raise").fit(X, y)


def seconds(function, *arguments):
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def measure(repeats, n_run):
    """Time all work; NumPyro searches ``n_run`` of the settings, evenly spread."""
    X, y = data()
    assert len(SETTINGS) % n_run == 0
    share = len(SETTINGS) // n_run
    first, second = "first fit", "second fit, fresh objects"
    part = f"; `SVI.run`: {n_run} settings timed, times {share}" if share > 1 else ""
    search = f"{len(SETTINGS)} settings x {FOLDS.get_n_splits()} folds{part}"
    from_nothing = "the same, nothing compiled before"
    rows = {name: ([], []) for name in (first, second, search, from_nothing)}
    for _ in range(repeats):
        for side, fit in enumerate((numpyro_fit, our_fit)):
            forget()
            rows[first][side].append(seconds(fit, X, y))
            rows[second][side].append(seconds(fit, X, y))
            took = seconds(our_search, X, y) if side else share * seconds(numpyro_search, X, y, SETTINGS[::share])
            rows[search][side].append(took)
        rows[from_nothing][0].append(rows[search][0][-1])
        forget()
        rows[from_nothing][1].append(seconds(our_search, X, y))
    return rows


def show(rows, repeats):
    print(
        f"\nFitting: diabetes data (442 x 10), auto_normal, {NUM_STEPS} steps, {NUM_SAMPLES} draws, float32; "
        f"seconds, median of {repeats} (min to max)\n"
        f"JAX {jax.__version__}, NumPyro {numpyro.__version__}, skaimz {skaimz.__version__}, "
        f"Python {platform.python_version()}, {jax.devices()[0].platform}\n"
    )
    print("| work | NumPyro `SVI.run` | skaimz | ratio of medians | goal |")
    print("| --- | --- | --- | --- | --- |")
    for name, (theirs, ours) in rows.items():
        cells = [f"{statistics.median(s):.3f} ({min(s):.3f} to {max(s):.3f})" for s in (theirs, ours)]
        goal = "30x" if "settings x" in name else ""
        ratio = statistics.median(theirs) / statistics.median(ours)
        print(f"| {name} | {cells[0]} | {cells[1]} | {ratio:.1f}x | {goal} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--settings", type=int, default=4, help="settings that NumPyro searches, a divisor of 24")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    show(measure(options.repeats, options.settings), options.repeats)
