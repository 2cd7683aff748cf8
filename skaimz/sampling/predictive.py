"""Posterior predictive quantities of rows: moments, class probabilities, outcomes and their quantiles, and scores."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from skaimz.exceptions import OutputWarning, warn_user
from skaimz.kernels import KernelSpec
from skaimz.sampling.drawing import Drawing
from skaimz.sampling.host_distributions import as_numbers, lacks_values, warn_of_absent
from skaimz.sampling.job import Job, Quantity
from skaimz.sampling.plan import Batch, Step, make_plan
from skaimz.sampling.programs import Launcher, with_global_latents
from skaimz.sampling.proofs import at_average_draw
from skaimz.sampling.sinks import MemorySink
from skaimz.sampling.tile_loop import run_steps, to_place

__all__ = [
    "changes_nothing",
    "check_densities",
    "crps",
    "differs_along",
    "log_densities_reduced",
    "log_predictive",
    "mean",
    "moments",
    "outcome_quantiles",
    "outcomes",
    "probabilities",
]


# Rows that are looked at to tell whether the outcome depends on an input, and rows that are read at a time for it.
ROWS_COMPARED, ROWS_READ = 1024, 2**16


def mean(job: Job) -> np.ndarray:
    """Return the mean of the posterior predictive, of shape ``(n_rows, ...)``: an average of conditional means."""
    (result,) = _expectation(job, Quantity("mean"))
    return result


def moments(job: Job) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance of the posterior predictive, each of shape ``(n_rows, ...)``.

    The mean is the average over draws of the conditional mean; the variance follows from the law of total variance.
    """
    first, second = _expectation(job, Quantity("moments"))
    return first, second


def probabilities(job: Job) -> np.ndarray:
    """Return posterior predictive class probabilities of shape ``(n_rows, ..., n_classes)``."""
    (result,) = _expectation(job, Quantity("probabilities"))
    return result


def outcomes(job: Job) -> np.ndarray:
    """Return one outcome for each row and draw, of shape ``(n_rows, ..., n_draws)``."""
    drawn = _by_row(job, "values", lambda drawn: drawn)
    if lacks_values(drawn):
        warn_of_absent(job.spec.output)
    return drawn


def outcome_quantiles(job: Job, quantiles: Sequence[float]) -> np.ndarray:
    """Return quantiles of the outcomes, of shape ``(n_rows, ..., n_quantiles)``; draws are held one tile at a time."""
    return _by_row(job, "values", lambda drawn: _quantiles(drawn, quantiles))


def log_predictive(job: Job, y: Any) -> np.ndarray:
    """Return the logarithm of the posterior predictive density of outcomes ``y``, of shape ``(n_rows,)``.

    The density, a joint one where a row has several outputs, is averaged over draws.
    """
    output = job.spec[job.spec.output]
    if not output.rows_are_batched:
        raise ValueError(
            f"The kernel's output {output.name!r} has one density for all rows, because its rows are on an event axis "
            "of its distribution. Use a plate over the rows, or a score of draws, such as the CRPS."
        )
    check_densities(job.spec)
    (result,) = _expectation(job.with_rows({job.spec.output_parameter: y}), Quantity("log predictive"))
    return result


def crps(job: Job, y: np.ndarray) -> np.ndarray:
    """Return the continuous ranked probability score of the outcomes that are drawn, in the shape of ``y``.

    That is of every row, and of every output on it, alone; draws are held one tile at a time.
    """
    return _by_row(job, "values", _crps, y)


