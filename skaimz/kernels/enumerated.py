"""Kernels whose discrete sites NumPyro sums out with funsor: sites of groups, chains of states in a ``scan``."""

import importlib
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro
from numpyro import handlers
from numpyro.distributions import Distribution
from numpyro.primitives import Messenger

from skaimz.kernels.spec import Site, TracedKernel
from skaimz.kernels.summed import EARLIER, OF_OUTCOMES, Fixed, GridKernel, MarginalKernel, Silent, own_name

__all__ = ["EnumeratedKernel", "summed_out"]


def summed_out(traced: TracedKernel) -> MarginalKernel:
    """Return a kernel as a model whose discrete latent sites are summed out of the density.

    Raises
    ------
    ValueError
        If they have infinitely many states, or states that are not known beforehand.
    ImportError
        If funsor is needed and missing.
    """
    unknown = [site.name for site in traced.spec.discrete if site.states is None]
    if unknown:
        raise ValueError(
            f"The discrete latent sites {unknown} do not have a finite number of states that is known beforehand, so "
            "that they cannot be summed out. Use distributions with finitely many states, such as Categorical, sum "
            "them out in the kernel, for example with `numpyro.distributions.MixtureSameFamily`, or give draws made "
            "elsewhere as `posterior`."
        )
    return GridKernel.of(traced) or EnumeratedKernel.of(traced)


class Table(NamedTuple):
    """Numbers for the states of a discrete site, and of other discrete sites that its distribution depends on.

    Attributes
    ----------
    array : array
    names : tuple of str
        What each axis stands for: the name of a discrete site, of a plate, or of the steps of a chain.
    """

    array: Any
    names: tuple[str, ...]

    def without(self, names: set[str]) -> "Table":
        """Return sums over the axes of some names."""
        axes = tuple(axis for axis, name in enumerate(self.names) if name in names)
        return Table(self.array.sum(axis=axes), tuple(name for name in self.names if name not in names))

    def last(self, *names: str) -> Any:
        """Return the array with the axes of some names last, in this order."""
        return jnp.moveaxis(self.array, [self.names.index(name) for name in names], range(-len(names), 0))


