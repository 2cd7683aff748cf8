"""The steps of a variational fit, and how far its guide still moves."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from skaimz.inference.checkpoint import Part, arrays_of, named
from skaimz.inference.chunks import Phase, Watch, run_in_chunks
from skaimz.inference.pace import Leg
from skaimz.inference.result import pack_state, unpack_state
from skaimz.kernels import TracedKernel

__all__ = ["Course", "move_of_draws", "move_of_point"]

# Early stopping waits until no draw moved further, in the guide's standard deviations: less than what is warned of.
STOPPING_MOVE = 0.1
# Quartiles of a normal distribution lie so many standard deviations apart.
QUARTILES_APART = 1.3489795003921634


class Course:
    """The state of a fit on its way, its losses, and its state when the guide was last looked at.

    Parameters
    ----------
    state : pytree
        Where the fit begins.
    losses : array of shape (num_steps,)
        To be filled.
    saved : dict of str to array or None
        What an earlier run of the same fit saved.
    """

    def __init__(self, state: Any, losses: np.ndarray, saved: dict[str, np.ndarray] | None):
        self.state, self.before, self.losses, self.done = state, None, losses, 0
        if saved is not None:
            self.done = len(saved["losses"])
            losses[: self.done] = saved["losses"]
            before = arrays_of(saved, "before")
            self.before = unpack_state(before, state) if before else None
            self.state = jax.tree.map(jnp.asarray, unpack_state(arrays_of(saved, "state"), state))

    def to_save(self) -> dict[str, np.ndarray]:
        """Return what the fit needs to go on."""
        arrays = named(state=pack_state(self.state), before=pack_state(self.before))
        return {"losses": self.losses[: self.done], **arrays}

    def run(
        self,
        legs: list[Leg],
        take: Callable,
        watch: Watch,
        phase: Phase,
        part: Part,
        look: Callable[[Any, int], float] | None,
        early_stopping: bool,
    ) -> float | None:
        """Take the steps of all legs, or of some; return how far the guide moved in the last, if it was looked at."""
        move, since = None, 0

        def advance(start: int, count: int) -> None:
            self.state, found = take(self.state, leg.pace, start, count)
            self.done = start + count
            self.losses[start : self.done] = np.asarray(found)[:count]
            part.save(self.to_save)
            phase.advance(count, loss=float(self.losses[self.done - 1]))

        for leg in legs:
            if leg.stop >= self.done:
                run_in_chunks(advance, leg.stop, watch=watch, done=self.done)
                if watch.stopped:
                    part.save(self.to_save, now=True)
                    return None
                if look is not None:
                    move = None if self.before is None else look(self.before, since)
                    if early_stopping and move is not None and move <= STOPPING_MOVE:
                        return move
                    self.before = jax.tree.map(jnp.copy, self.state)
            since = leg.stop
        return move


def move_of_draws(earlier: Mapping[str, Any], later: Mapping[str, Any]) -> float | None:
    """Return how far draws moved, in units of their own spread; None where they have none.

    Medians move in units of the standard deviation, and the spread in those of its logarithm. Both sets have the same
    random numbers.
    """
    moves = [np.empty(0)]
    for name, draw in later.items():
        quartiles = [
            np.quantile(np.asarray(each, np.float64), [0.25, 0.5, 0.75], axis=0) for each in (earlier[name], draw)
        ]
        with np.errstate(all="ignore"):
            then, now = ((each[2] - each[0]) / QUARTILES_APART for each in quartiles)
            moves += [np.abs(quartiles[1][1] - quartiles[0][1]) / now, np.abs(np.log(now / then))]
    found = np.concatenate([np.ravel(move) for move in moves])
    return float(found[np.isfinite(found)].max()) if np.isfinite(found).any() else None


def move_of_point(losses: Any, since: int, traced: TracedKernel) -> float:
    """Return how far a guide without spread moved since a step, in standard deviations, by the fall of its loss.

    Near a mode of ``d`` coordinates, a distance of so many standard deviations along each is worth ``d / 2`` times its
    square in nats. A fall within three standard errors of the noise of minibatches counts as none.
    """
    losses = np.asarray(losses, np.float64)
    width = max(2, len(losses) // 20)
    then, now = losses[since - width : since], losses[-width:]
    fall = then.mean() - now.mean() - 3 * np.sqrt((np.diff(then).var() + np.diff(now).var()) / (2 * width))
    size = sum(int(np.prod([each or 1 for each in site.shape])) for site in traced.spec.latents)
    return float(np.sqrt(2 * max(fall, 0.0) / max(size, 1))) if np.isfinite(fall) else np.inf
