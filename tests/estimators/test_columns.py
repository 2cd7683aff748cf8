"""Arguments of the kernel that are columns of X: arrays, pandas and polars frames, numbers and categories."""

import datetime
import decimal
import fractions
import pickle
import uuid
from collections import deque

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
import xarray as xr
import zarr
import zoo
import zoo_inputs
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from skaimz import NumPyroImpactClassifier, NumPyroImpactRegressor
from skaimz.estimators._columns import split_columns
from skaimz.inference import SVI

pytestmark = [
    pytest.mark.filterwarnings("ignore::skaimz.exceptions.FitWarning"),
    pytest.mark.usefixtures("quick_compilation"),
]

rng = np.random.default_rng(0)
X = rng.normal(size=(40, 2))
OFFSET = rng.normal(size=40)
GROUP = np.array(["north", "south", "east", "west"])[np.arange(40) % 4]
CODES = np.array([1, 2, 0, 3])[np.arange(40) % 4]  # of the sorted names
Y = X @ [1.0, -2.0] + 3.0 * CODES + rng.normal(scale=0.5, size=40)
QUICK = SVI(num_steps=200, num_samples=50)
SHIFT = {"coef": np.array([[1.0, -2.0], [2.0, 0.0]])}
LEVELS = {"coef": np.array([[1.0, -2.0]]), "level": np.array([[0.0, 10.0, 20.0, 30.0]])}

FRAMES = {
    "array": lambda columns: np.column_stack(list(columns.values())),
    "pandas": pd.DataFrame,
    "polars": pl.DataFrame,
    "arrow": lambda columns: pa.Table.from_pandas(pd.DataFrame(columns), preserve_index=False),
}
frames = pytest.mark.parametrize("form", FRAMES)


def regressor(kernel, column_args, **parameters):
    return NumPyroImpactRegressor(kernel, column_args=column_args, random_state=0, inference=QUICK, **parameters)


def shifted(column_args, **parameters):
    return regressor(zoo_inputs.shifted, column_args, posterior=SHIFT, **parameters)


def by_group(column_args, **parameters):
    return regressor(zoo_inputs.by_group, column_args, **parameters)


def wide(form, **more):
    return FRAMES[form]({"a": X[:, 0], "offset": OFFSET, "b": X[:, 1], **more})


def with_group(form, values=GROUP):
    if form == "array":
        return np.column_stack([X.astype(object), np.asarray(values, dtype=object)])
    return FRAMES[form]({"a": X[:, 0], "b": X[:, 1], "group": values})


@pytest.fixture(scope="module")
def fitted():
    return by_group({"group": "group"}).fit(with_group("pandas"), Y)


@pytest.fixture(scope="module")
def by_hand():
    """The same fit with the codes given."""
    return regressor(zoo_inputs.by_group, None).fit(X, Y, group=CODES, n_group=4)


# Where columns are


@frames
@pytest.mark.parametrize("place", [1, -2, np.int64(1), "offset"])
def test_one_column(form, place):
    if form == "array" and place == "offset":
        pytest.skip("an array has no names")
    model = shifted({"offset": place}).fit(wide(form), Y)
    expected = X @ [1.5, -1.0] + OFFSET
    np.testing.assert_allclose(model.predict(wide(form)), expected)
    assert model.n_features_in_ == 3
    assert model.arguments_["rows"] == {"X": [[2], "float64"], "offset": [[], "float64"]}
    assert model.categories_ == {"offset": [None]}
    np.testing.assert_allclose(model.predict(wide(form)[:7]), expected[:7])


@frames
@pytest.mark.parametrize("places", [[1, 3], ["offset", "second"], ("offset", 3)])
def test_several_columns(form, places):
    if form == "array" and "offset" in places:
        pytest.skip("an array has no names")
    second = np.arange(40)
    data = wide(form, second=second)
    model = regressor(zoo_inputs.shifted_twice, {"offsets": places}, posterior=SHIFT)
    model.fit(data, Y, level=100.0)
    # A constant of the fit holds on.
    np.testing.assert_allclose(model.predict(data), X @ [1.5, -1.0] + OFFSET + 10.0 * second + 100.0)
    assert model.arguments_["rows"]["offsets"] == [[2], "float64"]


