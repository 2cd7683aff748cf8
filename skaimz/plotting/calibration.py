"""A plot of how often intervals contain the outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binom
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state

from skaimz.plotting.checks import check_estimator, check_level, check_values
from skaimz.plotting.style import COLOURS, OBSERVED, legend_above, new_axes, tint

if TYPE_CHECKING:
    from skaimz.plotting.types import Axes, RandomState

__all__ = ["IntervalCalibrationDisplay"]

# Nominal coverages.
LEVELS = np.arange(1, 100) / 100


class IntervalCalibrationDisplay:
    """Share of outcomes in equal-tailed intervals, for intervals of every probability.

    Intervals are too wide where the curve is above the diagonal, and too narrow where it is below. The band contains
    the share of a calibrated model with a given probability, at each point by itself. Its limits are quantiles of the
    binomial distribution with one trial for each row. The plot is meant for rows that the model was not fitted to.

    Parameters
    ----------
    pit : array-like of shape (n_rows,)
        Probability integral transforms of the outcomes, that is, the predictive distribution function of each row at
        its outcome. They are uniform for a calibrated model. An interval of probability ``c`` contains the outcome if
        the transform is within ``c / 2`` of one half.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Axes of the latest plot.
    figure_ : matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If transforms do not lie between 0 and 1.

    Notes
    -----
    Transforms of discrete outcomes are randomised between the probability of less than the outcome and that of at most
    the outcome. Otherwise, intervals of counts could not have exactly their nominal probability, and those of a
    calibrated model would appear too wide. If outcomes are drawn, of which ``a`` out of ``S`` are below the outcome and
    ``b`` are equal to it, the transform is ``(a + V * (b + 1)) / (S + 1)``, where ``V`` is uniform.
    The transform is exactly uniform if the outcome and the draws are exchangeable, for any ``S`` and for continuous
    outcomes as well, so that the band needs no correction.

    References
    ----------
    C. Czado, T. Gneiting and L. Held (2009), Predictive model assessment for count data, Biometrics 65, section 2.1.

    Examples
    --------
    >>> import numpy as np
    >>> from skaimz.plotting import IntervalCalibrationDisplay
    >>> rng = np.random.default_rng(0)
    >>> y, draws = rng.poisson(3.0, size=100), rng.poisson(3.0, size=(100, 500))
    >>> display = IntervalCalibrationDisplay.from_predictions(y, draws)
    >>> display.ax_.get_xlabel()
    'Nominal coverage in %'
    """

    def __init__(self, pit: ArrayLike):
        self.pit = check_values("pit", pit, (None,))
        if not len(self.pit) or not ((self.pit >= 0) & (self.pit <= 1)).all():
            raise ValueError("`pit` must hold a number between 0 and 1 for each row.")

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: ArrayLike,
        y: ArrayLike,
        *,
        num_draws: int | None = None,
        random_state: RandomState = None,
        level: float = 0.99,
        ax: Axes | None = None,
        **arrays: ArrayLike,
    ) -> Self:
        """Compare observed outcomes with the posterior predictive.

        Parameters
        ----------
        estimator : NumPyroImpactRegressor, or Pipeline or search that ends in one
        X : array-like of shape (n_rows, n_features)
            Rows that the estimator was not fitted to.
        y : array-like of shape (n_rows,)
            Observed outcomes.
        num_draws : int, optional
            Number of outcomes to draw for each row, all of them in memory at once. If None, no outcomes are drawn, and
            the transforms are exact.
        random_state : int, RandomState, JAX key or None, default=None
            Seed of the draws; that of the estimator if None.
        level, ax
            Arguments of :meth:`plot`.
        **arrays : array-like
            Further arguments of the kernel.

        Returns
        -------
        IntervalCalibrationDisplay

        Raises
        ------
        TypeError
            If the estimator is not a regressor of this package.
        ValueError
            If the estimator has several outputs, or an argument is invalid.
        """
        model, rows = check_estimator(estimator, X, "predict_interval", cls.__name__)
        level = check_level("level", level)
        if num_draws is not None:
            draws = model.sample_y(rows, num_draws, random_state=random_state, **arrays)
            return cls.from_predictions(y, draws, level=level, ax=ax)
        y = check_values("y", y, (None,))
        below, upto = (model.predict_cdf(rows, y, strict=strict, **arrays) for strict in (True, False))
        uniform = check_random_state(0).uniform(size=len(y))
        return cls(np.clip(below + uniform * (upto - below), 0, 1)).plot(level=level, ax=ax)

    @classmethod
    def from_predictions(
        cls,
        y: ArrayLike,
        draws: ArrayLike,
        *,
        random_state: int | np.random.RandomState | None = 0,
        level: float = 0.99,
        ax: Axes | None = None,
    ) -> Self:
        """Compare observed outcomes with existing draws.

        Parameters
        ----------
        y : array-like of shape (n_rows,)
            Observed outcomes.
        draws : array-like of shape (n_rows, n_draws)
            Outcomes from the posterior predictive.
        random_state : int, RandomState or None, default=0
            Source of the uniform numbers that randomise the transforms.
        level, ax
            Arguments of :meth:`plot`.

        Returns
        -------
        IntervalCalibrationDisplay
        """
        y = check_values("y", y, (None,))
        draws = check_values("draws", draws, (len(y), None))
        return cls(_transformed(y, draws, check_random_state(random_state))).plot(level=level, ax=ax)

    def plot(self, *, level: float = 0.99, ax: Axes | None = None) -> Self:
        """Draw the plot.

        Parameters
        ----------
        level : float, default=0.99
            Probability that the band contains the share of a calibrated model, at each nominal coverage by itself.
        ax : matplotlib.axes.Axes, optional
            Axes to draw on; a new figure if None.

        Returns
        -------
        self
        """
        level = check_level("level", level)
        self.ax_ = ax = new_axes(ax, width=4.8, height=5.0)
        self.figure_ = ax.figure
        n_rows = len(self.pit)
        distance = np.sort(2 * np.abs(self.pit - 0.5))
        observed = np.searchsorted(distance, LEVELS, side="right") / n_rows
        lower, upper = (binom.ppf(tail, n_rows, LEVELS) / n_rows for tail in ((1 - level) / 2, (1 + level) / 2))
        chance = f"{100 * level:g} % by chance"
        ax.fill_between(100 * LEVELS, 100 * lower, 100 * upper, color=tint(OBSERVED, 0.15), lw=0, label=chance)
        ax.plot([0, 100], [0, 100], color="0.4", lw=1, ls="--", label="Calibrated")
        ax.plot(100 * LEVELS, 100 * observed, color=COLOURS[0], lw=2, label=f"Observed, {n_rows} rows")
        ax.set_aspect("equal")
        ax.set_xlim(0, 100)
        ax.set_ylim(0, 100)
        ax.set_xlabel("Nominal coverage in %")
        ax.set_ylabel("Observed coverage in %")
        legend_above(ax, columns=2)
        return self


def _transformed(y: np.ndarray, draws: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """Return randomised probability integral transforms of outcomes from draws of each row."""
    if not (draws.size and np.isfinite(y).all() and np.isfinite(draws).all()):
        raise ValueError("`y` and `draws` must hold finite numbers, with at least one draw for each row.")
    below = (draws < y[:, None]).sum(axis=1)
    equal = (draws == y[:, None]).sum(axis=1)
    return (below + random.uniform(size=len(y)) * (equal + 1)) / (draws.shape[1] + 1)
