"""Rows that are read a part at a time: Zarr arrays, and re-iterables of mappings of arrays."""

import functools
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import scipy.sparse
import zarr

from skaimz.kernels import as_floats, as_numbers, finite, narrowed

__all__ = [
    "Batches",
    "Column",
    "LazyRows",
    "as_is",
    "as_table",
    "check_numbers",
    "columns_of",
    "is_iterable_of_batches",
    "numeric",
    "open_rows",
]


class LazyRows:
    """An array that is converted as its parts are read.

    Parameters
    ----------
    source : object with ``shape``, ``dtype`` and slicing by rows
    convert : callable
        From a part of ``source`` and the number of its first row to what is read.
    """

    def __init__(self, source: Any, convert: Callable[[np.ndarray, int], np.ndarray]):
        self.source, self.convert = source, convert

    @functools.cached_property
    def _example(self) -> np.ndarray:
        return self[:1]

    @property
    def dtype(self) -> np.dtype:
        """Type of what is read."""
        return self._example.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self._example.ndim

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows, and the shape of one."""
        return len(self), *self._example.shape[1:]

    def __len__(self) -> int:
        return int(self.source.shape[0])

    def __getitem__(self, where: Any) -> Any:
        """Read rows, or return the same rows with some of the columns."""
        if isinstance(where, tuple) and len(where) == 2:
            return self.then(lambda part: part[:, where[1]])
        part = where[0] if isinstance(where, tuple) else where
        return self.convert(np.asarray(self.source[part]), part.start or 0)

    def then(self, change: Callable[[np.ndarray], np.ndarray]) -> "LazyRows":
        """Return the same rows, changed as they are read."""
        return LazyRows(self.source, lambda part, start: change(self.convert(part, start)))

    def fetch(self, parts: Iterable[slice]) -> None:
        """Have several parts at hand, where the source computes them together."""
        if hasattr(self.source, "fetch"):
            self.source.fetch(parts)

    def floats(self, what: str, dtype: Any) -> "LazyRows":
        """Return the same rows as floats of a type; messages call them ``what``."""
        return LazyRows(self.source, lambda part, start: as_floats(what, self.convert(part, start), dtype, start))


def as_is(source: Any) -> LazyRows:
    """Return rows that are read without a check."""
    return LazyRows(source, lambda part, start: part)


def numeric(name: str, source: Any, dtype: Any = None) -> LazyRows:
    """Return rows that must be finite numbers, and fit beside floats of a type."""
    return LazyRows(source, lambda part, start: check_numbers(name, part, start, dtype))


def check_numbers(name: str, part: Any, start: int, dtype: Any = None) -> np.ndarray:
    """Return rows, the first of which has the number ``start``, if they are finite numbers; floats in ``dtype``."""
    part = finite(name, as_numbers(name, part), start)
    return part if dtype is None else narrowed(name, part, dtype, start)


class Batches:
    """A re-iterable of mappings, read as arrays whose parts are asked for in order; a step back starts it again.

    Attributes
    ----------
    lengths : list of int
        Rows of each batch that has any.
    shapes, dtypes : dict
        Of each array: the shape of a row, and a type for all batches.
    """

    def __init__(self, batches: Iterable[Mapping[str, Any]]):
        if isinstance(batches, Iterator):
            raise ValueError(
                f"X is a {type(batches).__name__}, which can be iterated over only once: pass an object whose "
                "`__iter__` begins anew each time."
            )
        self.batches = batches
        self.lengths: list[int] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.dtypes: dict[str, np.dtype] = {}
        # Checksums of all rows before a batch's end, by the number of these rows.
        self._checksums: dict[int, dict[str, int]] = {}
        for batch in self.iterate():
            self.dtypes = {name: _common(array.dtype, self.dtypes.get(name)) for name, array in batch.items()}
            self.lengths.append(len(next(iter(batch.values()))))
        self.n_rows = sum(self.lengths)
        if not self.n_rows:
            raise ValueError("Found array with 0 sample(s): the batches are empty.")
        self._restart()

    def iterate(self) -> Iterator[dict[str, np.ndarray]]:
        """Yield the batches that have rows, which must be the same ones in each pass."""
        n_rows, checksums = 0, dict[str, int]()
        for batch in self.batches:
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
            if not any(lengths.values()):
                continue
            shapes = {name: array.shape[1:] for name, array in arrays.items()}
            self.shapes = self.shapes or shapes
            if shapes != self.shapes:
                raise ValueError(
                    f"Batches must have the same arrays, of equal shapes but for the rows: got {shapes} after "
                    f"{self.shapes}."
                )
            start, n_rows = n_rows, n_rows + len(next(iter(arrays.values())))
            checksums = {name: _checksum(array, checksums.get(name, 0)) for name, array in arrays.items()}
            if self._checksums.setdefault(n_rows, checksums) != checksums:
                raise ValueError(
                    f"The batches of X gave other rows {start} to {n_rows - 1} than when they were last iterated over: "
                    "what is found for a row could not be told from that of another. Give the same rows in the same "
                    "order each time, without shuffling; a fit puts minibatches in random order itself."
                )
            yield arrays

    def check_end(self, iterator: Iterator[Any]) -> None:
        """Refuse more rows than there were when they were counted."""
        if next(iterator, None) is not None:
            raise ValueError(f"The batches of X gave more rows than the {self.n_rows} when they were counted.")

    def load(self) -> dict[str, np.ndarray]:
        """Return the arrays whole."""
        batches = list(self.iterate())
        return {name: np.concatenate([batch[name] for batch in batches]) for name in self.shapes}

    def _restart(self) -> None:
        self._iterator = self.iterate()
        self._held: list[tuple[int, dict[str, np.ndarray]]] = []
        self._stop = 0

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        """Return rows of one of the arrays."""
        if self._held and start < self._held[0][0]:
            self._restart()
        while self._stop < stop:
            batch = next(self._iterator, None)
            if batch is None:
                raise ValueError(f"The batches of X gave {self._stop} rows, and {self.n_rows} when they were counted.")
            self._held.append((self._stop, batch))
            self._stop += len(batch[name])
            if self._stop >= self.n_rows:
                self.check_end(self._iterator)
        self._held = [(first, batch) for first, batch in self._held if first + len(batch[name]) > start]
        parts = [batch[name][max(0, start - first) : stop - first] for first, batch in self._held if first < stop]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


class Column:
    """One array of the batches."""

    def __init__(self, batches: Batches, name: str):
        self.batches, self.name = batches, name
        self.shape, self.dtype = (batches.n_rows, *batches.shapes[name]), batches.dtypes[name]

    def __getitem__(self, part: slice) -> np.ndarray:
        start, stop, _ = part.indices(self.batches.n_rows)
        return self.batches.read(self.name, start, stop).astype(self.dtype, copy=False)

    def of(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the array in one batch."""
        return batch[self.name].astype(self.dtype, copy=False)


