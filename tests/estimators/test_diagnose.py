"""`diagnose`: what is computed for which check, and of which fit. Statistics themselves are tested in tests/checks."""

import pickle
import sys

import arviz_stats
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import xarray as xr
import zoo
import zoo_inputs
from arviz_stats.base import array_stats

from skaimz import NumPyroImpactClassifier, NumPyroImpactRegressor, sampling
from skaimz.exceptions import PosteriorWarning, SpeedWarning
from skaimz.inference import MCMC, SVI
from skaimz.inference.diagnostics import bulk_sizes, r_hats

pytestmark = [
    pytest.mark.filterwarnings("ignore::skaimz.exceptions.FitWarning"),
    pytest.mark.usefixtures("quick_compilation"),
]

OF_CHAINS = ["r_hat", "ess", "ess_tail", "divergences", "energy"]
OF_OUTCOMES = ["prior_mean", "prior_sd", "prior_width", "p_mean", "p_sd", "p_min", "p_max", "k_hat"]

rng = np.random.default_rng(0)
X = rng.normal(size=(40, 2))
y = X @ [1.0, -0.5] + rng.normal(scale=0.5, size=40)


def membership(X, y=None):
    """All rows of one of two groups."""
    member = numpyro.sample("member", dist.Bernoulli(0.5))
    level = numpyro.sample("level", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X[:, 0] + level * member, 0.5), obs=y)


def exact_draws(X, y, n_draws=400, seed=0):
    """Draw from the posterior of the conjugate kernel: prior N(0, 1), noise 0.5."""
    covariance = np.linalg.inv(np.eye(X.shape[1]) + X.T @ X / 0.25)
    return {"coef": np.random.default_rng(seed).multivariate_normal(covariance @ X.T @ y / 0.25, covariance, n_draws)}


@pytest.fixture(scope="module")
def exact():
    """A regressor with draws from the true posterior, in two chains."""
    model = NumPyroImpactRegressor(zoo.conjugate, random_state=0)
    return model.set_posterior_sample(exact_draws(X, y), num_chains=2)


@pytest.fixture(scope="module")
def by_mcmc():
    settings = MCMC(num_warmup=200, num_samples=200, num_chains=2)
    return NumPyroImpactRegressor(zoo.conjugate, inference=settings, random_state=0).fit(X, y)


@pytest.fixture(scope="module")
def by_svi():
    settings = SVI(num_steps=300, num_samples=200)
    return NumPyroImpactRegressor(zoo.conjugate, inference=settings, random_state=0).fit(X, y)


def names(table):
    return list(dict.fromkeys(table.index))


# What is in the table


def test_everything_of_a_good_fit_is_good(by_mcmc):
    table = by_mcmc.diagnose(X, y)
    assert names(table) == [*OF_CHAINS, "prior_edge", *OF_OUTCOMES]
    assert table.index.name == "check"
    assert list(table.columns) == ["site", "value", "threshold", "verdict", "advice"]
    assert table.loc["divergences", "site"] == ""
    assert set(table.loc[["r_hat", "ess", "ess_tail", "prior_edge"], "site"]) == {"coef"}
    assert set(table.loc[OF_OUTCOMES, "site"]) == {"y"}
    assert set(table["verdict"]) == {"good"}
    assert set(table["advice"]) == {""}
    assert table.loc["r_hat", "value"] == by_mcmc.fit_result_.diagnostics["r_hat"]["coef"]
    assert table.loc["ess", "threshold"] == 200


def test_checks_follow_from_what_is_given_and_how_it_was_fitted(by_mcmc, by_svi, exact):
    assert names(by_mcmc.diagnose()) == OF_CHAINS
    assert names(by_mcmc.diagnose(X)) == [*OF_CHAINS, "prior_edge"]
    assert names(by_svi.diagnose()) == ["guide", "importance"]
    assert names(by_svi.diagnose(X, y)) == ["guide", "importance", "prior_edge", *OF_OUTCOMES]
    assert names(exact.diagnose(X, y)) == ["r_hat", "ess", "ess_tail", "prior_edge", *OF_OUTCOMES]


def test_checks_come_in_the_order_in_which_they_are_asked_for(by_mcmc):
    assert list(by_mcmc.diagnose(X, y, checks=("p_max", "r_hat", "p_max")).index) == ["p_max", "r_hat"]
    assert by_mcmc.diagnose(checks=[]).empty


def test_what_does_not_apply_is_unknown_where_it_is_asked_for(by_svi):
    table = by_svi.diagnose(checks=["divergences", "guide"])
    assert table["verdict"].tolist() == ["unknown", "good"]
    assert np.isnan(table.loc["divergences", "value"])
    assert "not by MCMC" in table.loc["divergences", "advice"]


