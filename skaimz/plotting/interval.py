"""A plot of predictions with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils import _safe_indexing

from skaimz.plotting.checks import check_estimator, check_levels, check_values
from skaimz.plotting.style import COLOURS, OBSERVED, legend_above, new_axes, tint

if TYPE_CHECKING:
    from skaimz.plotting.types import Axes

__all__ = ["IntervalDisplay"]

# The bars of more rows would be one pixel wide.
MOST_BARS = 500
# Widths in points of the bars of the narrowest and of the widest interval, if there are few rows.
BAR_WIDTHS = (6.0, 2.0)
# Width in points of all bars together, and least width of a single bar.
ROOM, LEAST_WIDTH = 350, 1.5


class IntervalDisplay:
    """Predictions with nested intervals, and observed outcomes.

    Parameters
    ----------
    mean : array-like of shape (n_rows,)
        Predicted means.
    intervals : array-like of shape (n_rows, 2, n_levels), or (n_rows, 2) for one level
        Lower and upper ends, as from ``predict_interval``.
    y : array-like of shape (n_rows,), optional
        Observed outcomes.
    feature : array-like of shape (n_rows,), optional
        Numbers or dates on the horizontal axis; the predicted means if None.
    feature_name : str, optional
        Label of the horizontal axis; the attribute ``name`` of the feature, if it has one, if None.
    coverage : float or sequence of float, default=(0.5, 0.9)
        Probabilities of the intervals, in the order of their last axis.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Axes of the latest plot.
    figure_ : matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If shapes do not match, a coverage is not between 0 and 1, or values on the horizontal axis are neither finite
        numbers nor dates.

    See Also
    --------
    sklearn.metrics.PredictionErrorDisplay : The same without intervals.

    Examples
    --------
    >>> import numpy as np
    >>> from skaimz import NumPyroImpactRegressor
    >>> from skaimz.plotting import IntervalDisplay
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 2))
    >>> y = X @ [1.0, 2.0] + rng.normal(size=200)
    >>> model = NumPyroImpactRegressor(random_state=0).fit(X, y)
    >>> display = IntervalDisplay.from_estimator(model, X, y, feature=1)
    >>> display.ax_.get_xlabel(), display.ax_.get_ylabel()
    ('x1', 'Outcome')
    """

    def __init__(
        self,
        mean: ArrayLike,
        intervals: ArrayLike,
        y: ArrayLike | None = None,
        *,
        feature: ArrayLike | None = None,
        feature_name: str | None = None,
        coverage: float | Sequence[float] = (0.5, 0.9),
    ):
        self.coverage = check_levels("coverage", coverage)
        self.mean = check_values("mean", mean, (None,))
        n_rows = len(self.mean)
        intervals = np.asarray(intervals)
        if intervals.ndim == 2 and len(self.coverage) == 1:
            intervals = intervals[..., None]
        self.intervals = check_values("intervals", intervals, (n_rows, 2, len(self.coverage)))
        if not (self.intervals[:, 0] <= self.intervals[:, 1]).all():
            raise ValueError("`intervals` must hold lower ends, and upper ends that are not below them.")
        self.y = None if y is None else check_values("y", y, (n_rows,))
        self.feature = None if feature is None else _numbers_or_dates(check_values("feature", feature, (n_rows,)))
        self.feature_name = feature_name or getattr(feature, "name", None) or "Feature"
        if self.feature is None and not np.isfinite(self.mean).all():
            raise ValueError("Some predicted means are not finite, so the horizontal axis needs a `feature`.")

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        feature: int | str | ArrayLike | None = None,
        coverage: float | Sequence[float] = (0.5, 0.9),
        kind: str = "bar",
        ax: Axes | None = None,
        **arrays: ArrayLike,
    ) -> Self:
        """Draw predictions of an estimator.

        Parameters
        ----------
        estimator : NumPyroImpactRegressor, or Pipeline or search that ends in one
        X : array-like of shape (n_rows, n_features)
        y : array-like of shape (n_rows,), optional
            Observed outcomes.
        feature : int, str or array-like of shape (n_rows,), optional
            Horizontal axis: the position or name of a column of X (before the steps of a Pipeline), or a value for each
            row, such as a date or ``np.arange(n_rows)`` for the order of rows. The predicted means if None.
        coverage : float or sequence of float, default=(0.5, 0.9)
            Probabilities of the intervals.
        kind, ax
            Arguments of :meth:`plot`.
        **arrays : array-like
            Further arguments of the kernel.

        Returns
        -------
        IntervalDisplay

        Raises
        ------
        TypeError
            If the estimator is not a regressor of this package.
        ValueError
            If the estimator has several outputs, or an argument is invalid.
        """
        model, rows = check_estimator(estimator, X, "predict_interval", cls.__name__)
        levels = check_levels("coverage", coverage)
        name = None
        if feature is not None and np.ndim(feature) == 0:
            feature, name = _column(estimator, X, feature)
        mean, intervals = model.predict(rows, **arrays), model.predict_interval(rows, levels, **arrays)
        return cls(mean, intervals, y, feature=feature, feature_name=name, coverage=levels).plot(kind, ax=ax)

    @classmethod
    def from_predictions(
        cls,
        mean: ArrayLike,
        intervals: ArrayLike,
        y: ArrayLike | None = None,
        *,
        feature: ArrayLike | None = None,
        feature_name: str | None = None,
        coverage: float | Sequence[float] = (0.5, 0.9),
        kind: str = "bar",
        ax: Axes | None = None,
    ) -> Self:
        """Draw existing predictions.

        Parameters
        ----------
        mean, intervals, y, feature, feature_name, coverage
            Arguments of the class.
        kind, ax
            Arguments of :meth:`plot`.

        Returns
        -------
        IntervalDisplay
        """
        return cls(mean, intervals, y, feature=feature, feature_name=feature_name, coverage=coverage).plot(kind, ax=ax)

    def plot(self, kind: str = "bar", *, ax: Axes | None = None) -> Self:
        """Draw the plot.

        Parameters
        ----------
        kind : {"bar", "band"}, default="bar"
            ``"bar"`` draws a bar for each row and level. ``"band"`` draws bands along the horizontal axis, and suits
            intervals that depend only on the value there.
        ax : matplotlib.axes.Axes, optional
            Axes to draw on; a new figure if None.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If ``kind`` is unknown, or there are too many rows for bars.
        """
        if kind not in ("band", "bar"):
            raise ValueError(f"`kind` must be 'band' or 'bar', got {kind!r}.")
        if kind == "bar" and len(self.mean) > MOST_BARS:
            raise ValueError(
                f"Bars of {len(self.mean)} rows are not legible: draw {MOST_BARS} at most, or bands with `kind='band'`."
            )
        self.ax_ = new_axes(ax)
        self.figure_ = self.ax_.figure
        across = self.mean if self.feature is None else self.feature
        (self._draw_bars if kind == "bar" else self._draw_bands)(across)
        if self.y is not None:
            size = 3 if len(across) < 200 else 2
            self.ax_.plot(across, self.y, "o", color=OBSERVED, ms=size, mew=0, label="Observed")
        self.ax_.set_xlabel("Predicted mean" if self.feature is None else self.feature_name)
        self.ax_.set_ylabel("Outcome")
        legend_above(self.ax_)
        return self

    def _draw_bars(self, across: np.ndarray) -> None:
        # Wide intervals have thin bars, and narrow ones thick bars. Bars of many rows are so thin that they do not
        # overlap.
        widths = np.minimum(np.linspace(*BAR_WIDTHS, len(self.coverage))[::-1], max(LEAST_WIDTH, ROOM / len(across)))
        for shade, width, (level, ends) in zip(self._shades(), widths, self._from_widest(), strict=True):
            self.ax_.vlines(across, *ends, color=tint(COLOURS[0], shade), lw=width, label=_label(level))
        self.ax_.plot(across, self.mean, "_", color=COLOURS[0], ms=5, mew=1.5, label="Mean")

    def _draw_bands(self, across: np.ndarray) -> None:
        order = np.argsort(across, kind="stable")
        for shade, (level, (lower, upper)) in zip(self._shades(), self._from_widest(), strict=True):
            self.ax_.fill_between(
                across[order], lower[order], upper[order], color=tint(COLOURS[0], shade), lw=0, label=_label(level)
            )
        self.ax_.plot(across[order], self.mean[order], color=COLOURS[0], label="Mean")

    def _from_widest(self) -> list[tuple[float, np.ndarray]]:
        """Return levels with the ends of their intervals, from the widest to the narrowest, which is drawn last."""
        order = np.argsort(self.coverage)[::-1]
        return [(self.coverage[i], self.intervals[:, :, i].T) for i in order]

    def _shades(self) -> np.ndarray:
        """Return the strength of the colour of each interval, from the widest to the narrowest."""
        return np.linspace(0.6, 0.25, len(self.coverage))[::-1]


def _label(level: float) -> str:
    return f"{100 * level:g} % interval"


def _numbers_or_dates(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind != "M":
        try:
            values = values.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"`feature` must hold numbers or dates, got values like {values[0]!r}.") from error
    if not (np.isfinite(values)).all():
        raise ValueError("`feature` must hold finite values.")
    return values


def _column(estimator: BaseEstimator, X: ArrayLike, column: Any) -> tuple[np.ndarray, str]:
    """Return a column of X, and its name."""
    table: Any = X if hasattr(X, "columns") else np.asarray(X)
    if len(table.shape) != 2:
        raise ValueError(f"`feature` names a column, but X has the shape {table.shape}, and only a table has columns.")
    names = list(getattr(table, "columns", getattr(estimator, "feature_names_in_", [])))
    position = names.index(column) if column in names else column
    if not isinstance(position, int | np.integer) or isinstance(position, bool) or not 0 <= position < table.shape[1]:
        known = f"names are {names}" if names else "it has no names"
        raise ValueError(
            f"`feature` must be one of the {table.shape[1]} columns of X, as a position or a name ({known}), got "
            f"{column!r}."
        )
    return np.asarray(_safe_indexing(table, int(position), axis=1)), str(names[position]) if names else f"x{position}"
