"""Markov chains side by side: which run in one program, on which thread and device, and what they leave."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np

from skaimz.inference.checkpoint import SaveFile, arrays_of, named
from skaimz.inference.chunks import Phase, run_in_chunks
from skaimz.inference.result import pack_state, unpack_state
from skaimz.inference.settings import MCMC

__all__ = [
    "Group",
    "groups_of",
    "join_groups",
    "keep_draws",
    "pack_chains",
    "side_by_side",
    "single_groups",
    "unpack_chains",
    "warm_up",
]

# Steps of the first chunk, whose time sets the length of the next.
FIRST_CHUNK = 64


class Group(NamedTuple):
    """One chain, or several that one program runs together.

    Attributes
    ----------
    numbers : int or array
        Numbers of the chains, counted from zero: an integer for one chain alone, an array for several.
    axis : int
        Axis of the steps in what the program returns.
    device : jax.Device or None
        Where the program runs; None leaves the choice to JAX.
    place : int
        Number of this group.
    """

    numbers: Any
    axis: int
    device: Any
    place: int

    @property
    def size(self) -> int:
        """Number of chains."""
        return np.size(self.numbers)

    @property
    def together(self) -> int:
        """Number of chains that run in one program; zero for one chain alone."""
        return self.size if np.ndim(self.numbers) else 0


def groups_of(settings: MCMC) -> list[Group]:
    """Return the groups in which chains run."""
    numbers = np.arange(settings.num_chains, dtype=np.uint32)
    devices: list[Any] = [None] if jax.local_device_count() == 1 else list(jax.local_devices())
    method = settings.chain_method
    if settings.sampler.is_ensemble_kernel:
        return [Group(numbers, 0, None, 0)]
    if method == "vectorized":
        return [Group(numbers, 1, None, 0)]
    if method == "auto" and jax.default_backend() != "cpu":
        # A processor runs one chain on each core. An accelerator needs one program of many chains to be busy.
        n_groups = max(count for count in range(1, len(devices) + 1) if len(numbers) % count == 0)
        return [Group(some, 1, devices[place], place) for place, some in enumerate(np.split(numbers, n_groups))]
    if method == "sequential":
        devices = [None]
    return single_groups(settings.num_chains, devices)


def single_groups(number: int, devices: Sequence[Any] = (None,)) -> list[Group]:
    """Return groups of one chain each, which take turns on the devices."""
    numbers = np.arange(number, dtype=np.uint32)
    return [Group(chain, 0, devices[place % len(devices)], place) for place, chain in enumerate(numbers)]


def side_by_side(
    work: Callable[[Group, Phase], Any], groups: list[Group], phase: Phase, x64: bool, *, in_turn: bool = False
) -> list[Any]:
    """Run groups of chains on threads, or one after the other. Groups share nothing, so draws are the same."""
    if len(groups) == 1 or in_turn:
        return [work(group, phase) for group in groups]

    def in_thread(group: Group) -> Any:
        with jax.enable_x64(x64):  # the setting belongs to a thread
            return work(group, phase)

    n_threads = min(len(groups), max(os.cpu_count() or 1, jax.local_device_count()))
    with ThreadPoolExecutor(n_threads, thread_name_prefix="skaimz-chain") as pool:
        tasks = [pool.submit(in_thread, group) for group in groups]
        try:
            return [task.result() for task in tasks]
        except BaseException:
            phase.watch.stop("another chain failed, or the fit was interrupted")
            for task in tasks:
                task.cancel()
            raise


def warm_up(
    group: Group,
    state: Any,
    advance: Callable[[Any, int], tuple],
    num_warmup: int,
    phase: Phase,
    file: SaveFile,
) -> Any:
    """Return the state of a group of chains after adaptation; arguments as in :func:`keep_draws`."""
    saved, done = file.load(), 0
    if saved is not None:
        done, state = int(saved["done"]), unpack_state(arrays_of(saved, "state"), state)
        phase.skip(done * group.size)

    def step(start: int, count: int) -> None:
        nonlocal state
        state, *_ = advance(state, count)
        jax.block_until_ready(state)
        stop = start + count
        file.save(lambda: _to_save(stop, state), now=stop == num_warmup)
        phase.advance(count * group.size)

    run_in_chunks(step, num_warmup, watch=phase.watch, first=FIRST_CHUNK, done=done)
    return state


def keep_draws(
    group: Group,
    state: Any,
    advance: Callable[[Any, int], tuple],
    num_samples: int,
    phase: Phase,
    file: SaveFile,
) -> tuple[Any, Any]:
    """Let a group of chains take steps after adaptation, in chunks, and keep their draws.

    Parameters
    ----------
    group : Group
    state : pytree
        State in which the chains begin, unless the file has a later one.
    advance : callable
        A compiled program: from a state and a number of draws, it returns the next state, draws and statistics.
    num_samples : int
    phase : Phase
    file : SaveFile
        Where state and draws are saved.

    Returns
    -------
    state : pytree
    kept : tuple of dict
        Draws and statistics, each ``(n_chains, n_draws, ...)``.

    Raises
    ------
    RuntimeError
        If the fit was stopped before the first draw.
    """
    chunks, done = list[tuple[dict, dict]](), 0
    saved = file.load()
    if saved is not None:
        done, state = int(saved["done"]), unpack_state(arrays_of(saved, "state"), state)
        state, *like = advance(state, 0)  # no step, for the structure of what is kept
        chunks.append(jax.tree.unflatten(jax.tree.structure(tuple(like)), arrays_of(saved, "kept")))
        phase.skip(done * group.size)

    def step(start: int, count: int) -> None:
        nonlocal state
        state, *kept = advance(state, count)
        chunks.append(jax.tree.map(lambda array: np.moveaxis(np.asarray(array), group.axis, 0)[:count], tuple(kept)))
        file.save(lambda: _to_save(start + count, state, chunks))
        diverged = sum(_n_diverging(statistics) for _, statistics in chunks)
        phase.advance(count * group.size, divergences=(group.place, diverged))

    done = run_in_chunks(step, num_samples, watch=phase.watch, first=FIRST_CHUNK, done=done)
    if not chunks:
        raise RuntimeError(f"The fit stopped before each chain had a draw: {phase.watch.stopped}. Allow more time.")
    if phase.watch.stopped:
        file.save(lambda: _to_save(done, state, chunks), now=True)
    chains_first = (lambda array: np.moveaxis(array, 1, 0)) if group.together else (lambda array: array[None])
    return state, jax.tree.map(chains_first, _joined(chunks))


def join_groups(kept: Sequence[Any]) -> Any:
    """Join draws and statistics of groups, cut to the shortest: a fit that is stopped leaves chains of any length."""
    shortest = min(np.shape(jax.tree.leaves(each)[0])[1] for each in kept)
    return jax.tree.map(lambda *arrays: np.concatenate([array[:, :shortest] for array in arrays]), *kept)


def _to_save(done: int, state: Any, chunks: Sequence[tuple[dict, dict]] = ()) -> dict[str, np.ndarray]:
    """Return what chains need to go on: the number of steps, their state, and what each chunk of steps kept."""
    kept = jax.tree.leaves(_joined(chunks)) if chunks else ()
    return {"done": np.asarray(done), **named(state=pack_state(state), kept=kept)}


def pack_chains(states: list[Any], groups: list[Group]) -> tuple[np.ndarray, ...]:
    """Reduce the states of all groups to arrays with a leading axis for chains."""
    packed = [pack_state(state) for state in states]
    join = np.concatenate if groups[0].axis else np.stack
    return packed[0] if len(packed) == 1 and groups[0].together else tuple(map(join, zip(*packed, strict=True)))


def unpack_chains(arrays: tuple[np.ndarray, ...], groups: list[Group], like: Any) -> list[Any]:
    """Rebuild the states of all groups from what :func:`pack_chains` returned, and the abstract state of one."""
    if len(groups) == 1 and groups[0].together:
        return [unpack_state(arrays, like)]
    by_group = zip(*(np.split(array, len(groups)) for array in arrays), strict=True)
    return [unpack_state(some if groups[0].together else tuple(a[0] for a in some), like) for some in by_group]


def _joined(chunks: Sequence[tuple[dict, dict]]) -> Any:
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *chunks)


def _n_diverging(statistics: dict[str, np.ndarray]) -> int:
    return int(np.sum(statistics.get("n_diverging", statistics.get("diverging", 0))))
