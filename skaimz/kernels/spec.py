"""The description of a kernel: its arguments, its sites, and whether its rows are independent."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from skaimz.kernels.entries import OBSERVED, POINTS, LeftOut
from skaimz.kernels.forms import AS_WRITTEN, Form, Formed
from skaimz.kernels.identity import ByValue, Kernel
from skaimz.kernels.indices import Index
from skaimz.kernels.observed_masks import JoinedMasks
from skaimz.kernels.signature import nested
from skaimz.kernels.states import few_states
from skaimz.kernels.trees import KeptState, map_leaves

__all__ = ["Inputs", "KernelSpec", "Site", "TracedKernel", "with_seen_outcome", "without_rows"]

OWN_MINIBATCHES = "the kernel draws minibatches of its own"


@dataclass(frozen=True)
class Inputs:
    """Arguments of a kernel, grouped by how programs use them.

    Attributes
    ----------
    rows : dict of str to array
        Arrays with an entry for each row on their first axis: the input, in a fit also the output, and others.
    whole : dict of str to array
        Arrays that are the same for every row.
    static : tuple of (str, hashable)
        All other arguments, which are constants of a program.
    outcome : tuple of int or None
        Shape of the outcome of one row, if it is known.
    observed : array or None
        Outcomes, for kernels that need their values while they are traced; only such kernels use them.
    """

    rows: dict[str, Any]
    whole: dict[str, Any]
    static: tuple[tuple[str, Hashable], ...] = ()
    outcome: tuple[int, ...] | None = None
    observed: Any = None


@dataclass(frozen=True)
class Site:
    """One site of a kernel.

    Attributes
    ----------
    name : str
    kind : {"latent", "output", "observed", "companion", "deterministic", "param", "mutable", "unused"}
        In a fit, a companion is observed together with the output, or does not exist. In a prediction, it is drawn
        together with the output. A mutable site is a state of layers. An unused one is a parameter that nothing
        depends on, such as the first weights of a network whose weights have priors.
    distribution : str or None
        Name of the distribution's class.
    shape : tuple of (int or None)
        Shape of the value, with None on the row axis.
    dtype : str
    row_axis : int or None
    event_dim : int
    dims : tuple of str
        A name for every axis: that of its plate, that in ``infer={"event_dims": ...}``, or ``<site>_dim_<axis>``.
    support : str or None
        Name of the constraint on its values, if the constraint has no parameters.
    n_classes : int or None
        Number of classes of a categorical or ordered distribution.
    mixing : str or None
        Why its rows may depend on one another; None if they provably do not.
    states : tuple of number, or None
        Values that the site may have in a run without an outcome, if they are finitely many numbers.
    statement : str
        Name of the kernel's statement, of whose value the site is a leaf, if it is a parameter or a state.
    is_scanned : bool
        Whether the site is in the body of a ``scan``.
    following : tuple of int
        Axes whose length follows from the number of rows: the row axis, and those that have another number of entries,
        such as one fewer. ``shape`` has the length of the latter on the rows that the kernel was described with.
    levels : tuple of (str or None)
        For every axis the argument whose levels it holds: its length is the argument ``n_<argument>``.
    """

    name: str
    kind: str
    distribution: str | None
    shape: tuple[int | None, ...]
    dtype: str
    row_axis: int | None
    event_dim: int
    dims: tuple[str, ...]
    support: str | None = None
    n_classes: int | None = None
    mixing: str | None = None
    states: tuple[float, ...] | None = None
    statement: str = ""
    is_scanned: bool = False
    following: tuple[int, ...] = ()
    levels: tuple[str | None, ...] = ()

    @property
    def follows_rows(self) -> bool:
        """Whether the length of an axis follows from the number of rows."""
        return bool(self.following)

    @property
    def written_shape(self) -> tuple[int | str, ...]:
        """Shape of the value for readers."""
        other = dict.fromkeys(self.following, "depends on n_rows")
        return tuple("n_rows" if size is None else other.get(axis, size) for axis, size in enumerate(self.shape))

    def allows(self, shape: tuple[int, ...]) -> bool:
        """Return whether the value may have a shape on some number of rows."""
        return len(shape) == len(self.shape) and all(
            axis in self.following or size == shape[axis] for axis, size in enumerate(self.shape)
        )

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of the value without its row axis."""
        return without_rows(self.shape)

    def shape_on(self, n_rows: int) -> tuple[int, ...]:
        """Return the shape of the value on a number of rows."""
        return tuple(n_rows if size is None else size for size in self.shape)

    def dims_of(self, n_axes: int) -> tuple[str, ...]:
        """Return names of the axes of a density, which lacks the event's axes, or has the axis of the rows alone.

        Parameters
        ----------
        n_axes : int
            Number of axes of the density.

        Returns
        -------
        tuple of str
        """
        return (self.dims[self.row_axis],) if n_axes == 1 and self.row_axis else self.dims[:n_axes]

    @property
    def rows_are_batched(self) -> bool:
        """Whether the site's log density has an entry for each row."""
        return self.row_axis is not None and self.row_axis < len(self.shape) - self.event_dim


