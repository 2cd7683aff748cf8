"""Plots as display objects, like those of scikit-learn. matplotlib is imported when a plot is drawn."""

from skaimz.plotting.calibration import IntervalCalibrationDisplay
from skaimz.plotting.effect import EffectDisplay
from skaimz.plotting.interval import IntervalDisplay
from skaimz.plotting.predictive_check import PredictiveCheckDisplay
from skaimz.plotting.prior_posterior import PriorPosteriorDisplay
from skaimz.plotting.rank import RankDisplay
from skaimz.plotting.trace import TraceDisplay

__all__ = [
    "EffectDisplay",
    "IntervalCalibrationDisplay",
    "IntervalDisplay",
    "PredictiveCheckDisplay",
    "PriorPosteriorDisplay",
    "RankDisplay",
    "TraceDisplay",
]
