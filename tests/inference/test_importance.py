"""Importance weights against normal distributions, whose ratios are known in closed form."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skaimz.inference.importance import resampled, weigh

rng = np.random.default_rng(0)
DRAWS = rng.standard_normal(20_000)


def log_normal(x, mean=0.0, sd=1.0):
    return -0.5 * ((x - mean) / sd) ** 2 - np.log(sd)


@pytest.mark.parametrize(("mean", "sd"), [(0.0, 1.0), (0.3, 1.0), (0.0, 0.7), (0.2, 1.1)])
def test_weighted_draws_have_the_moments_of_the_target(mean, sd):
    weights = weigh(log_normal(DRAWS, mean, sd) - log_normal(DRAWS))
    assert weights.weight.sum() == pytest.approx(1.0)
    found = weights.weight @ DRAWS
    assert found == pytest.approx(mean, abs=0.04)
    assert np.sqrt(weights.weight @ (DRAWS - found) ** 2) == pytest.approx(sd, abs=0.04)
    assert weights.k_hat < 0.5


@pytest.mark.parametrize("narrow", [0.5, 0.7, 0.9])
def test_k_hat_is_the_shape_of_the_tail(narrow):
    # Ratios of a standard normal to one of the sd s have a Pareto tail of the shape 1 - s^2.
    draws = narrow * DRAWS
    weights = weigh(log_normal(draws) - log_normal(draws, sd=narrow))
    assert weights.k_hat == pytest.approx(1 - narrow**2, abs=0.12)


def test_a_wider_proposal_has_a_light_tail():
    draws = 1.5 * DRAWS
    assert weigh(log_normal(draws) - log_normal(draws, sd=1.5)).k_hat < 0.1


def test_effective_draws_of_a_shifted_target():
    # The second moment of the ratio of N(m, 1) to N(0, 1) is exp(m^2).
    weights = weigh(log_normal(DRAWS, 0.5) - log_normal(DRAWS))
    assert weights.ess == pytest.approx(len(DRAWS) * np.exp(-0.25), rel=0.05)


@pytest.mark.parametrize("shift", [-1e6, 0.0, 1e6])
def test_constants_in_the_ratios_do_not_matter(shift):
    log_ratios = log_normal(DRAWS, 0.3) - log_normal(DRAWS)
    np.testing.assert_allclose(weigh(log_ratios + shift).weight, weigh(log_ratios).weight, rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_ratios_that_are_no_numbers_are_useless(bad):
    log_ratios = np.zeros(100)
    log_ratios[7] = bad
    assert weigh(log_ratios).k_hat == np.inf


def test_draws_without_density_weigh_nothing():
    log_ratios = log_normal(DRAWS, 0.3) - log_normal(DRAWS)
    log_ratios[:50] = -np.inf
    weights = weigh(log_ratios)
    assert (weights.weight[:50] == 0).all()
    assert weights.weight.sum() == pytest.approx(1.0)


def test_ratios_that_span_thousands_of_nats_are_useless():
    assert weigh(3000 * DRAWS).k_hat == np.inf


def test_equal_ratios_are_equal_weights():
    weights = weigh(np.full(50, 3.0))
    np.testing.assert_allclose(weights.weight, 1 / 50)
    assert weights.ess == 50


@given(
    weight=st.lists(st.floats(0, 1), min_size=1, max_size=50).filter(lambda weight: sum(weight) > 0.01),
    size=st.integers(1, 200),
    seed=st.integers(0, 100),
)
def test_each_draw_is_taken_as_often_as_it_weighs(weight, size, seed):
    weight = np.array(weight) / sum(weight)
    times = np.bincount(resampled(weight, size, np.random.default_rng(seed)), minlength=len(weight))
    assert times.sum() == size
    assert (np.abs(times - size * weight) < 1 + 1e-9).all()


def test_a_heavy_tail_of_ratios_near_one_does_not_matter():
    """The Pareto shape of both is between 0.7 and 0.9; the largest of the first ratios is 1.5."""
    log_ratios = 1e-4 * DRAWS[:4000] ** 7
    weights = weigh(log_ratios)
    assert weights.k_hat <= 0.0
    assert weigh(3 * log_ratios).k_hat > 0.7
    np.testing.assert_allclose(weights.weight, np.exp(log_ratios) / np.exp(log_ratios).sum(), rtol=1e-12)
