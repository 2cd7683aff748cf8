"""Arguments of the kernel reach it through scikit-learn's meta-estimators, row by row."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import zoo
import zoo_inputs
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import BaggingRegressor, StackingRegressor, VotingRegressor
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LinearRegression
from sklearn.metrics import make_scorer, mean_squared_error, r2_score
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    KFold,
    RandomizedSearchCV,
    cross_val_predict,
    cross_validate,
)
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skaimz import NumPyroImpactClassifier, NumPyroImpactRegressor
from skaimz.exceptions import FitWarning
from skaimz.inference import SVI

rng = np.random.default_rng(0)
X = np.column_stack([np.arange(24.0), rng.normal(size=24)])
# A row's arguments can be told from its first column.
OFFSET, WEIGHT = 3.0 * X[:, 0], 1.0 + X[:, 0]
Y = X @ [1.0, 2.0] + OFFSET + rng.normal(size=24)
RIGHT, WRONG = {"coef": np.array([[1.0, 2.0]])}, {"coef": np.array([[1.0, -1.0]])}
FOLDS = KFold(3, shuffle=True, random_state=0)


class Recording(NumPyroImpactRegressor):
    """Remembers what it is called with; draws made elsewhere spare it any inference."""

    calls: list = []  # noqa: RUF012

    def fit(self, X, y=None, *, sample_weight=None, **arrays):
        self.calls.append(("fit", np.asarray(X), sample_weight, arrays))
        return super().fit(X, y, sample_weight=sample_weight, **arrays)

    def predict(self, X, *, return_std=False, **arrays):
        self.calls.append(("predict", np.asarray(X), None, arrays))
        return super().predict(X, return_std=return_std, **arrays)


@pytest.fixture(autouse=True)
def _with_routing():
    Recording.calls.clear()
    with config_context(enable_metadata_routing=True):
        yield


def recording(**parameters):
    return Recording(zoo_inputs.shifted, posterior=RIGHT, random_state=0, **parameters)


def requesting(**parameters):
    """Return a model that asks for everything."""
    model = recording(**parameters).set_fit_request(offset=True, sample_weight=True)
    return model.set_predict_request(offset=True).set_score_request(offset=True, sample_weight=True)


def truth(rows):
    return X[rows] @ [1.0, 2.0] + OFFSET[rows]


def rows_of(method, *, weighted=False):
    """Return the rows of every call, after a check that the arguments are those of the same rows."""
    found = []
    for called, data, weight, arrays in Recording.calls:
        if called == method:
            rows = data[:, 0].astype(int)
            np.testing.assert_array_equal(arrays["offset"], OFFSET[rows])
            if weighted:
                np.testing.assert_array_equal(weight, WEIGHT[rows])
            found.append(rows.tolist())
    return found


def folds():
    pairs = list(FOLDS.split(X))
    return [train.tolist() for train, _ in pairs], [test.tolist() for _, test in pairs]


def requests_of(model, method):
    return getattr(model.get_metadata_routing(), method).requests


# What can be asked for


def test_requests_are_by_the_kernels_own_names():
    model = recording()
    assert requests_of(model, "fit") == requests_of(model, "partial_fit") == {"sample_weight": None, "offset": None}
    assert requests_of(model, "predict") == {"offset": None}
    assert requests_of(model, "score") == {"sample_weight": None, "offset": None}
    other = NumPyroImpactRegressor(zoo.renamed, param_input="features", param_output="outcome")
    assert requests_of(other, "predict") == {"offset": None}
    assert requests_of(NumPyroImpactRegressor(), "predict") == {}
    classifier = NumPyroImpactClassifier(zoo_inputs.shifted_logistic)
    assert requests_of(classifier, "partial_fit") == {"sample_weight": None, "offset": None}
    assert requests_of(classifier, "predict_proba") == requests_of(classifier, "predict_log_proba") == {"offset": None}


@pytest.mark.parametrize("method", ["fit", "partial_fit", "predict", "score"])
def test_set_request_of_each_method(method):
    model = recording()
    assert getattr(model, f"set_{method}_request")(offset="shift") is model
    assert requests_of(model, method)["offset"] == "shift"
    others = {"fit", "partial_fit", "predict", "score"} - {method}
    assert all(requests_of(model, other)["offset"] is None for other in others)
    with pytest.raises(TypeError, match=rf"`set_{method}_request` got 'exposure', but `{method}` can be sent only \["):
        getattr(model, f"set_{method}_request")(exposure=True)
    with config_context(enable_metadata_routing=False), pytest.raises(RuntimeError, match="needs metadata routing"):
        getattr(model, f"set_{method}_request")(offset=True)


@pytest.mark.parametrize("method", ["predict_proba", "predict_log_proba"])
def test_set_request_of_probabilities(method):
    model = getattr(NumPyroImpactClassifier(zoo_inputs.shifted_logistic), f"set_{method}_request")(offset=True)
    assert requests_of(model, method) == {"offset": True}
    assert not hasattr(NumPyroImpactRegressor, f"set_{method}_request")
    with pytest.raises(TypeError, match=f"`set_{method}_request` got 'sample_weight'"):
        getattr(model, f"set_{method}_request")(sample_weight=True)


def test_what_is_no_metadata_cannot_be_asked_for():
    with pytest.raises(TypeError, match=r"got 'return_std', but `predict` can be sent only \['offset'\]"):
        recording().set_predict_request(return_std=True)
    with pytest.raises(TypeError, match="got 'classes'"):
        NumPyroImpactClassifier(zoo_inputs.shifted_logistic).set_partial_fit_request(classes=True)


def test_kernels_that_take_any_name():
    model = NumPyroImpactRegressor(zoo_inputs.open_ended).set_fit_request(anything=True)
    assert requests_of(model, "fit") == {"sample_weight": None, "anything": True}


def test_requests_are_of_the_instance():
    model, other = requesting(), recording()
    assert requests_of(model, "fit") == {"sample_weight": True, "offset": True}
    assert requests_of(other, "fit") == {"sample_weight": None, "offset": None}


def test_requests_outlive_clones_and_other_kernels():
    model = clone(requesting()).set_fit_request(sample_weight=False)
    assert requests_of(model, "fit") == {"sample_weight": False, "offset": True}
    assert requests_of(model, "score") == {"sample_weight": True, "offset": True}
    model.set_params(kernel=zoo.conjugate)
    assert requests_of(model, "fit") == {"sample_weight": False}
    model = clone(model).set_params(kernel=zoo_inputs.shifted)
    assert requests_of(model, "fit") == {"sample_weight": False, "offset": True}
    model.set_params(kernel="no kernel")
    assert requests_of(model, "fit") == {"sample_weight": False}


def test_requests_carry_nothing_with_them():
    draws = {"coef": np.ones((20_000, 2))}
    fitted = NumPyroImpactRegressor(zoo_inputs.shifted, random_state=0)
    fitted.set_fit_request(offset=True).set_predict_request(offset=True)
    unfitted = len(pickle.dumps(fitted))
    fitted.set_posterior_sample(draws)
    assert len(pickle.dumps(fitted)) > 300_000
    fitted.set_score_request(sample_weight=True).set_score_request(sample_weight=None)
    assert len(pickle.dumps(clone(fitted))) <= unfitted + 100
    assert requests_of(pickle.loads(pickle.dumps(fitted)), "fit") == {"sample_weight": None, "offset": True}


def test_what_was_not_asked_for_is_refused():
    with pytest.raises(UnsetMetadataPassedError, match=r"\[offset\] are passed but are not explicitly set"):
        cross_validate(recording(), X, Y, params={"offset": OFFSET})


# Through scikit-learn's tools


def test_pipeline():
    model = make_pipeline(FunctionTransformer(lambda X: X + 0.0), requesting())
    model.fit(X, Y, offset=OFFSET, sample_weight=WEIGHT)
    some = [5, 3, 7]
    np.testing.assert_allclose(model.predict(X[some], offset=OFFSET[some]), truth(some))
    score = model.score(X[some], Y[some], offset=OFFSET[some], sample_weight=WEIGHT[some])
    assert score == pytest.approx(r2_score(Y[some], truth(some), sample_weight=WEIGHT[some]))
    assert rows_of("fit", weighted=True) == [list(range(24))]
    assert rows_of("predict") == [some, some]


def test_cross_validate_is_the_loop_by_hand():
    params = {"offset": OFFSET, "sample_weight": WEIGHT}
    found = cross_validate(requesting(), X, Y, cv=FOLDS, params=params, return_train_score=True)
    expected = [r2_score(Y[test], truth(test), sample_weight=WEIGHT[test]) for _, test in FOLDS.split(X)]
    np.testing.assert_allclose(found["test_score"], expected)
    expected = [r2_score(Y[train], truth(train), sample_weight=WEIGHT[train]) for train, _ in FOLDS.split(X)]
    np.testing.assert_allclose(found["train_score"], expected)
    trained, tested = folds()
    assert rows_of("fit", weighted=True) == trained
    assert sorted(rows_of("predict")) == sorted([*tested, *trained])


def test_names_given_by_the_caller():
    model = recording().set_fit_request(offset="shift").set_score_request(offset="shift")
    found = cross_validate(model, X, Y, cv=FOLDS, params={"shift": OFFSET})
    np.testing.assert_allclose(found["test_score"], [r2_score(Y[test], truth(test)) for _, test in FOLDS.split(X)])
    assert rows_of("fit") == folds()[0]


def search(kind, model):
    grid = {"posterior": [WRONG, RIGHT]}
    if kind is RandomizedSearchCV:
        return kind(model, grid, n_iter=2, cv=FOLDS, random_state=0)
    return kind(model, grid, cv=FOLDS)


@pytest.mark.parametrize("kind", [GridSearchCV, RandomizedSearchCV])
def test_searches_are_the_loop_by_hand(kind):
    found = search(kind, requesting()).fit(X, Y, offset=OFFSET, sample_weight=WEIGHT)
    expected = np.mean([r2_score(Y[test], truth(test), sample_weight=WEIGHT[test]) for _, test in FOLDS.split(X)])
    assert found.best_params_["posterior"] is RIGHT
    assert found.best_score_ == pytest.approx(expected)
    trained, tested = folds()
    # Two candidates, and the best one again on all rows.
    assert sorted(rows_of("fit", weighted=True)) == sorted([*2 * trained, list(range(24))])
    assert sorted(rows_of("predict")) == sorted(2 * tested)
    np.testing.assert_allclose(found.best_estimator_.predict(X[:3], offset=OFFSET[:3]), truth(slice(3)))


def test_successive_halving():
    halving = HalvingGridSearchCV(
        requesting(), {"posterior": [WRONG, RIGHT]}, cv=2, factor=2, min_resources=12, random_state=0
    )
    halving.fit(X, Y, offset=OFFSET, sample_weight=WEIGHT)
    assert halving.best_params_["posterior"] is RIGHT
    assert halving.n_resources_ == [12, 24]
    fitted = rows_of("fit", weighted=True)
    assert {len(rows) for rows in fitted} == {6, 12, 24}
    assert all(len(set(rows)) == len(rows) for rows in fitted)


def test_nested_steps_and_scorers_with_weights():
    scorer = make_scorer(mean_squared_error, greater_is_better=False).set_score_request(sample_weight=True)
    # Scorers call `predict` with rows alone: the argument comes from a column.
    wide = np.column_stack([X, OFFSET])
    model = Recording(zoo_inputs.shifted, posterior=RIGHT, column_args={"offset": 2}, random_state=0)
    model.set_fit_request(sample_weight=True)
    grid = GridSearchCV(
        Pipeline([("same", FunctionTransformer()), ("model", model)]),
        {"model__posterior": [WRONG, RIGHT]},
        scoring=scorer,
        cv=FOLDS,
    ).fit(wide, Y, sample_weight=WEIGHT)
    expected = [-mean_squared_error(Y[test], truth(test), sample_weight=WEIGHT[test]) for _, test in FOLDS.split(X)]
    assert grid.best_score_ == pytest.approx(np.mean(expected))
    weights = [weight for called, _, weight, _ in Recording.calls if called == "fit"]
    np.testing.assert_array_equal(weights[0], WEIGHT[folds()[0][0]])


@pytest.mark.parametrize("weighted", [True, False])
def test_bagging(weighted):
    member = requesting().set_fit_request(sample_weight=weighted)
    model = BaggingRegressor(member, n_estimators=3, random_state=0).fit(X, Y, offset=OFFSET)
    samples = [rows.tolist() for rows in model.estimators_samples_]
    # It counts rows by weights where they are asked for, and repeats them otherwise.
    assert rows_of("fit") == (3 * [list(range(24))] if weighted else samples)
    if weighted:
        weights = [weight for called, _, weight, _ in Recording.calls if called == "fit"]
        np.testing.assert_array_equal(weights, [np.bincount(rows, minlength=24) for rows in samples])
    np.testing.assert_allclose(model.predict(X[:4], offset=OFFSET[:4]), truth(slice(4)))


def test_transformed_target():
    model = TransformedTargetRegressor(requesting(), func=np.negative, inverse_func=np.negative)
    model.fit(X, Y, offset=OFFSET, sample_weight=WEIGHT)
    np.testing.assert_allclose(model.predict(X, offset=OFFSET), -truth(slice(None)))
    assert rows_of("fit", weighted=True) == [list(range(24))]


def test_multi_output_regressor():
    # Its `predict` passes on nothing but rows.
    wide, Y2 = np.column_stack([X, OFFSET]), np.column_stack([Y, -Y])
    single = Recording(zoo_inputs.shifted, posterior=RIGHT, column_args={"offset": 2}).set_fit_request(
        sample_weight=True
    )
    model = MultiOutputRegressor(single).fit(wide, Y2, sample_weight=WEIGHT)
    assert len(Recording.calls) == 2
    for _, _, weight, _ in Recording.calls:
        np.testing.assert_array_equal(weight, WEIGHT)
    np.testing.assert_allclose(model.predict(wide), np.column_stack([truth(slice(None))] * 2))
    MultiOutputRegressor(requesting()).fit(X, Y2, offset=OFFSET, sample_weight=WEIGHT)
    assert [called for called, *_ in Recording.calls] == ["fit", "fit", "predict", "predict", "fit", "fit"]
    del Recording.calls[:4]
    assert rows_of("fit", weighted=True) == 2 * [list(range(24))]


@pytest.mark.parametrize("kind", [StackingRegressor, VotingRegressor])
def test_ensembles_of_several_models(kind):
    # Their members' `predict` is passed nothing but rows.
    wide = np.column_stack([X, OFFSET])
    member = Recording(zoo_inputs.shifted, posterior=RIGHT, column_args={"offset": 2})
    member.set_fit_request(sample_weight=True)
    options = {"final_estimator": LinearRegression(), "cv": FOLDS} if kind is StackingRegressor else {}
    model = kind([("a", member), ("b", clone(member).set_params(posterior=WRONG))], **options)
    model.fit(wide, Y, sample_weight=WEIGHT)
    calls = [(data, weight) for called, data, weight, _ in Recording.calls if called == "fit"]
    for data, weight in calls:
        np.testing.assert_array_equal(weight, WEIGHT[data[:, 0].astype(int)])
    right, wrong = truth(slice(None)), X @ [1.0, -1.0] + OFFSET
    if kind is VotingRegressor:
        np.testing.assert_allclose(model.predict(wide), (right + wrong) / 2)
        return
    assert len(calls) == 2 * (1 + 3)
    level_1 = np.column_stack([right, wrong])
    # It hands the weights on to the last estimator whether that asks for them or not.
    expected = LinearRegression().fit(level_1, Y, sample_weight=WEIGHT).predict(level_1)
    np.testing.assert_allclose(model.predict(wide), expected, rtol=1e-6)


def test_column_transformer_in_front():
    frame = pd.DataFrame(X, columns=["a", "b"]).assign(offset=OFFSET, text="x")
    scaler = StandardScaler().set_fit_request(sample_weight=False)
    front = ColumnTransformer(
        [("scaled", scaler, ["b"]), ("same", "passthrough", ["a", "offset"])], verbose_feature_names_out=False
    ).set_output(transform="pandas")
    model = Recording(zoo_inputs.shifted, posterior=RIGHT, column_args={"offset": "offset"})
    model.set_fit_request(sample_weight=True)
    pipe = make_pipeline(front, model).fit(frame, Y, sample_weight=WEIGHT)
    scaled = (X[:, 1] - X[:, 1].mean()) / X[:, 1].std()
    np.testing.assert_allclose(pipe.predict(frame), scaled + 2.0 * X[:, 0] + OFFSET)
    np.testing.assert_array_equal(Recording.calls[0][2], WEIGHT)
    pipe = make_pipeline(ColumnTransformer([("both", "passthrough", ["a", "b"])]), requesting())
    pipe.fit(frame, Y, offset=OFFSET)
    np.testing.assert_allclose(pipe.predict(frame[:3], offset=OFFSET[:3]), truth(slice(3)))


def test_inference_of_the_best_candidate_is_a_plain_fit():
    settings = SVI(num_steps=50, num_samples=50)
    model = NumPyroImpactRegressor(zoo_inputs.shifted, inference=settings, random_state=0)
    model.set_fit_request(offset=True, sample_weight=True).set_score_request(offset=True, sample_weight=False)
    with warnings.catch_warnings(category=FitWarning, action="ignore"):
        grid = GridSearchCV(model, {"dtype": [None]}, cv=2).fit(X, Y, offset=OFFSET, sample_weight=WEIGHT)
        first, second = KFold(2).split(X)
        scores = []
        for train, test in (first, second):
            by_hand = clone(model).fit(X[train], Y[train], offset=OFFSET[train], sample_weight=WEIGHT[train])
            scores.append(by_hand.score(X[test], Y[test], offset=OFFSET[test]))
        by_hand = clone(model).fit(X, Y, offset=OFFSET, sample_weight=WEIGHT)
    assert [grid.cv_results_[f"split{i}_test_score"][0] for i in (0, 1)] == scores
    np.testing.assert_array_equal(grid.best_estimator_.posterior_["coef"], by_hand.posterior_["coef"])


# With routing off


@pytest.fixture
def _without_routing():
    with config_context(enable_metadata_routing=False):
        yield


@pytest.mark.usefixtures("_without_routing")
def test_searches_slice_arguments_of_fit():
    # The scorer is given rows alone, so it is one of `fit`'s own doing.
    grid = GridSearchCV(recording(), {"posterior": [RIGHT]}, cv=FOLDS, scoring=lambda model, X, y: 0.0)
    grid.fit(X, Y, offset=OFFSET)
    assert rows_of("fit") == [*folds()[0], list(range(24))]
    np.testing.assert_allclose(grid.best_estimator_.predict(X, offset=OFFSET), truth(slice(None)))


@pytest.mark.usefixtures("_without_routing")
def test_pipeline_with_prefixed_names():
    pipe = Pipeline([("same", FunctionTransformer()), ("step", recording())])
    pipe.fit(X, Y, step__offset=OFFSET, step__sample_weight=WEIGHT)
    assert rows_of("fit", weighted=True) == [list(range(24))]
    np.testing.assert_allclose(pipe.predict(X[:3], offset=OFFSET[:3]), truth(slice(3)))


@pytest.mark.usefixtures("_without_routing")
def test_columns_serve_the_tools_that_pass_rows_alone():
    wide = np.column_stack([X, OFFSET])
    model = recording(column_args={"offset": 2})
    np.testing.assert_allclose(cross_val_predict(model, wide, Y, cv=FOLDS), truth(slice(None)))
    found = cross_validate(model, wide, Y, cv=FOLDS, params={"sample_weight": WEIGHT})
    np.testing.assert_allclose(found["test_score"], [r2_score(Y[test], truth(test)) for _, test in FOLDS.split(X)])
