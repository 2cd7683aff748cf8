"""Random keys from one seed."""

from typing import Any

import jax

__all__ = ["key_of"]


def key_of(seed: Any, *places: Any) -> Any:
    """Derive a key from a seed and the places (purpose, tile, draw, ...) that it is for."""
    key = jax.random.key(seed)
    for place in places:
        key = jax.random.fold_in(key, place)
    return key
