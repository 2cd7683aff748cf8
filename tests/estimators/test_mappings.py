"""Arguments of a kernel that are mappings of arrays, and scenarios of arguments that every row sees whole."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import zarr
from numpyro.infer.util import log_density

from skaimz import NumPyroImpactRegressor
from skaimz.inference import SVI

pytestmark = [
    pytest.mark.filterwarnings("ignore::skaimz.exceptions.FitWarning"),
    pytest.mark.usefixtures("quick_compilation"),
]

rng = np.random.default_rng(0)
X = rng.normal(size=(12, 1))
GROUP = np.arange(12) % 3
DATA = {
    "group": GROUP,
    "prices": np.array([1.0, 2.0, 4.0]),
    "more": {"exposure": rng.uniform(1, 2, size=12), "unit": 10.0},
}
DRAWS = {"b": np.array([0.5, 1.5])}
LOC = DATA["prices"][GROUP] * DATA["more"]["exposure"] * DATA["more"]["unit"]
Y = LOC + X[:, 0]


def kernel(X, y=None, *, data):
    b = numpyro.sample("b", dist.Normal(0.0, 1.0))
    mean = jnp.asarray(data["prices"])[data["group"]] * data["more"]["exposure"] * data["more"]["unit"]
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(mean + b * X[:, 0], 1.0), obs=y)


def guide(X, y=None, *, data):
    assert set(data) == {"group", "prices", "more"}
    numpyro.sample("b", dist.Normal(numpyro.param("m", 0.0), 0.1))


@pytest.fixture(scope="module")
def model():
    return NumPyroImpactRegressor(kernel, posterior=DRAWS, random_state=0).fit(X, Y, data=DATA)


def test_rows_tables_and_numbers(model):
    expected = LOC + X[:, 0]
    np.testing.assert_allclose(model.predict(X, data=DATA), expected)
    lazily = {**DATA, "group": zarr.array(GROUP, chunks=(5,))}
    np.testing.assert_allclose(model.predict(zarr.array(X, chunks=(5, 1)), data=lazily), expected)
    # Entries are arguments like others: a number of the fit holds on.
    assert model.arguments_["static"] == {"data.more.unit": 10.0}
    few = {"group": GROUP[:5], "prices": DATA["prices"], "more": {"exposure": DATA["more"]["exposure"][:5]}}
    np.testing.assert_allclose(model.predict(X[:5], data=few), expected[:5])
    tree = model.log_likelihood(X, Y, data=DATA)
    by_hand, _ = log_density(kernel, (X, Y), {"data": DATA}, {"b": 0.5})
    by_hand -= dist.Normal(0.0, 1.0).log_prob(0.5)
    assert float(tree["log_likelihood"]["y"][0, 0].sum()) == pytest.approx(float(by_hand), rel=1e-5)


def test_dask_cuts_what_has_rows():
    da = pytest.importorskip("dask.array")
    model = NumPyroImpactRegressor(kernel, posterior=DRAWS, random_state=0)
    n = 4096
    rows = np.tile(X, (n // 4, 1))[:n]
    data = {**DATA, "group": np.resize(GROUP, n), "more": {"exposure": np.linspace(1, 2, n), "unit": 10.0}}
    found = model.predict(da.from_array(rows, chunks=(2048, 1)), data=data).compute()
    np.testing.assert_allclose(found, model.predict(rows, data=data))


def test_fits_and_guides_see_the_mapping():
    for settings in (SVI(num_steps=600, num_samples=400), SVI(guide=guide, num_steps=600, num_samples=400)):
        fitted = NumPyroImpactRegressor(kernel, inference=settings, random_state=0).fit(X, Y, data=DATA)
        exact = (X[:, 0] ** 2).sum() / ((X[:, 0] ** 2).sum() + 1.0)
        assert float(fitted.posterior_["b"].mean()) == pytest.approx(exact, abs=0.2)


def test_scenarios(model):
    scenarios = {
        "an entry": {"arguments": {"data.group": 2}},
        "entries": {"arguments": {"data": {"group": np.full(12, 2)}}},
        "a function": {"arguments": {"data": lambda data: {"group": 2 + 0 * data["group"]}}},
        "a function of an entry": {"arguments": {"data.group": lambda group: 2 + 0 * group}},
    }
    effect = model.estimate_effect(X, data=DATA, scenarios=scenarios)
    exposure = DATA["more"]["exposure"] * 10.0
    for name in scenarios:
        assert float(effect[name]["effect"].mean()) == pytest.approx((4.0 * exposure - LOC).mean()), name


def test_one_value_for_an_argument_that_rows_see_whole(model):
    """A scalar is a new value of each entry, as it is of an argument of rows."""
    effect = model.estimate_effect(
        X,
        data=DATA,
        scenarios={
            "one price": {"arguments": {"data.prices": 3}},
            "twice": {"arguments": {"data.prices": lambda prices: 2 * prices}},
            "another table": {"arguments": {"data.prices": [3.0, 3.0, 3.0, 9.0]}},
        },
    )
    exposure = DATA["more"]["exposure"] * 10.0
    expected = {
        "one price": (3 * exposure - LOC).mean(),
        "twice": LOC.mean(),
        "another table": (3 * exposure - LOC).mean(),
    }
    for name, value in expected.items():
        assert float(effect[name]["effect"].mean()) == pytest.approx(value), name


REFUSALS = [
    ({}, "Argument 'data' is a mapping that is empty"),
    ({"a.b": 1.0}, "Argument 'data' is a mapping that has the key 'a.b'"),
    ({1: 1.0}, "Argument 'data' is a mapping that has the key 1: it must map names"),
    ({**DATA, "prices": ["a", "b", "c"]}, "Argument 'data.prices' must be numeric"),
    ({**DATA, "group": GROUP + 1}, "Argument 'data.group' holds 3 in row 2, but the kernel uses it as an index of 3"),
]


@pytest.mark.parametrize(("data", "message"), REFUSALS)
def test_refusals(data, message):
    with pytest.raises(ValueError, match=message):
        NumPyroImpactRegressor(kernel, posterior=DRAWS).predict(X, data=data)


def test_unknown_mappings():
    with pytest.raises(TypeError, match="Unknown argument 'other'"):
        NumPyroImpactRegressor(kernel, posterior=DRAWS).predict(X, data=DATA, other={"a": 1.0})
    with pytest.raises(TypeError, match="Missing argument 'data'"):
        NumPyroImpactRegressor(kernel, posterior=DRAWS).predict(X)
