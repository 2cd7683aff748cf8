"""Scorers, compared with published implementations on the same draws, and used within scikit-learn."""

import functools
import gc
import pickle
import tracemalloc
import weakref

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
import scoringrules
import sklearn
import zoo
from arviz_stats.base import array_stats
from jax.scipy.stats import norm
from scipy import stats
from scipy.special import logsumexp
from sklearn.base import clone
from sklearn.exceptions import NotFittedError, UnsetMetadataPassedError
from sklearn.linear_model import LinearRegression
from sklearn.metrics import brier_score_loss, log_loss, mean_pinball_loss
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skaimz import NumPyroImpactClassifier, NumPyroImpactRegressor, metrics
from skaimz.exceptions import OutputWarning
from skaimz.inference import SVI
from skaimz.sampling import Limits, limits

pytestmark = pytest.mark.filterwarnings("ignore::skaimz.exceptions.FitWarning")
# Cases with effects of rows score the rows of their fit as if they were new.
scores_own_rows = pytest.mark.filterwarnings("ignore::skaimz.exceptions.RowsOfFitWarning")
interacts = pytest.mark.filterwarnings("ignore::skaimz.exceptions.SpeedWarning")

N_ROWS, N_DRAWS = 50, 30
rng = np.random.default_rng(0)
X = rng.normal(size=(N_ROWS, 2))
EXPOSURE = rng.uniform(1, 5, size=N_ROWS)
WEIGHT = rng.integers(0, 3, size=N_ROWS)
NUMBERS = X @ [1.0, -0.5] + rng.normal(scale=0.5, size=N_ROWS)
COUNTS = rng.poisson(EXPOSURE).astype(float)


def normal(*shape, seed=1):
    return np.random.default_rng(seed).normal(scale=0.5, size=(N_DRAWS, *shape))


