"""Posterior predictive quantities, tile by tile: moments, class probabilities, outcomes and quantiles of outcomes."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from skaimz.kernels import Inputs, TracedKernel, abstract_arrays, key_of, materialise
from skaimz.sampling.forward import class_probabilities, conditional_moments, run_kernel
from skaimz.sampling.generator import fused_key
from skaimz.sampling.plan import make_plan

__all__ = ["Posterior", "moments", "outcome_quantiles", "outcomes", "probabilities"]

PROGRAMS_KEPT = 32
# Purposes of random numbers, folded into the seed so that no two of them share a stream.
MOMENTS, OUTCOMES, PRIOR = 1, 2, 3


class Posterior(NamedTuple):
    """What a kernel is run with.

    Attributes
    ----------
    numbers : dict
        The kernel's numeric hyperparameters.
    params : dict of str to array
        Values of its ``param`` sites.
    draws : dict of str to array of shape (n_draws, ...)
        Draws of latent sites, chains flattened; sites that are absent are drawn from their conditional prior.
    n_draws : int
    """

    numbers: dict[str, Any]
    params: dict[str, Any]
    draws: dict[str, Any]
    n_draws: int


def moments(traced: TracedKernel, posterior: Posterior, inputs: Inputs, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance of the posterior predictive, each of shape ``(n_rows, ...)``.

    The mean is the average over draws of the conditional mean; the variance follows from the law of total variance.
    """
    mean, variance = _over_tiles("moments", traced, posterior, inputs, seed)
    return mean, variance


def probabilities(traced: TracedKernel, posterior: Posterior, inputs: Inputs, seed: int) -> np.ndarray:
    """Return posterior predictive class probabilities of shape ``(n_rows, ..., n_classes)``."""
    (result,) = _over_tiles("probabilities", traced, posterior, inputs, seed)
    return result


def outcomes(traced: TracedKernel, posterior: Posterior, inputs: Inputs, seed: int) -> np.ndarray:
    """Return one outcome for each row and draw, of shape ``(n_rows, ..., n_draws)``."""
    (result,) = _over_tiles("outcomes", traced, posterior, inputs, seed)
    return result


def outcome_quantiles(
    traced: TracedKernel, posterior: Posterior, inputs: Inputs, seed: int, quantiles: Sequence[float]
) -> np.ndarray:
    """Return quantiles of the outcomes, of shape ``(n_rows, ..., n_quantiles)``; draws are held one tile at a time."""
    (result,) = _over_tiles("outcomes", traced, posterior, inputs, seed, lambda drawn: _quantiles(drawn, quantiles))
    return result


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


class _Quantity(NamedTuple):
    """What is computed for each draw from the output's law and an outcome of it, and how draws are put together."""

    of_draw: Callable[[Any, Any, Any], tuple]
    over_draws: Callable[..., tuple]


QUANTITIES = {
    "moments": _Quantity(
        lambda law, outcome, key: conditional_moments(law, key),
        lambda means, variances: (means.mean(axis=0), variances.mean(axis=0) + means.var(axis=0)),
    ),
    "probabilities": _Quantity(
        lambda law, outcome, key: (class_probabilities(law),),
        lambda probabilities: (probabilities.mean(axis=0),),
    ),
    "outcomes": _Quantity(
        lambda law, outcome, key: (outcome,),
        lambda outcomes: (jnp.moveaxis(outcomes, 0, -1),),
    ),
}


