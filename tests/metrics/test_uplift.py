"""Rankings by effect: curves, compared with loops and closed forms, and scorers, used within scikit-learn."""

import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skaimz import NumPyroImpactClassifier, NumPyroImpactRegressor, metrics

N_ROWS, N_DRAWS = 120, 20
rng = np.random.default_rng(0)
MODIFIER = rng.normal(size=N_ROWS)
TREATED = rng.integers(2, size=N_ROWS)
X = np.column_stack([MODIFIER, TREATED])
Y = MODIFIER + TREATED * (0.5 + MODIFIER) + rng.normal(size=N_ROWS)
WEIGHT = rng.integers(0, 3, size=N_ROWS)
DRAWS = {"slope": rng.normal(1.0, 0.3, size=N_DRAWS)}
FOLDS = KFold(3)

CURVES = [metrics.uplift_curve, metrics.qini_curve]
AREAS = [metrics.area_under_uplift_curve, metrics.qini_score]
SCORERS = [(metrics.AreaUnderUpliftCurve, AREAS[0]), (metrics.QiniScore, AREAS[1])]
every_curve = pytest.mark.parametrize("curve", CURVES)
every_area = pytest.mark.parametrize("area", AREAS)
every_scorer = pytest.mark.parametrize(("scorer", "area"), SCORERS)


def moderated(x, t, slope):
    """The effect of a treatment is 0.5 + slope * x."""
    return x + t * (0.5 + slope * x)


class Moderated:
    """A kernel whose effect differs between rows by a factor, which a search can vary."""

    def __init__(self, factor=1.0):
        self.factor = factor

    def get_params(self, deep=True):
        return {"factor": self.factor}

    def set_params(self, **params):
        vars(self).update(params)
        return self

    def __call__(self, X, y=None):
        slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
        with numpyro.plate("rows", X.shape[0]):
            numpyro.sample("y", dist.Normal(moderated(X[:, 0], X[:, 1], self.factor * slope), 1.0), obs=y)


def dosed(X, y=None, *, arm, exposure=1.0):
    """The treatment is an argument of the kernel."""
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(exposure * moderated(X[:, 0], arm, slope), 1.0), obs=y)


def constant(X, y=None):
    """A kernel with the same effect on every row."""
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(3.0 + 7.3 * X[:, 0] + slope * X[:, 1], 1.0), obs=y)


def labels(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Bernoulli(logits=moderated(X[:, 0], X[:, 1], slope)), obs=y)


def with_draws(kernel=None, X=X, y=Y, draws=DRAWS, **params):
    return NumPyroImpactRegressor(kernel or Moderated(), posterior=draws, **params).fit(X, y)


def by_loop(curve, y, effect, treatment, weight):
    """Return the points of a curve by its definition, with a pass over all rows for each point."""
    points = [(0.0, 0.0)]
    for threshold in sorted(set(effect[weight > 0].tolist()), reverse=True):
        treated, control = ((effect >= threshold) & (treatment == arm) & (weight > 0) for arm in (1, 0))
        if not treated.any() or not control.any():
            continue
        n_treated, n_control = weight[treated].sum(), weight[control].sum()
        if curve is metrics.uplift_curve:
            means = [np.average(y[arm], weights=weight[arm]) for arm in (treated, control)]
            gain = (means[0] - means[1]) * (n_treated + n_control)
        else:
            gain = (weight * y)[treated].sum() - (weight * y)[control].sum() * n_treated / n_control
        points.append(((n_treated + n_control) / weight.sum(), gain / weight.sum()))
    return np.transpose(points)


# Curves


@every_curve
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_curves_are_those_of_their_definition(curve, ties, binary, weighted):
    effect = MODIFIER.round() if ties else MODIFIER
    y = (Y > 0).astype(int) if binary else Y
    weight = WEIGHT if weighted else np.ones(N_ROWS)
    share, gain = curve(y, effect, TREATED, sample_weight=weight if weighted else None)
    expected = by_loop(curve, y, effect, TREATED, weight)
    np.testing.assert_allclose(share, expected[0], rtol=1e-12)
    np.testing.assert_allclose(gain, expected[1], rtol=1e-9, atol=1e-12)
    assert len(share) < 10 if ties else len(share) > N_ROWS // 2
    assert share[0] == gain[0] == 0
    assert share[-1] == pytest.approx(1)


