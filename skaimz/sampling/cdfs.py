"""The cdfs of NumPyro's families of distributions. Most are written here, some are NumPyro's own."""

import copy
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.scipy.special import betainc, gammaln, xlog1py, xlogy

from skaimz.sampling.forward import base_distribution
from skaimz.sampling.special import incomplete_gamma, standard_laplace, standard_logistic, standard_normal, standard_t
from skaimz.sampling.stacked import Stacked
from skaimz.sampling.univariate import Apart, NoCdfError, Univariate

__all__ = ["NEED_DOUBLE", "converts", "ends_of", "univariate"]

CONVERSIONS: dict[type, Callable[[Any], Univariate]] = {}


def univariate(distribution: Any) -> Univariate:
    """Return a distribution as a function, or that of each number of an outcome with several.

    Raises
    ------
    NoCdfError
        If no cdf is known.
    """
    base = base_distribution(distribution)
    if isinstance(base, Stacked):
        steps = jax.vmap(univariate)(base.steps)
        ends: dict[str, Any] = (
            {"low": None, "high": None, "valid": None} if steps.low is steps.high is steps.valid is None else {}
        )
        if not ends:
            shape = distribution.batch_shape + distribution.event_shape
            ends = {name: _spread(getattr(steps, name), shape) for name in ("low", "high", "valid")}
        return Univariate(Apart(keeps_axis=False), (steps,), **ends, whole=steps.whole, jumps=steps.jumps)
    kinds = type(base).__mro__
    if not type(base).__module__.startswith("numpyro."):
        return _of_user(base)
    convert = next((CONVERSIONS[kind] for kind in kinds if kind in CONVERSIONS), None)
    if convert is None:
        raise NoCdfError(f"No cdf of {type(base).__name__} is known.")
    return convert(base)


def _spread(end: Any, shape: tuple[int, ...]) -> Any:
    """Return an array with its axes before those that it lacks."""
    return None if end is None else jnp.broadcast_to(end.reshape(end.shape + (1,) * (len(shape) - end.ndim)), shape)


def _of_user(distribution: Any) -> Univariate:
    """Return a distribution of a class that is not NumPyro's, by its own cdf."""
    own = [kind for kind in type(distribution).__mro__ if not kind.__module__.startswith("numpyro.")]
    own_names = {name for kind in own for name in vars(kind)}
    if "cdf" not in own_names or distribution.event_shape or distribution.is_discrete:
        raise NoCdfError(f"No cdf of {type(distribution).__name__} is known.")
    return _numpyros(distribution)


def converts(*kinds: type) -> Callable:
    """Register a function that returns the distributions of some classes as :class:`Univariate`."""

    def register(convert: Callable[[Any], Univariate]) -> Callable[[Any], Univariate]:
        CONVERSIONS.update(dict.fromkeys(kinds, convert))
        return convert

    return register


def _valid(distribution: Any) -> Any:
    """Return whether parameters are numbers within the closed bounds of their constraints."""
    valid: Any = None
    for name, constraint in distribution.arg_constraints.items():
        value = vars(distribution).get(name)
        if value is None or not jnp.issubdtype(jnp.result_type(value), jnp.number):
            continue
        value = jnp.asarray(value)
        while hasattr(constraint, "base_constraint"):
            constraint = constraint.base_constraint
        good = ~jnp.isnan(value)
        if getattr(constraint, "lower_bound", None) is not None:
            good &= value >= constraint.lower_bound
        if getattr(constraint, "upper_bound", None) is not None:
            good &= value <= constraint.upper_bound
        valid = good if valid is None else valid & good
    return valid


def ends_of(distribution: Any) -> dict[str, Any]:
    """Return the ends of a distribution's support."""
    support = distribution.support
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    ends = {"low": getattr(support, "lower_bound", None), "high": getattr(support, "upper_bound", None)}
    return {name: None if end is None else jnp.asarray(end, jnp.result_type(float)) for name, end in ends.items()}


def _made(function: Callable, parameters: Any, distribution: Any, **settings: Any) -> Univariate:
    """Return a distribution with the parameters of that name."""
    parts = tuple(jnp.asarray(getattr(distribution, name), jnp.result_type(float)) for name in parameters)
    if "valid" not in settings:
        settings["valid"] = _valid(distribution)
    return Univariate(function, parts, **{**ends_of(distribution), **settings})


# Families of a location and a scale


