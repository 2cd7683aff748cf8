"""What a model is: the identity of a kernel, its sites, and the proof that its rows are independent."""

from skaimz.kernels.abstract import abstract_arrays, improper_value, materialise
from skaimz.kernels.affine import dependent, is_affine
from skaimz.kernels.conjugate import ConjugatePosterior
from skaimz.kernels.default import LinearRegression
from skaimz.kernels.digest import digest
from skaimz.kernels.enumerated import summed_out
from skaimz.kernels.identity import ByValue, Kernel, freeze, has_parameters, split_kernel
from skaimz.kernels.indices import Index, check_index
from skaimz.kernels.outcome_use import OutcomeUse, uses_of_outcome
from skaimz.kernels.signature import check_signature, flattened, kernel_parameters, nested, within
from skaimz.kernels.spec import Inputs, KernelSpec, Site, TracedKernel
from skaimz.kernels.states import joint_states, marginals
from skaimz.kernels.summed import Fixed, MarginalKernel, by_row
from skaimz.kernels.trace import check_row_count, trace_kernel
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
    "TIMES",
    "ByValue",
    "ConjugatePosterior",
    "Fixed",
    "Index",
    "Inputs",
    "Kernel",
    "KernelSpec",
    "LinearRegression",
    "MarginalKernel",
    "OutcomeUse",
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
    "marginals",
    "materialise",
    "narrowed",
    "nested",
    "numbers_in",
    "plain_array",
    "split_kernel",
    "summed_out",
    "trace_kernel",
    "unmasked",
    "uses_of_outcome",
    "within",
]
