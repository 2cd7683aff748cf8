"""Questions to a fitted Pipeline whose last step is an estimator of this package, in the columns and units of its rows.

Each function takes the Pipeline, or a fitted search that ends in one, and rows as the Pipeline's own ``fit`` takes
them: before scaling, encoding and imputing. Everything that names a column means a column of these rows. An estimator
without a Pipeline is taken, too.
"""

from skaimz.pipeline._answers import diagnose, predict_interval, predict_quantiles, to_datatree
from skaimz.pipeline._effects import estimate_effect, estimate_slope
from skaimz.pipeline._saved import load, save

__all__ = [
    "diagnose",
    "estimate_effect",
    "estimate_slope",
    "load",
    "predict_interval",
    "predict_quantiles",
    "save",
    "to_datatree",
]
