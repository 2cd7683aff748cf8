import jax
import numpy as np
import pandas as pd
import pytest
import zoo
from numpyro.infer.autoguide import AutoNormal
from scipy import stats
from sklearn.base import clone
from sklearn.metrics import r2_score

from skaimz import NumPyroImpactRegressor
from skaimz.exceptions import OutputWarning, SpeedWarning, UnsettledGuideWarning
from skaimz.inference import SVI

pytestmark = pytest.mark.filterwarnings("ignore::skaimz.exceptions.FitWarning")


def posterior_of(X, y):
    """Mean and covariance of the conjugate kernel's coefficients."""
    covariance = np.linalg.inv(X.T @ X / 0.25 + np.eye(X.shape[1]))
    return covariance @ X.T @ y / 0.25, covariance


def test_posterior_is_the_closed_form(fitted, linear_data):
    mean, covariance = posterior_of(*linear_data)
    draws = fitted.posterior_["coef"]
    assert draws.shape == (1, 2000, 2)
    sd = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(draws[0].mean(axis=0), mean, atol=0.15 * sd.max())
    np.testing.assert_allclose(draws[0].std(axis=0), sd, rtol=0.1)
    assert abs(np.corrcoef(draws[0].T)[0, 1] - covariance[0, 1] / sd.prod()) < 0.1


def test_predict_and_std_are_the_closed_form(fitted, linear_data):
    X, y = linear_data
    mean, covariance = posterior_of(X, y)
    predicted, std = fitted.predict(X, return_std=True)
    np.testing.assert_allclose(predicted, X @ mean, atol=0.03)
    np.testing.assert_allclose(std, np.sqrt(0.25 + np.einsum("np,pq,nq->n", X, covariance, X)), rtol=0.01)


def test_quantiles_and_intervals_are_the_closed_form(fitted, linear_data):
    X, y = linear_data
    mean, covariance = posterior_of(X, y)
    sd = np.sqrt(0.25 + np.einsum("np,pq,nq->n", X, covariance, X))
    found = fitted.predict_quantiles(X, [0.05, 0.5, 0.95])
    expected = stats.norm.ppf([0.05, 0.5, 0.95], (X @ mean)[:, None], sd[:, None])
    assert found.shape == (60, 3)
    np.testing.assert_allclose(found, expected, atol=0.1)
    assert abs((found - expected).mean()) < 0.01
    interval = fitted.predict_interval(X, 0.9)
    np.testing.assert_allclose(interval, found[:, [0, 2]], rtol=1e-12)
    several = fitted.predict_interval(X, [0.5, 0.9])
    assert several.shape == (60, 2, 2)
    np.testing.assert_allclose(several[..., 1], interval, rtol=1e-6)
    assert (several[:, 0, 0] > several[:, 0, 1]).all()


def test_default_quantiles(fitted, linear_data):
    X, _ = linear_data
    np.testing.assert_array_equal(fitted.predict_quantiles(X), fitted.predict_quantiles(X, (0.05, 0.5, 0.95)))


def test_sample_y_draws_from_the_predictive(fitted, linear_data):
    X, y = linear_data
    mean, _ = posterior_of(X, y)
    drawn = fitted.sample_y(X, 500)
    assert drawn.shape == (60, 500)
    np.testing.assert_allclose(drawn.mean(axis=1), X @ mean, atol=0.15)
    np.testing.assert_array_equal(drawn, fitted.sample_y(X, 500))
    assert not np.array_equal(drawn, fitted.sample_y(X, 500, random_state=1))
    assert fitted.sample_y(X).shape == (60, 1)
    # More outcomes than posterior draws: draws are used again, outcomes are not.
    many = fitted.sample_y(X[:1], 5000)
    assert many.shape == (1, 5000)
    assert len(np.unique(many)) > 4990


def test_score_is_r2(fitted, linear_data):
    X, y = linear_data
    weight = np.arange(60.0)
    assert fitted.score(X, y) == pytest.approx(r2_score(y, fitted.predict(X)))
    assert type(fitted.score(X, y)) is float
    assert fitted.score(X, y, sample_weight=weight) == pytest.approx(
        r2_score(y, fitted.predict(X), sample_weight=weight)
    )


def test_predict_changes_nothing(fitted, linear_data):
    X, _ = linear_data
    before = dict(vars(fitted))
    first = fitted.predict(X)
    fitted.predict_interval(X)
    assert vars(fitted) == before
    np.testing.assert_array_equal(first, fitted.predict(X))
    assert first.flags.writeable


@pytest.mark.parametrize(("given", "override", "expected"), [
    (np.float32, None, np.float32),
    (np.float64, None, np.float64),
    (np.int64, None, np.float64),
    (np.float32, "float64", np.float64),
    (np.float64, "float32", np.float32),
])  # fmt: skip
def test_precision_follows_the_input(linear_data, quick, given, override, expected):
    X, y = linear_data
    X = (3 * X).astype(given)
    model = NumPyroImpactRegressor(zoo.conjugate, inference=quick, dtype=override, random_state=0).fit(X, y)
    assert model.posterior_["coef"].dtype == expected
    predictions = [*model.predict(X, return_std=True), model.predict_quantiles(X), model.sample_y(X)]
    assert {array.dtype for array in predictions} == {np.dtype(expected)}
    assert not jax.config.jax_enable_x64


