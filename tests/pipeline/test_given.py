"""What users give for rows: functions that change their argument, labels of rows, labels of steps, values to find.

The kernel's expected outcome is linear in the transformed columns, so that each effect has a closed form.
"""

import datetime

import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler, TargetEncoder

from skaimz import NumPyroImpactRegressor, pipeline
from skaimz.estimators._given import where_equal
from skaimz.exceptions import UnknownLabelWarning
from skaimz.pipeline._table import Table

RNG = np.random.default_rng(0)
N_ROWS = 12
AGE = np.arange(N_ROWS) * 10.0


def linear(X, y=None, exposure=0.0):
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ coef + exposure, 1.0), obs=y)


def with_town(X, town, y=None):
    linear(X, y, exposure=0.0 * town)


COEF = RNG.normal(size=(5, 2))


def fitted(step, X, n_inputs=2, y=None, **arrays):
    model = NumPyroImpactRegressor(linear, posterior={"coef": np.resize(COEF, (5, n_inputs))}, random_state=0)
    model = model if step is None else make_pipeline(step, model)
    names = {f"numpyroimpactregressor__{name}" if step is not None else name: each for name, each in arrays.items()}
    return model.fit(X, np.zeros(len(X)) if y is None else y, **names)


def effects_of(model, X, columns=None, *, arguments=None, **options):
    scenario = {"columns": columns or {}, "arguments": arguments or {}}
    method = model.estimate_effect if isinstance(model, NumPyroImpactRegressor) else None
    scenarios = {"a": scenario}
    tree = (
        method(X, scenarios=scenarios, **options)
        if method
        else pipeline.estimate_effect(model, X, scenarios=scenarios, **options)
    )
    return tree["a"]["effect"].to_numpy()[0]


# Functions


def at_most_50(values):
    values[values > 50] = 50.0
    return values


def first_at_most_50(rows):
    if hasattr(rows, "loc"):
        rows.loc[rows["age"] > 50, "age"] = 50.0
    else:
        rows[rows[:, 0] > 50, 0] = 50.0
    return rows


def identity(X):
    return X


@pytest.mark.parametrize("frame", [True, False], ids=["frame", "array"])
@pytest.mark.parametrize("step", [None, FunctionTransformer(identity)], ids=["alone", "pipeline"])
def test_functions_have_a_copy_of_their_own(frame, step):
    array = np.column_stack([AGE, np.ones(N_ROWS)])
    X = pd.DataFrame(array, columns=["age", "one"]) if frame else array.copy()
    exposure = AGE.copy()
    model = fitted(step, X, exposure=exposure)
    expected = COEF[:, 0] * (np.minimum(AGE, 50) - AGE).mean()
    found = effects_of(model, X, {0: at_most_50}, exposure=exposure)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    found = effects_of(model, X, arguments={"X": first_at_most_50}, exposure=exposure)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    found = effects_of(model, X, arguments={"exposure": at_most_50}, exposure=exposure)
    np.testing.assert_allclose(found, (np.minimum(AGE, 50) - AGE).mean(), rtol=1e-5)
    np.testing.assert_array_equal(X, array)
    np.testing.assert_array_equal(exposure, AGE)
    for changes, name in (
        ({"columns": {0: lambda _: None}}, "column 0"),
        ({"arguments": {"exposure": lambda _: None}}, "the argument 'exposure'"),
        ({"arguments": {"X": lambda _: None}}, "the argument 'X'"),
    ):
        with pytest.raises(ValueError, match=f"function for {name} returns None"):
            effects_of(model, X, **changes, exposure=exposure)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "uint32", "UInt8", "uint8[pyarrow]"])
@pytest.mark.parametrize("step", [None, FunctionTransformer(identity)], ids=["alone", "pipeline"])
def test_narrow_integers_do_not_wrap_around(dtype, step):
    X = pd.DataFrame({"n": np.arange(N_ROWS) % 3, "m": 1}).astype(dtype)
    model = fitted(step, X)
    expected = np.full(5, COEF[:, 0]) * -100
    np.testing.assert_allclose(effects_of(model, X, {"n": lambda n: n - 100}), expected, rtol=1e-6)
    moved = {"X": lambda rows: rows.assign(n=rows["n"] - 100)}
    np.testing.assert_allclose(effects_of(model, X, arguments=moved), expected, rtol=1e-6)


