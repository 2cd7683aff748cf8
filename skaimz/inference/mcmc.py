"""Markov chain Monte Carlo: NumPyro's samplers in programs that equal estimators share, on all cores and devices."""

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.infer
from numpyro.infer.mcmc import MCMCKernel

from skaimz.exceptions import StoppedFitWarning, warn_user
from skaimz.inference.checkpoint import Checkpoint, arrays_of, named
from skaimz.inference.chunks import CHUNK_STEPS, Phase, Watch, run_in_chunks
from skaimz.inference.data import Data, constrained, refuse_discrete, weighted_model, whitened_model
from skaimz.inference.diagnostics import check_chains, warn_of_chains
from skaimz.inference.result import FitResult, pack_state, to_numpy, unpack_state
from skaimz.inference.samplers import sampler_in_precision, with_model
from skaimz.inference.settings import MCMC
from skaimz.inference.target import refuse_params
from skaimz.kernels import ByValue, TracedKernel
from skaimz.runtime import Purpose, compiled, key_of, one_at_a_time, shared

__all__ = ["check_chains_can_run", "continue_chains", "fit_mcmc", "given_start", "side_by_side"]

# Compiled code is counted in memory maps, of which a process may have 65530 by Linux's default.
PROGRAMS_KEPT = 12
# Samplers that need a gradient, or move through a continuous space.
CONTINUOUS = (numpyro.infer.HMC, numpyro.infer.SA, numpyro.infer.BarkerMH, numpyro.infer.AIES, numpyro.infer.ESS)
# What a sampler's state tells of a step, under ArviZ's names.
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
    """Make the programs for one padded number of rows, so that the cache's bound is one on compiled code.

    ``together`` is the number of chains that one program runs side by side, or zero for one chain alone.
    """
    latents = [site.name for site in traced.spec.latents]
    ensemble = sampler.value.is_ensemble_kernel

    def start(keys: Any, data: Data, first: Any) -> tuple[MCMCKernel, Any]:
        """Build the sampler anew; compiled programs share nothing but arrays."""
        model = weighted_model(traced) if data.units is None else whitened_model(traced)
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
    found = {}
    if hasattr(inner, "diverging"):
        found = {"diverging": diverged > 0, "n_diverging": diverged}
    for name, read in STATISTICS.items():
        try:
            found[name] = read(inner)
        except AttributeError:
            continue
    return found


class Chains(NamedTuple):
    """One chain, or several that one program runs together.

    Attributes
    ----------
    numbers : array
        Numbers of the chains, from zero: a number for one alone, an array for several.
    axis : int
        Axis of the steps in what the program returns.
    device : jax.Device or None
        Where they run; None for JAX's own choice.
    place : int
        Place of these chains among all that run apart.
    """

    numbers: Any
    axis: int
    device: Any
    place: int

    @property
    def together(self) -> int:
        """Number of chains that run in one program; zero for a chain alone."""
        return np.size(self.numbers) if np.ndim(self.numbers) else 0


def check_chains_can_run(traced: TracedKernel, settings: MCMC) -> None:
    """Refuse kernels that Markov chains do not fit."""
    if not traced.spec.latents:
        raise ValueError("MCMC needs a kernel with at least one latent site, and this one has none.")
    if isinstance(settings.sampler, CONTINUOUS):
        refuse_discrete(traced.spec, "MCMC")
    refuse_params(traced, "MCMC")


