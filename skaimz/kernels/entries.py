"""Entries of an outcome that are missing, and are left out of its density."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from numpyro.distributions import Distribution, Independent
from numpyro.primitives import Messenger

__all__ = ["OBSERVED", "POINTS", "LeftOut"]

# Name among the rows of an array that tells which entries of the outcome are observed. No argument can have it.
OBSERVED = "observed entries"
# Name among the rows of an array of numbers at which something is computed, and which the kernel does not see.
POINTS = "points of the outcome"


class LeftOut(Messenger):
    """Leave entries of an observed site out of its density.

    Parameters
    ----------
    fn : callable
        The kernel.
    name : str
        The site.
    entries : array
        Which entries of its value count.
    """

    def __init__(self, fn: Callable, name: str, entries: Any):
        super().__init__(fn)
        self.name, self.entries = name, entries

    def process_message(self, msg: dict[str, Any]) -> None:
        """Mask the site's distribution, and replace the entries that do not count by valid values."""
        if msg.get("name") == self.name and msg["type"] == "sample" and msg["is_observed"]:
            msg["fn"], msg["value"] = (
                _without(msg["fn"], self.entries),
                _supported(msg["fn"], msg["value"], self.entries),
            )


def _without(distribution: Distribution, counts: Any) -> Distribution:
    """Return a distribution whose log density leaves out the entries that do not count."""
    if isinstance(distribution, Independent):
        return _without(distribution.base_dist, counts).to_event(distribution.reinterpreted_batch_ndims)
    event = tuple(range(counts.ndim - distribution.event_dim, counts.ndim))
    return distribution.mask(counts.all(axis=event))


def _supported(distribution: Distribution, value: Any, counts: Any) -> Any:
    """Return a value in which entries that do not count are in the support, which may differ between rows."""
    support: Any = distribution.support
    try:
        return jnp.where(counts, value, support.feasible_like(value).astype(value.dtype))
    except NotImplementedError:
        return value
