"""Pipelines and searches that end in an estimator of this package."""

from typing import Any

from sklearn.pipeline import Pipeline

__all__ = ["last_step", "unwrapped"]


def unwrapped(estimator: Any) -> tuple[list[Pipeline], Any]:
    """Return the last estimator of a Pipeline or fitted search, and the Pipelines of transformers before it, in order.

    An estimator that is neither has no transformers before it.
    """
    before = []
    while True:
        if isinstance(estimator, Pipeline):
            if len(estimator.steps) > 1:
                before.append(estimator[:-1])
            estimator = estimator.steps[-1][1]
        elif hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        else:
            return before, estimator


def last_step(estimator: Any, X: Any) -> tuple[Any, Any]:
    """Return the last estimator of a Pipeline or fitted search, and X, if any, as the earlier steps transform it."""
    before, estimator = unwrapped(estimator)
    for steps in before:
        X = None if X is None else steps.transform(X)
    return estimator, X
