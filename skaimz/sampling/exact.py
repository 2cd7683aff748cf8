"""Answers from the exact distribution of outcomes, given the posterior draws."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from skaimz.exceptions import MonteCarloWarning, warn_user
from skaimz.kernels import POINTS
from skaimz.sampling.host_distributions import with_nan
from skaimz.sampling.integrals import Crps, Excess, Shortest, TailMean
from skaimz.sampling.job import Job
from skaimz.sampling.mixtures import Cdf, Quantiles
from skaimz.sampling.predictive import crps, expectation, outcome_quantiles, outcomes
from skaimz.sampling.quantities import Expectation
from skaimz.sampling.univariate import NoCdfError, SinglePrecisionError

__all__ = ["cdf", "crps_of_cdf", "excess", "quantiles", "shortest_intervals", "tail_means"]


def quantiles(job: Job, levels: ArrayLike) -> np.ndarray:
    """Return quantiles of the outcomes' distributions.

    They are quantiles of drawn outcomes, with a warning, where no cdf is known.

    Parameters
    ----------
    job : Job
    levels : array-like of shape (n_quantiles,) or (n_rows, ..., n_quantiles)
        Probabilities for all rows, or for each row, in the shape of its outcome.

    Returns
    -------
    array of shape (n_rows, ..., n_quantiles)
    """
    levels = np.asarray(levels)
    return _at(job, Quantiles(), levels, lambda: outcome_quantiles(job, levels))


def cdf(job: Job, points: np.ndarray, *, strict: bool = False) -> np.ndarray:
    """Return probabilities that outcomes are at most some numbers.

    Parameters
    ----------
    job : Job
    points : array of shape (n_points,) or (n_rows, ..., n_points)
        Numbers for all rows, or for each row, in the shape of its outcome.
    strict : bool
        Whether outcomes are to be less than the numbers.

    Returns
    -------
    array of shape (n_rows, ..., n_points)
    """

    def of_draws() -> np.ndarray:
        drawn = with_nan(outcomes(job))[..., None, :]
        numbers = np.asarray(points)[..., None]
        with np.errstate(invalid="ignore"):
            inside = drawn < numbers if strict else drawn <= numbers
        return np.where(np.isnan(drawn).any(axis=-1), np.nan, inside.mean(axis=-1))

    return _at(job, Cdf(strict), points, of_draws)


def crps_of_cdf(job: Job, y: np.ndarray) -> np.ndarray:
    """Return the continuous ranked probability score of outcomes, in the shape of ``y``."""
    return _at(job, Crps(), np.asarray(y)[..., None], lambda: crps(job, y))


def excess(job: Job, thresholds: np.ndarray) -> np.ndarray:
    """Return by how much outcomes are expected to exceed thresholds, in shapes as those of :func:`quantiles`."""

    def of_draws() -> np.ndarray:
        return np.maximum(with_nan(outcomes(job))[..., None, :] - thresholds[..., None], 0).mean(axis=-1)

    return _at(job, Excess(), thresholds, of_draws)


def tail_means(job: Job, shares: Sequence[float], *, upper: bool) -> np.ndarray:
    """Return the means of the lowest or highest outcomes, of shape ``(n_rows, ..., n_shares)``."""

    def of_draws() -> np.ndarray:
        drawn = np.sort(with_nan(outcomes(job)), axis=-1)
        drawn = drawn[..., ::-1] if upper else drawn
        counts = [max(1, round(share * drawn.shape[-1])) for share in shares]
        return np.stack([drawn[..., :count].mean(axis=-1) for count in counts], axis=-1)

    return _at(job, TailMean(upper), np.asarray(shares), of_draws)


def shortest_intervals(job: Job, coverage: Sequence[float]) -> np.ndarray:
    """Return the shortest intervals that hold outcomes with some probabilities, of shape ``(n_rows, ..., 2, n)``."""

    def of_draws() -> np.ndarray:
        drawn = np.sort(with_nan(outcomes(job)), axis=-1)
        intervals = []
        for level in coverage:
            gap = min(int(np.ceil(level * drawn.shape[-1])), drawn.shape[-1] - 1)
            first = np.argmin(drawn[..., gap:] - drawn[..., :-gap], axis=-1)[..., None]
            intervals.append(np.concatenate([np.take_along_axis(drawn, first + add, axis=-1) for add in (0, gap)], -1))
        return np.stack(intervals, axis=-1)

    return _at(job, Shortest(), np.asarray(coverage), of_draws)


def _expected(job: Job, quantity: Expectation, points: np.ndarray) -> np.ndarray:
    numbers: Any = np.asarray(points, jnp.result_type(float))
    if numbers.ndim == 1:
        numbers = np.broadcast_to(numbers, (job.n_rows, *numbers.shape))
    try:
        return expectation(job.with_rows({POINTS: numbers}), quantity)[0]
    except SinglePrecisionError:
        with jax.enable_x64(True):
            return _expected(job, quantity, points).astype(numbers.dtype)


def _at(job: Job, quantity: Expectation, points: np.ndarray, of_draws: Callable[[], np.ndarray]) -> np.ndarray:
    """Return a quantity at points, which are those of all rows if they have one axis."""
    try:
        return _expected(job, quantity, points)
    except NoCdfError as error:
        warn_user(
            f"{error} The result is taken from drawn outcomes, one for each posterior draw, and has a Monte Carlo "
            'error. Pass `method="draws"` where the method has it, to ask for that.',
            MonteCarloWarning,
        )
        return of_draws()
