"""Predictions from rows that are read slice by slice equal those from arrays."""

import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
import zoo
from sklearn.exceptions import NotFittedError

import skaimz
from skaimz import NumPyroImpactClassifier, NumPyroImpactRegressor
from skaimz.inference import SVI
from skaimz.rows import open_source
from skaimz.sampling import limits

N_ROWS = 50
rng = np.random.default_rng(0)
X = rng.normal(size=(N_ROWS, 2))
EXPOSURE = rng.uniform(1, 2, size=N_ROWS)
y = rng.poisson(3, size=N_ROWS).astype(float)
DRAWS = {"coef": rng.normal(scale=0.3, size=(12, 2))}


class Batches:
    """An iterable of mappings of names to slices of arrays, which counts how often it is iterated over."""

    def __init__(self, lengths=(3, 1, 20, 0, 19, 7), **arrays):
        self.lengths, self.arrays, self.passes = lengths, arrays, 0

    def __iter__(self):
        self.passes += 1
        stops = np.cumsum(self.lengths)
        for start, stop in zip(stops - self.lengths, stops, strict=True):
            yield {name: array[start:stop] for name, array in self.arrays.items()}


class Listed(Sequence):
    """Batches in a sequence that is no list."""

    def __init__(self, *items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, number):
        return self.items[number]


class Items:
    """An iterable of any items."""

    def __init__(self, *items):
        self.items = items

    def __iter__(self):
        return iter(self.items)


def on_disk(array, path):
    """Return a memory-mapped copy."""
    mapped = np.memmap(path, array.dtype, "w+", shape=array.shape)
    mapped[:] = array
    return mapped


def in_zarr(array, zarr_format=3):
    return zarr.array(array, chunks=(7, *array.shape[1:]), zarr_format=zarr_format)


@pytest.fixture(scope="module", autouse=True)
def _small_tiles():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "DEFAULT", limits.Limits(most_tile_rows=8))
        yield


@pytest.fixture(scope="module")
def model():
    return NumPyroImpactRegressor(zoo.conjugate, random_state=3, posterior=DRAWS).fit(X, y)


@pytest.fixture(scope="module")
def counts():
    """A model with an argument for each row."""
    return NumPyroImpactRegressor(zoo.poisson, random_state=3, posterior=DRAWS).fit(X, y, exposure=EXPOSURE)


def same(found, expected):
    if isinstance(expected, xr.DataTree):
        for group in expected.children:
            xr.testing.assert_identical(found[group].to_dataset(), expected[group].to_dataset())
    else:
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


# The input and one more argument, in every form in which a call takes them.
FORMS = {
    "memory-mapped": lambda folder: ((on_disk(X, folder / "X"),), {"exposure": on_disk(EXPOSURE, folder / "exposure")}),
    "zarr": lambda folder: ((in_zarr(X),), {"exposure": in_zarr(EXPOSURE)}),
    "zarr argument": lambda folder: ((X,), {"exposure": in_zarr(EXPOSURE)}),
    "zarr input": lambda folder: ((in_zarr(X),), {"exposure": EXPOSURE}),
    "batches": lambda folder: ((Batches(X=X, exposure=EXPOSURE),), {}),
    "batches and an argument": lambda folder: ((Batches(X=X),), {"exposure": EXPOSURE}),
    "batches of Zarr": lambda folder: ((Batches(X=in_zarr(X), exposure=in_zarr(EXPOSURE)),), {}),
    "lists": lambda folder: ((Batches([N_ROWS], X=X.tolist(), exposure=EXPOSURE.tolist()),), {}),
}
METHODS = {
    "predict": lambda model, *args, **arrays: model.predict(*args, **arrays),
    "quantiles": lambda model, *args, **arrays: model.predict_quantiles(*args, **arrays),
    "outcomes": lambda model, *args, **arrays: model.sample_y(*args, n_samples=5, **arrays),
    "draws": lambda model, *args, **arrays: model.sample_posterior_predictive(*args, store="memory", **arrays),
    "likelihood": lambda model, *args, **arrays: model.log_likelihood(*args, y, **arrays),
    "prior": lambda model, *args, **arrays: model.sample_prior_predictive(*args, num_samples=12, **arrays),
}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_every_form_gives_the_same(method, counts, tmp_path):
    expected = method(counts, X, exposure=EXPOSURE)
    for form in FORMS.values():
        args, arrays = form(tmp_path)
        same(method(counts, *args, **arrays), expected)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_may_be_stored(form, counts, tmp_path):
    args, arrays = form(tmp_path)
    found = counts.sample_posterior_predictive(*args, **arrays, output_dir=tmp_path / "draws", batch_size=16)
    same(found, counts.sample_posterior_predictive(X, exposure=EXPOSURE))


