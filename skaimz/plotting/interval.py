"""A picture of predictions with their intervals."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.utils import _safe_indexing

from skaimz.plotting.checks import check_estimator, check_levels, check_values
from skaimz.plotting.style import COLOURS, OBSERVED, legend_above, new_axes, tint

__all__ = ["IntervalDisplay"]

# Bars of more rows would be a pixel wide.
MOST_BARS = 500
# Widths in points of the bars of the narrowest and of the widest interval, where rows are few.
BAR_WIDTHS = (6.0, 2.0)
# Points of width that all bars together have, and that one has at least.
ROOM, LEAST_WIDTH = 350, 1.5


class IntervalDisplay:
    """Predictions with nested intervals, and what was observed.

    Parameters
    ----------
    mean : array-like of shape (n_rows,)
        Predicted means.
    intervals : array-like of shape (n_rows, 2, n_levels), or (n_rows, 2) for one level
        Lower and upper ends, as ``predict_interval`` returns them.
    y : array-like of shape (n_rows,), optional
        Observed outcomes.
    feature : array-like of shape (n_rows,), optional
        Numbers or dates for the horizontal axis; the predicted mean where None.
    feature_name : str, optional
        Name of the horizontal axis; that of the feature itself where it has one.
    coverage : float or sequence of float, default=(0.5, 0.9)
        Probabilities of the intervals, in their order.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Where it was last drawn.
    figure_ : matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If shapes do not fit together, a coverage is no probability, or the horizontal axis holds values that are
        neither finite numbers nor dates.

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
        mean: Any,
        intervals: Any,
        y: Any = None,
        *,
        feature: Any = None,
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
            raise ValueError("The predicted means are not all finite, as the horizontal axis must be: give `feature`.")

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        feature: Any = None,
        coverage: float | Sequence[float] = (0.5, 0.9),
        kind: str = "bar",
        ax: Any = None,
        **arrays: Any,
    ) -> Self:
        """Predict rows and draw them.

        Parameters
        ----------
        estimator : NumPyroImpactRegressor
        X : array-like of shape (n_rows, n_features)
        y : array-like of shape (n_rows,), optional
            Observed outcomes.
        feature : int, str or array-like of shape (n_rows,), optional
            What the horizontal axis shows: a column of X, by position or name, or values of the rows, such as dates or
            ``np.arange(n_rows)`` for their order. The predicted mean where None.
        coverage : float or sequence of float, default=(0.5, 0.9)
            Probabilities of the intervals.
        kind, ax
            As in :meth:`plot`.
        **arrays : array or scalar
            The kernel's further arguments.

        Returns
        -------
        IntervalDisplay

        Raises
        ------
        TypeError
            If the estimator is not a regressor of this package.
        ValueError
            If it has several outputs, or an argument cannot be used.
        """
        check_estimator(estimator, "predict_interval", cls.__name__)
        levels = check_levels("coverage", coverage)
        name = None
        if feature is not None and np.ndim(feature) == 0:
            feature, name = _column(estimator, X, feature)
        mean, intervals = estimator.predict(X, **arrays), estimator.predict_interval(X, levels, **arrays)
        return cls(mean, intervals, y, feature=feature, feature_name=name, coverage=levels).plot(kind, ax=ax)

    @classmethod
    def from_predictions(
        cls,
        mean: Any,
        intervals: Any,
        y: Any = None,
        *,
        feature: Any = None,
        feature_name: str | None = None,
        coverage: float | Sequence[float] = (0.5, 0.9),
        kind: str = "bar",
        ax: Any = None,
    ) -> Self:
        """Draw predictions that were made before.

        Parameters
        ----------
        mean, intervals, y, feature, feature_name, coverage
            As in the class.
        kind, ax
            As in :meth:`plot`.

        Returns
        -------
        IntervalDisplay
        """
        return cls(mean, intervals, y, feature=feature, feature_name=feature_name, coverage=coverage).plot(kind, ax=ax)

    def plot(self, kind: str = "bar", *, ax: Any = None) -> Self:
        """Draw.

        Parameters
        ----------
        kind : {"bar", "band"}, default="bar"
            A bar for each row and level; or bands from row to row along the horizontal axis, which suit intervals that
            depend on nothing else.
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure where None.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If there are too many rows for bars.
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
        # From whiskers to boxes; bars of many rows are as thin as lets them be told apart.
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
        """Return levels with their ends, so that narrow intervals are drawn over wide ones."""
        order = np.argsort(self.coverage)[::-1]
        return [(self.coverage[i], self.intervals[:, :, i].T) for i in order]

    def _shades(self) -> np.ndarray:
        """Return strengths of the colour, from the widest interval to the narrowest."""
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


def _column(estimator: Any, X: Any, column: Any) -> tuple[np.ndarray, str]:
    """Return a column of X, and its name."""
    X = X if hasattr(X, "columns") else np.asarray(X)
    names = list(getattr(X, "columns", getattr(estimator, "feature_names_in_", [])))
    place = names.index(column) if column in names else column
    if not isinstance(place, int | np.integer) or isinstance(place, bool) or not 0 <= place < X.shape[1]:
        known = f"names are {names}" if names else "it has no names"
        raise ValueError(
            f"`feature` must be one of the {X.shape[1]} columns of X, by position or name ({known}), got {column!r}."
        )
    return np.asarray(_safe_indexing(X, int(place), axis=1)), str(names[place]) if names else f"x{place}"
