"""Kernels described from abstract traces alone, with a cache of their descriptions."""

import contextlib
import enum
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from skaimz.kernels.abstract import AbstractCall
from skaimz.kernels.concrete import needs_values, refuse_values_of_outcome, trace_concretely
from skaimz.kernels.describe import describe, sites_if_run
from skaimz.kernels.fixed_rows import describe_on_its_rows
from skaimz.kernels.identity import splits
from skaimz.kernels.levels import dependent_levels
from skaimz.kernels.refusals import RowCountError, arrays_of_one_length, compare_sites, explain
from skaimz.kernels.spec import Inputs, KernelSpec, Site, TracedKernel
from skaimz.kernels.values import narrowed
from skaimz.runtime import refuse_fork

__all__ = ["check_row_count", "mixed_levels", "parameter_trees", "trace_kernel"]

# Two row counts, odd and even, a prime apart, that are no other length in a model. Nothing is computed at these sizes.
ROW_COUNTS = (1009, 2022)
SPECS_KEPT = 256


class _Failure(enum.Enum):
    """Why a kernel could not be traced at ``ROW_COUNTS``."""

    ANY_ROWS = enum.auto()
    THESE_ROWS = enum.auto()


def trace_kernel(
    kernel: Callable, inputs: Inputs, param_input: str, param_output: str
) -> tuple[TracedKernel, dict[str, Any]]:
    """Describe a kernel by tracing it abstractly at two row counts.

    Parameters
    ----------
    kernel : callable
    inputs : Inputs
        Arguments without the output. Only their shapes and types matter.
    param_input, param_output : str
        Names of the kernel parameters that take the input and the output.

    Returns
    -------
    traced : TracedKernel
    hyperparameters : dict of str to number or array
        Numeric hyperparameters of the kernel, which are arguments of every program of ``traced``.
    """
    refuse_fork()
    n_rows = len(inputs.rows[param_input])
    for key, hyperparameters in splits(kernel):
        for name, value in hyperparameters.items():
            narrowed(f"The kernel's parameter {name!r}", np.asarray(value), jnp.result_type(float))
        call = AbstractCall.of(key, hyperparameters, inputs, (param_input, param_output))
        spec = _trace(call)
        as_site = isinstance(spec, KernelSpec) and spec[spec.output].event_shape == inputs.outcome
        as_given = call if inputs.outcome is None else replace(call, outcome=inputs.outcome)
        if as_given != call and not as_site:
            # The site that observes the outcome may have another shape, such as that of a part of it.
            found = _trace(as_given)
            if isinstance(found, KernelSpec):
                call, spec = as_given, found
            elif isinstance(spec, KernelSpec) and inputs.outcome:
                spec = describe_on_its_rows(as_given, n_rows) or spec
        if isinstance(spec, KernelSpec):
            return TracedKernel(key, call.static, _on_rows(call, spec, n_rows)), hyperparameters
        # Some kernels run on certain numbers of rows only, such as that of the data at hand.
        of_data = spec is _Failure.THESE_ROWS
        calls = [call, as_given] if inputs.outcome else [call]
        try:
            call, spec = _first_described(calls, (n_rows, 2 * n_rows) if of_data else ROW_COUNTS)
        except Exception as error:
            explain(error)
            if of_data:
                error.add_note(f"The kernel was being traced with {n_rows} abstract rows.")
                if not _fails_on_any_rows(error):
                    _refuse_arrays_of_one_length(kernel, call, n_rows, error)
                    bound = describe_on_its_rows(calls[-1], n_rows)
                    if bound is not None:
                        return TracedKernel(key, call.static, bound), hyperparameters
            # With fewer hyperparameters as arguments, more of them have a value that the kernel can branch on.
            if not needs_values(error):
                raise
            if not hyperparameters:
                concrete = trace_concretely(call, inputs, ROW_COUNTS)
                if concrete is None:
                    refuse_values_of_outcome(call, inputs, error)
                    raise
                return concrete, hyperparameters
        else:
            return TracedKernel(key, call.static, _on_rows(call, spec, n_rows)), hyperparameters
    raise AssertionError("The last way to split a kernel leaves no hyperparameters, and returns or raises.")


