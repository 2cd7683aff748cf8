"""Markov chain Monte Carlo: NumPyro's samplers in programs that equal estimators share, on all cores and devices."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.infer
from numpyro import handlers
from numpyro.infer.mcmc import MCMCKernel

from skaimz.inference.chains import (
    Group,
    groups_of,
    join_groups,
    keep_draws,
    pack_chains,
    side_by_side,
    unpack_chains,
    warm_up,
)
from skaimz.inference.checkpoint import Checkpoint
from skaimz.inference.chunks import CHUNK_STEPS, Phase
from skaimz.inference.data import Data, constrained, weighted_model, whitened_model
from skaimz.inference.diagnostics import check_chains, warn_of_stop
from skaimz.inference.problem import Problem
from skaimz.inference.result import FitResult, to_numpy
from skaimz.inference.samplers import sampler_in_precision, with_model
from skaimz.inference.settings import MCMC
from skaimz.inference.target import refuse_params
from skaimz.kernels import ByValue, TracedKernel
from skaimz.runtime import Purpose, compiled, key_of, one_at_a_time, shared

__all__ = ["check_chains_can_run", "continue_chains", "fit_mcmc", "given_start"]

# Compiled code is counted in memory maps, of which a process may have 65530 by Linux's default.
PROGRAMS_KEPT = 12
# Statistics of a step in a sampler's state, by ArviZ's names.
STATISTICS: dict[str, Callable[[Any], Any]] = {
    "energy": lambda state: state.energy,
    "lp": lambda state: -state.potential_energy,
    "n_steps": lambda state: state.num_steps,
    "acceptance_rate": lambda state: state.accept_prob,
    "step_size": lambda state: state.adapt_state.step_size,
}


class Programs(NamedTuple):
    """Compiled steps of a fit, each a function of arrays only."""

    init: Callable
    advance: Callable


@shared(maxsize=PROGRAMS_KEPT)
def _programs(traced: TracedKernel, sampler: ByValue, num_warmup: int, together: int, n_padded: int) -> Programs:
    """Make the programs for one padded number of rows, so that a bound on the cache is a bound on compiled code.

    ``together`` is the number of chains that one program runs side by side, or zero for one chain alone.
    """
    latents = [site.name for site in traced.spec.latents]
    ensemble = sampler.value.is_ensemble_kernel

    def start(keys: Any, data: Data, first: Any) -> tuple[MCMCKernel, Any]:
        """Build the sampler anew; compiled programs share nothing but arrays."""
        model = weighted_model(traced) if data.units is None else whitened_model(traced)
        if traced.spec.discrete:
            # The sampler draws discrete sites, whether the kernel marks them to be enumerated or not.
            model = handlers.infer_config(model, config_fn=lambda site: {"enumerate": None})
        kernel = sampler_in_precision(with_model(sampler.value, model))
        return kernel, kernel.init(keys, num_warmup, init_params=first, model_args=data, model_kwargs={})

    def init_chain(chain: Any, first: Any, data: Data, seed: Any) -> Any:
        return start(key_of(seed, Purpose.CHAIN, chain), data, first)[1]

    def init_ensemble(chains: Any, first: Any, data: Data, seed: Any) -> Any:
        return start(jax.vmap(lambda chain: key_of(seed, Purpose.CHAIN, chain))(chains), data, first)[1]

    def advance_one(state: Any, data: Data, count: Any, thinning: Any) -> tuple[Any, dict, dict]:
        n_keys = max(1, together)
        key = jax.random.split(jax.random.key(0), n_keys) if ensemble else jax.random.key(0)
        kernel, _ = start(key, data, None if data.units is None else state.z)
        if data.units is None:
            constrain = kernel.postprocess_fn(data, {})
        else:
            constrain = functools.partial(constrained, traced, data)
        constrain = jax.vmap(constrain) if ensemble else constrain

        def kept(state: Any, diverged: Any) -> tuple[dict, dict]:
            draws = constrain(getattr(state, kernel.sample_field))
            return {name: draws[name] for name in latents}, _statistics(state, diverged)

        def thinned(_: Any, carry: tuple) -> tuple:
            state, diverged = carry
            state = kernel.sample(state, data, {})
            return state, diverged + _diverging(state)

        def step(i: Any, carry: tuple) -> tuple:
            state, kept_so_far = carry
            state, diverged = jax.lax.fori_loop(0, thinning, thinned, (state, jnp.zeros((), jnp.int32)))
            written = jax.tree.map(lambda all_, one: all_.at[i].set(one), kept_so_far, kept(state, diverged))
            return state, written

        shapes = jax.eval_shape(kept, state, jnp.zeros((), jnp.int32))
        empty = jax.tree.map(lambda one: jnp.zeros((CHUNK_STEPS, *one.shape), one.dtype), shapes)
        state, (draws, statistics) = jax.lax.fori_loop(0, count, step, (state, empty))
        return state, draws, statistics

    init: Callable
    advance: Callable
    if ensemble:
        init, advance = init_ensemble, advance_one
    elif together:
        init = jax.vmap(init_chain, (0, 0, None, None))
        advance = jax.vmap(advance_one, (0, None, None, None))
    else:
        init, advance = init_chain, advance_one
    return Programs(compiled(one_at_a_time(init)), compiled(one_at_a_time(advance), donate_argnums=0))


def _hmc_state(state: Any) -> Any:
    """Return the state of the Hamiltonian sampler inside another, or the state itself."""
    blocks = [block for block in getattr(state, "block_states", ()) if hasattr(block, "num_steps")]
    return getattr(state, "hmc_state", blocks[-1] if blocks else state)


def _diverging(state: Any) -> Any:
    diverging = getattr(_hmc_state(state), "diverging", None)
    return jnp.zeros((), jnp.int32) if diverging is None else diverging.astype(jnp.int32)


def _statistics(state: Any, diverged: Any) -> dict[str, Any]:
    inner = _hmc_state(state)
    statistics = {}
    if hasattr(inner, "diverging"):
        statistics = {"diverging": diverged > 0, "n_diverging": diverged}
    for name, read in STATISTICS.items():
        try:
            statistics[name] = read(inner)
        except AttributeError:
            continue
    return statistics


class Chains:
    """The chains of one fit.

    Parameters
    ----------
    problem : Problem
        Padded data, and the units in which the chains move.
    settings : MCMC
        Checked settings.
    """

    def __init__(self, problem: Problem, settings: MCMC):
        self.problem, self.settings = problem, settings
        self.groups = groups_of(settings)
        self.programs = _programs_of(problem.traced, settings, self.groups[0], problem.data)

    def warm_up(self, starts: Callable[[int], Any] | None, checkpoint: Checkpoint) -> list[Any]:
        """Return states after adaptation; ``starts`` returns where the chain of a number begins."""

        def adapt(group: Group, phase: Phase) -> Any:
            data, file = self._placed(group), checkpoint.file(f"warm-up {group.place}")

            def advance(state: Any, count: int) -> tuple[Any, dict, dict]:
                return self.programs.advance(state, data, count, 1)

            state = self._begin(group, data, starts)
            return warm_up(group, state, advance, self.settings.num_warmup, phase, file)

        first = self.groups[0]
        data = self._placed(first)
        self._compile(self._begin(first, data, starts), data)
        return self._side_by_side(adapt, "MCMC warm-up", self.settings.num_warmup)

    def ended(self, result: FitResult) -> list[Any]:
        """Return the states in which the chains of a fit ended."""
        data, numbers = self.problem.data, self.groups[0].numbers
        first = None
        if data.units is not None:
            lead = np.shape(numbers)
            middle = dict(data.units.middle)
            first = jax.tree.map(lambda array: np.broadcast_to(array, (*lead, *np.shape(array))), middle)
        like = jax.eval_shape(self.programs.init, numbers, first, data, np.uint32(0))
        return unpack_chains(result.state, self.groups, like)

    def draw(self, states: list[Any], num_samples: int, checkpoint: Checkpoint) -> tuple[list[Any], dict, dict]:
        """Return the last states, draws ``(n_chains, n_draws, ...)`` and statistics."""

        def sample(group: Group, phase: Phase) -> tuple[Any, Any]:
            data, thinning = self._placed(group), self.settings.thinning

            def advance(state: Any, count: int) -> tuple[Any, dict, dict]:
                return self.programs.advance(state, data, count, thinning)

            file = checkpoint.file(f"draws {group.place}")
            return keep_draws(group, states[group.place], advance, num_samples, phase, file)

        last, kept = zip(*self._side_by_side(sample, "MCMC", num_samples), strict=True)
        draws, statistics = join_groups(kept)
        return list(last), to_numpy(draws), to_numpy(statistics)

    def start_like(self) -> dict[str, Any]:
        """Return the shapes and types of the sites where one chain begins."""
        group, settings, data = self.groups[0], self.settings, self.problem.data
        state = jax.eval_shape(self.programs.init, group.numbers, None, data, np.uint32(self.problem.seed))
        z, lead = getattr(state, settings.sampler.sample_field), int(group.together > 0)
        names = [site.name for site in self.problem.traced.spec.latents]
        return {name: jax.ShapeDtypeStruct(z[name].shape[lead:], z[name].dtype) for name in names}

    def _placed(self, group: Group) -> Data:
        return jax.device_put(self.problem.data, group.device)

    def _begin(self, group: Group, data: Data, starts: Callable[[int], Any] | None) -> Any:
        first = None
        if starts is not None:
            first = jax.tree.map(lambda *each: np.stack(each), *map(starts, np.atleast_1d(group.numbers)))
            first = first if group.together else jax.tree.map(lambda array: array[0], first)
        return self.programs.init(group.numbers, first, data, np.uint32(self.problem.seed))

    def _compile(self, state: Any, data: Data) -> None:
        """Compile the steps once: threads that ask for a program at once would each compile it."""
        jax.block_until_ready(self.programs.advance(state, data, 0, 1))

    def _side_by_side(self, work: Callable[[Group, Phase], Any], name: str, num_steps: int) -> list[Any]:
        in_turn = self.settings.chain_method == "sequential"
        with self.problem.watch.phase(name, num_steps * self.settings.num_chains) as phase:
            return side_by_side(work, self.groups, phase, self.problem.dtype == np.float64, in_turn=in_turn)


def check_chains_can_run(traced: TracedKernel, settings: MCMC) -> None:
    """Refuse kernels that Markov chains do not fit."""
    if not traced.spec.latents:
        raise ValueError("MCMC needs a kernel with at least one latent site, and this one has none.")
    refuse_params(traced, "MCMC")


def fit_mcmc(
    problem: Problem,
    settings: MCMC,
    *,
    starts: Callable[[int], Any] | None = None,
    name: str = "chains",
    before: FitResult | None = None,
) -> FitResult:
    """Run Markov chains, without a warning of what is bad about them.

    Parameters
    ----------
    problem : Problem
        Padded data, and the units in which the chains move.
    settings : MCMC
        Checked settings.
    starts : callable, optional
        Returns where the chain of a number begins, in the data's units. By default ``init_params`` or the sampler
        decides.
    name : str, default="chains"
        Tells these chains from others of the same fit in the checkpoint.
    before : FitResult, optional
        Chains to go on from without another warm-up. Their settings differ in the number of draws and thinning alone.

    Returns
    -------
    FitResult
    """
    watch, chains = problem.watch, Chains(problem, settings)
    checkpoint = watch.checkpoint.within(name)
    if before is not None:
        states = chains.ended(before)
    else:
        if starts is None and settings.init_params is not None:
            starts = functools.partial(given_start, settings, like=chains.start_like())
        states = chains.warm_up(starts, checkpoint)
    if watch.stopped:
        raise RuntimeError(
            f"The fit stopped before a chain had a draw: {watch.stopped}. Allow more time, or lower `num_warmup`."
        )
    num_samples = settings.num_samples // settings.thinning
    states, draws, statistics = chains.draw(states, num_samples, checkpoint)
    warn_of_stop(next(iter(draws.values())).shape[1], num_samples, watch.stopped)
    if isinstance(getattr(settings.sampler, "inner_kernel", settings.sampler), numpyro.infer.NUTS):
        # A tree of this depth has up to 2**depth - 1 steps, and more than half of them.
        statistics["tree_depth"] = np.log2(statistics["n_steps"]).astype(int) + 1
    return FitResult(
        method="mcmc",
        draws=draws,
        diagnostics=check_chains(draws, statistics.pop("n_diverging", None)),
        sample_stats=statistics,
        state=pack_chains(states, chains.groups),
        data=problem.data._asdict(),
        n_rows=problem.n_rows,
    )


def given_start(settings: MCMC, chain: int, like: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return where the chain of a number begins by ``init_params``.

    Parameters
    ----------
    settings : MCMC
    chain : int
    like : dict of str to array or shape
        Any start of a chain.

    Raises
    ------
    ValueError
        If there are values for other sites, or of other shapes.
    """
    values = settings.init_params
    if values.keys() != like.keys():
        raise ValueError(f"MCMC: `init_params` must have values for {sorted(like)}, got {sorted(values)}.")
    lead = (settings.num_chains,) if settings.num_chains > 1 else ()
    for name, value in values.items():
        expected = lead + like[name].shape
        if value.shape != expected:
            raise ValueError(
                f"MCMC: `init_params` of {name!r} must have the shape {expected} for {settings.num_chains} chain(s), "
                f"got {value.shape}."
            )
    return {name: np.asarray(value[chain] if lead else value, like[name].dtype) for name, value in values.items()}


def continue_chains(problem: Problem, settings: MCMC, result: FitResult, num_samples: int) -> dict[str, np.ndarray]:
    """Take draws ``(n_chains, num_samples, ...)`` from where the chains of a fit ended."""
    chains = Chains(problem, settings)
    states = chains.ended(result)
    chains._compile(jax.tree.map(jnp.copy, states[0]), problem.data)
    return chains.draw(states, num_samples, Checkpoint())[1]


def _programs_of(traced: TracedKernel, settings: MCMC, group: Group, data: Data) -> Programs:
    n_padded = len(data.rows[traced.spec.input])
    return _programs(traced, ByValue.of(settings.sampler), settings.num_warmup, group.together, n_padded)
