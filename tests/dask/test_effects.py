"""Effects over the rows of Dask collections: those of one call."""

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import zoo

from skaimz import NumPyroImpactRegressor
from skaimz.exceptions import NoRowsError, UnreachedOutputWarning

pytestmark = pytest.mark.usefixtures("in_this_thread")

N_ROWS, N_DRAWS = 5000, 60
OFF, ON = {"columns": {0: 0.0}}, {"columns": {0: 1.0}}


@pytest.fixture(autouse=True)
def _joined_by_two(monkeypatch):
    """Three blocks are a tree, rather than one join."""
    monkeypatch.setattr("skaimz.dask.blocks.JOINED", 2)


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).normal(size=(N_ROWS, 2))


@pytest.fixture(scope="module")
def rows(X):
    return da.from_array(X, chunks=(1234, 2))


@pytest.fixture(scope="module")
def poisson():
    draws = 0.3 * np.random.default_rng(1).normal(size=(2 * N_DRAWS, 2))
    return NumPyroImpactRegressor(zoo.poisson, random_state=0).set_posterior_sample({"coef": draws}, num_chains=2)


EXPOSURE = np.linspace(0.5, 2.0, N_ROWS)
BAND = np.arange(N_ROWS) // 1700
WEIGHT = np.arange(N_ROWS) % 4.0


def assert_same(found, expected):
    assert list(found.children) == list(expected.children)
    assert {n: v for n, v in found.attrs.items() if n != "created_at"} == {
        n: v for n, v in expected.attrs.items() if n != "created_at"
    }
    for name in expected.children:
        one, other = found[name].to_dataset(), expected[name].to_dataset()
        assert dict(one.sizes) == dict(other.sizes)
        assert list(one.data_vars) == list(other.data_vars)
        for variable in other.variables:
            assert one[variable].dims == other[variable].dims
            if one[variable].dtype.kind == "f":
                np.testing.assert_allclose(one[variable], other[variable], rtol=1e-9, atol=1e-12)
            else:
                np.testing.assert_array_equal(one[variable], other[variable])


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"contrast": "lift"},
        {"contrast": lambda scenario, baseline: scenario**2 - baseline},
        {"of": "outcome", "random_state": 4},
        {"by": {"band": BAND}, "sample_weight": WEIGHT},
        {"by": {"band": BAND, "even": np.arange(N_ROWS) % 2 == 0}},
        {"where": BAND == 1},
        {"pairs": True, "contrast": "ratio"},
    ],
    ids=["plain", "lift", "function", "outcome", "groups", "two", "mask", "pairs"],
)
def test_effects(poisson, X, rows, asked):
    scenarios = {"on": ON, "more": {"arguments": {"exposure": EXPOSURE + 1.0}}}
    given = {"baseline": OFF, "scenarios": scenarios, "exposure": EXPOSURE, **asked}
    expected = poisson.estimate_effect(X, **given)
    assert_same(poisson.estimate_effect(rows, **given), expected)
    pd.testing.assert_frame_equal(poisson.estimate_effect(rows, **given).summary(), expected.summary(), rtol=1e-8)


def test_slopes(poisson, X, rows):
    for asked in ({}, {"elasticity": True, "by": {"band": BAND}}):
        expected = poisson.estimate_slope(X, [0, "exposure"], exposure=EXPOSURE, **asked)
        assert_same(poisson.estimate_slope(rows, [0, "exposure"], exposure=EXPOSURE, **asked), expected)


def test_columns_of_frames():
    generator = np.random.default_rng(2)
    frame = pd.DataFrame(
        {
            "a": generator.normal(size=N_ROWS),
            "b": generator.normal(size=N_ROWS),
            "months": EXPOSURE,
            "size": pd.Categorical(generator.choice(["small", "large", "huge"], N_ROWS), ["small", "large", "huge"]),
        }
    )
    collection = dd.from_pandas(frame, npartitions=3)
    draws = 0.3 * np.random.default_rng(1).normal(size=(N_DRAWS, 2))
    model = NumPyroImpactRegressor(zoo.poisson, column_args={"exposure": "months"}, random_state=0)
    model.set_posterior_sample({"coef": draws})
    scenarios = {"longer": {"columns": {"months": lambda months: months + 1}}}
    kept, lazy = frame[["a", "b", "months"]], collection[["a", "b", "months"]]
    expected = model.estimate_effect(kept, scenarios=scenarios, by={"size": frame["size"]})
    assert list(expected["longer"]["size"].to_numpy()) == ["small", "large", "huge"]
    found = model.estimate_effect(lazy, scenarios=scenarios, by={"size": collection["size"]})
    assert_same(found, expected)
    again = model.estimate_effect(lazy, scenarios=scenarios, by={"size": frame["size"]})
    assert_same(again, expected)


def test_refusals(poisson, rows):
    given = {"baseline": OFF, "scenarios": {"on": ON}, "exposure": EXPOSURE}
    with pytest.raises(ValueError, match=r"leave out `average=False`"):
        poisson.estimate_effect(rows, average=False, **given)
    with pytest.raises(NoRowsError, match=r"No row is left"):
        poisson.estimate_effect(rows, where=np.zeros(N_ROWS, bool), **given)


def test_scenarios_that_reach_nothing_in_any_block(X, rows):
    model = NumPyroImpactRegressor(zoo.conjugate, random_state=0).set_posterior_sample({"coef": np.array([[1.0, 0.0]])})
    with pytest.warns(UnreachedOutputWarning, match="'new' leaves the outcome as it is"):
        found = model.estimate_effect(rows, scenarios={"new": {"columns": {1: 3.0}}})
    with pytest.warns(UnreachedOutputWarning):
        assert_same(found, model.estimate_effect(X, scenarios={"new": {"columns": {1: 3.0}}}))
    # In some blocks alone there is nothing to change.
    first = {"new": {"columns": {0: np.where(np.arange(N_ROWS) < 100, 2.0, X[:, 0])}}}
    assert_same(model.estimate_effect(rows, scenarios=first), model.estimate_effect(X, scenarios=first))


@pytest.mark.parametrize("in_blocks", [False, True])
def test_infinite_rows_are_in_the_average_of_their_own_group_alone(in_blocks):
    X, group = np.random.default_rng(0).normal(size=(5000, 2)).astype(np.float32), np.arange(5000) % 3
    X[group == 1, 0] = 200.0
    slopes = np.array([[1.0, 0.0], [0.5, 0.0], [0.9, 0.0]])
    model = NumPyroImpactRegressor(zoo.poisson, posterior={"coef": slopes}, random_state=0)
    rows = da.from_array(X, chunks=(1100, 2)) if in_blocks else X
    higher = {"columns": {0: lambda column: column + 0.1}}
    tree = model.estimate_effect(rows, scenarios={"higher": higher}, by={"group": group}, exposure=1.0)
    rates = np.exp(X[:, 0].astype(float)[:, None] * slopes[:, 0])
    for label in (0, 2):
        expected = rates[group == label].mean(axis=0)
        np.testing.assert_allclose(tree["higher"]["baseline"][0, :, label], expected, rtol=1e-5)
        np.testing.assert_allclose(
            tree["higher"]["effect"][0, :, label], expected * (np.exp(0.1 * slopes[:, 0]) - 1), rtol=1e-4
        )
    assert np.isinf(tree["higher"]["baseline"][0, :, 1]).all()
