"""Any NumPyro model as a scikit-learn estimator."""

from importlib.metadata import version

from skaimz import runtime  # noqa: F401  (before all others: it notes forked processes)
from skaimz.datatree import open_draws
from skaimz.estimators import NumPyroImpactClassifier, NumPyroImpactRegressor

__all__ = ["NumPyroImpactClassifier", "NumPyroImpactRegressor", "__version__", "open_draws"]

__version__ = version("skaimz")
