"""Exact NumPy samplers for outcome distributions that JAX draws from slowly on CPUs.

JAX draws from some distributions by rejection, on a CPU at most a million numbers a second; NumPy's generators are ten
to eighty times faster. If the outcome is the last random value that a run of the kernel computes, the compiled program
returns the parameters of its distribution instead, and the outcomes are drawn here, with a generator for each tile.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from skaimz.exceptions import OutputWarning, warn_user
from skaimz.sampling.forward import base_distribution, no_value

__all__ = ["HostDistribution", "host_distribution", "lacks_values", "parameters_of", "warn_of_absent", "with_nan"]

# NumPy's Poisson sampler refuses larger rates.
MOST_RATE = 9e18


def with_nan(drawn: np.ndarray) -> np.ndarray:
    """Return draws as floats, with NaN for missing outcomes."""
    numbers = drawn.astype(np.result_type(drawn.dtype, np.float32), copy=False)
    if lacks_values(drawn):
        numbers = np.where(drawn == no_value(drawn.dtype), numbers.dtype.type(np.nan), numbers)
    return numbers


def lacks_values(drawn: np.ndarray) -> bool:
    """Whether integer draws hold the mark of missing outcomes."""
    return drawn.dtype.kind == "i" and drawn.size > 0 and bool(drawn.min() == no_value(drawn.dtype))


def warn_of_absent(name: str) -> None:
    """Warn the user that integer outcomes are missing, because integers have no NaN."""
    warn_user(
        f"The output {name!r} has no value for some rows and posterior draws, because a parameter of its distribution "
        "is NaN or impossible there. In its place the draws hold the least integer of their type. Look at the rows and "
        "the posterior draws that lead to such parameters; `predict` gives NaN for such rows.",
        OutputWarning,
    )


class HostDistribution(NamedTuple):
    """How NumPy draws from a distribution.

    Attributes
    ----------
    parameters : callable
        Takes a NumPyro distribution and returns a dict of its parameters.
    valid : callable
        Takes parameters and returns a mask of those that have outcomes: those inside the parameter space, and those on
        its boundary where NumPyro's sampler gives the limit.
    sample : callable
        Takes a generator and valid parameters, and returns outcomes.
    """

    parameters: Callable[[Any], dict[str, Any]]
    valid: Callable[..., Any]
    sample: Callable[..., np.ndarray]

    def draw(self, generator: np.random.Generator, parameters: dict[str, np.ndarray], dtype: np.dtype) -> np.ndarray:
        """Return outcomes, with :func:`no_value` where the parameters are not valid."""
        valid = self.valid(**parameters)
        if not valid.all():
            parameters = {name: np.where(valid, array, array.dtype.type(0.5)) for name, array in parameters.items()}
        # Extreme parameters may overflow, as they do in JAX.
        with np.errstate(all="ignore"):
            outcomes = self.sample(generator, **parameters)
        if not np.issubdtype(dtype, np.floating):
            outcomes = np.minimum(outcomes, np.iinfo(dtype).max)
        outcomes = outcomes.astype(dtype, copy=False)
        if not valid.all():
            outcomes[~valid] = no_value(dtype)
        return outcomes


def _standard_gamma(generator: np.random.Generator, shape: np.ndarray) -> np.ndarray:
    finite, shape = np.isfinite(shape), np.abs(shape)  # NumPy refuses a negative zero
    if finite.all():
        return generator.standard_gamma(shape, dtype=shape.dtype.type)
    drawn = generator.standard_gamma(np.where(finite, shape, shape.dtype.type(1)), dtype=shape.dtype.type)
    return np.where(finite, drawn, shape)


def _gamma(generator: np.random.Generator, concentration: np.ndarray, rate: np.ndarray) -> np.ndarray:
    drawn = _standard_gamma(generator, concentration)
    # The draw of a tiny shape may round to zero, but the limit for a zero rate is infinite all the same.
    return np.where(rate == 0, rate.dtype.type(np.inf), drawn / np.abs(rate))


def _is_valid_gamma(concentration: np.ndarray, rate: np.ndarray) -> np.ndarray:
    rate_fits = (rate >= 0) | (rate == -np.inf)
    undecided = ((concentration == 0) & (rate == 0)) | (np.isinf(concentration) & np.isinf(rate))
    return (concentration >= 0) & rate_fits & ~undecided


def _poisson(generator: np.random.Generator, rate: np.ndarray) -> np.ndarray:
    return generator.poisson(np.minimum(np.abs(rate), MOST_RATE))


def _beta(generator: np.random.Generator, concentration1: np.ndarray, concentration0: np.ndarray) -> np.ndarray:
    inside = (concentration1 > 0) & (concentration0 > 0)
    limits = np.finfo(concentration1.dtype)
    if inside.all():
        drawn = generator.beta(concentration1, concentration0)
    else:
        drawn = generator.beta(np.where(inside, concentration1, 1), np.where(inside, concentration0, 1))
        drawn = np.where(inside, drawn, concentration1 > 0)
    # The support is open, and the density at 0 or 1 may be infinite.
    return np.clip(drawn, limits.tiny, 1 - limits.eps)


def _student(generator: np.random.Generator, df: np.ndarray, loc: np.ndarray, scale: np.ndarray) -> np.ndarray:
    normal = generator.standard_normal(df.shape, dtype=df.dtype.type)
    half = df / 2
    return loc + scale * normal * np.sqrt(half / _standard_gamma(generator, half))


def _binomial(generator: np.random.Generator, total_count: np.ndarray, probs: np.ndarray) -> np.ndarray:
    return generator.binomial(total_count.astype(np.int64), np.abs(probs))


GAMMA_POISSON = HostDistribution(
    lambda distribution: {"concentration": distribution.concentration, "rate": distribution.rate},
    _is_valid_gamma,
    lambda generator, concentration, rate: _poisson(generator, _gamma(generator, concentration, rate)),
)
# By exact class, because a user's subclass may draw differently.
HOST_DISTRIBUTIONS: dict[type, HostDistribution] = {
    dist.Poisson: HostDistribution(
        lambda distribution: {"rate": distribution.rate},
        lambda rate: rate >= 0,
        _poisson,
    ),
    dist.GammaPoisson: GAMMA_POISSON,
    dist.Gamma: HostDistribution(
        lambda distribution: {"concentration": distribution.concentration, "rate": distribution.rate},
        _is_valid_gamma,
        _gamma,
    ),
    dist.Beta: HostDistribution(
        lambda distribution: {
            "concentration1": distribution.concentration1,
            "concentration0": distribution.concentration0,
        },
        lambda concentration1, concentration0: (
            (np.minimum(concentration1, concentration0) >= 0)
            & (np.maximum(concentration1, concentration0) > 0)
            & np.isfinite(concentration1)
            & np.isfinite(concentration0)
        ),
        _beta,
    ),
    dist.StudentT: HostDistribution(
        lambda distribution: {"df": distribution.df, "loc": distribution.loc, "scale": distribution.scale},
        lambda df, loc, scale: (df > 0) & np.isfinite(df) & ~np.isnan(loc) & (scale >= 0),
        _student,
    ),
    dist.BinomialProbs: HostDistribution(
        lambda distribution: {"total_count": distribution.total_count, "probs": distribution.probs},
        lambda total_count, probs: (total_count >= 0) & (probs >= 0) & (probs <= 1),
        _binomial,
    ),
}
HOST_DISTRIBUTIONS |= {
    dist.NegativeBinomial2: GAMMA_POISSON,
    dist.NegativeBinomialProbs: GAMMA_POISSON,
    dist.NegativeBinomialLogits: GAMMA_POISSON,
    dist.Chi2: HOST_DISTRIBUTIONS[dist.Gamma],
    dist.BetaProportion: HOST_DISTRIBUTIONS[dist.Beta],
    dist.BinomialLogits: HOST_DISTRIBUTIONS[dist.BinomialProbs],
}


def host_distribution(distribution: type) -> HostDistribution | None:
    """Return NumPy's sampler for a class of distributions, None where JAX draws."""
    return HOST_DISTRIBUTIONS.get(distribution) if jax.default_backend() == "cpu" else None


def parameters_of(distribution: Any) -> dict[str, Any]:
    """Return the parameters of a distribution that NumPy draws from, broadcast to the shape of an outcome."""
    base = base_distribution(distribution)
    host = HOST_DISTRIBUTIONS[type(base)]
    shape, floats = distribution.batch_shape + distribution.event_shape, jnp.result_type(float)
    arrays = {name: jnp.asarray(value) for name, value in host.parameters(base).items()}
    # Counts stay integers, because float32 would round large ones.
    typed = {name: v if jnp.issubdtype(v.dtype, jnp.integer) else v.astype(floats) for name, v in arrays.items()}
    return {name: jnp.broadcast_to(value, shape) for name, value in typed.items()}
