"""States of layers, such as the running averages of batch normalisation, in variational fits."""

from typing import Any

import jax
import jax.numpy as jnp
import numpyro.infer

from skaimz.inference.settings import SVI
from skaimz.kernels import TracedKernel

__all__ = ["check_loss", "kept_if_finite", "learned_in"]


def learned_in(svi: numpyro.infer.SVI, state: Any) -> dict[str, Any]:
    """Return the values of parameters and of states of layers, by the names of their statements."""
    return {**svi.get_params(state), **(state.mutable_state or {})}


def kept_if_finite(before: Any, after: Any, loss: Any) -> Any:
    """Return the state after a step, with the types of that before, and its states of layers if the loss is infinite.

    NumPyro keeps the parameters of such a step, but not the states of layers, which would stay infinite for ever.
    """
    kept = jnp.isfinite(loss)
    mutable = jax.tree.map(lambda old, new: jnp.where(kept, new, old), before.mutable_state, after.mutable_state)
    after = after._replace(mutable_state=mutable)
    return jax.tree.map(lambda old, new: new if new.dtype == old.dtype else new.astype(old.dtype), before, after)


def check_loss(traced: TracedKernel, settings: SVI) -> None:
    """Refuse losses of several particles, with which NumPyro forgets states of layers."""
    states = dict.fromkeys(site.statement for site in traced.spec.sites if site.kind == "mutable")
    if states and getattr(settings.loss, "num_particles", 1) != 1:
        raise ValueError(
            f"SVI: a loss of several particles does not keep the state of layers {list(states)}: set its "
            "`num_particles=1`."
        )
