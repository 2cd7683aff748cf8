"""Draws on disk: what a store holds, and what becomes of a call that is cut off."""

import atexit
import contextlib
import dataclasses
import errno
import gc
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import types
import warnings
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import numcodecs
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
import xarray as xr
import zarr
import zoo
from stores import assert_same_files, breaking, marks, snapshot

import skaimz
from skaimz import NumPyroImpactRegressor, open_draws
from skaimz.exceptions import CleanupWarning, IncompleteDrawsError, RatioWarning
from skaimz.sampling import Drawing, Folder, Limits, Store, ZarrSink, limits, plan, programs, store_state

TILE = 8
N_ROWS, N_BATCHES = 196, 25
SIZE = 12 * N_ROWS * 8  # bytes of all draws
CUT = 10  # the batch at which calls are cut off
rng = np.random.default_rng(0)
X = rng.normal(size=(N_ROWS, 2))
MANY = rng.normal(size=(960, 2))  # rows of a call that is slow enough to be killed
EXPOSURE = rng.uniform(1, 2, size=N_ROWS)
DRAWS = {"coef": rng.normal(scale=0.3, size=(12, 2))}
Y = "posterior_predictive/y"

# How often a process is killed: once at each named moment, and then at random.
KILLS = int(os.environ.get("SKAIMZ_KILLS", "3"))
MOMENTS = ["creation", "first batch", "middle", *(f"random {i}" for i in range(3, KILLS))][:KILLS]


def make_model(kernel=zoo.conjugate, draws=DRAWS):
    return NumPyroImpactRegressor(kernel, random_state=3).set_posterior_sample(draws, num_chains=2)


def stored(folder, X=X, model=None, **changes):
    return (model or make_model()).sample_posterior_predictive(X, output_dir=folder, **{"batch_size": TILE, **changes})


class Batches:
    """Rows that come in parts."""

    def __iter__(self):
        return iter([{"X": X[:50]}, {"X": X[50:51]}, {"X": X[51:]}])


def louder(X, y=None):
    """The sites of the conjugate kernel, with more noise."""
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ coef, 5.0), obs=y)


def turned(X, y=None):
    """Rows are the second axis of the output."""
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0], dim=-1), numpyro.plate("sensors", 3, dim=-2):
        numpyro.sample("y", dist.Normal((X @ coef)[None, :], 0.5), obs=None if y is None else y.T)


def written(folder):
    """Return the number of batches that a store has."""
    if store_state(folder) == "complete":
        return len(list((folder / Y / "c/0/0").iterdir()))
    return len(marks(folder))


def after_cut(number):
    return number >= CUT


def full_disk():
    return breaking(Store, "_put_array", OSError(errno.ENOSPC, "No space left on device"), after_cut)


@pytest.fixture(scope="module", autouse=True)
def _small_tiles():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "DEFAULT", Limits(most_tile_rows=TILE))
        yield


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """The store of a call that nothing disturbed."""
    folder = tmp_path_factory.mktemp("complete") / "draws"
    stored(folder)
    return folder


@pytest.fixture(scope="module")
def incomplete(tmp_path_factory):
    """The same, cut off."""
    folder = tmp_path_factory.mktemp("incomplete") / "draws"
    with full_disk(), pytest.raises(OSError, match="No space left"):
        stored(folder)
    return folder