def _scaled(standard: Callable, values: Any, loc: Any, scale: Any, *shapes: Any) -> tuple[Any, Any]:
    # A distribution of scale zero is a point.
    z = jnp.where(values == loc, 0.0, values - loc) / jnp.where(scale == 0, jnp.finfo(values.dtype).tiny, scale)
    cdf, density = standard(z, *shapes)
    return cdf, density / scale


def _standard_cauchy(z: Any) -> tuple[Any, Any]:
    return 0.5 + jnp.arctan(z) / math.pi, 1 / (math.pi * (1 + z * z))


def _normal(values: Any, loc: Any, scale: Any) -> tuple[Any, Any]:
    return _scaled(standard_normal, values, loc, scale)


def _student(values: Any, loc: Any, scale: Any, df: Any) -> tuple[Any, Any]:
    return _scaled(standard_t, values, loc, scale, df)


def _laplace(values: Any, loc: Any, scale: Any) -> tuple[Any, Any]:
    return _scaled(standard_laplace, values, loc, scale)


def _logistic(values: Any, loc: Any, scale: Any) -> tuple[Any, Any]:
    return _scaled(standard_logistic, values, loc, scale)


def _cauchy(values: Any, loc: Any, scale: Any) -> tuple[Any, Any]:
    return _scaled(_standard_cauchy, values, loc, scale)


LOCATED = {dist.Normal: _normal, dist.Laplace: _laplace, dist.Logistic: _logistic, dist.Cauchy: _cauchy}


@converts(*LOCATED)
def _located(distribution: Any) -> Univariate:
    return _made(LOCATED[_numpyro_class(distribution, LOCATED)], ("loc", "scale"), distribution)


@converts(dist.StudentT)
def _of_student(distribution: Any) -> Univariate:
    return _made(_student, ("loc", "scale", "df"), distribution)


def _half(whole: Callable, values: Any, scale: Any) -> tuple[Any, Any]:
    cdf, density = whole(values, jnp.zeros_like(values), scale)
    return 2 * cdf - 1, 2 * density


def _half_normal(values: Any, scale: Any) -> tuple[Any, Any]:
    return _half(_normal, values, scale)


def _half_cauchy(values: Any, scale: Any) -> tuple[Any, Any]:
    return _half(_cauchy, values, scale)


HALVES = {dist.HalfNormal: _half_normal, dist.HalfCauchy: _half_cauchy}


@converts(*HALVES)
def _of_half(distribution: Any) -> Univariate:
    return _made(HALVES[_numpyro_class(distribution, HALVES)], ("scale",), distribution)


def _numpyro_class(distribution: Any, classes: Any) -> type:
    return next(kind for kind in type(distribution).__mro__ if kind in classes)


# Positive numbers and shares


def _log_beta(first: Any, second: Any) -> Any:
    # JAX's own function of that name has errors of 1e-6.
    return gammaln(first) + gammaln(second) - gammaln(first + second)


def _exponential(values: Any, rate: Any) -> tuple[Any, Any]:
    return -jnp.expm1(-rate * values), rate * jnp.exp(-rate * values)


def _weibull(values: Any, scale: Any, concentration: Any) -> tuple[Any, Any]:
    ratio = values / scale
    power = ratio**concentration
    return -jnp.expm1(-power), concentration / scale * ratio ** (concentration - 1) * jnp.exp(-power)


def _gamma(values: Any, concentration: Any, rate: Any) -> tuple[Any, Any]:
    cdf, density = incomplete_gamma(concentration, rate * values)
    return cdf, rate * density


def _beta(values: Any, concentration1: Any, concentration0: Any) -> tuple[Any, Any]:
    log = xlogy(concentration1 - 1, values) + xlog1py(concentration0 - 1, -values)
    cdf = betainc(concentration1 + 0.0, concentration0 + 0.0, values)
    return cdf, jnp.exp(log - _log_beta(concentration1, concentration0))


def _kumaraswamy(values: Any, concentration1: Any, concentration0: Any) -> tuple[Any, Any]:
    power = values**concentration1
    slope = concentration1 * concentration0 * values ** (concentration1 - 1)
    return -jnp.expm1(xlog1py(concentration0, -power)), slope * (1 - power) ** (concentration0 - 1)


