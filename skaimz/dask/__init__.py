"""Rows of Dask collections: an estimator's methods block by block, wherever Dask runs them."""

from skaimz.dask.blocks import averages_in_blocks, draws_in_blocks, draws_to_store, rows_in_blocks
from skaimz.dask.rows import Rows, open_rows

__all__ = ["Rows", "averages_in_blocks", "draws_in_blocks", "draws_to_store", "open_rows", "rows_in_blocks"]
