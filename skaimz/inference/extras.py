"""Functions that the engines of other libraries share."""

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from skaimz.exceptions import GuideWarning, warn_user
from skaimz.inference.importance import LARGEST_K_HAT, resampled, weigh
from skaimz.inference.parameters import Watched, check_count
from skaimz.inference.protocol import Draws, Run
from skaimz.runtime import Purpose, generator_of

__all__ = ["Engine", "drawn_again", "in_doubles", "library", "shapes_of", "weighed"]


@dataclass(repr=False, kw_only=True)
class Engine(Watched):
    """Settings of an engine of another library; ``options`` are the library's own arguments."""

    options: dict[str, Any] | None = None

    def _check_engine(self, counts: Iterable[str], known: Iterable[str]) -> None:
        """Refuse settings that are out of range, and options that the engine does not know."""
        name = type(self).__name__
        check_count(self, *counts)
        self._check_watched()
        if self.options is not None and not isinstance(self.options, dict):
            raise TypeError(f"{name}: `options` must be a dictionary, got {self.options!r}.")
        unknown = sorted(set(self.options or {}) - set(known))
        if unknown:
            raise ValueError(f"{name}: `options` {unknown} are unknown. Those that can be set: {sorted(known)}.")


def library(name: str, extra: str, engine: str) -> Any:
    """Import an optional library, or say which extra brings it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"`{engine}` needs {name}: `pip install 'skaimz[{extra}]'`.") from error


def shapes_of(data: Any) -> tuple:
    """Return the structure, shapes and types of a posterior's data, which decide its compiled program."""
    leaves, structure = jax.tree.flatten(data)
    return structure, tuple((np.shape(leaf), str(leaf.dtype)) for leaf in leaves)


def in_doubles(position: Any) -> bool:
    """Whether positions are in double precision, which JAX must be asked for in each thread."""
    return bool(jax.dtypes.canonicalize_dtype(position.dtype) == np.float64)


def weighed(positions: np.ndarray, log_p: np.ndarray, log_q: np.ndarray, engine: str) -> tuple[np.ndarray, ...]:
    """Weigh draws of an approximation by the posterior, and warn if the weights are too uneven.

    Parameters
    ----------
    positions : array of shape (n, size)
    log_p, log_q : array of shape (n,)
        Log densities, of the posterior and of the approximation.
    engine : str
        Its name, for the warning.

    Returns
    -------
    weight : array of shape (n,)
    log_p : array of shape (n,)
    positions : array of shape (n, size)
    """
    weights = weigh(log_p.astype(np.float64) - log_q)
    if weights.k_hat > LARGEST_K_HAT:
        # The same words for every fit, so that a search warns once.
        warn_user(
            f"The approximation by {engine} is far from the posterior: the importance ratios of its draws have a k-hat "
            f"above {LARGEST_K_HAT}, so that intervals may be wrong. Use `inference='auto'` or `inference='mcmc'`.",
            GuideWarning,
        )
    return weights.weight, log_p, positions


def drawn_again(state: tuple[np.ndarray, ...], num_samples: int, run: Run) -> Draws:
    """Draw positions with probabilities proportional to weights; ``state`` are weights, log densities and positions."""
    weight, log_p, positions = state
    purpose = Purpose.FRESH_ENGINE_RESAMPLING if run.state else Purpose.ENGINE_RESAMPLING
    chosen = resampled(weight, num_samples, generator_of(run.seed, purpose))
    return Draws(positions[chosen][None], {"lp": log_p[chosen][None]}, state, independent=True)
