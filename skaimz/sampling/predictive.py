"""Posterior predictive quantities of rows: moments, class probabilities, outcomes and quantiles of outcomes."""

from collections.abc import Callable, Sequence

import jax
import numpy as np

from skaimz.sampling.passes import Pass, Quantity
from skaimz.sampling.plan import Batch, Step, make_plan
from skaimz.sampling.programs import Launcher, at_average_draw, with_global_latents
from skaimz.sampling.sinks import MemorySink
from skaimz.sampling.sites import Drawing
from skaimz.sampling.stream import run_steps, to_place

__all__ = ["mean", "moments", "outcome_quantiles", "outcomes", "probabilities"]


def mean(job: Pass) -> np.ndarray:
    """Return the mean of the posterior predictive, of shape ``(n_rows, ...)``: an average of conditional means."""
    (result,) = _expectation(job, Quantity("mean"))
    return result


def moments(job: Pass) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance of the posterior predictive, each of shape ``(n_rows, ...)``.

    The mean is the average over draws of the conditional mean; the variance follows from the law of total variance.
    """
    first, second = _expectation(job, Quantity("moments"))
    return first, second


def probabilities(job: Pass) -> np.ndarray:
    """Return posterior predictive class probabilities of shape ``(n_rows, ..., n_classes)``."""
    (result,) = _expectation(job, Quantity("probabilities"))
    return result


def outcomes(job: Pass) -> np.ndarray:
    """Return one outcome for each row and draw, of shape ``(n_rows, ..., n_draws)``."""
    return _of_outcomes(job, lambda drawn: drawn)


def outcome_quantiles(job: Pass, quantiles: Sequence[float]) -> np.ndarray:
    """Return quantiles of the outcomes, of shape ``(n_rows, ..., n_quantiles)``; draws are held one tile at a time."""
    return _of_outcomes(job, lambda drawn: _quantiles(drawn, quantiles))


def _quantiles(drawn: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """Return quantiles over the last axis, interpolated between order statistics.

    As ``numpy.quantile`` does (Hyndman and Fan's seventh definition), by one sort, which is faster for long axes.
    """
    ordered = np.sort(drawn.astype(np.result_type(drawn.dtype, np.float32), copy=False), axis=-1)
    place = np.asarray(levels) * (ordered.shape[-1] - 1)
    below = np.floor(place).astype(int)
    above = np.minimum(below + 1, ordered.shape[-1] - 1)
    share = (place - below).astype(ordered.dtype)
    return ordered[..., below] * (1 - share) + ordered[..., above] * share


def _expectation(job: Pass, quantity: Quantity) -> list[np.ndarray]:
    """Average over draws on every tile."""
    job = at_average_draw(with_global_latents(job), quantity)
    n_devices = 1 if job.n_rows == 1 else jax.local_device_count()
    plan = make_plan(job.spec, job.n_rows, job.posterior.n_draws, shards=n_devices)
    launch = Launcher(job, quantity, plan)
    results = [np.empty((plan.n_rows, *part.shape[1:]), part.dtype) for part in launch.shapes()]
    count = 0

    def finish(parts: list[np.ndarray], batch: Batch, step: Step, launched: tuple) -> None:
        for target, part in zip(parts, launched, strict=True):
            to_place(target, np.asarray(part), batch, step, 0)

    def start(batch: Batch) -> list[np.ndarray]:
        return [np.empty_like(result) for result in results] if plan.whole else results

    def end(batch: Batch, parts: list[np.ndarray]) -> None:
        nonlocal results, count
        more = batch.draws.stop - batch.draws.start
        results = _merged(results, count, parts, more) if count else parts
        count += more

    run_steps(plan, plan.batches(), launch, finish, start=start, end=end)
    return results


def _merged(old: list[np.ndarray], count: int, new: list[np.ndarray], more: int) -> list[np.ndarray]:
    """Join averages over two sets of draws; a second part is a variance, which means that differ add to."""
    share = more / (count + more)
    merged = [before + share * (after - before) for before, after in zip(old, new, strict=True)]
    if len(merged) == 2:
        merged[1] += share * (1 - share) * (new[0] - old[0]) ** 2
    return merged


def _of_outcomes(job: Pass, reduce: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Reduce outcomes, whose last axis is the draws, tile by tile."""
    output = job.spec[job.spec.output]
    if job.spec.rows_mix is None:
        result = Drawing(job, Quantity("values", (output.name,), draws_last=True)).reduced(reduce)
    else:
        drawing = Drawing(job, Quantity("values", (output.name,)))
        sink = MemorySink(drawing.fields, drawing.plan)
        drawing.into(sink)
        drawn = sink.finish()[output.name]
        result = reduce(np.moveaxis(drawn.reshape(-1, *drawn.shape[2:]), 0, -1))
    return np.ascontiguousarray(np.moveaxis(result, output.row_axis or 0, 0))
