"""Runs of a kernel on the rows of its fit followed by other rows, which depend on them."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from skaimz.kernels import TracedKernel
from skaimz.sampling.forward import Arguments, run_kernel

__all__ = ["run_after", "without_past"]


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

    rows = {name: jnp.concatenate([past[name], array]) for name, array in arguments.rows.items()}
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
