"""Whether a fit can be trusted: numbers for the result, and a warning of its own class for each that is bad."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpyro.diagnostics import effective_sample_size, split_gelman_rubin

from skaimz.exceptions import (
    DivergenceWarning,
    EffectiveSampleSizeWarning,
    NonFiniteLossWarning,
    RHatWarning,
    UnsettledLossWarning,
)

__all__ = ["check_chains", "check_losses"]

# Vehtari, Gelman, Simpson, Carpenter and Buerkner, Bayesian Analysis 16(2), 2021.
WORST_R_HAT = 1.01
LEAST_ESS_PER_CHAIN = 100


def check_losses(losses: np.ndarray) -> dict[str, Any]:
    """Judge the losses of a variational fit, and warn where they are bad.

    A loss is settled if, between the last two tenths of the steps, its mean no longer falls by more than one nat, by
    more than half a percent of the whole descent, and by more than three standard errors.
    """
    losses = np.asarray(losses, np.float64)
    finite = bool(np.isfinite(losses).all())
    settled = True
    tenth = len(losses) // 10
    if finite and tenth >= 10:
        before, last = losses[-2 * tenth : -tenth], losses[-tenth:]
        fall = before.mean() - last.mean()
        error = np.sqrt((before.var() + last.var()) / tenth)
        settled = not (fall > 1.0 and fall > 0.005 * (losses[0] - last.mean()) and fall > 3 * error)
    if not finite:
        steps = np.flatnonzero(~np.isfinite(losses))
        warnings.warn(
            f"The loss was not finite at {len(steps)} of {len(losses)} steps, first at step {steps[0]}; those steps "
            "were skipped. Check that the data lie in the support of the output, and try a lower learning rate.",
            NonFiniteLossWarning,
            stacklevel=2,
        )
    elif not settled:
        warnings.warn(
            f"The loss still fell by {fall:.3g} over the last tenth of {len(losses)} steps. Raise `num_steps` or the "
            "learning rate.",
            UnsettledLossWarning,
            stacklevel=2,
        )
    return {
        "loss_final": float(losses[-max(tenth, 1) :].mean()),
        "loss_is_finite": finite,
        "loss_is_settled": finite and settled,
    }


def check_chains(draws: Mapping[str, np.ndarray], diverging: np.ndarray) -> dict[str, Any]:
    """Judge draws ``(n_chains, n_draws, ...)`` of Markov chains, and warn where they are bad.

    R-hat and effective sample size of a site are those of its worst element, and None where they are undefined.
    """
    num_chains, num_draws = diverging.shape
    enough = num_draws >= 4
    r_hat = {name: _worst(split_gelman_rubin, draw, max) if enough else None for name, draw in draws.items()}
    ess = {name: _worst(effective_sample_size, draw, min) if enough else None for name, draw in draws.items()}
    divergences = int(diverging.sum())
    apart = [name for name, value in r_hat.items() if value is not None and value > WORST_R_HAT]
    if apart:
        worst = max(apart, key=lambda name: r_hat[name])
        warnings.warn(
            f"Chains disagree: split r-hat exceeds {WORST_R_HAT} for {apart}, worst {r_hat[worst]:.3f} for {worst!r}. "
            "Raise `num_warmup` and `num_samples`, or reparameterise the kernel.",
            RHatWarning,
            stacklevel=2,
        )
    least = LEAST_ESS_PER_CHAIN * num_chains
    few = [name for name, value in ess.items() if value is not None and value < least]
    if few:
        worst = min(few, key=lambda name: ess[name])
        warnings.warn(
            f"Fewer than {least} effective draws for {few}, least {ess[worst]:.0f} for {worst!r}. Raise `num_samples`.",
            EffectiveSampleSizeWarning,
            stacklevel=2,
        )
    if divergences:
        warnings.warn(
            f"{divergences} of {diverging.size} steps diverged, so a part of the posterior may be missing. Raise "
            "`target_accept_prob` in `sampler_options`, or reparameterise the kernel.",
            DivergenceWarning,
            stacklevel=2,
        )
    return {"r_hat": r_hat, "ess": ess, "num_divergences": divergences}


def _worst(statistic: Any, draws: np.ndarray, worst: Any) -> float | None:
    flat = np.asarray(draws, np.float64).reshape(*draws.shape[:2], -1)
    moving = flat[..., flat.std(axis=(0, 1)) > 0]
    if moving.size == 0 or not np.isfinite(moving).all():
        return None
    return float(worst(np.atleast_1d(statistic(moving))))
