"""Forecasts that go to stores or come from them, rows that are read in parts, and Dask, which is refused."""

import errno
import re

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import series
import xarray as xr
import zarr
from stores import assert_same_files, breaking, marks

from skaimz import NumPyroImpactRegressor
from skaimz.sampling import Limits, Store, limits

N, AHEAD = 12, 3
TIMES, LATER = np.arange(N, dtype=float)[:, None], np.arange(N, N + AHEAD, dtype=float)[:, None]
Y = np.cumsum(np.random.default_rng(0).normal(size=N))
# Posterior draws in two chains, by kernel: a latent walk, and outcomes that depend on one another in two ways.
DRAWS = {
    "walk": {"scale": np.full((2, 6), 0.5), "level": np.tile(Y, (2, 6, 1))},
    "autoregression": {"coef": np.full((2, 6, 2), 0.4), "scale": np.full((2, 6), 0.5)},
    "gaussian_process": {"scale": np.linspace(0.5, 1.0, 12).reshape(2, 6)},
}


def fitted(name, X=TIMES, y=Y):
    return NumPyroImpactRegressor(getattr(series, name), posterior=DRAWS[name], random_state=0).fit(X, y)


def drawn(model, X=LATER, **settings):
    return model.sample_posterior_predictive(X, in_sample=False, **settings)


@pytest.mark.parametrize("name", DRAWS)
def test_forecasts_are_stored_and_resumed(name, tmp_path, monkeypatch):
    # One draw at a time: six parts of each chain, with all rows.
    monkeypatch.setattr(limits, "DEFAULT", Limits(tile_elements=1))
    model = fitted(name)
    in_memory, whole = drawn(model), drawn(model, output_dir=tmp_path / "whole")
    for group in in_memory.children:
        xr.testing.assert_identical(whole[group].to_dataset(), in_memory[group].to_dataset())
    full = OSError(errno.ENOSPC, "No space left on device")
    with breaking(Store, "_put_array", full, lambda number: number >= 5), pytest.raises(OSError, match="No space"):
        drawn(model, output_dir=tmp_path / "draws")
    assert marks(tmp_path / "draws") == [0, 1, 2, 3, 4]
    # A fit on other rows has another past, and so does not go on with these draws.
    with pytest.raises(FileExistsError, match="holds the output of another call"):
        drawn(fitted(name, y=Y + 1.0), output_dir=tmp_path / "draws")
    drawn(model, output_dir=tmp_path / "draws")
    assert_same_files(tmp_path / "draws", tmp_path / "whole")


def test_rows_may_be_read_in_parts():
    expected = fitted("walk").predict(LATER)
    model = fitted("walk", X=zarr.array(TIMES, chunks=(5, 1)), y=zarr.array(Y, chunks=(5,)))
    np.testing.assert_array_equal(model.predict(LATER), expected)
    np.testing.assert_array_equal(model.predict(zarr.array(LATER, chunks=(2, 1))), expected)


# Why rows depend on one another.
REASONS = {
    "walk": "(site 'level')",
    "autoregression": "a scan runs along the rows (site 'y')",
    "gaussian_process": "(site 'y')",
}


@pytest.mark.parametrize(("name", "reason"), REASONS.items())
def test_dask_is_refused_with_the_reason(name, reason, tmp_path):
    model, rows = fitted(name), da.from_array(LATER, chunks=(2, 1))
    message = (
        rf"block by block, but the kernel's rows may depend on one another.*{re.escape(reason)}.*pass `X.compute\(\)`"
    )
    calls = [model.predict, lambda X: model.predict_interval(X, 0.9), lambda X: drawn(model, X)]
    for call in (*calls, lambda X: drawn(model, X, output_dir=tmp_path / "draws")):
        with pytest.raises(ValueError, match=message):
            call(rows)
    assert list(tmp_path.iterdir()) == []


def test_levels_that_follow_are_refused_in_dask():
    table = pd.DataFrame({"x": 0.0, "time": np.tile(np.arange(6), 2), "shop": np.repeat([0, 1], 6)})
    model = NumPyroImpactRegressor(
        series.panel,
        column_args={"time": {"columns": "time", "unknown": "next"}, "shop": "shop"},
        posterior={"scale": np.full(4, 0.5), "level": np.zeros((4, 2, 6))},
        random_state=0,
    ).fit(table, np.zeros(12))
    known, new = table[:4], table[:4].assign(time=[6, 7, 6, 7])
    np.testing.assert_allclose(model.predict(dd.from_pandas(known, npartitions=2)).compute(), model.predict(known))
    with pytest.raises(ValueError, match=r"'time' has levels that follow.*block by block.*`X.compute\(\)`"):
        model.predict(dd.from_pandas(new, npartitions=2)).compute()
