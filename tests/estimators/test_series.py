"""Rows that depend on those of the fit: forecasts, Gaussian processes, and the rows of the fit themselves."""

import pickle
import warnings

import numpy as np
import pytest
import series
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel

from skaimz import NumPyroImpactRegressor
from skaimz.exceptions import RowsOfFitWarning, SpeedWarning

N, AHEAD, N_DRAWS = 40, 8, 4000
RNG = np.random.default_rng(0)
TIMES = np.arange(N, dtype=float)[:, None]
LATER = np.arange(N, N + AHEAD, dtype=float)[:, None]
LEVEL = 5.0 + np.cumsum(RNG.normal(scale=0.5, size=N))
Y = LEVEL + RNG.normal(scale=0.3, size=N)


def fitted(kernel, X=TIMES, y=Y, **draws):
    return NumPyroImpactRegressor(kernel, posterior=draws, random_state=0).fit(X, y)


def kalman(y, transition, noise_of_state, noise, n_ahead):
    """Filter a series whose state starts at zero and is observed by its first entry; return forecasts of outcomes."""
    mean, covariance = np.zeros(len(transition)), np.zeros_like(transition)
    means, sds = [], []
    for t in range(len(y) + n_ahead):
        mean, covariance = transition @ mean, transition @ covariance @ transition.T + noise_of_state
        total = covariance[0, 0] + noise
        if t < len(y):
            gain = covariance[:, 0] / total
            mean, covariance = mean + gain * (y[t] - mean[0]), covariance - np.outer(gain, covariance[0])
        else:
            means.append(mean[0])
            sds.append(np.sqrt(total))
    return np.array(means), np.array(sds)


@pytest.mark.parametrize("of_slope", [0.0, 0.1])
def test_forecasts_of_a_structural_model_are_those_of_a_kalman_filter(of_slope):
    scales = (0.5, of_slope, 0.3)
    model = fitted(series.marginal_trend, scales=np.array([scales, scales]))
    mean, std = model.predict(LATER, return_std=True)
    transition = np.array([[1.0, 1.0], [0.0, 1.0]])
    # The slope moves first, and the level by the new slope.
    moves = of_slope**2 * np.ones((2, 2)) + np.diag([0.5**2, 0.0])
    expected = kalman(Y, transition, moves, 0.3**2, AHEAD)
    np.testing.assert_allclose(mean, expected[0], atol=1e-5)
    np.testing.assert_allclose(std, expected[1], atol=1e-5)


@pytest.fixture(scope="module")
def smooth():
    X = np.sort(RNG.uniform(0.0, 5.0, size=(25, 1)), axis=0)
    return X, np.sin(X[:, 0]) + RNG.normal(scale=0.3, size=25)


def test_gaussian_processes_are_those_of_scikit_learn(smooth):
    X, y = smooth
    model = fitted(series.gaussian_process, X, y, scale=np.array([0.7, 0.7]))
    there = np.linspace(-1.0, 6.0, 9)[:, None]
    mean, std = model.predict(there, return_std=True)
    reference = GaussianProcessRegressor(RBF(0.7) + WhiteKernel(0.1), optimizer=None).fit(X, y)
    expected = reference.predict(there, return_std=True)
    np.testing.assert_allclose(mean, expected[0], atol=1e-5)
    np.testing.assert_allclose(std, expected[1], atol=1e-5)
    # The rows of the fit are predicted like others, and are one of several outcomes that are possible there.
    np.testing.assert_allclose(model.predict(X, in_sample=True), reference.predict(X), atol=1e-5)
    assert model.score(X, y) > 0.8
    drawn = model.predict_quantiles(there, [0.5])[:, 0]
    np.testing.assert_allclose(drawn, expected[0], atol=2.0)
    joint = model.log_likelihood(there, expected[0], in_sample=False)["log_likelihood"]["y"]
    covariance = reference.predict(there, return_cov=True)[1]
    np.testing.assert_allclose(joint, -0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1], rtol=1e-4)


def test_latent_processes_follow_their_values_in_the_fit(smooth):
    X, _ = smooth
    f = np.sin(X[:, 0])
    model = fitted(series.latent_process, X, f, scale=np.full(N_DRAWS, 0.7), f=np.tile(f, (N_DRAWS, 1)))
    there = np.linspace(0.0, 6.5, 5)[:, None]
    mean, std = model.predict(there, return_std=True)
    reference = GaussianProcessRegressor(RBF(0.7), alpha=1e-6, optimizer=None).fit(X, f)
    expected = reference.predict(there, return_std=True)
    np.testing.assert_allclose(mean, expected[0], atol=4.0 * expected[1].max() / np.sqrt(N_DRAWS))
    np.testing.assert_allclose(std, np.sqrt(expected[1] ** 2 + 0.1), rtol=0.05)


