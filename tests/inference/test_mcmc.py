"""Markov chains against posteriors that are known, and what their draws may not depend on."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import numpyro.infer
import pytest
from arviz_stats.base import array_stats
from numpyro.contrib.control_flow import scan

from skaimz.exceptions import DivergenceWarning, StuckChainWarning
from skaimz.inference import MCMC, SVI, Data, chains, fit, mcmc, resolve_inference, resume
from skaimz.kernels import Inputs, trace_kernel

# Short chains have few effective draws; where a warning is meant, a test waits for it.
pytestmark = [
    pytest.mark.filterwarnings("ignore::skaimz.exceptions.EffectiveSampleSizeWarning"),
    pytest.mark.filterwarnings("ignore::skaimz.exceptions.RHatWarning"),
]

PRIOR, NOISE = 2.0, 0.5
N_ROWS = 20
STATISTICS = {"diverging", "energy", "lp", "n_steps", "acceptance_rate", "step_size", "tree_depth"}

EFFECTS = np.array([28, 8, -3, 7, -1, 1, 18, 12], np.float32)
ERRORS = np.array([15, 10, 16, 11, 9, 11, 10, 18], np.float32)
# Posterior means and their standard errors, from ten chains of ten thousand draws (posteriordb).
REFERENCE = {"mu": (4.4105, 0.033), "tau": (3.6021, 0.032), "theta_1": (6.1505, 0.056)}


def make_kernel():
    """Return one of many equal kernels: no two are the same object."""

    def kernel(X, y=None):
        theta = numpyro.sample("theta", dist.Normal(0, PRIOR).expand([2]).to_event(1))
        numpyro.sample("y", dist.Normal(X @ theta, NOISE), obs=y)

    return kernel


def eight_schools(X, y=None, *, sigma):
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("schools", X.shape[0]):
        theta_trans = numpyro.sample("theta_trans", dist.Normal(0, 1))
        theta = numpyro.deterministic("theta", mu + tau * theta_trans)
        numpyro.sample("y", dist.Normal(theta, sigma), obs=y)


def made_rows(n_rows=N_ROWS, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, 2)) @ np.array([[1.0, 0.6], [0.0, 0.8]])
    y = X @ [1.0, -1.0] + NOISE * rng.normal(size=n_rows)
    return {"X": X.astype(np.float32), "y": y.astype(np.float32)}


def run(kernel, rows, settings, seed=0, weight=None):
    """Fit a kernel, and return it with what came of it."""
    inputs = {name: array for name, array in rows.items() if name != "y"}
    traced, numbers = trace_kernel(kernel, Inputs(inputs, {}), "X", "y")
    settings = resolve_inference(settings)
    return traced, settings, fit(traced, Data(numbers, rows, {}, weight), settings, seed)


def assert_conjugate(draws, rows, weight=None):
    """Compare draws ``(n_chains, n_draws, 2)`` with the posterior in closed form, within four standard errors."""
    X, y = rows["X"].astype(float), rows["y"].astype(float)
    weighted = X if weight is None else X * weight[:, None]
    covariance = np.linalg.inv(weighted.T @ X / NOISE**2 + np.eye(2) / PRIOR**2)
    mean, sd = covariance @ weighted.T @ y / NOISE**2, np.sqrt(np.diag(covariance))
    effective = numpyro.diagnostics.effective_sample_size(draws.astype(float))
    assert effective.min() > 80
    flat = draws.reshape(-1, 2)
    assert (np.abs(flat.mean(0) - mean) < 4 * sd / np.sqrt(effective)).all()
    # The standard error of a standard deviation is that of a mean over sqrt(2); squares mix worse than means.
    assert (np.abs(flat.std(0) - sd) < 6 * sd / np.sqrt(2 * effective)).all()
    expected = covariance[0, 1] / np.prod(sd)
    assert np.corrcoef(flat.T)[0, 1] == pytest.approx(expected, abs=0.1)


def same_bits(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def identities(thing):
    """Return what an object holds, by identity, and what its dictionaries hold."""
    return {
        name: (id(value), {k: id(v) for k, v in value.items()} if isinstance(value, dict) else None)
        for name, value in vars(thing).items()
    }


@pytest.fixture(scope="module")
def rows():
    return made_rows()


SETTINGS = {"num_warmup": 300, "num_samples": 1200}


@pytest.fixture(scope="module")
def fitted(rows):
    return run(make_kernel(), rows, MCMC(**SETTINGS))


# Posteriors


def test_chains_reach_the_posterior(rows, fitted):
    draws = fitted[2].draws["theta"]
    assert draws.shape == (4, 1200, 2)
    assert draws.dtype == np.float32
    assert_conjugate(draws, rows)
    for chain in draws:
        assert_conjugate(chain[None], rows)


def test_chains_are_apart(fitted):
    draws = fitted[2].draws["theta"]
    assert len({chain.tobytes() for chain in draws}) == 4
    starts = draws[:, 0]
    assert len(np.unique(starts, axis=0)) == 4


@pytest.fixture(scope="module")
def schools():
    rows = {"X": np.ones((8, 1), np.float32), "y": EFFECTS, "sigma": ERRORS}
    settings = MCMC(num_warmup=700, num_samples=1500, sampler_options={"target_accept_prob": 0.9})
    with warnings.catch_warnings(category=DivergenceWarning, action="ignore"):  # one in thousands may diverge
        return run(eight_schools, rows, settings, seed=1)


@pytest.mark.parametrize("name", REFERENCE)
def test_eight_schools(schools, name):
    draws = dict(schools[2].draws)
    draws["theta_1"] = draws["mu"] + draws["tau"] * draws["theta_trans"][:, :, 0]
    draw = draws[name].astype(float)
    mean, error = REFERENCE[name]
    own_error = draw.std() / np.sqrt(numpyro.diagnostics.effective_sample_size(draw))
    assert own_error < 0.15
    assert abs(draw.mean() - mean) < 4 * np.hypot(error, own_error)


def test_eight_schools_keeps_latents_only(schools):
    draws = schools[2].draws
    assert {name: draw.shape for name, draw in draws.items()} == {
        "mu": (4, 1500),
        "tau": (4, 1500),
        "theta_trans": (4, 1500, 8),
    }
    assert (draws["tau"] > 0).all()  # on the scale of the kernel, not the sampler's
    found = schools[2].diagnostics
    assert found["r_hat"].keys() == found["ess"].keys() == draws.keys()
    assert max(found["r_hat"].values()) < 1.01
    assert found["num_divergences"] == schools[2].sample_stats["diverging"].sum() < 10


# Weights


def test_weights_give_the_posterior_of_repeated_rows(rows, fitted):
    weight = (np.arange(N_ROWS) % 4).astype(np.float32)
    *_, result = run(make_kernel(), rows, MCMC(**SETTINGS), weight=weight)
    assert_conjugate(result.draws["theta"], rows, weight)
    repeated = {name: np.repeat(array, weight.astype(int), axis=0) for name, array in rows.items()}
    assert_conjugate(result.draws["theta"], repeated)


# Samplers


def test_hmc_without_adaptation(rows):
    options = {"step_size": 0.05, "num_steps": 8, "trajectory_length": None}
    settings = MCMC("hmc", num_warmup=0, num_samples=2500, num_chains=2, sampler_options=options)
    *_, result = run(make_kernel(), rows, settings)
    assert result.draws["theta"].shape == (2, 2500, 2)
    assert_conjugate(result.draws["theta"][:, 100:], rows)
    # Without warm-up nothing is adapted.
    assert (result.sample_stats["step_size"] == np.float32(0.05)).all()
    assert (result.sample_stats["n_steps"] == 8).all()


@pytest.fixture(scope="module")
def recipe(rows):
    sampler = numpyro.infer.NUTS(make_kernel(), target_accept_prob=0.9, dense_mass=True, max_tree_depth=3)
    counts = {"num_warmup": 300, "num_samples": 901, "num_chains": 2, "thinning": 3}
    ready = numpyro.infer.MCMC(sampler, **counts, chain_method="sequential", progress_bar=False)
    other = made_rows(7, seed=1)
    ready.run(jax.random.key(0), other["X"], other["y"])
    before = identities(sampler), identities(ready)
    fitted = run(make_kernel(), rows, ready)
    return fitted, before, (identities(sampler), identities(ready)), ready


def test_a_numpyro_mcmc_that_has_been_run_is_a_recipe(rows, recipe):
    (_, settings, result), before, after, ready = recipe
    assert before == after
    assert settings.chain_method == "sequential"
    assert ready.get_samples().keys() == {"theta"}
    assert result.draws.keys() == {"theta"}
    assert_conjugate(result.draws["theta"], rows)
    assert result.sample_stats["n_steps"].max() <= 2**3 - 1  # the sampler's own depth


def test_sequential_chains_reach_the_posterior_of_vectorized_ones(rows, fitted, recipe):
    draws = recipe[0][2].draws["theta"]
    assert_conjugate(draws, rows)
    assert_conjugate(fitted[2].draws["theta"][:2], rows)
    assert not np.array_equal(draws[0], draws[1])


@pytest.mark.parametrize("method", ["auto", "parallel"])
def test_draws_do_not_depend_on_how_chains_are_scheduled(rows, fitted, method):
    short = {"num_warmup": 300, "num_samples": 50}
    *_, result = run(make_kernel(), rows, MCMC(**short, chain_method=method))
    *_, alone = run(make_kernel(), rows, MCMC(**short, chain_method="sequential"))
    assert same_bits(result.draws, alone.draws)
    assert same_bits(result.draws, {"theta": fitted[2].draws["theta"][:, :50]})


def test_vectorized_chains_reach_the_posterior(rows):
    *_, result = run(make_kernel(), rows, MCMC(**SETTINGS, chain_method="vectorized"))
    assert result.draws["theta"].shape == (4, 1200, 2)
    assert_conjugate(result.draws["theta"], rows)


@pytest.mark.parametrize("sampler", ["sa", "barker", "aies", "ess"])
def test_other_samplers_reach_the_posterior(rows, sampler):
    # A step of theirs goes a shorter way.
    settings = MCMC(sampler, num_warmup=1000, num_samples=10_000, num_chains=10, thinning=10)
    *_, result = run(make_kernel(), rows, settings)
    assert result.draws["theta"].shape == (10, 1000, 2)
    assert_conjugate(result.draws["theta"], rows)


@pytest.mark.parametrize("sampler", ["aies", "ess"])
def test_ensembles_need_an_even_number_of_chains(sampler):
    with pytest.raises(ValueError, match="an ensemble needs an even number of chains, got `num_chains`=3"):
        resolve_inference(MCMC(sampler, num_chains=3))


@pytest.mark.parametrize("power", [-9, 0, 9])
def test_units_of_the_outcome_change_nothing_but_the_units(power):
    unit = 10.0**power
    rng = np.random.default_rng(3)
    x = rng.normal(size=(40, 1))
    y = unit * (52.0 + 8.0 * x[:, 0] + rng.normal(size=40))
    traced, numbers = scaled_line(unit, x)
    with jax.enable_x64(True):
        result = fit(traced, Data(numbers, {"X": x, "y": y}, {}, None), resolve_inference("mcmc"), 0)
        unscaled, numbers = scaled_line(1.0, x)
        expected = fit(unscaled, Data(numbers, {"X": x, "y": y / unit}, {}, None), resolve_inference("mcmc"), 0)
    for name in ("a", "b", "s"):
        # Chains are chaotic, so that rounding moves draws; what they are draws of is the same.
        draws, plain = result.draws[name] / unit, expected.draws[name]
        assert draws.mean() == pytest.approx(plain.mean(), abs=0.15 * plain.std())
        assert draws.std() == pytest.approx(plain.std(), rel=0.1)


def scaled_line(unit, X):
    def kernel(X, y=None, *, unit):
        a = numpyro.sample("a", dist.Normal(50.0 * unit, 20.0 * unit))
        b = numpyro.sample("b", dist.Normal(0.0, 20.0 * unit))
        s = numpyro.sample("s", dist.HalfNormal(5.0 * unit))
        with numpyro.plate("rows", X.shape[0]):
            numpyro.sample("y", dist.Normal(a + b * X[:, 0], s), obs=y)

    with jax.enable_x64(True):
        return trace_kernel(functools.partial(kernel, unit=unit), Inputs({"X": X}, {}), "X", "y")


def test_thinning_keeps_one_step_in_so_many(recipe):
    _, _, result = recipe[0]
    assert result.draws["theta"].shape == (2, 300, 2)
    assert result.sample_stats["diverging"].shape == (2, 300)


def test_thinned_draws_are_every_so_many_of_all(rows, recipe):
    sampler = recipe[3].sampler
    settings = MCMC(sampler, num_warmup=300, num_samples=60, num_chains=2, chain_method="sequential")
    *_, every = run(make_kernel(), rows, settings)
    assert every.draws["theta"].shape == (2, 60, 2)
    np.testing.assert_array_equal(recipe[0][2].draws["theta"][:, :20], every.draws["theta"][:, 2::3])


# What is kept


def test_statistics_have_arviz_names_and_a_value_for_each_draw(rows, fitted):
    result = fitted[2]
    assert result.sample_stats.keys() == STATISTICS
    assert all(array.shape == (4, 1200) for array in result.sample_stats.values())
    assert result.sample_stats["diverging"].dtype == bool
    rate = result.sample_stats["acceptance_rate"]
    assert (rate >= 0).all()
    assert (rate <= 1).all()
    assert rate.mean() == pytest.approx(0.8, abs=0.15)  # the sampler's target
    step_size = result.sample_stats["step_size"]
    assert (step_size == step_size[:, :1]).all()
    assert (result.sample_stats["energy"] >= -result.sample_stats["lp"]).all()
    assert result.method == "mcmc"
    assert result.losses is None
    assert result.params == {}


def test_lp_is_the_log_density_of_the_draws(rows, fitted):
    result = fitted[2]
    theta = result.draws["theta"][:, ::100].astype(float)
    off = rows["y"] - theta @ rows["X"].T
    normal = -0.5 * np.log(2 * np.pi)
    expected = (-0.5 * (off / NOISE) ** 2 - np.log(NOISE) + normal).sum(-1)
    expected += (-0.5 * (theta / PRIOR) ** 2 - np.log(PRIOR) + normal).sum(-1)
    np.testing.assert_allclose(result.sample_stats["lp"][:, ::100], expected, rtol=1e-4)


def test_diagnostics_are_those_of_the_draws(fitted):
    result = fitted[2]
    draws = result.draws["theta"].astype(float)
    r_hat = max(array_stats.rhat(draws[..., i], chain_axis=0, draw_axis=1, method="rank") for i in range(2))
    ess = min(array_stats.ess(draws[..., i], chain_axis=0, draw_axis=1, method="bulk") for i in range(2))
    assert result.diagnostics == {
        "r_hat": {"theta": pytest.approx(float(r_hat), abs=1e-6)},
        "ess": {"theta": pytest.approx(float(ess), rel=0.02)},
        "num_divergences": int(result.sample_stats["diverging"].sum()),
        "num_chains": 4,
        "stuck_chains": [],
        "finite": True,
    }


def test_divergences_are_warned_of(rows):
    # The program of `test_hmc_without_adaptation`, whose step is far too long for these data.
    far = {"X": 1000 * rows["X"], "y": rows["y"]}
    options = {"step_size": 0.05, "num_steps": 8, "trajectory_length": None}
    settings = MCMC("hmc", num_warmup=0, num_samples=50, num_chains=2, sampler_options=options)
    with (
        pytest.warns(DivergenceWarning, match="100 steps diverged"),
        pytest.warns(StuckChainWarning, match=r"Chains \[0, 1\] of 2 never moved"),
    ):
        *_, result = run(make_kernel(), far, settings)
    assert result.sample_stats["diverging"].all()


# Going on


def test_chains_go_on_from_where_they_ended(rows, fitted):
    traced, settings, result = fitted
    more = resume(traced, result, settings, 0, 1200)
    assert more["theta"].shape == (4, 1200, 2)
    assert np.isin(more["theta"], result.draws["theta"]).mean() < 0.01
    assert_conjugate(more["theta"], rows)


def test_a_fit_and_its_continuation_are_one_longer_fit(rows, fitted):
    traced, settings, _ = fitted
    *_, short = run(make_kernel(), rows, MCMC(**{**SETTINGS, "num_samples": 40}))
    *_, long = run(make_kernel(), rows, MCMC(**{**SETTINGS, "num_samples": 100}))
    more = resume(traced, short, settings, 0, 60)
    np.testing.assert_array_equal(long.draws["theta"][:, :40], short.draws["theta"])
    np.testing.assert_array_equal(long.draws["theta"][:, 40:], more["theta"])


def test_a_continuation_is_thinned_as_the_fit_was(recipe):
    traced, settings, result = recipe[0]
    assert resume(traced, result, settings, 0, 50)["theta"].shape == (2, 50, 2)


# What draws depend on, and what not


def test_one_seed_gives_the_same_bits(rows, fitted):
    *_, again = run(make_kernel(), rows, MCMC(**SETTINGS))
    assert same_bits(again.draws, fitted[2].draws)
    assert same_bits(again.sample_stats, fitted[2].sample_stats)
    *_, other = run(make_kernel(), rows, MCMC(**SETTINGS), seed=2**32 - 1)
    assert np.isin(other.draws["theta"], fitted[2].draws["theta"]).mean() < 0.01


@pytest.mark.parametrize(("first", "seconds"), [(3, 0.0), (37, 1e9)])
def test_draws_do_not_depend_on_chunks(rows, fitted, in_pieces, first, seconds):
    settings = MCMC(num_warmup=300, num_samples=50, chain_method="sequential")
    pieces = in_pieces(chains, first, seconds)
    *_, result = run(make_kernel(), rows, settings)
    warm_up, draws = ([3] + [1] * 297, [3] + [1] * 47) if first == 3 else ([37, 263], [37, 13])
    assert pieces == 4 * warm_up + 4 * draws
    assert same_bits(result.draws, {"theta": fitted[2].draws["theta"][:, :50]})


@pytest.mark.parametrize("change", [{}, {"num_samples": 30}, {"thinning": 5}])
@pytest.mark.parametrize("n_rows", [17, 32])
@pytest.mark.usefixtures("fitted")
def test_equal_kernels_share_programs_whatever_the_numbers(compilations, change, n_rows):
    settings = MCMC(**{"num_warmup": 300, "num_samples": 50} | change)
    run(make_kernel(), made_rows(n_rows), settings)
    assert compilations == []


def test_compilations_are_counted(compilations):
    # Otherwise tests that nothing is compiled would pass with a listener that hears nothing.
    jax.jit(lambda x: x * 5 + 1)(jnp.arange(13))
    assert compilations


def test_caches_are_bounded():
    assert mcmc._programs.cache_info().maxsize is not None


# Refusals


def test_a_kernel_without_latents_is_refused(rows):
    def kernel(X, y=None):
        numpyro.sample("y", dist.Normal(X[:, 0], numpyro.param("scale", 1.0)), obs=y)

    with pytest.raises(ValueError, match="MCMC needs a kernel with at least one latent site"):
        run(kernel, rows, MCMC())


def walk(X, y=None):
    def step(level, _):
        level = numpyro.sample("level", dist.Normal(level, 1.0))
        return level, level

    _, levels = scan(step, 5.0, None, length=X.shape[0])
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(levels, 0.5), obs=y)


@pytest.mark.filterwarnings("ignore::skaimz.exceptions.FitWarning")
@pytest.mark.parametrize(
    "settings",
    [MCMC(num_warmup=300, num_samples=1500, num_chains=2), SVI("auto_multivariate_normal", num_steps=4000), "auto"],
    ids=["mcmc", "svi", "auto"],
)
def test_latent_sites_in_a_loop_reach_the_posterior(settings):
    y = np.array([5.5, 6.0, 8.0, 7.0, 9.5])
    with jax.enable_x64(True):
        *_, result = run(walk, {"X": np.zeros((5, 1)), "y": y}, settings)
    # The levels are normal: their precision is that of the steps and of the outcomes.
    steps = np.eye(5) - np.eye(5, k=-1)
    covariance = np.linalg.inv(steps.T @ steps + np.eye(5) / 0.25)
    mean = covariance @ (y / 0.25 + steps.T @ np.array([5.0, 0, 0, 0, 0]))
    draws, sd = result.draws["level"].reshape(-1, 5), np.sqrt(np.diag(covariance))
    np.testing.assert_allclose((draws.mean(axis=0) - mean) / sd, 0.0, atol=0.15)
    np.testing.assert_allclose(draws.std(axis=0), sd, rtol=0.1)
