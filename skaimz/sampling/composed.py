"""The cdfs of distributions that consist of others, such as mixtures, and of the numbers of an outcome with several."""

import functools
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from skaimz.sampling.cdfs import converts, ends_of, univariate
from skaimz.sampling.univariate import NoCdfError, Univariate

__all__ = ["univariate"]


def _with_zeros(values: Any, gate: Any, base: Univariate) -> tuple[Any, Any]:
    cdf, slope = base(values)
    zero = gate * (values == 0) if base.whole else 0.0
    return gate * (values >= 0) + (1 - gate) * cdf, zero + (1 - gate) * slope


def _beyond_zero(values: Any, gate: Any, base: Univariate) -> tuple[Any, Any]:
    """Return the cdf of a zero with a probability, and of the other whole numbers of a distribution."""
    (cdf, slope), (_, at_zero) = base(values), base(jnp.zeros_like(values))
    share = (1 - gate) / (1 - at_zero)
    upto = values >= 0
    return upto * gate + share * (cdf - upto * at_zero), jnp.where(values == 0, gate, share * slope)


@converts(dist.ZeroInflatedProbs, dist.HurdleProbs)
def _of_zeros(distribution: Any) -> Univariate:
    base, gate = univariate(distribution.base_dist), jnp.asarray(distribution.gate)
    truncated = isinstance(distribution, dist.HurdleProbs) and base.whole
    low, high = (None if end is None else end for end in (base.low, base.high))
    low = None if low is None else jnp.minimum(low, 0.0)
    high = None if high is None else jnp.maximum(high, 0.0)
    valid = (gate >= 0) & (gate <= 1)
    valid = valid if base.valid is None else valid & base.valid
    function = _beyond_zero if truncated else _with_zeros
    return Univariate(function, (gate, base), low, high, valid, base.whole, not base.whole)


@dataclass(frozen=True)
class _Mixed:
    """The function of a mixture, whose components are on an axis, counted from the last."""

    axis: int

    def __call__(self, values: Any, weights: Any, component: Univariate) -> tuple[Any, Any]:
        """Average over the components."""
        weights = weights.reshape(*weights.shape, *(1,) * (-self.axis - 1))
        pair = component(jnp.expand_dims(values, self.axis))
        return tuple(_weighted(weights, each).sum(axis=self.axis) for each in pair)


def _weighted(weights: Any, each: Any) -> Any:
    # A component without weight may be no distribution.
    return jnp.where(weights > 0, weights * each, 0.0)


@converts(dist.MixtureSameFamily)
def _of_family(distribution: Any) -> Univariate:
    weights, parts = distribution.mixing_distribution.probs, distribution.component_distribution
    component, axis = univariate(parts), -1 - len(distribution.event_shape)
    shape = parts.batch_shape + parts.event_shape
    over = lambda end, reduce: None if end is None else reduce(jnp.broadcast_to(end, shape), axis=axis)  # noqa: E731
    return Univariate(
        _Mixed(axis),
        (weights, component),
        over(component.low, jnp.min),
        over(component.high, jnp.max),
        over(component.valid, jnp.all),
        component.whole,
        component.jumps,
    )


def _mixed(values: Any, weights: Any, components: tuple[Univariate, ...]) -> tuple[Any, Any]:
    sums = [jnp.zeros((), values.dtype)] * 2
    for place, component in enumerate(components):
        weight = weights[..., place]
        sums = [total + _weighted(weight, each) for total, each in zip(sums, component(values), strict=True)]
    return sums[0], sums[1]


@converts(dist.MixtureGeneral)
def _of_mixture(distribution: Any) -> Univariate:
    components = tuple(map(univariate, distribution.component_distributions))
    weights = distribution.mixing_distribution.probs
    weights = weights.reshape(*weights.shape[:-1], *(1,) * len(distribution.event_shape), weights.shape[-1])
    whole = all(each.whole for each in components)
    jumps = not whole and any(each.whole or each.jumps for each in components)
    joined = lambda ends, of: None if None in ends else functools.reduce(of, ends)  # noqa: E731
    low = joined([each.low for each in components], jnp.minimum) if _known(components, "low") else None
    high = joined([each.high for each in components], jnp.maximum) if _known(components, "high") else None
    valid = [each.valid for each in components if each.valid is not None]
    every = functools.reduce(jnp.logical_and, valid) if valid else None
    return Univariate(_mixed, (weights, components), low, high, every, whole, jumps)


def _known(components: tuple[Univariate, ...], end: str) -> bool:
    return all(getattr(each, end) is not None for each in components)


def _transformed(values: Any, base: Univariate, transforms: list, sign: Any) -> tuple[Any, Any]:
    def back(values: Any) -> Any:
        for transform in reversed(transforms):
            values = transform.inv(values)
        return values

    inner, stretch = jax.jvp(back, (values,), (jnp.ones_like(values),))
    cdf, slope = base(inner)
    slope = jnp.where(slope == 0, 0.0, slope * jnp.abs(stretch))  # an end of the support may stand for infinity
    return jnp.where(sign < 0, 1 - cdf, cdf), slope