def as_table(X: Any) -> Any:
    """Return rows as an array or a data frame with columns, which a table of Arrow's becomes.

    Raises
    ------
    TypeError
        If they are sparse.
    """
    if scipy.sparse.issparse(X):
        raise TypeError(
            "Sparse data was passed for X, but dense data is required: convert it by `X.toarray()`, or have the steps "
            "before return dense rows, by `OneHotEncoder(sparse_output=False)` or `ColumnTransformer(..., "
            "sparse_threshold=0)`."
        )
    return X.to_pandas() if type(X).__module__.partition(".")[0] == "pyarrow" else X


def is_iterable_of_batches(X: Any) -> bool:
    """Whether X is to be iterated over, rather than an array or a table."""
    if hasattr(X, "__array__") or hasattr(X, "shape") or isinstance(X, list | tuple | str | Mapping):
        return False
    return isinstance(X, Iterable) and not hasattr(X, "__dataframe__")


def columns_of(batches: Iterable[Mapping[str, Any]], param_input: str) -> dict[str, Column]:
    """Return the arrays of batches one by one, which must have the input among them."""
    read = Batches(batches)
    if param_input not in read.shapes:
        raise ValueError(f"The batches must hold the input {param_input!r}, got {sorted(read.shapes)}.")
    return {name: Column(read, name) for name in read.shapes}


def open_rows(X: Any, param_input: str) -> tuple[LazyRows, dict[str, LazyRows]] | None:
    """Return rows that are read part by part, and further arguments that came with them; None for anything else."""
    if isinstance(X, zarr.Array):
        return _input(X), {}
    if not is_iterable_of_batches(X):
        return None
    columns = {name: as_is(column) for name, column in columns_of(X, param_input).items()}
    return _input(columns.pop(param_input)), columns


def _input(source: Any) -> LazyRows:
    """Return rows of the input: float32 stays, all else becomes float64."""
    rows = numeric("X", source)
    return rows if source.dtype == np.float32 else rows.floats("X", np.float64)


def _checksum(array: np.ndarray, before: int) -> int:
    """Return a checksum of an array that follows on other rows, whose checksum is ``before``."""
    if array.dtype.hasobject:
        return zlib.crc32(repr(array.tolist()).encode(), before)
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, before)


def _common(dtype: np.dtype, other: np.dtype | None) -> np.dtype:
    """Return a type for the numbers of both, which keeps an order of bytes that they share."""
    return dtype if other is None or dtype == other else np.result_type(dtype, other)
