"""Compiled programs that run a kernel on tiles."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from skaimz.kernels import TracedKernel
from skaimz.runtime import Purpose, compiled, fused_key, key_of, shared
from skaimz.sampling.forward import (
    checked_outcome,
    class_probabilities,
    conditional_mean,
    conditional_moments,
    expected_outcome,
    run_kernel,
)
from skaimz.sampling.host_distributions import parameters_of
from skaimz.sampling.job import Job, Quantity
from skaimz.sampling.plan import Plan, Step, cut
from skaimz.sampling.proofs import is_random, runs_fused

__all__ = ["Launcher", "with_global_latents"]

PROGRAMS_KEPT = 32
SHARD = "shard"


@dataclass(frozen=True)
class _Design:
    """The static half of a program."""

    traced: TracedKernel
    quantity: Quantity
    do: tuple[str, ...]
    fused: bool
    alone: bool
    on_host: bool
    tile_rows: int
    step_draws: int
    draws_at_once: int
    devices: tuple[Any, ...]
    shard_draws: bool
    local: tuple[str, ...]
    settings: tuple[str, ...]


class Launcher:
    """Starts the computation of steps and does not wait for them.

    Parameters
    ----------
    job : Job
        With all global latent sites.
    quantity : Quantity
    plan : Plan
        With as many shards as devices, or one where draws are sharded.
    shard_draws : bool
        Spread draws over devices instead of rows.
    on_host : bool
        Return the parameters of the output's distribution in the place of its values.
    """

    def __init__(self, job: Job, quantity: Quantity, plan: Plan, *, shard_draws: bool = False, on_host: bool = False):
        posterior = job.posterior
        self.job, self.plan = job, plan
        devices = tuple(jax.local_devices())[: None if shard_draws else plan.shards]
        # Expectations of a row must not depend on its company, so where they need random numbers every row is run
        # alone, with the same ones.
        by_row = quantity.shares_random_numbers and job.spec.least_rows == 1
        alone = by_row and not plan.whole and is_random(quantity, job)
        design = _Design(
            job.traced,
            quantity,
            tuple(sorted(job.intervention)),
            runs_fused(job.traced, on_host, *job.described()),
            alone,
            on_host,
            plan.tile_rows,
            plan.step_draws,
            plan.draws_at_once,
            devices,
            shard_draws,
            tuple(sorted(job.local)),
            tuple(sorted(job.settings)),
        )
        self._program = _program(design)
        settings = job.settings
        self._set_rows = {name: value for name, value in settings.items() if job.spec[name].row_axis is not None}
        set_whole = {name: value for name, value in settings.items() if name not in self._set_rows}
        everywhere, along_draws = _placements(design)
        self._fixed = jax.device_put(
            (posterior.hyperparameters, posterior.params, job.inputs.whole, set_whole, np.uint32(job.seed)), everywhere
        )
        self._step_draws = -(-plan.step_draws // len(devices)) * len(devices) if shard_draws else plan.step_draws
        self._draws = (dict(posterior.draws), np.arange(posterior.n_draws, dtype=np.uint32))
        # Draws that every step uses stay on the device.
        self._held = None if plan.whole else jax.device_put(self._cut_draws(slice(0, None)), along_draws)

    def __call__(self, step: Step) -> tuple:
        """Start a step."""
        return self._program(*self._arguments(step))

    def read_from(self, rows: Mapping[str, Any]) -> None:
        """Read rows from other, equal arrays."""
        self.job = self.job.with_rows(rows)

    def shapes(self) -> tuple:
        """Return shapes and types of a step's results."""
        return jax.eval_shape(self._program, *self._arguments(next(self.plan.steps(self.plan.batches()[0]))))

    def _arguments(self, step: Step) -> tuple:
        job, length = self.job, self.plan.tile_rows * self.plan.shards
        rows = {name: cut(array, step.rows, length) for name, array in job.inputs.rows.items()}
        by_row = {
            name: cut(array, step.rows, length, job.spec[name].row_axis or 0) for name, array in self._set_rows.items()
        }
        whole = slice(0, step.rows.stop - step.rows.start)
        local = {
            name: cut(cut(draw, step.draws, self._step_draws), whole, length, 1 + (job.spec[name].row_axis or 0))
            for name, draw in job.local_in(step.rows).items()
        }
        drawn = self._cut_draws(step.draws) if self._held is None else self._held
        count = np.uint32(step.draws.stop - step.draws.start)
        return self._fixed, drawn, count, rows, by_row, local, step.tiles

    def _cut_draws(self, part: slice) -> Any:
        return jax.tree.map(lambda array: cut(array, part, self._step_draws), self._draws)


