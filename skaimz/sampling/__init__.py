"""The shared sampling core: a plan of tiles, one forward pass, and what is done with it."""

from skaimz.sampling.averages import averages
from skaimz.sampling.drawing import Drawing
from skaimz.sampling.forward import CLASS_DISTRIBUTIONS
from skaimz.sampling.host_distributions import as_numbers, lacks_values
from skaimz.sampling.job import Job, Posterior, Quantity, site_values, value_row_axis
from skaimz.sampling.plan import PART_ROWS, Part
from skaimz.sampling.predictive import (
    changes_nothing,
    check_densities,
    crps,
    differs_along,
    log_densities_reduced,
    log_predictive,
    mean,
    moments,
    outcome_quantiles,
    outcomes,
    probabilities,
)
from skaimz.sampling.programs import with_global_latents
from skaimz.sampling.proofs import influence, upstream_of, without_derivative
from skaimz.sampling.sinks import Field, MemorySink
from skaimz.sampling.store import Store, readable, store_state
from skaimz.sampling.summaries import Summary, summaries
from skaimz.sampling.writer import ZarrSink

__all__ = [
    "CLASS_DISTRIBUTIONS",
    "PART_ROWS",
    "Drawing",
    "Field",
    "Job",
    "MemorySink",
    "Part",
    "Posterior",
    "Quantity",
    "Store",
    "Summary",
    "ZarrSink",
    "as_numbers",
    "averages",
    "changes_nothing",
    "check_densities",
    "crps",
    "differs_along",
    "influence",
    "lacks_values",
    "log_densities_reduced",
    "log_predictive",
    "mean",
    "moments",
    "outcome_quantiles",
    "outcomes",
    "probabilities",
    "readable",
    "site_values",
    "store_state",
    "summaries",
    "upstream_of",
    "value_row_axis",
    "with_global_latents",
    "without_derivative",
]
