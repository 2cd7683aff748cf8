"""Posterior draws that were made elsewhere."""

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import xarray as xr
import zoo
from arviz_stats.base import array_stats
from numpyro.infer import MCMC, NUTS
from sklearn.base import clone
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skaimz import NumPyroImpactClassifier, NumPyroImpactRegressor, inference
from skaimz.exceptions import PosteriorWarning
from skaimz.inference import SVI

pytestmark = pytest.mark.filterwarnings("ignore::skaimz.exceptions.FitWarning")

DRAWS = {"coef": np.random.default_rng(0).normal(size=(12, 2))}
X = np.random.default_rng(1).normal(size=(15, 2))
MEAN = X @ DRAWS["coef"].mean(axis=0)


def sloped(X, y=None):
    level = numpyro.sample("level", dist.Normal(0.0, 1.0))
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(level + X @ coef, 0.5), obs=y)


def as_dataset(chains=3):
    coef = DRAWS["coef"].reshape(chains, -1, 2)
    return xr.Dataset({"coef": (("feature", "draw", "chain"), coef.transpose(2, 1, 0))})


class InferenceData:
    posterior = as_dataset()


FORMS = {
    "mapping": DRAWS,
    "dataset": as_dataset(),
    "tree": xr.DataTree.from_dict({"posterior": as_dataset()}),
    "posterior group": xr.DataTree.from_dict({"posterior": as_dataset()})["posterior"],
    "inference data": InferenceData(),
    "one chain": as_dataset(1).isel(chain=0),
}


@pytest.mark.parametrize("draws", FORMS.values(), ids=FORMS)
def test_every_form_predicts_the_same(draws):
    model = NumPyroImpactRegressor(zoo.conjugate).set_posterior_sample(draws)
    np.testing.assert_allclose(model.predict(X), MEAN, rtol=1e-10)
    np.testing.assert_allclose(NumPyroImpactRegressor(zoo.conjugate, posterior=draws).predict(X), MEAN, rtol=1e-10)


def test_chains_are_kept():
    model = NumPyroImpactRegressor(zoo.conjugate).set_posterior_sample(DRAWS, num_chains=4)
    assert model.posterior_["coef"].shape == (4, 3, 2)
    assert NumPyroImpactRegressor(zoo.conjugate).set_posterior_sample(as_dataset()).posterior_["coef"].shape == (
        3,
        4,
        2,
    )


GROUPED = {"coef": DRAWS["coef"].reshape(3, 4, 2)}


@pytest.mark.parametrize("num_chains", [1, 3])
def test_mappings_may_have_an_axis_of_chains(num_chains):
    """As those of NumPyro's ``get_samples(group_by_chain=True)`` and of ``posterior_`` have."""
    injected = NumPyroImpactRegressor(zoo.conjugate).set_posterior_sample(GROUPED, num_chains)
    for model in (injected, NumPyroImpactRegressor(zoo.conjugate, posterior=GROUPED)):
        np.testing.assert_allclose(model.predict(X), MEAN, rtol=1e-10)
        assert dict(model.sample_posterior_predictive(X, in_sample=False)["predictions"].sizes)["chain"] == 3
        fitted = clone(model).set_params(posterior=GROUPED).fit(X, np.zeros(15))
        np.testing.assert_array_equal(fitted.posterior_["coef"], GROUPED["coef"])
        fitted.set_posterior_sample(fitted.posterior_)
        np.testing.assert_array_equal(fitted.posterior_["coef"], GROUPED["coef"])


def test_chains_that_are_told_twice_must_agree():
    with pytest.raises(ValueError, match=r"'coef' have the shape .* a draw, but the site has \(2,\)"):
        NumPyroImpactRegressor(zoo.conjugate, posterior=GROUPED).fit(X, np.zeros(15)).set_posterior_sample(
            {"coef": np.ones((4, 3, 2))}, num_chains=2
        )


def test_a_scalar_site_is_never_taken_for_chains():
    """Four draws of a vector of three beside four of a number, and the same by two chains."""
    flat = {"level": np.arange(4.0), "coef": np.arange(8.0).reshape(4, 2)}
    chains = {name: draw.reshape(2, 2, *draw.shape[1:]) for name, draw in flat.items()}
    for draws in (flat, chains):
        model = NumPyroImpactRegressor(sloped, posterior=draws).fit(X, np.zeros(15))
        np.testing.assert_allclose(model.predict(X), 1.5 + X @ [3.0, 4.0], rtol=1e-10)
    assert model.posterior_["level"].shape == (2, 2)


