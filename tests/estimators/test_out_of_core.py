"""Fits that read rows piece by piece equal the fits on arrays, and hold few of the rows in memory."""

import errno
import gc
import pickle
import resource
import shutil
import tempfile
import weakref
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import zarr
import zoo
import zoo_inputs

from skaimz import NumPyroImpactClassifier, NumPyroImpactRegressor
from skaimz.inference import MCMC, SVI
from skaimz.rows import RowSource, arrays
from skaimz.rows import spool as _spool

N_ROWS, BLOCK, WINDOW = 600, 32, 128
SETTINGS = SVI(batch_size=50, num_steps=30, num_samples=20)
rng = np.random.default_rng(0)
X = rng.normal(size=(N_ROWS, 2))
EXPOSURE = rng.uniform(1, 2, size=N_ROWS)
COUNTS = rng.poisson(EXPOSURE * np.exp(X @ [0.3, -0.2])).astype(float)
Y = 1.0 + X @ [2.0, -1.0] + rng.normal(scale=0.5, size=N_ROWS)
LABELS = np.where(X[:, 0] + rng.normal(size=N_ROWS) > 0, "yes", "no")
WEIGHT = rng.uniform(0.5, 2.0, size=N_ROWS)

pytestmark = pytest.mark.usefixtures("quick_compilation", "small_windows", "_small_pieces")


