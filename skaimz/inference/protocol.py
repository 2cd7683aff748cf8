"""The protocol of samplers: the input and the output of engines, built in or written by users."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jax.flatten_util import ravel_pytree
from numpyro.infer.util import potential_energy

from skaimz.inference.chunks import Watch
from skaimz.inference.data import Data, steady, weighted_model
from skaimz.kernels import TracedKernel
from skaimz.runtime import one_at_a_time, shared

__all__ = ["Draws", "Posterior", "Run", "Sampler", "log_density_of"]

DENSITIES_KEPT = 64


@dataclass(frozen=True)
class Posterior:
    """A posterior on unconstrained space, in coordinates in which it is about as wide as one.

    Attributes
    ----------
    log_density : callable
        A pure JAX function of a position ``(size,)`` and of ``data``, up to a constant. It is the same object for equal
        kernels, so that they share compiled programs, provided that ``data`` is an argument of the program.
    data : pytree of arrays
        What ``log_density`` takes as its second argument.
    size : int
        Number of coordinates.
    begin : callable
        Returns a position ``(size,)`` with a finite density, where the chain of a number may begin.
    """

    log_density: Callable[[Any, Any], Any]
    data: Any
    size: int
    begin: Callable[[int], np.ndarray]


@dataclass(frozen=True)
class Run:
    """Seed, progress and earlier state of a run of a sampler.

    Attributes
    ----------
    seed : int
        Below 2**32; ``jax.random.key(seed)`` is a key of the sampler's own.
    watch : Watch
        ``with watch.phase("name", total) as phase: phase.advance(count)`` shows progress and calls back;
        ``watch.stopped`` is a reason to end early, or empty.
    state : tuple of array
        The state that an earlier run returned, to go on from; empty for a first run.
    num_samples : int or None
        Number of draws of each chain of a run that goes on; None for the number in the sampler's own settings.
    """

    seed: int
    watch: Watch
    state: tuple[np.ndarray, ...] = ()
    num_samples: int | None = None


@dataclass(frozen=True)
class Draws:
    """Result of a run of a sampler.

    Attributes
    ----------
    positions : array of shape (n_chains, n_draws, size)
    statistics : dict of str to array of shape (n_chains, n_draws)
        By ArviZ's names, such as ``diverging``, ``n_steps``, ``acceptance_rate``, ``energy`` and ``lp``.
    state : tuple of array
        State from which the sampler can go on; empty if it cannot.
    independent : bool
        Whether draws are independent, so that there are no chains to compare.
    """

    positions: np.ndarray
    statistics: Mapping[str, np.ndarray] = field(default_factory=dict)
    state: tuple[np.ndarray, ...] = ()
    independent: bool = False


@runtime_checkable
class Sampler(Protocol):
    """Anything that draws from a posterior: give an object with this method as ``inference``.

    With ``get_params`` and ``set_params``, as of :class:`sklearn.base.BaseEstimator`, its parameters can be searched as
    ``inference__<name>``.

    Examples
    --------
    A random walk for a posterior that is about as wide as one:

    >>> import jax
    >>> import numpy as np
    >>> from sklearn.base import BaseEstimator
    >>> from skaimz import NumPyroImpactRegressor
    >>> from skaimz.inference import Draws
    >>> class RandomWalk(BaseEstimator):
    ...     def __init__(self, length=0.5, num_samples=4000):
    ...         self.length, self.num_samples = length, num_samples
    ...
    ...     def sample(self, posterior, run):
    ...         density = jax.jit(posterior.log_density)
    ...         rng, chains = np.random.default_rng(run.seed), []
    ...         for chain in range(2):
    ...             here = posterior.begin(chain)
    ...             height, places = density(here, posterior.data), []
    ...             for _ in range(self.num_samples):
    ...                 there = here + self.length * rng.normal(size=posterior.size)
    ...                 new = density(there, posterior.data)
    ...                 if np.log(rng.uniform()) < new - height:
    ...                     here, height = there, new
    ...                 places.append(here)
    ...             chains.append(places)
    ...         return Draws(np.array(chains))
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(50, 1))
    >>> y = 2.0 * X[:, 0] + rng.normal(size=50)
    >>> model = NumPyroImpactRegressor(inference=RandomWalk(), random_state=0).fit(X, y)
    >>> model.posterior_["alpha"].shape
    (2, 4000)
    """

    def sample(self, posterior: Posterior, run: Run) -> Draws:
        """Draw from a posterior."""
        ...


@shared(maxsize=DENSITIES_KEPT)
def log_density_of(traced: TracedKernel) -> Callable[[Any, Data], Any]:
    """Return the log density of a kernel's posterior as a function of coordinates ``(size,)`` and data with units."""
    model = weighted_model(traced)

    @one_at_a_time
    def log_density(coordinates: Any, data: Data) -> Any:
        assert data.units is not None
        unpack = ravel_pytree(dict(data.units.middle))[1]
        position = data.units.position(unpack(coordinates))
        plain = data._replace(units=None)
        return -steady(lambda position: potential_energy(model, plain, {}, position), position, data.weight)

    return log_density
