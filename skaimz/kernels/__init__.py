"""What a model is: the identity of a kernel, its sites, and the proof that its rows are independent."""

from skaimz.kernels.abstract import abstract_arrays, improper_value, materialise
from skaimz.kernels.affine import dependent, is_affine
from skaimz.kernels.conjugate import ConjugatePosterior
from skaimz.kernels.default import LinearRegression
from skaimz.kernels.digest import digest
from skaimz.kernels.entries import OBSERVED, POINTS
from skaimz.kernels.enumerated import summed_out
from skaimz.kernels.identity import ByValue, Kernel, freeze, has_parameters, split_kernel
from skaimz.kernels.independence import RowProof
from skaimz.kernels.indices import Index, check_index
from skaimz.kernels.messages import masks_of
from skaimz.kernels.names import own_names, stored_name
from skaimz.kernels.outcome_use import OutcomeUse, uses_of_outcome
from skaimz.kernels.signature import check_signature, flattened, kernel_parameters, nested, within
from skaimz.kernels.spec import Inputs, KernelSpec, Site, TracedKernel, without_rows
from skaimz.kernels.states import joint_states, marginals
from skaimz.kernels.summed import Fixed, MarginalKernel, by_row
from skaimz.kernels.trace import check_row_count, mixed_levels, parameter_trees, trace_kernel
from skaimz.kernels.trees import KeptState, map_leaves, named_leaves, plain_leaf, restored_leaf
from skaimz.kernels.values import (
    DURATIONS,
    TIMES,
    as_floats,
    as_numbers,
    finite,
    float_type,
    in_type_of,
    is_text_of_numbers,
    narrowed,
    numbers_in,
    plain_array,
    unmasked,
)

__all__ = [
    "DURATIONS",
    "OBSERVED",
    "POINTS",
    "TIMES",
    "ByValue",
    "ConjugatePosterior",
    "Fixed",
    "Index",
    "Inputs",
    "KeptState",
    "Kernel",
    "KernelSpec",
    "LinearRegression",
    "MarginalKernel",
    "OutcomeUse",
    "RowProof",
    "Site",
    "TracedKernel",
    "abstract_arrays",
    "as_floats",
    "as_numbers",
    "by_row",
    "check_index",
    "check_row_count",
    "check_signature",
    "dependent",
    "digest",
    "finite",
    "flattened",
    "float_type",
    "freeze",
    "has_parameters",
    "improper_value",
    "in_type_of",
    "is_affine",
    "is_text_of_numbers",
    "joint_states",
    "kernel_parameters",
    "map_leaves",
    "marginals",
    "masks_of",
    "materialise",
    "mixed_levels",
    "named_leaves",
    "narrowed",
    "nested",
    "numbers_in",
    "own_names",
    "parameter_trees",
    "plain_array",
    "plain_leaf",
    "restored_leaf",
    "split_kernel",
    "stored_name",
    "summed_out",
    "trace_kernel",
    "unmasked",
    "uses_of_outcome",
    "within",
    "without_rows",
]
