"""Quantiles from a cdf: Newton's method inside a bracket that always shrinks, for many numbers at once."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri

from skaimz.sampling.special import standard_normal

__all__ = ["Shape", "inverted"]

# Where the cdf differs from the level by less than this share of the tail's probability, the next step is the last one.
# The square tells the error that is left: less than 1e-6 of the standard deviation.
CLOSE = 3e-4
# So many rounding errors of a cdf are no difference.
ROUNDING = 8
# Newton's method has begun to converge if a step is shorter than this share of the step before.
SHORTER = 0.1
# Every so many rounds the bracket is halved, whatever Newton's method says.
HALVED_EVERY = 4
# Halving alone needs at most 64 rounds.
MOST_ROUNDS = 64 * HALVED_EVERY

Evaluate = Callable[[Any], tuple[Any, Any]]


class Shape(NamedTuple):
    """What is known of the distributions.

    Attributes
    ----------
    whole : bool
        Whether all values are whole numbers.
    jumps : bool
        Whether single values may have a probability although not all values are whole numbers.
    """

    whole: bool
    jumps: bool


class _State(NamedTuple):
    """Where the search for a quantile is: the cdf is below the level at ``low``, and not at ``high``."""

    low: Any
    high: Any
    at: Any
    step: Any
    found: Any
    done: Any


def inverted(
    evaluate: Evaluate, levels: Sequence[Any], starts: Sequence[Any], shape: Shape, *, close: float = CLOSE
) -> list[Any]:
    """Return the least numbers at which a cdf reaches some levels between 0 and 1.

    Parameters
    ----------
    evaluate : callable
        From numbers to the cdf and its derivative, or the probabilities of whole numbers.
    levels, starts : sequence of arrays
        The levels, and where to start from, in the shape of the numbers. All levels are searched for together.
    shape : Shape
    close : float
        How close to the level the cdf must be for the last step, as a share of the tail's probability.

    Returns
    -------
    list of arrays
        Quantiles, NaN where the cdf is.
    """

    def begin(level: Any, start: Any) -> _State:
        infinite = jnp.full(start.shape, jnp.inf, start.dtype)
        state = _State(-infinite, infinite, start, jnp.zeros_like(start), start, ~((level > 0) & (level < 1)))
        if not shape.jumps:
            return state
        # Zero is the most common number with a probability of its own.
        zero = jnp.zeros_like(start)
        at_zero = (evaluate(zero - jnp.finfo(start.dtype).tiny)[0] < level) & (evaluate(zero)[0] >= level)
        return state._replace(found=jnp.where(at_zero, zero, start), done=state.done | at_zero)

    def search(carry: tuple) -> tuple:
        count, states = carry
        halves = count % HALVED_EVERY == HALVED_EVERY - 1
        pairs = [evaluate(state.at) for state in states]
        moved = [
            _moved(state, pair, level, halves, shape, close)
            for state, pair, level in zip(states, pairs, levels, strict=True)
        ]
        return count + 1, tuple(moved)

    def goes_on(carry: tuple) -> Any:
        count, states = carry
        return (count < MOST_ROUNDS) & ~jnp.all(jnp.stack([state.done for state in states]))

    states = tuple(map(begin, levels, starts))
    _, states = jax.lax.while_loop(goes_on, search, (0, states))
    return [state.found for state in states]


def _moved(state: _State, pair: tuple[Any, Any], level: Any, halves: Any, shape: Shape, close: float) -> _State:
    """Return a search after its next step."""
    (cdf, slope), at = pair, state.at
    # Where a cdf is constant, rounding errors must not decide at which end of that part the level is reached.
    rounding = ROUNDING * jnp.finfo(at.dtype).eps * level
    is_flat = True if shape.whole or shape.jumps else slope == 0
    below = cdf < level - jnp.where(is_flat, rounding, 0.0)
    low, high = jnp.where(below, at, state.low), jnp.where(below, state.high, at)
    if shape.whole:
        # The cdf one number before is known too.
        low = jnp.where(~below & (cdf - slope < level), at - 1, low)
    middle = (_between_whole if shape.whole else _between)(low, high)
    # On the scale of a normal distribution's quantiles, the cdf of most distributions is nearly a line.
    score = ndtri(cdf)
    step = (ndtri(level) - score) * standard_normal(score)[1] / slope
    newton = jnp.ceil(at + step) if shape.whole else at + step
    inside = (newton > low) & (newton < high)
    found, done = high, (middle <= low) | (middle >= high)
    if not shape.whole:
        converges = inside & (jnp.abs(step) <= SHORTER * state.step)
        gap = jnp.abs(cdf - level)
        is_exact = (gap <= rounding) & (slope != 0)
        last = is_exact | (converges & (gap <= close * jnp.minimum(level, 1 - level)))
        found, done = jnp.where(last, jnp.where(converges, newton, at), found), done | last
    lost = jnp.isnan(cdf)
    found = jnp.where(lost, jnp.nan, found)
    goes_to = jnp.where(inside & ~halves, newton, middle)
    return _State(
        low,
        high,
        goes_to,
        jnp.abs(goes_to - at),
        jnp.where(state.done, state.found, found),
        state.done | done | lost,
    )


def _between(low: Any, high: Any) -> Any:
    """Return a number that halves the floating-point numbers between two others."""
    first, second = _place(low), _place(high)
    return _number((first & second) + ((first ^ second) >> 1), low.dtype)


def _place(number: Any) -> Any:
    """Return the place of floating-point numbers in their order."""
    kind = jnp.int64 if number.dtype == jnp.float64 else jnp.int32
    bits = jax.lax.bitcast_convert_type(number, kind)
    return jnp.where(bits < 0, jnp.iinfo(kind).min - bits, bits)


def _number(place: Any, dtype: Any) -> Any:
    """Return the floating-point number at a place."""
    return jax.lax.bitcast_convert_type(jnp.where(place < 0, jnp.iinfo(place.dtype).min - place, place), dtype)


def _between_whole(low: Any, high: Any) -> Any:
    """Return a whole number in the middle of two others, or farther from zero where there is no other."""
    least, most = jnp.isinf(low), jnp.isinf(high)
    beyond_low, beyond_high = low + jnp.maximum(1, jnp.abs(low)), high - jnp.maximum(1, jnp.abs(high))
    one_end = jnp.where(most, beyond_low, beyond_high)
    return jnp.where(least & most, 0.0, jnp.where(least | most, one_end, jnp.floor(low / 2 + high / 2)))
