"""Draws and log densities as trees: against formulas and NumPyro."""

import copy
import inspect

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
import xarray as xr
import zoo
from numpyro.infer.util import log_likelihood
from scipy import stats

from skaimz import NumPyroImpactClassifier, NumPyroImpactRegressor
from skaimz.exceptions import SpeedWarning
from skaimz.inference import SVI

pytestmark = pytest.mark.filterwarnings("ignore::skaimz.exceptions.FitWarning")

rng = np.random.default_rng(0)
X = rng.normal(size=(40, 2))
y = 1.0 + X @ [2.0, -1.0] + rng.normal(scale=0.5, size=40)
SETTINGS = SVI(num_steps=300, num_samples=50)


@pytest.fixture(scope="module")
def model():
    return NumPyroImpactRegressor(zoo.linear, inference=SETTINGS, random_state=0).fit(X, y)


def test_posterior_predictive(model):
    tree = model.sample_posterior_predictive_on_batch(X)
    assert set(tree.children) == {"posterior", "posterior_predictive"}
    found = tree["posterior_predictive"].dataset
    assert found["y"].dims == ("chain", "draw", "rows")
    draws = {name: draw[0] for name, draw in model.posterior_.items()}
    mu = draws["intercept"][:, None] + draws["coef"] @ X.T
    np.testing.assert_allclose(found["mu"][0], mu, rtol=1e-10)
    noise = (found["y"][0] - mu) / draws["sigma"][:, None]
    assert stats.kstest(np.ravel(noise), "norm").pvalue > 1e-3
    np.testing.assert_array_equal(tree["posterior"]["coef"], model.posterior_["coef"])


def test_the_draws_are_those_behind_the_quantiles(model):
    found = model.sample_posterior_predictive_on_batch(X, return_datatree=False)
    expected = np.quantile(found["y"][0], [0.1, 0.9], axis=0).T
    np.testing.assert_allclose(model.predict_quantiles(X, [0.1, 0.9], method="draws"), expected, rtol=1e-12)
    again = model.sample_posterior_predictive_on_batch(X, return_datatree=False)
    np.testing.assert_array_equal(found["y"], again["y"])
    other = model.sample_posterior_predictive_on_batch(X, return_datatree=False, random_state=1)
    assert not np.array_equal(found["y"], other["y"])


def test_rows_are_labelled_by_the_frames_index(model):
    frame = pd.DataFrame(X, index=[f"row {i}" for i in range(40)])
    tree = model.sample_posterior_predictive_on_batch(frame)
    assert tree["posterior_predictive"]["rows"].to_numpy().tolist() == frame.index.tolist()


def test_interventions_and_conditions(model):
    found = model.sample_posterior_predictive_on_batch(X, intervention={"coef": np.zeros(2)}, return_datatree=False)
    np.testing.assert_allclose(found["mu"][0], np.tile(model.posterior_["intercept"][0][:, None], 40))
    fixed = model.sample_posterior_predictive_on_batch(
        X, condition={"intercept": 5.0}, return_sites=["mu", "intercept"], return_datatree=False
    )
    np.testing.assert_allclose(fixed["mu"][0], 5.0 + model.posterior_["coef"][0] @ X.T, rtol=1e-10)
    np.testing.assert_array_equal(fixed["intercept"], 5.0)


def test_interventions_by_row():
    model = NumPyroImpactRegressor(zoo.random_effects, inference=SETTINGS, random_state=0).fit(X, y)
    effect = np.linspace(100, 200, 40)
    found = model.sample_posterior_predictive_on_batch(X, intervention={"effect": effect}, return_datatree=False)
    np.testing.assert_allclose(found["y"].mean(axis=(0, 1)), effect, atol=6)


def test_local_latents_in_and_out_of_sample():
    model = NumPyroImpactRegressor(zoo.random_effects, inference=SETTINGS, random_state=0).fit(X, y)
    inside = model.sample_posterior_predictive_on_batch(X, return_sites=["effect", "y"], return_datatree=False)
    np.testing.assert_array_equal(inside["effect"], model.posterior_["effect"])
    outside = model.sample_posterior_predictive_on_batch(X[:7], in_sample=False, return_sites=["effect"])
    fresh = outside["predictions"]["effect"]
    assert fresh.shape == (1, 50, 7)
    assert abs(fresh.std() - 2.0) < 0.4
    with pytest.raises(ValueError, match="draws for the 40 rows of the fit, but X has 7"):
        model.sample_posterior_predictive_on_batch(X[:7])


