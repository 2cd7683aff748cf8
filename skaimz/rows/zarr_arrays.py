"""Zarr arrays as sources of rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import zarr

from skaimz.rows.arrays import piece_lengths
from skaimz.rows.protocol import RowSource

__all__ = ["open_zarr"]


class ZarrRows(RowSource):
    """A Zarr array. A piece is a chunk or shard, or several of them where they are short."""

    slice_cost = "pieces"

    def __init__(self, array: zarr.Array):
        self._array = array

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows, and the shape of one row."""
        return self._array.shape

    @property
    def dtype(self) -> np.dtype:
        """Type of the array."""
        return self._array.dtype

    @property
    def lengths(self) -> Sequence[int]:
        """Number of rows in each piece."""
        return piece_lengths(self.shape[0], (self._array.shards or self._array.chunks)[0])

    def __getitem__(self, rows: slice) -> np.ndarray:
        return np.asarray(self._array[rows])


def open_zarr(value: Any) -> RowSource | None:
    """Return the rows of a Zarr array, None for anything else, such as a Zarr array of a single value."""
    return ZarrRows(value) if isinstance(value, zarr.Array) and value.ndim else None
