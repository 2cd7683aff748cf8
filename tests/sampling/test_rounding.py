"""Draws that are stored in half precision."""

import errno

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import xarray as xr
import zarr
import zoo
from stores import assert_same_files, breaking

from skaimz import NumPyroImpactRegressor, open_draws
from skaimz.sampling import Limits, Store, limits

TILE, N_ROWS = 8, 100
rng = np.random.default_rng(0)
X = rng.normal(size=(N_ROWS, 2))
Y = "posterior_predictive/y"


def scaled(X, y=None, unit=1.0):
    """Outcomes of any size, and a number that is missing or infinite in some rows."""
    level = numpyro.sample("level", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.deterministic("order", unit / jnp.sqrt(X[:, 0]))
        numpyro.sample("y", dist.Normal(level * unit, 0.1 * unit), obs=y)


def model_of(kernel, **shapes):
    generator = np.random.default_rng(1)
    draws = {name: 0.3 * np.abs(generator.normal(size=(12, *shape))) for name, shape in shapes.items()}
    return NumPyroImpactRegressor(kernel, random_state=0).set_posterior_sample(draws, num_chains=2)


def make_model():
    return model_of(zoo.conjugate, coef=(2,))


@pytest.fixture(scope="module", autouse=True)
def _small_tiles():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "DEFAULT", Limits(most_tile_rows=TILE))
        yield


@pytest.fixture(scope="module")
def exact():
    return make_model().sample_posterior_predictive(X, store="memory")[Y].to_numpy()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "draws"
    make_model().sample_posterior_predictive(X, output_dir=folder, batch_size=TILE, draw_dtype="float16")
    return folder


@pytest.mark.parametrize(("draw_dtype", "error"), [("float16", 2**-11), (np.dtype("float32"), 2**-24)])
def test_the_rounding_error(draw_dtype, error, exact, tmp_path):
    tree = make_model().sample_posterior_predictive(X, output_dir=tmp_path / "draws", draw_dtype=draw_dtype)
    stored = zarr.open_array(tmp_path / "draws" / Y)
    assert stored.dtype == draw_dtype
    np.testing.assert_array_equal(stored[:], exact.astype(draw_dtype))
    np.testing.assert_array_equal(tree[Y], exact.astype(draw_dtype))
    differences = np.abs(tree[Y].to_numpy() - exact)
    assert differences.max() > 0
    np.testing.assert_array_less(differences, error * np.abs(exact) + 2**-25)
    files = [path for path in (tmp_path / "draws" / Y / "c").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) == exact.size * np.dtype(draw_dtype).itemsize


def test_sums_of_draws_do_not_overflow(tmp_path):
    """A sum in half precision would be infinite, because the type ends at 65504."""
    model = NumPyroImpactRegressor(zoo.conjugate, random_state=0).set_posterior_sample({"coef": np.full((12, 2), 1e3)})
    rows = np.ones((N_ROWS, 2))
    tree = model.sample_posterior_predictive(rows, output_dir=tmp_path / "draws", draw_dtype="float16")
    assert tree[Y].dtype == np.float64
    assert float(tree[Y].sum()) == pytest.approx(2e3 * 12 * N_ROWS, rel=1e-3)
    assert float(tree[Y].mean()) == pytest.approx(2e3, rel=1e-3)


def test_an_interrupted_call_goes_on(whole, tmp_path):
    call = make_model().sample_posterior_predictive
    settings = {"output_dir": tmp_path / "draws", "batch_size": TILE, "draw_dtype": "float16"}
    full = OSError(errno.ENOSPC, "No space left on device")
    with breaking(Store, "_put_array", full, lambda number: number >= 4), pytest.raises(OSError, match="No space"):
        call(X, **settings)
    with pytest.raises(FileExistsError, match="holds the output of another call"):
        call(X, **{**settings, "draw_dtype": None})
    call(X, **settings)
    assert_same_files(tmp_path / "draws", whole)
    # It is complete, and one batch is compared.
    xr.testing.assert_identical(call(X, **settings), open_draws(tmp_path / "draws"))
    with pytest.raises(FileExistsError, match="holds the output of another call"):
        call(X + 1.0, **settings)


