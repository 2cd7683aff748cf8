"""How rows and draws are cut up. Everything here follows from shapes, and is decided before anything is computed."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from skaimz.kernels import KernelSpec

__all__ = ["PART_ROWS", "Batch", "Part", "Plan", "Step", "cut", "make_plan"]

# Numbers that one call of a program may hold in its widest intermediate value.
TILE_ELEMENTS = 2**24
MOST_TILE_ROWS = 1024
LEAST_TILE_ROWS = 8
# Products of large matrices are fastest draw by draw, with enough rows to fill the machine; few rows get few.
MATRIX_TILE_ROWS = (256, 2048)
# Every length of a tile divides this one.
PART_ROWS = 2048


class Part(NamedTuple):
    """Where rows lie among more of them, whose random numbers they get.

    Attributes
    ----------
    first : int
        Number of the first row, with which a tile begins, as it does at every multiple of ``PART_ROWS``.
    total : int
        Number of all rows.
    labels : pandas.Index, optional
        Labels of all rows, for the one who makes a store for them.
    """

    first: int
    total: int
    labels: Any = None


class Step(NamedTuple):
    """One call of a program: tiles by number, one for each shard of the rows, with their rows and draws."""

    tiles: np.ndarray
    rows: slice
    draws: slice


class Batch(NamedTuple):
    """What is handed on, or written, at a time: a range of rows for all draws, or of draws for all rows."""

    number: int
    rows: slice
    draws: slice


@dataclass(frozen=True)
class Plan:
    """A schedule.

    Rows are cut into tiles, each with random numbers of its own. Everything else (steps, batches, shards) only orders
    tiles, and so changes no draw. A kernel that must see all rows together has one tile, and is cut along its draws.

    Attributes
    ----------
    n_rows, n_chains, n_draws : int
        Draws are those of all chains.
    tile_rows : int
        Rows of a tile; the last one is padded to it. One program serves every number of rows.
    step_draws : int
        Draws of one call; fewer than all of them only where ``whole``.
    draws_at_once : int
        Draws that are computed side by side.
    whole : bool
        Whether one tile holds all rows.
    shards : int
        Tiles of one step.
    batch_rows : int
        Rows of a batch, a multiple of ``tile_rows``.
    first_tile : int
        Number of the first tile, where the rows are a part of more.
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

    def in_batches(self, batch_rows: int) -> "Plan":
        """Return the plan with batches of at least so many rows: whole tiles."""
        return replace(self, batch_rows=-(-batch_rows // self.tile_rows) * self.tile_rows)


def cut(array: Any, part: slice, length: int, axis: int = 0) -> np.ndarray:
    """Return a part of an array along an axis, lengthened with copies of its first entry."""
    before = (slice(None),) * axis
    piece = np.asarray(array[(*before, part)])
    missing = length - piece.shape[axis]
    if not missing:
        return piece
    return np.concatenate([piece, np.repeat(piece[(*before, slice(1))], missing, axis=axis)], axis=axis)


def make_plan(
    spec: KernelSpec,
    n_rows: int,
    n_draws: int,
    *,
    n_chains: int = 1,
    shards: int = 1,
    whole: bool = False,
    part: Part | None = None,
) -> Plan:
    """Choose tile and draw counts so that a step's work fits the budget.

    The tile depends on the kernel and the number of draws, not on the number of rows (but for networks, which have two
    sizes), so that a row's arithmetic is the same in whatever company it comes.

    Parameters
    ----------
    spec : KernelSpec
    n_rows, n_draws : int
    n_chains : int, default=1
        Chains that the draws consist of.
    shards : int, default=1
        Devices to spread rows over.
    whole : bool, default=False
        Whether one tile must hold all rows for a reason that ``spec`` does not tell.
    part : Part, optional
        Where the rows lie among more of them.
    """
    first, total, _ = part or Part(0, n_rows)
    if whole or spec.rows_mix is not None:
        step_draws = max(1, min(n_draws // n_chains, TILE_ELEMENTS // (spec.width * n_rows)))
        at_once = 1 if spec.multiplies_matrices else step_draws
        return Plan(n_rows, n_chains, n_draws, n_rows, step_draws, at_once, whole=True)
    if spec.multiplies_matrices:
        tile_rows, at_once = MATRIX_TILE_ROWS[total > MATRIX_TILE_ROWS[0]], 1
    else:
        fitting = max(LEAST_TILE_ROWS, TILE_ELEMENTS // (spec.width * n_draws))
        tile_rows = min(MOST_TILE_ROWS, 2 ** (fitting.bit_length() - 1))
        at_once = max(1, min(n_draws, TILE_ELEMENTS // (spec.width * tile_rows)))
    tile = first // tile_rows
    return Plan(n_rows, n_chains, n_draws, tile_rows, n_draws, at_once, whole=False, shards=shards, first_tile=tile)