def test_draws_without_a_fit():
    draws = exact_draws(X, y, n_draws=100)["coef"].reshape(4, 25, 2)
    dataset = xr.Dataset({"coef": (("chain", "draw", "feature"), draws)})
    for model in (
        NumPyroImpactRegressor(zoo.conjugate, posterior=dataset),
        NumPyroImpactRegressor(zoo.conjugate).set_posterior_sample(dataset),
    ):
        table = model.diagnose()
        assert table.loc["r_hat", "value"] == r_hats({"coef": draws})["coef"]
        assert table.loc["ess", "value"] == bulk_sizes({"coef": draws})["coef"]
        assert table.loc["ess", "verdict"] == "bad"  # of a hundred draws
        assert model.diagnose(X, y, checks=["p_mean"])["verdict"].item() == "good"


def test_a_model_that_was_read_back(by_mcmc):
    again = NumPyroImpactRegressor.from_datatree(zoo.conjugate, by_mcmc.to_datatree())
    here, there = (model.diagnose(X, y, checks=["r_hat", "p_sd", "prior_edge"]) for model in (by_mcmc, again))
    np.testing.assert_allclose(here["value"], there["value"], rtol=1e-12)


# Nothing that was not asked for


@pytest.fixture
def calls(monkeypatch):
    """Count what a check may have to compute."""
    counted = {}

    def count(owner, name):
        original = getattr(owner, name)
        counted[name] = 0

        def counting(*args, **kwargs):
            counted[name] += 1
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, counting)

    for name in ("summaries", "with_global_latents", "log_densities_reduced"):
        count(sampling, name)
    return counted


