"""The fast generator gives the same bits as that of JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skaimz.runtime import fused_key
from skaimz.runtime.generator import FUSED, _counters

KEYS = [0, 7, 2**31, 2**32 - 1]


def pair(seed=7):
    key = jax.random.key(seed)
    return key, jax.random.wrap_key_data(jax.random.key_data(key), impl=FUSED)


def data(keys):
    return np.asarray(jax.random.key_data(keys))


@pytest.mark.parametrize("seed", KEYS)
@pytest.mark.parametrize("width", ["uint8", "uint16", "uint32"])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (13,), (3, 4, 5)])
def test_bits(seed, width, shape):
    ours, theirs = (jax.random.bits(key, shape, width) for key in pair(seed))
    np.testing.assert_array_equal(ours, theirs)


def test_wide_bits_and_seeds():
    with jax.enable_x64(True):
        for seed in (5, 2**40 + 3, 2**63 + 1):
            key = jax.random.key(np.uint64(seed))
            fused = jax.random.key(np.uint64(seed), impl=FUSED)
            np.testing.assert_array_equal(data(fused), data(key))
            np.testing.assert_array_equal(jax.random.bits(fused, (9,), "uint64"), jax.random.bits(key, (9,), "uint64"))
            np.testing.assert_array_equal(jax.random.normal(fused, (9,)), jax.random.normal(key, (9,)))


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), number=st.integers(0, 2**32 - 1))
def test_keys_made_of_keys(seed, number):
    plain, fused = pair(seed)
    np.testing.assert_array_equal(data(jax.random.split(fused, (2, 3))), data(jax.random.split(plain, (2, 3))))
    folded = [data(jax.random.fold_in(key, np.uint32(number))) for key in (plain, fused)]
    np.testing.assert_array_equal(*folded)


def test_under_transformations():
    def draw(key):
        return jax.random.normal(jax.random.fold_in(key, 3), (4,))

    plain, fused = pair()
    expected = draw(plain)
    np.testing.assert_array_equal(jax.jit(draw)(fused), expected)
    each = [jax.vmap(draw)(jax.random.split(key, 5)) for key in (plain, fused)]
    np.testing.assert_array_equal(*each)
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()[:1]), ("rows",))
    spec = jax.sharding.PartitionSpec("rows")
    sharded = [
        jax.jit(jax.shard_map(jax.vmap(draw), mesh=mesh, in_specs=spec, out_specs=spec))(jax.random.split(key, 4))
        for key in (plain, fused)
    ]
    np.testing.assert_array_equal(*sharded)


@pytest.mark.parametrize("shape", [(2**31, 6), (3, 2**31, 2), (2**16, 2**16, 5)])
def test_counters_beyond_32_bits(shape):
    """Counters of single elements of an array that is too large for memory."""
    with jax.enable_x64(True):
        places = [tuple(size - 1 for size in shape), (0,) * len(shape), tuple(size // 2 for size in shape)]
        for place in places:
            expected = sum(i * int(np.prod(shape[axis + 1 :], dtype=object)) for axis, i in enumerate(place))
            found = jax.jit(lambda place=place: [word[place] for word in _counters(shape)])
            high, low = found()
            assert (int(high) << 32) + int(low) == expected


def test_uniform_numbers_are_uniform():
    drawn = np.asarray(jax.random.uniform(fused_key(jax.random.key(1)), (200_000,)))
    counts = np.histogram(drawn, bins=50, range=(0, 1))[0]
    assert ((counts - 4000) ** 2 / 4000).sum() < 90  # chi-square with 49 degrees of freedom, p about 0.0003


def test_only_the_cpu_needs_it():
    key = jax.random.key(0)
    assert jax.random.key_impl(fused_key(key)) != jax.random.key_impl(key)
    assert jnp.array_equal(jax.random.key_data(fused_key(key)), jax.random.key_data(key))
