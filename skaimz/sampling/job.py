"""Jobs: a kernel, its posterior draws, and the rows to run it on."""

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
from skaimz.sampling import limits
from skaimz.sampling.encoders import Encoder
from skaimz.sampling.forward import Arguments
from skaimz.sampling.limits import Limits

__all__ = ["PART_ROWS", "Job", "Levels", "Part", "Past", "Posterior", "cut", "site_values", "value_row_axis"]

# A part of a table begins at a multiple of this many rows. The rows of every tile divide it.
PART_ROWS = 2048


class Posterior(NamedTuple):
    """Posterior draws and all other values that a kernel is run with.

    Attributes
    ----------
    hyperparameters : dict
        The kernel's numeric hyperparameters.
    params : dict of str to array or tree of arrays
        Values of its parameters and states of layers, and of those of an encoder.
    draws : dict of str to array of shape (n_draws, ...)
        Draws of latent sites, chains flattened. A latent site without draws is drawn from its conditional prior.
    n_draws : int
    n_chains : int
    """

    hyperparameters: dict[str, Any]
    params: dict[str, Any]
    draws: dict[str, Any]
    n_draws: int
    n_chains: int = 1


class Part(NamedTuple):
    """Where a block of rows lies in a larger table. Its rows get the random numbers that they have in the table.

    Attributes
    ----------
    first : int
        Number of the block's first row: a multiple of ``PART_ROWS``, so that a tile begins there.
    total : int
        Number of rows of the table.
    labels : pandas.Index, optional
        Labels of all rows of the table, which a new store needs.
    """

    first: int
    total: int
    labels: Any = None


class Past(NamedTuple):
    """Rows of the fit that a kernel runs on before the rows of a job, because these depend on them.

    Attributes
    ----------
    rows : dict of str to array
        Row-aligned arguments, the outcome among them.
    n_rows : int
    """

    rows: Mapping[str, np.ndarray]
    n_rows: int


class Levels(NamedTuple):
    """Levels of an argument that the fit did not see.

    Attributes
    ----------
    n_known : int
        Number of the levels of the fit, which come first.
    labels : array of shape (n_new, 2)
        Numbers that identify each new level: its random numbers follow from them.
    mixed : dict of str to str
        Sites that may depend on all levels together, and why.
    follow : bool
        Whether new levels follow the known ones in order, so that they may depend on these.
    """

    n_known: int
    labels: np.ndarray
    mixed: Mapping[str, str]
    follow: bool = False


@dataclass(frozen=True)
class Job:
    """A kernel, its posterior draws, and the rows to run it on.

    Attributes
    ----------
    traced : TracedKernel
    posterior : Posterior
    inputs : Inputs
        Row-aligned arguments may be anything that is sliced like an array; they are read tile by tile.
    seed : int
    local : dict of str to array of shape (n_draws, ...)
        Draws of row-aligned latent sites, for all rows of the table.
    intervention, condition : dict of str to array
        Values that sites are set to: by the do-operator, or in place of a draw; see :func:`site_values`.
    part : Part, optional
        Where the rows lie in a larger table.
    limits : Limits
    encoder : Encoder, optional
        Draws latent sites of the rows that have no draws, in place of their prior.
    past : Past, optional
        Rows before those of the job. The posterior then has draws of the latent sites of these rows too, which are the
        beginnings of these sites.
    levels : dict of str to Levels
        New levels by the name of the argument whose levels they are. Posterior draws of sites with these levels are the
        beginnings of the sites, and results have the known levels alone.
    """

    traced: TracedKernel
    posterior: Posterior
    inputs: Inputs
    seed: int
    local: Mapping[str, np.ndarray] = field(default_factory=dict)
    intervention: Mapping[str, np.ndarray] = field(default_factory=dict)
    condition: Mapping[str, np.ndarray] = field(default_factory=dict)
    part: Part | None = None
    limits: Limits = field(default_factory=lambda: limits.DEFAULT)
    encoder: Encoder | None = None
    past: Past | None = None
    levels: Mapping[str, Levels] = field(default_factory=dict)

    @property
    def spec(self) -> KernelSpec:
        """The kernel's description."""
        return self.traced.spec

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.inputs.rows[self.spec.input])

    @property
    def total_rows(self) -> int:
        """Number of rows of the table that the rows are from."""
        return self.part.total if self.part else self.n_rows

    @property
    def first_row(self) -> int:
        """Number of the first row in the table."""
        return self.part.first if self.part else 0

    @property
    def settings(self) -> dict[str, np.ndarray]:
        """All values that sites are set to."""
        return {**self.intervention, **self.condition}

    def local_in(self, rows: slice) -> dict[str, np.ndarray]:
        """Return the draws of row-aligned latent sites for some of the rows."""
        of_table = slice(self.first_row + rows.start, self.first_row + rows.stop)
        axes = {name: 1 + (self.spec[name].row_axis or 0) for name in self.local}
        return {name: draws[(*(slice(None),) * axes[name], of_table)] for name, draws in self.local.items()}

    def grown(self) -> dict[str, np.ndarray]:
        """Return the labels of the levels that the draws of sites lack, by site."""
        shapes = {name: draws.shape[1:] for name, draws in self.posterior.draws.items()}
        return {
            name: levels.labels
            for levels in self.levels.values()
            for name, shape in shapes.items()
            if any(shape[axis] == levels.n_known for axis in self._axes_of(name, levels))
        }

    def known_levels(self, name: str) -> dict[int, int]:
        """Return the axes of a site that have new levels, and the number of known levels, which come first."""
        return {axis: levels.n_known for levels in self.levels.values() for axis in self._axes_of(name, levels)}

    def _axes_of(self, name: str, levels: Levels) -> list[int]:
        """Return the axes of a site that hold the levels of an argument."""
        arguments = self.spec[name].levels
        return [axis for axis, argument in enumerate(arguments) if argument and self.levels.get(argument) is levels]

    def with_rows(self, rows: Mapping[str, Any]) -> "Job":
        """Return the job with these row-aligned arguments, which replace those of the same name."""
        inputs = self.inputs
        traced = self.traced.seeing(rows)
        return replace(self, traced=traced, inputs=Inputs({**inputs.rows, **rows}, inputs.whole, inputs.static))

    def described(self) -> tuple[Arguments, tuple]:
        """Return the shapes and types of the kernel's arguments, and of its params and draws, hashable.

        They are those of one draw on one row, or on the fewest rows that the kernel can be traced on.
        """
        posterior = self.posterior
        # Draws of the latent sites of rows before these are no values on a few rows.
        of_past = {site.name for site in self.spec.sites if self.past and site.follows_rows}
        one_draw = {name: draw[0] for name, draw in posterior.draws.items() if name not in of_past}
        few_rows = {name: cut(array, slice(0, 1), self.spec.least_rows) for name, array in self.inputs.rows.items()}
        arguments = Arguments(posterior.hyperparameters, few_rows, self.inputs.whole)
        return Arguments(*map(abstract_arrays, arguments)), abstract_arrays(posterior.params | one_draw)


