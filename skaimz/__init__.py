"""Any NumPyro model as a scikit-learn estimator."""

from importlib.metadata import version

from skaimz.estimators import NumPyroImpactClassifier, NumPyroImpactRegressor

__all__ = ["NumPyroImpactClassifier", "NumPyroImpactRegressor", "__version__"]

__version__ = version("skaimz")
