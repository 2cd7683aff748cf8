"""What each source of rows states about itself, and that its slices and pieces are the rows of the array."""

import itertools

import dask
import dask.array as da
import dask.bag as db
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import zarr

from skaimz.rows import LazyRows, Scratch, arrays, lazy_rows, loaded, open_source, pieces_of, spooled, to_array

N_ROWS = 50
X = np.random.default_rng(0).normal(size=(N_ROWS, 2))
CUTS = [0, 3, 3, 23, 50]


class Batches:
    def __init__(self, **arrays):
        self.arrays = arrays

    def __iter__(self):
        for start, stop in itertools.pairwise(CUTS):
            yield {name: array[start:stop] for name, array in self.arrays.items()}


def memory_map(array, folder, scratch):
    mapped = np.lib.format.open_memmap(folder / "array.npy", "w+", array.dtype, array.shape)
    mapped[:] = array
    return mapped


def in_zarr(array, folder=None, scratch=None):
    stored = zarr.create_array({}, shape=array.shape, chunks=(7, *array.shape[1:]), dtype=array.dtype)
    stored[:] = array
    return stored


def in_spool(array, folder, scratch):
    source = open_source(in_zarr(array))
    return spooled({"X": (source, lambda rows, start: rows)}, scratch)["X"].source


def field(array, folder, scratch):
    return open_source(Batches(X=array, y=array[:, 0])).fields["X"]


# By name: how an array is put into the source, and what that source states.
KINDS = {
    "memory map": (memory_map, {"slice_cost": "rows", "is_array": True, "in_order": False}),
    "Zarr": (in_zarr, {"slice_cost": "pieces", "is_array": False, "in_order": False}),
    "batches": (field, {"slice_cost": "pieces", "is_array": False, "in_order": True}),
    "spool": (in_spool, {"slice_cost": "rows", "is_array": False, "in_order": False}),
    "Dask array": (
        lambda array, folder, scratch: da.from_array(array, chunks=(20, 1)),
        {"slice_cost": "computation", "is_array": False, "in_order": False},
    ),
    "Dask frame": (
        lambda array, folder, scratch: dd.from_pandas(pd.DataFrame(array, columns=["a", "b"]), npartitions=3),
        {"slice_cost": "computation", "is_array": False, "in_order": False},
    ),
}


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch):
    monkeypatch.setattr(arrays, "PIECE_ROWS", 10)


@pytest.fixture(params=KINDS)
def kind(request, tmp_path):
    put, statements = KINDS[request.param]
    with dask.config.set(scheduler="synchronous"), Scratch() as scratch:
        yield open_source(put(X, tmp_path, scratch)), statements


def test_statements(kind):
    source, statements = kind
    assert {name: getattr(source, name) for name in statements} == statements
    assert (source.shape, source.ndim, source.dtype) == (X.shape, 2, X.dtype)
    assert sum(source.lengths) == N_ROWS
    assert not source.has_fields
    assert source.fields == {}
    assert open_source(source) is source


def test_slices_are_the_rows(kind):
    source, _ = kind
    for rows in (slice(0, 1), slice(4, 31), slice(2, 9), slice(40, 60), slice(None)):
        found = source[rows]
        assert type(found) is np.ndarray
        np.testing.assert_array_equal(found, X[rows])


def test_pieces_are_the_rows(kind):
    source, _ = kind
    pieces = list(map(to_array, source.pieces(range(len(source.lengths)))))
    assert list(map(len, pieces)) == list(source.lengths)
    np.testing.assert_array_equal(np.concatenate(pieces), X)
    last = len(source.lengths) - 1
    np.testing.assert_array_equal(to_array(*source.pieces([last])), pieces[last])
    np.testing.assert_array_equal(np.concatenate(list(pieces_of("X", source))), X)
    np.testing.assert_array_equal(to_array(source.load()), X)


def test_rows_are_converted_as_they_are_read(kind):
    source, statements = kind
    rows = lazy_rows(source)
    assert (rows is None) is statements["is_array"]
    rows = LazyRows(source).then(lambda part: 2 * part)[:, 1].numbers("X").floats("X", np.float32)
    assert (len(rows), rows.shape, rows.dtype) == (N_ROWS, (N_ROWS,), np.float32)
    rows.fetch([slice(0, 3), slice(20, 30)])
    np.testing.assert_array_equal(rows[5:9], (2 * X[5:9, 1]).astype(np.float32))


def test_columns_of_tables():
    frame = pd.DataFrame({"a": [1.0, 2.0], "site": pd.Categorical(["east", "west"])})
    table = open_source(dd.from_pandas(frame, npartitions=1)).table
    assert list(table.columns) == ["a", "site"]
    assert len(table) == 0
    assert table["site"].dtype == frame["site"].dtype
    assert open_source(da.ones((2, 2))).table is None


def test_arrays_that_come_together():
    source = open_source(Batches(X=X, y=X[:, 0]))
    assert source.has_fields
    assert source.shape == (N_ROWS,)
    assert {name: array.shape for name, array in source.fields.items()} == {"X": (N_ROWS, 2), "y": (N_ROWS,)}
    assert all(array.origin is source for array in source.fields.values())
    np.testing.assert_array_equal(source[3:30]["y"], X[3:30, 0])
    # A list of values that is no iterable of mappings is not looked into.
    assert lazy_rows(range(3)) is None
    assert loaded(range(3)) == range(3)


@pytest.mark.parametrize("value", [
    X, X.tolist(), pd.DataFrame(X), None, 2.0, "text", np.ones(()), zarr.array(1.0), dask.delayed(X), da.ones(()),
    {"X": X},
], ids=lambda value: type(value).__name__)  # fmt: skip
def test_values_without_a_source(value):
    assert open_source(value) is None


def test_dask_values_without_rows_are_computed():
    assert loaded(dask.delayed(3)) == 3
    assert loaded(da.ones(())) == 1
    assert loaded(db.from_sequence([1, 2], npartitions=1)) == [1, 2]
