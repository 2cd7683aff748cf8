"""Colours, axes and legends of all plots.

A display with one panel accepts one axes. A display with several panels accepts one axes, which it divides, or an array
with an axes for each panel, like ``PartialDependenceDisplay`` of scikit-learn. Without axes, a display creates a
figure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from skaimz.plotting.types import Axes, AxesLike

__all__ = ["COLOURS", "MOST_PANELS", "OBSERVED", "legend_above", "legend_of_panels", "new_axes", "new_panels", "tint"]

# M. Okabe and K. Ito (2008), Color universal design: people with any kind of colour vision can distinguish them.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# Observations are black in every plot, and predictions have the first colour.
OBSERVED = COLOURS[-1]
# Plots with more panels would not be legible.
MOST_PANELS = 12


def new_axes(ax: Axes | None, *, width: float = 6.4, height: float = 4.0) -> Axes:
    """Return the axes to draw on: ``ax``, or the axes of a new figure if it is None.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError
        If ``ax`` is not a single axes.
    """
    if ax is None:
        ax = _new_figure(width, height).add_subplot()
    elif not hasattr(ax, "spines"):
        raise TypeError(f"`ax` must be one matplotlib Axes, got {type(ax).__name__}.")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    return ax


def new_panels(ax: AxesLike | None, count: int) -> np.ndarray:
    """Return an array of ``count`` axes: those in ``ax``, parts of a single axes, or those of a new figure.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If ``ax`` has another number of axes, or is a single axes that cannot be divided.
    """
    if isinstance(ax, Sequence | np.ndarray):
        several = np.asarray(ax, dtype=object).ravel()
        if len(several) != count:
            raise ValueError(f"`ax` holds {len(several)} axes, but the picture has {count} panels.")
        return np.array([new_axes(panel) for panel in several])
    if count == 1:
        return np.array([new_axes(ax)])
    columns = min(math.ceil(math.sqrt(count)), 3)
    rows = math.ceil(count / columns)
    if ax is None:
        figure = _new_figure(3.2 * columns, 2.4 * rows)
        grid = figure.add_gridspec(rows, columns)
    else:
        figure, cell = ax.figure, ax.get_subplotspec()
        if cell is None:
            raise ValueError(f"`ax` is not part of a grid, and cannot be divided: give an array of {count} axes.")
        ax.set_axis_off()
        grid = cell.subgridspec(rows, columns)
    panels = [new_axes(figure.add_subplot(grid[i])) for i in range(count)]
    for panel in panels:
        # More tick labels would overlap.
        panel.locator_params(nbins=5)
    return np.array(panels)


def legend_of_panels(axes: np.ndarray) -> None:
    """Add one legend for all panels, above the first panel and not wider than it."""
    legend_above(axes[0], columns=5 if len(axes) == 1 else 2)


def legend_above(ax: Axes, *, columns: int = 5) -> None:
    """Add a legend above the axes, where it hides nothing."""
    legend = ax.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=columns,
        frameon=False,
        borderaxespad=0.2,
        borderpad=0.2,
        handlelength=1.5,
        columnspacing=1.2,
    )
    for line in legend.get_lines():
        line.set_linewidth(max(1.5, line.get_linewidth()))


def tint(colour: str, strength: float) -> tuple[float, ...]:
    """Return a colour mixed with white. A strength of 1 gives the colour itself."""
    return tuple(1 - strength * (1 - int(colour[i : i + 2], 16) / 255) for i in (1, 3, 5))


def _new_figure(width: float, height: float) -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("Pictures need matplotlib: `pip install 'skaimz[plot]'`.") from error
    return plt.figure(figsize=(width, height), layout="constrained")
