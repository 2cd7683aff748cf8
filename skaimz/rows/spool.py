"""Flat files for rows that are costly to read: each piece is computed once, and then read from the disk."""

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, Self

import numpy as np

__all__ = ["Pieces", "Scratch", "Spool"]


class Pieces(Protocol):
    """Rows that come a piece at a time.

    Attributes
    ----------
    lengths : sequence of int
        Rows of each piece.
    in_order : bool
        Whether a piece comes only after all pieces before it.
    """

    @property
    def lengths(self) -> Sequence[int]:
        """Rows of each piece."""

    @property
    def in_order(self) -> bool:
        """Whether a piece comes only after all pieces before it."""

    def computed(self, numbers: Sequence[int]) -> Iterator[Any]:
        """Yield the pieces of these numbers, which rise."""


class Scratch:
    """Files for the time of a fit. They have no names, so that none is left where the process is killed."""

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
            If the disk is too small for it and the files before it.
        """
        if not self._files:
            # The files have holes, which are filled later.
            self._free = shutil.disk_usage(tempfile.gettempdir()).free
        file = _File(shape, dtype)
        self._files.append(file)
        needed = sum(file.n_bytes for file in self._files)
        if needed > self._free:
            raise OSError(
                f"A fit that reads rows a part at a time keeps them in files of {needed} bytes, but {self._free} bytes "
                f"are free in {tempfile.gettempdir()!r}: name another folder by the environment variable TMPDIR."
            )
        return file


class _File:
    """An array on the disk, written and read by rows. Unlike a map of memory it never counts as the process's own."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype):
        self.shape, self.dtype = shape, dtype
        self._row_bytes = int(np.prod(shape[1:], dtype=int)) * dtype.itemsize
        self.n_bytes = shape[0] * self._row_bytes
        # Without a buffer, which would fail once more when it is closed.
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
                f"A fit that reads rows a part at a time could not keep them in {tempfile.gettempdir()!r}: "
                f"{error.strerror}. Name another folder by the environment variable TMPDIR.",
            ) from error

    def read(self, start: int, stop: int) -> np.ndarray:
        shape = (stop - start, *self.shape[1:])
        self._file.seek(start * self._row_bytes)
        return np.fromfile(self._file, self.dtype, int(np.prod(shape, dtype=int))).reshape(shape)

    def close(self) -> None:
        self._file.close()


class Spool:
    """Arrays whose rows come a piece at a time, kept in files as pieces are first asked for.

    Parameters
    ----------
    pieces : Pieces
    convert : callable
        From a piece and the number of its first row to arrays by name.
    scratch : Scratch

    Attributes
    ----------
    rows : dict of str to KeptRows
    """

    def __init__(self, pieces: Pieces, convert: Callable[[Any, int], Mapping[str, np.ndarray]], scratch: Scratch):
        self._pieces, self._convert = pieces, convert
        self._ends = np.cumsum(pieces.lengths)
        self._is_kept = np.asarray(pieces.lengths) == 0
        # A fit reads in a thread of its own, beside the one that asks for first rows.
        self._lock = threading.Lock()
        first = int(np.argmin(self._is_kept))
        (piece,) = pieces.computed([first])
        arrays = convert(piece, 0)
        n_rows = int(self._ends[-1])
        self._files = {name: scratch.file((n_rows, *array.shape[1:]), array.dtype) for name, array in arrays.items()}
        self._keep(first, arrays)
        self.rows = {name: KeptRows(self, name, file.shape, file.dtype) for name, file in self._files.items()}

    def fetch(self, parts: Iterable[slice]) -> None:
        """Compute what is missing of several parts, together."""
        with self._lock:
            self._fetch(parts)

    def read(self, name: str, part: slice) -> np.ndarray:
        """Return rows of an array."""
        start, stop, _ = part.indices(int(self._ends[-1]))
        with self._lock:
            self._fetch([part])
            return self._files[name].read(start, max(start, stop))

    def _fetch(self, parts: Iterable[slice]) -> None:
        wanted = np.zeros(len(self._is_kept), bool)
        for part in parts:
            start, stop, _ = part.indices(int(self._ends[-1]))
            if start < stop:
                first, last = np.searchsorted(self._ends, [start, stop - 1], side="right")
                wanted[first : last + 1] = True
        missing = np.flatnonzero(wanted & ~self._is_kept)
        if not len(missing):
            return
        if self._pieces.in_order:
            missing = np.flatnonzero(~self._is_kept[: missing[-1] + 1])
        for number, piece in zip(missing.tolist(), self._pieces.computed(missing.tolist()), strict=True):
            self._keep(number, self._convert(piece, int(self._ends[number]) - self._pieces.lengths[number]))

    def _keep(self, number: int, arrays: Mapping[str, np.ndarray]) -> None:
        length = self._pieces.lengths[number]
        start = int(self._ends[number]) - length
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
        self._is_kept[number] = True


class KeptRows:
    """One array of a spool.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    """

    def __init__(self, spool: Spool, name: str, shape: tuple[int, ...], dtype: np.dtype):
        self._spool, self._name = spool, name
        self.shape, self.dtype = shape, dtype

    def __getitem__(self, part: slice) -> np.ndarray:
        return self._spool.read(self._name, part)

    def fetch(self, parts: Iterable[slice]) -> None:
        """Compute what is missing of several parts, together."""
        self._spool.fetch(parts)
