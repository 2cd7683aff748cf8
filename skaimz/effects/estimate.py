"""Contrasts between scenarios: of averages over rows, or of single rows."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from skaimz import sampling
from skaimz.datatree import CHAIN_AND_DRAW, effects_to_dataset, row_coordinates, storable_labels
from skaimz.effects.contrasts import Contrast, contrast_of
from skaimz.effects.tree import VARIABLES, EffectTree
from skaimz.exceptions import UnreachedOutputWarning, warn_user

__all__ = ["AveragedRows", "Comparisons", "contrasts_of", "is_unchanged", "row_contrasts", "warn_of_unreached"]

# Names of dimensions, variables and columns that every result has.
RESERVED = (*CHAIN_AND_DRAW, "comparison", "total_weight", *VARIABLES)


class Comparisons(NamedTuple):
    """Scenarios and how they are compared.

    Attributes
    ----------
    jobs : dict of str to Job
        Scenarios by name, with the baseline among them.
    compared : sequence of (str, str, str or None)
        Name of each comparison, of its scenario and of its baseline. Without a baseline the result is the scenario
        itself.
    quantity : PerDraw
        What is compared: values, expected outcomes or slopes of the output.
    contrast : callable or None
        None if no scenario has a baseline.
    class_labels : array or list of arrays, optional
        Labels of classes, where the output is a class; a list has those of several outputs.
    """

    jobs: Mapping[str, sampling.Job]
    compared: Sequence[tuple[str, str, str | None]]
    quantity: sampling.PerDraw
    contrast: Contrast | None
    class_labels: Any = None

    @property
    def job(self) -> sampling.Job:
        """One of the jobs, all of which have the same sites and rows."""
        return next(iter(self.jobs.values()))


class AveragedRows(NamedTuple):
    """The rows that effects are averaged over.

    Attributes
    ----------
    weights : array of shape (n_rows,)
        Weight of each row; rows of weight zero are left out.
    groups : array of int of shape (n_rows,)
        Number of each row's group.
    labels : DataFrame
        Labels of the groups: a row for each group, and a column for each variable that rows are grouped by. With one
        group there is no column.
    """

    weights: np.ndarray
    groups: np.ndarray
    labels: pd.DataFrame

    @classmethod
    def of(cls, weights: np.ndarray, by: Mapping[str, Any]) -> "AveragedRows":
        """Group the rows whose weight is not zero by the variables in ``by``."""
        groups = np.zeros(len(weights), int)
        if not by:
            return cls(weights, groups, pd.DataFrame(index=[0]))
        taken = RESERVED if len(by) == 1 else (*RESERVED, "group")
        wrong = [name for name in by if name in taken or "/" in name]
        if wrong:
            raise ValueError(
                f"`by` cannot group rows by something named {wrong[0]!r}: the name is taken, or has a '/'. Pass a dict "
                "that gives its values another name."
            )
        counts = weights > 0
        # Categories of pandas keep their order.
        frame = pd.DataFrame({name: pd.Series(values).reset_index(drop=True) for name, values in by.items()})[counts]
        missing = [name for name in frame if frame[name].isna().any()]
        if missing:
            raise ValueError(f"`by` groups rows by {missing[0]!r}, which has missing values.")
        grouped = frame.groupby(list(frame.columns), sort=True, observed=True)
        groups[counts] = grouped.ngroup().to_numpy()
        return cls(weights, groups, grouped.size().reset_index()[list(frame.columns)])


def contrasts_of(comparisons: Comparisons, target: AveragedRows, attrs: Mapping[str, Any]) -> EffectTree:
    """Return contrasts of averages over rows.

    Parameters
    ----------
    comparisons : Comparisons
    target : AveragedRows
    attrs : dict
        Attributes of the tree.

    Returns
    -------
    EffectTree
    """
    jobs, labels = comparisons.jobs, target.labels
    averages = sampling.averages(list(jobs.values()), comparisons.quantity, *target[:2], len(labels))
    arrays = dict(zip(jobs, averages, strict=True))
    if labels.columns.empty:
        arrays = {name: array[:, 0] for name, array in arrays.items()}
    dims, coordinates = _group_coordinates(labels)
    output_dims, of_output = _output_dims(comparisons, next(iter(arrays.values())).shape[1 + len(dims) :])
    both = coordinates.keys() & of_output.keys()
    if both:
        raise ValueError(
            f"`by` cannot be named {min(both)!r}, like a dimension of the output: pass a dict with another name."
        )
    weight = np.bincount(target.groups, target.weights, len(labels))
    total = {"total_weight": (dims, weight if dims else weight[0])}
    return _tree(comparisons, arrays, (*dims, *output_dims), coordinates | of_output, attrs, total)


def row_contrasts(comparisons: Comparisons, rows: np.ndarray, index: Any, attrs: Mapping[str, Any]) -> EffectTree:
    """Return contrasts for each of some rows, with all draws in memory.

    Parameters
    ----------
    comparisons : Comparisons
    rows : array of bool of shape (n_rows,)
        Mask of the rows.
    index : pandas.Index or None
        Labels of all rows.
    attrs : dict
        Attributes of the tree.

    Returns
    -------
    EffectTree
    """
    arrays = {}
    for name, job in comparisons.jobs.items():
        drawing = sampling.Drawing(job, comparisons.quantity, paired=True)
        (field,) = drawing.fields
        draws = sampling.with_nan(drawing.in_memory()[field.name])
        by_row = np.moveaxis(draws.reshape(-1, *draws.shape[2:]), 1 + (field.row_axis or 0), 1)
        arrays[name] = by_row[:, rows]
    spec = comparisons.job.spec
    site = spec[spec.output]
    dim = site.dims[site.row_axis or 0]
    labels = np.flatnonzero(rows) if index is None else index[rows]
    output_dims, of_output = _output_dims(comparisons, next(iter(arrays.values())).shape[2:])
    coordinates = row_coordinates(dim, labels, {*RESERVED, *output_dims}) | of_output
    return _tree(comparisons, arrays, (dim, *output_dims), coordinates, attrs)


def _tree(
    comparisons: Comparisons,
    arrays: Mapping[str, np.ndarray],
    dims: Sequence[str],
    coordinates: Mapping[str, Any],
    attrs: Mapping[str, Any],
    shared: Mapping[str, Any] | None = None,
) -> EffectTree:
    """Return contrasts of the scenarios' arrays, with coordinates and variables that all comparisons share."""
    chains = comparisons.job.posterior.n_chains
    arrays = {name: array.reshape(chains, -1, *array.shape[1:]) for name, array in arrays.items()}
    groups = {}
    for name, scenario, baseline in comparisons.compared:
        draws = {"effect": arrays[scenario]}
        if baseline is not None and comparisons.contrast is not None:
            effect = contrast_of(comparisons.contrast, arrays[scenario], arrays[baseline], name)
            draws = {"effect": effect, "scenario": arrays[scenario], "baseline": arrays[baseline]}
        groups[name] = effects_to_dataset(draws, dims, coordinates, shared)
    return EffectTree.of(groups, attrs)