def test_curves_are_those_of_scikit_uplift():
    """Recorded from scikit-uplift 0.5.1, which calls what scikit-learn 1.10 no longer has.

    Its curves count rows and sum gains over them, and are the same wherever both treated and untreated rows are
    targeted. Before that it takes the mean of no rows for 0, which for outcomes far from 0 means nothing.
    """
    y = [1, 0, 0, 1, 1, 0, 1, 0, 0, 1, 0, 0]
    effect = [0.9, 0.9, 0.8, 0.7, 0.7, 0.7, 0.5, 0.4, 0.4, 0.2, 0.1, 0.1]
    treatment = [1, 0, 1, 1, 0, 0, 0, 1, 0, 1, 1, 0]
    share, gain = metrics.uplift_curve(y, effect, treatment)
    np.testing.assert_allclose(share * 12, [0, 2, 3, 6, 7, 9, 10, 12])
    np.testing.assert_allclose(gain * 12, [0, 2, 1.5, 2, 7 / 6, 0.9, 2, 2])
    share, gain = metrics.qini_curve(y, effect, treatment)
    np.testing.assert_allclose(share * 12, [0, 2, 3, 6, 7, 9, 10, 12])
    np.testing.assert_allclose(gain * 12, [0, 1, 1, 1, 0.5, 0.4, 1, 1], atol=1e-12)


def test_curves_end_at_the_average_effect():
    average = Y[TREATED == 1].mean() - Y[TREATED == 0].mean()
    assert metrics.uplift_curve(Y, MODIFIER, TREATED)[1][-1] == pytest.approx(average)
    assert metrics.qini_curve(Y, MODIFIER, TREATED)[1][-1] == pytest.approx(average * TREATED.mean())


@every_curve
def test_curves_do_not_depend_on_what_they_should_not(curve):
    effect = MODIFIER.round(1)
    expected = curve(Y, effect, TREATED)
    order = np.random.default_rng(1).permutation(N_ROWS)
    same = [
        curve(Y[order], effect[order], TREATED[order]),  # the order of rows does not break ties
        curve(Y + 1000.0, effect, TREATED),  # the origin of the outcome does not matter
        curve(Y, np.exp(effect), TREATED),  # the scale of the effects does not matter
        curve(Y.tolist(), pd.Series(effect, index=order), TREATED.astype(bool)),
        curve(Y, effect, TREATED, sample_weight=np.full(N_ROWS, 0.3)),
    ]
    for found in same:
        np.testing.assert_allclose(found, expected, atol=1e-11)


@every_area
def test_weights_repeat_rows(area):
    repeated = area(*(np.repeat(values, WEIGHT) for values in (Y, MODIFIER, TREATED)))
    assert area(Y, MODIFIER, TREATED, sample_weight=WEIGHT) == pytest.approx(repeated)
    assert repeated != pytest.approx(area(Y, MODIFIER, TREATED))


# Areas


def simulated(n_rows, seed):
    """Return effects that are uniform between -1 and 1, a treatment of 30 % of the rows, and outcomes."""
    rng = np.random.default_rng(seed)
    effect, treatment = rng.uniform(-1, 1, size=n_rows), rng.random(n_rows) < 0.3
    return rng.normal(size=n_rows) + effect * treatment, effect, treatment


def test_area_of_the_perfect_ranking():
    """The first share s of the rows has the mean effect 1 - s: the gain is s (1 - s), and the area 1/6."""
    found = np.array([[area(*simulated(2000, seed)) for area in AREAS] for seed in range(50)])
    errors = found.std(axis=0) / np.sqrt(len(found))
    assert (errors < 0.005).all()
    np.testing.assert_array_less(abs(found.mean(axis=0) - [1 / 6, 0.3 / 6]), 4 * errors)