# Kernels with posterior draws, outcomes and further arguments.
CASES = {
    "numbers": (zoo.conjugate, {"coef": normal(2)}, NUMBERS, {}),
    "counts": (zoo.poisson, {"coef": normal(2)}, COUNTS, {"exposure": EXPOSURE}),
    "two outputs": (zoo.two_outputs, {"coef": normal(2, 2)}, X[::-1] + 0.3, {}),
    "vectors": (zoo.correlated, {"slope": normal()}, X[::-1] + 0.3, {}),
    "rows on the second axis": (zoo.sensors, {"slope": normal(3, 1)}, rng.normal(size=(N_ROWS, 3)), {}),
    "effects of rows": (
        zoo.grouped,
        {"level": normal(), "spread": abs(normal(seed=2)), "effect": normal(N_ROWS)},
        NUMBERS,
        {},
    ),
    "all at once": (zoo.running, {"slope": normal()}, NUMBERS, {}),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def with_draws(kernel, draws, y=NUMBERS, X=X, **arrays):
    """Return a regressor with injected posterior draws."""
    return NumPyroImpactRegressor(kernel, posterior=draws, random_state=3).fit(X, y, **arrays)


@pytest.fixture
def _several_tiles(monkeypatch):
    """Cut few rows into tiles, and the draws of kernels that see all rows into steps."""
    monkeypatch.setattr(limits, "DEFAULT", Limits(most_tile_rows=16, tile_elements=7 * N_ROWS))


@pytest.fixture(scope="module")
def model():
    return with_draws(zoo.conjugate, CASES["numbers"][1])


@pytest.fixture(scope="module")
def classifiers():
    """Classifiers of two and of three labels, with the labels."""
    two = np.where(NUMBERS > 0, "up", "down")
    three = np.array(["high", "low", "mid"])[np.digitize(NUMBERS, [-0.5, 0.5])]
    coef, other = normal(2), {"alpha": normal(3), "beta": normal(2, 3)}
    binary = NumPyroImpactClassifier(zoo.logistic, posterior={"coef": coef}).fit(X, two)
    return [(binary, two), (NumPyroImpactClassifier(zoo.softmax, posterior=other).fit(X, three), three)]


# Values


@interacts
@every_case
@pytest.mark.usefixtures("_several_tiles")
@scores_own_rows
def test_crps_is_twice_the_pinball_loss_of_all_quantiles(case):
    kernel, draws, y, arrays = case
    model = with_draws(kernel, draws, y, **arrays)
    levels = (np.arange(200) + 0.5) / 200
    expected = 2 * metrics.NegPinballLoss(levels)(model, X, y, **arrays)
    assert metrics.NegCRPS()(model, X, y, **arrays) == pytest.approx(expected, rel=2e-3)


@interacts
@every_case
@pytest.mark.usefixtures("_several_tiles")
@scores_own_rows
def test_pinball_loss_is_that_of_sklearn(case):
    kernel, draws, y, arrays = case
    model = with_draws(kernel, draws, y, **arrays)
    levels = (0.05, 0.95)
    predicted = np.moveaxis(model.predict_quantiles(X, levels, **arrays), -1, 0)
    for weight in (None, WEIGHT):
        losses = [
            mean_pinball_loss(y, quantile, alpha=level, sample_weight=weight)
            for quantile, level in zip(predicted, levels, strict=True)
        ]
        found = metrics.NegPinballLoss(levels)(model, X, y, weight, **arrays)
        assert found == pytest.approx(-np.mean(losses), rel=1e-10)


@interacts
@every_case
@scores_own_rows
def test_intervals_are_those_of_predict_interval(case):
    kernel, draws, y, arrays = case
    model = with_draws(kernel, draws, y, **arrays)
    for coverage in (0.5, 0.9):
        lower, upper = np.moveaxis(model.predict_interval(X, coverage, **arrays), -1, 0)
        covered = metrics.IntervalCoverage(coverage)(model, X, y, **arrays)
        assert covered == pytest.approx(((lower <= y) & (y <= upper)).mean())
        assert 0 < covered < 1
        width = metrics.NegIntervalWidth(coverage)(model, X, y, **arrays)
        assert width == pytest.approx((lower - upper).mean(), rel=1e-10)


@interacts
@every_case
@pytest.mark.usefixtures("_several_tiles")
@scores_own_rows
def test_densities_are_those_of_the_log_likelihood(case):
    kernel, draws, y, arrays = case
    model = with_draws(kernel, draws, y, **arrays)
    tree = model.log_likelihood(X, y, in_sample=False, **arrays)
    densities = tree["log_likelihood"]["y"].to_numpy()[0]
    if densities.ndim == 3:
        densities = densities.sum(axis=1)
    expected = logsumexp(densities, axis=0) - np.log(N_DRAWS)
    np.testing.assert_allclose(model.log_predictive_density(X, y, **arrays), expected, rtol=1e-10)
    assert metrics.LogPredictiveDensity()(model, X, y, **arrays) == pytest.approx(expected.mean(), rel=1e-10)
    found = metrics.elpd(model, X, y, **arrays)
    assert found.elpd == pytest.approx(expected.sum(), rel=1e-10)
    assert found.se == pytest.approx(np.sqrt(N_ROWS * expected.var()), rel=1e-10)


def test_elpd_is_that_of_arviz(model):
    densities = model.log_likelihood(X, NUMBERS)["log_likelihood"]["y"].to_numpy()
    # ArviZ computes the same for held-out rows, whose draws need no importance weights.
    equal = np.full((1, N_DRAWS), -np.log(N_DRAWS))
    each = [array_stats.loo(row, log_weights=equal, pareto_k=0.0) for row in np.moveaxis(densities, -1, 0)]
    elpd, se, *_ = array_stats.loo_summary([row[0] for row in each], [row[2] for row in each])
    found = metrics.elpd(model, X, NUMBERS)
    assert found.elpd == pytest.approx(elpd, rel=1e-10)
    assert found.se == pytest.approx(se, rel=1e-10)


def test_density_of_the_conjugate_posterior():
    """The predictive distribution is normal and has a closed form."""
    covariance = np.linalg.inv(X.T @ X / 0.25 + np.eye(2))
    mean = covariance @ X.T @ NUMBERS / 0.25
    draws = np.random.default_rng(1).multivariate_normal(mean, covariance, size=20_000)
    model = with_draws(zoo.conjugate, {"coef": draws})
    new = np.random.default_rng(2).normal(size=(40, 2))
    sd = np.sqrt(0.25 + np.einsum("np,pq,nq->n", new, covariance, new))
    y = new @ mean + np.linspace(-3, 3, 40) * sd
    expected = stats.norm.logpdf(y, new @ mean, sd)
    found = model.log_predictive_density(new, y)
    np.testing.assert_allclose(found, expected, atol=0.03)
    assert abs((found - expected).mean()) < 0.003
    # Its score has a closed form as well.
    expected = scoringrules.crps_normal(y, new @ mean, sd).mean()
    assert metrics.NegCRPS()(model, new, y) == pytest.approx(-expected, rel=0.01)


def test_brier_score_and_log_loss_are_those_of_sklearn(classifiers):
    for model, y in classifiers:
        proba, labels = model.predict_proba(X), model.classes_
        for weight in (None, WEIGHT):
            expected = brier_score_loss(y, proba, labels=labels, sample_weight=weight)
            assert metrics.NegBrierScore()(model, X, y, weight) == pytest.approx(-expected, rel=1e-10)
            expected = log_loss(y, proba, labels=labels, sample_weight=weight)
            assert metrics.LogPredictiveDensity()(model, X, y, weight) == pytest.approx(-expected, rel=1e-10)
        # A fold may lack some labels.
        some = y == labels[0]
        expected = brier_score_loss(y[some], proba[some], labels=labels)
        assert metrics.NegBrierScore()(model, X[some], y[some]) == pytest.approx(-expected, rel=1e-10)


def several_labels(X, y=None):
    """Each row has two labels of three classes each."""
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([X.shape[1], 6]).to_event(2))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Categorical(logits=(X @ coef).reshape(-1, 2, 3)).to_event(1), obs=y)


