"""Markov chains of blackjax: NUTS and microcanonical chains, each as a tuned algorithm that takes steps."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from skaimz.inference.chains import (
    Group,
    join_groups,
    keep_draws,
    pack_chains,
    side_by_side,
    single_groups,
    unpack_chains,
)
from skaimz.inference.checkpoint import SaveFile
from skaimz.inference.chunks import CHUNK_STEPS, Phase
from skaimz.inference.diagnostics import warn_of_stop
from skaimz.inference.extras import in_doubles, library, shapes_of
from skaimz.inference.protocol import Draws, Posterior, Run
from skaimz.kernels import ByValue
from skaimz.runtime import Purpose, compiled, key_of, shared

if TYPE_CHECKING:
    from skaimz.inference.blackjax import BlackJAX

__all__ = ["sample_chains"]

# Compiled code is counted in memory maps, of which a process may have 65530 by Linux's default.
PROGRAMS_KEPT = 12


class Algorithm(NamedTuple):
    """An algorithm of blackjax for one density.

    Attributes
    ----------
    tune : callable
        Given a key and a position, returns a state and the tuned values.
    step : callable
        Given a key, a state and the tuned values, returns the next state and statistics of the step.
    """

    tune: Callable
    step: Callable


class Chain(NamedTuple):
    """State of a chain: the sampler's own, the values tuned for it, its random key and its number of steps."""

    state: Any
    tuned: Any
    key: Any
    n_steps: Any


class Programs(NamedTuple):
    """Compiled parts of a chain, each a function of arrays only."""

    begin: Any
    advance: Any


def _nuts(density: Callable, num_warmup: int, options: Mapping[str, Any]) -> Algorithm:
    blackjax = library("blackjax", "blackjax", "BlackJAX")
    kernel_options = {name: options[name] for name in ("max_num_doublings",) if name in options}

    def tune(key: Any, position: Any) -> tuple[Any, Any]:
        # The record of each adaptation step would fill memory.
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
    blackjax = library("blackjax", "blackjax", "BlackJAX")
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
    blackjax = library("blackjax", "blackjax", "BlackJAX")
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
    """Return shares of equal length for the phases of the adaptation."""
    return {f"frac_tune{phase}": 1.0 / n_phases for phase in range(1, n_phases + 1)}


ALGORITHMS: dict[str, Callable[..., Algorithm]] = {"nuts": _nuts, "mclmc": _mclmc, "adjusted_mclmc": _adjusted_mclmc}


@shared(maxsize=PROGRAMS_KEPT)
def _programs(log_density: Callable, name: str, num_warmup: int, options: ByValue, shapes: tuple) -> Programs:
    """Make the programs of a chain for one shape of data, so that a bound on the cache is a bound on compiled code."""

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

        def keep(i: Any, carry: tuple) -> tuple:
            chain, places, all_statistics = carry
            chain, statistics = jax.lax.fori_loop(0, thinning, one, (chain, nothing))
            written = jax.tree.map(lambda all_, new: all_.at[i].set(new), all_statistics, statistics)
            return chain, places.at[i].set(chain.state.position), written

        def zeros(shape: Any, *lead: int) -> Any:
            return jnp.zeros((*lead, *shape.shape), shape.dtype)

        shape = jax.eval_shape(sampler.step, chain.key, chain.state, chain.tuned)[1]
        nothing = jax.tree.map(zeros, shape)
        buffers = jax.tree.map(lambda one: zeros(one, CHUNK_STEPS), (chain.state.position, shape))
        return jax.lax.fori_loop(0, count, keep, (chain, *buffers))

    return Programs(compiled(begin), compiled(advance, donate_argnums=0))


def sample_chains(settings: "BlackJAX", posterior: Posterior, run: Run) -> Draws:
    """Warm up chains, unless the run goes on from a state, and draw from them."""
    watch, data, seed = run.watch, posterior.data, np.uint32(run.seed)
    options = ByValue.of(dict(settings.options or {}))
    programs = _programs(posterior.log_density, settings.algorithm, settings.num_warmup, options, shapes_of(data))
    position = posterior.begin(0)
    doubles = in_doubles(position)
    like = jax.eval_shape(programs.begin, np.uint32(0), position, data, seed)
    # Threads that ask for a program at once would each compile it.
    programs.advance.lower(like, data, 0, settings.thinning).compile()
    groups = single_groups(len(run.state[0]) if run.state else settings.num_chains)
    if run.state:
        chains = unpack_chains(run.state, groups, like)
    else:
        programs.begin.lower(np.uint32(0), position, data, seed).compile()

        def warm_up(group: Group, phase: Phase) -> Any:
            if watch.stopped:
                return None
            chain = programs.begin(group.numbers, posterior.begin(int(group.numbers)), data, seed)
            jax.block_until_ready(chain)
            phase.advance(settings.num_warmup)
            return chain

        with watch.phase("MCMC warm-up", settings.num_warmup * settings.num_chains) as phase:
            chains = side_by_side(warm_up, groups, phase, doubles)
        if watch.stopped:
            raise RuntimeError(
                f"The fit stopped before a chain had a draw: {watch.stopped}. Allow more time, or lower `num_warmup`."
            )
    num_samples = run.num_samples or settings.num_samples // settings.thinning

    def draw(group: Group, phase: Phase) -> tuple[Any, Any]:
        def advance(chain: Any, count: int) -> tuple[Any, Any, dict[str, Any]]:
            return programs.advance(chain, data, count, settings.thinning)

        return keep_draws(group, chains[group.place], advance, num_samples, phase, SaveFile(None))

    with watch.phase("MCMC", num_samples * len(chains)) as phase:
        last, kept = zip(*side_by_side(draw, groups, phase, doubles), strict=True)
    positions, statistics = join_groups(kept)
    warn_of_stop(positions.shape[1], num_samples, watch.stopped)
    return Draws(positions, statistics, pack_chains(list(last), groups))
