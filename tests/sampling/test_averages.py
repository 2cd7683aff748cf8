"""Averages over rows and groups, for several scenarios, against the same averages of all draws."""

import importlib

import numpy as np
import pytest
import zoo

from skaimz import sampling
from skaimz.kernels import Inputs, trace_kernel

module = importlib.import_module("skaimz.sampling.averages")
proofs = importlib.import_module("skaimz.sampling.proofs")
N_ROWS, N_DRAWS = 2100, 30
rng = np.random.default_rng(0)
X = rng.normal(size=(N_ROWS, 2)).astype(np.float32)
COEF = rng.normal(size=(N_DRAWS, 2)).astype(np.float32)
WEIGHTS = np.where(rng.uniform(size=N_ROWS) < 0.2, 0.0, rng.uniform(size=N_ROWS))
GROUPS = rng.integers(3, size=N_ROWS)
MEANS, VALUES = sampling.ExpectedOutcomes(("y",)), sampling.Values(("y",))


def scenario(kernel, X=X, draws=None, arrays=None, **settings):
    inputs = Inputs({"X": X, **(arrays or {})}, {})
    traced, numbers = trace_kernel(kernel, inputs, "X", "y")
    posterior = sampling.Posterior(numbers, {}, {"coef": COEF} if draws is None else draws, N_DRAWS, 2)
    return sampling.Job(traced, posterior, inputs, 0, **settings)


def average(*jobs, quantity=MEANS, weights=WEIGHTS, groups=GROUPS, n_groups=3):
    return sampling.averages(jobs, quantity, weights, groups, n_groups)


def by_group(values, weights=WEIGHTS, groups=GROUPS, n_groups=3):
    """Average values ``(n_draws, n_rows)``."""
    inside = [np.flatnonzero((groups == group) & (weights > 0)) for group in range(n_groups)]
    return np.stack([np.average(values[:, rows], axis=1, weights=weights[rows]) for rows in inside], axis=1)


@pytest.fixture
def tiled(monkeypatch):
    """Compute every row."""
    monkeypatch.setattr(module, "is_affine_in_rows", lambda job, quantity: False)


def test_average_conditional_means():
    found = average(scenario(zoo.conjugate), scenario(zoo.conjugate, X + 1))
    assert found.shape == (2, N_DRAWS, 3)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found[0], by_group(COEF @ X.T), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[1], by_group(COEF @ (X + 1).T), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("tiled")
def test_average_tile_by_tile():
    found = average(scenario(zoo.conjugate))
    np.testing.assert_allclose(found[0], by_group(COEF @ X.T), rtol=1e-4, atol=1e-5)
    alone = average(scenario(zoo.conjugate), weights=np.ones(N_ROWS), groups=np.zeros(N_ROWS, int), n_groups=1)
    np.testing.assert_allclose(alone[0, :, 0], (COEF @ X.T).mean(axis=1), rtol=1e-4, atol=1e-5)


def test_affine_kernels_are_computed_at_average_rows(monkeypatch):
    expected = by_group(COEF @ X.T)
    monkeypatch.setattr(module, "_sums", None)
    np.testing.assert_allclose(average(scenario(zoo.conjugate))[0], expected, rtol=1e-4, atol=1e-5)


def test_only_affine_means_are_computed_at_average_rows():
    exposure = np.ones(N_ROWS, np.float32)
    is_affine = {
        "linear": (scenario(zoo.conjugate), MEANS),
        "outcomes": (scenario(zoo.conjugate), VALUES),
        "logistic": (scenario(zoo.logistic), MEANS),
        "poisson": (scenario(zoo.poisson, arrays={"exposure": exposure}), MEANS),
        "rows mix": (scenario(zoo.running, draws={"slope": COEF[:, 0]}), MEANS),
        "local latents": (scenario(zoo.random_effects), MEANS),
        "no moments": (scenario(zoo.cauchy), MEANS),
        "slopes": (scenario(zoo.conjugate), sampling.Slope(("y",), ("X", 0))),
        "integers": (
            scenario(
                zoo.dosed,
                draws={"coef": COEF, "slope": COEF[:, 0], "levels": np.zeros((N_DRAWS, 3), np.float32)},
                arrays={"dose": exposure, "centre": GROUPS.astype(np.int32)},
            ),
            MEANS,
        ),
        "set by row": (
            scenario(zoo.random_effects, intervention={"effect": np.zeros(N_ROWS, np.float32)}),
            MEANS,
        ),
    }
    found = {name: proofs.is_affine_in_rows(*case) for name, case in is_affine.items()}
    assert found == {name: name == "linear" for name in is_affine}


