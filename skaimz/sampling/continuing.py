"""Kernels that run on more than what is known: a value that is shorter than its site is the beginning of it.

An axis of a latent site may grow with the rows, with steps, or with the levels of an argument. Posterior draws then
hold its first entries. New entries are drawn from their conditional distribution, given the first.
"""

import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro import handlers

from skaimz.sampling.conditionals import Split, elementwise, split
from skaimz.sampling.one_level import of_one_level

__all__ = ["Beginning", "Continued", "grown_axis"]

# Folded into the key of a run for new entries of sites whose first entries are known.
NEW_ENTRIES = 2**32 - 2


def grown_axis(known: tuple[int, ...], whole: tuple[int, ...]) -> int | None:
    """Return the axis on which a value has fewer entries than its site; None if it has the site's own shape.

    Parameters
    ----------
    known, whole : tuple of int
        Shapes of the value and of the site.

    Raises
    ------
    ValueError
        If several axes differ.
    """
    if len(known) != len(whole) or all(k >= w for k, w in zip(known, whole, strict=True)):
        return None
    changed = [axis for axis, (k, w) in enumerate(zip(known, whole, strict=True)) if k != w]
    if len(changed) > 1:
        raise ValueError(f"its known values have the shape {known}, and the site has {whole}: several axes have grown")
    return changed[0]


class Beginning(NamedTuple):
    """Values of known levels of a site.

    Attributes
    ----------
    values : array
    labels : array of shape (n_new, 2)
        Numbers that identify new levels. Each level has random numbers of its own, whichever other levels are new.
    """

    values: Any
    labels: Any


class Continued(handlers.substitute):
    """Give sites their values, and draw what is missing of values that are the beginning of a site.

    Parameters
    ----------
    fn : callable
        The kernel.
    data : dict of str to array or Beginning
        Values of sites, whole or their beginnings.
    key : PRNG key
        That of the run. The random numbers of a site's new entries follow from it and from the site's name.

    Attributes
    ----------
    splits : dict of str to (Split, int, int)
        For each site with a joint distribution over what is known and new: both parts of it, the axis, and the number
        of known entries.
    """

    # NumPyro copies handlers that are not stateful before they run, and the copies would not be of this class.
    stateful = True

    def __init__(self, fn: Callable, data: Mapping[str, Any], key: Any):
        labelled = {name: value for name, value in data.items() if isinstance(value, Beginning)}
        super().__init__(fn, data={**data, **{name: each.values for name, each in labelled.items()}})
        self.key, self.labels = key, {name: each.labels for name, each in labelled.items()}
        self.splits: dict[str, tuple[Split, int, int]] = {}

    def process_message(self, msg: dict[str, Any]) -> None:
        """Set the value of a site. The beginnings of values in a ``scan`` are left to NumPyro, which continues them."""
        name = msg.get("name") or ""
        if msg["type"] != "sample" or msg.get("_control_flow_done") or name not in self.data:
            super().process_message(msg)
            return
        known, distribution = self.data[name], msg["fn"]
        shape = (*(msg["kwargs"].get("sample_shape") or ()), *distribution.shape())
        try:
            axis = grown_axis(jnp.shape(known), shape)
            if axis is None:
                super().process_message(msg)
                return
            place, base = len(shape) - axis, elementwise(distribution)
            parts = None if place > base.event_dim else split(base, known, place)
        except ValueError as error:
            raise ValueError(f"Site {name!r} cannot be continued: {error}.") from error
        if parts is not None:
            self.splits[name] = parts, axis, jnp.shape(known)[axis]
        if not msg["is_observed"]:
            key = jax.random.fold_in(jax.random.fold_in(self.key, NEW_ENTRIES), zlib.crc32(name.encode()))
            new = self._independent(name, distribution, axis, key) if parts is None else parts.rest.sample(key)
            msg["value"] = jnp.concatenate([known, new.astype(jnp.result_type(known))], axis=axis)

    def _independent(self, name: str, distribution: dist.Distribution, axis: int, key: Any) -> Any:
        """Draw new entries that are independent of one another and of the known ones."""
        n_known, whole = jnp.shape(self.data[name])[axis], distribution.shape()[axis]
        if name not in self.labels:
            return jax.lax.slice_in_dim(distribution.sample(key), n_known, whole, axis=axis)

        def of_level(label: Any, level: Any) -> Any:
            own = jax.random.fold_in(jax.random.fold_in(key, label[0]), label[1])
            return of_one_level(distribution, axis, level).sample(own).squeeze(axis)

        labels, levels = jnp.asarray(self.labels[name]), jnp.arange(n_known, whole)
        return jnp.moveaxis(jax.vmap(of_level)(labels, levels), 0, axis)
