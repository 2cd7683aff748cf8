"""The rows that users pass, from arrays in memory to files and Dask collections, and how they are read.

A source of rows (:class:`RowSource`) states what it can do, and :func:`open_source` finds the source of a value.
"""

from skaimz.rows.arrays import as_table, to_array
from skaimz.rows.collections import computed, dask_door, is_collection
from skaimz.rows.lazy import LazyRows, Reader, check_numbers, fields_of, lazy_rows, open_rows
from skaimz.rows.protocol import Records, RowSource
from skaimz.rows.sources import comes_in_pieces, loaded, loaded_together, open_array, open_source, pieces_of
from skaimz.rows.spool import Scratch, spooled, spooled_table

__all__ = [
    "LazyRows",
    "Reader",
    "Records",
    "RowSource",
    "Scratch",
    "as_table",
    "check_numbers",
    "comes_in_pieces",
    "computed",
    "dask_door",
    "fields_of",
    "is_collection",
    "lazy_rows",
    "loaded",
    "loaded_together",
    "open_array",
    "open_rows",
    "open_source",
    "pieces_of",
    "spooled",
    "spooled_table",
    "to_array",
]
