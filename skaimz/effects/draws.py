"""Effects from existing predictive draws."""

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import numpy as np
import xarray as xr

from skaimz.datatree import CHAIN_AND_DRAW, joined_variables
from skaimz.effects.contrasts import Contrast, contrast_of, is_elementwise, warn_of_baseline
from skaimz.effects.tree import EffectTree
from skaimz.exceptions import PairingWarning, warn_user

__all__ = ["effects_of_draws"]

# Bytes of draws that are read from disk at a time, unless Dask reads them.
BYTES_READ = 2**26
GROUPS = ("posterior_predictive", "predictions", "prior_predictive")


def effects_of_draws(
    baseline: xr.DataTree, scenarios: Mapping[str, xr.DataTree], output: str | None, contrast: Contrast, name: str
) -> EffectTree:
    """Return contrasts of predictive draws, draw by draw and row by row.

    Parameters
    ----------
    baseline : xarray.DataTree
        Draws, as the methods that sample return them.
    scenarios : dict of str to DataTree
    output : str or None
        Site to compare. If a tree lacks it, the only site that the trees have in common is compared.
    contrast : callable
    name : str
        Name of the contrast.

    Returns
    -------
    EffectTree
        Variables with the dimensions of the draws.
    """
    before, first = _predictive(baseline, "baseline")
    groups = {}
    for key, tree in scenarios.items():
        after, second = _predictive(tree, f"scenarios[{key!r}]")
        if first != second:
            _warn(f"The baseline holds {first!r} and scenario {key!r} {second!r}: their rows may not be the same.")
        _check_pairing(baseline, tree, key)
        pair = _same_site(before, after, output, key)
        groups[key] = _contrasted(*pair, contrast, key)
    return EffectTree.of(groups, {"contrast": name, "of": "outcome", "seed": baseline.attrs.get("seed", -1)})


def _check_pairing(baseline: xr.DataTree, tree: xr.DataTree, key: str) -> None:
    """Warn where draws do not share their random numbers or their posterior."""
    seeds = [each.attrs.get("seed") for each in (baseline, tree)]
    if seeds[0] != seeds[1]:
        _warn(
            f"The baseline was drawn with the seed {seeds[0]} and scenario {key!r} with {seeds[1]}: they do not share "
            "their noise, and the effect varies more than it should."
        )
    before, after = (each["posterior"].to_dataset() if "posterior" in each.children else None
                     for each in (baseline, tree))  # fmt: skip
    if before is not None and after is not None and not before.equals(after):
        _warn(
            f"The baseline and scenario {key!r} were drawn from different posteriors: their draws cannot be paired one "
            "by one."
        )


def _warn(message: str) -> None:
    warn_user(message, PairingWarning)


def _same_site(
    before: xr.Dataset, after: xr.Dataset, output: str | None, key: str
) -> tuple[xr.DataArray, xr.DataArray]:
    """Return draws of the site to compare, whose shapes and labels must agree."""
    sites = [site for site in before.data_vars if site in after.data_vars]
    sites = [output] if output in sites else sites
    if len(sites) != 1:
        raise ValueError(
            f"The draws of baseline and scenario {key!r} have the sites {sites} in common, and exactly one is needed: "
            "keep one in `return_sites`."
        )
    first, second = before[sites[0]], after[sites[0]]
    if first.sizes != second.sizes:
        raise ValueError(
            f"Baseline and scenario {key!r} have draws of different shapes: {dict(first.sizes)} and "
            f"{dict(second.sizes)}."
        )
    unlike = [dim for dim in first.dims if not first[dim].equals(second[dim])]
    if unlike:
        raise ValueError(
            f"Baseline and scenario {key!r} have different labels on {unlike[0]!r}: they cannot be paired."
        )
    return first.transpose(*CHAIN_AND_DRAW, ...), second.transpose(*CHAIN_AND_DRAW, ...)


def _contrasted(before: xr.DataArray, after: xr.DataArray, contrast: Contrast, key: str) -> xr.Dataset:
    if not is_elementwise(contrast):
        baseline, scenario = (np.asarray(each, np.float64) for each in (before, after))
        effect = before.copy(data=contrast_of(contrast, scenario, baseline, key))
        return joined_variables(effect=effect, scenario=after, baseline=before)
    if before.chunks and after.chunks:
        # Dask computes the contrast later, a chunk at a time.
        effect = xr.apply_ufunc(
            contrast, *(each.astype(np.float64) for each in (after, before)), dask="parallelized", output_dtypes=[float]
        )
        not_positive = int((before <= 0).sum())
    else:
        effect, not_positive = before.copy(data=np.empty(before.shape)), 0
        for where in _slices(before):
            baseline, scenario = (np.asarray(each[where], np.float64) for each in (before, after))
            effect[where] = contrast(scenario, baseline)
            not_positive += int((baseline <= 0).sum())
    warn_of_baseline(contrast, not_positive, before.size)
    return joined_variables(effect=effect, scenario=after, baseline=before)


def _slices(array: xr.DataArray) -> Iterator[dict[Hashable, slice]]:
    """Yield slices along the longest axis other than chains and draws: whole arrays on disk may not fit in memory."""
    dim = max(array.dims[2:] or array.dims, key=lambda dim: array.sizes[dim])
    step = max(1, BYTES_READ // max(1, 8 * array.size // max(1, array.sizes[dim])))
    for start in range(0, array.sizes[dim], step):
        yield {dim: slice(start, start + step)}


def _predictive(tree: Any, argument: str) -> tuple[xr.Dataset, str]:
    if not isinstance(tree, xr.DataTree):
        raise TypeError(f"`{argument}` must be a DataTree of draws, like the others, got {type(tree).__name__}.")
    for group in GROUPS:
        if group in tree.children:
            return tree[group].to_dataset(), group
    raise ValueError(f"`{argument}` holds no predictive draws: it has none of the groups {GROUPS}.")
