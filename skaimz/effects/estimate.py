"""Contrasts between scenarios, from the sampling core's averages."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from skaimz import sampling
from skaimz.datatree import CHAIN_AND_DRAW, effects_to_dataset, row_coordinates, storable_labels
from skaimz.effects.contrasts import Contrast, contrast_of
from skaimz.effects.tree import PARTS, EffectTree
from skaimz.exceptions import UnreachedOutputWarning, warn_user

__all__ = ["Target", "contrasts_of", "is_nothing", "row_contrasts", "warn_of_unreached"]

# Names that an answer's dimensions and columns have already.
RESERVED = (*CHAIN_AND_DRAW, "comparison", "total_weight", *PARTS)


class Target(NamedTuple):
    """Which rows an effect is averaged over.

    Attributes
    ----------
    weights : array of shape (n_rows,)
        Zero leaves a row out.
    groups : array of int of shape (n_rows,)
    labels : DataFrame
        A row for each group, with a column for each thing that groups were made by; none where there is one group.
    """

    weights: np.ndarray
    groups: np.ndarray
    labels: pd.DataFrame

    @classmethod
    def of(cls, weights: np.ndarray, by: Mapping[str, Any]) -> "Target":
        """Group the rows that count by the values that they have in common."""
        groups = np.zeros(len(weights), int)
        if not by:
            return cls(weights, groups, pd.DataFrame(index=[0]))
        taken = RESERVED if len(by) == 1 else (*RESERVED, "group")
        wrong = [name for name in by if name in taken or "/" in name]
        if wrong:
            raise ValueError(
                f"`by` cannot group rows by something named {wrong[0]!r}: the name is taken, or has a '/'. Pass a dict "
                "with another name for its values."
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


def contrasts_of(
    jobs: Mapping[str, sampling.Job],
    compared: Sequence[tuple[str, str, str | None]],
    quantity: sampling.Quantity,
    contrast: Contrast,
    target: Target,
    attrs: Mapping[str, Any],
    labels: Any = None,
) -> EffectTree:
    """Return contrasts of averages over rows.

    Parameters
    ----------
    jobs : dict of str to Job
        Scenarios, the baseline among them.
    compared : sequence of (str, str, str or None)
        Name of each contrast, of its scenario and of its baseline; without a baseline the scenario stands for itself.
    quantity : Quantity
    contrast : callable
    target : Target
    attrs : dict
        Attributes of the tree.
    labels : array, optional
        Labels of classes, where the output is one.

    Returns
    -------
    EffectTree
    """
    first = next(iter(jobs.values()))
    found = sampling.averages(list(jobs.values()), quantity, target.weights, target.groups, len(target.labels))
    arrays = dict(zip(jobs, found, strict=True))
    if target.labels.columns.empty:
        arrays = {name: array[:, 0] for name, array in arrays.items()}
    dims, coordinates = _group_coordinates(target.labels)
    more, of_classes = _output_dims(first, next(iter(arrays.values())).shape[1 + len(dims) :], labels)
    both = coordinates.keys() & of_classes.keys()
    if both:
        raise ValueError(
            f"`by` cannot be named {min(both)!r}, as is a dimension of the output: pass a dict with another name."
        )
    weight = np.bincount(target.groups, target.weights, len(target.labels))
    total = {"total_weight": (dims, weight if dims else weight[0])}
    return _tree(first, arrays, compared, contrast, (*dims, *more), coordinates | of_classes, attrs, total)


def row_contrasts(
    jobs: Mapping[str, sampling.Job],
    compared: Sequence[tuple[str, str, str | None]],
    quantity: sampling.Quantity,
    contrast: Contrast,
    rows: np.ndarray,
    index: Any,
    attrs: Mapping[str, Any],
    labels: Any = None,
) -> EffectTree:
    """Return contrasts for each of the chosen rows; their draws are held in memory.

    Parameters
    ----------
    jobs, compared, quantity, contrast, attrs, labels
        As in :func:`contrasts_of`.
    rows : array of bool of shape (n_rows,)
        Rows that are wanted.
    index : pandas.Index or None
        Labels of all rows.

    Returns
    -------
    EffectTree
    """
    first = next(iter(jobs.values()))
    arrays = {}
    for name, job in jobs.items():
        drawing = sampling.Drawing(job, quantity, paired=True)
        sink = sampling.MemorySink(drawing.fields, drawing.plan)
        drawing.into(sink)
        (field,) = drawing.fields
        found = sampling.as_numbers(sink.finish()[field.name])
        by_row = np.moveaxis(found.reshape(-1, *found.shape[2:]), 1 + (field.row_axis or 0), 1)
        arrays[name] = by_row[:, rows]
    site = first.spec[first.spec.output]
    dim = site.dims[site.row_axis or 0]
    chosen = np.flatnonzero(rows) if index is None else index[rows]
    more, of_classes = _output_dims(first, next(iter(arrays.values())).shape[2:], labels)
    coordinates = row_coordinates(dim, chosen, {*RESERVED, *more}) | of_classes
    return _tree(first, arrays, compared, contrast, (dim, *more), coordinates, attrs)


def _tree(
    job: sampling.Job,
    arrays: Mapping[str, np.ndarray],
    compared: Sequence[tuple[str, str, str | None]],
    contrast: Contrast,
    dims: Sequence[str],
    coordinates: Mapping[str, Any],
    attrs: Mapping[str, Any],
    more: Mapping[str, Any] | None = None,
) -> EffectTree:
    chains = job.posterior.n_chains
    arrays = {name: array.reshape(chains, -1, *array.shape[1:]) for name, array in arrays.items()}
    groups = {}
    for name, scenario, baseline in compared:
        parts = {"effect": arrays[scenario]}
        if baseline is not None:
            effect = contrast_of(contrast, arrays[scenario], arrays[baseline], name)
            parts = {"effect": effect, "scenario": arrays[scenario], "baseline": arrays[baseline]}
        groups[name] = effects_to_dataset(parts, dims, coordinates, more)
    return EffectTree.of(groups, attrs)


def _group_coordinates(labels: pd.DataFrame) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return the dimension of groups, and its labels: it has the name of what groups were made by, if that is one."""
    names = [str(name) for name in labels.columns]
    if not names:
        return (), {}
    if len(names) == 1:
        return (names[0],), {names[0]: storable_labels(labels.iloc[:, 0])}
    return ("group",), {"group": np.arange(len(labels))} | {
        name: ("group", storable_labels(labels.iloc[:, i])) for i, name in enumerate(names)
    }


