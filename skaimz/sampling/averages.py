"""Averages over groups of rows, draw by draw, for several scenarios at once."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from skaimz.sampling.drawing import Drawing
from skaimz.sampling.host_distributions import with_nan
from skaimz.sampling.job import Job
from skaimz.sampling.plan import Batch, Step
from skaimz.sampling.proofs import is_affine_in_rows
from skaimz.sampling.quantities import PerDraw
from skaimz.sampling.tile_loop import run_steps

__all__ = ["averages"]


def averages(
    scenarios: Sequence[Job], quantity: PerDraw, weights: np.ndarray, groups: np.ndarray, n_groups: int
) -> np.ndarray:
    """Return weighted averages over the rows of each group, for every draw. Only a few tiles are in memory at a time.

    Parameters
    ----------
    scenarios : sequence of Job
        Jobs of one kernel with the same number of rows. If their seeds are equal, they share posterior draws and random
        numbers, row by row.
    quantity : PerDraw
        Values, expected outcomes or slopes of the output.
    weights : array of shape (n_rows,)
        Weight of each row; rows of weight zero are left out.
    groups : array of int of shape (n_rows,)
        Number of each row's group, from 0.
    n_groups : int

    Returns
    -------
    array of float64 of shape (n_scenarios, n_draws, n_groups, ...)
        Averages; NaN for groups without weight.
    """
    weights = np.asarray(weights, np.float64)
    mass = np.bincount(groups, weights, n_groups)
    if all(is_affine_in_rows(job, quantity) for job in scenarios):
        return np.stack([_at_average_rows(job, quantity, weights, groups, mass) for job in scenarios])
    sums = _sums(scenarios, quantity, weights, groups, n_groups)
    with np.errstate(invalid="ignore"):
        return sums / mass.reshape(-1, *(1,) * (sums.ndim - 3))


def _at_average_rows(
    job: Job, quantity: PerDraw, weights: np.ndarray, groups: np.ndarray, mass: np.ndarray
) -> np.ndarray:
    """Return the quantity at the average row of each group; this is its average if it is affine in the row."""
    rows = {}
    for name, array in job.inputs.rows.items():
        sums = _grouped(array, weights, groups, len(mass), job.limits.rows_read)
        with np.errstate(invalid="ignore"):
            rows[name] = (sums / mass.reshape(-1, *(1,) * (sums.ndim - 1))).astype(array.dtype)
    drawing = Drawing(job.with_rows(rows), quantity)
    (field,) = drawing.fields
    draws = drawing.in_memory()[field.name]
    draws = draws.reshape(-1, *draws.shape[2:]).astype(np.float64)
    return np.moveaxis(draws, 1 + (field.row_axis or 0), 1)


def _grouped(array: Any, weights: np.ndarray, groups: np.ndarray, n_groups: int, rows_read: int) -> np.ndarray:
    """Return weighted sums over the rows of each group, reading so many rows at a time."""
    total = np.zeros((n_groups, *array.shape[1:]))
    for start in range(0, len(weights), rows_read):
        here = slice(start, min(start + rows_read, len(weights)))
        rows = np.asarray(array[here], np.float64)
        order = np.argsort(groups[here], kind="stable")
        sorted_groups = groups[here][order]
        starts = np.flatnonzero(np.diff(sorted_groups, prepend=-1))
        weighted = rows[order] * weights[here][order].reshape(-1, *(1,) * (rows.ndim - 1))
        total[sorted_groups[starts]] += np.add.reduceat(weighted, starts, axis=0)
    return total


def _membership(weights: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the groups that occur, and the matrix ``(n_rows, n_occurring)`` of the rows' weights in them."""
    occurring, place = np.unique(groups, return_inverse=True)
    member = np.zeros((len(groups), len(occurring)))
    member[np.arange(len(groups)), place] = weights
    return occurring, member


def _weighted_sums(values: np.ndarray, member: np.ndarray) -> np.ndarray:
    """Return the sum of each group over the last axis, by one product of matrices where all is finite.

    Single precision is enough for a tile, since totals are in double precision, unless a sum exceeds its range. And an
    infinite value is added to the sum of its own group alone, but a product of matrices multiplies it by zero as well.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        sums = values @ member.astype(values.dtype)
        if np.isfinite(sums).all():
            return sums
        rows = [np.flatnonzero(weights) for weights in member.T]
        by_group = [values[..., own].astype(np.float64) @ member[own, group] for group, own in enumerate(rows)]
    return np.stack(by_group, axis=-1)


def _sums(
    scenarios: Sequence[Job], quantity: PerDraw, weights: np.ndarray, groups: np.ndarray, n_groups: int
) -> np.ndarray:
    drawings = [Drawing(job, quantity, paired=True) for job in scenarios]
    plan, (field,) = drawings[0].plan, drawings[0].fields
    if any(drawing.plan != plan for drawing in drawings):
        raise ValueError(
            "Scenarios cannot be paired if their rows are cut up differently: these have different numbers of rows, or "
            "give the kernel different constants."
        )
    axis = 1 + (field.row_axis or 0)
    sizes = tuple(size for i, size in enumerate(field.shape) if i != field.row_axis)
    total = np.zeros((len(scenarios), plan.n_draws, n_groups, *sizes))

    def launch(step: Step) -> list[tuple]:
        return [drawing.launch(step) for drawing in drawings]

    def finish(_: Any, batch: Batch, step: Step, launched: list[tuple]) -> tuple:
        # Rows of weight zero are left out, because they may be infinite or NaN.
        counted = np.flatnonzero(weights[step.rows])
        occurring, member = _membership(weights[step.rows][counted], groups[step.rows][counted])
        every = len(counted) == step.rows.stop - step.rows.start
        sums = []
        for drawing, results in zip(drawings, launched, strict=True):
            drawn = drawing.bring(field, step, results[0])
            values = np.moveaxis(drawn, axis, -1)[..., slice(len(counted)) if every else counted]
            sums.append(np.moveaxis(_weighted_sums(with_nan(values), member), -1, 1))
        return step.draws, occurring, sums

    def take(finished: tuple) -> None:
        draws, occurring, sums = finished
        for scenario, of_scenario in enumerate(sums):
            total[scenario][draws, occurring] += of_scenario

    # Small products run on several threads at once, where threads of BLAS would only slow them down.
    with _libraries().limit(limits=1, user_api="blas"):
        run_steps(plan, plan.batches(), launch, finish, take=take)
    return total


@functools.cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()
