"""The posterior on unconstrained space, as a function of flat positions on the host."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers
from numpyro.distributions import Unit, biject_to
from numpyro.infer.util import constrain_fn, potential_energy

from skaimz.inference.data import Data, RowBlocks, steady, weighted_model
from skaimz.inference.result import to_numpy
from skaimz.kernels import TracedKernel, improper_value, masks_of
from skaimz.runtime import compiled, one_at_a_time, shared

__all__ = ["Position", "Programs", "Target", "programs_of", "refuse_params"]

PROGRAMS_KEPT = 24
# Numbers in memory while the densities of several positions are computed together.
BLOCK_NUMBERS = 2**22

# Unconstrained values of the latent sites, by name.
Position = dict[str, Any]


class Programs(NamedTuple):
    """Compiled functions of a posterior."""

    prior: Callable
    value_and_grad: Callable
    values: Callable
    constrain: Callable
    unconstrain: Callable


@shared(maxsize=PROGRAMS_KEPT)
def _programs(traced: TracedKernel, n_padded: int) -> Programs:
    """Make the programs for one padded number of rows, so that a bound on the cache is a bound on compiled code."""
    model = weighted_model(traced)
    latents = {site.name for site in traced.spec.latents}
    observed = {site.name for site in traced.spec.every_site if site.kind in ("output", "observed", "companion")}

    def potential(position: Position, data: Data) -> Any:
        return steady(lambda position: potential_energy(model, data, {}, position), position, data.weight)

    def constrained(position: Position, data: Data) -> dict[str, Any]:
        values = constrain_fn(model, data, {}, position)
        return {name: value for name, value in values.items() if name in latents}

    def visit(key: Any, data: Data, values: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        with (
            handlers.trace() as trace,
            handlers.seed(rng_seed=key),
            handlers.substitute(substitute_fn=improper_value),
            handlers.substitute(data=values or {}),
        ):
            model(*data)
        return trace

    def position_of(trace: Mapping[str, Any]) -> Position:
        return {name: biject_to(trace[name]["fn"].support).inv(trace[name]["value"]) for name in latents}

    def unconstrained(values: Mapping[str, Any], data: Data) -> Position:
        return position_of(visit(jax.random.key(0), data, values))

    def inside(trace: Mapping[str, Any]) -> dict[str, Any]:
        """Return whether each observed value is in the support of its distribution, and has a density."""
        allowed_by_name = {}
        for name, site in trace.items():
            if name in observed and site["is_observed"] and not isinstance(site["fn"], Unit):
                density = site["fn"].log_prob(site["value"])
                allowed = jnp.asarray(site["fn"].support(site["value"]))
                allowed = allowed.reshape(*allowed.shape[: density.ndim], -1).all(-1)
                allowed = allowed & jnp.isfinite(density)
                for mask in masks_of(site["fn"]):
                    # A value counts if any of its entries does.
                    inner = range(density.ndim, jnp.ndim(mask))
                    allowed = allowed | ~jnp.asarray(mask).any(axis=tuple(inner))
                allowed_by_name[name] = allowed
        return allowed_by_name

    @compiled
    @one_at_a_time
    def prior(words: Any, data: Data) -> tuple[Position, dict[str, Any]]:
        def draw(words: Any) -> tuple[Position, dict[str, Any]]:
            trace = visit(jax.random.wrap_key_data(words), data)
            return position_of(trace), inside(trace)

        # One draw after the other: a vectorised program takes twice as long to compile.
        positions, allowed = jax.lax.map(draw, words)
        return positions, {name: values.any(axis=0) for name, values in allowed.items()}

    return Programs(
        prior,
        compiled(one_at_a_time(jax.value_and_grad(potential))),
        compiled(one_at_a_time(jax.vmap(potential, (0, None)))),
        compiled(one_at_a_time(jax.vmap(constrained, (0, None)))),
        compiled(one_at_a_time(jax.vmap(unconstrained, (0, None)))),
    )


def programs_of(traced: TracedKernel, data: Data) -> Programs:
    """Return the programs for the number of rows of some data."""
    return _programs(traced, len(data.rows[traced.spec.input]))


class Target:
    """A posterior on unconstrained space, for positions that are flat arrays on the host.

    Parameters
    ----------
    traced : TracedKernel
    blocks : list of Data or RowBlocks
        Padded rows and their weights: one block of all rows, or several of equal length. Blocks that are not in memory
        are read again at each evaluation.
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
        self._programs = programs_of(traced, self.first)

    @property
    def n_rows(self) -> int:
        """Number of rows, padding included."""
        return self.rows_of_block * len(self.blocks)

    @property
    def size(self) -> int:
        """Number of unconstrained coordinates."""
        return sum(int(np.prod(shape)) for shape in self.shapes.values())

    def unpack(self, flat: np.ndarray) -> Position:
        """Split flat positions ``(..., size)`` into sites."""
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
        """Add up a function over the blocks of rows. Each value includes the prior, which is to count once."""
        total, number = None, 0
        for data in self.blocks:
            value = function(position, data)
            total = value if total is None else jax.tree.map(np.add, total, jax.device_get(value))
            number += 1
        if number == 1:
            return total
        prior = function(position, self.first._replace(weight=np.zeros_like(self.first.weight)))
        return jax.tree.map(lambda sum_, one: sum_ - (number - 1) * np.asarray(one), total, prior)

    def constrain(self, flat: np.ndarray) -> dict[str, np.ndarray]:
        """Return values of the latent sites at positions ``(n, size)``."""
        return to_numpy(self._programs.constrain(self.unpack(flat), self.first))

    def unconstrain(self, draws: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the positions ``(n, size)`` of draws of the latent sites."""
        return self.pack(jax.device_get(self._programs.unconstrain(dict(draws), self.first)))


def refuse_params(traced: TracedKernel, method: str) -> None:
    """Refuse kernels with parameters or states of layers, which only variational inference learns."""
    sites = traced.spec.every_site
    params = dict.fromkeys(site.statement for site in sites if site.kind == "param")
    states = dict.fromkeys(site.statement for site in sites if site.kind == "mutable")
    if params:
        raise ValueError(
            f"{method} does not learn {list(params)}: `numpyro.param` would stay at its first value. Give it a prior "
            "by `numpyro.sample`, or fit by SVI."
        )
    if states:
        raise ValueError(
            f"{method} does not keep the state of layers {list(states)}, with which predictions would be made. Use "
            "layers without state, or fit by SVI."
        )
