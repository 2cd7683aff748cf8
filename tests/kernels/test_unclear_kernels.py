"""Errors that say which habit of a kernel is in the way."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from skaimz import NumPyroImpactRegressor

X, Y = np.arange(4.0)[:, None], np.zeros(4)


def counts_outcomes(X, y=None):
    a = numpyro.sample("a", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", y.shape[0]):
        numpyro.sample("y", dist.Normal(a * X[:, 0], 1.0), obs=y)


def within_limits(X, y=None, high=None):
    a = numpyro.sample("a", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        if y is None:
            numpyro.sample("y", dist.Normal(a * X[:, 0], 1.0))
        else:
            numpyro.factor("score", dist.Normal(a * X[:, 0], 1.0).log_prob((y + high) / 2))


def centred(X, y=None):
    a = numpyro.sample("a", dist.Normal(0.0, 1.0))
    mean = a * (X[:, 0] - X[:, 0].mean())
    with numpyro.plate("rows", X.shape[0]):
        if y is None:
            numpyro.sample("y", dist.Normal(mean, 1.0))
        else:
            numpyro.factor("score", dist.Normal(mean, 1.0).log_prob(y))


def summed(X, y=None):
    a = numpyro.sample("a", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        if y is None:
            numpyro.sample("y", dist.Normal(a * X[:, 0], 1.0))
    if y is not None:
        numpyro.factor("score", jnp.sum(dist.Normal(a * X[:, 0], 1.0).log_prob(y)))


def model_of(kernel):
    return NumPyroImpactRegressor(kernel, posterior={"a": np.ones(2)})


def test_a_plate_as_long_as_the_outcomes():
    with pytest.raises(AttributeError, match="NoneType") as error:
        model_of(counts_outcomes).fit(X, Y)
    assert any("'y' is None in predictions: take the number of rows from 'X'" in note for note in error.value.__notes__)


def test_an_argument_that_only_outcomes_need():
    model = model_of(within_limits).fit(X, Y, high=Y + 1.0)
    np.testing.assert_allclose(model.predict(X, high=Y), X[:, 0])
    with pytest.raises(TypeError, match="NoneType") as error:
        model.predict(X)
    assert any("Arguments that are not passed are None" in note for note in error.value.__notes__)


@pytest.mark.filterwarnings("ignore:The kernel runs on all rows at once:skaimz.exceptions.SpeedWarning")
@pytest.mark.parametrize(
    ("kernel", "reason"),
    [
        (centred, "the rows of the factor 'score' may depend on one another: "),
        (summed, "the factor 'score' has no entry for each row: write it within the plate"),
    ],
)
def test_factors_without_a_density_of_each_row(kernel, reason):
    with pytest.raises(ValueError, match=f"log density of a row cannot be computed, because {reason}"):
        model_of(kernel).fit(X, Y).log_likelihood(X, Y)
