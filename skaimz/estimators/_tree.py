"""A fitted model as one tree, with ArviZ's names of groups."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from sklearn.utils.validation import check_consistent_length

from skaimz import inference
from skaimz.datatree import data_to_dataset, draws_to_dataset, storable_labels, to_tree, with_labels
from skaimz.estimators._arguments import PRIOR_DRAWS, check_weight
from skaimz.estimators._draws import Destination, DrawQuestion, LogLikelihood, PosteriorPredictive, PriorPredictive
from skaimz.estimators._entries import without_entries
from skaimz.estimators._input import is_table
from skaimz.estimators._model import Call, Model
from skaimz.estimators._persistence import saved_attributes, saved_groups
from skaimz.estimators._questions import request_for
from skaimz.inference import FitResult
from skaimz.kernels import KernelSpec, flattened, stored_name
from skaimz.rows import open_rows

__all__ = ["RowsOfFit", "tree_of"]

NEEDS_OUTCOME = ("log_likelihood", "observed_data")
NEEDS_ROWS = ("posterior_predictive", "prior", "prior_predictive", "constant_data")
WHEREVER_IT_FITS = Destination("auto")


@dataclass(frozen=True)
class RowsOfFit:
    """The rows of a fit, given again.

    Attributes
    ----------
    X, y, sample_weight : array-like or None
    arrays : dict
        The kernel's further arguments.
    seed : int
        Of draws that are made for them.
    """

    X: Any
    y: Any
    sample_weight: Any
    arrays: Mapping[str, Any]
    seed: int

    @property
    def row_labels(self) -> Any:
        """Labels of the rows of a data frame, None for anything else."""
        return self.X.index if hasattr(self.X, "iloc") else None


def tree_of(model: Model, settings: Any, rows: RowsOfFit, return_groups: Sequence[str] | None) -> xr.DataTree:
    """Return posterior draws and all else that is known.

    Parameters
    ----------
    model : Model
    settings : Auto, SVI, MCMC, Sampler or NumPyro object
        The inference that made the draws.
    rows : RowsOfFit
    return_groups : sequence of str or None
    """
    spec = model.spec
    assert spec is not None
    names = _check_groups(return_groups, rows.X is not None, rows.y is not None)
    if return_groups is None and spec.improper_latents:
        names = [name for name in names if not name.startswith("prior")]
    if return_groups is None and spec.unscored is not None:
        names = [name for name in names if name != "log_likelihood"]
    groups = saved_groups(model)
    if rows.X is not None:
        labels = rows.row_labels
        X = rows.X if labels is None else rows.X.reset_index(drop=True)
        rows = RowsOfFit(X, rows.y, rows.sample_weight, rows.arrays, rows.seed)
        groups = _with_rows(model, settings, rows, groups, names)
        if labels is not None:
            # The tree is made to be written.
            stored = storable_labels(labels)
            groups = {name: with_labels(dataset, spec, stored) for name, dataset in groups.items()}
    return to_tree(groups, saved_attributes(model))


def _with_rows(
    model: Model, settings: Any, rows: RowsOfFit, groups: Mapping[str, xr.Dataset], names: Sequence[str]
) -> dict[str, xr.Dataset]:
    """Return the groups with those that follow from the rows of the fit."""
    result, spec = model.result, model.spec
    assert result is not None
    assert spec is not None
    _check_rows_of_fit(*without_entries(model, rows.X, flattened(rows.arrays))[:2], result)
    groups, output = dict(groups), stored_name(spec.output)
    if model.draws:
        groups["posterior"] = draws_to_dataset({**model.draws, **model.imputed}, spec, rows.row_labels)

    def drawn(question: DrawQuestion) -> xr.DataTree:
        return question.tree(request_for(model, question, rows.arrays, rows.seed).read(rows.X), WHEREVER_IT_FITS)

    if "posterior_predictive" in names:
        dataset = drawn(PosteriorPredictive())["posterior_predictive"].to_dataset()
        groups["posterior_predictive"] = dataset[[output]]
        groups["posterior"] = groups["posterior"].merge(dataset.drop_vars(output))
    if "prior" in names or "prior_predictive" in names:
        dataset = drawn(PriorPredictive(PRIOR_DRAWS))["prior_predictive"].to_dataset()
        both = {"prior": dataset.drop_vars(output), "prior_predictive": dataset[[output]]}
        groups |= {name: dataset for name, dataset in both.items() if name in names}
    if "log_likelihood" in names:
        groups["log_likelihood"] = drawn(LogLikelihood(rows.y))["log_likelihood"].to_dataset()
    call = request_for(model, PosteriorPredictive(), rows.arrays, rows.seed).read(rows.X)
    if "constant_data" in names:
        groups["constant_data"] = _constant_data(call)
    if rows.y is None:
        return groups
    y = call.encode(rows.y)
    check_consistent_length(call.X, y)
    if "observed_data" in names:
        groups["observed_data"] = _observed_data(call, y)
    # The density of a kernel that draws minibatches of its own is itself an estimate.
    has_density = result.method == "svi" and bool(model.draws) and not call.spec.subsamples
    if "log_likelihood" in names and has_density:
        weight = None if rows.sample_weight is None else check_weight(rows.sample_weight, call.X, call.dtype)
        traced, hyperparameters, inputs = call.traced
        data = inference.Data(hyperparameters, {**inputs.rows, call.spec.output_parameter: y}, inputs.whole, weight)
        with call.precision():
            densities = inference.log_densities(traced, data, settings, result)
        groups["sample_stats"] = groups["sample_stats"].merge(draws_to_dataset(densities))
    return groups


def _row_dim(spec: KernelSpec) -> str:
    site = spec[spec.output]
    return site.dims[site.row_axis or 0]


def _constant_data(call: Call) -> xr.Dataset:
    """Return the kernel's inputs."""
    spec, inputs = call.spec, call.traced.inputs
    row_dim = _row_dim(spec)
    names = getattr(call.model.owner, "feature_names_in_", ())
    # Columns that are arguments of the kernel have left X.
    has_columns = is_table(call.X)
    labels = {"feature": names} if has_columns and len(names) == call.X.shape[1] else {}
    dims: dict[str, tuple[str, ...]] = {spec.input: (row_dim, "feature")} if has_columns else {}
    return data_to_dataset(inputs.rows, inputs.whole, row_dim, call.row_labels, dims=dims, labels=labels)