@pytest.fixture
def computed(monkeypatch):
    """Note the batch of every step that is computed."""
    numbers = []
    launch = programs.Launcher.__call__

    def note(self, step):
        numbers.append(step.rows.start // TILE)
        return launch(self, step)

    monkeypatch.setattr(programs.Launcher, "__call__", note)
    return numbers


@pytest.fixture
def late_end(monkeypatch):
    """Give the writer time to take up what is queued, before a call that has failed cancels it."""
    abandon = ZarrSink.abandon

    def late(self):
        time.sleep(0.05)
        abandon(self)

    monkeypatch.setattr(ZarrSink, "abandon", late)


# What a store holds


def test_a_stored_tree_is_lazy_and_that_of_memory(tmp_path):
    tree = stored(tmp_path / "draws")
    variables = [variable.variable for group in tree.subtree for variable in group.data_vars.values()]
    assert len(variables) == 2
    assert not any(variable._in_memory for variable in variables)
    assert set(tree.children) == {"posterior", "posterior_predictive"}
    found = tree["posterior_predictive"].to_dataset()
    assert found["y"].dims == ("chain", "draw", "rows")
    assert found["y"].shape == (2, 6, N_ROWS)
    np.testing.assert_array_equal(found["chain"], [0, 1])
    np.testing.assert_array_equal(found["draw"], np.arange(6))
    np.testing.assert_array_equal(found["rows"], np.arange(N_ROWS))
    np.testing.assert_array_equal(tree["posterior/coef"], DRAWS["coef"].reshape(2, 6, 2))
    in_memory = make_model().sample_posterior_predictive(X, store="memory")
    for group in tree.children:
        xr.testing.assert_identical(tree[group].to_dataset(), in_memory[group].to_dataset())


def test_draws_are_opened_again(tmp_path):
    tree = stored(tmp_path / "draws")
    again = open_draws(tmp_path / "draws")
    assert not again[Y].variable._in_memory
    xr.testing.assert_identical(again, tree)
    xr.testing.assert_identical(open_draws(str(tmp_path / "draws")), tree)
    xr.testing.assert_identical(open_draws(tree.attrs["artifact_path"]), tree)


def test_attributes(complete):
    found = open_draws(complete).attrs
    expected = {
        "seed": 3,
        "batch_size": TILE,
        "shard_axis": "obs",
        "state": "complete",
        "artifact_path": str(complete),
        "creation_library": "skaimz",
        "creation_library_version": version("skaimz"),
    }
    assert found | expected == found
    age = datetime.now(UTC) - datetime.fromisoformat(found["created_at"])
    assert timedelta(0) <= age < timedelta(minutes=10)


def test_the_format_is_zarr_3_without_compression(complete):
    kinds = {json.loads(path.read_text())["zarr_format"] for path in complete.rglob("zarr.json")}
    assert kinds == {3}
    metadata = json.loads((complete / Y / "zarr.json").read_text())
    assert [codec["name"] for codec in metadata["codecs"]] == ["bytes"]
    assert metadata["dimension_names"] == ["chain", "draw", "rows"]
    assert metadata["chunk_grid"]["configuration"]["chunk_shape"] == [2, 6, TILE]
    sizes = {path.stat().st_size for path in (complete / Y / "c").rglob("*") if path.is_file()}
    assert sizes == {2 * 6 * TILE * 8}


CODECS = {
    "zstd": (zarr.codecs.ZstdCodec(level=1), ["zstd"]),
    "blosc": (zarr.codecs.BloscCodec(cname="lz4"), ["blosc"]),
    "two": ([zarr.codecs.GzipCodec(level=1), zarr.codecs.Crc32cCodec()], ["gzip", "crc32c"]),
}


@pytest.mark.parametrize(("codecs", "names"), CODECS.values(), ids=CODECS)
def test_any_codec_may_compress(codecs, names, complete, tmp_path):
    tree = stored(tmp_path / "draws", compressors=codecs)
    metadata = json.loads((tmp_path / "draws" / Y / "zarr.json").read_text())
    assert [codec["name"] for codec in metadata["codecs"]] == ["bytes", *names]
    xr.testing.assert_identical(tree[Y], open_draws(complete)[Y])


def posterior_predictive(kernel=zoo.conjugate, X=X, **arguments):
    return lambda **settings: make_model(kernel).sample_posterior_predictive(X, **arguments, **settings)


CALLS = {
    "rows of a Zarr array": posterior_predictive(X=zarr.array(X, chunks=(30, 2))),
    "rows in parts": posterior_predictive(X=Batches()),
    "rows on the second axis": posterior_predictive(turned),
    "sites without rows": posterior_predictive(return_sites=["coef", "y"]),
    "drawn on the host": posterior_predictive(zoo.poisson, exposure=EXPOSURE),
    "an effect for each row": posterior_predictive(zoo.random_effects, in_sample=False, return_sites=["effect", "y"]),
    "log likelihood": lambda **settings: make_model().log_likelihood(X, X[:, 0], **settings),
    "prior": lambda **settings: make_model().sample_prior_predictive(X, num_samples=12, **settings),
}


def check_that_it_resumes(call, cut, tmp_path):
    in_memory = call()
    tree = call(output_dir=tmp_path / "whole", batch_size=TILE)
    for group in tree.children:
        xr.testing.assert_identical(tree[group].to_dataset(), in_memory[group].to_dataset())
    full = OSError(errno.ENOSPC, "No space left on device")
    with (
        breaking(Store, "_put_array", full, lambda number: number >= cut),
        pytest.raises(OSError, match="No space left"),
    ):
        call(output_dir=tmp_path / "draws", batch_size=TILE)
    assert written(tmp_path / "draws") == cut
    call(output_dir=tmp_path / "draws", batch_size=TILE)
    assert_same_files(tmp_path / "draws", tmp_path / "whole")


@pytest.mark.filterwarnings("ignore::skaimz.exceptions.PosteriorWarning")
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_every_quantity_is_stored_and_resumed(call, tmp_path):
    check_that_it_resumes(call, CUT, tmp_path)


@pytest.mark.filterwarnings("ignore::skaimz.exceptions.SpeedWarning")
def test_rows_that_mix_are_stored_and_resumed(tmp_path, monkeypatch):
    """Draws come in parts where rows must stay together: two at a time, three times for each chain."""

    def by_two(*args, **settings):
        return dataclasses.replace(plan.make_plan(*args, **settings), step_draws=2, draws_at_once=2)

    monkeypatch.setattr("skaimz.sampling.drawing.make_plan", by_two)
    for cut in (1, 4):
        (tmp_path / str(cut)).mkdir()
        check_that_it_resumes(posterior_predictive(zoo.centring), cut, tmp_path / str(cut))
    metadata = json.loads((tmp_path / "4" / "draws" / Y / "zarr.json").read_text())
    assert metadata["chunk_grid"]["configuration"]["chunk_shape"] == [1, 2, N_ROWS]
    assert len(list((tmp_path / "4" / "draws" / Y / "c").glob("*/*/*"))) == 6


def test_chunks_of_zeros_are_files_too(tmp_path):
    """A file that is not there is a batch that was not written."""
    exposure = np.full(N_ROWS, 1e-30)
    tree = posterior_predictive(zoo.poisson, exposure=exposure)(output_dir=tmp_path / "draws", batch_size=TILE)
    assert not tree[Y].any()
    assert len(list((tmp_path / "draws" / Y / "c/0/0").iterdir())) == N_BATCHES


LABELS = {
    "strings": [f"row {i}" for i in range(N_ROWS)],
    "dates": pd.date_range("2020-02-28", periods=N_ROWS, freq="h"),
    "durations": pd.timedelta_range("1s", periods=N_ROWS),
    "numbers": np.linspace(0, 1, N_ROWS),
    "repeated": [7] * N_ROWS,
}


@pytest.mark.parametrize("index", LABELS.values(), ids=LABELS)
def test_rows_are_labelled_by_a_frames_index(index, complete, tmp_path):
    frame = pd.DataFrame(X, index=index)
    tree = stored(tmp_path / "draws", frame)
    in_memory = make_model().sample_posterior_predictive(frame)["posterior_predictive"].to_dataset()
    xr.testing.assert_identical(tree["posterior_predictive"].to_dataset(), in_memory)
    assert list(in_memory.indexes["rows"]) == list(frame.index)
    np.testing.assert_array_equal(tree[Y], open_draws(complete)[Y])


@pytest.mark.parametrize("name", ["id", "y"])
def test_an_index_may_have_a_name(name, tmp_path):
    frame = pd.DataFrame(X, index=pd.Index([f"row {i}" for i in range(N_ROWS)], name=name))
    for tree in (make_model().sample_posterior_predictive(frame), stored(tmp_path / "draws", frame)):
        found = tree["posterior_predictive"].to_dataset()
        assert list(found.indexes["rows"]) == list(frame.index)
        assert set(found.data_vars) == {"y"}
        assert set(found.dims) == {"chain", "draw", "rows"}


LEVELS = pd.DataFrame(X, index=pd.MultiIndex.from_product([range(98), ["a", "b"]], names=["pair", "side"]))


def test_an_index_of_several_levels_is_kept_in_memory():
    tree = make_model().sample_posterior_predictive(LEVELS, store="memory")
    assert list(tree["posterior_predictive"].indexes["rows"]) == list(LEVELS.index)


def test_an_index_of_several_levels_is_stored_level_by_level(tmp_path):
    tree = stored(tmp_path / "draws", LEVELS)
    found = tree["posterior_predictive"].to_dataset()
    assert list(zip(found["pair"].to_numpy(), found["side"].to_numpy(), strict=True)) == list(LEVELS.index)
    in_memory = make_model().sample_posterior_predictive(LEVELS, store="memory")
    np.testing.assert_array_equal(found["y"], in_memory[Y])
    # The same call goes on, and one with other labels is another call.
    stored(tmp_path / "draws", LEVELS)
    with pytest.raises(FileExistsError):
        stored(tmp_path / "draws", LEVELS[::-1].set_axis(LEVELS.index[::-1]).set_axis(LEVELS.index.swaplevel()))


FOREIGN_LABELS = {
    "periods": pd.period_range("2020", periods=N_ROWS),
    "categories": pd.CategoricalIndex(["a", "b"] * 98),
    "time zone": pd.date_range("2020", periods=N_ROWS, tz="UTC"),
    "mixed": pd.Index(["a", 1] * 98, dtype=object),
    "missing": pd.Index([None, np.nan, *(f"row {i}" for i in range(2, N_ROWS))], dtype=object),
}


@pytest.mark.parametrize("index", FOREIGN_LABELS.values(), ids=FOREIGN_LABELS)
def test_labels_that_zarr_cannot_hold_are_stored_as_strings(index, complete, tmp_path):
    frame = pd.DataFrame(X, index=index)
    tree = stored(tmp_path / "draws", frame)
    assert list(tree["posterior_predictive"].indexes["rows"]) == [str(label) for label in index]
    np.testing.assert_array_equal(tree[Y], open_draws(complete)[Y])
    in_memory = make_model().sample_posterior_predictive(frame)
    pd.testing.assert_index_equal(
        in_memory["posterior_predictive"].indexes["rows"], frame.index, check_names=False, exact=False
    )


@pytest.mark.parametrize(("kind", "place"), [(str, "empty"), (Path, "not/yet"), (os.path.relpath, "new")])
def test_a_folder_may_be_empty_or_new(kind, place, complete, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    folder = tmp_path / place
    tree = stored(kind(folder))
    assert tree.attrs["artifact_path"] == str(folder)
    assert_same_files(folder, complete)


def test_progress_counts_batches(tmp_path, capsys):
    with full_disk(), pytest.raises(OSError, match="No space left"):
        stored(tmp_path / "draws", progress=True)
    capsys.readouterr()
    stored(tmp_path / "draws", progress=True)
    shown = capsys.readouterr().err
    assert f"{CUT - 1}/{N_BATCHES}" in shown
    assert f"{N_BATCHES}/{N_BATCHES}" in shown
    stored(tmp_path / "draws")
    assert capsys.readouterr().err == ""


# Calls that are cut off


WAYS = {
    "no room": (Store, "_put_array", OSError(errno.ENOSPC, "No space left on device")),
    "no result": (Drawing, "_finish", RuntimeError("the device is gone")),
    "no memory": (ZarrSink, "open", MemoryError("no memory")),
    "interrupted": (ZarrSink, "close", KeyboardInterrupt()),
}


@pytest.mark.parametrize(("owner", "method", "error"), WAYS.values(), ids=WAYS)
def test_a_call_that_is_cut_off_goes_on(owner, method, error, complete, tmp_path, computed):
    folder = tmp_path / "draws"
    with breaking(owner, method, error, after_cut), pytest.raises(type(error)):
        stored(folder)
    assert store_state(folder) == "incomplete"
    with pytest.raises(IncompleteDrawsError, match=f"draws in '{folder}' are incomplete.*output_dir"):
        open_draws(folder)
    before = written(folder)
    assert CUT - 4 <= before <= CUT
    computed.clear()
    tree = stored(folder)
    # The last batch that was written tells whether this is the same call.
    assert computed == list(range(before - 1, N_BATCHES))
    assert tree.attrs["state"] == "complete"
    assert_same_files(folder, complete)


@pytest.mark.parametrize("number", [0, 1, N_BATCHES - 1])
def test_the_first_and_the_last_batch_may_fail(number, complete, tmp_path):
    folder = tmp_path / "draws"
    error = OSError(errno.ENOSPC, "No space left on device")
    with breaking(Store, "_put_array", error, lambda n: n >= number), pytest.raises(OSError, match="No space left"):
        stored(folder)
    assert written(folder) == number
    stored(folder)
    assert_same_files(folder, complete)


def test_a_write_that_fails_says_where_and_how_much(tmp_path):
    folder = tmp_path / "draws"
    with full_disk(), pytest.raises(OSError, match="No space left on device") as caught:
        stored(folder)
    assert type(caught.value) is OSError
    assert caught.value.errno == errno.ENOSPC
    message = str(caught.value)
    assert str(folder) in message
    assert f"{SIZE} bytes" in message
    assert "incomplete" in message
    assert not any(thread.name.startswith("skaimz") for thread in threading.enumerate())


@pytest.mark.usefixtures("late_end")
def test_one_write_that_fails_leaves_no_gap(complete, tmp_path):
    """The batch after it must not count as written."""
    folder = tmp_path / "draws"
    error = OSError(errno.EIO, "Input/output error")
    with breaking(Store, "_place", error, lambda n: n == CUT), pytest.raises(OSError, match="Input/output error"):
        stored(folder)
    assert written(folder) == CUT
    stored(folder)
    assert_same_files(folder, complete)


@contextlib.contextmanager
def unwritable(is_path):
    """Let small files that are no draws not be written."""
    write = Folder.write

    def fail(self, key, content, **settings):
        if is_path(self.path / key):
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, key, content, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Folder, "write", fail)
        yield


def test_a_batch_counts_only_when_it_is_marked(complete, tmp_path):
    folder = tmp_path / "draws"
    with (
        unwritable(lambda path: path == folder / ".batches" / str(CUT)),
        pytest.raises(OSError, match=f"{SIZE} bytes could not be written"),
    ):
        stored(folder)
    assert written(folder) == CUT
    assert (folder / Y / f"c/0/0/{CUT}").exists()
    # A machine that lost its power may have written half of it.
    (folder / Y / f"c/0/0/{CUT}").write_bytes(b"half")
    stored(folder)
    assert_same_files(folder, complete)


def test_the_end_may_fail_to_be_recorded(complete, tmp_path):
    folder = tmp_path / "draws"
    with (
        unwritable(lambda path: path == folder / "zarr.json"),
        pytest.raises(OSError, match=f"{SIZE} bytes could not be written"),
    ):
        stored(folder)
    assert store_state(folder) == "incomplete"
    stored(folder)
    assert_same_files(folder, complete)


def test_batches_may_be_written_in_any_order(complete, tmp_path, computed):
    """Several writers leave gaps: what is there is compared before anything is written, and is not written again."""
    folder = tmp_path / "draws"
    with unwritable(lambda path: path == folder / "zarr.json"), pytest.raises(OSError, match="No space left"):
        stored(folder)
    lost = (0, 7, 8, 20)
    for number in lost:
        (folder / ".batches" / str(number)).unlink()
    before = {path: path.stat().st_ino for path in (folder / Y / "c/0/0").iterdir()}
    computed.clear()
    stored(folder, Batches())
    assert computed == [N_BATCHES - 1, *lost]
    changed = [int(path.name) for path, inode in before.items() if path.stat().st_ino != inode]
    assert sorted(changed) == list(lost)
    assert_same_files(folder, complete)


def test_rows_that_cannot_be_read_are_no_fault_of_the_store(complete, tmp_path):
    class Gone:
        def __init__(self, is_gone):
            self.is_gone, self.passes = is_gone, 0

        def __iter__(self):
            self.passes += 1
            for start in range(0, N_ROWS, 4):
                # The first pass only counts.
                if self.is_gone and self.passes > 1 and start == CUT * TILE:
                    raise ConnectionError("the server is gone")
                yield {"X": X[start : start + 4]}

    folder = tmp_path / "draws"
    with pytest.raises(ConnectionError, match=r"^the server is gone$"):
        stored(folder, Gone(True))
    assert store_state(folder) == "incomplete"
    stored(folder, Gone(False))
    assert_same_files(folder, complete)


@pytest.mark.usefixtures("_interruptible")
def test_a_signal_ends_the_call_soon(complete, tmp_path, monkeypatch):
    folder, put = tmp_path / "draws", Store.put
    sent = []

    def interrupt():
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    def slowly(self, batch, *args):
        if batch.number == 3:
            threading.Timer(0.2, interrupt).start()
        time.sleep(0.1)
        put(self, batch, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "put", slowly)
        with pytest.raises(KeyboardInterrupt):
            stored(folder)
    assert time.perf_counter() - sent[0] < 1.5
    assert 3 <= written(folder) < 10
    stored(folder)
    assert_same_files(folder, complete)


def test_a_limit_on_file_sizes(complete, tmp_path):
    """A real error of the operating system, of one large chunk."""
    settings = {"batch_size": N_ROWS}
    stored(tmp_path / "whole", **settings)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE // 2, hard))
    try:
        with pytest.raises(OSError, match=f"{SIZE} bytes could not be written.*File too large") as caught:
            stored(tmp_path / "draws", **settings)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    assert store_state(tmp_path / "draws") == "incomplete"
    stored(tmp_path / "draws", **settings)
    assert_same_files(tmp_path / "draws", tmp_path / "whole")


def test_half_written_files_of_a_killed_call_are_removed(complete, incomplete, tmp_path):
    """Zarr writes a chunk beside its place; a process that is killed there leaves that file."""
    folder = shutil.copytree(incomplete, tmp_path / "draws")
    (folder / Y / f"c/0/0/{CUT}.0123456789abcdef0123456789abcdef.partial").write_bytes(b"half")
    stored(folder)
    assert_same_files(folder, complete)


# Two calls at the same time


@contextlib.contextmanager
def in_the_middle_of(method, other):
    """Make another call when a method of a store is first called."""
    original, waiting = getattr(Store, method), [other]

    def interrupted(*args):
        if waiting:
            waiting.pop()()
        return original(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, method, interrupted)
        yield


@pytest.mark.parametrize("moment", ["_create_array", "put", "_put_array"])
def test_the_same_call_may_be_made_twice_at_once(moment, complete, tmp_path):
    """One ends while the other makes the store, or is about to write a batch, or writes it."""
    folder = tmp_path / "draws"
    with in_the_middle_of(moment, lambda: stored(folder)):
        stored(folder)
    assert_same_files(folder, complete)
    assert list(tmp_path.iterdir()) == [folder]


def test_another_call_at_the_same_time_is_refused(complete, tmp_path):
    """It is one of other rows, which has begun when nothing was written yet."""
    folder = tmp_path / "draws"
    with (
        in_the_middle_of("put", lambda: stored(folder)),
        pytest.raises(FileExistsError, match="holds the output of another call"),
    ):
        stored(folder, X + 1.0)
    assert_same_files(folder, complete)


# Places that cannot be used


@pytest.fixture
def little_room(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=SIZE - 1))


