"""Passes of a kernel over rows: what it is run with, and what is computed for each posterior draw."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from skaimz.kernels import (
    Inputs,
    KernelSpec,
    TracedKernel,
    abstract_arrays,
    as_numbers,
    check_index,
    finite,
    in_type_of,
)
from skaimz.sampling.plan import Part, cut

__all__ = ["Job", "Posterior", "Quantity", "site_values", "value_row_axis"]


class Posterior(NamedTuple):
    """What a kernel is run with.

    Attributes
    ----------
    hyperparameters : dict
        The kernel's numeric hyperparameters.
    params : dict of str to array
        Values of its ``param`` sites.
    draws : dict of str to array of shape (n_draws, ...)
        Draws of latent sites, chains flattened; sites that are absent are drawn from their conditional prior.
    n_draws : int
    n_chains : int
    """

    hyperparameters: dict[str, Any]
    params: dict[str, Any]
    draws: dict[str, Any]
    n_draws: int
    n_chains: int = 1


@dataclass(frozen=True)
class Job:
    """A kernel, a posterior and rows.

    Attributes
    ----------
    traced : TracedKernel
    posterior : Posterior
    inputs : Inputs
        Rows may be anything that is sliced like an array: tiles are read one by one.
    seed : int
    local : dict of str to array of shape (n_draws, ...)
        Draws of row-aligned latent sites, for all rows that these are a part of.
    intervention, condition : dict of str to array
        Values that sites are set to, by the do-operator or in place of a draw; see :func:`site_values`.
    part : Part, optional
        Where the rows lie among more of them.
    """

    traced: TracedKernel
    posterior: Posterior
    inputs: Inputs
    seed: int
    local: Mapping[str, np.ndarray] = field(default_factory=dict)
    intervention: Mapping[str, np.ndarray] = field(default_factory=dict)
    condition: Mapping[str, np.ndarray] = field(default_factory=dict)
    part: Part | None = None

    @property
    def spec(self) -> KernelSpec:
        """The kernel's description."""
        return self.traced.spec

    @property
    def n_rows(self) -> int:
        """Number of rows of the input."""
        return len(self.inputs.rows[self.spec.input])

    @property
    def first_row(self) -> int:
        """Number of the first row among all that these are a part of."""
        return self.part.first if self.part else 0

    @property
    def settings(self) -> dict[str, np.ndarray]:
        """All values that sites are set to."""
        return {**self.intervention, **self.condition}

    def local_in(self, rows: slice) -> dict[str, np.ndarray]:
        """Return the draws of row-aligned latent sites for some of the rows."""
        here = slice(self.first_row + rows.start, self.first_row + rows.stop)
        axes = {name: 1 + (self.spec[name].row_axis or 0) for name in self.local}
        return {name: draws[(*(slice(None),) * axes[name], here)] for name, draws in self.local.items()}

    def with_rows(self, rows: Mapping[str, Any]) -> "Job":
        """Return the pass with further, or other, row-aligned arguments."""
        inputs = self.inputs
        return replace(self, inputs=Inputs({**inputs.rows, **rows}, inputs.whole, inputs.static))

    def described(self) -> tuple[tuple, ...]:
        """Describe the arguments of one draw on one row, or as few as the kernel takes, by types alone."""
        posterior = self.posterior
        one_draw = {name: draw[0] for name, draw in posterior.draws.items()}
        few_rows = {name: cut(array, slice(0, 1), self.spec.least_rows) for name, array in self.inputs.rows.items()}
        parts = (posterior.hyperparameters, posterior.params | one_draw, few_rows, self.inputs.whole)
        return tuple(map(abstract_arrays, parts))


