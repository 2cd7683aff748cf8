"""The proof recognises affine functions, and never takes other functions for affine."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from skaimz.kernels import is_affine

A = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
PLACES = np.array([2, 0, 0, 1])
POSITIVE = np.array([True, False, True])

AFFINE = {
    "product": lambda x, z: A.T @ x + z[0],
    "product from the other side": lambda x, z: x @ A * z[0] - z[1],
    "batched product": lambda x, z: jnp.einsum("ij,i->ij", A, x)[:, None, :] - z[0],
    "table": lambda x, z: x[PLACES],
    "table with places that are given": lambda x, z: x[z.astype(int) % 3],
    "choice": lambda x, z: jnp.where(POSITIVE, x, 2 - x),
    "division": lambda x, z: x / (1 + z[0] ** 2) - z[1],
    "shapes": lambda x, z: jnp.concatenate([x[::-1].reshape(1, 3).T, jnp.ones((2, 1))]).squeeze().cumsum(),
    "mean": lambda x, z: jnp.mean(x) + jnp.exp(z),
    "stacked": lambda x, z: jnp.stack([x, jnp.broadcast_to(x[0], (3,))]),
    "padded": lambda x, z: jnp.pad(x, 2)[1:4],
    "called": lambda x, z: jax.jit(lambda a, b: a * b)(x, z[0]),
    "nothing to do with it": lambda x, z: jnp.sin(z),
    "convolution": lambda x, z: jnp.convolve(x, A[0]),
    "another precision": lambda x, z: x.astype(jnp.float16).astype(jnp.float32) * 0 + x,
}
OTHER = {
    "square": lambda x, z: x * x,
    "product with itself": lambda x, z: x @ x,
    "exponential": lambda x, z: jnp.exp(A.T @ x),
    "ratio": lambda x, z: z / x,
    "choice by itself": lambda x, z: jnp.where(x > 0, x, 0.0),
    "maximum": lambda x, z: jnp.maximum(x, 0.0),
    "absolute value": lambda x, z: jnp.abs(x),
    "whole numbers": lambda x, z: x.astype(int).astype(jnp.float32),
    "rounding": lambda x, z: jnp.round(x),
    "places": lambda x, z: z[x.astype(int)],
    "sorting": lambda x, z: jnp.sort(x),
    "largest": lambda x, z: jnp.max(x),
    "power": lambda x, z: x**3,
    "called": lambda x, z: jax.jit(lambda a: jnp.tanh(a))(x),
    "one of two results": lambda x, z: (x, x * x),
    "start of a slice": lambda x, z: jax.lax.dynamic_slice(z, (x[0].astype(int),), (1,)),
    "scan": lambda x, z: jax.lax.scan(lambda c, a: (c * a, c), 1.0, x)[0],
    "custom derivative": lambda x, z: jax.nn.relu(x),
}


def found(function):
    x = z = jnp.ones(3)
    return is_affine(jax.make_jaxpr(function)(x, z), [0])


@pytest.mark.parametrize("name", AFFINE)
def test_affine_functions_are_found_and_are_affine(name):
    function = AFFINE[name]
    assert found(function)
    rng = np.random.default_rng(1)
    z, *points = rng.normal(size=(101, 3)).astype(np.float32)
    each = np.stack([function(point, z) for point in points])
    np.testing.assert_allclose(each.mean(axis=0), function(np.mean(points, axis=0), z), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", OTHER)
def test_other_functions_are_not_taken_for_affine(name):
    assert not found(OTHER[name])