def test_many_groups_at_average_rows():
    groups = rng.permutation(N_ROWS)
    found = average(scenario(zoo.conjugate), weights=np.ones(N_ROWS), groups=groups, n_groups=N_ROWS)[0]
    np.testing.assert_allclose(found[:, groups], COEF @ X.T, rtol=1e-4, atol=1e-5)


def test_rows_are_read_some_at_a_time():
    job = scenario(zoo.conjugate, limits=sampling.Limits(rows_read=100))
    np.testing.assert_allclose(average(job)[0], by_group(COEF @ X.T), rtol=1e-4, atol=1e-5)


def test_averages_of_outcomes_are_those_of_the_draws():
    job = scenario(zoo.conjugate)
    found = average(job, quantity=VALUES)[0]
    np.testing.assert_allclose(found, by_group(sampling.outcomes(job).T), rtol=1e-4, atol=1e-5)


def test_outcomes_of_scenarios_share_their_noise():
    plain, moved = average(scenario(zoo.conjugate), scenario(zoo.conjugate, X + 1), quantity=VALUES)
    effect = np.broadcast_to(COEF.sum(axis=1)[:, None], (N_DRAWS, 3))
    np.testing.assert_allclose(moved - plain, effect, rtol=1e-4, atol=1e-5)
    same, again = average(scenario(zoo.conjugate), scenario(zoo.conjugate), quantity=VALUES)
    np.testing.assert_array_equal(same, again)


def test_counts_of_other_rows_do_not_change_a_rows_noise():
    """Generators of the host take as many numbers as they need, and so would shift those of all rows that follow."""
    exposure = np.full(N_ROWS, 3.0, np.float32)
    moved = np.where(GROUPS == 0, np.float32(30.0), exposure)
    jobs = [scenario(zoo.poisson, arrays={"exposure": each}) for each in (exposure, moved)]
    plain, other = average(*jobs, quantity=VALUES)
    np.testing.assert_array_equal(plain[:, 1:], other[:, 1:])
    assert (other[:, 0] > 5 * plain[:, 0]).all()


def test_conditions_on_undrawn_sites_do_not_change_the_noise():
    rate = np.full(N_DRAWS, 0.0, np.float32)
    draws = {"level": rate, "spread": rate + 1}
    free, fixed = (
        scenario(zoo.grouped, draws=draws, condition=condition)
        for condition in ({}, {"effect": np.zeros(N_ROWS, np.float32)})
    )
    drawing = sampling.Drawing(free, sampling.Values(("effect", "y")))
    drawn = {name: array.reshape(N_DRAWS, N_ROWS) for name, array in drawing.in_memory().items()}
    found = average(free, fixed, quantity=VALUES)
    np.testing.assert_allclose(found[0] - found[1], by_group(drawn["effect"]), rtol=1e-3, atol=1e-5)


def test_rows_without_weight_may_hold_what_has_no_sum():
    exposure = np.where(WEIGHTS > 0, np.float32(1), np.float32(np.inf))
    found = average(scenario(zoo.poisson, arrays={"exposure": exposure}))[0]
    np.testing.assert_allclose(found, by_group(np.exp(COEF @ X.T)), rtol=1e-4)


