"""What Pipelines and searches end in."""

from typing import Any

from sklearn.pipeline import Pipeline

__all__ = ["last_step"]


def last_step(estimator: Any, X: Any) -> tuple[Any, Any]:
    """Return the last estimator of a Pipeline or fitted search, and X as the earlier steps transform it."""
    while True:
        if isinstance(estimator, Pipeline):
            X = estimator[:-1].transform(X) if len(estimator.steps) > 1 else X
            estimator = estimator.steps[-1][1]
        elif hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        else:
            return estimator, X