@pytest.fixture(scope="module")
def walk():
    return fitted(series.walk, scale=np.full(N_DRAWS, 0.5), level=np.tile(LEVEL, (N_DRAWS, 1)))


def test_a_walk_goes_on(walk):
    mean, std = walk.predict(LATER, return_std=True)
    ahead = np.arange(1, AHEAD + 1)
    np.testing.assert_allclose(mean, LEVEL[-1], atol=4 * 0.5 * np.sqrt(AHEAD / N_DRAWS))
    np.testing.assert_allclose(std, np.sqrt(0.25 * ahead + 0.09), rtol=0.05)
    lower, upper = walk.predict_interval(LATER, 0.9).T
    np.testing.assert_allclose(upper - lower, 2 * 1.645 * std, rtol=0.06)
    # New steps of one path: covariances of a walk that starts at the last level.
    paths = walk.sample_posterior_predictive(LATER, in_sample=False, return_sites=["level"])["predictions"]["level"]
    moves = np.diff(paths.to_numpy()[0], prepend=LEVEL[-1], axis=1)
    np.testing.assert_allclose(np.cov(moves.T), 0.25 * np.eye(AHEAD), atol=0.03)


def test_steps_go_on_like_the_walk_that_they_make(walk):
    step = np.diff(LEVEL, prepend=0.0)
    model = fitted(series.steps, scale=np.full(N_DRAWS, 0.5), step=np.tile(step, (N_DRAWS, 1)))
    mean, std = model.predict(LATER, return_std=True)
    expected = walk.predict(LATER, return_std=True)
    np.testing.assert_allclose(mean, expected[0], atol=0.15)
    np.testing.assert_allclose(std, expected[1], rtol=0.06)


def test_a_scan_goes_on_from_its_last_state():
    # Steps are so small that the forecast is a line.
    levels, slopes = 2.0 + 0.5 * TIMES[:, 0], np.full(N, 0.5)
    draws = {"scale": np.full(3, 1e-7), "level": np.tile(levels, (3, 1)), "slope": np.tile(slopes, (3, 1))}
    model = fitted(series.local_trend, y=levels, **draws)
    np.testing.assert_allclose(model.predict(LATER), 2.0 + 0.5 * LATER[:, 0], atol=1e-4)
    wide = fitted(series.local_trend, y=levels, **{**draws, "scale": np.full(3, 1.0)})
    assert wide.predict(LATER, return_std=True)[1].min() > 1.0


