"""Fitted estimators on disk: as pickles with their code, and as data without any."""

import json
import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from skaimz.datatree import arrays_to_dataset, draws_from, draws_to_dataset
from skaimz.estimators._constructor import check_parameters
from skaimz.estimators._labels import plain, restored, restored_labels, stored_labels
from skaimz.estimators._model import Model, precision_of
from skaimz.estimators._parameters import copy_of
from skaimz.inference import FitResult
from skaimz.kernels import (
    Inputs,
    KernelSpec,
    TracedKernel,
    map_leaves,
    named_leaves,
    own_names,
    parameter_trees,
    trace_kernel,
)

__all__ = [
    "before_tracing",
    "check_picklable",
    "describe_inputs",
    "inputs_again",
    "restore",
    "saved_attributes",
    "saved_groups",
]

SAVED_PARAMETERS = (
    "param_input",
    "param_output",
    "column_args",
    "whole_args",
    "allow_nan",
    "missing_outcomes",
    "dtype",
    "verbose",
)


def saved_groups(model: Model) -> dict[str, xr.Dataset]:
    """Return the arrays that a fit left behind."""
    spec, result = model.spec, model.result
    assert spec is not None
    assert result is not None
    assert model.draws is not None
    groups = {"posterior": draws_to_dataset({**model.draws, **model.imputed}, spec)}
    if result.sample_stats:
        groups["sample_stats"] = draws_to_dataset(result.sample_stats)
    elif result.losses is not None:
        groups["sample_stats"] = arrays_to_dataset({"loss": result.losses}, {"loss": ("step",)})
    learned = result.params.keys() & spec.learned.keys()
    params = [named_leaves(name, result.params[name]) for name in sorted(learned)]
    groups["params"] = arrays_to_dataset({name: array for leaves in params for name, array in leaves.items()})
    if model.past is not None:
        groups["rows_of_fit"] = arrays_to_dataset(model.past)
    groups["hyperparameters"] = arrays_to_dataset(model.kernel.get_params() if _is_default(model) else {})  # type: ignore
    return groups


def saved_attributes(model: Model) -> dict[str, Any]:
    """Return all else that prediction needs, as numbers and texts."""
    owner, result = model.owner, model.result
    assert result is not None
    categories = {name: list(map(stored_labels, columns)) for name, columns in (model.categories or {}).items()}
    attributes = {
        "estimator": type(owner).__name__,
        "default_kernel": int(_is_default(model)),
        "seed": model.seed,
        "n_rows": result.n_rows,
        "num_samples": result.num_samples,
        "arguments": json.dumps({name: value for name, value in model.arguments.items() if name != "observed"}),
        "parameters": json.dumps(plain({name: getattr(owner, name) for name in SAVED_PARAMETERS})),
        "categories": json.dumps(categories),
        "feature_names_in": json.dumps(list(getattr(owner, "feature_names_in_", []))),
    }
    if hasattr(owner, "n_features_in_"):
        attributes["n_features_in"] = owner.n_features_in_
    labels = model.outcome.labels
    if labels is not None:
        several = isinstance(labels, list)
        attributes["classes"] = json.dumps(list(map(stored_labels, labels if several else [labels])))
        attributes["several_outputs"] = int(several)
    return attributes


def restore(cls: Any, kernel: Callable | None, tree: xr.DataTree) -> Any:
    """Return an estimator of a class from what :func:`saved_groups` and :func:`saved_attributes` gave."""
    attrs = tree.attrs
    if attrs.get("estimator") != cls.__name__:
        raise ValueError(f"The tree holds a {attrs.get('estimator')!r}, not a {cls.__name__!r}.")
    if bool(attrs["default_kernel"]) != (kernel is None):
        raise ValueError("Pass `kernel=None` for a tree of the default kernel, and the kernel for any other.")
    estimator = cls(kernel, **restored(json.loads(attrs["parameters"])))
    check_parameters(estimator)
    estimator.seed_ = int(attrs["seed"])
    if "n_features_in" in attrs:
        estimator.n_features_in_ = int(attrs["n_features_in"])
    estimator.arguments_ = json.loads(attrs["arguments"])
    estimator.categories_ = {
        name: list(map(restored_labels, columns)) for name, columns in json.loads(attrs["categories"]).items()
    }
    names = json.loads(attrs["feature_names_in"])
    if names:
        estimator.feature_names_in_ = np.asarray(names, dtype=object)
    if "classes" in attrs:
        classes = list(map(restored_labels, json.loads(attrs["classes"])))
        estimator.classes_ = classes if attrs["several_outputs"] else classes[0]
    hyperparameters = _arrays_of(tree["hyperparameters"])
    estimator.kernel_ = copy_of(kernel) if kernel is not None else cls._default_kernel(**hyperparameters)
    n_rows = int(attrs["n_rows"])
    names = Model.of(estimator).names
    inputs = abstract_inputs(estimator.arguments_, n_rows)
    with precision_of(Model.of(estimator).precision):
        try:
            traced, numbers = trace_kernel(estimator.kernel_, inputs, *names)
        except TypeError as error:
            raise ValueError(f"Pass the kernel that the draws belong to: this one raises {error!r}.") from error
        if traced.seen:
            raise ValueError(
                f"The kernel needs the values of {list(traced.seen)} while it is traced, which a tree does not hold: "
                "save the estimator with `pickle` or `joblib`."
            )
        trees = parameter_trees(traced, numbers, inputs, *names) if traced.spec.learned else {}
    spec = estimator.kernel_spec_ = traced.spec
    if "rows_of_fit" in tree.children:
        estimator.rows_of_fit_ = own_names(
            _arrays_of(tree["rows_of_fit"]), [*estimator.arguments_["rows"], spec.output_parameter]
        )
    derived = {site.name for site in spec.sites if site.kind == "deterministic"}
    saved = draws_from(tree) if spec.latents and len(tree["posterior"].data_vars) else {}
    saved = own_names(saved, [site.name for site in spec.every_site])
    estimator.posterior_ = {name: array for name, array in saved.items() if name not in derived}
    draws = dict(Model.of(estimator).draws or {})
    latents, discrete = ({site.name for site in sites} for sites in (spec.latents, spec.discrete))
    if draws.keys() | discrete != latents:
        raise ValueError(
            f"The tree has draws of {sorted(draws)}, but the kernel's latent sites are {sorted(latents)}: pass the "
            "kernel that the draws belong to."
        )
    estimator.fit_result_ = FitResult(
        "injected", draws, _trees_of(tree["params"], spec, trees), n_rows=n_rows, num_samples=int(attrs["num_samples"])
    )
    return estimator


