"""Simulation-based calibration: exact posteriors pass, and each kind of wrong one is found out."""

import joblib
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import zoo
from joblib.externals.loky import get_reusable_executor
from sklearn.pipeline import make_pipeline

from skaimz import NumPyroImpactClassifier, NumPyroImpactRegressor
from skaimz.inference import SVI
from skaimz.simulation_calibration import CalibrationResult, simulation_based_calibration

pytestmark = pytest.mark.usefixtures("quick_compilation")

rng = np.random.default_rng(0)
X = rng.normal(size=(6, 2))
QUICK = SVI(num_steps=20, num_samples=20)


class Known(NumPyroImpactRegressor):
    """A regressor that draws from the conjugate kernel's posterior in closed form, or from another distribution."""

    distribution = "posterior"

    def fit(self, X, y, *, sample_weight=None):
        covariance = np.linalg.inv(np.eye(X.shape[1]) + X.T @ X / 0.25)
        mean = covariance @ X.T @ y / 0.25
        mean, covariance = {
            "posterior": (mean, covariance),
            "narrow": (mean, covariance / 9),
            "wide": (mean, covariance * 4),
            "low": (mean - np.sqrt(np.diag(covariance)), covariance),
            "prior": (np.zeros(2), np.eye(2)),
        }[self.distribution]
        draws = np.random.default_rng([self.random_state, 7]).multivariate_normal(mean, covariance, 29)
        return self.set_posterior_sample({"coef": draws})


@pytest.fixture(scope="module", params=["posterior", "narrow", "wide", "low", "prior"])
def known(request):
    """Ranks under a distribution of the draws."""

    class OfLaw(Known):
        distribution = request.param

    model = OfLaw(zoo.conjugate, random_state=3)
    return request.param, simulation_based_calibration(model, X, num_replications=100, num_draws=29)


def test_ranks_tell_the_true_posterior_from_others(known):
    distribution, result = known
    table = result.summary()
    coef = table.loc[["coef[0]", "coef[1]"]]
    assert list(table.index) == ["coef[0]", "coef[1]", "log_likelihood"]
    if distribution == "posterior":
        assert (table["p_value"] > 0.01).all()
        np.testing.assert_allclose(table["mean"], 0.5, atol=4 / np.sqrt(12 * 100))
        np.testing.assert_allclose(table["spread"], 1.0, atol=0.15)
    if distribution in ("narrow", "wide", "low"):
        assert (coef["p_value"] < 1e-4).all()
    if distribution == "narrow":
        assert (coef["spread"] > 1.2).all()
        assert (result.ranks["coef[0]"] == 0).mean() > 0.1
    if distribution == "wide":
        assert (coef["spread"] < 0.75).all()
    if distribution == "low":
        assert (coef["mean"] > 0.6).all()
    if distribution == "prior":
        # Draws that ignore the data have uniform ranks. Only a quantity that looks at the data tells.
        assert (coef["p_value"] > 0.01).all()
        assert table.loc["log_likelihood", "p_value"] < 1e-6
        assert table.loc["log_likelihood", "mean"] > 0.7


def test_ranks_are_those_of_the_truth_among_the_draws(known):
    _, result = known
    assert result.n_draws == 29
    assert result.n_replications == 100
    for ranks in result.ranks.values():
        assert ranks.shape == (100,)
        assert ranks.dtype.kind == "i"
        assert ranks.min() >= 0
        assert ranks.max() <= 29


def test_latents_and_outcomes_are_drawn_together():
    """What ranks rest on, over more rows than one tile has."""
    X = np.random.default_rng(1).normal(size=(3000, 2))
    drawn = NumPyroImpactRegressor(zoo.conjugate).sample_prior_predictive_on_batch(
        X, num_samples=200, return_datatree=False
    )
    noise = drawn["y"][0] - drawn["coef"][0] @ X.T
    assert drawn["coef"].std() == pytest.approx(1.0, abs=0.1)
    np.testing.assert_allclose(noise.std(axis=0), 0.5, atol=0.15)
    assert noise.std() == pytest.approx(0.5, rel=0.01)


def test_results_of_their_own():
    ranks = {"low": np.zeros(40, int), "even": np.repeat(np.arange(10), 4)}
    result = CalibrationResult(ranks, 9, {"r_hat": 0, "ess": 3})
    found = result.p_values()
    assert found["even"] == 1.0
    assert found["low"] < 1e-6
    table = result.summary(bins=5)
    assert table.loc["even", ["mean", "spread", "p_value"]].tolist() == pytest.approx([0.5, 1.0, 1.0])
    assert table.loc["low", ["mean", "spread"]].tolist() == [0.0, 0.0]
    text = repr(result)
    assert text.startswith("Ranks among 9 draws in 40 replications; bad fits: ess in 3\n")
    assert "even" in text
    for bins in (1, 11):
        with pytest.raises(ValueError, match="`bins` must lie between 2 and the number of ranks, 10"):
            result.p_values(bins)


