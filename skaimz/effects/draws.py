"""Effects from predictive draws that were made before."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from skaimz.datatree import CHAIN_AND_DRAW
from skaimz.effects.contrasts import Contrast
from skaimz.effects.tree import EffectTree
from skaimz.exceptions import PairingWarning

__all__ = ["effects_of_draws"]

GROUPS = ("posterior_predictive", "predictions", "prior_predictive")


def effects_of_draws(
    baseline: xr.DataTree, scenarios: Mapping[str, xr.DataTree], output: str | None, contrast: Contrast, name: str
) -> EffectTree:
    """Return contrasts of predictive draws, draw by draw and row by row.

    Parameters
    ----------
    baseline : xarray.DataTree
        What a tree method returned.
    scenarios : dict of str to DataTree
    output : str or None
        Site to compare; None for the only one that they have in common.
    contrast : callable
    name : str
        Of the contrast.

    Returns
    -------
    EffectTree
        Variables have the dimensions of the draws.
    """
    before, first = _predictive(baseline, "baseline")
    groups = {}
    for key, tree in scenarios.items():
        after, second = _predictive(tree, f"scenarios[{key!r}]")
        if first != second:
            warnings.warn(
                f"The baseline holds {first!r} and scenario {key!r} holds {second!r}: they may not be of the same rows "
                "or the same posterior.",
                PairingWarning,
                stacklevel=4,
            )
        if baseline.attrs.get("seed") != tree.attrs.get("seed"):
            warnings.warn(
                f"The baseline was drawn with the seed {baseline.attrs.get('seed')} and scenario {key!r} with "
                f"{tree.attrs.get('seed')}: their noise is not the same, and the effect varies more than it should.",
                PairingWarning,
                stacklevel=4,
            )
        sites = [site for site in before.data_vars if site in after.data_vars]
        if output is not None:
            sites = [site for site in sites if site == output]
        if len(sites) != 1:
            raise ValueError(
                f"The draws of baseline and scenario {key!r} have {sites} in common, which must be one site."
            )
        site = sites[0]
        if before[site].sizes != after[site].sizes:
            raise ValueError(
                f"Baseline and scenario {key!r} have draws of other shapes: {dict(before[site].sizes)} and "
                f"{dict(after[site].sizes)}."
            )
        unlike = [dim for dim in before[site].dims if not before[dim].equals(after[dim])]
        if unlike:
            raise ValueError(
                f"Baseline and scenario {key!r} have other labels on {unlike[0]!r}: they cannot be paired."
            )
        dims = (*CHAIN_AND_DRAW, ...)
        pair = [np.asarray(draws[site].transpose(*dims), np.float64) for draws in (after, before)]
        template = before[site].transpose(*dims)
        parts: dict[str, Any] = {"effect": contrast(*pair), "scenario": pair[0], "baseline": pair[1]}
        groups[key] = xr.Dataset({part: template.copy(data=values) for part, values in parts.items()})
    return EffectTree.of(groups, {"contrast": name, "of": "outcome", "seed": baseline.attrs.get("seed", -1)})


def _predictive(tree: Any, argument: str) -> tuple[xr.Dataset, str]:
    if not isinstance(tree, xr.DataTree):
        raise TypeError(f"`{argument}` must be a DataTree of draws, as the other ones, got {type(tree).__name__}.")
    for group in GROUPS:
        if group in tree.children:
            return tree[group].to_dataset(), group
    raise ValueError(f"`{argument}` holds no predictive draws: none of the groups {GROUPS} is in it.")
