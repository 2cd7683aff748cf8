"""The posterior predictive distribution of a row: a mixture of the outcome's distributions under all draws."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from skaimz.kernels import POINTS
from skaimz.sampling.cdfs import NEED_DOUBLE
from skaimz.sampling.composed import univariate
from skaimz.sampling.forward import base_distribution, conditional_mean, has_mean
from skaimz.sampling.inversion import Shape, inverted
from skaimz.sampling.quantities import Expectation, KernelRun, PerDraw
from skaimz.sampling.univariate import Apart, LaterRows, OverStates, RowsFirst, SinglePrecisionError, Univariate

__all__ = ["Cdf", "ConditionalMeans", "ConditionalQuantiles", "Exceedance", "Mixture", "OfMixture", "Quantiles"]

# Draws whose mixture tells where to start.
FEW_DRAWS = 32
# Levels that are searched for together. Their formulas are parts of one loop.
TOGETHER = 2


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _OfDraw:
    """The distribution of the outcome given one draw, with the rows first.

    Attributes
    ----------
    distribution : Univariate
    low, high, valid : array or None
        Ends of the support, and whether there is a distribution: one number, or in the shape of the outcome. None as
        for :class:`Univariate`.
    shape : tuple of int
        Shape of the outcome of one row.
    """

    distribution: Univariate
    low: Any
    high: Any
    valid: Any
    shape: tuple[int, ...] = field(metadata={"static": True})

    def apart(self) -> "_OfDraw":
        """Return the distribution of the only row, without its axis. Those of several rows can then be stacked."""
        distribution = self.distribution
        kinds = {"whole": distribution.whole, "jumps": distribution.jumps}
        ends = (self.low, self.high, self.valid)
        low, high, valid = (end if end is None or end.ndim == 0 else end[0] for end in ends)
        return _OfDraw(Univariate(Apart(keeps_axis=True), (distribution,), **kinds), low, high, valid, self.shape)


def _of_draw(run: KernelRun) -> _OfDraw:
    """Return the distribution of the outcome; discrete sites of the rows are summed out."""
    name, axis = run.spec.output, run.output.row_axis or 0
    shape = run.distribution.batch_shape + run.distribution.event_shape
    if run.summed:
        log_weights, each = run.by_state(lambda trace: univariate(trace[name]["fn"]))
        low = None if each.low is None else each.low.min(axis=0)
        high = None if each.high is None else each.high.max(axis=0)
        kinds = {"whole": each.whole, "jumps": each.jumps}
        distribution = Univariate(OverStates(axis), (log_weights, each), low, high, **kinds)
    else:
        distribution = univariate(run.distribution)
    ends = (distribution.low, distribution.high, distribution.valid)
    # An end that all entries share stays one number: XLA would take long to reduce an array of constants.
    every = [
        end if end is None or end.ndim == 0 else jnp.moveaxis(jnp.broadcast_to(end, shape), axis, 0) for end in ends
    ]
    kinds = {"whole": distribution.whole, "jumps": distribution.jumps}
    if axis != 0:
        distribution = Univariate(RowsFirst(axis), (distribution,), **kinds)
    # Where the rows follow those of the fit, the kernel has run on these as well.
    n_before = shape[axis] - len(run.rows[run.spec.input])
    if n_before:
        distribution = Univariate(LaterRows(n_before), (distribution,), **kinds)
        every = [end if end is None or end.ndim == 0 else end[n_before:] for end in every]
    low, high, valid = every
    return _OfDraw(distribution, low, high, valid, (*shape[:axis], *shape[axis + 1 :]))


class Mixture:
    """Mixtures of distributions, one for each entry of an array with the rows first.

    Parameters
    ----------
    of_draws : _OfDraw
        Distributions, with the draws first.
    n_rows : int
    n_draws : int
    """

    def __init__(self, of_draws: _OfDraw, n_rows: int, n_draws: int):
        self._each = of_draws.distribution
        self.kind = Shape(self._each.whole, self._each.jumps)
        self.zeros = jnp.zeros((n_rows, *of_draws.shape), jnp.result_type(float))
        self._low = -jnp.inf if of_draws.low is None else self._spread(of_draws.low.min(axis=0))
        self._high = jnp.inf if of_draws.high is None else self._spread(of_draws.high.max(axis=0))
        self.valid = True if of_draws.valid is None else self._spread(of_draws.valid.all(axis=0))
        self._few: Univariate | None = None
        if n_draws > 2 * FEW_DRAWS:
            some = np.linspace(0, n_draws - 1, FEW_DRAWS).round().astype(int)
            self._few = jax.tree.map(lambda leaf: leaf[some], self._each)

    def __call__(self, values: Any) -> tuple[Any, Any]:
        """Return the cdf and its derivative."""
        return _averaged(self._each, values)

    def before(self, values: Any) -> Any:
        """Return the probability of all numbers that are less than some values."""
        return jax.vmap(lambda each: each.before(values))(self._each).mean(axis=0)

    def of_rows(self, numbers: Any) -> Any:
        """Return numbers with an entry for each row, or for each of its outputs, in the shape of the mixtures."""
        return self._spread(numbers) + self.zeros

    def _spread(self, numbers: Any) -> Any:
        return numbers.reshape(numbers.shape + (1,) * (self.zeros.ndim - numbers.ndim))

    def quantiles(self, levels: Any) -> Any:
        """Return quantiles, given their levels on the last axis of an array with an entry for each row."""
        columns = [self.of_rows(levels[..., number]) for number in range(levels.shape[-1])]
        found = _in_groups(columns, self._together)
        return jnp.stack([self._finished(*each) for each in zip(columns, found, strict=True)], axis=-1)

    def nearly(self, levels: Sequence[Any]) -> list[Any]:
        """Return quantiles at which the cdf is within a hundredth of the tail's probability."""
        return _in_groups([level + self.zeros for level in levels], self._nearly)

    def search(self, levels: list[Any], starts: list[Any]) -> list[Any]:
        """Return quantiles between the ends of the support, from numbers near them."""
        return inverted(self, levels, starts, self.kind)

    def _together(self, levels: list[Any]) -> list[Any]:
        return self.search(levels, self._starts(levels))

    def _nearly(self, levels: list[Any]) -> list[Any]:
        return inverted(self, levels, self._starts(levels), self.kind, close=0.01)

    def _starts(self, levels: list[Any]) -> list[Any]:
        # XLA would try to fold what follows from constants.
        starts = [0 * level for level in levels]
        if self._few is None:
            return starts
        few = self._few
        found = inverted(lambda values: _averaged(few, values), levels, starts, self.kind, close=0.01)
        return [jnp.where(jnp.isfinite(each), each, 0.0) for each in found]

    def _finished(self, level: Any, found: Any) -> Any:
        found = jnp.where(level <= 0, self._low, jnp.where(level >= 1, self._high, found))
        return jnp.where(self.valid, found, jnp.nan)


