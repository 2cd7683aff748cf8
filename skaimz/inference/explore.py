"""A first look at a posterior, in double precision: where it lies, and in what units to move through it."""

import contextlib
from typing import NamedTuple

import jax
import numpy as np

from skaimz.inference import shuffle
from skaimz.inference.data import Data, RowBlocks, Units, in_double, padded
from skaimz.inference.devices import over_devices
from skaimz.inference.minibatches import minibatches
from skaimz.inference.mode import Mode, find_mode, move_to_mode
from skaimz.inference.target import Start, Target, refuse_outside, start_of
from skaimz.kernels import TracedKernel
from skaimz.runtime import Purpose, generator_of

__all__ = ["Exploration", "explore", "explore_many", "some_rows"]

# Log ratios of the posterior to the normal approximation that spread wider are those of an approximation whose
# coordinates are of no use: for one that is right they are all the same.
TEST_DRAWS = 48
WIDEST_SPREAD = 4.0
# Where there are many rows, this share of those that are read at a time is looked at first. All are then looked at in
# blocks, which are not held if they have more bytes.
SHARE = 8
BLOCK_ROWS = 2**17
HELD_BYTES = 2**30


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
                # The precision along each coordinate, as a sum of squares: no rounding makes it negative.
                root = 1.0 / np.sqrt(np.square(np.linalg.inv(root)).sum(axis=0))
        return Units(start.target.unpack(middle), root)

    def begin(self, units: Units, seed: int, chain: int) -> dict[str, np.ndarray]:
        """Return coordinates where a Markov chain begins: apart from the others', and where there is a density."""
        target, root = self.start.target, np.asarray(units.root)
        middle = target.pack(units.middle)
        rng = generator_of(seed, Purpose.CHAIN_START, chain)
        for _ in range(20):
            v = rng.uniform(-1.0, 1.0, target.size)
            value, gradient = self._value(middle + (root * v if root.ndim == 1 else root @ v))
            if np.isfinite(value) and np.isfinite(gradient).all():
                return target.unpack(v)
        return target.unpack(np.zeros(target.size))

    def _value(self, position: np.ndarray) -> tuple[float, np.ndarray]:
        with jax.enable_x64(True):
            return self.start.target.value_and_gradient(position)


def explore(
    traced: TracedKernel, data: Data, seed: int, places: np.ndarray | None = None, *, only_mode: bool = True
) -> Exploration:
    """Find where a posterior has a density, its mode, and whether the curvature there describes it.

    Parameters
    ----------
    traced : TracedKernel
    data : Data
        Padded rows and their weights.
    seed : int
    places : array, optional
        Where each of the user's rows is found among those of the data, so that an error may name them.
    only_mode : bool, default=True
        Rely on the curvature only where no other mode is found. Guides with one mode need not know.

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
        mode, spread = find_mode(start, only_mode=only_mode), np.inf
        if not mode.reason:
            target = start.target
            v = generator_of(seed, Purpose.TEST_POSITION).standard_normal((TEST_DRAWS, target.size))
            with np.errstate(all="ignore"):
                values = [-target.value_and_gradient(mode.middle + mode.root @ each)[0] for each in v]
                spread = float(np.std(np.array(values) + np.square(v).sum(axis=1) / 2))
    return Exploration(start, mode, spread if np.isfinite(spread) else np.inf)


def explore_many(traced: TracedKernel, data: Data, n_rows: int, seed: int) -> Exploration:
    """Explore the posterior given many rows: by some of them first, and then by all, from there.

    Parameters
    ----------
    traced : TracedKernel
        Of a kernel whose rows stand alone.
    data : Data
        Rows and weights that are in memory, or can be sliced.
    n_rows : int
    seed : int

    Returns
    -------
    Exploration
        Its target is the posterior given all rows. Its units are those of the posterior given some of them, each
        counted as often as there are more.

    Raises
    ------
    ValueError
        If outcomes lie outside the support of their distribution.
    """
    blocks = RowBlocks(traced, data, n_rows, BLOCK_ROWS)
    try:
        found = explore(traced, some_rows(traced, data, n_rows, seed), seed)
    except ValueError:
        refuse_outside(traced, blocks, seed)  # by the numbers of the rows
        raise
    with jax.enable_x64(True):
        held = sum(array.nbytes for array in jax.tree.leaves((data.rows, data.weight))) <= HELD_BYTES
        parts = [over_devices(block) for block in blocks] if held else blocks
        target = Target(traced, parts, found.start.target.shapes)
        mode = found.mode if found.mode.reason else move_to_mode(target, found.mode)
        if not np.isfinite(target.value_and_gradient(mode.middle)[0]):
            refuse_outside(traced, parts, seed)
    return Exploration(found.start._replace(target=target), mode, found.spread)


def some_rows(traced: TracedKernel, data: Data, n_rows: int, seed: int, *, least: int = 1, scale: float = 1.0) -> Data:
    """Return some of the rows, whose weights make them stand for all: the same whether they are in memory or not."""
    number = min(n_rows, max(least, shuffle.WINDOW_ROWS // SHARE))
    with contextlib.closing(minibatches(data, n_rows, number, 1, seed, scale=scale)) as chunks:
        part, _ = next(chunks).minibatch(0)
    return padded(traced, part, number)
