"""Do 90 % intervals of forecasts, and of new groups, cover what they should?

``series`` simulates local levels with parameters from the kernel's prior, fits each series, and forecasts 20 steps.
``new_groups`` simulates hierarchies, and predicts a measurement and the mean of a new group. Under the exact posterior
the intervals hold the truth in 90 % of replications. Fits are by the default inference, but for the latent walk, where
two chains of 500 draws save time.
"""

import argparse
import time
import warnings

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd

from skaimz import NumPyroImpactRegressor
from skaimz.exceptions import FitWarning
from skaimz.inference import MCMC

N_ROWS, HORIZON, N_GROUPS, N_OF_GROUP = 60, 20, 30, 5
# Steps ahead that have a column of their own.
SHOWN = (1, 5, 10, 20)
SHORT_CHAINS = MCMC(num_warmup=300, num_samples=500, num_chains=2)


def local_level(X, y=None):
    """A walk and noise, as a covariance of outcomes."""
    step = numpyro.sample("step", dist.LogNormal(-1.0, 0.5))
    noise = numpyro.sample("noise", dist.LogNormal(-1.0, 0.5))
    covariance = step**2 * jnp.minimum(X, X.T) + noise**2 * jnp.eye(len(X))
    numpyro.sample("y", dist.MultivariateNormal(0.0, covariance), obs=y)


def latent_level(X, y=None):
    """The same with the walk as a latent site."""
    step = numpyro.sample("step", dist.LogNormal(-1.0, 0.5))
    noise = numpyro.sample("noise", dist.LogNormal(-1.0, 0.5))
    level = numpyro.sample("level", dist.GaussianRandomWalk(step, X.shape[0]))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(level, noise), obs=y)


def hierarchy(X, y=None, *, group, n_group):
    centre = numpyro.sample("centre", dist.Normal(0.0, 1.0))
    spread = numpyro.sample("spread", dist.LogNormal(0.0, 0.5))
    with numpyro.plate("groups", n_group):
        level = numpyro.sample("level", dist.Normal(centre, spread))
    mu = numpyro.deterministic("mu", level[group])
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(mu, 0.5), obs=y)


def fitted(model: NumPyroImpactRegressor, X, y) -> tuple[NumPyroImpactRegressor, bool]:
    """Fit a model, and return whether it warned."""
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        model.fit(X, y)
    return model, any(issubclass(each.category, FitWarning) for each in raised)


def series(kernel, n_series: int, inference="auto") -> tuple[np.ndarray, int]:
    """Return whether the interval of each step held the outcome, for each series, and how many fits warned."""
    times = np.arange(1.0, N_ROWS + HORIZON + 1)[:, None]
    inside, n_warned = [], 0
    for seed in range(n_series):
        rng = np.random.default_rng(seed)
        step, noise = np.exp(rng.normal(-1.0, 0.5, size=2))
        y = np.cumsum(rng.normal(scale=step, size=len(times))) + rng.normal(scale=noise, size=len(times))
        model = NumPyroImpactRegressor(kernel, inference=inference, random_state=seed)
        model, warned = fitted(model, times[:N_ROWS], y[:N_ROWS])
        n_warned += warned
        lower, upper = model.predict_interval(times[N_ROWS:], 0.9).T
        inside.append((lower < y[N_ROWS:]) & (y[N_ROWS:] < upper))
    return np.array(inside), n_warned


def new_groups(n_studies: int) -> tuple[np.ndarray, int]:
    """Return whether intervals of a measurement and of the mean of a new group held them, and how many fits warned."""
    column_args = {"group": {"columns": "group", "unknown": "new"}}
    inside, n_warned = [], 0
    for seed in range(n_studies):
        rng = np.random.default_rng(seed)
        centre, spread = rng.normal(), np.exp(rng.normal(scale=0.5))
        levels = rng.normal(centre, spread, size=N_GROUPS + 1)
        group = np.repeat(np.arange(N_GROUPS), N_OF_GROUP)
        table = pd.DataFrame({"x": 0.0, "group": [f"group {number}" for number in group]})
        y = levels[group] + rng.normal(scale=0.5, size=len(group))
        model, warned = fitted(NumPyroImpactRegressor(hierarchy, column_args=column_args, random_state=seed), table, y)
        n_warned += warned
        row = pd.DataFrame({"x": [0.0], "group": ["new"]})
        drawn = model.sample_posterior_predictive_on_batch(
            row, in_sample=False, return_sites=["mu", "y"], return_datatree=False
        )
        truths = {"y": levels[-1] + rng.normal(scale=0.5), "mu": levels[-1]}
        ends = {name: np.quantile(drawn[name], [0.05, 0.95]) for name in truths}
        inside.append([ends[name][0] < truth < ends[name][1] for name, truth in truths.items()])
    return np.array(inside), n_warned


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=200)
    count = parser.parse_args().n
    start = time.perf_counter()
    inside, warned = new_groups(count)
    print("| 90 % intervals | that hold it | fits that warned |\n| --- | --- | --- |")
    for name, share in zip(
        ("a measurement in a new group", "the mean of a new group"), inside.mean(axis=0), strict=True
    ):
        print(f"| {name} | {100 * share:.1f} % | {warned} of {count} |", flush=True)
    columns = ("90 % intervals that hold the outcome", *(f"{step} ahead" for step in SHOWN), "1 to 20 ahead")
    print("\n| " + " | ".join((*columns, "lowest and highest of 20", "fits that warned")) + " |")
    print("| --- |" + " --- |" * (len(columns) + 1))
    for kernel, name, inference in (
        (local_level, "local level, as a covariance", "auto"),
        (latent_level, "local level, as a latent walk", SHORT_CHAINS),
    ):
        inside, warned = series(kernel, count, inference)
        share = 100 * inside.mean(axis=0)
        cells = [f"{each:.1f} %" for each in (*share[np.array(SHOWN) - 1], share.mean())]
        cells += [f"{share.min():.1f} to {share.max():.1f} %", f"{warned} of {count}"]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    print(f"\n{count} replications of each study, {time.perf_counter() - start:.0f} s on a busy machine")


if __name__ == "__main__":
    main()
