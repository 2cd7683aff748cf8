"""Plots of observed and drawn outcomes: their content and their pictures."""

import numpy as np
import pictures
import pytest
import zoo
from matplotlib import pyplot as plt
from scipy.stats import norm
from sklearn.pipeline import make_pipeline

from skaimz import NumPyroImpactClassifier, NumPyroImpactRegressor
from skaimz.plotting import PredictiveCheckDisplay

RNG = np.random.default_rng(0)
N, N_DRAWS = 200, 20
NORMAL = RNG.normal(5.0, 2.0, size=N), RNG.normal(5.0, 2.0, size=(N, N_DRAWS))
COUNTS = RNG.poisson(3.0, size=N), RNG.poisson(3.0, size=(N, N_DRAWS))
LABELS = np.array(["no", "maybe", "yes"])
CLASSES = LABELS[RNG.integers(3, size=N)], LABELS[RNG.integers(3, size=(N, N_DRAWS))]


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_densities():
    ax = PredictiveCheckDisplay.from_predictions(*NORMAL).ax_
    *drawn, observed = ax.get_lines()
    assert len(drawn) == N_DRAWS
    for line in (*drawn, observed):
        x, height = line.get_data()
        assert np.trapezoid(height, x) == pytest.approx(1, abs=0.02)
        np.testing.assert_allclose(height, norm.pdf(x, 5.0, 2.0), atol=0.07)
    # The mean of all curves is the distribution.
    together = np.mean([line.get_ydata() for line in drawn], axis=0)
    np.testing.assert_allclose(together, norm.pdf(observed.get_xdata(), 5.0, 2.0), atol=0.02)
    assert observed.get_linewidth() > drawn[0].get_linewidth()
    assert observed.get_color() != drawn[0].get_color()
    assert legend(ax) == ["20 draws of the posterior predictive", "Observed"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Outcome", "Density")


def test_the_observed_curve_is_that_of_y():
    ax = PredictiveCheckDisplay.from_predictions(NORMAL[0] + 10.0, NORMAL[1]).ax_
    x, height = ax.get_lines()[-1].get_data()
    assert np.trapezoid(x * height, x) == pytest.approx(NORMAL[0].mean() + 10.0, abs=0.1)
    assert x[0] < NORMAL[1].mean() - 4 < NORMAL[0].max() + 10.0 < x[-1]


def test_extreme_draws_do_not_stretch_the_axis():
    draws = NORMAL[1].copy()
    draws[0, 0] = 1e6
    ax = PredictiveCheckDisplay.from_predictions(NORMAL[0], draws).ax_
    assert ax.get_xlim()[1] < 20


def test_densities_end_at_bounds():
    rng = np.random.default_rng(0)
    y = np.abs(rng.normal(size=500))
    ax = PredictiveCheckDisplay.from_predictions(y, y[:, None], bounds=(0.0, np.inf)).ax_
    x, height = ax.get_lines()[-1].get_data()
    assert x[0] == 0
    assert height[0] == pytest.approx(2 * norm.pdf(0), abs=0.15)
    assert legend(ax)[0] == "1 draw of the posterior predictive"


def test_outcomes_that_are_all_the_same():
    ax = PredictiveCheckDisplay.from_predictions(np.full(N, 4.5), NORMAL[1]).ax_
    assert set(ax.get_lines()[-1].get_xdata()) == {4.5}


def shares(values, at):
    return np.array([(values == each).mean(axis=0) for each in at])


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_counts(level):
    y, draws = COUNTS
    ax = PredictiveCheckDisplay.from_predictions(y, draws.astype(float), level=level).ax_
    at = np.array([bar.get_x() + bar.get_width() / 2 for bar in ax.patches])
    assert at[0] == 0
    np.testing.assert_allclose(np.diff(at), 1)
    np.testing.assert_allclose([bar.get_height() for bar in ax.patches], shares(y, at))
    lower, median, upper = np.quantile(shares(draws, at), [(1 - level) / 2, 0.5, (1 + level) / 2], axis=1)
    np.testing.assert_allclose([bar[:, 1] for bar in ax.collections[0].get_segments()], np.stack([lower, upper], 1))
    np.testing.assert_allclose(ax.get_lines()[0].get_data(), [at, median])
    assert legend(ax) == [f"Posterior predictive: median, {100 * level:g} % interval", "Observed"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Outcome", "Share of rows")


def test_large_counts_share_bars():
    y, draws = 100 * COUNTS[0] + 7, 100 * COUNTS[1] + 7
    ax = PredictiveCheckDisplay.from_predictions(y, draws).ax_
    assert 10 < len(ax.patches) <= 40
    # Every row belongs to a bar, and all bars cover the same number of integers.
    assert sum(bar.get_height() for bar in ax.patches) == pytest.approx(1)
    edges = [bar.get_x() + bar.get_width() / 2 for bar in ax.patches]
    np.testing.assert_allclose(np.diff(edges), round(edges[1] - edges[0]))


@pytest.mark.parametrize("given", [None, ["yes", "maybe", "no", "never"]])
def test_classes(given):
    y, draws = CLASSES
    ax = PredictiveCheckDisplay.from_predictions(y, draws, classes=given).ax_
    order = given or ["maybe", "no", "yes"]
    assert [label.get_text() for label in ax.get_yticklabels()] == order
    # From top to bottom.
    assert list(ax.get_yticks()) == list(range(len(order)))[::-1]
    np.testing.assert_allclose([bar.get_width() for bar in ax.patches], shares(y, order))
    lower, median, upper = np.quantile(shares(draws, order), [0.05, 0.5, 0.95], axis=1)
    np.testing.assert_allclose([bar[:, 0] for bar in ax.collections[0].get_segments()], np.stack([lower, upper], 1))
    np.testing.assert_allclose(ax.get_lines()[0].get_xdata(), median)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Share of rows", "Class")


def test_truth_values_are_classes():
    ax = PredictiveCheckDisplay.from_predictions(CLASSES[0] == "yes", CLASSES[1] == "yes").ax_
    assert [label.get_text() for label in ax.get_yticklabels()] == ["False", "True"]


def test_from_a_regressor(model, rows):
    y = rows @ [0.0, 2.0]
    display = PredictiveCheckDisplay.from_estimator(model, rows, y, num_draws=7, random_state=3)
    np.testing.assert_array_equal(display.draws, model.sample_y(rows, 7, random_state=3))
    np.testing.assert_array_equal(display.y, y)
    assert len(display.ax_.get_lines()) == 8
    assert display.figure_ is display.ax_.figure


def test_from_a_regressor_of_counts(rows):
    model = NumPyroImpactRegressor(zoo.poisson, posterior={"coef": np.zeros((50, 2))})
    y = np.arange(40) % 5
    ax = PredictiveCheckDisplay.from_estimator(model, rows, y, exposure=np.full(40, 2.0)).ax_
    np.testing.assert_allclose([bar.get_height() for bar in ax.patches[:5]], 0.2)
    assert ax.get_lines()[0].get_ydata()[:3] == pytest.approx([0.14, 0.27, 0.27], abs=0.06)


def test_from_a_classifier(rows):
    y = np.where(rows[:, 0] > 0, "up", "down")
    model = NumPyroImpactClassifier(zoo.logistic, posterior={"coef": np.full((50, 2), [20.0, 0.0])}).fit(rows, y)
    ax = PredictiveCheckDisplay.from_estimator(model, rows, y).ax_
    assert [label.get_text() for label in ax.get_yticklabels()] == ["down", "up"]
    np.testing.assert_allclose([bar.get_width() for bar in ax.patches], [(y == "down").mean(), (y == "up").mean()])
    np.testing.assert_allclose(ax.get_lines()[0].get_xdata(), [(y == "down").mean(), (y == "up").mean()], atol=0.06)


def test_the_support_of_the_kernel_bounds_densities(rows):
    def kernel(X, y=None):
        import numpyro
        import numpyro.distributions as dist

        scale = numpyro.sample("scale", dist.HalfNormal(1.0))
        with numpyro.plate("rows", X.shape[0]):
            numpyro.sample("y", dist.Exponential(1 / (scale + 0.0 * X[:, 0])), obs=y)

    y = np.random.default_rng(0).exponential(size=40)
    model = NumPyroImpactRegressor(kernel, posterior={"scale": np.ones(50)}).fit(rows, y)
    assert PredictiveCheckDisplay.from_estimator(model, rows, y).ax_.get_xlim()[0] == 0


def test_axes_are_those_given():
    figure, ax = plt.subplots()
    display = PredictiveCheckDisplay(*NORMAL)
    assert display.plot(ax=ax) is display
    assert display.ax_ is ax
    assert plt.get_fignums() == [figure.number]


# How they look

PICTURES = {
    "predictive_check_density": lambda: PredictiveCheckDisplay.from_predictions(*NORMAL),
    "predictive_check_count": lambda: PredictiveCheckDisplay.from_predictions(*COUNTS),
    "predictive_check_class": lambda: PredictiveCheckDisplay.from_predictions(*CLASSES),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_as_they_were(name, tmp_path):
    pictures.check_picture(name, PICTURES[name]().figure_, tmp_path)


def test_many_classes_are_legible():
    y = np.array([f"a rather long name of class {i}" for i in range(60)])
    pictures.check_legible(PredictiveCheckDisplay.from_predictions(y, np.stack([y, y[::-1]], axis=1)).figure_)


# Refusals


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
        (np.ones(1), np.ones((1, 3)), {}, r"needs 2 rows and a draw at least, got draws of shape \(1, 3\)"),
        (np.ones(4), np.ones((4, 0)), {}, r"needs 2 rows and a draw at least, got draws of shape \(4, 0\)"),
        (np.ones(4), np.full((4, 3), np.nan), {}, "`y` and `draws` must hold finite numbers"),
        (*CLASSES, {"classes": ["no", "yes"]}, r"labels that are not among the classes \['no', 'yes'\]"),
        (*NORMAL, {"level": 1.5}, "`level` must lie between 0 and 1, got 1.5"),
        (np.arange(61).astype(str), np.arange(61).astype(str)[:, None], {}, "A picture of 61 classes is not legible"),
    ],
)
def test_refusals(y, draws, options, message):
    with pytest.raises(ValueError, match=message):
        PredictiveCheckDisplay.from_predictions(y, draws, **options)
    assert not plt.get_fignums()


def test_pipelines(model, rows):
    through, own = (
        PredictiveCheckDisplay.from_estimator(each, rows, rows[:, 0]) for each in (make_pipeline(model), model)
    )
    np.testing.assert_array_equal(through.draws, own.draws)
