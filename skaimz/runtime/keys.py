"""Random numbers from one seed: what they are for, and how a key or a generator is derived."""

import enum
from typing import Any

import jax
import numpy as np

__all__ = ["Purpose", "generator_of", "key_of"]


@enum.unique
class Purpose(enum.IntEnum):
    """What random numbers are for. Each purpose has a stream of its own."""

    # Predictions
    EXPECTATION = 1
    OUTCOME = 2
    PRIOR_SITE = 3
    CHOSEN_DRAWS = 4
    BROKEN_TIES = 5
    # Variational inference
    GUIDE_START = 11
    ROW_ORDER = 12
    GUIDE_DRAW = 13
    FRESH_GUIDE_DRAW = 15
    # Markov chains
    CHAIN = 14
    # Automatic inference
    PRIOR_POSITION = 16
    PROPOSAL = 17
    RESAMPLING = 18
    FRESH_RESAMPLING = 19
    TEST_POSITION = 20
    CHAIN_START = 21
    CLOSED_FORM = 22
    # Engines of other packages
    ENGINE_PATH = 23
    ENGINE_RESAMPLING = 24
    FRESH_ENGINE_RESAMPLING = 25
    FRESH_ENGINE_SEED = 26
    LIVE_POINTS = 27
    ENGINE_CHAIN = 28


def key_of(seed: Any, purpose: Any, *places: Any) -> Any:
    """Return JAX's random key for a purpose and a place.

    Parameters
    ----------
    seed : int or array of uint32
    purpose : Purpose or array of uint32
    *places : int or array
        What the numbers belong to, such as a tile and a draw.

    Returns
    -------
    JAX key
    """
    key = jax.random.key(seed)
    for place in (purpose, *places):
        key = jax.random.fold_in(key, int(place) if isinstance(place, Purpose) else place)
    return key


def generator_of(seed: int, purpose: Purpose, *places: int) -> np.random.Generator:
    """Return NumPy's generator for a purpose and a place.

    Parameters
    ----------
    seed : int
    purpose : Purpose
    *places : int
        What the numbers belong to, such as a chain.

    Returns
    -------
    numpy.random.Generator
        SFC64, NumPy's fastest.
    """
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence((seed, purpose, *places))))
