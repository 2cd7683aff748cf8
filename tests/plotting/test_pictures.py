"""The comparison of pictures detects changes that a person would notice."""

import numpy as np
import pictures
import pytest

from skaimz.plotting import IntervalCalibrationDisplay, IntervalDisplay, RankDisplay, TraceDisplay

X = np.linspace(0, 3, 60)
INTERVALS = np.sin(X)[:, None, None] + np.array([[-0.5, -1.0], [0.5, 1.0]])


def interval():
    return IntervalDisplay.from_predictions(np.sin(X), INTERVALS, np.sin(3 * X), feature=X, kind="band").figure_


def calibration():
    return IntervalCalibrationDisplay(np.linspace(0.01, 0.99, 80)).plot().figure_


def loss():
    return TraceDisplay.from_losses(50 + 30 * np.exp(-np.arange(300) / 40)).figure_


def rank():
    return RankDisplay.from_ranks({"slope": np.arange(200) % 100}, 99).figure_


def removed(which):
    return lambda ax: which(ax).remove()


def moved(line, by):
    return lambda ax: ax.get_lines()[line].set_ydata(ax.get_lines()[line].get_ydata() + by)


CHANGES = {
    "mean removed": (interval, removed(lambda ax: ax.get_lines()[0])),
    "mean moved": (interval, moved(0, 0.05)),
    "observed removed": (interval, removed(lambda ax: ax.get_lines()[1])),
    "band removed": (interval, removed(lambda ax: ax.collections[0])),
    "curve removed": (calibration, removed(lambda ax: ax.get_lines()[1])),
    "curve moved": (calibration, moved(1, 3.0)),
    "diagonal removed": (calibration, removed(lambda ax: ax.get_lines()[0])),
    "loss removed": (loss, removed(lambda ax: ax.get_lines()[1])),
    "loss moved": (loss, moved(1, 0.5)),
    "histogram removed": (rank, removed(lambda ax: ax.patches[1])),
    "axis cut": (rank, lambda ax: ax.set_ylim(0, 40)),
}


@pytest.mark.parametrize(("draw", "change"), CHANGES.values(), ids=CHANGES)
def test_changes_are_seen(draw, change, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "BASELINE", tmp_path)
    figure = draw()
    pictures.save(figure, tmp_path / "one.png")
    (tmp_path / "new").mkdir()
    assert pictures.difference("one", draw(), tmp_path / "new") is None
    change(figure.axes[0])
    assert "RMS Value" in pictures.difference("one", figure, tmp_path / "new")
