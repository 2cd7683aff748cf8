"""How rows and draws are cut into tiles, steps and batches, which follows from shapes and limits alone."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from skaimz.sampling.job import Job
from skaimz.sampling.limits import DEFAULT, Limits

__all__ = ["Batch", "Plan", "Step", "make_plan"]


class Step(NamedTuple):
    """One call of a program.

    Attributes
    ----------
    tiles : array of uint32
        Numbers of the tiles, one for each device that rows are spread over.
    rows, draws : slice
        What these tiles hold.
    """

    tiles: np.ndarray
    rows: slice
    draws: slice


class Batch(NamedTuple):
    """What is written or handed on together: some rows with all draws, or some draws with all rows."""

    number: int
    rows: slice
    draws: slice


@dataclass(frozen=True)
class Plan:
    """How a job is cut up.

    Rows are cut into tiles, and each tile has its own random numbers. Steps, batches and shards only decide the order
    in which tiles are computed, and so change no draw. A kernel that must see all rows together has one tile, and its
    draws are cut up instead.

    Attributes
    ----------
    n_rows, n_chains, n_draws : int
        ``n_draws`` counts the draws of all chains.
    tile_rows : int
        Rows of a tile. The last tile is padded to it, so that one program serves any number of rows.
    step_draws : int
        Draws of a step; fewer than all of them only where ``whole``.
    draws_at_once : int
        Draws that a program computes side by side.
    whole : bool
        Whether one tile holds all rows.
    shards : int
        Tiles of a step, one for each device.
    batch_rows : int
        Rows of a batch, a multiple of ``tile_rows``.
    first_tile : int
        Number of the first tile; above 0 for a part of a larger table.
    limits : Limits
    """

    n_rows: int
    n_chains: int
    n_draws: int
    tile_rows: int
    step_draws: int
    draws_at_once: int
    whole: bool
    shards: int = 1
    batch_rows: int = 0
    first_tile: int = 0
    limits: Limits = DEFAULT

    def batches(self) -> list[Batch]:
        """Return the batches in the order in which they are computed."""
        if self.whole:
            per_chain = self.n_draws // self.n_chains
            slices = [
                slice(start + chain, min(start + self.step_draws, per_chain) + chain)
                for chain in range(0, self.n_draws, per_chain)
                for start in range(0, per_chain, self.step_draws)
            ]
            return [Batch(number, slice(0, self.n_rows), draws) for number, draws in enumerate(slices)]
        size = self.batch_rows or -(-self.n_rows // self.tile_rows) * self.tile_rows
        starts = range(0, self.n_rows, size)
        return [
            Batch(number, slice(start, min(start + size, self.n_rows)), slice(0, self.n_draws))
            for number, start in enumerate(starts)
        ]

    def steps(self, batch: Batch) -> Iterator[Step]:
        """Yield the steps of a batch."""
        length = self.tile_rows * self.shards
        for start in range(batch.rows.start, batch.rows.stop, length):
            first = self.first_tile + start // self.tile_rows
            tiles = np.arange(first, first + self.shards, dtype=np.uint32)
            yield Step(tiles, slice(start, min(start + length, batch.rows.stop)), batch.draws)

    def with_all_draws(self) -> "Plan":
        """Return the plan with all draws in each step, of which as many as before are computed side by side."""
        return replace(self, step_draws=self.n_draws, draws_at_once=min(self.draws_at_once, self.step_draws))

    def in_batches(self, batch_rows: int) -> "Plan":
        """Return the plan with batches of whole tiles that have at least ``batch_rows`` rows."""
        return replace(self, batch_rows=-(-batch_rows // self.tile_rows) * self.tile_rows)


def make_plan(job: Job, *, shards: int = 1, whole: bool = False) -> Plan:
    """Choose the sizes of tiles and steps so that a step stays within the job's limits.

    The rows of a tile depend on the kernel and the number of draws, but not on the number of rows (except for kernels
    that multiply large matrices, which have two sizes). So a row is computed in the same way whichever rows come with
    it.

    Parameters
    ----------
    job : Job
    shards : int, default=1
        Devices to spread rows over.
    whole : bool, default=False
        Whether one tile must hold all rows even if the kernel's rows do not depend on one another.
    """
    spec, n_rows, limits = job.spec, job.n_rows, job.limits
    n_draws, n_chains = job.posterior.n_draws, job.posterior.n_chains
    if whole or spec.rows_mix is not None:
        every = n_rows + (job.past.n_rows if job.past else 0)
        step_draws = max(1, min(n_draws // n_chains, limits.tile_elements // (spec.width * every)))
        at_once = 1 if spec.multiplies_matrices else step_draws
        return Plan(n_rows, n_chains, n_draws, n_rows, step_draws, at_once, whole=True, limits=limits)
    if spec.multiplies_matrices:
        few, many = limits.matrix_tile_rows
        tile_rows, at_once = many if job.total_rows > few else few, 1
    else:
        fitting = max(limits.least_tile_rows, limits.tile_elements // (spec.width * n_draws))
        tile_rows = min(limits.most_tile_rows, 2 ** (fitting.bit_length() - 1))
        at_once = max(1, min(n_draws, limits.tile_elements // (spec.width * tile_rows)))
    tile = job.first_row // tile_rows
    cut_by_rows = Plan(n_rows, n_chains, n_draws, tile_rows, n_draws, at_once, whole=False, shards=shards)
    return replace(cut_by_rows, first_tile=tile, limits=limits)
