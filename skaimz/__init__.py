"""Any NumPyro model as a scikit-learn estimator."""

from importlib.metadata import version

from skaimz import _forks  # noqa: F401  (before all others)
from skaimz.datatree import open_draws
from skaimz.estimators import NumPyroImpactClassifier, NumPyroImpactRegressor

__all__ = ["NumPyroImpactClassifier", "NumPyroImpactRegressor", "__version__", "open_draws"]

__version__ = version("skaimz")
