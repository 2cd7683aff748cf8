"""NumPyro's Stein variational inference behind the protocol."""

import numbers
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro import handlers
from numpyro.infer.autoguide import AutoNormal
from numpyro.optim import Adagrad

from skaimz.inference.chunks import run_in_chunks
from skaimz.inference.extras import Engine, drawn_again, shapes_of, weighed
from skaimz.inference.protocol import Draws, Posterior, Run
from skaimz.kernels import ByValue, compiled, key_of, one_at_a_time, shared

__all__ = ["SteinVI"]

# Compiled code is counted in memory maps, of which a process may have 65530 by Linux's default.
PROGRAMS_KEPT = 12
# Purposes of random numbers, so that no two of them share a stream.
PARTICLES, DRAW = 27, 28
# Draws that are weighted for each that is returned, and those whose densities are computed at a time.
PROPOSALS = 4
BLOCK = 64
OPTIONS = frozenset({"loss_temperature", "num_elbo_particles", "repulsion_temperature"})


@dataclass(repr=False)
class SteinVI(Engine):
    """A mixture of normal distributions that repel one another: NumPyro's Stein variational inference.

    For posteriors with several modes, which a single guide or chain would miss. Draws of the mixture are weighed by the
    posterior (Pareto-smoothed importance sampling); :class:`skaimz.exceptions.GuideWarning` tells where the weights are
    too uneven for that.

    Parameters
    ----------
    num_particles : int, default=10
        Number of normal distributions, each with a diagonal covariance matrix.
    num_steps : int, default=2000
        Number of steps of the optimiser (Adagrad).
    learning_rate : float, default=0.2
        Step size of the optimiser, in units of the posterior's curvature, or of the prior's spread where that says
        nothing.
    num_samples : int, default=1000
        Draws, which are independent.
    options : dict, optional
        Further arguments of ``numpyro.contrib.einstein.SteinVI``: ``loss_temperature``, ``num_elbo_particles`` and
        ``repulsion_temperature``.

    Examples
    --------
    >>> from skaimz.inference import SteinVI
    >>> SteinVI(num_particles=20)
    SteinVI(num_particles=20)
    """

    num_particles: int = 10
    num_steps: int = 2000
    learning_rate: float = 0.2
    num_samples: int = 1000

    def check(self) -> None:
        """Check that settings can be used.

        Raises
        ------
        ValueError, TypeError
            If a setting is out of range or of the wrong kind.
        """
        self._check_engine(("num_particles", "num_steps", "num_samples"), OPTIONS)
        rate = self.learning_rate
        if not isinstance(rate, numbers.Real) or isinstance(rate, bool) or not 0 < rate < float("inf"):
            raise ValueError(f"SteinVI: `learning_rate` must be a positive finite number, got {rate!r}.")

    def sample(self, posterior: Posterior, run: Run) -> Draws:
        """Draw from a posterior.

        Parameters
        ----------
        posterior : Posterior
        run : Run

        Returns
        -------
        Draws
        """
        state = run.state or self._weighted(posterior, run)
        return drawn_again(state, run.num_samples or self.num_samples, run)

    def _weighted(self, posterior: Posterior, run: Run) -> tuple[np.ndarray, ...]:
        data, rate, seed = posterior.data, float(self.learning_rate), np.uint32(run.seed)
        programs = _programs(
            posterior.log_density,
            posterior.size,
            self.num_particles,
            PROPOSALS * self.num_samples,
            ByValue.of(dict(self.options or {})),
            shapes_of(data),
        )
        state = programs.init(data, rate, seed)

        def step(start: int, count: int) -> None:
            nonlocal state
            state = jax.block_until_ready(programs.advance(state, data, rate, count))
            phase.advance(count)

        with run.watch.phase("SteinVI", self.num_steps) as phase:
            run_in_chunks(step, self.num_steps, watch=run.watch, first=64)
        return weighed(*map(np.asarray, programs.draw(state, data, rate, seed)), "SteinVI")


class Programs(NamedTuple):
    """Compiled parts of a fit, each a function of arrays only."""

    init: Any
    advance: Any
    draw: Any


@shared(maxsize=PROGRAMS_KEPT)
def _programs(
    log_density: Callable, size: int, num_particles: int, n_draws: int, options: ByValue, shapes: tuple
) -> Programs:
    """Make the programs for one shape of data, so that the cache's bound is one on compiled code."""
    from numpyro.contrib import einstein

    def model(data: Any) -> None:
        # A density of one everywhere, which can be drawn from: NumPyro does so to see what the model is.
        position = numpyro.sample("position", dist.Normal().expand([size]).to_event(1).mask(False))
        with handlers.block():
            density = log_density(position, data)
        numpyro.factor("density", density)

    def built(data: Any, rate: Any, seed: Any) -> tuple[Any, Any]:
        """Build the inference anew; compiled programs share nothing but arrays."""
        kernel = einstein.RBFKernel()
        stein = einstein.SteinVI(model, AutoNormal(model), Adagrad(rate), kernel, num_particles, **options.value)
        return stein, stein.init(key_of(seed, PARTICLES), data)

    def init(data: Any, rate: Any, seed: Any) -> Any:
        return built(data, rate, seed)[1]

    def advance(state: Any, data: Any, rate: Any, count: Any) -> Any:
        stein, _ = built(data, rate, 0)
        return jax.lax.fori_loop(0, count, lambda _, state: stein.update(state, data)[0], state)

    def draw(state: Any, data: Any, rate: Any, seed: Any) -> tuple[Any, Any, Any]:
        stein, _ = built(data, rate, 0)
        params = stein.get_params(state)
        parts = dist.Normal(params["position_auto_loc"], params["position_auto_scale"]).to_event(1)
        mixture = dist.MixtureSameFamily(dist.Categorical(jnp.full(num_particles, 1.0 / num_particles)), parts)
        positions = mixture.sample(key_of(seed, DRAW), (n_draws,))
        log_p = jax.lax.map(lambda position: log_density(position, data), positions, batch_size=BLOCK)
        return positions, log_p, mixture.log_prob(positions)

    return Programs(*(compiled(one_at_a_time(part)) for part in (init, advance, draw)))
