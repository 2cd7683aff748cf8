"""Compiled programs that run a kernel on tiles."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from skaimz.kernels import TracedKernel
from skaimz.runtime import Purpose, compiled, fused_key, key_of, shared
from skaimz.sampling.continuing import Beginning
from skaimz.sampling.encoders import Encoder
from skaimz.sampling.forward import Arguments, run_kernel
from skaimz.sampling.job import Job, cut
from skaimz.sampling.past import run_after, without_past
from skaimz.sampling.plan import Plan, Step
from skaimz.sampling.proofs import is_random, runs_fused
from skaimz.sampling.quantities import KernelRun, PerDraw, Quantity

__all__ = ["Launcher", "with_global_latents"]

PROGRAMS_KEPT = 32
SHARD = "shard"
# Folded into the key of a draw for the random numbers of an encoder.
ENCODER = 2**32 - 1


@dataclass(frozen=True)
class _Design:
    """Everything that a program is compiled for, apart from the shapes of its arguments.

    Attributes
    ----------
    traced : TracedKernel
    quantity : Quantity
    devices : tuple
    draws_at_once : int
        Draws that are computed side by side.
    shard_draws : bool
        Whether draws are spread over the devices, rather than rows.
    alone : bool
        Whether the kernel runs on every row alone.
    fused : bool
        Whether random bits come from the fused generator.
    on_host : bool
        Whether NumPy will draw the outcomes.
    encoder : Encoder or None
        Draws latent sites of the rows.
    interventions, settings, local : tuple of str
        Sites that interventions set, all sites that are set, and row-aligned latent sites with draws.
    n_past : int
        Number of rows of the fit that the kernel runs on before those of the tile, and whose results are left out.
    known_levels : tuple of tuple of (int, int)
        For each result the axes of levels, and how many of these are known. Results of new ones are left out.
    """

    traced: TracedKernel
    quantity: Quantity
    devices: tuple[Any, ...]
    draws_at_once: int
    shard_draws: bool
    alone: bool
    fused: bool
    on_host: bool
    encoder: Encoder | None
    interventions: tuple[str, ...]
    settings: tuple[str, ...]
    local: tuple[str, ...]
    n_past: int
    known_levels: tuple[tuple[tuple[int, int], ...], ...]

    @property
    def draws_per_device(self) -> int:
        """Draws that a device computes side by side."""
        return -(-self.draws_at_once // (len(self.devices) if self.shard_draws else 1))


class _Fixed(NamedTuple):
    """Arguments of a program that are the same for all of its steps."""

    hyperparameters: dict
    params: dict
    whole: dict
    settings: dict
    seed: Any
    past: dict


class _OfRows(NamedTuple):
    """Arguments of a program that belong to a step's rows: of the kernel, values of sites, draws of latent sites."""

    arguments: Any
    settings: Any
    local: Any