@pytest.fixture(scope="module")
def _small_pieces():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "PIECE_ROWS", 100)
        yield


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The folder of temporary files, which must be empty after each test."""
    place = tmp_path / "scratch"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    yield place
    assert list(place.iterdir()) == []


class Batches:
    """An iterable of mappings of names to slices of arrays, which counts how often it is iterated over."""

    def __init__(self, size, **arrays):
        self.size, self.arrays, self.passes = size, arrays, 0

    def __iter__(self):
        self.passes += 1
        for start in range(0, len(self.arrays["X"]), self.size):
            yield {name: array[start : start + self.size] for name, array in self.arrays.items()}


def in_zarr(array, rows=70, zarr_format=3):
    chunks = (rows, *array.shape[1:])
    stored = zarr.create_array({}, shape=array.shape, chunks=chunks, dtype=array.dtype, zarr_format=zarr_format)
    stored[...] = array
    return stored


@pytest.fixture
def mapped(tmp_path):
    def write(array):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.npy"
        out = np.lib.format.open_memmap(path, mode="w+", dtype=array.dtype, shape=array.shape)
        out[...] = array
        return out

    return write


def same(found, expected, rtol=1e-9):
    assert found.keys() == expected.keys()
    for name, draws in found.items():
        assert draws.dtype == expected[name].dtype
        np.testing.assert_allclose(draws, expected[name], rtol=rtol, atol=rtol)


def fit(*given, kernel=zoo.poisson, settings=SETTINGS, **more):
    return NumPyroImpactRegressor(kernel, inference=settings, random_state=0).fit(*given, **more)


@pytest.fixture(scope="module", params=["float32", "float64"])
def counts(request):
    """Arrays, and the model that is fitted to them in memory."""
    arrays = [array.astype(request.param) for array in (X, COUNTS, EXPOSURE, WEIGHT)]
    x, y, exposure, weight = arrays
    return arrays, fit(x, y, exposure=exposure, sample_weight=weight)


@pytest.mark.parametrize("kind", ["mapped", "zarr", "short chunks", "batches", "batches and a weight", "mixed"])
def test_sources_agree_with_arrays(counts, kind, mapped):
    (x, y, exposure, weight), expected = counts
    given, more = {
        "mapped": lambda: ((mapped(x), mapped(y)), {"exposure": mapped(exposure), "sample_weight": mapped(weight)}),
        "zarr": lambda: ((in_zarr(x), in_zarr(y, 300)), {"exposure": in_zarr(exposure, 9), "sample_weight": weight}),
        "short chunks": lambda: ((in_zarr(x, 1), y), {"exposure": exposure, "sample_weight": in_zarr(weight, 1)}),
        "batches": lambda: ((Batches(90, X=x, y=y, exposure=exposure),), {"sample_weight": weight}),
        "batches and a weight": lambda: (
            (Batches(7, X=x, exposure=exposure), in_zarr(y)),
            {"sample_weight": in_zarr(weight)},
        ),
        "mixed": lambda: ((in_zarr(x), y.tolist()), {"exposure": mapped(exposure), "sample_weight": weight.tolist()}),
    }[kind]()
    found = fit(*given, **more, kernel=zoo.poisson)
    single = x.dtype == np.float32
    np.testing.assert_allclose(found.fit_result_.losses, expected.fit_result_.losses, rtol=1e-4 if single else 1e-9)
    same(found.posterior_, expected.posterior_, 1e-4 if single else 1e-9)
    assert found.arguments_ == expected.arguments_
    assert found.fit_result_.seen == pytest.approx(expected.fit_result_.seen, rel=1e-6)
    np.testing.assert_allclose(found.predict(x, exposure=exposure), expected.predict(x, exposure=exposure), rtol=1e-3)


def test_pieces_change_nothing():
    fits = [fit(in_zarr(X, rows), in_zarr(COUNTS, 40), exposure=EXPOSURE) for rows in (33, 600)]
    fits += [fit(Batches(size, X=X, y=COUNTS, exposure=EXPOSURE)) for size in (1, 250)]
    for other in fits[1:]:
        np.testing.assert_array_equal(other.posterior_["coef"], fits[0].posterior_["coef"])


def test_the_default_kernel_is_scaled_block_by_block(mapped, monkeypatch):
    expected = fit(X, Y, kernel=None, sample_weight=WEIGHT)
    monkeypatch.setattr("skaimz.kernels.default.BLOCK_ROWS", 77)
    found = fit(in_zarr(X), mapped(Y), kernel=None, sample_weight=in_zarr(WEIGHT))
    for name in ("x_mean", "x_scale", "y_mean", "y_scale"):
        np.testing.assert_allclose(getattr(found.kernel_, name), getattr(expected.kernel_, name), rtol=1e-12)
    np.testing.assert_allclose(found.kernel_.x_mean, np.average(X, axis=0, weights=WEIGHT))
    np.testing.assert_allclose(found.kernel_.y_scale**2, np.cov(Y, aweights=WEIGHT, ddof=0))
    same(found.posterior_, expected.posterior_, 1e-7)


@pytest.mark.parametrize("kind", ["labels in memory", "batches", "numbers"])
def test_labels(kind, mapped):
    model = NumPyroImpactClassifier(zoo.logistic, inference=SETTINGS, random_state=0)
    expected = model.fit(X, LABELS).posterior_
    given = {
        "labels in memory": lambda: (in_zarr(X), LABELS),
        "batches": lambda: (Batches(90, X=X, y=LABELS),),
        "numbers": lambda: (in_zarr(X), mapped(3 * (LABELS == "yes"))),
    }[kind]()
    model.fit(*given)
    assert model.classes_.tolist() == ([0, 3] if kind == "numbers" else ["no", "yes"])
    same(model.posterior_, expected)


def test_labels_of_all_parts_are_learnt():
    late = np.where(np.arange(N_ROWS) < 500, "no", "yes")
    model = NumPyroImpactClassifier(zoo.logistic, inference=SETTINGS, random_state=0)
    assert model.fit(Batches(90, X=X, y=late)).classes_.tolist() == ["no", "yes"]


def test_labels_of_several_outputs():
    model = NumPyroImpactClassifier(zoo_inputs.switches, inference=SETTINGS, random_state=0)
    y = (X[:, :1] > [[0.0, 0.5, 1.0]]).astype(int)
    expected = model.fit(X, y).posterior_
    same(model.fit(in_zarr(X), in_zarr(y)).posterior_, expected)
    assert [labels.tolist() for labels in model.classes_] == [[0, 1]] * 3


GROUPS = np.arange(N_ROWS) % 7
TABLE = np.linspace(-3.0, 3.0, 7)


@pytest.mark.parametrize("kind", ["zarr", "mapped"])
def test_whole_arguments_are_loaded(kind, mapped):
    keep = in_zarr if kind == "zarr" else mapped
    expected = fit(X, Y, kernel=zoo_inputs.with_table, group=GROUPS, table=TABLE)
    found = fit(keep(X), Y, kernel=zoo_inputs.with_table, group=keep(GROUPS), table=keep(TABLE))
    same(found.posterior_, expected.posterior_)
    assert found.arguments_ == expected.arguments_
    assert list(found.arguments_["whole"]) == ["table"]
    np.testing.assert_allclose(
        found.predict(keep(X), group=keep(GROUPS), table=keep(TABLE)),
        expected.predict(X, group=GROUPS, table=TABLE),
        rtol=1e-9,
    )
    # In later calls an argument is classified as in the fit, whatever its length.
    seven = {"group": keep(GROUPS[:7]), "table": keep(TABLE)}
    same(
        found.partial_fit(keep(X[:7]), keep(Y[:7]), **seven).posterior_,
        expected.partial_fit(X[:7], Y[:7], group=GROUPS[:7], table=TABLE).posterior_,
    )
    with pytest.raises(ValueError, match="Argument 'group' has 8 rows, but X has 7"):
        found.partial_fit(keep(X[:7]), keep(Y[:7]), group=keep(GROUPS[:8]), table=keep(TABLE))


def test_another_length_is_told_where_the_kernel_fails():
    with pytest.raises(TypeError, match=r"another length, and were passed whole: \{'exposure': 599\}"):
        fit(in_zarr(X), COUNTS, exposure=in_zarr(EXPOSURE[1:]))


@pytest.mark.parametrize("batch_size", [50, None])
def test_weights_come_with_batches(batch_size):
    settings = SVI(batch_size=batch_size, num_steps=30, num_samples=20)
    batches = Batches(90, X=X, y=COUNTS, exposure=EXPOSURE, sample_weight=WEIGHT)
    found = fit(batches, settings=settings)
    expected = fit(X, COUNTS, exposure=EXPOSURE, sample_weight=WEIGHT, settings=settings)
    same(found.posterior_, expected.posterior_)
    same(
        found.partial_fit(batches).posterior_,
        expected.partial_fit(X, COUNTS, exposure=EXPOSURE, sample_weight=WEIGHT).posterior_,
    )
    # Weights that are passed replace those that come with X.
    ones = np.ones(N_ROWS)
    same(
        fit(batches, settings=settings, sample_weight=ones).posterior_,
        fit(X, COUNTS, exposure=EXPOSURE, sample_weight=ones, settings=settings).posterior_,
    )


def test_weights_that_come_with_batches_are_not_the_kernels():
    """The kernel here takes arguments of any name."""
    kernel, shift = zoo_inputs.open_ended, np.linspace(0.0, 1.0, N_ROWS)
    batches = Batches(90, X=X, y=Y, shift=shift, sample_weight=WEIGHT)
    found = fit(batches, kernel=kernel)
    expected = fit(X, Y, kernel=kernel, shift=shift, sample_weight=WEIGHT)
    same(found.posterior_, expected.posterior_)
    assert list(found.arguments_["rows"]) == ["X", "shift"]
    np.testing.assert_allclose(found.predict(batches), expected.predict(X, shift=shift), rtol=1e-9)
    densities = found.log_likelihood(batches)["log_likelihood"]["y"]
    np.testing.assert_allclose(densities, expected.log_likelihood(X, Y, shift=shift)["log_likelihood"]["y"], rtol=1e-8)


@pytest.mark.parametrize("average", [True, False])
def test_average_effects_use_weights_that_come_with_batches(counts, average):
    model = counts[1]
    asked = {"scenarios": {"on": {"columns": {0: 1.0}}}, "average": average}
    weights = WEIGHT * (np.arange(N_ROWS) > 9)
    batches = Batches(90, X=X, exposure=EXPOSURE, sample_weight=weights)
    expected = model.estimate_effect(X, exposure=EXPOSURE, **asked, **({"sample_weight": weights} if average else {}))
    found = model.estimate_effect(batches, **asked)
    np.testing.assert_allclose(found["on"]["effect"], expected["on"]["effect"], rtol=1e-9)
    if average:
        by_row = model.estimate_effect(X, exposure=EXPOSURE, **asked | {"average": False})["on"]["effect"]
        np.testing.assert_allclose(found["on"]["effect"], np.average(by_row, axis=-1, weights=weights), rtol=1e-4)


def test_learning_goes_on(mapped):
    settings = SVI(batch_size=50, num_samples=20, total_rows=2 * N_ROWS)
    models = [NumPyroImpactClassifier(zoo.logistic, inference=settings, random_state=0) for _ in range(2)]
    for _ in range(2):
        models[0].partial_fit(X, LABELS, classes=["no", "yes"], sample_weight=WEIGHT)
        models[1].partial_fit(mapped(X), LABELS, classes=["no", "yes"], sample_weight=in_zarr(WEIGHT))
        same(models[1].posterior_, models[0].posterior_)
    batches = Batches(90, X=X, y=LABELS)
    same(models[1].partial_fit(batches).posterior_, models[0].partial_fit(X, LABELS).posterior_)
    # One pass to count rows and one to read them; the labels are known already.
    assert batches.passes == 2
    assert models[0].fit_result_.losses.shape == (36,)


def test_columns_that_are_arguments():
    wide = np.column_stack([X, EXPOSURE])
    model = NumPyroImpactRegressor(zoo.poisson, column_args={"exposure": 2}, inference=SETTINGS, random_state=0)
    expected = model.fit(wide, COUNTS).posterior_
    same(model.fit(in_zarr(wide), COUNTS).posterior_, expected)
    groups = np.column_stack([X, rng.integers(3, size=N_ROWS) * 10])
    columns = {"group": {"columns": 2, "categories": [0, 10, 20]}}
    model = NumPyroImpactRegressor(zoo_inputs.by_group, column_args=columns, inference=SETTINGS, random_state=0)
    expected = model.fit(groups, Y).posterior_
    same(model.fit(in_zarr(groups), in_zarr(Y)).posterior_, expected)


def test_precision_is_chosen():
    model = NumPyroImpactRegressor(zoo.conjugate, inference=SETTINGS, dtype="float32", random_state=0)
    expected = model.fit(X, Y).posterior_
    assert model.fit(in_zarr(X), in_zarr(Y)).posterior_["coef"].dtype == np.float32
    same(model.posterior_, expected, 1e-4)


def test_precision_is_that_of_the_first_rows():
    model = NumPyroImpactRegressor(zoo.conjugate, inference=SETTINGS, random_state=0)
    model.partial_fit(in_zarr(X.astype(np.float32)), Y).partial_fit(in_zarr(X), in_zarr(Y))
    assert model.posterior_["coef"].dtype == model.fit_result_.losses.dtype == np.float32


@pytest.mark.parametrize(
    "settings", [SVI(num_steps=30, num_samples=20), MCMC(num_warmup=20, num_samples=20, num_chains=1)]
)
def test_all_rows_at_once_are_loaded(settings, folder, monkeypatch):
    monkeypatch.setattr(_spool.Scratch, "file", None)
    with pytest.warns() if isinstance(settings, MCMC) else nullcontext():
        expected = fit(X, COUNTS, exposure=EXPOSURE, settings=settings)
        found = fit(Batches(90, X=X, y=COUNTS, exposure=EXPOSURE), settings=settings)
        stored = fit(in_zarr(X), in_zarr(COUNTS), exposure=in_zarr(EXPOSURE), settings=settings)
    np.testing.assert_array_equal(found.posterior_["coef"], expected.posterior_["coef"])
    np.testing.assert_array_equal(stored.posterior_["coef"], expected.posterior_["coef"])


class Watched(zarr.Array):
    """A Zarr array that counts how often each row is read, and how many are read at a time."""

    reads: ClassVar = Counter()
    lengths: ClassVar = set()

    def __getitem__(self, part):
        start, stop, _ = part.indices(self.shape[0])
        self.reads.update(range(start, stop))
        self.lengths.add(stop - start)
        return super().__getitem__(part)


def watched(array):
    rows = Watched(in_zarr(array)._async_array)
    rows.reads.clear()
    rows.lengths.clear()
    return rows


def test_each_row_is_read_once():
    rows = watched(X)
    fit(rows, COUNTS, exposure=EXPOSURE, settings=SVI(batch_size=50, num_epochs=5, num_samples=20))
    assert rows.lengths == {140, 40}  # two chunks at a time
    assert set(rows.reads.values()) == {1}
    assert len(rows.reads) == N_ROWS


def test_a_short_fit_reads_what_it_visits():
    rows = watched(np.tile(X, (20, 1)))
    fit(rows, np.tile(Y, 20), kernel=zoo.conjugate, settings=SVI(batch_size=50, num_steps=2, num_samples=20))
    # The first window has four blocks of 32 rows, each in one or two pieces; a second one is read ahead.
    assert 140 < len(rows.reads) <= 140 * (1 + 2 * 2 * 4)


def test_draws_that_are_given_need_one_row(mapped):
    rows = watched(X)
    model = NumPyroImpactRegressor(zoo.poisson, posterior={"coef": rng.normal(size=(5, 2))}, random_state=0)
    model.fit(rows, in_zarr(COUNTS), exposure=in_zarr(EXPOSURE))
    assert (len(rows.reads), model.fit_result_.n_rows) == (140, N_ROWS)
    with pytest.raises(ValueError, match="y has 599 rows, but X has 600"):
        model.fit(rows, in_zarr(COUNTS[1:]), exposure=in_zarr(EXPOSURE))


def test_a_fitted_estimator_keeps_no_rows(mapped):
    rows, batches = mapped(X), Batches(90, X=X, y=COUNTS, exposure=EXPOSURE)
    references = weakref.ref(rows), weakref.ref(batches)
    plain = fit(X, COUNTS, exposure=EXPOSURE)
    models = fit(rows, COUNTS, exposure=EXPOSURE), fit(batches)
    del rows, batches
    gc.collect()
    assert [reference() for reference in references] == [None, None]
    for model in models:
        assert len(pickle.dumps(model)) < len(pickle.dumps(plain)) + 2000


def spoilt(array, row, value):
    changed = array.copy()
    changed[row] = value
    return changed


@pytest.mark.parametrize(
    ("given", "more", "message"),
    [
        ((spoilt(X, 510, np.nan), COUNTS), {}, "X contains NaN or infinity, first in row 510"),
        ((X, spoilt(COUNTS, 333, np.inf)), {}, "y contains NaN or infinity, first in row 333"),
        ((X, spoilt(COUNTS, 333, -1.0)), {}, "outside the support.* nonnegative integer, and in row 333 are not"),
        ((X, spoilt(COUNTS, 301, 0.5)), {}, "outside the support.* in row 301 are not"),
        ((X, COUNTS[:-1]), {}, "y has 599 rows, but X has 600"),
        ((X, COUNTS), {"exposure": spoilt(EXPOSURE, 17, np.nan)}, "Argument 'exposure' contains NaN.*first in row 17"),
        ((X, COUNTS), {"sample_weight": spoilt(WEIGHT, 88, -1)}, "sample_weight must not be negative, .* in row 88"),
        ((X, COUNTS), {"sample_weight": spoilt(WEIGHT, 88, np.nan)}, "sample_weight contains NaN.* first in row 88"),
        ((X, COUNTS), {"sample_weight": WEIGHT[1:]}, "sample_weight has 599 rows, but X has 600"),
        ((X, COUNTS), {"sample_weight": X}, "sample_weight must have one dimension, got 2"),
        ((X[:, 0], COUNTS), {}, "Expected 2D array, got 1D array"),
        ((X, X), {}, "y should be a 1d array"),
        ((X, COUNTS), {"sample_weight": 0.0 * WEIGHT}, "`sample_weight` is zero for every row"),
        ((X, COUNTS[:0]), {}, "while a minimum of 1 is required: y has no rows"),
        ((X.astype(complex), COUNTS), {}, "X must be numeric, got an array of type complex128"),
    ],
)
def test_what_is_wrong_is_said_where_it_is(given, more, message):
    model = NumPyroImpactRegressor(zoo.poisson, inference=SETTINGS, random_state=0)
    model.fit(X, COUNTS, exposure=EXPOSURE)
    before = model.posterior_
    stored = {name: in_zarr(array) for name, array in ({"exposure": EXPOSURE} | more).items()}
    with pytest.raises(ValueError, match=message):
        model.fit(*map(in_zarr, given), **stored)
    assert model.posterior_ is before


def test_labels_that_are_wrong():
    model = NumPyroImpactClassifier(zoo.logistic, inference=SETTINGS, random_state=0)
    with pytest.raises(ValueError, match=r"at least 2 classes, got 1 class: .*'no'"):
        model.fit(Batches(90, X=X, y=np.full(N_ROWS, "no")))
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        model.fit(in_zarr(X), in_zarr(Y))
    with pytest.raises(ValueError, match=r"labels that `fit` did not see: \['yes'\]"):
        model.partial_fit(Batches(90, X=X, y=LABELS), classes=["maybe", "no"])
    with pytest.raises(ValueError, match="y has no label in row 3"):
        model.fit(in_zarr(X), spoilt(LABELS.astype(object), 3, None))


def test_later_rows_have_the_columns_of_the_first():
    model = fit(in_zarr(X), in_zarr(COUNTS), exposure=EXPOSURE)
    with pytest.raises(ValueError, match="X has 1 features, but NumPyroImpactRegressor is expecting 2 features"):
        model.partial_fit(in_zarr(X[:, :1]), in_zarr(COUNTS), exposure=EXPOSURE)


def test_batches_that_cannot_be_used():
    with pytest.raises(ValueError, match="requires y to be passed, but the target y is None"):
        fit(Batches(90, X=X, exposure=EXPOSURE))
    model = NumPyroImpactRegressor(zoo.renamed, param_input="features", param_output="outcome", inference=SETTINGS)
    with pytest.raises(ValueError, match=r"X must hold the input 'features' among its arrays, got \['X'\]"):
        model.fit(Batches(90, X=X))
    once = ({"X": X[i : i + 100], "y": Y[i : i + 100]} for i in range(0, N_ROWS, 100))
    with pytest.raises(ValueError, match="X is a generator, which can be iterated over only once"):
        fit(once, kernel=zoo.conjugate)


class TwoPieces(RowSource):
    """Two pieces of two rows, which may differ in type."""

    lengths, shape, dtype = (2, 2), (4,), np.dtype(float)

    def __init__(self, *pieces):
        self._pieces = pieces

    def __getitem__(self, rows):
        return self._pieces[rows.start // 2]


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (np.zeros(2, np.int32), np.full(2, 2**40), "'a' is int64 from row 2 on, but int32 before"),
        (np.zeros(2, np.float32), np.zeros(2), "'a' is float64 from row 2 on, but float32 before"),
        (np.zeros((2, 1)), np.zeros((2, 2)), r"'a' has the shape \(2, 2\) from row 2 on, where \(2, 1\) was expected"),
    ],
)
def test_pieces_that_differ(first, second, message):
    with _spool.Scratch() as scratch:
        rows = _spool.Spool(TwoPieces(first, second), lambda piece, start: {"a": piece}, scratch).arrays["a"]
        np.testing.assert_array_equal(rows[0:2], first)
        with pytest.raises(ValueError, match=message):
            rows[1:3]


def test_batches_that_change():
    """The first pass counts rows, and the second reads them."""

    class Renamed(Batches):
        def __iter__(self):
            for batch in super().__iter__():
                yield batch if self.passes == 1 else {"X": batch["X"], "outcome": batch["y"]}

    with pytest.raises(ValueError, match=r"the same arrays.*got .*outcome.* after .*'y'"):
        fit(Renamed(90, X=X, y=Y), kernel=zoo.conjugate)


def test_batches_that_grow():
    class Growing(Batches):
        def __iter__(self):
            yield from super().__iter__()
            if self.passes > 1:
                yield {"X": X[:1], "y": Y[:1]}

    for call in (fit, fit(X, Y, kernel=zoo.conjugate).predict):
        with pytest.raises(ValueError, match="gave more rows than the 600 when they were counted"):
            call(Growing(90, X=X, y=Y), **({"kernel": zoo.conjugate} if call is fit else {}))


def test_one_outcome_for_all_rows():
    with pytest.raises(ValueError, match="y must have an entry for each row of X, got a single value"):
        fit(in_zarr(X), 1.0, kernel=zoo.conjugate)


def test_big_endian_rows_are_double_precision():
    """In memory, too, only float32 of the machine's own byte order stays in single precision."""
    swapped = X.astype(">f4")
    expected = fit(swapped, Y, kernel=zoo.conjugate)
    # Zarr 3.0 stores such numbers only in format 2.
    for given in (in_zarr(swapped, zarr_format=2), Batches(90, X=swapped)):
        found = fit(given, Y, kernel=zoo.conjugate)
        same(found.posterior_, expected.posterior_)
        np.testing.assert_allclose(found.predict(given), expected.predict(swapped), rtol=1e-9)


def test_a_disk_that_is_too_small(monkeypatch):
    usage = shutil.disk_usage(Path.cwd())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=N_ROWS * 16 + 100))
    fit(in_zarr(X), Y, kernel=zoo.conjugate)
    with pytest.raises(OSError, match=r"files of 14400 bytes, but 9700 bytes are free.*TMPDIR"):
        fit(in_zarr(X), in_zarr(Y), kernel=zoo.conjugate)


def test_a_disk_that_becomes_full(folder):
    """The operating system raises the error here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match=f"could not keep them in '{folder}': File too large.*TMPDIR") as caught:
            fit(in_zarr(X), in_zarr(Y), kernel=zoo.conjugate)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG


def test_files_have_no_names(folder, monkeypatch):
    """A process that is killed leaves no files behind."""
    write, seen = _spool._File.write, []
    monkeypatch.setattr(_spool._File, "write", lambda self, *args: (write(self, *args), seen.extend(folder.iterdir())))
    fit(in_zarr(X), in_zarr(Y), kernel=zoo.conjugate)
    assert seen == []
