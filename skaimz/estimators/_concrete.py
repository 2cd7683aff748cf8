"""Kernels that see the values of their arguments: what users must know of them."""

from collections.abc import Mapping

import numpy as np

from skaimz.exceptions import ConcreteKernelWarning, warn_user
from skaimz.kernels import TracedKernel

__all__ = ["check_shapes_seen", "warn_of_seen"]


def warn_of_seen(traced: TracedKernel) -> None:
    """Warn that programs of a kernel serve one set of values."""
    if not traced.seen:
        return
    of_rows = traced.spec.input in traced.seen
    warn_user(
        f"The kernel needs the values of {list(traced.seen)} while it is traced, because it branches on them, counts "
        "them, or passes them to functions other than those of `jax.numpy`. Programs are compiled anew for other values"
        + (", and all rows are computed at once, without minibatches or blocks. Numbers" if of_rows else ". Numbers")
        + " that decide shapes, such as the number of groups, are better passed as arguments.",
        ConcreteKernelWarning,
    )


def check_shapes_seen(traced: TracedKernel, draws: Mapping[str, np.ndarray]) -> None:
    """Refuse rows for which a kernel that counts values has a site with another shape than in the fit.

    The entries may then be those of other groups.
    """
    for site in traced.spec.prior_sites if traced.seen else ():
        if site.name not in draws or len(site.shape) != draws[site.name].ndim - 2:
            continue
        fitted = draws[site.name].shape[2:]
        if any(size not in (None, known) for size, known in zip(site.shape, fitted, strict=True)):
            here = tuple("n_rows" if size is None else size for size in site.shape)
            raise ValueError(
                f"Site {site.name!r} has the shape {here} for these rows, and {fitted} in the fit, because the kernel "
                "derives the shape from values of its arguments. Pass the number to the kernel as an argument, such as "
                "`n_groups`."
            )
