"""Plots of losses and chains: their content and their pictures."""

import numpy as np
import pictures
import pytest
import zoo
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from skaimz import NumPyroImpactRegressor
from skaimz.inference import MCMC, SVI
from skaimz.plotting import TraceDisplay

RNG = np.random.default_rng(0)
STEPS = np.arange(1000)
LOSSES = 300 + 1e5 * np.exp(-STEPS / 10) + 20 * np.exp(-STEPS / 100) + RNG.normal(size=1000)
CHAINS = {"coef": RNG.normal(size=(3, 80, 2)), "scale": RNG.normal(2.0, 0.5, size=(3, 80))}
DIVERGING = np.zeros((3, 80), bool)
DIVERGING[[0, 2, 2], [7, 7, 60]] = True


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


# Losses


def test_losses_and_their_running_mean():
    (ax,) = TraceDisplay.from_losses(LOSSES).axes_
    raw, mean = ax.get_lines()
    np.testing.assert_array_equal(raw.get_data(), [STEPS + 1, LOSSES])
    smooth = mean.get_ydata()
    np.testing.assert_allclose(smooth[10:-9], np.convolve(LOSSES, np.full(20, 1 / 20), "valid"))
    assert smooth[0] == pytest.approx(LOSSES[:10].mean())
    assert smooth[-1] == pytest.approx(LOSSES[-11:].mean())
    assert mean.get_linewidth() > raw.get_linewidth()
    assert to_hex(mean.get_color()) != to_hex(raw.get_color())
    assert legend(ax) == ["Each step", "Mean of 20 steps"]
    assert ax.get_ylabel() == "Loss"


def test_the_axis_shows_where_the_loss_settled():
    (ax,) = TraceDisplay.from_losses(LOSSES).axes_
    low, high = ax.get_ylim()
    tail = LOSSES[500:]
    assert low < tail.min()
    assert high > tail.max()
    assert high - low < 6 * np.ptp(tail)
    smooth = ax.get_lines()[1].get_ydata()
    assert ax.get_xlabel() == f"Step (the loss of the first {(smooth > high).sum()} is above the picture)"


def test_only_the_first_steps_count_as_out_of_the_picture():
    losses = LOSSES.copy()
    losses[300:350] += 1e4
    (ax,) = TraceDisplay.from_losses(losses).axes_
    assert ax.get_xlabel() == TraceDisplay.from_losses(LOSSES).axes_[0].get_xlabel()


def test_small_losses_are_shown_whole():
    """A total decrease of two nats is negligible, and is not magnified."""
    (ax,) = TraceDisplay.from_losses(10 + 2 * np.exp(-STEPS / 50)).axes_
    assert ax.get_ylim() == pytest.approx((9.85, 13.15), abs=0.01)
    assert ax.get_xlabel() == "Step"


def test_steps_without_a_finite_loss_are_marked():
    losses = LOSSES.copy()
    losses[[3, 600]] = np.nan, np.inf
    (ax,) = TraceDisplay.from_losses(losses).axes_
    _, mean, marks = ax.get_lines()
    np.testing.assert_array_equal(marks.get_xdata(), [4, 601])
    assert legend(ax)[2] == "Not finite"
    assert mean.get_ydata()[600] == pytest.approx(np.delete(losses[590:610], 10).mean())


# Chains


def test_chains():
    axes = TraceDisplay.from_draws(CHAINS, diverging=DIVERGING).axes_
    assert [ax.get_ylabel() for ax in axes] == ["coef[0]", "coef[1]", "scale"]
    for ax, expected in zip(axes, (CHAINS["coef"][..., 0], CHAINS["coef"][..., 1], CHAINS["scale"]), strict=True):
        *chains, marks = ax.get_lines()
        np.testing.assert_array_equal([chain.get_ydata() for chain in chains], expected)
        assert len({chain.get_color() for chain in chains}) == 3
        np.testing.assert_array_equal(marks.get_xdata(), [7, 60])
        assert ax.get_xlabel() == "Draw"
    assert legend(axes[0]) == ["Chain 1", "Chain 2", "Chain 3", "Divergence"]
    assert axes[1].get_legend() is None