def _observed_data(call: Call, y: np.ndarray) -> xr.Dataset:
    """Return the outcomes."""
    site = call.spec[call.spec.output]
    # A kernel may observe the outcomes in another shape than it is given.
    as_given = y.shape == tuple(len(y) if size is None else size for size in site.shape)
    dims = {site.name: site.dims} if as_given else {}
    return data_to_dataset({site.name: y}, {}, _row_dim(call.spec), call.row_labels, dims=dims)


def _check_rows_of_fit(model: Model, X: Any, result: FitResult) -> None:
    if open_rows(X, model.names[0]) is not None:
        raise ValueError(
            "`to_datatree` takes rows in memory: pass `numpy.asarray(X)`, or leave X out and call "
            "`sample_posterior_predictive` and `log_likelihood`, which stream."
        )
    n_rows = len(X)
    # After `partial_fit` they may be those of the last minibatch, of all calls, or any number between.
    if result.method != "injected" and not result.n_rows <= n_rows <= max(result.n_rows, result.n_given):
        known = f"{result.n_rows}" if result.n_given <= result.n_rows else f"{result.n_rows} to {result.n_given}"
        raise ValueError(
            f"`to_datatree` takes the rows of the fit, of which there were {known}, but X has {n_rows}. For others "
            "call `sample_posterior_predictive` and `log_likelihood` with `in_sample=False`."
        )


def _check_groups(groups: Sequence[str] | None, with_rows: bool, with_outcome: bool) -> Sequence[str]:
    """Return the groups to compute."""
    if with_outcome and not with_rows:
        raise ValueError("`to_datatree` got y without X: pass the rows that the outcomes belong to.")
    known = (*NEEDS_ROWS, *NEEDS_OUTCOME)
    possible = (*NEEDS_ROWS * with_rows, *NEEDS_OUTCOME * with_outcome)
    if groups is None:
        return possible
    if isinstance(groups, str):
        raise TypeError(
            f"`return_groups` must be a sequence of names, got {groups!r}: write `return_groups=[{groups!r}]`."
        )
    for name in groups:
        if name not in known:
            raise ValueError(f"`return_groups` names {name!r}, which is none of {list(known)}.")
        if name not in possible:
            raise ValueError(
                f"`return_groups` names {name!r}, which needs {'X and y' if name in NEEDS_OUTCOME else 'X'}."
            )
    return groups
