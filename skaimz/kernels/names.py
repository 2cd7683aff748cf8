"""Names of sites in trees and stores, which allow no '/'."""

from collections.abc import Collection, Mapping
from typing import Any

__all__ = ["own_names", "refuse_equal_names", "stored_name"]


def stored_name(name: str) -> str:
    """Return the name of a site or a dimension in xarray objects and Zarr stores, with '.' in place of '/'."""
    return name.replace("/", ".")


def own_names(arrays: Mapping[str, Any], sites: Collection[str]) -> dict[str, Any]:
    """Return arrays by the names of sites, given arrays by these or by their stored names."""
    by_stored = {stored_name(site): site for site in sites}
    return {name if name in sites else by_stored.get(name, name): array for name, array in arrays.items()}


def refuse_equal_names(sites: Collection[str]) -> None:
    """Refuse sites whose stored names are equal."""
    stored: dict[str, str] = {}
    for site in sites:
        other = stored.setdefault(stored_name(site), site)
        if other != site:
            raise ValueError(
                f"Sites {other!r} and {site!r} would have one name in a tree of draws, {stored_name(site)!r}, because "
                "'/' becomes '.' there: rename one of them."
            )
