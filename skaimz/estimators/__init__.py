"""The estimators."""

from skaimz.estimators._classifier import NumPyroImpactClassifier
from skaimz.estimators._regressor import NumPyroImpactRegressor

__all__ = ["NumPyroImpactClassifier", "NumPyroImpactRegressor"]
