"""Whether a fit can be trusted: diagnostics for its result, and a warning for each that is bad."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from skaimz.exceptions import (
    DivergenceWarning,
    EffectiveSampleSizeWarning,
    FitWarning,
    NonFiniteLossWarning,
    RHatWarning,
    StoppedFitWarning,
    StuckChainWarning,
    UnsettledGuideWarning,
    warn_user,
)

__all__ = [
    "LARGEST_MOVE",
    "LEAST_ESS_PER_CHAIN",
    "WORST_R_HAT",
    "bulk_sizes",
    "check_chains",
    "check_losses",
    "problems_of",
    "r_hats",
    "tail_sizes",
    "warn_of_chains",
    "warn_of_stop",
]

# Thresholds of Vehtari, Gelman, Simpson, Carpenter and Buerkner, Bayesian Analysis 16(2), 2021.
WORST_R_HAT = 1.01
LEAST_ESS_PER_CHAIN = 100
# A guide has settled if no median has moved further over the last quarter of the steps, in standard deviations, and no
# logarithm of a standard deviation has.
LARGEST_MOVE = 0.5


def check_losses(losses: np.ndarray, move: float | None) -> dict[str, Any]:
    """Judge a variational fit by its losses and by how far its guide still moved, and warn of problems.

    Parameters
    ----------
    losses : array of shape (n_steps,)
    move : float or None
        How far the guide moved in the last quarter of the steps, in its own standard deviations; None for fits that
        need not settle.

    Returns
    -------
    dict
    """
    losses = np.asarray(losses, np.float64)
    finite = bool(np.isfinite(losses).all())
    settled = move is None or move <= LARGEST_MOVE
    if not finite:
        steps = np.flatnonzero(~np.isfinite(losses))
        warn_user(
            f"The loss was not finite at {len(steps)} of {len(losses)} steps, first at step {steps[0]}; those steps "
            "were skipped. Check that the data lie in the support of the output, and try a lower learning rate.",
            NonFiniteLossWarning,
        )
    elif not settled:
        warn_user(
            f"The guide still moved by {move:.2g} of its standard deviations in the last quarter of {len(losses)} "
            "steps. Raise `num_steps`, or use `inference='auto'`.",
            UnsettledGuideWarning,
        )
    return {
        "loss_final": float(losses[-max(len(losses) // 10, 1) :].mean()) if len(losses) else float("nan"),
        "loss_is_finite": finite,
        "guide_move": move,
        "guide_is_settled": finite and settled,
    }


def check_chains(draws: Mapping[str, np.ndarray], divergences: np.ndarray | None) -> dict[str, Any]:
    """Judge draws ``(n_chains, n_draws, ...)`` of Markov chains.

    R-hat is the rank-normalised, folded split r-hat, and the effective sample size that of the bulk. Each is
    that of the worst element of a site, or None if undefined.

    Parameters
    ----------
    draws : dict of str to array
    divergences : array of shape (n_chains, n_draws) or None
        Number of steps since the draw before that diverged; None for samplers whose steps cannot diverge.

    Returns
    -------
    dict
    """
    n_chains, n_draws = next(iter(draws.values())).shape[:2]
    still = np.ones(n_chains, bool)
    for draw in draws.values():
        still &= (draw == draw[:, :1]).reshape(n_chains, -1).all(axis=1)
    return {
        "r_hat": r_hats(draws),
        "ess": bulk_sizes(draws),
        "num_divergences": None if divergences is None else int(divergences.sum()),
        "stuck_chains": np.flatnonzero(still).tolist() if n_draws > 1 else [],
        "num_chains": n_chains,
        "finite": all(bool(np.isfinite(draw).all()) for draw in draws.values() if draw.dtype.kind == "f"),
    }


def problems_of(diagnostics: Mapping[str, Any]) -> list[tuple[type[FitWarning], str]]:
    """Return the problems of Markov chains: the class of the warning, and what to do."""
    problems: list[tuple[type[FitWarning], str]] = []
    n_chains, r_hat, ess = diagnostics["num_chains"], diagnostics["r_hat"], diagnostics["ess"]
    stuck = diagnostics["stuck_chains"]
    if stuck:
        problems.append((
            StuckChainWarning,
            f"Chains {stuck} of {n_chains} never moved from where they began: no proposal was accepted. Check that the "
            "log density is finite around the prior's median, or use `inference='auto'`, which looks for a start.",
        ))  # fmt: skip
    if not diagnostics["finite"]:
        problems.append((
            StuckChainWarning,
            "Some posterior draws are infinite or not numbers. Check the kernel for overflow.",
        ))  # fmt: skip
    apart = [name for name, value in r_hat.items() if value is not None and value > WORST_R_HAT]
    if apart:
        worst = max(apart, key=lambda name: r_hat[name] or 0.0)
        problems.append((
            RHatWarning,
            f"Chains disagree: split r-hat exceeds {WORST_R_HAT} for {apart}, worst {r_hat[worst]:.3f} for {worst!r}. "
            "Raise `num_warmup` and `num_samples` of `inference=MCMC(...)`, or reparameterise the kernel.",
        ))  # fmt: skip
    least = LEAST_ESS_PER_CHAIN * n_chains
    few = [name for name, value in ess.items() if value is not None and value < least]
    if few:
        worst = min(few, key=lambda name: ess[name] or 0.0)
        problems.append((
            EffectiveSampleSizeWarning,
            f"Fewer than {least} effective draws for {few}, least {ess[worst]:.0f} for {worst!r}. Raise `num_samples`.",
        ))  # fmt: skip
    if diagnostics["num_divergences"]:
        problems.append((
            DivergenceWarning,
            f"{diagnostics['num_divergences']} steps diverged, so a part of the posterior may be missing. Raise "
            "`target_accept_prob` in `sampler_options` of `inference=MCMC(...)`, or reparameterise the kernel.",
        ))  # fmt: skip
    return problems


def warn_of_chains(diagnostics: Mapping[str, Any]) -> None:
    """Warn of each problem of Markov chains, in its own class."""
    for category, message in problems_of(diagnostics):
        warn_user(message, category)


def warn_of_stop(n_draws: int, num_samples: int, reason: str) -> None:
    """Warn of chains that were stopped before their last draw."""
    if n_draws < num_samples:
        warn_user(f"The fit stopped after {n_draws} of {num_samples} draws of each chain: {reason}.", StoppedFitWarning)


def r_hats(draws: Mapping[str, np.ndarray]) -> dict[str, float | None]:
    """Return the rank-normalised, folded split r-hat of each site's worst element, or None if it is undefined."""
    return {name: _worst(_statistic("rhat", "rank"), draw, max) for name, draw in draws.items()}


