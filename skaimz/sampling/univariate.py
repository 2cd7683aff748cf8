"""Univariate distributions as functions that JAX can compile: the cdf at some values, and its derivative."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["Apart", "LaterRows", "NoCdfError", "OverStates", "RowsFirst", "SinglePrecisionError", "Univariate"]


class NoCdfError(NotImplementedError):
    """No cdf of a distribution is known."""


class SinglePrecisionError(Exception):
    """A cdf needs double precision."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Univariate:
    """A univariate distribution, or one for each entry of an array.

    It is a pytree, so it may have an axis of draws, states or rows before its own axes.

    Attributes
    ----------
    function : callable
        From values and ``parts`` to the cdf and its derivative. For whole numbers the second is the probability of the
        value. Equal functions must compare equal, because they are static parts of programs.
    parts : tuple of pytrees
        Parameters, which broadcast with the values.
    low, high : array or None
        Ends of the support; None where it has none. The cdf is 0 below and 1 from the upper end on.
    valid : array of bool or None
        Whether the parameters are those of a distribution; None if all are.
    whole : bool
        Whether all values are whole numbers.
    jumps : bool
        Whether single values may have a probability although not all values are whole numbers.
    guarded : bool
        Whether ``function`` is called at values of the support only. A function without this need sees the same values
        for all draws.
    """

    function: Callable[..., tuple[Any, Any]] = field(metadata={"static": True})
    parts: tuple[Any, ...]
    low: Any = None
    high: Any = None
    valid: Any = None
    whole: bool = field(default=False, metadata={"static": True})
    jumps: bool = field(default=False, metadata={"static": True})
    guarded: bool = field(default=True, metadata={"static": True})

    def __call__(self, values: Any) -> tuple[Any, Any]:
        """Return the cdf at some values and its derivative, or the probabilities of whole numbers."""
        values = jnp.floor(values) if self.whole else values
        inside = values
        if self.low is not None and self.guarded:
            inside = jnp.maximum(inside, self.low)
        if self.high is not None and self.guarded:
            inside = jnp.minimum(inside, self.high)
        cdf, slope = self.function(inside, *self.parts)
        # Functions such as the incomplete gamma function have no value at infinity.
        infinite = jnp.isinf(values)
        cdf, slope = jnp.where(infinite, jnp.where(values > 0, 1.0, 0.0), cdf), jnp.where(infinite, 0.0, slope)
        if self.low is not None:
            cdf, slope = jnp.where(values < self.low, 0.0, cdf), jnp.where(values < self.low, 0.0, slope)
        if self.high is not None:
            cdf, slope = jnp.where(values >= self.high, 1.0, cdf), jnp.where(values > self.high, 0.0, slope)
        return cdf, slope

    def functions(self) -> set[Callable]:
        """Return the functions of this distribution and of those that it consists of."""
        is_part = lambda part: isinstance(part, Univariate)  # noqa: E731
        parts = jax.tree.leaves(self.parts, is_leaf=is_part)
        return {self.function}.union(*(part.functions() for part in parts if is_part(part)))

    def before(self, values: Any) -> Any:
        """Return the probability of all numbers that are less than some values."""
        if self.whole:
            return self(jnp.ceil(values) - 1)[0]
        if not self.jumps:
            return self(values)[0]
        # Processors may take the numbers next to zero for zero.
        least = -jnp.finfo(values.dtype).tiny
        return self(jnp.where(values == 0, least, jnp.nextafter(values, -jnp.inf)))[0]


@dataclass(frozen=True)
class RowsFirst:
    """The function of a distribution whose rows are on another axis than the first."""

    axis: int

    def __call__(self, values: Any, distribution: Univariate) -> tuple[Any, Any]:
        """Move the rows of values to their axis, and those of results back."""
        cdf, slope = distribution(jnp.moveaxis(values, 0, self.axis))
        return jnp.moveaxis(cdf, self.axis, 0), jnp.moveaxis(slope, self.axis, 0)


@dataclass(frozen=True)
class LaterRows:
    """The function of a distribution that has more rows, before those of the values.

    Attributes
    ----------
    n_before : int
        Number of the rows before.
    """

    n_before: int

    def __call__(self, values: Any, distribution: Univariate) -> tuple[Any, Any]:
        """Evaluate the distributions of the later rows."""
        before = jnp.broadcast_to(values[:1], (self.n_before, *values.shape[1:]))
        cdf, slope = distribution(jnp.concatenate([before, values]))
        return cdf[self.n_before :], slope[self.n_before :]


@dataclass(frozen=True)
class Apart:
    """The function of distributions on the first axis of a pytree, one for each entry of the values' first axis.

    Attributes
    ----------
    keeps_axis : bool
        Whether each distribution still has the axis, of length 1.
    """

    keeps_axis: bool

    def __call__(self, values: Any, distributions: Univariate) -> tuple[Any, Any]:
        """Evaluate each distribution at its own values."""
        if not self.keeps_axis:
            return jax.vmap(lambda each, own: each(own))(distributions, values)
        cdf, slope = jax.vmap(lambda each, own: each(own[None]))(distributions, values)
        return cdf[:, 0], slope[:, 0]


@dataclass(frozen=True)
class OverStates:
    """The function of a mixture of distributions that are on the first axis of a pytree.

    Attributes
    ----------
    row_axis : int
        Axis of the values that the weights ``(n_states, n_rows)`` belong to.
    """

    row_axis: int

    def __call__(self, values: Any, log_weights: Any, distributions: Univariate) -> tuple[Any, Any]:
        """Average over the states."""
        cdf, slope = jax.vmap(lambda each: each(values))(distributions)
        after = values.ndim - self.row_axis - 1
        weights = jnp.exp(log_weights).reshape(len(log_weights), *(1,) * self.row_axis, -1, *(1,) * after)
        # A state without weight may have no distribution.
        sums = (jnp.where(weights > 0, weights * each, 0.0).sum(axis=0) for each in (cdf, slope))
        return tuple(sums)  # type: ignore[return-value]
