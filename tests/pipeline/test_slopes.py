"""Slopes through curved steps, whose domain may end, equal derivatives in closed form or those of SciPy's splines."""

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy.interpolate import BSpline
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    PolynomialFeatures,
    PowerTransformer,
    SplineTransformer,
    StandardScaler,
)

from skaimz import NumPyroImpactRegressor, pipeline

RNG = np.random.default_rng(0)
SKEWED = RNG.lognormal(3.0, 2.0, 30)
# The standard deviation is 1000: within 10, 5, 1 and 1/2 of each number, the floor rises like the number itself.
AROUND = np.where(np.arange(30) % 2, 1000.0, -1000.0) + 0.3


def linear(X, y=None):
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ coef, 1.0), obs=y)


def slopes(step, x, **options):
    """Return the derivative of each output of a step, a column each: the slopes for draws that are unit vectors."""
    X = np.asarray(x, float)[:, None]
    n_outputs = step.fit(X).transform(X).shape[1]
    model = NumPyroImpactRegressor(linear, posterior={"coef": np.eye(n_outputs)}, random_state=0)
    pipe = make_pipeline(step, model).fit(X, np.zeros(len(X)))
    return pipeline.estimate_slope(pipe, X, 0, average=False, **options)["0"]["effect"].to_numpy()[0].T


def column(derivative):
    return lambda step, x: derivative(x)[:, None]


def of_splines(step, x):
    spline = step.bsplines_[0]
    return np.stack([BSpline(spline.t, c, spline.k).derivative()(x) for c in spline.c.T], axis=1)


def floor_and_identity(X):
    return np.column_stack([np.floor(X), X])


CURVED = {
    "log": (FunctionTransformer(np.log), [1.0, 10.0, 1000.0], column(lambda x: 1 / x)),
    "log of many sizes": (FunctionTransformer(np.log), 10.0 ** np.arange(-3, 10), column(lambda x: 1 / x)),
    "log1p": (FunctionTransformer(np.log1p), [0.0, 0.0, *SKEWED], column(lambda x: 1 / (1 + x))),
    "sqrt": (FunctionTransformer(np.sqrt), SKEWED, column(lambda x: 0.5 / np.sqrt(x))),
    "Box-Cox": (
        PowerTransformer("box-cox", standardize=False),
        SKEWED,
        lambda step, x: x[:, None] ** (step.lambdas_ - 1),
    ),
    "large numbers": (StandardScaler(), 1e12 + RNG.normal(size=30), lambda step, x: np.ones((30, 1)) / step.scale_),
    "cubic": (
        PolynomialFeatures(3, include_bias=False),
        [0.0, *RNG.normal(size=30)],
        lambda _, x: np.stack([x**0, 2 * x, 3 * x**2], axis=1),
    ),
    "quadratic spline": (SplineTransformer(5, degree=2, extrapolation="error"), np.arange(21.0), of_splines),
    "cubic spline": (SplineTransformer(5, degree=3, extrapolation="error"), SKEWED, of_splines),
    "jumps like a slope": (
        FunctionTransformer(floor_and_identity),
        AROUND,
        lambda _, x: np.stack([0 * x, x**0], axis=1),
    ),
    "jumps": (FunctionTransformer(floor_and_identity), SKEWED, lambda _, x: np.stack([0 * x, x**0], axis=1)),
}


@pytest.mark.parametrize("name", CURVED)
def test_slopes_through_curved_steps(name):
    step, x, derivative = CURVED[name]
    found = slopes(step, x)
    expected = derivative(step, np.asarray(x))
    # Kernels compute in double precision here, since X is.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7 * abs(expected).max())


def test_kinks_and_infinite_slopes():
    x = np.append(0.0, SKEWED)
    kink = slopes(FunctionTransformer(np.abs), np.append(x, -SKEWED))
    np.testing.assert_allclose(kink[:, 0], [0.0, *np.ones(30), *-np.ones(30)], atol=1e-9)
    with pytest.raises(ValueError, match="infinite slope, as the square root does at zero"):
        slopes(FunctionTransformer(np.sqrt), x)
    root = slopes(FunctionTransformer(np.sqrt), x, where=x > 0)
    np.testing.assert_allclose(root[:, 0], 0.5 / np.sqrt(SKEWED), atol=1e-7)
