"""NumPyro's nested sampling behind the protocol."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro import handlers

from skaimz.exceptions import EffectiveSampleSizeWarning, warn_user
from skaimz.inference.extras import Engine, drawn_again
from skaimz.inference.protocol import Draws, Posterior, Run
from skaimz.runtime import Purpose, key_of, one_at_a_time

__all__ = ["NestedSampling"]

# Options by where jaxns takes them.
CONSTRUCTION = frozenset({"max_samples", "num_live_points"})
TERMINATION = frozenset({"dlogZ"})
# Spread of the distribution that live points begin in, in units in which a posterior is about as wide as one.
WIDTH = 4.0
LEAST_EFFECTIVE = 400
# Numbers of live points, and how many points each may become.
LEAST_LIVE, LIVE_PER_COORDINATE, MOST_PER_LIVE = 500, 25, 100


@dataclass(repr=False)
class NestedSampling(Engine):
    """NumPyro's nested sampling, for posteriors of a few parameters with several modes.

    It needs the library jaxns before its version 3: ``pip install 'jaxns<3'``, which also installs a nightly build of
    TensorFlow Probability. For that reason no extra of this package installs it. Draws are independent.

    Parameters
    ----------
    num_samples : int, default=1000
        Draws, which are taken from the weighted points of the run.
    options : dict, optional
        ``num_live_points`` (25 for each unconstrained parameter, at least 500) and ``max_samples`` of
        ``jaxns.NestedSampler``, and ``dlogZ``, the remaining share of the evidence at which it ends.

    Notes
    -----
    Live points begin in a normal distribution four times as wide as the curvature of the posterior, or as the prior if
    the curvature does not describe the posterior. The likelihood is divided by this distribution, so that the posterior
    does not depend on it. All is computed in double precision. Fits share no compiled program, so that each takes about
    a minute. A run cannot be stopped: ``time_budget`` is refused.

    Examples
    --------
    >>> from skaimz.inference import NestedSampling
    >>> NestedSampling(options={"num_live_points": 1000})
    NestedSampling(options={'num_live_points': 1000})
    """

    num_samples: int = 1000

    def check(self) -> None:
        """Check that settings can be used.

        Raises
        ------
        ValueError, TypeError
            If a setting is out of range or of the wrong kind.
        ImportError
            If jaxns is not installed, or is too new for NumPyro.
        """
        self._check_engine(("num_samples",), CONSTRUCTION | TERMINATION)
        if self.time_budget is not None:
            raise ValueError("NestedSampling cannot be stopped: leave `time_budget` out, and lower `max_samples`.")
        _nested_sampler()

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
        """Return the weights, the log densities and the positions of the points of a run."""
        n_live = max(LEAST_LIVE, LIVE_PER_COORDINATE * posterior.size)
        options = {"num_live_points": n_live, **(self.options or {})}
        options.setdefault("max_samples", MOST_PER_LIVE * options["num_live_points"])
        with jax.enable_x64(True), run.watch.phase("nested sampling", 1) as phase:
            sampler = _nested_sampler()(
                _model(posterior),
                constructor_kwargs={name: options[name] for name in CONSTRUCTION & options.keys()},
                termination_kwargs={name: options[name] for name in TERMINATION & options.keys()},
            )
            one_at_a_time(sampler.run)(key_of(run.seed, Purpose.LIVE_POINTS), posterior.data)
            results = sampler._results
            phase.advance(1)
        n_points = int(results.total_num_samples)
        positions = np.asarray(results.samples["position"])[:n_points]
        log_weight = np.asarray(results.log_dp_mean)[:n_points]
        weight = np.exp(log_weight - log_weight.max())
        weight /= weight.sum()
        effective = 1 / np.square(weight).sum()
        if effective < LEAST_EFFECTIVE:
            warn_user(
                f"Nested sampling found {effective:.0f} effective draws, fewer than {LEAST_EFFECTIVE}. Raise "
                "`num_live_points` in `options` of `inference=NestedSampling(...)`.",
                EffectiveSampleSizeWarning,
            )
        return weight, np.asarray(results.log_L_samples)[:n_points] + _log_live(positions), positions


def _model(posterior: Posterior) -> Callable[[Any], None]:
    """Return a posterior as a model with a proper prior, in which live points begin."""

    def model(data: Any) -> None:
        begin = dist.Normal(0.0, WIDTH).expand([posterior.size]).to_event(1)
        position = numpyro.sample("position", begin)
        with handlers.block():
            density = posterior.log_density(position, data)
        numpyro.factor("density", density - _log_live(position))

    return model


def _log_live(position: Any) -> Any:
    """Return the log density of the distribution in which live points begin."""
    xp = np if isinstance(position, np.ndarray) else jnp
    return -(xp.square(position / WIDTH) / 2 + math.log(WIDTH) + math.log(2 * math.pi) / 2).sum(axis=-1)


def _nested_sampler() -> Any:
    """Import NumPyro's nested sampler, and keep jaxns from changing the process's precision and logging."""
    logger = logging.getLogger()
    handlers_before, level = list(logger.handlers), logger.level
    try:
        with jax.enable_x64(True):  # else jaxns sets it for all
            from numpyro.contrib.nested_sampling import NestedSampler
    except ImportError as error:
        raise ImportError("`NestedSampling` needs jaxns before its version 3: `pip install 'jaxns<3'`.") from error
    finally:
        logger.handlers[:] = handlers_before
        logger.setLevel(level)
    return NestedSampler
