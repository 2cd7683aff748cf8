"""A model of the notebook nnx_example: two networks, for the mean and for the spread."""

import numpy as np
import numpyro
import numpyro.distributions as dist
from corpus.case import Case
from corpus.settings import svi
from flax import nnx
from numpyro.contrib.module import nnx_module

__all__ = ["CASES"]


class Network(nnx.Module):
    """One hidden layer."""

    def __init__(self, n_hidden, *, rngs):
        self.hidden = nnx.Linear(1, n_hidden, rngs=rngs)
        self.out = nnx.Linear(n_hidden, 1, rngs=rngs)

    def __call__(self, x):
        return self.out(nnx.sigmoid(self.hidden(x)))


def two_networks(x, y=None):
    mean_network = nnx_module("mean_network", Network(8, rngs=nnx.Rngs(0)))
    spread_network = nnx_module("spread_network", Network(4, rngs=nnx.Rngs(1)))
    mean = numpyro.deterministic("mean", mean_network(x[:, None])[:, 0])
    spread = numpyro.deterministic("spread", nnx.softplus(spread_network(x[:, None])[:, 0]))
    with numpyro.plate("data", len(x)):
        numpyro.sample("likelihood", dist.Normal(mean, spread), obs=y)


def wave():
    rng = np.random.default_rng(0)
    x = np.linspace(1.0, np.pi, 100)
    return x, np.sqrt(x + 0.5) * np.sin(4.0 * x) + 0.1 * x**2 * rng.normal(size=100)


def nothing(x, y=None):
    """A guide for a kernel without latent sites."""


CASES = [
    Case(
        name="wave by two networks",
        source="notebooks/source/nnx_example.ipynb",
        construct="`nnx_module` twice, no latent site",
        kernel=two_networks,
        data=lambda: (*wave(), {}),
        inference=svi(lambda: nothing),
        settings={"param_input": "x"},
    ),
]
