"""Engines of other libraries against a posterior that is known, and objects of a user's own."""

import pickle
import subprocess
import sys
import warnings

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from arviz_stats.base import array_stats
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from skaimz import NumPyroImpactRegressor
from skaimz.exceptions import GuideWarning, StoppedFitWarning
from skaimz.inference import BlackJAX, Draws, NestedSampling, Nutpie, Sampler
from skaimz.inference.extras import weighed

# Chains of a test are short; where a warning is meant, a test waits for it.
pytestmark = [
    pytest.mark.usefixtures("quick_compilation"),
    pytest.mark.filterwarnings("ignore::skaimz.exceptions.EffectiveSampleSizeWarning"),
    pytest.mark.filterwarnings("ignore::skaimz.exceptions.RHatWarning"),
]

PRIOR, NOISE, CORRELATION = 2.0, 0.5, 0.95
N_ROWS = 40
ENGINES = {
    "nuts": BlackJAX(num_warmup=200, num_samples=600, num_chains=2, options={"max_num_doublings": 2}),
    "mclmc": BlackJAX("mclmc", num_warmup=500, num_samples=6000, num_chains=2, thinning=10),
    "adjusted_mclmc": BlackJAX("adjusted_mclmc", num_warmup=500, num_samples=800, num_chains=2),
    "pathfinder": BlackJAX("pathfinder", num_samples=800, num_chains=2),
    "nutpie": Nutpie(num_warmup=200, num_samples=600, num_chains=2),
}
CHAINS = ("nuts", "mclmc", "adjusted_mclmc", "nutpie")


class Linear:
    """Linear regression with normal priors and known noise, which are in the unit of the outcome."""

    def __init__(self, unit=1.0):
        self.unit = unit

    def get_params(self, deep=True):
        return {"unit": self.unit}

    def set_params(self, **params):
        vars(self).update(params)
        return self

    def __call__(self, X, y=None):
        coef = numpyro.sample("coef", dist.Normal(0, PRIOR * self.unit).expand([X.shape[1]]).to_event(1))
        with numpyro.plate("rows", X.shape[0]):
            numpyro.sample("y", dist.Normal(X @ coef, NOISE * self.unit), obs=y)


def made_rows(unit=1.0, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(N_ROWS, 3))
    X[:, 1] = CORRELATION * X[:, 0] + np.sqrt(1 - CORRELATION**2) * X[:, 1]
    y = unit * (X @ [1.0, -1.0, 0.5] + NOISE * rng.normal(size=N_ROWS))
    return X.astype(np.float32), y.astype(np.float32)


def engine(name, **params):
    pytest.importorskip("nutpie" if name == "nutpie" else "blackjax")
    return clone(ENGINES[name]).set_params(**params)


def fit(inference, unit=1.0, seed=0):
    X, y = made_rows(unit, seed)
    return NumPyroImpactRegressor(Linear(unit), inference=inference, random_state=0).fit(X, y)


@pytest.fixture(scope="module")
def fitted():
    """Fits by name, each made once."""
    made = {}

    def of(name):
        if name not in made:
            made[name] = fit(engine(name))
        return made[name]

    return of


def assert_conjugate(draws, unit=1.0, effective=None, bias=0.0):
    """Compare draws ``(n_chains, n_draws, 3)`` with the posterior in closed form.

    ``bias`` is how many standard deviations an inexact algorithm may be off, beside four standard errors.
    """
    X, y = (array.astype(float) for array in made_rows(unit))
    covariance = np.linalg.inv(X.T @ X / NOISE**2 + np.eye(3) / PRIOR**2)
    mean, sd = covariance @ X.T @ (y / unit) / NOISE**2, np.sqrt(np.diag(covariance))
    draws = draws.astype(float) / unit
    if effective is None:
        effective = min(array_stats.ess(draws[..., i], chain_axis=0, draw_axis=1, method="bulk") for i in range(3))
    assert effective > 200
    flat = draws.reshape(-1, 3)
    assert (np.abs(flat.mean(0) - mean) < (4 / np.sqrt(effective) + bias) * sd).all()
    # The standard error of a standard deviation is that of a mean over sqrt(2); squares mix worse than means.
    assert (np.abs(flat.std(0) - sd) < (6 / np.sqrt(2 * effective) + bias) * sd).all()
    expected = covariance[0, 1] / (sd[0] * sd[1])
    assert np.corrcoef(flat.T)[0, 1] == pytest.approx(expected, abs=0.05)


# Posteriors


