"""Tools of scikit-learn that pass on nothing but rows, on a kernel with two inputs: the second is a column."""

import re

import numpy as np
import pandas as pd
import pytest
import zoo
import zoo_inputs
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.inspection import partial_dependence, permutation_importance
from sklearn.linear_model import LinearRegression
from sklearn.metrics import brier_score_loss, get_scorer, mean_squared_error, r2_score
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    StratifiedKFold,
    cross_val_predict,
    cross_val_score,
    learning_curve,
    validation_curve,
)

from skaimz import NumPyroImpactClassifier, NumPyroImpactRegressor
from skaimz.inference import SVI

pytestmark = [
    pytest.mark.filterwarnings("ignore::skaimz.exceptions.FitWarning"),
    pytest.mark.usefixtures("quick_compilation"),
]

rng = np.random.default_rng(0)
X, OFFSET = rng.normal(size=(60, 2)), rng.normal(size=60)
FRAME = pd.DataFrame({"a": X[:, 0], "offset": OFFSET, "b": X[:, 1]})
Y = X @ [1.0, -2.0] + OFFSET + rng.normal(scale=0.5, size=60)
LABELS = np.where(rng.logistic(size=60) < X @ [2.0, 0.0] + OFFSET, "yes", "no")
FOLDS = KFold(3)
DRAWS = {"coef": np.array([[1.0, -2.0], [1.0, 0.0]])}


@pytest.fixture(scope="module")
def model():
    settings = SVI(num_steps=100, num_samples=50)
    return NumPyroImpactRegressor(
        zoo_inputs.shifted, column_args={"offset": "offset"}, inference=settings, random_state=0
    )


@pytest.fixture(scope="module")
def by_hand(model):
    """The same model, which is passed the argument by name."""
    return clone(model).set_params(column_args=None)


@pytest.fixture(scope="module")
def fitted(by_hand):
    """One fit for each fold, by hand."""
    return [clone(by_hand).fit(X[train], Y[train], offset=OFFSET[train]) for train, _ in FOLDS.split(X)]


@pytest.fixture(scope="module")
def injected():
    """A model that needs no fit."""
    return NumPyroImpactRegressor(zoo_inputs.shifted, column_args={"offset": "offset"}, posterior=DRAWS)


@pytest.fixture(scope="module")
def classifier():
    settings = SVI(num_steps=100, num_samples=50)
    return NumPyroImpactClassifier(
        zoo_inputs.shifted_logistic, column_args={"offset": "offset"}, inference=settings, random_state=0
    )


def held_out(fitted):
    return [(each, test) for each, (_, test) in zip(fitted, FOLDS.split(X), strict=True)]


def truth(rows=slice(None)):
    return X[rows] @ [1.0, -1.0] + OFFSET[rows]


def test_cross_val_predict(model, fitted):
    expected = np.concatenate([each.predict(X[test], offset=OFFSET[test]) for each, test in held_out(fitted)])
    np.testing.assert_allclose(cross_val_predict(model, FRAME, Y, cv=FOLDS), expected, rtol=1e-12)


def test_cross_val_score_with_a_scorer_by_name(model, fitted):
    expected = [
        -mean_squared_error(Y[test], each.predict(X[test], offset=OFFSET[test])) for each, test in held_out(fitted)
    ]
    found = cross_val_score(model, FRAME, Y, cv=FOLDS, scoring="neg_mean_squared_error")
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_cross_val_score_by_the_models_own_score(model, fitted):
    expected = [each.score(X[test], Y[test], offset=OFFSET[test]) for each, test in held_out(fitted)]
    np.testing.assert_allclose(cross_val_score(model, FRAME, Y, cv=FOLDS), expected, rtol=1e-12)


def test_scorers_by_name(injected):
    assert get_scorer("r2")(injected, FRAME, Y) == pytest.approx(r2_score(Y, truth()))
    assert get_scorer("neg_max_error")(injected, FRAME, Y) == pytest.approx(-abs(Y - truth()).max())


