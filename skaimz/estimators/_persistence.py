"""Fitted estimators on disk: as pickles with their code, and as data without any."""

import json
import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import xarray as xr

from skaimz.datatree import arrays_to_dataset, draws_from, draws_to_dataset
from skaimz.estimators._labels import plain, restored, restored_labels, stored_labels
from skaimz.estimators._parameters import copy_of
from skaimz.inference import FitResult, picklable
from skaimz.kernels import Inputs, KernelSpec, trace_kernel

__all__ = ["PersistenceMixin", "abstract_inputs", "describe_inputs"]

SAVED_PARAMETERS = ("param_input", "param_output", "column_args", "dtype", "verbose")


class PersistenceMixin:
    """Conversion to and from data, and refusal to pickle what plain pickle would lose."""

    kernel: Any
    param_input: str
    param_output: str
    kernel_: Any
    kernel_spec_: KernelSpec
    arguments_: dict[str, Any]
    posterior_: dict[str, np.ndarray]
    fit_result_: FitResult
    seed_: int
    categories_: dict[str, Any]
    n_features_in_: int
    feature_names_in_: np.ndarray
    _default_kernel: Any
    _check_parameters: Callable[[], None]
    _precision: Callable[[Any], Any]

    def _saved_groups(self) -> dict[str, xr.Dataset]:
        """Return what a fit left behind."""
        spec, result = self.kernel_spec_, self.fit_result_
        groups = {"posterior": draws_to_dataset(self.posterior_, spec)}
        if result.sample_stats:
            groups["sample_stats"] = draws_to_dataset(result.sample_stats)
        elif result.losses is not None:
            groups["sample_stats"] = arrays_to_dataset({"loss": result.losses}, {"loss": ("step",)})
        params = {
            site.name: result.params[site.name]
            for site in spec.sites
            if site.kind == "param" and site.name in result.params
        }
        groups["params"] = arrays_to_dataset(params)
        is_default = isinstance(self.kernel_, self._default_kernel)
        groups["hyperparameters"] = arrays_to_dataset(self.kernel_.get_params() if is_default else {})
        return groups

    def _saved_attributes(self) -> dict[str, Any]:
        """Return all else that prediction needs, as numbers and texts."""
        attrs = {
            "estimator": type(self).__name__,
            "default_kernel": int(isinstance(self.kernel_, self._default_kernel)),
            "seed": self.seed_,
            "n_rows": self.fit_result_.n_rows,
            "num_samples": self.fit_result_.num_samples,
            "n_features_in": self.n_features_in_,
            "arguments": json.dumps(self.arguments_),
            "parameters": json.dumps(plain({name: getattr(self, name) for name in SAVED_PARAMETERS})),
            "categories": json.dumps(
                {name: [stored_labels(each) for each in columns] for name, columns in self.categories_.items()}
            ),
            "feature_names_in": json.dumps(list(getattr(self, "feature_names_in_", []))),
        }
        return attrs | self._saved_attrs()

    def _saved_attrs(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_datatree(cls, kernel: Callable | None, tree: xr.DataTree) -> Self:
        """Rebuild a fitted estimator from its data and its kernel.

        Parameters
        ----------
        kernel : callable or None
            The kernel that the draws belong to; None for the default one.
        tree : xarray.DataTree
            What :meth:`to_datatree` returned, possibly written to netCDF or Zarr and opened again.

        Returns
        -------
        estimator
            Predicts as the original does, to the bit. It has no inference state, so ``sample_posterior`` is refused.

        Examples
        --------
        >>> import numpy as np
        >>> from skaimz import NumPyroImpactRegressor
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(100, 2))
        >>> y = X @ [1.0, -2.0] + rng.normal(scale=0.1, size=100)
        >>> model = NumPyroImpactRegressor(random_state=0).fit(X, y)
        >>> again = NumPyroImpactRegressor.from_datatree(None, model.to_datatree())
        >>> bool((again.predict(X) == model.predict(X)).all())
        True
        """
        attrs = tree.attrs
        if attrs.get("estimator") != cls.__name__:
            raise ValueError(f"The tree holds a {attrs.get('estimator')!r}, not a {cls.__name__!r}.")
        if bool(attrs["default_kernel"]) != (kernel is None):
            raise ValueError("Pass `kernel=None` for a tree of the default kernel, and the kernel for any other.")
        make: Any = cls
        self = make(kernel, **restored(json.loads(attrs["parameters"])))
        self._check_parameters()
        numbers = {str(n): v.to_numpy() for n, v in tree["hyperparameters"].data_vars.items()}
        self.kernel_ = copy_of(kernel) if kernel is not None else cls._default_kernel(**numbers)
        self.seed_ = int(attrs["seed"])
        self.n_features_in_ = int(attrs["n_features_in"])
        self.arguments_ = json.loads(attrs["arguments"])
        self.categories_ = {
            name: [restored_labels(stored) for stored in columns]
            for name, columns in json.loads(attrs["categories"]).items()
        }
        names = json.loads(attrs["feature_names_in"])
        if names:
            self.feature_names_in_ = np.asarray(names, dtype=object)
        self._restore_attrs(attrs)
        params = {str(n): v.to_numpy() for n, v in tree["params"].data_vars.items()}
        n_rows = int(attrs["n_rows"])
        inputs = abstract_inputs(self.arguments_, n_rows)
        with self._precision(inputs.rows[self.param_input].dtype):
            traced, _ = trace_kernel(self.kernel_, inputs, self.param_input, self.param_output)
        self.kernel_spec_ = traced.spec
        derived = {site.name for site in traced.spec.sites if site.kind == "deterministic"}
        known = draws_from(tree) if traced.spec.latents else {}
        self.posterior_ = {name: draws for name, draws in known.items() if name not in derived}
        if self.posterior_.keys() != {site.name for site in traced.spec.latents}:
            raise ValueError(
                f"The tree has draws of {sorted(self.posterior_)}, but the kernel's latent sites are "
                f"{sorted(site.name for site in traced.spec.latents)}: pass the kernel that the draws belong to."
            )
        self.fit_result_ = FitResult(
            "injected", self.posterior_, params, n_rows=n_rows, num_samples=int(attrs["num_samples"])
        )
        return self

    def _restore_attrs(self, attrs: Mapping[Any, Any]) -> None:
        pass

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        return {**state, "inference": picklable(state["inference"])}  # type: ignore[dict-item, index]

    def __reduce_ex__(self, protocol: Any) -> Any:
        if self.kernel is not None and not _pickles_by_value():
            try:
                pickle.dumps(self.kernel)
            except Exception as error:
                raise pickle.PicklingError(
                    f"The kernel {self.kernel!r} cannot be pickled because it is not importable by name: use "
                    "cloudpickle, or define the kernel at the top level of a module."
                ) from error
        return super().__reduce_ex__(protocol)


def describe_inputs(inputs: Inputs) -> dict[str, Any]:
    """Describe a kernel's arguments in plain data, from which it can be traced again."""
    rows = {name: [list(array.shape[1:]), array.dtype.name] for name, array in inputs.rows.items()}
    whole = {name: [list(array.shape), array.dtype.name] for name, array in inputs.whole.items()}
    return {"rows": rows, "whole": whole, "static": dict(inputs.static)}


def abstract_inputs(described: Mapping[str, Any], n_rows: int) -> Inputs:
    def array(shape: Sequence[int], dtype: str) -> np.ndarray:
        return np.broadcast_to(np.zeros((), dtype), shape)  # takes no memory

    rows = {name: array((n_rows, *shape), dtype) for name, (shape, dtype) in described["rows"].items()}
    whole = {name: array(shape, dtype) for name, (shape, dtype) in described["whole"].items()}
    return Inputs(rows, whole, tuple(sorted(described["static"].items())))


def _pickles_by_value() -> bool:
    """Whether the pickling under way can take functions by value: cloudpickle, dill, or a copy in memory."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__", "").rpartition(".")[2] in ("cloudpickle", "_dill", "copy"):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False
