"""Pictures: whether they can be read, and whether they still look as they did when somebody looked at them.

What was looked at is in ``plotting/baseline``, without text and legends, which have tests of their own: matplotlib's
versions draw letters differently, and place the axes accordingly. ``SKAIMZ_NEW_PICTURES=1`` draws the pictures anew:
look at every one that changed before it is committed.
"""

import itertools
import os
from pathlib import Path

import numpy as np
from matplotlib.testing.compare import compare_images
from matplotlib.text import Text

BASELINE = Path(__file__).parent / "plotting" / "baseline"
DPI = 50
# Root mean square difference of pixels between 0 and 255: a thin dashed line that is gone makes a difference of 2.
TOLERANCE = 1.0


def check_picture(name, figure, folder):
    """Check that a figure can be read and is as committed; commit it where that is asked for."""
    check_legible(figure)
    if os.environ.get("SKAIMZ_NEW_PICTURES") == "1":
        BASELINE.mkdir(exist_ok=True)
        save(figure, BASELINE / f"{name}.png")
    found = difference(name, figure, folder)
    assert found is None, found


def difference(name, figure, folder):
    """Return None, or how a figure differs from its committed picture and where both are."""
    drawn = folder / f"{name}.png"
    save(figure, drawn)
    return compare_images(str(BASELINE / f"{name}.png"), str(drawn), TOLERANCE)


def save(figure, path):
    """Write a figure without its text, with axes where they are by default."""
    figure.set_layout_engine("none")
    for ax in shown(figure):
        ax.set_position(ax.get_subplotspec().get_position(figure))
        if ax.get_legend() is not None:
            ax.get_legend().set_visible(False)
    for text in figure.findobj(Text):
        text.set_visible(False)
    figure.savefig(path, dpi=DPI, metadata={"Software": None})


def check_legible(figure):
    """Check that something is drawn, that every axes is named, and that no text leaves the figure or covers another."""
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]
    assert 0.005 < (pixels != 255).any(axis=2).mean() < 0.5
    for ax in shown(figure):
        assert ax.get_xlabel()
        assert ax.has_data()
        assert ax.get_ylabel() or all(label.get_text() for label in ax.get_yticklabels())
    boxes = {text: text.get_window_extent() for text in visible_texts(figure)}
    assert len(boxes) >= 4
    for text, box in boxes.items():
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1, f"{text} leaves the figure"
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1, f"{text} leaves the figure"
    for first, second in itertools.combinations(boxes, 2):
        assert not boxes[first].overlaps(boxes[second]), f"{first} lies on {second}"


def shown(figure):
    return [ax for ax in figure.axes if ax.axison]


def visible_texts(figure):
    """Return the texts that are drawn; of ticks those within the axes."""
    ticks = set()
    for ax in shown(figure):
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            all_ticks = axis.get_major_ticks() + axis.get_minor_ticks()
            ticks |= {each for tick in all_ticks if not low <= tick.get_loc() <= high for each in tick.findobj(Text)}
    return [
        text
        for ax in shown(figure)
        for text in ax.findobj(Text)
        if text.get_visible() and text.get_text().strip() and text not in ticks
    ]
