"""Forecasts from several origins in a series, each by a fit on the rows before it."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.model_selection import TimeSeriesSplit
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_consistent_length

from skaimz.estimators import NumPyroImpactRegressor

__all__ = ["backtest"]


def backtest(
    estimator: NumPyroImpactRegressor, X: ArrayLike, y: ArrayLike, cv: Any = 5, *, coverage: float = 0.9, **arrays: Any
) -> pd.DataFrame:
    """Forecast rows of a series from several origins, each time by a copy of the estimator fitted to the rows before.

    Parameters
    ----------
    estimator : NumPyroImpactRegressor
        It stays as it is.
    X : array-like of shape (n_rows, ...)
        Rows in the order of time.
    y : array-like of shape (n_rows,)
    cv : int or splitter of scikit-learn, default=5
        Which rows are fitted and forecast: ``TimeSeriesSplit(n_splits, test_size=horizon)`` has an expanding window,
        and with ``max_train_size`` a sliding one. A number is that of the splits.
    coverage : float, default=0.9
        Probability that an interval holds the outcome.
    **arrays : array or scalar
        The kernel's further arguments. Those with an entry for each row are cut with the rows.

    Returns
    -------
    pandas.DataFrame
        A row for each forecast, with the number of the split, the number of the row in X, the number of steps ahead
        (from 1), the outcome, the predictive mean and standard deviation, and the ends of the interval.

    Raises
    ------
    TypeError
        If the estimator is no regressor of this package.
    ValueError
        If there are too few rows, a row has several outcomes, or rows are forecast that do not follow those of a fit.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.model_selection import TimeSeriesSplit
    >>> from skaimz import NumPyroImpactRegressor
    >>> from skaimz.metrics import backtest
    >>> X = np.arange(60.0)[:, None]
    >>> y = 0.5 * X[:, 0] + np.random.default_rng(0).normal(size=60)
    >>> table = backtest(NumPyroImpactRegressor(random_state=0), X, y, TimeSeriesSplit(4, test_size=5))
    >>> bool(table.eval("lower < y < upper").mean() > 0.7)
    True
    """
    if not isinstance(estimator, NumPyroImpactRegressor):
        raise TypeError(f"`estimator` must be a NumPyroImpactRegressor, got {type(estimator).__name__}.")
    outcomes = np.asarray(y)
    if outcomes.ndim != 1:
        raise ValueError(f"`backtest` takes one outcome for each row, got a y of the shape {outcomes.shape}.")
    check_consistent_length(X, outcomes)
    splitter = TimeSeriesSplit(cv) if isinstance(cv, int) else cv
    tables = []
    for split, (before, after) in enumerate(splitter.split(X)):
        if (np.diff(np.concatenate([before, after])) != 1).any():
            raise ValueError(
                f"`cv` must forecast rows that directly follow those of the fit, but split {split} does not: use "
                "`TimeSeriesSplit` without a gap."
            )
        cut = lambda rows: {name: _cut(array, rows, len(outcomes)) for name, array in arrays.items()}  # noqa: E731
        model = clone(estimator).fit(_safe_indexing(X, before), outcomes[before], **cut(before))
        ahead, own = _safe_indexing(X, after), cut(after)
        mean, std = model.predict(ahead, return_std=True, **own)
        lower, upper = model.predict_interval(ahead, coverage, **own).T
        columns = {"y": outcomes[after], "mean": mean, "std": std, "lower": lower, "upper": upper}
        steps = np.arange(1, len(after) + 1)
        tables.append(pd.DataFrame({"split": split, "row": after, "step": steps, **columns}))
    return pd.concat(tables, ignore_index=True)


def _cut(array: Any, rows: np.ndarray, n_rows: int) -> Any:
    has_rows = np.ndim(array) > 0 and len(array) == n_rows
    return _safe_indexing(array, rows) if has_rows else array