@pytest.mark.parametrize("name", ENGINES)
def test_engines_reach_the_posterior(fitted, name):
    model = fitted(name)
    draws = model.posterior_["coef"]
    assert draws.dtype == np.float32
    n_chains, n_draws = (1, 800) if name == "pathfinder" else (2, 800 if name == "adjusted_mclmc" else 600)
    assert draws.shape == (n_chains, n_draws, 3)
    # Draws that are chosen by weight repeat some.
    assert_conjugate(draws, effective=400 if name == "pathfinder" else None, bias=0.05 if name == "mclmc" else 0.0)
    assert all(value.shape == (n_chains, n_draws) for value in model.fit_result_.sample_stats.values())


@pytest.mark.parametrize("name", ENGINES)
def test_units_do_not_matter_and_equal_kernels_compile_nothing(fitted, compilations, name):
    fitted(name)
    compilations.clear()
    model = fit(engine(name), unit=1e6)
    assert compilations == []
    draws = model.posterior_["coef"]
    assert_conjugate(draws, 1e6, 400 if name == "pathfinder" else None, bias=0.05 if name == "mclmc" else 0.0)


def test_statistics_have_names_of_arviz(fitted):
    for name in ("nuts", "nutpie"):
        statistics = fitted(name).fit_result_.sample_stats
        expected = {"diverging", "energy", "lp", "n_steps", "acceptance_rate", "step_size", "tree_depth"}
        assert statistics.keys() == expected
        assert not statistics["diverging"].any()
        assert (statistics["n_steps"] >= 1).all()
        assert 0.5 < statistics["acceptance_rate"].mean() <= 1.0
        # In units of the posterior its log density is minus half a sum of squares, up to a constant.
        assert statistics["lp"].std() == pytest.approx(np.sqrt(1.5), rel=0.2)


def test_chains_are_checked(fitted):
    for name in CHAINS:
        diagnostics = fitted(name).fit_result_.diagnostics
        assert diagnostics["num_chains"] == 2
        assert diagnostics["r_hat"]["coef"] < 1.1
        assert diagnostics["num_divergences"] == 0
    assert "r_hat" not in fitted("pathfinder").fit_result_.diagnostics


@pytest.mark.parametrize("name", ENGINES)
def test_a_seed_decides(fitted, name):
    first = fitted(name)
    again = fit(engine(name))
    np.testing.assert_array_equal(first.posterior_["coef"], again.posterior_["coef"])
    X, y = made_rows()
    other = NumPyroImpactRegressor(Linear(), inference=engine(name), random_state=1).fit(X, y)
    assert not (first.posterior_["coef"] == other.posterior_["coef"]).all()


def test_thinning_keeps_every_second_step(fitted):
    thinned = fit(engine("nuts", thinning=2)).posterior_["coef"]
    np.testing.assert_array_equal(thinned, fitted("nuts").posterior_["coef"][:, 1::2])


def test_approximations_are_weighed():
    positions = np.random.default_rng(0).standard_normal((4000, 1))
    log_q = -np.square(positions).sum(axis=1) / 2
    for log_p in (log_q + 3.0, log_q - 0.1 * positions[:, 0]):
        weight, same, draws = weighed(positions, log_p, log_q, "Pathfinder")
        np.testing.assert_allclose(weight, np.exp(log_p - log_q) / np.exp(log_p - log_q).sum(), rtol=0.3)
        assert same is log_p
        assert draws is positions
    wide = log_q / 9
    with pytest.warns(GuideWarning, match="by Pathfinder is far from the posterior"):
        weighed(positions, wide, log_q, "Pathfinder")


# Going on


@pytest.mark.parametrize("name", ["nuts", "mclmc", "adjusted_mclmc"])
def test_chains_go_on_where_they_ended(fitted, name):
    whole = fitted(name).posterior_["coef"]
    settings = engine(name)
    steps = 300 * settings.thinning
    begun = fit(settings.set_params(num_samples=steps))
    np.testing.assert_array_equal(begun.posterior_["coef"], whole[:, :300])
    more = begun.sample_posterior(300)["posterior"]["coef"].values
    np.testing.assert_array_equal(more, whole[:, 300:600])