def test_area_of_a_random_ranking():
    y, _, treatment = simulated(2000, 0)
    rng = np.random.default_rng(1)
    found = np.array([[area(y, rng.random(len(y)), treatment) for area in AREAS] for _ in range(200)])
    errors = found.std(axis=0) / np.sqrt(len(found))
    assert (errors < 0.005).all()
    np.testing.assert_array_less(abs(found.mean(axis=0)), 4 * errors)


def test_area_by_hand():
    """Steps at thirds of the rows, with the gains 4/3, 5/3 and 4/3 of the uplift curve, and half of it of the other."""
    y, effect, treatment = [5, 1, 3, 2, 1, 2], [3.0, 3.0, 2.0, 2.0, 1.0, 1.0], [1, 0, 1, 0, 1, 0]
    uplift = (4 / 3 / 2 + (4 / 3 + 5 / 3) / 2 + (5 / 3 + 4 / 3) / 2) / 3 - 4 / 3 / 2
    assert metrics.area_under_uplift_curve(y, effect, treatment) == pytest.approx(uplift)
    assert metrics.qini_score(y, effect, treatment) == pytest.approx(uplift / 2)


@every_area
def test_a_constant_effect_has_no_area(area):
    assert area(Y, np.full(N_ROWS, 0.3), TREATED) == 0


@every_area
def test_a_worse_ranking_has_a_smaller_area(area):
    assert area(Y, MODIFIER, TREATED) > area(Y, MODIFIER.round(), TREATED) > 0 > area(Y, -MODIFIER, TREATED)


# Scorers


@every_scorer
def test_scorers_rank_by_the_expected_effect(scorer, area):
    model = with_draws()
    effect = 0.5 + DRAWS["slope"].mean() * MODIFIER
    assert scorer(1)(model, X, Y) == pytest.approx(area(Y, effect, TREATED))
    assert scorer(-1)(model, X.tolist(), Y) == pytest.approx(area(Y, effect, TREATED))
    assert scorer(1)(model, X, Y, WEIGHT) == pytest.approx(area(Y, effect, TREATED, sample_weight=WEIGHT))
    # If the arms are exchanged, the effect is that of omitting the treatment.
    swapped = scorer(1, control=1, treated=0)(model, X, Y)
    assert swapped == pytest.approx(area(Y, -effect, 1 - TREATED))
    assert swapped != pytest.approx(area(Y, effect, TREATED))


@every_scorer
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scorers_take_rounding_errors_for_ties(scorer, area, dtype):
    model = with_draws(constant, X.astype(dtype))
    off, on = (model.predict(np.column_stack([MODIFIER, np.full(N_ROWS, arm)]).astype(dtype)) for arm in (0, 1))
    assert len(set((on - off).tolist())) > 1
    assert scorer(1)(model, X.astype(dtype), Y) == 0


def test_close_effects_are_told_apart():
    """Differences of a ten thousandth of the outcomes do not count as rounding errors, however many there are."""
    many = np.column_stack([np.linspace(-1, 1, 5000), np.arange(5000) % 2]).astype(np.float32)
    y = 100.0 + many[:, 1] * many[:, 0]
    model = LinearRegression().fit(np.column_stack([many, many[:, 0] * many[:, 1]]), y)
    model = make_pipeline(_Interaction(), model).fit(many, y)
    found = metrics.AreaUnderUpliftCurve(1)(model, many, y)
    assert found == pytest.approx(1 / 6, rel=1e-3)


class _Interaction(sklearn.base.TransformerMixin, sklearn.base.BaseEstimator):
    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def transform(self, X):
        return np.column_stack([X, X[:, 0] * X[:, 1]])


