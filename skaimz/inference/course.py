"""The steps of a variational fit, and how far its guide still moves."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from skaimz.inference.checkpoint import SaveFile, arrays_of, named
from skaimz.inference.chunks import Phase, run_in_chunks
from skaimz.inference.pace import Leg
from skaimz.inference.result import pack_state, unpack_state
from skaimz.kernels import TracedKernel

__all__ = ["Course", "move_of_draws", "move_of_point"]

# Early stopping waits until no site moved further, in standard deviations of the guide. A warning takes a larger move.
STOPPING_MOVE = 0.1
# Distance between the quartiles of a normal distribution, in standard deviations.
QUARTILES_APART = 1.3489795003921634


class Course:
    """The state of a fit, its losses, and its state when the guide was last looked at.

    Parameters
    ----------
    state : pytree
        State in which the fit begins, unless the file has a later one.
    losses : array of shape (num_steps,)
        Is filled while the fit runs.
    file : SaveFile
        Where the fit is saved.
    """

    def __init__(self, state: Any, losses: np.ndarray, file: SaveFile):
        self.state, self.before, self.losses, self.done, self.file = state, None, losses, 0, file
        saved = file.load()
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
        phase: Phase,
        look: Callable[[Any, int], float] | None,
        early_stopping: bool,
    ) -> float | None:
        """Take the steps of all legs, or of some.

        Parameters
        ----------
        legs : list of Leg
        take : callable
            Takes steps: given a state, a pace, the first step and a number of steps, it returns a state and losses.
        phase : Phase
        look : callable or None
            Returns how far the guide has moved between an earlier state, which is that after a given step, and now.
        early_stopping : bool
            End after the first leg in which the guide has hardly moved.

        Returns
        -------
        float or None
            How far the guide moved in the last leg; None where nobody looked.
        """
        move, since = None, 0

        def advance(start: int, count: int) -> None:
            self.state, losses = take(self.state, leg.pace, start, count)
            self.done = start + count
            self.losses[start : self.done] = losses
            self.file.save(self.to_save)
            phase.advance(count, loss=float(self.losses[self.done - 1]))

        for leg in legs:
            if leg.stop >= self.done:
                run_in_chunks(advance, leg.stop, watch=phase.watch, done=self.done)
                if phase.watch.stopped:
                    self.file.save(self.to_save, now=True)
                    return None
                if look is not None:
                    move = None if self.before is None else look(self.before, since)
                    if early_stopping and move is not None and move <= STOPPING_MOVE:
                        return move
                    self.before = jax.tree.map(jnp.copy, self.state)
            since = leg.stop
        return move


def move_of_draws(earlier: Mapping[str, Any], later: Mapping[str, Any]) -> float | None:
    """Return how far draws moved, in units of their own spread; None for draws without spread.

    The largest move of a median, in standard deviations, or of the logarithm of a standard deviation counts. Both sets
    were drawn with the same random numbers.
    """
    moves = [np.empty(0)]
    for name, draw in later.items():
        quartiles = [
            np.quantile(np.asarray(each, np.float64), [0.25, 0.5, 0.75], axis=0) for each in (earlier[name], draw)
        ]
        with np.errstate(all="ignore"):
            then, now = ((each[2] - each[0]) / QUARTILES_APART for each in quartiles)
            moves += [np.abs(quartiles[1][1] - quartiles[0][1]) / now, np.abs(np.log(now / then))]
    known = np.concatenate([np.ravel(move) for move in moves])
    known = known[np.isfinite(known)]
    return float(known.max()) if len(known) else None


def move_of_point(losses: Any, since: int, traced: TracedKernel) -> float:
    """Return how far a guide without spread has moved since a step: the posterior's standard deviations, by its loss.

    Near a mode of ``d`` coordinates, a distance of so many standard deviations along each is worth ``d / 2`` times its
    square in nats. A fall within three standard errors of the noise of minibatches counts as none.
    """
    losses = np.asarray(losses, np.float64)
    width = max(2, len(losses) // 20)
    then, now = losses[since - width : since], losses[-width:]
    fall = then.mean() - now.mean() - 3 * np.sqrt((np.diff(then).var() + np.diff(now).var()) / (2 * width))
    size = sum(int(np.prod([each or 1 for each in site.shape])) for site in traced.spec.latents)
    return float(np.sqrt(2 * max(fall, 0.0) / max(size, 1))) if np.isfinite(fall) else np.inf
