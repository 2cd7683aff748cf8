"""Posterior predictive results for rows: expectations, outcomes and their quantiles, and scores."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from skaimz.exceptions import OutputWarning, warn_user
from skaimz.kernels import KernelSpec
from skaimz.sampling.drawing import Drawing
from skaimz.sampling.host_distributions import lacks_values, warn_of_absent, with_nan
from skaimz.sampling.job import Job
from skaimz.sampling.mixtures import ConditionalMeans
from skaimz.sampling.plan import Batch, Step, make_plan
from skaimz.sampling.programs import Launcher, with_global_latents
from skaimz.sampling.proofs import at_average_draw
from skaimz.sampling.quantities import (
    ClassProbabilities,
    Expectation,
    LogDensity,
    LogPredictive,
    Mean,
    Moments,
    PerDraw,
    Values,
)
from skaimz.sampling.states import warn_of_drawn_states
from skaimz.sampling.tile_loop import run_steps, to_place

__all__ = [
    "changes_nothing",
    "check_densities",
    "crps",
    "differs_along",
    "expectation",
    "log_densities_reduced",
    "log_predictive",
    "mean",
    "mean_quantiles",
    "moments",
    "outcome_quantiles",
    "outcomes",
    "probabilities",
]


def expectation(job: Job, quantity: Expectation) -> list[np.ndarray]:
    """Return a quantity averaged over the posterior draws: each of its results with the rows on the first axis."""
    warn_of_drawn_states(job, quantity)
    job = at_average_draw(with_global_latents(job), quantity)
    # Draws are averaged whatever chain they are from.
    job = replace(job, posterior=job.posterior._replace(n_chains=1))
    shards = 1 if job.n_rows == 1 else jax.local_device_count()
    if quantity.needs_all_draws:
        limits = replace(job.limits, tile_elements=min(job.limits.tile_elements, job.limits.mixture_elements))
        plan = make_plan(replace(job, limits=limits), shards=shards).with_all_draws()
    else:
        plan = make_plan(job, shards=shards)
    launch = Launcher(job, quantity, plan)
    average = _Average(quantity, [((plan.n_rows, *one.shape[1:]), one.dtype) for one in launch.shapes()])

    def finish(results: list[np.ndarray], batch: Batch, step: Step, launched: tuple) -> None:
        for target, result in zip(results, launched, strict=True):
            to_place(target, np.asarray(result), batch, step, 0)

    run_steps(plan, plan.batches(), launch, finish, sink=average)
    return average.results


class _Average:
    """A sink that averages over batches, each of which has all rows and some of the draws."""

    def __init__(self, quantity: Expectation, described: list[tuple[tuple[int, ...], Any]]):
        self.quantity, self.described = quantity, described
        self.results: list[np.ndarray] = []
        self._n_draws = 0

    def open(self, batch: Batch) -> list[np.ndarray]:
        """Return arrays for the averages of a batch."""
        return [np.empty(*each) for each in self.described]

    def close(self, batch: Batch, results: list[np.ndarray]) -> None:
        """Join the averages of a batch to those of earlier ones."""
        count = batch.draws.stop - batch.draws.start
        self._n_draws += count
        share = count / self._n_draws
        self.results = self.quantity.merged(self.results, results, share) if share < 1 else results


def mean(job: Job) -> np.ndarray:
    """Return the mean of the posterior predictive, of shape ``(n_rows, ...)``: an average of conditional means."""
    return expectation(job, Mean())[0]


def moments(job: Job) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance of the posterior predictive, each of shape ``(n_rows, ...)``.

    The mean is the average over draws of the conditional mean; the variance follows from the law of total variance.
    """
    first, second = expectation(job, Moments())
    return first, second


def probabilities(job: Job) -> np.ndarray:
    """Return posterior predictive class probabilities of shape ``(n_rows, ..., n_classes)``."""
    return expectation(job, ClassProbabilities())[0]


def outcomes(job: Job) -> np.ndarray:
    """Return one outcome for each row and draw, of shape ``(n_rows, ..., n_draws)``."""
    drawn = _by_row(job, Values((job.spec.output,)), lambda drawn: drawn)
    if lacks_values(drawn):
        warn_of_absent(job.spec.output)
    return drawn


def outcome_quantiles(job: Job, levels: np.ndarray) -> np.ndarray:
    """Return quantiles of drawn outcomes, one tile at a time, in shapes as those of :func:`quantiles`."""
    if levels.ndim == 1:
        return _by_row(job, Values((job.spec.output,)), lambda drawn: _quantiles(drawn, levels))
    return _by_row(job, Values((job.spec.output,)), _quantiles, levels)


