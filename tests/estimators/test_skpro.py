"""Estimators as regressors of skpro, by its own tests, and against mixtures by SciPy."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
import zoo
from scipy import stats
from scipy.spatial.distance import cdist

from skaimz import NumPyroImpactRegressor

utils = pytest.importorskip("skpro.utils")
metrics = pytest.importorskip("skpro.metrics")

from skaimz.skpro import SkproDistribution, SkproRegressor  # noqa: E402

pytestmark = pytest.mark.usefixtures("quick_compilation")

SD = 0.5
COEF = np.random.default_rng(1).normal([1.0, -0.5], 0.2, size=(40, 2))
LABELS = pd.Index(["e", "a", "d", "b", "c", "f"], name="row")
X = pd.DataFrame(np.random.default_rng(2).normal(size=(6, 2)), LABELS, ["one", "two"])
CENTRES = X.to_numpy() @ COEF.T
Y = pd.DataFrame({"y": X.to_numpy() @ [1.0, -0.5] + np.random.default_rng(3).normal(scale=0.7, size=6)}, LABELS)


def two_outputs(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        centre = slope * X[:, :1] * np.array([1.0, 2.0])
        numpyro.sample("y", dist.Normal(centre, np.array([0.5, 1.5])).to_event(1), obs=y)


def counting(X, y=None):
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Poisson(jnp.exp(X @ coef)), obs=y)


@pytest.fixture(scope="module")
def model():
    estimator = NumPyroImpactRegressor(zoo.conjugate, posterior={"coef": COEF}, random_state=0)
    return SkproRegressor(estimator).fit(X, Y)


@pytest.fixture(scope="module")
def distribution(model):
    return model.predict_proba(X)


@pytest.mark.slow
def test_its_own_tests_pass():
    results = utils.check_estimator(SkproRegressor, verbose=False)
    assert len(results) > 50
    assert {name: result for name, result in results.items() if result != "PASSED"} == {}


def test_predictions_are_those_of_the_mixture(model):
    mean = model.predict(X)
    assert mean.index.equals(LABELS)
    np.testing.assert_allclose(mean["y"], CENTRES.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(model.predict_var(X)["y"], CENTRES.var(axis=1) + SD**2, rtol=1e-6)
    quantiles = model.predict_quantiles(X, alpha=[0.1, 0.75])
    interval = model.predict_interval(X, coverage=0.8)
    assert quantiles.columns.tolist() == [("y", 0.1), ("y", 0.75)]
    assert interval.columns.tolist() == [("y", 0.8, "lower"), ("y", 0.8, "upper")]
    for level, found in ((0.1, quantiles), (0.75, quantiles)):
        cdf = stats.norm.cdf(found[[("y", level)]], CENTRES, SD).mean(axis=1)
        np.testing.assert_allclose(cdf, level, atol=1e-6)
    np.testing.assert_allclose(interval[("y", 0.8, "lower")], quantiles[("y", 0.1)], rtol=1e-6)


def test_the_distribution_is_the_mixture(distribution):
    assert distribution.get_tag("distr:measuretype") == "continuous"
    y = Y.to_numpy()
    density = stats.norm.pdf(y, CENTRES, SD).mean(axis=1)
    np.testing.assert_allclose(distribution.pdf(Y)["y"], density, rtol=1e-6)
    np.testing.assert_allclose(distribution.log_pdf(Y)["y"], np.log(density), rtol=1e-5)
    np.testing.assert_allclose(distribution.cdf(Y)["y"], stats.norm.cdf(y, CENTRES, SD).mean(axis=1), atol=1e-7)
    np.testing.assert_allclose(distribution.surv(Y)["y"], stats.norm.sf(y, CENTRES, SD).mean(axis=1), atol=1e-7)
    levels = np.linspace(0.1, 0.9, 6)[:, None]
    np.testing.assert_allclose(distribution.cdf(distribution.ppf(levels)), levels, atol=1e-6)


def test_energies_give_the_crps(distribution):
    def spread(gap, sd):
        return gap * (2 * stats.norm.cdf(gap / sd) - 1) + 2 * sd * stats.norm.pdf(gap / sd)

    to_y = spread(Y.to_numpy() - CENTRES, SD).mean(axis=1)
    between = [spread(cdist(row[:, None], row[:, None]), np.sqrt(2) * SD).mean() for row in CENTRES]
    np.testing.assert_allclose(distribution.energy(Y)["energy"], to_y, atol=1e-6)
    np.testing.assert_allclose(distribution.energy()["energy"], between, atol=1e-5)
    score = metrics.CRPS()(Y, distribution)
    np.testing.assert_allclose(score, (to_y - np.divide(between, 2)).mean(), atol=1e-5)


def test_rows_and_entries_are_chosen_like_those_of_frames(distribution):
    some = distribution.iloc[[4, 1]]
    assert some.index.tolist() == ["c", "a"]
    np.testing.assert_allclose(some.mean()["y"], CENTRES.mean(axis=1)[[4, 1]], rtol=1e-6)
    np.testing.assert_allclose(distribution.loc[["f"]].mean(), CENTRES[5].mean(), rtol=1e-6)
    # Other rows in another order: each has its own distribution.
    backwards = Y.iloc[::-1]
    np.testing.assert_allclose(distribution.cdf(backwards), distribution.cdf(Y).loc[backwards.index], rtol=1e-6)
    one = distribution.iat[2, 0]
    assert one.shape == ()
    np.testing.assert_allclose(one.cdf(0.3), stats.norm.cdf(0.3, CENTRES[2], SD).mean(), atol=1e-7)
    np.testing.assert_allclose(one.mean(), CENTRES[2].mean(), rtol=1e-6)


def test_samples_are_new_unless_numpy_is_seeded(distribution):
    first, second = distribution.sample(), distribution.sample()
    assert first.index.equals(LABELS)
    assert not np.isclose(first, second).any()
    repeated = []
    for _ in range(2):
        np.random.seed(3)  # noqa: NPY002  (as skpro's users do)
        repeated.append(distribution.sample(400))
    pd.testing.assert_frame_equal(*repeated)
    assert repeated[0].index.nlevels == 2
    spread = repeated[0]["y"].groupby(level=1, sort=False).std()
    np.testing.assert_allclose(spread, np.sqrt(CENTRES.var(axis=1) + SD**2), rtol=0.15)
    assert distribution.iat[0, 0].sample(5).shape == (5, 1)


def test_counts_have_probabilities():
    estimator = NumPyroImpactRegressor(counting, posterior={"coef": COEF}, random_state=0)
    counts = pd.DataFrame({"y": [0, 1, 2, 3, 1, 0]}, LABELS)
    distribution = SkproRegressor(estimator).fit(X, counts).predict_proba(X)
    assert distribution.get_tag("distr:measuretype") == "discrete"
    expected = stats.poisson.pmf(counts, np.exp(CENTRES)).mean(axis=1)
    np.testing.assert_allclose(distribution.pmf(counts)["y"], expected, rtol=1e-5)
    assert not distribution.pdf(counts).to_numpy().any()


def test_several_outputs():
    slope = np.random.default_rng(5).normal(size=30)
    estimator = NumPyroImpactRegressor(two_outputs, posterior={"slope": slope}, random_state=0)
    both = pd.DataFrame({"small": Y["y"], "large": 2.0 * Y["y"]})
    distribution = SkproRegressor(estimator).fit(X, both).predict_proba(X)
    centres = X.to_numpy()[:, :1] * slope
    np.testing.assert_allclose(distribution.var()["large"], 4.0 * centres.var(axis=1) + 1.5**2, rtol=1e-6)
    large = distribution.loc[LABELS[:3], ["large"]]
    assert isinstance(large, SkproDistribution)
    expected = stats.norm.cdf(0.4, 2.0 * centres[:3], 1.5).mean(axis=1)
    np.testing.assert_allclose(large.cdf(np.full((3, 1), 0.4))["large"], expected, atol=1e-7)
    assert large.sample(2).shape == (6, 1)
    with pytest.raises(NotImplementedError, match="have a joint density"):
        distribution.pdf(both)
