"""Distributions over an axis that has grown, split into what is known and what is new.

A joint distribution over rows, steps or levels is split into the distribution of its first entries and that of the
others given the first.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpyro.distributions as dist
from jax.scipy.linalg import solve_triangular

__all__ = ["Shifted", "Split", "elementwise", "split"]


class Split(NamedTuple):
    """A joint distribution, split at some entry of its last axis but ``event_dim - 1``.

    Attributes
    ----------
    first : Distribution or None
        Marginal distribution of the first entries; None if it is not the one that the same kernel has without the
        others.
    rest : Distribution
        Conditional distribution of the other entries, given values of the first.
    """

    first: dist.Distribution | None
    rest: dist.Distribution


class Shifted(dist.Distribution):
    """A distribution of vectors to which a number, or one for each batch, is added.

    Parameters
    ----------
    base : numpyro.distributions.Distribution
    shift : array of the base's batch shape, or one with more axes
    """

    pytree_data_fields = ("base", "shift")

    def __init__(self, base: dist.Distribution, shift: Any):
        self.base, self.shift = base.expand(jnp.broadcast_shapes(base.batch_shape, jnp.shape(shift))), shift
        super().__init__(self.base.batch_shape, base.event_shape)

    @property
    def support(self) -> Any:
        """Support of the base."""
        return self.base.support

    @property
    def mean(self) -> Any:
        """Mean of the base plus the shift."""
        return self.base.mean + self.shift[..., None]

    @property
    def variance(self) -> Any:
        """Variance of the base."""
        return self.base.variance

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Any:
        """Draw from the base and add the shift."""
        return self.base.sample(key, sample_shape) + self.shift[..., None]

    def log_prob(self, value: Any, intermediates: Any = None) -> Any:
        """Return the base's log density of what is left without the shift."""
        return self.base.log_prob(value - self.shift[..., None])


def elementwise(distribution: dist.Distribution) -> dist.Distribution:
    """Return a distribution without wrappers that only repeat it, regroup its axes, or mask it."""
    while isinstance(distribution, dist.ExpandedDistribution | dist.Independent | dist.MaskedDistribution):
        distribution = distribution.base_dist
    return distribution


def split(distribution: dist.Distribution, known: Any, place: int) -> Split:
    """Split a joint distribution after its first entries.

    Parameters
    ----------
    distribution : numpyro.distributions.Distribution
        As :func:`elementwise` returns it.
    known : array
        Values of the first entries.
    place : int
        Place of the axis that has grown, counted from the last axis, which is 1.

    Raises
    ------
    ValueError
        If no conditional distribution is known.
    """
    kind = type(distribution)
    rule = RULES.get(kind)
    # The states of a state space model are vectors, which follow the steps.
    if rule is None or place != (2 if rule is _state_space else 1):
        raise ValueError(
            f"its distribution, {kind.__name__}, joins all entries of the axis, and how new entries depend on known "
            f"ones is known only for {', '.join(each.__name__ for each in RULES)} and for entries that are independent "
            "of one another given other sites"
        )
    return rule(distribution, jnp.asarray(known))


def _normal(joint: dist.MultivariateNormal, known: Any) -> Split:
    loc, n_known = _location(joint), known.shape[-1]
    first, others, added = _triangles(joint.scale_tril, known - loc[..., :n_known])
    mean = loc[..., n_known:] + added
    return Split(
        dist.MultivariateNormal(loc[..., :n_known], scale_tril=first),
        dist.MultivariateNormal(mean, scale_tril=jnp.broadcast_to(others, (*mean.shape[:-1], *others.shape[-2:]))),
    )


def _student(joint: dist.MultivariateStudentT, known: Any) -> Split:
    loc, n_known = _location(joint), known.shape[-1]
    deviation = known - loc[..., :n_known]
    first, others, added = _triangles(joint.scale_tril, deviation)
    df = joint.df + n_known
    widening = jnp.sqrt((joint.df + (_solved(first, deviation) ** 2).sum(axis=-1)) / df)
    return Split(
        dist.MultivariateStudentT(joint.df, loc[..., :n_known], first),
        dist.MultivariateStudentT(df, loc[..., n_known:] + added, others * widening[..., None, None]),
    )


