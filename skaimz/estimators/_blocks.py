"""Methods that take Dask collections."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from skaimz import effects
from skaimz.estimators import _temporary
from skaimz.estimators._arguments import seed_of
from skaimz.estimators._collect import Destination
from skaimz.exceptions import let_go
from skaimz.kernels import flattened
from skaimz.rows import computed, dask_door, is_collection

__all__ = ["averaged", "drawn", "in_memory", "row_by_row"]


def row_by_row(method: Callable[..., Any]) -> Callable[..., Any]:
    """Let a method whose answer has a part for each row of X take Dask collections, and then answer lazily."""
    return _dispatching(method, lambda door, *given: door.rows_in_blocks(*given))


def averaged(method: Callable[..., Any]) -> Callable[..., Any]:
    """Let a method whose answer is effects that are averaged over rows take Dask collections."""

    def answer(door: Any, self: Any, name: str, X: Any, given: dict[str, Any]) -> Any:
        if not given.get("average", True):
            raise ValueError("Effects of each row of a Dask collection would not fit: leave out `average=False`.")
        contrast = given.pop("contrast", "difference")
        asked = effects.resolve_contrast(contrast) if "scenarios" in given else (_of_slope(given), None)
        return door.averages_in_blocks(self, name, X, given, *asked)

    return _dispatching(method, answer)


def in_memory(method: Callable[..., Any]) -> Callable[..., Any]:
    """Let a method that needs all rows at once take Dask collections, which are computed."""

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return method(self, *map(computed, args), **{name: computed(arg) for name, arg in kwargs.items()})

    return call


def drawn(method: Callable[..., Any]) -> Callable[..., Any]:
    """Let a method whose answer is a tree of draws take Dask collections, and then answer with lazy arrays or a store.

    A store is written where one is asked for. Otherwise it is Dask's affair how draws are computed.
    """

    def answer(door: Any, self: Any, name: str, X: Any, given: dict[str, Any]) -> Any:
        asked = {key: given.pop(key) for key in Destination._fields if key in given}
        settings = Destination(**{"store": "auto", **asked})
        settings.check()
        if settings.store != "zarr" and settings.output_dir is None:
            return door.draws_in_blocks(self, f"{name}_on_batch", X, given)
        with _temporary.place(self, settings.output_dir) as path:
            placed = settings._replace(store="zarr", output_dir=path)._asdict()
            return door.draws_to_store(self, name, X, given, placed)

    return _dispatching(method, answer)


def _of_slope(given: dict[str, Any]) -> str:
    return "elasticity" if given.get("elasticity") else "slope"


def _dispatching(method: Callable[..., Any], answer: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(method)

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        X = args[0] if args else kwargs.get("X")
        if not is_collection(X):
            try:
                return method(self, *args, **kwargs)
            except BaseException as error:
                let_go(error)
                raise
        dask = dask_door()
        given = signature.bind(self, *args, **kwargs).arguments
        arrays = flattened(given.get("arrays", {}))
        given = {name: value for name, value in given.items() if name not in ("self", "X", "arrays")} | arrays
        if given.get("random_state") is not None:
            # A source that changes as it is drawn from would give each block another seed.
            given["random_state"] = seed_of(given["random_state"])
        return answer(dask, self, method.__name__, X, given)

    return call
