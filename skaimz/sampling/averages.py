"""Averages over groups of rows, draw by draw, for several scenarios in one pass."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from skaimz.sampling.drawing import Drawing
from skaimz.sampling.host_distributions import as_numbers
from skaimz.sampling.job import Job, Quantity
from skaimz.sampling.plan import Batch, Step
from skaimz.sampling.proofs import is_affine_in_rows
from skaimz.sampling.sinks import MemorySink
from skaimz.sampling.tile_loop import run_steps

__all__ = ["averages"]

# Rows of the input that are read at a time where only their averages are wanted.
ROWS_READ = 2**16


def averages(
    scenarios: Sequence[Job], quantity: Quantity, weights: np.ndarray, groups: np.ndarray, n_groups: int
) -> np.ndarray:
    """Return weighted averages over the rows of each group, for every draw; never more than a few tiles are held.

    Parameters
    ----------
    scenarios : sequence of Job
        Passes of one kernel over the same number of rows. With the same seed they share posterior draws and random
        numbers, row by row.
    quantity : Quantity
        What is averaged: values, conditional means or slopes of the output.
    weights : array of shape (n_rows,)
        Weight of each row; rows of weight zero are left out.
    groups : array of int of shape (n_rows,)
        Group of each row, from 0.
    n_groups : int

    Returns
    -------
    array of float64 of shape (n_scenarios, n_draws, n_groups, ...)
        The rows' place is taken by the groups, and stands after the draws; NaN for groups without weight.
    """
    weights = np.asarray(weights, np.float64)
    mass = np.bincount(groups, weights, n_groups)
    if all(is_affine_in_rows(job, quantity) for job in scenarios):
        return np.stack([_at_average_rows(job, quantity, weights, groups, mass) for job in scenarios])
    sums = _sums(scenarios, quantity, weights, groups, n_groups)
    with np.errstate(invalid="ignore"):
        return sums / mass.reshape(-1, *(1,) * (sums.ndim - 3))


def _at_average_rows(
    job: Job, quantity: Quantity, weights: np.ndarray, groups: np.ndarray, mass: np.ndarray
) -> np.ndarray:
    """Return the quantity at the average row of each group, which is its average where it is affine in the row."""
    with np.errstate(invalid="ignore"):
        rows = {
            name: (_grouped(array, weights, groups, len(mass)) / mass.reshape(-1, *(1,) * (len(array.shape) - 1)))
            for name, array in job.inputs.rows.items()
        }
    rows = {name: average.astype(job.inputs.rows[name].dtype) for name, average in rows.items()}
    drawing = Drawing(job.with_rows(rows), quantity)
    (field,) = drawing.fields
    sink = MemorySink(drawing.fields, drawing.plan)
    drawing.into(sink)
    found = sink.finish()[field.name]
    found = found.reshape(-1, *found.shape[2:]).astype(np.float64)
    return np.moveaxis(found, 1 + (field.row_axis or 0), 1)


def _grouped(array: Any, weights: np.ndarray, groups: np.ndarray, n_groups: int) -> np.ndarray:
    """Return weighted sums over the rows of each group."""
    total = np.zeros((n_groups, *array.shape[1:]))
    for start in range(0, len(weights), ROWS_READ):
        part = slice(start, min(start + ROWS_READ, len(weights)))
        rows = np.asarray(array[part], np.float64)
        order = np.argsort(groups[part], kind="stable")
        sorted_groups = groups[part][order]
        starts = np.flatnonzero(np.diff(sorted_groups, prepend=-1))
        weighted = rows[order] * weights[part][order].reshape(-1, *(1,) * (rows.ndim - 1))
        total[sorted_groups[starts]] += np.add.reduceat(weighted, starts, axis=0)
    return total


def _membership(weights: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the groups that occur, and a matrix (n_rows, n_occurring) of the rows' weights in them."""
    here, place = np.unique(groups, return_inverse=True)
    member = np.zeros((len(groups), len(here)))
    member[np.arange(len(groups)), place] = weights
    return here, member


def _sums(
    scenarios: Sequence[Job], quantity: Quantity, weights: np.ndarray, groups: np.ndarray, n_groups: int
) -> np.ndarray:
    drawings = [Drawing(job, quantity, paired=True) for job in scenarios]
    plan, (field,) = drawings[0].plan, drawings[0].fields
    if any(drawing.plan != plan for drawing in drawings):
        raise ValueError("Scenarios with other constants of the kernel are cut up otherwise, and cannot be paired.")
    axis = 1 + (field.row_axis or 0)
    sizes = tuple(size for i, size in enumerate(field.shape) if i != field.row_axis)
    total = np.zeros((len(scenarios), plan.n_draws, n_groups, *sizes))

    def launch(step: Step) -> list[tuple]:
        return [drawing.launch(step) for drawing in drawings]

    def finish(_: Any, batch: Batch, step: Step, launched: list[tuple]) -> tuple:
        # Rows that do not count may hold what has no sum.
        counted = np.flatnonzero(weights[step.rows])
        here, member = _membership(weights[step.rows][counted], groups[step.rows][counted])
        every = len(counted) == step.rows.stop - step.rows.start
        parts = []
        for drawing, results in zip(drawings, launched, strict=True):
            drawn = drawing.bring(field, step, results[0])
            values = np.moveaxis(drawn, axis, -1)[..., slice(len(counted)) if every else counted]
            # A tile's sums in single precision lose nothing that the total would show.
            numbers = as_numbers(values)
            parts.append(np.moveaxis(numbers @ member.astype(numbers.dtype), -1, 1))
        return step.draws, here, parts

    def take(finished: tuple) -> None:
        draws, here, parts = finished
        for scenario, part in enumerate(parts):
            total[scenario][draws, here] += part

    # Small products on several threads at once: those of BLAS would only be in their way.
    with _libraries().limit(limits=1, user_api="blas"):
        run_steps(plan, plan.batches(), launch, finish, take=take)
    return total


@functools.cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()
