"""Kernels whose discrete latent sites are summed out: models of the other sites alone."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpyro
from jax.scipy.special import logsumexp
from numpyro import handlers
from numpyro.primitives import Messenger

from skaimz.kernels.spec import KernelSpec, Site, TracedKernel
from skaimz.kernels.states import few_states, joint_states, marginals

__all__ = ["GridKernel", "MarginalKernel", "StateTable", "by_row"]

# NumPyro's prefix of the first states of a chain, once for each step before the last of these.
EARLIER = "_PREV_"
# Factors that replace the sites whose density depends on the states.
OF_LATENTS, OF_OUTCOMES, OF_SHARED = "log_density_of_latents", "log_density_of_outcomes", "log_density_of_shared"


def by_row(density: Any, row_axis: int) -> Any:
    """Return the sum over all axes but that of the rows."""
    return jnp.moveaxis(density, row_axis, 0).reshape(density.shape[row_axis], -1).sum(axis=-1)


def own_name(name: str) -> str:
    """Return the name of a site, for NumPyro's name of the first states of an enumerated chain."""
    while name.startswith(EARLIER):
        name = name.removeprefix(EARLIER)
    return name


class Silent(Messenger):
    """Leave the densities of some sites out."""

    def __init__(self, fn: Callable | None = None, names: Collection[str] = ()):
        super().__init__(fn)
        self.names = names

    def process_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "sample" and own_name(msg["name"]) in self.names:
            msg["fn"] = msg["fn"].mask(False)