def fit_mcmc(
    traced: TracedKernel,
    data: Data,
    n_rows: int,
    settings: MCMC,
    seed: int,
    *,
    starts: Callable[[int], Any] | None = None,
    watch: Watch | None = None,
    name: str = "chains",
    warn: bool = True,
    before: FitResult | None = None,
) -> FitResult:
    """Run Markov chains.

    Parameters
    ----------
    traced : TracedKernel
    data : Data
        Padded arrays with weights, and the units in which the chains move.
    n_rows : int
        Number of rows before padding.
    settings : MCMC
        Checked settings.
    seed : int
    starts : callable, optional
        Returns where the chain of a number begins, in the data's units; the sampler's own choice where None.
    watch : Watch, optional
    name : str, default="chains"
        Tells these chains from others of the same fit, where they are saved.
    warn : bool, default=True
        Warn of what is bad about the chains.
    before : FitResult, optional
        Chains to go on from, by the same settings but for the number of draws and thinning, without another warm-up.

    Returns
    -------
    FitResult
    """
    watch = watch or Watch()
    checkpoint = watch.checkpoint.within(name)
    x64 = data.rows[traced.spec.input].dtype == np.float64
    groups = _groups(settings)
    programs = _programs_of(traced, settings, groups[0], data)
    num_samples = settings.num_samples // settings.thinning
    if starts is None and settings.init_params is not None:
        like = jax.eval_shape(programs.init, groups[0].numbers, None, data, np.uint32(seed))
        z, lead = getattr(like, settings.sampler.sample_field), int(groups[0].together > 0)
        sites = [site.name for site in traced.spec.latents]
        shapes = {name: jax.ShapeDtypeStruct(z[name].shape[lead:], z[name].dtype) for name in sites}
        starts = functools.partial(given_start, settings, like=shapes)

    def begin(chains: Chains) -> Any:
        placed = jax.device_put(data, chains.device)
        first = None
        if starts is not None:
            first = jax.tree.map(lambda *each: np.stack(each), *map(starts, np.atleast_1d(chains.numbers)))
            first = first if np.ndim(chains.numbers) else jax.tree.map(lambda array: array[0], first)
        return programs.init(chains.numbers, first, placed, np.uint32(seed)), placed

    def warm_up(chains: Chains, phase: Phase) -> Any:
        state, placed = begin(chains)
        part, done = checkpoint.part(f"warm-up {chains.place}"), 0
        saved = part.load()
        if saved is not None:
            done, state = int(saved["done"]), unpack_state(arrays_of(saved, "state"), state)
            phase.skip(done * np.size(chains.numbers))

        def step(start: int, count: int) -> None:
            nonlocal state
            state, *_ = programs.advance(state, placed, count, 1)
            jax.block_until_ready(state)
            stop = start + count
            part.save(lambda: _to_save(stop, state), now=stop == settings.num_warmup)
            phase.advance(count * np.size(chains.numbers))

        run_in_chunks(step, settings.num_warmup, watch=watch, first=64, done=done)
        return state

    if before is None:
        # Threads that ask for a program at once would each compile it.
        jax.block_until_ready(programs.advance(*begin(groups[0]), 0, 1))
        with watch.phase("MCMC warm-up", settings.num_warmup * settings.num_chains) as phase:
            states = side_by_side(warm_up, groups, phase, x64, in_turn=settings.chain_method == "sequential")
    else:
        states = _states_of(programs, groups, data, before)
    if watch.stopped:
        raise RuntimeError(
            f"The fit stopped before a chain had a draw: {watch.stopped}. Allow more time, or lower `num_warmup`."
        )
    states, draws, statistics = _collect(programs, states, data, groups, settings, num_samples, watch, x64, checkpoint)
    n_draws = next(iter(draws.values())).shape[1]
    if n_draws < num_samples:
        warn_user(
            f"The fit stopped after {n_draws} of {num_samples} draws of each chain: {watch.stopped}.",
            StoppedFitWarning,
        )
    if isinstance(getattr(settings.sampler, "inner_kernel", settings.sampler), numpyro.infer.NUTS):
        # A tree of this depth has up to 2**depth - 1 steps, and more than half of them.
        statistics["tree_depth"] = np.log2(statistics["n_steps"]).astype(int) + 1
    diagnostics = check_chains(draws, statistics.pop("n_diverging", None))
    if warn:
        warn_of_chains(diagnostics)
    return FitResult(
        method="mcmc",
        draws=draws,
        sample_stats=statistics,
        diagnostics=diagnostics,
        state=_packed(states, groups),
        data=data._asdict(),
        n_rows=n_rows,
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
    given = settings.init_params
    if given.keys() != like.keys():
        raise ValueError(f"MCMC: `init_params` must have values for {sorted(like)}, got {sorted(given)}.")
    lead = (settings.num_chains,) if settings.num_chains > 1 else ()
    for name, value in given.items():
        expected = lead + like[name].shape
        if value.shape != expected:
            raise ValueError(
                f"MCMC: `init_params` of {name!r} must have the shape {expected} for {settings.num_chains} chain(s), "
                f"got {value.shape}."
            )
    return {name: np.asarray(value[chain] if lead else value, like[name].dtype) for name, value in given.items()}


def continue_chains(
    traced: TracedKernel, data: Data, result: FitResult, settings: MCMC, num_samples: int, watch: Watch | None = None
) -> dict[str, np.ndarray]:
    """Take draws ``(n_chains, num_samples, ...)`` from where the chains of a fit ended."""
    groups = _groups(settings)
    programs = _programs_of(traced, settings, groups[0], data)
    states = _states_of(programs, groups, data, result)
    x64 = data.rows[traced.spec.input].dtype == np.float64
    jax.block_until_ready(programs.advance(jax.tree.map(jnp.copy, states[0]), data, 0, 1))
    _, draws, _ = _collect(programs, states, data, groups, settings, num_samples, watch or Watch(), x64, Checkpoint())
    return draws


def _states_of(programs: Programs, groups: list[Chains], data: Data, result: FitResult) -> list[Any]:
    """Return the states in which the chains of a fit ended."""
    first = None
    if data.units is not None:
        lead = np.shape(groups[0].numbers)
        first = jax.tree.map(lambda array: np.broadcast_to(array, (*lead, *np.shape(array))), dict(data.units.middle))
    like = jax.eval_shape(programs.init, groups[0].numbers, first, data, np.uint32(0))
    return _unpacked(result.state, groups, like)


def _collect(
    programs: Programs,
    states: list[Any],
    data: Data,
    groups: list[Chains],
    settings: MCMC,
    num_samples: int,
    watch: Watch,
    x64: bool,
    checkpoint: Checkpoint,
) -> tuple[list[Any], dict[str, np.ndarray], dict[str, np.ndarray]]:
    def sample(chains: Chains, phase: Phase) -> tuple[Any, list]:
        state, pieces, done = states[chains.place], list[tuple[dict, dict]](), 0
        placed = jax.device_put(data, chains.device)
        part = checkpoint.part(f"draws {chains.place}")
        saved = part.load()
        if saved is not None:
            done, state = int(saved["done"]), unpack_state(arrays_of(saved, "state"), state)
            _, *like = jax.eval_shape(programs.advance, state, placed, 0, 1)
            pieces.append(jax.tree.unflatten(jax.tree.structure(tuple(like)), arrays_of(saved, "kept")))
            phase.skip(done * np.size(chains.numbers))

        def step(start: int, count: int) -> None:
            nonlocal state
            state, *kept = programs.advance(state, placed, count, settings.thinning)
            piece = jax.tree.map(lambda array: _steps_first(np.asarray(array), chains.axis)[:count], tuple(kept))
            pieces.append(piece)
            part.save(lambda: _to_save(start + count, state, pieces))
            diverged = sum(int(statistics.get("n_diverging", np.zeros(1)).sum()) for _, statistics in pieces)
            phase.advance(count * np.size(chains.numbers), divergences=(chains.place, diverged))

        done = run_in_chunks(step, num_samples, watch=watch, first=64, done=done)
        if watch.stopped and pieces:
            part.save(lambda: _to_save(done, state, pieces), now=True)
        return state, pieces

    with watch.phase("MCMC", num_samples * settings.num_chains) as phase:
        found = side_by_side(sample, groups, phase, x64, in_turn=settings.chain_method == "sequential")
    if not all(pieces for _, pieces in found):
        raise RuntimeError(f"The fit stopped before each chain had a draw: {watch.stopped}. Allow more time.")
    joined = []
    for (_, pieces), chains in zip(found, groups, strict=True):
        whole = _joined(pieces)
        chains_first = (lambda array: np.moveaxis(array, 1, 0)) if chains.together else (lambda array: array[None])
        joined.append(jax.tree.map(chains_first, whole))
    # Where a fit was stopped, chains have come to different draws.
    shortest = min(len(next(iter(draws.values()))[0]) for draws, _ in joined)
    draws, statistics = jax.tree.map(lambda *parts: np.concatenate([part[:, :shortest] for part in parts]), *joined)
    return [state for state, _ in found], to_numpy(draws), to_numpy(statistics)


def _to_save(done: int, state: Any, pieces: Sequence[tuple[dict, dict]] = ()) -> dict[str, np.ndarray]:
    """Return what chains need to go on: how far they have come, their state, and what they have kept."""
    kept = jax.tree.leaves(_joined(pieces)) if pieces else ()
    return {"done": np.asarray(done), **named(state=pack_state(state), kept=kept)}


def _joined(pieces: Sequence[tuple[dict, dict]]) -> Any:
    return jax.tree.map(lambda *parts: np.concatenate(parts), *pieces)


def _steps_first(array: np.ndarray, axis: int) -> np.ndarray:
    return np.moveaxis(array, axis, 0)


def side_by_side(work: Callable, groups: list[Any], phase: Phase, x64: bool, *, in_turn: bool = False) -> list[Any]:
    """Run groups of chains on threads, or one after the other; they share nothing, so that draws are the same."""
    if len(groups) == 1 or in_turn:
        return [work(chains, phase) for chains in groups]

    def in_thread(chains: Any) -> Any:
        with jax.enable_x64(x64):  # the setting belongs to a thread
            return work(chains, phase)

    n_threads = min(len(groups), max(os.cpu_count() or 1, jax.local_device_count()))
    with ThreadPoolExecutor(n_threads, thread_name_prefix="skaimz-chain") as pool:
        tasks = [pool.submit(in_thread, chains) for chains in groups]
        try:
            return [task.result() for task in tasks]
        except BaseException:
            phase.watch.stop("another chain failed, or the fit was interrupted")
            for task in tasks:
                task.cancel()
            raise


def _groups(settings: MCMC) -> list[Chains]:
    """Return which chains run in one program, and where."""
    numbers = np.arange(settings.num_chains, dtype=np.uint32)
    devices: list[Any] = [None] if jax.local_device_count() == 1 else list(jax.local_devices())
    method = settings.chain_method
    if settings.sampler.is_ensemble_kernel:
        return [Chains(numbers, 0, None, 0)]
    if method == "vectorized":
        return [Chains(numbers, 1, None, 0)]
    if method == "auto" and jax.default_backend() != "cpu":
        # A processor runs programs of one chain on its cores; an accelerator is filled by one program of many.
        parts = max(count for count in range(1, len(devices) + 1) if len(numbers) % count == 0)
        return [Chains(part, 1, devices[place], place) for place, part in enumerate(np.split(numbers, parts))]
    if method == "sequential":
        devices = [None]
    return [Chains(number, 0, devices[place % len(devices)], place) for place, number in enumerate(numbers)]


def _packed(states: list[Any], groups: list[Chains]) -> tuple[np.ndarray, ...]:
    """Reduce the states of all chains to arrays with a leading axis for chains."""
    packed = [pack_state(state) for state in states]
    join = np.concatenate if groups[0].axis else np.stack
    return packed[0] if len(packed) == 1 and groups[0].together else tuple(map(join, zip(*packed, strict=True)))


def _unpacked(arrays: tuple[np.ndarray, ...], groups: list[Chains], like: Any) -> list[Any]:
    if len(groups) == 1 and groups[0].together:
        return [unpack_state(arrays, like)]
    parts = zip(*(np.split(array, len(groups)) for array in arrays), strict=True)
    return [unpack_state(part if groups[0].together else tuple(a[0] for a in part), like) for part in parts]


def _programs_of(traced: TracedKernel, settings: MCMC, chains: Chains, data: Data) -> Programs:
    n_padded = len(data.rows[traced.spec.input])
    return _programs(traced, ByValue.of(settings.sampler), settings.num_warmup, chains.together, n_padded)
