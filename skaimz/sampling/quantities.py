"""Quantities: what is computed from a kernel's posterior draws, one class for each.

To add a quantity, derive a frozen dataclass from :class:`Expectation` (averaged over draws) or from :class:`PerDraw`
(all draws are kept), and define ``of_draw``. The other methods and attributes have defaults that suit most quantities.
"""

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from skaimz.kernels import KernelSpec, Site, by_row, joint_states, marginals
from skaimz.sampling.forward import (
    checked_outcome,
    class_probabilities,
    conditional_mean,
    conditional_moments,
    expected_outcome,
)
from skaimz.sampling.host_distributions import parameters_of

__all__ = [
    "ClassProbabilities",
    "Expectation",
    "ExpectedOutcomes",
    "KernelRun",
    "LogDensity",
    "LogPredictive",
    "Mean",
    "Moments",
    "PerDraw",
    "Quantity",
    "Slope",
    "StateProbabilities",
    "Values",
]


@dataclass(frozen=True)
class KernelRun:
    """A run of a kernel on some rows with one posterior draw, from which a quantity is taken.

    Attributes
    ----------
    spec : KernelSpec
    rows : dict of str to array
        Row-aligned arguments.
    key : PRNG key
        For random numbers of the quantity itself.
    trace_on : callable
        Runs the kernel on row-aligned arguments, with some more sites set to values, always with the same draw and
        random numbers, and returns its trace.
    known : collection of str
        Latent sites that have draws.
    settings : tuple of str
        Sites that the user has set to a value.
    on_host : bool
        Whether NumPy will draw the outcomes, so that their place is taken by the parameters of their distribution.
    """

    spec: KernelSpec
    rows: Mapping[str, Any]
    key: Any
    trace_on: Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, dict[str, Any]]]
    known: Collection[str] = ()
    settings: tuple[str, ...] = ()
    on_host: bool = False

    @functools.cached_property
    def trace(self) -> dict[str, dict[str, Any]]:
        """The kernel's trace on the rows."""
        return self.trace_on(self.rows, {})

    @property
    def output(self) -> Site:
        """The kernel's output site."""
        return self.spec[self.spec.output]

    @property
    def distribution(self) -> dist.Distribution:
        """The conditional distribution of the output."""
        return self.trace[self.spec.output]["fn"]

    def rows_first(self, array: Any) -> Any:
        """Return an array of the output's shape with the rows moved to the first axis."""
        return jnp.moveaxis(array, self.output.row_axis or 0, 0)

    def value(self, name: str) -> Any:
        """Return the value of a site, in a type that NumPy and Zarr know."""
        value = self.trace[name]["value"]
        value = value.astype(jnp.float32) if value.dtype == jnp.bfloat16 else value
        if name != self.spec.output or name in self.settings:
            return value
        return parameters_of(self.distribution) if self.on_host else checked_outcome(self.distribution, value)

    def scored(self, trace: Mapping[str, Any]) -> list[Any]:
        """Return the log densities in a trace of the sites that score the outcome."""
        return [trace[site]["fn"].log_prob(trace[site]["value"]) for site in self.spec.scores]

    def scored_by_row(self, trace: Mapping[str, Any]) -> Any:
        """Return the log density in a trace of each row's outcome."""
        axes = [self.spec[site].row_axis or 0 for site in self.spec.scores]
        return sum(map(by_row, self.scored(trace), axes))

    def log_density(self) -> Any:
        """Return the log density of the outcome, of all sites that score it together.

        It has the shape of the output's density, or one entry for each row (``spec.scores_rows``).
        """
        if not self.spec.scores_rows:
            return sum(self.scored(self.trace))
        if not self.summed:
            return self.scored_by_row(self.trace)
        log_weights, densities = self.by_state(self.scored_by_row)
        return jax.nn.logsumexp(log_weights + densities, axis=0)

    def average(self, name: str, function: Callable[[dist.Distribution], Any]) -> Any:
        """Return a function of a site's distribution, averaged over the states of discrete sites of the rows."""
        if not self.summed or self.spec[name].row_axis is None:
            return function(self.trace[name]["fn"])
        log_weights, values = self.by_state(lambda trace: function(trace[name]["fn"]))
        return jax.tree.map(lambda value: self._averaged(name, log_weights, value), values)

    def moments(self, function: Callable[[dist.Distribution], tuple]) -> tuple:
        """Return mean and variance of the output, given a function that returns those of a distribution."""
        if not self.summed:
            return function(self.distribution)
        output = self.spec.output
        log_weights, (means, variances) = self.by_state(lambda trace: function(trace[output]["fn"]))
        mean = self._averaged(output, log_weights, means)
        return mean, self._averaged(output, log_weights, variances + (means - mean) ** 2)

    def _averaged(self, name: str, log_weights: Any, values: Any) -> Any:
        """Average values in the shape of a site over the states on their first axis."""
        axis = 1 + (self.spec[name].row_axis or 0)
        weights = jnp.expand_dims(jnp.exp(log_weights), (*range(1, axis), *range(axis + 1, values.ndim)))
        # A state without weight may have no mean.
        return jnp.where(weights > 0, weights * values, 0.0).sum(axis=0)

    @property
    def summed(self) -> tuple[Site, ...]:
        """Discrete sites of the rows that are summed out: those without draws, that the user has not set."""
        return tuple(site for site in self.spec.summed if site.name not in (*self.known, *self.settings))

    @property
    def evidence(self) -> tuple[str, ...]:
        """Sites that are observed without an outcome, too, and whose density depends on the states of the rows.

        A factor is among them, such as that of a discrete input which is known for some rows.
        """
        sites = (site for site in self.spec.sites if site.kind == "observed" and site.rows_are_batched)
        return tuple(site.name for site in sites if site.name in self.spec.by_state)

    def given_evidence(self) -> "KernelRun":
        """Return a run in which the states of the rows are drawn given the evidence, if there is any."""
        if not self.summed or not self.evidence:
            return self
        log_weights, _ = self.by_state(lambda trace: jnp.zeros(()))
        chosen = jax.random.categorical(self.key, log_weights, axis=0)
        states = {}
        for name, each in joint_states(self.summed, len(chosen)).items():
            rows = 1 + (self.spec[name].row_axis or 0)
            place = jnp.expand_dims(chosen, [axis for axis in range(each.ndim) if axis != rows])
            states[name] = jnp.take_along_axis(jnp.asarray(each), place, axis=0)[0]
        return replace(self, trace_on=lambda rows, more: self.trace_on(rows, {**states, **more}))

    def by_state(self, function: Callable[[dict[str, dict[str, Any]]], Any]) -> tuple[Any, Any]:
        """Return log weights ``(n_states, n_rows)`` of the rows' states, and a function of the trace in each state.

        The weights are those of the prior, given the draws of other sites and the evidence.
        """
        spec, summed = self.spec, self.summed
        # Draws of a row's own latent sites tell something of its state.
        tell = [name for name in self.known if name in spec.by_state and name not in self.settings]
        tell = [site.name for site in spec.local_latents if site.name in tell]
        weighing = [*(site.name for site in summed), *tell, *self.evidence]

        def of_state(states: Mapping[str, Any]) -> tuple:
            trace = self.trace_on(self.rows, states)
            log_weights = (
                by_row(trace[name]["fn"].log_prob(trace[name]["value"]), spec[name].row_axis or 0) for name in weighing
            )
            return sum(log_weights), function(trace)

        log_weights, results = jax.vmap(of_state)(joint_states(summed, len(self.rows[spec.input])))
        return jax.nn.log_softmax(log_weights, axis=0), results


