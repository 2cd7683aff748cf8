"""Rows that are read a part at a time: Zarr arrays, and re-iterables of mappings of arrays."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import zarr

__all__ = ["LazyRows", "open_rows"]


class LazyRows:
    """An array that is checked and cast as its parts are read.

    Parameters
    ----------
    name : str
        For messages.
    source : object with ``shape``, ``dtype`` and slicing
    dtype : numpy.dtype
        Of what is read.
    columns : array of int, optional
        Columns to read; all where None.
    """

    def __init__(self, name: str, source: Any, dtype: Any, columns: Any = None):
        self.name, self.source, self.columns = name, source, columns
        self.dtype = np.dtype(dtype)
        inner = () if columns is None else (np.arange(source.shape[1])[columns].shape)
        self.shape = tuple(source.shape) if columns is None else (source.shape[0], *inner)
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, where: Any) -> Any:
        """Read rows, or return the same rows with some of the columns."""
        if isinstance(where, tuple) and len(where) == 2:
            columns = where[1] if self.columns is None else np.asarray(self.columns)[where[1]]
            return LazyRows(self.name, self.source, self.dtype, columns)
        part = where[0] if isinstance(where, tuple) else where
        piece = np.asarray(self.source[part])
        if self.columns is not None:
            piece = piece[:, self.columns]
        if piece.dtype.kind not in "biuf":
            raise ValueError(f"{self.name} must be numeric, got an array of type {piece.dtype}.")
        piece = piece.astype(self.dtype, copy=False)
        if piece.dtype.kind == "f" and not np.isfinite(piece).all():
            start = (part.start or 0) + int(np.argwhere(~np.isfinite(piece))[0, 0])
            raise ValueError(f"{self.name} contains NaN or infinity, first in row {start}.")
        return piece

    def astype(self, dtype: Any) -> "LazyRows":
        """Return the same rows in another precision."""
        return LazyRows(self.name, self.source, dtype, self.columns)


class _Batches:
    """A re-iterable of mappings, read as arrays whose parts are asked for in order; a step back starts it again."""

    def __init__(self, batches: Iterable[Mapping[str, Any]]):
        self.batches = batches
        self.n_rows = 0
        self.first: dict[str, np.ndarray] = {}
        for batch in self._iterate():
            self.first = self.first or {name: array[:0] for name, array in batch.items()}
            if batch.keys() != self.first.keys():
                raise ValueError(f"Batches must have the same arrays, got {sorted(batch)} after {sorted(self.first)}.")
            self.n_rows += len(next(iter(batch.values())))
        if not self.n_rows:
            raise ValueError("Found array with 0 sample(s): the batches are empty, or can be iterated over only once.")
        self._restart()

    def _iterate(self) -> Iterator[dict[str, np.ndarray]]:
        for batch in self.batches:
            if not isinstance(batch, Mapping):
                raise TypeError(
                    f"X must be an array, or an iterable of mappings of names to arrays; one of its items is a "
                    f"{type(batch).__name__}."
                )
            arrays = {str(name): np.asarray(array) for name, array in batch.items()}
            lengths = {name: len(array) for name, array in arrays.items()}
            if len(set(lengths.values())) > 1:
                raise ValueError(f"The arrays of a batch differ in length: {lengths}.")
            if arrays:
                yield arrays

    def _restart(self) -> None:
        self._iterator = self._iterate()
        self._held: list[tuple[int, dict[str, np.ndarray]]] = []
        self._stop = 0

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        if self._held and start < self._held[0][0]:
            self._restart()
        while self._stop < stop:
            batch = next(self._iterator, None)
            if batch is None:
                raise ValueError(f"The batches of X gave {self._stop} rows, and {self.n_rows} when they were counted.")
            self._held.append((self._stop, batch))
            self._stop += len(batch[name])
        self._held = [(first, batch) for first, batch in self._held if first + len(batch[name]) > start]
        parts = [batch[name][max(0, start - first) : stop - first] for first, batch in self._held if first < stop]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


class _Column:
    """One array of the batches."""

    def __init__(self, batches: _Batches, name: str):
        self.batches, self.name = batches, name
        example = batches.first[name]
        self.shape, self.dtype = (batches.n_rows, *example.shape[1:]), example.dtype

    def __getitem__(self, part: slice) -> np.ndarray:
        start, stop, _ = part.indices(self.batches.n_rows)
        return self.batches.read(self.name, start, stop)


def open_rows(X: Any, param_input: str) -> tuple[Any, dict[str, Any]] | None:
    """Return rows that are read part by part, and further arguments that came with them; None for anything else."""
    if isinstance(X, zarr.Array):
        return _numeric("X", X), {}
    if hasattr(X, "__array__") or hasattr(X, "shape") or isinstance(X, list | tuple | str | Mapping):
        return None
    if not isinstance(X, Iterable) or hasattr(X, "__dataframe__"):
        return None
    batches = _Batches(X)
    if param_input not in batches.first:
        raise ValueError(f"The batches must hold the input {param_input!r}, got {sorted(batches.first)}.")
    columns = {name: _numeric(name, _Column(batches, name)) for name in batches.first}
    return columns.pop(param_input), columns


def _numeric(name: str, source: Any) -> LazyRows:
    dtype = np.dtype(source.dtype)
    if name == "X" and dtype != np.float32:
        dtype = np.dtype(np.float64)
    return LazyRows(name, source, dtype)