# Kernels and estimators of all kinds

warns_of_fits = pytest.mark.filterwarnings("ignore::skaimz.exceptions.FitWarning")


@warns_of_fits
def test_the_default_kernel_keeps_the_scales_of_its_fit():
    model = NumPyroImpactRegressor(inference=QUICK, random_state=0)
    with pytest.raises(ValueError, match="call `fit` before its calibration"):
        simulation_based_calibration(model, X)
    model.fit(X, 1000.0 + X[:, 0])
    state = {name: id(value) for name, value in vars(model).items()}
    result = simulation_based_calibration(model, X, num_replications=3, num_draws=20)
    assert list(result.ranks) == ["alpha", "beta[0]", "beta[1]", "tau", "log_likelihood"]
    assert state == {name: id(value) for name, value in vars(model).items()}
    assert model.kernel_.y_mean == pytest.approx(1000.0 + X[:, 0].mean())


@warns_of_fits
def test_a_classifier_whose_outcomes_lack_a_class():
    def rare(X, y=None, *, n_classes):
        level = numpyro.sample("level", dist.Normal(-4.0, 1.0))
        with numpyro.plate("rows", X.shape[0]):
            logits = (level * np.arange(n_classes))[None, :] + 0.0 * X[:, :1]
            numpyro.sample("y", dist.Categorical(logits=logits), obs=y)

    model = NumPyroImpactClassifier(rare, inference=QUICK, random_state=0)
    drawn = model.sample_prior_predictive_on_batch(X, num_samples=10, return_datatree=False, n_classes=3)["y"]
    assert (drawn[0] == 0).all(axis=1).any()
    model.fit(X, [0, 1, 2] * 2)  # which tells the number of classes
    result = simulation_based_calibration(model, X, num_replications=10, num_draws=20)
    assert list(result.ranks) == ["level", "log_likelihood"]
    assert result.n_replications == 10
    assert result.bad_fits == {"r_hat": 0, "ess": 0, "divergences": 0, "guide": 0, "importance": 0}


class Guessing(NumPyroImpactClassifier):
    """A classifier that draws from the prior N(0, 1) of a level."""

    def _fit(self, data, classes):
        draws = np.random.default_rng([self.random_state, 7]).normal(size=19)
        return self.set_posterior_sample({"level": draws})


def test_ties_are_left_to_chance():
    """Outcomes that depend on nothing have one likelihood, whatever the draw."""

    def blind(X, y=None):
        numpyro.sample("level", dist.Normal(0.0, 1.0))
        with numpyro.plate("rows", X.shape[0]):
            numpyro.sample("y", dist.Bernoulli(probs=0.5 + 0.0 * X[:, 0]), obs=y)

    result = simulation_based_calibration(Guessing(blind, random_state=0), X, num_replications=60, num_draws=19)
    assert result.p_values(bins=4)["level"] > 0.01
    assert result.p_values(bins=4)["log_likelihood"] > 0.01
    assert len(np.unique(result.ranks["log_likelihood"])) > 10


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_jobs_change_no_rank(backend):
    model = NumPyroImpactRegressor(zoo.conjugate, inference=QUICK, random_state=0)
    alone = simulation_based_calibration(model, X, num_replications=4, num_draws=20)
    with joblib.parallel_config(backend=backend):
        together = simulation_based_calibration(model, X, num_replications=4, num_draws=20, n_jobs=2)
    if backend == "loky":
        get_reusable_executor().shutdown(wait=True)
    for name, ranks in alone.ranks.items():
        np.testing.assert_array_equal(ranks, together.ranks[name])
    other = simulation_based_calibration(model, X, num_replications=4, num_draws=20, random_state=1)
    assert any((ranks != other.ranks[name]).any() for name, ranks in alone.ranks.items())


def test_refusals():
    model = NumPyroImpactRegressor(zoo.conjugate, inference=QUICK)
    with pytest.raises(TypeError, match="must be a NumPyroImpactRegressor"):
        simulation_based_calibration(make_pipeline(model), X)
    with pytest.raises(ValueError, match="draws are given as `posterior`"):
        simulation_based_calibration(NumPyroImpactRegressor(zoo.conjugate, posterior={"coef": np.ones((5, 2))}), X)
    with pytest.raises(ValueError, match="no latent sites"):
        simulation_based_calibration(NumPyroImpactRegressor(zoo.without_latents), X)
    with pytest.raises(ValueError, match=r"\['level'\] are improper"):
        simulation_based_calibration(NumPyroImpactRegressor(zoo.improper), X)
    with pytest.raises(ValueError, match="20 posterior draws, fewer than `num_draws`=21"):
        simulation_based_calibration(model, X, num_replications=1, num_draws=21)
    for name in ("num_replications", "num_draws"):
        with pytest.raises(ValueError, match=f"`{name}` must be a positive integer"):
            simulation_based_calibration(model, X, **{name: 0})