def test_several_labels_are_scored_alone_and_their_density_together():
    y = np.digitize(X[::-1], [-0.5, 0.5])
    model = NumPyroImpactClassifier(several_labels, posterior={"coef": normal(2, 6)}).fit(X, y)
    scores = [
        brier_score_loss(labels, proba, labels=[0, 1, 2], sample_weight=WEIGHT)
        for labels, proba in zip(y.T, model.predict_proba(X), strict=True)
    ]
    assert metrics.NegBrierScore()(model, X, y, WEIGHT) == pytest.approx(-np.mean(scores), rel=1e-10)
    densities = model.log_likelihood(X, y)["log_likelihood"]["y"].to_numpy()[0]
    expected = logsumexp(densities, axis=0) - np.log(N_DRAWS)
    np.testing.assert_allclose(model.log_predictive_density(X, y), expected, rtol=1e-10)


def test_the_brier_score_of_an_output_with_fewer_classes_than_the_kernel():
    y = np.column_stack([(X[:, 0] > 0).astype(int), np.digitize(X[:, 1], [-0.5, 0.5])])
    model = NumPyroImpactClassifier(several_labels, posterior={"coef": normal(2, 6)}).fit(X, y)
    first, second = model.predict_proba(X)
    assert first.shape[1] == 2
    scores = [brier_score_loss(y[:, 0], first[:, 1]), brier_score_loss(y[:, 1], second, labels=[0, 1, 2])]
    assert metrics.NegBrierScore()(model, X, y) == pytest.approx(-np.mean(scores), rel=1e-10)


def test_crps_of_one_draw_is_that_of_its_distribution():
    model = with_draws(zoo.conjugate, {"coef": np.ones((1, 2))})
    expected = scoringrules.crps_normal(NUMBERS, X.sum(axis=1), 0.5).mean()
    assert metrics.NegCRPS()(model, X, NUMBERS) == pytest.approx(-expected, rel=1e-7)


@pytest.mark.parametrize("n_rows", [1, 1023, 1024, 1025])
def test_row_counts_around_tile_borders(n_rows):
    many = np.random.default_rng(n_rows).normal(size=(n_rows, 2))
    y = many @ [1.0, -0.5]
    model = with_draws(zoo.conjugate, CASES["numbers"][1])
    mean = many @ model.posterior_["coef"][0].T
    crps = scoringrules.crps_mixnorm(y, mean, np.full_like(mean, 0.5), np.full_like(mean, 1 / N_DRAWS))
    np.testing.assert_allclose(metrics.NegCRPS()(model, many, y), -crps.mean(), rtol=1e-6)
    expected = logsumexp(stats.norm.logpdf(y[:, None], mean, 0.5), axis=1) - np.log(N_DRAWS)
    np.testing.assert_allclose(model.log_predictive_density(many, y), expected, rtol=1e-10)


def test_single_precision():
    model = with_draws(zoo.conjugate, CASES["numbers"][1])
    single = X.astype(np.float32)
    density = model.log_predictive_density(single, NUMBERS)
    assert density.dtype == np.float32
    np.testing.assert_allclose(density, model.log_predictive_density(X, NUMBERS), rtol=1e-4, atol=1e-4)
    assert metrics.NegCRPS()(model, single, NUMBERS) == pytest.approx(metrics.NegCRPS()(model, X, NUMBERS), rel=1e-4)


def test_outcomes_far_out_lose_no_digits():
    """In single precision, for values that are large compared with their standard deviation."""
    far = np.column_stack([np.full(N_ROWS, 4096.0), X[:, 0]]).astype(np.float32)
    model = with_draws(zoo.conjugate, {"coef": np.array([1.0, 0.0]) + 1e-4 * CASES["numbers"][1]["coef"]})
    expected = metrics.NegCRPS()(model, far.astype(float), NUMBERS + 4096)
    assert metrics.NegCRPS()(model, far, NUMBERS + 4096) == pytest.approx(expected, rel=1e-3)