class Quantity(ABC):
    """What is computed from a kernel's posterior draws. Quantities are hashable: they are static parts of programs.

    Attributes
    ----------
    shares_random_numbers : bool
        Whether all rows see the same random numbers, so that the result for a row does not depend on the other rows.
    sums_states : bool
        Whether discrete sites of rows are summed out, so that they need no random numbers.
    may_be_affine : bool
        Whether the quantity can be affine in the draws or in the rows, so that a proof of it is tried. Its average is
        then its value at the average draw or row. An expectation must average draws by their mean for this.
    """

    shares_random_numbers: ClassVar[bool] = False
    sums_states: ClassVar[bool] = True
    may_be_affine: ClassVar[bool] = False

    @abstractmethod
    def of_draw(self, run: KernelRun) -> tuple:
        """Return the quantity's results, one or several arrays, for one posterior draw; it is traced by JAX."""

    @abstractmethod
    def over_draws(self, results: tuple, n_draws: Any) -> tuple:
        """Return the results of a step from those of its draws.

        Parameters
        ----------
        results : tuple of arrays
            Results of :meth:`of_draw` for all draws of the step, draws first.
        n_draws : scalar
            Number of draws. Draws after these are padding.
        """

    @abstractmethod
    def row_axes(self, spec: KernelSpec) -> tuple[int | None, ...]:
        """Return the row axis of each result of a step, None for one without rows."""

    def of_row(self, results: Any) -> Any:
        """Return the results of a kernel that has run on one row alone, without the axis of rows."""
        return jax.tree.map(lambda result: result[0], results)

    def of_step(self, results: Any, n_draws: Any, rows: Mapping[str, Any]) -> tuple:
        """Return what :meth:`over_draws` does, for quantities that need the rows of the step as well."""
        return self.over_draws(results, n_draws)


