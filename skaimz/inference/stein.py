"""NumPyro's Stein variational inference behind the protocol."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro import handlers
from numpyro.contrib import einstein
from numpyro.infer import init_to_uniform

from skaimz.inference.chunks import run_in_chunks
from skaimz.inference.extras import Engine, shapes_of
from skaimz.inference.guides import GUIDES
from skaimz.inference.protocol import Draws, Posterior, Run
from skaimz.kernels import ByValue
from skaimz.runtime import Purpose, compiled, key_of, one_at_a_time, shared

__all__ = ["SteinVI"]

PROGRAMS_KEPT = 12
KINDS = {
    name: GUIDES[name]
    for name in ("auto_delta", "auto_normal", "auto_diagonal_normal", "auto_multivariate_normal", "auto_lowrank")
}
OPTIONS = frozenset({"num_elbo_particles", "loss_temperature", "repulsion_temperature"})


@dataclass(repr=False)
class SteinVI(Engine):
    """NumPyro's Stein variational inference: a mixture of guides, the particles, that repel one another.

    A ready ``numpyro.contrib.einstein.SteinVI`` object of the kernel can be given as ``inference``. It is read as these
    settings.

    Parameters
    ----------
    guide : str, default="auto_normal"
        Kind of each particle: ``"auto_delta"``, ``"auto_normal"``, ``"auto_diagonal_normal"``,
        ``"auto_multivariate_normal"`` or ``"auto_lowrank"``.
    num_particles : int, default=10
    num_steps : int, default=2000
    num_samples : int, default=1000
        Draws, as many from each particle. Particles that are points give one draw each.
    optim : NumPyro optimiser, optional
        ``numpyro.optim.Adagrad(0.05)`` where None.
    kernel_fn : numpyro.contrib.einstein.SteinKernel, optional
        ``RBFKernel()`` where None.
    options : dict, optional
        ``num_elbo_particles``, ``loss_temperature`` and ``repulsion_temperature`` of NumPyro's class.

    Notes
    -----
    Particles move in units of the posterior's curvature, or of the prior's spread if the curvature does not describe
    the posterior, and all steps see all rows. Draws are independent. NumPyro adds up the attraction of particles and
    averages their repulsion, so that many particles are closer together than the posterior is wide.

    Examples
    --------
    >>> from skaimz.inference import SteinVI
    >>> SteinVI("auto_delta", num_particles=50)
    SteinVI(guide='auto_delta', num_particles=50)
    """

    guide: str = "auto_normal"
    num_particles: int = 10
    num_steps: int = 2000
    num_samples: int = 1000
    optim: Any = None
    kernel_fn: Any = None

    @classmethod
    def of(cls, ready: einstein.SteinVI) -> Self:
        """Read a ready NumPyro object as settings."""
        names = {kind: name for name, kind in KINDS.items()}
        if type(ready.guide) not in names:
            raise ValueError(
                f"The guide of the NumPyro SteinVI object is {ready.guide!r}, but its particles must be of one of the "
                f"classes {[kind.__name__ for kind in KINDS.values()]}."
            )
        if getattr(ready.non_mixture_params_fn, "__module__", None) != einstein.SteinVI.__module__:
            raise ValueError(
                "The NumPyro SteinVI object has a `non_mixture_guide_params_fn`: leave it out, because the particles "
                "have all parameters of the guide."
            )
        options = {
            "num_elbo_particles": ready.stein_loss.elbo_num_particles,
            "loss_temperature": ready.loss_temperature,
            "repulsion_temperature": ready.repulsion_temperature,
        }
        settings = cls(
            guide=names[type(ready.guide)],
            num_particles=ready.num_stein_particles,
            optim=ready.optim,
            kernel_fn=ready.kernel_fn,
            options=options,
        )
        settings.own_arguments = tuple(ready.static_kwargs.items())
        settings.own_models = (("The NumPyro SteinVI object", ready.model),)
        return settings

    def check(self) -> None:
        """Check that settings can be used.

        Raises
        ------
        ValueError, TypeError
            If a setting is out of range or of the wrong kind.
        """
        if not isinstance(self.guide, str) or self.guide not in KINDS:
            raise ValueError(f"SteinVI: `guide` must be one of {sorted(KINDS)}, got {self.guide!r}.")
        if self.kernel_fn is not None and not hasattr(self.kernel_fn, "compute"):
            raise TypeError(
                f"SteinVI: `kernel_fn` must be a kernel of numpyro.contrib.einstein, got {self.kernel_fn!r}."
            )
        self._check_engine(("num_particles", "num_steps", "num_samples"), OPTIONS)

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
        optim = numpyro.optim.Adagrad(0.05) if self.optim is None else self.optim
        kernel = einstein.RBFKernel() if self.kernel_fn is None else self.kernel_fn
        options = {"num_stein_particles": self.num_particles, **(self.options or {})}
        settings = tuple(map(ByValue.of, (optim, kernel, options)))
        programs = _programs(posterior.log_density, posterior.size, self.guide, settings, shapes_of(posterior.data))
        params = run.state or _moved(programs, posterior.data, run, self.num_steps)
        number = (
            1 if self.guide == "auto_delta" else math.ceil((run.num_samples or self.num_samples) / self.num_particles)
        )
        purpose = Purpose.FRESH_PARTICLE_DRAW if run.state else Purpose.PARTICLE_DRAW
        positions = programs.draw(params, posterior.data, np.uint32(run.seed), int(purpose), number)
        return Draws(np.asarray(positions)[None], state=params, independent=True)


class Programs(NamedTuple):
    """Compiled parts of a run: the first state, steps, the parameters of a state, and draws."""

    begin: Callable
    advance: Callable
    params: Callable
    draw: Callable


@shared(maxsize=PROGRAMS_KEPT)
def _programs(log_density: Callable, size: int, guide: str, settings: tuple[ByValue, ...], shapes: tuple) -> Programs:
    """Make the programs of an optimiser, a kernel and options of NumPyro's class."""

    def model(data: Any) -> None:
        # NumPyro draws the site once; its own density does not count.
        position = numpyro.sample("position", dist.Normal(0.0, 1.0).expand([size]).to_event(1).mask(False))
        with handlers.block():
            density = log_density(position, data)
        numpyro.factor("density", density)

    def start(key: Any, data: Any) -> tuple[einstein.SteinVI, Any]:
        """Build NumPyro's object anew, which learns the parameters' constraints from its first state."""
        particle = KINDS[guide](model, init_loc_fn=init_to_uniform)
        optim, kernel, options = (setting.value for setting in settings)
        stein = einstein.SteinVI(model, particle, optim, kernel, **options)
        return stein, stein.init(key, data)

    def params_of(stein: einstein.SteinVI, state: Any) -> tuple:
        params = stein.get_params(state)
        return tuple(params[name] for name in sorted(params))

    @compiled
    @one_at_a_time
    def begin(data: Any, seed: Any) -> Any:
        return start(key_of(seed, Purpose.PARTICLES), data)[1]

    @compiled
    @one_at_a_time
    def advance(state: Any, data: Any, count: Any) -> Any:
        stein, _ = start(jax.random.key(0), data)
        return jax.lax.fori_loop(0, count, lambda _, state: stein.update(state, data)[0], state)

    @compiled
    @one_at_a_time
    def params(state: Any, data: Any) -> tuple:
        return params_of(start(jax.random.key(0), data)[0], state)

    def draw(values: tuple, data: Any, seed: Any, purpose: Any, number: int) -> Any:
        stein, state = start(jax.random.key(0), data)
        names = sorted(stein.get_params(state))

        def of_particle(key: Any, values: tuple) -> Any:
            named = dict(zip(names, values, strict=True))
            return stein.guide.sample_posterior(key, named, sample_shape=(number,))["position"]

        keys = jax.random.split(key_of(seed, purpose), len(values[0]))
        return jax.vmap(of_particle)(keys, values).reshape(-1, size)

    return Programs(begin, advance, params, compiled(one_at_a_time(draw), static_argnames="number"))


def _moved(programs: Programs, data: Any, run: Run, num_steps: int) -> tuple[np.ndarray, ...]:
    """Let the particles move, and return the parameters of their guides, in the order of their names."""
    state = programs.begin(data, np.uint32(run.seed))
    with run.watch.phase("SteinVI", num_steps) as phase:

        def step(start: int, count: int) -> None:
            nonlocal state
            state = jax.block_until_ready(programs.advance(state, data, count))
            phase.advance(count)

        run_in_chunks(step, num_steps, watch=run.watch)
    return tuple(map(np.asarray, programs.params(state, data)))
