"""The learning rate over the steps of a variational fit, and the steps after which its guide is compared."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

__all__ = ["Leg", "Pace", "falling", "legs_of"]

# The learning rate ends at this share of its first value.
FINAL_RATE = 0.01
# Ends of the legs of a fit that may stop early, as shares of its steps. Each leg restarts the learning rate.
EARLY_STOPS = (0.125, 0.25, 0.5, 1.0)
# End of the first of two legs of any other fit.
FIRST_LEG_SHARE = 0.75


class Pace(NamedTuple):
    """One fall of the learning rate, from its largest to its smallest value."""

    learning_rate: float
    num_steps: float
    first_step: float = 0.0


class Leg(NamedTuple):
    """Steps of a fit. After each leg the guide is compared with the guide after the leg before."""

    stop: int
    pace: Pace


def falling(learning_rate: Any, num_steps: Any, first_step: Any) -> Callable[[Any], Any]:
    """Return a learning rate as a function of the step, along half a cosine."""

    def rate(step: Any) -> Any:
        share = jnp.clip((step - first_step) / num_steps, 0.0, 1.0)
        return learning_rate * (FINAL_RATE + (1 - FINAL_RATE) * (1 + jnp.cos(jnp.pi * share)) / 2)

    return rate


def legs_of(learning_rate: float, num_steps: int, *, early_stopping: bool) -> list[Leg]:
    """Return the legs of a fit.

    With early stopping each leg after the first is as long as all legs before it, and the learning rate falls over each
    (warm restarts, Loshchilov and Hutter, ICLR 2017), so that the ends of two legs can be compared. Otherwise there are
    two legs, and the learning rate falls once over both.
    """
    if not early_stopping:
        pace = Pace(learning_rate, float(num_steps))
        return [Leg(stop, pace) for stop in sorted({int(FIRST_LEG_SHARE * num_steps), num_steps})]
    legs, first = [], 0
    for share in EARLY_STOPS:
        stop = max(int(share * num_steps), 1)
        if stop > first:
            legs.append(Leg(stop, Pace(learning_rate, float(stop - first), float(first))))
            first = stop
    return legs
