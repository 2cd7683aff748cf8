"""An X that is a mapping of arrays, for kernels that take their input as a dict."""

import cloudpickle
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from sklearn.base import clone

from skaimz import NumPyroImpactRegressor

RNG = np.random.default_rng(0)
GROUP, DOSE = np.arange(60) % 3, RNG.normal(size=60)
Y = np.array([-1.0, 0.0, 2.0])[GROUP] * DOSE + 0.5 * RNG.normal(size=60)
DATA = {"group": GROUP, "dose": DOSE, "n_groups": 3}


def slopes(data, y=None):
    with numpyro.plate("groups", data["n_groups"]):
        slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", len(data["group"])):
        numpyro.sample("y", dist.Normal(slope[data["group"]] * data["dose"], 0.5), obs=y)


@pytest.fixture(scope="module")
def fitted():
    return NumPyroImpactRegressor(slopes, param_input="data", random_state=0).fit(DATA, Y)


def test_the_posterior_and_predictions(fitted):
    precision = np.bincount(GROUP, DOSE**2) / 0.25 + 1
    mean = np.bincount(GROUP, DOSE * Y) / 0.25 / precision
    assert (np.abs(fitted.posterior_["slope"][0].mean(0) - mean) < 0.3 * precision**-0.5).all()
    # The order of entries does not matter, and rows may be any.
    new = {"dose": [1.0, 2.0], "n_groups": 3, "group": [2, 0]}
    expected = fitted.posterior_["slope"][0].mean(0)[[2, 0]] * [1.0, 2.0]
    np.testing.assert_allclose(fitted.predict(new), expected, rtol=1e-5)
    doubled = {"twice": {"arguments": {"data.dose": 2 * DOSE}}}
    effect = fitted.estimate_effect(DATA, scenarios=doubled)["twice"]["effect"].to_numpy()
    np.testing.assert_allclose(effect.mean(), fitted.predict(DATA).mean(), rtol=1e-5)


def test_fits_are_stored_and_repeated(fitted):
    again = type(fitted).from_datatree(slopes, fitted.to_datatree(DATA, Y))
    np.testing.assert_array_equal(again.predict(DATA), fitted.predict(DATA))
    pickled = cloudpickle.loads(cloudpickle.dumps(fitted))
    np.testing.assert_array_equal(pickled.predict(DATA), fitted.predict(DATA))
    refitted = clone(fitted).fit(DATA, Y).fit(dict(reversed(DATA.items())), Y)
    np.testing.assert_allclose(refitted.predict(DATA), fitted.predict(DATA), rtol=1e-5)


def test_refused_mappings(fitted):
    with pytest.raises(ValueError, match=r"X must be a mapping with the entry 'data.group', as in `fit`"):
        fitted.predict(GROUP)
    with pytest.raises(ValueError, match=r"X must have the entry 'data.group'"):
        fitted.predict({"dose": DOSE, "n_groups": 3})
    with pytest.raises(ValueError, match=r"Argument 'data.dose' has 3 rows, but X has 60"):
        fitted.predict({**DATA, "dose": DOSE[:3]})
    with pytest.raises(ValueError, match="the default kernel takes a table"):
        NumPyroImpactRegressor().fit(DATA, Y)
    with pytest.raises(ValueError, match="none of which is an array"):
        NumPyroImpactRegressor(slopes, param_input="data").fit({"n_groups": 3}, Y)
    with pytest.raises(TypeError, match="'data' is the kernel's parameter that takes X"):
        fitted.predict(DATA, data=DATA)
