"""Pareto-smoothed importance sampling: how far an approximation is from the posterior, and draws that correct it."""

import warnings
from typing import NamedTuple

import numpy as np

__all__ = ["LARGEST_K_HAT", "Weights", "resampled", "weigh"]

# Vehtari, Simpson, Gelman, Yao and Gabry, Pareto smoothed importance sampling, JMLR 25(72), 2024: weighted averages
# are reliable up to this shape.
LARGEST_K_HAT = 0.7
# A wider span of log ratios means that the approximation has missed the posterior, and overflows in the smoothing.
WIDEST_SPAN = 600.0
# Largest ratio, relative to their mean, that is too small to matter whatever the shape of the tail: the fit of a Pareto
# distribution does not depend on the scale of the ratios, and may find a heavy tail in ratios that are all near one.
SMALL_RATIO = 2.0


class Weights(NamedTuple):
    """Smoothed importance weights of draws.

    Attributes
    ----------
    weight : array of shape (n_draws,)
        They add up to one.
    k_hat : float
        Shape of the Pareto distribution of the largest ratios; infinite if none can be fitted, and at most zero if no
        ratio is above twice their mean.
    ess : float
        Effective number of draws, ``1 / sum(weight**2)``.
    """

    weight: np.ndarray
    k_hat: float
    ess: float


def weigh(log_ratios: np.ndarray) -> Weights:
    """Smooth the ratios of the posterior's density to that of the approximation from which draws come.

    Parameters
    ----------
    log_ratios : array of shape (n_draws,)
        Logarithms, each up to the same constant.

    Returns
    -------
    Weights
    """
    log_ratios = np.asarray(log_ratios, np.float64)
    n_draws = len(log_ratios)
    useless = Weights(np.full(n_draws, 1.0 / n_draws), np.inf, 1.0)
    # A draw where the posterior has no density has weight zero. One ratio that is not a number makes all useless.
    positive = log_ratios > -np.inf
    if np.isnan(log_ratios).any() or (log_ratios == np.inf).any() or positive.sum() < n_draws / 2:
        return useless
    inside = log_ratios[positive] - log_ratios.max()
    # The lowest ratios do not count: a density may fall to almost nothing far out in a tail.
    if -np.quantile(inside, 0.25) > WIDEST_SPAN:
        return useless
    inside = np.maximum(inside, -WIDEST_SPAN)
    if np.ptp(inside) < 1e-10:
        return Weights(np.where(positive, 1.0 / positive.sum(), 0.0), -np.inf, float(positive.sum()))
    from arviz_stats.base import array_stats  # slow to import: it may bring matplotlib along

    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # ArviZ takes log likelihoods, whose negatives are the log ratios of leaving a row out.
        smoothed, k_hat = array_stats.psislw(-inside)
    smoothed, k_hat = np.asarray(smoothed, np.float64), float(k_hat)
    if not np.isfinite(smoothed).all() or not np.isfinite(k_hat):
        return useless
    if np.exp(inside).mean() * SMALL_RATIO >= 1.0:
        smoothed, k_hat = inside, min(k_hat, 0.0)
    weight = np.zeros(n_draws)
    weight[positive] = np.exp(smoothed - smoothed.max())
    weight /= weight.sum()
    return Weights(weight, k_hat, float(1.0 / np.square(weight).sum()))


def resampled(weight: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return numbers of draws, with frequencies proportional to their weights: a systematic sample in random order.

    A draw with ``size * weight`` of at most one is taken at most once.
    """
    order = rng.permutation(len(weight))
    places = (np.arange(size) + rng.uniform()) / size
    bounds = np.cumsum(weight[order])
    return rng.permutation(order[np.searchsorted(bounds / bounds[-1], places, side="right")])