@pytest.mark.parametrize("name", ["pathfinder", "nutpie"])
def test_fresh_draws_are_other_draws_of_the_same_posterior(fitted, name):
    model = fitted(name)
    fresh = model.sample_posterior(700)["posterior"]["coef"].values
    assert fresh.shape == (1 if name == "pathfinder" else 2, 700, 3)
    assert_conjugate(fresh, effective=350 if name == "pathfinder" else None)
    assert not (fresh[:, :600] == model.posterior_["coef"][:, :600]).all()
    np.testing.assert_array_equal(fresh, model.sample_posterior(700)["posterior"]["coef"].values)
    other = model.sample_posterior(700, random_state=5)["posterior"]["coef"].values
    assert not (fresh == other).all()


@pytest.mark.parametrize("name", ENGINES)
def test_fits_are_pickled(fitted, name):
    model = fitted(name)
    copy = pickle.loads(pickle.dumps(model))
    assert copy.inference_.get_params() == model.inference_.get_params()
    mine, theirs = (each.sample_posterior(20)["posterior"]["coef"].values for each in (model, copy))
    np.testing.assert_array_equal(mine, theirs)


# Settings


@pytest.mark.parametrize("settings", [*ENGINES.values(), NestedSampling()])
def test_settings_are_scikit_learns(settings):
    copy = clone(settings)
    assert copy is not settings
    assert copy.get_params() == settings.get_params()
    assert pickle.loads(pickle.dumps(settings)).get_params() == settings.get_params()
    assert isinstance(settings, Sampler)
    assert copy.set_params(num_samples=7).num_samples == 7
    assert "num_samples=7" in repr(copy)
    with pytest.raises(ValueError, match="Invalid parameter 'steps'"):
        copy.set_params(steps=1)


@pytest.mark.parametrize("name", ["nuts", "nutpie"])
def test_settings_are_searched(fitted, compilations, name):
    fitted(name)
    compilations.clear()
    X, y = made_rows()
    model = NumPyroImpactRegressor(Linear(), inference=engine(name), random_state=0)
    search = GridSearchCV(model, {"inference__num_samples": [50, 100]}, cv=2, error_score="raise").fit(X, y)
    assert search.best_estimator_.posterior_["coef"].shape[1] == search.best_params_["inference__num_samples"]
    assert (search.cv_results_["mean_test_score"] > 0.5).all()
    assert not [each for each in compilations if any(part in each for part in ("begin", "advance", "log_density"))]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (BlackJAX("hmc"), "`algorithm` must be one of"),
        (BlackJAX(num_samples=0), "`num_samples` must be an integer >= 1"),
        (BlackJAX(num_warmup=-1), "`num_warmup` must be an integer >= 1"),
        (BlackJAX(num_samples=3, thinning=4), "`thinning`=4 leaves no draw"),
        (BlackJAX(options={"target_accept": 0.9}), r"\['target_accept'\] are unknown.*target_acceptance_rate"),
        (BlackJAX("pathfinder", options={"target_acceptance_rate": 0.9}), r"are unknown.*maxiter"),
        (BlackJAX(time_budget=0), "`time_budget` must be a positive number"),
        (Nutpie(num_chains=0), "`num_chains` must be an integer >= 1"),
        (Nutpie(options={"draws": 5}), r"\['draws'\] are unknown"),
        (NestedSampling(options={"live": 5}), r"\['live'\] are unknown"),
        (NestedSampling(time_budget=5.0), "cannot be stopped"),
    ],
)
def test_refused_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        fit(settings)


def test_options_must_be_a_dictionary():
    with pytest.raises(TypeError, match="`options` must be a dictionary"):
        fit(BlackJAX(options=["max_num_doublings"]))


def test_options_reach_the_libraries(fitted):
    assert fitted("nuts").fit_result_.sample_stats["tree_depth"].max() == 2
    assert fit(engine("nutpie", options={"maxdepth": 1})).fit_result_.sample_stats["tree_depth"].max() == 1
    assert fitted("nutpie").fit_result_.sample_stats["tree_depth"].max() > 1


# Libraries that are not there


@pytest.mark.parametrize(
    ("settings", "library", "message"),
    [
        (BlackJAX(), "blackjax", r"`BlackJAX` needs blackjax: `pip install 'skaimz\[blackjax\]'`"),
        (Nutpie(), "nutpie", r"`Nutpie` needs nutpie: `pip install 'skaimz\[nutpie\]'`"),
        (NestedSampling(), "numpyro.contrib.nested_sampling", r"needs jaxns before its version 3"),
    ],
)
def test_missing_libraries_are_told_of(monkeypatch, settings, library, message):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=message):
        fit(settings)


def test_libraries_are_imported_when_they_are_needed():
    code = "import sys, skaimz.inference; assert not {'blackjax', 'nutpie', 'jaxns'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# Callbacks


