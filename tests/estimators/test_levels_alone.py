"""A new level is the same one whichever others there are, and arrays may have an entry for each level."""

import dask.dataframe as dd
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest

from skaimz import NumPyroImpactRegressor

N_DRAWS = 2000
TABLE = pd.DataFrame({"x": 0.0, "group": np.repeat(list("abcdef"), 2), "item": np.tile(list("uv"), 6)})
Y = np.zeros(12)
OPEN = {"group": {"columns": "group", "unknown": "new"}}
LEVELS = np.zeros((N_DRAWS, 6))


def rows(*labels):
    return pd.DataFrame({"x": 0.0, "group": list(labels), "item": "u"})


def observe(X, y, mean):
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(mean, 0.5), obs=y)


def scalars(X, y=None, *, group, n_group):
    with numpyro.plate("groups", n_group):
        level = numpyro.sample("level", dist.Normal(1.0, 2.0))
    observe(X, y, level[group])


def constants(X, y=None, *, group, n_group):
    level = numpyro.sample("level", dist.Normal(jnp.ones(n_group), 2.0).to_event(1))
    observe(X, y, level[group])


def scales(X, y=None, *, group, n_group):
    with numpyro.plate("groups", n_group):
        tau = numpyro.sample("tau", dist.Gamma(64.0, 32.0))
        level = numpyro.sample("level", dist.Normal(1.0, tau))
    observe(X, y, level[group])


def vectors(X, y=None, *, group, n_group):
    with numpyro.plate("groups", n_group):
        scale = numpyro.sample("tau", dist.Gamma(64.0, 32.0))
        level = numpyro.sample("pair", dist.Normal(jnp.ones(2), scale[..., None]).to_event(1))
    observe(X, y, level[group, 1])


def heights(X, y=None, *, group, n_group, height):
    with numpyro.plate("groups", n_group):
        level = numpyro.sample("level", dist.Normal(height, 2.0))
    observe(X, y, level[group])


def picked_heights(X, y=None, *, group, n_group, height):
    with numpyro.plate("groups", n_group):
        level = numpyro.sample("level", dist.Normal(0.0, 2.0))
    observe(X, y, level[group] + height[group])


def cells(X, y=None, *, group, n_group, item, n_item):
    with numpyro.plate("items", n_item), numpyro.plate("groups", n_group):
        cell = numpyro.sample("cell", dist.Normal(0.0, 1.0))
    observe(X, y, cell[group, item])


def fitted(kernel, draws, column_args=OPEN, **arguments):
    model = NumPyroImpactRegressor(kernel, column_args=column_args, posterior=draws, random_state=0)
    X = TABLE if "item" in column_args else TABLE[["x", "group"]]
    return model.fit(X, Y, **arguments)


@pytest.mark.parametrize(
    ("kernel", "draws"),
    [
        (scalars, {"level": LEVELS}),
        (constants, {"level": LEVELS}),
        (scales, {"tau": np.ones((N_DRAWS, 6)), "level": LEVELS}),
        (vectors, {"tau": np.ones((N_DRAWS, 6)), "pair": np.zeros((N_DRAWS, 6, 2))}),
    ],
)
def test_a_new_level_does_not_depend_on_the_others(kernel, draws):
    model = fitted(kernel, draws)
    predict = lambda *labels: model.predict(rows(*labels)[["x", "group"]])  # noqa: E731
    (alone,) = predict("new")
    first, second, third = predict("new", "z"), predict("z", "new"), predict("p", "new", "q", "a")
    np.testing.assert_allclose([first[0], second[1], third[1]], alone, rtol=1e-6)
    assert first[1] == pytest.approx(second[0], rel=1e-6)
    # The distribution of the population: a mean of 1, and a standard deviation of 2 beside the noise.
    mean, std = model.predict(rows("new", "z")[["x", "group"]], return_std=True)
    np.testing.assert_allclose(mean, 1.0, atol=4 * 2.1 / np.sqrt(N_DRAWS))
    np.testing.assert_allclose(std, np.hypot(2.0, 0.5), rtol=0.06)


def test_blocks_see_the_same_levels():
    model = fitted(scales, {"tau": np.ones((N_DRAWS, 6))[:20], "level": LEVELS[:20]})
    X = pd.concat([rows("z", "q"), *[rows("a", "b")] * 1023, rows("new", "a")], ignore_index=True)[["x", "group"]]
    lazy = model.predict(dd.from_pandas(X, npartitions=2)).compute()
    np.testing.assert_allclose(lazy, model.predict(X), rtol=1e-6)


@pytest.mark.parametrize("kernel", [heights, picked_heights])
def test_an_array_has_an_entry_for_each_level(kernel):
    model = fitted(kernel, {"level": LEVELS}, height=np.zeros(6))
    X = rows("a", "n1", "n2", "n3")[["x", "group"]]
    mean = model.predict(X, height=np.r_[np.zeros(6), 100.0, 200.0, 300.0])
    np.testing.assert_allclose(mean, [0.0, 100.0, 200.0, 300.0], atol=4 * 2.0 / np.sqrt(N_DRAWS))
    with pytest.raises(
        ValueError, match=r"'height' has the length 6 on axis 0, and needs 9: .*'group', those of `fit`"
    ):
        model.predict(X, height=np.zeros(6))
    with pytest.raises(ValueError, match=r"'height' has the length 10 on axis 0, and needs 9"):
        model.predict(X, height=np.zeros(10))
    with pytest.raises(ValueError, match=r"'height' has entries for new levels of 'group'.*`X.compute\(\)`"):
        model.predict(dd.from_pandas(X, npartitions=1), height=np.zeros(9)).compute()


def test_an_array_fits_known_levels_alone():
    model = fitted(heights, {"level": LEVELS[:2]}, height=np.zeros(6))
    X = rows("a")[["x", "group"]]
    np.testing.assert_allclose(model.predict(X, height=np.ones(6)), 0.0)
    with pytest.raises(ValueError, match=r"'height' has the length 9 on axis 0, and needs 6"):
        model.predict(X, height=np.zeros(9))


def test_a_site_grows_along_one_axis():
    both = {**OPEN, "item": {"columns": "item", "unknown": "new"}}
    model = fitted(cells, {"cell": np.zeros((N_DRAWS, 6, 2))}, both)
    X = rows("new", "a")
    np.testing.assert_allclose(model.predict(X), 0.0, atol=4 / np.sqrt(N_DRAWS))
    with pytest.raises(ValueError, match=r"Site 'cell'.*'group' and of 'item'.*new levels of both.*'categories'"):
        model.predict(X.assign(item=["u", "w"]))