@dataclass(frozen=True)
class MarginalKernel(TracedKernel, ABC):
    """A kernel as a model without its discrete latent sites: they are summed out of the density.

    Sites whose density does not depend on the states stay as they are. The others are observed in factors.

    Attributes
    ----------
    spec : KernelSpec
        Description of the model, without the discrete sites.
    own : KernelSpec
        Description of the kernel itself.
    """

    own: KernelSpec = field(kw_only=True)

    def model(self, hyperparameters: Mapping[str, Any], rows: Mapping[str, Any], whole: Mapping[str, Any]) -> None:
        """Run the kernel in one state, and replace the densities that depend on the state by factors."""
        self.add_factors(Fixed(self, (hyperparameters, rows, whole), self._values(hyperparameters, rows, whole)))

    @abstractmethod
    def add_factors(self, fixed: "Fixed") -> None:
        """Add the density, summed over all states, of the sites that depend on them."""

    @abstractmethod
    def draw(self, fixed: "Fixed", key: Any) -> dict[str, Any]:
        """Draw states of the sites :attr:`drawn`, given the values of all other sites and what is observed.

        Sites whose states cannot be drawn are left out.
        """

    @abstractmethod
    def probabilities(self, fixed: "Fixed") -> dict[str, Any]:
        """Return the probabilities of the states of each discrete site, on the last axis; rows are on the first."""

    @abstractmethod
    def log_density_of_outcomes(self, fixed: "Fixed") -> Any:
        """Return the log density of all that is observed and depends on the states, given the values of other sites."""

    def log_likelihood(self, fixed: "Fixed") -> Any:
        """Return the log density of all that is observed, given the values of all sites that are not discrete."""
        names = {site.name for site in self.own.every_site if site.kind not in ("latent", "deterministic", "param")}
        with handlers.block():
            trace = handlers.trace(fixed.model({})).get_trace(*fixed.arguments)
        others = [trace[name] for name in names - set(self.own.by_state) if name in trace]
        return self.log_density_of_outcomes(fixed) + sum(site["fn"].log_prob(site["value"]).sum() for site in others)

    @property
    def drawn(self) -> tuple[Site, ...]:
        """Discrete sites that are no concern of a single row: shared by rows, of groups, or of a chain."""
        return tuple(site for site in self.own.discrete if site not in self.own.summed)

    @classmethod
    def without(cls, traced: TracedKernel, mixing: str | None, more: tuple[Site, ...] = ()) -> Self:
        """Return a kernel without its discrete sites, given why its rows mix, and sites to add."""
        own = traced.spec
        sites, only_fitted = (
            tuple(site for site in sites if site not in own.discrete) for sites in (own.sites, own.only_fitted)
        )
        spec = replace(own, sites=sites + more, only_fitted=only_fitted, fit_mixing=mixing, by_state=())
        return cls(traced.kernel, traced.static, spec, traced.subsampling, traced.seen, own=own)

    def own_model(self, *arguments: Mapping[str, Any]) -> Any:
        """Run the kernel itself."""
        return super().model(*arguments)

    def _values(self, *arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Run the kernel in one state with all latent sites that are not discrete visible, and return their values."""
        own = self.own
        n_rows = len(arguments[1][own.input])
        state = {site.name: first_state(site, n_rows) for site in own.discrete}
        latent = {site.name for site in own.latents}
        hidden = state.keys() | (set(own.by_state) - latent)
        run = handlers.trace(handlers.substitute(self.own_model, data=state))
        with Silent(names=set(own.by_state) & latent), handlers.block(hide=list(hidden)):
            trace = run.get_trace(*arguments)
        return {
            name: site["value"]
            for name, site in trace.items()
            if site["type"] in ("param", "mutable")
            or (site["type"] == "plate" and site["args"][1] not in (None, site["args"][0]))
            or (site["type"] == "sample" and not site["is_observed"] and name not in state)
        }


def first_state(site: Site, n_rows: int) -> Any:
    """Return a value of a discrete site."""
    assert site.states is not None
    return jnp.full(site.shape_on(n_rows), site.states[0], site.dtype)


class Fixed(NamedTuple):
    """A kernel with its arguments and the values of all latent sites that are not discrete.

    Attributes
    ----------
    kernel : MarginalKernel
    arguments : tuple of dict
    values : dict of str to array
    """

    kernel: MarginalKernel
    arguments: tuple[Mapping[str, Any], ...]
    values: Mapping[str, Any]

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.arguments[1][self.kernel.own.input])

    def model(self, states: Mapping[str, Any]) -> Any:
        """Return the kernel with these values and states."""
        # A key for random numbers that are no sites, such as those of dropout.
        model = handlers.substitute(self.kernel.own_model, data={**self.values, **states})
        return handlers.seed(model, rng_seed=0)


class StateTable(NamedTuple):
    """Log densities in each joint state of the sites that rows share (first axis) and of a row (second axis).

    Attributes
    ----------
    shared, shared_outcomes : array of shape (n_shared_states,)
        Densities without rows: of latent sites, discrete ones among them, and of what is observed.
    latents, outcomes : array of shape (n_shared_states, n_states, n_rows)
        Densities of each row.
    """

    shared: Any
    shared_outcomes: Any
    latents: Any
    outcomes: Any

    def row_densities(self) -> tuple[Any, Any]:
        """Return the densities of latent sites, and of outcomes given these, ``(n_shared_states, n_rows)``."""
        latents = logsumexp(self.latents, axis=1)
        return latents, logsumexp(self.latents + self.outcomes, axis=1) - latents

    def of_shared(self) -> Any:
        """Return the log density in each joint state of the shared sites, outcomes included."""
        return self.shared + self.shared_outcomes + sum(self.row_densities()).sum(axis=-1)

    def of_outcomes(self) -> Any:
        """Return the log density of all outcomes."""
        prior = self.shared + self.row_densities()[0].sum(axis=-1)
        return logsumexp(self.of_shared()) - logsumexp(prior)


@dataclass(frozen=True)
class GridKernel(MarginalKernel):
    """A kernel whose joint states are few: those of a row, and those of the sites that all rows share."""

    @classmethod
    def of(cls, traced: TracedKernel) -> "GridKernel | None":
        """Return the kernel with its discrete sites summed out; None if there are too many joint states."""
        own = traced.spec
        shared = [site for site in own.discrete if site not in own.summed]
        if own.fit_mixing or any(site.row_axis is not None for site in shared) or not few_states(shared):
            return None
        if shared:
            return cls.without(
                traced, f"the discrete sites {[site.name for site in shared]} are summed out over all rows"
            )
        row: dict[str, Any] = {"shape": (None, 0), "dtype": "float32", "row_axis": 0, "event_dim": 1}
        factors = (
            Site(name, kind, "Unit", dims=("rows", f"{name}_dim_1"), **row)
            for name, kind in ((OF_LATENTS, "latent factor"), (OF_OUTCOMES, "observed"))
        )
        return cls.without(traced, None, tuple(factors))

    def add_factors(self, fixed: Fixed) -> None:
        """Add a factor for each row, or one for all where rows share discrete sites."""
        table = self.table(fixed)
        if self.drawn:
            numpyro.factor(OF_OUTCOMES, logsumexp(table.of_shared(), axis=0))
            return
        if any(not self.own[name].rows_are_batched for name in self.own.by_state):
            # Sites without rows in the body of a loop, whose density is the same in all states.
            numpyro.factor(OF_SHARED, (table.shared + table.shared_outcomes)[0])
        latents, outcomes = table.row_densities()
        with numpyro.plate("rows_of_states", fixed.n_rows):
            if any(self.own[name].kind == "latent" for name in self.own.by_state):
                numpyro.factor(OF_LATENTS, latents[0])
            numpyro.factor(OF_OUTCOMES, outcomes[0])

    def table(self, fixed: Fixed) -> StateTable:
        """Return the log densities in all joint states."""
        own, n_rows = self.own, fixed.n_rows
        names = [*(site.name for site in own.discrete), *own.by_state]

        def of_state(shared: Mapping[str, Any], of_row: Mapping[str, Any]) -> tuple:
            with handlers.block():
                trace = handlers.trace(fixed.model({**shared, **of_row})).get_trace(*fixed.arguments)
            latents, outcomes = jnp.zeros((2, n_rows))
            shared_latents, shared_outcomes = jnp.zeros(2)
            for name in names:
                site, message = own[name], trace[name]
                density = message["fn"].log_prob(message["value"])
                density = density if message["scale"] is None else density * message["scale"]
                if site.rows_are_batched and site.kind == "latent":
                    latents = latents + by_row(density, site.row_axis or 0)
                elif site.rows_are_batched:
                    outcomes = outcomes + by_row(density, site.row_axis or 0)
                elif site.kind == "latent":
                    shared_latents = shared_latents + density.sum()
                else:
                    shared_outcomes = shared_outcomes + density.sum()
            return shared_latents, shared_outcomes, latents, outcomes

        of_shared, of_rows = joint_states(self.drawn, n_rows), joint_states(own.summed, n_rows)
        n_shared, n_states = (len(next(iter(states.values()), (0,))) for states in (of_shared, of_rows))

        def in_all_of_row(shared: Mapping[str, Any]) -> tuple:
            return jax.vmap(lambda of_row: of_state(shared, of_row), axis_size=n_states)(of_rows)

        shared_latents, shared_outcomes, *of_each_row = jax.vmap(in_all_of_row, axis_size=n_shared)(of_shared)
        return StateTable(shared_latents[:, 0], shared_outcomes[:, 0], *of_each_row)

    def log_density_of_outcomes(self, fixed: Fixed) -> Any:
        """Return the log density of all that is observed and depends on the states."""
        return self.table(fixed).of_outcomes()

    def draw(self, fixed: Fixed, key: Any) -> dict[str, Any]:
        """Draw the states of the sites that all rows share."""
        chosen = jax.random.categorical(key, self.table(fixed).of_shared())
        return {name: jnp.asarray(states)[chosen] for name, states in joint_states(self.drawn, fixed.n_rows).items()}

    def probabilities(self, fixed: Fixed) -> dict[str, Any]:
        """Return the probabilities of the states of each discrete site, on the last axis; rows are on the first."""
        table = self.table(fixed)
        of_shared = jax.nn.softmax(table.of_shared())
        of_rows = jnp.einsum("g,gkn->nk", of_shared, jax.nn.softmax(table.latents + table.outcomes, axis=1))
        return marginals(of_shared, self.drawn) | marginals(of_rows, self.own.summed)
