"""Integrals of the cdf of outcomes: expectations of their tails, and the continuous ranked probability score."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from skaimz.sampling.mixtures import Mixture, OfMixture
from skaimz.sampling.univariate import NoCdfError

__all__ = ["Crps", "Excess", "Shortest", "TailMean"]

# Quantiles of these levels, of their complements, and of those in between bound the panels of an integral, each with so
# many nodes. The first three levels have the same ratios. Narrow panels serve mixtures of few draws, which have gaps.
LEVELS = {"float32": (1e-6, 1e-5, 1e-4, 1e-3, 0.01), "float64": (1e-9, 1e-7, 1e-5, 1e-4, 1e-3, 0.01)}
BETWEEN = np.linspace(0.05, 0.95, 19).tolist()
NODES, WEIGHTS = np.polynomial.legendre.leggauss(8)
# A tail whose panels shrink by less has no mean.
LEAST_SHRINKAGE = 0.75
# Candidates for the lower end of the shortest interval, and how often the range of the best is halved then.
CANDIDATES, HALVINGS = 9, 28


def _levels(mixture: Mixture) -> list[float]:
    lower = LEVELS[mixture.zeros.dtype.name]
    return [*lower, *BETWEEN, *(1 - level for level in reversed(lower))]


def _integral(mixture: Mixture, edges: Any, integrand: Callable[[Any, Any], Any]) -> Any:
    """Return integrals of a function of a number and its cdf between sorted edges, panel by panel."""
    nodes, weights = jnp.asarray(NODES, edges.dtype), jnp.asarray(WEIGHTS, edges.dtype)

    def add(step: Any, totals: Any) -> Any:
        panel, node = step // len(NODES), step % len(NODES)
        half = 0.5 * (edges[panel + 1] - edges[panel])
        at = edges[panel] + half * (1 + nodes[node])
        part = weights[node] * half * integrand(at, mixture(at)[0])
        return totals.at[panel].add(jnp.where(half > 0, part, 0.0))

    panels = len(edges) - 1
    return jax.lax.fori_loop(0, panels * len(NODES), add, jnp.zeros((panels, *edges.shape[1:]), edges.dtype))


def _sum(mixture: Mixture, first: Any, stop: Any, term: Callable[[Any, Any], Any]) -> Any:
    """Return sums of a function of whole numbers and their cdf, from ``first`` up to the number before ``stop``."""
    longest = jnp.max(jnp.where(mixture.valid, stop - first, 0.0))

    def add(carry: tuple) -> tuple:
        step, total = carry
        at = first + step
        return step + 1, total + jnp.where(at < stop, term(at, mixture(at)[0]), 0.0)

    return jax.lax.while_loop(lambda carry: carry[0] < longest, add, (jnp.zeros((), first.dtype), mixture.zeros))[1]


def _crps(mixture: Mixture, y: Any) -> Any:
    """Return the integral of the squared difference between the cdf and a step at the outcome."""
    rough = mixture.roughly(_levels(mixture))
    if not mixture.kind.whole:
        edges = jnp.sort(jnp.stack([*rough, y]), axis=0)
        score = _integral(mixture, edges, lambda at, cdf: jnp.where(at < y, cdf, 1 - cdf) ** 2).sum(axis=0)
    else:

        def term(at: Any, cdf: Any) -> Any:
            share = jnp.clip(y - at, 0.0, 1.0)
            return share * cdf**2 + (1 - share) * (1 - cdf) ** 2

        first, stop = jnp.minimum(rough[0], jnp.floor(y)), jnp.maximum(rough[-1], jnp.ceil(y))
        score = _sum(mixture, first, stop, term)
    return score


def _excess(mixture: Mixture, threshold: Any) -> tuple[Any, Any]:
    """Return by how much an outcome is expected to fall below a threshold, and to exceed it, zero if it does not."""
    rough = mixture.roughly(_levels(mixture))
    if mixture.kind.whole:
        share = lambda at: jnp.clip(threshold - at, 0.0, 1.0)  # noqa: E731
        first, stop = jnp.minimum(rough[0], jnp.floor(threshold)), jnp.maximum(rough[-1], jnp.ceil(threshold))
        below = _sum(mixture, first, stop, lambda at, cdf: share(at) * cdf)
        return below, _sum(mixture, first, stop, lambda at, cdf: (1 - share(at)) * (1 - cdf))
    edges = jnp.sort(jnp.stack([*rough, threshold]), axis=0)
    panels = _integral(mixture, edges, lambda at, cdf: jnp.where(at < threshold, cdf, 1 - cdf))
    # Each panel is on one side of the threshold.
    is_below = edges[1:] <= threshold
    below = jnp.where(is_below, panels, 0.0).sum(axis=0) + _rest(panels[0], panels[1], rough[2] <= threshold)
    above = jnp.where(is_below, 0.0, panels).sum(axis=0) + _rest(panels[-1], panels[-2], rough[-3] >= threshold)
    return below, above


def _rest(last: Any, one_before: Any, reaches: Any) -> Any:
    """Return what is beyond the last panel of a tail, as if panels went on to shrink as they did."""
    shrinkage = jnp.where(one_before > 0, last / one_before, 0.0)
    rest = jnp.where(shrinkage > LEAST_SHRINKAGE, jnp.inf, last * shrinkage / (1 - shrinkage))
    return jnp.where(reaches, rest, 0.0)


def _refuse_jumps(mixture: Mixture) -> None:
    if mixture.kind.jumps:
        raise NoCdfError("The cdf of the output has jumps at numbers that are not all whole.")


@dataclass(frozen=True)
class Crps(OfMixture):
    """Continuous ranked probability scores. Points are outcomes, with a last axis of length 1."""

    def of_mixture(self, mixture: Mixture, points: Any) -> tuple:
        """Return the score of each outcome."""
        _refuse_jumps(mixture)
        return (jnp.where(mixture.valid, _crps(mixture, mixture.of_rows(points[..., 0])), jnp.nan),)


@dataclass(frozen=True)
class Excess(OfMixture):
    """Expectations of ``max(Y - t, 0)``, where points are the thresholds ``t``."""

    def of_mixture(self, mixture: Mixture, points: Any) -> tuple:
        """Return the expectations, thresholds on the last axis."""
        _refuse_jumps(mixture)
        columns = [mixture.of_rows(points[..., number]) for number in range(points.shape[-1])]
        found = [jnp.where(mixture.valid, _excess(mixture, each)[1], jnp.nan) for each in columns]
        return (jnp.stack(found, axis=-1),)


@dataclass(frozen=True)
class TailMean(OfMixture):
    """Means of the lowest or highest outcomes, of which points are the shares.

    Attributes
    ----------
    upper : bool
        Whether the outcomes are the highest.
    """

    upper: bool

    def of_mixture(self, mixture: Mixture, points: Any) -> tuple:
        """Return the means, shares on the last axis."""
        _refuse_jumps(mixture)
        ends = mixture.quantiles(1 - points if self.upper else points)
        found = []
        for number in range(points.shape[-1]):
            end, share = ends[..., number], mixture.of_rows(points[..., number])
            below, above = _excess(mixture, end)
            found.append(jnp.where(mixture.valid, end + above / share if self.upper else end - below / share, jnp.nan))
        return (jnp.stack(found, axis=-1),)


@dataclass(frozen=True)
class Shortest(OfMixture):
    """The shortest intervals that hold the outcome with a probability; points are the probabilities."""

    def of_mixture(self, mixture: Mixture, points: Any) -> tuple:
        """Return lower and upper ends on the axis before that of the probabilities."""
        if mixture.kind.whole or mixture.kind.jumps:
            raise ValueError(
                "The shortest interval is that of a continuous outcome. Use the equal-tailed interval for others."
            )
        columns = [mixture.of_rows(points[..., number]) for number in range(points.shape[-1])]
        intervals = [jnp.stack(_shortest(mixture, each), axis=-1) for each in columns]
        valid = jnp.broadcast_to(mixture.valid, mixture.zeros.shape)[..., None, None]
        return (jnp.where(valid, jnp.stack(intervals, axis=-1), jnp.nan),)


def _shortest(mixture: Mixture, coverage: Any) -> list[Any]:
    """Return the ends of the shortest intervals.

    At the best candidate's neighbours the search begins. Between them the interval is moved to the side on which the
    density at its end is higher.
    """
    rest = 1 - coverage
    tails = [rest * (number + 0.5) / CANDIDATES for number in range(CANDIDATES)]
    rough = mixture.roughly([*tails, *(tail + coverage for tail in tails)])
    lower, upper = jnp.stack(rough[:CANDIDATES]), jnp.stack(rough[CANDIDATES:])
    best = jnp.argmin(upper - lower, axis=0)
    low, high = rest * jnp.maximum(best - 0.5, 0) / CANDIDATES, rest * jnp.minimum(best + 1.5, CANDIDATES) / CANDIDATES
    starts = [jnp.take_along_axis(ends, best[None], axis=0)[0] for ends in (lower, upper)]

    def halve(_: Any, carry: tuple) -> tuple:
        low, high, starts = carry
        middle = 0.5 * (low + high)
        ends = mixture.search([middle, middle + coverage], starts)
        rises = mixture(ends[1])[1] > mixture(ends[0])[1]
        return jnp.where(rises, middle, low), jnp.where(rises, high, middle), ends

    return jax.lax.fori_loop(0, HALVINGS, halve, (low, high, starts))[2]