def test_grid_search_with_a_scorer_by_name(injected):
    wrong = {"coef": np.array([[5.0, 5.0]])}
    grid = GridSearchCV(injected, {"posterior": [wrong, DRAWS]}, scoring="neg_mean_squared_error", cv=FOLDS)
    grid.fit(FRAME, Y)
    assert grid.best_params_["posterior"] is DRAWS
    expected = np.mean([-mean_squared_error(Y[test], truth(test)) for _, test in FOLDS.split(X)])
    assert grid.best_score_ == pytest.approx(expected)
    np.testing.assert_allclose(grid.predict(FRAME), truth())


def test_permutation_importance(injected):
    options = {"n_repeats": 3, "random_state": 0, "scoring": "r2"}
    found = permutation_importance(injected.fit(FRAME, Y), FRAME, Y, **options)
    # The same function of the columns, by a model to which the argument is a column as any other.
    plain = LinearRegression().fit(FRAME, truth())
    np.testing.assert_allclose(plain.coef_, [1.0, 1.0, -1.0])
    np.testing.assert_allclose(found.importances, permutation_importance(plain, FRAME, Y, **options).importances)
    assert found.importances.min() > 0.05


@pytest.mark.parametrize("feature", ["a", "offset"])
def test_partial_dependence(injected, feature):
    found = partial_dependence(injected.fit(FRAME, Y), FRAME, [feature], grid_resolution=5)
    slope = 1.0  # of both columns in the mean over draws
    expected = truth().mean() + slope * (found["grid_values"][0] - FRAME[feature].mean())
    np.testing.assert_allclose(found["average"][0], expected)


def test_partial_dependence_on_categories():
    frame = FRAME.assign(group=np.array(["x", "y", "z"])[np.arange(60) % 3])[["a", "group"]]
    draws = {"coef": np.array([[1.0]]), "level": np.array([[0.0, 5.0, 7.0]])}
    model = NumPyroImpactRegressor(zoo_inputs.by_group, column_args={"group": "group"}, posterior=draws).fit(frame, Y)
    found = partial_dependence(model, frame, ["group"], categorical_features=["group"])
    assert found["grid_values"][0].tolist() == ["x", "y", "z"]
    np.testing.assert_allclose(found["average"][0], X[:, 0].mean() + np.array([0.0, 5.0, 7.0]))


def test_learning_curve(model, by_hand):
    sizes, train_scores, test_scores = learning_curve(model, FRAME, Y, train_sizes=[20, 40], cv=FOLDS)
    assert sizes.tolist() == [20, 40]
    for fold, (train, test) in enumerate(FOLDS.split(X)):
        for place, size in enumerate(sizes):
            few = train[:size]
            each = clone(by_hand).fit(X[few], Y[few], offset=OFFSET[few])
            assert train_scores[place, fold] == pytest.approx(each.score(X[few], Y[few], offset=OFFSET[few]))
            assert test_scores[place, fold] == pytest.approx(each.score(X[test], Y[test], offset=OFFSET[test]))


def test_learning_curve_in_parts(model, by_hand):
    _, _, scores = learning_curve(model, FRAME, Y, train_sizes=[20, 40], cv=FOLDS, exploit_incremental_learning=True)
    for fold, (train, test) in enumerate(FOLDS.split(X)):
        each = clone(by_hand)
        for place, few in enumerate((train[:20], train[20:40])):
            each.partial_fit(X[few], Y[few], offset=OFFSET[few])
            assert scores[place, fold] == pytest.approx(each.score(X[test], Y[test], offset=OFFSET[test]))


def test_validation_curve(model, by_hand, fitted):
    name, values = "inference__num_steps", [10, 100]
    train_scores, test_scores = validation_curve(model, FRAME, Y, param_name=name, param_range=values, cv=FOLDS)
    assert train_scores.shape == test_scores.shape == (2, 3)
    for fold, (each, test) in enumerate(held_out(fitted)):
        assert test_scores[1, fold] == pytest.approx(each.score(X[test], Y[test], offset=OFFSET[test]))
        train = np.setdiff1d(np.arange(60), test)
        short = clone(by_hand).set_params(**{name: 10}).fit(X[train], Y[train], offset=OFFSET[train])
        assert test_scores[0, fold] == pytest.approx(short.score(X[test], Y[test], offset=OFFSET[test]))


