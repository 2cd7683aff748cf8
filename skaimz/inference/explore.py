"""A first look at a posterior, in double precision: where it lies, and in what units to move through it."""

from typing import Any, NamedTuple

import jax
import numpy as np

from skaimz.inference.data import Data, Units
from skaimz.inference.mode import Mode, find_mode
from skaimz.inference.target import Start, start_of
from skaimz.kernels import TracedKernel

__all__ = ["Exploration", "explore", "in_double"]

# Log ratios of the posterior to the normal approximation that spread wider are those of an approximation whose
# coordinates are of no use: for one that is right they are all the same.
TEST_DRAWS = 48
WIDEST_SPREAD = 4.0
# Purpose of random numbers, beside the seed, so that no other shares its stream.
TEST = 20
BEGIN = 21


class Exploration(NamedTuple):
    """What a first look has found.

    Attributes
    ----------
    start : Start
    mode : Mode
        Its ``reason`` says why there is no normal approximation; empty where there is one.
    spread : float
        Standard deviation of the log ratios of the posterior to that approximation, for draws from the latter.
    """

    start: Start
    mode: Mode
    spread: float

    @property
    def knows_curvature(self) -> bool:
        """Whether the curvature at the mode tells how the posterior lies."""
        return not self.mode.reason and self.spread < WIDEST_SPREAD

    def units(self, *, dense: bool) -> Units:
        """Return units of the curvature where that can be relied on, or else of the prior's spread.

        Parameters
        ----------
        dense : bool
            Turn coordinates, too, so that they are uncorrelated, rather than choosing their lengths alone.
        """
        start, mode = self.start, self.mode
        middle, root = start.middle, start.scale
        if self.knows_curvature:
            middle, root = mode.middle, mode.root
            if not dense:
                precision = np.linalg.inv(root @ root.T)
                root = 1.0 / np.sqrt(np.diag(precision))
        return Units(start.target.unpack(middle), root)

    def begin(self, units: Units, seed: int, chain: int) -> dict[str, np.ndarray]:
        """Return coordinates where a Markov chain begins: apart from the others', and where there is a density."""
        target, root = self.start.target, np.asarray(units.root)
        middle = target.pack(units.middle)
        rng = np.random.default_rng((seed, BEGIN, chain))
        for _ in range(20):
            v = rng.uniform(-1.0, 1.0, target.size)
            value, gradient = self._value(middle + (root * v if root.ndim == 1 else root @ v))
            if np.isfinite(value) and np.isfinite(gradient).all():
                return target.unpack(v)
        return target.unpack(np.zeros(target.size))

    def _value(self, position: np.ndarray) -> tuple[float, np.ndarray]:
        with jax.enable_x64(True):
            return self.start.target.value_and_gradient(position)


def explore(traced: TracedKernel, data: Data, seed: int, places: np.ndarray | None = None) -> Exploration:
    """Find where a posterior has a density, its mode, and whether the curvature there describes it.

    Parameters
    ----------
    traced : TracedKernel
    data : Data
        Padded rows and their weights.
    seed : int
    places : array, optional
        Where each of the user's rows is found among those of the data, so that an error may name them.

    Returns
    -------
    Exploration

    Raises
    ------
    ValueError
        If outcomes lie outside the support of their distribution, or the posterior has no density anywhere.
    """
    with jax.enable_x64(True):
        start = start_of(traced, in_double(data), seed, places)
        mode, spread = find_mode(start), np.inf
        if not mode.reason:
            target = start.target
            v = np.random.default_rng((seed, TEST)).standard_normal((TEST_DRAWS, target.size))
            with np.errstate(all="ignore"):
                values = [-target.value_and_gradient(mode.middle + mode.root @ each)[0] for each in v]
                spread = float(np.std(np.array(values) + np.square(v).sum(axis=1) / 2))
    return Exploration(start, mode, spread if np.isfinite(spread) else np.inf)


def in_double(data: Data) -> Data:
    """Return data whose floating-point arrays have 64 bits; call it where JAX computes with these."""

    def double(value: Any) -> Any:
        kind = np.asarray(value).dtype if not hasattr(value, "dtype") else value.dtype
        if isinstance(value, float) or not np.issubdtype(kind, np.floating):
            return value
        return np.asarray(value, np.float64)

    return jax.tree.map(double, data)