@converts(dist.TransformedDistribution)
def _of_transformed(distribution: Any) -> Univariate:
    base, transforms = univariate(distribution.base_dist), distribution.transforms
    of_numbers = all(each.domain.event_dim == each.codomain.event_dim == 0 for each in transforms)
    if not of_numbers or base.whole or base.jumps:
        raise NoCdfError(f"No cdf of this {type(distribution).__name__} is known.")
    try:
        sign = jnp.asarray(math.prod(each.sign for each in transforms))
    except NotImplementedError as error:
        raise NoCdfError(str(error)) from error
    ends = ends_of(distribution)
    if base.low is not None or base.high is not None:
        infinite = jnp.asarray(jnp.inf)
        moved = [-infinite if base.low is None else base.low, infinite if base.high is None else base.high]
        for transform in transforms:
            moved = [transform(end) for end in moved]
        for name, end, of in (("low", jnp.minimum(*moved), jnp.maximum), ("high", jnp.maximum(*moved), jnp.minimum)):
            known = ends[name]
            ends[name] = end if known is None else of(end, known)
    return Univariate(_transformed, (base, transforms, sign), **ends, valid=base.valid)


def _folded(values: Any, base: Univariate) -> tuple[Any, Any]:
    (right, slope), (left, other) = base(values), base(-values)
    return right - left, slope + other


@converts(dist.FoldedDistribution)
def _of_folded(distribution: Any) -> Univariate:
    base = univariate(distribution.base_dist)
    if base.whole or base.jumps:
        raise NoCdfError("No cdf of a folded distribution of whole numbers is known.")
    return Univariate(_folded, (base,), low=jnp.asarray(0.0), valid=base.valid)


def _truncated(values: Any, base: Univariate, loc: Any, low: Any, high: Any) -> tuple[Any, Any]:
    """Return the cdf of a symmetric distribution between two bounds, from the tail in which they are."""
    mirrored = False if low is None else low > loc
    mirror = lambda value: jnp.where(mirrored, 2 * loc - value, value)  # noqa: E731
    first = 0.0 if low is None else base(mirror(low))[0]
    last = jnp.where(mirrored, 0.0, 1.0) if high is None else base(mirror(high))[0]
    cdf, slope = base(mirror(values))
    return (cdf - first) / (last - first), slope / jnp.abs(last - first)


@converts(dist.LeftTruncatedDistribution, dist.RightTruncatedDistribution, dist.TwoSidedTruncatedDistribution)
def _of_truncated(distribution: Any) -> Univariate:
    base = univariate(distribution.base_dist)
    loc = jnp.asarray(distribution.base_dist.loc)
    ends = [getattr(distribution, name, None) for name in ("low", "high")]
    low, high = (None if end is None else jnp.asarray(end, jnp.result_type(float)) for end in ends)
    valid = base.valid
    if low is not None and high is not None:
        ordered = low < high
        valid = ordered if valid is None else valid & ordered
    return Univariate(_truncated, (base, loc, low, high), low, high, valid)


@converts(dist.LeftCensoredDistribution, dist.RightCensoredDistribution)
def _of_censored(distribution: Any) -> Univariate:
    # Outcomes are those before censoring, as NumPyro draws them.
    return univariate(distribution.base_dist)


# Marginals of outcomes with several numbers


@converts(
    dist.CirculantNormal,
    dist.GaussianRandomWalk,
    dist.GaussianStateSpace,
    dist.LowRankMultivariateNormal,
    dist.MultivariateNormal,
    dist.ZeroSumNormal,
)
def _of_normals(distribution: Any) -> Univariate:
    return univariate(dist.Normal(distribution.mean, jnp.sqrt(distribution.variance), validate_args=False))


@converts(dist.MatrixNormal)
def _of_matrices(distribution: Any) -> Univariate:
    rows, columns = distribution.scale_tril_row, distribution.scale_tril_column
    variance = (rows**2).sum(axis=-1)[..., :, None] * (columns**2).sum(axis=-1)[..., None, :]
    return univariate(dist.Normal(distribution.loc, jnp.sqrt(variance), validate_args=False))


@converts(dist.MultivariateStudentT)
def _of_students(distribution: Any) -> Univariate:
    scale = jnp.sqrt((distribution.scale_tril**2).sum(axis=-1))
    df = jnp.expand_dims(jnp.asarray(distribution.df), -1)
    return univariate(dist.StudentT(df, distribution.loc, scale, validate_args=False))


@converts(dist.Dirichlet)
def _of_shares(distribution: Any) -> Univariate:
    each = distribution.concentration
    return univariate(dist.Beta(each, each.sum(axis=-1, keepdims=True) - each, validate_args=False))


@converts(dist.MultinomialProbs, dist.MultinomialLogits)
def _of_class_counts(distribution: Any) -> Univariate:
    total = jnp.expand_dims(jnp.asarray(distribution.total_count), -1)
    return univariate(dist.BinomialProbs(distribution.probs, total, validate_args=False))


@converts(dist.DirichletMultinomial)
def _of_uneven_counts(distribution: Any) -> Univariate:
    each = distribution.concentration
    total = jnp.expand_dims(jnp.asarray(distribution.total_count), -1)
    rest = each.sum(axis=-1, keepdims=True) - each
    return univariate(dist.BetaBinomial(each, rest, total, validate_args=False))


@converts(dist.GaussianCopula)
def _of_copula(distribution: Any) -> Univariate:
    return univariate(distribution.marginal_dist)