def test_diagnosis_knows_chains_by_the_rows():
    model = NumPyroImpactRegressor(zoo.conjugate).set_posterior_sample(GROUPED)
    expected = NumPyroImpactRegressor(zoo.conjugate).set_posterior_sample(as_dataset()).diagnose(checks=["ess"])
    with pytest.raises(ValueError, match=r"have an axis of chains .*\(3, 4, 2\).*: pass X"):
        model.diagnose(checks=["ess"])
    assert model.diagnose(X, checks=["ess"])["value"].tolist() == expected["value"].tolist()


def test_a_posterior_survives_clone_cross_validation_and_pipelines():
    model = NumPyroImpactRegressor(zoo.conjugate, posterior=DRAWS)
    y = np.zeros(15)
    np.testing.assert_allclose(cross_val_predict(model, X, y, cv=3), MEAN, rtol=1e-10)
    pipeline = make_pipeline(FunctionTransformer(np.negative), clone(model)).fit(X, y)
    np.testing.assert_allclose(pipeline.predict(X), -MEAN, rtol=1e-10)
    assert model.fit(X, y).fit_result_.method == "injected"
    assert model.describe().loc["coef", "draws"] == "1 x 12"


def test_numpyro_draws_give_numpyro_predictions(linear_data):
    X, y = linear_data
    mcmc = MCMC(NUTS(zoo.conjugate), num_warmup=100, num_samples=100, num_chains=2, chain_method="vectorized",
                progress_bar=False)  # fmt: skip
    mcmc.run(jax.random.key(0), X.astype(np.float32), y.astype(np.float32))
    model = NumPyroImpactRegressor(zoo.conjugate, posterior=mcmc.get_samples())
    expected = X @ np.asarray(mcmc.get_samples()["coef"]).mean(axis=0)
    np.testing.assert_allclose(model.predict(X), expected, rtol=1e-5)
    for posterior in (mcmc, mcmc.get_samples(group_by_chain=True)):
        model = clone(NumPyroImpactRegressor(zoo.conjugate, posterior=posterior)).fit(X, y)
        assert model.posterior_["coef"].shape == (2, 100, 2)
        np.testing.assert_allclose(model.predict(X), expected, rtol=1e-5)


def test_a_fitted_estimator_takes_other_draws(linear_data, quick):
    X, y = linear_data
    model = NumPyroImpactRegressor(zoo.conjugate, inference=quick, random_state=0).fit(X, y)
    model.set_posterior_sample(DRAWS)
    np.testing.assert_allclose(model.predict(X), X @ DRAWS["coef"].mean(axis=0), rtol=1e-10)
    with pytest.raises(ValueError, match="were made elsewhere"):
        model.sample_posterior(3)


FITS = {"svi": SVI(num_steps=50, num_samples=20), "mcmc": inference.MCMC(num_warmup=20, num_samples=20), "auto": "auto"}


@pytest.mark.parametrize("name", FITS)
def test_fresh_draws_of_a_fit_keep_its_state(name, linear_data):
    X, y = linear_data
    model = NumPyroImpactRegressor(zoo.conjugate, inference=FITS[name], random_state=0).fit(X, y)
    fresh, other = model.sample_posterior(30), clone(model).fit(X, y)
    before = model.fit_result_
    model.set_posterior_sample(fresh)
    np.testing.assert_array_equal(model.posterior_["coef"], fresh["posterior"]["coef"])
    assert (model.fit_result_.method, model.fit_result_.losses is None) == (before.method, before.losses is None)
    # Draws that are taken anew are those that would have been taken before.
    xr.testing.assert_equal(model.sample_posterior(30)["posterior"], fresh["posterior"])
    assert model.to_datatree()["posterior"].sizes["draw"] == 30
    if name == "mcmc":
        draws = fresh["posterior"]["coef"].values
        expected = min(float(array_stats.ess(draws[..., i], chain_axis=0, draw_axis=1)) for i in range(2))
        assert model.diagnose().loc["ess", "value"] == pytest.approx(expected)
        assert model.diagnose(checks=["divergences"]).loc["divergences", "verdict"] == "unknown"
    if name == "svi":
        model.partial_fit(X, y)
        other.partial_fit(X, y)
        np.testing.assert_array_equal(model.posterior_["coef"], other.posterior_["coef"])
        # The fit has gone on, and these are no longer draws of its state.
        assert model.set_posterior_sample(fresh).fit_result_.method == "injected"


