"""Quantiles of the posterior predictive: by inverting its cdf, and by drawing and sorting outcomes.

``python benchmarks/quantiles.py [--rows N] [NAME ...]`` prints, for each distribution of outcomes, the time of the 5 %
and 95 % quantiles by both methods in single precision, and the processor time beside it. Then it prints how much the
widths of intervals vary with the seed of the outcomes, for one posterior.
"""

import argparse
import statistics
import time

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from skaimz import NumPyroImpactRegressor

N_DRAWS, REPEATS = 1000, 3
DISTRIBUTIONS = {
    "normal": lambda eta, s: dist.Normal(eta, s),
    "student t": lambda eta, s: dist.StudentT(4.0, eta, s),
    "laplace": lambda eta, s: dist.Laplace(eta, s),
    "logistic": lambda eta, s: dist.Logistic(eta, s),
    "log-normal": lambda eta, s: dist.LogNormal(eta, s),
    "gamma": lambda eta, s: dist.Gamma(2.0, 2.0 * jnp.exp(-eta)),
    "beta": lambda eta, s: dist.Beta(2.0 * jnp.exp(eta), 2.0),
    "poisson": lambda eta, s: dist.Poisson(5.0 * jnp.exp(eta)),
    "negative binomial": lambda eta, s: dist.NegativeBinomial2(5.0 * jnp.exp(eta), 3.0),
    "binomial": lambda eta, s: dist.Binomial(10, logits=eta),
    "zero-inflated": lambda eta, s: dist.ZeroInflatedPoisson(0.3, 5.0 * jnp.exp(eta)),
    "truncated": lambda eta, s: dist.TruncatedNormal(eta, s, low=0.0),
}


def model_of(name, n_draws=N_DRAWS, seed=0):
    """Return an estimator with draws of a linear predictor's coefficients and of a scale."""

    def kernel(X, y=None):
        coef = numpyro.sample("coef", dist.Normal().expand([X.shape[1]]).to_event(1))
        scale = numpyro.sample("scale", dist.HalfNormal())
        with numpyro.plate("rows", X.shape[0]):
            numpyro.sample("y", DISTRIBUTIONS[name](X @ coef, scale), obs=y)

    rng = np.random.default_rng(0)
    draws = {
        "coef": rng.normal(0.2, 0.03, (n_draws, 4)).astype(np.float32),
        "scale": rng.uniform(0.9, 1.1, n_draws).astype(np.float32),
    }
    return NumPyroImpactRegressor(kernel, posterior=draws, random_state=seed, dtype="float32")


def timed(call):
    """Return the median wall time and the median processor time of a call that has been compiled."""
    call()
    walls, processors = [], []
    for _ in range(REPEATS):
        wall, processor = time.perf_counter(), time.process_time()
        call()
        walls.append(time.perf_counter() - wall)
        processors.append(time.process_time() - processor)
    return statistics.median(walls), statistics.median(processors)


def widths(n_rows=20, seeds=20):
    """Print the standard deviation over seeds of the widths of 90 % intervals, relative to their mean."""
    X = np.random.default_rng(1).normal(size=(n_rows, 4)).astype(np.float32)
    print("| posterior draws | exact | draws |\n| --- | --- | --- |")
    for n_draws in (50, 200, 1000):
        row = [str(n_draws)]
        for method in ("exact", "draws"):
            ends = [model_of("normal", n_draws, seed).predict_interval(X, method=method) for seed in range(seeds)]
            found = np.stack([end[:, 1] - end[:, 0] for end in ends])
            row.append(f"{100 * np.mean(found.std(axis=0) / found.mean(axis=0)):.1f} %")
        print(f"| {' | '.join(row)} |")


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=list(DISTRIBUTIONS))
    parser.add_argument("--rows", type=int, default=100_000)
    options = parser.parse_args()
    X = np.random.default_rng(1).normal(size=(options.rows, 4)).astype(np.float32)
    print("| distribution | exact | draws | exact, processor | draws, processor | one row, exact |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in options.names or DISTRIBUTIONS:
        model = model_of(name)
        exact = timed(lambda model=model: model.predict_quantiles(X, [0.05, 0.95]))
        drawn = timed(lambda model=model: model.predict_quantiles(X, [0.05, 0.95], method="draws"))
        one = timed(lambda model=model: model.predict_interval(X[:1]))
        cells = (
            f"{exact[0]:.2f} s",
            f"{drawn[0]:.2f} s",
            f"{exact[1]:.2f} s",
            f"{drawn[1]:.2f} s",
            f"{1000 * one[0]:.1f} ms",
        )
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    widths()


if __name__ == "__main__":
    main()