def _group_coordinates(labels: pd.DataFrame) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return the dimension of groups and its coordinates; it is named after the variable they were made by, if one."""
    names = [str(name) for name in labels.columns]
    if not names:
        return (), {}
    if len(names) == 1:
        return (names[0],), {names[0]: storable_labels(labels.iloc[:, 0])}
    return ("group",), {"group": np.arange(len(labels))} | {
        name: ("group", storable_labels(labels.iloc[:, i])) for i, name in enumerate(names)
    }


def _output_dims(comparisons: Comparisons, sizes: tuple[int, ...]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return the dimensions of one row's result and their coordinates; classes have one of their own, the last."""
    spec = comparisons.job.spec
    site = spec[spec.output]
    own = tuple(dim for axis, dim in enumerate(site.dims) if axis != site.row_axis)
    coordinates: dict[str, Any] = {dim: np.arange(size) for dim, size in zip(own, sizes, strict=False)}
    if len(sizes) > len(own):
        own = (*own, "class")
        coordinates["class"] = _class_labels(comparisons.class_labels, sizes[-1])
    return own, coordinates


def _class_labels(labels: Any, count: int) -> np.ndarray:
    """Return the labels of classes, or their numbers if there are no labels or several outputs differ in them."""
    several = labels if isinstance(labels, list) else [labels]
    known = labels is not None and all(np.array_equal(each, several[0]) for each in several)
    return storable_labels(several[0]) if known and len(several[0]) == count else np.arange(count)


def is_unchanged(effect: xr.Dataset) -> bool:
    """Whether scenario and baseline are equal for every posterior draw, or a slope is zero."""
    if "scenario" in effect:
        return bool(effect["scenario"].equals(effect["baseline"]))
    return not effect["effect"].any()


def warn_of_unreached(names: Sequence[str]) -> None:
    """Warn of effects that are zero because the output does not depend on what is changed."""
    for name in names:
        warn_user(
            f"{name!r} leaves the outcome as it is for every posterior draw: the kernel's output does not depend on "
            "what is changed. Check which columns, arguments and sites the kernel uses.",
            UnreachedOutputWarning,
        )
