"""A random order of rows that is computed where it is needed, and held nowhere."""

from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["shuffled"]

ROUNDS = 6


def shuffled(places: Any, n_rows: Any, most_rows: int, key: Any) -> Any:
    """Return which rows stand at some places of a random order of all rows.

    A Feistel network permutes the numbers below a power of four; those that are no rows are permuted on until they are
    (Black and Rogaway 2002, Ciphers with arbitrary finite domains). It takes a few operations for each place, where to
    sort a million rows takes a second.

    Parameters
    ----------
    places : array of uint32
        Below ``n_rows``.
    n_rows : int
        Not static.
    most_rows : int
        Static bound on ``n_rows``.
    key : key
        Another one gives another order.

    Returns
    -------
    array of uint32 of the shape of ``places``
        Below ``n_rows``; other places have other rows.
    """
    half = max(1, ((most_rows - 1).bit_length() + 1) // 2)
    mask = jnp.uint32(2**half - 1)
    secrets = jax.random.bits(key, (ROUNDS,), jnp.uint32)

    def permuted(number: Any) -> Any:
        left, right = number >> half, number & mask
        for i in range(ROUNDS):
            left, right = right, left ^ (_mixed(right + secrets[i]) & mask)
        return (left << half) | right

    n_rows = jnp.asarray(n_rows, jnp.uint32)
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
