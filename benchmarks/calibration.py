"""Simulation-based calibration of automatic inference, NUTS and two guides: ranks of true values among draws.

Prints for each quantity the mean rank (1/2 if calibrated), the spread of the ranks (1 if calibrated, more where
posteriors are too narrow) and the p-value of the chi-square test that ranks are uniform.
"""

import argparse
import time
from importlib.metadata import version

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from skaimz import NumPyroImpactClassifier, NumPyroImpactRegressor
from skaimz.inference import MCMC, SVI, Auto
from skaimz.simulation_calibration import simulation_based_calibration

CHAIN = MCMC(num_warmup=300, num_samples=1000, num_chains=1)


def hierarchical(X, y=None):
    centre = numpyro.sample("centre", dist.Normal(0.0, 1.0))
    spread = numpyro.sample("spread", dist.HalfNormal(1.0))
    off = numpyro.sample("off", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ (centre + spread * off), 0.5), obs=y)


def logistic(X, y=None):
    level = numpyro.sample("level", dist.Normal(0.0, 1.5))
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.5).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Bernoulli(logits=level + X @ slope), obs=y)


def poisson(X, y=None):
    level = numpyro.sample("level", dist.Normal(0.5, 1.0))
    slope = numpyro.sample("slope", dist.Normal(0.0, 0.5).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Poisson(jnp.exp(level + X @ slope)), obs=y)


def grams(X, y=None):
    level = numpyro.sample("level", dist.Normal(3300.0, 400.0))
    slope = numpyro.sample("slope", dist.Normal(0.0, 300.0).expand([X.shape[1]]).to_event(1))
    noise = numpyro.sample("noise", dist.HalfNormal(500.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(level + X @ slope, noise), obs=y)


def correlated(X, y=None):
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ coef, 0.5), obs=y)


def cases():
    """Yield a name, an estimator and rows for each."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(10, 1))
    kept = Auto(num_samples=999)
    default = NumPyroImpactRegressor(inference=kept, random_state=0).fit(X, X[:, 0] + rng.normal(size=10))
    yield "default kernel, auto", default, X
    pair = rng.normal(size=(20, 1)) + 0.5 * rng.normal(size=(20, 2))
    yield "linear kernel in grams, auto", NumPyroImpactRegressor(grams, inference=kept, random_state=0), pair
    yield "logistic kernel, auto", NumPyroImpactClassifier(logistic, inference=kept, random_state=0), pair
    yield "Poisson kernel, auto", NumPyroImpactRegressor(poisson, inference=kept, random_state=0), pair
    groups = np.eye(4)[np.repeat(np.arange(4), 3)]
    yield "hierarchical kernel, auto", NumPyroImpactRegressor(hierarchical, inference=kept, random_state=0), groups
    yield "hierarchical kernel, NUTS", NumPyroImpactRegressor(hierarchical, inference=CHAIN, random_state=0), groups
    close = rng.normal(size=(10, 1)) + 0.2 * rng.normal(size=(10, 2))
    for guide in ("auto_normal", "auto_multivariate_normal"):
        settings = SVI(guide=guide, num_steps=2000, num_samples=99)
        model = NumPyroImpactRegressor(correlated, inference=settings, random_state=0)
        yield f"correlated slopes, {guide}", model, close


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replications", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=None, help="as n_jobs of scikit-learn")
    asked = parser.parse_args()
    print(f"JAX {version('jax')}, NumPyro {version('numpyro')}, skaimz {version('skaimz')}\n")
    for name, model, X in cases():
        start = time.perf_counter()
        found = simulation_based_calibration(model, X, num_replications=asked.replications, n_jobs=asked.jobs)
        print(f"{name}, {time.perf_counter() - start:.0f} s\n{found}\n")


if __name__ == "__main__":
    main()
