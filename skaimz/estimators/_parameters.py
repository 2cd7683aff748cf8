"""Parameters and metadata requests by scikit-learn's conventions, where those cannot be read from signatures."""

import copy
from collections.abc import Callable, Mapping
from typing import Any, Self

import numpyro
from sklearn import get_config
from sklearn.base import clone
from sklearn.utils.metadata_routing import MetadataRequest

from skaimz.estimators._bases import BaseEstimator
from skaimz.kernels import has_parameters

__all__ = ["SklearnObject", "copy_of", "setter"]

# A search clones its candidates itself, and would call the `get_params` of these classes as scikit-learn's.
for _foreign in (numpyro.infer.SVI, numpyro.optim._NumPyroOptim):
    if not hasattr(_foreign, "__sklearn_clone__"):
        _foreign.__sklearn_clone__ = copy.deepcopy


def setter(method: str) -> Callable[..., Any]:
    """Return the public method that sets the requests of ``method``."""

    def set_request(self: Any, **requests: bool | str | None) -> Any:
        return self._set_request(method, requests)

    set_request.__name__ = set_request.__qualname__ = f"set_{method}_request"
    set_request.__doc__ = f"""Say what scikit-learn's meta-estimators are to pass on to ``{method}``.

        Parameters
        ----------
        **requests : bool, str or None
            For ``sample_weight``, where the method has it, and each of the kernel's arguments: True to be passed it,
            False not to be, None to have it refused where it is given, or the name that it is given under.

        Returns
        -------
        self

        Raises
        ------
        RuntimeError
            If metadata routing is not enabled.
        TypeError
            If the method cannot be sent an argument of that name.
        """
    return set_request


class SklearnObject(BaseEstimator):
    """Base of objects with parameters and metadata requests.

    Parameters may be objects of other libraries with methods of scikit-learn's names: ``get_params`` of NumPyro's
    ``SVI`` and optimisers takes a state, and returns the parameters of a guide. These are copied as a whole.

    scikit-learn reads the metadata that a method takes from its signature, once for a class. Here they depend on the
    kernel, and are looked up when they are needed. Requests are stored without a reference to the object, which copies
    would keep alive.
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
        copied = super(SklearnObject, bare).__sklearn_clone__()
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

    _metadata_request: MetadataRequest

    def get_metadata_routing(self) -> MetadataRequest:
        """Return what is asked of scikit-learn's metadata routing.

        Returns
        -------
        MetadataRequest
            For each method with ``sample_weight``, where it has that, and the kernel's arguments beyond input and
            output.
        """
        routing = MetadataRequest(owner=type(self).__name__)
        for method in self._routed():
            asked = self._requests(method)
            names, open_ended = self._metadata_of(method)
            for name in dict.fromkeys([*names, *(asked if open_ended else ())]):
                getattr(routing, method).add_request(param=name, alias=asked.get(name))
        return routing

    def _routed(self) -> list[str]:
        """Return the methods that metadata are sent to."""
        raise NotImplementedError

    def _metadata_of(self, method: str) -> tuple[list[str], bool]:
        """Return what a method can be sent, and whether it takes any other name as well."""
        raise NotImplementedError

    def _requests(self, method: str) -> dict[str, Any]:
        """Return the requests that were set for a method."""
        stored = getattr(self, "_metadata_request", None)
        return {} if stored is None else getattr(stored, method).requests

    def _set_request(self, method: str, requests: dict[str, Any]) -> Self:
        if not get_config()["enable_metadata_routing"]:
            raise RuntimeError(
                f"`set_{method}_request` needs metadata routing: `sklearn.set_config(enable_metadata_routing=True)`."
            )
        names, open_ended = self._metadata_of(method)
        unknown = [name for name in requests if name not in names]
        if unknown and not open_ended:
            raise TypeError(f"`set_{method}_request` got {unknown[0]!r}, but `{method}` can be sent only {names}.")
        routing = MetadataRequest(owner=type(self).__name__)
        for other in self._routed():
            for name, request in (self._requests(other) | (requests if other == method else {})).items():
                getattr(routing, other).add_request(param=name, alias=request)
        self._metadata_request = routing
        return self


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
