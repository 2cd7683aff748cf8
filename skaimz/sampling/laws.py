"""Exact samplers of outcome laws that JAX draws from slowly on CPU.

JAX draws from some laws by rejection, at a million numbers a second or fewer on a CPU; NumPy's generators are ten to
eighty times faster there. Where the outcome is the last random value that a pass computes, the compiled program returns
the law's parameters and the outcomes are drawn here, from a generator of their own for each tile.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from skaimz.sampling.forward import base_law

__all__ = ["HostLaw", "host_law", "parameters_of"]

# NumPy's sampler takes no larger rates.
MOST_RATE = 9e18


class HostLaw(NamedTuple):
    """How a law is drawn from on the host.

    Attributes
    ----------
    parameters : callable
        From a NumPyro distribution to a dict of its parameters.
    valid : callable
        From parameters to where they are valid.
    sample : callable
        From a generator and valid parameters to outcomes.
    """

    parameters: Callable[[Any], dict[str, Any]]
    valid: Callable[..., Any]
    sample: Callable[..., np.ndarray]

    def draw(self, generator: np.random.Generator, parameters: dict[str, np.ndarray], dtype: np.dtype) -> np.ndarray:
        """Return outcomes; NaN, or -1 where the law is one of integers, at invalid parameters."""
        valid = self.valid(**parameters)
        for array in parameters.values():
            valid = valid & np.isfinite(array)
        if not valid.all():
            parameters = {name: np.where(valid, array, array.dtype.type(0.5)) for name, array in parameters.items()}
        # Extreme parameters may overflow, as they do in JAX.
        with np.errstate(all="ignore"):
            outcomes = self.sample(generator, **parameters)
        is_float = np.issubdtype(dtype, np.floating)
        if not is_float:
            outcomes = np.minimum(outcomes, np.iinfo(dtype).max)
        outcomes = outcomes.astype(dtype, copy=False)
        if not valid.all():
            outcomes[~valid] = np.nan if is_float else -1
        return outcomes


def _gamma(generator: np.random.Generator, shape: np.ndarray) -> np.ndarray:
    return generator.standard_gamma(shape, dtype=shape.dtype.type)


def _poisson(generator: np.random.Generator, rate: np.ndarray) -> np.ndarray:
    return generator.poisson(np.minimum(rate, MOST_RATE))


def _student(generator: np.random.Generator, df: np.ndarray, loc: np.ndarray, scale: np.ndarray) -> np.ndarray:
    normal = generator.standard_normal(df.shape, dtype=df.dtype.type)
    half = df / 2
    return loc + scale * normal * np.sqrt(half / _gamma(generator, half))


def _binomial(generator: np.random.Generator, total_count: np.ndarray, probs: np.ndarray) -> np.ndarray:
    return generator.binomial(total_count.astype(np.int64), probs)


GAMMA_POISSON = HostLaw(
    lambda law: {"concentration": law.concentration, "rate": law.rate},
    lambda concentration, rate: (concentration > 0) & (rate > 0),
    lambda generator, concentration, rate: _poisson(generator, _gamma(generator, concentration) / rate),
)
# By class; a user's subclass may draw in a way of its own.
HOST_LAWS: dict[type, HostLaw] = {
    dist.Poisson: HostLaw(
        lambda law: {"rate": law.rate},
        lambda rate: rate >= 0,
        _poisson,
    ),
    dist.GammaPoisson: GAMMA_POISSON,
    dist.Gamma: HostLaw(
        lambda law: {"concentration": law.concentration, "rate": law.rate},
        lambda concentration, rate: (concentration > 0) & (rate > 0),
        lambda generator, concentration, rate: _gamma(generator, concentration) / rate,
    ),
    dist.Beta: HostLaw(
        lambda law: {"concentration1": law.concentration1, "concentration0": law.concentration0},
        lambda concentration1, concentration0: (concentration1 > 0) & (concentration0 > 0),
        lambda generator, concentration1, concentration0: generator.beta(concentration1, concentration0),
    ),
    dist.StudentT: HostLaw(
        lambda law: {"df": law.df, "loc": law.loc, "scale": law.scale},
        lambda df, loc, scale: (df > 0) & np.isfinite(loc) & (scale >= 0),
        _student,
    ),
    dist.BinomialProbs: HostLaw(
        lambda law: {"total_count": law.total_count, "probs": law.probs},
        lambda total_count, probs: (total_count >= 0) & (probs >= 0) & (probs <= 1),
        _binomial,
    ),
}
HOST_LAWS |= {
    dist.NegativeBinomial2: GAMMA_POISSON,
    dist.NegativeBinomialProbs: GAMMA_POISSON,
    dist.NegativeBinomialLogits: GAMMA_POISSON,
    dist.Chi2: HOST_LAWS[dist.Gamma],
    dist.BetaProportion: HOST_LAWS[dist.Beta],
    dist.BinomialLogits: HOST_LAWS[dist.BinomialProbs],
}


def host_law(law: type) -> HostLaw | None:
    """Return how a class of distributions is drawn from here, None where JAX does it."""
    return HOST_LAWS.get(law) if jax.default_backend() == "cpu" else None


def parameters_of(law: Any) -> dict[str, Any]:
    """Return the parameters of a law that is drawn from here, each in the shape of an outcome."""
    base = base_law(law)
    host = HOST_LAWS[type(base)]
    shape, floats = law.batch_shape + law.event_shape, jnp.result_type(float)
    found = host.parameters(base)
    return {name: jnp.broadcast_to(jnp.asarray(value, floats), shape) for name, value in found.items()}
