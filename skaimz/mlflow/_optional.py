"""An error that says how to install MLflow."""

import functools
import importlib.util
from collections.abc import Callable
from typing import ParamSpec, TypeVar

__all__ = ["needs_mlflow"]

P = ParamSpec("P")
R = TypeVar("R")


def needs_mlflow(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function raise ImportError with a remedy if MLflow is not installed."""

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        if importlib.util.find_spec("mlflow") is None:
            raise ImportError(f"`{function.__name__}` needs MLflow: `pip install 'skaimz[mlflow]'`.")
        return function(*args, **kwargs)

    return checked