def test_workers_write_the_same_files(whole, tmp_path):
    da = pytest.importorskip("dask.array")
    rows = da.from_array(X, chunks=(30, 2))
    tree = make_model().sample_posterior_predictive(
        rows, output_dir=tmp_path / "draws", batch_size=TILE, draw_dtype="float16"
    )
    assert_same_files(tmp_path / "draws", whole)
    np.testing.assert_array_equal(tree[Y], open_draws(whole)[Y])


def test_effects_of_stored_draws(exact, tmp_path):
    trees = [
        make_model().sample_posterior_predictive(X + move, output_dir=tmp_path / str(move), draw_dtype="float16")
        for move in (0.0, 1.0)
    ]
    effect = make_model().estimate_effect(baseline=trees[0], scenarios={"it": trees[1]})["it"]["effect"]
    moved = make_model().sample_posterior_predictive(X + 1.0)[Y].to_numpy()
    np.testing.assert_array_equal(effect, moved.astype(np.float16).astype(float) - exact.astype(np.float16))


def test_counts_and_codes_are_exact(tmp_path):
    """Not every integer above 2048 is a float16."""
    exposure = np.full(N_ROWS, 5001.0)
    settings = {"exposure": exposure, "return_sites": ["y", "coef"]}
    model = model_of(zoo.poisson, coef=(2,))
    exact = model.sample_posterior_predictive(X, **settings)["posterior_predictive"].to_dataset()
    assert int(exact["y"].max()) > 4096
    tree = model.sample_posterior_predictive(X, output_dir=tmp_path / "draws", draw_dtype="float16", **settings)
    xr.testing.assert_identical(tree[Y], exact["y"])
    assert tree[Y].dtype.kind == "i"
    np.testing.assert_array_equal(tree["posterior_predictive/coef"], exact["coef"].astype(np.float16))


def test_infinite_and_missing_draws_stay(tmp_path):
    rows = np.array([[0.0], [-1.0], [4.0]])
    model = model_of(scaled, level=())
    tree = model.sample_posterior_predictive(
        rows, output_dir=tmp_path / "draws", draw_dtype="float16", return_sites=["order"]
    )
    np.testing.assert_array_equal(tree["posterior_predictive/order"][0, 0], [np.inf, np.nan, 0.5])


REFUSED = {
    1e6: r"`draw_dtype='float16'` cannot store draws of '(y|order)'.*the type ends at 65504.*larger units",
    1e-6: r"`draw_dtype='float16'` would lose most digits of draws of '(y|order)'.*smaller units",
}


@pytest.mark.parametrize("unit", REFUSED)
@pytest.mark.parametrize("collection", [False, True], ids=["array", "dask"])
def test_numbers_that_do_not_fit_are_refused(unit, collection, tmp_path):
    rows = pytest.importorskip("dask.array").from_array(X, chunks=(30, 2)) if collection else X
    with pytest.raises(ValueError, match=REFUSED[unit]):
        model_of(scaled, level=()).sample_posterior_predictive(
            rows, unit=unit, output_dir=tmp_path / "draws", draw_dtype="float16", batch_size=TILE
        )


def test_a_type_asks_for_a_store(exact):
    model = make_model()
    tree = model.sample_posterior_predictive(X, draw_dtype="float16")
    np.testing.assert_array_equal(tree[Y], exact.astype(np.float16))
    assert tree.attrs["artifact_path"].startswith(model.temp_dir_)
    model.cleanup()
    with pytest.raises(ValueError, match="`draw_dtype` needs a store on disk, got 'float16' and `store='memory'`"):
        model.sample_posterior_predictive(X, draw_dtype="float16", store="memory")
    for method in (model.sample_posterior_predictive, model.sample_prior_predictive):
        with pytest.raises(ValueError, match="`draw_dtype` must be 'float16', 'float32' or None, got 'int8'"):
            method(X, draw_dtype="int8")
    with pytest.raises(ValueError, match="`draw_dtype` must be"):
        model.log_likelihood(X, X[:, 0], draw_dtype=16)
