"""Dask's collections, which are rows only where Dask is installed."""

from typing import Any

__all__ = ["dask_door", "is_collection"]


def is_collection(value: Any) -> bool:
    """Whether something is Dask's; Dask need not be installed."""
    return type(value).__module__.partition(".")[0] in ("dask", "dask_expr")


def dask_door() -> Any:
    """Return what knows Dask."""
    try:
        from skaimz import dask
    except ImportError as error:
        raise ImportError("Rows in Dask collections need Dask: `pip install 'skaimz[dask]'`.") from error
    return dask
