"""Scores of predictive distributions and of rankings by effect, scorers for scikit-learn's ``scoring=``, and backtests.

A scorer is called as ``scorer(estimator, X, y, sample_weight=None, **arrays)`` and returns one number. Greater numbers
are better. ``arrays`` are further arguments of the kernel. In a search, they are columns of X, or scikit-learn passes
them on if ``set_score_request`` has requested them.

Scorers of predictive distributions score an estimator of this package, also as the last step of a Pipeline or in a
search. They average the score that their class describes over the outputs of each row and, with weights, over rows.
Scorers of rankings, :class:`QiniScore` and :class:`AreaUnderUpliftCurve`, score any estimator that predicts one outcome
for each row.
"""

from skaimz.metrics._backtest import backtest
from skaimz.metrics._scorers import (
    ELPD,
    IntervalCoverage,
    LogPredictiveDensity,
    NegBrierScore,
    NegCRPS,
    NegIntervalWidth,
    NegPinballLoss,
    elpd,
)
from skaimz.metrics._uplift import (
    AreaUnderUpliftCurve,
    QiniScore,
    area_under_uplift_curve,
    qini_curve,
    qini_score,
    uplift_curve,
)

__all__ = [
    "ELPD",
    "AreaUnderUpliftCurve",
    "IntervalCoverage",
    "LogPredictiveDensity",
    "NegBrierScore",
    "NegCRPS",
    "NegIntervalWidth",
    "NegPinballLoss",
    "QiniScore",
    "area_under_uplift_curve",
    "backtest",
    "elpd",
    "qini_curve",
    "qini_score",
    "uplift_curve",
]
