"""Plots of priors and posteriors: their content and their pictures."""

import numpy as np
import pictures
import pytest
import zoo
from matplotlib import pyplot as plt
from scipy.stats import halfnorm, norm, t
from sklearn.pipeline import make_pipeline

from skaimz import NumPyroImpactRegressor
from skaimz.plotting import PriorPosteriorDisplay
from skaimz.plotting.density import density

RNG = np.random.default_rng(0)
PRIOR = {
    "level": RNG.normal(0.0, 100.0, size=(1, 2000)),
    "coef": RNG.normal(size=(1, 2000, 2)),
    "scale": np.abs(RNG.normal(size=(1, 2000))),
}
POSTERIOR = {
    "level": RNG.normal(3.0, 1.0, size=(2, 1000)),
    "coef": RNG.normal([0.5, -1.0], [0.1, 0.6], size=(2, 1000, 2)),
    "scale": np.abs(RNG.normal(0.0, 0.3, size=(2, 1000))),
}
BOUNDS = {"scale": (0.0, np.inf)}


# Densities


@pytest.mark.parametrize("distribution", [norm(2.0, 3.0), t(2.0)])
def test_densities_are_near_the_truth(distribution):
    """This includes a distribution with such heavy tails that the standard deviation of its draws is useless."""
    draws = distribution.rvs(size=4000, random_state=np.random.RandomState(0))
    grid = distribution.mean() + np.linspace(-5, 5, 100)
    np.testing.assert_allclose(
        density(draws, grid), distribution.pdf(grid), atol=0.08 * distribution.pdf(distribution.mean())
    )


def test_densities_are_folded_back_at_bounds():
    rng = np.random.default_rng(0)
    grid = np.linspace(-1, 4, 501)
    draws = np.abs(rng.normal(size=4000))
    np.testing.assert_allclose(density(draws, grid, (0.0, np.inf)), halfnorm.pdf(grid), atol=0.1)
    assert density(draws, grid)[grid < 0].max() > 0.1
    uniform = rng.uniform(size=4000)
    inside = np.linspace(0, 1, 50)
    np.testing.assert_allclose(density(uniform, inside, (0.0, 1.0)), 1, atol=0.15)


def test_densities_of_mostly_equal_draws():
    rng = np.random.default_rng(0)
    draws = np.where(np.arange(100) < 80, 0.0, rng.normal(size=100))
    grid = np.linspace(-5, 5, 1001)
    assert np.trapezoid(density(draws, grid), grid) == pytest.approx(1, abs=0.01)


# Panels


def test_panels():
    axes = PriorPosteriorDisplay.from_draws(PRIOR, POSTERIOR, bounds=BOUNDS).axes_
    assert [ax.get_xlabel() for ax in axes] == ["level", "coef[0]", "coef[1]", "scale"]
    distributions = [
        (norm(0, 100), norm(3, 1)),
        (norm, norm(0.5, 0.1)),
        (norm, norm(-1.0, 0.6)),
        (halfnorm, halfnorm(scale=0.3)),
    ]
    for ax, curves in zip(axes, distributions, strict=True):
        for line, distribution in zip(ax.get_lines(), curves, strict=True):
            x, height = line.get_data()
            np.testing.assert_allclose(
                height, distribution.pdf(x), atol=0.1 * distribution.pdf(distribution.median()) + 0.04
            )
        assert ax.get_ylabel() == "Density"
        assert ax.get_ylim()[0] == 0
        prior, posterior = ax.get_lines()
        assert prior.get_color() != posterior.get_color()
        assert prior.get_linestyle() != posterior.get_linestyle()
        assert len(ax.collections) == 2
    assert [text.get_text() for text in axes[0].get_legend().get_texts()] == ["Prior", "Posterior"]
    assert axes[1].get_legend() is None
    assert axes[3].get_xlim()[0] == 0


def test_the_posterior_is_never_a_needle():
    axes = PriorPosteriorDisplay.from_draws(PRIOR, POSTERIOR, bounds=BOUNDS).axes_
    for ax, posterior in zip(axes, (POSTERIOR["level"], *np.moveaxis(POSTERIOR["coef"], -1, 0)), strict=False):
        low, high = ax.get_xlim()
        assert low < posterior.min()
        assert high > posterior.max()
        assert np.ptp(posterior) > 0.16 * (high - low)
    # A prior that is only a little wider is shown as a whole.
    low, high = axes[2].get_xlim()
    assert low < -2.5
    assert high > 2.5


def test_a_posterior_of_one_value_is_a_line():
    (ax,) = PriorPosteriorDisplay.from_draws(PRIOR, {"level": np.full((1, 50), 7.0)}).axes_
    assert set(ax.get_lines()[1].get_xdata()) == {7.0}
    assert ax.get_xlim()[1] - ax.get_xlim()[0] > 400


