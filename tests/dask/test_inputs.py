"""What a user may pass beside Dask collections: taken as on one machine, or refused in words that help."""

import sys

import dask
import dask.array as da
import dask.bag as db
import dask.dataframe as dd
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
import zarr
import zoo
import zoo_inputs

import skaimz
from skaimz import NumPyroImpactRegressor

pytestmark = pytest.mark.usefixtures("in_this_thread")

N_ROWS, N_DRAWS = 5000, 20
OFF, ON = {"columns": {0: 0.0}}, {"columns": {0: 1.0}}
EXPOSURE = np.linspace(0.5, 2.0, N_ROWS)
BAND = np.arange(N_ROWS) // 1700
WEIGHT = np.arange(N_ROWS) % 4.0


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).normal(size=(N_ROWS, 2))


@pytest.fixture(scope="module")
def rows(X):
    return da.from_array(X, chunks=(1234, 1))


@pytest.fixture(scope="module")
def frame(X):
    return pd.DataFrame(X, columns=["a", "b"])


def model_of(kernel):
    draws = 0.3 * np.random.default_rng(1).normal(size=(N_DRAWS, 2))
    return NumPyroImpactRegressor(kernel, random_state=0).set_posterior_sample({"coef": draws})


@pytest.fixture(scope="module")
def conjugate():
    return model_of(zoo.conjugate)


@pytest.fixture(scope="module")
def poisson():
    return model_of(zoo.poisson)


@pytest.fixture(scope="module")
def named(frame):
    """A fit that knows the names of columns."""
    draws = 0.3 * np.random.default_rng(1).normal(size=(N_DRAWS, 2))
    return NumPyroImpactRegressor(zoo.conjugate, posterior={"coef": draws}, random_state=0).fit(frame, frame["a"])


def effect(model, X, **asked):
    found = model.estimate_effect(X, baseline=OFF, scenarios={"on": ON}, **asked)
    return found["on"]["effect"].to_numpy()


# Taken


def test_chunks_of_unknown_size(conjugate, X, rows):
    kept = X[:, 0] > 0
    lazy = rows[rows[:, 0] > 0]
    np.testing.assert_array_equal(conjugate.predict(lazy).compute(), conjugate.predict(X[kept]))
    found = conjugate.log_predictive_density(rows[rows[:, 0] > 0], lazy[:, 1]).compute()
    np.testing.assert_array_equal(found, conjugate.log_predictive_density(X[kept], X[kept, 1]))


def test_empty_partitions_and_other_divisions(named, frame):
    collection = dd.from_pandas(frame, npartitions=3)
    nothing = collection[collection["a"] > 100]
    gaps = dd.concat([nothing, collection, nothing])
    np.testing.assert_array_equal(named.predict(gaps).compute(), named.predict(frame))
    y = dd.from_pandas(frame["b"], npartitions=5)
    found = named.log_predictive_density(collection, y).compute()
    np.testing.assert_array_equal(found, named.log_predictive_density(frame, frame["b"]))


def test_an_index_with_duplicates(named, frame):
    twice = pd.concat([frame, frame])
    lazy = dd.from_pandas(twice, npartitions=4, sort=False)
    found, expected = (
        named.sample_posterior_predictive(each, in_sample=False)["predictions"] for each in (lazy, twice)
    )
    np.testing.assert_array_equal(found["y"], expected["y"])
    np.testing.assert_array_equal(found["rows"], expected["rows"])


@pytest.mark.parametrize(
    "given",
    [
        EXPOSURE.tolist(),
        da.from_array(EXPOSURE, chunks=99),
        dask.delayed(EXPOSURE),
        db.from_sequence(EXPOSURE.tolist()),
        pd.Series(EXPOSURE),
        zarr.array(EXPOSURE, chunks=(700,)),
    ],
    ids=["list", "array", "delayed", "bag", "series", "zarr"],
)
def test_arguments_of_rows(poisson, X, rows, given):
    np.testing.assert_array_equal(
        poisson.predict(rows, exposure=given).compute(), poisson.predict(X, exposure=EXPOSURE)
    )


def test_an_argument_may_have_any_name(X, rows):
    shift = np.linspace(0.0, 1.0, N_ROWS)
    model = model_of(zoo_inputs.open_ended)
    for each in (X, rows):
        found = model.predict(each, arrays=shift)
        np.testing.assert_allclose(found, model.predict(X, offset=shift), rtol=1e-12)