def _in_groups(columns: list[Any], solve: Callable[[list[Any]], list[Any]]) -> list[Any]:
    """Call a function for a few columns at a time, as often as there are."""
    count = len(columns)
    if count <= TOGETHER:
        return solve(columns)
    shape = columns[0].shape
    groups = jnp.stack(columns + columns[-1:] * (-count % TOGETHER)).reshape(-1, TOGETHER, *shape)
    results = jax.lax.map(lambda group: jnp.stack(solve(list(group))), groups)
    return list(results.reshape(-1, *shape)[:count])


def _averaged(distributions: Univariate, values: Any) -> tuple[Any, Any]:
    cdf, slope = jax.vmap(lambda each: each(values))(distributions)
    return cdf.mean(axis=0), slope.mean(axis=0)


@dataclass(frozen=True)
class OfMixture(Expectation):
    """Base of the quantities that need the distributions of all draws together.

    They are computed at points, an array with an entry for each row, which the job's rows include as ``POINTS``.
    """

    needs_all_draws: ClassVar[bool] = True

    def of_draw(self, run: KernelRun) -> tuple:
        """Return the distribution of the outcome."""
        return (_of_draw(run),)

    def of_row(self, results: Any) -> Any:
        """Return the distribution of a single row, without the axis of the row."""
        return (results[0].apart(),)

    def of_step(self, results: Any, n_draws: Any, rows: Mapping[str, Any]) -> tuple:
        """Return the results of a step from the distributions of its draws."""
        points = rows[POINTS]
        if points.dtype != jnp.float64 and results[0].distribution.functions() & NEED_DOUBLE:
            raise SinglePrecisionError
        return self.of_mixture(Mixture(results[0], len(points), len(jax.tree.leaves(results)[0])), points)

    @abstractmethod
    def of_mixture(self, mixture: Mixture, points: Any) -> tuple:
        """Return results with the rows first."""


