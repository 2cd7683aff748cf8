"""Densities of draws, drawn or computed."""

from typing import Any

import numpy as np
from scipy.stats import gaussian_kde

__all__ = ["ANYWHERE", "bounds_of", "density", "draw_density", "widened"]

ANYWHERE = (-np.inf, np.inf)
# By the names that `KernelSpec` has for supports.
BOUNDS = {"positive": (0.0, np.inf), "nonnegative": (0.0, np.inf), "unit_interval": (0.0, 1.0)}


def bounds_of(support: str | None) -> tuple[float, float]:
    """Return the ends of a site's support."""
    return BOUNDS.get(support or "", ANYWHERE)


def density(draws: np.ndarray, grid: np.ndarray, bounds: tuple[float, float] = ANYWHERE) -> np.ndarray:
    """Estimate the density of draws by Gaussian kernels.

    Their width is Silverman's for draws that may have heavy tails (B. W. Silverman, 1986, Density estimation for
    statistics and data analysis, equation 3.31). Kernels that reach beyond a bound are folded back at it (section
    2.10), so that the density of positive draws neither falls towards zero nor goes below it.
    """
    draws = np.asarray(draws, np.float64)
    deviation = draws.std(ddof=1)
    upper, lower = np.quantile(draws, [0.75, 0.25])
    spread = min(deviation, (upper - lower) / 1.34) or deviation
    kernels = gaussian_kde(draws, bw_method=0.9 * spread * len(draws) ** -0.2 / deviation)
    found = kernels(grid)
    for bound in bounds:
        if np.isfinite(bound):
            found = found + kernels(2 * bound - grid)
    return np.where((grid >= bounds[0]) & (grid <= bounds[1]), found, 0.0)


def draw_density(
    ax: Any, draws: np.ndarray, grid: np.ndarray, bounds: tuple[float, float] = ANYWHERE, **style: Any
) -> np.ndarray | None:
    """Draw the density of draws and return it; a vertical line and None where they are all the same."""
    if np.ptp(draws) == 0:
        ax.axvline(draws[0], **style)
        return None
    heights = density(draws, grid, bounds)
    ax.plot(grid, heights, **style)
    return heights


def widened(low: float, high: float) -> tuple[float, float]:
    """Return ends of an axis at which the density of what lies between has fallen."""
    margin = 0.1 * (high - low) or 0.5
    return low - margin, high + margin
