"""The posterior as a function on unconstrained space: all that an engine needs to know of a kernel and its data."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers
from numpyro.distributions import Unit, biject_to
from numpyro.infer.util import constrain_fn, potential_energy

from skaimz.inference.data import Data, RowBlocks, weighted_model
from skaimz.inference.devices import over_devices
from skaimz.inference.result import to_numpy
from skaimz.kernels import TracedKernel, improper_value
from skaimz.runtime import Purpose, compiled, generator_of, one_at_a_time, shared

__all__ = ["Position", "Start", "Target", "refuse_outside", "refuse_params", "start_of"]

PROGRAMS_KEPT = 24
PRIOR_DRAWS = 64
# Numbers that a block of positions holds at a time while their densities are computed.
BLOCK_NUMBERS = 2**22

# Unconstrained values of the latent sites, by name.
Position = dict[str, Any]


class Programs(NamedTuple):
    """Compiled functions of a posterior."""

    prior: Callable
    value_and_grad: Callable
    values: Callable
    constrain: Callable


@shared(maxsize=PROGRAMS_KEPT)
def _programs(traced: TracedKernel, n_padded: int) -> Programs:
    """Make the programs for one padded number of rows, so that the cache's bound is one on compiled code."""
    model = weighted_model(traced)
    latents = {site.name for site in traced.spec.latents}
    observed = {site.name for site in traced.spec.sites if site.kind in ("output", "observed", "companion")}

    def potential(position: Position, data: Data) -> Any:
        return potential_energy(model, data, {}, position)

    def constrained(position: Position, data: Data) -> dict[str, Any]:
        values = constrain_fn(model, data, {}, position)
        return {name: value for name, value in values.items() if name in latents}

    def visit(key: Any, data: Data) -> Mapping[str, Any]:
        with (
            handlers.trace() as trace,
            handlers.seed(rng_seed=key),
            handlers.substitute(substitute_fn=improper_value),
        ):
            model(*data)
        return trace

    def prior_position(trace: Mapping[str, Any]) -> Position:
        return {name: biject_to(trace[name]["fn"].support).inv(trace[name]["value"]) for name in latents}

    def inside(trace: Mapping[str, Any]) -> dict[str, Any]:
        """Tell of each observed value whether its distribution can give it."""
        found = {}
        for name, site in trace.items():
            if name in observed and site["is_observed"] and not isinstance(site["fn"], Unit):
                density = site["fn"].log_prob(site["value"])
                allowed = jnp.asarray(site["fn"].support(site["value"]))
                allowed = allowed.reshape(*allowed.shape[: density.ndim], -1).all(-1)
                found[name] = allowed & jnp.isfinite(density)
        return found

    @compiled
    @one_at_a_time
    def prior(words: Any, data: Data) -> tuple[Position, dict[str, Any]]:
        def draw(words: Any) -> tuple[Position, dict[str, Any]]:
            trace = visit(jax.random.wrap_key_data(words), data)
            return prior_position(trace), inside(trace)

        # One after the other, since a program that draws them side by side takes twice as long to compile.
        positions, allowed = jax.lax.map(draw, words)
        return positions, {name: found.any(axis=0) for name, found in allowed.items()}

    return Programs(
        prior,
        compiled(one_at_a_time(jax.value_and_grad(potential))),
        compiled(one_at_a_time(jax.vmap(potential, (0, None)))),
        compiled(one_at_a_time(jax.vmap(constrained, (0, None)))),
    )


