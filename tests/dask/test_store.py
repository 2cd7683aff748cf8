"""Draws of Dask collections in a store that workers write: the files of the same call on arrays."""

import errno
import itertools
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import clusters
import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
import zoo
from lost_workers import DiesOnce, removing, slowly
from stores import assert_same_files, attributes, breaking, marks, snapshot

import skaimz
from skaimz import NumPyroImpactRegressor, open_draws
from skaimz.sampling import Drawing, Store, store_state

pytestmark = pytest.mark.usefixtures("in_this_thread")

# Tiles have 1024 rows here, and so have batches.
N_ROWS, BATCH, N_BATCHES = 9000, 1024, 9
CUT = 4
rng = np.random.default_rng(0)
X = rng.normal(size=(N_ROWS, 2))
Y = "predictions/y"
CHUNKS = (1, 3000, 0, 1999, 4000)


def rows_of(array):
    return da.from_array(array, chunks=(CHUNKS, 1) if array.ndim > 1 else 999)


def model_of(kernel, **shapes):
    generator = np.random.default_rng(1)
    draws = {name: 0.3 * np.abs(generator.normal(size=(12, *shape))) for name, shape in shapes.items()}
    return NumPyroImpactRegressor(kernel, random_state=0).set_posterior_sample(draws, num_chains=2)


def make_model():
    return model_of(zoo.conjugate, coef=(2,))


