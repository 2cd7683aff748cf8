"""Distributions that a ``scan`` returns: those of all steps, where NumPyro's own object has the shape of one step."""

import copy
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

__all__ = ["Stacked", "stacked"]


class Stacked(dist.Distribution):
    """The distributions of the steps of a scan.

    Parameters
    ----------
    steps : numpyro.distributions.Distribution
        A distribution of one step, whose parameters have an axis of steps before their own axes.
    length : int
        Number of steps.
    """

    def __init__(self, steps: dist.Distribution, length: int):
        self.steps = steps
        super().__init__((length, *steps.batch_shape), steps.event_shape)

    @property
    def support(self) -> Any:
        """Support of each step."""
        return self.steps.support

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Any:
        """Draw a value for each step."""
        keys = jax.random.split(key, self.batch_shape[0])
        return jax.vmap(lambda step, key: step.sample(key, sample_shape), out_axes=len(sample_shape))(self.steps, keys)

    def log_prob(self, value: Any) -> Any:
        """Return the log density of each step, as NumPyro computes it."""
        return self.steps.log_prob(value)


def stacked(site: dict[str, Any]) -> dist.Distribution:
    """Return the distribution of a site's value, which a scan may have stacked over its steps."""
    distribution, value = site["fn"], site["value"]
    batch = distribution.batch_shape
    missing = jnp.ndim(value) - len(batch) - distribution.event_dim
    if missing == 0 and site.get("_control_flow_done") and batch and _has_parts_of_a_step(distribution):
        # NumPyro has given the new shape to the whole, and not to the distributions that it consists of.
        distribution = copy.copy(distribution)
        distribution._batch_shape = batch[1:]
        missing = 1
    if missing != 1:
        return distribution
    length = jnp.shape(value)[0]
    if not jax.tree.leaves(distribution):
        return distribution.expand((length, *distribution.batch_shape))
    return Stacked(distribution, length)


def _has_parts_of_a_step(distribution: dist.Distribution) -> bool:
    if isinstance(distribution, dist.ExpandedDistribution):
        return False
    parts = [part for part in vars(distribution).values() if isinstance(part, dist.Distribution)]
    return any(len(part.batch_shape) < len(distribution.batch_shape) for part in parts)
