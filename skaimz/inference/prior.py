"""Draws from the prior: where to begin a search, its units, and outcomes that no latent site allows."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np

from skaimz.inference.data import Data, RowBlocks, in_double
from skaimz.inference.devices import over_devices
from skaimz.inference.problem import Problem
from skaimz.inference.target import Position, Target, programs_of
from skaimz.kernels import TracedKernel
from skaimz.runtime import Purpose, generator_of

__all__ = ["Start", "refuse_outside", "start_of"]

PRIOR_DRAWS = 64


class Start(NamedTuple):
    """Where a search begins, and its units.

    Attributes
    ----------
    target : Target
    middle : array of shape (size,)
        Median of the prior, or a draw from it if the posterior has no density at the median.
    scale : array of shape (size,)
        Spread of the prior: its standard deviation if it is normal.
    others : array of shape (n, size)
        Draws from the prior, from which other searches begin.
    """

    target: Target
    middle: np.ndarray
    scale: np.ndarray
    others: np.ndarray


def start_of(problem: Problem) -> Start:
    """Draw from the prior in double precision, and find a position where the posterior has a density.

    Parameters
    ----------
    problem : Problem
        Padded rows and their weights.

    Returns
    -------
    Start

    Raises
    ------
    ValueError
        If outcomes lie outside the support of their distribution, or the posterior has no density at any draw from the
        prior.
    """
    traced, data = problem.traced, over_devices(in_double(problem.data))
    positions, inside = _prior_draws(traced, data, problem.seed)
    _refuse_outside(traced, data, inside, problem.places)
    target = Target(traced, [data], {name: value.shape[1:] for name, value in positions.items()})
    draws = target.pack(positions)
    middle = np.median(draws, axis=0)
    # The median distance from the median of a normal distribution is this share of its standard deviation.
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
    """Refuse outcomes outside the support of their distribution, and name their rows.

    Parameters
    ----------
    traced : TracedKernel
    blocks : list of Data or RowBlocks
        Padded rows, block by block.
    seed : int
    places : array, optional
        Where each of the user's rows is among those of the only block; None if the rows of the blocks are in order.
    """
    if any(not np.issubdtype(site.dtype, np.floating) for site in traced.spec.latents):
        return
    with jax.enable_x64(True):
        start = 0
        for data in blocks:
            size = len(data.rows[traced.spec.input])
            places_of_block = np.arange(-start, size) if places is None else places
            _refuse_outside(traced, data, _prior_draws(traced, data, seed)[1], places_of_block)
            start += size


def _prior_draws(traced: TracedKernel, data: Data, seed: int) -> tuple[Position, dict[str, np.ndarray]]:
    """Return draws from the prior on a leading axis, and which observed values have a density at any of them."""
    words = generator_of(seed, Purpose.PRIOR_POSITION).integers(2**32, size=(PRIOR_DRAWS, 2), dtype=np.uint32)
    return jax.device_get(programs_of(traced, data).prior(words, data))


def _refuse_outside(
    traced: TracedKernel, data: Data, inside: Mapping[str, np.ndarray], places: np.ndarray | None
) -> None:
    for name, allowed in inside.items():
        site = next((site for site in reversed(traced.spec.every_site) if site.name == name), None)
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
            numbers = ""
            if places is not None:
                rows = np.flatnonzero(np.isin(places, rows))
                numbers = ", " + ", ".join(map(str, rows[:10])) + (", ...," if len(rows) > 10 else ",")
            where = f"the values in {len(rows)} row(s){numbers} lie"
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
