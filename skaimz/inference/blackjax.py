"""Samplers of blackjax behind the protocol: NUTS, microcanonical chains and Pathfinder."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from skaimz.inference.chunks import CHUNK_STEPS, Phase, run_in_chunks
from skaimz.inference.extras import Engine, drawn_again, in_doubles, library, shapes_of, warn_of_stop, weighed
from skaimz.inference.mcmc import side_by_side
from skaimz.inference.protocol import Draws, Posterior, Run
from skaimz.inference.result import pack_state, unpack_state
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
        adjusted: no step is rejected, so that draws carry a small bias, which ``desired_energy_var`` bounds and no
        diagnostic shows. A step takes two gradients and moves a short way: take many, and keep one in ten or so by
        ``thinning``.
        ``"adjusted_mclmc"`` corrects each trajectory by a Metropolis step, and has no such bias.
        ``"pathfinder"`` draws from normal approximations along the way to a mode, and weighs these draws by the
        posterior (Pareto-smoothed importance sampling); :class:`skaimz.exceptions.GuideWarning` tells where the weights
        are too uneven for that. Its draws are independent.
    num_warmup : int, default=1000
        Adaptation steps of each chain. They are one program, so that a callback sees them at their end, and a time
        budget that runs out meanwhile ends the fit after them. Pathfinder has none.
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
    Chains move in units of the posterior's curvature, or of the prior's spread where that says nothing, and start near
    the mode or the prior's median.

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
        _library()

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
        return _sample_chains(self, posterior, run)


def _library() -> Any:
    return library("blackjax", "blackjax", "BlackJAX")


# Chains


class Algorithm(NamedTuple):
    """An algorithm of blackjax for one density.

    Attributes
    ----------
    tune : callable
        Returns a state and what was tuned, of a key and a position.
    step : callable
        Returns the next state and statistics of the step, of a key, a state and what was tuned.
    """

    tune: Callable
    step: Callable


class Chain(NamedTuple):
    """Where a chain stands: the sampler's own state, what was tuned for it, and its random numbers."""

    state: Any
    tuned: Any
    key: Any
    n_steps: Any


class Programs(NamedTuple):
    """Compiled parts of a chain, each a function of arrays only."""

    begin: Any
    advance: Any


def _nuts(density: Callable, num_warmup: int, options: Mapping[str, Any]) -> Algorithm:
    blackjax = _library()
    kernel_options = {name: options[name] for name in ("max_num_doublings",) if name in options}

    def tune(key: Any, position: Any) -> tuple[Any, Any]:
        # What each step of the adaptation did would fill memory.
        warm_up = blackjax.window_adaptation(blackjax.nuts, density, adaptation_info_fn=lambda *_: None, **options)
        (state, parameters), _ = warm_up.run(key, position, num_warmup)
        return state, {name: jnp.asarray(parameters[name]) for name in ("step_size", "inverse_mass_matrix")}

    def step(key: Any, state: Any, tuned: Any) -> tuple[Any, dict[str, Any]]:
        state, info = blackjax.nuts(density, **tuned, **kernel_options).step(key, state)
        return state, {
            "diverging": info.is_divergent,
            "n_steps": info.num_integration_steps,
            "tree_depth": info.num_trajectory_expansions,
            "acceptance_rate": info.acceptance_rate,
            "energy": info.energy,
            "lp": state.logdensity,
            "step_size": tuned["step_size"],
        }

    return Algorithm(tune, step)


def _mclmc(density: Callable, num_warmup: int, options: Mapping[str, Any]) -> Algorithm:
    blackjax = _library()
    kernel = blackjax.mclmc.build_kernel()

    def tune(key: Any, position: Any) -> tuple[Any, Any]:
        begin, tuning = jax.random.split(key)
        state, tuned, _ = blackjax.mclmc_find_L_and_step_size(
            mclmc_kernel=kernel,
            num_steps=num_warmup,
            state=blackjax.mclmc.init(position, density, begin),
            rng_key=tuning,
            logdensity_fn=density,
            **{**_thirds(3), **options},
        )
        return state, jax.tree.map(jnp.asarray, tuned)

    def step(key: Any, state: Any, tuned: Any) -> tuple[Any, dict[str, Any]]:
        state, info = kernel(
            rng_key=key,
            state=state,
            logdensity_fn=density,
            inverse_mass_matrix=tuned.inverse_mass_matrix,
            L=tuned.L,
            step_size=tuned.step_size,
        )
        return state, {
            "diverging": ~info.nonans,
            "energy_error": info.energy_change,
            "lp": state.logdensity,
            "step_size": tuned.step_size,
        }

    return Algorithm(tune, step)