@pytest.mark.parametrize(
    ("checks", "expected"),
    [
        # The kernel, traced on the rows, tells whether draws of a mapping have an axis of chains.
        (["r_hat", "ess", "ess_tail"], {}),
        (["divergences", "energy", "guide"], {}),
        (["prior_edge"], {"with_global_latents": 1}),
        (["prior_sd"], {"summaries": 1}),
        (["prior_sd", "prior_mean", "prior_width"], {"summaries": 1}),
        (["p_min"], {"summaries": 1}),
        (["p_mean", "p_sd", "p_min", "p_max"], {"summaries": 1}),
        (["k_hat"], {"log_densities_reduced": 1}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_nothing_else_is_computed(exact, calls, checks, expected):
    exact.diagnose(X, y, checks=checks)
    assert {name: count for name, count in calls.items() if count} == expected


# Outcomes


def test_p_values_are_those_of_the_drawn_outcomes(exact):
    drawn = exact.sample_posterior_predictive_on_batch(X, return_datatree=False)["y"].reshape(400, 40)
    table = exact.diagnose(X, y, checks=["p_mean", "p_sd", "p_min", "p_max"])
    for name, statistic in {"mean": np.mean, "sd": np.std, "min": np.min, "max": np.max}.items():
        assert table.loc[f"p_{name}", "value"] == (statistic(drawn, axis=1) > statistic(y)).mean()


def test_prior_checks_are_those_of_the_prior_draws(exact):
    drawn = exact.sample_prior_predictive_on_batch(X, return_datatree=False)
    outcomes, coef = drawn["y"][0], drawn["coef"][0]
    table = exact.diagnose(X, y, checks=["prior_mean", "prior_sd", "prior_width", "prior_edge"])
    assert table.loc["prior_mean", "value"] == (outcomes.mean(axis=1) > y.mean()).mean()
    assert table.loc["prior_sd", "value"] == (outcomes.std(axis=1) > y.std()).mean()
    off = outcomes.mean(axis=1) - np.median(outcomes.mean(axis=1))
    assert table.loc["prior_width", "value"] == pytest.approx(np.median(np.hypot(off, outcomes.std(axis=1))) / y.std())
    shares = (coef < np.median(exact.posterior_["coef"], axis=(0, 1))).mean(axis=0)
    assert table.loc["prior_edge", "value"] in shares
    assert table.loc["prior_edge", "threshold"] == pytest.approx(0.995)  # 1 is the nearer end for a slope of 1


def test_k_hat_is_that_of_loo(exact):
    tree = exact.log_likelihood(X, y)
    found = arviz_stats.loo(tree, pointwise=True)
    table = exact.diagnose(X, y, checks=["k_hat"])
    assert table.loc["k_hat", "value"] == pytest.approx(float(found.pareto_k.max()))
    assert table.loc["k_hat", "threshold"] == pytest.approx(found.good_k)


def test_outcomes_that_do_not_fit_are_told(exact):
    noisy = y + np.random.default_rng(1).normal(scale=10.0, size=40)
    verdicts = exact.diagnose(X, noisy)["verdict"]
    assert verdicts[["p_sd", "p_min", "p_max", "k_hat", "prior_sd"]].eq("bad").all()
    far = exact.diagnose(X, y + 100.0)
    assert far.loc[["p_mean", "prior_mean"], "verdict"].eq("bad").all()
    assert far.loc["p_sd", "verdict"] == "good"


def test_advice_is_shown_whole(exact, capsys):
    table = exact.diagnose(X, y + 100.0)
    advice = table.loc["p_mean", "advice"]
    assert len(advice) > 50
    print(table.iloc[:, -1:])
    assert advice in capsys.readouterr().out
    assert advice in table._repr_html_()
    assert advice in repr(table[table["verdict"] == "bad"])
    assert advice in repr(pickle.loads(pickle.dumps(table)))


@pytest.mark.parametrize("share", [0.5, 0.97, 1.0])
@pytest.mark.parametrize("dtype", [np.int32, np.int8, np.uint8, bool])
def test_discrete_draws(share, dtype):
    ones = np.random.default_rng(0).random((4, 50)) < share
    draws = xr.Dataset({"member": (("chain", "draw"), ones.astype(dtype))})
    with pytest.warns(PosteriorWarning, match=r"\['level'\] have no posterior draws"):
        table = NumPyroImpactRegressor(membership, posterior=draws).fit(X, y).diagnose()
    site = table.set_index("site", append=True)["value"].xs("member", level="site")
    if share == 1.0:
        assert site.isna().all()
        return
    whole = ones.astype(float)
    assert site["ess"] == pytest.approx(array_stats.ess(whole, chain_axis=0, draw_axis=1, method="bulk"))
    assert site["r_hat"] == pytest.approx(array_stats.rhat(whole, chain_axis=0, draw_axis=1, method="rank"))
    assert not (table["verdict"] == "unknown").any()


def test_a_posterior_at_the_edge_of_its_prior():
    steep = 4 * X[:, 0] + 0.01 * rng.normal(size=40)  # slopes have the prior N(0, 1)
    model = NumPyroImpactRegressor(zoo.conjugate).set_posterior_sample(exact_draws(X, steep))
    table = model.diagnose(X)
    assert table.loc["prior_edge", "verdict"] == "bad"
    assert "upper end of the prior (element [0])" in table.loc["prior_edge", "advice"]


def test_a_prior_out_of_all_proportion():
    model = NumPyroImpactRegressor(zoo.Shrinkage(prior_scale=1e4)).set_posterior_sample(exact_draws(X, y))
    table = model.diagnose(X, y, checks=["prior_width", "prior_sd", "prior_mean"])
    assert table["verdict"].to_dict() == {"prior_width": "bad", "prior_sd": "good", "prior_mean": "good"}


def test_the_seed_decides(exact):
    first, again, other = (exact.diagnose(X, y, checks=["p_mean"], random_state=seed) for seed in (1, 1, 2))
    assert first.equals(again)
    assert not first.equals(other)


def test_classes_count_as_codes():
    probability = 1 / (1 + np.exp(-X[:, 0]))
    labels = np.where(rng.random(40) < probability, "yes", "no")
    model = NumPyroImpactClassifier(zoo.logistic, posterior={"coef": np.tile([1.0, 0.0], (300, 1))}, random_state=0)
    model.fit(X, labels)
    codes = (labels == "yes").astype(int)
    drawn = model.sample_posterior_predictive_on_batch(X, return_datatree=False)["y"][0].mean(axis=1)
    table = model.diagnose(X, labels, checks=["p_mean", "p_min", "p_max", "k_hat"])
    share = codes.mean()
    assert table.loc["p_mean", "value"] == (drawn > share).mean() + (drawn == share).mean() / 2
    # All of them are 0 at least and 1 at most.
    assert table.loc[["p_min", "p_max"], "value"].tolist() == [0.5, 0.5]


def test_several_outputs_have_the_verdict_of_the_worst():
    coef = np.stack([exact_draws(X, y)["coef"]] * 2, axis=-1)
    model = NumPyroImpactRegressor(zoo.two_outputs).set_posterior_sample({"coef": coef})
    table = model.diagnose(X, np.column_stack([y, y + 10.0]), checks=["p_mean", "prior_mean", "k_hat"])
    assert table.loc["p_mean", "value"] == 0.0
    assert table.loc["p_mean", "advice"].endswith("(element [1])")
    assert table.loc["prior_mean", "verdict"] == "bad"
    labels = (X > 0).astype(int)
    coef = np.tile(10.0 * np.eye(2), (50, 1, 1))
    switches = NumPyroImpactClassifier(zoo_inputs.switches, posterior={"coef": np.append(coef, coef[..., :1], axis=-1)})
    switches.fit(X, np.column_stack([labels, labels[:, 0]]))
    assert switches.diagnose(X, np.column_stack([labels, labels[:, 0]]), checks=["p_mean"])["verdict"].item() == "good"


# Kernels of all kinds


def test_a_kernel_without_latents():
    model = NumPyroImpactRegressor(zoo.without_latents, inference=SVI(num_steps=1000), random_state=0).fit(X, X[:, 0])
    table = model.diagnose(X, X[:, 0], checks=["guide", "r_hat", "prior_edge", "prior_mean", "p_mean"])
    assert table["verdict"].to_dict() == {
        "guide": "good", "r_hat": "unknown", "prior_mean": "good", "p_mean": "good",
    }  # fmt: skip
    assert model.diagnose(X, X[:, 0], checks=["k_hat"])["verdict"].item() == "unknown"


def test_an_improper_prior_is_unknown():
    model = NumPyroImpactRegressor(zoo.improper).set_posterior_sample({"level": np.zeros(50)})
    table = model.diagnose(X, X[:, 0])
    of_prior = table.loc[["prior_edge", "prior_mean", "prior_sd", "prior_width"]]
    assert set(of_prior["verdict"]) == {"unknown"}
    assert of_prior["advice"].str.contains(r"\['level'\] are improper").all()
    assert table.loc["p_mean", "verdict"] == "good"


def test_latent_sites_of_rows():
    draws = exact_draws(X, y, 50) | {"effect": 2 * rng.normal(size=(50, 40))}
    model = NumPyroImpactRegressor(zoo.random_effects).set_posterior_sample(draws)
    table = model.diagnose(X, y, checks=["r_hat", "prior_edge", "p_mean", "k_hat"])
    assert table.loc["r_hat", "site"].tolist() == ["coef", "effect"]
    assert table.loc["prior_edge", "site"] == "coef"
    with pytest.raises(ValueError, match="draws for the 40 rows of the fit, but X has 10 rows"):
        model.diagnose(X[:10], y[:10], checks=["p_mean"])


def test_one_density_for_all_rows_leaves_none_out():
    model = NumPyroImpactRegressor(zoo.joint).set_posterior_sample({"slope": np.ones(50)})
    table = model.diagnose(X, X[:, 0], checks=["p_mean", "k_hat"])
    assert table["verdict"].tolist() == ["good", "unknown"]
    assert "one density for all rows" in table.loc["k_hat", "advice"]


def test_rows_that_mix_and_arguments():
    with pytest.warns(SpeedWarning, match="all rows at once"):
        table = NumPyroImpactRegressor(zoo.centring).set_posterior_sample(exact_draws(X, y)).diagnose(X, y)
    assert table.loc[["p_sd", "k_hat"], "verdict"].eq("good").all()
    counts = NumPyroImpactRegressor(zoo.poisson).set_posterior_sample({"coef": np.zeros((50, 2))})
    assert counts.diagnose(X, np.full(40, 3), checks=["p_mean"], exposure=3.0)["verdict"].item() == "good"
    assert counts.diagnose(X, np.full(40, 3), checks=["p_mean"], exposure=9.0)["verdict"].item() == "bad"


# What is refused


def test_refusals(exact):
    with pytest.raises(ValueError, match="`checks` names 'rhat', which is not one of"):
        exact.diagnose(checks=["rhat"])
    with pytest.raises(ValueError, match=r"write \['r_hat'\]"):
        exact.diagnose(checks="r_hat")
    with pytest.raises(ValueError, match=r"\['prior_edge', 'p_mean'\] need X"):
        exact.diagnose(checks=["r_hat", "prior_edge", "p_mean"])
    with pytest.raises(ValueError, match=r"\['k_hat'\] need y"):
        exact.diagnose(X, checks=["k_hat", "prior_edge"])
    with pytest.raises(ValueError, match="pass X"):
        exact.diagnose(y=y)
    with pytest.raises(ValueError, match="pass X"):
        exact.diagnose(exposure=1.0)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        exact.diagnose(X, y[:-1], checks=["p_mean"])
    with pytest.raises(ValueError, match="not fitted"):
        NumPyroImpactRegressor().diagnose()


def test_without_arviz(exact, monkeypatch):
    monkeypatch.setitem(sys.modules, "arviz_stats", None)
    table = exact.diagnose(X, y)
    assert table.loc["k_hat", "verdict"] == "unknown"
    assert "pip install 'skaimz[arviz]'" in table.loc["k_hat", "advice"]
    with pytest.raises(ImportError, match=r"pip install 'skaimz\[arviz\]'"):
        exact.diagnose(X, y, checks=["k_hat"])