@dataclass(frozen=True, repr=False)
class KernelSpec:
    """The sites of a kernel, and facts about them that other rooms rely on.

    Attributes
    ----------
    sites : tuple of Site
        In the order in which the kernel visits them.
    input, output : str
        Names of the kernel's input parameter and of its output site.
    output_parameter : str
        Name of the kernel parameter that the output site observes.
    fit_mixing : str or None
        Why the log density may not be a sum over rows plus terms without rows; None if it provably is.
    unweighted : str or None
        An observed site whose density depends on rows, but has no entry for each row that could be weighted.
    changes_outcome : bool
        Whether the output observes a value that is computed from the outcome, or the outcome in another order, instead
        of the outcome itself.
    subsamples : bool
        Whether plates of the kernel can draw minibatches (``plate(..., subsample_size=...)``). All else in the
        description is true of plates that hold all rows.
    indices : tuple of Index
        Values that the kernel uses as indices, with the lengths of the axes.
    width : int
        Largest number of elements for one row among all intermediate values of the kernel.
    multiplies_matrices : bool
        Whether the kernel multiplies rows by large matrices, as a neural network does.
    factors : tuple of str
        Sites beside the output with an entry for each row, which are part of the row's density: ``numpyro.factor``,
        others that observe the outcome or a part of it, and all that scores it if the output does not exist in a fit.
    unscored : str or None
        Why rows have no density of their own: a factor cannot be divided among them.
    masks : bool
        Whether a mask that depends on data may leave outcomes out.
    least_rows : int
        Smallest number of rows that the kernel runs on. A kernel that takes differences between rows needs several.
    only_fitted : tuple of Site
        Sites that exist only with an outcome.
    form : Form
        What is changed in the kernel when it runs.
    by_state : tuple of str
        Sites, other than discrete latent ones, whose density in a fit depends on the state of a discrete latent site.
    trains : bool
        Whether layers of the kernel train where there is an outcome: they have a state, as those of batch
        normalisation, or draw random numbers that are no sites, as dropout.
    outcome : tuple of int or None
        Shape of the outcome of one row, if it is not that of the output; None if it is.
    observes_bounds : bool
        Whether the output draws values, and observes the bounds of each, because it is censored to intervals.
    only_rows : int or None
        Number of rows that the kernel is written for; None if it runs on other numbers.
    """

    sites: tuple[Site, ...]
    input: str
    output: str
    output_parameter: str
    fit_mixing: str | None
    unweighted: str | None
    changes_outcome: bool
    subsamples: bool
    indices: tuple[Index, ...]
    width: int
    multiplies_matrices: bool
    factors: tuple[str, ...] = ()
    unscored: str | None = None
    masks: bool = False
    least_rows: int = 1
    only_fitted: tuple[Site, ...] = ()
    form: Form = AS_WRITTEN
    by_state: tuple[str, ...] = ()
    trains: bool = False
    outcome: tuple[int, ...] | None = None
    observes_bounds: bool = False
    only_rows: int | None = None

    def __repr__(self) -> str:
        return f"KernelSpec({self.input} -> {self.output}, {len(self.sites)} sites)"

    def __getitem__(self, name: str) -> Site:
        for site in self.every_site:
            if site.name == name:
                return site
        raise KeyError(name)

    @property
    def every_site(self) -> tuple[Site, ...]:
        """Sites of predictions, and those of fits alone, which may have the name of one of predictions."""
        return (*self.sites, *self.only_fitted)

    @property
    def latents(self) -> tuple[Site, ...]:
        """Sites with posterior draws."""
        return tuple(site for site in self.every_site if site.kind == "latent")

    @property
    def prior_sites(self) -> tuple[Site, ...]:
        """Latent sites that a prediction has, and that can be drawn from their prior."""
        return tuple(site for site in self.sites if site.kind == "latent")

    @property
    def drawn(self) -> tuple[Site, ...]:
        """Sites, other than the output, that a prediction draws unless their values are known."""
        return tuple(site for site in self.sites if site.kind in ("latent", "companion"))

    @property
    def discrete(self) -> tuple[Site, ...]:
        """Latent sites that have no gradient."""
        return tuple(site for site in self.latents if not np.issubdtype(site.dtype, np.floating))

    @property
    def summed(self) -> tuple[Site, ...]:
        """Discrete latent sites of single rows, over whose states densities and means of a row are summed exactly."""
        if self.fit_mixing is not None or self.rows_mix is not None:
            return ()
        sites = tuple(site for site in self.discrete if site.states is not None and site.rows_are_batched)
        return sites if few_states(sites) else ()

    @property
    def local_latents(self) -> tuple[Site, ...]:
        """Latent sites with an entry for each row."""
        return tuple(site for site in self.latents if site.row_axis is not None)

    @property
    def growing_latents(self) -> tuple[Site, ...]:
        """Latent sites of predictions whose number of entries follows from the number of rows."""
        return tuple(site for site in self.prior_sites if site.follows_rows)

    @property
    def improper_latents(self) -> tuple[str, ...]:
        """Names of the latent sites whose prior cannot be sampled."""
        return tuple(site.name for site in self.latents if site.distribution == "ImproperUniform")

    @property
    def return_sites(self) -> tuple[str, ...]:
        """Sites that a posterior predictive contains by default."""
        return (self.output, *(site.name for site in self.sites if site.kind == "deterministic"))

    @property
    def scores(self) -> tuple[str, ...]:
        """Sites whose densities, together, are the density of a row's outcome."""
        return self.factors if self.form.branches else (self.output, *self.factors)

    @property
    def scores_rows(self) -> bool:
        """Whether each row has one density for all of its outputs.

        It has if discrete sites of the rows are summed out, or if the sites that score it have different shapes.
        """
        sites = [self[name] for name in self.scores]
        return bool(self.summed) or len({site.shape[: len(site.shape) - site.event_dim] for site in sites}) > 1

    @property
    def rows_mix(self) -> str | None:
        """Why the output of a row may depend on other rows, or None if it provably does not."""
        sites = (self[self.output], *(site for site in self.drawn if site.row_axis is not None))
        return next((f"{site.mixing} (site {site.name!r})" for site in sites if site.mixing), None)

    @property
    def outcomes_depend(self) -> bool:
        """Whether the outcome of a row may depend on those of other rows, given all latent sites."""
        output = self[self.output]
        return not output.rows_are_batched or output.is_scanned

    @property
    def needs_past(self) -> bool:
        """Whether outcomes of new rows depend on the rows of the fit, beyond what latent sites without rows tell."""
        return self.rows_mix is not None and (self.outcomes_depend or bool(self.growing_latents))

    @property
    def learned(self) -> dict[str, tuple[Site, ...]]:
        """Sites that are leaves of parameters and states, by the names of their statements."""
        sites = [site for site in self.every_site if site.kind in ("param", "mutable")]
        names = dict.fromkeys(site.statement for site in sites)
        return {name: tuple(site for site in sites if site.statement == name) for name in names}

    def values_of(self, params: Mapping[str, Any], convert: Callable[[Site, Any], Any]) -> dict[str, Any]:
        """Return the values of the kernel's own parameters and states, given all that a fit has learned.

        Parameters
        ----------
        params : dict of str to array or tree of arrays
        convert : callable
            Returns an array as a site has it, given the site and the array.

        Returns
        -------
        dict of str to array or tree of arrays
        """
        return {
            name: map_leaves(lambda leaf, array: convert(self[leaf], array), name, params[name])
            for name in self.learned
            if name in params
        }

    @property
    def has_networks(self) -> bool:
        """Whether some parameters are trees, which begin with random numbers, as the weights of networks do."""
        return any(site.kind == "param" and site.statement != site.name for site in self.every_site)

    @property
    def rowless(self) -> bool:
        """Whether latent sites and parameters have as many entries for any number of rows."""
        return not any(site.follows_rows for site in self.every_site if site.kind in ("latent", "param"))

    @property
    def can_be_padded(self) -> bool:
        """Whether additional rows of weight zero leave the log density unchanged."""
        return self.rowless and self.fit_mixing is None

    @property
    def minibatch_mixing(self) -> str | None:
        """Why the log density of a minibatch may not be that of its rows; None if it is.

        Layers that train see the rows of their minibatch together, as their authors mean them to.
        """
        return self.rows_mix if self.trains else self.fit_mixing


