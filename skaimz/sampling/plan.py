"""How rows and draws are cut up. Everything here follows from shapes, and is decided before anything is computed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from skaimz.kernels import KernelSpec

__all__ = ["Plan", "make_plan"]

# Numbers that one call of a program may hold in its widest intermediate value.
TILE_ELEMENTS = 2**24
MOST_TILE_ROWS = 1024
LEAST_TILE_ROWS = 8


@dataclass(frozen=True)
class Plan:
    """A schedule of tiles.

    Attributes
    ----------
    n_rows : int
    tile_rows : int
        Rows of a tile; the last one is padded to it. One program serves every number of rows.
    draws_at_once : int
        Draws that are computed side by side.
    whole : bool
        Whether the kernel must see all rows together: then one tile holds exactly those.
    """

    n_rows: int
    tile_rows: int
    draws_at_once: int
    whole: bool

    def tiles(self, rows: Mapping[Any, Any]) -> Iterator[tuple[int, int, dict[Any, np.ndarray]]]:
        """Yield number, length and padded rows of every tile."""
        for number, start in enumerate(range(0, self.n_rows, self.tile_rows)):
            stop = min(start + self.tile_rows, self.n_rows)
            yield number, stop - start, {name: self.cut(array, start) for name, array in rows.items()}

    def cut(self, array: Any, start: int, axis: int = 0) -> np.ndarray:
        """Return the rows of a tile, which lie on ``axis``, the first of them repeated beyond the last."""
        before = (slice(None),) * axis
        piece = np.asarray(array[(*before, slice(start, start + self.tile_rows))])
        missing = self.tile_rows - piece.shape[axis]
        if not missing:
            return piece
        return np.concatenate([piece, np.repeat(piece[(*before, slice(1))], missing, axis=axis)], axis=axis)


def make_plan(spec: KernelSpec, n_rows: int, n_draws: int) -> Plan:
    """Choose tile and draw counts so that a tile's work fits the budget.

    The tile depends on the kernel and the number of draws, never on the number of rows, so that a row's arithmetic is
    the same in whatever company it comes.
    """
    if spec.rows_mix is not None:
        per_draw = spec.width * n_rows
        return Plan(n_rows, n_rows, max(1, min(n_draws, TILE_ELEMENTS // per_draw)), whole=True)
    fitting = max(LEAST_TILE_ROWS, TILE_ELEMENTS // (spec.width * n_draws))
    tile_rows = min(MOST_TILE_ROWS, 2 ** (fitting.bit_length() - 1))
    return Plan(n_rows, tile_rows, max(1, min(n_draws, TILE_ELEMENTS // (spec.width * tile_rows))), whole=False)
