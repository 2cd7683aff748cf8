"""What a model is: a kernel's identity, its sites and the proof that its rows stand alone."""

from skaimz.kernels import constants  # noqa: F401  (mends JAX)
from skaimz.kernels.affine import dependent, is_affine
from skaimz.kernels.compiled import compiled
from skaimz.kernels.conjugate import ConjugatePosterior
from skaimz.kernels.default import LinearRegression
from skaimz.kernels.digest import digest
from skaimz.kernels.identity import ByValue, Kernel, freeze, has_parameters, split_kernel
from skaimz.kernels.keys import key_of
from skaimz.kernels.signature import check_signature, kernel_parameters
from skaimz.kernels.spec import Inputs, KernelSpec, Site, TracedKernel
from skaimz.kernels.threads import one_at_a_time, shared
from skaimz.kernels.trace import abstract_arrays, improper_value, materialise, trace_kernel

__all__ = [
    "ByValue",
    "ConjugatePosterior",
    "Inputs",
    "Kernel",
    "KernelSpec",
    "LinearRegression",
    "Site",
    "TracedKernel",
    "abstract_arrays",
    "check_signature",
    "compiled",
    "dependent",
    "digest",
    "freeze",
    "has_parameters",
    "improper_value",
    "is_affine",
    "kernel_parameters",
    "key_of",
    "materialise",
    "one_at_a_time",
    "shared",
    "split_kernel",
    "trace_kernel",
]
