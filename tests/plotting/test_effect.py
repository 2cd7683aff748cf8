"""Plots of effects: their content and their pictures."""

import itertools
import subprocess
import sys

import numpy as np
import pictures
import pytest
import xarray as xr
import zoo
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex

from skaimz import NumPyroImpactRegressor
from skaimz.effects import EffectTree
from skaimz.plotting import EffectDisplay

N_CHAINS, N_DRAWS = 2, 500


def tree_of(draws, dims=(), coords=None, contrast="difference"):
    """Return effects with the given draws, whose first axes are the chains and the draws."""
    groups = {
        name: xr.Dataset({"effect": (("chain", "draw", *dims), values)}, coords) for name, values in draws.items()
    }
    return EffectTree.of(groups, {"contrast": contrast, "of": "mean", "posterior": "posterior"})


def normal(*shape, mean=0.0, seed=0):
    return np.random.default_rng(seed).normal(mean, 1.0, size=(N_CHAINS, N_DRAWS, *shape))


THREE = {"price": normal(mean=2.0), "advert": normal(mean=-1.0, seed=1), "both": normal(seed=2)}
REGIONS = ["north", "east", "south"]
GROUPED = {"coords": {"region": REGIONS}, "dims": ("region",)}


def lines(ax, style):
    return [line for line in ax.get_lines() if line.get_linestyle() == style]


# Intervals


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_intervals_are_those_of_the_summary(level):
    effects = tree_of(THREE)
    ax = EffectDisplay.from_effects(effects, level=level).ax_
    outer, inner, points = (ax.get_lines()[start:-1:3] for start in range(3))
    wide, half = effects.summary(level), effects.summary(0.5)
    assert len(outer) == len(inner) == len(points) == 3
    for place, (first, second, point) in enumerate(zip(outer, inner, points, strict=True)):
        np.testing.assert_allclose(first.get_xdata(), wide.iloc[place][["lower", "upper"]])
        np.testing.assert_allclose(second.get_xdata(), half.iloc[place][["lower", "upper"]])
        np.testing.assert_allclose(point.get_xdata(), wide["median"].iloc[place])
        # From top to bottom.
        assert set(first.get_ydata()) == set(second.get_ydata()) == set(point.get_ydata()) == {2 - place}
        assert first.get_linewidth() < second.get_linewidth()
    draws = THREE["price"].ravel()
    np.testing.assert_allclose(outer[0].get_xdata(), np.quantile(draws, [(1 - level) / 2, (1 + level) / 2]))
    assert len({to_hex(line.get_color()) for line in outer}) == 3


def test_intervals_are_labelled():
    ax = EffectDisplay.from_effects(tree_of(THREE)).ax_
    assert dict(zip(ax.get_yticks(), (label.get_text() for label in ax.get_yticklabels()), strict=True)) == {
        2: "price",
        1: "advert",
        0: "both",
    }
    assert ax.get_xlabel() == "Effect"
    assert ax.get_title(loc="left") == "Median, 50 % and 90 % intervals"


def test_groups_share_the_colour_of_their_comparison():
    draws = {"price": normal(3), "advert": normal(3, seed=1)}
    ax = EffectDisplay.from_effects(tree_of(draws, **GROUPED)).ax_
    labels = [f"{name}, {region}" for name, region in itertools.product(draws, REGIONS)]
    assert [label.get_text() for label in ax.get_yticklabels()] == labels
    colours = [to_hex(line.get_color()) for line in ax.get_lines()[:-1:3]]
    assert len(set(colours[:3])) == len(set(colours[3:])) == 1
    assert colours[0] != colours[3]


@pytest.mark.parametrize("kind", ["interval", "density"])
@pytest.mark.parametrize(
    ("contrast", "label", "neutral"),
    [
        ("difference", "Effect", 0),
        ("ratio", "Ratio", 1),
        ("lift", "Lift in %", 0),
        ("slope", "Slope", 0),
        ("own", "own", 0),
    ],
)
def test_units(kind, contrast, label, neutral):
    ax = EffectDisplay.from_effects(tree_of(THREE, contrast=contrast), kind=kind).ax_
    assert ax.get_xlabel() == label
    assert set(ax.get_lines()[-1].get_xdata()) == {neutral}


# Densities


