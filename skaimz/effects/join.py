"""Effects over all rows of a table, joined from effects over its parts."""

import contextlib
import graphlib
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from skaimz.datatree import CHAIN_AND_DRAW, effects_to_dataset
from skaimz.effects.contrasts import Contrast, contrast_of
from skaimz.effects.estimate import is_unchanged
from skaimz.effects.tree import EffectTree

__all__ = ["joined"]


def joined(parts: Sequence[EffectTree], name: str, contrast: Contrast | None) -> EffectTree:
    """Return effects over all rows. Averages over the parts are averaged by weight, and then contrasted.

    Parameters
    ----------
    parts : sequence of EffectTree
        Averages over the rows of each part, for the same comparisons and posterior draws.
    name : str
        Name of the contrast.
    contrast : callable or None
        None for effects that are not contrasts, such as slopes: their averages are the result.
    """
    groups = {
        comparison: _averaged([part[comparison].to_dataset() for part in parts], comparison, contrast)
        for comparison in parts[0].children
    }
    tree = EffectTree.of(groups, {**parts[0].attrs, "contrast": name})
    unreached = {each for part in parts for each in part.attrs.get("unreached", ())}
    tree.attrs["unreached"] = sorted(each for each in unreached if is_unchanged(tree[each].to_dataset()))
    return tree


def _averaged(datasets: Sequence[xr.Dataset], comparison: str, contrast: Contrast | None) -> xr.Dataset:
    """Average the datasets of one comparison by weight, group by group, and contrast the averages."""
    first = datasets[0]
    dims = first["total_weight"].dims
    labels = [_labels(dataset, dims) for dataset in datasets]
    every = _in_order(labels)
    numbers = {label: number for number, label in enumerate(every)}
    places = [[numbers[label] for label in own] for own in labels]
    weight = np.zeros(len(every))
    for dataset, place in zip(datasets, places, strict=True):
        weight[place] += dataset["total_weight"].to_numpy().reshape(-1)
    averages: dict[str, np.ndarray] = {}
    for variable in ("effect",) if contrast is None else ("scenario", "baseline"):
        total: Any = 0.0
        for dataset, place in zip(datasets, places, strict=True):
            own = dataset["total_weight"].to_numpy().reshape(-1)
            average = dataset[variable].transpose(*CHAIN_AND_DRAW, *dims, ...).to_numpy()
            by_group = average.reshape(*average.shape[:2], len(own), *average.shape[2 + len(dims) :])
            share = (own / weight[place]).reshape(-1, *(1,) * (by_group.ndim - 3))
            shares = np.zeros((*by_group.shape[:2], len(every), *by_group.shape[3:]))
            shares[:, :, place] = by_group * share
            total = total + shares
        averages[variable] = total if dims else total[:, :, 0]
    if contrast is not None:
        effect = contrast_of(contrast, averages["scenario"], averages["baseline"], comparison)
        averages = {"effect": effect, **averages}
    coordinates: dict[Any, Any] = {dim: c for dim, c in first.coords.items() if not set(dims) & set(c.dims)}
    if dims:
        columns = _columns(first, dims)
        dtypes = {n: np.result_type(*(dataset[n].dtype for dataset in datasets)) for n in columns}
        values = {n: np.asarray([label[i] for label in every], dtypes[n]) for i, n in enumerate(columns)}
        coordinates |= {n: (dims, value) for n, value in values.items()}
        if columns != list(dims):
            coordinates[str(dims[0])] = np.arange(len(every))
    rest = [dim for dim in first["effect"].dims if dim not in (*CHAIN_AND_DRAW, *dims)]
    total_weight = (dims, weight if dims else weight[0])
    return effects_to_dataset(averages, (*dims, *rest), coordinates, {"total_weight": total_weight})


def _columns(dataset: xr.Dataset, dims: tuple[Any, ...]) -> list[str]:
    """Return the names of the variables that rows are grouped by: coordinates of the groups, or their dimension."""
    coordinates = [str(name) for name, c in dataset.coords.items() if c.dims == dims and name not in dims]
    return coordinates or [str(dim) for dim in dims]


def _labels(dataset: xr.Dataset, dims: tuple[Any, ...]) -> list[tuple]:
    """Return the label of each group; without groups, one empty label."""
    if not dims:
        return [()]
    return list(zip(*(dataset[name].to_numpy().tolist() for name in _columns(dataset, dims)), strict=True))


def _in_order(labels: Sequence[list[tuple]]) -> list[tuple]:
    """Return all labels in an order that agrees with that of each part: sorted, or the order of categories.

    If the parts disagree, as files may that list categories in the order of their rows, labels keep the order in which
    they first occur.
    """
    every = list(dict.fromkeys(itertools.chain.from_iterable(labels)))
    # Labels of different types cannot be sorted.
    with contextlib.suppress(TypeError):
        if all(own == sorted(own) for own in labels):
            return sorted(every)
    order: graphlib.TopologicalSorter = graphlib.TopologicalSorter(dict.fromkeys(every, ()))
    for own in labels:
        for before, after in itertools.pairwise(own):
            order.add(after, before)
    try:
        return list(order.static_order())
    except graphlib.CycleError:
        return every
