"""Sites that NumPyro splits because of ``numpyro.sample(..., obs_mask=...)``, joined to one site with a mask."""

import sys
from typing import Any

import jax.numpy as jnp
import numpyro.primitives
from numpyro.primitives import Messenger

__all__ = ["JoinedMasks"]

SPLITS = numpyro.primitives._masked_observe.__code__


class JoinedMasks(Messenger):
    """Make ``numpyro.sample("y", ..., obs=y, obs_mask=mask)`` one observed site ``"y"`` whose mask leaves entries out.

    NumPyro makes three sites of it: ``y_observed``, the latent ``y_unobserved``, and ``y``. Without the outcome there
    is only ``y``. If nothing follows from ``y``, the latent site changes no other posterior, and it is left out. If
    something does, it sees NaN in place of the missing entries, so that the density is NaN rather than wrong.
    """

    def process_message(self, msg: dict[str, Any]) -> None:
        """Give the observed part the name of the whole, and hide the other two sites."""
        # The handler is called by `apply_stack`, which `sample` and `deterministic` call.
        caller = sys._getframe(3)
        if caller.f_code is not SPLITS:
            return
        name, outcome, mask = (caller.f_locals[key] for key in ("name", "obs", "obs_mask"))
        if msg["name"] == f"{name}_observed":
            msg["name"] = name
            if outcome is None:
                msg["fn"] = msg["fn"].base_dist  # all outcomes are drawn
            return
        msg["stop"] = True
        if msg["name"] == f"{name}_unobserved":
            msg["value"] = caller.f_locals["observed"]
        elif outcome is not None and jnp.issubdtype(msg["value"].dtype, jnp.floating):
            mask = jnp.reshape(mask, jnp.shape(mask) + (1,) * (msg["value"].ndim - jnp.ndim(mask)))
            msg["value"] = jnp.where(mask, msg["value"], jnp.nan)
