"""The sampling core against closed forms and NumPyro's own Predictive."""

import dataclasses

import jax
import numpy as np
import pytest
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpyro.infer import Predictive
from scipy import stats
from scipy.special import logsumexp

from skaimz import sampling
from skaimz.kernels import Inputs, trace_kernel
from skaimz.sampling import plan

pytestmark = pytest.mark.usefixtures("strict_jax")


@pytest.fixture(scope="module")
def draws():
    rng = np.random.default_rng(1)
    return {"coef": rng.normal([1.0, -0.5], 0.2, size=(400, 2)).astype(np.float32)}


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(2).normal(size=(50, 2)).astype(np.float32)


def job_of(kernel, draws, X, seed=0, limits=None, **arrays):
    inputs = Inputs({"X": X, **arrays}, {})
    traced, numbers = trace_kernel(kernel, inputs, "X", "y")
    posterior = sampling.Posterior(numbers, {}, draws, len(next(iter(draws.values()))))
    return sampling.Job(traced, posterior, inputs, seed, limits=limits or sampling.Limits())


def run(function, kernel, draws, X, *args, **settings):
    return getattr(sampling, function)(job_of(kernel, draws, X, **settings), *args)


def test_moments_follow_the_distribution_of_total_variance(draws, X):
    mean, variance = run("moments", zoo.conjugate, draws, X)
    mu = X @ draws["coef"].T
    np.testing.assert_allclose(mean, mu.mean(axis=1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(variance, mu.var(axis=1) + 0.25, rtol=1e-4)


def test_moments_of_a_poisson_outcome(draws, X):
    exposure = np.linspace(1, 2, len(X), dtype=np.float32)
    mean, variance = run("moments", zoo.poisson, draws, X, exposure=exposure)
    rate = exposure[:, None] * np.exp(X @ draws["coef"].T)
    np.testing.assert_allclose(mean, rate.mean(axis=1), rtol=1e-4)
    np.testing.assert_allclose(variance, rate.var(axis=1) + rate.mean(axis=1), rtol=1e-3)


AT_AVERAGE_DRAW = {
    zoo.conjugate: 1,
    zoo.linear: 1,
    zoo.logistic: 400,
    zoo.poisson: 400,
    zoo.cauchy: 400,
    zoo.centring: 400,
    zoo.random_effects: 400,
}


@pytest.mark.parametrize("kernel", AT_AVERAGE_DRAW, ids=lambda kernel: kernel.__name__)
def test_means_that_are_affine_in_the_draws_are_computed_at_their_average(kernel, draws, X, monkeypatch):
    ran = []
    launcher = sampling.predictive.Launcher

    def counted(job, *args, **options):
        ran.append(job.posterior.n_draws)
        return launcher(job, *args, **options)

    draws = {**draws, "intercept": draws["coef"][:, 0] + 3, "sigma": np.exp(draws["coef"][:, 1])}
    exposure = {"exposure": np.ones(len(X), np.float32)} if kernel is zoo.poisson else {}
    monkeypatch.setattr(sampling.predictive, "Launcher", counted)
    mean = run("mean", kernel, draws, X, **exposure)
    assert ran == [AT_AVERAGE_DRAW[kernel]]
    moments = run("moments", kernel, draws, X, **exposure)
    assert ran[1:] == [400]
    np.testing.assert_allclose(mean, moments[0], rtol=1e-5, atol=1e-5)


def test_whole_numbers_among_the_draws_are_not_averaged(X):
    draws = {"coef": np.random.default_rng(0).integers(0, 3, size=(401, 2))}
    mean = run("mean", zoo.conjugate, draws, X)
    np.testing.assert_allclose(mean, (X @ draws["coef"].T).mean(axis=1), rtol=1e-5, atol=1e-5)


def test_outcomes_are_distributed_as_those_of_predictive(draws, X):
    ours = run("outcomes", zoo.conjugate, draws, X)
    theirs = Predictive(zoo.conjugate, draws)(jax.random.key(3), X)["y"].T
    assert ours.shape == (50, 400)
    mu = X @ draws["coef"].T
    for drawn in (ours, np.asarray(theirs)):
        noise = (drawn - mu) / 0.5
        assert abs(noise.mean()) < 4 / np.sqrt(noise.size)
        assert abs(noise.var() - 1) < 4 * np.sqrt(2 / noise.size)
    # Neither rows nor draws share random numbers.
    noise = (ours - mu) / 0.5
    between_rows = np.corrcoef(noise)[np.triu_indices(50, 1)]
    assert abs(between_rows).max() < 6 / np.sqrt(400)


def test_quantiles_are_those_of_the_outcomes(draws, X):
    outcomes = run("outcomes", zoo.conjugate, draws, X, seed=5)
    found = run("outcome_quantiles", zoo.conjugate, draws, X, np.array([0.1, 0.5]), seed=5)
    np.testing.assert_allclose(found, np.quantile(outcomes, [0.1, 0.5], axis=1).T, rtol=1e-6)


@settings(max_examples=50)
@given(
    drawn=arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 30)), elements=st.floats(-1e6, 1e6)),
    levels=st.lists(st.floats(0, 1), min_size=1, max_size=5),
)
def test_quantiles_are_those_of_numpy(drawn, levels):
    expected = np.moveaxis(np.quantile(drawn, levels, axis=-1), 0, -1)
    np.testing.assert_allclose(sampling.predictive._quantiles(drawn, np.array(levels)), expected, rtol=1e-9, atol=1e-6)


