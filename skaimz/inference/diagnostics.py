"""Whether a fit can be trusted: numbers for the result, and a warning of its own class for each that is bad."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpyro.diagnostics import effective_sample_size, gelman_rubin
from scipy.stats import norm, rankdata

from skaimz.exceptions import (
    DivergenceWarning,
    EffectiveSampleSizeWarning,
    NonFiniteLossWarning,
    RHatWarning,
    UnsettledLossWarning,
    warn_user,
)

__all__ = ["LEAST_ESS_PER_CHAIN", "WORST_R_HAT", "bulk_sizes", "check_chains", "check_losses", "r_hats", "tail_sizes"]

# Statistics and thresholds of Vehtari, Gelman, Simpson, Carpenter and Buerkner, Bayesian Analysis 16(2), 2021.
WORST_R_HAT = 1.01
LEAST_ESS_PER_CHAIN = 100


def check_losses(losses: np.ndarray, *, ended: bool = True) -> dict[str, Any]:
    """Judge the losses of a variational fit, and warn where they are bad.

    A fit that has not ``ended`` need not have settled.

    A loss is settled if the second half of the steps hardly lowers it: from the middle tenth to the last, its mean
    falls by no more than three nats, 0.4 % of itself, or three standard errors. (The last steps alone would always look
    settled, since the learning rate falls towards the end.) Fewer than 100 steps are not judged.
    """
    losses = np.asarray(losses, np.float64)
    finite = bool(np.isfinite(losses).all())
    fall: float | None = None
    allowed: float | None = None
    settled = True
    tenth = len(losses) // 10
    if finite and tenth >= 10:
        middle, last = (losses[start : start + tenth] for start in (5 * tenth, len(losses) - tenth))
        fall = float(middle.mean() - last.mean())
        error = np.sqrt((middle.var() + last.var()) / tenth)
        allowed = float(max(3.0, 0.004 * abs(last.mean()), 3 * error))
        settled = fall <= allowed
    if not finite:
        steps = np.flatnonzero(~np.isfinite(losses))
        warn_user(
            f"The loss was not finite at {len(steps)} of {len(losses)} steps, first at step {steps[0]}; those steps "
            "were skipped. Check that the data lie in the support of the output, and try a lower learning rate.",
            NonFiniteLossWarning,
        )
    elif ended and not settled:
        warn_user(
            f"The loss still fell by {fall:.3g} in the second half of {len(losses)} steps. Raise `num_steps`, or "
            "try another `learning_rate`.",
            UnsettledLossWarning,
        )
    return {
        "loss_final": float(losses[-max(tenth, 1) :].mean()),
        "loss_is_finite": finite,
        "loss_is_settled": finite and settled,
        "loss_fall": fall,
        "loss_fall_allowed": allowed,
    }


def check_chains(draws: Mapping[str, np.ndarray], diverging: np.ndarray) -> dict[str, Any]:
    """Judge draws ``(n_chains, n_draws, ...)`` of Markov chains, and warn where they are bad.

    R-hat is the rank-normalised, folded split r-hat, and the effective sample size that of the bulk. Those of a site
    are those of its worst element, and None where they are undefined.
    """
    num_chains = len(diverging)
    r_hat, ess = r_hats(draws), bulk_sizes(draws)
    divergences = int(diverging.sum())
    apart = [name for name, value in r_hat.items() if value is not None and value > WORST_R_HAT]
    if apart:
        worst = max(apart, key=lambda name: r_hat[name] or 0.0)
        warn_user(
            f"Chains disagree: split r-hat exceeds {WORST_R_HAT} for {apart}, worst {r_hat[worst]:.3f} for {worst!r}. "
            "Raise `num_warmup` and `num_samples`, or reparameterise the kernel.",
            RHatWarning,
        )
    least = LEAST_ESS_PER_CHAIN * num_chains
    few = [name for name, value in ess.items() if value is not None and value < least]
    if few:
        worst = min(few, key=lambda name: ess[name] or 0.0)
        warn_user(
            f"Fewer than {least} effective draws for {few}, least {ess[worst]:.0f} for {worst!r}. Raise `num_samples`.",
            EffectiveSampleSizeWarning,
        )
    if divergences:
        warn_user(
            f"{divergences} of {diverging.size} steps diverged, so a part of the posterior may be missing. Raise "
            "`target_accept_prob` in `sampler_options`, or reparameterise the kernel.",
            DivergenceWarning,
        )
    return {"r_hat": r_hat, "ess": ess, "num_divergences": divergences}


def r_hats(draws: Mapping[str, np.ndarray]) -> dict[str, float | None]:
    """Return the rank-normalised, folded split r-hat of each site's worst element, None where it is undefined."""
    return {name: _worst(_r_hat, draw, max) for name, draw in draws.items()}


def bulk_sizes(draws: Mapping[str, np.ndarray]) -> dict[str, float | None]:
    """Return the bulk effective sample size of each site's worst element, None where it is undefined."""
    return {name: _worst(_bulk_ess, draw, min) for name, draw in draws.items()}


def tail_sizes(draws: Mapping[str, np.ndarray]) -> dict[str, float | None]:
    """Return the tail effective sample size of each site's worst element, None where it is undefined."""
    return {name: _worst(_tail_ess, draw, min) for name, draw in draws.items()}


def _r_hat(draws: np.ndarray) -> float:
    folded = np.abs(draws - np.median(draws))
    return max(float(gelman_rubin(_normal_scores(_halves(values)))) for values in (draws, folded))


def _bulk_ess(draws: np.ndarray) -> float:
    return float(effective_sample_size(_normal_scores(_halves(draws))))


def _tail_ess(draws: np.ndarray) -> float:
    """Return the smaller effective sample size of the two estimates of how much lies beyond a 5 % quantile."""
    beyond = [draws <= np.quantile(draws, level) for level in (0.05, 0.95)]
    # Of draws with few values, all may lie on one side.
    return min(float(effective_sample_size(_halves(side.astype(np.float64)))) for side in beyond if not side.all())


def _halves(draws: np.ndarray) -> np.ndarray:
    """Cut every chain in two, so that a chain that drifts disagrees with itself."""
    half = draws.shape[1] // 2
    return np.concatenate([draws[:, :half], draws[:, -half:]])


def _normal_scores(draws: np.ndarray) -> np.ndarray:
    ranks = rankdata(draws, method="average").reshape(draws.shape)
    return norm.ppf((ranks - 0.375) / (draws.size + 0.25))


def _worst(statistic: Any, draws: np.ndarray, worst: Any) -> float | None:
    if draws.shape[1] < 4:
        return None
    flat = np.asarray(draws, np.float64).reshape(*draws.shape[:2], -1)
    moving = flat[..., flat.std(axis=(0, 1)) > 0]
    if moving.size == 0 or not np.isfinite(moving).all():
        return None
    return worst(statistic(moving[..., i]) for i in range(moving.shape[-1]))