def test_frames_of_polars_are_copied_and_widened():
    polars = pytest.importorskip("polars")
    X = polars.DataFrame({"n": np.zeros(N_ROWS, np.uint8), "m": np.ones(N_ROWS)})
    model = fitted(FunctionTransformer(identity), X)
    moved = {"X": lambda rows: rows.with_columns(n=rows["n"] - 1)}
    np.testing.assert_allclose(effects_of(model, X, arguments=moved), -COEF[:, 0], rtol=1e-6)
    np.testing.assert_allclose(effects_of(model, X, {"n": lambda n: n - 1}), -COEF[:, 0], rtol=1e-6)


def with_mapping(X, more, y=None):
    linear(X, y, exposure=more["a"] - more["b"])


def test_entries_of_mappings_are_copied():
    X, more = np.ones((N_ROWS, 2)), {"a": AGE.copy(), "b": np.zeros(N_ROWS, np.uint8)}
    model = NumPyroImpactRegressor(with_mapping, posterior={"coef": COEF}, random_state=0)
    model.fit(X, np.zeros(N_ROWS), more=more)

    def moved(entries):
        entries["a"][:] = 7.0
        entries["b"] -= 1
        return entries

    found = effects_of(model, X, arguments={"more": moved}, more=more)
    np.testing.assert_allclose(found, 7.0 + 1.0 - AGE.mean(), rtol=1e-6)
    np.testing.assert_array_equal(more["a"], AGE)


# Labels of rows


@pytest.mark.parametrize("step", [None, StandardScaler()], ids=["alone", "pipeline"])
def test_values_with_the_labels_of_the_rows_in_another_order_are_refused(step):
    labels = [f"r{i}" for i in range(N_ROWS)]
    X = pd.DataFrame({"age": AGE, "b": AGE**2}, index=labels)
    exposure = np.ones(N_ROWS)
    model = fitted(step, X, exposure=exposure)
    older = pd.Series(AGE + 10, labels)
    turned = older[::-1]
    arrays = {"exposure": exposure}
    for arguments in (
        {"columns": {"age": turned}},
        {"columns": {"age": lambda _: turned}},
        {"arguments": {"exposure": turned}},
        {"arguments": {"X": X[::-1]}},
        {"where": turned > 50},
        {"where": {"age": turned}},
        {"sample_weight": turned},
        {"by": {"old": turned > 50}},
    ):
        options = {"columns": {"age": 1.0}, **arrays, **arguments}
        with pytest.raises(ValueError, match=r"another order than X.*reindex\(X.index\).*to_numpy\(\)"):
            effects_of(model, X, **options)
    scale = 1 if step is None else AGE.std()
    for new in (older, older.reset_index(drop=True), turned.reindex(X.index), pd.Series(AGE + 10, range(5, 17))):
        np.testing.assert_allclose(effects_of(model, X, {"age": new}, **arrays), COEF[:, 0] * 10 / scale, rtol=1e-5)
    if step is not None:
        with pytest.raises(ValueError, match="`sample_weight` has the row labels of X in another order"):
            pipeline.estimate_slope(model, X, "age", sample_weight=turned, **arrays)


# Types of columns


