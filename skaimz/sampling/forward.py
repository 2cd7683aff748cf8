"""One run of a kernel, and what is known of the distributions of its sites: means, variances, class probabilities."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import random
from numpyro import handlers
from numpyro.distributions import constraints
from numpyro.primitives import Messenger

from skaimz.kernels import Site, TracedKernel, materialise
from skaimz.runtime import one_at_a_time
from skaimz.sampling.continuing import Continued
from skaimz.sampling.stacked import Stacked, stacked

__all__ = [
    "CLASS_DISTRIBUTIONS",
    "FIRST",
    "UNDRAWN",
    "Arguments",
    "base_distribution",
    "checked_outcome",
    "class_probabilities",
    "conditional_mean",
    "conditional_moments",
    "expected_outcome",
    "has_derivative",
    "has_mean",
    "materialised",
    "no_value",
    "run_kernel",
]

CATEGORICAL = (dist.CategoricalProbs, dist.CategoricalLogits)
CLASS_DISTRIBUTIONS = (*CATEGORICAL, dist.OrderedLogistic, dist.BernoulliProbs, dist.BernoulliLogits)
# For these NumPyro gives moments that are NaN, or are not the moments of what it draws.
WITHOUT_MOMENTS = (*CATEGORICAL, dist.Cauchy, dist.InverseWishartCholesky)
# On these supports NumPyro gives the moments of a direction, not of a number.
OF_DIRECTIONS = (type(constraints.circular), type(constraints.sphere))
# NumPyro draws the outcome before censoring from these.
CENSORED = (dist.LeftCensoredDistribution, dist.RightCensoredDistribution)
# Draws from these are differentiable in the parameters, though NumPyro does not say so.
DIFFERENTIABLE = (dist.EulerMaruyama, dist.Levy)
# The distribution of the known entries of a site, if it is joint with that of new ones.
FIRST = "skaimz_first"
# Marks a site that was not drawn.
UNDRAWN = "skaimz_undrawn"


class Arguments(NamedTuple):
    """Arguments of a kernel's model, as arrays or as their descriptions.

    Attributes
    ----------
    hyperparameters, rows, whole : dict
        Numeric hyperparameters, row-aligned arrays, and arrays that every row sees whole.
    """

    hyperparameters: Any
    rows: Any
    whole: Any


def materialised(described: Arguments) -> Arguments:
    """Return abstract arrays for arguments that are described by shape and type."""
    return Arguments(*map(materialise, described))


@one_at_a_time
def run_kernel(
    traced: TracedKernel,
    arguments: Arguments,
    sites: Mapping[str, Any],
    key: Any,
    intervention: Mapping[str, Any] | None = None,
    *,
    without_outcome: bool = False,
) -> dict[str, dict[str, Any]]:
    """Run the kernel with ``sites`` (draws and parameters) fixed and all others sampled, and return its trace.

    A value that is shorter than its site is the beginning of it, and the rest is drawn. The output is observed only if
    the rows include it. With ``without_outcome`` it is not drawn, for callers that need only its distribution.
    """
    if traced.spec.trains:
        arguments, sites = _without_training(traced, arguments, sites)
    arguments = arguments._replace(rows={traced.spec.output_parameter: None, **arguments.rows})
    model = _Undrawn(traced.model, traced.spec[traced.spec.output]) if without_outcome else traced.model
    model = handlers.do(model, data=dict(intervention or {}))
    continued = Continued(model, sites, key)
    trace = handlers.trace(_Seeded(continued, rng_seed=key)).get_trace(*arguments)
    for name, site in trace.items():
        if name in continued.splits:
            parts, axis, n_known = continued.splits[name]
            site[FIRST] = parts.first
            if traced.spec[name].follows_rows:
                site["fn"] = parts.rest
                site["value"] = jax.lax.slice_in_dim(site["value"], n_known, None, axis=axis)
        elif site["type"] == "sample":
            site["fn"] = stacked(site)
    return trace


def _without_training(
    traced: TracedKernel, arguments: Arguments, sites: Mapping[str, Any]
) -> tuple[Arguments, Mapping[str, Any]]:
    """Return arguments without the outcome, which is the value of the output site instead.

    Layers train where a kernel has an outcome. Without one, they are as they are in a prediction.
    """
    rows, output = dict(arguments.rows), traced.spec[traced.spec.output]
    outcome = rows.pop(traced.spec.output_parameter, None)
    if outcome is None:
        return arguments, sites
    return arguments._replace(rows=rows), {**sites, output.name: jnp.moveaxis(outcome, 0, output.row_axis or 0)}


class _Seeded(handlers.seed):
    """Give each site the same key whether or not other sites have values, which may differ between scenarios."""

    # NumPyro copies handlers that are not stateful before they run, and the copies would not be of this class.
    stateful = True

    def process_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "sample" and msg["value"] is not None and not msg["is_observed"]:
            self.rng_key: Any = random.split(self.rng_key)[0]
        else:
            super().process_message(msg)


class _Undrawn(Messenger):
    """Give a site the value zero instead of a draw, and mark it. Sites in bodies of `scan` and `cond` are drawn."""

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
    """Return the mean of a distribution, or an outcome where no closed form of the mean is known."""
    mean = _mean(distribution)
    return (distribution.sample(key) if mean is None else mean).astype(jnp.result_type(float))


def conditional_moments(distribution: dist.Distribution, key: Any) -> tuple:
    """Return mean and variance of a distribution, or unbiased estimates from one outcome without a closed form."""
    mean, variance = conditional_mean(distribution, key), _variance(distribution)
    if _mean(distribution) is None:
        # The mean is an outcome here, so the variance of outcomes is already in the variance of means over draws.
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
    """Return drawn outcomes, with :func:`no_value` for integers where a parameter of their distribution is NaN.

    JAX's samplers give NaN there for floats, but some number for integers.
    """
    mean = _mean(distribution)
    if mean is None or not jnp.issubdtype(outcome.dtype, jnp.signedinteger) or mean.shape != outcome.shape:
        return outcome
    return jnp.where(jnp.isnan(mean), no_value(outcome.dtype), outcome)


def no_value(dtype: Any) -> Any:
    """Return the mark of a missing outcome: NaN, or the least integer, which no distribution gives."""
    return np.nan if np.issubdtype(dtype, np.floating) else np.iinfo(dtype).min


def base_distribution(distribution: Any) -> Any:
    """Return a distribution without wrappers that only change its shape or mask it."""
    while isinstance(distribution, dist.ExpandedDistribution | dist.Independent | dist.MaskedDistribution):
        distribution = distribution.base_dist
    return distribution


def has_derivative(distribution: dist.Distribution) -> bool:
    """Whether draws can be differentiated in the distribution's parameters, as reparameterised draws can."""
    base = base_distribution(distribution)
    if isinstance(base, CENSORED):
        return has_derivative(base.base_dist)
    if isinstance(base, Stacked):
        return has_derivative(base.steps)
    smooth = isinstance(base, DIFFERENTIABLE) or base.has_rsample
    return bool(smooth and not base.is_discrete and all(map(has_derivative, _components(base))))


