"""A fitted Pipeline as steps that transform rows, and the estimator after them."""

from typing import Any

from skaimz.estimators import ImpactEstimator, NumPyroImpactRegressor, unwrapped

__all__ = ["Steps"]


class Steps:
    """The steps of a fitted Pipeline or search.

    Parameters
    ----------
    pipeline : Pipeline, search or estimator

    Attributes
    ----------
    before : list of Pipeline
        What rows pass through, in this order.
    estimator : NumPyroImpactRegressor or NumPyroImpactClassifier
    names : sequence of str or None
        Names of the columns that the Pipeline was fitted to.
    last_name : str
        Name of the last step.

    Raises
    ------
    TypeError
        If the last step is no estimator of this package.
    """

    def __init__(self, pipeline: Any):
        self.before, self.estimator = unwrapped(pipeline)
        if not isinstance(self.estimator, ImpactEstimator):
            raise TypeError(
                "The last step of the Pipeline must be a NumPyroImpactRegressor or a NumPyroImpactClassifier, got "
                f"{self.estimator!r}."
            )
        self.names = getattr(pipeline, "feature_names_in_", None)
        self.last_name = _last_name(pipeline)

    def transform(self, X: Any) -> Any:
        """Return rows as the estimator takes them."""
        for steps in self.before:
            X = steps.transform(X)
        return X

    def regressor(self, method: str) -> NumPyroImpactRegressor:
        """Return the estimator, which must be a regressor, or else lacks a method."""
        if not isinstance(self.estimator, NumPyroImpactRegressor):
            raise TypeError(f"`{method}` needs a NumPyroImpactRegressor as the last step, got {self.estimator!r}.")
        return self.estimator


def _last_name(pipeline: Any) -> str:
    while hasattr(pipeline, "best_estimator_"):
        pipeline = pipeline.best_estimator_
    return pipeline.steps[-1][0] if hasattr(pipeline, "steps") else type(pipeline).__name__.lower()
