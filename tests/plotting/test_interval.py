"""Plots of predictions with intervals: their content and their pictures."""

import numpy as np
import pandas as pd
import pictures
import pytest
import zoo
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex

from skaimz import NumPyroImpactClassifier, NumPyroImpactRegressor
from skaimz.plotting import IntervalDisplay

N = 40
RNG = np.random.default_rng(0)
FEATURE = RNG.permutation(np.linspace(-2, 2, N))
MEAN = np.sin(FEATURE)
# Axes: rows, ends, levels of 50 and 90 %.
INTERVALS = MEAN[:, None, None] + 0.3 * np.array([[-0.67, -1.64], [0.67, 1.64]])
Y = MEAN + RNG.normal(scale=0.3, size=N)
LABELS = ["90 % interval", "50 % interval", "Mean", "Observed"]


def draw(**options):
    return IntervalDisplay.from_predictions(MEAN, INTERVALS, Y, **options)


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def bars(ax):
    """Return the ends of the bars of each level, as arrays (rows, ends)."""
    return [np.array([segment[:, 1] for segment in each.get_segments()]) for each in ax.collections]


def test_bars_are_the_intervals():
    ax = draw(feature=FEATURE).ax_
    wide, narrow = bars(ax)
    np.testing.assert_allclose(wide, INTERVALS[:, :, 1])
    np.testing.assert_allclose(narrow, INTERVALS[:, :, 0])
    for each in ax.collections:
        np.testing.assert_allclose([segment[:, 0] for segment in each.get_segments()], np.stack([FEATURE] * 2, axis=1))
    assert ax.collections[0].get_linewidth()[0] < ax.collections[1].get_linewidth()[0]
    assert to_hex(ax.collections[0].get_edgecolor()[0]) != to_hex(ax.collections[1].get_edgecolor()[0])
    mean, observed = ax.get_lines()
    np.testing.assert_allclose(mean.get_data(), [FEATURE, MEAN])
    np.testing.assert_allclose(observed.get_data(), [FEATURE, Y])
    assert legend(ax) == LABELS
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Feature", "Outcome")


def test_bands_go_from_row_to_row():
    ax = draw(feature=FEATURE, kind="band").ax_
    order = np.argsort(FEATURE)
    for band, level in zip(ax.collections, (1, 0), strict=True):
        ends = band.get_paths()[0].vertices
        for row in (order[0], order[17], order[-1]):
            at_row = np.unique(ends[np.isclose(ends[:, 0], FEATURE[row]), 1])
            np.testing.assert_allclose(at_row, INTERVALS[row, :, level])
    mean, observed = ax.get_lines()
    np.testing.assert_allclose(mean.get_data(), [FEATURE[order], MEAN[order]])
    np.testing.assert_allclose(observed.get_data(), [FEATURE, Y])
    assert legend(ax) == LABELS


def test_wide_intervals_come_first_in_any_order():
    ax = IntervalDisplay.from_predictions(MEAN, INTERVALS[:, :, ::-1], coverage=(0.9, 0.5)).ax_
    np.testing.assert_allclose(bars(ax)[0], INTERVALS[:, :, 1])
    assert legend(ax) == LABELS[:3]
    assert len(ax.get_lines()) == 1


def test_one_level():
    ax = IntervalDisplay.from_predictions(MEAN, INTERVALS[:, :, 1], coverage=0.9).ax_
    (only,) = bars(ax)
    np.testing.assert_allclose(only, INTERVALS[:, :, 1])
    assert legend(ax) == ["90 % interval", "Mean"]


def test_without_a_feature_the_mean_is_the_axis():
    ax = draw().ax_
    np.testing.assert_allclose(ax.get_lines()[1].get_data(), [MEAN, Y])
    assert ax.get_xlabel() == "Predicted mean"


def test_dates():
    days = pd.Series(pd.date_range("2024-01-01", periods=N), name="day")
    ax = draw(feature=days).ax_
    assert ax.get_xlabel() == "day"
    np.testing.assert_array_equal(ax.get_lines()[1].get_xdata(), days.to_numpy())


def test_from_estimator(model, rows):
    y = rows @ [0.0, 2.0]
    display = IntervalDisplay.from_estimator(model, rows, y, coverage=(0.8, 0.3))
    ax = display.ax_
    assert display.figure_ is ax.figure
    expected = model.predict_interval(rows, (0.8, 0.3))
    np.testing.assert_allclose(bars(ax)[0], expected[..., 0])
    np.testing.assert_allclose(bars(ax)[1], expected[..., 1])
    np.testing.assert_allclose(ax.get_lines()[0].get_data(), [model.predict(rows)] * 2)
    np.testing.assert_allclose(ax.get_lines()[1].get_ydata(), y)
    assert legend(ax)[:2] == ["80 % interval", "30 % interval"]