class Launcher:
    """Starts the computation of steps and does not wait for them.

    Parameters
    ----------
    job : Job
        A job that has draws of all global latent sites.
    quantity : Quantity
    plan : Plan
        A plan with as many shards as devices, or with one where draws are spread over devices.
    shard_draws : bool
        Whether to spread draws over devices, rather than rows.
    on_host : bool
        Whether to return the parameters of the output's distribution instead of its values.
    """

    def __init__(self, job: Job, quantity: Quantity, plan: Plan, *, shard_draws: bool = False, on_host: bool = False):
        posterior, settings = job.posterior, job.settings
        self.job, self.plan = job, plan
        devices = tuple(jax.local_devices())[: None if shard_draws else plan.shards]
        # The expectation of a row must not depend on the other rows. Where it needs random numbers the kernel therefore
        # runs on every row alone, with the same random numbers.
        by_row = quantity.shares_random_numbers and job.spec.least_rows == 1
        design = _Design(
            job.traced,
            quantity,
            devices,
            plan.draws_at_once,
            shard_draws,
            alone=by_row and not plan.whole and is_random(quantity, job),
            fused=runs_fused(job.traced, on_host, *job.described()),
            on_host=on_host,
            encoder=job.encoder,
            interventions=tuple(sorted(job.intervention)),
            settings=tuple(sorted(settings)),
            local=tuple(sorted(job.local)),
            n_past=job.past.n_rows if job.past else 0,
            known_levels=_known_levels(job, quantity),
        )
        self._program = _program(design)
        self._set_by_row = {name: value for name, value in settings.items() if job.spec[name].row_axis is not None}
        set_once = {name: value for name, value in settings.items() if name not in self._set_by_row}
        everywhere, for_draws = _placements(design)
        past = dict(job.past.rows) if job.past else {}
        fixed = _Fixed(
            posterior.hyperparameters, posterior.params, job.inputs.whole, set_once, np.uint32(job.seed), past
        )
        self._fixed = jax.device_put(fixed, everywhere)
        self._step_draws = -(-plan.step_draws // len(devices)) * len(devices) if shard_draws else plan.step_draws
        self._draws = (dict(posterior.draws), np.arange(posterior.n_draws, dtype=np.uint32))
        # Draws that every step uses stay on the device.
        self._all_draws = None if plan.whole else jax.device_put(self._cut_draws(slice(0, None)), for_draws)

    def __call__(self, step: Step) -> tuple:
        """Start a step."""
        return self._program(*self._arguments(step))

    def read_from(self, rows: Mapping[str, Any]) -> None:
        """Read row-aligned arguments from other arrays, which have the same contents."""
        self.job = self.job.with_rows(rows)

    def shapes(self) -> tuple:
        """Return shapes and types of a step's results."""
        return jax.eval_shape(self._program, *self._arguments(next(self.plan.steps(self.plan.batches()[0]))))

    def _arguments(self, step: Step) -> tuple:
        job, length = self.job, self.plan.tile_rows * self.plan.shards
        axes = {name: job.spec[name].row_axis or 0 for name in (*self._set_by_row, *job.local)}
        arguments = {name: cut(array, step.rows, length) for name, array in job.inputs.rows.items()}
        settings = {name: cut(array, step.rows, length, axes[name]) for name, array in self._set_by_row.items()}
        every = slice(0, step.rows.stop - step.rows.start)
        local = {
            name: cut(cut(draws, step.draws, self._step_draws), every, length, 1 + axes[name])
            for name, draws in job.local_in(step.rows).items()
        }
        draws = self._cut_draws(step.draws) if self._all_draws is None else self._all_draws
        n_draws = np.uint32(step.draws.stop - step.draws.start)
        return self._fixed, draws, n_draws, _OfRows(arguments, settings, local), step.tiles

    def _cut_draws(self, draws: slice) -> Any:
        return jax.tree.map(lambda array: cut(array, draws, self._step_draws), self._draws)


def _placements(design: _Design) -> tuple[Any, Any]:
    """Return where arrays go that every device needs, and where draws go."""
    if len(design.devices) == 1:
        return None, None
    mesh = Mesh(np.asarray(design.devices), (SHARD,))
    everywhere = NamedSharding(mesh, PartitionSpec())
    return everywhere, NamedSharding(mesh, PartitionSpec(SHARD)) if design.shard_draws else everywhere


@shared(maxsize=PROGRAMS_KEPT)
def _program(design: _Design) -> Callable:
    """Compile a step."""
    traced, quantity = design.traced, design.quantity

    def compute(fixed: _Fixed, drawn: tuple, n_draws: Any, of_rows: _OfRows, tiles: Any) -> tuple:
        draws, draw_numbers = drawn
        settings = {**fixed.settings, **of_rows.settings}
        interventions = {name: settings.pop(name) for name in design.interventions}
        purpose = (Purpose.EXPECTATION,) if quantity.shares_random_numbers else (Purpose.OUTCOME, tiles[0])

        def run(rows: dict, sites: dict, draw: Any) -> tuple:
            key = key_of(fixed.seed, *purpose, draw)
            run_key, own_key = jax.random.split(fused_key(key) if design.fused else key)

            def trace_on(rows: Mapping[str, Any], states: Mapping[str, Any]) -> dict:
                arguments = Arguments(fixed.hyperparameters, rows, fixed.whole)
                values = {**sites, **states, **fixed.params}
                if design.n_past:
                    return run_after(fixed.past, traced, arguments, values, (settings, interventions), run_key)
                values |= settings
                if design.encoder is not None:
                    encoder_key = jax.random.fold_in(key, ENCODER)
                    values |= design.encoder.draw(traced, arguments, values, encoder_key)
                return run_kernel(traced, arguments, values, run_key, interventions, without_outcome=design.on_host)

            known, set_by_user = sites.keys(), design.settings
            return quantity.of_draw(KernelRun(traced.spec, rows, own_key, trace_on, known, set_by_user, design.on_host))

        def run_alone(rows: dict, sites: dict, draw: Any) -> tuple:
            axes = {name: traced.spec[name].row_axis or 0 for name in design.local}

            def one_row(row: dict, own: dict) -> tuple:
                own = {name: jnp.expand_dims(value, axes[name]) for name, value in own.items()}
                return quantity.of_row(run(jax.tree.map(lambda a: a[None], row), {**sites, **own}, draw))

            of_rows = {name: sites[name] for name in axes}
            return jax.vmap(one_row, in_axes=(0, axes))(rows, of_rows)

        each = functools.partial(run_alone if design.alone else run, of_rows.arguments)
        results = _map_draws(each, {**draws, **of_rows.local}, draw_numbers, design.draws_per_device)
        results = quantity.of_step(results, n_draws, of_rows.arguments)
        if any(design.known_levels):
            results = tuple(map(_without_new_levels, results, design.known_levels))
        if design.n_past:
            n_rows = len(of_rows.arguments[traced.spec.input])
            results = without_past(results, quantity.row_axes(traced.spec), design.n_past, n_rows)
        return results

    return compiled(compute if len(design.devices) == 1 else _sharded(design, compute))


def _known_levels(job: Job, quantity: Quantity) -> tuple[tuple[tuple[int, int], ...], ...]:
    """Return for each result of a quantity the axes of levels and the number of those that are known."""
    if not isinstance(quantity, PerDraw):
        return ()
    before = 0 if quantity.draws_last else 1
    axes = (job.known_levels(name) for name in quantity.names)
    return tuple(tuple((before + axis, count) for axis, count in each.items()) for each in axes)


def _without_new_levels(result: Any, axes: tuple[tuple[int, int], ...]) -> Any:
    for axis, count in axes:
        result = jax.lax.slice_in_dim(result, 0, count, axis=axis)
    return result


def _sharded(design: _Design, compute: Callable) -> Callable:
    """Spread a step over devices: its tiles, or its draws."""
    everywhere, first = PartitionSpec(), PartitionSpec(SHARD)
    out: Any
    if design.shard_draws:
        tiles = everywhere
        drawn = out = first
        of_rows = _OfRows(everywhere, everywhere, first)
    else:
        spec = design.traced.spec
        tiles = first
        drawn = everywhere
        by_row = [(name, spec[name].row_axis) for name in design.settings]
        settings = {name: _on_axis(axis) for name, axis in by_row if axis is not None}
        local = {name: _on_axis(1 + (spec[name].row_axis or 0)) for name in design.local}
        of_rows = _OfRows(first, settings, local)
        out = tuple(everywhere if axis is None else _on_axis(axis) for axis in design.quantity.row_axes(spec))
    return jax.shard_map(
        compute,
        mesh=Mesh(np.asarray(design.devices), (SHARD,)),
        in_specs=(everywhere, drawn, everywhere, of_rows, tiles),
        out_specs=out,
        check_vma=False,
    )


def _on_axis(axis: int) -> PartitionSpec:
    return PartitionSpec(*(None,) * axis, SHARD)


def _map_draws(function: Callable, draws: dict, draw_numbers: Any, at_once: int) -> Any:
    """Call a function for every draw, with so many draws side by side."""
    side_by_side = jax.vmap(function)
    n_draws = len(draw_numbers)
    if at_once >= n_draws:
        return side_by_side(draws, draw_numbers)
    rounds = -(-n_draws // at_once)
    places = jnp.minimum(jnp.arange(rounds * at_once), n_draws - 1).reshape(rounds, at_once)
    results = jax.lax.map(lambda p: side_by_side(jax.tree.map(lambda a: a[p], draws), draw_numbers[p]), places)
    return jax.tree.map(lambda result: result.reshape(-1, *result.shape[2:])[:n_draws], results)


def with_global_latents(job: Job) -> Job:
    """Draw the latent sites without rows that have no draws yet, once for all tiles, given the sites that are set.

    Sites that have draws of some levels get those of the others.
    """
    spec, posterior = job.spec, job.posterior
    intervention, condition = dict(job.intervention), dict(job.condition)
    # Latent sites of past rows have no say in these.
    draws = {name: draw for name, draw in posterior.draws.items() if not (job.past and spec[name].follows_rows)}
    known = posterior.draws.keys() | intervention.keys() | condition.keys()
    grown = job.grown()
    missing = [site for site in spec.drawn if site.row_axis is None and (site.name not in known or site.name in grown)]
    if not missing:
        return job
    rows = job.inputs.rows
    if spec.rows_mix is None and not any(site.mixing for site in missing):
        # A value that is set by row affects no site without rows, unless rows mix.
        intervention, condition = (
            {name: value for name, value in settings.items() if spec[name].row_axis is None}
            for settings in (intervention, condition)
        )
        rows = {name: cut(array, slice(0, 1), spec.least_rows) for name, array in rows.items()}
    arguments = Arguments(
        posterior.hyperparameters, {name: np.asarray(array[:]) for name, array in rows.items()}, job.inputs.whole
    )
    numbered = (draws, np.arange(posterior.n_draws, dtype=np.uint32))
    program = _prior_program(job.traced, tuple(site.name for site in missing))
    drawn = program(arguments, numbered, posterior.params, np.uint32(job.seed), (intervention, condition), grown)
    drawn = {name: np.asarray(array) for name, array in drawn.items()}
    return replace(job, posterior=posterior._replace(draws={**posterior.draws, **drawn}))


@shared(maxsize=PROGRAMS_KEPT)
def _prior_program(traced: TracedKernel, names: tuple[str, ...]) -> Callable:
    """Compile draws of latent sites from their prior, given the draws and values of other sites."""

    @compiled
    def program(
        arguments: Arguments, numbered: tuple, params: dict, seed: Any, settings: tuple[dict, dict], labels: dict
    ) -> dict:
        intervention, condition = settings

        def one(sites: dict, draw: Any) -> dict:
            key = key_of(seed, Purpose.PRIOR_SITE, draw)
            beginnings = {name: Beginning(sites[name], labels[name]) for name in labels}
            trace = run_kernel(traced, arguments, {**params, **sites, **beginnings, **condition}, key, intervention)
            return {name: trace[name]["value"] for name in names}

        return jax.vmap(one)(*numbered)

    return program
