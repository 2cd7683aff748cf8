"""Do 90 % intervals of effects cover what they should?

Two studies. In ``confounded`` the outcome is linear, and the treatment is correlated with a covariate, more and more.
Every fit has the default inference: of the default kernel, whose posterior is known in closed form, of the same
regression as a kernel of the user's, in units of thousands, and of a logistic regression, whose effect on the
probability is averaged over the rows. The truth is computed in NumPy.

In ``network`` each replication draws a Bayesian neural network from the prior, simulates a study from it in which who
is treated depends on x, fits the network by NUTS and estimates the average effect of the treatment, over all rows and
over two groups. Under the exact posterior the intervals hold the truth in 90 % of replications. The truth is computed
in NumPy, from the weights alone.
"""

import argparse
import time
import warnings

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from scipy import stats

from skaimz import NumPyroImpactClassifier, NumPyroImpactRegressor
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


CORRELATIONS = (0.0, 0.6, 0.9, 0.97)
N_CONFOUNDED, UNIT = 200, 1000.0


def linear(X, y=None):
    level = numpyro.sample("level", dist.Normal(0.0, 5 * UNIT))
    slope = numpyro.sample("slope", dist.Normal(0.0, 5 * UNIT).expand([2]).to_event(1))
    noise = numpyro.sample("noise", dist.HalfNormal(5 * UNIT))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(level + X @ slope, noise), obs=y)


def logistic(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 5.0).expand([2]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Bernoulli(logits=X @ slope), obs=y)


def covers(model, X: np.ndarray, y: np.ndarray, truth: float) -> tuple[bool, bool]:
    """Return whether an interval holds the truth, and whether the fit warned."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model.fit(X, y)
        more = model.estimate_effect(X, scenarios={"more": {"columns": {0: lambda column: column + 1}}})
    row = more.summary(level=0.9).iloc[-1]
    return bool(row["lower"] <= truth <= row["upper"]), bool(told)


def least_squares(X: np.ndarray, y: np.ndarray) -> bool:
    """Return whether the exact interval of the first slope, by Student's t, holds the truth."""
    design = np.column_stack([np.ones(len(X)), X])
    coef, (squares,), *_ = np.linalg.lstsq(design, y)
    free = len(y) - design.shape[1]
    error = np.sqrt(squares / free * np.linalg.inv(design.T @ design)[1, 1])
    return bool(abs(coef[1] - 1.0) <= stats.t.ppf(0.95, free) * error)


def confounded(replications: int) -> None:
    models = {
        "default kernel": NumPyroImpactRegressor(random_state=0),
        "linear kernel, thousands": NumPyroImpactRegressor(linear, random_state=0),
        "logistic kernel": NumPyroImpactClassifier(logistic, random_state=0),
    }
    start, counts = time.perf_counter(), np.zeros((len(models) + 1, len(CORRELATIONS), 2), int)
    for j, correlation in enumerate(CORRELATIONS):
        for seed in range(replications):
            rng = np.random.default_rng(seed)
            x, own = rng.normal(size=(2, N_CONFOUNDED))
            X = np.column_stack([correlation * x + np.sqrt(1 - correlation**2) * own, x])
            y = X @ [1.0, 2.0] + rng.normal(size=N_CONFOUNDED)
            risk, higher = (1 / (1 + np.exp(-each @ [1.0, 0.5])) for each in (X, X + np.array([1.0, 0.0])))
            label = (rng.uniform(size=N_CONFOUNDED) < risk).astype(int)
            studies = (y, 1.0), (UNIT * y, UNIT), (label, (higher - risk).mean())
            for i, (model, study) in enumerate(zip(models.values(), studies, strict=True)):
                counts[i, j] += covers(model, X, *study)
            counts[-1, j, 0] += least_squares(X, y)
    print(f"Average effect of a treatment that is correlated with a covariate, {N_CONFOUNDED} rows", end=", ")
    print(f"{replications} replications, default inference, {time.perf_counter() - start:.0f} s\n")
    print(
        "| 90 % intervals that hold the truth | " + " | ".join(f"correlation {each}" for each in CORRELATIONS), end=" |"
    )
    print(" fits that warned |\n| --- |" + " --- |" * (len(CORRELATIONS) + 1))
    for name, row in zip([*models, "least squares, same outcomes"], counts, strict=True):
        shares = " | ".join(f"{100 * count / replications:.1f} %" for count in row[:, 0])
        print(f"| {name} | {shares} | {row[:, 1].sum()} of {len(CORRELATIONS) * replications} |")


def networks(replications: int) -> None:
    # Two chains that found the same network with its units in another order disagree on the weights, not on effects.
    warnings.simplefilter("ignore")
    settings = MCMC(num_warmup=400, num_samples=500, num_chains=2, sampler_options={"max_tree_depth": 7})
    model = NumPyroImpactRegressor(network, inference=settings)
    start = time.perf_counter()
    found = np.stack([replicate(model, seed) for seed in range(replications)])
    truth, lower, upper, mean, sd = np.moveaxis(found, -1, 0)
    covered = (lower <= truth) & (truth <= upper)
    print(f"Bayesian network 3-{N_UNITS}-1, {N_ROWS} rows, NUTS, {replications} replications", end=", ")
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", default=["confounded", "network"], help="confounded, network, or both")
    parser.add_argument("--replications", type=int, default=200)
    asked = parser.parse_args()
    for place, study in enumerate(asked.studies):
        print(end="\n" if place else "")
        {"confounded": confounded, "network": networks}[study](asked.replications)


if __name__ == "__main__":
    main()
