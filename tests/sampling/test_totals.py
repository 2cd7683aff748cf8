"""Sums over rows, groups and contrasts, against the same sums of all draws."""

import numpy as np
import pytest
import zoo

from skaimz import sampling
from skaimz.kernels import Inputs, trace_kernel

N_ROWS, N_DRAWS = 2100, 30
rng = np.random.default_rng(0)
X = rng.normal(size=(N_ROWS, 2)).astype(np.float32)
COEF = rng.normal(size=(N_DRAWS, 2)).astype(np.float32)
WEIGHTS = rng.uniform(size=N_ROWS)
GROUPS = rng.integers(3, size=N_ROWS)


def scenario(kernel, X=X, draws=None, **settings):
    inputs = Inputs({"X": X}, {})
    traced, numbers = trace_kernel(kernel, inputs, "X", "y")
    posterior = sampling.Posterior(numbers, {}, {"coef": COEF} if draws is None else draws, N_DRAWS, 2)
    return sampling.Pass(traced, posterior, inputs, 0, **settings)


def by_group(values):
    return np.stack([(values * WEIGHTS)[:, group == GROUPS].sum(axis=1) for group in range(3)], axis=1)


def test_sums_of_conditional_means():
    found = sampling.totals([scenario(zoo.conjugate)], WEIGHTS, GROUPS, 3)
    assert found.shape == (N_DRAWS, 3)
    np.testing.assert_allclose(found, by_group(COEF @ X.T), rtol=1e-4, atol=1e-3)
    everything = sampling.totals([scenario(zoo.conjugate)], np.ones(N_ROWS), np.zeros(N_ROWS, int), 1)
    np.testing.assert_allclose(everything[:, 0], (COEF @ X.T).sum(axis=1), rtol=1e-4, atol=1e-3)


def test_sums_of_outcomes_are_those_of_the_draws():
    job = scenario(zoo.conjugate)
    found = sampling.totals([job], WEIGHTS, GROUPS, 3, of="outcome")
    np.testing.assert_allclose(found, by_group(sampling.outcomes(job).T), rtol=1e-5, atol=1e-4)


def test_contrasts_are_paired():
    plain, moved = scenario(zoo.conjugate), scenario(zoo.conjugate, X + 1)
    nothing = sampling.totals([plain, plain], WEIGHTS, GROUPS, 3, contrast=np.subtract, of="outcome")
    np.testing.assert_array_equal(nothing, 0.0)
    found = sampling.totals([moved, plain], WEIGHTS, GROUPS, 3, contrast=np.subtract, of="outcome")
    # The noise is the same in both, so that the difference is that of the means.
    effect = np.broadcast_to(COEF.sum(axis=1)[:, None], (N_DRAWS, N_ROWS))
    np.testing.assert_allclose(found, by_group(effect), rtol=1e-4, atol=1e-3)


def test_contrasts_of_interventions():
    zero = scenario(zoo.conjugate, intervention={"coef": np.zeros(2, np.float32)})
    found = sampling.totals([scenario(zoo.conjugate), zero], WEIGHTS, GROUPS, 3, contrast=lambda a, b: (a - b) ** 2)
    np.testing.assert_allclose(found, by_group((COEF @ X.T) ** 2), rtol=1e-4)


def test_kernels_whose_rows_interact():
    slope = rng.normal(size=N_DRAWS).astype(np.float32)
    found = sampling.totals([scenario(zoo.running, draws={"slope": slope})], WEIGHTS, GROUPS, 3)
    expected = by_group(slope[:, None] * np.cumsum(X[:, 0].astype(float)))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=0.1)


def test_rows_on_another_axis():
    draws = {"slope": rng.normal(size=(N_DRAWS, 3, 1)).astype(np.float32)}
    found = sampling.totals([scenario(zoo.sensors, draws=draws)], WEIGHTS, GROUPS, 3)
    assert found.shape == (N_DRAWS, 3, 3)
    for sensor in range(3):
        means = draws["slope"][:, sensor] * X[:, 0]
        np.testing.assert_allclose(found[..., sensor], by_group(means), rtol=1e-4, atol=1e-3)


def test_vector_outputs_keep_their_other_axis():
    draws = {"coef": rng.normal(size=(N_DRAWS, 2, 2)).astype(np.float32)}
    found = sampling.totals([scenario(zoo.two_outputs, draws=draws)], WEIGHTS, GROUPS, 3)
    means = np.einsum("np,dpk->dnk", X, draws["coef"])
    for k in range(2):
        np.testing.assert_allclose(found[..., k], by_group(means[..., k]), rtol=1e-4, atol=1e-3)


def test_unknown_kinds_are_refused():
    with pytest.raises(KeyError):
        sampling.totals([scenario(zoo.conjugate)], WEIGHTS, GROUPS, 3, of="median")
