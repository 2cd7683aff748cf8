"""Random keys and generators for all purposes, derived from one seed."""

import enum
from typing import Any

import jax
import numpy as np

__all__ = ["Purpose", "generator_of", "key_of"]


@enum.unique
class Purpose(enum.IntEnum):
    """The use of random numbers. Each purpose has an independent stream of random numbers."""

    # Predictions
    EXPECTATION = 1
    OUTCOME = 2
    PRIOR_SITE = 3
    CHOSEN_DRAWS = 4
    BROKEN_TIES = 5
    STATE = 6
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
    PARTICLES = 29
    PARTICLE_DRAW = 30
    FRESH_PARTICLE_DRAW = 31


def key_of(seed: Any, purpose: Any, *places: Any) -> Any:
    """Return a JAX key.

    Parameters
    ----------
    seed : int or array of uint32
    purpose : Purpose or array of uint32
    *places : int or array
        Numbers that identify a stream within the purpose, such as those of a tile and a draw.

    Returns
    -------
    JAX key
    """
    key = jax.random.key(seed)
    for place in (purpose, *places):
        key = jax.random.fold_in(key, int(place) if isinstance(place, Purpose) else place)
    return key


def generator_of(seed: int, purpose: Purpose, *places: int) -> np.random.Generator:
    """Return a NumPy generator.

    Parameters
    ----------
    seed : int
    purpose : Purpose
    *places : int
        Numbers that identify a stream within the purpose, such as that of a chain.

    Returns
    -------
    numpy.random.Generator
        Based on SFC64, the fastest bit generator of NumPy.
    """
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence((seed, purpose, *places))))