def test_sites_and_elements_are_chosen():
    rng = np.random.default_rng(0)
    axes = TraceDisplay.from_draws(CHAINS, ["scale", "coef[1]"]).axes_
    assert [ax.get_ylabel() for ax in axes] == ["scale", "coef[1]"]
    np.testing.assert_array_equal(axes[1].get_lines()[2].get_ydata(), CHAINS["coef"][2, :, 1])
    assert legend(axes[0]) == ["Chain 1", "Chain 2", "Chain 3"]
    matrix = {"beta": rng.normal(size=(1, 9, 3, 2))}
    (ax,) = TraceDisplay.from_draws(matrix, "beta[2, 0]").axes_
    np.testing.assert_array_equal(ax.get_lines()[0].get_ydata(), matrix["beta"][0, :, 2, 0])
    # A single chain has no label.
    assert ax.get_legend() is None


# From estimators


def test_from_variational_fits(rows):
    settings = SVI(num_steps=60, num_samples=10)
    model = NumPyroImpactRegressor(zoo.conjugate, inference=settings, random_state=0).fit(rows, rows[:, 0])
    display = TraceDisplay.from_estimator(model)
    np.testing.assert_array_equal(display.axes_[0].get_lines()[0].get_ydata(), model.fit_result_.losses)
    with pytest.raises(ValueError, match="`sites` chooses which chains to show, but this fit is variational"):
        TraceDisplay.from_estimator(model, "coef")
    # Injected draws replace those of the fit.
    model.set_posterior_sample({"coef": np.zeros((20, 2))}, num_chains=2)
    assert [ax.get_ylabel() for ax in TraceDisplay.from_estimator(model).axes_] == ["coef[0]", "coef[1]"]


@pytest.mark.filterwarnings("ignore::skaimz.exceptions.FitWarning")
def test_from_markov_chains(rows):
    """A step size that is far too large makes trajectories diverge."""
    options = {"step_size": 10.0, "num_steps": 1, "trajectory_length": None}
    settings = MCMC("hmc", num_warmup=0, num_samples=40, num_chains=2, sampler_options=options)
    model = NumPyroImpactRegressor(zoo.conjugate, inference=settings, random_state=0).fit(rows, rows[:, 0])
    diverging = model.fit_result_.sample_stats["diverging"]
    assert diverging.any()
    axes = TraceDisplay.from_estimator(model).axes_
    assert [ax.get_ylabel() for ax in axes] == ["coef[0]", "coef[1]"]
    *chains, marks = axes[1].get_lines()
    np.testing.assert_array_equal([chain.get_ydata() for chain in chains], model.posterior_["coef"][..., 1])
    np.testing.assert_array_equal(marks.get_xdata(), np.flatnonzero(diverging.any(axis=0)))


def test_effects_of_rows_are_shown_where_they_are_asked_for(rows):
    rng = np.random.default_rng(0)
    draws = {"coef": rng.normal(size=(20, 2)), "effect": rng.normal(size=(20, 40))}
    model = NumPyroImpactRegressor(zoo.random_effects, posterior=draws).fit(rows, rows[:, 0])
    assert [ax.get_ylabel() for ax in TraceDisplay.from_estimator(model).axes_] == ["coef[0]", "coef[1]"]
    (ax,) = TraceDisplay.from_estimator(model, "effect[39]").axes_
    np.testing.assert_array_equal(ax.get_lines()[0].get_ydata(), draws["effect"][:, 39])


def test_from_a_posterior_without_a_fit():
    model = NumPyroImpactRegressor(zoo.conjugate).set_posterior_sample({"coef": np.ones((5, 2))})
    assert len(TraceDisplay.from_estimator(model, "coef[0]").axes_) == 1
    with pytest.raises(NotFittedError):
        TraceDisplay.from_estimator(NumPyroImpactRegressor(zoo.conjugate))


# Axes