def before_tracing(param_input: str, y: Any) -> dict[str, Any]:
    """Describe what is known of a kernel's arguments before it is traced: which is the input, and the outcomes."""
    return {"rows": {param_input: None}, "outcome": None if y is None else y.shape[1:], "observed": y}


def describe_inputs(inputs: Inputs, traced: TracedKernel) -> dict[str, Any]:
    """Describe a kernel's arguments in plain data, from which it can be traced again; see also :func:`inputs_again`."""
    rows = {name: [list(array.shape[1:]), array.dtype.name] for name, array in inputs.rows.items()}
    whole = {name: [list(array.shape), array.dtype.name] for name, array in inputs.whole.items()}
    described = {"rows": rows, "whole": whole, "static": dict(inputs.static), "outcome": inputs.outcome}
    if traced.seen:
        described["seen"] = list(traced.seen)
    if traced.spec.output_parameter in traced.seen:
        described["observed"] = inputs.observed
    return described


def inputs_again(described: Mapping[str, Any], result: FitResult) -> Inputs:
    """Return the arguments of a fit to trace its kernel with, with their values if the kernel sees these."""
    inputs = abstract_inputs(described, result.n_rows)
    if not described.get("seen") or not result.data:
        return inputs
    rows = {name: result.data["rows"][name] for name in inputs.rows}
    return replace(inputs, rows=rows, whole=dict(result.data["whole"]), observed=described.get("observed"))


def abstract_inputs(described: Mapping[str, Any], n_rows: int) -> Inputs:
    """Return arguments of the shapes and types that were described, which take no memory."""

    def array(shape: Sequence[int], dtype: str) -> np.ndarray:
        return np.broadcast_to(np.zeros((), dtype), shape)

    rows = {name: array((n_rows, *shape), dtype) for name, (shape, dtype) in described["rows"].items()}
    whole = {name: array(shape, dtype) for name, (shape, dtype) in described["whole"].items()}
    outcome = described.get("outcome")
    static = tuple(sorted(described["static"].items()))
    return Inputs(rows, whole, static, None if outcome is None else tuple(outcome))


def check_picklable(kernel: Any) -> None:
    """Refuse to pickle a kernel that plain pickle would not find again."""
    if kernel is None or _pickles_by_value():
        return
    try:
        pickle.dumps(kernel)
    except Exception as error:
        raise pickle.PicklingError(
            f"The kernel {kernel!r} cannot be pickled because it is not importable by name: use cloudpickle, or define "
            "the kernel at the top level of a module."
        ) from error


def _pickles_by_value() -> bool:
    """Whether the pickling under way can take functions by value: cloudpickle, dill, or a copy in memory."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__", "").rpartition(".")[2] in ("cloudpickle", "_dill", "copy"):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def _is_default(model: Model) -> bool:
    return isinstance(model.kernel, model.owner._default_kernel)


def _arrays_of(group: Any) -> dict[str, np.ndarray]:
    return {str(name): variable.to_numpy() for name, variable in group.data_vars.items()}


def _trees_of(group: Any, spec: KernelSpec, trees: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters and states of layers from their stored leaves, given their abstract values."""
    arrays = own_names(_arrays_of(group), [site.name for site in spec.sites])
    leaves = {name: named_leaves(name, trees[name]).keys() for name in spec.learned}
    return {
        name: map_leaves(lambda leaf, _: arrays[leaf], name, trees[name])
        for name, names in leaves.items()
        if names <= arrays.keys()
    }
