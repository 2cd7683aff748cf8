"""Checks of the arguments of displays."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from skaimz.estimators import last_step, unwrapped

__all__ = ["check_estimator", "check_level", "check_levels", "check_values"]


def check_level(name: str, level: object) -> float:
    """Return a probability strictly between 0 and 1."""
    if not isinstance(level, float | int | np.number) or not 0 < level < 1:
        raise ValueError(f"`{name}` must lie between 0 and 1, got {level!r}.")
    return float(level)


def check_levels(name: str, levels: Any) -> list[float]:
    """Return one or several probabilities as a list."""
    return [check_level(name, level) for level in ([levels] if np.ndim(levels) == 0 else levels)]


def check_estimator(estimator: object, X: Any, method: str, display: str) -> tuple[Any, Any]:
    """Return the last step of a Pipeline or search, or an estimator itself, and X as earlier steps transform it.

    Raises
    ------
    TypeError
        If the estimator lacks the method that a display calls.
    """
    _, last = unwrapped(estimator)
    if not hasattr(last, method):
        wanted = "NumPyroImpactRegressor" if method == "predict_interval" else "regressor or classifier of skaimz"
        raise TypeError(
            f"{display} takes a {wanted}, or a Pipeline or search that ends in one, but was given a "
            f"{type(last).__name__}."
        )
    return last_step(estimator, X)


def check_values(name: str, values: ArrayLike, shape: Sequence[int | None]) -> np.ndarray:
    """Return values as an array, which must have the given shape. None in the shape allows any length."""
    array = np.asarray(values)
    fits = array.ndim == len(shape) and all(
        size in (None, length) for size, length in zip(shape, array.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("n" if size is None else str(size) for size in shape) + ("," if len(shape) == 1 else "")
        raise ValueError(
            f"`{name}` must have the shape ({wanted}), got {array.shape}. With several outputs, pass the arrays of one "
            "of them to `from_predictions`."
        )
    return array