def stored(folder, X, model=None, **changes):
    given = {"in_sample": False, "batch_size": BATCH, **changes}
    return (model or make_model()).sample_posterior_predictive(X, output_dir=folder, **given)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The store of a call on arrays."""
    folder = tmp_path_factory.mktemp("whole") / "draws"
    stored(folder, X)
    return folder


def full_disk():
    """Fail after some batches, whichever come first."""
    number = itertools.count()
    error = OSError(errno.ENOSPC, "No space left on device")
    return breaking(Store, "_put_array", error, lambda _: next(number) >= CUT)


@pytest.fixture
def incomplete(tmp_path):
    """A store whose writers ran out of room."""
    folder = tmp_path / "draws"
    with full_disk(), pytest.raises(OSError, match=r"could not be written.*No space left.*goes on from it") as caught:
        stored(folder, rows_of(X))
    assert caught.value.errno == errno.ENOSPC
    assert len(marks(folder)) == CUT
    return folder


@pytest.fixture
def computed(monkeypatch):
    """Note the first row of every batch that is computed."""
    found = []
    into = Drawing.into

    def note(self, *args, **settings):
        found.append(self.job.part.first)
        into(self, *args, **settings)

    monkeypatch.setattr(Drawing, "into", note)
    return found


# The same files


def predictive(model, **arguments):
    return lambda rows, y, **settings: model.sample_posterior_predictive(rows, **arguments, **settings)


CALLS = {
    "sites without rows": lambda: predictive(model_of(zoo.many_shapes, coef=(2,)), in_sample=False),
    "second axis": lambda: predictive(model_of(zoo.sensors, slope=(3, 1)), in_sample=False),
    "latents of rows": lambda: predictive(model_of(zoo.grouped, level=(), spread=(), effect=(N_ROWS,))),
    "interventions by row": lambda: predictive(
        model_of(zoo.grouped, level=(), spread=()), intervention={"effect": X[:, 1]}, return_sites=["y"]
    ),
    "log likelihood": lambda: make_model().log_likelihood,
    "prior": lambda: (
        lambda rows, y, **settings: NumPyroImpactRegressor(zoo.poisson, random_state=0).sample_prior_predictive(
            rows, num_samples=12, exposure=np.linspace(0.5, 2.0, N_ROWS), **settings
        )
    ),
}


@pytest.mark.filterwarnings("ignore::skaimz.exceptions.PosteriorWarning")
@pytest.mark.parametrize("batch_size", [BATCH, None])
@pytest.mark.parametrize("case", CALLS)
def test_files_of_the_same_call(case, batch_size, tmp_path):
    call, y = CALLS[case](), X[:, 0]
    expected = call(X, y, output_dir=tmp_path / "whole", batch_size=batch_size)
    found = call(rows_of(X), rows_of(y), output_dir=tmp_path / "draws", batch_size=batch_size)
    assert_same_files(tmp_path / "draws", tmp_path / "whole")
    for group in expected.children:
        xr.testing.assert_identical(found[group].to_dataset(), expected[group].to_dataset())
    assert found.attrs["artifact_path"] == str(tmp_path / "draws")


@pytest.mark.parametrize("index", [np.arange(N_ROWS) * 2, [f"row {i}" for i in range(N_ROWS)]], ids=["numbers", "text"])
def test_labels_of_frames(index, tmp_path):
    frame = pd.DataFrame(X, columns=["a", "b"], index=pd.Index(index).sort_values())
    stored(tmp_path / "whole", frame)
    found = stored(tmp_path / "draws", dd.from_pandas(frame, npartitions=3))
    assert_same_files(tmp_path / "draws", tmp_path / "whole")
    assert list(found["predictions"].indexes["rows"]) == list(frame.index)


def test_compression_and_single_precision(tmp_path):
    single = X.astype(np.float32)
    for folder, rows in (("whole", single), ("draws", rows_of(single))):
        stored(tmp_path / folder, rows, compressors=zarr.codecs.ZstdCodec(level=1))
    assert_same_files(tmp_path / "draws", tmp_path / "whole")


def test_schedulers_of_one_machine(whole, tmp_path):
    with dask.config.set(scheduler="threads"):
        stored(tmp_path / "draws", rows_of(X))
    assert_same_files(tmp_path / "draws", whole)


def test_progress_counts_batches(incomplete, capsys):
    capsys.readouterr()
    stored(incomplete, rows_of(X), progress=True)
    shown = capsys.readouterr().err
    assert f"{CUT}/{N_BATCHES}" in shown
    assert f"{N_BATCHES}/{N_BATCHES}" in shown


def test_temporary_draws(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    model = make_model()
    with full_disk(), pytest.raises(OSError, match="No space left"):
        model.sample_posterior_predictive(rows_of(X), in_sample=False, store="zarr", batch_size=BATCH)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    tree = model.sample_posterior_predictive(rows_of(X), in_sample=False, store="zarr")
    assert Path(tree.attrs["artifact_path"]).is_relative_to(model.temp_dir_)
    model.cleanup()
    assert list(tmp_path.iterdir()) == []


def test_a_batch_may_be_written_by_two_at_once(whole, tmp_path, monkeypatch):
    """Dask gives a task to another worker where it takes one for lost; it need not be."""
    put = Store.put

    def twice(self, *args):
        writers = (self, pickle.loads(pickle.dumps(self)))
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda writer: put(writer, *args), writers))

    monkeypatch.setattr(Store, "put", twice)
    stored(tmp_path / "draws", rows_of(X))
    assert_same_files(tmp_path / "draws", whole)


# Calls that are cut off


def files_of(folder, batches):
    """Return what tells a batch's file from another that has taken its place."""
    return {number: os.stat(folder / Y / f"c/0/0/{number}").st_ino for number in batches}


@pytest.mark.parametrize("then", [rows_of, lambda X: X], ids=["by workers", "by one process"])
def test_a_call_that_is_cut_off_goes_on(then, incomplete, whole, monkeypatch):
    written = marks(incomplete)
    before = files_of(incomplete, written)
    put, order = Store.put, []
    monkeypatch.setattr(Store, "put", lambda self, batch, *args: order.append(batch.number) or put(self, batch, *args))
    stored(incomplete, then(X))
    # One that is there is compared, and then the others are written.
    assert order[0] == written[-1]
    assert sorted(order[1:]) == [number for number in range(N_BATCHES) if number not in written]
    assert files_of(incomplete, written) == before
    assert_same_files(incomplete, whole)


