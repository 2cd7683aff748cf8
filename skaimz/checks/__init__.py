"""Checks of a fit, its prior and its predictions: values, the bounds of good values, and what to do."""

from skaimz.checks import fit, outcomes
from skaimz.checks.findings import Finding, as_table, unknown
from skaimz.checks.ranks import rank_of_first, uniformity

__all__ = ["Finding", "as_table", "fit", "outcomes", "rank_of_first", "uniformity", "unknown"]
