"""Minibatches, in the order of :mod:`skaimz.inference.shuffle`: of rows on the devices, or of rows read in windows."""

from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from skaimz.inference import shuffle
from skaimz.inference.chunks import CHUNK_STEPS
from skaimz.inference.data import Data, in_memory, pad_rows
from skaimz.inference.devices import spread

__all__ = ["Passes", "Stack", "minibatch", "minibatches", "needs_stream", "total_weight"]

# Few enough that a stack is small beside a window, and enough that its steps outweigh the call that makes them.
STACK_ROWS = 2**16
# Returned by the thread after the last rows.
END = object()


class Passes(NamedTuple):
    """Passes over all rows in minibatches.

    Attributes
    ----------
    n_rows : int
    size : int
        Rows of a minibatch. The last one of an epoch may have fewer. A minibatch of all rows has them in their order.
    num_steps : int
        Number of minibatches.
    seed : int
    epoch : int
        Number of the first epoch, on which its order depends.
    wraps : bool
        Whether the first rows of an epoch fill up its last minibatch, with weight zero, rather than copies of one row.
        Layers that train see rows of all weights; a row whose density is not finite should be met only once.
    """

    n_rows: int
    size: int
    num_steps: int
    seed: int
    epoch: int = 0
    wraps: bool = False

    @property
    def per_epoch(self) -> int:
        """Minibatches of an epoch."""
        return -(-self.n_rows // self.size)


class Stack(NamedTuple):
    """Minibatches that follow one another, on a leading axis.

    Attributes
    ----------
    data : Data
        Rows and weights ``(n_batches, n_rows, ...)``; the weights scale each minibatch to all rows.
    sizes : array of shape (n_steps,)
        Number of rows of each minibatch before padding. Minibatches beyond these fill up the last stack, and no step is
        taken on them.
    """

    data: Data
    sizes: np.ndarray

    def minibatch(self, step: int) -> tuple[Data, int]:
        """Return a minibatch and its number of rows; negative steps count from the last one."""
        step = range(len(self.sizes))[step]
        rows, weight = jax.tree.map(lambda array: array[step], (self.data.rows, self.data.weight))
        return self.data._replace(rows=rows, weight=weight), int(self.sizes[step])


def minibatch(
    data: Data, step: Any, order: tuple[Any, Any], batch_size: int | None, *, wraps: bool = False
) -> tuple[Data, Any]:
    """Return the rows of a step inside a compiled program.

    Parameters
    ----------
    data : Data
        All rows, or the minibatches of a :class:`Stack`, whose weights have an axis of steps.
    step : int or None
        Number of the step: of the fit, or among those of the stack. None for the first rows in their own order.
    order : tuple
        Number of all rows, and the seed.
    batch_size : int or None
        Static; None where each step takes all rows.
    wraps : bool, default=False
        As in :class:`Passes`.

    Returns
    -------
    data : Data
    present : array of shape (batch_size,) or None
        Factor by which each row stands for all; None where the weights say so.
    """
    if np.ndim(data.weight) == 2:
        rows, weight = jax.tree.map(lambda array: array[step], (data.rows, data.weight))
        return data._replace(rows=rows, weight=weight), None
    if batch_size is None:
        return data, None
    n_rows, seed = jnp.asarray(order[0], jnp.uint32), order[1]
    places = jnp.arange(batch_size, dtype=jnp.uint32)

    def existing(places: Any) -> Any:
        return places % n_rows if wraps else jnp.minimum(places, n_rows - 1)

    if step is None:
        chosen = existing(places)
    else:
        step = jnp.asarray(step, jnp.uint32)
        per_epoch = (n_rows + batch_size - 1) // batch_size
        places = step % per_epoch * batch_size + places
        most_rows = len(next(iter(data.rows.values())))
        chosen = shuffle.ordered(existing(places), n_rows, most_rows, seed, step // per_epoch)
    inside, dtype = places < n_rows, jnp.result_type(float)
    present = inside.astype(dtype) * (n_rows.astype(dtype) / inside.sum().astype(dtype))
    rows = spread({name: array[chosen] for name, array in data.rows.items()})
    weight = present if data.weight is None else data.weight[chosen] * present
    return data._replace(rows=rows, weight=weight), present


def needs_stream(data: Data, n_rows: int) -> bool:
    """Whether rows are not in memory, and are too many for one window."""
    return n_rows > shuffle.WINDOW_ROWS and not all(map(in_memory, jax.tree.leaves((data.rows, data.weight))))


def total_weight(weight: Any, n_rows: int) -> float:
    """Return the sum of the weights, which may be read block by block."""
    if weight is None:
        return float(n_rows)
    length = shuffle.BLOCK_ROWS
    return sum(float(weight[start : start + length].sum(dtype=np.float64)) for start in range(0, n_rows, length))


def minibatches(data: Data, passes: Passes, *, padded_size: int | None = None, scale: float = 1.0) -> Generator[Stack]:
    """Yield stacks of minibatches, while a thread reads the rows of the next window.

    Close the generator, so that its thread ends.

    Parameters
    ----------
    data : Data
        Rows and weights that are in memory, or can be sliced.
    passes : Passes
    padded_size : int, optional
        Pad minibatches to so many rows.
    scale : float, default=1.0
        Factor on all weights, beside that of the number of all rows over that of the minibatch.

    Yields
    ------
    Stack
    """
    n_rows, size, num_steps, per_epoch = passes.n_rows, passes.size, passes.num_steps, passes.per_epoch
    dtype = jnp.result_type(float)
    if data.weight is None:
        data = data._replace(weight=np.broadcast_to(np.ones((), dtype), n_rows))
    # Powers of two, so that short fits of many lengths share programs.
    per_stack = min(max(1, STACK_ROWS // size), CHUNK_STEPS, 1 << (num_steps - 1).bit_length())
    with ThreadPoolExecutor(1, thread_name_prefix="skaimz-rows") as pool:
        windows = _ahead(pool, _windows(data, passes))
        for first, (rows, weight) in zip(
            range(0, num_steps, per_stack), _recut(windows, per_stack * size), strict=False
        ):
            steps = np.arange(first, min(first + per_stack, num_steps))
            sizes = np.where(steps % per_epoch < per_epoch - 1, size, n_rows - (per_epoch - 1) * size)
            scaled = np.zeros((per_stack, padded_size or size), dtype)
            by_batch = weight[: len(steps) * size].reshape(-1, size)
            scaled[: len(steps), :size] = by_batch * (scale * n_rows / sizes)[:, None]
            rows = jax.tree.map(lambda array: _batched(array, per_stack, size, padded_size or size), rows)
            yield Stack(data._replace(rows=rows, weight=scaled), sizes)


def _batched(array: np.ndarray, n_batches: int, size: int, padded_size: int) -> np.ndarray:
    array = pad_rows(array, n_batches * size).reshape(n_batches, size, *array.shape[1:])
    missing = padded_size - size
    return np.concatenate([array, np.repeat(array[:, :1], missing, axis=1)], axis=1) if missing else array


def _ahead(pool: ThreadPoolExecutor, items: Iterator[Any]) -> Iterator[Any]:
    """Yield items, and make the next one while the caller works with the last."""
    following = pool.submit(next, items, END)
    while (item := following.result()) is not END:
        following = pool.submit(next, items, END)
        yield item
        del item  # or it would stay in memory while the caller waits for the next


def _windows(data: Data, passes: Passes) -> Iterator[Any]:
    """Yield rows and weights in their order, each epoch filled up to whole minibatches with rows of weight zero."""
    n_rows, size, epoch = passes.n_rows, passes.size, passes.epoch
    arrays = (data.rows, data.weight)
    missing = -n_rows % size
    filling = {name: np.repeat(array[:1], missing, axis=0) for name, array in data.rows.items()}
    length = n_rows if size == n_rows else shuffle.WINDOW_ROWS
    wanted = passes.num_steps * size
    # Copies of the first rows of an epoch.
    heads: list[Any] = []

    def noted(window: Any) -> Any:
        held = sum(len(weight) for _, weight in heads)
        if passes.wraps and held < missing:
            heads.append(jax.tree.map(np.array, _cut(window, 0, missing - held)))
        return window

    while wanted > 0:
        heads.clear()
        for start in range(0, n_rows, length):
            if wanted > 0:
                # Bound to no name, or it would stay in memory while the next is read.
                yield noted(
                    arrays if size == n_rows else _window(arrays, start // length, passes._replace(epoch=epoch))
                )
                wanted -= min(length, n_rows - start)
        if wanted > 0:
            yield _joined(heads)[0] if heads else filling, np.zeros(missing, data.weight.dtype)
        wanted -= missing
        epoch += 1


def _window(arrays: Any, window: int, passes: Passes) -> Any:
    """Read the blocks of a window, and put their rows into their places."""
    n_rows = passes.n_rows
    starts, order = shuffle.window_of(window, n_rows, passes.seed, passes.epoch)
    places = np.empty_like(order)
    places[order] = np.arange(len(order), dtype=order.dtype)
    read = jax.tree.map(lambda array: np.empty((len(order), *array.shape[1:]), array.dtype), arrays)
    slices = []
    for first, start in zip(range(0, len(order), shuffle.BLOCK_ROWS), starts.tolist(), strict=True):
        length = min(shuffle.BLOCK_ROWS, len(order) - first)
        # Blocks go on with the first row after the last.
        split = min(length, n_rows - start)
        slices.append((slice(start, start + split), places[first : first + split]))
        if split < length:
            slices.append((slice(0, length - split), places[first + split : first + length]))
    for array in jax.tree.leaves(arrays):
        if hasattr(array, "fetch"):
            array.fetch([rows for rows, _ in slices])
    # In the order of the source, which may be fastest to read forwards.
    for rows, to in sorted(slices, key=lambda each: each[0].start):
        for array, out in zip(jax.tree.leaves(arrays), jax.tree.leaves(read), strict=True):
            out[to] = array[rows]
    return read


def _recut(windows: Iterable[Any], size: int) -> Iterator[Any]:
    """Yield the rows of windows, ``size`` at a time; the last ones may be fewer."""
    rest: list[Any] = []
    missing = size
    for window in windows:
        start, stop = 0, len(window[1])
        while stop - start >= missing:
            rest.append(_cut(window, start, start + missing))
            start += missing
            yield _joined(rest)
            rest, missing = [], size
        if start < stop:
            # A copy, so that the window can be freed.
            rest.append(jax.tree.map(np.array, _cut(window, start, stop)))
            missing -= stop - start
    if rest:
        yield _joined(rest)


def _cut(window: Any, start: int, stop: int) -> Any:
    return jax.tree.map(lambda array: np.asarray(array[start:stop]), window)


def _joined(cuts: list[Any]) -> Any:
    return cuts[0] if len(cuts) == 1 else jax.tree.map(lambda *arrays: np.concatenate(arrays), *cuts)