@pytest.mark.parametrize("name", ["nuts", "nutpie"])
def test_progress_is_told(name):
    told = []
    model = fit(engine(name, callback=told.append))
    assert model.posterior_["coef"].shape == (2, 600, 3)
    assert {each.phase for each in told} == ({"nutpie"} if name == "nutpie" else {"MCMC warm-up", "MCMC"})
    for phase in {each.phase for each in told}:
        done = [each.done for each in told if each.phase == phase]
        assert done == sorted(done)
        assert done[-1] == told[-1].total if phase != "MCMC warm-up" else done[-1] == 400


def test_chains_are_stopped():
    settings = engine("nuts", num_samples=100_000, callback=lambda progress: progress.phase == "MCMC")
    with pytest.warns(StoppedFitWarning, match="of 100000 draws of each chain: the callback returned True"):
        model = fit(settings)
    assert 64 <= model.posterior_["coef"].shape[1] < 5000
    with pytest.raises(RuntimeError, match="stopped before a chain had a draw"):
        fit(engine("nuts", callback=lambda progress: True))


def test_chains_of_nutpie_are_stopped():
    stop = engine("nutpie", num_samples=10**7, callback=lambda progress: progress.done > 2000)
    with pytest.warns(StoppedFitWarning, match="of 10000000 draws of each chain: the callback returned True"):
        model = fit(stop)
    assert 1 < model.posterior_["coef"].shape[1] < 10**7
    assert np.isfinite(model.posterior_["coef"]).all()


def test_errors_of_callbacks_end_a_fit():
    def fail(progress):
        raise KeyError("callback")

    for name in ("nuts", "nutpie"):
        with pytest.raises(KeyError, match="callback"):
            fit(engine(name, callback=fail))


# Objects of a user's own


class Exact:
    """Draws of a standard normal distribution: that of a normal posterior in units of its curvature."""

    def __init__(self, change=lambda draws: draws):
        self.change = change

    def sample(self, posterior, run):
        draws = np.random.default_rng(run.seed).standard_normal((2, 2000, posterior.size))
        assert np.isfinite(posterior.log_density(posterior.begin(0), posterior.data))
        return self.change(Draws(draws))


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_positions_are_in_units_of_the_posterior(unit):
    assert_conjugate(fit(Exact(), unit).posterior_["coef"], unit)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda draws: draws.positions, TypeError, "must return skaimz.inference.Draws, got ndarray"),
        (lambda draws: Draws(draws.positions[0]), ValueError, r"\(n_chains, n_draws, 3\), got \(2000, 3\)"),
        (lambda draws: Draws(draws.positions[..., :2]), ValueError, r"\(n_chains, n_draws, 3\), got \(2, 2000, 2\)"),
        (lambda draws: Draws(draws.positions, {"lp": np.zeros(3)}), ValueError, r"'lp' has the shape \(3,\)"),
    ],
)
def test_what_is_no_draws_is_refused(change, error, message):
    with pytest.raises(error, match=message):
        fit(Exact(change))


def test_objects_of_ones_own_without_a_state_do_not_go_on():
    with pytest.raises(ValueError, match="needs an inference state"):
        fit(Exact()).sample_posterior(10)


# Nested sampling, which no extra brings


@pytest.mark.slow
@pytest.mark.parametrize("unit", [1.0, 1e6])
def test_nested_sampling(unit):
    with warnings.catch_warnings(action="ignore"):
        pytest.importorskip("jaxns", exc_type=ImportError)
        model = fit(NestedSampling(), unit)
    assert_conjugate(model.posterior_["coef"], unit, effective=600)
    fresh = model.sample_posterior(500)["posterior"]["coef"].values
    assert_conjugate(fresh, unit, effective=350)


@pytest.mark.slow
def test_nested_sampling_finds_all_modes():
    def two_modes(X, y=None):
        root = numpyro.sample("root", dist.Normal(0.0, 3.0))
        numpyro.sample("y", dist.Normal(root**2 + 0 * X[:, 0], NOISE), obs=y)

    with warnings.catch_warnings(action="ignore"):
        pytest.importorskip("jaxns", exc_type=ImportError)
        X, y = made_rows()
        model = NumPyroImpactRegressor(two_modes, inference=NestedSampling(), random_state=0).fit(X, 4.0 + y - y.mean())
    root = model.posterior_["root"].ravel()
    assert np.mean(root > 0) == pytest.approx(0.5, abs=0.1)
    assert np.abs(root).mean() == pytest.approx(2.0, abs=0.02)
