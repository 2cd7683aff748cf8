"""Scores of predictive distributions and of rankings by effect, and scorers for scikit-learn's ``scoring=``.

A scorer is called as ``scorer(estimator, X, y, sample_weight=None, **arrays)`` and returns one number, the greater the
better. ``arrays`` are the kernel's further arguments; within a search they reach a scorer by metadata routing, where
``set_score_request`` asks for them, or come from columns of X.

Scorers of predictive distributions take an estimator of this package, or a Pipeline or a search that ends in one, and
return a weighted mean over the rows, and over the outputs of a row, of what their class describes. Scorers of rankings,
:class:`QiniScore` and :class:`AreaUnderUpliftCurve`, take any estimator that predicts one outcome for each row.
"""

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
    "elpd",
    "qini_curve",
    "qini_score",
    "uplift_curve",
]
