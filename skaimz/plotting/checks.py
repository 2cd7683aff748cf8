"""Checks of what is to be drawn."""

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["check_estimator", "check_level", "check_levels", "check_values"]


def check_level(name: str, level: Any) -> float:
    """Return a probability strictly between 0 and 1."""
    if not isinstance(level, float | int | np.number) or not 0 < level < 1:
        raise ValueError(f"`{name}` must lie between 0 and 1, got {level!r}.")
    return float(level)


def check_levels(name: str, levels: Any) -> list[float]:
    """Return one or several probabilities as a list."""
    return [check_level(name, level) for level in ([levels] if np.ndim(levels) == 0 else levels)]


def check_estimator(estimator: Any, method: str, display: str) -> None:
    """Refuse what does not have the method that a display calls."""
    if not hasattr(estimator, method):
        wanted = "NumPyroImpactRegressor" if method == "predict_interval" else "regressor or classifier of skaimz"
        raise TypeError(
            f"{display} takes a {wanted}, but was given a {type(estimator).__name__}. Of a Pipeline give the last "
            "step, and the rows as they reach it."
        )


def check_values(name: str, values: Any, shape: Sequence[int | None]) -> np.ndarray:
    """Return an array that has the shape, in which None stands for any number."""
    found = np.asarray(values)
    fits = found.ndim == len(shape) and all(
        size in (None, given) for size, given in zip(shape, found.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("n" if size is None else str(size) for size in shape) + ("," if len(shape) == 1 else "")
        raise ValueError(
            f"`{name}` must have the shape ({wanted}), got {found.shape}. Of several outputs, give "
            "`from_predictions` the arrays of one."
        )
    return found