def test_impossible_outcomes_have_no_density():
    kernel, draws, *_ = CASES["counts"]
    closed = np.arange(N_ROWS) == 7
    arrays = {"exposure": np.where(closed, 0.0, EXPOSURE)}
    y = np.where(closed, 3.0, COUNTS)
    model = with_draws(kernel, draws, y, **arrays)
    assert np.flatnonzero(np.isneginf(model.log_predictive_density(X, y, **arrays))).tolist() == [7]
    assert metrics.LogPredictiveDensity()(model, X, y, **arrays) == -np.inf
    # A row with weight zero does not count.
    assert np.isfinite(metrics.LogPredictiveDensity()(model, X, y, ~closed, **arrays))


SCORERS = [
    metrics.LogPredictiveDensity(),
    metrics.NegCRPS(),
    metrics.NegPinballLoss(),
    metrics.IntervalCoverage(),
    metrics.NegIntervalWidth(),
]
every_scorer = pytest.mark.parametrize("scorer", SCORERS, ids=lambda scorer: type(scorer).__name__)


@every_scorer
def test_a_better_model_scores_better(scorer, model):
    if isinstance(scorer, metrics.IntervalCoverage | metrics.NegIntervalWidth):
        assert isinstance(scorer(model, X, NUMBERS), float)
        return
    good = with_draws(zoo.conjugate, {"coef": np.tile([1.0, -0.5], (N_DRAWS, 1))})
    bad = with_draws(zoo.conjugate, {"coef": np.tile([-1.0, 0.5], (N_DRAWS, 1))})
    assert scorer(good, X, NUMBERS) > scorer(model, X, NUMBERS) > scorer(bad, X, NUMBERS)


@every_scorer
def test_weights_count_rows(scorer, model):
    """Densities and means of draws do not depend on the weights of rows."""
    by_row = [scorer(model, X, NUMBERS, np.arange(N_ROWS) == row) for row in range(N_ROWS)]
    assert scorer(model, X, NUMBERS, WEIGHT) == pytest.approx(np.average(by_row, weights=WEIGHT))
    assert scorer(model, X, NUMBERS, np.full(N_ROWS, 0.1)) == pytest.approx(scorer(model, X, NUMBERS))


def test_draws_are_never_all_in_memory(model):
    many = np.random.default_rng(0).normal(size=(16_000, 2)).astype(np.float32)
    y = many[:, 0]
    drawn = len(many) * N_DRAWS * 4
    for scorer in SCORERS:
        scorer(model, many, y)
        tracemalloc.start()
        scorer(model, many, y)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 0.8 * drawn, type(scorer).__name__


# Within scikit-learn

SEARCHED = NumPyroImpactRegressor(zoo.Shrinkage(), inference=SVI(num_steps=200, num_samples=50), random_state=0)
FOLDS = KFold(3)


def by_hand(estimator, scorer, X=X, y=NUMBERS):
    """Return the scores of each fold."""
    fitted = [(clone(estimator).fit(X[train], y[train]), test) for train, test in FOLDS.split(X)]
    return [scorer(model, X[test], y[test]) for model, test in fitted]


def test_cross_validation_is_a_loop_over_folds():
    scoring = {type(scorer).__name__: scorer for scorer in SCORERS}
    found = cross_validate(SEARCHED, X, NUMBERS, cv=FOLDS, scoring=scoring)
    for name, scorer in scoring.items():
        np.testing.assert_allclose(found[f"test_{name}"], by_hand(SEARCHED, scorer), rtol=1e-10)


def test_search_is_a_loop_over_folds():
    grid = {"kernel__prior_scale": [0.01, 1.0], "kernel__noise": [0.1, 0.5]}
    search = GridSearchCV(SEARCHED, grid, scoring=metrics.NegCRPS(), cv=FOLDS).fit(X, NUMBERS)
    for settings, found in zip(search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True):
        estimator = clone(SEARCHED).set_params(**settings)
        assert found == pytest.approx(np.mean(by_hand(estimator, metrics.NegCRPS())), rel=1e-10)
    assert search.best_params_ == {"kernel__prior_scale": 1.0, "kernel__noise": 0.5}
    assert search.score(X, NUMBERS) == pytest.approx(metrics.NegCRPS()(search.best_estimator_, X, NUMBERS))
    # The search itself can be scored, as in a nested search.
    assert metrics.NegCRPS()(search, X, NUMBERS) == pytest.approx(search.score(X, NUMBERS))
    assert metrics.elpd(search, X, NUMBERS) == metrics.elpd(search.best_estimator_, X, NUMBERS)


