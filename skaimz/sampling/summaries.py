"""Statistics of the outcomes of all rows, draw by draw, held against those of observed outcomes."""

from typing import Any, NamedTuple

import numpy as np

from skaimz.sampling.drawing import Drawing
from skaimz.sampling.host_distributions import as_numbers
from skaimz.sampling.job import Job, Quantity
from skaimz.sampling.plan import Batch, Step
from skaimz.sampling.tile_loop import run_steps

__all__ = ["Summary", "summaries"]


class Summary(NamedTuple):
    """Statistics over rows; the standard deviation is that of the rows themselves, not of a population."""

    mean: np.ndarray
    sd: np.ndarray
    min: np.ndarray
    max: np.ndarray


def summaries(job: Job, y: np.ndarray) -> tuple[Summary, Summary]:
    """Summarise observed outcomes, and those drawn for the same rows.

    Parameters
    ----------
    job : Job
    y : array of shape (n_rows, ...)
        Outcomes in the kernel's terms.

    Returns
    -------
    observed : Summary
        Arrays of the shape of one row's outcome.
    drawn : Summary
        The same with the draws on a first axis. Never more than a few tiles of outcomes are held.
    """
    drawing = Drawing(job, Quantity("values", (job.spec.output,)))
    plan, (field,) = drawing.plan, drawing.fields
    axis = 1 + (field.row_axis or 0)
    # Sums of integers less an integer are exact in any order, so that equal statistics are equal.
    centre = y[0].astype(np.float64)
    sums = np.zeros((2, plan.n_draws, *y.shape[1:]))
    least, most = np.full(sums.shape[1:], np.inf), np.full(sums.shape[1:], -np.inf)

    def finish(_: Any, batch: Batch, step: Step, launched: tuple) -> tuple:
        drawn = np.moveaxis(as_numbers(drawing.bring(field, step, launched[0])), axis, 0)
        return step.draws, _statistics(drawn[: step.rows.stop - step.rows.start], centre)

    def take(finished: tuple) -> None:
        draws, (total, lower, upper) = finished
        sums[:, draws] += total
        least[draws], most[draws] = np.minimum(least[draws], lower), np.maximum(most[draws], upper)

    run_steps(plan, plan.batches(), drawing.launch, finish, take=take)
    return _summary(*_statistics(y, centre), len(y), centre), _summary(sums, least, most, len(y), centre)


def _statistics(rows: np.ndarray, centre: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return sums of deviations and of their squares, least and greatest over the first axis."""
    with np.errstate(all="ignore"):  # outcomes of a wide prior may be infinite
        off = rows.astype(np.float64) - centre
        return np.stack([off.sum(axis=0), np.square(off).sum(axis=0)]), rows.min(axis=0), rows.max(axis=0)


def _summary(sums: np.ndarray, least: np.ndarray, most: np.ndarray, n_rows: int, centre: np.ndarray) -> Summary:
    with np.errstate(all="ignore"):
        off, square = sums / n_rows
        return Summary(centre + off, np.sqrt(np.maximum(square - off**2, 0.0)), least, most)
