"""Dask collections as sources of rows. Dask is imported only when a value is one of its collections."""

from typing import Any

from skaimz.rows.protocol import RowSource

__all__ = ["computed", "dask_door", "is_collection", "open_collection"]


def is_collection(value: Any) -> bool:
    """Return whether a value is of one of Dask's types, which works without Dask as well."""
    return type(value).__module__.partition(".")[0] in ("dask", "dask_expr")


def dask_door() -> Any:
    """Return the package :mod:`skaimz.dask`.

    Raises
    ------
    ImportError
        If Dask is not installed.
    """
    try:
        from skaimz import dask
    except ImportError as error:
        raise ImportError("Rows in Dask collections need Dask: `pip install 'skaimz[dask]'`.") from error
    return dask


def open_collection(value: Any) -> RowSource | None:
    """Return the rows of a Dask array or data frame, None for anything else, such as a bag or a delayed object."""
    return dask_door().open_rows(value) if is_collection(value) else None


def computed(value: Any) -> Any:
    """Return the value that a Dask collection stands for, and any other value as it is."""
    if not is_collection(value):
        return value
    dask_door()
    return value.compute()
