"""Methods that take Dask collections, and then answer lazily."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from skaimz.estimators._arguments import seed_of

__all__ = ["row_by_row"]


def row_by_row(method: Callable[..., Any]) -> Callable[..., Any]:
    """Let a method whose answer has a part for each row of X take Dask collections."""
    signature = inspect.signature(method)

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        X = args[0] if args else kwargs.get("X")
        if type(X).__module__.partition(".")[0] not in ("dask", "dask_expr"):
            return method(self, *args, **kwargs)
        try:
            from skaimz.dask import in_blocks
        except ImportError as error:
            raise ImportError("Rows in Dask collections need Dask: `pip install 'skaimz[dask]'`.") from error
        given = signature.bind(self, *args, **kwargs).arguments
        arrays = given.pop("arrays", {})
        if "y" in given:
            arrays["y"] = given.pop("y")
        options = {name: value for name, value in given.items() if name not in ("self", "X")}
        if options.get("random_state") is not None:
            # A source that changes as it is drawn from would give each block another seed.
            options["random_state"] = seed_of(options["random_state"])
        return in_blocks(self, method.__name__, X, arrays, options)

    return call