POSITIVE: dict[type, tuple[Callable, tuple[str, ...]]] = {
    dist.Exponential: (_exponential, ("rate",)),
    dist.Weibull: (_weibull, ("scale", "concentration")),
    dist.Gamma: (_gamma, ("concentration", "rate")),
    dist.Beta: (_beta, ("concentration1", "concentration0")),
    dist.Kumaraswamy: (_kumaraswamy, ("concentration1", "concentration0")),
}


@converts(*POSITIVE)
def _of_positive(distribution: Any) -> Univariate:
    return _made(*POSITIVE[_numpyro_class(distribution, POSITIVE)], distribution)


def _by_numpyro(values: Any, distribution: Any) -> tuple[Any, Any]:
    return jax.jvp(distribution.cdf, (values,), (jnp.ones_like(values),))


@converts(
    dist.AsymmetricLaplace,
    dist.AsymmetricLaplaceQuantile,
    dist.Dagum,
    dist.DoublyTruncatedPowerLaw,
    dist.Gompertz,
    dist.Gumbel,
    dist.LeftTruncatedGamma,
    dist.Levy,
    dist.LowerTruncatedPowerLaw,
    dist.RightTruncatedGamma,
    dist.SoftLaplace,
    dist.TwoSidedTruncatedGamma,
    dist.Uniform,
)
def _numpyros(distribution: Any) -> Univariate:
    plain = copy.copy(distribution)
    plain._validate_args = False
    return Univariate(_by_numpyro, (plain,), **ends_of(distribution), valid=_valid(distribution))


# Whole numbers


def _poisson(values: Any, rate: Any) -> tuple[Any, Any]:
    # For a rate of zero, zero is the only outcome.
    above, mass = incomplete_gamma(values + 1, jnp.where(rate == 0, jnp.finfo(values.dtype).tiny, rate))
    return 1 - above, mass


# Up to so many probabilities of single numbers are added, which takes less time than an incomplete beta function.
MOST_SUMMED = 256
# Sums that exceed it are scaled down.
HUGE = 1e30


def _summed(values: Any, log_first: Any, ratio: Callable[[Any], Any]) -> tuple[Any, Any]:
    """Add the probabilities of 0, 1, ... up to some values.

    Parameters
    ----------
    values : array
    log_first : array
        Logarithm of the probability of 0.
    ratio : callable
        From a number to the probability of the next one, divided by its own.
    """

    def add(number: Any, carry: tuple) -> tuple:
        mass, total, log_scale = carry
        # The mass is that of this number until the value is reached, and stays that of the value.
        goes_on = number <= values
        mass = jnp.where(goes_on, mass * ratio(number - 1.0), mass)
        total = jnp.where(goes_on, total + mass, total)
        is_huge = total > HUGE
        factor = jnp.where(is_huge, 1 / HUGE, 1.0)
        return mass * factor, total * factor, log_scale + jnp.where(is_huge, math.log(HUGE), 0.0)

    ones = jnp.ones_like(values + log_first)
    count = jnp.max(jnp.where(jnp.isnan(values), 0.0, values)).astype(int) + 1
    mass, total, log_scale = jax.lax.fori_loop(1, count, add, (ones, ones, jnp.zeros_like(ones)))
    scale = log_first + log_scale
    return jnp.exp(jnp.log(total) + scale), jnp.exp(jnp.log(mass) + scale)


def _few_or_many(values: Any, few: Callable[[], tuple], many: Callable[[], tuple]) -> tuple[Any, Any]:
    """Return what one function returns if all values are small, and what the other returns if not."""
    return jax.lax.cond(jnp.all(values <= MOST_SUMMED), few, many)  # one branch: all draws have the same values


def _negative_binomial(values: Any, concentration: Any, rate: Any) -> tuple[Any, Any]:
    share = jnp.where(jnp.isinf(rate), 1.0, rate / (1 + rate))
    values = jnp.maximum(values, 0.0)

    def many() -> tuple:
        log = xlogy(concentration, share) + xlog1py(values, -share) - jnp.log(values + concentration)
        mass = jnp.exp(log - _log_beta(concentration, values + 1))
        return betainc(concentration + 0.0, values + 1, share), mass

    def few() -> tuple:
        return _summed(values, xlogy(concentration, share), lambda k: (k + concentration) / (k + 1) * (1 - share))

    return _few_or_many(values, few, many)


