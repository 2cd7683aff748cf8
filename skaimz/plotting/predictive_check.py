"""A plot that compares observed outcomes with those that a model predicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator

from skaimz.plotting.checks import check_estimator, check_level, check_values
from skaimz.plotting.density import ANYWHERE, bounds_of, draw_density, widened
from skaimz.plotting.style import COLOURS, OBSERVED, legend_above, new_axes, tint

if TYPE_CHECKING:
    from skaimz.plotting.types import Axes, RandomState

__all__ = ["PredictiveCheckDisplay"]

# Largest numbers of bars that are legible.
MOST_BINS, MOST_CLASSES = 40, 60
# The horizontal axis covers these quantiles of the draws, and all observed outcomes.
OUTERMOST = (0.005, 0.995)


class PredictiveCheckDisplay:
    """Posterior predictive check: the distributions of observed outcomes and of outcomes that the model draws.

    For continuous outcomes, the plot shows densities, with a curve for each draw of all rows. For counts (outcomes and
    draws that are all integers) and classes, it shows shares of the rows: bars for the observed outcomes, and points
    with intervals for the draws. The horizontal axis covers all observed outcomes and 99 % of the draws.

    Parameters
    ----------
    y : array-like of shape (n_rows,)
        Observed outcomes.
    draws : array-like of shape (n_rows, n_draws)
        Outcomes from the posterior predictive, as from ``sample_y``.
    classes : sequence, optional
        Labels in the order of the plot. If None, outcomes that are not numbers are classes in sorted order.
    bounds : tuple of float, default=(-inf, inf)
        Smallest and largest possible outcome, beyond which densities are zero.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Axes of the latest plot.
    figure_ : matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If shapes do not match, there are fewer than two rows, or outcomes are not finite or not among the classes.

    References
    ----------
    J. Gabry, D. Simpson, A. Vehtari, M. Betancourt and A. Gelman (2019), Visualization in Bayesian workflow, Journal of
    the Royal Statistical Society A 182, section 5.

    Examples
    --------
    >>> import numpy as np
    >>> from skaimz import NumPyroImpactRegressor
    >>> from skaimz.plotting import PredictiveCheckDisplay
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 2))
    >>> y = X @ [1.0, 2.0] + rng.normal(size=200)
    >>> model = NumPyroImpactRegressor(random_state=0).fit(X, y)
    >>> display = PredictiveCheckDisplay.from_estimator(model, X, y)
    >>> [text.get_text() for text in display.ax_.get_legend().get_texts()]
    ['50 draws of the posterior predictive', 'Observed']
    """

    def __init__(
        self,
        y: ArrayLike,
        draws: ArrayLike,
        *,
        classes: Sequence[object] | None = None,
        bounds: tuple[float, float] = ANYWHERE,
    ):
        self.y = check_values("y", y, (None,))
        self.draws = check_values("draws", draws, (len(self.y), None))
        self.bounds = bounds
        if len(self.y) < 2 or not self.draws.size:
            raise ValueError(f"A distribution needs 2 rows and a draw at least, got draws of shape {self.draws.shape}.")
        is_number = self.y.dtype.kind in "iuf" and self.draws.dtype.kind in "iuf"
        if classes is None and not is_number:
            classes = sorted({*self.y.tolist(), *self.draws.ravel().tolist()})
        self.classes = None if classes is None else np.asarray(classes)
        if self.classes is not None:
            known = np.isin(self.y, self.classes).all() and np.isin(self.draws, self.classes).all()
            if not known:
                raise ValueError(f"`y` and `draws` hold labels that are not among the classes {self.classes.tolist()}.")
        elif not (np.isfinite(self.y).all() and np.isfinite(self.draws).all()):
            raise ValueError("`y` and `draws` must hold finite numbers.")

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: ArrayLike,
        y: ArrayLike,
        *,
        num_draws: int = 50,
        random_state: RandomState = None,
        level: float = 0.9,
        ax: Axes | None = None,
        **arrays: ArrayLike,
    ) -> Self:
        """Compare observed outcomes with outcomes that are drawn from the posterior predictive.

        Parameters
        ----------
        estimator : NumPyroImpactRegressor or NumPyroImpactClassifier, or Pipeline or search that ends in one
        X : array-like of shape (n_rows, n_features)
        y : array-like of shape (n_rows,)
            Observed outcomes.
        num_draws : int, default=50
            Number of outcomes to draw for each row.
        random_state : int, RandomState, JAX key or None, default=None
            Seed of the draws; that of the estimator if None.
        level, ax
            Arguments of :meth:`plot`.
        **arrays : array-like
            Further arguments of the kernel.

        Returns
        -------
        PredictiveCheckDisplay

        Raises
        ------
        TypeError
            If the estimator is not one of this package.
        ValueError
            If the estimator has several outputs, or an argument is invalid.
        """
        estimator, X = check_estimator(estimator, X, "sample_y", cls.__name__)
        draws = estimator.sample_y(X, num_draws, random_state=random_state, **arrays)
        # With several outputs, this is a list for each output. The shape of their draws then raises an error.
        classes = getattr(estimator, "classes_", None)
        spec = getattr(estimator, "kernel_spec_", None)
        bounds = ANYWHERE if spec is None else bounds_of(spec[spec.output].support)
        return cls(y, draws, classes=classes, bounds=bounds).plot(level=level, ax=ax)

    @classmethod
    def from_predictions(
        cls,
        y: ArrayLike,
        draws: ArrayLike,
        *,
        classes: Sequence[object] | None = None,
        bounds: tuple[float, float] = ANYWHERE,
        level: float = 0.9,
        ax: Axes | None = None,
    ) -> Self:
        """Compare observed outcomes with existing draws.

        Parameters
        ----------
        y, draws, classes, bounds
            Arguments of the class.
        level, ax
            Arguments of :meth:`plot`.

        Returns
        -------
        PredictiveCheckDisplay
        """
        return cls(y, draws, classes=classes, bounds=bounds).plot(level=level, ax=ax)

    def plot(self, *, level: float = 0.9, ax: Axes | None = None) -> Self:
        """Draw the plot.

        Parameters
        ----------
        level : float, default=0.9
            Probability of the equal-tailed intervals of shares. Densities have no intervals.
        ax : matplotlib.axes.Axes, optional
            Axes to draw on; a new figure if None.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If there are too many classes for a plot.
        """
        level = check_level("level", level)
        if self.classes is not None and len(self.classes) > MOST_CLASSES:
            raise ValueError(f"A picture of {len(self.classes)} classes is not legible: draw {MOST_CLASSES} at most.")
        height = 4.0 if self.classes is None else max(2.2, 1.2 + 0.38 * len(self.classes))
        self.ax_ = new_axes(ax, height=height)
        self.figure_ = self.ax_.figure
        if self.classes is not None:
            self._draw_classes(self.classes, level)
        elif _are_whole(self.y) and _are_whole(self.draws):
            self._draw_counts(level)
        else:
            self._draw_densities()
        return self

    def _window(self) -> tuple[float, float]:
        low, high = np.quantile(self.draws, OUTERMOST)
        return min(low, self.y.min()), max(high, self.y.max())

    def _draw_densities(self) -> None:
        ax, n_draws = self.ax_, self.draws.shape[1]
        low, high = np.clip(widened(*self._window()), *self.bounds)
        grid = np.linspace(low, high, 300)
        for i, draws in enumerate(self.draws.T):
            label = f"{n_draws} draw{'s'[: n_draws > 1]} of the posterior predictive" if i == 0 else None
            draw_density(ax, draws, grid, self.bounds, color=COLOURS[0], alpha=0.35, lw=0.8, label=label)
        draw_density(ax, self.y, grid, self.bounds, color=OBSERVED, lw=2, label="Observed")
        ax.set_xlim(grid[0], grid[-1])
        ax.set_ylim(bottom=0)
        ax.set_xlabel("Outcome")
        ax.set_ylabel("Density")
        legend_above(ax)

    def _draw_counts(self, level: float) -> None:
        ax = self.ax_
        low, high = self._window()
        low, high = math.floor(low), math.ceil(high)
        width = -(-(high - low + 1) // MOST_BINS)
        edges = np.arange(low, high + width + 1, width) - 0.5
        centres = (edges[:-1] + edges[1:]) / 2
        observed = np.histogram(self.y, edges)[0] / len(self.y)
        drawn = np.stack([np.histogram(draws, edges)[0] for draws in self.draws.T], axis=1) / len(self.y)
        lower, median, upper = _intervals(drawn, level)
        ax.bar(centres, observed, 0.8 * width, color=tint(OBSERVED, 0.25), label="Observed")
        ax.vlines(centres, lower, upper, color=COLOURS[0], lw=1.5)
        ax.plot(centres, median, "o", color=COLOURS[0], ms=4, label=_predicted(level))
        ax.set_xlabel("Outcome")
        ax.set_ylabel("Share of rows")
        ax.locator_params(axis="x", integer=True)
        ax.set_ylim(bottom=0)
        legend_above(ax)

    def _draw_classes(self, classes: np.ndarray, level: float) -> None:
        ax = self.ax_
        observed = np.array([(self.y == label).mean() for label in classes])
        drawn = np.stack([(self.draws == label).mean(axis=0) for label in classes])
        lower, median, upper = _intervals(drawn, level)
        places = np.arange(len(classes))[::-1]
        ax.barh(places, observed, 0.7, color=tint(OBSERVED, 0.25), label="Observed")
        ax.hlines(places, lower, upper, color=COLOURS[0], lw=1.5)
        ax.plot(median, places, "o", color=COLOURS[0], ms=5, label=_predicted(level))
        ax.set_yticks(places, [str(label) for label in classes])
        ax.set_ylim(-0.7, len(classes) - 0.3)
        ax.set_xlim(left=0)
        ax.set_xlabel("Share of rows")
        ax.set_ylabel("Class")
        # Long class labels leave little width for the legend.
        legend_above(ax, columns=1)


def _intervals(shares: np.ndarray, level: float) -> np.ndarray:
    """Return lower ends, medians and upper ends over the draws, which are on the last axis."""
    return np.quantile(shares, [(1 - level) / 2, 0.5, (1 + level) / 2], axis=1)


def _predicted(level: float) -> str:
    return f"Posterior predictive: median, {100 * level:g} % interval"


def _are_whole(values: np.ndarray) -> bool:
    return bool((values == np.round(values)).all())
