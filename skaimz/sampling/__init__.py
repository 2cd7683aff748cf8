"""The sampling core: quantities of posterior draws, computed tile by tile."""

from skaimz.sampling.averages import averages
from skaimz.sampling.drawing import Drawing
from skaimz.sampling.encoders import Encoder, encoder_of
from skaimz.sampling.exact import cdf, crps_of_cdf, excess, quantiles, shortest_intervals, tail_means
from skaimz.sampling.forward import CLASS_DISTRIBUTIONS
from skaimz.sampling.host_distributions import lacks_values, with_nan
from skaimz.sampling.job import PART_ROWS, Job, Levels, Part, Past, Posterior, site_values, value_row_axis
from skaimz.sampling.layout import Field
from skaimz.sampling.limits import Limits
from skaimz.sampling.mixtures import ConditionalQuantiles, Exceedance
from skaimz.sampling.past import changed_levels, changed_past
from skaimz.sampling.places import Folder, Place, place_of
from skaimz.sampling.predictive import (
    changes_nothing,
    check_densities,
    crps,
    differs_along,
    expectation,
    log_densities_reduced,
    log_predictive,
    mean,
    mean_quantiles,
    moments,
    outcome_quantiles,
    outcomes,
    probabilities,
)
from skaimz.sampling.programs import with_global_latents
from skaimz.sampling.proofs import influence, upstream_of, without_derivative
from skaimz.sampling.quantities import (
    ClassProbabilities,
    Expectation,
    ExpectedOutcomes,
    KernelRun,
    LogDensity,
    LogPredictive,
    Mean,
    Moments,
    PerDraw,
    Quantity,
    Slope,
    StateProbabilities,
    Values,
)
from skaimz.sampling.store import Store, readable, store_state
from skaimz.sampling.summaries import Summary, summaries
from skaimz.sampling.writer import ZarrSink

__all__ = [
    "CLASS_DISTRIBUTIONS",
    "PART_ROWS",
    "ClassProbabilities",
    "ConditionalQuantiles",
    "Drawing",
    "Encoder",
    "Exceedance",
    "Expectation",
    "ExpectedOutcomes",
    "Field",
    "Folder",
    "Job",
    "KernelRun",
    "Levels",
    "Limits",
    "LogDensity",
    "LogPredictive",
    "Mean",
    "Moments",
    "Part",
    "Past",
    "PerDraw",
    "Place",
    "Posterior",
    "Quantity",
    "Slope",
    "StateProbabilities",
    "Store",
    "Summary",
    "Values",
    "ZarrSink",
    "averages",
    "cdf",
    "changed_levels",
    "changed_past",
    "changes_nothing",
    "check_densities",
    "crps",
    "crps_of_cdf",
    "differs_along",
    "encoder_of",
    "excess",
    "expectation",
    "influence",
    "lacks_values",
    "log_densities_reduced",
    "log_predictive",
    "mean",
    "mean_quantiles",
    "moments",
    "outcome_quantiles",
    "outcomes",
    "place_of",
    "probabilities",
    "quantiles",
    "readable",
    "shortest_intervals",
    "site_values",
    "store_state",
    "summaries",
    "tail_means",
    "upstream_of",
    "value_row_axis",
    "with_global_latents",
    "with_nan",
    "without_derivative",
]
