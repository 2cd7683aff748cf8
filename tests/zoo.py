"""Kernels that the tests share. They live in a module, so that they can be pickled by name."""

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist


def linear(X, y=None):
    intercept = numpyro.sample("intercept", dist.Normal(0.0, 100.0))
    coef = numpyro.sample("coef", dist.Normal(0.0, 10.0).expand([X.shape[1]]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(10.0))
    mu = numpyro.deterministic("mu", intercept + X @ coef)
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(mu, sigma), obs=y)


def conjugate(X, y=None):
    """Normal slopes with unit noise: the posterior is normal and known in closed form."""
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ coef, 0.5), obs=y)


def softmax(X, y=None, *, n_classes):
    alpha = numpyro.sample("alpha", dist.Normal(0.0, 5.0).expand([n_classes]).to_event(1))
    beta = numpyro.sample("beta", dist.Normal(0.0, 5.0).expand([X.shape[1], n_classes]).to_event(2))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Categorical(logits=X @ beta + alpha[None, :]), obs=y)


def logistic(X, y=None):
    coef = numpyro.sample("coef", dist.Normal(0.0, 2.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Bernoulli(logits=X @ coef), obs=y)


def ordered(X, y=None):
    coef = numpyro.sample("coef", dist.Normal(0.0, 2.0).expand([X.shape[1]]).to_event(1))
    first = numpyro.sample("first", dist.Normal(-1.0, 1.0))
    gap = numpyro.sample("gap", dist.HalfNormal(2.0))
    cutpoints = jnp.stack([first, first + gap])
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.OrderedLogistic(X @ coef, cutpoints), obs=y)


def poisson(X, y=None, *, exposure):
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Poisson(exposure * jnp.exp(X @ coef)), obs=y)


def cauchy(X, y=None):
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Cauchy(X @ coef, 0.1), obs=y)


def truncated(X, y=None):
    """A law whose moments NumPyro has no formula for."""
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.TruncatedNormal(X @ coef, 1.0, low=-1.0, high=3.0), obs=y)


def random_effects(X, y=None):
    """An effect for each row: latent on the row axis."""
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        effect = numpyro.sample("effect", dist.Normal(0.0, 2.0))
        numpyro.sample("y", dist.Normal(X @ coef + effect, 0.5), obs=y)


def centring(X, y=None):
    """Rows depend on one another through their mean."""
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal((X - X.mean(axis=0, keepdims=True)) @ coef, 0.5), obs=y)


def two_outputs(X, y=None):
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([X.shape[1], 2]).to_event(2))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ coef, 0.5).to_event(1), obs=y)


def renamed(features, outcome=None, *, offset=0.0):
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([features.shape[1]]).to_event(1))
    with numpyro.plate("rows", features.shape[0]):
        numpyro.sample("observed", dist.Normal(features @ coef + offset, 0.5), obs=outcome)


class Shrinkage:
    """A kernel object whose numbers can be searched."""

    def __init__(self, prior_scale=1.0, noise=0.5):
        self.prior_scale = prior_scale
        self.noise = noise

    def get_params(self, deep=True):
        return {"prior_scale": self.prior_scale, "noise": self.noise}

    def set_params(self, **params):
        vars(self).update(params)
        return self

    def __call__(self, X, y=None):
        coef = numpyro.sample("coef", dist.Normal(0.0, self.prior_scale).expand([X.shape[1]]).to_event(1))
        with numpyro.plate("rows", X.shape[0]):
            numpyro.sample("y", dist.Normal(X @ coef, self.noise), obs=y)


def centred_deterministic(X, y=None):
    """A site that mixes rows beside an output that does not."""
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    numpyro.deterministic("centred", (X - X.mean(axis=0, keepdims=True))[:, 0])
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ coef, 0.5), obs=y)
