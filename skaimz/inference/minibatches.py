"""Minibatches of rows that are read a part at a time, in the order of :mod:`skaimz.inference.shuffle`."""

from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from skaimz.inference import shuffle
from skaimz.inference.chunks import CHUNK_STEPS
from skaimz.inference.data import Data, in_memory, pad_rows

__all__ = ["Chunk", "minibatches", "needs_stream", "total_weight"]

# Few enough that a chunk is small beside a window, and enough that its steps outweigh the call that makes them.
CHUNK_ROWS = 2**16
# What the thread returns where there are no more rows.
END = object()


class Chunk(NamedTuple):
    """Minibatches one after the other.

    Attributes
    ----------
    data : Data
        Rows and weights ``(n_batches, n_rows, ...)``; the weights scale each minibatch to all rows.
    inside : array of shape (n_steps,)
        Numbers of rows before padding. Minibatches beyond these fill the last chunk, and are not to be learnt from.
    """

    data: Data
    inside: np.ndarray

    def minibatch(self, place: int) -> tuple[Data, int]:
        """Return one of the minibatches that are to be learnt from, and its number of rows."""
        place = range(len(self.inside))[place]
        rows, weight = jax.tree.map(lambda array: array[place], (self.data.rows, self.data.weight))
        return self.data._replace(rows=rows, weight=weight), int(self.inside[place])


def needs_stream(data: Data, n_rows: int) -> bool:
    """Whether rows are read a part at a time, and are too many for one window."""
    return n_rows > shuffle.WINDOW_ROWS and not all(map(in_memory, jax.tree.leaves((data.rows, data.weight))))


def total_weight(weight: Any, n_rows: int) -> float:
    """Return the sum of the weights, which may be read a part at a time."""
    if weight is None:
        return float(n_rows)
    step = shuffle.BLOCK_ROWS
    return sum(float(weight[start : start + step].sum(dtype=np.float64)) for start in range(0, n_rows, step))