def log_densities_reduced(job: Job, y: Any, reduce: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return what a function makes of the log densities ``(n_rows, ..., n_draws)`` of outcomes ``y``, tile by tile."""
    check_densities(job.spec)
    return _by_row(job.with_rows({job.spec.output_parameter: y}), "log density", reduce)


def check_densities(spec: KernelSpec) -> None:
    """Refuse log densities of rows that would lack a part, and warn where rows are left out."""
    if spec.unscored is not None:
        raise ValueError(
            f"The log density of a row cannot be told, because {spec.unscored}. It may hold a part of the rows' "
            "likelihood, as that of censored rows, which would count as log 1."
        )
    if spec.masks and not spec.factors:
        warn_user(
            f"The kernel masks some outcomes of {spec.output!r}: these rows count as log 1 = 0. Leave them out where "
            "they are missing. Where they are censored use NumPyro's `RightCensoredDistribution`, or add their density "
            "by `numpyro.factor` within the plate of the rows.",
            OutputWarning,
        )


def differs_along(job: Job, along: tuple[str, int | None]) -> bool:
    """Tell whether the mean of some of the first rows is another one with another row's value of an input."""
    name, column = along
    some = job.with_rows({name: array[:ROWS_COMPARED] for name, array in job.inputs.rows.items()})
    moved = np.array(some.inputs.rows[name])
    values = moved if column is None else moved[:, column]
    order = np.argsort(values)
    # By half of all, so that runs of one value do not take their own place.
    values[order] = np.roll(values[order], len(values) // 2)
    return not np.array_equal(mean(some), mean(some.with_rows({name: moved})))


def changes_nothing(scenario: Job, baseline: Job, counts: np.ndarray) -> bool:
    """Tell whether two passes that are given different things have the same outcomes.

    Parameters
    ----------
    scenario, baseline : Job
        Of one kernel and the same number of rows.
    counts : array of bool of shape (n_rows,)
        Rows that matter.

    Returns
    -------
    bool
        Whether neither the expected nor the drawn outcomes of some of the rows differ. False where both passes are
        given the same, but for interventions, which :func:`influence` tells of.
    """
    others = [(each.inputs.whole, dict(each.condition), each.traced.static) for each in (scenario, baseline)]
    rows = np.flatnonzero(counts) if not _same(*others) else _rows_that_differ(scenario, baseline, counts)
    if not len(rows):
        return False
    if scenario.spec.rows_mix is None:
        scenario, baseline = (_only(each, rows[:ROWS_COMPARED]) for each in (scenario, baseline))
    return all(
        np.array_equal(of(scenario), of(baseline), equal_nan=True)
        for of in (mean, lambda job: as_numbers(outcomes(job)))
    )


def _same(first: Any, second: Any) -> bool:
    """Whether two nests of arrays and constants are equal, bit by bit."""
    one, other = jax.tree.leaves_with_path(first), jax.tree.leaves_with_path(second)
    return len(one) == len(other) and all(
        place == where and (np.array_equal(a, b) if isinstance(a, np.ndarray | jax.Array) else a == b)
        for (place, a), (where, b) in zip(one, other, strict=True)
    )


def _rows_that_differ(first: Job, second: Job, counts: np.ndarray) -> np.ndarray:
    """Return places of rows that matter and are given different things, as many as are compared."""
    found: list[np.ndarray] = []
    for start in range(0, first.n_rows, ROWS_READ):
        part = slice(start, min(start + ROWS_READ, first.n_rows))
        differ = np.zeros(part.stop - part.start, bool)
        for name, array in first.inputs.rows.items():
            unequal = np.asarray(array[part]) != np.asarray(second.inputs.rows[name][part])
            differ |= unequal.reshape(len(differ), -1).any(axis=1)
        found.append(start + np.flatnonzero(differ & counts[part]))
        if sum(map(len, found)) >= ROWS_COMPARED:
            break
    return np.concatenate(found)


def _only(job: Job, rows: np.ndarray) -> Job:
    """Return a pass over some of the rows, which must stand alone; latent sites of theirs are drawn anew."""
    settings = (
        {
            name: value if job.spec[name].row_axis is None else np.take(value, rows, job.spec[name].row_axis)
            for name, value in each.items()
        }
        for each in (job.intervention, job.condition)
    )
    intervention, condition = settings
    own = {
        name: np.concatenate([array[row : row + 1] for row in rows.tolist()]) for name, array in job.inputs.rows.items()
    }
    return replace(job.with_rows(own), local={}, intervention=intervention, condition=condition, part=None)


def _crps(drawn: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return ``E|Y - y| - E|Y - Y'| / 2``, with Y and Y' of the empirical distribution of the last axis.

    The second mean is a weighted sum of the draws in order. Its weights add up to nothing, so that it may be that of
    their gaps to ``y``, which lose fewer digits.
    """
    numbers = as_numbers(drawn)
    gaps = np.subtract(numbers, y[..., None], dtype=numbers.dtype)
    gaps.sort(axis=-1)
    n_draws = gaps.shape[-1]
    weights = (2 * np.arange(n_draws) + 1 - n_draws) / n_draws**2
    # Not a product of matrices: BLAS would put all cores on each tile, and tiles are reduced side by side.
    with np.errstate(invalid="ignore"):
        score = np.abs(gaps).mean(axis=-1) - np.vecdot(gaps, weights.astype(gaps.dtype))
    # Sorted, infinite draws are at the ends, and NaN is last. A share of infinite draws has an infinite score.
    infinite = (np.isinf(gaps[..., 0]) | np.isinf(gaps[..., -1])) & ~np.isnan(gaps[..., -1])
    return np.where(infinite, np.inf, score).astype(gaps.dtype, copy=False)


def _quantiles(drawn: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """Return quantiles over the last axis, interpolated between order statistics.

    As ``numpy.quantile`` does (Hyndman and Fan's seventh definition), by one sort, which is faster for long axes. NaN
    among the draws leaves no quantile.
    """
    ordered = np.sort(as_numbers(drawn), axis=-1)
    place = np.asarray(levels) * (ordered.shape[-1] - 1)
    below = np.floor(place).astype(int)
    above = np.minimum(below + 1, ordered.shape[-1] - 1)
    share = (place - below).astype(ordered.dtype)
    # An infinite draw has no share in what lies on another.
    upper = np.where(share > 0, ordered[..., above], ordered[..., below])
    with np.errstate(invalid="ignore"):
        found = ordered[..., below] * (1 - share) + upper * share
    # NaN is sorted to the end.
    return np.where(np.isnan(ordered[..., -1:]), ordered.dtype.type(np.nan), found)


def _expectation(job: Job, quantity: Quantity) -> list[np.ndarray]:
    """Average over draws on every tile."""
    job = at_average_draw(with_global_latents(job), quantity)
    n_devices = 1 if job.n_rows == 1 else jax.local_device_count()
    plan = make_plan(job.spec, job.n_rows, job.posterior.n_draws, shards=n_devices, part=job.part)
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
        results = _merged(quantity, results, count, parts, more) if count else parts
        count += more

    run_steps(plan, plan.batches(), launch, finish, start=start, end=end)
    return results


def _merged(
    quantity: Quantity, old: list[np.ndarray], count: int, new: list[np.ndarray], more: int
) -> list[np.ndarray]:
    """Join averages over two sets of draws; a second part is a variance, which means that differ add to."""
    share = more / (count + more)
    if quantity.kind == "log predictive":
        here, there = math.log(1 - share), math.log(share)
        return [np.logaddexp(here + before, there + after) for before, after in zip(old, new, strict=True)]
    merged = [before + share * (after - before) for before, after in zip(old, new, strict=True)]
    if len(merged) == 2:
        merged[1] += share * (1 - share) * (new[0] - old[0]) ** 2
    return merged


def _by_row(job: Job, kind: str, reduce: Callable[..., np.ndarray], *companions: np.ndarray) -> np.ndarray:
    """Reduce what each row and draw has ``(n_rows, ..., n_draws)``, and what goes along with the rows, tile by tile."""
    output = job.spec[job.spec.output]
    if job.spec.rows_mix is None:
        return Drawing(job, Quantity(kind, (output.name,), draws_last=True)).reduced(reduce, *companions)
    drawing = Drawing(job, Quantity(kind, (output.name,)))
    sink = MemorySink(drawing.fields, drawing.plan)
    drawing.into(sink)
    drawn = sink.finish()[output.name]
    draws_last = np.moveaxis(drawn.reshape(-1, *drawn.shape[2:]), 0, -1)
    return np.ascontiguousarray(reduce(np.moveaxis(draws_last, output.row_axis or 0, 0), *companions))