def test_single_numbers(poisson, frame, rows, X):
    expected = poisson.predict(X, exposure=2.0)
    one = dd.from_pandas(frame["a"], npartitions=2).sum() ** 0
    for given in (da.ones(()) * 2, one * 2, dask.delayed(2.0)):
        np.testing.assert_array_equal(poisson.predict(rows, exposure=given).compute(), expected)


def test_settings_are_not_cut(conjugate, X):
    """However few rows there are."""
    few, levels = X[:2], np.array([0.1, 0.9])
    found = conjugate.predict_quantiles(da.from_array(few, chunks=1), levels)
    np.testing.assert_array_equal(found.compute(), conjugate.predict_quantiles(few, levels))


@pytest.mark.parametrize(
    "asked",
    [
        {"by": {"band": BAND}},
        {"where": BAND == 1},
        {"sample_weight": WEIGHT},
    ],
    ids=lambda asked: next(iter(asked)),
)
def test_effects_of_lists_and_collections(conjugate, X, rows, asked):
    expected = effect(conjugate, X, **asked)
    for change in (np.ndarray.tolist, lambda array: da.from_array(array, chunks=700)):
        given = {
            name: {key: change(each) for key, each in value.items()} if isinstance(value, dict) else change(value)
            for name, value in asked.items()
        }
        np.testing.assert_allclose(effect(conjugate, rows, **given), expected, rtol=1e-9, atol=1e-12)


def test_scenarios_and_interventions_of_lists_and_collections(conjugate, X, rows):
    expected = conjugate.estimate_effect(X, baseline=OFF, scenarios={"on": {"columns": {0: WEIGHT}}})["on"]["effect"]
    for values in (WEIGHT.tolist(), da.from_array(WEIGHT, chunks=700)):
        found = conjugate.estimate_effect(rows, baseline=OFF, scenarios={"on": {"columns": {0: values}}})
        np.testing.assert_allclose(found["on"]["effect"], expected, rtol=1e-9)


