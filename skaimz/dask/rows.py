"""Rows of Dask collections, in pieces that are computed when they are needed."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
from dask.sizeof import sizeof

from skaimz.rows import RowSource, to_array
from skaimz.sampling import PART_ROWS

__all__ = ["Rows", "has_rows", "open_rows", "table_of"]

# Rows of an array in memory that make up a piece.
CUT_ROWS = 64 * PART_ROWS
# Most bytes of pieces that are computed together.
TOGETHER_BYTES = 2**28


class Rows(RowSource):
    """Rows of a collection, or of an array in memory, as delayed pieces that are cut and joined to blocks.

    Parameters
    ----------
    collection : dask array, DataFrame or Series, or array-like
    axis : int, default=0
        The axis of an array along which its rows lie.
    """

    slice_cost = "computation"

    def __init__(self, collection: Any, axis: int = 0):
        self._axis = axis
        if axis:
            collection = np.moveaxis(collection, axis, 0)
        if dask.is_dask_collection(collection) and not has_rows(collection):
            name = type(collection).__name__
            raise TypeError(f"Rows must be a Dask array or data frame, got a {name}: compute it.")
        if isinstance(collection, list | tuple):
            collection = np.asarray(collection)
        elif isinstance(collection, pd.api.extensions.ExtensionArray):
            # Series are joined with their categories.
            collection = pd.Series(collection)
        self._collection = collection
        self._n_computed_together = 1

    @functools.cached_property
    def _delayed(self) -> tuple[list[Any], list[int]]:
        """The pieces, and the number of rows in each."""
        rows = self._collection
        if isinstance(rows, da.Array):
            if rows.dtype.kind == "f" and not rows.dtype.isnative:
                # Joined pieces would lose this byte order, by which a fit knows that they are no float32.
                rows = rows.astype(np.float64)
            # A piece holds whole rows.
            rows = rows.rechunk(dict.fromkeys(range(1, rows.ndim), -1))
            if np.isnan(rows.shape[0]):
                rows = rows.compute_chunk_sizes()
            return rows.to_delayed().ravel().tolist(), [int(length) for length in rows.chunks[0]]
        if dask.is_dask_collection(rows):
            pieces = rows.to_delayed()
            return pieces, list(dask.compute(*(dask.delayed(len)(piece) for piece in pieces)))
        pieces = [_sliced(rows, slice(start, start + CUT_ROWS)) for start in range(0, len(rows), CUT_ROWS)]
        return list(map(dask.delayed, pieces)), list(map(len, pieces))

    @property
    def lengths(self) -> list[int]:
        """Number of rows in each piece."""
        return self._delayed[1]

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows, and the shape of one row."""
        return self.n_rows, *self._collection.shape[1:]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self._collection.ndim

    @property
    def dtype(self) -> np.dtype:
        """Type of the rows as an array."""
        return to_array(self._collection._meta).dtype

    @property
    def table(self) -> pd.DataFrame | None:
        """Names and types of the columns, without rows, where pieces are data frames."""
        return table_of(self._collection)

    @functools.cached_property
    def _stops(self) -> np.ndarray:
        """For each piece the number of rows up to its end."""
        return np.cumsum(self.lengths)

    @property
    def n_rows(self) -> int:
        """Number of all rows."""
        return sum(self.lengths)

    def bounds(self) -> list[int]:
        """Return where blocks begin and end: where pieces do, to the nearest end of a tile."""
        inner = np.round(self._stops / PART_ROWS).astype(int) * PART_ROWS
        return sorted({0, *inner[inner < self.n_rows].tolist(), self.n_rows})

    def pieces(self, numbers: Sequence[int]) -> Iterator[Any]:
        """Yield the pieces with these numbers, of which several are computed together while they fit into memory."""
        delayed, remaining = self._delayed[0], list(numbers)
        while remaining:
            now, remaining = remaining[: self._n_computed_together], remaining[self._n_computed_together :]
            pieces = dask.compute(*(delayed[number] for number in now))
            self._n_computed_together = max(1, TOGETHER_BYTES // max(1, *map(sizeof, pieces)))
            yield from pieces

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, _ = rows.indices(self.n_rows)
        return to_array(self.between(start, stop).compute())

    def load(self) -> Any:
        """Return all rows in memory: an array, or a data frame or series of pandas."""
        return self._collection.compute()

    def between(self, start: int, stop: int) -> Any:
        """Return rows as a delayed object."""
        slices = []
        pieces, lengths = self._delayed
        first = int(np.searchsorted(self._stops, start, side="right"))
        for piece, length, end in zip(pieces[first:], lengths[first:], self._stops[first:], strict=True):
            begin = end - length
            if begin >= stop:
                break
            if length:
                inside = slice(int(max(start - begin, 0)), int(min(stop, end) - begin))
                slices.append(piece if inside == slice(0, length) else _slice_of(piece, inside))
        rows = slices[0] if len(slices) == 1 else _joined(slices)
        return _with_rows_along(rows, 0, self._axis) if self._axis else rows


def open_rows(value: Any) -> Rows | None:
    """Return the rows of a Dask array or data frame, None for a bag, a delayed object or a single number."""
    return Rows(value) if has_rows(value) else None


def table_of(collection: Any) -> pd.DataFrame | None:
    """Return the columns of a data frame without rows, None for anything else.

    A categorical column whose categories Dask does not know becomes one of objects.
    """
    if not isinstance(collection, dd.DataFrame):
        return None
    table = collection._meta
    categorical = [name for name, dtype in table.dtypes.items() if isinstance(dtype, pd.CategoricalDtype)]
    unknown = [name for name in categorical if not collection[name].cat.known]
    return table.astype(dict.fromkeys(unknown, object))


def has_rows(collection: Any) -> bool:
    """Return whether a collection is an array or a data frame, and not one number, a bag or any delayed object."""
    return hasattr(type(collection), "ndim") and collection.ndim > 0


def _sliced(rows: Any, where: slice) -> Any:
    return rows.iloc[where] if hasattr(rows, "iloc") else rows[where]


_slice_of = dask.delayed(_sliced, pure=True)
_with_rows_along = dask.delayed(np.moveaxis, pure=True)


@dask.delayed(pure=True)
def _joined(slices: Sequence[Any]) -> Any:
    return pd.concat(slices) if hasattr(slices[0], "iloc") else np.concatenate(slices)