def test_without_arguments(model):
    parts = {"X": X[:9]}, {"X": X[9:]}
    for rows in (in_zarr(X), Batches(X=X), Items(*parts), Listed(*parts)):
        same(model.predict(rows), model.predict(X))
        same(np.stack(model.predict(rows, return_std=True)), np.stack(model.predict(X, return_std=True)))
        same(model.log_likelihood(rows, y), model.log_likelihood(X, y))


def test_classes():
    labels = np.where(y > 3, "many", "few")
    model = NumPyroImpactClassifier(zoo.logistic, random_state=3, posterior=DRAWS).fit(X, labels)
    for rows in (in_zarr(X), Batches(X=X)):
        same(model.predict_proba(rows), model.predict_proba(X))
        assert model.predict(rows).tolist() == model.predict(X).tolist()
        same(model.log_likelihood(rows, labels), model.log_likelihood(X, labels))


def test_outcomes_of_a_zarr_array(counts):
    found = counts.log_likelihood(in_zarr(X), in_zarr(y), exposure=in_zarr(EXPOSURE))
    same(found, counts.log_likelihood(X, y, exposure=EXPOSURE))


def test_outcomes_may_come_with_the_rows(counts, tmp_path):
    expected = counts.log_likelihood(X, y, exposure=EXPOSURE)
    rows = Batches(X=X, exposure=EXPOSURE, y=y)
    same(counts.predict(rows), counts.predict(X, exposure=EXPOSURE))
    same(counts.log_likelihood(rows), expected)
    same(counts.log_likelihood(rows, output_dir=tmp_path / "draws", batch_size=16), expected)
    # Outcomes that are passed replace those that come with X.
    same(counts.log_likelihood(Batches(X=X, exposure=EXPOSURE, y=y + 1), y), expected)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "likelihood"])
def test_predictions_take_no_notice_of_outcomes(method, counts):
    """Methods other than `log_likelihood` do not read the outcomes in batches."""
    rows = Batches(X=X, exposure=EXPOSURE, y=np.full(N_ROWS, np.nan))
    same(METHODS[method](counts, rows), METHODS[method](counts, X, exposure=EXPOSURE))


def test_labels_may_come_with_the_rows():
    labels = np.where(y > 3, "many", "few")
    model = NumPyroImpactClassifier(zoo.logistic, random_state=3, posterior=DRAWS).fit(X, labels)
    rows = Batches(X=X, y=labels)
    same(model.log_likelihood(rows), model.log_likelihood(X, labels))
    same(model.predict_proba(rows), model.predict_proba(X))


def test_outcomes_are_needed(model):
    with pytest.raises(ValueError, match="needs outcomes: pass y"):
        model.log_likelihood(Batches(X=X))


def test_outcomes_of_another_number(model):
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[50, 49\]"):
        model.log_likelihood(Batches(X=X), y[:-1])


def test_an_unfitted_estimators_prior():
    model = NumPyroImpactRegressor(zoo.poisson, random_state=3)
    expected = model.sample_prior_predictive(X, exposure=EXPOSURE, num_samples=12)
    for args, arrays in (
        ((in_zarr(X),), {"exposure": in_zarr(EXPOSURE)}),
        ((Batches(X=X, exposure=EXPOSURE),), {}),
    ):
        same(model.sample_prior_predictive(*args, num_samples=12, **arrays), expected)


