"""Sums over rows, by group and of contrasts between scenarios, formed tile by tile."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from skaimz.sampling.passes import Pass, Quantity
from skaimz.sampling.plan import Batch, Step
from skaimz.sampling.sites import Drawing
from skaimz.sampling.stream import run_steps

__all__ = ["totals"]


def totals(
    scenarios: Sequence[Pass],
    weights: np.ndarray,
    groups: np.ndarray,
    n_groups: int,
    *,
    contrast: Callable[..., np.ndarray] = lambda only: only,
    of: str = "mean",
) -> np.ndarray:
    """Return weighted sums over the rows of each group, for every draw; never more than a few tiles are held.

    Parameters
    ----------
    scenarios : sequence of Pass
        Passes of one kernel over the same number of rows. With the same seed they share posterior draws and random
        numbers, row by row.
    weights : array of shape (n_rows,)
    groups : array of int of shape (n_rows,)
        Group of every row, from 0.
    n_groups : int
    contrast : callable
        From an array ``(n_draws, ...)`` for each scenario, as the output's shape is, to one of the same shape.
    of : {"mean", "outcome"}, default="mean"
        What is contrasted: conditional means, or drawn outcomes.

    Returns
    -------
    array of float64 of shape (n_draws, n_groups, ...)
        The rows' place is taken by the groups, and stands after the draws.
    """
    kind = {"mean": "means", "outcome": "values"}[of]
    drawings = [Drawing(job, Quantity(kind, (job.spec.output,))) for job in scenarios]
    plan, (field,) = drawings[0].plan, drawings[0].fields
    axis = 1 + (field.row_axis or 0)
    total: Any = 0.0

    def launch(step: Step) -> list[tuple]:
        return [drawing.launch(step) for drawing in drawings]

    def finish(_: Any, batch: Batch, step: Step, launched: list[tuple]) -> np.ndarray:
        drawn = (drawing.bring(field, step, parts[0]) for drawing, parts in zip(drawings, launched, strict=True))
        values = np.moveaxis(contrast(*drawn), axis, -1)[..., : step.rows.stop - step.rows.start]
        member = np.zeros((values.shape[-1], n_groups))
        member[np.arange(len(member)), groups[step.rows]] = weights[step.rows]
        return np.moveaxis(values.astype(np.float64) @ member, -1, 1)

    def take(part: np.ndarray) -> None:
        nonlocal total
        total = total + part

    if not plan.whole:
        run_steps(plan, plan.batches(), launch, finish, take=take)
        return total
    # One tile holds all rows, and every step other draws.
    parts: list[np.ndarray] = []
    run_steps(plan, plan.batches(), launch, finish, take=parts.append)
    return np.concatenate(parts)