def test_many_tiles_hold_the_rows_in_order(model):
    many = np.tile(X, (60, 1))
    found = model.sample_posterior_predictive_on_batch(many, return_sites=["mu", "sigma"], return_datatree=False)
    few = model.sample_posterior_predictive_on_batch(X, return_sites=["mu"], return_datatree=False)
    np.testing.assert_allclose(found["mu"], np.tile(few["mu"], 60), rtol=1e-12)
    np.testing.assert_array_equal(found["sigma"], model.posterior_["sigma"])


def test_sites_that_mix_rows_see_all_of_them(linear_data):
    X, y = linear_data
    model = NumPyroImpactRegressor(zoo.centred_deterministic, inference=SETTINGS, random_state=0).fit(X, y)
    many = np.tile(X, (40, 1))
    with pytest.warns(SpeedWarning, match="'centred' may mix them"):
        found = model.sample_posterior_predictive_on_batch(many, return_sites=["centred"], return_datatree=False)
    np.testing.assert_allclose(found["centred"][0, 0], (many - many.mean(axis=0))[:, 0], rtol=1e-9, atol=1e-12)


def test_prior_predictive_before_and_after_a_fit(model):
    unfitted = NumPyroImpactRegressor(zoo.linear, random_state=0)
    tree = unfitted.sample_prior_predictive_on_batch(X, num_samples=2000)
    prior = tree["prior_predictive"].dataset
    np.testing.assert_allclose(prior["coef"].std(), 10.0, rtol=0.05)
    np.testing.assert_allclose(prior["intercept"].std(), 100.0, rtol=0.1)
    mu = prior["intercept"].to_numpy()[0][:, None] + prior["coef"].to_numpy()[0] @ X.T
    np.testing.assert_allclose(prior["mu"][0], mu, rtol=1e-9)
    assert not hasattr(unfitted, "seed_")
    after = model.sample_prior_predictive_on_batch(X, num_samples=2000)["prior_predictive"].dataset
    xr.testing.assert_equal(prior, after)


def test_log_likelihood(model):
    tree = model.log_likelihood_on_batch(X, y)
    found = tree["log_likelihood"]["y"].to_numpy()[0]
    draws = {name: draw[0] for name, draw in model.posterior_.items()}
    mu = draws["intercept"][:, None] + draws["coef"] @ X.T
    np.testing.assert_allclose(found, stats.norm.logpdf(y, mu, draws["sigma"][:, None]), rtol=1e-9)
    with jax.enable_x64(True):
        theirs = log_likelihood(zoo.linear, draws, X, y)["y"]
    np.testing.assert_allclose(found, theirs, rtol=1e-9)


def test_log_likelihood_of_labels():
    labels = np.where(X[:, 0] > 0, "up", "down")
    model = NumPyroImpactClassifier(zoo.logistic, inference=SETTINGS, random_state=0).fit(X, labels)
    found = model.log_likelihood_on_batch(X, labels, return_datatree=False)["y"][0]
    logit = model.posterior_["coef"][0] @ X.T
    expected = np.where(labels == "up", -np.log1p(np.exp(-logit)), -np.log1p(np.exp(logit)))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    with pytest.raises(ValueError, match=r"labels that `fit` did not see: \['left'\]"):
        model.log_likelihood_on_batch(X, np.full(40, "left"))


def letters(X, y=None):
    a = numpyro.sample("a", dist.Normal(0.0, 1.0))
    numpyro.deterministic("ab", 2.0 * a)
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(a + 0.0 * X[:, 0], 1.0), obs=y)


@pytest.mark.parametrize("asked", ["ab", ["ab"], ("ab", "ab")])
def test_one_name_is_one_site_however_often_it_is_asked_for(asked, tmp_path):
    model = NumPyroImpactRegressor(letters, posterior={"a": [1.0, 3.0]}, random_state=0)
    trees = [
        model.sample_posterior_predictive(X, in_sample=False, return_sites=asked),
        model.sample_posterior_predictive_on_batch(X, in_sample=False, return_sites=asked),
        model.sample_posterior_predictive(X, in_sample=False, return_sites=asked, output_dir=tmp_path / "draws"),
        model.sample_prior_predictive(X, num_samples=2, return_sites=asked),
    ]
    for tree, group in zip(trees, ["predictions"] * 3 + ["prior_predictive"], strict=True):
        assert list(tree[group].data_vars) == ["ab"]
    for tree in trees[:3]:
        assert tree["predictions"]["ab"].to_numpy().tolist() == [[2.0, 6.0]]