@pytest.mark.filterwarnings("ignore::skaimz.exceptions.SpeedWarning")
def test_rows_that_mix_are_read_together(tmp_path):
    model = NumPyroImpactRegressor(zoo.centring, random_state=3, posterior=DRAWS).fit(X, y)
    for i, rows in enumerate((in_zarr(X), Batches(X=X))):
        same(model.predict(rows), model.predict(X))
        same(
            model.sample_posterior_predictive(rows, output_dir=tmp_path / str(i)), model.sample_posterior_predictive(X)
        )


def test_effects_of_the_rows_of_the_fit():
    draws = DRAWS | {"effect": rng.normal(size=(12, N_ROWS))}
    model = NumPyroImpactRegressor(zoo.random_effects, random_state=3, posterior=draws).fit(X, y)
    expected = model.sample_posterior_predictive(X, return_sites=["effect", "y"])
    for rows in (in_zarr(X), Batches(X=X)):
        same(model.sample_posterior_predictive(rows, return_sites=["effect", "y"]), expected)


# Precision


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "bool"])
def test_the_precision_is_that_of_the_array(dtype, model):
    rows = (3 * X).astype(dtype)
    expected = model.predict(rows)
    assert expected.dtype == (np.float32 if dtype == "float32" else np.float64)
    same(model.predict(in_zarr(rows)), expected)
    same(model.predict(Batches(X=rows)), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_estimators_precision_comes_first(dtype):
    model = NumPyroImpactRegressor(zoo.conjugate, random_state=3, dtype=dtype, posterior=DRAWS).fit(X, y)
    for rows in (X, X.astype(np.float32)):
        expected = model.predict(rows)
        assert expected.dtype == dtype
        same(model.predict(in_zarr(rows)), expected)
        same(model.predict(Batches(X=rows)), expected)


def test_arguments_have_the_inputs_precision(counts):
    rows, exposure = X.astype(np.float32), np.arange(1, N_ROWS + 1)
    for numbers in (EXPOSURE, exposure):
        expected = counts.predict(rows, exposure=numbers)
        assert expected.dtype == np.float32
        same(counts.predict(in_zarr(rows), exposure=in_zarr(numbers)), expected)
        same(counts.predict(Batches(X=rows, exposure=numbers)), expected)


@pytest.mark.parametrize("dtype", ["float64", "int32"])
def test_bytes_in_the_other_order(dtype, counts, tmp_path):
    """Files from other machines may hold such numbers."""
    exposure = np.arange(1, N_ROWS + 1, dtype=dtype)
    rows, swapped = (array.astype(array.dtype.newbyteorder()) for array in (X, exposure))
    expected = counts.predict(X, exposure=exposure)
    same(counts.predict(rows, exposure=swapped), expected)
    # Zarr 3.0 stores them only in format 2.
    same(counts.predict(in_zarr(rows, 2), exposure=in_zarr(swapped, 2)), expected)
    same(counts.predict(on_disk(rows, tmp_path / "X"), exposure=on_disk(swapped, tmp_path / "exposure")), expected)


def test_an_input_of_another_name():
    rows = (3 * X).astype(int)
    model = NumPyroImpactRegressor(
        zoo.renamed, param_input="features", param_output="outcome", random_state=3, posterior=DRAWS
    ).fit(X, y)
    same(model.predict(in_zarr(rows)), model.predict(rows))
    batches = Batches(features=rows, outcome=y)
    same(model.predict(batches), model.predict(rows))
    same(model.log_likelihood(batches), model.log_likelihood(rows, y))


def test_batches_may_differ_in_type(counts):
    exposure = np.r_[np.ones(20), np.full(30, 1.5)]
    rows = Items({"X": X[:20], "exposure": [1] * 20}, {"X": X[20:], "exposure": [1.5] * 30})
    same(counts.predict(rows), counts.predict(X, exposure=exposure))


def test_batches_of_single_and_double_precision(model):
    rows = Items({"X": X[:0].astype(np.float32)}, {"X": X})
    same(model.predict(rows), model.predict(X))


# Order


class Shuffled(Batches):
    """Batches with another order of rows, or of other lengths, in each pass."""

    def __init__(self, order, **arrays):
        super().__init__(**arrays)
        self.order = order

    def __iter__(self):
        self.passes += 1
        rows, cuts = self.order(self.passes)
        for part in np.split(rows, cuts):
            yield {name: array[part] for name, array in self.arrays.items()}


def shuffled(number):
    return np.random.default_rng(number).permutation(N_ROWS), [20, 40]


def last_two_swapped(number):
    return np.r_[:48, [48, 49] if number == 1 else [49, 48]], [10, 20]


def cut_elsewhere(number):
    return np.arange(N_ROWS), [10 * number]


LABELS = np.array([f"row {i}" for i in range(N_ROWS)], dtype=object)


@pytest.mark.parametrize("order", [shuffled, last_two_swapped])
def test_rows_in_another_order_each_time_are_refused(order, counts, tmp_path):
    message = "gave other rows .* than when they were last iterated over, .*same order"
    calls = {
        "predict": counts.predict,
        "draws": lambda rows: counts.sample_posterior_predictive(rows, output_dir=tmp_path / "draws", batch_size=8),
        "density": counts.log_likelihood,
        "effect": lambda rows: counts.estimate_effect(rows, scenarios={"none": {"arguments": {"exposure": 1.0}}}),
        "fit": lambda rows: NumPyroImpactRegressor(zoo.poisson, inference=SVI(num_steps=5)).fit(rows),
    }
    for method, call in calls.items():
        with pytest.raises(ValueError, match=message):
            pytest.fail(f"{method}: {call(Shuffled(order, X=X, exposure=EXPOSURE, y=y))}")
    # The check includes arrays that no method uses.
    with pytest.raises(ValueError, match=message):
        open_source(Shuffled(order, X=np.zeros((N_ROWS, 2)), label=LABELS)).fields["X"][:]


def test_rows_that_are_cut_elsewhere_are_the_same_rows(counts):
    rows = Shuffled(cut_elsewhere, X=X, exposure=EXPOSURE)
    same(counts.predict(rows), counts.predict(X, exposure=EXPOSURE))
    assert rows.passes >= 2


# Columns


@pytest.mark.parametrize("column", [-2, [1]])
def test_arguments_that_are_columns(column, tmp_path):
    wide = np.c_[X[:, 0], EXPOSURE, X[:, 1]]
    kernel = exposed if isinstance(column, list) else zoo.poisson
    model = NumPyroImpactRegressor(kernel, random_state=3, column_args={"exposure": column}, posterior=DRAWS)
    model.fit(wide, y)
    expected = model.predict(wide)
    same(NumPyroImpactRegressor(zoo.poisson, posterior=DRAWS).predict(X, exposure=EXPOSURE), expected)
    for i, rows in enumerate((in_zarr(wide), Batches(X=wide))):
        same(model.predict(rows), expected)
        same(
            model.sample_posterior_predictive(rows, output_dir=tmp_path / str(i)),
            model.sample_posterior_predictive(wide),
        )
    with pytest.raises(ValueError, match="X contains NaN or infinity, first in row 41"):
        model.predict(in_zarr(with_nan(wide, 41, 1)))


def exposed(X, y=None, *, exposure):
    return zoo.poisson(X, y, exposure=exposure[:, 0])


def test_columns_by_name():
    wide = np.c_[X, EXPOSURE]
    frame = pd.DataFrame(wide, columns=["a", "b", "exposure"])
    model = NumPyroImpactRegressor(zoo.poisson, column_args={"exposure": "exposure"}, posterior=DRAWS).fit(frame, y)
    for rows in (in_zarr(wide), Batches(X=wide)):
        same(model.predict(rows), model.predict(frame))


# What is wrong with rows


def with_nan(array, row, column=...):
    array = array.copy()
    array[row, column] = np.nan
    return array


@pytest.mark.parametrize("row", [29, N_ROWS - 1])
def test_the_row_of_a_nan_is_named(row, counts, tmp_path):
    missing = with_nan(X, row, 1)
    for rows in (in_zarr(missing), Batches(X=missing)):
        with pytest.raises(ValueError, match=f"X contains NaN or infinity, first in row {row}"):
            counts.predict(rows, exposure=EXPOSURE)
    short = EXPOSURE.copy()
    short[row:] = np.inf
    with pytest.raises(ValueError, match=f"Argument 'exposure' contains NaN or infinity, first in row {row}"):
        counts.predict(in_zarr(X), exposure=in_zarr(short))
    with pytest.raises(ValueError, match=f"'exposure' contains NaN or infinity, first in row {row}"):
        counts.sample_posterior_predictive(Batches(X=X, exposure=short), output_dir=tmp_path / "draws", batch_size=8)


def test_the_number_of_features(model):
    for rows in (in_zarr(X[:, :1]), Batches(X=X[:, :1])):
        with pytest.raises(ValueError, match=r"X has the shape \(50, 1\), but 2 features are expected"):
            model.predict(rows)
    for rows in (in_zarr(X[:, 0]), Batches(X=X[:, 0])):
        with pytest.raises(ValueError, match=r"X has the shape \(50,\), but 2 features are expected"):
            model.predict(rows)
    with pytest.raises(ValueError, match=r"X has the shape \(50, 2, 1\)"):
        model.predict(in_zarr(X[..., None]))


def test_words_are_no_numbers(counts):
    words = X.astype(str)
    # Format 3 of Zarr does not yet specify how text is stored.
    stored = zarr.array(words, zarr_format=2)
    for rows in (stored, Batches(X=words)):
        with pytest.raises(ValueError, match="X must be numeric, got an array of type"):
            counts.predict(rows, exposure=EXPOSURE)
    with pytest.raises(ValueError, match="Argument 'exposure' must be numeric, got an array of type"):
        counts.predict(Batches(X=X, exposure=EXPOSURE.astype(str)))


def test_an_argument_of_another_length(counts):
    with pytest.raises(ValueError, match="Argument 'exposure' has 49 rows, but X has 50"):
        counts.predict(in_zarr(X), exposure=in_zarr(EXPOSURE[:-1]))


WRONG = {
    "other names": (
        Items({"X": X[:9]}, {"X": X[9:], "exposure": EXPOSURE[9:]}),
        ValueError,
        r"same arrays.*: got {'X': \(2,\), 'exposure': \(\)} after {'X': \(2,\)}",
    ),
    "other widths": (
        Items({"X": X[:16]}, {"X": np.c_[X, X][16:]}),
        ValueError,
        r"of equal shapes but for the rows: got {'X': \(4,\)} after {'X': \(2,\)}",
    ),
    "other dimensions": (
        Items({"X": X[:16]}, {"X": X[16:, 0]}),
        ValueError,
        r"of equal shapes but for the rows: got {'X': \(\)} after {'X': \(2,\)}",
    ),
    "single values": (
        Items({"X": X, "exposure": 1.0}),
        ValueError,
        r"A batch must hold arrays of rows, but \['exposure'\] are single values",
    ),
    "unequal lengths": (
        Items({"X": X, "exposure": EXPOSURE[:-1]}),
        ValueError,
        "arrays of a batch differ in length: {'X': 50, 'exposure': 49}",
    ),
    "no input": (Items({"x": X}), ValueError, r"must hold the input 'X' among its arrays, got \['x'\]"),
    "no batch": (Items(), ValueError, r"0 sample\(s\): the batches are empty"),
    "no rows": (Items({"X": X[:0]}, {"X": X[:0]}), ValueError, r"0 sample\(s\): the batches are empty"),
    "no arrays": (Items({}, {}), ValueError, r"0 sample\(s\): the batches are empty"),
    "once": (
        ({"X": X[i : i + 10]} for i in range(0, 50, 10)),
        ValueError,
        "X is a generator, which can be iterated over only once: pass an object whose `__iter__` begins anew",
    ),
    "pairs": (Items((X, y)), TypeError, "iterable of mappings.*one of its items is a tuple"),
    "arrays": (Items(X[:9], X[9:]), TypeError, "iterable of mappings.*one of its items is a ndarray"),
    "frames": (Items(pd.DataFrame({"X": X[:, 0]})), TypeError, "one of its items is a DataFrame"),
    "unknown argument": (Items({"X": X, "weight": y}), TypeError, "Unknown argument 'weight'"),
}


@pytest.mark.parametrize(("rows", "error", "message"), WRONG.values(), ids=WRONG)
def test_wrong_batches(rows, error, message, model):
    with pytest.raises(error, match=message):
        model.predict(rows)


def test_batches_that_become_fewer(model):
    class Fewer:
        passes = 0

        def __iter__(self):
            self.passes += 1
            return iter([{"X": X[: N_ROWS - 10 * (self.passes > 1)]}])

    with pytest.raises(ValueError, match="gave 40 rows, and 50 when they were counted"):
        model.predict(Fewer())


def test_a_list_of_batches_is_an_array(model):
    """scikit-learn reads lists as arrays."""
    with pytest.raises((ValueError, TypeError)):
        model.predict([{"X": X}])


def test_an_unfitted_estimator_says_so_first():
    with pytest.raises(NotFittedError):
        NumPyroImpactRegressor(zoo.conjugate).predict(in_zarr(X))


# Reading


def test_batches_are_read_a_few_times_whatever_their_number(counts, tmp_path):
    many = np.tile(X, (20, 1))
    passes = []
    for lengths in ([N_ROWS] * 20, [1] * 1000):
        rows = Batches(lengths, X=many, exposure=np.ones(1000))
        counts.predict(rows)
        counts.sample_posterior_predictive(rows, output_dir=tmp_path / str(len(lengths)), batch_size=8)
        passes.append(rows.passes)
    assert passes[0] == passes[1] < 12


def test_a_part_is_in_memory_at_a_time(model, tmp_path):
    """Each slice that is read is a tile, and each tile is read once."""
    reads = []

    class Watched(zarr.Array):
        def __getitem__(self, where):
            part = where[0] if isinstance(where, tuple) else where
            reads.append((part.start, part.stop))
            return super().__getitem__(where)

    rows = Watched(in_zarr(np.tile(X, (4, 1)))._async_array)
    model.sample_posterior_predictive(rows, output_dir=tmp_path / "draws", batch_size=16)
    assert max(stop - (start or 0) for start, stop in reads) <= 8
    assert reads[-25:] == [(start, start + 8) for start in range(0, 200, 8)]
    assert len(reads) < 25 + 8


FEATURES, SMALL, FACTOR = 8, 20_000, 25


class Made:
    """Batches that are made when they are read."""

    def __init__(self, n_rows):
        self.n_rows = n_rows

    def __iter__(self):
        for start in range(0, self.n_rows, 5000):
            yield {"X": np.random.default_rng(start).normal(size=(5000, FEATURES)).astype(np.float32)}


def test_memory_does_not_grow_with_the_rows(tmp_path):
    folders = Path(zoo.__file__).parent, Path(skaimz.__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders))}
    command = [sys.executable, __file__, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    few, many, on_disk = map(int, done.stdout.split())
    assert on_disk > 100 * 2**20
    assert many - few < 30 * 2**20


def main(folder):
    draws = {"coef": np.random.default_rng(0).normal(size=(60, FEATURES)).astype(np.float32)}
    model = NumPyroImpactRegressor(zoo.conjugate, random_state=3).set_posterior_sample(draws)
    for n_rows in (SMALL, FACTOR * SMALL):
        model.sample_posterior_predictive(Made(n_rows), output_dir=f"{folder}/{n_rows}", batch_size=4096)
        # Linux counts in kilobytes.
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 2**10)
    print(sum(path.stat().st_size for path in Path(f"{folder}/{n_rows}").rglob("*") if path.is_file()))


if __name__ == "__main__":
    main(*sys.argv[1:])
