"""Samplers of blackjax behind the protocol: NUTS, microcanonical chains and Pathfinder."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from skaimz.inference.blackjax_chains import sample_chains
from skaimz.inference.chains import Group, side_by_side, single_groups
from skaimz.inference.chunks import Phase
from skaimz.inference.extras import Engine, drawn_again, in_doubles, library, shapes_of, weighed
from skaimz.inference.protocol import Draws, Posterior, Run
from skaimz.kernels import ByValue
from skaimz.runtime import Purpose, compiled, key_of, shared

__all__ = ["BlackJAX"]

# Compiled code is counted in memory maps, of which a process may have 65530 by Linux's default.
PROGRAMS_KEPT = 12
# Draws whose densities are computed at a time.
BLOCK = 64
# Options of each algorithm, under blackjax's own names.
OPTIONS: dict[str, frozenset[str]] = {
    "nuts": frozenset(
        "initial_inverse_mass_matrix initial_step_size imm_shrinkage_to_previous is_mass_matrix_diagonal "
        "max_num_doublings target_acceptance_rate".split()
    ),
    "mclmc": frozenset(
        "desired_energy_var diagonal_preconditioning frac_tune1 frac_tune2 frac_tune3 l_factor num_effective_samples "
        "trust_in_estimate".split()
    ),
    "adjusted_mclmc": frozenset(
        "diagonal_preconditioning frac_tune1 frac_tune2 frac_tune3 max num_windows target target_num_integration_steps "
        "tuning_factor".split()
    ),
    "pathfinder": frozenset("ftol gtol maxcor maxiter maxls num_samples".split()),
}


@dataclass(repr=False)
class BlackJAX(Engine):
    """Samplers of the library blackjax, which ``pip install 'skaimz[blackjax]'`` brings.

    Parameters
    ----------
    algorithm : {"nuts", "mclmc", "adjusted_mclmc", "pathfinder"}, default="nuts"
        ``"nuts"`` adapts its step and mass matrix as Stan does (``blackjax.window_adaptation``).
        ``"mclmc"`` are microcanonical Langevin chains, tuned by ``blackjax.mclmc_find_L_and_step_size``. They are not
        adjusted: no step is rejected, so draws have a small bias. ``desired_energy_var`` bounds it; no diagnostic
        shows it. A step takes two gradients and is short: take many steps, and keep about one in ten by ``thinning``.
        ``"adjusted_mclmc"`` corrects each trajectory by a Metropolis step, and has no such bias.
        ``"pathfinder"`` draws from normal approximations along the way to a mode, and weighs these draws by the
        posterior (Pareto-smoothed importance sampling). It warns with :class:`skaimz.exceptions.GuideWarning` if the
        weights are too uneven. Its draws are independent.
    num_warmup : int, default=1000
        Adaptation steps of each chain. They run as one program, so the callback and the time budget take effect
        only at their end. Pathfinder has none.
    num_samples : int, default=1000
        Steps of each chain after adaptation; for Pathfinder, draws in all.
    num_chains : int, default=4
        Number of chains, which run on all cores at a time; for Pathfinder, of paths.
    thinning : int, default=1
        Keep one step in this many; ``num_samples // thinning`` draws remain a chain. Pathfinder keeps all.
    options : dict, optional
        Arguments of the algorithm and of its adaptation by blackjax's names, as in
        ``{"target_acceptance_rate": 0.95, "max_num_doublings": 12}`` for NUTS, ``{"desired_energy_var": 1e-4}`` for
        MCLMC or ``{"maxiter": 100}`` for Pathfinder.

    Notes
    -----
    Chains move in units of the posterior's curvature and start near its mode. If the curvature does not describe the
    posterior, they move in units of the prior's spread and start near the prior's median.

    Examples
    --------
    >>> from skaimz.inference import BlackJAX
    >>> BlackJAX(options={"target_acceptance_rate": 0.95}, num_chains=2)
    BlackJAX(options={'target_acceptance_rate': 0.95}, num_chains=2)
    """

    algorithm: str = "nuts"
    num_warmup: int = 1000
    num_samples: int = 1000
    num_chains: int = 4
    thinning: int = 1

    def check(self) -> None:
        """Check that settings can be used.

        Raises
        ------
        ValueError, TypeError
            If a setting is out of range or of the wrong kind.
        ImportError
            If blackjax is not installed.
        """
        if not isinstance(self.algorithm, str) or self.algorithm not in OPTIONS:
            raise ValueError(f"BlackJAX: `algorithm` must be one of {sorted(OPTIONS)}, got {self.algorithm!r}.")
        self._check_engine(("num_warmup", "num_samples", "num_chains", "thinning"), OPTIONS[self.algorithm])
        if self.thinning > self.num_samples:
            raise ValueError(
                f"BlackJAX: `thinning`={self.thinning} leaves no draw of `num_samples`={self.num_samples}."
            )
        library("blackjax", "blackjax", "BlackJAX")

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
        if self.algorithm == "pathfinder":
            return _sample_paths(self, posterior, run)
        return sample_chains(self, posterior, run)


@shared(maxsize=PROGRAMS_KEPT)
def _path_program(log_density: Callable, n_draws: int, options: ByValue, shapes: tuple) -> Any:
    """Make the program of a path, which returns its draws and their log densities, the posterior's and its own."""
    blackjax = library("blackjax", "blackjax", "BlackJAX")
    from blackjax.vi import pathfinder

    def path(number: Any, position: Any, data: Any, seed: Any) -> tuple[Any, Any, Any]:
        density = functools.partial(log_density, data=data)
        search, draw = jax.random.split(key_of(seed, Purpose.ENGINE_PATH, number))
        state, _ = blackjax.pathfinder.approximate(search, density, jnp.asarray(position), **options.value)
        positions, log_q = pathfinder.sample(draw, state, n_draws)
        return positions, jax.lax.map(density, positions, batch_size=min(BLOCK, n_draws)), log_q

    return compiled(path)


def _sample_paths(settings: BlackJAX, posterior: Posterior, run: Run) -> Draws:
    state = run.state or _paths(settings, posterior, run)
    return drawn_again(state, run.num_samples or settings.num_samples, run)


def _paths(settings: BlackJAX, posterior: Posterior, run: Run) -> tuple[np.ndarray, ...]:
    """Return weights of draws from all paths, their log densities, and the draws."""
    data, seed = posterior.data, np.uint32(run.seed)
    options = ByValue.of(dict(settings.options or {}))
    program = _path_program(posterior.log_density, settings.num_samples, options, shapes_of(data))
    position = posterior.begin(0)
    doubles = in_doubles(position)
    program.lower(np.uint32(0), position, data, seed).compile()

    def follow(group: Group, phase: Phase) -> Any:
        if run.watch.stopped:
            return None
        path = program(group.numbers, posterior.begin(int(group.numbers)), data, seed)
        path = jax.tree.map(np.asarray, path)
        phase.advance(1)
        return path

    groups = single_groups(settings.num_chains)
    with run.watch.phase("Pathfinder", settings.num_chains) as phase:
        paths = [path for path in side_by_side(follow, groups, phase, doubles) if path is not None]
    if not paths:
        raise RuntimeError(f"The fit stopped before the first path: {run.watch.stopped}. Allow more time.")
    positions, log_p, log_q = map(np.concatenate, zip(*paths, strict=True))
    return weighed(positions, log_p, log_q, "Pathfinder")
