"""Stores at URLs: in memory, and on a server that speaks the protocol of Amazon S3."""

import contextlib
import os
import pickle
import re
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import fsspec
import numpy as np
import pytest
import xarray as xr
import zarr
import zoo
from stores import breaking, snapshot

import skaimz
from skaimz import NumPyroImpactRegressor, open_draws
from skaimz.exceptions import IncompleteDrawsError
from skaimz.sampling import Limits, Store, limits, place_of, store_state
from skaimz.sampling.places import Location

TILE, N_ROWS, N_BATCHES = 8, 40, 5
CUT = 2
rng = np.random.default_rng(0)
X = rng.normal(size=(N_ROWS, 2))
DRAWS = {"coef": rng.normal(scale=0.3, size=(12, 2))}
Y = "posterior_predictive/y"


def stored(where, X=X, **changes):
    model = NumPyroImpactRegressor(zoo.conjugate, random_state=3).set_posterior_sample(DRAWS, num_chains=2)
    return model.sample_posterior_predictive(X, output_dir=where, **{"batch_size": TILE, **changes})


@pytest.fixture(scope="module", autouse=True)
def _small_tiles():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "DEFAULT", Limits(most_tile_rows=TILE))
        yield


@pytest.fixture(scope="module")
def bucket():
    server_module = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        }.items():
            patch.setenv(name, value)
        fsspec.filesystem("s3", use_listings_cache=False).mkdir("draws")
        yield "s3://draws"
    server.stop()


@pytest.fixture(params=["memory", "s3"])
def url(request):
    """A place that nothing is at."""
    root = request.getfixturevalue("bucket") if request.param == "s3" else "memory://draws"
    where = f"{root}/{uuid.uuid4().hex}"
    yield where
    filesystem, path = fsspec.url_to_fs(where, use_listings_cache=False)
    with contextlib.suppress(FileNotFoundError):
        filesystem.rm(path, recursive=True)