def _over_tiles(
    quantity: str,
    traced: TracedKernel,
    posterior: Posterior,
    inputs: Inputs,
    seed: int,
    reduce: Callable[[np.ndarray], np.ndarray] = np.asarray,
) -> list[np.ndarray]:
    """Compute a quantity on every tile and join the tiles, rows first."""
    posterior = with_global_latents(traced, posterior, inputs, seed)
    plan = make_plan(traced.spec, len(inputs.rows[traced.spec.input]), posterior.n_draws)
    # Expectations of a row must not depend on its company, so where they need random numbers every row is run alone,
    # with the same ones.
    alone = quantity != "outcomes" and not plan.whole and _is_random(quantity, traced, posterior, inputs)
    fused = runs_fused(traced, *described(posterior, inputs))
    program = _program(quantity, traced, alone, fused, plan.tile_rows, plan.draws_at_once)
    draw_numbers = np.arange(posterior.n_draws, dtype=np.uint32)
    *fixed, draw_numbers, whole = jax.device_put((*posterior[:3], draw_numbers, inputs.whole))
    results: list[np.ndarray] = []

    def finish(start: int, length: int, parts: tuple) -> None:
        for i, part in enumerate(parts):
            piece = reduce(np.asarray(part)[:length])
            if start == 0:
                results.append(np.empty((plan.n_rows, *piece.shape[1:]), piece.dtype))
            results[i][start : start + length] = piece

    # One tile is computed while the one before it is brought home.
    under_way: tuple | None = None
    for number, length, rows in plan.tiles(inputs.rows):
        parts = program(*fixed, draw_numbers, rows, whole, np.uint32(seed), np.uint32(number))
        if under_way is not None:
            finish(*under_way)
        under_way = number * plan.tile_rows, length, parts
    assert under_way is not None
    finish(*under_way)
    return results


@functools.lru_cache(maxsize=PROGRAMS_KEPT)
def _program(
    quantity: str, traced: TracedKernel, alone: bool, fused: bool, tile_rows: int, draws_at_once: int
) -> Callable:
    """Compile a quantity of one tile of so many rows."""
    of_draw, over_draws = QUANTITIES[quantity]
    row_axis = traced.spec[traced.spec.output].row_axis or 0

    @jax.jit
    def program(
        numbers: dict, params: dict, draws: dict, draw_numbers: Any, rows: dict, whole: dict, seed: Any, tile: Any
    ) -> tuple:
        def run(rows: dict, sites: dict, draw: Any) -> tuple:
            key = key_of(seed, OUTCOMES, tile, draw) if quantity == "outcomes" else key_of(seed, MOMENTS, draw)
            run_key, law_key = jax.random.split(fused_key(key) if fused else key)
            output = run_kernel(traced, numbers, {**params, **sites}, rows, whole, run_key)[traced.spec.output]
            law, outcome = output["fn"], output["value"]
            return jax.tree.map(lambda part: jnp.moveaxis(part, row_axis, 0), of_draw(law, outcome, law_key))

        def run_alone(rows: dict, sites: dict, draw: Any) -> tuple:
            one_row = lambda row: run(jax.tree.map(lambda a: a[None], row), sites, draw)  # noqa: E731
            return jax.tree.map(lambda part: part[:, 0], jax.vmap(one_row)(rows))

        each = run_alone if alone else run
        return over_draws(*map_draws(functools.partial(each, rows), draws, draw_numbers, draws_at_once))

    return program


def with_global_latents(
    traced: TracedKernel,
    posterior: Posterior,
    inputs: Inputs,
    seed: int,
    intervention: Mapping[str, Any] | None = None,
    condition: Mapping[str, Any] | None = None,
) -> Posterior:
    """Draw the latent sites without rows that have no draws yet, once for all tiles, given what is set."""
    intervention, condition = dict(intervention or {}), dict(condition or {})
    given = posterior.draws.keys() | intervention.keys() | condition.keys()
    missing = [site for site in traced.spec.latents if site.row_axis is None and site.name not in given]
    if not missing:
        return posterior
    rows = inputs.rows
    if traced.spec.rows_mix is None and not any(site.mixing for site in missing):
        # What is set by row cannot reach a site without rows, unless rows mix.
        intervention, condition = (
            {name: value for name, value in settings.items() if traced.spec[name].row_axis is None}
            for settings in (intervention, condition)
        )
        rows = {name: array[:1] for name, array in rows.items()}
    draw_numbers = np.arange(posterior.n_draws, dtype=np.uint32)
    program = _prior_program(traced, tuple(site.name for site in missing))
    drawn = program(*posterior[:3], draw_numbers, rows, inputs.whole, np.uint32(seed), intervention, condition)
    return posterior._replace(draws={**posterior.draws, **drawn})


