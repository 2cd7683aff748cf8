"""Real worker processes: every method gives what one process gives, also where a worker dies."""

import os
from collections import Counter
from pathlib import Path

import clusters
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
import zoo
from sklearn.base import clone

from skaimz import NumPyroImpactClassifier, NumPyroImpactRegressor
from skaimz.inference import SVI

pytestmark = pytest.mark.slow

# Eight tiles, in blocks of one or two; the last is not full.
N_ROWS, N_DRAWS = 16_000, 20
EXPOSURE = np.linspace(0.5, 2.0, N_ROWS)
BAND = np.arange(N_ROWS) // 7000


@pytest.fixture(scope="module", params=[4, 2])
def n_workers(request):
    return request.param


@pytest.fixture(scope="module")
def workers(n_workers):
    with clusters.processes(n_workers) as client:
        yield client


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).normal(size=(N_ROWS, 2))


@pytest.fixture(scope="module")
def rows(X):
    return da.from_array(X, chunks=(2500, 2))


@pytest.fixture(scope="module")
def draws():
    return {"coef": 0.3 * np.random.default_rng(1).normal(size=(N_DRAWS, 2))}


@pytest.fixture(scope="module")
def models(X, draws):
    labels = np.where(X[:50, 0] > 0, "up", "down")
    return {
        "conjugate": NumPyroImpactRegressor(zoo.conjugate, random_state=0).set_posterior_sample(draws),
        "poisson": NumPyroImpactRegressor(zoo.poisson, random_state=0).set_posterior_sample(draws),
        "classifier": NumPyroImpactClassifier(zoo.logistic, posterior=draws, random_state=0).fit(X[:50], labels),
    }


LAZY = {
    "predict": lambda m, X: m["poisson"].predict(X, exposure=EXPOSURE),
    "mean and deviation": lambda m, X: m["conjugate"].predict(X, return_std=True),
    "predict_quantiles": lambda m, X: m["poisson"].predict_quantiles(X, [0.1, 0.5], exposure=EXPOSURE),
    "predict_interval": lambda m, X: m["conjugate"].predict_interval(X),
    "sample_y": lambda m, X: m["poisson"].sample_y(X, 5, random_state=3, exposure=EXPOSURE),
    "log_predictive_density": lambda m, X: m["conjugate"].log_predictive_density(X, BAND),
    "classes": lambda m, X: m["classifier"].predict(X),
    "predict_proba": lambda m, X: m["classifier"].predict_proba(X),
}
TREES = {
    "sample_posterior_predictive": lambda m, X: m["conjugate"].sample_posterior_predictive(X, in_sample=False),
    "sample_prior_predictive": lambda m, X: m["poisson"].sample_prior_predictive(X, num_samples=9, exposure=EXPOSURE),
    "log_likelihood": lambda m, X: m["conjugate"].log_likelihood(X, BAND),
}
SCENARIOS = {"baseline": {"columns": {0: 0.0}}, "scenarios": {"on": {"columns": {0: 1.0}}}}
EFFECTS = {
    "estimate_effect": lambda m, X: m["conjugate"].estimate_effect(X, by={"band": BAND}, **SCENARIOS),
    "of outcomes": lambda m, X: m["poisson"].estimate_effect(X, of="outcome", exposure=EXPOSURE, **SCENARIOS),
    "estimate_slope": lambda m, X: m["poisson"].estimate_slope(X, [0, "exposure"], exposure=EXPOSURE),
}


@pytest.mark.parametrize("method", LAZY)
def test_lazy_arrays(workers, models, X, rows, method):
    lazy, expected = LAZY[method](models, rows), LAZY[method](models, X)
    several = isinstance(expected, tuple)
    for one, other in zip(*((lazy, expected) if several else ((lazy,), (expected,))), strict=True):
        assert isinstance(one, da.Array)
        np.testing.assert_array_equal(one.compute(), other)


@pytest.mark.parametrize("method", TREES)
def test_lazy_trees(workers, models, X, rows, method):
    lazy, expected = TREES[method](models, rows), TREES[method](models, X)
    assert list(lazy.children) == list(expected.children)
    for group, node in expected.children.items():
        xr.testing.assert_equal(lazy[group].to_dataset().compute(), node.to_dataset())


STORES = {
    "sample_posterior_predictive": lambda m, X, **to: m["conjugate"].sample_posterior_predictive(
        X, in_sample=False, **to
    ),
    "sample_prior_predictive": lambda m, X, **to: m["poisson"].sample_prior_predictive(
        X, num_samples=9, exposure=EXPOSURE, **to
    ),
    "log_likelihood": lambda m, X, **to: m["conjugate"].log_likelihood(X, BAND, **to),
}