# Where the server would show nothing more than memory does.
in_memory = pytest.mark.parametrize("url", ["memory"], indirect=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The store of an undisturbed call in a folder."""
    folder = tmp_path_factory.mktemp("whole") / "draws"
    stored(folder)
    return folder


def objects(url):
    """Return the content of every object below a URL."""
    filesystem, path = fsspec.url_to_fs(url, use_listings_cache=False)
    return {name.removeprefix(f"{path}/"): filesystem.cat_file(name) for name in filesystem.find(path)}


def put(url, key, content):
    filesystem, path = fsspec.url_to_fs(url, use_listings_cache=False)
    filesystem.pipe_file(f"{path}/{key}", content)


def marks(url):
    return sorted(int(name.split("/")[1]) for name in objects(url) if re.fullmatch(r"\.batches/\d+", name))


def assert_same_objects(url, folder):
    """A store at a URL and one in a folder agree in every byte but the time and place of their making."""
    found = objects(url)
    expected = {name: content for name, content in snapshot(folder).items() if content is not None}
    assert sorted(found) == sorted(expected)
    for files in (found, expected):
        files["zarr.json"] = re.sub(rb'"(created_at|artifact_path)": "[^"]*"', b"", files["zarr.json"])
    assert [name for name in found if found[name] != expected[name]] == []


def cut_off(url, **changes):
    with (
        breaking(Store, "_put_array", ConnectionResetError("the network is gone"), lambda number: number >= CUT),
        pytest.raises(ConnectionResetError, match=f"could not be written to '{url}'.*network is gone.*goes on from it"),
    ):
        stored(url, **changes)


def test_the_same_store_as_in_a_folder(url, whole):
    tree = stored(url)
    assert_same_objects(url, whole)
    assert tree.attrs["artifact_path"] == url
    assert not tree[Y].variable._in_memory
    for again in (open_draws(url), open_draws(f"{url}/")):
        for group in ("posterior", "posterior_predictive"):
            xr.testing.assert_identical(again[group].to_dataset(), open_draws(whole)[group].to_dataset())
    before = objects(url)
    stored(url)
    assert objects(url) == before


@in_memory
def test_codecs_and_half_precision(url, whole):
    tree = stored(url, compressors=zarr.codecs.ZstdCodec(level=1), draw_dtype="float16")
    np.testing.assert_array_equal(tree[Y], open_draws(whole)[Y].astype(np.float16))


def test_a_call_that_is_cut_off_goes_on(url, whole, monkeypatch):
    cut_off(url)
    assert store_state(url) == "incomplete"
    assert marks(url) == list(range(CUT))
    with pytest.raises(IncompleteDrawsError, match=f"draws in '{url}' are incomplete.*output_dir"):
        open_draws(url)
    put_batch, order = Store.put, []
    monkeypatch.setattr(
        Store, "put", lambda self, batch, *args: order.append(batch.number) or put_batch(self, batch, *args)
    )
    stored(url)
    # The last one that was there is computed again and compared.
    assert order == [CUT - 1, *range(CUT, N_BATCHES)]
    assert_same_objects(url, whole)


def test_workers_go_on_with_it(url, whole):
    da = pytest.importorskip("dask.array")
    cut_off(url)
    tree = stored(url, da.from_array(X, chunks=(30, 2)))
    assert_same_objects(url, whole)
    np.testing.assert_array_equal(tree[Y], open_draws(whole)[Y])
    place = pickle.loads(pickle.dumps(place_of(url)))
    assert str(place) == url
    assert place.exists()


@pytest.mark.parametrize("n_objects", [0, 1, 4])
def test_a_store_that_is_not_made_to_the_end(n_objects, url, whole, monkeypatch):
    """No object but the last one makes it a store, and the first one says whose it is."""
    write, write_new = Location.write, Location._write_new
    count = iter(range(100))

    def dying(original):
        def method(self, *args, **settings):
            if next(count) >= n_objects:
                raise ConnectionResetError("the network is gone")
            original(self, *args, **settings)

        return method

    with monkeypatch.context() as patch:
        patch.setattr(Location, "write", dying(write))
        patch.setattr(Location, "_write_new", dying(write_new))
        with pytest.raises(ConnectionResetError, match=f"could not be written to '{url}'"):
            stored(url)
    before = objects(url)
    assert len(before) == n_objects
    assert store_state(url) is None
    with pytest.raises(FileNotFoundError, match=f"'{url}' holds no draws"):
        open_draws(url)
    if n_objects:
        with pytest.raises(FileExistsError, match=f"'{url}' holds .*choose a new folder"):
            stored(url, random_state=4)
        assert objects(url) == before
    stored(url)
    assert_same_objects(url, whole)


@in_memory
@pytest.mark.parametrize("state", ["incomplete", "complete"])
@pytest.mark.parametrize("other", [{"random_state": 4}, {"X": X + 1.0}], ids=["seed", "rows"])
def test_another_call_leaves_the_store_alone(other, state, url):
    cut_off(url) if state == "incomplete" else stored(url)
    before = objects(url)
    with pytest.raises(FileExistsError, match=f"'{url}' holds the output of another call: choose a new folder"):
        stored(url, **other)
    assert objects(url) == before


@in_memory
def test_foreign_objects_are_left_alone(url):
    put(url, "notes/mine.txt", b"mine")
    with pytest.raises(FileExistsError, match=f"'{url}' holds files that are no draws"):
        stored(url)
    assert objects(url) == {"notes/mine.txt": b"mine"}


@in_memory
@pytest.mark.parametrize("moment", ["_create_array", "put", "_put_array"])
def test_the_same_call_may_be_made_twice_at_once(moment, url, whole, monkeypatch):
    original, waiting = getattr(Store, moment), [lambda: stored(url)]

    def interrupted(*args):
        if waiting:
            waiting.pop()()
        return original(*args)

    monkeypatch.setattr(Store, moment, interrupted)
    stored(url)
    assert_same_objects(url, whole)


def test_another_call_at_the_same_time_is_refused(url, whole, monkeypatch):
    """The other one ends while the first is about to make the store."""
    create, waiting = Store._create, [lambda: stored(url)]

    def interrupted(*args):
        if waiting:
            waiting.pop()()
        create(*args)

    monkeypatch.setattr(Store, "_create", interrupted)
    with pytest.raises(FileExistsError, match=f"'{url}' holds the output of another call"):
        stored(url, random_state=4)
    found = objects(url)
    # What the late call has written names it, and is no part of the store.
    assert found.pop(".batches/call")
    assert sorted(found) == sorted(name for name, content in snapshot(whole).items() if content is not None)
    np.testing.assert_array_equal(open_draws(url)[Y], open_draws(whole)[Y])


@in_memory
def test_a_lost_chunk_is_an_error(url):
    tree = stored(url)
    filesystem, path = fsspec.url_to_fs(url, use_listings_cache=False)
    filesystem.rm(f"{path}/{Y}/c/0/0/1")
    with pytest.raises(FileNotFoundError, match=f"Stored draws are missing.*{Y}/c/0/0/1"):
        tree[Y].to_numpy()


@in_memory
def test_effects_of_stored_draws(url):
    trees = [stored(f"{url}/{move}", X + move) for move in (0.0, 1.0)]
    model = NumPyroImpactRegressor(zoo.conjugate, random_state=3).set_posterior_sample(DRAWS, num_chains=2)
    effect = model.estimate_effect(baseline=trees[0], scenarios={"it": trees[1]})["it"]["effect"]
    # The same noise in both.
    expected = DRAWS["coef"].sum(axis=1).reshape(2, 6)
    np.testing.assert_allclose(effect.mean("rows"), expected, rtol=1e-9)


def test_a_killed_process_is_followed_by_another(bucket, whole):
    url = f"{bucket}/killed"
    places = [str(Path(zoo.__file__).parent), str(Path(skaimz.__file__).parents[1])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(places)}
    child = subprocess.run([sys.executable, __file__, url], env=environment, timeout=300)
    assert child.returncode == -signal.SIGKILL
    assert marks(url) == list(range(CUT))
    # The batch that was under way has its chunk and no mark.
    assert f"{Y}/c/0/0/{CUT}" in objects(url)
    stored(url)
    assert_same_objects(url, whole)


def test_places_that_cannot_be_used(bucket):
    with pytest.raises(FileNotFoundError, match=r"be written to 's3://nothing/draws': .*bucket does not exist"):
        stored("s3://nothing/draws")
    with pytest.raises(ValueError, match="'s33://draws' is no URL that draws can be written to"):
        stored("s33://draws")
    with pytest.raises(ValueError, match=r"'s3://draws/\*' has one of the characters"):
        stored("s3://draws/*")
    with pytest.raises(ValueError, match="`output_dir` needs a store on disk"):
        stored(f"{bucket}/draws", store="memory")


def test_a_package_that_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    for call in (stored, open_draws):
        with pytest.raises(ImportError, match=r"'s3://draws' needs another package: .*pip install 'skaimz\[remote\]'"):
            call("s3://draws")


def test_a_url_of_a_file_is_a_folder(whole, tmp_path):
    tree = stored(f"file://{tmp_path}/draws")
    assert tree.attrs["artifact_path"] == str(tmp_path / "draws")
    assert store_state(tmp_path / "draws") == "complete"


def die_at_mark(self, key, content, **settings):
    if key == f".batches/{CUT}":
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, key, content, **settings)


if __name__ == "__main__":
    limits.DEFAULT = Limits(most_tile_rows=TILE)
    write, Location.write = Location.write, die_at_mark
    stored(sys.argv[1])