@pytest.mark.parametrize("ensemble", [True, False])
def test_calibrated_classifier(classifier, ensemble):
    folds = StratifiedKFold(2)
    found = CalibratedClassifierCV(classifier, cv=folds, ensemble=ensemble).fit(FRAME, LABELS)
    by_hand = clone(classifier).set_params(column_args=None)
    base = [clone(by_hand).fit(X[train], LABELS[train], offset=OFFSET[train]) for train, _ in folds.split(X, LABELS)]
    used = [calibrated.estimator for calibrated in found.calibrated_classifiers_]
    if ensemble:
        for one, other in zip(used, base, strict=True):
            np.testing.assert_array_equal(one.predict_proba(FRAME), other.predict_proba(X, offset=OFFSET))
    else:
        whole = clone(by_hand).fit(X, LABELS, offset=OFFSET)
        np.testing.assert_array_equal(used[0].predict_proba(FRAME), whole.predict_proba(X, offset=OFFSET))
    proba = found.predict_proba(FRAME)[:, 1]
    assert found.classes_.tolist() == ["no", "yes"]
    assert brier_score_loss(LABELS == "yes", proba) < 0.2
    # Calibration is monotone in what it calibrates.
    if not ensemble:
        order = np.argsort(used[0].predict_proba(FRAME)[:, 1])
        assert (np.diff(proba[order]) >= -1e-12).all()


def test_cross_val_predict_of_probabilities(classifier):
    folds = StratifiedKFold(2)
    found = cross_val_predict(classifier, FRAME, LABELS, cv=folds, method="predict_proba")
    by_hand = clone(classifier).set_params(column_args=None)
    for train, test in folds.split(X, LABELS):
        each = clone(by_hand).fit(X[train], LABELS[train], offset=OFFSET[train])
        np.testing.assert_allclose(found[test], each.predict_proba(X[test], offset=OFFSET[test]), rtol=1e-12)


# How a notebook shows an estimator


def text_of(html):
    """Return what is to be read of a page, in cells."""
    html = re.sub(r"<style.*?</style>|<script.*?</script>", "", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def test_html_of_a_fitted_estimator(fitted, compilations):
    (model, *_), before = fitted, dict(vars(fitted[0]))
    text = text_of(model._repr_html_())
    assert "Fitted" in text
    assert "&lt;function shi" in text  # the kernel, cut by scikit-learn
    assert "inference__num_steps 100" in text
    # A summary that is not cut.
    assert "fit_result_ FitResult FitResult(svi, 1 x 50 draws)" in text
    assert "kernel_spec_ KernelSpec KernelSpec(X -&gt; y, 2 sites)" in text
    assert "n_features_in_ int 2" in text
    assert compilations == []
    assert vars(model) == before
    assert len(text) < 4000


def test_html_of_an_estimator_that_is_not_fitted(model, compilations):
    text = text_of(clone(model)._repr_html_())
    assert "Not fitted" in text
    assert "fit_result_" not in text
    assert compilations == []


def test_short_descriptions():
    rows, y = np.ones((5, 2)), np.arange(5.0)
    model = NumPyroImpactRegressor(zoo.conjugate, posterior={"coef": np.ones((7, 2))}).fit(rows, y)
    assert repr(model.fit_result_) == "FitResult(injected, 1 x 7 draws)"
    assert repr(model.kernel_spec_) == "KernelSpec(X -> y, 2 sites)"
    model = NumPyroImpactRegressor(zoo.without_latents, inference=SVI(num_steps=2, num_samples=3)).fit(rows, y)
    assert repr(model.fit_result_) == "FitResult(svi, 1 x 3 draws)"
