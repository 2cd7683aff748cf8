"""Rows of a collection as pieces that are not computed yet."""

from collections.abc import Iterator, Sequence
from typing import Any

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
from dask.sizeof import sizeof

from skaimz.sampling import PART_ROWS

__all__ = ["Rows", "has_rows", "table_of"]

# Rows of an array in memory that are sent as one.
CUT_ROWS = 64 * PART_ROWS
# Bytes of pieces that are computed together, where each is smaller.
TOGETHER_BYTES = 2**28


class Rows:
    """A collection, or an array in memory, as delayed pieces of rows, which are cut and joined to blocks.

    Parameters
    ----------
    collection : dask array, DataFrame or Series, or array-like
    axis : int, default=0
        Where an array has its rows.

    Attributes
    ----------
    lengths : list of int
        Rows of each piece.
    """

    in_order = False

    def __init__(self, collection: Any, axis: int = 0):
        self._axis = axis
        if axis:
            collection = np.moveaxis(collection, axis, 0)
        if isinstance(collection, da.Array):
            if collection.dtype.kind == "f" and not collection.dtype.isnative:
                # Where pieces are joined, this order of bytes is lost, by which they are known as no float32.
                collection = collection.astype(np.float64)
            # A piece holds whole rows.
            collection = collection.rechunk(dict.fromkeys(range(1, collection.ndim), -1))
            if np.isnan(collection.shape[0]):
                collection = collection.compute_chunk_sizes()
            self._pieces = collection.to_delayed().ravel().tolist()
            self.lengths = [int(length) for length in collection.chunks[0]]
        elif dask.is_dask_collection(collection):
            if not has_rows(collection):
                name = type(collection).__name__
                raise TypeError(f"Rows must be a Dask array or data frame, got a {name}: compute it.")
            self._pieces = collection.to_delayed()
            self.lengths = list(dask.compute(*(dask.delayed(len)(piece) for piece in self._pieces)))
        else:
            if isinstance(collection, list | tuple):
                collection = np.asarray(collection)
            elif isinstance(collection, pd.api.extensions.ExtensionArray):
                # Series are joined with their categories.
                collection = pd.Series(collection)
            parts = [_part_of(collection, slice(i, i + CUT_ROWS)) for i in range(0, len(collection), CUT_ROWS)]
            self._pieces, self.lengths = [dask.delayed(part) for part in parts], list(map(len, parts))
        self._ends = np.cumsum(self.lengths)
        self._together = 1

    @property
    def n_rows(self) -> int:
        """Number of all rows."""
        return sum(self.lengths)

    def bounds(self) -> list[int]:
        """Return where blocks begin and end: where pieces do, to the nearest end of a tile."""
        inner = np.round(self._ends / PART_ROWS).astype(int) * PART_ROWS
        return sorted({0, *inner[inner < self.n_rows].tolist(), self.n_rows})

    def computed(self, numbers: Sequence[int]) -> Iterator[Any]:
        """Yield pieces, of which several are computed together while they fit into memory."""
        waiting = list(numbers)
        while waiting:
            now, waiting = waiting[: self._together], waiting[self._together :]
            found = dask.compute(*(self._pieces[number] for number in now))
            self._together = max(1, TOGETHER_BYTES // max(1, *map(sizeof, found)))
            yield from found

    def between(self, start: int, stop: int) -> Any:
        """Return rows, delayed."""
        parts = []
        first = int(np.searchsorted(self._ends, start, side="right"))
        for piece, length, end in zip(self._pieces[first:], self.lengths[first:], self._ends[first:], strict=True):
            begin = end - length
            if begin >= stop:
                break
            if length:
                part = slice(int(max(start - begin, 0)), int(min(stop, end) - begin))
                parts.append(piece if part == slice(0, length) else _cut(piece, part))
        found = parts[0] if len(parts) == 1 else _joined(parts)
        return _turned(found, 0, self._axis) if self._axis else found


def table_of(collection: Any) -> pd.DataFrame | None:
    """Return a data frame's columns without rows, None for anything else; categories not known before are left out."""
    if not isinstance(collection, dd.DataFrame):
        return None
    table = collection._meta
    categorical = [name for name, dtype in table.dtypes.items() if isinstance(dtype, pd.CategoricalDtype)]
    unknown = [name for name in categorical if not collection[name].cat.known]
    return table.astype(dict.fromkeys(unknown, object))


def has_rows(collection: Any) -> bool:
    """Return whether a collection is an array or a data frame, and not one number, a bag or any delayed object."""
    return hasattr(type(collection), "ndim") and collection.ndim > 0


def _part_of(rows: Any, part: slice) -> Any:
    return rows.iloc[part] if hasattr(rows, "iloc") else rows[part]


_cut = dask.delayed(_part_of, pure=True)
_turned = dask.delayed(np.moveaxis, pure=True)


@dask.delayed(pure=True)
def _joined(parts: Sequence[Any]) -> Any:
    return pd.concat(parts) if hasattr(parts[0], "iloc") else np.concatenate(parts)