def test_densities():
    effects = tree_of(THREE)
    ax = EffectDisplay.from_effects(effects, kind="density", level=0.8).ax_
    curves = ax.get_lines()[:-1]
    assert [curve.get_label() for curve in curves] == list(THREE)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(THREE)
    for curve, draws, shade, (_, row) in zip(
        curves, THREE.values(), ax.collections, effects.summary(0.8).iterrows(), strict=True
    ):
        x, y = curve.get_data()
        assert np.trapezoid(y, x) == pytest.approx(1, abs=0.01)
        # The curve is that of a normal distribution, widened by the kernel's bandwidth.
        assert np.trapezoid(x * y, x) == pytest.approx(draws.mean(), abs=0.05)
        assert x[y.argmax()] == pytest.approx(np.median(draws), abs=0.3)
        # The shaded area is the interval.
        shaded = shade.get_paths()[0].vertices[:, 0]
        step = x[1] - x[0]
        assert shaded.min() == pytest.approx(row["lower"], abs=step)
        assert shaded.max() == pytest.approx(row["upper"], abs=step)
    assert ax.get_ylabel() == "Posterior density"
    assert ax.get_title(loc="left") == "Shaded: 80 % intervals"
    assert ax.get_ylim()[0] == 0


def test_the_density_of_a_certain_effect_is_a_line():
    certain = {"price": np.full((N_CHAINS, N_DRAWS), 0.25)}
    ax = EffectDisplay.from_effects(tree_of(certain), kind="density").ax_
    assert set(ax.get_lines()[0].get_xdata()) == {0.25}
    assert not ax.collections
    assert ax.get_legend() is None


# Uplift


def test_uplift_curve():
    """The mean effects are 3, 2, 1, 0 and -1, in another order: the gains of five rows are 3/5, 5/5, 6/5, 6/5 and 1."""
    means = np.array([1.0, -1.0, 3.0, 0.0, 2.0])
    draws = normal(5)
    draws += means - draws.mean(axis=(0, 1))
    ax = EffectDisplay.from_effects(tree_of({"advert": draws}, ("rows",)), kind="uplift", level=0.5).ax_
    curve, random = ax.get_lines()[:2]
    np.testing.assert_allclose(curve.get_xdata(), [0, 20, 40, 60, 80, 100])
    np.testing.assert_allclose(curve.get_ydata(), [0, 0.6, 1.0, 1.2, 1.2, 1.0], atol=1e-12)
    assert random.get_linestyle() == "--"
    np.testing.assert_allclose(random.get_data(), [[0, 100], [0, 1.0]])
    flat = draws.reshape(-1, 5)[:, [2, 4, 0, 3, 1]]
    lower, upper = np.quantile(flat[:, :2].sum(axis=1) / 5, [0.25, 0.75])
    band = ax.collections[0].get_paths()[0].vertices
    np.testing.assert_allclose(np.unique(band[band[:, 0] == 40, 1]), [lower, upper])
    assert ax.get_title(loc="left") == "Band: 50 % interval. Dashed: rows in random order"
    assert ax.get_xlabel() == "Rows treated, largest expected effect first, in %"
    assert ax.get_legend() is None


def test_uplift_curves_are_told_apart():
    draws = {"price": normal(8), "advert": normal(8, seed=1)}
    ax = EffectDisplay.from_effects(tree_of(draws, ("rows",)), kind="uplift").ax_
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(draws)
    curves = lines(ax, "-")[:2]
    assert [curve.get_label() for curve in curves] == list(draws)
    assert curves[0].get_color() != curves[1].get_color()


# From estimators


def test_from_estimator():
    rng = np.random.default_rng(0)
    X, coef = rng.normal(size=(40, 2)), rng.normal([0.0, 2.0], 0.1, size=(100, 2))
    model = NumPyroImpactRegressor(zoo.conjugate, posterior={"coef": coef}).fit(X, X[:, 0])
    asked = {"baseline": {"columns": {1: 0.0}}, "scenarios": {"dose": {"columns": {1: lambda old: np.arange(40.0)}}}}
    display = EffectDisplay.from_estimator(model, X, level=0.5, **asked)
    assert isinstance(display, EffectDisplay)
    assert display.figure_ is display.ax_.figure
    median = np.median(coef[:, 1]) * np.arange(40).mean()
    assert display.ax_.get_lines()[2].get_xdata()[0] == pytest.approx(median, rel=1e-5)
    # Effects of rows are estimated for kinds of plots that need them.
    curve = EffectDisplay.from_estimator(model, X, kind="uplift", **asked).ax_.get_lines()[0]
    gains = np.concatenate([[0], np.cumsum(np.arange(40.0)[::-1])]) * coef[:, 1].mean() / 40
    np.testing.assert_allclose(curve.get_ydata(), gains, rtol=1e-4)