def test_elements_are_chosen():
    axes = PriorPosteriorDisplay.from_draws(PRIOR, POSTERIOR, ["scale", "coef[1]"]).axes_
    assert [ax.get_xlabel() for ax in axes] == ["scale", "coef[1]"]
    x, height = axes[1].get_lines()[1].get_data()
    np.testing.assert_allclose(height, density(POSTERIOR["coef"][..., 1].ravel(), x))


# From estimators


def test_from_estimator(rows):
    rng = np.random.default_rng(0)
    draws = {"intercept": np.zeros(50), "coef": rng.normal(size=(50, 2)), "sigma": rng.uniform(5.0, 15.0, size=50)}
    model = NumPyroImpactRegressor(zoo.linear, posterior=draws, random_state=0).fit(rows, rows[:, 0])
    display = PriorPosteriorDisplay.from_estimator(model, rows[:3], ["coef[1]", "sigma"], num_samples=4000)
    np.testing.assert_array_equal(display.posterior["coef"][0], draws["coef"])
    prior, posterior = display.axes_[0].get_lines()
    np.testing.assert_allclose(prior.get_ydata(), norm.pdf(prior.get_xdata(), 0, 10), atol=0.006)
    np.testing.assert_allclose(posterior.get_ydata(), density(draws["coef"][:, 1], posterior.get_xdata()))
    # The support of the site in the kernel shows that a standard deviation is positive.
    prior = display.axes_[1].get_lines()[0]
    np.testing.assert_allclose(prior.get_ydata(), halfnorm.pdf(prior.get_xdata(), scale=10), atol=0.012)
    assert display.axes_[1].get_xlim()[0] == 0
    assert set(display.prior) == {"coef", "sigma"}
    other = PriorPosteriorDisplay.from_estimator(model, rows[:3], "sigma", num_samples=50, random_state=5)
    assert other.prior["sigma"].shape == (1, 50)


def test_effects_of_rows_are_left_out(rows):
    draws = {"coef": np.zeros((20, 2)), "effect": np.zeros((20, 40))}
    model = NumPyroImpactRegressor(zoo.random_effects, posterior=draws).fit(rows, rows[:, 0])
    axes = PriorPosteriorDisplay.from_estimator(model, rows, num_samples=20).axes_
    assert [ax.get_xlabel() for ax in axes] == ["coef[0]", "coef[1]"]
    (ax,) = PriorPosteriorDisplay.from_estimator(model, rows, "effect[39]", num_samples=20).axes_
    assert ax.get_xlabel() == "effect[39]"
    with pytest.raises(ValueError, match=r"Draws of 'effect' must .* got \(1, 20, 3\) and \(1, 20, 40\)"):
        PriorPosteriorDisplay.from_estimator(model, rows[:3], "effect[39]", num_samples=20)


def test_axes_are_those_given():
    figure, given = plt.subplots(2, 2)
    display = PriorPosteriorDisplay(PRIOR, POSTERIOR)
    assert display.plot(ax=given) is display
    assert display.axes_.tolist() == given.ravel().tolist()
    assert display.figure_ is figure
    assert plt.get_fignums() == [figure.number]


# How they look


def test_pictures_are_as_they_were(tmp_path):
    display = PriorPosteriorDisplay.from_draws(PRIOR, POSTERIOR, bounds=BOUNDS)
    pictures.check_picture("prior_posterior", display.figure_, tmp_path)


def test_one_panel_is_legible():
    pictures.check_legible(PriorPosteriorDisplay.from_draws(PRIOR, POSTERIOR, "coef[0]").figure_)


# Refusals


@pytest.mark.parametrize(
    ("posterior", "sites", "message"),
    [
        (POSTERIOR, "dose", "names 'dose', which is neither a latent site nor an element of one"),
        ({"other": np.zeros((1, 5))}, None, "There is nothing to draw"),
        ({"coef": np.zeros((1, 5, 3))}, None, r"Draws of 'coef' must .* got \(1, 2000, 2\) and \(1, 5, 3\)"),
        ({"level": np.zeros(5)}, None, r"Draws of 'level' must have the shape \(n_chains, n_draws, ...\)"),
    ],
)
def test_refusals(posterior, sites, message):
    with pytest.raises(ValueError, match=message):
        PriorPosteriorDisplay.from_draws(PRIOR, posterior, sites)
    assert not plt.get_fignums()


def test_unknown_sites_of_estimators(model, rows):
    with pytest.raises(ValueError, match=r"names 'dose', which is neither .*: the sites are \['coef'\]"):
        PriorPosteriorDisplay.from_estimator(model, rows, "dose")


def test_pipelines(model, rows):
    through, own = (PriorPosteriorDisplay.from_estimator(each, rows) for each in (make_pipeline(model), model))
    assert own.posterior
    for name, draws in own.posterior.items():
        np.testing.assert_array_equal(through.posterior[name], draws)
        np.testing.assert_array_equal(through.prior[name], own.prior[name])
