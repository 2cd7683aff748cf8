"""Models of the notebooks bayesian_regression, bayesian_cuped, logistic_regression and other_samplers."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from corpus.case import Case
from corpus.settings import nuts

from skaimz import NumPyroImpactClassifier

__all__ = ["CASES"]

# bayesian_regression: one function, whose covariates may be left out.


def divorces(marriage=None, age=None, divorce=None):
    mean = numpyro.sample("a", dist.Normal(0.0, 0.2))
    if marriage is not None:
        mean = mean + numpyro.sample("bM", dist.Normal(0.0, 0.5)) * marriage
    if age is not None:
        mean = mean + numpyro.sample("bA", dist.Normal(0.0, 0.5)) * age
    spread = numpyro.sample("sigma", dist.Exponential(1.0))
    numpyro.sample("obs", dist.Normal(mean, spread), obs=divorce)


def divorces_with_errors(marriage, age, error, divorce=None):
    """The rate of each state is latent, and was measured with an error of known size."""
    level = numpyro.sample("a", dist.Normal(0.0, 0.2))
    by_marriage = numpyro.sample("bM", dist.Normal(0.0, 0.5))
    by_age = numpyro.sample("bA", dist.Normal(0.0, 0.5))
    spread = numpyro.sample("sigma", dist.Exponential(1.0))
    rate = numpyro.sample("rate", dist.Normal(level + by_marriage * marriage + by_age * age, spread))
    numpyro.sample("obs", dist.Normal(rate, error), obs=divorce)


# bayesian_cuped: the effect of a campaign, with revenue before it as a covariate.


def difference_of_means(campaign, revenue=None):
    level = numpyro.sample("level", dist.Normal(8.0, 5.0))
    effect = numpyro.sample("effect", dist.Normal(0.0, 5.0))
    spread = numpyro.sample("spread", dist.HalfNormal(5.0))
    with numpyro.plate("customers", campaign.shape[0]):
        numpyro.sample("revenue", dist.Normal(level + effect * campaign, spread), obs=revenue)


def with_revenue_before(campaign, revenue=None, *, before):
    level = numpyro.sample("level", dist.Normal(0.0, 5.0))
    effect = numpyro.sample("effect", dist.Normal(0.0, 5.0))
    carried = numpyro.sample("carried", dist.Normal(0.0, 2.0))
    spread = numpyro.sample("spread", dist.HalfNormal(5.0))
    mean = numpyro.deterministic("mean", level + effect * campaign + carried * before)
    with numpyro.plate("customers", campaign.shape[0]):
        numpyro.sample("revenue", dist.Normal(mean, spread), obs=revenue)


def cuped(campaign, revenue=None, *, before):
    """Two likelihoods: of revenue given revenue before, and of what the first one leaves unexplained."""
    level = numpyro.sample("level", dist.Normal(0.0, 5.0))
    theta = numpyro.sample("theta", dist.Normal(0.0, 2.0))
    spread = numpyro.sample("spread", dist.HalfNormal(5.0))
    level_adjusted = numpyro.sample("level_adjusted", dist.Normal(8.0, 5.0))
    effect = numpyro.sample("effect", dist.Normal(0.0, 5.0))
    spread_adjusted = numpyro.sample("spread_adjusted", dist.HalfNormal(5.0))
    adjusted = None if revenue is None else revenue - theta * (before - before.mean())
    with numpyro.plate("customers", campaign.shape[0]):
        numpyro.sample("revenue", dist.Normal(level + theta * before, spread), obs=revenue)
        numpyro.sample("adjusted", dist.Normal(level_adjusted + effect * campaign, spread_adjusted), obs=adjusted)


# logistic_regression: no plate, and a bias among the columns.


def logistic(features, labels=None):
    coefs = numpyro.sample("coefs", dist.Normal(jnp.zeros(features.shape[1]), jnp.ones(features.shape[1])))
    numpyro.sample("obs", dist.Bernoulli(logits=jnp.dot(features, coefs)), obs=labels)


# other_samplers: a line, fitted by samplers of other packages.


def line(x, y=None):
    intercept = numpyro.sample("intercept", dist.Normal(0.0, 2.0))
    slope = numpyro.sample("slope", dist.Normal(0.0, 2.0))
    spread = numpyro.sample("spread", dist.Exponential(1.0))
    with numpyro.plate("data", len(x)):
        numpyro.sample("y", dist.Normal(intercept + slope * x, spread), obs=y)


def states():
    """Standardised rates of 50 states: divorces fall with the age at marriage, which marriages depend on."""
    rng = np.random.default_rng(0)
    age = rng.normal(size=50)
    marriage = -0.7 * age + 0.7 * rng.normal(size=50)
    divorce = -0.6 * age + 0.8 * rng.normal(size=50)
    return marriage, age, divorce, rng.uniform(0.1, 0.6, size=50)


def customers():
    rng = np.random.default_rng(1)
    campaign = rng.integers(0, 2, size=100).astype(float)
    before = 5.0 + rng.normal(size=100)
    return campaign, before + 3.0 + 2.0 * campaign + rng.normal(size=100), before


def forests():
    """Features whose last column is one, and two classes."""
    rng = np.random.default_rng(2)
    features = np.column_stack([rng.normal(size=(200, 3)), np.ones(200)])
    chance = 1.0 / (1.0 + np.exp(-features @ [1.0, -1.5, 0.5, 0.3]))
    return features, (rng.random(200) < chance).astype(int)


def points():
    rng = np.random.default_rng(3)
    x = np.linspace(0.0, 1.0, 100)
    return x, 1.0 + 2.0 * x + 0.5 * rng.normal(size=100)


def states_by(*names):
    """Return a function for the named columns: the first is the input, and divorces are the outcome."""

    def data():
        columns = dict(zip(("marriage", "age", "divorce", "error"), states(), strict=True))
        return columns[names[0]], columns["divorce"], {name: columns[name] for name in names[1:]}

    return data


def campaign(*, with_before):
    def data():
        campaign, revenue, before = customers()
        return campaign, revenue, {"before": before} if with_before else {}

    return data


REGRESSION = "notebooks/source/bayesian_regression.ipynb"
CUPED = "notebooks/source/bayesian_cuped.ipynb"
OF_CUSTOMERS = {"param_input": "campaign", "param_output": "revenue"}
SAMPLERS = "notebooks/source/other_samplers.ipynb"

CASES = [
    *(
        Case(
            name=f"divorces by {' and '.join(names)}",
            source=REGRESSION,
            construct="covariates that may be left out, no plate",
            kernel=divorces,
            data=states_by(*names),
            inference=nuts(divorces),
            settings={"param_input": names[0], "param_output": "divorce"},
        )
        for names in (("marriage",), ("age",), ("marriage", "age"))
    ),
    Case(
        name="divorces with measurement errors",
        source=REGRESSION,
        construct="a latent site for each row without a plate",
        kernel=divorces_with_errors,
        data=states_by("marriage", "age", "error"),
        inference=nuts(divorces_with_errors),
        settings={"param_input": "marriage", "param_output": "divorce"},
    ),
    Case(
        name="campaign, difference of means",
        source=CUPED,
        construct="an input of rank 1",
        kernel=difference_of_means,
        data=campaign(with_before=False),
        inference=nuts(difference_of_means),
        settings=OF_CUSTOMERS,
    ),
    Case(
        name="campaign, with revenue before it",
        source=CUPED,
        construct="an input of rank 1, and an argument for each row",
        kernel=with_revenue_before,
        data=campaign(with_before=True),
        inference=nuts(with_revenue_before),
        settings=OF_CUSTOMERS,
    ),
    Case(
        name="campaign, CUPED",
        source=CUPED,
        construct="two likelihoods, one of an outcome minus its latent mean",
        kernel=cuped,
        data=campaign(with_before=True),
        inference=nuts(cuped),
        settings=OF_CUSTOMERS,
    ),
    Case(
        name="covertype, logistic",
        source="notebooks/source/logistic_regression.ipynb",
        construct="classes, no plate",
        kernel=logistic,
        data=lambda: (*forests(), {}),
        inference=nuts(logistic),
        estimator=NumPyroImpactClassifier,
        settings={"param_input": "features", "param_output": "labels"},
    ),
    Case(
        name="line by NUTS",
        source=SAMPLERS,
        construct="an input of rank 1",
        kernel=line,
        data=lambda: (*points(), {}),
        inference=nuts(line),
        settings={"param_input": "x"},
    ),
]