def site_values(
    spec: KernelSpec, argument: str, values: Mapping[str, Any] | None, n_rows: int
) -> dict[str, np.ndarray]:
    """Bring values that a user sets sites to into the sites' shapes.

    Parameters
    ----------
    spec : KernelSpec
    argument : str
        Name of the user's argument, for messages.
    values : dict of str to array, optional
        Scalars, or arrays that can be broadcast to the site.
    n_rows : int

    Returns
    -------
    dict of str to array
        Views in the shape of the site for all rows.
    """
    if values is not None and not isinstance(values, Mapping):
        raise TypeError(f"`{argument}` must map names of sites to values, got {values!r}.")
    found = {}
    for name, value in (values or {}).items():
        what = f"The value that `{argument}` gives site {name!r}"
        array = as_numbers(what, value)
        value_row_axis(spec, argument, name, array.shape, n_rows)
        site = spec[name]
        array = in_type_of(site, what, finite(what, array))
        for index in spec.indices:
            if (index.kind, index.name, index.column) == ("site", name, None):
                check_index(what, array, index, n_rows)
        found[name] = np.broadcast_to(array, tuple(n_rows if size is None else size for size in site.shape))
    return found


def value_row_axis(spec: KernelSpec, argument: str, name: str, shape: tuple[int, ...], n_rows: int) -> int | None:
    """Return the axis along which a value that a site is set to has the rows, None where all rows share it.

    Parameters
    ----------
    spec, argument, n_rows
        As in :func:`site_values`.
    name : str
        Of the site.
    shape : tuple of int
        Of the value.

    Raises
    ------
    ValueError
        If no such site can be set, or its value cannot have this shape.
    """
    samples = [site.name for site in spec.sites if site.kind in ("latent", "output", "observed", "companion")]
    if name not in samples:
        raise ValueError(f"`{argument}` names {name!r}, which is not a sample site of the kernel: {samples}.")
    if argument == "intervention" and name == spec.output:
        raise ValueError(
            f"`intervention` names {name!r}, the kernel's output: what it is set to, it is. Intervene on what it "
            "depends on."
        )
    site = spec[name]
    whole = tuple(n_rows if size is None else size for size in site.shape)
    missing = len(whole) - len(shape)
    if missing < 0 or any(size not in (1, full) for size, full in zip(shape, whole[missing:], strict=True)):
        raise ValueError(
            f"`{argument}` gives site {name!r} values of the shape {shape}, but for {n_rows} rows it has the shape "
            f"{whole}."
        )
    axis = -1 if site.row_axis is None else site.row_axis - missing
    return axis if axis >= 0 and shape[axis] != 1 else None


@dataclass(frozen=True)
class Quantity:
    """What is computed from the trace of a kernel, draw by draw, and whether draws are averaged where they are.

    Attributes
    ----------
    kind : {"mean", "moments", "probabilities", "log predictive", "values", "means", "slopes", "elasticities", \
            "log density"}
        Mean, moments, probabilities and the logarithm of the predictive density are averages over draws, with the rows
        first; of values, conditional means, their slopes and log densities all draws are kept.
    names : tuple of str
        Sites that values are of.
    draws_last : bool
        Whether draws are the last axis rather than the first.
    along : tuple of (str, int or None), optional
        Argument, and column of it, that slopes and elasticities are with respect to.
    """

    kind: str
    names: tuple[str, ...] = ()
    draws_last: bool = False
    along: tuple[str, int | None] | None = None

    @property
    def is_expectation(self) -> bool:
        """Whether draws are averaged."""
        return self.kind in ("mean", "moments", "probabilities", "log predictive")

    @property
    def shares_random_numbers(self) -> bool:
        """Whether all rows see the same random numbers, so that what is found for one does not depend on its company.

        Predictive densities are summed over rows, where errors that rows share would add up; their random numbers are
        those of the log densities of all draws.
        """
        return self.is_expectation and self.kind != "log predictive"

    def row_axes(self, spec: KernelSpec) -> list[int | None]:
        """Return the row axis of every result, None where it has none."""
        if self.is_expectation:
            return [0] * (2 if self.kind == "moments" else 1)
        axes: list[int | None] = []
        for name in self.names:
            site = spec[name]
            by_row = site.row_axis is not None and (self.kind != "log density" or site.rows_are_batched)
            axes.append(site.row_axis + (not self.draws_last) if by_row and site.row_axis is not None else None)
        return axes