@pytest.mark.usefixtures("little_room")
def test_too_little_room_is_found_before_anything_is_made(tmp_path):
    folder = tmp_path / "not" / "yet"
    message = f"Draws of {SIZE} bytes could not be written to '{folder}': .*only {SIZE - 1} bytes are free"
    with pytest.raises(OSError, match=message) as caught:
        stored(folder)
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("little_room")
def test_room_is_not_known_before_compression(tmp_path):
    assert stored(tmp_path / "draws", compressors=zarr.codecs.ZstdCodec()).attrs["state"] == "complete"


def test_a_failed_creation_leaves_nothing(complete, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "_create_array", fail)
        with pytest.raises(OSError, match=f"{SIZE} bytes could not be written to .*broken"):
            stored(tmp_path / "draws")
    assert list(tmp_path.iterdir()) == []
    stored(tmp_path / "draws")
    assert_same_files(tmp_path / "draws", complete)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(PermissionError, match=f"{SIZE} bytes could not be written to .*locked/draws"):
        stored(tmp_path / "locked" / "draws")
    assert list((tmp_path / "locked").iterdir()) == []


@pytest.mark.parametrize("place", ["file", "file/draws", "file/not/yet"])
def test_a_file_in_the_way(place, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match=re.escape(str(tmp_path / place))):
        stored(tmp_path / place)
    assert snapshot(tmp_path) == {"file": b"mine"}


