"""Intervals, checks and trees of a Pipeline: the last step's answers for transformed rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from skaimz.datatree import storable_labels, with_labels
from skaimz.estimators import Model
from skaimz.pipeline._steps import Steps

__all__ = ["diagnose", "predict_interval", "predict_quantiles", "to_datatree"]


def predict_interval(pipeline: Any, X: Any, coverage: float | Sequence[float] = 0.9, **arrays: Any) -> np.ndarray:
    """Return equal-tailed intervals of the posterior predictive.

    Parameters
    ----------
    pipeline : Pipeline, search or estimator
        Fitted, with a regressor of this package as the last step.
    X : array-like of shape (n_rows, n_features)
        Rows as the Pipeline takes them.
    coverage, **arrays
        As in :meth:`skaimz.NumPyroImpactRegressor.predict_interval`.

    Returns
    -------
    array of shape (n_rows, 2), or (n_rows, 2, n_levels) for a sequence

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skaimz import NumPyroImpactRegressor
    >>> from skaimz.pipeline import predict_interval
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(50.0, 10.0, size=(100, 2))
    >>> y = X @ [1.0, -2.0] + rng.normal(scale=0.1, size=100)
    >>> pipe = make_pipeline(StandardScaler(), NumPyroImpactRegressor(random_state=0)).fit(X, y)
    >>> lower, upper = predict_interval(pipe, X).T
    >>> bool(0.8 < np.mean((lower < y) & (y < upper)) < 1.0)
    True
    """
    steps = Steps(pipeline)
    return steps.regressor("predict_interval").predict_interval(steps.transform(X), coverage, **arrays)


def predict_quantiles(
    pipeline: Any, X: Any, quantiles: Sequence[float] = (0.05, 0.5, 0.95), **arrays: Any
) -> np.ndarray:
    """Return quantiles of the posterior predictive.

    Parameters
    ----------
    pipeline : Pipeline, search or estimator
        Fitted, with a regressor of this package as the last step.
    X : array-like of shape (n_rows, n_features)
        Rows as the Pipeline takes them.
    quantiles, **arrays
        As in :meth:`skaimz.NumPyroImpactRegressor.predict_quantiles`.

    Returns
    -------
    array of shape (n_rows, n_quantiles) or (n_rows, n_outputs, n_quantiles)

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skaimz import NumPyroImpactRegressor
    >>> from skaimz.pipeline import predict_quantiles
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(50.0, 10.0, size=(100, 2))
    >>> y = X @ [1.0, -2.0] + rng.normal(scale=0.1, size=100)
    >>> pipe = make_pipeline(StandardScaler(), NumPyroImpactRegressor(random_state=0)).fit(X, y)
    >>> predict_quantiles(pipe, X[:3], [0.1, 0.9]).shape
    (3, 2)
    """
    steps = Steps(pipeline)
    return steps.regressor("predict_quantiles").predict_quantiles(steps.transform(X), quantiles, **arrays)


def diagnose(pipeline: Any, X: Any = None, y: Any = None, **options: Any) -> pd.DataFrame:
    """Check whether the fit can be trusted, and whether prior and predictions suit the outcomes.

    Parameters
    ----------
    pipeline : Pipeline, search or estimator
        Fitted, with an estimator of this package as the last step.
    X : array-like of shape (n_rows, n_features), optional
        The rows of the fit as the Pipeline takes them.
    y : array-like of shape (n_rows,) or (n_rows, n_outputs), optional
        Their outcomes.
    **options : object
        Further arguments of :meth:`skaimz.NumPyroImpactRegressor.diagnose`.

    Returns
    -------
    pandas.DataFrame

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skaimz import NumPyroImpactRegressor
    >>> from skaimz.pipeline import diagnose
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(50.0, 10.0, size=(100, 2))
    >>> y = X @ [1.0, -2.0] + rng.normal(scale=0.1, size=100)
    >>> pipe = make_pipeline(StandardScaler(), NumPyroImpactRegressor(random_state=0)).fit(X, y)
    >>> diagnose(pipe, X, y, checks=["p_mean", "p_sd"])["verdict"].to_dict()
    {'p_mean': 'good', 'p_sd': 'good'}
    """
    steps = Steps(pipeline)
    return steps.estimator.diagnose(None if X is None else steps.transform(X), y, **options)


def to_datatree(pipeline: Any, X: Any = None, y: Any = None, **options: Any) -> xr.DataTree:
    """Return all that the fit of the last step knows as a tree, which ArviZ reads; :func:`save` keeps the steps, too.

    Parameters
    ----------
    pipeline : Pipeline, search or estimator
        Fitted, with an estimator of this package as the last step.
    X : array-like of shape (n_rows, n_features), optional
        The rows of the fit as the Pipeline takes them. The group ``constant_data`` has them as the kernel takes them.
        The tree has the row labels of a data frame, which steps that return arrays lose.
    y : array-like of shape (n_rows,) or (n_rows, n_outputs), optional
        Their outcomes.
    **options : object
        Further arguments of :meth:`skaimz.NumPyroImpactRegressor.to_datatree`.

    Returns
    -------
    xarray.DataTree

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skaimz import NumPyroImpactRegressor
    >>> from skaimz.pipeline import to_datatree
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(50.0, 10.0, size=(100, 2))
    >>> y = X @ [1.0, -2.0] + rng.normal(scale=0.1, size=100)
    >>> pipe = make_pipeline(StandardScaler(), NumPyroImpactRegressor(random_state=0)).fit(X, y)
    >>> "log_likelihood" in to_datatree(pipe, X, y).children
    True
    """
    steps = Steps(pipeline)
    rows = None if X is None else steps.transform(X)
    tree = steps.estimator.to_datatree(rows, y, **options)
    spec = Model.of(steps.estimator).spec
    if spec is None or not hasattr(X, "iloc") or hasattr(rows, "iloc"):
        return tree
    labels = storable_labels(X.index)
    return tree.map_over_datasets(lambda dataset: with_labels(dataset, spec, labels))
