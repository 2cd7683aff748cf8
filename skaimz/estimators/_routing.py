"""scikit-learn's metadata routing for arguments that each kernel names itself."""

import inspect
from collections.abc import Callable
from typing import Any, Self

from sklearn import get_config
from sklearn.utils.metadata_routing import MetadataRequest

from skaimz.kernels import kernel_parameters

__all__ = ["Requests", "RoutingMixin", "setter"]

# Parameters of the methods that are no metadata: the data, and what changes the kind of answer.
NOT_METADATA = frozenset({"self", "X", "y", "classes", "return_std"})
METHODS = ("fit", "partial_fit", "predict", "predict_proba", "predict_log_proba", "score")


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


class Requests:
    """Requests for metadata, by names that an object knows itself.

    scikit-learn reads the names that a method can be sent from its signature, once for all instances of a class. Here
    they are looked up when they are wanted. Requests are kept without a reference to the object, which copies would
    carry along.
    """

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


class RoutingMixin(Requests):
    """Requests by the kernel's own argument names; they outlive another kernel being set."""

    kernel: Any
    param_input: str
    param_output: str

    set_fit_request = setter("fit")
    set_partial_fit_request = setter("partial_fit")
    set_predict_request = setter("predict")
    set_score_request = setter("score")

    def _routed(self) -> list[str]:
        return [method for method in METHODS if hasattr(type(self), method)]

    def _metadata_of(self, method: str) -> tuple[list[str], bool]:
        own = inspect.signature(getattr(type(self), method)).parameters.values()
        names = [p.name for p in own if p.kind is not p.VAR_KEYWORD and p.name not in NOT_METADATA]
        try:
            parameters = kernel_parameters(self.kernel) if self.kernel is not None else {}
        except (TypeError, ValueError):
            parameters = {}  # no function: `fit` says so
        taken = {self.param_input, self.param_output}
        of_kernel = [p.name for p in parameters.values() if p.kind is not p.VAR_KEYWORD and p.name not in taken]
        return [*names, *of_kernel], any(p.kind is p.VAR_KEYWORD for p in parameters.values())
