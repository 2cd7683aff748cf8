"""Outcomes that are missing, left out or imputed, and missing entries of X that a kernel replaces."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
import zarr
from sklearn.exceptions import DataConversionWarning
from sklearn.metrics import r2_score
from zoo import conjugate, softmax

from skaimz import NumPyroImpactClassifier, NumPyroImpactRegressor
from skaimz.inference import SVI, Auto

NOISE = 0.5
rng = np.random.default_rng(0)
X = rng.normal(size=(60, 2))
Y = X @ [1.0, -1.0] + NOISE * rng.normal(size=60)
MISSING = np.zeros(60, bool)
MISSING[[0, 7, 8, 40, 59]] = True
HOLES = np.where(MISSING, np.nan, Y)
PAIRS = X @ [[1.0, 0.5], [-1.0, 2.0]] + NOISE * rng.normal(size=(60, 2))
GAPS = rng.uniform(size=(60, 2)) < 0.3
GAPS[5] = True


def columns(X, y=None):
    """Two outcomes a row, each with a density of its own; the kernel has its rows on the last axis."""
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([2, 2]).to_event(2))
    with numpyro.plate("outputs", 2, dim=-2), numpyro.plate("rows", X.shape[0], dim=-1):
        numpyro.sample("y", dist.Normal((X @ coef).T, NOISE), obs=None if y is None else y.T)


def events(X, y=None):
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([2, 2]).to_event(2))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ coef, NOISE).to_event(1), obs=y)


def joint(X, y=None):
    """Two correlated outcomes."""
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([2, 2]).to_event(2))
    covariance = NOISE**2 * jnp.array([[1.0, 0.6], [0.6, 1.0]])
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.MultivariateNormal(X @ coef, covariance), obs=y)


def chained(X, y=None):
    """The second outcome follows the first."""
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    before = jnp.zeros(X.shape[0]) if y is None else y[:, 0]
    with numpyro.plate("rows", X.shape[0]):
        mean = slope * X + jnp.stack([jnp.zeros(X.shape[0]), before], axis=1)
        numpyro.sample("y", dist.Normal(mean, NOISE).to_event(1), obs=y)


def reversed_columns(X, y=None):
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([2, 2]).to_event(2))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample(
            "y", dist.Normal(X @ coef, NOISE).to_event(1), obs=None if y is None else y[:, jnp.array([1, 0])]
        )


def trials(X, y=None, *, total):
    """Counts of at most ``total``, which differs from row to row."""
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Binomial(total, logits=slope * X[:, 0]), obs=y)


def effects(X, y=None):
    """An effect for each row, so that rows are neither padded nor joined."""
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        effect = numpyro.sample("effect", dist.Normal(0.0, 1.0))
        numpyro.sample("y", dist.Normal(X @ coef + effect, NOISE), obs=y)


def measured(X, y=None):
    """Entries of X are standard normal, and those that are missing are latent; y is X with noise."""
    missing = jnp.isnan(X[:, 0])
    with numpyro.plate("rows", X.shape[0]):
        guess = numpyro.sample("guess", dist.Normal(0.0, 1.0))
        numpyro.sample("y", dist.Normal(jnp.where(missing, guess, jnp.where(missing, 0.0, X[:, 0])), NOISE), obs=y)


def masked_by_itself(X, y=None, *, seen=None):
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ coef, NOISE), obs=y, obs_mask=seen)


def ridge(Z, y):
    """Return the posterior mean and covariance of normal slopes with unit prior and known noise."""
    covariance = np.linalg.inv(np.eye(Z.shape[1]) + Z.T @ Z / NOISE**2)
    return covariance @ Z.T @ y / NOISE**2, covariance


class Batches:
    def __init__(self, parts):
        self.parts = parts

    def __iter__(self):
        return iter(self.parts)


def regressor(kernel=None, missing="ignore", inference="auto", **settings):
    return NumPyroImpactRegressor(kernel, missing_outcomes=missing, inference=inference, random_state=0, **settings)


def close(model, other, tolerance=1e-4):
    assert model.posterior_.keys() == other.posterior_.keys()
    for name, draws in model.posterior_.items():
        np.testing.assert_allclose(draws, other.posterior_[name], rtol=tolerance, atol=tolerance)


@pytest.fixture(scope="module")
def imputed():
    return regressor(conjugate, "impute", Auto(num_samples=4000)).fit(X, HOLES)


@pytest.mark.parametrize("kernel", [None, conjugate])
def test_ignored_rows_are_as_if_left_out(kernel):
    model = regressor(kernel).fit(X, HOLES)
    close(model, regressor(kernel).fit(X[~MISSING], Y[~MISSING]))
    weight = rng.uniform(size=60)
    model = regressor(kernel).fit(X, HOLES, sample_weight=weight)
    close(model, regressor(kernel).fit(X[~MISSING], Y[~MISSING], sample_weight=weight[~MISSING]))


def test_containers():
    """Missing outcomes are NaN, None, NA or masked."""
    expected = regressor().fit(X, HOLES)
    for y in (
        HOLES.tolist(),
        [None if np.isnan(value) else value for value in HOLES],
        np.ma.masked_array(np.where(MISSING, 99.0, Y), MISSING),
        pd.Series(HOLES).astype("Float64"),
    ):
        close(regressor().fit(X, y), expected, 0)
    with pytest.warns(DataConversionWarning):
        close(regressor().fit(X, HOLES[:, None]), expected, 0)
    with pytest.warns(DataConversionWarning):
        in_column = regressor(conjugate, "impute").fit(X, HOLES[:, None])
    close(in_column, regressor(conjugate, "impute").fit(X, HOLES), 0)
    for refused in (HOLES, np.ma.masked_array(Y, MISSING)):
        with pytest.raises(ValueError, match="y contains NaN"):
            regressor(missing="error").fit(X, refused)
    with pytest.raises(ValueError, match="infinity"):
        regressor().fit(X, np.where(MISSING, np.inf, Y))
    with pytest.raises(ValueError, match="y has no outcome"):
        regressor().fit(X, np.full(60, np.nan))
    with pytest.raises(ValueError, match="`missing_outcomes` must be one of"):
        regressor(missing="drop").fit(X, Y)


@pytest.mark.parametrize("kernel", [columns, events])
def test_entries_are_left_out_one_by_one(kernel):
    model = regressor(kernel, inference=Auto(num_samples=4000)).fit(X, np.where(GAPS, np.nan, PAIRS))
    coef = model.posterior_["coef"][0]
    for column in range(2):
        rows = ~GAPS[:, column]
        mean, covariance = ridge(X[rows], PAIRS[rows, column])
        np.testing.assert_allclose(coef[:, :, column].mean(axis=0), mean, atol=4 * np.sqrt(covariance.max() / 4000))
        np.testing.assert_allclose(np.cov(coef[:, :, column].T), covariance, atol=0.1 * covariance.max())
    predicted = model.predict(X)
    observed = [r2_score(PAIRS[~gap, j], predicted[~gap, j]) for j, gap in enumerate(GAPS.T)]
    np.testing.assert_allclose(model.score(X, np.where(GAPS, np.nan, PAIRS)), np.mean(observed))


def test_rows_of_a_joint_density():
    gone = np.where(MISSING[:, None], np.nan, PAIRS)
    close(regressor(joint).fit(X, gone), regressor(joint).fit(X[~MISSING], PAIRS[~MISSING]))
    with pytest.raises(ValueError, match="the entries of a row of 'y' share one density"):
        regressor(joint).fit(X, np.where(GAPS, np.nan, PAIRS))


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (chained, r"the density of \['y'\] depends on other outcomes as well"),
        (reversed_columns, "'y' observes y in another order"),
    ],
)
def test_refused_kernels(kernel, message):
    with pytest.raises(ValueError, match=f"Missing outcomes cannot be left out, because {message}"):
        regressor(kernel).fit(X, np.where(GAPS, np.nan, PAIRS))


def test_supports_that_differ_between_rows():
    """No other outcome of the data is possible in the row whose outcome is missing."""
    total = np.full(60, 20)
    y = rng.binomial(total, 1 / (1 + np.exp(-X[:, 0]))).astype(float)
    y[:30] = np.maximum(y[:30], 2)
    total[3], y[3] = 0, np.nan
    rows = np.arange(60) != 3
    close(regressor(trials).fit(X, y, total=total), regressor(trials).fit(X[rows], y[rows], total=total[rows]), 1e-3)


def test_effects_of_rows():
    """Rows without an outcome keep the prior of their effects."""
    model = regressor(effects, inference=Auto(num_samples=2000)).fit(X, HOLES)
    of_missing = model.posterior_["effect"][0][:, MISSING]
    np.testing.assert_allclose(of_missing.mean(axis=0), 0.0, atol=0.15)
    np.testing.assert_allclose(of_missing.std(axis=0), 1.0, atol=0.15)
    Z = X[~MISSING]
    precision = np.eye(2) + Z.T @ Z / (1 + NOISE**2)
    mean = np.linalg.solve(precision, Z.T @ Y[~MISSING] / (1 + NOISE**2))
    np.testing.assert_allclose(model.posterior_["coef"][0].mean(axis=0), mean, atol=0.06)


def test_minibatches(tmp_path):
    """Entries are left out of minibatches too, from memory and from disk alike."""
    y = np.where(GAPS, np.nan, PAIRS)
    settings = SVI(num_steps=3000, batch_size=20, num_samples=500)
    model = regressor(events, inference=settings).fit(X, y)
    for column in range(2):
        mean, _ = ridge(X[~GAPS[:, column]], PAIRS[~GAPS[:, column], column])
        np.testing.assert_allclose(model.posterior_["coef"][0][:, :, column].mean(axis=0), mean, atol=0.06)
    stored = {}
    for name, array in {"X": X, "y": y}.items():
        stored[name] = zarr.create_array(tmp_path / name, shape=array.shape, chunks=(7, 2), dtype="f8")
        stored[name][:] = array
    close(regressor(events, inference=settings).fit(stored["X"], stored["y"]), model, 0)
    with pytest.raises(ValueError, match="needs outcomes in memory"):
        regressor(events, "impute", settings).fit(stored["X"], stored["y"])
    in_parts = regressor(events, inference=SVI(batch_size=20, total_rows=60))
    assert np.isfinite(in_parts.partial_fit(X, y).partial_fit(X, y).fit_result_.losses).all()


def test_labels():
    y = np.where(MISSING, None, np.where(X[:, 0] + rng.normal(size=60) > 0, "up", "down"))
    settings = {"missing_outcomes": "ignore", "random_state": 0}
    for kernel in (None, softmax):
        model = NumPyroImpactClassifier(kernel, **settings).fit(X, y)
        close(model, NumPyroImpactClassifier(kernel, **settings).fit(X[~MISSING], y[~MISSING]))
    assert model.classes_.tolist() == ["down", "up"]
    assert model.score(X, y) == (model.predict(X) == y)[~MISSING].mean()
    settings["inference"] = SVI(num_steps=20, batch_size=16, num_samples=50)
    parts = [{"X": X[start : start + 25], "y": y[start : start + 25]} for start in range(0, 60, 25)]
    streamed = NumPyroImpactClassifier(softmax, **settings).fit(Batches(parts))
    close(streamed, NumPyroImpactClassifier(softmax, **settings).fit(X, y), 0)
    with pytest.raises(ValueError, match="y has no label in row 0"):
        NumPyroImpactClassifier(random_state=0).fit(X, y)


def test_imputation(imputed):
    """Given the data, a missing outcome is normal with known moments."""
    mean, covariance = ridge(X[~MISSING], Y[~MISSING])
    drawn = imputed.posterior_["y_unobserved"]
    assert drawn.shape == (1, 4000, 5)
    Z = X[MISSING]
    expected = Z @ covariance @ Z.T + NOISE**2 * np.eye(5)
    np.testing.assert_allclose(drawn[0].mean(axis=0), Z @ mean, atol=4 * np.sqrt(expected.max() / 4000))
    np.testing.assert_allclose(np.cov(drawn[0].T), expected, atol=0.05)
    # Each draw belongs to the draw of the slopes.
    rest = drawn[0] - imputed.posterior_["coef"][0] @ Z.T
    np.testing.assert_allclose(rest.std(axis=0), NOISE, rtol=0.05)
    close(regressor(conjugate, "ignore", Auto(num_samples=4000)).fit(X, HOLES), _without_imputed(imputed), 0)


def _without_imputed(model):
    other = regressor(conjugate)
    other.posterior_ = {"coef": model.posterior_["coef"]}
    return other


def test_imputed_outcomes_are_kept(imputed):
    again = NumPyroImpactRegressor.from_datatree(conjugate, imputed.to_datatree())
    np.testing.assert_array_equal(again.posterior_["y_unobserved"], imputed.posterior_["y_unobserved"])
    np.testing.assert_array_equal(again.predict(X), imputed.predict(X))
    assert again.missing_outcomes == "impute"
    complete = regressor(conjugate, "impute").fit(X, Y)
    assert set(complete.posterior_) == {"coef"}


def test_imputed_entries():
    model = regressor(columns, "impute", Auto(num_samples=2000)).fit(X, np.where(GAPS, np.nan, PAIRS))
    drawn = model.posterior_["y_unobserved"][0]
    expected = np.einsum("nf,dfk->dnk", X, model.posterior_["coef"][0])[:, GAPS]
    assert drawn.shape == expected.shape
    np.testing.assert_allclose((drawn - expected).std(axis=0), NOISE, rtol=0.15)
    np.testing.assert_allclose((drawn - expected).mean(axis=0), 0.0, atol=0.06)


def test_what_needs_outcomes(imputed):
    for call in (
        lambda: imputed.log_likelihood(X, HOLES),
        lambda: imputed.diagnose(X, HOLES),
        lambda: imputed.to_datatree(X, HOLES),
    ):
        with pytest.raises(ValueError, match="y has missing outcomes"):
            call()
    np.testing.assert_allclose(imputed.score(X, HOLES), r2_score(Y[~MISSING], imputed.predict(X)[~MISSING]))


@pytest.mark.filterwarnings("ignore::skaimz.exceptions.RowsOfFitWarning")
def test_missing_entries_of_x():
    """Noisy outcomes tell of inputs: a missing one has the posterior of a normal mean."""
    y = X[:, 0] + NOISE * rng.normal(size=60)
    Z = np.where(MISSING, np.nan, X[:, 0])[:, None]
    model = regressor(measured, inference=Auto(num_samples=4000), allow_nan=True).fit(Z, y)
    guess = model.posterior_["guess"][0]
    shrink = 1 / (1 + NOISE**2)
    np.testing.assert_allclose(guess[:, MISSING].mean(axis=0), shrink * y[MISSING], atol=0.05)
    np.testing.assert_allclose(guess[:, MISSING].std(axis=0), np.sqrt(NOISE**2 * shrink), rtol=0.1)
    np.testing.assert_allclose(guess[:, ~MISSING].std(), 1.0, rtol=0.05)
    np.testing.assert_allclose(model.predict(Z), np.where(MISSING, 0.0, X[:, 0]), atol=0.1)
    assert model.__sklearn_tags__().input_tags.allow_nan
    masked = np.ma.masked_array(X[:, :1], MISSING[:, None])
    np.testing.assert_array_equal(model.predict(masked), model.predict(Z))
    with pytest.raises(ValueError, match="X contains infinity"):
        model.predict(np.where(MISSING[:, None], np.inf, Z))
    with pytest.raises(ValueError, match="X contains NaN"):
        model.set_params(allow_nan=False).predict(Z)
    with pytest.raises(ValueError, match="`allow_nan` needs a `kernel`"):
        regressor(allow_nan=True).fit(Z, y)


def test_masks_of_the_kernel():
    """The kernel's `obs_mask` leaves outcomes out, as NumPyro's own chains do with two sites and more coordinates."""
    settings = Auto(num_samples=4000)
    model = regressor(masked_by_itself, inference=settings).fit(X, np.where(MISSING, 99.0, Y), seen=~MISSING)
    assert list(model.posterior_) == ["coef"]
    mean, covariance = ridge(X[~MISSING], Y[~MISSING])
    coef = model.posterior_["coef"][0]
    np.testing.assert_allclose(coef.mean(axis=0), mean, atol=4 * np.sqrt(covariance.max() / 4000))
    np.testing.assert_allclose(np.cov(coef.T), covariance, atol=0.1 * covariance.max())
    np.testing.assert_allclose(model.predict(X, seen=~MISSING), X @ coef.mean(axis=0), atol=1e-5)
    np.testing.assert_array_equal(model.predict(X), model.predict(X, seen=~MISSING))