def test_quantiles_beside_infinite_draws():
    found = sampling.predictive._quantiles(np.array([[1.0, 2.0, np.inf]]), np.array([0.0, 0.5, 0.75]))
    np.testing.assert_array_equal(found, [[1.0, 2.0, np.inf]])


GAPPY = np.array([[3.0, 1.0, 2.0, 5.0], [np.nan, 1.0, 2.0, 5.0], [1.0, 7.0, 2.0, np.nan], [np.nan] * 4])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_quantiles_and_scores_beside_nan(dtype):
    drawn, levels, y = GAPPY.astype(dtype), np.array([0.0, 0.3, 0.5, 1.0]), np.array([2.0, 2.0, 2.0, 2.0])
    expected = np.quantile(drawn, levels, axis=-1).T
    np.testing.assert_allclose(sampling.predictive._quantiles(drawn, levels), expected, rtol=1e-6)
    apart = np.abs(drawn[:, :, None] - drawn[:, None]).mean(axis=(1, 2))
    scores = np.abs(drawn - y[:, None]).mean(axis=1) - apart / 2
    np.testing.assert_allclose(sampling.predictive._crps(drawn, y), scores, rtol=1e-5)
    # Integers have no NaN: their least one stands for it.
    counts = np.array([[3, 1, 2, 5], [np.iinfo(np.int32).min, 1, 2, 5]], np.int32)
    np.testing.assert_allclose(sampling.predictive._quantiles(counts, levels), expected[:2], rtol=1e-6)
    np.testing.assert_allclose(sampling.predictive._crps(counts, y[:2]), scores[:2], rtol=1e-5)


def test_the_score_of_a_share_of_infinite_draws_is_infinite():
    drawn = np.array([[1.0, 2.0, np.inf], [-np.inf, 0.0, 1.0], [-np.inf, 0.0, np.inf], [-np.inf, 0.0, np.nan]])
    np.testing.assert_array_equal(sampling.predictive._crps(drawn, np.zeros(4)), [np.inf] * 3 + [np.nan])


