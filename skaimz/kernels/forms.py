"""Kernels brought into one form as they run: the output has a value for each row, and plates hold all rows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.primitives import Messenger

__all__ = ["AS_WRITTEN", "SUBSAMPLED", "Form", "Formed"]

# Marks a plate that would draw a minibatch, and holds all rows instead.
SUBSAMPLED = "skaimz_subsampled"


@dataclass(frozen=True)
class Form:
    """What is changed in a kernel's output when it runs; nothing by default.

    Attributes
    ----------
    output : str or None
        Site that is changed; None for none.
    branches : bool
        Whether the site exists only without an outcome, while other sites score outcomes. If it is deterministic, it
        becomes a sample site, whose distribution is a point.
    """

    output: str | None = None
    branches: bool = False


AS_WRITTEN = Form()


class Formed(Messenger):
    """Change the sites of a kernel into those of its form.

    Parameters
    ----------
    fn : callable
        The kernel.
    form : Form
    n_rows : int
    observes : bool
        Whether the kernel has an outcome to observe.
    subsamples : bool
        Whether plates that draw minibatches do so. Otherwise they hold all rows, and do not scale densities.
    """

    def __init__(self, fn: Callable, form: Form, n_rows: int, *, observes: bool, subsamples: bool = False):
        super().__init__(fn)
        self.form, self.n_rows, self.observes, self.subsamples = form, n_rows, observes, subsamples
        self._scales: dict[str, float] = {}

    def process_message(self, msg: dict[str, Any]) -> None:
        """Change one message of the kernel."""
        if msg["type"] == "plate" and not self.subsamples:
            self._hold_all_rows(msg)
        if msg["type"] == "sample" and msg["value"] is None:
            msg["fn"] = _without_bounds(msg["fn"])
        if msg.get("name") == self.form.output and self.form.output is not None:
            if msg["type"] == "sample" and not self.form.branches:
                self._expand(msg)
            elif self.form.branches and msg["type"] == "deterministic" and not self.observes:
                _to_point(msg)
        if msg["type"] == "sample" and msg["scale"] is not None:
            for frame in msg["cond_indep_stack"]:
                msg["scale"] = msg["scale"] / self._scales.get(frame.name, 1.0)

    def _hold_all_rows(self, plate: dict[str, Any]) -> None:
        size, subsample_size = plate["args"]
        if subsample_size in (None, size):
            return
        plate[SUBSAMPLED] = True
        if subsample_size == self.n_rows:
            # The rows are the minibatch, of a table with the plate's size.
            self._scales[plate["name"]] = size / subsample_size
            plate["value"] = jnp.arange(subsample_size)
        else:
            plate["args"], plate["value"] = (size, size), jnp.arange(size)

    def _expand(self, site: dict[str, Any]) -> None:
        """Give the output a distribution for each row, where all rows have one and the same."""
        distribution = site["fn"]
        batch = distribution.batch_shape
        batch = (self.n_rows, *(batch[1:] if batch[:1] == (1,) else batch))
        value = site["value"]
        if value is None or jnp.shape(value) == batch + distribution.event_shape:
            site["fn"] = distribution.expand(batch)


def _without_bounds(distribution: dist.Distribution) -> dist.Distribution:
    """Return a distribution that draws numbers, for one that draws numbers and observes pairs of bounds."""
    if isinstance(distribution, dist.IntervalCensoredDistribution):
        return distribution.base_dist.expand(distribution.batch_shape)
    return distribution


def _to_point(site: dict[str, Any]) -> None:
    """Turn a deterministic site into a sample site whose distribution is a point."""
    site |= {
        "type": "sample",
        "fn": dist.Delta(site["value"]),
        "is_observed": False,
        "args": (),
        "kwargs": {"rng_key": None, "sample_shape": ()},
        "scale": None,
        "infer": {},
        "intermediates": [],
    }
