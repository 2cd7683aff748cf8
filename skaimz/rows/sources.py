"""What a fit may be given beside arrays in memory, and how it is read: loaded, or a part at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import zarr
from pandas.api.types import is_numeric_dtype

from skaimz.kernels import plain_array, unmasked
from skaimz.rows.collections import dask_door, is_collection
from skaimz.rows.lazy import Batches, Column, LazyRows, as_is
from skaimz.rows.spool import Pieces, Scratch, Spool

__all__ = ["Reader", "loaded", "open_table", "opened", "parts_of", "reads_in_parts", "to_array"]

# Rows of an array that are read as one at least: chunks may be short.
PIECE_ROWS = 2**13
# What is read of an array: from a part and the number of its first row.
Reader = Callable[[np.ndarray, int], np.ndarray]


def reads_in_parts(value: Any) -> bool:
    """Whether an array's rows need not be in memory."""
    # Dask's collections of anything have no dimensions; a delayed object has whatever it is asked for.
    n_axes = getattr(value, "ndim", None) if is_collection(value) or isinstance(value, np.memmap | zarr.Array) else None
    return isinstance(value, Column) or (isinstance(n_axes, int) and n_axes > 0)


def loaded(value: Any) -> Any:
    """Return what was given, in memory."""
    if is_collection(value):
        dask_door()
        return value.compute()
    return unmasked(value[...] if isinstance(value, zarr.Array) else value)


def opened(given: Mapping[str, tuple[Any, Reader]], scratch: Scratch) -> dict[str, LazyRows]:
    """Return rows that are read a part at a time; what is costly to read is kept on the disk.

    Parameters
    ----------
    given : dict of str to tuple
        Arrays by name, of which :func:`reads_in_parts` is true, and how each is read.
    scratch : Scratch
    """
    found: dict[str, LazyRows] = {}
    columns = {name: column for name, (column, _) in given.items() if isinstance(column, Column)}
    if columns:
        # One pass over the batches for all arrays that come with them.
        batches = next(iter(columns.values())).batches

        def converted(batch: Mapping[str, np.ndarray], start: int) -> dict[str, np.ndarray]:
            return {name: given[name][1](column.of(batch), start) for name, column in columns.items()}

        found.update(_kept(_BatchPieces(batches), converted, scratch))
    for name, (value, read) in given.items():
        if isinstance(value, np.memmap):
            found[name] = LazyRows(value, read)
        elif name not in columns:
            found.update(_kept(_pieces_of(name, value), _reader_of(name, read), scratch))
    return found


def open_table(
    table: Any, convert: Callable[[pd.DataFrame, int], Mapping[str, np.ndarray]], scratch: Scratch
) -> dict[str, LazyRows]:
    """Return the arrays that a Dask data frame's parts are converted to, which are computed together."""
    return _kept(_pieces_of("X", table), convert, scratch)


def parts_of(name: str, value: Any) -> Iterator[np.ndarray]:
    """Yield an array part by part, as it was given; messages call it by its name."""
    if not reads_in_parts(value):
        yield value
    elif isinstance(value, Column):
        yield from map(value.of, value.batches.iterate())
    elif isinstance(value, np.memmap):
        yield from (value[start : start + PIECE_ROWS] for start in range(0, len(value), PIECE_ROWS))
    else:
        pieces = _pieces_of(name, value)
        numbers = [number for number, length in enumerate(pieces.lengths) if length]
        yield from map(to_array, pieces.computed(numbers))


def to_array(part: Any) -> np.ndarray:
    """Return a part of a collection as an array; pandas' own types of numbers become NumPy's."""
    if isinstance(part, pd.DataFrame):
        if not all(map(is_numeric_dtype, part.dtypes)):
            return part.to_numpy(dtype=object)
        single = all(dtype == np.float32 for dtype in part.dtypes)
        return part.to_numpy(np.float32 if single else np.float64, na_value=np.nan)
    if isinstance(part, pd.Series) and is_numeric_dtype(part.dtype):
        part = part.astype(np.float64) if part.hasnans else part
        return part.to_numpy(getattr(part.dtype, "numpy_dtype", part.dtype))
    return plain_array(part)


def _kept(pieces: Pieces, convert: Callable[[Any, int], Mapping[str, np.ndarray]], scratch: Scratch) -> dict:
    return {name: as_is(rows) for name, rows in Spool(pieces, convert, scratch).rows.items()}


def _reader_of(name: str, read: Reader) -> Callable[[Any, int], dict[str, np.ndarray]]:
    return lambda piece, start: {name: read(to_array(piece), start)}


def _pieces_of(name: str, value: Any) -> Pieces:
    pieces: Pieces = _ZarrPieces(value) if isinstance(value, zarr.Array) else dask_door().Rows(value)
    if not any(pieces.lengths):
        raise ValueError(f"Found array with 0 sample(s) while a minimum of 1 is required: {name} has no rows.")
    return pieces


class _ZarrPieces:
    """A Zarr array, a chunk or shard or several short ones at a time."""

    in_order = False

    def __init__(self, array: zarr.Array):
        self._array = array
        rows = (array.shards or array.chunks)[0]
        rows *= -(-PIECE_ROWS // rows)
        self._starts = range(0, array.shape[0], rows)
        self.lengths = [min(rows, array.shape[0] - start) for start in self._starts]

    def computed(self, numbers: Sequence[int]) -> Iterator[np.ndarray]:
        for number in numbers:
            start = self._starts[number]
            yield np.asarray(self._array[start : start + self.lengths[number]])


class _BatchPieces:
    """Batches, of which each is taken once."""

    in_order = True

    def __init__(self, batches: Batches):
        self._batches, self.lengths = batches, batches.lengths
        self._iterator = batches.iterate()

    def computed(self, numbers: Sequence[int]) -> Iterator[dict[str, np.ndarray]]:
        for number in numbers:
            batch = next(self._iterator, None)
            if batch is None:
                raise ValueError(
                    f"The batches of X gave {sum(self.lengths[:number])} rows, and {sum(self.lengths)} when they were "
                    "counted."
                )
            yield batch
            if number == len(self.lengths) - 1:
                self._batches.check_end(self._iterator)
