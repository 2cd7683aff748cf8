"""Levels that follow those of the fit in order: several series in one table."""

import numpy as np
import pandas as pd
import pytest
import series

from skaimz import NumPyroImpactRegressor

N_DRAWS = 3000
RNG = np.random.default_rng(0)
MONTHS = pd.date_range("2020-01-01", periods=12, freq="MS")
LEVEL = np.array([[3.0], [-2.0]]) + np.cumsum(RNG.normal(scale=0.5, size=(2, 12)), axis=1)
TABLE = pd.DataFrame(
    {"x": 0.0, "month": np.tile(MONTHS, 2), "shop": np.repeat(["north", "south"], 12), "y": LEVEL.ravel()}
).sample(frac=1.0, random_state=0)
COLUMNS = {"time": {"columns": "month", "unknown": "next"}, "shop": "shop"}
DRAWS = {"scale": np.full(N_DRAWS, 0.5), "level": np.tile(LEVEL, (N_DRAWS, 1, 1))}


def fitted(kernel=series.panel, table=TABLE, column_args=COLUMNS, draws=DRAWS):
    model = NumPyroImpactRegressor(kernel, column_args=column_args, posterior=draws, random_state=0)
    return model.fit(table[["x", "month", "shop"]], table["y"])


@pytest.fixture(scope="module")
def model():
    return fitted()


def rows(months, shop="south"):
    return pd.DataFrame({"x": 0.0, "month": pd.to_datetime(months), "shop": shop})


def test_each_series_goes_on_from_its_own_last_level(model):
    # The third month after the last, alone and after known ones: steps between count.
    mean, std = model.predict(rows(["2021-03-01", "2020-12-01", "2021-01-01"]), return_std=True)
    last = LEVEL[1, -1]
    np.testing.assert_allclose(mean, last, atol=4 * 0.5 * np.sqrt(3 / N_DRAWS))
    np.testing.assert_allclose(std, np.sqrt(np.array([0.75, 0.0, 0.25]) + 0.09), rtol=0.05)
    other = model.predict(rows(["2021-01-01"], "north"))
    np.testing.assert_allclose(other, LEVEL[0, -1], atol=4 * 0.5 / np.sqrt(N_DRAWS))


def test_steps_of_a_path_are_those_of_one_walk(model):
    tree = model.sample_posterior_predictive(
        rows(["2021-01-01", "2021-02-01", "2021-03-01"]), in_sample=False, return_sites=["mu"]
    )
    moves = np.diff(tree["predictions"]["mu"].to_numpy()[0], prepend=LEVEL[1, -1], axis=1)
    np.testing.assert_allclose(np.cov(moves.T), 0.25 * np.eye(3), atol=0.03)


def test_numbers_follow_in_their_steps():
    years = TABLE.assign(month=2000 + 2 * TABLE["month"].dt.month)
    model = fitted(table=years)
    std = model.predict(pd.DataFrame({"x": 0.0, "month": [2028], "shop": "south"}), return_std=True)[1]
    np.testing.assert_allclose(std, np.sqrt(0.5 + 0.09), rtol=0.05)
    with pytest.raises(ValueError, match=r"'time' has \[2027\], which are no regular steps after"):
        model.predict(pd.DataFrame({"x": 0.0, "month": [2027], "shop": "south"}))


def test_refusals(model):
    with pytest.raises(ValueError, match="no regular steps after"):
        model.predict(rows(["2021-01-15"]))
    with pytest.raises(ValueError, match="no regular steps after"):
        model.predict(rows(["2019-12-01"]))
    with pytest.raises(ValueError, match=r"'shop'.*holds categories that were not there"):
        model.predict(rows(["2021-01-01"], "west"))
    with pytest.raises(ValueError, match=r"would change the distribution of \['y'\]"):
        fitted(series.centred_panel).predict(rows(["2021-01-01"]))
    with pytest.raises(ValueError, match="may change what is known of the others"):
        fitted(column_args={**COLUMNS, "time": {"columns": "month", "unknown": "new"}}).predict(rows(["2021-01-01"]))
