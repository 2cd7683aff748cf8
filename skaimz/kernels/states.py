"""The states of discrete latent sites: their values, and all combinations of them."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from skaimz.kernels.spec import Site

__all__ = ["count_states", "few_states", "finite_support", "joint_states", "marginals"]

# Joint states that are summed one by one: of a row, and of the sites that rows share.
MOST_OF_ROW, MOST_SHARED = 256, 4096


def finite_support(distribution: Any) -> tuple[float, ...] | None:
    """Return the values of a discrete distribution; None unless they are finitely many numbers, known beforehand."""
    if not distribution.has_enumerate_support or distribution.event_dim:
        return None
    try:
        with jax.ensure_compile_time_eval():
            values = np.ravel(distribution.enumerate_support(expand=False))
    except (NotImplementedError, TypeError, ValueError, jax.errors.JAXTypeError):
        return None  # the values depend on other sites, or differ between the elements of the site
    return tuple(values.tolist()) if len(values) <= MOST_SHARED else None


def few_states(sites: Sequence["Site"]) -> bool:
    """Whether the joint states of sites, which all or none have rows, are few enough to be summed one by one."""
    most = MOST_OF_ROW if any(site.row_axis is not None for site in sites) else MOST_SHARED
    logs = (
        math.prod(site.event_shape) * (math.inf if site.states is None else math.log(len(site.states)))
        for site in sites
    )
    return sum(logs) < math.log(most + 0.5)


def count_states(sites: Sequence["Site"]) -> int:
    """Return the number of joint states of sites: of one row, for sites with rows."""
    return math.prod(len(site.states or ()) ** math.prod(site.event_shape) for site in sites)


def joint_states(sites: Sequence["Site"], n_rows: int) -> dict[str, np.ndarray]:
    """Return the values of sites in each of their joint states, on a leading axis. All rows are in the same state."""
    sizes = [math.prod(site.event_shape) for site in sites]
    axes = [site.states or () for site, size in zip(sites, sizes, strict=True) for _ in range(size)]
    grid = np.stack([np.ravel(values) for values in np.meshgrid(*axes, indexing="ij")], axis=-1) if axes else None
    states, start = {}, 0
    for site, size in zip(sites, sizes, strict=True):
        assert grid is not None
        values = grid[:, start : start + size].reshape(-1, *site.event_shape).astype(site.dtype)
        start += size
        if site.row_axis is not None:
            values = np.repeat(np.expand_dims(values, 1 + site.row_axis), n_rows, axis=1 + site.row_axis)
        states[site.name] = values
    return states


def marginals(probabilities: Any, sites: Sequence["Site"]) -> dict[str, Any]:
    """Return the probabilities of each site's states from those of the joint states.

    Parameters
    ----------
    probabilities : array of shape (..., n_joint_states)
    sites : sequence of Site
        The sites that :func:`joint_states` was called with.

    Returns
    -------
    dict of str to array of shape (..., *event_shape, n_states)
    """
    lead = probabilities.shape[:-1]
    sizes = [len(site.states or ()) for site in sites for _ in range(math.prod(site.event_shape))]
    grid = probabilities.reshape(*lead, *sizes)
    of_axis = iter(
        grid.sum(axis=tuple(axis for axis in range(len(lead), grid.ndim) if axis != place))
        for place in range(len(lead), grid.ndim)
    )
    by_site = {}
    for site in sites:
        parts = [next(of_axis) for _ in range(math.prod(site.event_shape))]
        by_site[site.name] = jnp.stack(parts, axis=-2).reshape(*lead, *site.event_shape, len(site.states or ()))
    return by_site