def test_features_of_estimators(model, rows):
    ax = IntervalDisplay.from_estimator(model, rows, feature=1).ax_
    np.testing.assert_allclose(ax.get_lines()[0].get_xdata(), rows[:, 1])
    assert ax.get_xlabel() == "x1"
    order = np.arange(len(rows))
    ax = IntervalDisplay.from_estimator(model, rows, feature=order, kind="band").ax_
    np.testing.assert_allclose(ax.get_lines()[0].get_data(), [order, model.predict(rows)])
    frame = pd.DataFrame(rows, columns=["dose", "age"])
    named = NumPyroImpactRegressor(zoo.conjugate, posterior=model.posterior).fit(frame, rows[:, 0])
    for feature in ("age", 1):
        ax = IntervalDisplay.from_estimator(named, frame, feature=feature).ax_
        np.testing.assert_allclose(ax.get_lines()[0].get_xdata(), rows[:, 1])
        assert ax.get_xlabel() == "age"


def test_axes_are_those_given():
    figure, ax = plt.subplots()
    display = IntervalDisplay(MEAN, INTERVALS)
    assert display.plot(ax=ax) is display
    assert display.ax_ is ax
    assert plt.get_fignums() == [figure.number]
    assert display.plot("band").ax_ is not ax


# How they look

MANY = np.random.default_rng(2).normal(size=500)
MANY_INTERVALS = MANY[:, None, None] + np.array([[-0.67, -1.64], [0.67, 1.64]])
DAYS = np.datetime64("2024-01-01") + np.arange(N)
PICTURES = {
    "interval_bar": lambda: draw(feature=FEATURE, feature_name="Dose in mg"),
    "interval_band": lambda: draw(feature=FEATURE, feature_name="Dose in mg", kind="band"),
    "interval_mean": lambda: IntervalDisplay.from_predictions(
        MANY, MANY_INTERVALS, MANY + np.random.default_rng(3).normal(size=500)
    ),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_as_they_were(name, tmp_path):
    pictures.check_picture(name, PICTURES[name]().figure_, tmp_path)


def test_dates_are_legible():
    pictures.check_legible(draw(feature=DAYS, kind="band").figure_)


# Refusals


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean": np.ones((N, 2))}, r"`mean` must have the shape \(n,\), got \(40, 2\). With several outputs"),
        ({"intervals": INTERVALS[:5]}, r"`intervals` must have the shape \(40, 2, 2\), got \(5, 2, 2\)"),
        ({"coverage": (0.5, 0.8, 0.9)}, r"`intervals` must have the shape \(40, 2, 3\), got \(40, 2, 2\)"),
        ({"intervals": INTERVALS[:, ::-1]}, "lower ends, and upper ends that are not below them"),
        ({"coverage": (0.5, 1.0)}, "`coverage` must lie between 0 and 1, got 1.0"),
        ({"y": Y[1:]}, r"`y` must have the shape \(40,\), got \(39,\)"),
        ({"feature": ["a"] * N}, "`feature` must hold numbers or dates, got values like .*a"),
        ({"feature": np.full(N, np.inf)}, "`feature` must hold finite values"),
        ({"mean": np.full(N, np.nan)}, "predicted means are not finite, so the horizontal axis needs a `feature`"),
        ({"kind": "line"}, "`kind` must be 'band' or 'bar', got 'line'"),
    ],
)
def test_refusals(changes, message):
    with pytest.raises(ValueError, match=message):
        IntervalDisplay.from_predictions(**{"mean": MEAN, "intervals": INTERVALS, **changes})
    assert not plt.get_fignums()


def test_too_many_bars():
    mean = np.linspace(0, 1, 501)
    display = IntervalDisplay(mean, np.stack([mean, mean + 1], axis=1), coverage=0.9)
    with pytest.raises(ValueError, match="Bars of 501 rows are not legible: draw 500 at most, or bands"):
        display.plot()
    display.plot("band")


@pytest.mark.parametrize("feature", [2, -1, "dose", 0.5, True])
def test_unknown_features(model, rows, feature):
    with pytest.raises(ValueError, match=f"`feature` must be one of the 2 columns of X.*got {feature!r}"):
        IntervalDisplay.from_estimator(model, rows, feature=feature)


def test_classifiers_have_no_intervals(rows):
    model = NumPyroImpactClassifier(zoo.logistic, posterior={"coef": np.zeros((5, 2))})
    with pytest.raises(TypeError, match=r"takes a NumPyroImpactRegressor.*, but was given a NumPyroImpactClassifier"):
        IntervalDisplay.from_estimator(model, rows)


def test_several_outputs(rows):
    model = NumPyroImpactRegressor(zoo.two_outputs, posterior={"coef": np.zeros((5, 2, 2))})
    with pytest.raises(
        ValueError, match=r"`mean` must have the shape \(n,\), got \(40, 2\). With several outputs, pass"
    ):
        IntervalDisplay.from_estimator(model, rows)