@dataclass(frozen=True)
class Quantiles(OfMixture):
    """Quantiles of the posterior predictive, on the last axis. Points are their levels."""

    def of_mixture(self, mixture: Mixture, points: Any) -> tuple:
        """Return the quantiles."""
        return (mixture.quantiles(points),)


@dataclass(frozen=True)
class Cdf(OfMixture):
    """Probabilities that the outcome is at most some numbers, on the last axis. Points are the numbers.

    Points have the shape of a row's outcome, and a last axis for several of them.

    Attributes
    ----------
    strict : bool, default=False
        Whether the outcome is to be less than the numbers.
    """

    strict: bool = False

    def of_mixture(self, mixture: Mixture, points: Any) -> tuple:
        """Return the probabilities."""

        def of(numbers: Any) -> Any:
            numbers = mixture.of_rows(numbers)
            cdf = mixture.before(numbers) if self.strict else mixture(numbers)[0]
            return jnp.where(mixture.valid, cdf, jnp.nan)

        return (jnp.moveaxis(jax.lax.map(of, jnp.moveaxis(points, -1, 0)), 0, -1),)


@dataclass(frozen=True)
class Exceedance(PerDraw):
    """Probabilities that the values of sites exceed a threshold, given each draw.

    Attributes
    ----------
    threshold : float
    """

    threshold: float = field(kw_only=True)

    def of_draw(self, run: KernelRun) -> tuple:
        """Return the conditional probabilities."""
        threshold = jnp.asarray(self.threshold, jnp.result_type(float))

        def above(distribution: Any) -> Any:
            shape = distribution.batch_shape + distribution.event_shape
            return 1 - univariate(distribution)(jnp.broadcast_to(threshold, shape))[0]

        return tuple(run.average(name, above) for name in self.names)


@dataclass(frozen=True)
class ConditionalQuantiles(PerDraw):
    """Quantiles of the output's distribution given each draw.

    Attributes
    ----------
    level : float
    """

    level: float = field(kw_only=True)

    def of_draw(self, run: KernelRun) -> tuple:
        """Return the conditional quantiles."""
        n_rows = len(run.rows[run.spec.input])
        mixture = Mixture(jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], _of_draw(run)), n_rows, 1)
        levels = jnp.full((n_rows, 1), self.level, jnp.result_type(float))
        return (jnp.moveaxis(mixture.quantiles(levels)[..., 0], 0, run.output.row_axis or 0),)


@dataclass(frozen=True)
class ConditionalMeans(PerDraw):
    """Conditional means of sites, from their formulas alone."""

    def of_draw(self, run: KernelRun) -> tuple:
        """Return the means."""

        def mean(distribution: Any) -> Any:
            if not has_mean(distribution):
                raise ValueError(
                    f"The mean of {type(base_distribution(distribution)).__name__} is not known in closed form, so "
                    'that there is no interval of it: leave out `of="mean"`.'
                )
            return conditional_mean(distribution, run.key)

        return tuple(run.average(name, mean) for name in self.names)
