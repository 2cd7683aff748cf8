"""Kernels whose discrete sites NumPyro sums out with funsor: sites of groups, chains of states in a ``scan``."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
from numpyro import handlers

from skaimz.kernels.spec import Site, TracedKernel
from skaimz.kernels.summed import OF_OUTCOMES, Fixed, GridKernel, MarginalKernel, Silent

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
        sites = tuple(site for site in own.sites if site.name not in names)
        mixing = f"the discrete sites {names} are summed out over all rows"
        return cls(traced.kernel, traced.static, replace(own, sites=sites, fit_mixing=mixing, by_state=()), own)

    def add_factors(self, fixed: Fixed) -> None:
        """Add one factor for all rows."""
        numpyro.factor(OF_OUTCOMES, self.log_density(fixed, observed=True))

    def log_density(self, fixed: Fixed, *, observed: bool) -> Any:
        """Return the log density of the sites that depend on the states: with those observed, or without them."""
        own = self.own
        latents = {site.name for site in own.latents}
        left_out = {site.name for site in own.sites} - {site.name for site in own.discrete} - set(own.by_state)
        left_out |= set() if observed else set(own.by_state) - latents
        funsor = _library([])
        with handlers.block():
            model = Silent(self._enumerated(fixed), left_out)
            density, _ = funsor.log_density(model, fixed.arguments, {}, {})
        return density

    def draw(self, fixed: Fixed, key: Any) -> dict[str, Any]:
        """Draw a joint state of all discrete sites, and return those of the sites :attr:`drawn`."""
        return self._drawn(fixed, key, self.drawn)

    def probabilities(self, fixed: Fixed, key: Any) -> dict[str, Any]:
        """Return one for the states of a draw, and zero for all others, on the last axis."""
        sites = self.own.discrete
        states = self._drawn(fixed, key, sites)
        return {
            site.name: jax.nn.one_hot(jnp.moveaxis(states[site.name], site.row_axis or 0, 0), len(site.states or ()))
            for site in sites
        }

    def _drawn(self, fixed: Fixed, key: Any, sites: Sequence[Site]) -> dict[str, Any]:
        funsor = _library([])
        model = funsor.config_enumerate(fixed.model({}))
        drawing = funsor.infer_discrete(model, first_available_dim=self._first_dim(fixed), temperature=1, rng_key=key)
        with handlers.block():
            trace = handlers.trace(drawing).get_trace(*fixed.arguments)
        return {site.name: trace[site.name]["value"].astype(site.dtype) for site in sites}

    def _enumerated(self, fixed: Fixed) -> Any:
        funsor = _library([])
        return funsor.enum(funsor.config_enumerate(fixed.model({})), first_available_dim=self._first_dim(fixed))

    def _first_dim(self, fixed: Fixed) -> int:
        """Return the dimension to the left of all plates."""
        with handlers.block():
            trace = handlers.trace(fixed.model({})).get_trace(*fixed.arguments)
        frames = (frame for site in trace.values() for frame in site.get("cond_indep_stack", ()))
        return min((frame.dim for frame in frames if frame.dim is not None), default=0) - 1


def _library(names: list[str]) -> Any:
    """Import NumPyro's interface to funsor, or say which extra brings it."""
    try:
        return importlib.import_module("numpyro.contrib.funsor")
    except ImportError as error:
        raise ImportError(
            f"The discrete sites {names} have too many joint states to sum over one by one, and to sum along the "
            "kernel's plates and chains needs funsor: `pip install 'skaimz[discrete]'`."
        ) from error
