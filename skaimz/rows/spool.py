"""Rows kept in temporary files: a fit reads each piece of a source once, and then reads rows from the files."""

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

import numpy as np

from skaimz.rows.arrays import to_array
from skaimz.rows.lazy import LazyRows, Reader
from skaimz.rows.protocol import RowSource
from skaimz.rows.sources import check_rows

__all__ = ["Scratch", "Spool", "spooled", "spooled_table"]


class Scratch:
    """Temporary files that exist as long as a fit.

    The files have no names, so that none is left behind if the process is killed.
    """

    def __init__(self) -> None:
        self._files: list[_File] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        for file in self._files:
            file.close()

    def file(self, shape: tuple[int, ...], dtype: np.dtype) -> "_File":
        """Return a new file for an array.

        Raises
        ------
        OSError
            If the disk has too little space for this file and those opened before.
        """
        if not self._files:
            # Measured before any file is written: the files of a fit are compared with it together.
            self._free = shutil.disk_usage(tempfile.gettempdir()).free
        file = _File(shape, dtype)
        self._files.append(file)
        needed = sum(file.n_bytes for file in self._files)
        if needed > self._free:
            raise OSError(
                f"A fit that reads rows in pieces keeps them in files of {needed} bytes, but {self._free} bytes are "
                f"free in {tempfile.gettempdir()!r}: name another folder by the environment variable TMPDIR."
            )
        return file


