"""A source of rows that the package does not have: Feather files. `test_new_source.py` adds it to the list."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from skaimz.rows import Records, RowSource


class FeatherFile(NamedTuple):
    """A file whose columns are the arrays of a call; an array of several columns is made from those listed."""

    path: str
    columns: dict[str, str | list[str]]


class FeatherRows(Records):
    """The arrays of a Feather file, which is mapped into memory. A piece is one of its record batches."""

    slice_cost = "rows"

    def __init__(self, file: FeatherFile):
        self._columns = file.columns
        self._table = pa.ipc.open_file(pa.memory_map(file.path)).read_all()

    @property
    def lengths(self) -> list[int]:
        return [batch.num_rows for batch in self._table.to_batches()]

    @property
    def layout(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        return {name: (array.shape[1:], array.dtype) for name, array in self[0:1].items()}

    def __getitem__(self, rows: slice) -> dict[str, np.ndarray]:
        start, stop, _ = rows.indices(self._table.num_rows)
        part = self._table.slice(start, stop - start)
        return {
            name: np.column_stack([part[column] for column in columns])
            if isinstance(columns, list)
            else part[columns].to_numpy()
            for name, columns in self._columns.items()
        }


def open_feather(value: object) -> RowSource | None:
    """Return the rows of a Feather file, None for anything else."""
    return FeatherRows(value) if isinstance(value, FeatherFile) else None
