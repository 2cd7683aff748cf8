"""Parameters of estimators, which may be objects of other libraries."""

import copy
from collections.abc import Mapping
from typing import Any, Self

import numpyro
from sklearn.base import BaseEstimator, clone

from skaimz.kernels import has_parameters

__all__ = ["Parameters", "copy_of"]

# A search clones its candidates itself, and would call the `get_params` of these classes as scikit-learn's.
for _foreign in (numpyro.infer.SVI, numpyro.optim._NumPyroOptim):
    if not hasattr(_foreign, "__sklearn_clone__"):
        _foreign.__sklearn_clone__ = copy.deepcopy


class Parameters(BaseEstimator):
    """scikit-learn's protocol of parameters, where methods of other libraries have the names of its own.

    An object has parameters of its own where its ``get_params`` is scikit-learn's: that of NumPyro's ``SVI`` and
    optimisers takes a state, and gives the parameters of a guide.
    """

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters of this estimator, of its kernel and of its settings.

        Parameters
        ----------
        deep : bool, default=True
            Include those of a kernel object and of settings, as ``kernel__<name>`` and ``inference__<name>``.

        Returns
        -------
        dict
        """
        parameters = super().get_params(deep=False)
        return _with_nested(parameters) if deep else parameters

    def __sklearn_clone__(self) -> Self:
        foreign = {name: value for name, value in self.get_params(deep=False).items() if _is_foreign(value)}
        # scikit-learn clones the others, and keeps what it has noted about an estimator.
        bare = object.__new__(type(self))
        bare.__dict__ = {**vars(self), **dict.fromkeys(foreign)}
        copied = super(Parameters, bare).__sklearn_clone__()
        for name, value in foreign.items():
            setattr(copied, name, copy_of(value))
        return copied

    def set_params(self, **params: Any) -> Self:
        """Set parameters of this estimator, of its kernel and of its settings.

        Parameters
        ----------
        **params : object
            New values by name; ``kernel__<name>`` and ``inference__<name>`` are those of a kernel object and of
            settings (:class:`skaimz.inference.SVI`, :class:`skaimz.inference.MCMC`).

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If there is no parameter of a name, or what it belongs to has no parameters.

        Examples
        --------
        >>> from skaimz import NumPyroImpactRegressor
        >>> from skaimz.inference import SVI
        >>> NumPyroImpactRegressor(inference=SVI()).set_params(inference__num_steps=500)
        NumPyroImpactRegressor(inference=SVI(num_steps=500))
        """
        for name in params:
            owner, nested, _ = name.partition("__")
            value = params.get(owner, getattr(self, owner, None))
            if nested and owner in ("kernel", "inference") and not has_parameters(value):
                wanted = "settings, as in `inference=SVI()`" if owner == "inference" else "an object with `set_params`"
                raise ValueError(
                    f"`{name}` cannot be set: `{owner}` is {value!r}, which has no parameters. Give {wanted}."
                )
        return super().set_params(**params)


def copy_of(value: Any) -> Any:
    """Return a clone of an object with parameters, or else a copy."""
    return copy.deepcopy(value) if _is_foreign(value) else clone(value, safe=False)


def _with_nested(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters with those of the objects among them, by names as ``<parameter>__<name>``."""
    found = {}
    for name, value in parameters.items():
        if has_parameters(value):
            found.update({f"{name}__{nested}": each for nested, each in value.get_params().items()})
        found[name] = value
    return found


def _is_foreign(value: Any) -> bool:
    return hasattr(value, "get_params") and not isinstance(value, type) and not has_parameters(value)
