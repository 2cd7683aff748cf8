"""Kernels that are described on one number of rows, because they run on no other, or see the values of the rows."""

import functools
from dataclasses import replace

from skaimz.kernels.abstract import AbstractCall
from skaimz.kernels.describe import describe
from skaimz.kernels.spec import KernelSpec

__all__ = ["bound_to_rows", "describe_on_its_rows"]

SPECS_KEPT = 64


def bound_to_rows(spec: KernelSpec, reason: str, n_rows: int) -> KernelSpec:
    """Return a description in which rows may depend on one another, for a reason that no trace shows."""
    sites, only_fitted = (
        tuple(replace(site, mixing=reason) for site in sites) for sites in (spec.sites, spec.only_fitted)
    )
    return replace(spec, sites=sites, only_fitted=only_fitted, fit_mixing=reason, least_rows=n_rows)


@functools.lru_cache(maxsize=SPECS_KEPT)
def describe_on_its_rows(call: AbstractCall, n_rows: int) -> KernelSpec | None:
    """Describe a kernel on one number of rows alone, None if that is not possible.

    Such a kernel knows the number from elsewhere, as from an attribute, which is the size of its plate. The rows are
    then the axes of that length.
    """
    try:
        spec = describe(call, (n_rows, n_rows))
    except Exception:
        return None
    return replace(bound_to_rows(spec, f"the kernel is written for {n_rows} rows", n_rows), only_rows=n_rows)