def test_parameters_of_a_scorer_are_the_searchs():
    search = clone(GridSearchCV(SEARCHED, {}, scoring=metrics.IntervalCoverage(0.5)))
    assert search.get_params()["scoring__coverage"] == 0.5
    assert clone(metrics.NegPinballLoss([0.3])).quantiles == [0.3]
    assert repr(metrics.NegPinballLoss([0.3])) == "NegPinballLoss(quantiles=[0.3])"


def test_earlier_steps_transform_the_rows(model):
    shifted = make_pipeline(FunctionTransformer(np.negative), StandardScaler(with_std=False), model).fit(X, NUMBERS)
    expected = X.mean(axis=0) - X
    for scorer in SCORERS:
        alone = scorer(clone(model).fit(expected, NUMBERS), expected, NUMBERS)
        assert scorer(shifted, X, NUMBERS) == pytest.approx(alone, rel=1e-10)
    assert metrics.NegCRPS()(make_pipeline(model), X, NUMBERS) == metrics.NegCRPS()(model, X, NUMBERS)
    frame = pd.DataFrame(X, columns=["a", "b"])
    scaled = make_pipeline(StandardScaler().set_output(transform="pandas"), clone(model)).fit(frame, NUMBERS)
    assert np.isfinite(metrics.NegCRPS()(scaled, frame, NUMBERS))


def test_pipelines_are_searched():
    pipeline = make_pipeline(StandardScaler(), SEARCHED)
    grid = {"numpyroimpactregressor__kernel__noise": [0.1, 0.5]}
    search = GridSearchCV(pipeline, grid, scoring=metrics.LogPredictiveDensity(), cv=FOLDS, refit=False)
    search.fit(X, NUMBERS)
    for settings, found in zip(search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True):
        scores = by_hand(clone(pipeline).set_params(**settings), metrics.LogPredictiveDensity())
        assert found == pytest.approx(np.mean(scores), rel=1e-10)


def test_without_routing_arguments_come_from_columns():
    kernel, draws, y, arrays = CASES["counts"]
    joined = np.column_stack([X, EXPOSURE])
    model = NumPyroImpactRegressor(kernel, posterior=draws, column_args={"exposure": 2}, random_state=3)
    plain = with_draws(kernel, draws, y, **arrays)
    for scorer in SCORERS:
        found = cross_val_score(model, joined, y, cv=FOLDS, scoring=scorer)
        expected = [scorer(plain, X[test], y[test], exposure=EXPOSURE[test]) for _, test in FOLDS.split(X)]
        np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_without_routing_weights_of_the_fit_are_those_of_the_scores():
    for scoring in (metrics.NegCRPS(), {"crps": metrics.NegCRPS(), "density": metrics.LogPredictiveDensity()}):
        search = GridSearchCV(SEARCHED, {"kernel__noise": [0.5]}, scoring=scoring, cv=FOLDS, refit=False)
        search.fit(X, NUMBERS, sample_weight=WEIGHT)
        expected = []
        for train, test in FOLDS.split(X):
            model = clone(SEARCHED).set_params(kernel__noise=0.5)
            model.fit(X[train], NUMBERS[train], sample_weight=WEIGHT[train])
            expected.append(metrics.NegCRPS()(model, X[test], NUMBERS[test], WEIGHT[test]))
        name = "crps" if isinstance(scoring, dict) else "score"
        assert search.cv_results_[f"mean_test_{name}"][0] == pytest.approx(np.mean(expected), rel=1e-10)


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.mark.parametrize("as_pipeline", [False, True])
@pytest.mark.usefixtures("routing")
def test_routed_arguments_reach_the_scorers(as_pipeline):
    kernel, draws, y, arrays = CASES["counts"]
    model = NumPyroImpactRegressor(kernel, posterior=draws, random_state=3).set_fit_request(exposure=True)
    estimator = make_pipeline(FunctionTransformer(), model) if as_pipeline else model
    plain = with_draws(kernel, draws, y, **arrays)
    scoring = {
        "weighted": metrics.NegCRPS().set_score_request(exposure=True, sample_weight=True),
        "renamed": metrics.NegCRPS().set_score_request(exposure=True, sample_weight="importance"),
        "plain": metrics.LogPredictiveDensity().set_score_request(exposure=True, sample_weight=False),
    }
    params = {"exposure": EXPOSURE, "sample_weight": WEIGHT, "importance": WEIGHT + 1.0}
    model.set_fit_request(sample_weight=False)
    found = cross_validate(estimator, X, y, cv=FOLDS, scoring=scoring, params=params, error_score="raise")
    for number, (_, test) in enumerate(FOLDS.split(X)):
        rows, exposure, weight = (X[test], y[test]), EXPOSURE[test], WEIGHT[test]
        weighted = metrics.NegCRPS()(plain, *rows, weight, exposure=exposure)
        assert found["test_weighted"][number] == pytest.approx(weighted, rel=1e-10)
        renamed = metrics.NegCRPS()(plain, *rows, weight + 1.0, exposure=exposure)
        assert found["test_renamed"][number] == pytest.approx(renamed, rel=1e-10)
        density = metrics.LogPredictiveDensity()(plain, *rows, exposure=exposure)
        assert found["test_plain"][number] == pytest.approx(density, rel=1e-10)


