"""Checks of what a fit left behind, on results made up for the purpose."""

import warnings

import numpy as np
import pytest
from arviz_stats.base import array_stats

from skaimz.checks import fit
from skaimz.exceptions import FitWarning
from skaimz.inference import FitResult
from skaimz.inference.diagnostics import check_losses, r_hats, tail_sizes

rng = np.random.default_rng(0)
DRAWS = {"a": rng.normal(size=(4, 200)), "b": rng.normal(size=(4, 200, 2))}


def by_mcmc(*, r_hat=1.0, ess=1000.0, divergences=0, energy=None):
    found = {"r_hat": {"a": r_hat, "b": 1.0}, "ess": {"a": ess, "b": 1000.0}, "num_divergences": divergences}
    return FitResult("mcmc", DRAWS, sample_stats={"energy": energy}, diagnostics=found)


def by_svi(losses, move):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)
        return FitResult("svi", DRAWS, diagnostics=check_losses(losses, move))


def verdicts(findings):
    return [(finding.site, finding.threshold, finding.verdict) for finding in findings]


def test_numbers_of_the_fit_are_taken_over():
    # The draws themselves would give others.
    found = fit.r_hat(by_mcmc(r_hat=1.5))
    assert [(finding.site, finding.value) for finding in found] == [("a", 1.5), ("b", 1.0)]
    assert verdicts(found) == [("a", 1.01, "bad"), ("b", 1.01, "good")]
    assert "`num_warmup`" in found[0].advice
    assert found[1].advice == ""
    few = fit.ess(by_mcmc(ess=399.0))
    assert verdicts(few) == [("a", 400, "bad"), ("b", 400, "good")]
    assert "`num_samples`" in few[0].advice


@pytest.mark.parametrize(("r_hat", "verdict"), [(1.01, "good"), (1.0101, "bad"), (None, "unknown")])
def test_a_bound_is_good(r_hat, verdict):
    assert fit.r_hat(by_mcmc(r_hat=r_hat))[0].verdict == verdict


def test_draws_from_elsewhere_are_judged_themselves():
    apart = DRAWS | {"a": DRAWS["a"] + np.arange(4)[:, None]}
    found = fit.r_hat(FitResult("injected", apart))
    assert {finding.site: finding.value for finding in found} == r_hats(apart)
    assert found[0].verdict == "bad"
    assert fit.ess(FitResult("injected", apart))[0].verdict == "bad"


@pytest.mark.parametrize("correlation", [0.0, 0.97])
def test_tail_sizes_agree_with_arviz(correlation):
    draws = np.random.default_rng(1).normal(size=(4, 1000))
    for i in range(1, 1000):
        draws[:, i] = correlation * draws[:, i - 1] + np.sqrt(1 - correlation**2) * draws[:, i]
    expected = array_stats.ess(draws, chain_axis=0, draw_axis=1, method="tail", prob=(0.05, 0.95))
    assert tail_sizes({"a": draws})["a"] == pytest.approx(float(expected), rel=0.05)
    assert (fit.ess_tail(FitResult("mcmc", {"a": draws}))[0].verdict == "good") is (correlation == 0.0)


def test_draws_of_two_values_have_one_tail():
    draws = (np.random.default_rng(1).random(size=(4, 1000)) < 0.5).astype(float)
    assert tail_sizes({"a": draws})["a"] == pytest.approx(4000, rel=0.2)


@pytest.mark.parametrize(("count", "verdict"), [(0, "good"), (1, "bad")])
def test_any_divergence_is_bad(count, verdict):
    (found,) = fit.divergences(by_mcmc(divergences=count))
    assert (found.value, found.threshold, found.verdict) == (count, 0, verdict)
    assert ("`target_accept_prob`" in found.advice) is (verdict == "bad")


def test_energy_of_the_worst_chain():
    independent = rng.normal(size=(2, 1000))
    slow = np.cumsum(rng.normal(size=(2, 1000)), axis=1)
    np.testing.assert_allclose(fit.energy_fractions(independent), 2, rtol=0.1)  # the variance of a difference
    np.testing.assert_allclose(fit.energy_fractions(slow), array_stats.bfmi(slow), rtol=1e-12)
    (found,) = fit.energy(by_mcmc(energy=np.concatenate([independent, slow])))
    assert found.value == pytest.approx(array_stats.bfmi(slow).min())
    assert (found.threshold, found.verdict) == (0.3, "bad")
    assert fit.energy(by_mcmc(energy=independent))[0].verdict == "good"
    assert fit.energy(by_mcmc(energy=np.ones((2, 10))))[0].verdict == "unknown"


def test_the_guide():
    (found,) = fit.guide(by_svi(np.zeros(1000), 0.8))
    assert (found.value, found.threshold, found.verdict) == (0.8, 0.5, "bad")
    assert "`num_steps`" in found.advice
    assert fit.guide(by_svi(np.zeros(1000), 0.2))[0].verdict == "good"
    (found,) = fit.guide(by_svi(np.append(np.inf, np.zeros(999)), 0.2))
    assert found.verdict == "bad"
    assert "not finite" in found.advice
    assert fit.guide(by_svi(np.ones(99), None))[0].verdict == "unknown"


@pytest.mark.parametrize(("k_hat", "verdict"), [(-0.2, "good"), (0.69, "good"), (0.71, "bad"), (np.inf, "bad")])
def test_importance(k_hat, verdict):
    result = FitResult("independent", DRAWS, diagnostics={"k_hat": k_hat})
    (found,) = fit.importance(result)
    assert (found.value, found.threshold, found.verdict) == (k_hat, 0.7, verdict)


def test_what_does_not_apply_says_so():
    svi, injected, mcmc, drawn = (FitResult(method, DRAWS) for method in ("svi", "injected", "mcmc", "independent"))
    for check in (fit.r_hat, fit.ess, fit.ess_tail):
        assert "no chains" in check(svi)
        assert "no chains" in check(drawn)
    for check in (fit.divergences, fit.energy):
        assert "not by MCMC" in check(svi)
        assert "not by MCMC" in check(injected)
    for result in (mcmc, injected):
        assert "no guide" in fit.guide(result)
        assert "No ratios" in fit.importance(result)
