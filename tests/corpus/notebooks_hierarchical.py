"""Models of the notebooks bayesian_hierarchical_linear_regression and bayesian_hierarchical_stacking."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from corpus.case import Case
from corpus.settings import nuts

from skaimz import NumPyroImpactClassifier

__all__ = ["CASES"]

# bayesian_hierarchical_linear_regression: lung capacity declines at a rate of each patient.


def decline(patient, capacity=None, *, week):
    """The number of patients is counted by NumPy, from the values of the input."""
    n_patients = len(np.unique(patient))
    level_mean = numpyro.sample("level_mean", dist.Normal(0.0, 5.0))
    level_spread = numpyro.sample("level_spread", dist.HalfNormal(2.0))
    slope_mean = numpyro.sample("slope_mean", dist.Normal(0.0, 3.0))
    slope_spread = numpyro.sample("slope_spread", dist.HalfNormal(1.0))
    with numpyro.plate("patients", n_patients):
        level = numpyro.sample("level", dist.Normal(level_mean, level_spread))
        slope = numpyro.sample("slope", dist.Normal(slope_mean, slope_spread))
    noise = numpyro.sample("noise", dist.HalfNormal(1.0))
    expected = level[patient] + slope[patient] * week
    with numpyro.plate("data", len(patient)):
        numpyro.sample("obs", dist.Normal(expected, noise), obs=capacity)


def decline_by_smoking(data, capacity=None):
    """Patients within groups of smokers; the input is a dictionary of arrays."""
    patient, smoking, week = data["patient"], data["smoking"], data["week"]
    n_patients, n_groups = len(np.unique(patient)), len(np.unique(smoking))
    group_of = smoking[np.unique(patient, return_index=True)[1]]
    level_mean = numpyro.sample("level_mean", dist.Normal(0.0, 5.0))
    slope_mean = numpyro.sample("slope_mean", dist.Normal(0.0, 3.0))
    spread = numpyro.sample("spread", dist.HalfNormal(1.0))
    with numpyro.plate("smoking", n_groups):
        level_of_group = numpyro.sample("level_of_group", dist.Normal(level_mean, spread))
        slope_of_group = numpyro.sample("slope_of_group", dist.Normal(slope_mean, spread))
    with numpyro.plate("patients", n_patients):
        level = numpyro.sample("level", dist.Normal(level_of_group[group_of], 0.5))
        slope = numpyro.sample("slope", dist.Normal(slope_of_group[group_of], 0.5))
    noise = numpyro.sample("noise", dist.HalfNormal(1.0))
    with numpyro.plate("data", len(patient)):
        numpyro.sample("obs", dist.Normal(level[patient] + slope[patient] * week, noise), obs=capacity)


# bayesian_hierarchical_stacking: whether a household changes its well, and weights of models by covariates.


def wells(x, y=None):
    intercept = numpyro.sample("beta_0", dist.Normal(0.0, 1.0))
    beta = numpyro.sample("beta", dist.Normal(0.0, 1.0).expand([x.shape[1]]).to_event(1))
    logits = numpyro.deterministic("logits", intercept + jnp.matmul(x, beta))
    numpyro.sample("obs", dist.Bernoulli(logits=logits), obs=y)


def stacking(x, density=None):
    """The likelihood is a factor: a mixture of given densities, one column for each model."""
    mean_scale = numpyro.sample("mean_scale", dist.HalfNormal(1.0))
    with numpyro.plate("models", 2):
        mean = numpyro.sample("mean", dist.Normal(0.0, mean_scale))
        with numpyro.plate("covariates", x.shape[1]):
            slope = numpyro.sample("slope", dist.Normal(mean, 1.0))
    logits = jnp.column_stack([x @ slope, jnp.zeros(x.shape[0])])
    log_weight = numpyro.deterministic("log_weight", jax.nn.log_softmax(logits, axis=1))
    if density is not None:
        numpyro.factor("stacked", jnp.sum(jax.nn.logsumexp(jnp.log(density) + log_weight, axis=1)))


def visits():
    """Seven visits of twelve patients, who belong to three groups."""
    rng = np.random.default_rng(0)
    patient, week = np.repeat(np.arange(12), 7), np.tile(np.linspace(-1.0, 1.0, 7), 12)
    smoking = np.repeat(np.arange(3), 28)
    level = 2.0 + 0.5 * smoking + 0.5 * rng.normal(size=12)[patient]
    slope = -1.0 + 0.4 * rng.normal(size=12)[patient]
    return patient, smoking, week, level + slope * week + 0.3 * rng.normal(size=84)


def households():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(120, 2))
    chance = 1.0 / (1.0 + np.exp(-(0.4 + x @ [1.0, -0.6])))
    return x, (rng.random(120) < chance).astype(int)


def densities():
    """Densities of three models at held-out rows: the first is better where x is large."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(100, 2))
    log_density = np.column_stack([-0.7 + 0.3 * x[:, 0], -0.7 - 0.3 * x[:, 0], np.full(100, -0.8)])
    return x, np.exp(log_density + 0.1 * rng.normal(size=(100, 3)))


def visits_in_columns():
    patient, _, week, capacity = visits()
    return patient, capacity, {"week": week}


def visits_in_dictionary():
    patient, smoking, week, capacity = visits()
    return {"patient": patient, "smoking": smoking, "week": week}, capacity, {}


LUNGS = "notebooks/source/bayesian_hierarchical_linear_regression.ipynb"
STACKING = "notebooks/source/bayesian_hierarchical_stacking.ipynb"

CASES = [
    Case(
        name="lung capacity by patient",
        source=LUNGS,
        construct="integers of rank 1, counted by `np.unique`",
        kernel=decline,
        data=visits_in_columns,
        inference=nuts(decline),
        settings={"param_input": "patient", "param_output": "capacity"},
    ),
    Case(
        name="lung capacity by patient and smoking",
        source=LUNGS,
        construct="an input that is a dictionary of arrays, `np.unique` of its values",
        kernel=decline_by_smoking,
        data=visits_in_dictionary,
        inference=nuts(decline_by_smoking),
        settings={"param_input": "data", "param_output": "capacity"},
    ),
    Case(
        name="wells, logistic",
        source=STACKING,
        construct="classes, no plate",
        kernel=wells,
        data=lambda: (*households(), {}),
        inference=nuts(wells),
        estimator=NumPyroImpactClassifier,
        settings={"param_input": "x"},
    ),
    Case(
        name="wells, stacking",
        source=STACKING,
        construct="`factor` as the only likelihood, outcomes of rank 2",
        kernel=stacking,
        data=lambda: (*densities(), {}),
        inference=nuts(stacking),
        settings={"param_input": "x", "param_output": "density"},
        refused="Its likelihood weighs given densities, and no site could draw an outcome.",
    ),
]
