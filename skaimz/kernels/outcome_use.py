"""Where a kernel uses its outcome. An entry of it can be left out if nothing else depends on the entry."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.distributions import Independent, MaskedDistribution

from skaimz.kernels.abstract import AbstractCall
from skaimz.kernels.affine import dependent
from skaimz.kernels.messages import density_parts
from skaimz.kernels.spec import Inputs, TracedKernel
from skaimz.runtime import compiled, one_at_a_time

__all__ = ["OutcomeUse", "uses_of_outcome"]


class OutcomeUse(NamedTuple):
    """Where a kernel uses its outcome.

    Attributes
    ----------
    sites : list of str
        Sites whose density depends on the outcome in another way than as the value of the output. The output is among
        them if the parameters of its distribution depend on the outcome, such as on those of earlier columns.
    is_joint : bool
        Whether the entries of a row's outcome share one density that is no product of densities of each.
    is_as_given : bool
        Whether the output's value is the outcome itself, with its rows moved to their axis, and no entry elsewhere.
    """

    sites: list[str]
    is_joint: bool
    is_as_given: bool


def uses_of_outcome(traced: TracedKernel, hyperparameters: Mapping[str, Any], inputs: Inputs) -> OutcomeUse:
    """Find out from an abstract run where a kernel uses its outcome.

    Parameters
    ----------
    traced : TracedKernel
    hyperparameters : dict
    inputs : Inputs
        Arguments without the outcome; only their shapes and types matter.
    """
    spec = traced.spec
    call = AbstractCall.of(traced.kernel, hyperparameters, inputs, (spec.input, spec.output_parameter))
    owners: list[str] = []
    joint: list[bool] = []

    def densities(outcome: Any, arguments: tuple) -> list[Any]:
        hyperparameters, rows, *others = arguments
        trace = call.run(hyperparameters, {**rows, spec.output_parameter: outcome}, *others)
        # The value of the output counts as one that does not depend on the outcome.
        output = trace[spec.output]
        joint.append(_of_entries(output["fn"]).event_dim > 0)
        trace[spec.output] = {**output, "value": jnp.zeros_like(output["value"])}
        parts = [
            (name, part) for name, site in trace.items() if site["type"] == "sample" for part in density_parts(site)
        ]
        owners[:] = [name for name, _ in parts]
        return [part for _, part in parts]

    n_rows = len(inputs.rows[spec.input])
    outcome = _outcome(traced, n_rows)
    trace = jax.make_jaxpr(one_at_a_time(densities))(outcome, call.arguments(n_rows))
    uses = dependent(trace, [0])
    sites = list(dict.fromkeys(name for name, depends in zip(owners, uses, strict=True) if depends))
    return OutcomeUse(sites, joint[-1], not spec.changes_outcome and _is_as_given(traced, call))


def _is_as_given(traced: TracedKernel, call: AbstractCall) -> bool:
    """Run the kernel on outcomes that are numbers in their order, and compare the output's value with them."""
    spec = traced.spec
    site = spec[spec.output]
    described = _outcome(traced, max(2, spec.least_rows))
    numbers = np.arange(math.prod(described.shape)).reshape(described.shape).astype(described.dtype)

    def value(arguments: tuple) -> Any:
        hyperparameters, rows, *others = arguments
        return call.run(hyperparameters, {**rows, spec.output_parameter: jnp.asarray(numbers)}, *others)[site.name][
            "value"
        ]

    # The other arguments do not matter for the value, and need not be valid: compiled programs do not validate them.
    observed = compiled(one_at_a_time(value))(jax.tree.map(_zeros, call.arguments(len(numbers))))
    return np.array_equal(np.asarray(observed), np.moveaxis(numbers, 0, site.row_axis or 0))


def _of_entries(distribution: Any) -> Any:
    """Return the distribution of the entries that a distribution takes together by ``to_event``."""
    while isinstance(distribution, Independent | MaskedDistribution):
        distribution = distribution.base_dist
    return distribution


def _outcome(traced: TracedKernel, n_rows: int) -> jax.ShapeDtypeStruct:
    site = traced.spec[traced.spec.output]
    of_row = site.event_shape if traced.spec.outcome is None else traced.spec.outcome
    return jax.ShapeDtypeStruct((n_rows, *of_row), jax.dtypes.canonicalize_dtype(site.dtype))


def _zeros(described: Any) -> Any:
    if not isinstance(described, jax.ShapeDtypeStruct):
        return described
    if jax.dtypes.issubdtype(described.dtype, jax.dtypes.prng_key):
        return jax.random.key(0)
    return jnp.zeros(described.shape, described.dtype)