def test_sums_may_exceed_the_range_of_single_precision():
    rates = 3e34 * np.exp(COEF.astype(float) @ X.T)
    assert rates.max() < np.finfo(np.float32).max < rates[:, :1024].sum(axis=1).max()
    found = average(scenario(zoo.poisson, arrays={"exposure": np.full(N_ROWS, 3e34, np.float32)}))[0]
    np.testing.assert_allclose(found, by_group(rates), rtol=1e-4)


def test_infinite_rows_are_in_the_average_of_their_own_group_alone():
    exposure = np.where(GROUPS == 1, np.float32(np.inf), np.float32(1))
    found = average(scenario(zoo.poisson, arrays={"exposure": exposure}))[0]
    np.testing.assert_array_equal(found[:, 1], np.inf)
    np.testing.assert_allclose(found[:, [0, 2]], by_group(np.exp(COEF @ X.T))[:, [0, 2]], rtol=1e-4)


@pytest.mark.parametrize("kernel", [zoo.conjugate, zoo.logistic])
def test_groups_without_weight_have_no_average(kernel):
    found = average(scenario(kernel), groups=np.where(GROUPS == 1, 0, GROUPS))[0]
    np.testing.assert_array_equal(np.isnan(found), np.tile([False, True, False], (N_DRAWS, 1)))


def test_averages_of_interventions():
    plain, zero = average(
        scenario(zoo.conjugate), scenario(zoo.conjugate, intervention={"coef": np.zeros(2, np.float32)})
    )
    np.testing.assert_allclose(plain, by_group(COEF @ X.T), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(zero, 0.0)


def test_kernels_whose_rows_interact():
    slope = rng.normal(size=N_DRAWS).astype(np.float32)
    found = average(scenario(zoo.running, draws={"slope": slope}))[0]
    expected = by_group(slope[:, None] * np.cumsum(X[:, 0].astype(float)))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("way", ["at average rows", "tile by tile"])
def test_rows_on_another_axis(way, request):
    if way == "tile by tile":
        request.getfixturevalue("tiled")
    draws = {"slope": rng.normal(size=(N_DRAWS, 3, 1)).astype(np.float32)}
    found = average(scenario(zoo.sensors, draws=draws))[0]
    assert found.shape == (N_DRAWS, 3, 3)
    for sensor in range(3):
        means = draws["slope"][:, sensor] * X[:, 0]
        np.testing.assert_allclose(found[..., sensor], by_group(means), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("way", ["at average rows", "tile by tile"])
def test_vector_outputs_keep_their_other_axis(way, request):
    if way == "tile by tile":
        request.getfixturevalue("tiled")
    draws = {"coef": rng.normal(size=(N_DRAWS, 2, 2)).astype(np.float32)}
    found = average(scenario(zoo.two_outputs, draws=draws))[0]
    means = np.einsum("np,dpk->dnk", X, draws["coef"])
    for k in range(2):
        np.testing.assert_allclose(found[..., k], by_group(means[..., k]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("elasticity", [False, True])
def test_derivatives_of_rates(elasticity):
    exposure = rng.uniform(1, 2, N_ROWS).astype(np.float32)
    rate = exposure * np.exp(COEF @ X.T)
    found = [
        average(
            scenario(zoo.poisson, arrays={"exposure": exposure}), quantity=sampling.Slope(("y",), along, elasticity)
        )[0]
        for along in (("X", 1), ("exposure", None))
    ]
    slopes = [COEF[:, 1:] * rate, rate / exposure]
    if elasticity:
        slopes = [COEF[:, 1:] * X[:, 1], np.ones_like(rate)]
    np.testing.assert_allclose(found[0], by_group(slopes[0]), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[1], by_group(slopes[1]), rtol=1e-4, atol=1e-5)


def test_scenarios_that_are_cut_up_otherwise_are_refused():
    with pytest.raises(ValueError, match="cut up differently"):
        average(scenario(zoo.logistic), scenario(zoo.logistic, X[:50]))
