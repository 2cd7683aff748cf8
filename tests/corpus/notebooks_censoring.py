"""Models of the notebooks censoring and truncated_distributions."""

from typing import ClassVar

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from corpus.case import Case
from corpus.settings import nuts
from jax.scipy.special import gammaln
from numpyro import handlers
from numpyro.distributions import constraints

__all__ = ["CASES"]

LOWER, UPPER = 1.0, 3.5
LEAST, MOST = 2, 8

# censoring: values beyond two limits are recorded as the limit.


def clipped_gamma(side, y=None):
    """The model that takes limits for values."""
    shape = numpyro.sample("shape", dist.HalfNormal(3.0))
    rate = numpyro.sample("rate", dist.HalfNormal(3.0))
    with numpyro.plate("rows", side.shape[0]):
        numpyro.sample("y", dist.Gamma(shape, rate), obs=y)


def censored_gamma(side, bounds=None):
    """The outcome of a row is an interval, whose ends agree if the value is known."""
    shape = numpyro.sample("shape", dist.HalfNormal(3.0))
    rate = numpyro.sample("rate", dist.HalfNormal(3.0))
    with numpyro.plate("rows", side.shape[0]):
        within = dist.IntervalCensoredDistribution(dist.Gamma(shape, rate), side < 0, side > 0)
        numpyro.sample("y", within, obs=bounds)


def right_censored_gamma(side, y=None):
    shape = numpyro.sample("shape", dist.HalfNormal(3.0))
    rate = numpyro.sample("rate", dist.HalfNormal(3.0))
    with numpyro.plate("rows", side.shape[0]):
        numpyro.sample("y", dist.RightCensoredDistribution(dist.Gamma(shape, rate), side > 0), obs=y)


def clipped_poisson(side, y=None):
    rate = numpyro.sample("rate", dist.HalfNormal(5.0))
    with numpyro.plate("rows", side.shape[0]):
        numpyro.sample("y", dist.Poisson(rate), obs=y)


def censored_poisson(side, y=None):
    """Known counts have their own site; for the others, a label says on which side they are."""
    rate = numpyro.sample("rate", dist.HalfNormal(5.0))
    with numpyro.plate("rows", side.shape[0]):
        counts = dist.Poisson(rate)
        with handlers.mask(mask=side == 0):
            numpyro.sample("y", counts, obs=y)
        at_most, at_least = counts.cdf(LEAST), 1.0 - counts.cdf(MOST - 1)
        with handlers.mask(mask=side != 0):
            chance = jnp.where(side < 0, at_most, at_least)
            numpyro.sample("label", dist.Bernoulli(probs=chance), obs=jnp.ones(side.shape[0]))


# truncated_distributions: values beyond a limit are not recorded at all.


def truncated_normal(limit, x=None):
    loc = numpyro.sample("loc", dist.Normal())
    scale = numpyro.sample("scale", dist.LogNormal())
    with numpyro.plate("observations", limit.shape[0]):
        numpyro.sample("x", dist.TruncatedNormal(loc, scale, high=limit), obs=x)


def truncated_laplace(limit, x=None):
    loc = numpyro.sample("loc", dist.Normal())
    scale = numpyro.sample("scale", dist.LogNormal())
    with numpyro.plate("observations", limit.shape[0]):
        numpyro.sample("x", dist.TruncatedDistribution(dist.SoftLaplace(loc, scale), high=limit), obs=x)


class RightTruncatedMixture(dist.MixtureGeneral):
    """Two normal distributions, of which only values below a limit are seen."""

    def __init__(self, share, locs, scale, high):
        components = [dist.TruncatedNormal(locs[k], scale, high=high) for k in range(2)]
        below = jnp.stack([dist.Normal(locs[k], scale).cdf(high) for k in range(2)])
        weights = jnp.stack([share, 1.0 - share]) * below
        super().__init__(dist.Categorical(weights / weights.sum()), components)


def truncated_mixture(index, x=None, *, high=2.0):
    share = numpyro.sample("share", dist.Beta(2.0, 2.0))
    locs = numpyro.sample("locs", dist.Normal(jnp.array([-2.0, 2.0]), 0.5).to_event(1))
    scale = numpyro.sample("scale", dist.LogNormal())
    with numpyro.plate("observations", index.shape[0]):
        numpyro.sample("x", RightTruncatedMixture(share, locs, scale, high), obs=x)


