"""Kernels whose input has a default, because it is one of several inputs that may be left out."""

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from skaimz import NumPyroImpactRegressor

X = np.array([[0.5], [-1.0], [2.0]])
Y = np.array([0.3, -0.2, 1.0])
DRAWS = {"by_marriage": np.array([1.0, 2.0]), "by_age": np.array([-1.0, 0.0])}


def divorces(marriage=None, age=None, divorce=None):
    mean = 0.0
    if marriage is not None:
        mean = mean + numpyro.sample("by_marriage", dist.Normal(0.0, 1.0)) * marriage[:, 0]
    if age is not None:
        mean = mean + numpyro.sample("by_age", dist.Normal(0.0, 1.0)) * age[:, 0]
    numpyro.sample("divorce", dist.Normal(mean, 1.0), obs=divorce)


@pytest.mark.parametrize(
    ("param_input", "others", "expected"),
    [
        ("marriage", {}, 1.5 * X[:, 0]),
        ("age", {}, -0.5 * X[:, 0]),
        ("marriage", {"age": 2.0 * X}, 1.5 * X[:, 0] - 0.5 * 2.0 * X[:, 0]),
    ],
)
def test_the_input_is_the_parameter_that_is_chosen(param_input, others, expected):
    drawn = {f"by_{name}": DRAWS[f"by_{name}"] for name in (param_input, *others)}
    model = NumPyroImpactRegressor(divorces, posterior=drawn, param_input=param_input, param_output="divorce")
    model.fit(X, Y, **others)
    np.testing.assert_allclose(model.predict(X, **others), expected, rtol=1e-6)
