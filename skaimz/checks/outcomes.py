"""Checks of priors and outcomes, on arrays with the draws first."""

import importlib.util
from typing import Any

import numpy as np

from skaimz.checks.findings import Bound, Finding, judge

__all__ = [
    "NEEDS_ARVIZ",
    "efficiency",
    "has_arviz",
    "influence",
    "pareto_shapes",
    "prior_edge",
    "prior_tail",
    "prior_width",
    "tail",
    "upper_tail",
]

# Tails on either side, of the prior and of the posterior predictive distribution, that count as outside.
PRIOR_EDGE, TAIL = 0.01, 0.025
# Largest distance of typical outcomes of the prior from their centre, in standard deviations of the outcomes.
MOST_WIDTH = 100.0
NEEDS_ARVIZ = "The check `k_hat` needs ArviZ: `pip install 'skaimz[arviz]'`."
NOT_FINITE = "Some of the drawn outcomes are not finite: narrow the priors, or check what the kernel computes."
ADVICE = {
    "p_mean": (
        "The outcomes are on average greater than replicated ones: let the kernel's location vary, or add predictors.",
        "The outcomes are on average smaller than replicated ones: let the kernel's location vary, or add predictors.",
    ),
    "p_sd": (
        "The outcomes vary more than replicated ones: widen the noise, or let it differ between rows.",
        "The outcomes vary less than replicated ones: is the noise forced to be wide?",
    ),
    "p_min": (
        "The least outcome is greater than replicated ones: do the outcomes have a bound that the kernel lacks?",
        "The least outcome is smaller than replicated ones: look at that row, or give the output heavier tails.",
    ),
    "p_max": (
        "The greatest outcome is greater than replicated ones: look at that row, or give the output heavier tails.",
        "The greatest outcome is smaller than replicated ones: do the outcomes have a bound that the kernel lacks?",
    ),
}
PRIOR_ADVICE = {
    "prior_mean": (
        "The outcomes are on average greater than the prior holds possible: check their unit, or widen the prior.",
        "The outcomes are on average smaller than the prior holds possible: check their unit, or widen the prior.",
    ),
    "prior_sd": ("The outcomes vary more than the prior holds possible: check their unit, or widen the prior.", ""),
}


