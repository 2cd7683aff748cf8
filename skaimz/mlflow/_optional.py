"""MLflow where it is installed, and advice where it is not."""

import functools
import importlib.util
from collections.abc import Callable
from typing import ParamSpec, TypeVar

__all__ = ["needs_mlflow"]

P = ParamSpec("P")
R = TypeVar("R")


def needs_mlflow(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function say which extra it needs where MLflow is missing."""

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        if importlib.util.find_spec("mlflow") is None:
            raise ImportError(f"`{function.__name__}` needs MLflow: `pip install 'skaimz[mlflow]'`.")
        return function(*args, **kwargs)

    return checked