def _adjusted_mclmc(density: Callable, num_warmup: int, options: Mapping[str, Any]) -> Algorithm:
    blackjax = _library()
    from blackjax.mcmc.adjusted_mclmc_dynamic import make_random_trajectory_length_fn

    dynamic = blackjax.adjusted_mclmc_dynamic
    kernel = dynamic.build_kernel(integration_steps_fn=make_random_trajectory_length_fn(True))

    def tune(key: Any, position: Any) -> tuple[Any, Any]:
        begin, tuning = jax.random.split(key)
        state, tuned, _ = blackjax.adjusted_mclmc_find_L_and_step_size(
            mclmc_kernel=kernel,
            logdensity_fn=density,
            num_steps=num_warmup,
            state=dynamic.init(position, density, begin),
            rng_key=tuning,
            **{"target": 0.9, **_thirds(2), **options},
        )
        return state, jax.tree.map(jnp.asarray, tuned)

    def step(key: Any, state: Any, tuned: Any) -> tuple[Any, dict[str, Any]]:
        state, info = kernel(
            rng_key=key,
            state=state,
            logdensity_fn=density,
            step_size=tuned.step_size,
            inverse_mass_matrix=tuned.inverse_mass_matrix,
            integration_steps_params=(tuned.L / tuned.step_size,),
        )
        return state, {
            "diverging": info.is_divergent,
            "n_steps": info.num_integration_steps,
            "acceptance_rate": info.acceptance_rate,
            "energy": info.energy,
            "lp": state.logdensity,
            "step_size": tuned.step_size,
        }

    return Algorithm(tune, step)


def _thirds(n_phases: int) -> dict[str, float]:
    """Divide the adaptation among its phases; blackjax counts each as a share of all steps."""
    return {f"frac_tune{phase}": 1.0 / n_phases for phase in range(1, n_phases + 1)}


ALGORITHMS: dict[str, Callable[..., Algorithm]] = {"nuts": _nuts, "mclmc": _mclmc, "adjusted_mclmc": _adjusted_mclmc}


@shared(maxsize=PROGRAMS_KEPT)
def _programs(log_density: Callable, name: str, num_warmup: int, options: ByValue, shapes: tuple) -> Programs:
    """Make the programs of a chain for one shape of data, so that the cache's bound is one on compiled code."""

    def algorithm(data: Any) -> Algorithm:
        return ALGORITHMS[name](lambda position: log_density(position, data), num_warmup, options.value)

    def begin(number: Any, position: Any, data: Any, seed: Any) -> Chain:
        first, later = jax.random.split(key_of(seed, Purpose.ENGINE_CHAIN, number))
        state, tuned = algorithm(data).tune(first, jnp.asarray(position))
        return Chain(state, tuned, later, jnp.zeros((), jnp.uint32))

    def advance(chain: Chain, data: Any, count: Any, thinning: Any) -> tuple[Chain, Any, dict[str, Any]]:
        sampler = algorithm(data)

        def one(_: Any, carry: tuple) -> tuple[Chain, dict[str, Any]]:
            chain, before = carry
            key = jax.random.fold_in(chain.key, chain.n_steps)
            state, statistics = sampler.step(key, chain.state, chain.tuned)
            statistics["diverging"] |= before["diverging"]
            return chain._replace(state=state, n_steps=chain.n_steps + 1), statistics

        def kept(i: Any, carry: tuple) -> tuple:
            chain, places, all_statistics = carry
            chain, statistics = jax.lax.fori_loop(0, thinning, one, (chain, nothing))
            written = jax.tree.map(lambda all_, new: all_.at[i].set(new), all_statistics, statistics)
            return chain, places.at[i].set(chain.state.position), written

        def zeros(shape: Any, *lead: int) -> Any:
            return jnp.zeros((*lead, *shape.shape), shape.dtype)

        shape = jax.eval_shape(sampler.step, chain.key, chain.state, chain.tuned)[1]
        nothing = jax.tree.map(zeros, shape)
        buffers = jax.tree.map(lambda one: zeros(one, CHUNK_STEPS), (chain.state.position, shape))
        return jax.lax.fori_loop(0, count, kept, (chain, *buffers))

    return Programs(compiled(begin), compiled(advance, donate_argnums=0))