def has_mean(distribution: dist.Distribution) -> bool:
    """Whether the mean of a distribution is known in closed form."""
    return _mean(distribution) is not None


def _mean(distribution: dist.Distribution) -> Any:
    base = base_distribution(distribution)
    if isinstance(base, Stacked):
        return jax.vmap(_mean)(base.steps)
    if isinstance(base, CATEGORICAL):
        codes = jnp.arange(base.probs.shape[-1])
        return jnp.broadcast_to(base.probs @ codes, distribution.batch_shape + distribution.event_shape)
    return _moment(distribution, "mean")


def _variance(distribution: dist.Distribution) -> Any:
    base = base_distribution(distribution)
    if isinstance(base, Stacked):
        return jax.vmap(_variance)(base.steps)
    if isinstance(base, CATEGORICAL):
        codes = jnp.arange(base.probs.shape[-1])
        variance = base.probs @ codes**2 - (base.probs @ codes) ** 2
        return jnp.broadcast_to(variance, distribution.batch_shape + distribution.event_shape)
    return _moment(distribution, "variance")


def _has_moments(distribution: dist.Distribution) -> bool:
    """Whether NumPyro's moments are correct for a distribution and for all of its component distributions."""
    base = base_distribution(distribution)
    try:
        support = base.support
    except NotImplementedError:
        support = None
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    if isinstance(base, dist.InverseWishart):
        return True  # it has its own formula, not that of its Cholesky factor
    if isinstance(base, WITHOUT_MOMENTS) or isinstance(support, OF_DIRECTIONS):
        return False
    return all(map(_has_moments, _components(base)))


def _components(distribution: dist.Distribution) -> list[dist.Distribution]:
    """Return a distribution's component distributions, without the weights of a mixture."""
    components: list[dist.Distribution] = []
    for name, value in vars(distribution).items():
        values = value if isinstance(value, list | tuple) else (value,)
        if name != "_mixing_distribution":
            components += [each for each in values if isinstance(each, dist.Distribution)]
    return components


def _moment(distribution: dist.Distribution, name: str) -> Any:
    moment = _formula(distribution, name)
    return None if moment is None else jnp.broadcast_to(moment, distribution.batch_shape + distribution.event_shape)


def _formula(distribution: dist.Distribution, name: str) -> Any:
    """Return a moment as NumPyro gives it, which may be smaller than the distribution's shape; None without formula."""
    base = base_distribution(distribution)
    if isinstance(base, CENSORED):
        # NumPyro adds axes to the parameters of this distribution, and not to its shape.
        return _formula(base.base_dist, name)
    if not _has_moments(base):
        return None
    try:
        return getattr(distribution, name)
    except (NotImplementedError, AttributeError):
        return None
