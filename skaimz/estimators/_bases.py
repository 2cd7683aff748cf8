"""scikit-learn's base classes with types. It ships none, and a base of unknown type hides the mistakes of callers."""

from typing import TYPE_CHECKING, Any, Self

__all__ = ["BaseEstimator", "ClassifierMixin", "RegressorMixin"]

if TYPE_CHECKING:

    class BaseEstimator:
        """Base of all estimators."""

        n_features_in_: int
        feature_names_in_: Any

        def get_params(self, deep: bool = True) -> dict[str, Any]: ...
        def set_params(self, **params: Any) -> Self: ...
        def __sklearn_clone__(self) -> Self: ...
        def __sklearn_tags__(self) -> Any: ...
        def __getstate__(self) -> dict[str, Any]: ...

    class RegressorMixin:
        """Marks regressors."""

    class ClassifierMixin:
        """Marks classifiers."""

else:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