def cut(array: Any, rows: slice, length: int, axis: int = 0) -> np.ndarray:
    """Return a slice of an array along an axis, padded to a length with copies of its first entry."""
    before = (slice(None),) * axis
    entries = np.asarray(array[(*before, rows)])
    missing = length - entries.shape[axis]
    if not missing:
        return entries
    return np.concatenate([entries, np.repeat(entries[(*before, slice(1))], missing, axis=axis)], axis=axis)


def site_values(
    spec: KernelSpec, argument: str, values: Mapping[str, Any] | None, n_rows: int
) -> dict[str, np.ndarray]:
    """Check the values that a user sets sites to, and broadcast them to the sites' shapes.

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
        Views with the site's shape for all rows.
    """
    if values is not None and not isinstance(values, Mapping):
        raise TypeError(f"`{argument}` must map names of sites to values, got {values!r}.")
    by_site = {}
    for name, value in (values or {}).items():
        what = f"The value that `{argument}` gives site {name!r}"
        array = as_numbers(what, value)
        value_row_axis(spec, argument, name, array.shape, n_rows)
        site = spec[name]
        array = in_type_of(site, what, finite(what, array))
        for index in spec.indices:
            if (index.kind, index.name, index.column) == ("site", name, None):
                check_index(what, array, index, n_rows)
        by_site[name] = np.broadcast_to(array, site.shape_on(n_rows))
    return by_site


def value_row_axis(spec: KernelSpec, argument: str, name: str, shape: tuple[int, ...], n_rows: int) -> int | None:
    """Return the row axis of a value that a site is set to, None where all rows share the value.

    Parameters
    ----------
    spec, argument, n_rows
        As in :func:`site_values`.
    name : str
        Name of the site.
    shape : tuple of int
        Shape of the value.

    Raises
    ------
    ValueError
        If the kernel has no such site that can be set, or the value does not broadcast to the site's shape.
    """
    samples = [site.name for site in spec.sites if site.kind in ("latent", "output", "observed", "companion")]
    if name not in samples:
        remedy = ""
        if any(site.name == name for site in spec.sites):
            remedy = (
                f" It is computed: make it a sample site, by `numpyro.sample({name!r}, dist.Delta(value))`, to set it."
            )
        raise ValueError(f"`{argument}` names {name!r}, which is not a sample site of the kernel: {samples}.{remedy}")
    if argument == "intervention" and name == spec.output:
        raise ValueError(
            f"`intervention` names {name!r}, the kernel's output: every outcome would be the value that you set. "
            "Intervene on a site that the output depends on."
        )
    site = spec[name]
    whole = site.shape_on(n_rows)
    missing = len(whole) - len(shape)
    if missing < 0 or any(size not in (1, full) for size, full in zip(shape, whole[missing:], strict=True)):
        raise ValueError(
            f"`{argument}` gives site {name!r} values of the shape {shape}, but for {n_rows} rows it has the shape "
            f"{whole}."
        )
    axis = -1 if site.row_axis is None else site.row_axis - missing
    return axis if axis >= 0 and shape[axis] != 1 else None
