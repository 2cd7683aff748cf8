"""Kernels that the tests share. They live in a module, so that they can be pickled by name."""

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro.contrib.control_flow import scan


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
    """A distribution whose moments NumPyro has no formula for."""
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


def by_school(X, y=None):
    """Effects of groups, whose indicators are the columns of X, around a common centre; not centred."""
    centre = numpyro.sample("centre", dist.Normal(0.0, 1.0))
    spread = numpyro.sample("spread", dist.HalfNormal(1.0))
    off = numpyro.sample("off", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ (centre + spread * off), 0.5), obs=y)


def grouped(X, y=None):
    """Effects of rows whose prior has parameters of its own."""
    level = numpyro.sample("level", dist.Normal(0.0, 5.0))
    spread = numpyro.sample("spread", dist.HalfNormal(5.0))
    with numpyro.plate("rows", X.shape[0]):
        effect = numpyro.sample("effect", dist.Normal(level, spread))
        mu = numpyro.deterministic("mu", X[:, 0] + effect)
        numpyro.sample("y", dist.Normal(mu, 0.5), obs=y)


def sensor_counts(X, y=None):
    """Three sensors count on every row: rows are the second axis, of the output and of a latent site."""
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0], dim=-1):
        shift = numpyro.sample("shift", dist.Normal(0.0, 0.5))
        with numpyro.plate("sensors", 3, dim=-2):
            jitter = numpyro.sample("jitter", dist.Normal(0.0, 0.3))
            rate = numpyro.deterministic("rate", jnp.exp((1.0 + slope * X[:, 0] + shift)[None, :] + jitter))
            numpyro.sample("y", dist.Poisson(rate), obs=None if y is None else y.T)


def sensors(X, y=None):
    """Three sensors with a slope each: rows are the second axis of a continuous output."""
    with numpyro.plate("sensors", 3, dim=-2):
        slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
        with numpyro.plate("rows", X.shape[0], dim=-1):
            numpyro.sample("y", dist.Normal(slope * X[None, :, 0], 0.5), obs=None if y is None else y.T)


def correlated(X, y=None):
    """Two outputs a row that go together."""
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    mean = slope * X[:, :2]
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.MultivariateNormal(mean, jnp.array([[1.0, 0.6], [0.6, 0.5]])), obs=y)


def running(X, y=None):
    """The mean of a row is the sum over all rows before it."""
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    mu = numpyro.deterministic("mu", jnp.cumsum(slope * X[:, 0]))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(mu, 0.5), obs=y)


def running_counts(X, y=None):
    """Counts whose rate depends on all rows before."""
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    rate = numpyro.deterministic("rate", jnp.exp(1.0 + jnp.tanh(jnp.cumsum(slope * X[:, 0]))))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Poisson(rate), obs=y)


def random_walk(X, y=None):
    """Rows depend on one another through latent steps."""
    scale = numpyro.sample("scale", dist.HalfNormal(1.0))
    with numpyro.plate("rows", X.shape[0]):
        step = numpyro.sample("step", dist.Normal(0.0, scale))
    place = numpyro.deterministic("place", jnp.cumsum(step))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(place, 0.5), obs=y)


def many_shapes(X, y=None):
    """Deterministic sites of every rank and type, with rows and without."""
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    numpyro.deterministic("squared", coef**2)
    numpyro.deterministic("total", coef.sum())
    mu = numpyro.deterministic("mu", X @ coef)
    numpyro.deterministic("parts", X * coef[None, :])
    numpyro.deterministic("turned", (X * coef[None, :]).T)
    numpyro.deterministic("above", mu > 0)
    numpyro.deterministic("floored", jnp.floor(mu).astype(jnp.int16))
    numpyro.deterministic("rounded", mu.astype(jnp.bfloat16))
    numpyro.deterministic("positive", (coef > 0).sum())
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(mu, 0.5), obs=y)


def without_latents(X, y=None):
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X[:, 0], 0.5), obs=y)


