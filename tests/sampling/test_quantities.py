"""New quantities: each is one class, and is computed by the public functions."""

import dataclasses

import numpy as np
import pytest
import zoo
from scipy import stats

from skaimz import sampling
from skaimz.kernels import Inputs, trace_kernel

rng = np.random.default_rng(0)
N_ROWS, N_DRAWS = 50, 400
X = rng.normal(size=(N_ROWS, 2)).astype(np.float32)
COEF = rng.normal([1.0, -0.5], 0.2, size=(N_DRAWS, 2)).astype(np.float32)
MEANS = (X @ COEF.T).astype(float)


@dataclasses.dataclass(frozen=True)
class Exceedance(sampling.Expectation):
    """Posterior predictive probability that the outcome exceeds a threshold."""

    threshold: float

    def of_draw(self, run):
        return (run.rows_first(1 - run.distribution.cdf(self.threshold)),)


@dataclasses.dataclass(frozen=True)
class Quantiles(sampling.PerDraw):
    """Quantiles of the conditional distribution of each row."""

    level: float

    def of_draw(self, run):
        return tuple(run.trace[name]["fn"].icdf(self.level) for name in self.names)


def job_of(kernel, **settings):
    inputs = Inputs({"X": X}, {})
    traced, hyperparameters = trace_kernel(kernel, inputs, "X", "y")
    posterior = sampling.Posterior(hyperparameters, {}, {"coef": COEF}, N_DRAWS)
    return sampling.Job(traced, posterior, inputs, 0, **settings)


@pytest.mark.parametrize("limits", [{}, {"most_tile_rows": 16}, {"tile_elements": 8 * N_DRAWS}], ids=str)
def test_a_new_expectation(limits):
    (found,) = sampling.expectation(job_of(zoo.conjugate, limits=sampling.Limits(**limits)), Exceedance(0.3))
    expected = stats.norm.sf(0.3, MEANS, 0.5).mean(axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_a_new_expectation_of_rows_that_mix():
    """All rows are run together, some draws at a time, and the averages over these are joined."""
    (found,) = sampling.expectation(
        job_of(zoo.centring, limits=sampling.Limits(tile_elements=70 * N_ROWS)), Exceedance(0.3)
    )
    means = (X - X.mean(axis=0)) @ COEF.T
    np.testing.assert_allclose(found, stats.norm.sf(0.3, means, 0.5).mean(axis=1), rtol=1e-4, atol=1e-6)


def test_a_new_quantity_of_every_draw():
    drawn = sampling.Drawing(job_of(zoo.conjugate), Quantiles(("y",), 0.9)).in_memory()["y"]
    np.testing.assert_allclose(drawn[0], stats.norm.ppf(0.9, MEANS, 0.5).T, rtol=1e-4, atol=1e-5)
    averages = sampling.averages(
        [job_of(zoo.conjugate)], Quantiles(("y",), 0.9), np.ones(N_ROWS), np.zeros(N_ROWS, int), 1
    )
    np.testing.assert_allclose(averages[0, :, 0], drawn[0].mean(axis=1), rtol=1e-4, atol=1e-5)


def test_quantities_are_hashed_by_value():
    """So that equal quantities share compiled programs, and different ones do not."""
    assert len({Exceedance(0.3), Exceedance(0.3), Exceedance(0.4), sampling.Mean(), sampling.Moments()}) == 4
    along = ("X", 0)
    assert sampling.Slope(("y",), along) == sampling.Slope(("y",), along, elasticity=False)
    assert sampling.Values(("y",)) != sampling.Values(("y",), draws_last=True) != sampling.LogDensity(("y",))
