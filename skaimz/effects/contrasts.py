"""Contrasts: functions that compare a scenario with its baseline."""

from collections.abc import Callable
from typing import Any

import numpy as np

from skaimz.exceptions import RatioWarning, warn_user

__all__ = ["Contrast", "contrast_of", "is_elementwise", "resolve_contrast", "warn_of_baseline"]

Contrast = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _difference(scenario: np.ndarray, baseline: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # infinite averages have no difference, which `summary` tells
        return scenario - baseline


def _ratio(scenario: np.ndarray, baseline: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return scenario / baseline


def _lift(scenario: np.ndarray, baseline: np.ndarray) -> np.ndarray:
    return 100.0 * (_ratio(scenario, baseline) - 1.0)


CONTRASTS: dict[str, Contrast] = {"difference": _difference, "ratio": _ratio, "lift": _lift}


def resolve_contrast(contrast: Any) -> tuple[str, Contrast]:
    """Return a contrast's name and function.

    Parameters
    ----------
    contrast : {"difference", "ratio", "lift"} or callable
        Lift is the change in percent of the baseline. A function takes two arrays, of the scenario and of its
        baseline, and returns an array of the same shape.
    """
    if callable(contrast):
        return getattr(contrast, "__name__", "contrast"), contrast
    if not isinstance(contrast, str) or contrast not in CONTRASTS:
        raise ValueError(f"`contrast` must be one of {sorted(CONTRASTS)} or a function, got {contrast!r}.")
    return contrast, CONTRASTS[contrast]


def is_elementwise(contrast: Contrast) -> bool:
    """Whether slices of arrays may be contrasted one by one; for a user's function this is not known."""
    return contrast in CONTRASTS.values()


def warn_of_baseline(contrast: Contrast, not_positive: int, size: int) -> None:
    """Warn of ratios whose baseline is not always positive."""
    if not_positive and contrast in (_ratio, _lift):
        warn_user(
            f"{not_positive} of {size} averages of the baseline are not positive: ratios to them are infinite or have "
            "the wrong sign, and the mean of ratios may be far from all of them. Use the difference.",
            RatioWarning,
        )


def contrast_of(contrast: Contrast, scenario: np.ndarray, baseline: np.ndarray, name: str) -> np.ndarray:
    """Return a contrast, and check the shape, because the function may be the user's."""
    warn_of_baseline(contrast, int((baseline <= 0).sum()), baseline.size)
    effect = np.asarray(contrast(scenario, baseline))
    if effect.shape != scenario.shape:
        raise ValueError(
            f"`contrast` must return an array with the shape of its arguments, {scenario.shape}, but returned one of "
            f"shape {effect.shape} for {name!r}."
        )
    return effect