@dataclass(frozen=True)
class TracedKernel:
    """A kernel with its static arguments and its description: the part of a compiled program that is no array.

    Attributes
    ----------
    kernel : Kernel
    static : tuple of (str, ByValue)
    spec : KernelSpec
    subsampling : bool
        Whether plates draw minibatches of their own, if the kernel has such plates. Otherwise they hold all rows.
    seen : tuple of str
        Arguments whose values the kernel sees, which are among the static ones.
    """

    kernel: Kernel
    static: tuple[tuple[str, ByValue], ...]
    spec: KernelSpec
    subsampling: bool = False
    seen: tuple[str, ...] = ()

    def with_subsampling(self) -> "TracedKernel":
        """Return the kernel with plates that draw minibatches, if it has such plates."""
        if not self.spec.subsamples:
            return self
        return replace(self, spec=replace(self.spec, fit_mixing=OWN_MINIBATCHES), subsampling=True)

    def seeing(self, rows: Mapping[str, Any]) -> "TracedKernel":
        """Return the kernel with the values of an outcome among some rows, if it sees the values of outcomes."""
        output = self.spec.output_parameter
        if output not in self.seen or output not in rows:
            return self
        seen = ByValue.of(np.asarray(rows[output]))
        return replace(self, static=tuple((name, seen if name == output else value) for name, value in self.static))

    def with_all_rows(self) -> "TracedKernel":
        """Return the kernel with plates that hold all rows."""
        return replace(self, subsampling=False)

    @property
    def constants(self) -> dict[str, Any]:
        """Static arguments by name."""
        return {name: constant.value for name, constant in self.static}

    def model(self, hyperparameters: Mapping[str, Any], rows: Mapping[str, Any], whole: Mapping[str, Any]) -> Any:
        """Run the kernel as a NumPyro model."""
        return self.formed(JoinedMasks(self.kernel.bind(hyperparameters)), rows, whole)

    def formed(self, function: Callable, rows: Mapping[str, Any], whole: Mapping[str, Any]) -> Any:
        """Run a function with the kernel's arguments, such as its guide, in the kernel's form.

        Entries of the outcome are left out if the rows tell which are observed.
        """
        form, observes = self.spec.form, rows.get(self.spec.output_parameter) is not None
        n_rows, entries = len(rows[self.spec.input]), rows.get(OBSERVED)
        formed: Any = Formed(function, form, n_rows, observes=observes, subsamples=self.subsampling)
        if entries is not None:
            output = self.spec[self.spec.output]
            formed = LeftOut(formed, output.name, jnp.moveaxis(entries, 0, output.row_axis or 0))
        arguments = {name: array for name, array in rows.items() if name not in (OBSERVED, POINTS)}
        constants = with_seen_outcome(self.constants, self.spec.output_parameter, arguments)
        with KeptState():
            return formed(**nested({**arguments, **whole, **constants}))


def with_seen_outcome(constants: Mapping[str, Any], output: str, rows: Mapping[str, Any]) -> dict[str, Any]:
    """Return constants with the values of an outcome only where there is one, in its type.

    Parameters
    ----------
    constants : dict
        Arguments that are constants of a program, among which may be an outcome whose values the kernel sees.
    output : str
        Name of the outcome.
    rows : dict of str to array
    """
    constants = dict(constants)
    seen, outcome = constants.pop(output, None), rows.get(output)
    if seen is None or outcome is None:
        return constants
    return {**constants, output: np.asarray(seen).astype(outcome.dtype)}


def without_rows(template: tuple[int | None, ...]) -> tuple[int, ...]:
    """Return a shape without its row axis, on which it has None."""
    return tuple(size for size in template if size is not None)