def test_axes_are_those_given():
    figure, ax = plt.subplots()
    display = EffectDisplay(tree_of(THREE))
    assert display.plot(ax=ax) is display
    assert display.ax_ is ax
    assert display.figure_ is figure
    assert plt.get_fignums() == [figure.number]
    assert not ax.spines["top"].get_visible()
    # The same effects in a plot of another kind on other axes.
    assert display.plot("density").ax_ is not ax


# How they look

SOME = {"a discount of ten percent": normal(7), "a letter to every household": normal(7, mean=1.0, seed=1)}
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
PICTURES = {
    "one interval": (tree_of({"price": normal(mean=1e-4) * 1e-5}), "interval"),
    "intervals": (tree_of(THREE), "interval"),
    "intervals of groups": (tree_of(SOME, ("day",), {"day": DAYS}), "interval"),
    "as many as there may be": (tree_of({"price": normal(60)}, ("week",), {"week": np.arange(60)}), "interval"),
    "large numbers": (tree_of({"price": 1e6 + 1e4 * normal()}), "interval"),
    "density": (tree_of({"price": 1e6 + 1e4 * normal()}), "density"),
    "densities": (tree_of(THREE), "density"),
    "uplift": (tree_of(SOME, ("rows",)), "uplift"),
}


@pytest.mark.parametrize(("effects", "kind"), PICTURES.values(), ids=PICTURES)
def test_pictures_are_legible(effects, kind):
    pictures.check_legible(EffectDisplay.from_effects(effects, kind=kind).figure_)


@pytest.mark.parametrize("kind", ["interval", "density", "uplift"])
def test_pictures_are_as_they_were(kind, tmp_path):
    effects = tree_of(SOME, ("rows",)) if kind == "uplift" else tree_of(THREE)
    pictures.check_picture(f"effect_{kind}", EffectDisplay.from_effects(effects, kind=kind).figure_, tmp_path)


# Refusals


@pytest.mark.parametrize(
    ("kind", "level", "message"),
    [
        ("bars", 0.9, r"`kind` must be one of \['density', 'interval', 'uplift'\], got 'bars'"),
        ("interval", 1.0, r"`level` must lie between 0 and 1, got 1.0"),
        ("density", 0, r"`level` must lie between 0 and 1, got 0"),
        ("uplift", 0.9, r"needs the effects of rows: estimate them with `average=False`"),
    ],
)
def test_refusals(kind, level, message):
    with pytest.raises(ValueError, match=message):
        EffectDisplay.from_effects(tree_of(THREE), kind=kind, level=level)
    assert not plt.get_fignums()


@pytest.mark.parametrize("contrast", ["ratio", "lift"])
def test_an_uplift_curve_adds_up_differences(contrast):
    effects = tree_of({"advert": normal(8)}, ("rows",), contrast=contrast)
    with pytest.raises(ValueError, match=f"adds up differences, and cannot show `contrast='{contrast}'`"):
        EffectDisplay.from_effects(effects, kind="uplift")


@pytest.mark.parametrize("kind", ["interval", "density"])
def test_too_many_effects(kind):
    effects = tree_of({"price": normal(61)}, ("week",), {"week": np.arange(61)})
    with pytest.raises(ValueError, match="A picture of 61 effects is not legible: draw 60 at most"):
        EffectDisplay.from_effects(effects, kind=kind)
    assert not plt.get_fignums()


def test_matplotlib_is_imported_when_a_picture_is_drawn():
    script = "import sys, skaimz.plotting; assert not any(name.startswith('matplotlib') for name in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"Pictures need matplotlib: `pip install 'skaimz\[plot\]'`"):
        EffectDisplay.from_effects(tree_of(THREE))