@pytest.mark.usefixtures("routing")
def test_routed_arguments_reach_the_scorer_of_a_search():
    kernel, draws, y, arrays = CASES["counts"]
    model = NumPyroImpactRegressor(kernel, posterior=draws).set_fit_request(exposure=True)
    scorer = metrics.NegPinballLoss().set_score_request(exposure=True)
    search = GridSearchCV(model, {"random_state": [3]}, scoring=scorer, cv=FOLDS).fit(X, y, exposure=EXPOSURE)
    plain = with_draws(kernel, draws, y, **arrays)
    expected = [scorer(plain, X[test], y[test], exposure=EXPOSURE[test]) for _, test in FOLDS.split(X)]
    assert search.cv_results_["mean_test_score"][0] == pytest.approx(np.mean(expected), rel=1e-10)
    assert search.score(X, y, exposure=EXPOSURE) == pytest.approx(scorer(plain, X, y, exposure=EXPOSURE), rel=1e-10)


@pytest.mark.usefixtures("routing")
def test_weights_must_be_asked_for(model):
    model = clone(model).set_fit_request(sample_weight=True)
    with pytest.raises(UnsetMetadataPassedError, match=r"for NegCRPS\.score"):
        cross_validate(model, X, NUMBERS, cv=FOLDS, scoring=metrics.NegCRPS(), params={"sample_weight": WEIGHT})


@pytest.mark.usefixtures("routing")
def test_requests_are_kept_and_hold_nothing():
    scorer = metrics.NegCRPS().set_score_request(exposure=True)
    copies = [
        clone(scorer),
        pickle.loads(pickle.dumps(scorer)),
        clone(GridSearchCV(SEARCHED, {}, scoring=scorer)).scoring,
    ]
    for copy in copies:
        assert copy.get_metadata_routing().score.requests == {"sample_weight": None, "exposure": True}
    # Requests are added to earlier ones, belong to one scorer, and are returned as a copy.
    scorer.set_score_request(offset="shift")
    assert scorer.get_metadata_routing().score.requests == {"sample_weight": None, "exposure": True, "offset": "shift"}
    assert copies[0].get_metadata_routing().score.requests == {"sample_weight": None, "exposure": True}
    assert metrics.NegCRPS().get_metadata_routing().score.requests == {"sample_weight": None}
    scorer.get_metadata_routing().score.add_request(param="other", alias=True)
    assert "other" not in scorer.get_metadata_routing().score.requests
    request, reference = scorer.get_metadata_routing(), weakref.ref(scorer)
    del scorer
    gc.collect()
    assert reference() is None
    assert request.owner == "NegCRPS"


# Refusals


def test_requests_need_routing():
    with pytest.raises(RuntimeError, match="enable_metadata_routing=True"):
        metrics.NegCRPS().set_score_request(exposure=True)


def test_foreign_estimators(model, classifiers):
    binary, labels = classifiers[0]
    foreign = LinearRegression().fit(X, NUMBERS)
    with pytest.raises(TypeError, match=r"`NegCRPS` takes a NumPyroImpactRegressor, .* given a LinearRegression\."):
        metrics.NegCRPS()(foreign, X, NUMBERS)
    with pytest.raises(TypeError, match=r"given a LinearRegression within a Pipeline\."):
        metrics.NegCRPS()(make_pipeline(StandardScaler(), foreign).fit(X, NUMBERS), X, NUMBERS)
    with pytest.raises(
        TypeError, match=r"`elpd` takes a NumPyroImpactRegressor or NumPyroImpactClassifier, .* LinearR"
    ):
        metrics.elpd(foreign, X, NUMBERS)
    with pytest.raises(TypeError, match=r"given a GridSearchCV\."):
        metrics.NegCRPS()(GridSearchCV(SEARCHED, {}), X, NUMBERS)
    for scorer in SCORERS[1:]:
        with pytest.raises(TypeError, match=f"`{type(scorer).__name__}` takes a NumPyroImpactRegressor, .*Classifier"):
            scorer(binary, X, labels)
    with pytest.raises(TypeError, match=r"`NegBrierScore` takes a NumPyroImpactClassifier, .* NumPyroImpactRegressor"):
        metrics.NegBrierScore()(model, X, NUMBERS)