def hidden_class(X, y=None):
    """A discrete latent site on the rows."""
    share = numpyro.sample("share", dist.Beta(2.0, 2.0))
    with numpyro.plate("rows", X.shape[0]):
        which = numpyro.sample("which", dist.Bernoulli(share))
        numpyro.sample("y", dist.Normal(X[:, 0] + 3.0 * which, 0.5), obs=y)


def mixture(X, y=None):
    share = numpyro.sample("share", dist.Beta(2.0, 2.0))
    means = X[:, :1] + jnp.array([[0.0, 3.0]])
    with numpyro.plate("rows", X.shape[0]):
        which = dist.Categorical(jnp.stack([1 - share, share]))
        numpyro.sample("y", dist.MixtureSameFamily(which, dist.Normal(means, 0.5)), obs=y)


def zero_inflated(X, y=None):
    share = numpyro.sample("share", dist.Beta(2.0, 2.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.ZeroInflatedPoisson(share, rate=jnp.exp(X[:, 0])), obs=y)


def improper(X, y=None):
    """A flat prior, which cannot be drawn from."""
    level = numpyro.sample("level", dist.ImproperUniform(dist.constraints.real, (), ()))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(level + X[:, 0], 0.5), obs=y)


def network(X, y=None):
    """Two layers of 32 units: matrices that are large in both directions."""
    first = numpyro.sample("first", dist.Normal(0.0, 1.0).expand([X.shape[1], 32]).to_event(2))
    second = numpyro.sample("second", dist.Normal(0.0, 1.0).expand([32, 32]).to_event(2))
    last = numpyro.sample("last", dist.Normal(0.0, 1.0).expand([32]).to_event(1))
    mu = numpyro.deterministic("mu", jnp.tanh(jnp.tanh(X @ first) @ second) @ last)
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(mu, 0.5), obs=y)


def joint(X, y=None):
    """One density for all rows, which lie on an event axis."""
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    numpyro.sample("y", dist.Normal(slope * X[:, 0], 0.5).to_event(1), obs=y)


def mediated(X, y=None):
    """A treatment works through a mediator, and beside it; both are latent on the rows."""
    b = numpyro.sample("b", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        t = numpyro.sample("t", dist.Normal(X[:, 0], 1.0))
        m = numpyro.sample("m", dist.Normal(b[0] * t, 0.5))
        numpyro.sample("y", dist.Normal(b[1] * m + b[2] * t, 0.5), obs=y)


def scanned(X, y=None):
    """A level that moves from row to row, in the body of a scan, and a site that nothing depends on."""
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    numpyro.sample("idle", dist.Normal(0.0, 1.0))

    def step(level, x):
        level = numpyro.sample("level", dist.Normal(level + slope * x[0], 0.1))
        return level, level

    _, levels = scan(step, 0.0, X)
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(levels, 0.5), obs=y)


def dosed(X, y=None, *, dose, centre=None):
    """An argument for each row, and one of integers that picks a level."""
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    levels = numpyro.sample("levels", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
    mu = X @ coef + slope * dose + (0.0 if centre is None else levels[centre])
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(mu, 0.5), obs=y)


def with_three_classes(X, y=None):
    softmax(X, y, n_classes=3)


def chained(X, y=None):
    """One latent on the rows leads to the next, and that one to the output."""
    with numpyro.plate("rows", X.shape[0]):
        a = numpyro.sample("a", dist.Normal(X[:, 0], 1.0))
        b = numpyro.sample("b", dist.Normal(a, 1.0))
        numpyro.sample("y", dist.Normal(b, 0.5), obs=y)


def trained(X, y=None, *, train):
    """An outcome with an effect of a treatment, which is an argument."""
    intercept = numpyro.sample("intercept", dist.Normal(5.0, 10.0))
    effect = numpyro.sample("effect", dist.Normal(0.0, 10.0))
    coef = numpyro.sample("coef", dist.Normal(0.0, 5.0).expand([X.shape[1]]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(10.0))
    with numpyro.plate("men", X.shape[0]):
        numpyro.sample("y", dist.Normal(intercept + effect * train + X @ coef, sigma), obs=y)
