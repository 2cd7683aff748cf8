"""Models of the notebooks bayesian_imputation and discrete_imputation."""

import functools

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from corpus.case import Case
from corpus.settings import nuts

from skaimz import NumPyroImpactClassifier

__all__ = ["CASES"]

AGE_BY_TITLE = np.array([0.2, -0.5, 0.4])

# bayesian_imputation: ages of passengers, some of which are NaN.


def survivors(age, title, sex, survived=None, impute=True):
    b_title = numpyro.sample("b_title", dist.Normal(0.0, 1.0).expand([3]))
    b_sex = numpyro.sample("b_sex", dist.Normal(0.0, 1.0).expand([2]))
    missing = np.nonzero(np.isnan(age))[0]
    if impute:
        mean = numpyro.sample("age_mean", dist.Normal(0.0, 1.0).expand([3]))[title]
        spread = numpyro.sample("age_spread", dist.HalfNormal(1.0).expand([3]))[title]
        imputed = numpyro.sample("age_imputed", dist.Normal(mean[missing], spread[missing]).mask(False))
        age = jnp.asarray(age).at[missing].set(imputed)
        numpyro.sample("age", dist.Normal(mean, spread), obs=age)
    else:
        age = jnp.asarray(age).at[missing].set(AGE_BY_TITLE[title][missing])
    level = numpyro.sample("level", dist.Normal(0.0, 1.0))
    b_age = numpyro.sample("b_age", dist.Normal(0.0, 1.0))
    logits = level + b_age * age + b_title[title] + b_sex[sex]
    numpyro.sample("survived", dist.Bernoulli(logits=logits), obs=survived)


filled_in = functools.partial(survivors, impute=False)


# discrete_imputation: a binary covariate A, of which -1 stands for a missing value.


def complete_cases(A, Y=None, *, B):
    b_A = numpyro.sample("b_A", dist.Normal(0.0, 2.5))
    b_B = numpyro.sample("b_B", dist.Normal(0.0, 2.5))
    s_Y = numpyro.sample("s_Y", dist.HalfCauchy(2.5))
    with numpyro.plate("rows", A.shape[0]):
        numpyro.sample("obs_Y", dist.Normal(b_A * A + b_B * B, s_Y), obs=Y)


def imputed_cases(A, Y=None, *, B, of_missingness=False):
    """A is summed over; a factor rules out values that differ from an observed one."""
    mu_A = numpyro.sample("mu_A", dist.Normal(0.0, 2.5))
    b_B_A = numpyro.sample("b_B_A", dist.Normal(0.0, 2.5))
    b_A = numpyro.sample("b_A", dist.Normal(0.0, 2.5))
    b_B = numpyro.sample("b_B", dist.Normal(0.0, 2.5))
    s_Y = numpyro.sample("s_Y", dist.HalfCauchy(2.5))
    if of_missingness:
        with numpyro.plate("values", 2):
            seen = numpyro.sample("seen", dist.Beta(1.0, 1.0))
    is_seen = A >= 0
    with numpyro.plate("rows", A.shape[0]):
        prior = dist.Bernoulli(logits=mu_A + B * b_B_A)
        value = numpyro.sample("A", prior.mask(False), infer={"enumerate": "parallel"})
        log_prob = jnp.where(is_seen & (value != A), -jnp.inf, prior.log_prob(value))
        numpyro.factor("factor_A", log_prob)
        numpyro.sample("obs_Y", dist.Normal(b_A * value + b_B * B, s_Y), obs=Y)
        if of_missingness:
            numpyro.sample("obs_seen", dist.Bernoulli(jnp.where(value == 1, seen[1], seen[0])), obs=is_seen)


not_at_random = functools.partial(imputed_cases, of_missingness=True)


def covariate(draws, arguments, of_missingness=False):
    """Draws of the covariate where it is missing, given whether it is missing, and its values where it is not."""
    A, B = arguments["A"], arguments["B"]
    logits = draws["mu_A"][:, None] + draws["b_B_A"][:, None] * B
    if of_missingness:
        missing = np.log1p(-draws["seen"])
        logits = logits + missing[:, 1:] - missing[:, :1]
    one = np.random.default_rng(3).random(logits.shape) < 1.0 / (1.0 + np.exp(-logits))
    return {"A": np.where(A >= 0, A, one).astype(int)}


def passengers():
    rng = np.random.default_rng(0)
    title, sex = rng.integers(0, 3, size=100), rng.integers(0, 2, size=100)
    age = AGE_BY_TITLE[title] + 0.8 * rng.normal(size=100)
    logits = 0.3 - 0.8 * age + 1.2 * sex
    survived = (rng.random(100) < 1.0 / (1.0 + np.exp(-logits))).astype(int)
    return np.where(rng.random(100) < 0.15, np.nan, age), title, sex, survived


def patients(by_value=False):
    """Two covariates with a common cause; A is missing more often where Y is small, or where A is one."""
    rng = np.random.default_rng(1)
    chance = 1.0 / (1.0 + np.exp(-rng.normal(size=200)))
    A, B = (rng.random((2, 200)) < chance).astype(int)
    Y = 0.5 * A + 0.5 * B + 0.25 * rng.normal(size=200)
    chance_seen = 0.9 - 0.6 * A if by_value else 1.0 / (1.0 + np.exp(-3.0 * (Y - Y.mean())))
    return np.where(rng.random(200) < chance_seen, A, -1), Y, B


def with_missing_ages():
    age, title, sex, survived = passengers()
    return age, survived, {"title": title, "sex": sex}


def with_missing_covariate(*, by_value=False, complete=False):
    def data():
        A, Y, B = patients(by_value)
        kept = A >= 0 if complete else slice(None)
        return A[kept], Y[kept], {"B": B[kept]}

    return data


AGES = "notebooks/source/bayesian_imputation.ipynb"
DISCRETE = "notebooks/source/discrete_imputation.ipynb"
OF_AGES = {"param_input": "age", "param_output": "survived", "allow_nan": True}
OF_PATIENTS = {"param_input": "A", "param_output": "Y"}

CASES = [
    Case(
        name="survivors, ages imputed",
        source=AGES,
        construct="NaN in X, which a latent site of their number replaces",
        kernel=survivors,
        data=with_missing_ages,
        inference=nuts(survivors),
        estimator=NumPyroImpactClassifier,
        settings=OF_AGES,
    ),
    Case(
        name="survivors, ages filled in",
        source=AGES,
        construct="NaN in X, which the kernel replaces by means",
        kernel=filled_in,
        data=with_missing_ages,
        inference=nuts(filled_in),
        estimator=NumPyroImpactClassifier,
        settings=OF_AGES,
    ),
    Case(
        name="discrete covariate, complete cases",
        source=DISCRETE,
        construct="integers of rank 1",
        kernel=complete_cases,
        data=with_missing_covariate(complete=True),
        inference=nuts(complete_cases),
        settings=OF_PATIENTS,
    ),
    Case(
        name="discrete covariate, imputed",
        source=DISCRETE,
        construct="a masked site that is summed over, and a factor of it",
        kernel=imputed_cases,
        data=with_missing_covariate(),
        inference=nuts(imputed_cases),
        settings=OF_PATIENTS,
        states=covariate,
    ),
    Case(
        name="discrete covariate, with the cause of missing values",
        source=DISCRETE,
        construct="a masked site that is summed over, a factor, and another observed site",
        kernel=not_at_random,
        data=with_missing_covariate(by_value=True),
        inference=nuts(not_at_random),
        settings=OF_PATIENTS,
        states=functools.partial(covariate, of_missingness=True),
    ),
]