@dataclass(frozen=True)
class EnumeratedKernel(MarginalKernel):
    """A kernel with many joint states, over which funsor sums along the kernel's plates and chains."""

    @classmethod
    def of(cls, traced: TracedKernel) -> "EnumeratedKernel":
        """Return the kernel with its discrete sites summed out."""
        own = traced.spec
        names = [site.name for site in own.discrete]
        _library(names)
        for site in own.discrete:
            assert site.states is not None
            if site.states != tuple(range(len(site.states))):
                raise ValueError(
                    f"The states of site {site.name!r} begin at {site.states[0]:g}, and NumPyro counts those that it "
                    "sums out from 0. Write the site with states from 0, and add the first one to its value."
                )
        return cls.without(traced, f"the discrete sites {names} are summed out over all rows")

    def add_factors(self, fixed: Fixed) -> None:
        """Add one factor for all rows."""
        numpyro.factor(OF_OUTCOMES, self._log_density(fixed)[0])

    def draw(self, fixed: Fixed, key: Any) -> dict[str, Any]:
        """Draw a joint state of all discrete sites, and return those of the sites :attr:`drawn`."""
        tables = self._tables(fixed)
        if self._is_chain(tables):
            states = self._draw_chain(tables, key)
        elif any(name.startswith(EARLIER) for name in tables):
            return {}
        else:
            states = self._draw_groups(fixed, key)
        return {site.name: _shaped(states[site.name], site, fixed).astype(site.dtype) for site in self.drawn}

    def probabilities(self, fixed: Fixed) -> dict[str, Any]:
        """Return the probabilities of the states of each discrete site, on the last axis; rows are on the first."""
        tables = self._tables(fixed)
        by_site = {}
        for site in self.own.discrete:
            steps = []
            for name in _steps_of(site, tables):
                table = tables[name].without(tables.keys() - {name})
                steps.append(_with_time(table, name, site).last(name))
            found = _shaped(jnp.concatenate(steps) if len(steps) > 1 else steps[0], site, fixed, len(site.states or ()))
            by_site[site.name] = jnp.moveaxis(found, site.row_axis or 0, 0)
        return by_site

    def log_density_of_outcomes(self, fixed: Fixed) -> Any:
        """Return the log density of all that is observed and depends on the states."""
        observed = set(self.own.by_state) - {site.name for site in self.own.latents}
        return self._log_density(fixed)[0] - self._log_density(fixed, left_out=observed)[0]

    def _log_density(
        self, fixed: Fixed, tilts: Mapping[str, Any] | None = None, left_out: Collection[str] = ()
    ) -> tuple[Any, dict[str, Any]]:
        """Return the log density of the sites that depend on the states, and the trace."""
        own = self.own
        by_state = {site.name for site in own.discrete} | set(own.by_state)
        left_out = {site.name for site in own.every_site if site.name not in by_state} | set(left_out)
        funsor = _library([])
        model = funsor.enum(funsor.config_enumerate(fixed.model({})), first_available_dim=self._first_dim(fixed))
        with handlers.block():
            model = _Tilted(Silent(model, left_out), tilts or {})
            density, trace = funsor.log_density(model, fixed.arguments, {}, {})
        return density, trace

    def _tables(self, fixed: Fixed) -> dict[str, Table]:
        """Return the posterior probabilities of each discrete site's states, jointly with those they depend on.

        They are derivatives of the log density: in a number that is added to the log density of a state.
        """
        names: dict[str, tuple[str, ...]] = {}
        discrete = {site.name for site in self.own.discrete}

        def densities() -> dict[str, Any]:
            _, trace = self._log_density(fixed)
            found = {name: site for name, site in trace.items() if own_name(name) in discrete}
            tables = {name: site["fn"].log_prob(site["value"]) for name, site in found.items()}
            for name, table in tables.items():
                of_axis = found[name]["infer"]["dim_to_name"]
                names[name] = tuple(of_axis.get(axis, "") for axis in range(-len(table.shape), 0))
            return tables

        shapes = jax.eval_shape(densities)
        zeros = jax.tree.map(lambda table: jnp.zeros(table.shape, table.dtype), shapes)
        slopes = jax.grad(lambda tilts: self._log_density(fixed, tilts)[0])(zeros)
        return {name: Table(slope, names[name]).without({""}) for name, slope in slopes.items()}

    def _is_chain(self, tables: Mapping[str, Table]) -> bool:
        """Whether the only discrete site is a chain in which a state depends on the one before it alone."""
        return len(self.own.discrete) == 1 and set(tables) == {
            self.own.discrete[0].name,
            EARLIER + self.own.discrete[0].name,
        }

    def _draw_chain(self, tables: Mapping[str, Table], key: Any) -> dict[str, Any]:
        """Draw a chain from the joint probabilities of each two states that follow one another."""
        (site,) = self.own.discrete
        before, now = EARLIER + site.name, site.name
        first_key, *_ = keys = jax.random.split(key)
        first = jax.random.categorical(first_key, jnp.log(tables[before].last(before)))
        later = _with_time(tables[now], now, site)
        pairs = jnp.log(later.last(before, now)) if before in later.names else jnp.log(later.last(now))

        def step(state: Any, of_step: tuple) -> tuple[Any, Any]:
            pair, key = of_step
            if before in later.names:
                pair = jnp.take_along_axis(pair, state[..., None, None], axis=-2)[..., 0, :]
            state = jax.random.categorical(key, pair)
            return state, state

        _, states = jax.lax.scan(step, first, (pairs, jax.random.split(keys[1], len(pairs))))
        return {site.name: jnp.concatenate([first[None], states])}

    def _draw_groups(self, fixed: Fixed, key: Any) -> dict[str, Any]:
        """Draw states by NumPyro, which cannot do so in a ``scan``."""
        funsor = _library([])
        model = funsor.config_enumerate(fixed.model({}))
        drawing = funsor.infer_discrete(model, first_available_dim=self._first_dim(fixed), temperature=1, rng_key=key)
        with handlers.block(), warnings.catch_warnings():
            # funsor asks for double precision whatever JAX computes in.
            warnings.filterwarnings("ignore", "Explicitly requested dtype", UserWarning)
            trace = handlers.trace(drawing).get_trace(*fixed.arguments)
        return {site.name: trace[site.name]["value"] for site in self.own.discrete}

    def _first_dim(self, fixed: Fixed) -> int:
        """Return the dimension to the left of all plates."""
        with handlers.block():
            trace = handlers.trace(fixed.model({})).get_trace(*fixed.arguments)
        frames = (frame for site in trace.values() for frame in site.get("cond_indep_stack", ()))
        return min((frame.dim for frame in frames if frame.dim is not None), default=0) - 1


class _Tilted(Messenger):
    """Add numbers to the log densities of some sites."""

    def __init__(self, fn: Any, tilts: Mapping[str, Any]):
        super().__init__(fn)
        self.tilts = tilts

    def process_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "sample" and msg["name"] in self.tilts:
            msg["fn"] = _TiltedDistribution(msg["fn"], self.tilts[msg["name"]])


class _TiltedDistribution(Distribution):
    def __init__(self, base: Distribution, tilt: Any):
        self.base, self.tilt = base, tilt
        super().__init__(base.batch_shape, base.event_shape)

    def log_prob(self, value: Any) -> Any:
        return self.base.log_prob(value) + self.tilt


def _steps_of(site: Site, tables: Mapping[str, Table]) -> list[str]:
    """Return the names of the tables of a site, those of the first states of a chain in their order."""
    return sorted((name for name in tables if own_name(name) == site.name), key=len, reverse=True)


def _with_time(table: Table, name: str, site: Site) -> Table:
    """Return a table with an axis of the steps of a chain first, which a single state has not."""
    time = next((axis for axis in table.names if axis.startswith("_time_")), None)
    if time is not None:
        first = table.names.index(time)
        return Table(jnp.moveaxis(table.array, first, 0), (time, *(each for each in table.names if each != time)))
    return Table(table.array[None], ("_time_", *table.names)) if name != site.name else table


def _shaped(array: Any, site: Site, fixed: Fixed, *more: int) -> Any:
    """Return an array in the shape of a site, with further axes."""
    return array.reshape(*(fixed.n_rows if size is None else size for size in site.shape), *more)


def _library(names: list[str]) -> Any:
    """Import NumPyro's interface to funsor, or say which extra brings it."""
    try:
        return importlib.import_module("numpyro.contrib.funsor")
    except ImportError as error:
        raise ImportError(
            f"The discrete sites {names} have too many joint states to sum over one by one, and to sum along the "
            "kernel's plates and chains needs funsor: `pip install 'skaimz[discrete]'`."
        ) from error