class Expectation(Quantity):
    """A quantity that is averaged over draws. Its results have the rows on the first axis.

    Attributes
    ----------
    n_results : int
        Number of results.
    needs_all_draws : bool
        Whether averages over some of the draws cannot be merged.
    """

    shares_random_numbers = True
    n_results: ClassVar[int] = 1
    needs_all_draws: ClassVar[bool] = False

    def over_draws(self, results: tuple, n_draws: Any) -> tuple:
        """Average over the draws of a step."""
        return tuple(result.mean(axis=0, where=_counted(result, n_draws)) for result in results)

    def merged(self, first: Sequence[np.ndarray], second: Sequence[np.ndarray], share: float) -> list[np.ndarray]:
        """Join averages over two sets of draws.

        Parameters
        ----------
        first, second : sequence of arrays
            Averages over each set.
        share : float
            Share of the draws that are in the second set.
        """
        return [before + share * (after - before) for before, after in zip(first, second, strict=True)]

    def row_axes(self, spec: KernelSpec) -> tuple[int | None, ...]:
        """Return 0 for every result."""
        return (0,) * self.n_results


@dataclass(frozen=True)
class Mean(Expectation):
    """Mean of the posterior predictive: the average of conditional means."""

    may_be_affine = True

    def of_draw(self, run: KernelRun) -> tuple:
        """Return the conditional mean."""
        mean = run.average(run.spec.output, lambda distribution: conditional_mean(distribution, run.key))
        return (run.rows_first(mean),)


@dataclass(frozen=True)
class Moments(Expectation):
    """Mean and variance of the posterior predictive, by the law of total variance."""

    n_results = 2

    def of_draw(self, run: KernelRun) -> tuple:
        """Return the conditional mean and variance."""
        moments = run.moments(lambda distribution: conditional_moments(distribution, run.key))
        return tuple(map(run.rows_first, moments))

    def over_draws(self, results: tuple, n_draws: Any) -> tuple:
        """Average both, and add the variance of conditional means to that of outcomes."""
        mean, variance = super().over_draws(results, n_draws)
        return mean, variance + results[0].var(axis=0, where=_counted(results[0], n_draws))

    def merged(self, first: Sequence[np.ndarray], second: Sequence[np.ndarray], share: float) -> list[np.ndarray]:
        """Join averages. A difference between the means adds to the variance."""
        mean, variance = super().merged(first, second, share)
        variance += share * (1 - share) * (second[0] - first[0]) ** 2
        return [mean, variance]


@dataclass(frozen=True)
class ClassProbabilities(Expectation):
    """Posterior predictive probability of every class, on the last axis."""

    def of_draw(self, run: KernelRun) -> tuple:
        """Return the conditional probabilities."""
        return (run.rows_first(run.average(run.spec.output, class_probabilities)),)


@dataclass(frozen=True)
class LogPredictive(Expectation):
    """Logarithm of the posterior predictive density of each row's outcome, joint where a row has several outputs.

    Rows do not share random numbers, because the densities are summed over rows and shared errors would add up. The
    random numbers are those of :class:`LogDensity`.
    """

    shares_random_numbers = False

    def of_draw(self, run: KernelRun) -> tuple:
        """Return the log density of each row."""
        densities = run.log_density()
        return (densities if run.spec.scores_rows else by_row(densities, run.output.row_axis or 0),)

    def over_draws(self, results: tuple, n_draws: Any) -> tuple:
        """Average the densities."""
        (densities,) = results
        total = jax.nn.logsumexp(densities, axis=0, where=_counted(densities, n_draws))
        return (total - jnp.log(n_draws.astype(densities.dtype)),)

    def merged(self, first: Sequence[np.ndarray], second: Sequence[np.ndarray], share: float) -> list[np.ndarray]:
        """Join the logarithms of average densities."""
        one, other = math.log(1 - share), math.log(share)
        return [np.logaddexp(one + before, other + after) for before, after in zip(first, second, strict=True)]