def bulk_sizes(draws: Mapping[str, np.ndarray]) -> dict[str, float | None]:
    """Return the bulk effective sample size of each site's worst element, or None if it is undefined."""
    return {name: _worst(_statistic("ess", "bulk"), draw, min) for name, draw in draws.items()}


def tail_sizes(draws: Mapping[str, np.ndarray]) -> dict[str, float | None]:
    """Return the tail effective sample size of each site's worst element, or None if it is undefined."""
    return {name: _worst(_statistic("ess", "tail"), draw, min) for name, draw in draws.items()}


def _statistic(name: str, method: str) -> Callable[[np.ndarray], float]:
    from arviz_stats.base import array_stats  # slow to import: it may bring matplotlib along

    def statistic(draws: np.ndarray) -> float:
        if name == "rhat" and len(draws) == 1:
            # ArviZ needs two chains. The halves of one chain that drifts disagree as well.
            half = draws.shape[1] // 2
            draws = np.concatenate([draws[:, :half], draws[:, -half:]])
        with np.errstate(all="ignore"), warnings.catch_warnings():
            # Draws that hardly move give infinite ratios, and NumPy warns of these.
            warnings.simplefilter("ignore", RuntimeWarning)
            options = {"prob": (0.05, 0.95)} if method == "tail" else {}
            return float(getattr(array_stats, name)(draws, chain_axis=0, draw_axis=1, method=method, **options))

    return statistic


def _worst(statistic: Callable[[np.ndarray], float], draws: np.ndarray, worst: Any) -> float | None:
    if draws.shape[1] < 4:
        return None
    flat = np.asarray(draws, np.float64).reshape(*draws.shape[:2], -1)
    moving = flat[..., flat.std(axis=(0, 1)) > 0]
    if moving.size == 0 or not np.isfinite(moving).all():
        return None
    return worst(statistic(moving[..., i]) for i in range(moving.shape[-1]))