def test_categories_that_parts_list_in_other_orders(conjugate, X):
    """As row groups of a Parquet file may."""
    labels = ["a", "b"] * (N_ROWS // 4)
    halves = [pd.Series(pd.Categorical(labels, order)) for order in (["a", "b"], ["b", "a"])]
    by = {"group": dd.from_delayed([dask.delayed(half) for half in halves])}
    given = {"baseline": OFF, "scenarios": {"on": {"columns": {0: WEIGHT}}}}
    found = conjugate.estimate_effect(da.from_array(X, chunks=(2500, 2)), by=by, **given)["on"]["effect"]
    expected = conjugate.estimate_effect(X, by={"group": np.array(labels * 2)}, **given)["on"]["effect"]
    for label in ("a", "b"):
        np.testing.assert_allclose(found.sel(group=label), expected.sel(group=label), rtol=1e-9)
    mixed = np.array([1, "a"] * (N_ROWS // 2), dtype=object)
    assert effect(conjugate, da.from_array(X, chunks=(2500, 2)), by={"group": mixed}).shape == (1, N_DRAWS, 2)


def test_categories_of_a_long_array_keep_their_order(conjugate):
    """A block that lies over what is sent apart."""
    n_rows = 300_000
    sizes = pd.Categorical.from_codes(np.arange(n_rows) % 3, ["small", "large", "huge"])
    X = np.random.default_rng(0).normal(size=(n_rows, 2))
    rows = da.from_array(X, chunks=(100_000, 2))
    found = conjugate.estimate_effect(rows, baseline=OFF, scenarios={"on": ON}, by={"size": sizes})["on"]
    assert found["size"].to_numpy().tolist() == ["small", "large", "huge"]
    np.testing.assert_allclose(found["effect"], effect(conjugate, X, by={"size": sizes}), rtol=1e-9)


def many_levels(X, y=None):
    """A site without rows, which has as many entries as there are rows of two blocks."""
    level = numpyro.sample("level", dist.Normal(0.0, 1.0).expand([3000]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X[:, 0] + level.sum(), 1.0), obs=y)


def test_sites_without_rows_are_not_cut(X):
    model = NumPyroImpactRegressor(many_levels, random_state=0).set_posterior_sample({"level": np.zeros((5, 3000))})
    some, values = X[:3000], np.linspace(0.0, 0.1, 3000)
    rows = da.from_array(some, chunks=(2500, 2))
    prior = {"num_samples": 5, "return_sites": ["y"]}
    change = {"scenarios": {"on": {"intervention": {"level": values}}}}
    expected = model.sample_posterior_predictive(some, condition={"level": values}, in_sample=False)["predictions"]
    before = model.sample_prior_predictive(some, condition={"level": values}, **prior)["prior_predictive"]
    for given in (values.tolist(), values, da.from_array(values, chunks=900)):
        found = model.sample_posterior_predictive(rows, condition={"level": given}, in_sample=False)["predictions"]
        np.testing.assert_array_equal(found["y"], expected["y"])
        change["scenarios"]["on"]["intervention"] = {"level": given}
        np.testing.assert_allclose(model.estimate_effect(rows, **change)["on"]["effect"], values.sum(), rtol=1e-9)
        unfitted = NumPyroImpactRegressor(many_levels, random_state=0)
        found = unfitted.sample_prior_predictive(rows, condition={"level": given}, **prior)["prior_predictive"]
        np.testing.assert_array_equal(found["y"], before["y"])


@pytest.mark.filterwarnings("ignore::skaimz.exceptions.PosteriorWarning")
def test_sites_whose_rows_are_the_second_axis(X):
    some = X[:3000]
    model = NumPyroImpactRegressor(zoo.sensor_counts, random_state=0)
    model.set_posterior_sample({"slope": 0.3 * np.random.default_rng(1).normal(size=N_DRAWS)})
    jitter = np.random.default_rng(2).normal(size=(3, len(some)))
    rows = da.from_array(some, chunks=(700, 2))
    for values in (jitter, jitter[:, :1]):
        expected = model.sample_posterior_predictive(some, intervention={"jitter": values}, in_sample=False)
        for given in (values, da.from_array(values, chunks=(2, 900))):
            found = model.sample_posterior_predictive(rows, intervention={"jitter": given}, in_sample=False)
            for site in ("rate", "y"):
                np.testing.assert_array_equal(found["predictions"][site], expected["predictions"][site])


def test_categories_of_the_prior_are_those_of_all_rows(frame):
    """Of which a block may have some alone."""
    sites = np.array(["east", "north", "west"])[np.arange(N_ROWS) // 2000]
    model = NumPyroImpactRegressor(zoo_inputs.by_group, column_args={"group": "site"}, random_state=0)
    asked = {"num_samples": 5, "return_sites": ["level", "y"]}
    known = frame.assign(site=pd.Categorical(sites))
    expected = model.sample_prior_predictive(known, **asked)["prior_predictive"]
    found = model.sample_prior_predictive(dd.from_pandas(known, npartitions=3), **asked)["prior_predictive"]
    for name in asked["return_sites"]:
        np.testing.assert_array_equal(found[name], expected[name])
    table = dd.from_pandas(frame.assign(site=sites), npartitions=3)
    for each in (table, table.astype({"site": "category"})):
        with pytest.raises(
            ValueError, match=r"categories of the kernel's argument 'group' are not known without `fit`"
        ):
            model.sample_prior_predictive(each, **asked)


def test_big_endian_rows_are_double_precision(conjugate, X):
    """However they are chunked: joined pieces would lose what tells them from float32."""
    swapped = X.astype(">f4")
    found = conjugate.predict(da.from_array(swapped, chunks=(999, 1)))
    assert found.dtype == found.compute().dtype == np.float64
    np.testing.assert_array_equal(found, conjugate.predict(swapped))


# Refused


def test_values_of_sites_that_do_not_fit(conjugate, X, rows):
    """In the words of the call on arrays, at once."""
    for given, message in {
        "coef": r"gives site 'coef' values of the shape \(5000,\), but for 5000 rows it has the shape \(2,\)",
        "slope": r"names 'slope', which is not a sample site",
        "y": r"names 'y', the kernel's output",
    }.items():
        for each in (X, rows):
            with pytest.raises(ValueError, match=f"`intervention` {message}"):
                conjugate.sample_posterior_predictive(each, intervention={given: np.ones(N_ROWS)}, in_sample=False)
    model = NumPyroImpactRegressor(zoo.grouped, random_state=0).set_posterior_sample(
        {"level": np.zeros(5), "spread": np.ones(5), "effect": np.zeros((5, N_ROWS))}
    )
    for each in (X, rows):
        with pytest.raises(ValueError, match=r"shape \(4999,\), but for 5000 rows it has the shape \(5000,\)"):
            model.sample_posterior_predictive(each, intervention={"effect": np.ones(N_ROWS - 1)})


def test_errors_tell_the_rows_of_their_block(poisson, X, rows):
    y = np.ones(N_ROWS)
    y[4321] = -1.0
    for each in (X, rows):
        with pytest.raises(ValueError, match="and in row 4321 are not"):
            np.asarray(poisson.log_predictive_density(each, y, exposure=1.0))
        with pytest.raises(ValueError, match="and in row 4321 are not"):
            np.asarray(poisson.log_likelihood(each, y, exposure=1.0, in_sample=False)["log_likelihood"]["y"])
    spoilt = X.copy()
    spoilt[4321, 1] = np.nan
    with pytest.raises(
        ValueError, match=r"Input X contains NaN(.|\n)*block of the rows 4096 to 4999, of 5000 rows of X"
    ):
        poisson.predict(da.from_array(spoilt, chunks=(1234, 2)), exposure=1.0).compute()


@pytest.mark.parametrize("X", [dask.delayed(np.ones((5, 2))), db.from_sequence(range(5))], ids=["delayed", "bag"])
def test_what_has_no_rows(conjugate, X):
    with pytest.raises(TypeError, match=r"Rows must be a Dask array or data frame, got a (Delayed|Bag).*: compute it"):
        conjugate.predict(X)


@pytest.mark.parametrize("n_rows", [N_ROWS - 1, N_ROWS + 1])
def test_lengths_that_differ(conjugate, rows, n_rows):
    y = np.ones(n_rows)
    for given in (y, y.tolist(), da.from_array(y, chunks=99)):
        with pytest.raises(ValueError, match=rf"'y' has {n_rows} rows, but X has 5000"):
            conjugate.log_predictive_density(rows, given)
    for name, given in {"sample_weight": y, "where": y > 0, "by": {"band": y}}.items():
        with pytest.raises(ValueError, match=rf"'(band|{name})' has {n_rows} rows, but X has 5000"):
            effect(conjugate, rows, **{name: given})
    with pytest.raises(ValueError, match=rf"0 has {n_rows} rows, but X has 5000"):
        conjugate.estimate_effect(rows, scenarios={"on": {"columns": {0: y}}})


def test_arguments_of_the_fit_need_their_rows(X, rows):
    model = NumPyroImpactRegressor(zoo.poisson, posterior={"coef": np.ones((N_DRAWS, 2))})
    model.fit(X[:50], np.ones(50), exposure=EXPOSURE[:50])
    with pytest.raises(ValueError, match=r"'exposure' has 4999 rows, but X has 5000"):
        model.predict(rows, exposure=EXPOSURE[1:])


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"exposure": [[1.0], [1.0, 2.0]]}, ValueError, "'exposure' is not an array: its parts have unequal lengths"),
        ({"exposure": 1.0, "intervention": [1.0]}, TypeError, r"`intervention` must map names of sites to values, got"),
    ],
)
def test_words_are_those_of_a_call_on_arrays(poisson, X, rows, given, error, message):
    for each in (X, rows):
        with pytest.raises(error, match=message):
            poisson.sample_posterior_predictive(each, in_sample=False, **given)