@pytest.mark.parametrize("method", STORES)
def test_stores(workers, models, X, rows, method, tmp_path):
    found = STORES[method](models, rows, output_dir=tmp_path / "draws", batch_size=4096)
    assert found.attrs["state"] == "complete"
    expected = STORES[method](models, X)
    assert set(found.children) == set(expected.children)
    for group, node in expected.children.items():
        xr.testing.assert_equal(found[group].to_dataset().compute(), node.to_dataset())


@pytest.mark.filterwarnings("ignore::skaimz.exceptions.FitWarning")
def test_fits(workers, X, rows):
    model = NumPyroImpactRegressor(zoo.conjugate, inference=SVI(batch_size=2000, num_steps=20), random_state=0)
    y = da.from_array(X[:, 0], chunks=3000)
    for method in ("fit", "partial_fit"):
        expected = getattr(clone(model), method)(X, X[:, 0]).posterior_["coef"]
        np.testing.assert_array_equal(getattr(clone(model), method)(rows, y).posterior_["coef"], expected)


@pytest.mark.parametrize("method", EFFECTS)
def test_effects(workers, models, X, rows, method):
    found, expected = EFFECTS[method](models, rows), EFFECTS[method](models, X)
    assert list(found.children) == list(expected.children)
    for name, node in expected.children.items():
        xr.testing.assert_allclose(found[name].to_dataset(), node.to_dataset(), rtol=1e-12)


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # of pandas, in Dask
def test_files(workers, n_workers, models, X, tmp_path):
    frame = pd.DataFrame({"a": X[:, 0], "b": X[:, 1]})
    dd.from_pandas(frame, npartitions=5).to_parquet(tmp_path / "rows.parquet")
    stored = zarr.create_array(tmp_path / "rows.zarr", shape=X.shape, chunks=(3000, 2), dtype=X.dtype)
    stored[:] = X
    expected = models["conjugate"].predict_interval(X)
    for lazy in (dd.read_parquet(tmp_path / "rows.parquet"), da.from_zarr(tmp_path / "rows.zarr")):
        np.testing.assert_array_equal(models["conjugate"].predict_interval(lazy).compute(), expected)
    assert len(workers.scheduler_info()["workers"]) == n_workers


@pytest.fixture
def _nothing_is_stolen(workers):
    """Let no worker take over a task that another has received already."""

    async def stop(dask_scheduler):
        await dask_scheduler.extensions["stealing"].stop()

    async def start(dask_scheduler):
        await dask_scheduler.extensions["stealing"].start()

    workers.run_on_scheduler(stop)
    yield
    workers.run_on_scheduler(start)


@pytest.mark.usefixtures("_nothing_is_stolen")
def test_kernel_and_posterior_arrive_once(workers, n_workers, X, draws, tmp_path):
    told = tmp_path / "told"
    model = NumPyroImpactRegressor(clusters.TellingKernel(str(told)), random_state=0).set_posterior_sample(draws)
    rows = da.from_array(X, chunks=(2048, 2))  # eight blocks
    calls = {
        "array": lambda: model.predict_interval(rows).compute(),
        "tree": lambda: model.sample_posterior_predictive(rows, in_sample=False)["predictions"].compute(),
        "effect": lambda: model.estimate_effect(rows, **SCENARIOS),
    }
    for call in calls.values():
        told.write_text("")
        call()
        arrived = Counter(map(int, told.read_text().split()))
        del arrived[os.getpid()]  # the scheduler's own
        assert 1 <= len(arrived) <= n_workers
        assert set(arrived.values()) == {1}


def test_a_worker_that_is_killed_changes_nothing(workers, models, X, tmp_path):
    def dying(name):
        rows = da.from_array(X, chunks=(2500, 2))
        kill = clusters.KilledOnce(str(tmp_path / name))
        # The first chunk is read by the process that asks, for the types.
        return da.concatenate([rows[:2500], rows[2500:].map_blocks(kill, dtype=X.dtype, meta=np.empty((0, 0)))])

    found = models["conjugate"].predict_interval(dying("array")).compute()
    np.testing.assert_array_equal(found, models["conjugate"].predict_interval(X))
    found = EFFECTS["estimate_effect"](models, dying("effect"))
    expected = EFFECTS["estimate_effect"](models, X)
    xr.testing.assert_allclose(found["on"].to_dataset(), expected["on"].to_dataset(), rtol=1e-12)
    assert {path.name for path in Path(tmp_path).iterdir()} == {"array", "effect"}
