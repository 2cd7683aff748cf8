"""Ranks of true values among posterior draws, and whether they are uniform."""

import numpy as np
from scipy.stats import chisquare

__all__ = ["rank_of_first", "uniformity"]


def rank_of_first(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return how many of the later values lie below the first, along the first axis; ties are broken at random."""
    first, others = values[0], values[1:]
    ties = (others == first).sum(axis=0)
    return (others < first).sum(axis=0) + rng.integers(ties, endpoint=True)


def uniformity(ranks: np.ndarray, n_draws: int, bins: int) -> float:
    """Return the p-value of the chi-square test that ranks are uniform on 0 to ``n_draws``, in bins of nearly one size.

    Parameters
    ----------
    ranks : array of int of shape (n_replications,)
    n_draws : int
        The greatest possible rank.
    bins : int
        No more than there are ranks, ``n_draws + 1``.
    """
    sizes = np.array([len(part) for part in np.array_split(np.arange(n_draws + 1), bins)])
    counts = np.bincount(np.repeat(np.arange(bins), sizes)[ranks], minlength=bins)
    return float(chisquare(counts, len(ranks) * sizes / (n_draws + 1)).pvalue)
