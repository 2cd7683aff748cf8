"""Kernels and guides that contain networks of flax, equinox and stax. They live in a module, to be pickled by name."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from flax import linen, nnx
from jax.example_libraries import stax
from numpyro import handlers
from numpyro.contrib.module import (
    eqx_module,
    flax_module,
    nnx_module,
    random_eqx_module,
    random_flax_module,
    random_nnx_module,
)

NOISE = 0.1


def observed(mean, y, sigma=NOISE):
    with numpyro.plate("rows", mean.shape[0]):
        numpyro.sample("y", dist.Normal(mean, sigma), obs=y)


class Linen(linen.Module):
    width: int = 3

    @linen.compact
    def __call__(self, x):
        return linen.Dense(1)(linen.tanh(linen.Dense(self.width)(x)))[..., 0]


class Nnx(nnx.Module):
    def __init__(self, width, *, rngs):
        self.first = nnx.Linear(2, width, rngs=rngs)
        self.last = nnx.Linear(width, 1, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.tanh(self.first(x)))[..., 0]


NNX = Nnx(3, rngs=nnx.Rngs(0))
EQX = eqx.nn.MLP(2, "scalar", 3, 1, activation=jnp.tanh, key=jax.random.key(0))
STAX = stax.serial(stax.Dense(3), stax.Tanh, stax.Dense(1))


def of_flax(X, y=None):
    net = flax_module("net", Linen(), input_shape=(1, 2))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    observed(net(X), y, sigma)


def of_nnx(X, y=None):
    net = nnx_module("net", NNX)
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    observed(net(X), y, sigma)


def of_eqx(X, y=None):
    net = eqx_module("net", EQX)
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    observed(jax.vmap(net)(X), y, sigma)


def of_stax(X, y=None):
    net = numpyro.module("net", STAX, input_shape=(1, 2))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    observed(net(X)[..., 0], y, sigma)


def in_scope(X, y=None):
    with handlers.scope(prefix="a"):
        of_flax(X, y)


def with_equal_names(X, y=None):
    numpyro.sample("a.b", dist.Normal())
    numpyro.sample("a/b", dist.Normal())
    observed(X[:, 0], y)


def random_flax(X, y=None):
    net = random_flax_module("net", Linen(2), dist.Normal(), input_shape=(1, 2))
    observed(numpyro.deterministic("mu", net(X)), y)


def random_layer(X, y=None):
    net = random_flax_module("net", linen.Dense(1, use_bias=False), dist.Normal(), input_shape=(1, 2))
    observed(net(X)[..., 0], y)


def random_nnx(X, y=None):
    net = random_nnx_module("net", NNX, dist.Normal())
    observed(numpyro.deterministic("mu", net(X)), y)


def random_eqx(X, y=None):
    net = random_eqx_module("net", EQX, dist.Normal())
    observed(numpyro.deterministic("mu", jax.vmap(net)(X)), y)


class Normalised(linen.Module):
    @linen.compact
    def __call__(self, x, train):
        x = linen.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        return linen.Dense(1)(x)[..., 0]


def batch_norm(X, y=None):
    net = flax_module("net", Normalised(), train=False, input_shape=(1, 2), mutable=["batch_stats"])
    observed(net(X, train=y is not None), y)


def random_batch_norm(X, y=None):
    net = random_flax_module(
        "net", Normalised(), dist.Normal(), train=False, input_shape=(1, 2), mutable=["batch_stats"]
    )
    observed(net(X, train=y is not None), y)


class NnxNormalised(nnx.Module):
    def __init__(self, *, rngs):
        self.norm = nnx.BatchNorm(2, momentum=0.9, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.last = nnx.Linear(2, 1, rngs=rngs)

    def __call__(self, x, train):
        x = self.norm(x, use_running_average=not train)
        return self.last(self.drop(x, deterministic=not train))[..., 0]


NNX_NORMALISED = NnxNormalised(rngs=nnx.Rngs(0))


def nnx_batch_norm(X, y=None):
    net = nnx_module("net", NNX_NORMALISED)
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    observed(net(X, train=y is not None), y, sigma)


EQX_NORM, EQX_STATE = eqx.nn.make_with_state(eqx.nn.BatchNorm)(2, "batch", mode="batch")
EQX_LAST = eqx.nn.Linear(2, 1, key=jax.random.key(0))


def eqx_batch_norm(X, y=None):
    norm = eqx_module("norm", eqx.nn.inference_mode(EQX_NORM, value=y is None))
    holder = numpyro.primitives.mutable("norm$state", {"state": EQX_STATE})
    hidden, holder["state"] = normalised_by(norm, X, holder["state"])
    observed(jax.vmap(eqx_module("last", EQX_LAST))(hidden)[:, 0], y)


def normalised_by(norm, X, state):
    return jax.vmap(norm, in_axes=(0, None), out_axes=(0, None), axis_name="batch")(X, state)


class Dropped(linen.Module):
    @linen.compact
    def __call__(self, x, train):
        return linen.Dense(1)(linen.Dropout(0.3, deterministic=not train)(x))[..., 0]


def dropout(X, y=None):
    net = flax_module("net", Dropped(), train=False, input_shape=(1, 2), apply_rng=["dropout"])
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    observed(net(X, train=y is not None, rngs={"dropout": numpyro.prng_key()}), y, sigma)


LAYERS = [Linen(3), nnx.Linear(2, 1, rngs=nnx.Rngs(0)), EQX, STAX]


def widened(layer):
    """Return a network of the same kind that differs in its shape or in its first values."""
    if layer is STAX:
        return stax.serial(stax.Dense(4), stax.Tanh, stax.Dense(1))
    if layer is EQX:
        return eqx.nn.MLP(2, "scalar", 3, 1, activation=jax.nn.relu, key=jax.random.key(0))
    return Linen(4) if isinstance(layer, linen.Module) else nnx.Linear(2, 1, rngs=nnx.Rngs(1))


def of_any(X, y=None, *, layer):
    if isinstance(layer, linen.Module):
        mean = flax_module("net", layer, input_shape=(1, 2))(X)
    elif isinstance(layer, nnx.Module):
        mean = nnx_module("net", layer)(X)[..., 0]
    elif isinstance(layer, eqx.Module):
        mean = jax.vmap(eqx_module("net", layer))(X)
    else:
        mean = numpyro.module("net", layer, input_shape=(1, 2))(X)[..., 0]
    observed(mean, y)


LOADING, SPREAD = jnp.array([[1.0, 0.5, -1.0]]), 0.5


def ppca(X, y=None):
    """Probabilistic principal components with known loadings: the posterior of a row's factor is normal."""
    with numpyro.plate("rows", X.shape[0]):
        factor = numpyro.sample("factor", dist.Normal(jnp.zeros(1), 1.0).to_event(1))
        numpyro.sample("y", dist.Normal(factor @ LOADING, SPREAD).to_event(1), obs=y)


class Encoder(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(1)(x), jnp.exp(self.param("log_scale", linen.initializers.zeros, (1,)))


def encoder(X, y=None):
    loc, scale = flax_module("encoder", Encoder(), input_shape=(1, 3))(X)
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("factor", dist.Normal(loc, scale).to_event(1))


def encoder_of_outcomes(X, y=None):
    encoder(jnp.concatenate([y, X[:, 3:]], axis=1))


def of_these_rows(X, y=None):
    loc = numpyro.param("loc", jnp.zeros((X.shape[0], 1)))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("factor", dist.Normal(loc, 0.3).to_event(1))
