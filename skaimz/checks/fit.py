"""Checks that look at nothing but what a fit left behind.

Each takes a :class:`skaimz.inference.FitResult` and returns findings, or, as text, why it has nothing to look at.
"""

import numpy as np

from skaimz.checks.findings import Finding, judged, unknown
from skaimz.inference.diagnostics import LEAST_ESS_PER_CHAIN, WORST_R_HAT, bulk_sizes, r_hats, tail_sizes
from skaimz.inference.result import FitResult

__all__ = ["divergences", "energy", "energy_fractions", "ess", "ess_tail", "loss", "r_hat"]

# Betancourt (2016), Diagnosing suboptimal cotangent disintegrations in Hamiltonian Monte Carlo, arXiv:1604.00695.
LEAST_ENERGY_FRACTION = 0.3
NO_CHAINS = "Draws from a guide are independent of one another: there are no chains to look at."
NO_SAMPLER = "There are no statistics of a Hamiltonian sampler: the posterior was not drawn by MCMC in `fit`."
NO_LOSS = "There is no loss: the posterior was not fitted by variational inference."
UNDEFINED = "Undefined: fewer than four draws, draws that never change, or draws that are not finite."

Found = list[Finding] | str


def r_hat(result: FitResult) -> Found:
    """Judge the rank-normalised, folded split r-hat of each site's worst element."""
    if result.method == "svi":
        return NO_CHAINS
    found = result.diagnostics["r_hat"] if result.method == "mcmc" else r_hats(result.draws)
    advice = "The chains disagree: raise `num_warmup` and `num_samples`, or reparameterise the kernel."
    return [
        judged("r_hat", site, value, high=WORST_R_HAT, above=advice, undefined=UNDEFINED)
        for site, value in found.items()
    ]


def ess(result: FitResult) -> Found:
    """Judge the bulk effective sample size of each site's worst element."""
    if result.method == "svi":
        return NO_CHAINS
    return _sizes("ess", result, result.diagnostics["ess"] if result.method == "mcmc" else bulk_sizes(result.draws))


def ess_tail(result: FitResult) -> Found:
    """Judge the tail effective sample size of each site's worst element."""
    return NO_CHAINS if result.method == "svi" else _sizes("ess_tail", result, tail_sizes(result.draws))


def _sizes(check: str, result: FitResult, found: dict[str, float | None]) -> Found:
    return [
        judged(
            check,
            site,
            value,
            low=LEAST_ESS_PER_CHAIN * len(result.draws[site]),
            below="Raise `num_samples`.",
            undefined=UNDEFINED,
        )
        for site, value in found.items()
    ]


def divergences(result: FitResult) -> Found:
    """Judge the number of steps that diverged."""
    if result.method != "mcmc":
        return NO_SAMPLER
    advice = (
        "A part of the posterior may be missing: raise `target_accept_prob` in `sampler_options`, or reparameterise "
        "the kernel."
    )
    return [judged("divergences", "", result.diagnostics["num_divergences"], high=0, above=advice)]


def energy(result: FitResult) -> Found:
    """Judge the estimated fraction of missing information of the worst chain."""
    if result.method != "mcmc":
        return NO_SAMPLER
    advice = (
        "The sampler moves slowly between levels of energy, and may have missed tails: reparameterise the kernel, "
        "above all scales of effects that have few data."
    )
    value = float(energy_fractions(result.sample_stats["energy"]).min())
    return [judged("energy", "", value, low=LEAST_ENERGY_FRACTION, below=advice, undefined=UNDEFINED)]


def energy_fractions(energy: np.ndarray) -> np.ndarray:
    """Return the E-BFMI of chains ``(n_chains, n_draws)``: the mean square step of the energy over its variance."""
    energy = np.asarray(energy, np.float64)
    off = energy - energy.mean(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.square(np.diff(energy, axis=1)).sum(axis=1) / np.square(off).sum(axis=1)


def loss(result: FitResult) -> Found:
    """Judge by how much the loss still fell in the second half of a variational fit."""
    if result.method != "svi":
        return NO_LOSS
    found = result.diagnostics
    if not found["loss_is_finite"]:
        advice = (
            "The loss was not finite: check that the data lie in the support of the output, and try a lower "
            "`learning_rate`."
        )
        return [Finding("loss", "", np.nan, np.nan, "bad", advice)]
    if found["loss_fall"] is None:
        return [unknown("loss", "", "Fewer than 100 steps decide nothing.")]
    advice = "The loss was still falling: raise `num_steps`, or try another `learning_rate`."
    return [judged("loss", "", found["loss_fall"], high=found["loss_fall_allowed"], above=advice)]