def _sample_chains(settings: BlackJAX, posterior: Posterior, run: Run) -> Draws:
    watch, data, thinning = run.watch, posterior.data, settings.thinning
    seed = np.uint32(run.seed)
    programs = _programs(
        posterior.log_density,
        settings.algorithm,
        settings.num_warmup,
        ByValue.of(dict(settings.options or {})),
        shapes_of(data),
    )
    position = posterior.begin(0)
    doubles = in_doubles(position)
    like = jax.eval_shape(programs.begin, np.uint32(0), position, data, seed)
    # Threads that ask for a program at once would each compile it.
    programs.advance.lower(like, data, 0, thinning).compile()
    if run.state:
        chains = [unpack_state(tuple(array[i] for array in run.state), like) for i in range(len(run.state[0]))]
    else:
        programs.begin.lower(np.uint32(0), position, data, seed).compile()

        def warm_up(number: np.uint32, phase: Phase) -> Any:
            if watch.stopped:
                return None
            chain = programs.begin(number, posterior.begin(int(number)), data, seed)
            jax.block_until_ready(chain)
            phase.advance(settings.num_warmup)
            return chain

        numbers = list(np.arange(settings.num_chains, dtype=np.uint32))
        with watch.phase("MCMC warm-up", settings.num_warmup * settings.num_chains) as phase:
            chains = side_by_side(warm_up, numbers, phase, doubles)
        if watch.stopped:
            raise RuntimeError(
                f"The fit stopped before a chain had a draw: {watch.stopped}. Allow more time, or lower `num_warmup`."
            )
    num_samples = run.num_samples or settings.num_samples // thinning

    def draw(number: int, phase: Phase) -> tuple[Any, list]:
        chain, pieces, diverged = chains[number], [], 0

        def step(start: int, count: int) -> None:
            nonlocal chain, diverged
            chain, *kept = programs.advance(chain, data, count, thinning)
            piece = jax.tree.map(lambda array: np.asarray(array)[:count], tuple(kept))
            pieces.append(piece)
            diverged += int(piece[1]["diverging"].sum())
            phase.advance(count, divergences=(number, diverged))

        run_in_chunks(step, num_samples, watch=watch, first=64)
        return chain, pieces

    with watch.phase("MCMC", num_samples * len(chains)) as phase:
        found = side_by_side(draw, list(range(len(chains))), phase, doubles)
    if not all(pieces for _, pieces in found):
        raise RuntimeError(f"The fit stopped before each chain had a draw: {watch.stopped}. Allow more time.")
    joined = [jax.tree.map(lambda *parts: np.concatenate(parts), *pieces) for _, pieces in found]
    # Where a fit was stopped, chains have come to different draws.
    n_draws = min(len(positions) for positions, _ in joined)
    positions, statistics = jax.tree.map(lambda *parts: np.stack([part[:n_draws] for part in parts]), *joined)
    warn_of_stop(n_draws, num_samples, watch)
    state = tuple(map(np.stack, zip(*(pack_state(chain) for chain, _ in found), strict=True)))
    return Draws(positions, statistics, state)


# Pathfinder


@shared(maxsize=PROGRAMS_KEPT)
def _path_program(log_density: Callable, n_draws: int, options: ByValue, shapes: tuple) -> Any:
    """Make the program of a path, which returns its draws and their log densities, the posterior's and its own."""
    blackjax = _library()
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

    def follow(number: np.uint32, phase: Phase) -> Any:
        if run.watch.stopped:
            return None
        found = program(number, posterior.begin(int(number)), data, seed)
        found = jax.tree.map(np.asarray, found)
        phase.advance(1)
        return found

    numbers = list(np.arange(settings.num_chains, dtype=np.uint32))
    with run.watch.phase("Pathfinder", settings.num_chains) as phase:
        paths = [path for path in side_by_side(follow, numbers, phase, doubles) if path is not None]
    if not paths:
        raise RuntimeError(f"The fit stopped before the first path: {run.watch.stopped}. Allow more time.")
    positions, log_p, log_q = map(np.concatenate, zip(*paths, strict=True))
    return weighed(positions, log_p, log_q, "Pathfinder")
