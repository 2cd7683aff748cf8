"""The latent sites of a plot, and their elements."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from skaimz.plotting.style import MOST_PANELS

__all__ = ["check_panels", "elements", "global_sites", "site_of"]


def elements(draws: Mapping[str, np.ndarray], sites: str | Sequence[str] | None) -> dict[str, np.ndarray]:
    """Return the draws of each element of sites, arrays ``(n_chains, n_draws)``, by labels such as ``"coef[0]"``.

    Parameters
    ----------
    draws : dict of str to array of shape (n_chains, n_draws, ...)
    sites : str, sequence of str or None
        Names of sites and labels of elements; all sites if None.

    Raises
    ------
    ValueError
        If a site or an element does not exist, or if there are more elements than panels in a plot.
    """
    names = list(draws) if sites is None else [sites] if isinstance(sites, str) else list(sites)
    check_panels(sum(math.prod(draws[name].shape[2:]) if name in draws else 1 for name in names))
    selected: dict[str, np.ndarray] = {}
    for name in names:
        site = site_of(name, draws)
        shape = draws[site].shape
        labels = [_label(site, place) for place in np.ndindex(shape[2:])]
        of_site = dict(zip(labels, np.moveaxis(draws[site].reshape(*shape[:2], -1), -1, 0), strict=True))
        if name != site and name not in of_site:
            raise ValueError(f"`sites` names {name!r}, but {site!r} has the elements {_abridged(labels)}.")
        selected |= of_site if name == site else {name: of_site[name]}
    return selected


def site_of(name: str, draws: Mapping[str, np.ndarray]) -> str:
    """Return the site with a name, or the site of an element such as ``"coef[0]"``."""
    site = name if name in draws else name.partition("[")[0]
    if site not in draws:
        raise ValueError(
            f"`sites` names {name!r}, which is neither a latent site nor an element of one, such as 'coef[0]': the "
            f"sites are {list(draws)}."
        )
    return site


def global_sites(estimator: Any) -> list[str]:
    """Return the latent sites without an entry for each row."""
    spec = getattr(estimator, "kernel_spec_", None)
    if spec is None:
        return list(estimator.posterior_)
    return [site.name for site in spec.latents if site.row_axis is None and site.name in estimator.posterior_]


def check_panels(count: int) -> None:
    """Raise ValueError if a plot has no panels, or too many."""
    if count == 0:
        raise ValueError("There is nothing to draw.")
    if count > MOST_PANELS:
        raise ValueError(
            f"A picture of {count} panels is not legible: choose {MOST_PANELS} at most by name, or single elements of "
            "a site, as in 'coef[0]'."
        )


def _label(site: str, place: tuple[int, ...]) -> str:
    return f"{site}[{', '.join(map(str, place))}]" if place else site


def _abridged(labels: list[str]) -> str:
    return f"{labels[0]} to {labels[-1]}"