def test_outcomes_that_are_missing(conjugate, X, rows):
    for each in (X, rows):
        with pytest.raises(ValueError, match="`log_likelihood` needs outcomes: pass y"):
            conjugate.log_likelihood(each)


def test_trees_are_compared_without_rows(conjugate, X, rows):
    tree = conjugate.sample_posterior_predictive(X[:5], in_sample=False)
    for each in (X, rows):
        with pytest.raises(ValueError, match="Trees of draws are compared as they are"):
            conjugate.estimate_effect(each, baseline=tree, scenarios={"on": tree})


def test_columns_that_differ(named, frame):
    collection = dd.from_pandas(frame, npartitions=3)
    with pytest.raises(ValueError, match=r"in the same order"):
        named.predict(collection[["b", "a"]])
    with pytest.raises(ValueError, match=r"unseen at fit time:\n- c"):
        named.predict(collection.rename(columns={"a": "c"}))
    with pytest.raises(ValueError, match=r"X must be numeric, but its columns \['a'\] are not"):
        named.predict(collection.assign(a="x"))


@pytest.mark.parametrize("place", ["dask.array.core", "dask.dataframe.dask_expr._collection", "dask_expr._collection"])
def test_without_dask(conjugate, monkeypatch, place):
    collection = type("Collection", (), {"__module__": place})()
    monkeypatch.setitem(sys.modules, "dask", None)
    for name in [name for name in sys.modules if name.startswith("skaimz.dask")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(skaimz, "dask", raising=False)
    calls = [
        conjugate.predict,
        conjugate.predict_interval,
        lambda X: conjugate.log_predictive_density(X, 0),
        conjugate.sample_posterior_predictive,
        lambda X: conjugate.estimate_effect(X, scenarios={"on": ON}),
        lambda X: conjugate.estimate_slope(X, [0]),
    ]
    for call in calls:
        with pytest.raises(
            ImportError, match=r"^Rows in Dask collections need Dask: `pip install 'skaimz\[dask\]'`\.$"
        ):
            call(collection)