def test_one_axes_is_divided():
    figure, (left, right) = plt.subplots(1, 2)
    display = TraceDisplay(draws=CHAINS)
    assert display.plot(ax=right) is display
    assert display.figure_ is figure
    assert plt.get_fignums() == [figure.number]
    assert not right.axison
    place = right.get_position()
    for ax in display.axes_:
        box = ax.get_position()
        assert place.x0 - 1e-9 <= box.x0 < box.x1 <= place.x1 + 1e-9
        assert place.y0 - 1e-9 <= box.y0 < box.y1 <= place.y1 + 1e-9
        assert not ax.spines["top"].get_visible()
    assert not left.get_lines()
    # A single panel uses the axes without dividing it.
    assert display.plot("scale", ax=left).axes_.tolist() == [left]


def test_axes_are_those_given():
    figure, given = plt.subplots(3, 1)
    display = TraceDisplay.from_draws(CHAINS, ax=given)
    assert display.axes_.tolist() == given.tolist()
    assert plt.get_fignums() == [figure.number]
    with pytest.raises(ValueError, match="`ax` holds 3 axes, but the picture has 2 panels"):
        display.plot("coef", ax=given)
    loose = figure.add_axes([0.1, 0.1, 0.2, 0.2])
    with pytest.raises(ValueError, match="`ax` is not part of a grid, and cannot be divided: give an array of 2 axes"):
        display.plot("coef", ax=loose)
    with pytest.raises(TypeError, match="`ax` must be one matplotlib Axes, got str"):
        display.plot("scale", ax="here")


# How they look

PICTURES = {
    "trace_loss": lambda: TraceDisplay.from_losses(LOSSES),
    "trace_chains": lambda: TraceDisplay.from_draws(CHAINS, diverging=DIVERGING),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_as_they_were(name, tmp_path):
    pictures.check_picture(name, PICTURES[name]().figure_, tmp_path)


def test_twelve_panels_are_legible():
    rng = np.random.default_rng(0)
    draws = {"a_rather_long_name": 1e5 * rng.normal(size=(5, 30, 12))}
    display = TraceDisplay.from_draws(draws, diverging=np.ones((5, 30)))
    assert len(display.axes_) == 12
    pictures.check_legible(display.figure_)


# Refusals


@pytest.mark.parametrize(
    ("sites", "message"),
    [
        ("dose", r"names 'dose', which is neither a latent site nor an element of one.*\['coef', 'scale'\]"),
        ("coef[2]", r"names 'coef\[2\]', but 'coef' has the elements coef\[0\] to coef\[1\]"),
        ("scale[0]", r"names 'scale\[0\]', but 'scale' has the elements scale to scale"),
        ([], "There is nothing to draw"),
    ],
)
def test_refusals_of_sites(sites, message):
    with pytest.raises(ValueError, match=message):
        TraceDisplay.from_draws(CHAINS, sites)
    assert not plt.get_fignums()


def test_too_many_panels():
    with pytest.raises(ValueError, match=r"A picture of 13 panels is not legible: choose 12 at most by name"):
        TraceDisplay.from_draws({"coef": np.zeros((1, 5, 13))})
    assert not plt.get_fignums()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "Give either `losses` or `draws`"),
        ({"losses": LOSSES, "draws": CHAINS}, "Give either `losses` or `draws`"),
        ({"losses": np.zeros((2, 5))}, r"`losses` must have the shape \(n,\), got \(2, 5\)"),
        ({"losses": [np.nan]}, "`losses` must hold a finite value"),
        ({"draws": {"coef": np.zeros(5)}}, r"Draws of 'coef' must have a chain and a draw axis, got the shape \(5,\)"),
        ({"draws": CHAINS, "diverging": DIVERGING[:2]}, r"`diverging` must have the shape \(3, 80\), got \(2, 80\)"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        TraceDisplay(**options)


def test_pipelines(model):
    through, own = (TraceDisplay.from_estimator(each) for each in (make_pipeline(model), model))
    assert own.draws
    for name, draws in own.draws.items():
        np.testing.assert_array_equal(through.draws[name], draws)