class Target:
    """A posterior on unconstrained space, for positions that are flat arrays on the host.

    Parameters
    ----------
    traced : TracedKernel
    blocks : list of Data or RowBlocks
        Padded rows and their weights, on the device: all of them, or equal parts one after the other. Those that are
        not held are read again at each evaluation.
    shapes : dict of str to tuple
        Unconstrained shape of each latent site.
    """

    def __init__(self, traced: TracedKernel, blocks: list[Data] | RowBlocks, shapes: Mapping[str, tuple[int, ...]]):
        self.shapes = dict(sorted(shapes.items()))  # the order in which JAX flattens a dictionary
        self.traced = traced
        self.blocks = blocks
        self.first = next(iter(blocks))
        self.rows_of_block = len(self.first.rows[traced.spec.input])
        self.evaluations = 0
        self._programs = _programs(traced, self.rows_of_block)

    @property
    def n_rows(self) -> int:
        """Number of rows, padding included."""
        return self.rows_of_block * len(self.blocks)

    @property
    def size(self) -> int:
        """Number of unconstrained coordinates."""
        return sum(int(np.prod(shape)) for shape in self.shapes.values())

    def unpack(self, flat: np.ndarray) -> Position:
        """Cut flat positions ``(..., size)`` into sites."""
        position, start = {}, 0
        for name, shape in self.shapes.items():
            stop = start + int(np.prod(shape))
            position[name] = flat[..., start:stop].reshape((*flat.shape[:-1], *shape))
            start = stop
        return position

    def pack(self, position: Position) -> np.ndarray:
        """Join the sites of positions, which may have a leading axis."""
        lead = {np.ndim(position[name]) - len(shape) for name, shape in self.shapes.items()}.pop()
        parts = [np.asarray(position[name], np.float64) for name in self.shapes]
        return np.concatenate([part.reshape((*part.shape[:lead], -1)) for part in parts], axis=-1)

    def value_and_gradient(self, flat: np.ndarray) -> tuple[float, np.ndarray]:
        """Return minus the log density at a position, up to a constant, and its gradient."""
        self.evaluations += 1
        value, gradient = self._sum(self._programs.value_and_grad, self.unpack(flat))
        return float(value), self.pack(gradient)

    def log_densities(self, flat: np.ndarray) -> np.ndarray:
        """Return the log densities of positions ``(n, size)``, up to a constant."""
        width = self.rows_of_block * max(1, self.traced.spec.width)
        together = max(1, min(64, BLOCK_NUMBERS // width))
        self.evaluations += len(flat)
        # All positions pass over a block of rows together, so that it is read once.
        missing = -len(flat) % together
        filled = np.concatenate([flat, np.repeat(flat[:1], missing, axis=0)])
        positions = [self.unpack(part) for part in np.split(filled, len(filled) // together)]

        def values(positions: list[Position], data: Data) -> np.ndarray:
            return np.concatenate([np.asarray(self._programs.values(each, data)) for each in positions])

        return -self._sum(values, positions)[: len(flat)].astype(np.float64)

    def _sum(self, function: Callable[[Any, Data], Any], position: Any) -> Any:
        """Add what a function gives for each block of rows; the prior, which each has in it, counts once."""
        total, number = None, 0
        for data in self.blocks:
            found = function(position, data)
            total = found if total is None else jax.tree.map(np.add, total, jax.device_get(found))
            number += 1
        if number == 1:
            return total
        prior = function(position, self.first._replace(weight=np.zeros_like(self.first.weight)))
        return jax.tree.map(lambda sum_, one: sum_ - (number - 1) * np.asarray(one), total, prior)

    def constrain(self, flat: np.ndarray) -> dict[str, np.ndarray]:
        """Return values of the latent sites at positions ``(n, size)``."""
        return to_numpy(self._programs.constrain(self.unpack(flat), self.first))


class Start(NamedTuple):
    """Where a search begins, and in what units it steps.

    Attributes
    ----------
    target : Target
    middle : array of shape (size,)
        Median of the prior, or, where the posterior has no density there, a draw of the prior where it has.
    scale : array of shape (size,)
        Spread of the prior: its standard deviation where it is normal.
    others : array of shape (n, size)
        Draws from the prior, to begin elsewhere.
    """

    target: Target
    middle: np.ndarray
    scale: np.ndarray
    others: np.ndarray


def start_of(traced: TracedKernel, data: Data, seed: int, places: np.ndarray | None = None) -> Start:
    """Look at the prior, and find a position where the posterior has a density.

    Parameters
    ----------
    traced : TracedKernel
    data : Data
        Padded rows and their weights.
    seed : int
    places : array, optional
        Where each of the user's rows is found among those of the data, so that an error may name them.

    Returns
    -------
    Start

    Raises
    ------
    ValueError
        If some outcomes lie outside the support of their distribution, whatever the latent sites are, or the posterior
        has no density at any draw from the prior.
    """
    data = over_devices(data)
    positions, inside = _prior_draws(traced, data, seed)
    _refuse_outside(traced, data, inside, places)
    target = Target(traced, [data], {name: value.shape[1:] for name, value in positions.items()})
    draws = target.pack(positions)
    middle = np.median(draws, axis=0)
    # For a normal prior the median distance from the median is this share of a standard deviation.
    scale = np.median(np.abs(draws - middle), axis=0) / 0.6744897501960817
    scale = np.where((scale > 0) & np.isfinite(scale), scale, 1.0)
    middle = np.where(np.isfinite(middle), middle, 0.0)
    for start in (middle, *draws):
        value, gradient = target.value_and_gradient(start)
        if np.isfinite(value) and np.isfinite(gradient).all():
            return Start(target, start, scale, draws)
    raise ValueError(_no_density(target, draws))


def refuse_outside(
    traced: TracedKernel, blocks: list[Data] | RowBlocks, seed: int, places: np.ndarray | None = None
) -> None:
    """Raise ValueError where outcomes lie outside the support of their distribution, naming their rows.

    Parameters
    ----------
    traced : TracedKernel
        Of a kernel with continuous latent sites.
    blocks : list of Data or RowBlocks
        Padded rows, block by block.
    seed : int
    places : array, optional
        Where each of the user's rows is found among those of the only block; where they are in order where None.
    """
    if any(not np.issubdtype(site.dtype, np.floating) for site in traced.spec.latents):
        return
    with jax.enable_x64(True):
        start = 0
        for data in blocks:
            size = len(data.rows[traced.spec.input])
            found = np.arange(-start, size) if places is None else places
            _refuse_outside(traced, data, _prior_draws(traced, data, seed)[1], found)
            start += size


def _prior_draws(traced: TracedKernel, data: Data, seed: int) -> tuple[Position, dict[str, np.ndarray]]:
    """Return draws from the prior on a leading axis, and which observed values have a density at any of them."""
    programs = _programs(traced, len(data.rows[traced.spec.input]))
    words = generator_of(seed, Purpose.PRIOR_POSITION).integers(2**32, size=(PRIOR_DRAWS, 2), dtype=np.uint32)
    return jax.device_get(programs.prior(words, data))


def _refuse_outside(
    traced: TracedKernel, data: Data, inside: Mapping[str, np.ndarray], places: np.ndarray | None
) -> None:
    for name, allowed in inside.items():
        site = next((site for site in traced.spec.sites if site.name == name), None)
        if allowed.all():
            continue
        where = "an observed value lies"
        if site is not None and site.rows_are_batched:
            by_row = np.moveaxis(allowed, site.row_axis or 0, 0).reshape(allowed.shape[site.row_axis or 0], -1).all(1)
            if data.weight is not None:
                by_row = by_row | (np.asarray(data.weight) == 0)
            rows = np.flatnonzero(~by_row)
            if not len(rows):
                continue
            named = ""
            if places is not None:
                rows = np.flatnonzero(np.isin(places, rows))
                named = ", " + ", ".join(map(str, rows[:10])) + (", ...," if len(rows) > 10 else ",")
            where = f"the values in {len(rows)} row(s){named} lie"
        raise ValueError(
            f"Site {name!r}: {where} outside the support of its distribution, or have no density, for all values of "
            "the latent sites that were drawn from the prior. Correct these rows, or change the distribution in the "
            "kernel."
        )


def _no_density(target: Target, draws: np.ndarray) -> str:
    value, gradient = target.value_and_gradient(draws[0])
    steep = [name for name, part in target.unpack(gradient).items() if not np.isfinite(part).all()]
    return (
        f"The posterior has no finite density at the prior's median, nor at any of {len(draws)} draws from the prior: "
        f"at the first the log density is {-value:.4g}"
        + (f", and its gradient is not finite for {steep}" if steep else "")
        + ". Check the kernel for logarithms and roots of negative numbers, and its priors for values that the "
        "likelihood does not allow."
    )


def refuse_params(traced: TracedKernel, method: str) -> None:
    """Refuse kernels with ``numpyro.param``, which only variational inference learns."""
    params = [site.name for site in traced.spec.sites if site.kind == "param"]
    if params:
        raise ValueError(
            f"{method} does not learn {params}: `numpyro.param` would stay at its first value. Give it a prior by "
            "`numpyro.sample`, or fit by SVI."
        )