@pytest.mark.parametrize("coverage", [0, 1.0, -0.1, "0.9", None, [0.5, 0.9], np.nan])
@pytest.mark.parametrize("scorer", [metrics.IntervalCoverage, metrics.NegIntervalWidth])
def test_bad_coverage(scorer, coverage, model):
    with pytest.raises(ValueError, match="`coverage` must be a probability between 0 and 1, got"):
        scorer(coverage)(model, X, NUMBERS)


@pytest.mark.parametrize("quantiles", [[], [0.5, 1.1], [-0.1], [[0.5]], [np.nan]])
def test_bad_quantiles(quantiles, model):
    with pytest.raises(ValueError, match="`quantiles` must be one or more probabilities between 0 and 1, got"):
        metrics.NegPinballLoss(quantiles)(model, X, NUMBERS)


BAD = [
    ({"y": NUMBERS[:-1]}, "inconsistent numbers of samples"),
    ({"y": np.column_stack([NUMBERS, NUMBERS])}, r"y should be a 1d array, got an array of shape \(50, 2\)"),
    ({"y": np.where(np.arange(N_ROWS) == 3, np.nan, NUMBERS)}, "Input y contains NaN"),
    ({"X": X[:, :1]}, "X has 1 features, but NumPyroImpactRegressor is expecting 2 features"),
    ({"sample_weight": WEIGHT[:-1]}, "sample_weight.shape"),
    ({"sample_weight": WEIGHT - 1.0}, "Negative values in data passed to `sample_weight`"),
    ({"sample_weight": np.zeros(N_ROWS)}, "at least one non-zero"),
]


@every_scorer
@pytest.mark.parametrize(("wrong", "message"), BAD)
def test_bad_data(scorer, wrong, message, model):
    with pytest.raises(ValueError, match=message):
        scorer(model, **({"X": X, "y": NUMBERS} | wrong))


def test_more_refusals(model, classifiers):
    with pytest.raises(NotFittedError):
        metrics.NegCRPS()(NumPyroImpactRegressor(), X, NUMBERS)
    with pytest.raises(TypeError, match="Unknown argument 'exposure'"):
        metrics.NegCRPS()(model, X, NUMBERS, exposure=EXPOSURE)
    kernel, draws, y, arrays = CASES["counts"]
    counts = with_draws(kernel, draws, y, **arrays)
    with pytest.raises(TypeError, match="Missing argument 'exposure'"):
        metrics.LogPredictiveDensity()(counts, X, y)
    with pytest.raises(ValueError, match="outside the support"):
        metrics.LogPredictiveDensity()(counts, X, NUMBERS, exposure=EXPOSURE)
    binary, labels = classifiers[0]
    with pytest.raises(ValueError, match=r"labels that `fit` did not see: \['left'\]"):
        metrics.NegBrierScore()(binary, X, np.where(labels == "up", "up", "left"))


@interacts
def test_one_density_for_all_rows():
    model = with_draws(zoo.joint, {"slope": normal()})
    with pytest.raises(ValueError, match=r"'y' has one density for all rows.* Use a plate over the rows"):
        model.log_predictive_density(X, NUMBERS)
    losses = 2 * metrics.NegPinballLoss((np.arange(200) + 0.5) / 200)(model, X, NUMBERS)
    assert metrics.NegCRPS()(model, X, NUMBERS) == pytest.approx(losses, rel=2e-3)


# Densities that consist of several parts

LIMIT = 1.5
N_CENSORED_DRAWS = 30


def by_distribution(X, y=None, *, censored):
    mean = numpyro.sample("a", dist.Normal(0.0, 5.0)) + numpyro.sample("b", dist.Normal(0.0, 5.0)) * X[:, 0]
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.RightCensoredDistribution(dist.Normal(mean, 1.0), censored), obs=y)


