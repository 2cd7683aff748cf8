"""The learning rate over the steps of a variational fit."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

__all__ = ["falling"]

# The learning rate ends at this share of its first value.
FINAL_RATE = 0.01


def falling(learning_rate: Any, num_steps: Any) -> Callable[[Any], Any]:
    """Return a learning rate as a function of the step, along half a cosine."""

    def rate(step: Any) -> Any:
        fallen = (1 + jnp.cos(jnp.pi * jnp.minimum(step / num_steps, 1.0))) / 2
        return learning_rate * (FINAL_RATE + (1 - FINAL_RATE) * fallen)

    return rate