def upper_tail(replicated: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Return the share of replications ``(n_draws, ...)`` above what was observed, ties counting half.

    NaN where a replication is not finite.
    """
    replicated = np.asarray(replicated, np.float64)
    share = (replicated > observed).mean(axis=0) + (replicated == observed).mean(axis=0) / 2
    return np.where(np.isfinite(replicated).all(axis=0), share, np.nan)


def tail(check: str, site: str, observed: Any, drawn: Any) -> Finding:
    """Judge a posterior predictive p-value of summaries of outcomes; of several outputs that of the worst."""
    value, where = _most_extreme(_upper_tail(check, observed, drawn))
    below, above = (f"{advice}{where}" for advice in ADVICE[check])
    return judge(check, site, value, Bound(TAIL, below), Bound(1 - TAIL, above), NOT_FINITE)


def prior_tail(check: str, site: str, observed: Any, drawn: Any) -> Finding:
    """Judge a prior predictive p-value. Outcomes may vary less than those of the prior."""
    both = check == "prior_mean"
    value, where = _most_extreme(_upper_tail(check, observed, drawn), both)
    below, above = (f"{advice}{where}" for advice in PRIOR_ADVICE[check])
    high = Bound(1 - PRIOR_EDGE if both else np.inf, above)
    return judge(check, site, value, Bound(PRIOR_EDGE, below), high, NOT_FINITE)


def prior_width(check: str, site: str, observed: Any, drawn: Any) -> Finding:
    """Judge how far outcomes of the prior typically lie from their centre, in standard deviations of those observed."""
    with np.errstate(invalid="ignore", divide="ignore"):
        typical = np.median(np.hypot(drawn.mean - np.median(drawn.mean, axis=0), drawn.sd), axis=0) / observed.sd
    advice = "The prior holds outcomes possible that are out of all proportion: narrow it, or scale the data."
    undefined = NOT_FINITE if np.all(observed.sd > 0) else "Undefined: the outcomes are all the same."
    value = np.ravel(typical).max()
    value = value if np.isfinite(value) else None
    return judge(check, site, value, high=Bound(MOST_WIDTH, advice), undefined=undefined)


def prior_edge(site: str, posterior: np.ndarray, prior: np.ndarray) -> Finding:
    """Judge where in its prior the posterior median of a site lies.

    Parameters
    ----------
    site : str
    posterior, prior : array of shape (n_draws, ...)
        Draws of this site; their numbers may differ.

    Notes
    -----
    The value is the share of prior draws below the posterior median, ties counting half. It does not change where the
    site is measured on another scale. For a site of k elements, the tails of each are k times smaller.
    """
    median = np.median(np.asarray(posterior, np.float64), axis=0)
    share = np.where(np.isfinite(median), upper_tail(-np.asarray(prior, np.float64), -median), np.nan)
    value, where = _most_extreme(share)
    low = PRIOR_EDGE / max(1, share.size)
    below, above = (
        f"The posterior lies at the {end} end of the prior{where}: check the data's unit, or the prior."
        for end in ("lower", "upper")
    )
    undefined = "Undefined: draws of prior or posterior are not finite."
    return judge("prior_edge", site, value, Bound(low, below), Bound(1 - low, above), undefined)


def has_arviz() -> bool:
    """Whether ArviZ is installed, which computes k-hat."""
    return importlib.util.find_spec("arviz_stats") is not None


def efficiency(draws: dict[str, np.ndarray]) -> float:
    """Return the average effective sample size of draws ``(n_chains, n_draws, ...)``, as a share of their number.

    As ArviZ computes it for its leave-one-out cross-validation: 1 for one chain, otherwise the effective sample size of
    the mean, averaged over all elements of all sites, over the number of draws.
    """
    from arviz_stats.base import array_stats

    flat = [np.asarray(draw, np.float64).reshape(*draw.shape[:2], -1) for draw in draws.values()]
    together = np.concatenate(flat, axis=-1) if flat else np.empty((1, 1, 0))
    chains, length, n_elements = together.shape
    if chains == 1 or n_elements == 0:
        return 1.0
    sizes = array_stats.ess(together, chain_axis=0, draw_axis=1, method="mean")
    return float(np.mean(sizes) / (chains * length))


def pareto_shapes(log_density: np.ndarray, relative_efficiency: float) -> np.ndarray:
    """Return the k-hat of rows, from log densities ``(n_rows, ..., n_draws)``.

    It is minus infinity where all draws in the tail weigh the same.
    """
    from arviz_stats.base import array_stats

    def shape(row: np.ndarray) -> float:
        try:
            return float(array_stats.psislw(row, r_eff=relative_efficiency)[1])
        except ValueError:  # all weights in the tail are the same
            return -np.inf

    rows = np.asarray(log_density, np.float64)
    return np.array([shape(row) for row in rows.reshape(-1, rows.shape[-1])]).reshape(rows.shape[:-1])


def influence(site: str, shapes: np.ndarray, n_draws: int) -> Finding:
    """Judge the k-hat ``(n_rows, ...)`` of the worst row."""
    by_row = np.asarray(shapes).reshape(len(shapes), -1).max(axis=1)
    row = int(by_row.argmax())
    high = min(1 - 1 / np.log10(n_draws), 0.7) if n_draws > 1 else -np.inf
    many = int((by_row > high).sum())
    advice = (
        f"Leaving out one of {many} rows (the worst is row {row}, counted from 0) would change the posterior so much "
        "that these draws cannot describe it: look at those rows, use a distribution with heavier tails, or "
        "compare models by cross-validation."
    )
    value = by_row[row]
    defined = np.isfinite(value) and high > 0
    undefined = "Undefined: too few draws for the tail of the importance weights, or draws that do not differ."
    return judge("k_hat", site, value if defined else None, high=Bound(max(high, 0.0), advice), undefined=undefined)


def _upper_tail(check: str, observed: Any, drawn: Any) -> np.ndarray:
    """Return the p-value of the statistic that a check is named after."""
    statistic = check.partition("_")[2]
    return upper_tail(getattr(drawn, statistic), getattr(observed, statistic))


def _most_extreme(share: np.ndarray, both: bool = True) -> tuple[float, str]:
    """Return the share nearest to 0, or to 0 or 1 with ``both``, and its place among several. NaN comes first."""
    share = np.asarray(share)
    if share.ndim == 0 or share.size == 1:
        return float(share.reshape(())), ""
    if share.size == 0:
        return np.nan, ""
    place = np.unravel_index(np.argmin(np.minimum(share, 1 - share) if both else share), share.shape)
    return float(share[place]), f" (element [{', '.join(str(int(i)) for i in place)}])"
