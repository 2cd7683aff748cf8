"""Kernels that are written for the rows of their data: their number, their missing values, a site for each."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from skaimz import NumPyroImpactClassifier, NumPyroImpactRegressor
from skaimz.exceptions import ConcreteKernelWarning, SpeedWarning
from skaimz.inference import SVI

RNG = np.random.default_rng(0)
AUTHOR = np.repeat(np.arange(3), 4)
COUNTS = RNG.poisson(np.array([2.0, 5.0, 9.0])[AUTHOR, None], size=(12, 2)).astype(float)


class Documents:
    """A kernel that knows the number of its rows, as the size of a plate that may draw minibatches."""

    def __init__(self, batch_size=None):
        self.batch_size = batch_size

    def model(self, author, counts=None):
        with numpyro.plate("authors", 3):
            rate = numpyro.sample("rate", dist.Gamma(2.0, 1.0))
        documents = numpyro.plate("documents", 12, subsample_size=self.batch_size, dim=-2)
        with documents as rows, numpyro.plate("words", 2, dim=-1):
            seen = None if counts is None else jnp.asarray(counts)[rows]
            numpyro.sample("counts", dist.Poisson(rate[jnp.asarray(author)[rows]][:, None]), obs=seen)


def fitted(batch_size, **settings):
    names = {"param_input": "author", "param_output": "counts"}
    return NumPyroImpactRegressor(Documents(batch_size).model, random_state=0, **names, **settings).fit(AUTHOR, COUNTS)


@pytest.mark.parametrize("batch_size", [None, 4])
def test_a_kernel_for_a_number_of_rows(batch_size):
    settings = {} if batch_size is None else {"inference": SVI(guide="auto_normal", num_steps=3000)}
    model = fitted(batch_size, **settings)
    # Gamma and Poisson are conjugate, with eight counts for each author.
    mean = (2 + np.bincount(AUTHOR, COUNTS.sum(axis=1))) / (1 + 8)
    np.testing.assert_allclose(model.posterior_["rate"][0].mean(0), mean, rtol=0.1)
    with pytest.warns(SpeedWarning, match="the kernel is written for 12 rows"):
        predicted = model.predict(AUTHOR[::-1])
    np.testing.assert_allclose(predicted[:, 1], model.posterior_["rate"][0].mean(0)[AUTHOR[::-1]], rtol=1e-4)
    with pytest.raises(ValueError, match="runs on the 12 rows of the fit alone, and X has 5"):
        model.predict(AUTHOR[:5])


def counted(X, y=None, *, n):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", n):
        numpyro.sample("y", dist.Normal(slope * X[:, 0], 1.0), obs=y)


def test_a_number_that_differs_from_that_of_the_rows_is_named():
    X = RNG.normal(size=(8, 1))
    model = NumPyroImpactRegressor(counted, posterior={"slope": [2.0, 2.0]})
    with pytest.raises(ValueError, match="Incompatible shapes") as error:
        model.fit(X, X[:, 0], n=6)
    assert "X has 8 rows, and these arguments are whole numbers: {'n': 6}." in error.value.__notes__
    model.fit(X, X[:, 0], n=8)
    with pytest.warns(SpeedWarning, match="written for 3 rows"):
        np.testing.assert_allclose(model.predict(X[:3], n=3), 2.0 * X[:3, 0], rtol=1e-6)
    with pytest.raises(ValueError, match=r"runs on the 8 rows of the fit alone, and X has 3: .* arguments that fit"):
        model.predict(X[:3])


def by_loop(X, y=None):
    level = numpyro.sample("level", dist.Normal(0.0, 1.0))
    for row in range(len(X)):
        numpyro.sample(f"y_{row}", dist.Normal(level, 1.0), obs=None if y is None else y[row])


def counting_classes(X, y=None):
    """The number of classes is read from the outcome."""
    n_classes = 3 if y is None else int(np.max(y)) + 1
    shares = numpyro.sample("shares", dist.Dirichlet(jnp.ones(n_classes)))
    with numpyro.plate("rows", len(X)):
        numpyro.sample("y", dist.Categorical(shares), obs=y)


def test_values_of_the_outcome():
    """The posterior is a Dirichlet distribution; log densities are those of the outcomes that are passed."""
    X, y = np.arange(12), np.array([0, 1, 2, 2, 2, 1, 0, 2, 2, 2, 2, 2])
    with pytest.warns(ConcreteKernelWarning, match=r"needs the values of \['X', 'y'\]"):
        model = NumPyroImpactClassifier(counting_classes, random_state=0).fit(X, y)
    shares = model.posterior_["shares"][0]
    np.testing.assert_allclose(shares.mean(0), (1 + np.bincount(y)) / 15, atol=0.02)
    with pytest.warns(ConcreteKernelWarning):
        np.testing.assert_allclose(model.predict_proba(X[:5]), np.tile(shares.mean(0), (5, 1)), rtol=1e-4)
    with pytest.warns(ConcreteKernelWarning):
        densities = model.log_likelihood(X[:3], [2, 1, 2], in_sample=False)["log_likelihood"]["y"].to_numpy()[0]
    np.testing.assert_allclose(densities, np.log(shares[:, [2, 1, 2]]), rtol=1e-4)
    with pytest.raises(ValueError, match=r"needs the values of its outcome 'y' while it is traced.* as an argument"):
        NumPyroImpactClassifier(counting_classes).sample_prior_predictive(X)


def test_a_site_for_each_row_is_refused():
    """The error is one sentence, though X has one dimension."""
    message = r"Site 'y_\d+' is in the kernel on .* write one site for all rows, in a plate or in .* a `scan`"
    with pytest.raises(ValueError, match=message) as caught:
        NumPyroImpactRegressor(by_loop).fit(np.arange(12), COUNTS[:, 0])
    assert "Expected 2D array" not in str(caught.value)


def imputed(age, y=None):
    """Missing values of X have a latent site of their number."""
    missing = np.nonzero(np.isnan(age))[0]
    ages = numpyro.sample("ages", dist.Normal(1.0, 0.5).expand([len(missing)]).to_event(1))
    age = jnp.asarray(age).at[missing].set(ages)
    with numpyro.plate("rows", len(age)):
        numpyro.sample("y", dist.Normal(2.0 * age, 0.5), obs=y)


@pytest.mark.filterwarnings("ignore::skaimz.exceptions.ConcreteKernelWarning")
def test_missing_values_of_the_input_are_latent():
    age = np.where(np.arange(20) % 5 == 0, np.nan, RNG.normal(1.0, 0.5, size=20))
    y = np.where(np.isnan(age), 3.0, 2.0 * age)
    settings = {"param_input": "age", "allow_nan": True, "random_state": 0}
    model = NumPyroImpactRegressor(imputed, **settings).fit(age, y)
    # Prior N(1, 0.5), and an outcome of 3 with the standard deviation 0.5 of twice the age.
    precision = 1 / 0.25 + 4 / 0.25
    assert model.posterior_["ages"].shape == (1, 1000, 4)
    expected = (1.0 / 0.25 + 2.0 * 3.0 / 0.25) / precision
    np.testing.assert_allclose(model.posterior_["ages"][0].mean(0), expected, atol=0.05)
    predicted = model.predict(age, in_sample=True)
    np.testing.assert_allclose(predicted[~np.isnan(age)], 2.0 * age[~np.isnan(age)], rtol=1e-4)
    np.testing.assert_allclose(predicted[np.isnan(age)], 2.0 * model.posterior_["ages"][0].mean(0), rtol=1e-4)
    with pytest.raises(ValueError, match=r"Site .ages. has the shape \(1,\) for these rows, and \(4,\) in the fit"):
        model.predict(age[:5])


def test_values_are_announced():
    with pytest.warns(ConcreteKernelWarning, match=r"needs the values of \['age'\]"):
        NumPyroImpactRegressor(imputed, param_input="age", allow_nan=True).fit(np.array([1.0, np.nan]), [1.0, 2.0])


def topics(exposure, counts=None):
    """A rate of each document, for a number of documents."""
    with numpyro.plate("documents", 12, dim=-2) as rows:
        rate = numpyro.sample("rate", dist.Gamma(2.0, 1.0))
        with numpyro.plate("words", 2, dim=-1):
            numpyro.sample("counts", dist.Poisson(rate * jnp.asarray(exposure)[rows][:, None]), obs=counts)


def test_rows_of_a_fit_are_the_only_ones():
    """There are no new rows for a kernel with latent sites of the rows that it is written for."""
    model = NumPyroImpactRegressor(topics, param_input="exposure", param_output="counts", random_state=0)
    model.fit(AUTHOR + 1.0, COUNTS)
    predicted = model.predict(AUTHOR + 1.0, in_sample=True)
    mean = (AUTHOR + 1) * (2 + COUNTS.sum(axis=1)) / (1 + 2 * (AUTHOR + 1))
    np.testing.assert_allclose(predicted[:, 0], mean, rtol=0.1)
    with pytest.raises(
        ValueError, match=r"written for 12 rows \(site 'counts'\), and does not run on more. Pass `in_sample=True`"
    ):
        model.predict(AUTHOR + 1.0)
