"""The random order of an epoch's rows, which is computed place by place and never stored.

Rows are cut into blocks. An epoch permutes the blocks, and then the rows within each window of consecutive blocks, so
that rows on disk are read block by block, and only a window of them is in memory.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from skaimz.runtime import Purpose, key_of

__all__ = ["BLOCK_ROWS", "WINDOW_ROWS", "ordered", "shuffled", "window_of"]

BLOCK_ROWS = 2**13
# A multiple of the rows of a block.
WINDOW_ROWS = 2**18
ROUNDS = 6


def ordered(places: Any, n_rows: Any, most_rows: int, seed: Any, epoch: Any) -> Any:
    """Return the rows at some places of an epoch's order.

    Parameters
    ----------
    places : array of uint32
        Below ``n_rows``.
    n_rows : int
        Not static.
    most_rows : int
        Static bound on ``n_rows``: one window needs no permutation of its blocks.
    seed, epoch : int
        Others give another order.

    Returns
    -------
    array of uint32 of the shape of ``places``
    """
    key = key_of(seed, Purpose.ROW_ORDER, epoch)
    if most_rows <= WINDOW_ROWS:
        return shuffled(places, n_rows, key)
    window = places // WINDOW_ROWS
    first = window * WINDOW_ROWS
    inside = jnp.minimum(jnp.asarray(n_rows, jnp.uint32) - first, WINDOW_ROWS)
    places = first + shuffled(places - first, inside, key, window)
    rows = _blocks(places // BLOCK_ROWS, n_rows // BLOCK_ROWS, key) * BLOCK_ROWS + places % BLOCK_ROWS
    first = _first_row(n_rows, key)
    # Not a remainder of the sum, which may be more than 32 bits hold.
    return jnp.where(rows < n_rows - first, rows + first, rows - (n_rows - first))


def window_of(window: int, n_rows: int, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """Return one window of the order of :func:`ordered`.

    Returns
    -------
    starts : array
        First rows of the window's blocks, of which one may be short. The first row of all follows the last one.
    order : array
        Numbers of the rows, counted over these blocks one after the other.
    """
    inside = min(WINDOW_ROWS, n_rows - window * WINDOW_ROWS)
    # Few lengths, so that they share programs.
    length = min(WINDOW_ROWS, 1 << (inside - 1).bit_length())
    per_window = WINDOW_ROWS // BLOCK_ROWS
    blocks = np.arange(window * per_window, (window + 1) * per_window, dtype=np.uint32)
    places = np.minimum(np.arange(length, dtype=np.uint32), np.uint32(inside - 1))
    sizes = tuple(map(np.uint32, (inside, n_rows, n_rows // BLOCK_ROWS)))
    blocks, first, order = _window_of(blocks, places, np.uint32(window), sizes, np.uint32(seed), np.uint32(epoch))
    if n_rows <= WINDOW_ROWS:
        starts = np.arange(0, n_rows, BLOCK_ROWS)
    else:
        starts = (np.asarray(blocks, np.int64) * BLOCK_ROWS + int(first)) % n_rows
    return starts[: -(-inside // BLOCK_ROWS)], np.asarray(order)[:inside]


@jax.jit
def _window_of(blocks: Any, places: Any, window: Any, sizes: tuple, seed: Any, epoch: Any) -> tuple[Any, Any, Any]:
    """Return a window's blocks in their order, the first row of all blocks, and the window's rows in their order.

    ``sizes`` are the number of rows in the window and of all rows, and the number of blocks that are not short.
    """
    inside, n_rows, full_blocks = sizes
    key = key_of(seed, Purpose.ROW_ORDER, epoch)
    return _blocks(blocks, full_blocks, key), _first_row(n_rows, key), shuffled(places, inside, key, window)


def _first_row(n_rows: Any, key: Any) -> Any:
    """Return the row where the first block begins: a random one, so that any row can be in the short last block."""
    return jax.random.bits(jax.random.fold_in(key, 2), (), jnp.uint32) % jnp.asarray(n_rows, jnp.uint32)


def _blocks(places: Any, full_blocks: Any, key: Any) -> Any:
    """Return the blocks at some places; a short block stays last."""
    full_blocks = jnp.maximum(jnp.asarray(full_blocks, jnp.uint32), 1)
    permuted = shuffled(jnp.minimum(places, full_blocks - 1), full_blocks, jax.random.fold_in(key, 1))
    return jnp.where(places < full_blocks, permuted, places)


def shuffled(places: Any, n_rows: Any, key: Any, window: Any = 0) -> Any:
    """Return the numbers at some places of a random order of all numbers below a bound.

    A Feistel network permutes the numbers below a power of four. Numbers that are not below the bound are permuted
    again until they are (Black and Rogaway 2002, Ciphers with arbitrary finite domains). This takes a few operations
    for each place, while sorting a million rows takes a second.

    Parameters
    ----------
    places : array of uint32
        Below ``n_rows``.
    n_rows : int, or array of the shape of ``places``
        Not static.
    key : key
        Another one gives another order.
    window : int, or array of the shape of ``places``
        Another one gives another order too.

    Returns
    -------
    array of uint32 of the shape of ``places``
        Below ``n_rows``; other places have other rows.
    """
    n_rows = jnp.asarray(n_rows, jnp.uint32)
    # Half the bits of the largest number, and three at least, as few rounds mix no fewer.
    half = jnp.maximum(3, (33 - jax.lax.clz(n_rows - 1)) // 2).astype(jnp.uint32)
    mask = (jnp.uint32(1) << half) - 1
    secrets = jax.random.bits(key, (ROUNDS,), jnp.uint32)
    # The first window's is zero.
    own = _mixed(jnp.asarray(window, jnp.uint32))

    def permuted(number: Any) -> Any:
        left, right = number >> half, number & mask
        for i in range(ROUNDS):
            left, right = right, left ^ (_mixed(right + secrets[i] + own) & mask)
        return (left << half) | right

    return jax.lax.while_loop(
        lambda rows: (rows >= n_rows).any(),
        lambda rows: jnp.where(rows < n_rows, rows, permuted(rows)),
        permuted(places),
    )


def _mixed(word: Any) -> Any:
    """Return a word each of whose bits depends on all bits of another (C. Wellons' ``lowbias32``)."""
    word = (word ^ (word >> 16)) * jnp.uint32(0x7FEB352D)
    word = (word ^ (word >> 15)) * jnp.uint32(0x846CA68B)
    return word ^ (word >> 16)