def _first_described(calls: Sequence[AbstractCall], n_rows: tuple[int, int]) -> tuple[AbstractCall, KernelSpec]:
    """Return the first of several calls that can be described, and its description, or raise the error of the last."""
    for call in calls[:-1]:
        with contextlib.suppress(Exception):
            return call, describe(call, n_rows)
    return calls[-1], describe(calls[-1], n_rows)


@functools.lru_cache(maxsize=SPECS_KEPT)
def _trace(call: AbstractCall) -> KernelSpec | _Failure:
    """Describe a kernel at ``ROW_COUNTS``.

    The cache remembers a failure without its error, whose frames would keep arrays alive.
    """
    try:
        return describe(call, ROW_COUNTS)
    except Exception as error:
        return _Failure.ANY_ROWS if _fails_on_any_rows(error) else _Failure.THESE_ROWS


def _on_rows(call: AbstractCall, spec: KernelSpec, n_rows: int) -> KernelSpec:
    """Return the description of a kernel with the lengths on some rows of axes that follow the number of rows."""
    if all(set(site.following) <= {site.row_axis} for site in spec.sites):
        return spec
    shapes = _shapes_on(replace(call, form=spec.form), max(n_rows, spec.least_rows))

    def on_rows(site: Site) -> Site:
        here = shapes.get(site.name, ())
        if len(here) != len(site.shape):
            return site
        lengths = enumerate(zip(site.shape, here, strict=True))
        return replace(site, shape=tuple(n if axis in site.following and size is not None else size
                                         for axis, (size, n) in lengths))  # fmt: skip

    return replace(spec, sites=tuple(map(on_rows, spec.sites)))


@functools.lru_cache(maxsize=SPECS_KEPT)
def _shapes_on(call: AbstractCall, n_rows: int) -> Mapping[str, tuple[int, ...]]:
    return {name: message.sizes for name, message in call.sites_on(n_rows).items()}


def _fails_on_any_rows(error: Exception) -> bool:
    return needs_values(error) or isinstance(error, RowCountError)


def _refuse_arrays_of_one_length(kernel: Callable, call: AbstractCall, n_rows: int, error: Exception) -> None:
    """Refuse a kernel that runs on the rows of the data only, if it uses arrays of their number from outside."""
    if sites_if_run(call, n_rows) is not None and sites_if_run(call, 2 * n_rows) is None:
        message = arrays_of_one_length(kernel, n_rows)
        if message is not None:
            raise ValueError(message) from error


def check_row_count(
    traced: TracedKernel, hyperparameters: Mapping[str, Any], inputs: Inputs, param_input: str, param_output: str
) -> None:
    """Refuse a kernel whose sites on the rows of the data differ from those on the rows that it was traced with."""
    n_rows = len(inputs.rows[param_input])
    call = AbstractCall.of(traced.kernel, hyperparameters, inputs, (param_input, param_output))
    compare_sites(n_rows, _sites_on(call, n_rows), ROW_COUNTS[0], [site.name for site in traced.spec.sites])


# The folds of a search ask this again and again.
_sites_on = functools.lru_cache(maxsize=SPECS_KEPT)(sites_if_run)


def mixed_levels(
    traced: TracedKernel, hyperparameters: Mapping[str, Any], inputs: Inputs, names: tuple[str, str], argument: str
) -> dict[str, str]:
    """Return the sites in which levels of an argument may depend on one another or on their number, and why."""
    call = AbstractCall.of(traced.kernel, hyperparameters, inputs, names)
    return _dependent_levels(replace(call, form=traced.spec.form, outcome=inputs.outcome), argument, traced.spec.output)


_dependent_levels = functools.lru_cache(maxsize=SPECS_KEPT)(dependent_levels)


def parameter_trees(
    traced: TracedKernel, hyperparameters: Mapping[str, Any], inputs: Inputs, param_input: str, param_output: str
) -> dict[str, Any]:
    """Return abstract values of a kernel's parameters and states of layers, which may be trees."""
    call = AbstractCall.of(traced.kernel, hyperparameters, inputs, (param_input, param_output))
    return call.described_on(len(inputs.rows[param_input]))[1]