def by_factor(X, y=None, *, censored, form="outcome"):
    """Censored rows are masked. Their density is a factor that depends on the outcome, on the limit, or on all rows."""
    mean = numpyro.sample("a", dist.Normal(0.0, 5.0)) + numpyro.sample("b", dist.Normal(0.0, 5.0)) * X[:, 0]
    with numpyro.plate("rows", X.shape[0]):
        value = numpyro.sample("y", dist.Normal(mean, 1.0).mask(censored == 0), obs=y)
        above = norm.logsf((LIMIT if form == "limit" else value) - mean)
        if form in ("outcome", "limit"):
            numpyro.factor("above", jnp.where(censored == 1, above, 0.0))
    if form == "sum":
        numpyro.factor("above", jnp.where(censored == 1, above, 0.0).sum())
    if form == "sum of limits":
        numpyro.factor("above", jnp.where(censored == 1, norm.logsf(LIMIT - mean), 0.0).sum())


@pytest.fixture(scope="module")
def censored():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 1))
    latent = 1 + x[:, 0] + rng.normal(size=90)
    draws = {name: 1 + 0.05 * rng.normal(size=N_CENSORED_DRAWS) for name in "ab"}
    y, flags = np.minimum(latent, LIMIT), (latent > LIMIT).astype(float)
    mean = draws["a"][:, None] + draws["b"][:, None] * x[:, 0]
    return x, y, flags, draws, np.where(flags == 1, stats.norm.logsf(y, mean), stats.norm.logpdf(y, mean))


def of_censored(kernel, draws, x):
    return NumPyroImpactRegressor(kernel, posterior=draws, random_state=0, dtype="float64")


@pytest.mark.parametrize("kernel", [by_distribution, by_factor, functools.partial(by_factor, form="limit")])
def test_densities_of_censored_rows(censored, kernel):
    x, y, flags, draws, expected = censored
    model = of_censored(kernel, draws, x)
    found = model.log_likelihood(x, y, in_sample=False, censored=flags)["log_likelihood"]["y"][0]
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    by_row = np.log(np.exp(expected).mean(axis=0))
    np.testing.assert_allclose(model.log_predictive_density(x, y, censored=flags), by_row, rtol=1e-9)
    assert metrics.elpd(model, x, y, censored=flags).elpd == pytest.approx(by_row.sum())


@pytest.mark.parametrize("form", ["sum", "sum of limits"])
def test_factors_that_cannot_be_told_apart_by_row(censored, form):
    x, y, flags, draws, _ = censored
    model = of_censored(functools.partial(by_factor, form=form), draws, x).fit(x, y, censored=flags)
    for method in (model.log_likelihood, model.log_predictive_density, functools.partial(metrics.elpd, model)):
        with pytest.raises(ValueError, match="the factor 'above' has no entry for each row: write it within the plate"):
            method(x, y, censored=flags)
    assert "log_likelihood" not in model.to_datatree(x, y, censored=flags).children
    assert model.diagnose(x, y, checks=["k_hat"], censored=flags)["verdict"].item() == "unknown"


def test_rows_that_are_masked_are_told_of(censored):
    x, y, flags, draws, _ = censored
    model = of_censored(functools.partial(by_factor, form="nothing"), draws, x)
    with pytest.warns(OutputWarning, match="masks some outcomes of 'y': these rows count as log 1 = 0"):
        found = model.log_predictive_density(x, y, censored=flags)
    np.testing.assert_array_equal(found == 0, flags == 1)


def with_a_factor_as_prior(X, y=None):
    """Effects of rows whose prior is written as a factor."""
    with numpyro.plate("rows", X.shape[0]):
        effect = numpyro.sample("effect", dist.ImproperUniform(dist.constraints.real, (), ()))
        numpyro.factor("prior", -0.5 * effect**2)
        numpyro.sample("y", dist.Normal(effect, 1.0), obs=y)


def test_a_factor_that_is_a_prior_of_rows_is_no_density():
    model = NumPyroImpactRegressor(with_a_factor_as_prior, posterior={"effect": np.zeros((5, 4))}, random_state=0)
    with pytest.raises(ValueError, match=r"the factor 'prior' may be a prior of \['effect'\]"):
        model.log_likelihood(np.ones((4, 1)), np.ones(4))


def with_a_penalty(X, y=None):
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0))
    numpyro.factor("penalty", -(coef**4))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(coef * X[:, 0], 1.0), obs=y)


def test_a_factor_of_global_sites_is_a_part_of_the_prior():
    model = NumPyroImpactRegressor(with_a_penalty, posterior={"coef": [1.0, 2.0]}, random_state=0)
    found = model.log_likelihood_on_batch([[1.0]], [1.5], return_datatree=False, in_sample=False)["y"]
    np.testing.assert_allclose(found[0, :, 0], stats.norm.logpdf(1.5, [1.0, 2.0]), rtol=1e-6)
