"""Do 90 % intervals of forecasts, and of new groups, cover what they should?

``series`` simulates local levels with parameters from the kernel's prior, fits each series by the default inference,
and forecasts 20 steps. ``groups`` simulates hierarchies, and predicts a measurement and the mean of a new group. Under
the exact posterior the intervals hold the truth in 90 % of replications.
"""

import argparse
import warnings

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd

from skaimz import NumPyroImpactRegressor

N_ROWS, HORIZON, N_GROUPS, N_OF_GROUP = 60, 20, 30, 5


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


def series(kernel, n_series: int, inference="auto") -> np.ndarray:
    """Return whether the interval of each step held the outcome, for each series."""
    times = np.arange(1.0, N_ROWS + HORIZON + 1)[:, None]
    inside = []
    for seed in range(n_series):
        rng = np.random.default_rng(seed)
        step, noise = np.exp(rng.normal(-1.0, 0.5, size=2))
        y = np.cumsum(rng.normal(scale=step, size=len(times))) + rng.normal(scale=noise, size=len(times))
        model = NumPyroImpactRegressor(kernel, inference=inference, random_state=seed).fit(times[:N_ROWS], y[:N_ROWS])
        lower, upper = model.predict_interval(times[N_ROWS:], 0.9).T
        inside.append((lower < y[N_ROWS:]) & (y[N_ROWS:] < upper))
    return np.array(inside)


def new_groups(n_studies: int) -> np.ndarray:
    """Return whether the intervals of a measurement and of the mean of a new group held them, for each study."""
    column_args = {"group": {"columns": "group", "unknown": "new"}}
    inside = []
    for seed in range(n_studies):
        rng = np.random.default_rng(seed)
        centre, spread = rng.normal(), np.exp(rng.normal(scale=0.5))
        levels = rng.normal(centre, spread, size=N_GROUPS + 1)
        group = np.repeat(np.arange(N_GROUPS), N_OF_GROUP)
        table = pd.DataFrame({"x": 0.0, "group": [f"group {number}" for number in group]})
        model = NumPyroImpactRegressor(hierarchy, column_args=column_args, random_state=seed)
        model.fit(table, levels[group] + rng.normal(scale=0.5, size=len(group)))
        row = pd.DataFrame({"x": [0.0], "group": ["new"]})
        drawn = model.sample_posterior_predictive_on_batch(
            row, in_sample=False, return_sites=["mu", "y"], return_datatree=False
        )
        truths = {"y": levels[-1] + rng.normal(scale=0.5), "mu": levels[-1]}
        ends = {name: np.quantile(drawn[name], [0.05, 0.95]) for name in truths}
        inside.append([ends[name][0] < truth < ends[name][1] for name, truth in truths.items()])
    return np.array(inside)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=200)
    count = parser.parse_args().n
    warnings.simplefilter("ignore")
    print("| study | replications | coverage |")
    print("| --- | --- | --- |")
    for kernel in (local_level, latent_level):
        by_step = series(kernel, count).mean(axis=0)
        for step in (1, 5, 10, 20):
            print(f"| {kernel.__name__}, {step} steps ahead | {count} | {by_step[step - 1]:.1%} |", flush=True)
        print(f"| {kernel.__name__}, all of 20 steps | {count} | {by_step.mean():.1%} |", flush=True)
    for name, share in zip(("measurement", "mean"), new_groups(count).mean(axis=0), strict=True):
        print(f"| {name} of a new group | {count} | {share:.1%} |")


if __name__ == "__main__":
    main()
