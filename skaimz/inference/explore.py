"""A first look at a posterior, in double precision: its mode, its curvature, and units for the steps of a fit."""

import contextlib
from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np

from skaimz.inference import shuffle
from skaimz.inference.data import Data, RowBlocks, Units, padded
from skaimz.inference.devices import over_devices
from skaimz.inference.minibatches import Passes, minibatches
from skaimz.inference.mode import MOST_COORDINATES, Mode, find_mode, move_to_mode
from skaimz.inference.prior import Start, refuse_outside, start_of
from skaimz.inference.problem import Problem
from skaimz.inference.target import Target
from skaimz.runtime import Purpose, generator_of

__all__ = ["Exploration", "explore", "explore_many", "some_rows"]

# Draws at which the posterior is compared with the normal approximation. The log ratios of their densities are all the
# same if the approximation is exact. If they vary more than WIDEST_SPREAD, the approximation gives no coordinates.
TEST_DRAWS = 48
WIDEST_SPREAD = 4.0
# Variance along a direction across the coordinates of chains, in units of that along a coordinate, at which they need
# other coordinates.
STRETCHED = 16.0
# Many rows are explored in two rounds: WINDOW_ROWS / SHARE of them, then all, in blocks. Blocks stay in memory up to
# HELD_BYTES.
SHARE = 8
BLOCK_ROWS = 2**17
HELD_BYTES = 2**30


class Exploration(NamedTuple):
    """Result of a first look.

    Attributes
    ----------
    start : Start
    mode : Mode
        Its ``reason`` says why there is no normal approximation; empty if there is one.
    spread : float
        Standard deviation of the log ratios of the posterior to that approximation, for draws from the latter.
    """

    start: Start
    mode: Mode
    spread: float

    @property
    def knows_curvature(self) -> bool:
        """Whether the curvature at the mode describes the posterior."""
        return not self.mode.reason and self.spread < WIDEST_SPREAD

    def units(self, *, dense: bool) -> Units:
        """Return units of the curvature if it describes the posterior, and of the prior's spread otherwise.

        Parameters
        ----------
        dense : bool
            Rotate the coordinates so that they are uncorrelated; without it, only their lengths are chosen.
        """
        start, mode = self.start, self.mode
        middle, root = start.middle, start.scale
        if self.knows_curvature:
            middle, root = mode.middle, mode.root
            if not dense:
                # The precision along each coordinate, as a sum of squares: no rounding makes it negative.
                root = 1.0 / np.sqrt(np.square(np.linalg.inv(root)).sum(axis=0))
        return Units(start.target.unpack(middle), root)

    def stretched(self, units: Units, draws: Mapping[str, np.ndarray]) -> Units | None:
        """Return units in which the draws of chains are uncorrelated, if they stretch in one direction; else None.

        Chains adapt to the lengths of coordinates by themselves, but are slow along a direction across them.

        Parameters
        ----------
        units : Units
            Those of the chains.
        draws : dict of str to array of shape (n_chains, n_draws, ...)
        """
        target, root = self.start.target, np.asarray(units.root)
        away = target.unconstrain({name: draw.reshape(-1, *draw.shape[2:]) for name, draw in draws.items()})
        away -= target.pack(units.middle)
        v = away / root if root.ndim == 1 else np.linalg.solve(root, away.T).T
        (number, size), middle, sd = v.shape, v.mean(axis=0), v.std(axis=0)
        if size > MOST_COORDINATES or not (np.isfinite(sd).all() and sd.all()):
            return None
        correlations = np.corrcoef(v, rowvar=False).reshape(size, size)
        if np.linalg.eigvalsh(correlations)[-1] < STRETCHED:
            return None
        # Few draws say little of many correlations.
        share = number / (number + size)
        own = sd[:, None] * np.linalg.cholesky(share * correlations + (1 - share) * np.eye(size))
        root = np.diag(root) if root.ndim == 1 else root
        return Units(target.unpack(target.pack(units.middle) + root @ middle), root @ own)

    def begin(self, units: Units, seed: int, chain: int) -> dict[str, np.ndarray]:
        """Return coordinates with a finite density for the start of a Markov chain, given its number."""
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


def explore(problem: Problem, *, only_mode: bool = True) -> Exploration:
    """Find where a posterior has a density, its mode, and whether the curvature there describes it.

    Parameters
    ----------
    problem : Problem
        Padded rows and their weights.
    only_mode : bool, default=True
        Rely on the curvature only if no other mode is found. Guides with one mode need no such search.

    Returns
    -------
    Exploration

    Raises
    ------
    ValueError
        If outcomes lie outside the support of their distribution, or the posterior has no density anywhere.
    """
    with jax.enable_x64(True):
        start = start_of(problem)
        mode, spread = find_mode(start, only_mode=only_mode), np.inf
        if not mode.reason:
            target = start.target
            v = generator_of(problem.seed, Purpose.TEST_POSITION).standard_normal((TEST_DRAWS, target.size))
            with np.errstate(all="ignore"):
                values = [-target.value_and_gradient(mode.middle + mode.root @ each)[0] for each in v]
                spread = float(np.std(np.array(values) + np.square(v).sum(axis=1) / 2))
    return Exploration(start, mode, spread if np.isfinite(spread) else np.inf)


def explore_many(problem: Problem) -> Exploration:
    """Explore the posterior given many rows: first by some of them, and from its mode by all.

    Parameters
    ----------
    problem : Problem
        Independent rows that are in memory, or can be sliced.

    Returns
    -------
    Exploration
        Its target is the posterior given all rows. Its start comes from some of them, weighted to stand for all.

    Raises
    ------
    ValueError
        If outcomes lie outside the support of their distribution.
    """
    traced, data, seed = problem.traced, problem.data, problem.seed
    blocks = RowBlocks(traced, data, problem.n_rows, BLOCK_ROWS)
    try:
        exploration = explore(problem.of(some_rows(problem)))
    except ValueError:
        refuse_outside(traced, blocks, seed)  # by the numbers of the rows
        raise
    with jax.enable_x64(True):
        small = sum(array.nbytes for array in jax.tree.leaves((data.rows, data.weight))) <= HELD_BYTES
        all_blocks = [over_devices(block) for block in blocks] if small else blocks
        target = Target(traced, all_blocks, exploration.start.target.shapes)
        mode = exploration.mode if exploration.mode.reason else move_to_mode(target, exploration.mode)
        if not np.isfinite(target.value_and_gradient(mode.middle)[0]):
            refuse_outside(traced, all_blocks, seed)
    return exploration._replace(start=exploration.start._replace(target=target), mode=mode)


def some_rows(problem: Problem, *, least: int = 1, scale: float = 1.0) -> Data:
    """Return some of the rows, weighted to stand for all. They are the same rows whether all are in memory or not."""
    n_rows = problem.n_rows
    number = min(n_rows, max(least, shuffle.WINDOW_ROWS // SHARE))
    with contextlib.closing(minibatches(problem.data, Passes(n_rows, number, 1, problem.seed), scale=scale)) as stacks:
        some, _ = next(stacks).minibatch(0)
    return padded(problem.traced, some, number)
