"""Fits on Dask collections are the fits on the plain arrays, whatever the chunks and whoever computes them."""

import os
import sys
import tempfile
from collections import Counter

import clusters
import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import zoo
import zoo_inputs

import skaimz
from skaimz import NumPyroImpactClassifier, NumPyroImpactRegressor
from skaimz.inference import SVI

N_ROWS, BLOCK, WINDOW = 600, 32, 128
SETTINGS = SVI(batch_size=50, num_steps=30, num_samples=20)
rng = np.random.default_rng(0)
FRAME = pd.DataFrame(rng.normal(size=(N_ROWS, 2)), columns=["a", "b"])
FRAME["months"] = rng.integers(1, 3, size=N_ROWS)
FRAME["site"] = rng.choice(["east", "north", "west"], size=N_ROWS)
X = FRAME[["a", "b"]].to_numpy()
COUNTS = rng.poisson(FRAME["months"] * np.exp(0.3 * FRAME["a"])).astype(float)
WEIGHT = rng.uniform(0.5, 2.0, size=N_ROWS)

pytestmark = pytest.mark.usefixtures("quick_compilation", "small_windows", "in_this_thread")


@pytest.fixture(autouse=True)
def _no_files_left(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield
    assert list(tmp_path.glob("skaimz-*")) == []


def regressor(kernel=zoo.poisson, settings=SETTINGS, **more):
    return NumPyroImpactRegressor(kernel, inference=settings, random_state=0, **more)


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, draws in found.items():
        np.testing.assert_allclose(draws, expected[name], rtol=1e-9, atol=1e-9)


@pytest.fixture(scope="module")
def expected():
    return regressor().fit(X, COUNTS, exposure=FRAME["months"], sample_weight=WEIGHT).posterior_


def test_arrays(expected):
    months = FRAME["months"].to_numpy()
    models = []
    for rows, ours, theirs in [(600, 600, 100), (70, 333, 600), ((0, 550, 0, 50), 1, 77)]:
        given = da.from_array(X, chunks=(rows, 1)), da.from_array(COUNTS, chunks=theirs)
        arrays = {"exposure": da.from_array(months, chunks=ours), "sample_weight": da.from_array(WEIGHT, chunks=theirs)}
        models.append(regressor().fit(*given, **arrays))
        same(models[-1].posterior_, expected)
        np.testing.assert_array_equal(models[-1].posterior_["coef"], models[0].posterior_["coef"])


def test_what_is_no_collection_of_rows_is_loaded(expected):
    months = FRAME["months"].to_numpy()
    model = regressor().fit(dask.delayed(X), dask.delayed(COUNTS), exposure=months, sample_weight=WEIGHT)
    same(model.posterior_, expected)


def test_numbers_and_delayed_values_beside_rows(expected):
    rows, months = da.from_array(X, chunks=(70, 2)), FRAME["months"].to_numpy()
    late = {"exposure": dask.delayed(months), "sample_weight": dask.delayed(WEIGHT)}
    same(regressor().fit(rows, dask.delayed(COUNTS), **late).posterior_, expected)
    alone = regressor().fit(X, COUNTS, exposure=2.0).posterior_
    for number in (dask.delayed(2.0), da.ones(()) * 2):
        same(regressor().fit(rows, COUNTS, exposure=number).posterior_, alone)


@pytest.mark.parametrize("partitions", [1, 4])
def test_frames_with_a_column_that_is_an_argument(expected, partitions):
    table = dd.from_pandas(FRAME[["a", "b", "months"]], npartitions=partitions)
    model = regressor(column_args={"exposure": "months"})
    found = model.fit(table, dd.from_pandas(pd.Series(COUNTS), npartitions=3), sample_weight=WEIGHT)
    same(found.posterior_, expected)
    assert model.feature_names_in_.tolist() == ["a", "b", "months"]
    assert model.arguments_["rows"]["exposure"][1] == "int64"
    rest = FRAME[["a", "b"]]
    arrays = {"exposure": table["months"], "sample_weight": dd.from_pandas(pd.Series(WEIGHT), npartitions=2)}
    model = regressor().fit(dd.from_pandas(rest, npartitions=2), da.from_array(COUNTS, chunks=90), **arrays)
    same(model.posterior_, expected)
    with pytest.warns(match="A column-vector y was passed"):
        found = regressor().fit(dd.from_pandas(rest, npartitions=2), pd.DataFrame(COUNTS), **arrays)
    same(found.posterior_, expected)


@pytest.mark.parametrize("known", ["by type", "given"])
def test_categories(known):
    frame = FRAME[["a", "b", "site"]].astype({"site": "category"} if known == "by type" else {})
    sites = ["west", "east", "north"]
    column = "site" if known == "by type" else {"columns": "site", "categories": sites}
    model = regressor(zoo_inputs.by_group, column_args={"group": column})
    expected = model.fit(frame, COUNTS).posterior_
    same(model.fit(dd.from_pandas(frame, npartitions=3), COUNTS).posterior_, expected)
    assert model.categories_["group"][0].tolist() == (sorted(sites) if known == "by type" else sites)
    model.partial_fit(dd.from_pandas(frame, npartitions=2), COUNTS)
    again = regressor(zoo_inputs.by_group, column_args={"group": column}).fit(frame, COUNTS).partial_fit(frame, COUNTS)
    same(model.posterior_, again.posterior_)


def test_labels_and_types_of_pandas():
    frame = FRAME[["a", "b"]].assign(c=FRAME["months"].astype("Int64"), d=FRAME["a"] > 0)
    labels = FRAME["site"].astype("category")
    model = NumPyroImpactClassifier(inference=SETTINGS, random_state=0)
    expected = model.fit(frame, labels.astype(object)).posterior_
    same(model.fit(dd.from_pandas(frame, npartitions=3), dd.from_pandas(labels, npartitions=2)).posterior_, expected)
    assert model.classes_.tolist() == ["east", "north", "west"]


@pytest.fixture
def computed():
    """Rows whose chunks count how often they are computed."""
    counts = Counter()

    def load(block, block_info=None):
        counts[block_info[0]["chunk-location"][0]] += 1
        return block

    def rows(array, chunks):
        return da.from_array(array, chunks=chunks).map_blocks(load, dtype=array.dtype, meta=np.empty((0, 0)))

    return rows, counts


def test_each_chunk_is_computed_once(computed, monkeypatch):
    rows, counts = computed
    calls = []
    compute = dask.compute
    monkeypatch.setattr(dask, "compute", lambda *given: calls.append(len(given)) or compute(*given))
    settings = SVI(batch_size=50, num_epochs=4, num_samples=20)
    regressor(zoo.conjugate, settings).fit(rows(X, (30, 2)), COUNTS)
    assert counts == Counter(range(20))
    # One chunk for types and shapes, then what the units and each window need together.
    assert calls[0] == 1
    assert len(calls) <= 2 + 6
    assert sum(calls) == 20


def test_a_short_fit_computes_what_it_visits(computed):
    rows, counts = computed
    many = np.tile(X, (20, 1))
    settings = SVI(batch_size=50, num_steps=2, num_samples=20)
    regressor(zoo.conjugate, settings).fit(rows(many, (100, 2)), np.tile(COUNTS, 20))
    assert 1 < len(counts) <= 1 + 2 * 2 * 4  # two windows of four blocks, each in one or two of 120 chunks


def test_refusals(monkeypatch):
    table = dd.from_pandas(FRAME, npartitions=3)
    with pytest.raises(ValueError, match=r"its columns \['site'\] are not: encode them as numbers"):
        regressor(column_args={"exposure": "months"}).fit(table, COUNTS)
    for column in (table["site"], table["site"].astype("category")):
        grouped = regressor(zoo_inputs.by_group, column_args={"group": "site"})
        with pytest.raises(ValueError, match="The categories of the kernel's argument 'group' are not known"):
            grouped.fit(table[["a", "b"]].assign(site=column), COUNTS)
    spoilt = FRAME[["a", "b"]].copy()
    spoilt.loc[517, "b"] = np.nan
    with pytest.raises(ValueError, match="X contains NaN or infinity, first in row 517"):
        regressor(zoo.conjugate).fit(dd.from_pandas(spoilt, npartitions=3), COUNTS)
    with pytest.raises(ValueError, match="y has 599 rows, but X has 600"):
        regressor(zoo.conjugate).fit(table[["a", "b"]], da.from_array(COUNTS[1:], chunks=100))
    with pytest.raises(TypeError, match="Feature names are only supported if all input features have string names"):
        regressor(zoo.conjugate).fit(table[["a", "b"]].rename(columns={"b": 1}), COUNTS)
    model = regressor(zoo.conjugate).fit(table[["a", "b"]], COUNTS)
    with pytest.raises(ValueError, match="The feature names should match"):
        model.partial_fit(table[["b", "a"]], COUNTS)
    monkeypatch.setitem(sys.modules, "skaimz.dask", None)
    monkeypatch.delattr(skaimz, "dask")
    for settings in (SETTINGS, SVI()):
        with pytest.raises(ImportError, match=r"pip install 'skaimz\[dask\]'"):
            regressor(zoo.conjugate, settings).fit(table[["a", "b"]], COUNTS)


@pytest.mark.slow
def test_processes_of_a_cluster(expected, tmp_path):
    def note(block):
        (tmp_path / str(os.getpid())).touch()
        return block

    with dask.config.set(scheduler=None), clusters.processes(2):
        rows = da.from_array(X, chunks=(70, 2)).map_blocks(note, dtype=X.dtype, meta=np.empty((0, 0)))
        months = dd.from_pandas(FRAME["months"], npartitions=3)
        weight = da.from_array(WEIGHT, chunks=600)
        model = regressor().fit(rows, da.from_array(COUNTS, chunks=100), exposure=months, sample_weight=weight)
    processes = [int(path.name) for path in tmp_path.iterdir() if path.name.isdigit()]
    assert processes
    assert os.getpid() not in processes
    same(model.posterior_, expected)