def test_columns_of_polars_keep_their_type():
    polars = pytest.importorskip("polars")
    hour = 3600 * 10**9
    frame = polars.DataFrame(
        {
            "time": polars.Series(np.arange(N_ROWS) * hour, dtype=polars.Int64).cast(polars.Datetime("ns")),
            "wait": polars.Series(np.arange(N_ROWS) * 1000, dtype=polars.Int64).cast(polars.Duration("ms")),
            "town": polars.Series(["a", "b"] * (N_ROWS // 2), dtype=polars.Enum(["a", "b"])),
            "size": polars.Series(np.zeros(N_ROWS), dtype=polars.Int8),
        }
    )
    seen = []

    def numbers(rows):
        if len(rows) == N_ROWS:  # and not a single row, in which labels are tried
            seen.append(rows.schema)
        return np.column_stack([rows["time"].dt.epoch("s") / 3600, rows["wait"].dt.total_milliseconds() / 1000])

    model = fitted(FunctionTransformer(numbers), frame)
    later = {
        "time": lambda t: t + np.timedelta64(2, "h"),
        "wait": lambda w: w + np.timedelta64(3, "s"),
        "town": "b",
        "size": 3,
    }
    np.testing.assert_allclose(effects_of(model, frame, later), COEF @ [2.0, 3.0], rtol=1e-6)
    assert all(schema == frame.schema for schema in seen)
    np.testing.assert_allclose(
        effects_of(model, frame, {"time": datetime.datetime(1970, 1, 1, 5)}), COEF[:, 0] * (5 - 5.5), rtol=1e-6
    )
    table = Table(polars.DataFrame({"n": polars.Series([1, None, 3], dtype=polars.Int8)}))
    moved = table.replaced({"n": table.new_values("n", lambda n: n + 1)})["n"]
    assert moved.equals(polars.Series("n", [2, None, 4], dtype=polars.Int8), check_dtypes=True)
    effects_of(model, frame, {"time": lambda t: t + np.timedelta64(2, "h"), "size": 300.5})
    assert polars.Float64 in [schema["size"] for schema in seen]
    with pytest.raises(ValueError, match=r"'town', which has the type Enum.* the value 'c'"):
        effects_of(model, frame, {"town": "c"})


# Labels of steps


@pytest.mark.parametrize("dtype", [object, "str", "string"])
def test_numbers_for_labels_of_text_are_refused(dtype):
    X = pd.DataFrame({"year": ["1987", "1988"] * (N_ROWS // 2)}, dtype=dtype)
    model = fitted(OneHotEncoder(sparse_output=False, handle_unknown="ignore"), X)
    for value in (1988, 1988.0, np.full(N_ROWS, 1988), lambda years: years.astype(int)):
        with pytest.raises(ValueError, match=r"'year', which holds text, the value 198\d.*: give text, such as '198"):
            effects_of(model, X, {"year": value})
    expected = (COEF[:, 1] - COEF[:, 0]) / 2
    np.testing.assert_allclose(effects_of(model, X, {"year": "1988"}), expected, rtol=1e-6)
    array = X.to_numpy(dtype="U4")
    model = fitted(OneHotEncoder(sparse_output=False, handle_unknown="ignore"), array)
    with pytest.raises(ValueError, match="give text"):
        effects_of(model, array, {0: 1988})
    np.testing.assert_allclose(effects_of(model, array, {0: "1988"}), expected, rtol=1e-6)


@pytest.mark.filterwarnings("ignore::skaimz.exceptions.UnreachedOutputWarning")
def test_numbers_that_are_labels_warn_where_steps_do_not_know_them():
    X = pd.DataFrame({"store": [1, 2] * (N_ROWS // 2), "size": AGE})
    y = np.where(X["store"] == 1, 10.0, -10.0) + RNG.normal(size=N_ROWS)
    for encoder, n_inputs in (
        (OneHotEncoder(sparse_output=False, handle_unknown="ignore"), 2),
        (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), 1),
        (TargetEncoder(cv=2, target_type="continuous"), 1),
    ):
        columns = make_column_transformer((encoder, ["store"]), (StandardScaler(), ["size"]))
        model = fitted(columns, X, n_inputs + 1, y)
        with pytest.warns(UnknownLabelWarning, match=r"the label '7', which no row has.*The rows have \['1', '2'\]"):
            effects_of(model, X, {"store": 7})
        effects_of(model, X, {"store": 2, "size": 1e4})
    # A column that no step takes has no labels.
    left_out = make_column_transformer((StandardScaler(), ["size"]), remainder="drop")
    effects_of(fitted(left_out, X, 1), X, {"store": 7})


# Values to find


@pytest.mark.parametrize("dtype", [object, "str", "string", "string[pyarrow]", "category"])
def test_missing_text_equals_nothing(dtype):
    values = pd.Series(["x", "y", None, "x"], dtype=dtype)
    assert where_equal(values, "x").tolist() == [True, False, False, True]
    assert where_equal(values, np.array(["x", "x", "x", "y"])).tolist() == [True, False, False, False]
    assert where_equal(values, values).tolist() == [True, True, False, True]
    assert not where_equal(values, pd.NA).any()
    assert not where_equal(values, 3).any()


@pytest.mark.parametrize("dtype", ["Int64", "int64[pyarrow]", "Float64", "category", object])
def test_missing_numbers_equal_nothing(dtype):
    values = pd.Series([1, 2, None, 1], dtype="Int64").astype(dtype)
    assert where_equal(values, 1).tolist() == [True, False, False, True]
    assert where_equal(values, [1, 1, 1, 2]).tolist() == [True, False, False, False]
    assert not where_equal(values, np.nan).any()


def test_times_are_found_by_text():
    days = pd.Series(pd.to_datetime(["2020-01-01", "2020-01-02", None]))
    for values in (days, days.to_numpy(), days.astype("category"), days.astype("timestamp[ns][pyarrow]")):
        assert where_equal(values, "2020-01-02").tolist() == [False, True, False]
        assert where_equal(values, np.datetime64("2020-01-02")).tolist() == [False, True, False]
    assert where_equal(days.dt.tz_localize("UTC"), "2020-01-02").tolist() == [False, True, False]


def test_where_finds_rows():
    towns = pd.array(["a", "b", pd.NA] * (N_ROWS // 3), dtype="string")
    days = pd.to_datetime(["2020-01-01", "2020-01-02"] * (N_ROWS // 2))
    X = pd.DataFrame({"age": AGE, "day": days, "town": towns})
    model = fitted(make_column_transformer((FunctionTransformer(identity), ["age"])), X, 1)
    chosen = [row for row in range(N_ROWS) if row % 3 == 1 and row % 2 == 1]
    nullable = pd.array([row in chosen for row in range(N_ROWS)], dtype="boolean")
    for where in ({"town": "b", "day": "2020-01-02"}, nullable):
        found = effects_of(model, X, {"age": 0.0}, where=where)
        np.testing.assert_allclose(found, -np.resize(COEF, 5) * AGE[chosen].mean(), rtol=1e-6)
    with pytest.raises(ValueError, match=r"mark each of the 12 rows by a boolean, got an array of bool .*\(3,\)"):
        pipeline.estimate_slope(model, X, "age", where=np.ones(3, bool))


def test_where_finds_rows_of_arguments_that_are_columns():
    X = pd.DataFrame({"age": AGE, "b": 1.0, "town": pd.Categorical(["a", "b", "c"] * (N_ROWS // 3))})
    model = NumPyroImpactRegressor(with_town, posterior={"coef": COEF}, column_args={"town": "town"}, random_state=0)
    model.fit(X, np.zeros(N_ROWS))
    found = effects_of(model, X, {"age": 0.0}, where={"town": "b"})
    np.testing.assert_allclose(found, -COEF[:, 0] * AGE[1::3].mean(), rtol=1e-6)


def test_trees_have_the_labels_of_rows_that_steps_lose():
    X = pd.DataFrame({"age": AGE, "b": AGE**2}, index=[f"r{i}" for i in range(N_ROWS)])
    tree = pipeline.to_datatree(fitted(StandardScaler(), X), X, np.zeros(N_ROWS))
    for group, name in (("observed_data", "y"), ("constant_data", "X"), ("log_likelihood", "y")):
        assert tree[group]["rows"].to_numpy().tolist() == X.index.tolist()
        assert tree[group][name].sizes["rows"] == N_ROWS


# Messages


def test_messages():
    X = pd.DataFrame({"age": AGE, "b": 1.0})
    model = fitted(StandardScaler(), X)
    with pytest.raises(ValueError, match="pass X"):
        pipeline.estimate_effect(model, None, scenarios={"a": {"columns": {"age": 1.0}}})
    with pytest.raises(ValueError, match="pass X"):
        pipeline.estimate_slope(model, None, "age")
    with pytest.raises(ValueError, match=r"`contrast` must be one of .*got \['difference'\]"):
        effects_of(model, X, {"age": 1.0}, contrast=["difference"])
    with pytest.raises(ValueError, match="`along` names column 'aeg', which X does not have"):
        pipeline.estimate_slope(model, X, "aeg")