BAD = [
    ({"return_sites": "z"}, "`return_sites` names 'z', which is not a site of the kernel"),
    ({"return_sites": 3}, "`return_sites` names 3, which is not a site of the kernel"),
    ({"return_sites": ["z"]}, "`return_sites` names 'z', which is not a site of the kernel"),
    ({"intervention": {"z": 1.0}}, "`intervention` names 'z', which is not a sample site"),
    ({"intervention": {"mu": 1.0}}, r"names 'mu', which is not a sample site .*It is computed: .*'mu', dist.Delta"),
    ({"condition": {"z": 1.0}}, "`condition` names 'z'"),
    ({"intervention": {"coef": np.zeros(2)}, "return_sites": ["coef"]}, "'coef', which `intervention` sets"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_refusals(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        model.sample_posterior_predictive_on_batch(X, **arguments)


def test_more_refusals(model):
    with pytest.raises(ValueError, match="call `fit` before its prior"):
        NumPyroImpactRegressor().sample_prior_predictive_on_batch(X)
    with pytest.raises(ValueError, match="`num_samples` must be a positive integer"):
        model.sample_prior_predictive_on_batch(X, num_samples=0)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        model.log_likelihood_on_batch(X, y[:-1])


def test_verbose_shows_progress_of_draws_unless_told_otherwise(model, capfd):
    loud = copy.copy(model).set_params(verbose=1)
    loud.sample_posterior_predictive(X, batch_size=16)
    assert "1/1" in capfd.readouterr().err
    loud.sample_posterior_predictive(X, batch_size=16, progress=False)
    model.sample_posterior_predictive(X, batch_size=16)
    assert capfd.readouterr().err == ""
    model.log_likelihood(X, y, batch_size=16, progress=True)
    assert "1/1" in capfd.readouterr().err


# One seed for each call

BOTH = {"columns": {0: [0.5] * 40}}
CALLS = {
    "sample_y": lambda model, seed: model.sample_y(X, 3, seed),
    "sample_posterior": lambda model, seed: model.sample_posterior(5, random_state=seed),
    "sample_posterior_predictive": lambda model, seed: model.sample_posterior_predictive(X, random_state=seed),
    "sample_posterior_predictive_on_batch": lambda model, seed: model.sample_posterior_predictive_on_batch(
        X, random_state=seed
    ),
    "sample_prior_predictive": lambda model, seed: model.sample_prior_predictive(X, num_samples=5, random_state=seed),
    "sample_prior_predictive_on_batch": lambda model, seed: model.sample_prior_predictive_on_batch(
        X, num_samples=5, random_state=seed
    ),
    "estimate_effect": lambda model, seed: model.estimate_effect(
        X, scenarios={"a": BOTH, "b": BOTH}, of="outcome", random_state=seed
    ),
    "estimate_slope": lambda model, seed: model.estimate_slope(X, [0, 1], random_state=seed),
    "diagnose": lambda model, seed: model.diagnose(X, y, checks=["p_mean", "prior_mean"], random_state=seed),
    "to_datatree": lambda model, seed: model.to_datatree(X, y, random_state=seed),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_source_of_seeds_is_drawn_from_once_in_each_call(model, name):
    source, twin = np.random.RandomState(7), np.random.RandomState(7)
    found = CALLS[name](model, source)
    expected = CALLS[name](model, int(twin.randint(2**31)))
    assert source.randint(2**31) == twin.randint(2**31)
    if isinstance(found, xr.DataTree):
        for group, node in expected.children.items():
            xr.testing.assert_equal(found[group].to_dataset(), node.to_dataset())
    else:
        np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


def test_every_method_that_takes_a_seed_is_among_these_calls():
    takes_seeds = {
        name
        for each in (NumPyroImpactRegressor, NumPyroImpactClassifier)
        for name, method in inspect.getmembers(each, callable)
        if not name.startswith("_") and "random_state" in inspect.signature(method).parameters
    }
    assert takes_seeds == CALLS.keys()


@pytest.mark.parametrize("of", ["mean", "outcome"])
def test_equal_scenarios_do_not_differ_whatever_the_source_of_seeds(model, of):
    for seed in (np.random.RandomState(0), np.random.mtrand._rand, jax.random.key(3), np.uint32(5)):
        found = model.estimate_effect(X, baseline=BOTH, scenarios={"a": BOTH}, of=of, random_state=seed)
        np.testing.assert_array_equal(found["a"]["effect"], 0.0)