def test_classifier_without_labels_predicts_the_kernels_integers():
    model = NumPyroImpactClassifier(zoo.logistic, posterior=DRAWS)
    expected = (1 / (1 + np.exp(-X @ DRAWS["coef"].T))).mean(axis=1)
    np.testing.assert_allclose(model.predict_proba(X)[:, 1], expected, rtol=1e-10)
    np.testing.assert_array_equal(model.predict(X), (expected > 0.5).astype(int))
    labelled = clone(model).fit(X, np.where(X[:, 0] > 0, "up", "down"))
    np.testing.assert_array_equal(labelled.predict(X), np.where(expected > 0.5, "up", "down"))


BAD = [
    ({}, ValueError, "are empty"),
    ({"coef": np.float64(1.0)}, ValueError, r"\['coef'\] are 0-dimensional"),
    ({"coef": np.ones((3, 2)), "other": np.ones(4)}, ValueError, "differ in number: {'coef': 3, 'other': 4}"),
    ({"coef": np.ones((0, 2))}, ValueError, "are empty"),
    (np.ones(3), TypeError, "must be a mapping.*got ndarray"),
    (xr.Dataset(), ValueError, "has no variables"),
    (xr.Dataset({"coef": ("x", np.ones(2))}), ValueError, "no dimension 'draw'"),
    (xr.Dataset({"coef": (("draw", "x"), np.ones((0, 2)))}), ValueError, "are empty"),
]


@pytest.mark.parametrize(("draws", "error", "message"), BAD)
def test_bad_draws(draws, error, message):
    with pytest.raises(error, match=message):
        NumPyroImpactRegressor(zoo.conjugate).set_posterior_sample(draws)
    with pytest.raises(error, match=message):
        NumPyroImpactRegressor(zoo.conjugate, posterior=draws).predict(X)


def test_chains_must_divide_draws():
    with pytest.raises(ValueError, match="12 posterior draws cannot be divided into `num_chains`=5"):
        NumPyroImpactRegressor(zoo.conjugate).set_posterior_sample(DRAWS, num_chains=5)


def test_draws_of_the_wrong_shape():
    with pytest.raises(ValueError, match=r"'coef' have the shape \(3,\) a draw, but the site has \(2,\)"):
        NumPyroImpactRegressor(zoo.conjugate, posterior={"coef": np.ones((5, 3))}).predict(X)


def test_foreign_and_output_sites_are_left_out_with_a_warning():
    draws = DRAWS | {"y": np.ones((12, 15)), "foreign": np.ones(12)}
    model = NumPyroImpactRegressor(zoo.conjugate, posterior=draws)
    with pytest.warns(PosteriorWarning) as caught:
        mean = model.predict(X)
    np.testing.assert_allclose(mean, MEAN, rtol=1e-10)
    messages = " ".join(str(warning.message) for warning in caught)
    assert "output site 'y'" in messages
    assert "['foreign']" in messages


def test_stale_deterministics_are_recomputed():
    draws = {"intercept": np.zeros(3), "coef": np.ones((3, 2)), "sigma": np.ones(3), "mu": np.full((3, 15), 99.0)}
    model = NumPyroImpactRegressor(zoo.linear, posterior=draws)
    np.testing.assert_allclose(model.predict(X), X.sum(axis=1), rtol=1e-10)


def test_missing_latents_come_from_their_prior():
    draws = {"coef": np.ones((4000, 2)), "sigma": np.ones(4000)}
    model = NumPyroImpactRegressor(zoo.linear, posterior=draws)
    with pytest.warns(PosteriorWarning, match=r"\['intercept'\] have no posterior draws"):
        mean, std = model.predict(X, return_std=True)
    # The prior of the intercept is N(0, 100).
    np.testing.assert_allclose(mean, X.sum(axis=1), atol=5 * 100 / np.sqrt(4000))
    np.testing.assert_allclose(std, 100, rtol=0.06)


def test_none_of_the_sites_is_known():
    model = NumPyroImpactRegressor(zoo.conjugate, posterior={"other": np.ones(3)})
    with pytest.warns(PosteriorWarning), pytest.raises(ValueError, match=r"None of .*\['other'\].*\['coef'\]"):
        model.predict(X)


def test_warnings_point_at_the_line_of_the_user():
    """However deep inside they arise, and through whatever wraps a method."""
    X = np.ones((3, 2))
    model = NumPyroImpactRegressor(zoo.grouped, random_state=0)
    model.set_posterior_sample({"level": np.zeros(4), "spread": np.ones(4)})
    for call in (model.predict, model.sample_posterior_predictive_on_batch):
        with pytest.warns(PosteriorWarning) as record:
            call(X)
        assert {each.filename for each in record} == {__file__}