def test_the_fusing_generator_changes_no_outcome(draws, X, monkeypatch):
    fused = run("outcomes", zoo.conjugate, draws, X)
    monkeypatch.setattr(sampling.programs, "runs_fused", lambda *_: False)
    np.testing.assert_allclose(run("outcomes", zoo.conjugate, draws, X), fused, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("n_rows", [1, 7, 8, 9, 1023, 1024, 1025, 2049])
def test_row_counts_around_tile_borders(draws, n_rows):
    X = np.random.default_rng(n_rows).normal(size=(n_rows, 2)).astype(np.float32)
    mean, _ = run("moments", zoo.conjugate, draws, X)
    np.testing.assert_allclose(mean, (X @ draws["coef"].T).mean(axis=1), rtol=1e-4, atol=1e-5)
    assert run("outcomes", zoo.conjugate, draws, X).shape == (n_rows, 400)


@pytest.mark.parametrize("kernel", [zoo.conjugate, zoo.truncated, zoo.random_effects, zoo.cauchy])
def test_expectations_do_not_depend_on_company(draws, X, kernel):
    order = np.random.default_rng(0).permutation(len(X))[:20]
    with jax.numpy_rank_promotion("allow"):  # NumPyro's truncated distribution promotes
        mean, variance = run("moments", kernel, draws, X)
        some = run("moments", kernel, draws, X[order])
    np.testing.assert_array_equal(some[0], mean[order])
    np.testing.assert_array_equal(some[1], variance[order])


def test_moments_without_closed_form_are_estimated(draws, X):
    """A truncated normal distribution has no formula here: compare with scipy's."""
    from scipy.stats import truncnorm

    with jax.numpy_rank_promotion("allow"):
        mean, variance = run("moments", zoo.truncated, draws, X)
    mu = (X @ draws["coef"].T).astype(float)
    distribution = truncnorm(-1.0 - mu, 3.0 - mu, loc=mu)
    expected = distribution.mean().mean(axis=1)
    total = distribution.var().mean(axis=1) + distribution.mean().var(axis=1)
    # Every row sees the same 400 random numbers, so that errors are shared: five standard errors.
    np.testing.assert_allclose(mean, expected, atol=5 * np.sqrt(total.max() / 400))
    np.testing.assert_allclose(variance, total, rtol=0.5)


def test_rows_that_mix_are_run_together(draws, X):
    mean, _ = run("moments", zoo.centring, draws, X)
    expected = ((X - X.mean(axis=0)) @ draws["coef"].T).mean(axis=1)
    np.testing.assert_allclose(mean, expected, rtol=1e-4, atol=1e-5)


def test_draws_in_rounds_equal_draws_at_once(draws, X, monkeypatch):
    limits = sampling.Limits(tile_elements=8 * 400)
    schedule = plan.make_plan(job_of(zoo.conjugate, draws, X, limits=limits))
    assert (schedule.tile_rows, schedule.draws_at_once) == (8, 400)
    at_once = run("outcomes", zoo.conjugate, draws, X, limits=limits)
    # The same tiles with 150 draws side by side, a number that does not divide 400.
    side_by_side = dataclasses.replace(schedule, draws_at_once=150)
    monkeypatch.setattr(sampling.drawing, "make_plan", lambda *_, **__: side_by_side)
    in_rounds = run("outcomes", zoo.conjugate, draws, X, limits=limits)
    np.testing.assert_allclose(in_rounds, at_once, rtol=1e-5, atol=1e-6)


def test_missing_global_latents_are_the_same_in_every_tile():
    """Outcomes of one draw share its coefficients, whichever tile they are in."""
    X = np.tile(np.array([[1.0, 0.0], [0.0, 1.0]], np.float32), (1500, 1))
    inputs = Inputs({"X": X}, {})
    traced, numbers = trace_kernel(zoo.conjugate, inputs, "X", "y")
    drawn = sampling.outcomes(sampling.Job(traced, sampling.Posterior(numbers, {}, {}, 300), inputs, 0))
    assert drawn.shape == (3000, 300)
    first, last = drawn[:1000:2].mean(axis=0), drawn[2000::2].mean(axis=0)
    np.testing.assert_allclose(first, last, atol=6 * 0.5 * np.sqrt(2 / 500))
    np.testing.assert_allclose(first.std(), 1.0, rtol=0.2)  # the prior of a coefficient


def test_probabilities_are_averaged_over_draws(X):
    rng = np.random.default_rng(0)
    coef = rng.normal(size=(30, 2)).astype(np.float32)
    found = run("probabilities", zoo.logistic, {"coef": coef}, X)
    expected = (1 / (1 + np.exp(-X @ coef.T))).mean(axis=1)
    np.testing.assert_allclose(found, np.stack([1 - expected, expected], axis=1), rtol=1e-5)


def log_predictive(kernel, draws, X, y, **settings):
    return run("log_predictive", kernel, draws, X, y, **settings)


@pytest.mark.parametrize("n_rows", [1, 50, 1023, 1024, 1025])
def test_log_predictive_is_the_mean_density(draws, n_rows):
    X = np.random.default_rng(n_rows).normal(size=(n_rows, 2)).astype(np.float32)
    y = X[:, 0] + 0.3
    expected = stats.norm.logpdf(y[:, None], X @ draws["coef"].T, 0.5)
    found = log_predictive(zoo.conjugate, draws, X, y)
    np.testing.assert_allclose(found, logsumexp(expected, axis=1) - np.log(400), rtol=1e-4, atol=1e-5)


def test_log_predictive_joins_steps_of_draws(draws, X):
    """A kernel that mixes rows sees all of them, and some draws at a time."""
    y = X[:, 0] + 0.3
    expected = stats.norm.logpdf(y[:, None], (X - X.mean(axis=0)) @ draws["coef"].T, 0.5)
    limits = sampling.Limits(tile_elements=70 * 50)
    assert 1 < plan.make_plan(job_of(zoo.centring, draws, X, limits=limits)).step_draws < 70
    found = log_predictive(zoo.centring, draws, X, y, limits=limits)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, logsumexp(expected, axis=1) - np.log(400), rtol=1e-4, atol=1e-5)


def test_log_predictive_of_what_cannot_be(draws, X):
    exposure = np.where(np.arange(50) == 7, 0.0, 1.0).astype(np.float32)
    found = log_predictive(zoo.poisson, draws, X, np.full(50, 3), exposure=exposure)
    assert np.flatnonzero(np.isneginf(found)).tolist() == [7]


@pytest.mark.parametrize("kernel", [zoo.conjugate, zoo.centring])
def test_crps_is_that_of_the_outcomes(draws, X, kernel):
    limits = sampling.Limits(most_tile_rows=16)
    y = X[:, 0] + 0.3
    drawn = run("outcomes", kernel, draws, X, limits=limits).astype(float)
    apart = np.abs(drawn[:, :, None] - drawn[:, None, :]).mean(axis=(1, 2))
    expected = np.abs(drawn - y[:, None]).mean(axis=1) - apart / 2
    np.testing.assert_allclose(run("crps", kernel, draws, X, y, limits=limits), expected, rtol=1e-4, atol=1e-6)


@settings(max_examples=50)
@given(
    drawn=arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 30)), elements=st.floats(-1e6, 1e6)),
    y=st.floats(-1e6, 1e6),
)
def test_crps_is_the_area_between_distributions(drawn, y):
    """An independent formula: the integral of the squared difference of distribution functions."""
    for row in drawn:
        places = np.sort(np.append(row, y))
        below = (row <= places[:-1, None]).mean(axis=1) - (y <= places[:-1])
        expected = (below**2 * np.diff(places)).sum()
        found = sampling.predictive._crps(row[None], np.array([y]))
        np.testing.assert_allclose(found, [expected], rtol=1e-9, atol=1e-6)
