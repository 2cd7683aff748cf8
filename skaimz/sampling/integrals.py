"""Integrals of the cdf of outcomes: expectations of their tails, and the continuous ranked probability score."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from skaimz.sampling.mixtures import Mixture, OfMixture
from skaimz.sampling.univariate import NoCdfError

__all__ = ["Crps", "Excess", "Shortest", "TailMean"]

# Quantiles of these levels, of their complements, and of those in between bound the first panels of an integral. The
# first three levels have the same ratios.
LEVELS = {"float32": (1e-5, 1e-4, 1e-3, 0.01), "float64": (1e-13, 1e-11, 1e-9, 1e-7, 1e-5, 1e-3, 0.01)}
BETWEEN = (0.05, 0.15, 0.3, 0.5, 0.7, 0.85, 0.95)
# Gauss and Kronrod's rule with 7 and 15 nodes between -1 and 1: nodes with their weights by Kronrod, and by Gauss.
HALF_RULE = (
    (0.2077849550078985, 0.2044329400752989, 0.0),
    (0.4058451513773972, 0.1903505780647854, 0.3818300505051189),
    (0.5860872354676911, 0.1690047266392679, 0.0),
    (0.7415311855993945, 0.1406532597155259, 0.2797053914892767),
    (0.8648644233597691, 0.1047900103222502, 0.0),
    (0.9491079123427585, 0.06309209262997856, 0.1294849661688697),
    (0.9914553711208126, 0.02293532201052922, 0.0),
)
MIDDLE = (0.0, 0.2094821410847278, 0.4179591836734694)
RULE = (*((-node, *weights) for node, *weights in reversed(HALF_RULE)), MIDDLE, *HALF_RULE)
# The error has another part, because all nodes may miss what happens near an end of the panel: by how much the function
# there differs from the line through the two nodes next to it, times their distance from it.
NEXT, LAST = HALF_RULE[-2][0], HALF_RULE[-1][0]
SHARE = (1 - LAST) / (LAST - NEXT)
AT_END = (1 - LAST) * np.array([1.0, -1 - SHARE, SHARE])
NODES = np.array([-1.0, *(node for node, _, _ in RULE), 1.0])
KRONROD, GAUSS = (np.array([0.0, *(weights[each] for _, *weights in RULE), 0.0]) for each in (0, 1))
LEFT, RIGHT = np.append(AT_END, np.zeros(len(NODES) - 3)), np.append(np.zeros(len(NODES) - 3), AT_END[::-1])
# Tails with less probability do not count where their square is integrated.
LEAST_SQUARED = 5e-6
# The panel with the largest error is halved until the errors of all add up to this share of the integral, at most so
# often. The error is mostly that of Gauss' rule: that of Kronrod's is a great deal less.
TOLERANCE, MOST_HALVED = 1e-4, 96
# Up to so many whole numbers are added one by one, and more of them in blocks.
MOST_ADDED = 2**14
# A tail whose panels shrink as those of a power law with this exponent has no mean.
LEAST_EXPONENT = 1.05
# Candidates for the lower end of the shortest interval, and how often the range of the best is halved then.
CANDIDATES, HALVINGS = 9, 28


def _levels(mixture: Mixture) -> list[float]:
    lower = LEVELS[mixture.zeros.dtype.name]
    return [*lower, *BETWEEN, *(1 - level for level in reversed(lower))]


class _Panels(NamedTuple):
    """Integrals over panels, on the first axis, with their errors."""

    left: Any
    right: Any
    value: Any
    error: Any

    def where(self, inside: Any) -> Any:
        """Return the sum over some of the panels."""
        return jnp.where(inside, self.value, 0.0).sum(axis=0)


def _integrals(mixture: Mixture, edges: Any, integrand: Callable[[Any, Any], Any]) -> _Panels:
    """Return integrals of a function of a number and its cdf between sorted edges, in panels that are halved at need.

    References
    ----------
    R. Piessens, E. de Doncker-Kapenga, C. W. Überhuber and D. K. Kahaner (1983), QUADPACK: a subroutine package for
    automatic integration, Springer.
    """
    nodes, *weights = (jnp.asarray(each, edges.dtype) for each in (NODES, KRONROD, GAUSS, LEFT, RIGHT))

    def measured(ends: tuple[Any, Any]) -> tuple[Any, Any]:
        start, half = ends[0], 0.5 * (ends[1] - ends[0])

        def add(number: Any, totals: tuple) -> tuple:
            at = start + half * (1 + nodes[number])
            height = integrand(at, mixture(at)[0])
            return tuple(total + each[number] * height for total, each in zip(totals, weights, strict=True))

        totals = jax.lax.fori_loop(0, len(NODES), add, (jnp.zeros_like(start),) * len(weights))
        kronrod, gauss, at_left, at_right = (jnp.where(half > 0, half * each, 0.0) for each in totals)
        return kronrod, jnp.abs(kronrod - gauss) + jnp.abs(at_left) + jnp.abs(at_right)

    left, right = edges[:-1], edges[1:]
    more = jnp.broadcast_to(edges[-1], (MOST_HALVED, *edges.shape[1:]))
    measures = [jnp.concatenate([each, 0 * more]) for each in jax.lax.map(measured, (left, right))]
    first = _Panels(jnp.concatenate([left, more]), jnp.concatenate([right, more]), *measures)
    number = jnp.arange(len(first.left)).reshape(-1, *(1,) * (edges.ndim - 1))

    def is_rough(carry: tuple) -> Any:
        count, panels = carry
        rough = panels.error.sum(axis=0) > TOLERANCE * jnp.abs(panels.value.sum(axis=0))
        return (count < len(first.left)) & jnp.any(rough & mixture.valid)

    def halve(carry: tuple) -> tuple:
        count, panels = carry
        worst = jnp.argmax(panels.error, axis=0)
        chosen = number == worst
        left, right = (jnp.where(chosen, each, 0.0).sum(axis=0) for each in (panels.left, panels.right))
        middle = 0.5 * (left + right)
        halves = [_Panels(*ends, *measured(ends)) for ends in ((left, middle), (middle, right))]
        moved = (
            jnp.where(chosen, lower, jnp.where(number == count, upper, each))
            for each, lower, upper in zip(panels, *halves, strict=True)
        )
        return count + 1, _Panels(*moved)

    return jax.lax.while_loop(is_rough, halve, (len(left), first))[1]


def _sum(mixture: Mixture, first: Any, stop: Any, term: Callable[[Any], Any]) -> Any:
    """Return sums of a function of the cdf over whole numbers from ``first`` up to the number before ``stop``.

    If there are many numbers, each block of them is as many times the term in its middle.
    """
    count = jnp.maximum(stop - first, 0.0)
    size = jnp.maximum(jnp.ceil(count / MOST_ADDED), 1.0)
    blocks = jnp.max(jnp.where(mixture.valid, jnp.ceil(count / size), 0.0))

    def add(carry: tuple) -> tuple:
        block, total = carry
        start = first + block * size
        of_block = jnp.clip(stop - start, 0.0, size)
        # Without this, blocks of one number would be at the number plus a half.
        at = jnp.floor(start + 0.5 * jnp.maximum(of_block - 1, 0.0))
        return block + 1, total + jnp.where(of_block > 0, of_block * term(mixture(at)[0]), 0.0)

    return jax.lax.while_loop(lambda carry: carry[0] < blocks, add, (jnp.zeros((), first.dtype), mixture.zeros))[1]


def _split_sum(mixture: Mixture, ends: list[Any], at: Any, terms: tuple[Callable, Callable]) -> tuple[Any, Any]:
    """Return the integrals of a function of a step-wise cdf up to a number, and of another one from it on."""
    below, above = terms
    whole = jnp.floor(at)
    share, cdf = at - whole, mixture(whole)[0]
    first, stop = jnp.minimum(ends[0], whole), jnp.maximum(ends[-1], whole + 1)
    return (
        _sum(mixture, first, whole, below) + share * below(cdf),
        _sum(mixture, whole + 1, stop, above) + (1 - share) * above(cdf),
    )


def _crps(mixture: Mixture, y: Any) -> Any:
    """Return the integral of the squared difference between the cdf and a step at the outcome."""
    # The square of a tail is a great deal less than the tail.
    ends = mixture.nearly([level for level in _levels(mixture) if LEAST_SQUARED < level < 1 - LEAST_SQUARED])
    if mixture.kind.whole:
        return sum(_split_sum(mixture, ends, y, (lambda cdf: cdf**2, lambda cdf: (1 - cdf) ** 2)))
    edges = jnp.sort(jnp.stack([*ends, y]), axis=0)
    return _integrals(mixture, edges, lambda at, cdf: jnp.where(at < y, cdf, 1 - cdf) ** 2).value.sum(axis=0)


def _excess(mixture: Mixture, threshold: Any) -> tuple[Any, Any]:
    """Return by how much an outcome is expected to fall below a threshold, and to exceed it, zero if it does not."""
    ends = mixture.nearly(_levels(mixture))
    if mixture.kind.whole:
        return _split_sum(mixture, ends, threshold, (lambda cdf: cdf, lambda cdf: 1 - cdf))
    edges = jnp.sort(jnp.stack([*ends, threshold]), axis=0)
    panels = _integrals(mixture, edges, lambda at, cdf: jnp.where(at < threshold, cdf, 1 - cdf))
    # Each panel is on one side of the threshold.
    is_below = panels.right <= threshold
    below = panels.where(is_below) + _rest(
        panels.where(panels.right <= ends[1]),
        panels.where((panels.left >= ends[1]) & (panels.right <= ends[2])),
        ends[2] <= threshold,
        mixture,
    )
    above = panels.where(~is_below) + _rest(
        panels.where(panels.left >= ends[-2]),
        panels.where((panels.left >= ends[-3]) & (panels.right <= ends[-2])),
        ends[-3] >= threshold,
        mixture,
    )
    return below, above


def _rest(last: Any, one_before: Any, reaches: Any, mixture: Mixture) -> Any:
    """Return what is beyond the last panel of a tail, as if panels went on to shrink as they did."""
    first, second, *_ = LEVELS[mixture.zeros.dtype.name]
    least = (first / second) ** (1 - 1 / LEAST_EXPONENT)
    shrinkage = jnp.where(one_before > 0, last / one_before, 0.0)
    rest = jnp.where(shrinkage > least, jnp.inf, last * shrinkage / (1 - shrinkage))
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
    rough = mixture.nearly([*tails, *(tail + coverage for tail in tails)])
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
