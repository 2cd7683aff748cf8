"""The sampling core: from posterior draws and rows to predictive quantities."""

from skaimz.sampling.predictive import Posterior, moments, outcome_quantiles, outcomes, probabilities

__all__ = ["Posterior", "moments", "outcome_quantiles", "outcomes", "probabilities"]