def mean_quantiles(job: Job, levels: np.ndarray) -> np.ndarray:
    """Return quantiles of the conditional means over the draws, of shape ``(n_rows, ..., n_quantiles)``."""
    return _by_row(job, ConditionalMeans((job.spec.output,)), lambda drawn: _quantiles(drawn, levels))


def log_predictive(job: Job, y: Any) -> np.ndarray:
    """Return the logarithm of the posterior predictive density of outcomes ``y``, of shape ``(n_rows,)``.

    The density, a joint one where a row has several outputs, is averaged over draws.
    """
    output = job.spec[job.spec.output]
    if not output.rows_are_batched:
        raise ValueError(
            f"The kernel's output {output.name!r} has one density for all rows, because its rows are on an event axis "
            "of its distribution. Use a plate over the rows, or a score that needs only draws, such as the CRPS."
        )
    check_densities(job.spec)
    return expectation(job.with_rows({job.spec.output_parameter: y}), LogPredictive())[0]


def crps(job: Job, y: np.ndarray) -> np.ndarray:
    """Return the continuous ranked probability score of drawn outcomes, in the shape of ``y``.

    Every row, and every output of a row, has its own score. Only the draws of a few tiles are in memory at a time.
    """
    return _by_row(job, Values((job.spec.output,)), _crps, y)