def test_autoregression_goes_on_from_the_last_outcomes():
    coef, before = np.array([0.6, 0.3]), list(Y[-2:])
    extra = np.linspace(0.0, 1.0, AHEAD)
    for x in extra:
        before.append(coef[0] * before[-1] + coef[1] * before[-2] + x)
    model = fitted(series.autoregression, np.zeros((N, 1)), coef=np.tile(coef, (3, 1)), scale=np.full(3, 1e-7))
    np.testing.assert_allclose(model.predict(extra[:, None]), before[2:], atol=1e-4)
    # The variance of an AR(2) forecast, by the weights of its moving average.
    noisy = fitted(
        series.autoregression, np.zeros((N, 1)), coef=np.tile(coef, (N_DRAWS, 1)), scale=np.full(N_DRAWS, 0.4)
    )
    weights = [1.0, coef[0]]
    for _ in range(AHEAD - 2):
        weights.append(coef[0] * weights[-1] + coef[1] * weights[-2])
    mean, std = noisy.predict(extra[:, None], return_std=True)
    np.testing.assert_allclose(std, 0.4 * np.sqrt(np.cumsum(np.square(weights))), rtol=0.05)
    np.testing.assert_allclose(mean, before[2:], atol=4 * std.max() / np.sqrt(N_DRAWS))
    # The density of two outcomes, one after the other.
    found = noisy.log_likelihood(extra[:2, None], np.array(before[2:4]) + 0.4, in_sample=False)
    errors = np.array([0.4, 0.4 - coef[0] * 0.4])
    expected = -0.5 * (errors / 0.4) ** 2 - np.log(0.4 * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(found["log_likelihood"]["y"].to_numpy()[0, 0], expected, atol=1e-3)


def test_rows_of_the_fit_have_their_own_levels(walk):
    assert walk.score(TIMES, Y, in_sample=True) > 0.9
    np.testing.assert_allclose(walk.predict(TIMES, in_sample=True), LEVEL, atol=1e-4)
    lower, upper = walk.predict_interval(TIMES, 0.9, in_sample=True).T
    np.testing.assert_allclose(upper - lower, 2 * 1.645 * 0.3, rtol=0.15)
    with pytest.warns(RowsOfFitWarning, match=r"\['level'\].*Pass `in_sample=True`"):
        again = walk.predict(TIMES)
    np.testing.assert_allclose(again, LEVEL[-1], atol=4 * 0.5 * np.sqrt(N / N_DRAWS))
    with pytest.raises(ValueError, match="draws for the 40 rows of the fit, but X has 8 rows"):
        walk.predict(LATER, in_sample=True)


def test_rows_of_an_autoregression_have_no_levels():
    model = fitted(series.autoregression, coef=np.full((3, 2), 0.5), scale=np.full(3, 0.5))
    with pytest.raises(ValueError, match="in_sample=True` uses posterior draws of latent sites"):
        model.predict(TIMES, in_sample=True)
    with pytest.warns(RowsOfFitWarning, match="follow those of the fit"):
        model.predict(TIMES)


@pytest.mark.parametrize("name", ["walk", "gaussian_process"])
def test_the_rows_of_the_fit_are_kept(name, walk, smooth):
    model, X = (
        (walk, LATER)
        if name == "walk"
        else (fitted(series.gaussian_process, *smooth, scale=np.array([0.7, 0.7])), np.linspace(0.0, 6.0, 4)[:, None])
    )
    kernel = getattr(series, name)
    expected = model.predict(X)
    for again in (pickle.loads(pickle.dumps(model)), NumPyroImpactRegressor.from_datatree(kernel, model.to_datatree())):
        np.testing.assert_array_equal(again.predict(X), expected)
    table = model.describe()
    assert table.loc["rows of the fit", ["kind", "shape"]].tolist() == [
        "kept for predictions",
        str(model.rows_of_fit_["X"].shape),
    ]


def test_kernels_whose_rows_stand_alone_keep_none():
    draws = {"centre": np.ones(2), "spread": np.ones(2), "level": np.ones((2, 1))}
    model = NumPyroImpactRegressor(series.groups, posterior=draws, random_state=0)
    model.fit(TIMES, Y, group=np.zeros(N, int), n_group=1)
    assert model.rows_of_fit_ is None
    assert "rows of the fit" not in model.describe().index


def test_effects_of_new_rows_go_on_from_the_fit(walk):
    X = np.zeros((2, 1))
    effect = walk.estimate_effect(X, baseline={}, scenarios={"set": {"intervention": {"level": np.array([7.0, 9.0])}}})[
        "set"
    ]["effect"]
    assert float(effect.mean()) == pytest.approx(8.0 - LEVEL[-1], abs=0.05)


def test_refusals(walk):
    with pytest.raises(ValueError, match=r"'shares' cannot be continued.*Dirichlet"):
        fitted(series.directions, shares=np.full((2, N), 1 / N)).predict(LATER)
    unknown = NumPyroImpactRegressor(series.walk, random_state=0)
    unknown.set_posterior_sample({"scale": np.ones(2), "level": np.ones((2, N))})
    with pytest.raises(ValueError, match=r"rows of the fit.*not known.*Call `fit\(X, y\)`.*in_sample=True"):
        unknown.predict(LATER)


@pytest.mark.parametrize(("kernel", "site"), [(series.centred_walk, "y"), (series.spread_walk, "level")])
def test_new_rows_must_not_change_the_rows_of_the_fit(kernel, site):
    model = fitted(kernel, scale=np.ones(2), level=np.tile(LEVEL, (2, 1)))
    with pytest.raises(ValueError, match=rf"change the distribution of \['{site}'\].*as an argument"):
        model.predict(LATER)


def test_forecasts_need_no_warning(walk):
    with warnings.catch_warnings():
        warnings.simplefilter("error", SpeedWarning)
        first = walk.sample_posterior_predictive(LATER, in_sample=False)["predictions"]["y"]
    assert first.sizes["rows"] == AHEAD
    again = walk.sample_posterior_predictive(LATER, in_sample=False, shard_axis="draw")["predictions"]["y"]
    np.testing.assert_array_equal(first, again)