def test_workers_go_on_with_what_one_process_began(whole, tmp_path):
    folder = tmp_path / "draws"
    with full_disk(), pytest.raises(OSError, match="No space left"):
        stored(folder, X)
    stored(folder, rows_of(X))
    assert_same_files(folder, whole)


def test_a_complete_store_is_returned(whole, computed):
    before = snapshot(whole)
    tree = stored(whole, rows_of(X))
    assert computed == [(N_BATCHES - 1) * BATCH]
    assert snapshot(whole) == before
    xr.testing.assert_identical(tree, open_draws(whole))


OTHERS = {
    "posterior": {"model": model_of(zoo.conjugate, coef=(2,)).set_posterior_sample({"coef": np.ones((12, 2))}, 2)},
    "seed": {"random_state": 4},
    "batch size": {"batch_size": 2 * BATCH},
    "some rows": {"X": np.where(np.arange(N_ROWS)[:, None] % BATCH == 10, 1.0, X)},
    "number of the kernel": {"model": model_of(zoo.Shrinkage(noise=5.0), coef=(2,))},
    "kernel": {"model": model_of(zoo.cauchy, coef=(2,))},
}


@pytest.mark.parametrize("state", ["incomplete", "complete"])
@pytest.mark.parametrize("other", OTHERS)
def test_another_call_leaves_the_store_alone(other, state, incomplete):
    if state == "complete":
        stored(incomplete, X)
    before = snapshot(incomplete)
    given = {"X": X, **OTHERS[other]}
    with pytest.raises(FileExistsError, match=f"'{incomplete}' holds the output of another call"):
        stored(incomplete, rows_of(given.pop("X")), **given)
    assert snapshot(incomplete) == before


def by_row(**changes):
    """Return a call with draws for each row, or values that sites are set to by row."""
    effect = np.random.default_rng(5).normal(size=(12, N_ROWS))
    level = {"level": np.zeros(12), "spread": np.ones(12)}
    model = NumPyroImpactRegressor(zoo.grouped, random_state=0)
    if "effect" in changes:
        model.set_posterior_sample({**level, "effect": effect + changes["effect"]})
        return lambda folder, X: stored(folder, X, model, in_sample=True)
    model.set_posterior_sample(level)
    given = {name: {"effect": effect[0] + value} for name, value in changes.items()}
    return lambda folder, X: stored(folder, X, model, return_sites=["y"], **given)


@pytest.mark.filterwarnings("ignore::skaimz.exceptions.PosteriorWarning")
@pytest.mark.parametrize("first", [X, rows_of(X)], ids=["one process", "workers"])
@pytest.mark.parametrize("what", ["effect", "intervention", "condition"])
def test_other_values_by_row_are_another_call(what, first, tmp_path):
    """They are no arguments of the kernel, but draws follow from them."""
    one = np.where(np.arange(N_ROWS) % BATCH == 10, 1.0, 0.0)
    with full_disk(), pytest.raises(OSError, match="No space left"):
        by_row(**{what: 0.0})(tmp_path / "draws", first)
    for rows in (X, rows_of(X)):
        with pytest.raises(FileExistsError, match="holds the output of another call"):
            by_row(**{what: one})(tmp_path / "draws", rows)
    by_row(**{what: 0.0})(tmp_path / "draws", rows_of(X))
    assert store_state(tmp_path / "draws") == "complete"


# Places and arguments that cannot be used


def test_foreign_files_are_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds files that are no draws"):
        stored(tmp_path, rows_of(X))
    assert snapshot(tmp_path) == {"notes.txt": b"mine"}


def test_workers_that_do_not_see_the_folder(tmp_path):
    rows = da.from_array(X, chunks=(CHUNKS[1:2] * 3, 2)).map_blocks(
        removing, folder=tmp_path / "draws", dtype=X.dtype, meta=np.empty((0, 0))
    )
    with pytest.raises(FileNotFoundError, match="must be on a file system that all workers and this process share"):
        stored(tmp_path / "draws", rows, batch_size=N_ROWS)


