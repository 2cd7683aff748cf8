"""The random order of an epoch's rows, which is computed where it is needed, and held nowhere.

Rows are cut into blocks. An epoch permutes the blocks, and then the rows of each window of blocks that follow one
another, so that rows on disk are read in long pieces, and no more than a window of them is held.
"""

import functools
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
    """Return which rows stand at some places of an epoch's order.

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
    """Return what of :func:`ordered` belongs to one window.

    Returns
    -------
    starts : array
        First rows of the window's blocks, of which one may end short. After the last row comes the first.
    order : array
        Numbers of the rows among those of these blocks, one after the other.
    """
    inside = min(WINDOW_ROWS, n_rows - window * WINDOW_ROWS)
    # Few lengths, so that they share programs.
    length = min(WINDOW_ROWS, 1 << (inside - 1).bit_length())
    words = map(np.uint32, (window, inside, n_rows, n_rows // BLOCK_ROWS, seed, epoch))
    blocks, first, order = _window_of(*words, length=length, most_blocks=WINDOW_ROWS // BLOCK_ROWS)
    if n_rows <= WINDOW_ROWS:
        starts = np.arange(0, n_rows, BLOCK_ROWS)
    else:
        starts = (np.asarray(blocks, np.int64) * BLOCK_ROWS + int(first)) % n_rows
    return starts[: -(-inside // BLOCK_ROWS)], np.asarray(order)[:inside]


@functools.partial(jax.jit, static_argnames=("length", "most_blocks"))
def _window_of(
    window: Any, inside: Any, n_rows: Any, full_blocks: Any, seed: Any, epoch: Any, length: int, most_blocks: int
) -> tuple[Any, Any, Any]:
    key = key_of(seed, Purpose.ROW_ORDER, epoch)
    places = jnp.minimum(jnp.arange(length, dtype=jnp.uint32), inside - 1)
    blocks = window * most_blocks + jnp.arange(most_blocks, dtype=jnp.uint32)
    return _blocks(blocks, full_blocks, key), _first_row(n_rows, key), shuffled(places, inside, key, window)


def _first_row(n_rows: Any, key: Any) -> Any:
    """Return the row with which the first block begins: a random one, so that each may be in the short last block."""
    return jax.random.bits(jax.random.fold_in(key, 2), (), jnp.uint32) % jnp.asarray(n_rows, jnp.uint32)


def _blocks(places: Any, full_blocks: Any, key: Any) -> Any:
    """Return which blocks stand at some places; the last block stays where it is if it is short."""
    full_blocks = jnp.maximum(jnp.asarray(full_blocks, jnp.uint32), 1)
    found = shuffled(jnp.minimum(places, full_blocks - 1), full_blocks, jax.random.fold_in(key, 1))
    return jnp.where(places < full_blocks, found, places)


def shuffled(places: Any, n_rows: Any, key: Any, window: Any = 0) -> Any:
    """Return which numbers stand at some places of a random order of all numbers below a bound.

    A Feistel network permutes the numbers below a power of four; those that are no rows are permuted on until they are
    (Black and Rogaway 2002, Ciphers with arbitrary finite domains). It takes a few operations for each place, where to
    sort a million rows takes a second.

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
