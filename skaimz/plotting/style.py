"""What all pictures share."""

from typing import Any

__all__ = ["COLOURS", "new_axes"]

# M. Okabe and K. Ito (2008), Color universal design: told apart by people with any kind of colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def new_axes(ax: Any, *, width: float = 6.4, height: float = 4.0) -> Any:
    """Return the axes to draw on, of a new figure where there are none yet.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    if ax is None:
        try:
            import matplotlib.pyplot as plt
        except ImportError as error:
            raise ImportError("Pictures need matplotlib: `pip install 'skaimz[plot]'`.") from error
        ax = plt.subplots(figsize=(width, height), layout="constrained")[1]
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    return ax
