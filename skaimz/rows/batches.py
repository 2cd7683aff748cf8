"""Iterables of mappings of names to arrays, as sources of rows."""

import functools
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from skaimz.rows.protocol import Records, RowSource

__all__ = ["open_batches"]

Batch = dict[str, np.ndarray]


class BatchRows(Records):
    """Batches of rows, which an object yields whenever it is iterated over. A piece is a batch that has rows.

    The batches are counted in one pass when they are first needed. Later passes must yield the same rows.

    Attributes
    ----------
    lengths : list of int
    layout : dict of str to tuple
        The type of an array is one that holds the numbers of all batches.
    """

    in_order = True
    slice_cost = "pieces"

    def __init__(self, batches: Iterable[Mapping[str, Any]]):
        self._batches = batches
        # Checksums of all rows before the end of a batch, by the number of these rows.
        self._checksums: dict[int, dict[str, int]] = {}
        self._row_shapes: dict[str, tuple[int, ...]] = {}
        self._restart()

    @functools.cached_property
    def _counted(self) -> tuple[list[int], dict[str, np.dtype]]:
        """Number of rows of each batch, and the type of each array."""
        if isinstance(self._batches, Iterator):
            raise ValueError(
                f"X is a {type(self._batches).__name__}, which can be iterated over only once: pass an object whose "
                "`__iter__` begins anew each time."
            )
        lengths: list[int] = []
        dtypes: dict[str, np.dtype] = {}
        for batch in self._iterate():
            dtypes = {name: _common(array.dtype, dtypes.get(name)) for name, array in batch.items()}
            lengths.append(_length(batch))
        if not lengths:
            raise ValueError("Found array with 0 sample(s): the batches are empty.")
        return lengths, dtypes

    @property
    def lengths(self) -> list[int]:
        """Number of rows in each piece."""
        return self._counted[0]

    @property
    def layout(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        """The shape of a row and the type of each array."""
        return {name: (self._row_shapes[name], dtype) for name, dtype in self._counted[1].items()}

    def load(self) -> Batch:
        """Return all arrays in memory."""
        batches = list(self._iterate())
        return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}

    def _restart(self) -> None:
        """Return to the first row."""
        self._iterator: Iterator[Batch] | None = None
        # Batches that the last slice had rows of, with the number of the first row of each.
        self._recent: list[tuple[int, Batch]] = []
        self._n_read = 0
        # The last slice: callers read it once for each of its arrays.
        self._slice: tuple[int, int, Batch] | None = None

    def __getitem__(self, rows: slice) -> Batch:
        start, stop, _ = rows.indices(self.shape[0])
        if start >= stop:
            return {name: np.empty((0, *shape), dtype) for name, (shape, dtype) in self.layout.items()}
        if self._slice is None or self._slice[:2] != (start, stop):
            self._slice = None
            self._slice = start, stop, self._read(start, stop)
        return self._slice[2]

    def _read(self, start: int, stop: int) -> Batch:
        """Return rows from the batches that hold them, which are read from the last one on."""
        n_rows = self.shape[0]
        if self._recent and start < self._recent[0][0]:
            self._restart()
        if self._iterator is None:
            self._iterator = self._iterate()
        while self._n_read < stop:
            batch = next(self._iterator, None)
            if batch is None:
                raise ValueError(f"The batches of X gave {self._n_read} rows, and {n_rows} when they were counted.")
            self._recent.append((self._n_read, batch))
            self._n_read += _length(batch)
            if self._n_read >= n_rows and next(self._iterator, None) is not None:
                raise ValueError(f"The batches of X gave more rows than the {n_rows} when they were counted.")
        self._recent = [(first, batch) for first, batch in self._recent if first + _length(batch) > start]
        overlaps = [(max(0, start - first), stop - first, batch) for first, batch in self._recent if first < stop]
        return {
            name: _joined([batch[name][begin:end] for begin, end, batch in overlaps]).astype(dtype, copy=False)
            for name, (_, dtype) in self.layout.items()
        }

    def _iterate(self) -> Iterator[Batch]:
        """Yield the batches that have rows, and refuse others than those of an earlier pass."""
        n_rows, checksums = 0, dict[str, int]()
        for batch in self._batches:
            arrays = _checked(batch)
            if not any(map(len, arrays.values())):
                continue
            shapes = {name: array.shape[1:] for name, array in arrays.items()}
            self._row_shapes = self._row_shapes or shapes
            if shapes != self._row_shapes:
                raise ValueError(
                    f"Batches must have the same arrays, of equal shapes but for the rows: got {shapes} after "
                    f"{self._row_shapes}."
                )
            start, n_rows = n_rows, n_rows + _length(arrays)
            checksums = {name: _checksum(array, checksums.get(name, 0)) for name, array in arrays.items()}
            if self._checksums.setdefault(n_rows, checksums) != checksums:
                raise ValueError(
                    f"The batches of X gave other rows {start} to {n_rows - 1} than when they were last iterated over, "
                    "so results could not be matched to rows. Give the same rows in the same order each time, without "
                    "shuffling; a fit puts minibatches in random order itself."
                )
            yield arrays


def open_batches(value: Any) -> RowSource | None:
    """Return the rows of an iterable of mappings, None for an array, a table or a single value."""
    if hasattr(value, "__array__") or hasattr(value, "shape") or isinstance(value, list | tuple | str | Mapping):
        return None
    return BatchRows(value) if isinstance(value, Iterable) and not hasattr(value, "__dataframe__") else None


def _checked(batch: Any) -> Batch:
    """Return the arrays of a batch, which must have equal lengths."""
    if not isinstance(batch, Mapping):
        raise TypeError(
            f"X must be an array, or an iterable of mappings of names to arrays; one of its items is a "
            f"{type(batch).__name__}."
        )
    arrays = {str(name): np.asarray(array) for name, array in batch.items()}
    scalars = [name for name, array in arrays.items() if array.ndim == 0]
    if scalars:
        raise ValueError(f"A batch must hold arrays of rows, but {scalars} are single values.")
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"The arrays of a batch differ in length: {lengths}.")
    return arrays


def _length(batch: Batch) -> int:
    return len(next(iter(batch.values())))


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _checksum(array: np.ndarray, before: int) -> int:
    """Return a checksum of an array and of the rows before it, whose checksum is ``before``."""
    if array.dtype.hasobject:
        return zlib.crc32(repr(array.tolist()).encode(), before)
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, before)


def _common(dtype: np.dtype, other: np.dtype | None) -> np.dtype:
    """Return a type for the numbers of both; equal types, in either byte order, stay as they are."""
    return dtype if other is None or dtype == other else np.result_type(dtype, other)
