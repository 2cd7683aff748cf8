"""The protocol of row sources: what a source of rows states about itself, and how callers read it."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, Literal

import numpy as np
import pandas as pd

__all__ = ["Field", "Records", "RowSource", "SliceCost"]

SliceCost = Literal["rows", "pieces", "computation"]


class RowSource(ABC):
    """Rows of an array that need not be in memory.

    A source states what it can do, and callers choose by that how to read it. A new source is a subclass with
    ``shape``, ``dtype``, ``lengths`` and slicing, and an entry in :data:`skaimz.rows.sources.SOURCES`.

    Attributes
    ----------
    shape : tuple of int
        Number of rows, and the shape of one row.
    dtype : numpy.dtype
    lengths : sequence of int
        Number of rows in each piece. A piece is what the source best reads at a time, such as some chunks of a file.
    in_order : bool
        Whether the source reads from the first row on, so that a step back starts it again.
    slice_cost : {"rows", "pieces", "computation"}
        What it costs to read a slice: to read its rows alone, to read all pieces that hold some of them, or to compute
        these pieces. A fit, which visits rows in random order, reads each piece once and keeps its rows on disk, unless
        slices cost their rows alone. A prediction reads slices, unless these would be computed: it then loads all rows.
    is_array : bool
        Whether the source was opened from a NumPy array, which scikit-learn can check as a whole.
    has_fields : bool
        Whether pieces and slices hold several arrays, by name.
    table : DataFrame or None
        Names and types of the columns, without rows, where pieces are data frames.
    """

    in_order: bool = False
    slice_cost: SliceCost = "pieces"
    is_array: bool = False
    has_fields: bool = False

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Number of rows, and the shape of one row."""

    @property
    @abstractmethod
    def dtype(self) -> np.dtype:
        """Type of the array."""

    @property
    @abstractmethod
    def lengths(self) -> Sequence[int]:
        """Number of rows in each piece."""

    @abstractmethod
    def __getitem__(self, rows: slice) -> Any:
        """Read rows as an array, or as a mapping of names to arrays where there are several."""

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def table(self) -> pd.DataFrame | None:
        """Names and types of the columns, without rows, where pieces are data frames."""
        return None

    @property
    def origin(self) -> "RowSource":
        """The source whose pieces hold this array; another one for a :class:`Field` alone."""
        return self

    @property
    def fields(self) -> Mapping[str, "RowSource"]:
        """The arrays that come together, by name; none where a piece is an array."""
        return {}

    def pieces(self, numbers: Sequence[int]) -> Iterator[Any]:
        """Yield the pieces with these numbers, which must be ascending."""
        stops = list(accumulate(self.lengths))
        return (self[stops[number] - self.lengths[number] : stops[number]] for number in numbers)

    def array_in(self, piece: Any) -> Any:
        """Return this array's rows in a piece of the origin."""
        return piece

    def load(self) -> Any:
        """Return all rows in memory, in the form in which a caller would pass them."""
        return self[: self.shape[0]]

    def fetch(self, slices: Iterable[slice]) -> None:  # noqa: B027
        """Read what the slices need, where reading it at once is quicker than slice by slice."""


class Records(RowSource):
    """Several arrays that come together: a slice or a piece maps their names to rows.

    Subclasses define ``layout``, ``lengths`` and slicing.

    Attributes
    ----------
    layout : dict of str to tuple
        The shape of a row and the type of each array.
    """

    has_fields = True

    @property
    @abstractmethod
    def layout(self) -> Mapping[str, tuple[tuple[int, ...], np.dtype]]:
        """The shape of a row and the type of each array."""

    @functools.cached_property
    def shape(self) -> tuple[int, ...]:
        """Number of rows."""
        return (sum(self.lengths),)

    @property
    def dtype(self) -> np.dtype:
        """Type of the mappings."""
        return np.dtype(object)

    @property
    def fields(self) -> dict[str, RowSource]:
        """The arrays by name."""
        return {name: Field(self, name) for name in self.layout}


class Field(RowSource):
    """One array of those that come together."""

    def __init__(self, records: Records, name: str):
        self._records, self._name = records, name
        self.in_order, self.slice_cost = records.in_order, records.slice_cost

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows, and the shape of one row."""
        return *self._records.shape, *self._records.layout[self._name][0]

    @property
    def dtype(self) -> np.dtype:
        """Type of the array."""
        return self._records.layout[self._name][1]

    @property
    def lengths(self) -> Sequence[int]:
        """Number of rows in each piece."""
        return self._records.lengths

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self._records[rows][self._name]

    @property
    def origin(self) -> RowSource:
        """The source of all arrays that come together."""
        return self._records

    def array_in(self, piece: Any) -> Any:
        """Return this array's rows in a piece of the origin."""
        return piece[self._name]

    def load(self) -> np.ndarray:
        """Return all rows of this array in memory; use ``origin.load()`` for several arrays."""
        return self._records.load()[self._name]
