"""What all pictures share: colours, axes and legends.

A display of one panel takes one axes. A display of several takes none, one axes, whose place is then divided, or an
array with an axes for each panel: scikit-learn's rule for ``PartialDependenceDisplay``.
"""

import math
from typing import Any

import numpy as np

__all__ = ["COLOURS", "MOST_PANELS", "OBSERVED", "legend_above", "legend_of_panels", "new_axes", "new_panels", "tint"]

# M. Okabe and K. Ito (2008), Color universal design: told apart by people with any kind of colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# What was observed is black in every picture, beside predictions in the first colour.
OBSERVED = COLOURS[-1]
# More would not be legible.
MOST_PANELS = 12


def new_axes(ax: Any, *, width: float = 6.4, height: float = 4.0) -> Any:
    """Return the axes to draw on, of a new figure where there are none yet.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError
        If ``ax`` is not one axes.
    """
    if ax is None:
        ax = _new_figure(width, height).add_subplot()
    elif np.ndim(ax) or not hasattr(ax, "spines"):
        raise TypeError(f"`ax` must be one matplotlib Axes, got {type(ax).__name__}.")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    return ax


def new_panels(ax: Any, count: int) -> np.ndarray:
    """Return an array of so many axes: new ones, parts of the place of a given one, or those given.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If an array holds another number of axes, or a single axes has no place that can be divided.
    """
    if ax is not None and np.ndim(ax):
        given = np.asarray(ax, dtype=object).ravel()
        if len(given) != count:
            raise ValueError(f"`ax` holds {len(given)} axes, but the picture has {count} panels.")
        return np.array([new_axes(each) for each in given])
    if count == 1:
        return np.array([new_axes(ax)])
    columns = min(math.ceil(math.sqrt(count)), 3)
    rows = math.ceil(count / columns)
    if ax is None:
        figure = _new_figure(3.2 * columns, 2.4 * rows)
        grid = figure.add_gridspec(rows, columns)
    else:
        figure, place = ax.figure, ax.get_subplotspec()
        if place is None:
            raise ValueError(f"`ax` is not part of a grid, and cannot be divided: give an array of {count} axes.")
        ax.set_axis_off()
        grid = place.subgridspec(rows, columns)
    panels = [new_axes(figure.add_subplot(grid[i])) for i in range(count)]
    for panel in panels:
        # More numbers would not have room beside one another.
        panel.locator_params(nbins=5)
    return np.array(panels)


def legend_of_panels(axes: np.ndarray) -> None:
    """Name what is drawn once for all panels, above the first and no wider than it is."""
    legend_above(axes[0], columns=5 if len(axes) == 1 else 2)


def legend_above(ax: Any, *, columns: int = 5) -> None:
    """Name what is drawn above the axes, where nothing is hidden."""
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
    """Return a colour mixed with white; a strength of 1 leaves it as it is."""
    return tuple(1 - strength * (1 - int(colour[i : i + 2], 16) / 255) for i in (1, 3, 5))


def _new_figure(width: float, height: float) -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("Pictures need matplotlib: `pip install 'skaimz[plot]'`.") from error
    return plt.figure(figsize=(width, height), layout="constrained")
