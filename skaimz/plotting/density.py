"""Estimates of the densities of draws, and their curves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import gaussian_kde

if TYPE_CHECKING:
    from skaimz.plotting.types import Axes

__all__ = ["ANYWHERE", "bounds_of", "density", "draw_density", "widened"]

ANYWHERE = (-np.inf, np.inf)
# Bounds of the values of a site, by the name of its support in `KernelSpec`.
BOUNDS = {"positive": (0.0, np.inf), "nonnegative": (0.0, np.inf), "unit_interval": (0.0, 1.0)}


def bounds_of(support: str | None) -> tuple[float, float]:
    """Return the smallest and the largest value of a site, given the name of its support."""
    return BOUNDS.get(support or "", ANYWHERE)


def density(draws: np.ndarray, grid: np.ndarray, bounds: tuple[float, float] = ANYWHERE) -> np.ndarray:
    """Estimate the density of draws by Gaussian kernels.

    The bandwidth is that of Silverman for draws that may have heavy tails (B. W. Silverman, 1986, Density estimation
    for statistics and data analysis, equation 3.31). Kernels that extend beyond a bound are reflected at it (section
    2.10), so that, for example, the density of positive draws is zero below zero and does not fall near zero.
    """
    draws = np.asarray(draws, np.float64)
    deviation = draws.std(ddof=1)
    upper, lower = np.quantile(draws, [0.75, 0.25])
    spread = min(deviation, (upper - lower) / 1.34) or deviation
    kernels = gaussian_kde(draws, bw_method=0.9 * spread * len(draws) ** -0.2 / deviation)
    heights = kernels(grid)
    for bound in bounds:
        if np.isfinite(bound):
            heights = heights + kernels(2 * bound - grid)
    return np.where((grid >= bounds[0]) & (grid <= bounds[1]), heights, 0.0)


def draw_density(
    ax: Axes, draws: np.ndarray, grid: np.ndarray, bounds: tuple[float, float] = ANYWHERE, **style: Any
) -> np.ndarray | None:
    """Plot the density of draws and return it. If all draws are equal, plot a vertical line and return None."""
    if np.ptp(draws) == 0:
        ax.axvline(draws[0], **style)
        return None
    heights = density(draws, grid, bounds)
    ax.plot(grid, heights, **style)
    return heights


def widened(low: float, high: float) -> tuple[float, float]:
    """Return the limits of an axis for the density of values between ``low`` and ``high``, with a margin."""
    margin = 0.1 * (high - low) or 0.5
    return low - margin, high + margin