@every_scorer
def test_treatments_that_are_categories(scorer, area):
    """In a data frame, by name, with the categories of the column's type or those that `fit` saw."""
    expected = area(Y, 0.5 + DRAWS["slope"].mean() * MODIFIER, TREATED)
    arm = np.where(TREATED == 1, "drug", "control")
    settings = {"column_args": {"arm": "arm"}}
    frames = [
        pd.DataFrame({"arm": arm, "x": MODIFIER}),
        pd.DataFrame({"arm": pd.Categorical(arm, ["control", "other", "drug"]), "x": MODIFIER}, index=range(5, 125)),
    ]
    for frame, code in zip(frames, (1, 2), strict=True):
        before = frame.copy()
        model = with_draws(_Coded(code), frame, **settings)
        assert scorer("arm", control="control", treated="drug")(model, frame, Y) == pytest.approx(expected)
        pd.testing.assert_frame_equal(frame, before)
    mixed = np.column_stack([arm.astype(object), MODIFIER])
    model = with_draws(_Coded(1), mixed, column_args={"arm": 0})
    assert scorer(0, control="control", treated="drug")(model, mixed, Y) == pytest.approx(expected)


class _Coded:
    """The kernel of a treatment that has a code."""

    def __init__(self, code):
        self.code = code

    def __call__(self, X, y=None, *, arm):
        dosed(X, y, arm=arm == self.code)


@every_scorer
def test_labels(scorer, area):
    y = np.where(Y > 0.5, "yes", "no")
    model = NumPyroImpactClassifier(labels, posterior=DRAWS).fit(X, y)
    off, on = (model.predict_proba(np.column_stack([MODIFIER, np.full(N_ROWS, arm)]))[:, 1] for arm in (0.0, 1.0))
    assert scorer(1)(model, X, y) == pytest.approx(area(y == "yes", on - off, TREATED))
    unfitted = NumPyroImpactClassifier(labels).set_posterior_sample(DRAWS)
    assert scorer(1)(unfitted, X, (y == "yes").astype(int)) == pytest.approx(scorer(1)(model, X, y))
    with pytest.raises(ValueError, match=r"y holds labels that were not there in `fit`: .*'maybe'.*\['no', 'yes'\]"):
        scorer(1)(model, X, np.where(Y > 1, "maybe", y))


@every_scorer
def test_other_estimators(scorer, area):
    """Estimators that are not of this package can be compared with those that are."""
    interaction = make_pipeline(_Interaction(), LinearRegression()).fit(X, Y)
    slope = interaction[-1].coef_[2]
    assert scorer(1)(interaction, X, Y) == pytest.approx(area(Y, slope * MODIFIER, TREATED))
    classifier = make_pipeline(_Interaction(), LogisticRegression()).fit(X, Y > 0)
    off, on = (classifier.predict_proba(np.column_stack([MODIFIER, np.full(N_ROWS, arm)]))[:, 1] for arm in (0, 1))
    assert scorer(1)(classifier, X, Y > 0) == pytest.approx(area(Y > 0, on - off, TREATED))


class _Recorder(sklearn.base.RegressorMixin, sklearn.base.BaseEstimator):
    """An estimator that records the rows that it predicts."""

    def predict(self, X):
        self.seen = [*getattr(self, "seen", []), X]
        return X["x"].to_numpy() * (X["arm"] == "drug")


@every_scorer
def test_estimators_see_the_types_of_the_columns(scorer, area):
    arm = pd.Categorical(np.where(TREATED == 1, "drug", "control"))
    frame = pd.DataFrame({"x": MODIFIER.astype(np.float32), "arm": arm}, index=range(5, 125))
    model = _Recorder()
    assert scorer("arm", control="control", treated="drug")(model, frame, Y) == pytest.approx(
        area(Y, MODIFIER, TREATED)
    )
    for seen, value in zip(model.seen, ("control", "drug"), strict=True):
        expected = frame.assign(arm=pd.Categorical([value] * N_ROWS, arm.categories))
        pd.testing.assert_frame_equal(seen, expected)


# Within scikit-learn


def by_hand(estimator, area, X=X, y=Y, weight=None):
    """Return the areas of each fold, of the differences between predictions on two copies of X."""
    found = []
    for train, test in FOLDS.split(X):
        model = clone(estimator).fit(X[train], y[train])
        on, off = X[test].copy(), X[test].copy()
        on[:, 1], off[:, 1] = 1, 0
        effect = model.predict(on) - model.predict(off)
        found.append(area(y[test], effect, X[test, 1], sample_weight=None if weight is None else weight[test]))
    return found