def test_one_seed_decides_everything(linear_data, quick):
    X, y = linear_data
    model = NumPyroImpactRegressor(zoo.conjugate, inference=quick, random_state=3).fit(X, y)
    again = clone(model).fit(X, y)
    np.testing.assert_array_equal(model.posterior_["coef"], again.posterior_["coef"])
    np.testing.assert_array_equal(model.sample_y(X, 5), again.sample_y(X, 5))
    other = clone(model).set_params(random_state=4).fit(X, y)
    assert not np.array_equal(model.posterior_["coef"], other.posterior_["coef"])
    refitted = model.fit(X, y)
    np.testing.assert_array_equal(refitted.posterior_["coef"], again.posterior_["coef"])


@pytest.mark.parametrize("random_state", [np.random.RandomState(1), None, jax.random.key(5), jax.random.PRNGKey(5)])
def test_every_source_of_randomness(linear_data, quick, random_state):
    X, y = linear_data
    model = NumPyroImpactRegressor(zoo.conjugate, inference=quick, random_state=random_state).fit(X, y)
    assert isinstance(model.seed_, int)
    assert 0 <= model.seed_ < 2**32


def test_old_and_new_jax_keys_are_one_seed(linear_data, quick):
    X, y = linear_data
    seeds = {
        NumPyroImpactRegressor(zoo.conjugate, inference=quick, random_state=key).fit(X, y).seed_
        for key in (jax.random.key(5), jax.random.PRNGKey(5))
    }
    assert len(seeds) == 1


def test_row_aligned_whole_and_static_arguments(quick):
    rng = np.random.default_rng(0)
    X = rng.normal(scale=0.3, size=(80, 2))
    exposure = rng.uniform(1, 50, size=80)
    y = rng.poisson(exposure * np.exp(X @ [0.5, -0.5]))
    model = NumPyroImpactRegressor(zoo.poisson, inference=SVI(num_steps=2000, num_samples=300), random_state=0)
    model.fit(X, y, exposure=exposure)
    coef = model.posterior_["coef"][0]
    np.testing.assert_allclose(coef.mean(axis=0), [0.5, -0.5], atol=0.15)
    doubled = model.predict(X, exposure=2 * exposure)
    np.testing.assert_allclose(doubled, 2 * model.predict(X, exposure=exposure), rtol=1e-10)
    one = model.predict(X[:1], exposure=exposure[:1])
    np.testing.assert_allclose(one, exposure[0] * np.exp(X[0] @ coef.T).mean(), rtol=1e-9)
    assert model.arguments_["rows"].keys() == {"X", "exposure"}


def test_constants_and_renamed_parameters(linear_data, quick):
    X, y = linear_data
    model = NumPyroImpactRegressor(
        zoo.renamed, param_input="features", param_output="outcome", inference=quick, random_state=0
    ).fit(X, y, offset=1.0)
    assert model.kernel_spec_.output == "observed"
    # A constant of the fit holds on in predictions that do not name it.
    np.testing.assert_allclose(model.predict(X, offset=5.0) - model.predict(X), 4.0, rtol=1e-9)
    assert model.arguments_["static"] == {"offset": 1.0}


@pytest.mark.parametrize("as_frame", [False, True])
def test_column_args(quick, as_frame):
    rng = np.random.default_rng(0)
    X = rng.normal(scale=0.3, size=(80, 2))
    exposure = rng.uniform(1, 50, size=80)
    y = rng.poisson(exposure * np.exp(X @ [0.5, -0.5]))
    plain = NumPyroImpactRegressor(zoo.poisson, inference=quick, random_state=0).fit(X, y, exposure=exposure)
    joined = np.column_stack([X[:, 0], exposure, X[:, 1]])
    column = 1
    if as_frame:
        joined, column = pd.DataFrame(joined, columns=["a", "exposure", "b"]), "exposure"
    model = NumPyroImpactRegressor(zoo.poisson, column_args={"exposure": column}, inference=quick, random_state=0)
    model.fit(joined, y)
    np.testing.assert_array_equal(model.posterior_["coef"], plain.posterior_["coef"])
    np.testing.assert_array_equal(model.predict(joined), plain.predict(X, exposure=exposure))
    assert model.n_features_in_ == 3


def test_two_outputs(linear_data):
    X, _ = linear_data
    Y = X @ np.array([[1.0, 0.0], [0.0, 2.0]])
    model = NumPyroImpactRegressor(zoo.two_outputs, inference=SVI(num_steps=2000, num_samples=100), random_state=0)
    model.fit(X, Y)
    mean, std = model.predict(X, return_std=True)
    assert mean.shape == std.shape == Y.shape
    np.testing.assert_allclose(mean, Y, atol=0.2)
    assert model.score(X, Y) > 0.98
    assert model.predict_quantiles(X, [0.5]).shape == (60, 2, 1)
    assert model.predict_interval(X).shape == (60, 2, 2)
    assert model.predict_interval(X, [0.5, 0.8, 0.9]).shape == (60, 2, 2, 3)
    assert model.sample_y(X, 7).shape == (60, 2, 7)