def _placements(design: _Design) -> tuple[Any, Any]:
    """Return where arrays go that every device sees, and where draws go."""
    if len(design.devices) == 1:
        return None, None
    mesh = Mesh(np.asarray(design.devices), (SHARD,))
    everywhere = NamedSharding(mesh, PartitionSpec())
    return everywhere, NamedSharding(mesh, PartitionSpec(SHARD)) if design.shard_draws else everywhere


@shared(maxsize=PROGRAMS_KEPT)
def _program(design: _Design) -> Callable:
    """Compile a step."""
    traced, quantity, spec = design.traced, design.quantity, design.traced.spec
    outcome, output = spec.output_parameter, spec.output
    out_row = spec[output].row_axis or 0

    def of_draw(trace: dict, key: Any) -> tuple:
        distribution = trace[output]["fn"]
        match quantity.kind:
            case "mean":
                parts = (conditional_mean(distribution, key),)
            case "moments":
                parts = conditional_moments(distribution, key)
            case "probabilities":
                parts = (class_probabilities(distribution),)
            case "log predictive":
                return (_density_of_rows(density_of(trace, output), out_row),)
            case "values":
                return tuple(value_of(trace, name) for name in quantity.names)
            case "means":
                return tuple(expected_outcome(trace[name]["fn"], key) for name in quantity.names)
            case _:
                return tuple(density_of(trace, name) for name in quantity.names)
        return tuple(jnp.moveaxis(part, out_row, 0) for part in parts)

    def density_of(trace: dict, name: str) -> Any:
        parts = (name, *spec.factors) if name == output else (name,)
        return sum(trace[each]["fn"].log_prob(trace[each]["value"]) for each in parts)

    def value_of(trace: dict, name: str) -> Any:
        value = _storable(trace[name]["value"])
        if name != output or output in design.settings:
            return value
        distribution = trace[name]["fn"]
        return parameters_of(distribution) if design.on_host else checked_outcome(distribution, value)

    def compute(fixed: tuple, drawn: tuple, count: Any, rows: dict, set_rows: dict, local: dict, tiles: Any) -> tuple:
        hyperparameters, params, whole, set_whole, seed = fixed
        draws, draw_numbers = drawn
        settings = {**set_whole, **set_rows}
        interventions = {name: settings[name] for name in design.do}
        given = {**params, **{name: value for name, value in settings.items() if name not in design.do}}

        def run(rows: dict, sites: dict, draw: Any) -> tuple:
            purpose = (Purpose.EXPECTATION,) if quantity.shares_random_numbers else (Purpose.OUTCOME, tiles[0])
            key = key_of(seed, *purpose, draw)
            run_key, distribution_key = jax.random.split(fused_key(key) if design.fused else key)

            def at(rows: dict) -> dict:
                return run_kernel(
                    traced,
                    hyperparameters,
                    {**sites, **given},
                    {outcome: None, **rows},
                    whole,
                    run_key,
                    interventions,
                    without_outcome=design.on_host,
                )

            if quantity.along is None:
                return of_draw(at(rows), distribution_key)
            return (
                _slope(
                    quantity, rows, out_row, lambda rows: expected_outcome(at(rows)[output]["fn"], distribution_key)
                ),
            )

        def run_alone(rows: dict, sites: dict, draw: Any) -> tuple:
            one_row = lambda row: run(jax.tree.map(lambda a: a[None], row), sites, draw)  # noqa: E731
            return jax.tree.map(lambda part: part[:, 0], jax.vmap(one_row)(rows))

        each = functools.partial(run_alone if design.alone else run, rows)
        at_once = -(-design.draws_at_once // (len(design.devices) if design.shard_draws else 1))
        parts = _map_draws(each, {**draws, **local}, draw_numbers, at_once)
        if quantity.is_expectation:
            return _averages(quantity, parts, count)
        return jax.tree.map(lambda part: jnp.moveaxis(part, 0, -1), parts) if quantity.draws_last else parts

    if len(design.devices) == 1:
        return compiled(compute)
    return compiled(_sharded(design, compute))


def _slope(quantity: Quantity, rows: dict, row_axis: int, mean_at: Callable[[dict], Any]) -> Any:
    """Return the derivative of the expected outcome along an input, or its elasticity; rows must stand alone."""
    assert quantity.along is not None
    name, column = quantity.along
    array = rows[name]
    ones = jnp.ones_like(array)
    direction = ones if column is None else jnp.zeros_like(array).at[:, column].set(1.0)
    mean, slope = jax.jvp(lambda moved: mean_at({**rows, name: moved}), (array,), (direction,))
    if quantity.kind == "slopes":
        return slope
    value = array if column is None else array[:, column]
    after = mean.ndim - row_axis - 1
    return slope * value.reshape(*(1,) * row_axis, -1, *(1,) * after) / mean


def _density_of_rows(densities: Any, row_axis: int) -> Any:
    """Return the log density of each row, the sum of those of its outputs."""
    others = tuple(axis for axis in range(densities.ndim) if axis != row_axis)
    return densities.sum(axis=others)


def _storable(value: Any) -> Any:
    """Return a value in a type that NumPy and Zarr know."""
    return value.astype(jnp.float32) if value.dtype == jnp.bfloat16 else value


def _averages(quantity: Quantity, parts: tuple, count: Any) -> tuple:
    """Average over the first ``count`` draws, those beyond being copies."""
    counted = (jnp.arange(len(parts[0]), dtype=count.dtype) < count).reshape(-1, *(1,) * (parts[0].ndim - 1))
    if quantity.kind == "log predictive":
        (densities,) = parts
        total = jax.nn.logsumexp(densities, axis=0, where=counted)
        return (total - jnp.log(count.astype(densities.dtype)),)
    means = [part.mean(axis=0, where=counted) for part in parts]
    if quantity.kind != "moments":
        return tuple(means)
    spread = parts[0].var(axis=0, where=counted)
    return means[0], means[1] + spread


def _sharded(design: _Design, compute: Callable) -> Callable:
    """Spread a step over devices: its tiles, or its draws."""
    mesh = Mesh(np.asarray(design.devices), (SHARD,))
    everywhere, first = PartitionSpec(), PartitionSpec(SHARD)
    spec = design.traced.spec
    local: Any
    set_rows: Any
    out: Any
    if design.shard_draws:
        rows = tiles = everywhere
        drawn = local = first
        set_rows = everywhere
        out = first
    else:
        rows = tiles = first
        drawn = everywhere
        local = {name: _on_axis(1 + (spec[name].row_axis or 0)) for name in design.local}
        by_row = [(name, spec[name].row_axis) for name in design.settings]
        set_rows = {name: _on_axis(axis) for name, axis in by_row if axis is not None}
        out = tuple(
            everywhere if axis is None else _on_axis(axis) for axis in design.quantity.row_axes(design.traced.spec)
        )
    return jax.shard_map(
        compute,
        mesh=mesh,
        in_specs=(everywhere, drawn, everywhere, rows, set_rows, local, tiles),
        out_specs=out,
        check_vma=False,
    )


def _on_axis(axis: int) -> PartitionSpec:
    return PartitionSpec(*(None,) * axis, SHARD)


def _map_draws(function: Callable, draws: dict, draw_numbers: Any, at_once: int) -> Any:
    """Call a function for every draw, as many side by side as fit."""
    side_by_side = jax.vmap(function)
    n_draws = len(draw_numbers)
    if at_once >= n_draws:
        return side_by_side(draws, draw_numbers)
    n_parts = -(-n_draws // at_once)
    places = jnp.minimum(jnp.arange(n_parts * at_once), n_draws - 1).reshape(n_parts, at_once)
    parts = jax.lax.map(lambda p: side_by_side(jax.tree.map(lambda a: a[p], draws), draw_numbers[p]), places)
    return jax.tree.map(lambda part: part.reshape(-1, *part.shape[2:])[:n_draws], parts)


def with_global_latents(job: Job) -> Job:
    """Draw the latent sites without rows that have no draws yet, once for all tiles, given what is set."""
    spec, posterior = job.spec, job.posterior
    intervention, condition = dict(job.intervention), dict(job.condition)
    given = posterior.draws.keys() | intervention.keys() | condition.keys()
    missing = [site for site in spec.drawn if site.row_axis is None and site.name not in given]
    if not missing:
        return job
    rows = job.inputs.rows
    if spec.rows_mix is None and not any(site.mixing for site in missing):
        # What is set by row cannot reach a site without rows, unless rows mix.
        intervention, condition = (
            {name: value for name, value in settings.items() if spec[name].row_axis is None}
            for settings in (intervention, condition)
        )
        rows = {name: cut(array, slice(0, 1), spec.least_rows) for name, array in rows.items()}
    rows = {name: np.asarray(array[:]) for name, array in rows.items()}
    draw_numbers = np.arange(posterior.n_draws, dtype=np.uint32)
    program = _prior_program(job.traced, tuple(site.name for site in missing))
    drawn = program(*posterior[:3], draw_numbers, rows, job.inputs.whole, np.uint32(job.seed), intervention, condition)
    drawn = {name: np.asarray(array) for name, array in drawn.items()}
    return replace(job, posterior=posterior._replace(draws={**posterior.draws, **drawn}))


@shared(maxsize=PROGRAMS_KEPT)
def _prior_program(traced: TracedKernel, names: tuple[str, ...]) -> Callable:
    """Compile draws of latent sites from their prior given those that are there."""

    @compiled
    def program(
        hyperparameters: dict,
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
            key = key_of(seed, Purpose.PRIOR_SITE, draw)
            given = {**params, **sites, **condition}
            trace = run_kernel(traced, hyperparameters, given, rows, whole, key, intervention)
            return {name: trace[name]["value"] for name in names}

        return jax.vmap(one)(draws, draw_numbers)

    return program