@every_scorer
def test_search_is_a_loop_over_folds(scorer, area):
    # The columns are those of the Pipeline's input, before scaling.
    pipeline = make_pipeline(StandardScaler(), NumPyroImpactRegressor(Moderated(), posterior=DRAWS))
    grid = {"numpyroimpactregressor__kernel__factor": [-1.0, 0.5, 1.0]}
    search = GridSearchCV(pipeline, grid, scoring=scorer(1), cv=FOLDS, error_score="raise").fit(X, Y)
    for settings, found in zip(search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True):
        assert found == pytest.approx(np.mean(by_hand(clone(pipeline).set_params(**settings), area)))
    assert search.best_params_["numpyroimpactregressor__kernel__factor"] > 0
    assert search.score(X, Y) == pytest.approx(scorer(1)(search.best_estimator_, X, Y))
    assert scorer(1)(search, X, Y) == search.score(X, Y)


def test_without_routing():
    scoring = {scorer.__name__: scorer(1) for scorer, _ in SCORERS}
    search = GridSearchCV(
        NumPyroImpactRegressor(posterior=DRAWS), {"kernel": [Moderated()]}, scoring=scoring, cv=FOLDS, refit=False
    )
    search.fit(X, Y, sample_weight=WEIGHT)
    for scorer, area in SCORERS:
        expected = np.mean(by_hand(NumPyroImpactRegressor(Moderated(), posterior=DRAWS), area, weight=WEIGHT))
        assert search.cv_results_[f"mean_test_{scorer.__name__}"][0] == pytest.approx(expected)


@every_scorer
def test_routed_arguments_reach_the_scorers(scorer, area):
    exposure = np.linspace(5, 0.1, N_ROWS)
    model = NumPyroImpactRegressor(dosed, posterior=DRAWS, column_args={"arm": 1})
    with sklearn.config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(StandardScaler().set_output(transform="default"), model)
        model.set_fit_request(exposure=True, sample_weight=False)
        scoring = scorer(1, control=0, treated=1).set_score_request(exposure=True, sample_weight="importance")
        params = {"exposure": exposure, "importance": WEIGHT}
        for estimator in (model, clone(pipeline)):
            found = cross_validate(estimator, X, Y, cv=FOLDS, scoring=scoring, params=params, error_score="raise")
            for number, (train, test) in enumerate(FOLDS.split(X)):
                scaled = estimator is not model
                centre, scale = (X[train].mean(axis=0), X[train].std(axis=0)) if scaled else (0.0, 1.0)
                (x_on, on), (x_off, off) = (
                    np.transpose((np.column_stack([X[test, 0], np.full(len(test), arm)]) - centre) / scale)
                    for arm in (1, 0)
                )
                slope = DRAWS["slope"].mean()
                effect = exposure[test] * (moderated(x_on, on, slope) - moderated(x_off, off, slope))
                expected = area(Y[test], effect, X[test, 1], sample_weight=WEIGHT[test])
                assert found["test_score"][number] == pytest.approx(expected)


@every_scorer
def test_parameters_of_a_scorer_are_the_searchs(scorer, area):
    search = clone(GridSearchCV(NumPyroImpactRegressor(), {}, scoring=scorer("arm", treated="drug")))
    assert search.get_params()["scoring__treated"] == "drug"
    assert repr(search.scoring) == f"{scorer.__name__}(treated='drug', treatment='arm')"


# Refusals

