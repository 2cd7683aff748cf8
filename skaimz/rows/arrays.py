"""Arrays as sources of rows, and conversion to arrays of what users pass as one."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse
from pandas.api.types import is_numeric_dtype

from skaimz.kernels import plain_array
from skaimz.rows.protocol import RowSource

__all__ = ["ArrayRows", "as_table", "open_memory_map", "piece_lengths", "to_array"]

# Rows of a piece at least: the chunks of a file may be short.
PIECE_ROWS = 2**13


class ArrayRows(RowSource):
    """A NumPy array, in memory or mapped from a file."""

    slice_cost = "rows"
    is_array = True

    def __init__(self, array: np.ndarray):
        self._array = array

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows, and the shape of one row."""
        return self._array.shape

    @property
    def dtype(self) -> np.dtype:
        """Type of the array."""
        return self._array.dtype

    @property
    def lengths(self) -> Sequence[int]:
        """Number of rows in each piece."""
        return piece_lengths(len(self._array))

    def __getitem__(self, rows: slice) -> np.ndarray:
        return np.asarray(self._array[rows])

    def load(self) -> np.ndarray:
        """Return the array itself, which callers can read without loading it."""
        return self._array


def open_memory_map(value: Any) -> RowSource | None:
    """Return the rows of a memory map, None for anything else: other arrays are in memory already."""
    return ArrayRows(value) if isinstance(value, np.memmap) and value.ndim else None


def piece_lengths(n_rows: int, chunk_rows: int = 1) -> list[int]:
    """Return the lengths of pieces: multiples of a chunk, and at least :data:`PIECE_ROWS` rows but in the last."""
    step = chunk_rows * -(-PIECE_ROWS // chunk_rows)
    return [min(step, n_rows - start) for start in range(0, n_rows, step)]


def as_table(X: Any) -> Any:
    """Return X, an array or a data frame; a PyArrow table becomes a data frame of pandas.

    Raises
    ------
    TypeError
        If X is sparse.
    """
    if scipy.sparse.issparse(X):
        raise TypeError(
            "Sparse data was passed for X, but dense data is required: convert it by `X.toarray()`, or have the steps "
            "before return dense rows, by `OneHotEncoder(sparse_output=False)` or `ColumnTransformer(..., "
            "sparse_threshold=0)`."
        )
    return X.to_pandas() if type(X).__module__.partition(".")[0] == "pyarrow" else X


def to_array(rows: Any) -> np.ndarray:
    """Return an array of rows that may be a data frame or a list; numbers of pandas' own types become NumPy's."""
    if isinstance(rows, pd.DataFrame):
        if not all(map(is_numeric_dtype, rows.dtypes)):
            return rows.to_numpy(dtype=object)
        single = all(dtype == np.float32 for dtype in rows.dtypes)
        return rows.to_numpy(np.float32 if single else np.float64, na_value=np.nan)
    if isinstance(rows, pd.Series) and is_numeric_dtype(rows.dtype):
        rows = rows.astype(np.float64) if rows.hasnans else rows
        return rows.to_numpy(getattr(rows.dtype, "numpy_dtype", rows.dtype))
    return plain_array(rows)