def minibatches(
    data: Data,
    n_rows: int,
    size: int,
    num_steps: int,
    seed: int,
    *,
    epoch: int = 0,
    padded_size: int | None = None,
    scale: float = 1.0,
) -> Generator[Chunk]:
    """Yield minibatches through epochs, while a thread reads the rows of the next window.

    Close the generator, so that its thread ends.

    Parameters
    ----------
    data : Data
        Rows and weights that are in memory, or can be sliced.
    n_rows : int
    size : int
        Rows of a minibatch. The last one of an epoch may have fewer. A minibatch of all rows has them in their order.
    num_steps : int
        Number of minibatches.
    seed : int
    epoch : int, default=0
        Number of the first epoch, on which its order depends.
    padded_size : int, optional
        Pad minibatches to so many rows.
    scale : float, default=1.0
        Factor on all weights, beside that of the number of all rows over that of the minibatch.

    Yields
    ------
    Chunk
    """
    dtype = jnp.result_type(float)
    if data.weight is None:
        data = data._replace(weight=np.broadcast_to(np.ones((), dtype), n_rows))
    per_epoch = -(-n_rows // size)
    # Powers of two, so that short fits of many lengths share programs.
    per_chunk = min(max(1, CHUNK_ROWS // size), CHUNK_STEPS, 1 << (num_steps - 1).bit_length())
    with ThreadPoolExecutor(1, thread_name_prefix="skaimz-rows") as pool:
        windows = _ahead(pool, _windows(data, n_rows, size, num_steps, seed, epoch))
        for first, (rows, weight) in zip(
            range(0, num_steps, per_chunk), _recut(windows, per_chunk * size), strict=False
        ):
            steps = np.arange(first, min(first + per_chunk, num_steps))
            inside = np.where(steps % per_epoch < per_epoch - 1, size, n_rows - (per_epoch - 1) * size)
            scaled = np.zeros((per_chunk, padded_size or size), dtype)
            by_batch = weight[: len(steps) * size].reshape(-1, size)
            scaled[: len(steps), :size] = by_batch * (scale * n_rows / inside)[:, None]
            rows = jax.tree.map(lambda array: _batched(array, per_chunk, size, padded_size or size), rows)
            yield Chunk(data._replace(rows=rows, weight=scaled), inside)


def _batched(array: np.ndarray, n_batches: int, size: int, padded_size: int) -> np.ndarray:
    array = pad_rows(array, n_batches * size).reshape(n_batches, size, *array.shape[1:])
    missing = padded_size - size
    return np.concatenate([array, np.repeat(array[:, :1], missing, axis=1)], axis=1) if missing else array


def _ahead(pool: ThreadPoolExecutor, items: Iterator[Any]) -> Iterator[Any]:
    """Yield items, each of which is made while the caller works with the one before."""
    following = pool.submit(next, items, END)
    while (item := following.result()) is not END:
        following = pool.submit(next, items, END)
        yield item
        del item  # or it would be held while the caller waits for the next


def _windows(data: Data, n_rows: int, size: int, num_steps: int, seed: int, epoch: int) -> Iterator[Any]:
    """Yield rows and weights in their order, each epoch filled up to whole minibatches with rows of weight zero."""
    arrays = (data.rows, data.weight)
    missing = -n_rows % size
    filling = {name: np.repeat(array[:1], missing, axis=0) for name, array in data.rows.items()}
    step = n_rows if size == n_rows else shuffle.WINDOW_ROWS
    wanted = num_steps * size
    while wanted > 0:
        for start in range(0, n_rows, step):
            if wanted > 0:
                # Bound to no name, or it would be held while the next is read.
                yield arrays if size == n_rows else _window(arrays, start // step, n_rows, seed, epoch)
                wanted -= min(step, n_rows - start)
        yield filling, np.zeros(missing, data.weight.dtype)
        wanted -= missing
        epoch += 1


def _window(arrays: Any, window: int, n_rows: int, seed: int, epoch: int) -> Any:
    """Read the blocks of a window, and put their rows into their places."""
    starts, order = shuffle.window_of(window, n_rows, seed, epoch)
    places = np.empty_like(order)
    places[order] = np.arange(len(order), dtype=order.dtype)
    read = jax.tree.map(lambda array: np.empty((len(order), *array.shape[1:]), array.dtype), arrays)
    pieces = []
    for first, start in zip(range(0, len(order), shuffle.BLOCK_ROWS), starts.tolist(), strict=True):
        length = min(shuffle.BLOCK_ROWS, len(order) - first)
        # Blocks go on with the first row after the last.
        split = min(length, n_rows - start)
        pieces.append((slice(start, start + split), places[first : first + split]))
        if split < length:
            pieces.append((slice(0, length - split), places[first + split : first + length]))
    for array in jax.tree.leaves(arrays):
        if hasattr(array, "fetch"):
            array.fetch([rows for rows, _ in pieces])
    # In the order of the source, which may be one that is best read forwards.
    for rows, to in sorted(pieces, key=lambda piece: piece[0].start):
        for array, out in zip(jax.tree.leaves(arrays), jax.tree.leaves(read), strict=True):
            out[to] = array[rows]
    return read


def _recut(pieces: Iterable[Any], size: int) -> Iterator[Any]:
    """Yield the rows of pieces in pieces of another size, the last of which may be shorter."""
    rest: list[Any] = []
    missing = size
    for piece in pieces:
        start, stop = 0, len(piece[1])
        while stop - start >= missing:
            rest.append(_cut(piece, start, start + missing))
            start += missing
            yield _joined(rest)
            rest, missing = [], size
        if start < stop:
            # A copy, so that the piece is not held.
            rest.append(jax.tree.map(np.array, _cut(piece, start, stop)))
            missing -= stop - start
    if rest:
        yield _joined(rest)


def _cut(piece: Any, start: int, stop: int) -> Any:
    return jax.tree.map(lambda array: np.asarray(array[start:stop]), piece)


def _joined(pieces: list[Any]) -> Any:
    return pieces[0] if len(pieces) == 1 else jax.tree.map(lambda *arrays: np.concatenate(arrays), *pieces)
