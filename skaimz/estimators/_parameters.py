"""scikit-learn's protocol of parameters for estimators whose parameters may be objects of other libraries."""

import copy
from collections.abc import Mapping
from typing import Any

from sklearn.base import BaseEstimator, clone

from skaimz.kernels import has_parameters

__all__ = ["copy_of", "copy_of_estimator", "with_nested"]


def with_nested(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters with those of the objects among them, by names as ``<parameter>__<name>``.

    An object has parameters where its ``get_params`` is scikit-learn's: that of NumPyro's ``SVI`` and optimisers takes
    a state and gives parameters of a guide.
    """
    found = {}
    for name, value in parameters.items():
        if has_parameters(value):
            found.update({f"{name}__{nested}": each for nested, each in value.get_params().items()})
        found[name] = value
    return found


def copy_of(value: Any) -> Any:
    """Return a clone of an object with parameters, or else a copy."""
    return copy.deepcopy(value) if _is_foreign(value) else clone(value, safe=False)


def copy_of_estimator(estimator: Any) -> Any:
    """Return an unfitted estimator with copies of another's parameters, as :func:`sklearn.base.clone` does."""
    foreign = {name: value for name, value in estimator.get_params(deep=False).items() if _is_foreign(value)}
    # scikit-learn clones the others, and keeps what it has noted about an estimator.
    bare = object.__new__(type(estimator))
    bare.__dict__.update({**vars(estimator), **dict.fromkeys(foreign)})
    copied = BaseEstimator.__sklearn_clone__(bare)
    copied.__dict__.update({name: copy_of(value) for name, value in foreign.items()})
    return copied


def _is_foreign(value: Any) -> bool:
    return hasattr(value, "get_params") and not isinstance(value, type) and not has_parameters(value)