@functools.lru_cache(maxsize=PROGRAMS_KEPT)
def _prior_program(traced: TracedKernel, names: tuple[str, ...]) -> Callable:
    """Compile draws of latent sites from their prior given those that are there."""

    @jax.jit
    def program(
        numbers: dict,
        params: dict,
        draws: dict,
        draw_numbers: Any,
        rows: dict,
        whole: dict,
        seed: Any,
        intervention: dict,
        condition: dict,
    ) -> dict:
        def one(sites: dict, draw: Any) -> dict:
            key = key_of(seed, PRIOR, draw)
            given = {**params, **sites, **condition}
            trace = run_kernel(traced, numbers, given, rows, whole, key, intervention)
            return {name: trace[name]["value"] for name in names}

        return jax.vmap(one)(draws, draw_numbers)

    return program


def map_draws(function: Callable, draws: dict, draw_numbers: Any, at_once: int) -> tuple:
    """Call a function for every draw, as many side by side as fit."""
    side_by_side = jax.vmap(function)
    n_draws = len(draw_numbers)
    if at_once >= n_draws:
        return side_by_side(draws, draw_numbers)
    n_parts = -(-n_draws // at_once)
    places = jnp.minimum(jnp.arange(n_parts * at_once), n_draws - 1).reshape(n_parts, at_once)
    parts = jax.lax.map(lambda p: side_by_side(jax.tree.map(lambda a: a[p], draws), draw_numbers[p]), places)
    return jax.tree.map(lambda part: part.reshape(-1, *part.shape[2:])[:n_draws], parts)


def _is_random(quantity: str, traced: TracedKernel, posterior: Posterior, inputs: Inputs) -> bool:
    """Whether an expectation needs random numbers: for latent sites without draws, or a law without closed moments."""
    if any(site.name not in posterior.draws for site in traced.spec.latents):
        return True
    if quantity != "moments":
        return False
    return _moments_are_sampled(traced, *described(posterior, inputs))


def described(posterior: Posterior, inputs: Inputs) -> tuple[tuple, ...]:
    """Describe the arguments of one pass, by types alone: one draw and one row stand for all."""
    one_draw = {name: draw[0] for name, draw in posterior.draws.items()}
    one_row = {name: array[:1] for name, array in inputs.rows.items()}
    parts = (posterior.numbers, posterior.params | one_draw, one_row, inputs.whole)
    return tuple(map(abstract_arrays, parts))


@functools.lru_cache(maxsize=PROGRAMS_KEPT)
def _moments_are_sampled(traced: TracedKernel, numbers: tuple, sites: tuple, rows: tuple, whole: tuple) -> bool:
    sampled = []

    def run(numbers: dict, sites: dict, rows: dict, whole: dict) -> tuple:
        key = jax.random.key(0)
        law = run_kernel(traced, numbers, sites, rows, whole, key)[traced.spec.output]["fn"]
        return conditional_moments(law, key, on_sampling=lambda: sampled.append(True))

    jax.eval_shape(run, *map(materialise, (numbers, sites, rows, whole)))
    return bool(sampled)


@functools.lru_cache(maxsize=PROGRAMS_KEPT)
def runs_fused(traced: TracedKernel, numbers: tuple, sites: tuple, rows: tuple, whole: tuple) -> bool:
    """Whether every law of the kernel can be drawn from with the fusing generator; Poisson's cannot."""

    def run(numbers: dict, sites: dict, rows: dict, whole: dict) -> Any:
        return run_kernel(traced, numbers, sites, rows, whole, fused_key(jax.random.key(0)))[traced.spec.output][
            "value"
        ]

    try:
        jax.eval_shape(run, *map(materialise, (numbers, sites, rows, whole)))
    except Exception:
        # Kernels that do not take one row alone end here too, and lose nothing but speed.
        return False
    return True
