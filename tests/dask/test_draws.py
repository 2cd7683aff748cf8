"""Trees of draws of Dask collections: lazy, and those of one call."""

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zoo

from skaimz import NumPyroImpactRegressor

pytestmark = pytest.mark.usefixtures("in_this_thread")

N_ROWS, N_DRAWS = 5000, 30


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).normal(size=(N_ROWS, 2))


@pytest.fixture(scope="module")
def rows(X):
    return da.from_array(X, chunks=(1234, 2))


def model_of(kernel, **shapes):
    generator = np.random.default_rng(1)
    draws = {name: 0.3 * np.abs(generator.normal(size=(2 * N_DRAWS, *shape))) for name, shape in shapes.items()}
    return NumPyroImpactRegressor(kernel, random_state=0).set_posterior_sample(draws, num_chains=2)


def assert_same(found, expected, group):
    one, other = found[group].to_dataset(), expected[group].to_dataset()
    assert list(one.data_vars) == list(other.data_vars)
    for name, draws in other.data_vars.items():
        assert dask.is_dask_collection(one[name].data)
        assert one[name].dims == draws.dims
        assert one[name].dtype == draws.dtype
        np.testing.assert_allclose(one[name], draws, rtol=1e-12)
    for name, labels in other.coords.items():
        np.testing.assert_array_equal(one[name], labels)


KERNELS = {
    "sites without rows": (zoo.many_shapes, {"coef": (2,)}),
    "second axis": (zoo.sensors, {"slope": (3, 1)}),
    "latents of rows": (zoo.grouped, {"level": (), "spread": ()}),
}


@pytest.mark.filterwarnings("ignore::skaimz.exceptions.PosteriorWarning")
@pytest.mark.parametrize("case", KERNELS)
def test_posterior_predictive(X, rows, case):
    kernel, shapes = KERNELS[case]
    model = model_of(kernel, **shapes)
    expected = model.sample_posterior_predictive(X, in_sample=False)
    found = model.sample_posterior_predictive(rows, in_sample=False)
    assert_same(found, expected, "predictions")
    xr.testing.assert_equal(found["posterior"].to_dataset(), expected["posterior"].to_dataset())


def test_latents_of_the_rows_of_the_fit(X, rows):
    model = model_of(zoo.grouped, level=(), spread=(), effect=(N_ROWS,))
    expected = model.sample_posterior_predictive(X)
    assert_same(model.sample_posterior_predictive(rows), expected, "posterior_predictive")


def test_log_likelihood(X, rows):
    model, y = model_of(zoo.conjugate, coef=(2,)), X[:, 0]
    found = model.log_likelihood(rows, da.from_array(y, chunks=999))
    assert_same(found, model.log_likelihood(X, y), "log_likelihood")


def test_prior_predictive(X, rows):
    model = NumPyroImpactRegressor(zoo.poisson, random_state=0)
    given = {"num_samples": 20, "exposure": np.linspace(0.5, 2.0, N_ROWS)}
    assert_same(
        model.sample_prior_predictive(rows, **given), model.sample_prior_predictive(X, **given), "prior_predictive"
    )


@pytest.mark.filterwarnings("ignore::skaimz.exceptions.PosteriorWarning")
def test_interventions_by_row(X, rows):
    model = model_of(zoo.grouped, level=(), spread=())
    given = {"intervention": {"effect": X[:, 1]}, "in_sample": False, "return_sites": ["y"]}
    expected = model.sample_posterior_predictive(X, **given)
    assert_same(model.sample_posterior_predictive(rows, **given), expected, "predictions")


def test_labels_of_frames(X):
    frame = pd.DataFrame(X, columns=["a", "b"], index=np.arange(N_ROWS) * 2)
    model = model_of(zoo.conjugate, coef=(2,))
    found = model.sample_posterior_predictive(dd.from_pandas(frame, npartitions=3), in_sample=False)
    assert_same(found, model.sample_posterior_predictive(frame, in_sample=False), "predictions")


def test_a_lazy_tree_can_be_written(X, rows, tmp_path):
    model = model_of(zoo.conjugate, coef=(2,))
    tree = model.sample_posterior_predictive(rows, in_sample=False)
    tree["predictions"].to_dataset().to_zarr(tmp_path / "draws", consolidated=False)
    expected = model.sample_posterior_predictive(X, in_sample=False)["predictions"]["y"]
    with xr.open_zarr(tmp_path / "draws", consolidated=False) as stored:
        np.testing.assert_array_equal(stored["y"], expected)
