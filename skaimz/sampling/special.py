"""Cumulative distribution functions with their densities, in forms that a compiler turns into fast loops.

Each function returns a pair: the cdf at some values, and its derivative there. JAX's own incomplete functions loop
until all entries of an array have converged. The functions here take the same operations for every entry.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln

__all__ = ["incomplete_gamma", "standard_laplace", "standard_logistic", "standard_normal", "standard_t"]

# Degrees of freedom are raised by two in each step, until the normal approximation is exact to rounding.
STEPS = 10
# A shape of the gamma distribution that is less than this number is raised by it, one in each step.
LARGE = 16
# Expansion of the incomplete gamma function for large shapes: in powers of one over the shape, and of a deviation.
TEMME = (
    (-0.333333333333, 0.0833333333333, -0.0148148148148, 0.00115740740741, 0.000352733686067, -0.000178755144033,
     3.91926317852e-05, -2.18544851068e-06, -1.85406221072e-06, 8.29671134095e-07, -1.76659527368e-07,
     6.7078535434e-09, 1.02618097842e-08, -4.38203601845e-09),
    (-0.00185185185185, -0.00347222222222, 0.0026455026455, -0.000990226337449, 0.000205761316872, -4.01877572016e-07,
     -1.80985503345e-05, 7.64916091608e-06, -1.61209008946e-06, 4.64712780281e-09, 1.37863344692e-07,
     -5.75254560352e-08),
    (0.0041335978836, -0.00268132716049, 0.000771604938272, 2.00938786008e-06, -0.000107366532264, 5.29234488291e-05,
     -1.27606351886e-05, 3.4235787341e-08, 1.37219573091e-06, -6.29899213838e-07),
    (0.000649434156379, 0.000229472093621, -0.000469189494395, 0.000267720632063, -7.56180167188e-05,
     -2.39650511387e-07, 1.10826541153e-05, -5.67495282699e-06),
    (-0.000861888290917, 0.00078403922172, -0.000299072480303, -1.46384525788e-06, 6.64149821547e-05,
     -3.96836504718e-05),
)  # fmt: skip
# The polynomials in the deviation are evaluated up to it. Beyond it they are multiplied by zero, to rounding.
MOST_DEVIATION = 2.2
# From twice so many degrees of freedom on, a ratio of gamma functions is expanded, whose logarithms would cancel.
MANY = 64


def standard_normal(z: Any) -> tuple[Any, Any]:
    """Return the cdf and the density of the standard normal distribution."""
    return 0.5 * jax.lax.erfc(-z * math.sqrt(0.5)), jnp.exp(-0.5 * z * z) * (1 / math.sqrt(2 * math.pi))


def standard_logistic(z: Any) -> tuple[Any, Any]:
    """Return the cdf and the density of the standard logistic distribution."""
    tail = jnp.exp(-jnp.abs(z))
    share = 1 / (1 + tail)
    return jnp.where(z < 0, tail * share, share), tail * share * share


def standard_laplace(z: Any) -> tuple[Any, Any]:
    """Return the cdf and the density of the standard Laplace distribution."""
    density = 0.5 * jnp.exp(-jnp.abs(z))
    return jnp.where(z < 0, density, 1 - density), density


def standard_t(z: Any, df: Any) -> tuple[Any, Any]:
    """Return the cdf and the density of Student's t distribution.

    The probability of both tails is an incomplete beta function, whose first parameter is half the degrees of freedom.
    A recurrence raises the parameter by one, and adds a positive term each time. After some steps the degrees of
    freedom are so many that an expansion around the normal distribution holds.

    References
    ----------
    NIST Digital Library of Mathematical Functions, equation 8.17.20.
    G. W. Hill (1970), Algorithm 395: Student's t-distribution, Communications of the ACM 13.
    """
    half = 0.5 * df
    ratio = jnp.minimum(z * z / df, 0.1 * jnp.finfo(z.dtype).max)
    log = jnp.log1p(ratio)
    share = 1 / (1 + ratio)
    power = jnp.exp(-half * log)
    scale = _gamma_ratio(half) * (1 / math.sqrt(math.pi))
    # Two tails of the distribution with more degrees of freedom, at the value that has the same `share`.
    more = df + 2 * STEPS
    square = (more - 0.5) * log
    base = 48 * (more - 0.5) ** 2
    correction = (((-0.4 * square - 3.3) * square - 24) * square - 85.5) / (0.8 * square * square + 100 + base)
    normal = jnp.sqrt(square) * (1 + (correction + square + 3) / base)
    # The terms of the recurrence, from the last to the first.
    total = jnp.ones_like(share)
    for step in range(STEPS - 2, -1, -1):
        total = 1 + total * share * ((half + step + 0.5) / (half + step + 1))
    tails = jax.lax.erfc(normal * math.sqrt(0.5)) + scale * power * jnp.sqrt(ratio * share) * total
    density = scale * half / jnp.sqrt(df) * power * jnp.sqrt(share)
    return jnp.where(z < 0, 0.5 * tails, 1 - 0.5 * tails), density


def _gamma_ratio(half: Any) -> Any:
    """Return the gamma function at a number and a half, divided by that at the number and one.

    References
    ----------
    NIST Digital Library of Mathematical Functions, equation 5.11.13.
    """
    inverse = 1 / jnp.maximum(half, MANY)
    series = 1 + inverse * (-1 / 8 + inverse * (1 / 128 + inverse * (5 / 1024 - inverse * (21 / 32768))))
    exact = jnp.exp(gammaln(half + 0.5) - gammaln(half + 1))
    return jnp.where(half < MANY, exact, jnp.sqrt(inverse) * series)


def incomplete_gamma(shape: Any, x: Any) -> tuple[Any, Any]:
    """Return the regularised lower incomplete gamma function at positive numbers, and its derivative.

    A recurrence raises small shapes, and adds a positive term each time. For large shapes an expansion holds at all
    numbers. The absolute error is about 1e-10 in double precision.

    References
    ----------
    NIST Digital Library of Mathematical Functions, equations 8.8.11 and 8.12.3 to 8.12.12.
    N. M. Temme (1979), The asymptotic expansion of the incomplete gamma functions, SIAM Journal on Mathematical
    Analysis 10.
    """
    is_small = shape < LARGE
    large = jnp.where(is_small, shape + LARGE, shape)
    ratio = (x - large) / large
    square = 2 * (ratio - jnp.log1p(ratio))
    deviation = jnp.sign(ratio) * jnp.sqrt(square)
    bell = jnp.exp(-0.5 * large * square) / jnp.sqrt(2 * math.pi * large)
    inside = jnp.clip(deviation, -MOST_DEVIATION, MOST_DEVIATION)
    series = jnp.zeros_like(inside)
    for row in reversed(TEMME):
        polynomial = jnp.zeros_like(inside)
        for coefficient in reversed(row):
            polynomial = polynomial * inside + coefficient
        series = series / large + polynomial
    upto = 0.5 * jax.lax.erfc(-deviation * jnp.sqrt(0.5 * large)) - bell * series
    # The terms of the recurrence. Where they would overflow, the function is 1.
    small = jnp.minimum(shape, LARGE)
    limited = jnp.minimum(x, 2 * small + 100)
    first = jnp.exp(small * jnp.log(limited) - limited - gammaln(small + 1))
    total = jnp.ones_like(limited)
    for step in range(LARGE - 1, 0, -1):
        total = 1 + total * limited * (1 / (small + step))
    power = jnp.where(is_small, first, bell / (1 + (1 / 12 + 1 / 288 / large) / large))
    return jnp.minimum(jnp.where(is_small, upto + first * total, upto), 1.0), power * shape / x