def test_refusals(tmp_path):
    rows = rows_of(X)
    with pytest.raises(ValueError, match=r"`store` must be 'auto', 'zarr' or 'memory', got 'disk'"):
        make_model().sample_posterior_predictive(rows, store="disk")
    with pytest.raises(ValueError, match=r"`output_dir` needs a store on disk"):
        stored(tmp_path / "draws", rows, store="memory")
    with pytest.raises(ValueError, match=r"`compressors` must be one or more codecs of Zarr 3"):
        stored(tmp_path / "draws", rows, compressors=object())
    message = r"block by block, but the kernel's rows may depend on one another"
    for given in ({"output_dir": tmp_path / "draws"}, {}):
        with pytest.raises(ValueError, match=message):
            model_of(zoo.centred_deterministic, coef=(2,)).sample_posterior_predictive(rows, in_sample=False, **given)
        with pytest.raises(ValueError, match=message):
            NumPyroImpactRegressor(zoo.centring, random_state=0).sample_prior_predictive(rows, **given)
    assert list(tmp_path.iterdir()) == []


def test_memory_is_lazy():
    tree = make_model().sample_posterior_predictive(rows_of(X), in_sample=False, store="memory")
    assert dask.is_dask_collection(tree[Y].data)


# Processes of a cluster, and those that are lost


@pytest.fixture(scope="module")
def client():
    with clusters.processes(2) as client:
        yield client


def check_that_a_lost_worker_changes_nothing(client, whole, folder):
    workers = set(client.scheduler_info()["workers"])
    file, died = folder / "draws" / Y / "c/0/0/5", folder / "died"
    client.register_plugin(DiesOnce(file, died), name="dies")
    with dask.config.set(scheduler=None):
        stored(folder / "draws", rows_of(X))
    client.unregister_worker_plugin("dies")
    assert died.exists()
    assert set(client.scheduler_info()["workers"]) != workers
    assert_same_files(folder / "draws", whole)


@pytest.mark.slow
def test_a_worker_is_killed_while_it_writes(client, whole, tmp_path):
    check_that_a_lost_worker_changes_nothing(client, whole, tmp_path)
    # What a worker refuses, the call refuses.
    with dask.config.set(scheduler=None), pytest.raises(FileExistsError, match="holds the output of another call"):
        stored(tmp_path / "draws", rows_of(X), model_of(zoo.Shrinkage(noise=5.0), coef=(2,)))


@pytest.mark.slow
def test_one_of_four_workers_is_killed_while_it_writes(whole, tmp_path):
    with clusters.processes(4) as client:
        check_that_a_lost_worker_changes_nothing(client, whole, tmp_path)


def slow_rows():
    rows = da.from_array(X, chunks=(BATCH, 2))
    return rows.map_blocks(slowly, dtype=X.dtype, meta=np.empty((0, 0)))


@pytest.mark.slow
def test_the_client_is_killed(client, whole, tmp_path):
    folder = tmp_path / "draws"
    places = [str(Path(zoo.__file__).parent), str(Path(skaimz.__file__).parents[1])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(places)}
    lost = subprocess.Popen([sys.executable, __file__, client.scheduler.address, str(folder)], env=environment)
    try:
        while not folder.exists() or len(marks(folder)) < 2:
            assert lost.poll() is None
            time.sleep(0.01)
        lost.kill()
        assert lost.wait(60) == -signal.SIGKILL
    finally:
        lost.kill()
    written = marks(folder)
    assert attributes(folder)["state"] == "incomplete"
    assert len(written) < N_BATCHES
    before = files_of(folder, written)
    with dask.config.set(scheduler=None):
        stored(folder, slow_rows())
    assert files_of(folder, written) == before
    assert_same_files(folder, whole)


if __name__ == "__main__":
    from distributed import Client

    with Client(sys.argv[1]):
        stored(Path(sys.argv[2]), slow_rows())