FOUR = {"y": [1.0, 2.0, 3.0, 4.0], "effect": [1.0, 2.0, 3.0, 4.0], "treatment": [1, 0, 1, 0]}
BAD = [
    ({"treatment": [0] * 4}, "`treatment` marks none of the 4 rows as treated: .* needs some of both"),
    ({"treatment": [1] * 4}, "`treatment` marks none of the 4 rows as untreated: "),
    ({"treatment": [1, 0, 2, 0]}, "`treatment` must be 1 for treated and 0 for untreated rows, got 2 as well"),
    ({"treatment": [1, 0, -1, 1]}, "`treatment` must be 1 for treated and 0 for untreated rows, got -1 as well"),
    ({"treatment": ["a", "b", "a", "b"]}, "`treatment` must be numeric, got an array of type"),
    ({"treatment": [1, 0, 1]}, r"`treatment` must have the shape \(4,\), a number for each row of y, got \(3,\)"),
    ({"treatment": [1, 0, 1, np.nan]}, "`treatment` is nan in row 3: leave out such rows, or fill them in"),
    ({"effect": [1.0]}, r"`effect` must have the shape \(4,\), a number for each row of y, got \(1,\)"),
    ({"effect": [[1.0], [2.0], [3.0], [4.0]]}, r"`effect` must have the shape \(4,\), .* got \(4, 1\)"),
    ({"effect": [1.0, np.inf, 2.0, 3.0]}, "`effect` is inf in row 1"),
    ({"y": [1.0, 2.0, np.nan, 4.0]}, "`y` is nan in row 2"),
    ({"y": [[1.0, 2.0]] * 4}, r"`y` must have the shape \(n_rows,\), .* got \(4, 2\)"),
    ({"y": ["a"] * 4}, "`y` must be numeric, got an array of type"),
    ({"y": 3.0}, r"`y` must have the shape \(n_rows,\), .* got \(\)"),
    ({"sample_weight": [1.0]}, "sample_weight.shape"),
    ({"sample_weight": [1.0, -1.0, 1.0, 1.0]}, "Negative values in data passed to `sample_weight`"),
    ({"sample_weight": [0, 1, 0, 1]}, "`treatment` marks none of the 2 rows as treated"),
]


@pytest.mark.parametrize("function", [*CURVES, *AREAS])
@pytest.mark.parametrize(("wrong", "message"), BAD)
def test_bad_arguments(function, wrong, message):
    with pytest.raises(ValueError, match=message):
        function(**FOUR | wrong)


BAD_COLUMNS = [
    ({"treatment": 5}, X, ValueError, "`treatment` gives column 5, but X has 2 columns"),
    ({"treatment": "arm"}, X, ValueError, "`treatment` names column 'arm', but X has no column names"),
    ({"treatment": None}, X, TypeError, "`treatment` must give columns by name or position, got None"),
    ({"treatment": 1}, X[:, 1], ValueError, r"X must have the shape \(n_rows, n_features\), got \(120,\)"),
    (
        {"treatment": 1},
        X + np.array([0, 1]),
        ValueError,
        "Column 1 must hold 0 and 1 alone, got .*2.0.* as well: set `control` and `treated`, and leave out rows",
    ),
    ({"treatment": 1, "treated": "drug"}, X, ValueError, "Column 1 must hold 0 and 'drug' alone"),
    ({"treatment": 1, "control": 1}, X, ValueError, "`control` and `treated` must differ, but both are 1"),
    ({"treatment": 1}, X * [1, 0], ValueError, "`treatment` marks none of the 120 rows as treated"),
]


@every_scorer
@pytest.mark.parametrize(("params", "X", "kind", "message"), BAD_COLUMNS)
def test_bad_columns(scorer, area, params, X, kind, message):
    with pytest.raises(kind, match=message):
        scorer(**params)(with_draws(), X, Y)


@every_scorer
def test_bad_estimators(scorer, area):
    with pytest.raises(NotFittedError):
        scorer(1)(NumPyroImpactRegressor(), X, Y)
    two = LinearRegression().fit(X, np.column_stack([Y, Y]))
    with pytest.raises(ValueError, match=r"needs one outcome for each row, but predictions have \(120, 2\)"):
        scorer(1)(two, X, Y)
    three = LogisticRegression().fit(X, np.arange(N_ROWS) % 3)
    with pytest.raises(ValueError, match=r"Score|Curve` needs one outcome of two classes, but has \[0 1 2\]"):
        scorer(1)(three, X, np.arange(N_ROWS) % 3)
    frame = pd.DataFrame(X, columns=["x", "t"])
    with pytest.raises(ValueError, match=r"`treatment` names column 'arm', which X does not have: \['x', 't'\]"):
        scorer("arm")(with_draws(X=frame), frame, Y)
