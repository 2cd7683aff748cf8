"""Rows of Dask collections: an estimator's methods block by block, wherever Dask runs them.

Blocks end where tiles of the sampling core end, whose random numbers follow from their place among all rows. So what is
found is that of one call on one machine, however the rows are chunked and whichever worker takes a block.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import dask
import dask.array as da
import numpy as np
import pandas as pd

from skaimz.sampling import PART_ROWS, Part

__all__ = ["in_blocks"]


def in_blocks(
    estimator: Any, method: str, X: Any, arrays: Mapping[str, Any], options: Mapping[str, Any]
) -> Any:
    """Call a method of an estimator on blocks of rows, lazily.

    Parameters
    ----------
    estimator : NumPyroImpactRegressor or NumPyroImpactClassifier
        Sent once to each worker that takes a block.
    method : str
        Returns an array with the rows first, or several.
    X : dask array, DataFrame or Series
        Its first row is computed at once, for the types and shapes of what is returned.
    arrays : dict
        The kernel's further arguments. Collections, and arrays that are as long as X, are cut into the same blocks.
    options : dict
        Arguments that are the same for all rows.

    Returns
    -------
    dask array, or a tuple or list of them
        With the chunks of X.
    """
    rows = _Rows(X)
    known = getattr(estimator, "arguments_", {})
    by_row, constant = {}, dict(options)
    for name, value in arrays.items():
        if dask.is_dask_collection(value):
            by_row[name] = _Rows(value)
            if by_row[name].n_rows != rows.n_rows:
                raise ValueError(f"Argument {name!r} has {by_row[name].n_rows} rows, but X has {rows.n_rows}.")
        elif np.ndim(value) and len(value) == rows.n_rows and name not in known.get("whole", ()):
            by_row[name] = _Rows(da.from_array(np.asarray(value), chunks=-1))
        else:
            constant[name] = value

    def of(start: int, stop: int) -> tuple[Any, dict[str, Any]]:
        return rows.between(start, stop), {name: array.between(start, stop) for name, array in by_row.items()}

    first = _call(estimator, method, *dask.compute(*of(0, 1)), constant, Part(0, rows.n_rows))
    several = isinstance(first, tuple | list)
    sent = dask.delayed(estimator, pure=False, traverse=False)
    call = dask.delayed(_call, pure=False, nout=len(first) if several else None)
    bounds = rows.bounds()
    blocks = [
        (stop - start, call(sent, method, *of(start, stop), constant, Part(start, rows.n_rows)))
        for start, stop in zip(bounds[:-1], bounds[1:], strict=True)
    ]
    if not several:
        return _array(blocks, first, rows.lengths)
    found = [_array([(length, block[i]) for length, block in blocks], part, rows.lengths) for i, part in enumerate(first)]
    return type(first)(found)


def _call(
    estimator: Any, method: str, X: Any, arrays: Mapping[str, Any], constant: Mapping[str, Any], part: Part
) -> Any:
    """Call a method on a block, which gets the random numbers of its place."""
    here = copy.copy(estimator)
    here._part = part
    return getattr(here, method)(X, **arrays, **constant)


def _array(blocks: Sequence[tuple[int, Any]], example: np.ndarray, lengths: Sequence[int]) -> da.Array:
    parts = [da.from_delayed(block, (length, *example.shape[1:]), example.dtype) for length, block in blocks]
    return da.concatenate(parts).rechunk({0: tuple(length for length in lengths if length)})


class _Rows:
    """A collection as delayed pieces of rows, which are cut and joined to blocks.

    Attributes
    ----------
    lengths : list of int
        Rows of each piece.
    """

    def __init__(self, collection: Any):
        if isinstance(collection, da.Array):
            # A piece holds whole rows.
            collection = collection.rechunk(dict.fromkeys(range(1, collection.ndim), -1))
            if np.isnan(collection.shape[0]):
                collection = collection.compute_chunk_sizes()
            self._pieces = collection.to_delayed().ravel().tolist()
            self.lengths = [int(length) for length in collection.chunks[0]]
        else:
            self._pieces = collection.to_delayed()
            self.lengths = list(dask.compute(*(dask.delayed(len)(piece) for piece in self._pieces)))
        self._ends = np.cumsum(self.lengths)
        if not self.n_rows:
            raise ValueError("Found array with 0 sample(s) while a minimum of 1 is required: X has no rows.")

    @property
    def n_rows(self) -> int:
        """Number of all rows."""
        return int(self._ends[-1])

    def bounds(self) -> list[int]:
        """Return where blocks begin and end: where pieces do, to the nearest end of a tile."""
        inner = np.round(self._ends / PART_ROWS).astype(int) * PART_ROWS
        return sorted({0, *inner[inner < self.n_rows].tolist(), self.n_rows})

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
        return parts[0] if len(parts) == 1 else _joined(parts)


@dask.delayed(pure=True)
def _cut(piece: Any, part: slice) -> Any:
    return piece.iloc[part] if hasattr(piece, "iloc") else piece[part]


@dask.delayed(pure=True)
def _joined(parts: Sequence[Any]) -> Any:
    return pd.concat(parts) if hasattr(parts[0], "iloc") else np.concatenate(parts)