@frames
def test_a_list_of_one_has_two_dimensions(form):
    _, arrays, _ = split_columns(wide(form), {"one": [1], "alone": 1}, None)
    assert arrays["one"].shape == (40, 1)
    assert arrays["alone"].shape == (40,)
    np.testing.assert_array_equal(arrays["one"][:, 0], OFFSET)


def test_numbered_names_are_names():
    frame = pd.DataFrame(np.column_stack([X, OFFSET]), columns=[2, 0, 1])
    rest, arrays, _ = split_columns(frame, {"offset": 2}, None)
    np.testing.assert_array_equal(arrays["offset"], X[:, 0])
    assert rest.columns.tolist() == [0, 1]


def test_an_argument_passed_by_the_caller_goes_before():
    model = shifted({"offset": 1}).fit(wide("array"), Y)
    np.testing.assert_allclose(model.predict(wide("array"), offset=np.zeros(40)), X @ [1.5, -1.0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precision_is_that_of_the_rest(dtype):
    frame = wide("pandas").astype(dtype).assign(offset=OFFSET)
    model = shifted({"offset": "offset"}).fit(frame, Y)
    assert model.arguments_["rows"]["offset"][1] == np.dtype(dtype).name
    assert model.predict(frame).dtype == dtype


@given(
    n_columns=st.integers(2, 6),
    data=st.data(),
    form=st.sampled_from(sorted(FRAMES)),
)
@settings(max_examples=60)
def test_every_column_ends_in_one_place(n_columns, data, form):
    values = np.arange(5.0 * n_columns).reshape(5, n_columns)
    frame = FRAMES[form]({f"c{i}": values[:, i] for i in range(n_columns)})
    taken = data.draw(st.lists(st.integers(0, n_columns - 1), unique=True, min_size=1, max_size=n_columns - 1))
    cut = data.draw(st.integers(0, len(taken)))
    groups = {name: places for name, places in {"u": taken[:cut], "v": taken[cut:]}.items() if places}

    def spelt(place):
        spellings = [place, place - n_columns, *([] if form == "array" else [f"c{place}"])]
        return data.draw(st.sampled_from(spellings))

    rest, arrays, _ = split_columns(frame, {name: list(map(spelt, places)) for name, places in groups.items()}, None)
    for name, places in groups.items():
        np.testing.assert_array_equal(arrays[name], values[:, places])
    np.testing.assert_array_equal(np.asarray(rest), np.delete(values, taken, axis=1))


# Categories


@frames
def test_categories_are_codes(form, by_hand):
    model = by_group({"group": 2}).fit(with_group(form), Y)
    assert [labels.tolist() for labels in model.categories_["group"]] == [["east", "north", "south", "west"]]
    assert model.arguments_["rows"]["group"] == [[], "int32"]
    assert model.arguments_["static"] == {"n_group": 4}
    np.testing.assert_array_equal(model.posterior_["level"], by_hand.posterior_["level"])
    np.testing.assert_array_equal(model.predict(with_group(form)), by_hand.predict(X, group=CODES))
    # Codes are those of the fit, whatever categories a call has.
    np.testing.assert_array_equal(model.predict(with_group(form)[2:3]), by_hand.predict(X[2:3], group=CODES[2:3]))


def columns_of_groups():
    given = ["west", "north", "south", "east", "nowhere"]
    return {
        "pandas categorical": with_group("pandas", pd.Categorical(GROUP, categories=given)),
        "polars enum": with_group("polars", pl.Series(GROUP, dtype=pl.Enum(given))),
        "given": with_group("pandas"),
        "given to polars": with_group("polars"),
        "given to an array": with_group("array"),
    }


@pytest.mark.parametrize("kind", columns_of_groups())
def test_categories_that_are_known_beforehand(kind):
    data, names = columns_of_groups()[kind], ["west", "north", "south", "east", "nowhere"]
    setting = {"columns": 2, "categories": names} if kind.startswith("given") else 2
    posterior = {"coef": np.zeros((1, 2)), "level": np.array([[0.0, 1.0, 2.0, 3.0, 4.0]])}
    model = by_group({"group": setting}, posterior=posterior)
    expected = [float(names.index(name)) for name in GROUP]
    # Known without `fit` too.
    np.testing.assert_allclose(model.predict(data), expected)
    model.fit(data, Y)
    assert model.categories_["group"][0].tolist() == names
    assert model.arguments_["static"] == {"n_group": 5}
    np.testing.assert_allclose(model.predict(data), expected)


@pytest.mark.parametrize("dtype", ["string", object, "category", pl.String, pl.Categorical])
def test_every_type_of_text(dtype):
    if isinstance(dtype, str) or dtype is object:
        data = with_group("pandas").astype({"group": dtype})
    else:
        data = with_group("polars").with_columns(pl.col("group").cast(dtype))
    _, arrays, categories = split_columns(data, {"group": "group"}, None, learn=True)
    assert sorted(categories["group"][0].tolist()) == ["east", "north", "south", "west"]
    np.testing.assert_array_equal(categories["group"][0][arrays["group"]], GROUP)


@given(labels=st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=30), form=st.sampled_from(["pandas", "polars"]))
@settings(max_examples=60)
def test_codes_are_places_among_the_categories(labels, form):
    frame = FRAMES[form]({"x": np.arange(float(len(labels))), "label": labels})
    _, arrays, categories = split_columns(frame, {"label": "label"}, None, learn=True)
    (found,) = categories["label"]
    assert found.tolist() == sorted(set(labels))
    assert found[arrays["label"]].tolist() == labels
    assert arrays["label"].dtype == np.int32
    _, again, same = split_columns(frame[::-1], {"label": "label"}, categories)
    assert again["label"].tolist() == arrays["label"].tolist()[::-1]
    assert same["label"][0] is found


@frames
@pytest.mark.parametrize("setting", [2, {"columns": "group"}])
def test_unseen_categories_are_refused_by_name(form, setting, fitted):
    if form == "array":
        setting = 2
    model = by_group({"group": setting}, posterior=LEVELS).fit(with_group(form), Y)
    message = r"argument 'group', holds categories .*: \['down', 'up'\]. Known are \['east', 'north', 'south', 'west'\]"
    unseen = GROUP.astype(object)
    unseen[[3, 5, 6]] = ["down", "up", "down"]
    with pytest.raises(ValueError, match=message):
        model.predict(with_group(form, list(unseen)))


@frames
def test_unseen_categories_have_a_code_where_one_is_given(form):
    posterior = {"coef": np.zeros((1, 2)), "level": np.arange(7.0)[None]}
    model = by_group({"group": {"columns": 2, "unknown_value": 6}}, posterior=posterior).fit(with_group(form), Y)
    assert model.arguments_["static"] == {"n_group": 7}
    unseen = GROUP.astype(object)
    unseen[3] = "up"
    expected = CODES.astype(float)
    expected[3] = 6.0
    np.testing.assert_allclose(model.predict(with_group(form, list(unseen))), expected)


@pytest.mark.filterwarnings("ignore::skaimz.exceptions.PosteriorWarning")
@frames
def test_several_columns_of_categories(form):
    other = np.array(["x", "y"])[np.arange(40) % 2]
    data = {"a": X[:, 0].tolist(), "group": GROUP.tolist(), "other": other.tolist()}
    frame = np.array(list(zip(*data.values(), strict=True)), dtype=object) if form == "array" else FRAMES[form](data)
    level = np.array([[[0.0, 1.0, 2.0, 3.0], [0.0, 10.0, np.nan, np.nan]]])
    model = regressor(zoo_inputs.by_two_groups, {"groups": [1, 2]}, posterior={"level": level}).fit(frame, Y)
    assert [labels.tolist() for labels in model.categories_["groups"]] == [sorted(set(GROUP)), ["x", "y"]]
    assert model.arguments_["static"] == {"n_groups": 4}
    np.testing.assert_allclose(model.predict(frame), CODES + 10.0 * (np.arange(40) % 2))


def test_numbers_are_categories_where_they_are_listed():
    data = np.column_stack([X, np.array([10.0, 30.0])[np.arange(40) % 2]])
    model = by_group({"group": {"columns": 2, "categories": [30, 20, 10]}}, posterior={
        "coef": np.zeros((1, 2)), "level": np.array([[0.0, 1.0, 2.0]])
    })  # fmt: skip
    np.testing.assert_allclose(model.fit(data, Y).predict(data), np.array([2.0, 0.0])[np.arange(40) % 2])


def test_the_number_of_codes_can_be_given_by_the_caller(fitted):
    model = by_group({"group": "group"}, posterior={"level": np.zeros((1, 9)), "coef": np.zeros((1, 2))})
    model.fit(with_group("pandas"), Y, n_group=9)
    assert model.arguments_["static"] == {"n_group": 9}


def test_a_failed_fit_keeps_the_categories(fitted):
    model = clone(fitted).set_params(posterior=LEVELS).fit(with_group("pandas"), Y)
    before = dict(vars(model))
    with pytest.raises(ValueError, match="NaN"):
        model.fit(with_group("pandas", GROUP[::-1]).assign(a=np.nan), Y)
    assert vars(model) == before


def test_more_rows_have_the_same_codes(fitted):
    model = clone(fitted).partial_fit(with_group("pandas"), Y)
    # Rows of two groups alone would have the codes 0 and 1.
    few = with_group("pandas")[np.isin(GROUP, ["south", "west"])]
    model.partial_fit(few, Y[np.isin(GROUP, ["south", "west"])])
    assert model.categories_["group"][0].tolist() == ["east", "north", "south", "west"]
    assert model.fit_result_.losses.shape == (2,)
    with pytest.raises(ValueError, match=r"not there in `fit`: \['up'\]"):
        model.partial_fit(few.assign(group="up"), Y[: len(few)])


# Missing values


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_missing_categories(missing, fitted):
    values = GROUP.astype(object)
    values[5] = missing
    for call in (lambda X: fitted.predict(X), lambda X: clone(fitted).fit(X, Y)):
        with pytest.raises(ValueError, match="Column 2 of X, the kernel's argument 'group', has missing values"):
            call(with_group("pandas", values))
    with pytest.raises(ValueError, match="argument 'group', has missing values"):
        clone(fitted).set_params(column_args={"group": 2}).fit(with_group("array", values), Y)
    if missing is None:
        with pytest.raises(ValueError, match="argument 'group', has missing values"):
            clone(fitted).fit(with_group("polars", values.tolist()), Y)


@frames
def test_missing_numbers(form):
    offset = OFFSET.copy()
    offset[3] = np.nan
    data = FRAMES[form]({"a": X[:, 0], "offset": offset, "b": X[:, 1]})
    with pytest.raises(ValueError, match="Argument 'offset' contains NaN or infinity"):
        shifted({"offset": 1}).fit(data, Y)
    with pytest.raises(ValueError, match="Argument 'offset' contains NaN or infinity"):
        shifted({"offset": 1}).predict(data)


@pytest.mark.parametrize("column", [pd.array([1, None] * 20, dtype="Int64"), pl.Series([1, None] * 20)])
def test_missing_integers(column):
    frame = (pl.DataFrame if isinstance(column, pl.Series) else pd.DataFrame)({"a": X[:, 0], "b": X[:, 1], "o": column})
    with pytest.raises(ValueError, match=r"'o.*'.* (missing values|NaN)"):
        shifted({"offset": "o"}).fit(frame, Y)


# Before fit


def test_prior_draws_before_fit():
    model = by_group({"group": 2})
    tree = model.sample_prior_predictive_on_batch(with_group("array"), num_samples=20, return_datatree=False)
    assert tree["y"].shape == (1, 20, 40)
    expected = X @ tree["coef"][0].T + tree["level"][0][:, CODES].T
    assert np.abs(tree["y"][0].T - expected).max() < 0.5 * 5.0
    assert not hasattr(model, "categories_")


def test_draws_made_elsewhere():
    message = "The categories of the kernel's argument 'group' are not known without `fit`.*'categories': "
    with pytest.raises(ValueError, match=message):
        by_group({"group": 2}, posterior=LEVELS).predict(with_group("array"))
    names = ["east", "north", "south", "west"]
    model = by_group({"group": {"columns": "group", "categories": names}}, posterior=LEVELS)
    expected = X @ [1.0, -2.0] + 10.0 * CODES
    np.testing.assert_allclose(model.predict(with_group("pandas")), expected)
    np.testing.assert_allclose(model.predict(with_group("polars")), expected)
    model = by_group({"group": {"columns": "group", "categories": names}}).set_posterior_sample(LEVELS)
    np.testing.assert_allclose(model.predict(with_group("pandas")), expected)


def test_rows_that_are_read_in_parts():
    numbers = np.array([30.0, 20.0, 10.0])[np.arange(40) % 3]
    data = np.column_stack([X, numbers]).astype(np.float32)
    setting = {"columns": 2, "categories": [30, 20, 10], "unknown_value": 3}
    draws = {"coef": np.zeros((1, 2)), "level": np.array([[0.0, 1.0, 2.0, 9.0]])}
    model = by_group({"group": setting}, posterior=draws)
    expected = model.sample_posterior_predictive_on_batch(data, return_datatree=False, in_sample=False)["y"]
    # The codes of the categories, and nothing of their values.
    np.testing.assert_allclose(expected[0, 0], np.arange(40) % 3, atol=0.5 * 5)
    for rows in (zarr.array(data), deque([{"X": data[:7]}, {"X": data[7:]}])):
        tree = model.sample_posterior_predictive(rows, in_sample=False)
        np.testing.assert_array_equal(tree["predictions"]["y"].to_numpy(), expected)
        assert model.sample_prior_predictive(rows, num_samples=3)["prior_predictive"]["level"].shape == (1, 3, 4)
    model.set_params(column_args={"group": {"columns": 2, "categories": [30, 10, 5, 4]}})
    with pytest.raises(ValueError, match=r"not there in `fit`: \[20.0\]"):
        model.sample_posterior_predictive(zarr.array(data), in_sample=False)


def test_polars_throughout():
    data, y = with_group("polars"), pl.Series(Y)
    names = {"columns": "group", "categories": sorted(set(GROUP))}
    model = by_group({"group": names}, posterior=LEVELS).fit(data, y)
    assert model.feature_names_in_.tolist() == ["a", "b", "group"]
    expected = X @ [1.0, -2.0] + 10.0 * CODES
    assert model.score(data, y) == pytest.approx(r2_score(Y, expected))
    assert model.sample_posterior_predictive(data)["posterior_predictive"]["y"].shape == (1, 1, 40)
    assert model.log_predictive_density(data, y).shape == (40,)


# Tables of Arrow's, sparse rows and pipelines


def test_arrow_throughout():
    data = with_group("arrow")
    model = by_group({"group": "group"}, posterior=LEVELS).fit(data, pa.array(Y))
    assert model.feature_names_in_.tolist() == ["a", "b", "group"]
    expected = X @ [1.0, -2.0] + 10.0 * CODES
    assert model.score(data, pa.array(Y)) == pytest.approx(r2_score(Y, expected))
    assert model.sample_posterior_predictive(data)["posterior_predictive"]["y"].shape == (1, 1, 40)
    assert model.log_predictive_density(data, Y).shape == (40,)
    effect = model.estimate_effect(data, scenarios={"west": {"columns": {"group": "west"}}}, by="group").summary()
    np.testing.assert_allclose(effect["mean"], 30.0 - 10.0 * np.arange(4))
    # Labels of a type of their own, and missing numbers, are what they are in a data frame.
    coded = data.set_column(2, "group", data["group"].dictionary_encode())
    in_order_of_the_type = X @ [1.0, -2.0] + 10.0 * (np.arange(40) % 4)
    np.testing.assert_allclose(clone(model).fit(coded, Y).predict(coded), in_order_of_the_type)
    missing = data.set_column(0, "a", pa.array([None, *X[1:, 0]]))
    with pytest.raises(ValueError, match="Input X contains NaN"):
        model.predict(missing)


@pytest.mark.parametrize("column_args", [None, {"offset": 1}])
def test_sparse_rows_are_refused_with_the_remedy(column_args):
    rows = scipy.sparse.csr_array(wide("array"))
    model = shifted(column_args) if column_args else regressor(zoo.conjugate, None)
    for call in (lambda: model.fit(rows, Y), lambda: model.sample_prior_predictive(rows)):
        with pytest.raises(TypeError, match=r"Sparse data was passed for X.*`X.toarray\(\)`.*sparse_threshold=0"):
            call()


def test_a_pipeline_with_a_column_transformer():
    shops = pd.DataFrame({"shop": list("abcdefgh") * 5, "offset": OFFSET})
    draws = {"coef": np.arange(8.0)[None]}
    expected = np.arange(40) % 8 + OFFSET

    def fit(**settings):
        encode = make_column_transformer((OneHotEncoder(), ["shop"]), ("passthrough", ["offset"]), **settings)
        model = regressor(zoo_inputs.shifted, {"offset": -1}, posterior=draws)
        return make_pipeline(encode, model).fit(shops, Y)

    with pytest.raises(TypeError, match="sparse_threshold=0"):
        fit()
    np.testing.assert_allclose(fit(sparse_threshold=0).predict(shops), expected)


def test_groups_that_a_fold_has_not_seen():
    """The warning names three remedies, and each works."""
    frame = with_group("pandas").sort_values("group", ignore_index=True)
    y = np.arange(40.0)
    names = sorted(set(GROUP))

    def scores(rows, setting):
        model = NumPyroImpactRegressor(
            zoo_inputs.by_group,
            column_args={"group": setting},
            inference=SVI(num_steps=5, num_samples=5),
            random_state=0,
        )
        return cross_val_score(model, rows, y, cv=KFold(4))

    with pytest.warns(UserWarning, match="Scoring failed") as caught:
        assert np.isnan(scores(frame, "group")).all()
    message = " ".join(str(each.message) for each in caught)
    assert all(part in message for part in ("'unknown_value'", "'categories'", "pandas' type 'category'"))
    remedies = {
        "unknown_value": (frame, {"columns": "group", "unknown_value": 3}),
        "categories": (frame, {"columns": "group", "categories": names}),
        "category": (frame.astype({"group": "category"}), "group"),
    }
    for remedy, (rows, setting) in remedies.items():
        assert np.isfinite(scores(rows, setting)).all(), remedy


# Persistence


@pytest.mark.parametrize("form", ["pickle", "memory", "netcdf"])
def test_persistence(fitted, form, tmp_path):
    data = with_group("pandas")
    if form == "pickle":
        again = pickle.loads(pickle.dumps(fitted))
    else:
        tree = fitted.to_datatree()
        if form == "netcdf":
            tree.to_netcdf(tmp_path / "model.nc", engine="h5netcdf")
            tree = xr.open_datatree(tmp_path / "model.nc", engine="h5netcdf")
        again = NumPyroImpactRegressor.from_datatree(zoo_inputs.by_group, tree)
    assert [labels.tolist() for labels in again.categories_["group"]] == [["east", "north", "south", "west"]]
    assert again.column_args == {"group": "group"}
    np.testing.assert_array_equal(again.predict(data), fitted.predict(data))
    with pytest.raises(ValueError, match=r"not there in `fit`: \['up'\]"):
        again.predict(data.assign(group="up"))


@pytest.mark.parametrize("categories", [
    ["b", "a"], [3, 1], np.array([3, 1]), pd.Index(["b", "a"]), range(5, 7), (2.5, 0.5), [True, False],
    pd.to_datetime(["2024-02-01", "2024-01-01"]), pd.Series(["b", "a"]),
], ids=str)  # fmt: skip
def test_persistence_of_every_kind_of_category(categories):
    frame = pd.DataFrame(X, columns=["a", "b"]).assign(group=list(categories) * 20)
    model = by_group(
        {"group": {"columns": "group", "categories": categories}},
        posterior={"coef": np.zeros((1, 2)), "level": np.array([[1.0, 7.0]])},
    ).fit(frame, Y)
    expected = [1.0, 7.0] * 20
    np.testing.assert_allclose(model.predict(frame), expected)
    again = NumPyroImpactRegressor.from_datatree(zoo_inputs.by_group, model.to_datatree())
    np.testing.assert_allclose(again.predict(frame), expected)
    np.testing.assert_allclose(
        clone(again).set_params(posterior=model.posterior).fit(frame, Y).predict(frame), expected
    )


DAYS = pd.date_range("2024-03-30", periods=3)
LABELS = {
    "dates": DAYS,
    "dates in seconds": DAYS.as_unit("s"),
    "a time zone": DAYS.tz_localize("Europe/Oslo"),
    "an offset": DAYS.tz_localize("+05:30"),
    "periods": DAYS.to_period("W"),
    "durations": pd.to_timedelta([1, 2, 3], unit="h"),
    "intervals": pd.interval_range(0, 3),
    "intervals of times": pd.interval_range(DAYS[0], periods=3, closed="left"),
    "bands": pd.cut([1.0, 3.0, 6.0], [0, 2, 5, 7]),
    "days": [datetime.date(2024, 1, day) for day in (1, 2, 3)],
    "hours": [datetime.time(hour) for hour in (1, 2, 3)],
    "decimals": [decimal.Decimal(number) for number in ("0.1", "0.2", "0.3")],
    "fractions": [fractions.Fraction(number, 3) for number in (1, 2, 4)],
    "UUIDs": [uuid.UUID(int=number) for number in (1, 2, 3)],
    "bytes": [b"a", b"b\xff", b"c"],
    "pairs": [("a", 1), ("a", 2), ("b", 1)],
    "truths": [False, True, True],
    "floats": [-1.5, 0.0, 1e300],
    "large": [2**62, 2**62 + 1, 2**62 + 2],
    "Int64": pd.array([1, 2, 3], dtype="Int64"),
    "texts of pandas": pd.array(["a", "ö", "ü"], dtype="string"),
}


@pytest.mark.parametrize("listed", [False, True], ids=["learnt", "listed"])
@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_labels_of_every_kind_are_stored(labels, listed, tmp_path):
    """From the file come the same predictions: the labels' own levels."""
    values = pd.Series(labels) if isinstance(labels, list) else pd.Series(labels).reset_index(drop=True)
    order = list(dict.fromkeys(values))
    level = np.arange(1.0, 1.0 + len(order))
    frame = pd.DataFrame({"a": X[:6, 0], "b": 0.0, "group": pd.concat([values, values[::-1]], ignore_index=True)})
    codes = np.array([order.index(label) for label in frame["group"]])
    setting = {"columns": "group", "categories": order[::-1]} if listed else "group"
    expected = level[len(order) - 1 - codes] if listed else level[codes]
    model = by_group({"group": setting}, posterior={"coef": np.zeros((1, 2)), "level": level[None]})
    np.testing.assert_allclose(model.fit(frame, Y[:6]).predict(frame), expected)
    model.to_datatree().to_netcdf(tmp_path / "model.nc", engine="h5netcdf")
    with xr.open_datatree(tmp_path / "model.nc", engine="h5netcdf") as tree:
        again = NumPyroImpactRegressor.from_datatree(zoo_inputs.by_group, tree.load())
    np.testing.assert_allclose(again.predict(frame), expected)
    assert again.categories_["group"][0].dtype == model.categories_["group"][0].dtype
    # The parameters were stored as well.
    again.set_params(posterior=model.posterior)
    np.testing.assert_allclose(again.fit(frame, Y[:6]).predict(frame), expected)


class Strange:
    def __lt__(self, other):
        return id(self) < id(other)


def test_labels_that_cannot_be_stored_are_named():
    frame = pd.DataFrame({"a": X[:2, 0], "b": 0.0, "group": [Strange(), Strange()]})
    model = by_group({"group": "group"}, posterior={"coef": np.zeros((1, 2)), "level": np.zeros((1, 2))})
    with pytest.raises(TypeError, match="a Strange, cannot be stored as data: make labels of categories and classes"):
        model.fit(frame, Y[:2]).to_datatree()


@pytest.mark.parametrize("labels", [DAYS[:2], [False, True], [2, 10], ["no", "yes"]], ids=str)
def test_classes_of_every_kind_are_stored(labels):
    y = pd.Series(labels).to_numpy()[(OFFSET > 0).astype(int)]
    model = NumPyroImpactClassifier(zoo_inputs.shifted_logistic, posterior={"coef": np.zeros((1, 2))})
    model.fit(X, y, offset=10.0 * OFFSET)
    again = NumPyroImpactClassifier.from_datatree(zoo_inputs.shifted_logistic, model.to_datatree())
    assert again.classes_.dtype == model.classes_.dtype
    np.testing.assert_array_equal(again.predict(X, offset=10.0 * OFFSET), y)


# Refusals

REFUSALS = [
    (["group"], TypeError, r"`column_args` must map kernel arguments to columns of X, got \['group'\]"),
    ({"group": "grop"}, ValueError, r"names column 'grop', which X does not have: \['a', 'b', 'group'\]"),
    ({"group": 3}, ValueError, "gives column 3, but X has 3 columns"),
    ({"group": 1.5}, TypeError, "must give columns by name or position, got 1.5"),
    ({"group": True}, TypeError, "must give columns by name or position, got True"),
    ({"group": {}}, ValueError, "must give 'group' a column, a list of columns, or a mapping with 'columns' and"),
    ({"group": {"columns": 2, "codes": 3}}, ValueError, "must give 'group' a column, a list of columns, or a mapping"),
    ({"group": []}, ValueError, "must give 'group' at least one column"),
    ({"group": {"columns": 2, "unknown_value": -1}}, ValueError, "non-negative `unknown_value`, got -1"),
    ({"group": {"columns": 2, "unknown_value": "x"}}, ValueError, "non-negative `unknown_value`, got 'x'"),
    ({"group": {"columns": 2, "categories": ["a", "a"]}}, ValueError, "gives 'group' a category twice"),
    ({"group": {"columns": 2, "categories": "abc"}}, ValueError, "must give 'group' a list of `categories`, got 'abc'"),
    ({"group": {"columns": 2, "categories": [1, "a"]}}, ValueError, "categories of one type"),
    ({"other": 2}, TypeError, "Unknown argument 'other'"),
    ({"group": [0, 1, 2]}, ValueError, "takes every column of X"),
]


@pytest.mark.parametrize(("column_args", "error", "message"), REFUSALS)
def test_refusals(column_args, error, message):
    with pytest.raises(error, match=message):
        by_group(column_args, posterior=LEVELS).fit(with_group("pandas"), Y)


def test_categories_of_mixed_types():
    with pytest.raises(ValueError, match="argument 'group', holds values of different types"):
        by_group({"group": "group"}, posterior=LEVELS).fit(with_group("pandas", [1, "a"] * 20), Y)


def test_rows_without_columns():
    with pytest.raises(ValueError, match="X must have two dimensions, rows and columns"):
        shifted({"offset": 0}).fit(OFFSET, Y)
    model = shifted({"offset": 1}).fit(wide("array"), Y)
    with pytest.raises(ValueError, match="X has 2 features, but NumPyroImpactRegressor is expecting 3"):
        model.predict(X)
    with pytest.raises(ValueError, match="feature names should match"):
        shifted({"offset": "offset"}).fit(wide("pandas"), Y).predict(wide("pandas")[["b", "a", "offset"]])


def test_the_rest_must_be_numbers():
    times = pd.to_datetime(["2020-01-01"] * len(Y))
    with pytest.raises(ValueError, match="X must be numeric, but its column 'time' holds times: convert them"):
        shifted({"offset": "offset"}).fit(wide("pandas", group=GROUP, time=times), Y)
    with pytest.raises(ValueError, match="its column 'time' holds times"):
        regressor(zoo.conjugate, None).fit(wide("pandas", time=times), Y)
    with pytest.raises(ValueError, match=r"but its columns \['group'\] are not"):
        regressor(zoo.conjugate, None).fit(wide("polars", group=GROUP), Y)
    with pytest.raises(ValueError, match="y must be numeric, got an array of type"):
        regressor(zoo.conjugate, None).fit(wide("pandas"), np.asarray(GROUP, dtype="U"))
    with pytest.raises(ValueError, match="y must be numeric, got an array of type object"):
        shifted({"offset": "offset"}).fit(wide("pandas"), np.asarray(GROUP, dtype=object))
    with pytest.raises(ValueError, match="contains NaN"):
        shifted({"offset": "offset"}).fit(wide("pandas").assign(a=np.nan), Y)


def test_classifiers_too():
    model = NumPyroImpactClassifier(
        zoo_inputs.shifted_logistic, column_args={"offset": "offset"}, posterior={"coef": np.ones((1, 2))}
    ).fit(wide("polars"), np.where(OFFSET > 0, "up", "down"))
    expected = 1 / (1 + np.exp(-X.sum(axis=1) - OFFSET))
    np.testing.assert_allclose(model.predict_proba(wide("polars"))[:, 1], expected)
    assert model.score(wide("polars"), np.where(expected > 0.5, "up", "down")) == 1.0


def test_without_column_args_categories_are_none():
    assert regressor(zoo.conjugate, None, posterior={"coef": np.ones((1, 2))}).fit(X, Y).categories_ == {}