def _binomial(values: Any, total_count: Any, probs: Any) -> tuple[Any, Any]:
    values = jnp.maximum(values, 0.0)

    def many() -> tuple:
        # All values have been found at the total count, where the cdf is set to 1.
        rest = jnp.maximum(total_count - values, 1.0)
        log = xlogy(values, probs) + xlog1py(total_count - values, -probs) - jnp.log1p(total_count + 0.0)
        mass = jnp.exp(log - _log_beta(total_count - values + 1, values + 1))
        return betainc(rest, values + 1, 1 - probs), mass

    def few() -> tuple:
        inside = jnp.minimum(probs, 1 - jnp.finfo(values.dtype).eps)
        odds = inside / (1 - inside)
        return _summed(values, xlog1py(total_count, -inside), lambda k: (total_count - k) / (k + 1) * odds)

    return _few_or_many(values, few, many)


def _geometric(values: Any, probs: Any) -> tuple[Any, Any]:
    return -jnp.expm1(xlog1py(values + 1, -probs)), probs * jnp.exp(xlog1py(values, -probs))


def _bernoulli(values: Any, probs: Any) -> tuple[Any, Any]:
    return jnp.where(values < 1, 1 - probs, 1.0), jnp.where(values < 1, 1 - probs, probs)


def _uniform_numbers(values: Any, low: Any, high: Any) -> tuple[Any, Any]:
    size = high - low + 1.0
    return (values - low + 1) / size, jnp.broadcast_to(1 / size, values.shape)


def _classes(values: Any, probs: Any) -> tuple[Any, Any]:
    codes = jnp.arange(probs.shape[-1], dtype=values.dtype)
    values = values[..., None]
    return (probs * (codes <= values)).sum(axis=-1), (probs * (codes == values)).sum(axis=-1)


def _beta_binomial(values: Any, first: Any, second: Any, total_count: Any) -> tuple[Any, Any]:
    log_first = _log_beta(first, total_count + second) - _log_beta(first, second)

    def ratio(k: Any) -> Any:
        return (total_count - k) / (k + 1) * (k + first) / (total_count - k - 1 + second)

    return _summed(values, log_first, ratio)


COUNTS: dict[type, tuple[Callable, tuple[str, ...]]] = {
    dist.Poisson: (_poisson, ("rate",)),
    dist.GammaPoisson: (_negative_binomial, ("concentration", "rate")),
    dist.BinomialProbs: (_binomial, ("total_count", "probs")),
    dist.BinomialLogits: (_binomial, ("total_count", "probs")),
    dist.GeometricProbs: (_geometric, ("probs",)),
    dist.GeometricLogits: (_geometric, ("probs",)),
    dist.BernoulliProbs: (_bernoulli, ("probs",)),
    dist.BernoulliLogits: (_bernoulli, ("probs",)),
    dist.BetaBinomial: (_beta_binomial, ("concentration1", "concentration0", "total_count")),
    dist.DiscreteUniform: (_uniform_numbers, ("low", "high")),
    dist.CategoricalProbs: (_classes, ("probs",)),
    dist.CategoricalLogits: (_classes, ("probs",)),
}


# Functions that lose digits in single precision, by differences of logarithms of factorials or by JAX's incomplete beta
# function.
NEED_DOUBLE = frozenset({_beta, _beta_binomial, _binomial, _negative_binomial})


@converts(*COUNTS)
def _of_counts(distribution: Any) -> Univariate:
    function, names = COUNTS[_numpyro_class(distribution, COUNTS)]
    settings: dict[str, Any] = {"whole": True, "guarded": function not in (_negative_binomial, _binomial)}
    if isinstance(distribution, dist.BernoulliProbs | dist.BernoulliLogits):
        settings |= {"low": jnp.asarray(0.0), "high": jnp.asarray(1.0)}
    if function is _classes:
        # NumPyro's constraint of the probabilities is one of all of them together.
        probs = distribution.probs
        settings |= {"low": jnp.asarray(0.0), "high": jnp.asarray(probs.shape[-1] - 1.0)}
        settings["valid"] = (probs >= 0).all(axis=-1)
    return _made(function, names, distribution, **settings)


def _point(values: Any, place: Any) -> tuple[Any, Any]:
    return (values >= place) + 0.0 * values, jnp.zeros_like(values)


@converts(dist.Delta)
def _of_point(distribution: Any) -> Univariate:
    place = jnp.asarray(distribution.v, jnp.result_type(float))
    return Univariate(_point, (place,), place, place, ~jnp.isnan(place), jumps=True)
