"""Fits by anything that follows the protocol of samplers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from skaimz.inference.chunks import Watch
from skaimz.inference.data import Data, refuse_discrete
from skaimz.inference.diagnostics import check_chains, warn_of_chains
from skaimz.inference.explore import explore
from skaimz.inference.protocol import Draws, Posterior, Run, Sampler, log_density_of
from skaimz.inference.result import FitResult
from skaimz.inference.target import Target, refuse_params
from skaimz.kernels import TracedKernel

__all__ = ["continue_by_protocol", "fit_by_protocol"]


def fit_by_protocol(
    traced: TracedKernel,
    data: Data,
    n_rows: int,
    sampler: Sampler,
    seed: int,
    watch: Watch,
    places: np.ndarray | None = None,
) -> FitResult:
    """Let a sampler draw from the posterior in units of its own spread, and check its chains.

    Parameters
    ----------
    traced : TracedKernel
    data : Data
        Padded rows with their weights.
    n_rows : int
        Number of rows before padding.
    sampler : Sampler
    seed : int
    watch : Watch
    places : array, optional
        Where each of the user's rows is found among those of the data, so that an error may name them.

    Returns
    -------
    FitResult
    """
    name = type(sampler).__name__
    if not traced.spec.latents:
        raise ValueError(f"{name} needs a kernel with at least one latent site, and this one has none.")
    refuse_discrete(traced.spec, name)
    refuse_params(traced, name)
    exploration = explore(traced, data, seed, places)
    units = exploration.units(dense=True)
    dtype = data.rows[traced.spec.input].dtype
    data = data._replace(units=jax.tree.map(lambda array: np.asarray(array, dtype), units))

    def begin(chain: int) -> np.ndarray:
        return exploration.start.target.pack(exploration.begin(units, seed, chain)).astype(dtype)

    placed = jax.device_put(data)
    posterior = Posterior(log_density_of(traced), placed, exploration.start.target.size, begin)
    found = _checked(sampler, sampler.sample(posterior, Run(seed, watch)), posterior.size)
    draws = _constrained(traced, data, found.positions)
    statistics = {key: np.asarray(value) for key, value in found.statistics.items()}
    result = FitResult(
        method="independent" if found.independent else "mcmc",
        draws=draws,
        sample_stats=statistics,
        state=found.state,
        data=data._asdict(),
        n_rows=n_rows,
        num_samples=found.positions.shape[1],
    )
    if found.independent:
        return result
    diagnostics = check_chains(draws, statistics.get("diverging"))
    warn_of_chains(diagnostics)
    return dataclasses.replace(result, diagnostics=diagnostics)


def continue_by_protocol(
    traced: TracedKernel,
    data: Data,
    result: FitResult,
    sampler: Sampler,
    seed: int,
    num_samples: int,
    watch: Watch,
) -> dict[str, np.ndarray]:
    """Let a sampler go on from the state that it returned."""
    assert data.units is not None
    size = ravel_pytree(dict(data.units.middle))[0].size
    posterior = Posterior(log_density_of(traced), jax.device_put(data), size, lambda chain: np.zeros(size))
    found = _checked(sampler, sampler.sample(posterior, Run(seed, watch, result.state, num_samples)), size)
    return _constrained(traced, data, found.positions[:, :num_samples])


def _constrained(traced: TracedKernel, data: Data, positions: np.ndarray) -> dict[str, np.ndarray]:
    """Return values ``(n_chains, n_draws, ...)`` of the latent sites."""
    assert data.units is not None
    shapes = {name: np.shape(middle) for name, middle in data.units.middle.items()}
    target = Target(traced, [jax.device_put(data._replace(units=None))], shapes)
    n_chains, n_draws, size = positions.shape
    root = np.asarray(data.units.root, np.float64)
    v = np.asarray(positions, np.float64).reshape(-1, size)
    middle = target.pack(data.units.middle)
    flat = middle + (v * root if root.ndim == 1 else v @ root.T)
    dtype = jnp.result_type(float)
    sites = target.constrain(flat.astype(dtype))
    return {name: draw.reshape(n_chains, n_draws, *draw.shape[1:]) for name, draw in sites.items()}


def _checked(sampler: Sampler, found: Draws, size: int) -> Draws:
    """Refuse what is not draws of the posterior's coordinates."""
    name = type(sampler).__name__
    if not isinstance(found, Draws):
        raise TypeError(f"{name}.sample must return skaimz.inference.Draws, got {type(found).__name__}.")
    positions = np.asarray(found.positions)
    if positions.ndim != 3 or positions.shape[2] != size or 0 in positions.shape:
        raise ValueError(
            f"{name}.sample must return positions of shape (n_chains, n_draws, {size}), got {positions.shape}."
        )
    for key, value in found.statistics.items():
        if np.shape(value)[:2] != positions.shape[:2]:
            raise ValueError(
                f"{name}.sample must return statistics of shape {positions.shape[:2]}, but {key!r} has the shape "
                f"{np.shape(value)}."
            )
    state = tuple(np.asarray(array) for array in found.state)
    return dataclasses.replace(found, positions=positions, state=state)
