"""Neural networks of NumPyro's examples: autoencoders, topics, deep Markov models."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from corpus.case import Case
from corpus.settings import svi
from flax import linen as nn
from jax.example_libraries import stax
from numpyro.contrib.einstein import RBFKernel, SteinVI
from numpyro.contrib.module import flax_module
from numpyro.infer import Trace_ELBO, TraceMeanField_ELBO
from numpyro.infer.autoguide import AutoDelta

__all__ = ["CASES"]

N_PIXELS, N_CODES = 9, 2


def pictures():
    """Bars on small images, half of them upright."""
    rng = np.random.default_rng(0)
    place, upright = rng.integers(3, size=80), rng.integers(2, size=80).astype(bool)
    bars = np.zeros((80, 3, 3))
    bars[np.arange(80), place] = 1.0
    bars[upright] = bars[upright].swapaxes(1, 2)
    noisy = np.where(rng.random(bars.shape) < 0.05, 1 - bars, bars)
    return noisy.astype(np.float32)


# A variational autoencoder, whose outcome is its input.
def digits():
    flat = pictures().reshape(-1, N_PIXELS)
    return flat, flat, {}


def decoder():
    return stax.serial(stax.Dense(8), stax.Softplus, stax.Dense(N_PIXELS), stax.Sigmoid)


def encoder():
    spread = stax.serial(stax.Dense(N_CODES), stax.Exp)
    return stax.serial(stax.Dense(8), stax.Softplus, stax.FanOut(2), stax.parallel(stax.Dense(N_CODES), spread))


def autoencoder(batch, pixels=None):
    decode = numpyro.module("decoder", decoder(), (batch.shape[0], N_CODES))
    with numpyro.plate("batch", batch.shape[0]):
        z = numpyro.sample("z", dist.Normal(0, 1).expand([N_CODES]).to_event(1))
        numpyro.sample("obs", dist.Bernoulli(decode(z)).to_event(1), obs=pixels)


def autoencoder_guide(batch, pixels=None):
    encode = numpyro.module("encoder", encoder(), (batch.shape[0], N_PIXELS))
    loc, scale = encode(batch)
    with numpyro.plate("batch", batch.shape[0]):
        numpyro.sample("z", dist.Normal(loc, scale).to_event(1))


# A conditional autoencoder completes an image of which one column is known.
def halves():
    whole = pictures()
    return whole[:, :, :1], whole, {}


class Baseline(nn.Module):
    """A first guess of the whole image."""

    @nn.compact
    def __call__(self, x):
        hidden = nn.relu(nn.Dense(8)(x.reshape(-1, 3)))
        return nn.sigmoid(nn.Dense(N_PIXELS)(hidden)).reshape(-1, 3, 3)


class Recogniser(nn.Module):
    """Mean and spread of the code of an image."""

    @nn.compact
    def __call__(self, x, y):
        both = jnp.concatenate([x.reshape(-1, 3), y.reshape(-1, N_PIXELS)], axis=-1)
        hidden = nn.relu(nn.Dense(8)(both))
        return nn.Dense(N_CODES)(hidden), jnp.exp(nn.Dense(N_CODES)(hidden))


class Generator(nn.Module):
    """An image from its code."""

    @nn.compact
    def __call__(self, z):
        return nn.sigmoid(nn.Dense(N_PIXELS)(nn.relu(nn.Dense(8)(z)))).reshape(-1, 3, 3)


SOME_X, SOME_Y = jnp.ones((1, 3, 1), jnp.float32), jnp.ones((1, 3, 3), jnp.float32)


def conditional_autoencoder(x, y=None):
    guess = flax_module("baseline", Baseline(), x=SOME_X)(x)
    loc, scale = flax_module("prior_net", Recogniser(), x=SOME_X, y=SOME_Y)(x, guess)
    z = numpyro.sample("z", dist.Normal(loc, scale))
    image = flax_module("generator", Generator(), z=jnp.ones((1, N_CODES), jnp.float32))(z)
    if y is None:
        numpyro.deterministic("y", image)
    else:
        numpyro.sample("y", dist.Bernoulli(image), obs=y)


def conditional_guide(x, y=None):
    loc, scale = flax_module("recogniser", Recogniser(), x=SOME_X, y=SOME_Y)(x, y)
    numpyro.sample("z", dist.Normal(loc, scale))


# Topics of documents: batch normalisation and dropout, in the kernel and in the guide.
def documents():
    rng = np.random.default_rng(1)
    topics = rng.dirichlet(np.full(12, 0.2), size=2)
    shares = rng.dirichlet(np.ones(2), size=60)
    counts = np.array([rng.multinomial(30, share @ topics) for share in shares])
    hyper = {"n_words": 12, "n_topics": 2, "hidden": 8, "dropout": 0.2}
    return counts.sum(axis=1), counts, {"hyper": hyper, "is_training": True}


class TopicEncoder(nn.Module):
    """Concentrations of the topics of documents."""

    n_topics: int
    hidden: int
    dropout: float

    @nn.compact
    def __call__(self, inputs, is_training):
        h = nn.softplus(nn.Dense(self.hidden)(inputs))
        h = nn.Dropout(self.dropout, deterministic=not is_training)(h)
        h = nn.Dense(self.n_topics)(h)
        norm = nn.BatchNorm(use_bias=False, use_scale=False, momentum=0.9, use_running_average=not is_training)
        return jnp.exp(norm(h))


class TopicDecoder(nn.Module):
    """Logits of words from topics."""

    n_words: int
    dropout: float

    @nn.compact
    def __call__(self, inputs, is_training):
        h = nn.Dropout(self.dropout, deterministic=not is_training)(inputs)
        h = nn.Dense(self.n_words, use_bias=False)(h)
        return nn.BatchNorm(use_bias=False, use_scale=False, momentum=0.9, use_running_average=not is_training)(h)


def topic_model(totals, docs=None, hyper=None, is_training=False):
    decode = flax_module(
        "decoder",
        TopicDecoder(hyper["n_words"], hyper["dropout"]),
        input_shape=(1, hyper["n_topics"]),
        apply_rng=["dropout"],
        mutable=["batch_stats"],
        is_training=True,
    )
    with numpyro.plate("documents", totals.shape[0]):
        theta = numpyro.sample("theta", dist.Dirichlet(jnp.ones(hyper["n_topics"])))
        logits = decode(theta, is_training, rngs={"dropout": numpyro.prng_key()})
        numpyro.sample("obs", dist.Multinomial(totals, logits=logits, total_count_max=30), obs=docs)


def topic_guide(totals, docs=None, hyper=None, is_training=False):
    encode = flax_module(
        "encoder",
        TopicEncoder(hyper["n_topics"], hyper["hidden"], hyper["dropout"]),
        input_shape=(1, hyper["n_words"]),
        apply_rng=["dropout"],
        mutable=["batch_stats"],
        is_training=True,
    )
    with numpyro.plate("documents", totals.shape[0]):
        concentration = encode(docs, is_training, rngs={"dropout": numpyro.prng_key()})
        numpyro.sample("theta", dist.Dirichlet(concentration))


# A Bayesian neural network whose plate draws minibatches.
def houses():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(60, 3))
    y = np.maximum(x @ [1.0, -0.5, 0.3], 0.0) + 0.2 * rng.normal(size=60)
    return x, (y - y.mean()) / y.std(), {"hidden": 5, "subsample_size": 20}


def network_in_minibatches(x, y=None, hidden=50, subsample_size=100):
    precision = numpyro.sample("precision", dist.Gamma(1.0, 0.1))
    weights = numpyro.sample("weights", dist.Gamma(1.0, 0.1))
    b1 = numpyro.sample("b1", dist.Normal(jnp.zeros(hidden), 1 / jnp.sqrt(weights)))
    b2 = numpyro.sample("b2", dist.Normal(0.0, 1 / jnp.sqrt(weights)))
    w1 = numpyro.sample("w1", dist.Normal(jnp.zeros((x.shape[1], hidden)), 1 / jnp.sqrt(weights)))
    w2 = numpyro.sample("w2", dist.Normal(jnp.zeros(hidden), 1 / jnp.sqrt(weights)))
    with numpyro.plate("data", x.shape[0], subsample_size=subsample_size, dim=-1):
        batch_x = numpyro.subsample(x, event_dim=1)
        batch_y = None if y is None else numpyro.subsample(y, event_dim=0)
        level = jnp.maximum(batch_x @ w1 + b1, 0) @ w2 + b2
        numpyro.sample("y", dist.Normal(level, 1 / jnp.sqrt(precision)), obs=batch_y)


# A deep Markov model of chords: networks of plain parameters, and a guide that reads the sequence backwards.
N_TIMES, N_TONES, N_STATES = 5, 4, 2


def tunes():
    rng = np.random.default_rng(3)
    lengths = rng.integers(3, N_TIMES + 1, size=30)
    played = (rng.random((30, N_TIMES, N_TONES)) < 0.4).astype(int)
    played[:, 1:, 0] = played[:, :-1, 1]
    played *= np.arange(N_TIMES)[None, :, None] < lengths[:, None, None]
    backwards = np.array([np.roll(tune[::-1], length, axis=0) for tune, length in zip(played, lengths, strict=True)])
    return lengths, played, {"backwards": backwards}


def weights(name, *shape):
    return numpyro.param(name, lambda key: 0.1 * jax.random.normal(key, shape))


def deep_markov(lengths, tunes=None, *, backwards):
    emit = [weights("emit_1", N_STATES, 6), weights("emit_2", 6, N_TONES)]
    move = [
        weights("gate", N_STATES, N_STATES),
        weights("move", N_STATES, N_STATES),
        weights("std", N_STATES, N_STATES),
    ]
    z0 = weights("z0", N_STATES)
    n_rows = lengths.shape[0]
    with numpyro.plate("data", n_rows, dim=-1):
        within = (jnp.arange(N_TIMES) < lengths[:, None])[..., None]
        # The mask leaves this density out, so that the next statement alone scores z.
        z = numpyro.sample("z", dist.Normal(0.0, jnp.ones((N_TIMES, N_STATES))).mask(False).to_event(2))
        before = jnp.concatenate([jnp.broadcast_to(z0, (n_rows, 1, N_STATES)), z[:, :-1]], axis=-2)
        gate = jax.nn.sigmoid(before @ move[0])
        loc = (1 - gate) * before + gate * (before @ move[1])
        scale = jax.nn.softplus(before @ move[2]) + 0.1
        numpyro.sample("z_aux", dist.Normal(loc, scale).mask(within).to_event(2), obs=z)
        logits = jax.nn.relu(z @ emit[0]) @ emit[1]
        numpyro.sample("tunes", dist.Bernoulli(logits=logits).mask(within).to_event(2), obs=tunes)


def deep_markov_guide(lengths, tunes=None, *, backwards):
    read, keep = weights("read", N_TONES, 6), weights("keep", 6, 6)
    mean, spread = weights("mean", 6, N_STATES), weights("spread", 6, N_STATES)

    def step(state, inputs):
        t, x = inputs
        state = jnp.where((t < lengths)[:, None], jnp.tanh(x @ read + state @ keep), 0.0)
        return state, state

    with numpyro.plate("data", lengths.shape[0], dim=-1):
        within = (jnp.arange(N_TIMES) < lengths[:, None])[..., None]
        start = jnp.zeros((lengths.shape[0], 6))
        _, states = jax.lax.scan(step, start, (jnp.arange(N_TIMES), jnp.swapaxes(backwards, 0, 1)))
        states = jax.vmap(lambda state, n: jnp.roll(state[::-1], n, axis=0))(jnp.swapaxes(states, 0, 1), lengths)
        numpyro.sample("z", dist.Normal(states @ mean, jax.nn.softplus(states @ spread)).mask(within).to_event(2))


CASES = [
    Case(
        name="variational autoencoder",
        source="examples/vae.py",
        construct="`numpyro.module` of stax in the kernel and in an amortised guide",
        kernel=autoencoder,
        data=digits,
        inference=svi(lambda: autoencoder_guide),
        settings={"param_input": "batch", "param_output": "pixels"},
        local={"z": "codes can be exchanged and mirrored"},
    ),
    Case(
        name="conditional autoencoder",
        source="examples/cvae-flax/models.py",
        construct="`flax_module`, images as X and y, a deterministic site in the place of the outcome without y",
        kernel=conditional_autoencoder,
        data=halves,
        inference=svi(lambda: conditional_guide),
        settings={"param_input": "x"},
        local={"z": "codes can be exchanged and mirrored"},
    ),
    Case(
        name="ProdLDA",
        source="examples/prodlda.py",
        construct="`flax_module` with batch normalisation and dropout, an amortised guide that reads y",
        kernel=topic_model,
        data=documents,
        inference=svi(lambda: topic_guide, loss=TraceMeanField_ELBO()),
        settings={"param_input": "totals", "param_output": "docs"},
        at_prediction={"is_training": False},
        local={"theta": "topics can be exchanged"},
    ),
    Case(
        name="Bayesian neural network in minibatches",
        source="examples/stein_bnn.py",
        construct="a subsampling plate with `numpyro.subsample`; `AutoDelta`, Adagrad",
        kernel=network_in_minibatches,
        data=houses,
        inference=svi(lambda: AutoDelta(network_in_minibatches), optim=numpyro.optim.Adagrad(0.05)),
        settings={"param_input": "x"},
        at_prediction={"subsample_size": None},
        local=dict.fromkeys(("b1", "b2", "w1", "w2", "weights", "precision"), "hidden units can be exchanged"),
    ),
    Case(
        name="Bayesian neural network by Stein's method",
        source="examples/stein_bnn.py",
        construct="`SteinVI`",
        kernel=network_in_minibatches,
        data=houses,
        inference=lambda: SteinVI(
            network_in_minibatches, AutoDelta(network_in_minibatches), numpyro.optim.Adagrad(0.05), RBFKernel()
        ),
        settings={"param_input": "x"},
        at_prediction={"subsample_size": None},
        local=dict.fromkeys(("b1", "b2", "w1", "w2", "weights", "precision"), "hidden units can be exchanged"),
    ),
    Case(
        name="deep Markov model",
        source="examples/stein_dmm.py",
        construct="masks inside events, a prior that is written as an observation, a recurrent guide",
        kernel=deep_markov,
        data=tunes,
        inference=svi(lambda: deep_markov_guide, loss=Trace_ELBO()),
        settings={"param_input": "lengths", "param_output": "tunes"},
        local={"z": "states can be exchanged and mirrored"},
    ),
]
