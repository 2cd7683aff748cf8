"""One pass of a kernel for one posterior draw: the distribution of the output, and what is asked of it."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import random
from numpyro import handlers
from numpyro.distributions import constraints
from numpyro.primitives import Messenger

from skaimz.kernels import Site, TracedKernel
from skaimz.runtime import one_at_a_time

__all__ = [
    "CLASS_DISTRIBUTIONS",
    "UNDRAWN",
    "base_distribution",
    "checked_outcome",
    "class_probabilities",
    "conditional_mean",
    "conditional_moments",
    "expected_outcome",
    "has_derivative",
    "has_mean",
    "no_value",
    "run_kernel",
]

CATEGORICAL = (dist.CategoricalProbs, dist.CategoricalLogits)
CLASS_DISTRIBUTIONS = (*CATEGORICAL, dist.OrderedLogistic, dist.BernoulliProbs, dist.BernoulliLogits)
# NumPyro gives NaN, or something else than the mean of what it draws, for the moments of these.
WITHOUT_MOMENTS = (*CATEGORICAL, dist.Cauchy, dist.InverseWishartCholesky)
# Its moments on these supports are those of a direction in the place of those of a number.
OF_DIRECTIONS = (type(constraints.circular), type(constraints.sphere))
# What is drawn is the outcome before it is censored.
CENSORED = (dist.LeftCensoredDistribution, dist.RightCensoredDistribution)
# Draws are differentiable in the parameters of these, which NumPyro does not declare.
DIFFERENTIABLE = (dist.EulerMaruyama, dist.Levy)
# Mark of a site that was left undrawn.
UNDRAWN = "skaimz_undrawn"


@one_at_a_time
def run_kernel(
    traced: TracedKernel,
    hyperparameters: Mapping[str, Any],
    sites: Mapping[str, Any],
    rows: Mapping[str, Any],
    whole: Mapping[str, Any],
    key: Any,
    intervention: Mapping[str, Any] | None = None,
    *,
    without_outcome: bool = False,
) -> dict[str, dict[str, Any]]:
    """Run the kernel with ``sites`` (draws and parameters) fixed and all else sampled, and return its trace.

    The output is observed only where it is among the rows. ``without_outcome`` leaves it undrawn: only its distribution
    is wanted.
    """
    rows = {traced.spec.output_parameter: None, **rows}
    given, done = dict(sites), dict(intervention or {})
    model = _Undrawn(traced.model, traced.spec[traced.spec.output]) if without_outcome else traced.model
    seeded = _Seeded(handlers.substitute(handlers.do(model, data=done), data=given), rng_seed=key)
    return handlers.trace(seeded).get_trace(hyperparameters, rows, whole)


class _Seeded(handlers.seed):
    """Give each site a key that does not depend on which other sites have values, as they may in one scenario alone."""

    # Others are copied before they run, as what they are by name: without this class.
    stateful = True

    def process_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "sample" and msg["value"] is not None and not msg["is_observed"]:
            self.rng_key: Any = random.split(self.rng_key)[0]
        else:
            super().process_message(msg)


class _Undrawn(Messenger):
    """Give a site the value zero in place of a draw, and mark it. Bodies of `scan` and `cond` are not seen."""

    def __init__(self, fn: Callable, site: Site):
        super().__init__(fn)
        self.site = site

    def process_message(self, msg: dict[str, Any]) -> None:
        if msg.get("name") == self.site.name and msg["value"] is None:
            distribution = msg["fn"]
            shape = (msg.get("kwargs") or {}).get("sample_shape", ())
            msg["value"] = jnp.zeros((*shape, *distribution.batch_shape, *distribution.event_shape), self.site.dtype)
            msg["infer"] = {**(msg.get("infer") or {}), UNDRAWN: True}


def conditional_mean(distribution: dist.Distribution, key: Any) -> Any:
    """Return the mean of a distribution; an outcome where no closed form is known."""
    mean = _mean(distribution)
    return (distribution.sample(key) if mean is None else mean).astype(jnp.result_type(float))


def conditional_moments(distribution: dist.Distribution, key: Any) -> tuple:
    """Return mean and variance of a distribution; without a closed form, an unbiased estimate from one outcome."""
    mean, variance = conditional_mean(distribution, key), _variance(distribution)
    if _mean(distribution) is None:
        # The outcome carries all its variance into the spread of means over draws.
        variance = jnp.zeros_like(mean)
    elif variance is None:
        variance = (distribution.sample(key) - mean) ** 2
    return mean, variance.astype(mean.dtype)


def class_probabilities(distribution: dist.Distribution) -> Any:
    """Return the probability of every class, classes on the last axis."""
    base = base_distribution(distribution)
    if isinstance(base, CATEGORICAL):
        probabilities = base.probs
    elif isinstance(base, CLASS_DISTRIBUTIONS):
        probabilities = jnp.stack([1 - base.probs, base.probs], axis=-1)
    else:
        raise ValueError(
            "A classifier's output must have a Bernoulli, categorical or ordered distribution, got "
            f"{type(base).__name__}."
        )
    shape = (*distribution.batch_shape, *distribution.event_shape, probabilities.shape[-1])
    return jnp.broadcast_to(probabilities, shape)


def expected_outcome(distribution: dist.Distribution, key: Any) -> Any:
    """Return the mean of a distribution or, for labels, the probability of each class on the last axis."""
    if isinstance(base_distribution(distribution), (*CATEGORICAL, dist.OrderedLogistic)):
        return class_probabilities(distribution)
    return conditional_mean(distribution, key)


def checked_outcome(distribution: dist.Distribution, outcome: Any) -> Any:
    """Return an outcome that was drawn; where its distribution has NaN for a parameter, what stands for no value.

    Floats are NaN there already, but JAX's samplers of integers give some number.
    """
    mean = _mean(distribution)
    if mean is None or not jnp.issubdtype(outcome.dtype, jnp.signedinteger) or mean.shape != outcome.shape:
        return outcome
    return jnp.where(jnp.isnan(mean), no_value(outcome.dtype), outcome)


def no_value(dtype: Any) -> Any:
    """Return what stands for an outcome that does not exist: NaN, or the least integer, which no distribution gives."""
    return np.nan if np.issubdtype(dtype, np.floating) else np.iinfo(dtype).min


def base_distribution(distribution: Any) -> Any:
    """Return a distribution without what only shapes or masks it."""
    while isinstance(distribution, dist.ExpandedDistribution | dist.Independent | dist.MaskedDistribution):
        distribution = distribution.base_dist
    return distribution


def has_derivative(distribution: dist.Distribution) -> bool:
    """Whether draws follow the parameters of their distribution smoothly, with all that their expectation follows."""
    base = base_distribution(distribution)
    if isinstance(base, CENSORED):
        return has_derivative(base.base_dist)
    smooth = isinstance(base, DIFFERENTIABLE) or base.has_rsample
    return bool(smooth and not base.is_discrete and all(map(has_derivative, _parts(base))))


def has_mean(distribution: dist.Distribution) -> bool:
    """Whether the mean of a distribution is known in closed form."""
    return _mean(distribution) is not None


def _mean(distribution: dist.Distribution) -> Any:
    base = base_distribution(distribution)
    if isinstance(base, CATEGORICAL):
        codes = jnp.arange(base.probs.shape[-1])
        return jnp.broadcast_to(base.probs @ codes, distribution.batch_shape + distribution.event_shape)
    return _moment(distribution, "mean")


def _variance(distribution: dist.Distribution) -> Any:
    base = base_distribution(distribution)
    if isinstance(base, CATEGORICAL):
        codes = jnp.arange(base.probs.shape[-1])
        variance = base.probs @ codes**2 - (base.probs @ codes) ** 2
        return jnp.broadcast_to(variance, distribution.batch_shape + distribution.event_shape)
    return _moment(distribution, "variance")


def _has_moments(distribution: dist.Distribution) -> bool:
    """Whether NumPyro has correct moments for a distribution and all distributions that it is made of."""
    base = base_distribution(distribution)
    try:
        support = base.support
    except NotImplementedError:
        support = None
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    if isinstance(base, dist.InverseWishart):
        return True  # by a formula of its own, not by that of its Cholesky factor
    if isinstance(base, WITHOUT_MOMENTS) or isinstance(support, OF_DIRECTIONS):
        return False
    return all(map(_has_moments, _parts(base)))


def _parts(distribution: dist.Distribution) -> list[dist.Distribution]:
    """Return the distributions that a distribution is made of, but for the weights of a mixture."""
    found: list[dist.Distribution] = []
    for name, value in vars(distribution).items():
        values = value if isinstance(value, list | tuple) else (value,)
        found += [each for each in values if isinstance(each, dist.Distribution) and name != "_mixing_distribution"]
    return found


def _moment(distribution: dist.Distribution, name: str) -> Any:
    base = base_distribution(distribution)
    if isinstance(base, CENSORED):
        found = _moment(base.base_dist, name)
        return None if found is None else jnp.broadcast_to(found, distribution.batch_shape + distribution.event_shape)
    if not _has_moments(base):
        return None
    try:
        return jnp.broadcast_to(getattr(distribution, name), distribution.batch_shape + distribution.event_shape)
    except (NotImplementedError, AttributeError):
        return None