def _output_dims(job: sampling.Job, sizes: tuple[int, ...], labels: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return the dimensions of one row's outcome; a class has its probability on a last one."""
    site = job.spec[job.spec.output]
    own = tuple(dim for axis, dim in enumerate(site.dims) if axis != site.row_axis)
    coordinates: dict[str, Any] = {dim: np.arange(size) for dim, size in zip(own, sizes, strict=False)}
    if len(sizes) > len(own):
        own = (*own, "class")
        coordinates["class"] = _class_labels(labels, sizes[-1])
    return own, coordinates


def _class_labels(labels: Any, count: int) -> np.ndarray:
    """Return the labels of classes; their numbers where there are none, or several outputs have different ones."""
    several = labels if isinstance(labels, list) else [labels]
    known = labels is not None and all(np.array_equal(each, several[0]) for each in several)
    return storable_labels(several[0]) if known and len(several[0]) == count else np.arange(count)


def is_nothing(effect: xr.Dataset) -> bool:
    """Whether an effect is zero for every posterior draw, as a scenario's that equals its baseline."""
    if "scenario" in effect:
        return bool(effect["scenario"].equals(effect["baseline"]))
    return not effect["effect"].any()


def warn_of_unreached(names: Sequence[str]) -> None:
    """Warn of effects that are zero because the output does not depend on what a scenario, or a slope, changes."""
    for name in names:
        warn_user(
            f"{name!r} has no effect on the outcome, exactly 0 for every posterior draw: nothing that the kernel's "
            "output is computed from depends on what is changed. Check which columns, arguments and sites it uses.",
            UnreachedOutputWarning,
        )
