"""Padding and weighting leave the log density what it is."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpyro import handlers
from numpyro.infer.util import log_density

from skaimz.inference import Data, bucket, pad_rows
from skaimz.inference.data import padded, weighted_model
from skaimz.kernels import Inputs, trace_kernel

N_ROWS = 20
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N_ROWS, 2)).astype(np.float32)
Y = RNG.normal(size=N_ROWS).astype(np.float32)
THETA = {"theta": jnp.array([0.5, -0.3])}


# Buckets


@given(st.integers(1, 10**8))
def test_a_bucket_holds_the_rows_and_little_more(n_rows):
    size = bucket(n_rows)
    assert n_rows <= size
    assert size <= max(64, 2 * n_rows)
    if n_rows > 1024:
        assert size <= 1.25 * n_rows
    assert bucket(size) == size


@given(st.integers(1, 10**7), st.integers(0, 10**6))
def test_more_rows_never_have_a_smaller_bucket(n_rows, more):
    assert bucket(n_rows) <= bucket(n_rows + more)


def test_buckets_are_few():
    sizes = {bucket(n_rows) for n_rows in range(1, 2**17 + 1)}
    below = {size for size in sizes if size <= 1024}
    assert below == {64, 128, 256, 512, 1024}
    assert len(sizes - below) <= 8 * 7


@pytest.mark.parametrize("n_rows", [900, 10_000, 123_457])
def test_folds_that_differ_by_one_row_share_a_bucket(n_rows):
    assert bucket(n_rows) == bucket(n_rows + 1)


# Rows


@given(n_rows=st.integers(1, 20), missing=st.integers(0, 20), width=st.integers(1, 3))
def test_padding_repeats_the_first_row(n_rows, missing, width):
    array = np.arange(n_rows * width, dtype=np.float32).reshape(n_rows, width) + 5
    padded = pad_rows(array, n_rows + missing)
    assert padded.shape == (n_rows + missing, width)
    assert padded.dtype == array.dtype
    np.testing.assert_array_equal(padded[:n_rows], array)
    assert (padded[n_rows:] == array[0]).all()


# Log densities


def coefficients(scale=2.0):
    return numpyro.sample("theta", dist.Normal(0, scale).expand([2]).to_event(1))


def plain(X, y=None):
    numpyro.sample("y", dist.Normal(X @ coefficients(), 0.5), obs=y)


def plated(X, y=None):
    theta = coefficients()
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ theta, 0.5), obs=y)


def with_row_factor(X, y=None):
    theta = coefficients()
    numpyro.factor("penalty", -((X @ theta) ** 2))
    numpyro.sample("y", dist.Normal(X @ theta, 0.5), obs=y)


def with_second_observed(X, y=None, z=None):
    theta = coefficients()
    # The rows are the last axis of this site, and the first of the argument.
    spread = jnp.arange(3.0)[:, None] * (X @ theta)
    numpyro.sample("z", dist.Normal(spread, 1.0), obs=None if z is None else z.T)
    numpyro.sample("y", dist.Normal(X @ theta, 0.5), obs=y)


def scaled(X, y=None):
    theta = coefficients()
    with handlers.scale(scale=0.3):
        numpyro.sample("y", dist.Normal(X @ theta, 0.5), obs=y)


def masked(X, y=None):
    numpyro.sample("y", dist.Normal(X @ coefficients(), 0.5).mask(X[:, 0] > 0), obs=y)


def two_outputs(X, y=None):
    mean = (X @ coefficients())[:, None] * jnp.array([1.0, -1.0, 2.0])
    numpyro.sample("y", dist.Normal(mean, 0.5), obs=y)


def vector_output(X, y=None):
    mean = (X @ coefficients())[:, None] * jnp.array([1.0, -1.0, 2.0])
    numpyro.sample("y", dist.Normal(mean, 0.5).to_event(1), obs=y)


def with_rows_in_prior(X, y=None):
    theta = coefficients(1 / X.shape[0] ** 0.5)
    numpyro.sample("y", dist.Normal(X @ theta, 0.5), obs=y)


def centred(X, y=None):
    numpyro.sample("y", dist.Normal((X - X.mean(0)) @ coefficients(), 0.5), obs=y)


def with_summed_factor(X, y=None):
    theta = coefficients()
    numpyro.factor("penalty", -((X @ theta) ** 2).sum())
    numpyro.sample("y", dist.Normal(X @ theta, 0.5), obs=y)


def rows_as_event(X, y=None):
    numpyro.sample("y", dist.Normal(X @ coefficients(), 0.5).to_event(1), obs=y)


def rows_of(kernel):
    rows = {"X": X, "y": Y}
    if kernel is with_second_observed:
        rows["z"] = np.linspace(-1, 1, 3 * N_ROWS, dtype=np.float32).reshape(N_ROWS, 3)
    if kernel in (two_outputs, vector_output):
        rows["y"] = np.linspace(-1, 1, 3 * N_ROWS, dtype=np.float32).reshape(N_ROWS, 3)
    return rows


def traced_and_padded(kernel, rows, weight=None):
    inputs = Inputs({name: array for name, array in rows.items() if name != "y"}, {})
    traced, numbers = trace_kernel(kernel, inputs, "X", "y")
    return traced, padded(traced, Data(numbers, rows, {}, weight), len(rows["X"]))


def density(traced, data):
    return float(log_density(weighted_model(traced), tuple(data), {}, THETA)[0])


SUMS = [plain, plated, with_row_factor, with_second_observed, scaled, masked, two_outputs, vector_output]


@pytest.mark.parametrize("kernel", SUMS, ids=lambda kernel: kernel.__name__)
def test_padded_rows_do_not_count(kernel):
    rows = rows_of(kernel)
    traced, data = traced_and_padded(kernel, rows)
    assert len(data.rows["X"]) == len(data.rows["y"]) == len(data.weight) == 64
    assert data.weight.tolist() == [1.0] * N_ROWS + [0.0] * 44
    assert data.weight.dtype == X.dtype
    expected = float(log_density(kernel, (), rows, THETA)[0])
    assert density(traced, data) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kernel", SUMS, ids=lambda kernel: kernel.__name__)
def test_a_weight_counts_a_row_that_often(kernel):
    rows = rows_of(kernel)
    often = np.arange(N_ROWS) % 3
    repeated = {name: np.repeat(array, often, axis=0) for name, array in rows.items()}
    weighted = density(*traced_and_padded(kernel, rows, often.astype(np.float32)))
    assert weighted == pytest.approx(float(log_density(kernel, (), repeated, THETA)[0]), rel=1e-5)


@pytest.mark.parametrize(
    "kernel", [with_rows_in_prior, centred, with_summed_factor, rows_as_event], ids=lambda kernel: kernel.__name__
)
def test_rows_that_hang_together_are_not_padded(kernel):
    rows = rows_of(kernel)
    traced, data = traced_and_padded(kernel, rows)
    assert len(data.rows["X"]) == N_ROWS
    assert data.weight is None
    assert density(traced, data) == pytest.approx(float(log_density(kernel, (), rows, THETA)[0]), rel=1e-6)


def test_rows_that_are_not_padded_can_have_weights():
    rows = rows_of(centred)
    weight = np.linspace(0, 2, N_ROWS, dtype=np.float32)
    traced, data = traced_and_padded(centred, rows, weight)
    np.testing.assert_array_equal(data.weight, weight)
    theta = np.asarray(THETA["theta"])
    of_rows = np.asarray(dist.Normal((X - X.mean(0)) @ theta, 0.5).log_prob(Y))
    prior = float(dist.Normal(0, 2).log_prob(theta).sum())
    assert density(traced, data) == pytest.approx(prior + float(weight @ of_rows), rel=1e-5)
