"""Do 90 % intervals of effects cover what they should, for a Bayesian neural network?

Each replication draws a network from the prior, simulates a study from it in which who is treated depends on x, fits
the network by NUTS and estimates the average effect of the treatment, over all rows and over two groups. Under the
exact posterior the intervals hold the truth in 90 % of replications. The truth is computed in NumPy, from the weights
alone.
"""

import argparse
import time
import warnings

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from skaimz import NumPyroImpactRegressor
from skaimz.inference import MCMC

N_ROWS, N_UNITS, NOISE = 100, 4, 0.5
GROUPS = ("all rows", "x < 0", "x > 0")


def network(X, y=None, *, treated):
    inputs = jnp.column_stack([X, treated])
    hidden = numpyro.sample("hidden", dist.Normal(0.0, 1.0).expand([inputs.shape[1], N_UNITS]).to_event(2))
    shift = numpyro.sample("shift", dist.Normal(0.0, 1.0).expand([N_UNITS]).to_event(1))
    last = numpyro.sample("last", dist.Normal(0.0, 1.0).expand([N_UNITS]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(jnp.tanh(inputs @ hidden + shift[None, :]) @ last, NOISE), obs=y)


def mean_of(weights: dict, X: np.ndarray, treated: float) -> np.ndarray:
    inputs = np.column_stack([X, np.full(len(X), treated)])
    return np.tanh(inputs @ weights["hidden"] + weights["shift"]) @ weights["last"]


def replicate(model: NumPyroImpactRegressor, seed: int) -> np.ndarray:
    """Return truth, lower and upper end, mean and standard deviation of each effect."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(N_ROWS, 2))
    treated = (rng.uniform(size=N_ROWS) < 1 / (1 + np.exp(-X[:, 0]))).astype(float)
    prior = model.sample_prior_predictive_on_batch(
        X, num_samples=1, treated=treated, random_state=seed, return_datatree=False
    )
    weights = {name: values[0, 0] for name, values in prior.items()}
    truth = mean_of(weights, X, 1.0) - mean_of(weights, X, 0.0)
    model.set_params(random_state=seed).fit(X, weights["y"], treated=treated)
    off, on = ({"arguments": {"treated": value}} for value in (0.0, 1.0))
    group = X[:, 0] > 0
    rows = []
    for by in (None, {"right": group}):
        effects = model.estimate_effect(X, baseline=off, scenarios={"on": on}, by=by, treated=treated)
        found = effects.summary(0.9)[["lower", "upper", "mean", "sd"]].to_numpy()
        masks = [np.ones(N_ROWS, bool)] if by is None else [~group, group]
        rows += [[truth[mask].mean(), *row] for mask, row in zip(masks, found, strict=True)]
    return np.array(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replications", type=int, default=200)
    options = parser.parse_args()
    # Two chains that found the same network with its units in another order disagree on the weights, not on effects.
    warnings.simplefilter("ignore")
    settings = MCMC(num_warmup=400, num_samples=500, num_chains=2, sampler_options={"max_tree_depth": 7})
    model = NumPyroImpactRegressor(network, inference=settings)
    start = time.perf_counter()
    found = np.stack([replicate(model, seed) for seed in range(options.replications)])
    truth, lower, upper, mean, sd = np.moveaxis(found, -1, 0)
    covered = (lower <= truth) & (truth <= upper)
    print(f"Bayesian network 3-{N_UNITS}-1, {N_ROWS} rows, NUTS, {options.replications} replications", end=", ")
    print(f"{time.perf_counter() - start:.0f} s\n")
    print(
        "| average effect | 90 % intervals that hold the truth | mean error / its standard error | sd of truth | sd |"
    )
    print("| --- | --- | --- | --- | --- |")
    for place, name in enumerate(GROUPS):
        error = mean[:, place] - truth[:, place]
        z = error.mean() / (error.std(ddof=1) / np.sqrt(len(error)))
        share = 100 * covered[:, place].mean()
        print(f"| {name} | {share:.1f} % | {z:.2f} | {truth[:, place].std():.2f} | {sd[:, place].mean():.2f} |")


if __name__ == "__main__":
    main()
