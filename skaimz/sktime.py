"""Estimators as forecasters of sktime.

Install sktime and skpro with ``pip install 'skaimz[sktime]'``. Forecasts go on from the rows of the fit if the kernel
does, such as one with a random walk; see the guide on time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sktime.forecasting.base import BaseForecaster, ForecastingHorizon

from skaimz.estimators import NumPyroImpactRegressor
from skaimz.skpro import SkproDistribution

__all__ = ["SktimeForecaster"]


class SktimeForecaster(BaseForecaster):
    """A forecaster of sktime around an estimator of this package.

    The first column of the kernel's X is the number of steps since the first observation; the columns of exogenous
    data follow. Forecasts are made for all steps up to the last one of the horizon, of which those of the horizon are
    returned.

    Parameters
    ----------
    estimator : NumPyroImpactRegressor
        Fitted as a copy, which is the attribute ``estimator_``.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from skaimz import NumPyroImpactRegressor
    >>> from skaimz.sktime import SktimeForecaster
    >>> months = pd.period_range("2020-01", periods=36, freq="M")
    >>> y = pd.Series(2.0 * np.arange(36) + np.random.default_rng(0).normal(size=36), index=months, name="sales")
    >>> model = SktimeForecaster(NumPyroImpactRegressor(random_state=0)).set_config(remember_data=True).fit(y)
    >>> model.predict_interval(fh=[1, 12], coverage=0.9).shape
    (2, 2)
    """

    _tags = {  # noqa: RUF012  (sktime reads it from the class)
        "authors": ["skaimz"],
        "python_dependencies": "skpro",
        "y_inner_mtype": "pd.DataFrame",
        "X_inner_mtype": "pd.DataFrame",
        "requires-fh-in-fit": False,
        "capability:exogenous": True,
        "capability:categorical_in_X": False,
        "capability:non_contiguous_X": False,
        "capability:insample": False,
        "capability:pred_int": True,
        "capability:pred_int:insample": False,
    }

    def __init__(self, estimator: NumPyroImpactRegressor):
        self.estimator = estimator
        super().__init__()

    def _fit(self, y: pd.DataFrame, X: pd.DataFrame | None, fh: Any) -> SktimeForecaster:
        self.columns_, self.end_, self.n_steps_ = y.columns, self.cutoff, len(y)
        self.estimator_ = clone(self.estimator).fit(_rows(np.arange(len(y)), X), y.iloc[:, 0])
        return self

    def _predict(self, fh: ForecastingHorizon, X: pd.DataFrame | None) -> pd.DataFrame:
        rows, chosen = self._ahead(fh, X)
        mean = self.estimator_.predict(rows)[chosen]
        return pd.DataFrame(mean, index=fh.to_absolute_index(self.cutoff), columns=self.columns_)

    def _predict_proba(
        self, fh: ForecastingHorizon, X: pd.DataFrame | None, marginal: bool = True
    ) -> SkproDistribution:
        if not marginal:
            raise NotImplementedError("Distributions are those of single steps: pass `marginal=True`.")
        rows, chosen = self._ahead(fh, X)
        distribution = self.estimator_.predict_distribution(rows)[chosen]
        return SkproDistribution(distribution, index=fh.to_absolute_index(self.cutoff), columns=self.columns_)

    def _ahead(self, fh: ForecastingHorizon, X: pd.DataFrame | None) -> tuple[pd.DataFrame, np.ndarray]:
        """Return the rows that follow those of the fit, and which of them a horizon has."""
        steps = np.asarray(fh.to_absolute(self.cutoff).to_relative(self.end_).to_numpy(), int)
        following = np.arange(1, steps.max() + 1)
        if X is not None:
            times = ForecastingHorizon(following, is_relative=True).to_absolute_index(self.end_)
            missing = times.difference(X.index)
            if len(missing):
                raise ValueError(f"X must have a row for each step up to the last one of `fh`, and lacks {missing[0]}.")
            X = X.loc[times]
        return _rows(self.n_steps_ - 1 + following, X), steps - 1

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Return parameters of the objects that sktime's own tests take."""
        return [{"estimator": NumPyroImpactRegressor(random_state=seed)} for seed in (0, 1)]


def _rows(steps: np.ndarray, X: pd.DataFrame | None) -> pd.DataFrame:
    """Return the rows that the kernel sees."""
    rows = pd.DataFrame({"step": steps.astype(float)})
    return rows if X is None else pd.concat([rows, X.rename(columns=str).reset_index(drop=True)], axis=1)