class _File:
    """An array in a file, written and read by rows.

    It is read by calls rather than through a memory map, whose pages would count as the memory of the process.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype):
        self.shape, self.dtype = shape, dtype
        self._row_bytes = int(np.prod(shape[1:], dtype=int)) * dtype.itemsize
        self.n_bytes = shape[0] * self._row_bytes
        # A buffer that could not be written would raise a second error when the file is closed.
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115

    def write(self, start: int, array: np.ndarray) -> None:
        unwritten = np.ascontiguousarray(array, self.dtype).reshape(-1).view(np.uint8).data
        self._file.seek(start * self._row_bytes)
        try:
            while unwritten:
                unwritten = unwritten[self._file.write(unwritten) :]
        except OSError as error:
            raise OSError(
                error.errno,
                f"A fit that reads rows in pieces could not keep them in {tempfile.gettempdir()!r}: {error.strerror}. "
                "Name another folder by the environment variable TMPDIR.",
            ) from error

    def read(self, start: int, stop: int) -> np.ndarray:
        shape = (stop - start, *self.shape[1:])
        self._file.seek(start * self._row_bytes)
        return np.fromfile(self._file, self.dtype, int(np.prod(shape, dtype=int))).reshape(shape)

    def close(self) -> None:
        self._file.close()


def spooled(arrays: Mapping[str, tuple[RowSource, Reader]], scratch: Scratch) -> dict[str, LazyRows]:
    """Return arrays that can be read in any order, rows of costly sources from files.

    Parameters
    ----------
    arrays : dict of str to tuple
        By name the source of each array, and how its rows are converted.
    scratch : Scratch
        Where files are made.
    """
    groups: dict[int, list[str]] = {}
    for name, (source, _) in arrays.items():
        check_rows(name, source)
        groups.setdefault(id(source.origin), []).append(name)
    rows: dict[str, LazyRows] = {}
    for names in groups.values():
        group = {name: arrays[name] for name in names}
        origin = group[names[0]][0].origin
        if origin.slice_cost == "rows":
            rows |= {name: LazyRows(source, convert) for name, (source, convert) in group.items()}
        else:
            spool = Spool(origin, _converter(group), scratch)
            rows |= {name: LazyRows(source) for name, source in spool.arrays.items()}
    return rows


def spooled_table(
    table: RowSource, convert: Callable[[Any, int], Mapping[str, np.ndarray]], scratch: Scratch
) -> dict[str, LazyRows]:
    """Return the arrays that a table is converted to, with their rows in files.

    Parameters
    ----------
    table : RowSource
        A source whose pieces are data frames.
    convert : callable
        Makes arrays by name from a piece and the number of its first row.
    scratch : Scratch
        Where files are made.
    """
    check_rows("X", table)
    return {name: LazyRows(source) for name, source in Spool(table, convert, scratch).arrays.items()}


def _converter(group: Mapping[str, tuple[RowSource, Reader]]) -> Callable[[Any, int], dict[str, np.ndarray]]:
    """Return a function that converts a piece to the arrays of a group, which have one origin."""
    return lambda piece, start: {
        name: convert(to_array(source.array_in(piece)), start) for name, (source, convert) in group.items()
    }


class Spool:
    """Arrays in files, to which the pieces of a source are written when their rows are first read.

    Parameters
    ----------
    source : RowSource
    convert : callable
        Makes arrays by name from a piece and the number of its first row.
    scratch : Scratch

    Attributes
    ----------
    arrays : dict of str to RowSource
    """

    def __init__(self, source: RowSource, convert: Callable[[Any, int], Mapping[str, np.ndarray]], scratch: Scratch):
        self._source, self._convert = source, convert
        self._lengths = np.asarray(source.lengths)
        self._stops = np.cumsum(self._lengths)
        self._is_written = self._lengths == 0
        # A fit reads minibatches in a thread of its own, while the main thread may read the first rows.
        self._lock = threading.Lock()
        first = int(np.argmin(self._is_written))
        (piece,) = source.pieces([first])
        arrays = convert(piece, 0)
        n_rows = int(self._stops[-1])
        self._files = {name: scratch.file((n_rows, *array.shape[1:]), array.dtype) for name, array in arrays.items()}
        self._write(first, arrays)
        self.arrays = {name: SpooledRows(self, name, file.shape, file.dtype) for name, file in self._files.items()}

    def fetch(self, slices: Iterable[slice]) -> None:
        """Write all pieces that the slices need and that are not in the files yet."""
        with self._lock:
            self._fetch(slices)

    def read(self, name: str, rows: slice) -> np.ndarray:
        """Return rows of an array."""
        start, stop, _ = rows.indices(int(self._stops[-1]))
        with self._lock:
            self._fetch([rows])
            return self._files[name].read(start, max(start, stop))

    def _fetch(self, slices: Iterable[slice]) -> None:
        needed = np.zeros(len(self._is_written), bool)
        for rows in slices:
            start, stop, _ = rows.indices(int(self._stops[-1]))
            if start < stop:
                first, last = np.searchsorted(self._stops, [start, stop - 1], side="right")
                needed[first : last + 1] = True
        missing = np.flatnonzero(needed & ~self._is_written)
        if not len(missing):
            return
        if self._source.in_order:
            # The source reads the pieces in between anyway.
            missing = np.flatnonzero(~self._is_written[: missing[-1] + 1])
        for number, piece in zip(missing.tolist(), self._source.pieces(missing.tolist()), strict=True):
            self._write(number, self._convert(piece, int(self._stops[number] - self._lengths[number])))

    def _write(self, number: int, arrays: Mapping[str, np.ndarray]) -> None:
        length = int(self._lengths[number])
        start = int(self._stops[number]) - length
        for name, array in arrays.items():
            file = self._files[name]
            if array.shape != (length, *file.shape[1:]):
                raise ValueError(
                    f"{name!r} has the shape {array.shape} from row {start} on, where {(length, *file.shape[1:])} was "
                    "expected."
                )
            if not np.can_cast(array.dtype, file.dtype):
                raise ValueError(f"{name!r} is {array.dtype} from row {start} on, but {file.dtype} before.")
            file.write(start, array)
        self._is_written[number] = True


class SpooledRows(RowSource):
    """One array of a spool, which is one piece: its file can be read anywhere."""

    slice_cost = "rows"

    def __init__(self, spool: Spool, name: str, shape: tuple[int, ...], dtype: np.dtype):
        self._spool, self._name, self._shape, self._dtype = spool, name, shape, dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows, and the shape of one row."""
        return self._shape

    @property
    def dtype(self) -> np.dtype:
        """Type of the array."""
        return self._dtype

    @property
    def lengths(self) -> tuple[int, ...]:
        """Number of rows in the only piece."""
        return self._shape[:1]

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self._spool.read(self._name, rows)

    def fetch(self, slices: Iterable[slice]) -> None:
        """Write all pieces that the slices need, in one call of the source."""
        self._spool.fetch(slices)
