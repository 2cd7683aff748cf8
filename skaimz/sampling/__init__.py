"""The sampling core: from posterior draws and rows to predictive quantities."""

from skaimz.sampling.predictive import Posterior, moments, outcome_quantiles, outcomes, probabilities
from skaimz.sampling.sites import log_densities, sample_sites

__all__ = [
    "Posterior",
    "log_densities",
    "moments",
    "outcome_quantiles",
    "outcomes",
    "probabilities",
    "sample_sites",
]