class PositivePoisson(dist.Distribution):
    """Counts of at least ``low``, as a user writes a distribution that NumPyro lacks."""

    arg_constraints: ClassVar = {"rate": constraints.positive}
    pytree_data_fields = ("rate",)
    pytree_aux_fields = ("low",)

    def __init__(self, rate, low, *, validate_args=None):
        self.rate, self.low = rate, low
        super().__init__(jnp.shape(rate), (), validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True)
    def support(self):
        return constraints.integer_greater_than(self.low - 1)

    def log_prob(self, value):
        beyond = 1.0 - dist.Poisson(self.rate).cdf(self.low - 1)
        return value * jnp.log(self.rate) - self.rate - gammaln(value + 1.0) - jnp.log(beyond)

    def sample(self, key, sample_shape=()):
        """Invert the cumulative distribution function on a grid."""
        grid = self.low + jnp.arange(60)
        chance = jnp.exp(PositivePoisson(jnp.expand_dims(self.rate, -1), self.low).log_prob(grid))
        return self.low + dist.Categorical(probs=chance).sample(key, sample_shape)


def truncated_poisson(index, x=None):
    rate = numpyro.sample("rate", dist.LogNormal(1.0, 1.0))
    with numpyro.plate("observations", index.shape[0]):
        numpyro.sample("x", PositivePoisson(rate, 1), obs=x)


def clipped_amounts():
    """Which side of the limits each amount is on, and the clipped amounts."""
    amounts = np.random.default_rng(0).gamma(4.0, 0.5, size=100)
    side = (amounts > UPPER).astype(int) - (amounts < LOWER)
    return side, np.clip(amounts, LOWER, UPPER)


def clipped_counts():
    counts = np.random.default_rng(1).poisson(5.0, size=100)
    side = (counts >= MOST).astype(int) - (counts <= LEAST)
    return side, np.clip(counts, LEAST, MOST)


def cut_off(n=100, high=1.0):
    """Standard normal numbers below a limit."""
    x = np.random.default_rng(2).normal(size=10 * n)
    return np.full(n, high), x[x < high][:n]


def cut_mixture(n=100, high=2.0):
    rng = np.random.default_rng(3)
    x = np.where(rng.random(10 * n) < 0.4, -2.0, 2.0) + 0.7 * rng.normal(size=10 * n)
    return np.arange(n), x[x < high][:n]


def positive_counts(n=100):
    counts = np.random.default_rng(4).poisson(1.5, size=10 * n)
    return np.arange(n), counts[counts > 0][:n]


def intervals():
    side, amounts = clipped_amounts()
    return side, np.column_stack([amounts, amounts]), {}


CENSORING = "notebooks/source/censoring.ipynb"
TRUNCATION = "notebooks/source/truncated_distributions.ipynb"

CASES = [
    *(
        Case(
            name=f"censoring, {name}",
            source=CENSORING,
            construct=construct,
            kernel=kernel,
            data=data,
            inference=nuts(kernel),
            settings={"param_input": "side", "param_output": "bounds" if kernel is censored_gamma else "y"},
        )
        for name, kernel, data, construct in (
            ("clipped gamma", clipped_gamma, lambda: (*clipped_amounts(), {}), "an input that has no effect"),
            ("censored gamma", censored_gamma, intervals, "`IntervalCensoredDistribution`: two columns, one value"),
            (
                "right-censored gamma",
                right_censored_gamma,
                lambda: (*clipped_amounts(), {}),
                "`RightCensoredDistribution`",
            ),
            ("clipped counts", clipped_poisson, lambda: (*clipped_counts(), {}), "an input that has no effect"),
            ("censored counts", censored_poisson, lambda: (*clipped_counts(), {}), "two sites, each with a mask"),
        )
    ),
    *(
        Case(
            name=f"truncation, {name}",
            source=TRUNCATION,
            construct=construct,
            kernel=kernel,
            data=data,
            inference=nuts(kernel),
            settings={"param_input": "limit" if data is below else "index", "param_output": "x"},
        )
        for below in [lambda: (*cut_off(), {})]
        for name, kernel, data, construct in (
            ("normal", truncated_normal, below, "`TruncatedNormal` with a limit for each row"),
            ("soft Laplace", truncated_laplace, below, "`TruncatedDistribution` without a closed mean"),
            ("mixture", truncated_mixture, lambda: (*cut_mixture(), {}), "a user's own mixture"),
            ("counts", truncated_poisson, lambda: (*positive_counts(), {}), "a user's own distribution"),
        )
    ),
]
