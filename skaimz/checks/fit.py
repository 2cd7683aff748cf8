"""Checks of the result of a fit alone.

Each takes a :class:`skaimz.inference.FitResult` and returns findings, or a text that says why it does not apply.
"""

import numpy as np

from skaimz.checks.findings import Bound, Finding, judge, unknown
from skaimz.inference.diagnostics import (
    LARGEST_MOVE,
    LEAST_ESS_PER_CHAIN,
    WORST_R_HAT,
    bulk_sizes,
    r_hats,
    tail_sizes,
)
from skaimz.inference.importance import LARGEST_K_HAT
from skaimz.inference.result import FitResult

__all__ = ["divergences", "energy", "energy_fractions", "ess", "ess_tail", "guide", "importance", "r_hat"]

# Betancourt (2016), Diagnosing suboptimal cotangent disintegrations in Hamiltonian Monte Carlo, arXiv:1604.00695.
LEAST_ENERGY_FRACTION = 0.3
NO_CHAINS = "Draws are independent of one another: there are no chains to look at."
WITHOUT_CHAINS = ("svi", "independent")
NO_SAMPLER = "There are no statistics of a Hamiltonian sampler: the fit was not by MCMC, or its sampler recorded none."
NO_GUIDE = "There is no guide: the posterior was not fitted by variational inference."
NO_RATIOS = "No ratios of densities are known: the posterior was not approximated, or the guide has no known density."
UNDEFINED = "Undefined: fewer than four draws, draws that never change, or draws that are not finite."

Findings = list[Finding] | str


def r_hat(result: FitResult) -> Findings:
    """Judge the rank-normalised, folded split r-hat of each site's worst element."""
    if result.method in WITHOUT_CHAINS:
        return NO_CHAINS
    values = result.diagnostics["r_hat"] if result.method == "mcmc" else r_hats(result.draws)
    advice = "The chains disagree: raise `num_warmup` and `num_samples`, or reparameterise the kernel."
    return [
        judge("r_hat", site, value, high=Bound(WORST_R_HAT, advice), undefined=UNDEFINED)
        for site, value in values.items()
    ]


def ess(result: FitResult) -> Findings:
    """Judge the bulk effective sample size of each site's worst element."""
    if result.method in WITHOUT_CHAINS:
        return NO_CHAINS
    return _judge_sizes(
        "ess", result, result.diagnostics["ess"] if result.method == "mcmc" else bulk_sizes(result.draws)
    )


def ess_tail(result: FitResult) -> Findings:
    """Judge the tail effective sample size of each site's worst element."""
    return NO_CHAINS if result.method in WITHOUT_CHAINS else _judge_sizes("ess_tail", result, tail_sizes(result.draws))


def _judge_sizes(check: str, result: FitResult, sizes: dict[str, float | None]) -> Findings:
    least = {
        site: Bound(LEAST_ESS_PER_CHAIN * len(draws), "Raise `num_samples`.") for site, draws in result.draws.items()
    }
    return [judge(check, site, value, low=least[site], undefined=UNDEFINED) for site, value in sizes.items()]


def divergences(result: FitResult) -> Findings:
    """Judge the number of steps that diverged."""
    if result.diagnostics.get("num_divergences") is None:
        return NO_SAMPLER
    advice = (
        "A part of the posterior may be missing: raise `target_accept_prob` in `sampler_options`, or reparameterise "
        "the kernel."
    )
    return [judge("divergences", "", result.diagnostics["num_divergences"], high=Bound(0, advice))]


def energy(result: FitResult) -> Findings:
    """Judge the E-BFMI (Bayesian fraction of missing information) of the worst chain."""
    if "energy" not in result.sample_stats or result.method != "mcmc":
        return NO_SAMPLER
    advice = (
        "The sampler moves slowly between levels of energy, and may have missed tails: reparameterise the kernel, "
        "above all scales of effects that have few data."
    )
    value = float(energy_fractions(result.sample_stats["energy"]).min())
    return [judge("energy", "", value, low=Bound(LEAST_ENERGY_FRACTION, advice), undefined=UNDEFINED)]


def energy_fractions(energy: np.ndarray) -> np.ndarray:
    """Return the E-BFMI of chains ``(n_chains, n_draws)``: squared steps of the energy over squared deviations."""
    energy = np.asarray(energy, np.float64)
    deviation = energy - energy.mean(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.square(np.diff(energy, axis=1)).sum(axis=1) / np.square(deviation).sum(axis=1)


def guide(result: FitResult) -> Findings:
    """Judge how much the guide moved between its last two comparisons in a variational fit."""
    if result.method != "svi":
        return NO_GUIDE
    diagnostics = result.diagnostics
    if not diagnostics["loss_is_finite"]:
        advice = (
            "The loss was not finite: check that the data lie in the support of the output, and try a lower "
            "`learning_rate`."
        )
        return [Finding("guide", "", np.nan, np.nan, "bad", advice)]
    if diagnostics["guide_move"] is None:
        return [unknown("guide", "", "Fewer than 100 steps decide nothing.")]
    advice = "The guide was still moving: raise `num_steps`, or use `inference='auto'`."
    return [judge("guide", "", diagnostics["guide_move"], high=Bound(LARGEST_MOVE, advice))]


def importance(result: FitResult) -> Findings:
    """Judge the Pareto k-hat of the importance ratios, posterior over approximation."""
    k_hat = result.diagnostics.get("k_hat")
    if k_hat is None:
        return NO_RATIOS
    advice = (
        "The approximation is far from the posterior, and intervals may be too narrow: use `inference='auto'` or "
        "`inference='mcmc'`."
    )
    return [judge("importance", "", float(k_hat), high=Bound(LARGEST_K_HAT, advice))]
