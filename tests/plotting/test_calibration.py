"""Plots of the calibration of intervals: their content and their pictures."""

import numpy as np
import pictures
import pytest
import zoo
from matplotlib import pyplot as plt
from scipy.stats import binom, kstest

from skaimz import NumPyroImpactClassifier
from skaimz.plotting import IntervalCalibrationDisplay

PIT = np.random.default_rng(0).beta(0.8, 0.8, size=150)


def curve(ax):
    return ax.get_lines()[1]


def test_the_curve_is_the_share_of_rows_within_intervals():
    ax = IntervalCalibrationDisplay(PIT).plot().ax_
    nominal, observed = np.array(curve(ax).get_data()) / 100
    np.testing.assert_allclose(nominal, np.arange(1, 100) / 100)
    tails = (1 - nominal) / 2
    expected = [((tail <= PIT) & (1 - tail >= PIT)).mean() for tail in tails]
    np.testing.assert_allclose(observed, expected)
    np.testing.assert_allclose(ax.get_lines()[0].get_data(), [[0, 100], [0, 100]])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Nominal coverage in %", "Observed coverage in %")


@pytest.mark.parametrize("level", [0.9, 0.99])
def test_the_band_is_binomial(level):
    ax = IntervalCalibrationDisplay(PIT).plot(level=level).ax_
    ends = ax.collections[0].get_paths()[0].vertices
    for nominal in (0.05, 0.5, 0.93):
        lower, upper = binom.interval(level, 150, nominal)
        np.testing.assert_allclose(
            np.unique(ends[np.isclose(ends[:, 0], 100 * nominal), 1]), [100 * lower / 150, 100 * upper / 150]
        )
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == [f"{100 * level:g} % by chance", "Calibrated", "Observed, 150 rows"]


def test_transforms_of_draws():
    """One draw of four is below 0.5 and none equals it; two are below 2, and one equals it."""
    draws = np.tile([0.0, 1.0, 2.0, 3.0], (1000, 1))
    for y, low, high in ((0.5, 0.2, 0.4), (2.0, 0.4, 0.8), (-1.0, 0.0, 0.2)):
        pit = IntervalCalibrationDisplay.from_predictions(np.full(1000, y), draws).pit
        assert kstest((pit - low) / (high - low), "uniform").pvalue > 0.01


@pytest.mark.parametrize("n_draws", [3, 200])
def test_transforms_of_counts_are_uniform(n_draws):
    """Without randomisation, the intervals of a calibrated model of counts would appear too wide."""
    rng = np.random.default_rng(1)
    rate = rng.gamma(2.0, size=4000)
    y, draws = rng.poisson(rate), rng.poisson(rate[:, None], size=(4000, n_draws))
    display = IntervalCalibrationDisplay.from_predictions(y, draws)
    assert kstest(display.pit, "uniform").pvalue > 0.01
    assert kstest((draws <= y[:, None]).mean(axis=1), "uniform").pvalue < 1e-6
    nominal, observed = np.array(curve(display.ax_).get_data()) / 100
    lower, upper = binom.interval(0.9999, 4000, nominal)
    assert ((lower <= 4000 * observed) & (4000 * observed <= upper)).all()


def test_narrow_intervals_are_below_the_diagonal():
    rng = np.random.default_rng(0)
    y, draws = rng.normal(size=300), rng.normal(size=(300, 500))
    for scale, below in ((0.5, True), (2.0, False)):
        nominal, observed = curve(IntervalCalibrationDisplay.from_predictions(y, scale * draws).ax_).get_data()
        assert (observed[20:80] < nominal[20:80]).all() == below
        assert (observed[20:80] > nominal[20:80]).all() != below


def test_seeds():
    rng = np.random.default_rng(0)
    y, draws = rng.poisson(3.0, size=50), rng.poisson(3.0, size=(50, 20))
    first, again, other = (
        IntervalCalibrationDisplay.from_predictions(y, draws, random_state=seed).pit for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()


def test_from_estimator(model, rows):
    """The model has normal noise with standard deviation 0.5, but outcomes have none: all are in narrow intervals."""
    y = rows @ [0.0, 2.0]
    display = IntervalCalibrationDisplay.from_estimator(model, rows, y, level=0.9)
    assert display.figure_ is display.ax_.figure
    _, observed = curve(display.ax_).get_data()
    assert observed[50] == 100
    draws = model.sample_y(rows, 1000)
    np.testing.assert_allclose(display.pit, (draws < y[:, None]).mean(axis=1), atol=0.08)
    np.testing.assert_allclose(display.pit, model.predict_cdf(rows, y), rtol=1e-6)
    other = IntervalCalibrationDisplay.from_estimator(model, rows, y, num_draws=10, random_state=1)
    np.testing.assert_allclose(other.pit, (model.sample_y(rows, 10, random_state=1) < y[:, None]).mean(1), atol=0.1)


def test_axes_are_those_given():
    figure, ax = plt.subplots()
    display = IntervalCalibrationDisplay(PIT)
    assert display.plot(ax=ax) is display
    assert display.ax_ is ax
    assert plt.get_fignums() == [figure.number]


def test_pictures_are_as_they_were(tmp_path):
    pictures.check_picture("interval_calibration", IntervalCalibrationDisplay(PIT).plot().figure_, tmp_path)


@pytest.mark.parametrize(
    ("y", "draws", "options", "message"),
    [
        (
            np.ones((4, 2)),
            np.ones((4, 2, 3)),
            {},
            r"`y` must have the shape \(n,\), got \(4, 2\). With several outputs",
        ),
        (np.ones(4), np.ones((5, 3)), {}, r"`draws` must have the shape \(4, n\), got \(5, 3\)"),
        (np.ones(4), np.ones((4, 0)), {}, "must hold finite numbers, with at least one draw for each row"),
        (np.full(4, np.nan), np.ones((4, 2)), {}, "must hold finite numbers"),
        (np.ones(4), np.ones((4, 3)), {"level": 0}, "`level` must lie between 0 and 1, got 0"),
    ],
)
def test_refusals(y, draws, options, message):
    with pytest.raises(ValueError, match=message):
        IntervalCalibrationDisplay.from_predictions(y, draws, **options)
    assert not plt.get_fignums()


@pytest.mark.parametrize("pit", [[], [0.5, 1.5], [-0.1], [np.nan]])
def test_transforms_are_probabilities(pit):
    with pytest.raises(ValueError, match="`pit` must hold a number between 0 and 1 for each row"):
        IntervalCalibrationDisplay(pit)


def test_classifiers_have_no_intervals(rows):
    model = NumPyroImpactClassifier(zoo.logistic, posterior={"coef": np.zeros((5, 2))})
    with pytest.raises(TypeError, match=r"takes a NumPyroImpactRegressor.*, but was given a NumPyroImpactClassifier"):
        IntervalCalibrationDisplay.from_estimator(model, rows, np.zeros(40))