@dataclass(frozen=True)
class StateProbabilities(Expectation):
    """Probabilities of the states of each discrete site of the rows, on the last axis, given the row's outcome.

    Attributes
    ----------
    names : tuple of str
        All sites in ``spec.summed``.
    """

    names: tuple[str, ...]
    shares_random_numbers = False

    def of_draw(self, run: KernelRun) -> tuple:
        """Return the probabilities, by Bayes' rule."""
        log_weights, densities = run.by_state(run.scored_by_row)
        probabilities = jax.nn.softmax(log_weights + densities, axis=0)
        by_site = marginals(jnp.moveaxis(probabilities, 0, -1), run.summed)
        return tuple(by_site[name] for name in self.names)

    def row_axes(self, spec: KernelSpec) -> tuple[int | None, ...]:
        """Return 0 for every site."""
        return (0,) * len(self.names)


@dataclass(frozen=True)
class PerDraw(Quantity):
    """A quantity of sites of which all draws are kept, with one result for each site.

    Attributes
    ----------
    names : tuple of str
        Names of the sites.
    draws_last : bool, default=False
        Whether results have the draws on the last axis rather than on the first.
    has_outcomes : bool
        Whether results are values of sites, so that NumPy may draw the outcomes.
    """

    names: tuple[str, ...]
    draws_last: bool = field(default=False, kw_only=True)
    has_outcomes: ClassVar[bool] = False

    def over_draws(self, results: tuple, n_draws: Any) -> tuple:
        """Move the draws to their axis."""
        return jax.tree.map(lambda result: jnp.moveaxis(result, 0, -1), results) if self.draws_last else results

    def row_axis(self, site: Site) -> int | None:
        """Return the row axis of one draw of a site's result, None for one without rows."""
        return site.row_axis

    def row_axes(self, spec: KernelSpec) -> tuple[int | None, ...]:
        """Return the row axis of each result, draws included."""
        axes = (self.row_axis(spec[name]) for name in self.names)
        return tuple(None if axis is None else axis + (not self.draws_last) for axis in axes)


@dataclass(frozen=True)
class Values(PerDraw):
    """Values of sites: outcomes of the output, draws of latent sites, values of deterministic sites."""

    has_outcomes = True
    sums_states = False

    def of_draw(self, run: KernelRun) -> tuple:
        """Return the values."""
        return tuple(map(run.given_evidence().value, self.names))


@dataclass(frozen=True)
class ExpectedOutcomes(PerDraw):
    """Conditional means of sites; for class labels, the probability of each class on the last axis."""

    may_be_affine = True

    def of_draw(self, run: KernelRun) -> tuple:
        """Return the conditional means."""
        return tuple(run.average(name, lambda each: expected_outcome(each, run.key)) for name in self.names)


@dataclass(frozen=True)
class Slope(PerDraw):
    """Derivatives of expected outcomes with respect to an input. The kernel's rows must not depend on one another.

    Attributes
    ----------
    along : tuple of (str, int or None)
        Name of the argument, and number of its column; None for an argument without columns.
    elasticity : bool, default=False
        Whether to return elasticities: relative changes of the expected outcome per relative change of the input.
    """

    along: tuple[str, int | None]
    elasticity: bool = False

    def of_draw(self, run: KernelRun) -> tuple:
        """Return the derivatives."""
        name, column = self.along
        array = run.rows[name]
        ones = jnp.ones_like(array)
        direction = ones if column is None else jnp.zeros_like(array).at[:, column].set(1.0)
        expected = ExpectedOutcomes(self.names)

        def means_at(array: Any) -> tuple:
            return expected.of_draw(replace(run, rows={**run.rows, name: array}))

        means, slopes = jax.jvp(means_at, (array,), (direction,))
        if not self.elasticity:
            return slopes
        inputs = array if column is None else array[:, column]
        relative = []
        for site, mean, slope in zip(self.names, means, slopes, strict=True):
            axis = run.spec[site].row_axis or 0
            relative.append(slope * inputs.reshape(*(1,) * axis, -1, *(1,) * (mean.ndim - axis - 1)) / mean)
        return tuple(relative)


@dataclass(frozen=True)
class LogDensity(PerDraw):
    """Log densities of outcomes, under the name of the output."""

    def row_axes(self, spec: KernelSpec) -> tuple[int | None, ...]:
        """Return the row axis of each result, draws included."""
        return (int(not self.draws_last),) if spec.scores_rows else super().row_axes(spec)

    def row_axis(self, site: Site) -> int | None:
        """Return the row axis, None where all rows have one joint density."""
        return site.row_axis if site.rows_are_batched else None

    def of_draw(self, run: KernelRun) -> tuple:
        """Return the log densities."""
        return (run.log_density(),)


def _counted(results: Any, n_draws: Any) -> Any:
    """Return a mask that leaves out padding, and can be broadcast to results with the draws first."""
    return (jnp.arange(len(results), dtype=n_draws.dtype) < n_draws).reshape(-1, *(1,) * (results.ndim - 1))
