"""Draws and log densities of whole sites, for one batch of rows in memory."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from skaimz.kernels import Inputs, TracedKernel, key_of
from skaimz.sampling.forward import run_kernel
from skaimz.sampling.generator import fused_key
from skaimz.sampling.plan import Plan, make_plan
from skaimz.sampling.predictive import (
    OUTCOMES,
    PROGRAMS_KEPT,
    Posterior,
    described,
    map_draws,
    runs_fused,
    with_global_latents,
)

__all__ = ["log_densities", "sample_sites"]


def sample_sites(
    traced: TracedKernel,
    posterior: Posterior,
    inputs: Inputs,
    seed: int,
    names: tuple[str, ...],
    *,
    local: Mapping[str, np.ndarray] | None = None,
    intervention: Mapping[str, Any] | None = None,
    condition: Mapping[str, Any] | None = None,
) -> dict[str, np.ndarray]:
    """Run the kernel once for each draw and return the values of sites.

    Parameters
    ----------
    traced : TracedKernel
    posterior : Posterior
    inputs : Inputs
    seed : int
    names : tuple of str
        Sites to return.
    local : dict of str to array of shape (n_draws, ...)
        Draws of row-aligned latent sites for these very rows.
    intervention, condition : dict of str to array
        Values that sites are set to, by the do-operator or as if they had been drawn.

    Returns
    -------
    dict of str to array of shape (n_draws, ...)
    """
    posterior = with_global_latents(traced, posterior, inputs, seed, intervention, condition)
    return _over_tiles(
        "value", traced, posterior, inputs, seed, names, local or {}, intervention or {}, condition or {}
    )


def log_densities(
    traced: TracedKernel,
    posterior: Posterior,
    inputs: Inputs,
    seed: int,
    *,
    local: Mapping[str, np.ndarray] | None = None,
) -> np.ndarray:
    """Return the log density of the observed output, of shape ``(n_draws, ...)``; the output is one of the rows."""
    posterior = with_global_latents(traced, posterior, inputs, seed)
    name = traced.spec.output
    return _over_tiles("log density", traced, posterior, inputs, seed, (name,), local or {}, {}, {})[name]


def _over_tiles(
    quantity: str,
    traced: TracedKernel,
    posterior: Posterior,
    inputs: Inputs,
    seed: int,
    names: tuple[str, ...],
    local: Mapping[str, np.ndarray],
    intervention: Mapping[str, Any],
    condition: Mapping[str, Any],
) -> dict[str, np.ndarray]:
    spec = traced.spec
    n_rows = len(inputs.rows[spec.input])
    plan = make_plan(spec, n_rows, posterior.n_draws)
    if any(spec[name].mixing for name in names) and not plan.whole:
        plan = Plan(n_rows, n_rows, plan.draws_at_once, whole=True)
    set_rows, set_whole = _split_by_rows(traced, {**intervention, **condition})
    fused = runs_fused(traced, *described(posterior, inputs))
    program = _program(quantity, traced, names, tuple(sorted(intervention)), fused, plan.tile_rows, plan.draws_at_once)
    draw_numbers = np.arange(posterior.n_draws, dtype=np.uint32)
    fixed = jax.device_put((*posterior[:3], draw_numbers, inputs.whole, set_whole))
    results: dict[str, np.ndarray] = {}
    for number, length, rows in plan.tiles({**inputs.rows, **{("set", name): a for name, a in set_rows.items()}}):
        start = number * plan.tile_rows
        cut = {name: plan.cut(draw, start, 1 + (spec[name].row_axis or 0)) for name, draw in local.items()}
        own = {name: array for name, array in rows.items() if isinstance(name, str)}
        here = {name[1]: array for name, array in rows.items() if not isinstance(name, str)}
        parts = program(*fixed, own, here, cut, np.uint32(seed), np.uint32(number))
        for name, part in zip(names, parts, strict=True):
            row_axis = spec[name].row_axis
            if quantity == "log density" and not spec[name].rows_are_batched:
                row_axis = None
            part = np.asarray(part)
            if row_axis is None:
                results.setdefault(name, np.array(part))
                continue
            piece = part.take(range(length), axis=1 + row_axis)
            if name not in results:
                shape = (*piece.shape[: 1 + row_axis], n_rows, *piece.shape[2 + row_axis :])
                results[name] = np.empty(shape, piece.dtype)
            where = (slice(None),) * (1 + row_axis) + (slice(start, start + length),)
            results[name][where] = piece
    return results


def _split_by_rows(
    traced: TracedKernel, values: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Tell values by row, which are cut with the rows, from those that hold for all."""
    arrays = {name: np.asarray(value) for name, value in values.items()}
    by_row = {name for name, array in arrays.items() if array.ndim and traced.spec[name].row_axis == 0}
    rows = {name: array for name, array in arrays.items() if name in by_row}
    return rows, {name: array for name, array in arrays.items() if name not in by_row}


@functools.lru_cache(maxsize=PROGRAMS_KEPT)
def _program(
    quantity: str,
    traced: TracedKernel,
    names: tuple[str, ...],
    do: tuple[str, ...],
    fused: bool,
    tile_rows: int,
    draws_at_once: int,
) -> Callable:
    """Compile sites of one tile of so many rows."""
    outcome = traced.spec.output_parameter

    @jax.jit
    def program(
        numbers: dict,
        params: dict,
        draws: dict,
        draw_numbers: Any,
        whole: dict,
        set_whole: dict,
        rows: dict,
        set_rows: dict,
        local: dict,
        seed: Any,
        tile: Any,
    ) -> tuple:
        settings = {**set_whole, **set_rows}
        interventions = {name: settings[name] for name in do}
        conditions = {name: value for name, value in settings.items() if name not in do}

        def run(sites: dict, draw: Any) -> tuple:
            key = key_of(seed, OUTCOMES, tile, draw)
            run_key, _ = jax.random.split(fused_key(key) if fused else key)
            given = {**params, **sites, **conditions}
            trace = run_kernel(traced, numbers, given, {outcome: None, **rows}, whole, run_key, interventions)
            if quantity == "value":
                return tuple(trace[name]["value"] for name in names)
            return tuple(trace[name]["fn"].log_prob(trace[name]["value"]) for name in names)

        return map_draws(run, {**draws, **local}, draw_numbers, draws_at_once)

    return program