def log_densities_reduced(job: Job, y: Any, reduce: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Reduce the log densities ``(n_rows, ..., n_draws)`` of outcomes ``y`` by a function, tile by tile."""
    check_densities(job.spec)
    return _by_row(job.with_rows({job.spec.output_parameter: y}), LogDensity((job.spec.output,)), reduce)


def check_densities(spec: KernelSpec) -> None:
    """Refuse log densities that would be incomplete, and warn where the kernel leaves out rows."""
    if spec.unscored is not None:
        raise ValueError(
            f"The log density of a row cannot be computed, because {spec.unscored}. If the factor is the likelihood of "
            "some rows, such as censored ones, these rows would count as log 1."
        )
    if spec.masks and not spec.factors:
        warn_user(
            f"The kernel masks some outcomes of {spec.output!r}: these rows count as log 1 = 0. Leave out rows whose "
            "outcomes are missing. If they are censored, use NumPyro's `RightCensoredDistribution`, or add their "
            "density by `numpyro.factor` within the plate of the rows.",
            OutputWarning,
        )


def differs_along(job: Job, along: tuple[str, int | None]) -> bool:
    """Whether the means of the first rows change when their values of an input are permuted."""
    name, column = along
    some = job.with_rows({name: array[: job.limits.rows_compared] for name, array in job.inputs.rows.items()})
    moved = np.array(some.inputs.rows[name])
    values = moved if column is None else moved[:, column]
    order = np.argsort(values)
    # Values move by half of the sorted order, so that equal values do not only replace one another.
    values[order] = np.roll(values[order], len(values) // 2)
    return not np.array_equal(mean(some), mean(some.with_rows({name: moved})))


def changes_nothing(scenario: Job, baseline: Job, counts: np.ndarray) -> bool:
    """Whether two jobs with different inputs have the same outcomes.

    Parameters
    ----------
    scenario, baseline : Job
        Jobs of one kernel with the same number of rows.
    counts : array of bool of shape (n_rows,)
        Rows that matter.

    Returns
    -------
    bool
        True if neither the expected nor the drawn outcomes of some of the rows differ. False if the inputs are the same
        apart from interventions; for these there is :func:`influence`.
    """
    others = [(each.inputs.whole, dict(each.condition), each.traced.static) for each in (scenario, baseline)]
    rows = np.flatnonzero(counts) if not _same(*others) else _rows_that_differ(scenario, baseline, counts)
    if not len(rows):
        return False
    if scenario.spec.rows_mix is None:
        rows = rows[: scenario.limits.rows_compared]
        scenario, baseline = (_only(each, rows) for each in (scenario, baseline))
    return all(
        np.array_equal(of(scenario), of(baseline), equal_nan=True) for of in (mean, lambda job: with_nan(outcomes(job)))
    )


def _same(first: Any, second: Any) -> bool:
    """Whether two nested structures of arrays and constants are equal."""
    one, other = jax.tree.leaves_with_path(first), jax.tree.leaves_with_path(second)
    return len(one) == len(other) and all(
        place == where and (np.array_equal(a, b) if isinstance(a, np.ndarray | jax.Array) else a == b)
        for (place, a), (where, b) in zip(one, other, strict=True)
    )


def _rows_that_differ(first: Job, second: Job, counts: np.ndarray) -> np.ndarray:
    """Return the numbers of rows that matter and whose arguments differ, about as many as are compared."""
    limits = first.limits
    numbers: list[np.ndarray] = []
    for start in range(0, first.n_rows, limits.rows_read):
        here = slice(start, min(start + limits.rows_read, first.n_rows))
        differ = np.zeros(here.stop - here.start, bool)
        for name, array in first.inputs.rows.items():
            unequal = np.asarray(array[here]) != np.asarray(second.inputs.rows[name][here])
            differ |= unequal.reshape(len(differ), -1).any(axis=1)
        numbers.append(start + np.flatnonzero(differ & counts[here]))
        if sum(map(len, numbers)) >= limits.rows_compared:
            break
    return np.concatenate(numbers)


def _only(job: Job, rows: np.ndarray) -> Job:
    """Return a job with some of the rows, which must not depend on others; their own latent sites are drawn anew."""
    intervention, condition = (
        {
            name: value if job.spec[name].row_axis is None else np.take(value, rows, job.spec[name].row_axis)
            for name, value in settings.items()
        }
        for settings in (job.intervention, job.condition)
    )
    arguments = {
        name: np.concatenate([array[row : row + 1] for row in rows.tolist()]) for name, array in job.inputs.rows.items()
    }
    return replace(job.with_rows(arguments), local={}, intervention=intervention, condition=condition, part=None)


def _crps(drawn: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return ``E|Y - y| - E|Y - Y'| / 2``, where Y and Y' have the empirical distribution of the last axis.

    Half the second mean is a weighted sum of the sorted draws. Its weights add up to zero, so the draws can be replaced
    by their differences from ``y``, which lose fewer digits.
    """
    numbers = with_nan(drawn)
    gaps = np.subtract(numbers, y[..., None], dtype=numbers.dtype)
    gaps.sort(axis=-1)
    n_draws = gaps.shape[-1]
    weights = (2 * np.arange(n_draws) + 1 - n_draws) / n_draws**2
    # Tiles are reduced on several threads, so a matrix product by BLAS, which uses all cores itself, would be slower.
    with np.errstate(invalid="ignore"):
        score = np.abs(gaps).mean(axis=-1) - np.vecdot(gaps, weights.astype(gaps.dtype))
    # Infinite draws are sorted to the ends, and NaN to the last place. With infinite draws the score is infinite.
    infinite = (np.isinf(gaps[..., 0]) | np.isinf(gaps[..., -1])) & ~np.isnan(gaps[..., -1])
    return np.where(infinite, np.inf, score).astype(gaps.dtype, copy=False)


def _quantiles(drawn: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return quantiles over the last axis, interpolated between order statistics.

    This is the definition of ``numpy.quantile`` (Hyndman and Fan's seventh), computed by one sort, which is faster on
    long axes. Quantiles are NaN if a draw is. Levels are those of all distributions, or have an entry for each.
    """
    ordered = np.sort(with_nan(drawn), axis=-1)
    place = levels * (ordered.shape[-1] - 1)
    below = np.floor(place).astype(int)
    above = np.minimum(below + 1, ordered.shape[-1] - 1)
    share = (place - below).astype(ordered.dtype)
    lower, upper = (
        ordered[..., which] if which.ndim == 1 else np.take_along_axis(ordered, which, axis=-1)
        for which in (below, above)
    )
    # At a draw exactly, the next one must not count: if it is infinite, zero times it would be NaN.
    upper = np.where(share > 0, upper, lower)
    with np.errstate(invalid="ignore"):
        quantiles = lower * (1 - share) + upper * share
    # NaN is sorted to the end.
    return np.where(np.isnan(ordered[..., -1:]), ordered.dtype.type(np.nan), quantiles)


def _by_row(job: Job, quantity: PerDraw, reduce: Callable[..., np.ndarray], *companions: np.ndarray) -> np.ndarray:
    """Reduce the draws ``(n_rows, ..., n_draws)`` of a quantity of one site, with the same rows of each companion."""
    if job.spec.rows_mix is None:
        return Drawing(job, replace(quantity, draws_last=True)).reduced(reduce, *companions)
    (name,) = quantity.names
    drawn = Drawing(job, quantity).in_memory()[name]
    draws_last = np.moveaxis(drawn.reshape(-1, *drawn.shape[2:]), 0, -1)
    return np.ascontiguousarray(reduce(np.moveaxis(draws_last, job.spec[name].row_axis or 0, 0), *companions))