def _location(joint: Any) -> Any:
    """Return the location of each entry, where a distribution may hold one for all of them."""
    return jnp.broadcast_to(joint.loc, (*jnp.shape(joint.loc)[:-1], *joint.event_shape))


def _triangles(triangle: Any, deviation: Any) -> tuple[Any, Any, Any]:
    """Return the diagonal blocks of a Cholesky factor, and what known deviations from the mean add to the others."""
    n_known = deviation.shape[-1]
    first, others = triangle[..., :n_known, :n_known], triangle[..., n_known:, n_known:]
    added = triangle[..., n_known:, :n_known] @ _solved(first, deviation)[..., None]
    return first, others, added[..., 0]


def _solved(triangle: Any, vector: Any) -> Any:
    batch = jnp.broadcast_shapes(triangle.shape[:-2], vector.shape[:-1])
    triangle = jnp.broadcast_to(triangle, (*batch, *triangle.shape[-2:]))
    return solve_triangular(triangle, jnp.broadcast_to(vector, (*batch, vector.shape[-1]))[..., None], lower=True)[
        ..., 0
    ]


def _low_rank(joint: dist.LowRankMultivariateNormal, known: Any) -> Split:
    """Condition the factors of a normal distribution on known entries, which costs less than a matrix of all."""
    n_known = known.shape[-1]
    loc, factor, diagonal = joint.loc, joint.cov_factor, joint.cov_diag
    scaled = factor[..., :n_known, :] / diagonal[..., :n_known, None]
    precision = jnp.eye(factor.shape[-1]) + jnp.swapaxes(factor[..., :n_known, :], -1, -2) @ scaled
    deviation = known - loc[..., :n_known]
    ahead = jnp.swapaxes(scaled, -1, -2) @ deviation[..., None]
    factors = dist.MultivariateNormal(jnp.zeros(factor.shape[-1]), precision_matrix=precision)
    mean = (factors.covariance_matrix @ ahead)[..., 0]
    others = factor[..., n_known:, :]
    return Split(
        dist.LowRankMultivariateNormal(loc[..., :n_known], factor[..., :n_known, :], diagonal[..., :n_known]),
        dist.LowRankMultivariateNormal(
            loc[..., n_known:] + (others @ mean[..., None])[..., 0],
            others @ factors.scale_tril,
            diagonal[..., n_known:],
        ),
    )


def _walk(joint: dist.GaussianRandomWalk, known: Any) -> Split:
    n_known = known.shape[-1]
    return Split(
        dist.GaussianRandomWalk(joint.scale, n_known),
        Shifted(dist.GaussianRandomWalk(joint.scale, joint.num_steps - n_known), known[..., -1]),
    )


def _state_space(joint: dist.GaussianStateSpace, known: Any) -> Split:
    n_known = known.shape[-2]

    def of_steps(n_steps: int, start: Any) -> dist.GaussianStateSpace:
        return dist.GaussianStateSpace(
            n_steps, joint.transition_matrix, scale_tril=joint.scale_tril, initial_value=start
        )

    start = joint.initial_value
    return Split(of_steps(n_known, start), of_steps(joint.num_steps - n_known, known[..., -1, :]))


def _areas(joint: dist.CAR, known: Any) -> Split:
    """Condition a CAR distribution. Without the new areas, known ones have other neighbours, and another prior."""
    n_known = known.shape[-1]
    loc, precision = jnp.broadcast_to(joint.loc, joint.shape()), jnp.asarray(joint.precision_matrix)
    of_new = precision[..., n_known:, n_known:]
    pull = precision[..., n_known:, :n_known] @ (known - loc[..., :n_known])[..., None]
    mean = loc[..., n_known:] - jnp.linalg.solve(of_new, pull)[..., 0]
    return Split(None, dist.MultivariateNormal(mean, precision_matrix=of_new))


RULES: dict[type, Callable[[Any, Any], Split]] = {
    dist.MultivariateNormal: _normal,
    dist.LowRankMultivariateNormal: _low_rank,
    dist.MultivariateStudentT: _student,
    dist.GaussianRandomWalk: _walk,
    dist.GaussianStateSpace: _state_space,
    dist.CAR: _areas,
}
