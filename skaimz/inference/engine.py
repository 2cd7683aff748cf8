"""Fits by engines that follow the protocol of samplers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from skaimz.inference.data import Data
from skaimz.inference.diagnostics import check_chains, warn_of_chains
from skaimz.inference.explore import explore
from skaimz.inference.problem import Problem
from skaimz.inference.protocol import Draws, Posterior, Run, Sampler, log_density_of
from skaimz.inference.result import FitResult
from skaimz.inference.target import Target, refuse_params
from skaimz.kernels import TracedKernel

__all__ = ["continue_by_protocol", "fit_by_protocol"]


def fit_by_protocol(problem: Problem, sampler: Sampler) -> FitResult:
    """Let a sampler draw from the posterior in units of its spread, and check the chains.

    Parameters
    ----------
    problem : Problem
        Padded rows with their weights.
    sampler : Sampler

    Returns
    -------
    FitResult
    """
    traced, name = problem.traced, type(sampler).__name__
    if not traced.spec.latents:
        raise ValueError(f"{name} needs a kernel with at least one latent site, and this one has none.")
    refuse_params(traced, name)
    exploration = explore(problem)
    units, target = exploration.units(dense=True), exploration.start.target
    problem = problem.in_units(units)

    def begin(chain: int) -> np.ndarray:
        return target.pack(exploration.begin(units, problem.seed, chain)).astype(problem.dtype)

    posterior = Posterior(log_density_of(traced), jax.device_put(problem.data), target.size, begin)
    draws = _checked(sampler, sampler.sample(posterior, Run(problem.seed, problem.watch)), posterior.size)
    result = FitResult(
        method="independent" if draws.independent else "mcmc",
        draws=_constrained(traced, problem.data, draws.positions),
        sample_stats={key: np.asarray(value) for key, value in draws.statistics.items()},
        state=draws.state,
        data=problem.data._asdict(),
        n_rows=problem.n_rows,
        num_samples=draws.positions.shape[1],
    )
    if draws.independent:
        return result
    diagnostics = check_chains(result.draws, result.sample_stats.get("diverging"))
    warn_of_chains(diagnostics)
    return dataclasses.replace(result, diagnostics=diagnostics)


def continue_by_protocol(
    problem: Problem, sampler: Sampler, result: FitResult, num_samples: int
) -> dict[str, np.ndarray]:
    """Let a sampler go on from the state that it returned."""
    traced, data = problem.traced, problem.data
    assert data.units is not None
    size = ravel_pytree(dict(data.units.middle))[0].size
    posterior = Posterior(log_density_of(traced), jax.device_put(data), size, lambda chain: np.zeros(size))
    run = Run(problem.seed, problem.watch, result.state, num_samples)
    draws = _checked(sampler, sampler.sample(posterior, run), size)
    return _constrained(traced, data, draws.positions[:, :num_samples])


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


def _checked(sampler: Sampler, draws: Draws, size: int) -> Draws:
    """Refuse anything but draws of the posterior's coordinates."""
    name = type(sampler).__name__
    if not isinstance(draws, Draws):
        raise TypeError(f"{name}.sample must return skaimz.inference.Draws, got {type(draws).__name__}.")
    positions = np.asarray(draws.positions)
    if positions.ndim != 3 or positions.shape[2] != size or 0 in positions.shape:
        raise ValueError(
            f"{name}.sample must return positions of shape (n_chains, n_draws, {size}), got {positions.shape}."
        )
    for key, value in draws.statistics.items():
        if np.shape(value)[:2] != positions.shape[:2]:
            raise ValueError(
                f"{name}.sample must return statistics of shape {positions.shape[:2]}, but {key!r} has the shape "
                f"{np.shape(value)}."
            )
    state = tuple(np.asarray(array) for array in draws.state)
    return dataclasses.replace(draws, positions=positions, state=state)