def test_local_latents_are_drawn_anew_for_new_rows(linear_data):
    X, y = linear_data
    model = NumPyroImpactRegressor(zoo.random_effects, inference=SVI(num_samples=1000), random_state=0).fit(X, y)
    assert model.posterior_["effect"].shape == (1, 1000, 60)
    mean, std = model.predict(X[:7], return_std=True)
    coef = model.posterior_["coef"][0]
    np.testing.assert_allclose(mean, X[:7] @ coef.mean(axis=0), atol=0.3)
    # Noise 0.5 and a fresh effect of scale 2.
    np.testing.assert_allclose(std, np.sqrt(0.25 + 4.0), rtol=0.1)


def test_kernels_whose_rows_mix_run_whole_and_say_so(linear_data, quick):
    X, y = linear_data
    model = NumPyroImpactRegressor(zoo.centring, inference=quick, random_state=0).fit(X, y)
    with pytest.warns(SpeedWarning, match="all rows at once"):
        mean = model.predict(X[:10])
    coef = model.posterior_["coef"][0].mean(axis=0)
    np.testing.assert_allclose(mean, (X[:10] - X[:10].mean(axis=0)) @ coef, rtol=1e-6, atol=1e-9)
    assert not model.kernel_spec_.can_be_padded


def test_a_distribution_without_mean_falls_back_to_draws(linear_data, quick):
    X, y = linear_data
    model = NumPyroImpactRegressor(zoo.cauchy, inference=quick, random_state=0).fit(X, y)
    mean = model.predict(X)
    assert np.isfinite(mean).all()
    np.testing.assert_array_equal(model.predict(X[5:6]), mean[5:6])
    median = model.predict_quantiles(X, [0.5])[:, 0]
    np.testing.assert_allclose(median, X @ model.posterior_["coef"][0].mean(axis=0), atol=0.2)


@pytest.mark.filterwarnings("ignore::skaimz.exceptions.PosteriorWarning")
def test_predictions_that_are_not_finite_are_reported(linear_data):
    X, _ = linear_data
    draws = {"coef": np.array([[1.0, np.inf]])}
    model = NumPyroImpactRegressor(zoo.conjugate, posterior=draws)
    with pytest.warns(OutputWarning, match="60 predictions are not finite"):
        model.predict(X)


def test_dataframes_and_arrays_agree(linear_data, quick):
    X, y = linear_data
    frame = pd.DataFrame(X, columns=["a", "b"])
    model = NumPyroImpactRegressor(zoo.conjugate, inference=quick, random_state=0).fit(frame, pd.Series(y))
    plain = NumPyroImpactRegressor(zoo.conjugate, inference=quick, random_state=0).fit(X, y)
    np.testing.assert_array_equal(model.predict(frame), plain.predict(X))
    assert model.feature_names_in_.tolist() == ["a", "b"]


def test_kernel_hyperparameters_can_be_set(linear_data, quick):
    X, y = linear_data
    model = NumPyroImpactRegressor(zoo.Shrinkage(), inference=quick, random_state=0)
    model.set_params(kernel__prior_scale=0.01, inference__num_steps=2000).fit(X, y)
    assert abs(model.posterior_["coef"]).max() < 0.1
    assert quick.num_steps == 2000  # settings are shared objects, as any nested parameter is
    quick.set_params(num_steps=100)


def test_a_failed_fit_leaves_the_estimator_as_it_was(fitted, linear_data):
    X, y = linear_data
    model = clone(fitted).fit(X, y)
    before = dict(vars(model))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        model.fit(X[:, :1], y[:-1])
    assert vars(model) == before
    with pytest.raises(ValueError, match="0 feature"):
        NumPyroImpactRegressor().fit(np.empty((3, 0)), y[:3])


def test_describe(fitted):
    table = fitted.describe()
    assert table.loc["coef", ["kind", "distribution", "shape", "draws"]].tolist() == [
        "latent",
        "Normal",
        "(2,)",
        "1 x 2000",
    ]
    assert table.loc["y", "kind"].tolist() == ["outcome", "output"]
    assert table.loc["X", "kind"] == "input"


def test_unsettled_fits_warn(linear_data):
    X, y = linear_data
    # A guide object starts where it would without us.
    settings = SVI(guide=AutoNormal(None), num_steps=300, learning_rate=0.02, num_samples=10)
    with pytest.warns(UnsettledGuideWarning, match="num_steps"):
        NumPyroImpactRegressor(zoo.linear, inference=settings, random_state=0).fit(X, y)


def test_html_and_repr(fitted):
    assert "conjugate" in repr(fitted)
    assert "NumPyroImpactRegressor" in fitted._repr_html_()
