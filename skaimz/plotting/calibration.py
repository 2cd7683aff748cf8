"""A picture of how often intervals hold the outcome."""

from typing import Any, Self

import numpy as np
from scipy.stats import binom
from sklearn.utils import check_random_state

from skaimz.plotting.checks import check_estimator, check_level, check_values
from skaimz.plotting.style import COLOURS, OBSERVED, legend_above, new_axes, tint

__all__ = ["IntervalCalibrationDisplay"]

# Nominal coverages.
LEVELS = np.arange(1, 100) / 100


class IntervalCalibrationDisplay:
    """Share of outcomes that equal-tailed intervals hold, for intervals of every probability.

    Above the diagonal intervals are wider than they need be, below they are too narrow. The band shows within which
    bounds the share of a calibrated model lies, at each probability by itself: quantiles of the binomial distribution
    with as many trials as rows. It is meant for rows that the model was not fitted to.

    Parameters
    ----------
    pit : array-like of shape (n_rows,)
        Probability integral transforms of the outcomes: values of the predictive distribution functions at them, which
        are uniform for a calibrated model. An interval of probability ``c`` holds the outcome where its transform is
        within ``c / 2`` of one half.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Where it was last drawn.
    figure_ : matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If transforms do not lie between 0 and 1.

    Notes
    -----
    Transforms of discrete outcomes are randomised: the mass at the outcome is cut at a uniform place. Without that no
    interval of counts has exactly its nominal probability, and a calibrated model would seem to have intervals that are
    too wide. With ``S`` draws for a row, of which ``a`` are below the outcome and ``b`` equal to it, the transform is
    ``(a + V * (b + 1)) / (S + 1)`` with ``V`` uniform. This is exactly uniform wherever outcome and draws are
    exchangeable, for any ``S`` and for continuous outcomes too, so that the band holds as it is.

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

    def __init__(self, pit: Any):
        self.pit = check_values("pit", pit, (None,))
        if not len(self.pit) or not ((self.pit >= 0) & (self.pit <= 1)).all():
            raise ValueError("`pit` must hold a number between 0 and 1 for each row.")

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        num_draws: int = 1000,
        random_state: Any = None,
        level: float = 0.99,
        ax: Any = None,
        **arrays: Any,
    ) -> Self:
        """Draw outcomes of rows from the posterior predictive, and compare the observed ones with them.

        Parameters
        ----------
        estimator : NumPyroImpactRegressor
        X : array-like of shape (n_rows, n_features)
            Rows that the estimator was not fitted to.
        y : array-like of shape (n_rows,)
            Observed outcomes.
        num_draws : int, default=1000
            Outcomes of each row; all are held in memory at once.
        random_state : int, RandomState, JAX key or None, default=None
            Seed of the draws; the estimator's own where None.
        level, ax
            As in :meth:`plot`.
        **arrays : array or scalar
            The kernel's further arguments.

        Returns
        -------
        IntervalCalibrationDisplay

        Raises
        ------
        TypeError
            If the estimator is not a regressor of this package.
        ValueError
            If it has several outputs, or an argument cannot be used.
        """
        check_estimator(estimator, "predict_interval", cls.__name__)
        level = check_level("level", level)
        draws = estimator.sample_y(X, num_draws, random_state=random_state, **arrays)
        return cls.from_predictions(y, draws, level=level, ax=ax)

    @classmethod
    def from_predictions(
        cls, y: Any, draws: Any, *, random_state: Any = 0, level: float = 0.99, ax: Any = None
    ) -> Self:
        """Compare outcomes with draws that were made before.

        Parameters
        ----------
        y : array-like of shape (n_rows,)
            Observed outcomes.
        draws : array-like of shape (n_rows, n_draws)
            Outcomes from the posterior predictive.
        random_state : int, RandomState or None, default=0
            Source of the uniform numbers that break ties.
        level, ax
            As in :meth:`plot`.

        Returns
        -------
        IntervalCalibrationDisplay
        """
        y = check_values("y", y, (None,))
        draws = check_values("draws", draws, (len(y), None))
        return cls(_transformed(y, draws, check_random_state(random_state))).plot(level=level, ax=ax)

    def plot(self, *, level: float = 0.99, ax: Any = None) -> Self:
        """Draw.

        Parameters
        ----------
        level : float, default=0.99
            Probability that a calibrated model's share lies within the band, at each nominal coverage by itself.
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure where None.

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
        raise ValueError("`y` and `draws` must hold finite numbers, and a draw of each row at least.")
    below = (draws < y[:, None]).sum(axis=1)
    equal = (draws == y[:, None]).sum(axis=1)
    return (below + random.uniform(size=len(y)) * (equal + 1)) / (draws.shape[1] + 1)
