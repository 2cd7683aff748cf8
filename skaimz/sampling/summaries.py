"""Statistics of the outcomes of all rows: of observed outcomes, and of those that are drawn, draw by draw."""

from typing import Any, NamedTuple

import numpy as np

from skaimz.sampling.drawing import Drawing
from skaimz.sampling.host_distributions import with_nan
from skaimz.sampling.job import Job
from skaimz.sampling.plan import Batch, Step
from skaimz.sampling.quantities import Values
from skaimz.sampling.tile_loop import run_steps

__all__ = ["Summary", "summaries"]


class Summary(NamedTuple):
    """Statistics over rows; the variance divides by ``n_rows``, not by ``n_rows - 1``."""

    mean: np.ndarray
    sd: np.ndarray
    min: np.ndarray
    max: np.ndarray


def summaries(job: Job, y: np.ndarray) -> tuple[Summary, Summary]:
    """Summarise observed outcomes, and outcomes that are drawn for the same rows.

    Parameters
    ----------
    job : Job
    y : array of shape (n_rows, ...)
        Observed outcomes, encoded as the kernel takes them.

    Returns
    -------
    observed : Summary
        Arrays with the shape of one row's outcome.
    drawn : Summary
        Arrays with the draws on the first axis. Only a few tiles of outcomes are in memory at a time.
    """
    drawing = Drawing(job, Values((job.spec.output,)))
    plan, (field,) = drawing.plan, drawing.fields
    axis = 1 + (field.row_axis or 0)
    # For integer outcomes the deviations are integers, whose sums are exact in any order. So ties stay ties.
    centre = y[0].astype(np.float64)
    sums = np.zeros((2, plan.n_draws, *y.shape[1:]))
    least, most = np.full(sums.shape[1:], np.inf), np.full(sums.shape[1:], -np.inf)

    def finish(_: Any, batch: Batch, step: Step, launched: tuple) -> tuple:
        drawn = np.moveaxis(with_nan(drawing.bring(field, step, launched[0])), axis, 0)
        return step.draws, _statistics(drawn[: step.rows.stop - step.rows.start], centre)

    def take(finished: tuple) -> None:
        draws, (total, lower, upper) = finished
        sums[:, draws] += total
        least[draws], most[draws] = np.minimum(least[draws], lower), np.maximum(most[draws], upper)

    run_steps(plan, plan.batches(), drawing.launch, finish, take=take)
    return _summary(*_statistics(y, centre), len(y), centre), _summary(sums, least, most, len(y), centre)


def _statistics(rows: np.ndarray, centre: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return sums of deviations from a centre and of their squares, minimum and maximum, over the first axis."""
    with np.errstate(all="ignore"):  # outcomes of a wide prior may be infinite
        deviations = rows.astype(np.float64) - centre
        return np.stack([deviations.sum(axis=0), np.square(deviations).sum(axis=0)]), rows.min(axis=0), rows.max(axis=0)


def _summary(sums: np.ndarray, least: np.ndarray, most: np.ndarray, n_rows: int, centre: np.ndarray) -> Summary:
    with np.errstate(all="ignore"):
        deviation, square = sums / n_rows
        return Summary(centre + deviation, np.sqrt(np.maximum(square - deviation**2, 0.0)), least, most)
