"""The sources of rows, and the one function that chooses the source of a value."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from skaimz.kernels import unmasked
from skaimz.rows.arrays import open_memory_map, to_array
from skaimz.rows.batches import open_batches
from skaimz.rows.collections import computed, open_collection
from skaimz.rows.protocol import RowSource
from skaimz.rows.zarr_arrays import open_zarr

__all__ = [
    "SOURCES",
    "check_rows",
    "comes_in_pieces",
    "loaded",
    "loaded_together",
    "open_array",
    "open_source",
    "pieces_of",
]

# A function for each source: it returns the rows of a value, or None for values that are not its own. The first source
# that takes a value reads it.
SOURCES: list[Callable[[Any], RowSource | None]] = [open_memory_map, open_zarr, open_collection, open_batches]
# Types that are no source's.
IN_MEMORY = (np.ndarray, pd.DataFrame, pd.Series, list, tuple, type(None))


def open_source(value: Any) -> RowSource | None:
    """Return the source of a value's rows, None for a value in memory.

    Opening a source reads no rows; they are read when a caller asks for them.
    """
    if type(value) in IN_MEMORY:
        return None
    if isinstance(value, RowSource):
        return value
    return next((source for opener in SOURCES if (source := opener(value)) is not None), None)


def open_array(value: Any) -> RowSource | None:
    """Return the source of one array, None for a value in memory and for several arrays that come together."""
    source = open_source(value)
    return None if source is None or source.has_fields else source


def comes_in_pieces(value: Any) -> bool:
    """Return whether a value is an array whose rows a fit can read piece by piece."""
    return open_array(value) is not None


def loaded(value: Any) -> Any:
    """Return a value in memory."""
    source = open_array(value)
    return unmasked(computed(value)) if source is None else source.load()


def loaded_together(values: Sequence[Any]) -> list[Any]:
    """Return several values in memory; arrays that come together are read together."""
    by_origin: dict[int, Any] = {}

    def load(value: Any) -> Any:
        source = open_array(value)
        if source is None or source.origin is source:
            return loaded(value)
        number = id(source.origin)
        if number not in by_origin:
            by_origin[number] = source.origin.load()
        return source.array_in(by_origin[number])

    return list(map(load, values))


def pieces_of(name: str, value: Any) -> Iterator[np.ndarray]:
    """Yield an array piece by piece, an array in memory as one piece; error messages call it ``name``."""
    source = open_array(value)
    if source is None:
        yield value
        return
    check_rows(name, source)
    numbers = [number for number, length in enumerate(source.lengths) if length]
    yield from (to_array(source.array_in(piece)) for piece in source.origin.pieces(numbers))


def check_rows(name: str, source: RowSource) -> None:
    """Refuse a source without rows."""
    if not any(source.lengths):
        raise ValueError(f"Found array with 0 sample(s) while a minimum of 1 is required: {name} has no rows.")
