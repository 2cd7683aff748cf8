"""Runs of a kernel on the rows of its fit followed by other rows, which depend on them."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from skaimz.kernels import POINTS, ByValue, TracedKernel
from skaimz.runtime import compiled, shared
from skaimz.sampling.conditionals import elementwise
from skaimz.sampling.forward import FIRST, Arguments, run_kernel
from skaimz.sampling.job import Job

__all__ = ["changed_levels", "changed_past", "run_after", "without_past"]

PROGRAMS_KEPT = 8
# Kinds of sites that have distributions.
DRAWN = ("latent", "companion", "output")
# Rows on which known levels are compared.
ROWS_COMPARED = 64
# Relative and absolute differences that are rounding.
ROUNDING = 1e-6


def run_after(
    past: Mapping[str, Any],
    traced: TracedKernel,
    arguments: Arguments,
    draws: Mapping[str, Any],
    settings: tuple[Mapping[str, Any], Mapping[str, Any]],
    key: Any,
) -> dict[str, dict[str, Any]]:
    """Run a kernel on past rows and on those of its arguments, and return its trace for all of them.

    Parameters
    ----------
    past : dict of str to array
        Row-aligned arguments of past rows, the outcome among them.
    traced : TracedKernel
    arguments : Arguments
    draws : dict of str to array
        Values of sites. Those of the latent sites of rows are the values in the past rows.
    settings : pair of dict
        Values that sites are set to: in place of a draw, and by the do-operator. They are for the rows after the past.
    key : PRNG key

    Returns
    -------
    dict
        A site with a joint distribution over all rows has the distribution of its later rows given the past, and their
        values.
    """
    spec, known = traced.spec, dict(draws)
    output, outcome = spec[spec.output], spec.output_parameter
    # An output that a `scan` observes has values at all steps.
    if spec.outcomes_depend and not (output.is_scanned and outcome in arguments.rows):
        known[output.name] = jnp.moveaxis(past[outcome], 0, output.row_axis or 0)

    def from_the_start(values: Mapping[str, Any]) -> dict[str, Any]:
        axes = {name: spec[name].row_axis for name in values}
        return {
            name: value if axes[name] is None else jnp.concatenate([known[name], value], axis=axes[name])
            for name, value in values.items()
        }

    rows = {name: jnp.concatenate([past[name], array]) for name, array in arguments.rows.items() if name != POINTS}
    conditions, interventions = map(from_the_start, settings)
    return run_kernel(traced, arguments._replace(rows=rows), {**known, **conditions}, key, interventions)


def without_past(results: tuple, axes: tuple[int | None, ...], n_past: int, n_rows: int) -> tuple:
    """Leave out the results of past rows.

    Parameters
    ----------
    results : tuple of arrays
    axes : tuple of (int or None)
        Row axis of each result.
    n_past, n_rows : int
        Numbers of past rows and of those after them. A result that has only the latter is left as it is.
    """

    def later(array: Any, axis: int) -> Any:
        return array if array.shape[axis] == n_rows else jax.lax.slice_in_dim(array, n_past, None, axis=axis)

    return tuple(result if axis is None else later(result, axis) for result, axis in zip(results, axes, strict=True))


def changed_past(job: Job) -> list[str]:
    """Return sites whose distribution in the past rows depends on the rows after them, although it must not.

    Such a kernel is another model with more rows, for example one that subtracts a mean over all rows. What a fit has
    learned is then not true of it.
    """
    assert job.past is not None
    rows = {name: np.asarray(array[:]) for name, array in job.inputs.rows.items()}
    past = {name: job.past.rows[name] for name in rows}
    every = {name: np.concatenate([past[name], array]) for name, array in rows.items()}
    names = tuple(site.name for site in job.spec.sites if site.follows_rows and site.kind in DRAWN)
    return _changed(job, (job.traced, past), (job.traced, every), names)


def changed_levels(job: Job, argument: str) -> list[str]:
    """Return sites whose values or distributions for known levels depend on new ones, although they must not."""
    n_known = job.levels[argument].n_known
    rows = {name: np.asarray(array[:ROWS_COMPARED]) for name, array in job.inputs.rows.items()}
    rows[argument] = np.minimum(rows[argument], n_known - 1)
    count = f"n_{argument}"
    static = tuple((name, ByValue.of(n_known) if name == count else value) for name, value in job.traced.static)
    names = tuple(site.name for site in job.spec.sites if site.kind in (*DRAWN, "deterministic"))
    return _changed(job, (replace(job.traced, static=static), rows), (job.traced, rows), names)


def _changed(
    job: Job, first: tuple[TracedKernel, dict], second: tuple[TracedKernel, dict], names: tuple[str, ...]
) -> list[str]:
    """Return sites whose densities, or values if they are deterministic, differ between two runs of a kernel.

    Both runs have the same draw, and the second one has more rows or levels. Arithmetic is in double precision.
    """
    posterior = job.posterior
    values = {**posterior.params, **{name: draws[0] for name, draws in posterior.draws.items()}}
    with jax.enable_x64(True):
        each = [Arguments(posterior.hyperparameters, rows, job.inputs.whole) for _, rows in (first, second)]
        given = jax.tree.map(_doubled, (*each, values))
        compared = _comparison(first[0], second[0], names)(*given, jax.random.key(job.seed))
    return [
        name
        for name, (alone, together) in compared.items()
        if np.isfinite(alone).all() and not np.allclose(alone, together, ROUNDING, ROUNDING)
    ]


def _doubled(array: Any) -> Any:
    array = array if hasattr(array, "dtype") else np.asarray(array)
    doubles = {np.dtype(np.float32): np.float64, np.dtype(np.int32): np.int64}
    return array.astype(doubles.get(np.dtype(array.dtype), array.dtype))


@shared(maxsize=PROGRAMS_KEPT)
def _comparison(first: TracedKernel, second: TracedKernel, names: tuple[str, ...]) -> Callable:
    """Compile what :func:`_changed` compares: by site what the first run gives, and the same entries of the second."""

    @compiled
    def program(few: Arguments, many: Arguments, values: dict, key: Any) -> dict[str, tuple[Any, Any]]:
        alone = run_kernel(first, few, values, key)
        drawn = {name: alone[name]["value"] for name in names if alone[name]["type"] == "sample"}
        together = run_kernel(second, many, {**values, **drawn}, key)
        compared = {}
        for name in names:
            site, other = alone[name], together[name]
            if name not in drawn:
                compared[name] = site["value"], _same_entries(site["value"], other["value"])
            elif FIRST not in other:
                # Independent entries are compared one by one, whatever axes share a density.
                density = elementwise(site["fn"]).log_prob(site["value"])
                compared[name] = density, _same_entries(density, elementwise(other["fn"]).log_prob(other["value"]))
            elif other[FIRST] is not None:
                # Which axes of a value share a density may differ.
                compared[name] = tuple(each.log_prob(site["value"]).sum() for each in (site["fn"], other[FIRST]))
        return compared

    return program


def _same_entries(few: Any, many: Any) -> Any:
    return many[tuple(map(slice, jnp.shape(few)))]