def test_a_link_to_an_empty_folder(complete, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    stored(tmp_path / "link")
    assert_same_files(tmp_path / "link", complete)


FOREIGN = {
    "a text": lambda folder: (folder / "notes.txt").write_text("mine"),
    "a folder": lambda folder: (folder / "notes").mkdir(),
    "a Zarr group": lambda folder: zarr.open_group(folder, mode="w"),
    "a Zarr array": lambda folder: zarr.create_array(folder, shape=(3,), dtype="f8"),
    "bytes": lambda folder: (folder / "zarr.json").write_bytes(b"\xff\xfe"),
    "a state": lambda folder: zarr.open_group(folder, mode="w", attributes={"state": "complete"}),
    "a list": lambda folder: (folder / "zarr.json").write_text("[]"),
    "no attributes": lambda folder: (folder / "zarr.json").write_text('{"attributes": null}'),
}


@pytest.mark.parametrize("fill", FOREIGN.values(), ids=FOREIGN)
def test_foreign_files_are_left_alone(fill, tmp_path):
    folder = tmp_path / "draws"
    folder.mkdir()
    fill(folder)
    before = snapshot(tmp_path)
    with pytest.raises(FileExistsError, match=f"'{folder}' holds .*choose a new folder"):
        stored(folder)
    assert snapshot(tmp_path) == before


def test_there_may_be_nothing_to_open(tmp_path):
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(FileNotFoundError, match=f"'{folder}' holds no draws"):
            open_draws(folder)


OTHER_CALLS = {
    "seed": {"random_state": 4},
    "batch size": {"batch_size": 2 * TILE},
    "sites": {"return_sites": ["coef", "y"]},
    "intervention": {"intervention": {"coef": np.zeros(2)}},
    "condition": {"condition": {"coef": np.zeros(2)}},
    "posterior": {"model": make_model(draws={"coef": DRAWS["coef"] + 1e-9})},
    "chains": {"model": NumPyroImpactRegressor(zoo.conjugate, random_state=3).set_posterior_sample(DRAWS)},
    "precision": {"X": X.astype(np.float32)},
    "fewer rows": {"X": X[:-1]},
    "rows": {"X": X + 1},
    "one row": {"X": np.concatenate([X[:1] + 1, X[1:]])},
    "kernel": {"model": make_model(louder)},
    "out of sample": {"in_sample": False},
    "labels": {"X": pd.DataFrame(X, index=[f"row {i}" for i in range(N_ROWS)])},
}
# Rows and the kernel are no part of the fingerprint: they are found out by what they draw.
FOUND_LATE = ("rows", "one row", "kernel")
OTHERS = [(name, "incomplete") for name in OTHER_CALLS] + [(name, "complete") for name in ("seed", *FOUND_LATE)]


@pytest.mark.usefixtures("late_end")
@pytest.mark.parametrize(("name", "state"), OTHERS)
def test_another_call_leaves_the_store_alone(name, state, request, tmp_path):
    folder = shutil.copytree(request.getfixturevalue(state), tmp_path / "draws")
    before = snapshot(tmp_path)
    with pytest.raises(FileExistsError, match=f"'{folder}' holds the output of another call: choose a new folder"):
        stored(folder, **OTHER_CALLS[name])
    assert snapshot(tmp_path) == before


def test_another_quantity_leaves_the_store_alone(tmp_path):
    folder = tmp_path / "draws"
    make_model().log_likelihood(X, X[:, 0], output_dir=folder, batch_size=TILE)
    before = snapshot(folder)
    with pytest.raises(FileExistsError, match="holds the output of another call"):
        stored(folder)
    assert snapshot(folder) == before


def test_the_same_call_on_its_own_store_returns_it(complete, tmp_path, computed):
    folder = shutil.copytree(complete, tmp_path / "draws")
    before = snapshot(folder)
    tree = stored(folder)
    assert computed == [N_BATCHES - 1]
    assert snapshot(folder) == before
    xr.testing.assert_identical(tree, open_draws(complete))


# Draws without a folder of their own


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A folder for temporary files, to be looked into."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    return tmp_path / "temporary"


def files_in(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_temporary_draws(temporary):
    model = make_model()
    with pytest.raises(AttributeError, match="no `temp_dir_`"):
        model.temp_dir_  # noqa: B018
    model.cleanup()
    before = dict(vars(model))
    tree = model.sample_posterior_predictive(X, store="zarr")
    place = Path(model.temp_dir_)
    assert place.parent == temporary
    assert Path(tree.attrs["artifact_path"]).is_relative_to(place)
    model.log_likelihood(X, X[:, 0], store="zarr")
    assert Path(model.temp_dir_) == place
    xr.testing.assert_identical(tree, open_draws(tree.attrs["artifact_path"]))
    assert vars(model) == before
    model.cleanup()
    assert list(temporary.iterdir()) == []
    assert not hasattr(model, "temp_dir_")
    model.cleanup()


def test_temporary_draws_outlive_their_estimator(temporary):
    model = make_model()
    expected = model.sample_posterior_predictive(X, store="memory")
    tree = model.sample_posterior_predictive(X, store="zarr")
    del model
    gc.collect()
    np.testing.assert_array_equal(tree[Y], expected[Y])
    NumPyroImpactRegressor.cleanup_all()
    assert list(temporary.iterdir()) == []


def test_the_temporary_draws_of_all_estimators_are_removed_together(temporary):
    models = [make_model(), make_model()]
    for model in models:
        model.sample_posterior_predictive(X, store="zarr")
    assert len({model.temp_dir_ for model in models}) == 2
    models[0].cleanup()
    assert files_in(Path(models[1].temp_dir_))
    NumPyroImpactRegressor.cleanup_all()
    assert list(temporary.iterdir()) == []
    assert not any(hasattr(model, "temp_dir_") for model in models)


def test_a_failed_call_leaves_no_temporary_files(temporary):
    model = make_model()
    with full_disk(), pytest.raises(OSError, match="No space left"):
        model.sample_posterior_predictive(X, store="zarr", batch_size=TILE)
    with (
        breaking(ZarrSink, "close", KeyboardInterrupt(), after_cut),
        pytest.raises(KeyboardInterrupt),
    ):
        model.sample_posterior_predictive(X, store="zarr", batch_size=TILE)
    assert files_in(temporary) == []
    tree = model.sample_posterior_predictive(X, store="zarr")
    assert tree.attrs["state"] == "complete"
    model.cleanup()
    assert list(temporary.iterdir()) == []


def test_a_folder_that_someone_removed_is_made_anew(temporary):
    model = make_model()
    model.sample_posterior_predictive(X, store="zarr")
    shutil.rmtree(model.temp_dir_)
    assert model.sample_posterior_predictive(X, store="zarr").attrs["state"] == "complete"
    model.cleanup()
    assert list(temporary.iterdir()) == []


READINGS = {
    "values": lambda model, tree, other: tree["predictions"]["y"].values,
    "average": lambda model, tree, other: float(tree["predictions"]["y"].mean()),
    "posterior": lambda model, tree, other: tree["posterior"]["coef"].values,
    "effect": lambda model, tree, other: model.estimate_effect(baseline=tree, scenarios={"it": other}),
    "copy": lambda model, tree, other: tree.load(),
}


@pytest.mark.parametrize("kernel", [zoo.conjugate, zoo.logistic], ids=["float", "integer"])
@pytest.mark.parametrize("read", READINGS.values(), ids=READINGS)
def test_draws_that_were_removed_cannot_be_read(read, kernel, temporary):
    model = make_model(kernel, {"coef": np.zeros((12, 2))})
    tree, other = (model.sample_posterior_predictive(X[:5], in_sample=False, store="zarr") for _ in range(2))
    # Chunks of nothing but zeros are there.
    assert not tree["posterior"]["coef"].values.any()
    read(model, tree, other)
    tree, other = (open_draws(each.attrs["artifact_path"]) for each in (tree, other))
    model.cleanup()
    with pytest.raises(FileNotFoundError, match=r"Stored draws are missing.*Sample them again"):
        read(model, tree, other)


def test_a_single_file_that_is_gone_is_an_error(tmp_path):
    tree = stored(tmp_path / "draws")
    lost = tmp_path / "draws" / Y / "c/0/0/1"
    lost.unlink()
    np.testing.assert_array_equal(tree[Y][..., :TILE], stored(tmp_path / "others")[Y][..., :TILE])
    with pytest.raises(FileNotFoundError, match=re.escape(str(lost))):
        tree[Y].sum().compute()
    # Who opens the store by other means finds no number in its place.
    assert np.isnan(zarr.open_array(tmp_path / "draws" / Y)[..., TILE : 2 * TILE]).all()


@pytest.mark.parametrize("with_dask", [True, False], ids=["dask", "no dask"])
@pytest.mark.parametrize("contrast", ["difference", "lift", lambda scenario, baseline: scenario - baseline.mean()],
                         ids=["difference", "lift", "own"])  # fmt: skip
def test_effects_of_stored_draws_are_taken_in_parts(with_dask, contrast, tmp_path, monkeypatch):
    if not with_dask:
        monkeypatch.setattr("skaimz.datatree.importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("skaimz.effects.draws.BYTES_READ", 8 * 12 * TILE)
    before, after = (stored(tmp_path / name, X + move) for name, move in (("before", 0.0), ("after", 1.0)))
    assert (before[Y].chunks is not None) == with_dask
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RatioWarning)
        effect = make_model().estimate_effect(baseline=before, scenarios={"it": after}, contrast=contrast)["it"]
    first, second = (make_model().sample_posterior_predictive(each, store="memory")[Y].values for each in (X, X + 1.0))
    by_hand = {"difference": second - first, "lift": 100 * (second / first - 1)}
    expected = by_hand.get(contrast, second - first.mean())
    np.testing.assert_allclose(effect["effect"], expected, rtol=1e-12)
    np.testing.assert_array_equal(effect["scenario"], second)
    np.testing.assert_array_equal(effect["baseline"], first)


def test_the_output_of_trees_is_known_without_a_fit():
    model = NumPyroImpactRegressor(zoo.linear, posterior={"intercept": np.zeros(4), "coef": np.ones((4, 2)),
                                                          "sigma": np.ones(4)}, random_state=0)  # fmt: skip
    trees = [model.sample_posterior_predictive(rows, in_sample=False) for rows in (X[:5], X[:5] + 1.0)]
    assert set(trees[0]["predictions"].data_vars) == {"mu", "y"}
    effect = model.estimate_effect(baseline=trees[0], scenarios={"it": trees[1]})["it"]["effect"]
    # The same noise in both, and a slope of one for each of two columns.
    np.testing.assert_allclose(effect, 2.0, rtol=1e-9)


def test_ratios_of_stored_draws_count_what_is_not_positive(tmp_path):
    before, after = (stored(tmp_path / name, X) for name in ("before", "after"))
    with pytest.warns(RatioWarning, match=f"^{int((before[Y].values <= 0).sum())} of {before[Y].size} averages"):
        make_model().estimate_effect(baseline=before, scenarios={"it": after}, contrast="ratio")


def test_folders_that_cannot_be_removed_are_told_of_and_tried_again(temporary, monkeypatch):
    models = [make_model() for _ in range(3)]
    for model in models:
        model.sample_posterior_predictive(X[:5], store="zarr")
    busy, remove = models[1].temp_dir_, os.rmdir

    def rmdir(path, *args, **kwargs):
        if os.fspath(path) == busy:
            raise OSError(errno.EBUSY, "Device or resource busy", path)
        remove(path, *args, **kwargs)

    monkeypatch.setattr(os, "rmdir", rmdir)
    for _ in range(2):
        with pytest.warns(CleanupWarning, match=f"{busy}.* could not be removed: .*busy"):
            NumPyroImpactRegressor.cleanup_all()
        assert [str(path) for path in temporary.iterdir()] == [busy]
    assert [hasattr(model, "temp_dir_") for model in models] == [False, True, False]
    monkeypatch.undo()
    models[1].cleanup()
    assert not Path(busy).exists()
    assert not hasattr(models[1], "temp_dir_")


# Arguments


@pytest.mark.usefixtures("temporary")
def test_the_size_decides_where_draws_go(tmp_path, monkeypatch):
    model = make_model()
    monkeypatch.setattr("skaimz.estimators._draws.MEMORY_BUDGET", SIZE)
    assert "artifact_path" not in model.sample_posterior_predictive(X).attrs
    assert "artifact_path" in model.sample_posterior_predictive(X, output_dir=tmp_path / "draws").attrs
    monkeypatch.setattr("skaimz.estimators._draws.MEMORY_BUDGET", SIZE - 1)
    tree = model.sample_posterior_predictive(X)
    assert Path(tree.attrs["artifact_path"]).is_relative_to(model.temp_dir_)
    assert "artifact_path" not in model.sample_posterior_predictive(X, store="memory").attrs
    assert "artifact_path" not in model.sample_posterior_predictive_on_batch(X).attrs
    model.cleanup()


REFUSALS = [
    ({"store": "disk"}, "`store` must be 'auto', 'zarr' or 'memory', got 'disk'"),
    ({"store": None}, "`store` must be 'auto', 'zarr' or 'memory', got None"),
    ({"shard_axis": "rows"}, "`shard_axis` must be 'obs' or 'draw', got 'rows'"),
    ({"batch_size": 0}, "`batch_size` must be a positive integer, got 0"),
    ({"batch_size": 8.0}, r"`batch_size` must be a positive integer, got 8\.0"),
    ({"batch_size": True}, "`batch_size` must be a positive integer, got True"),
    ({"store": "memory", "output_dir": "x"}, "`output_dir` needs a store on disk, got 'x' and `store='memory'`"),
]
METHODS = {
    "prior": lambda model, **settings: model.sample_prior_predictive(X, **settings),
    "log likelihood": lambda model, **settings: model.log_likelihood(X, X[:, 0], **settings),
}


@pytest.mark.parametrize(("settings", "message"), REFUSALS)
def test_refusals(settings, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        make_model().sample_posterior_predictive(X, **settings)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_every_method_refuses(method):
    with pytest.raises(ValueError, match="`store` must be"):
        method(make_model(), store="disk")


@pytest.mark.parametrize("codecs", [object(), numcodecs.Zstd(), [numcodecs.Zstd()]], ids=["object", "Zarr 2", "list"])
def test_compressors_are_codecs_of_zarr_3(codecs, tmp_path):
    with pytest.raises(ValueError, match="`compressors` must be one or more codecs of Zarr 3"):
        stored(tmp_path / "draws", compressors=codecs)
    assert list(tmp_path.iterdir()) == []


# Processes that end. This file, run as a script, is such a process.

# It finds the kernels, and the package that is tested here.
PLACES = [str(Path(zoo.__file__).parent), str(Path(skaimz.__file__).parents[1])]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(PLACES)}


def start(*arguments, **environment):
    child = subprocess.Popen(
        [sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT | environment
    )
    assert child.stdout.readline() == "ready\n"
    return child


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The store of many rows, and the seconds that it took."""
    folder = tmp_path_factory.mktemp("uninterrupted") / "draws"
    make_model().sample_posterior_predictive(MANY[:TILE])
    began = time.perf_counter()
    stored(folder, MANY)
    return folder, time.perf_counter() - began


def kill(folder, moment, seconds=None):
    """Start the call in another process and kill it; return how many batches it wrote, None before there is a store."""
    child = start(str(folder), moment)
    try:
        if seconds is not None:
            time.sleep(seconds)
            child.kill()
        elif moment == "middle":
            while not folder.exists() or written(folder) < 40:
                assert child.poll() is None
                time.sleep(0.001)
            child.kill()
        code = child.wait(60)
    finally:
        child.kill()
        child.stdout.close()
    assert code == -signal.SIGKILL or seconds is not None
    if not folder.exists():
        with pytest.raises(FileNotFoundError, match="holds no draws"):
            open_draws(folder)
        return None
    if store_state(folder) != "complete":
        with pytest.raises(IncompleteDrawsError, match="incomplete"):
            open_draws(folder)
    return written(folder)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_process_is_followed_by_another(moment, uninterrupted, tmp_path):
    expected, seconds = uninterrupted
    folder = tmp_path / "draws"
    if moment.startswith("random"):
        # The second process goes on with what the first has left.
        chance, found = np.random.default_rng(int(moment.split()[1])), 0
        for _ in range(2):
            before = found
            found = kill(folder, moment, chance.uniform(0, seconds * (1 - before / 120))) or 0
            assert found >= before
    else:
        found = kill(folder, moment)
        if moment == "middle":
            assert 40 <= found < 120
        else:
            assert found == {"creation": None, "first batch": 0}[moment]
    stored(folder, MANY)
    assert list(tmp_path.iterdir()) == [folder]
    assert_same_files(folder, expected)


def test_temporary_draws_are_removed_at_exit(tmp_path):
    child = start("", "temporary", TMPDIR=str(tmp_path))
    path, state = child.stdout.read().split()
    assert child.wait(60) == 0
    child.stdout.close()
    assert state == "complete"
    assert Path(path).is_relative_to(tmp_path)
    assert files_in(tmp_path) == []
    assert not Path(path).exists()


def test_a_forked_child_leaves_the_draws_of_its_parent(tmp_path):
    child = start("", "fork", TMPDIR=str(tmp_path))
    found = float(child.stdout.read())
    assert child.wait(60) == 0
    child.stdout.close()
    # Noise with the standard deviation 0.5.
    assert found == pytest.approx(0.5, abs=0.05)
    assert files_in(tmp_path) == []


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def main(folder, moment):
    limits.DEFAULT = Limits(most_tile_rows=TILE)
    model = make_model()
    if moment.startswith("random"):
        # Nothing is left to compile when the clock starts.
        model.sample_posterior_predictive(MANY[:TILE])
    if moment == "creation":
        Store._create_array = die
    if moment == "first batch":
        ZarrSink._write = die
    print("ready", flush=True)
    if moment == "temporary":
        attrs = model.sample_posterior_predictive(MANY, store="zarr").attrs
        print(model.temp_dir_, attrs["state"])
    elif moment == "fork":
        tree = make_model(draws={"coef": np.zeros((12, 2))}).sample_posterior_predictive(MANY, store="zarr")
        if os.fork() == 0:
            NumPyroImpactRegressor.cleanup_all()
            # Python's exit hooks, without the destructors of JAX, which may wait for threads that were not forked.
            atexit._run_exitfuncs()
            os._exit(0)
        os.wait()
        print(tree[Y].values.std())
    else:
        stored(folder, MANY, model)


if __name__ == "__main__":
    main(*sys.argv[1:])
