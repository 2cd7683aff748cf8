"""Kernels whose axes grow: groups, time series and Gaussian processes. They live in a module, to be pickled by name."""

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro.contrib.control_flow import scan


def groups(X, y=None, *, group, n_group):
    """Levels of groups around a centre, with a slope that all groups share."""
    centre = numpyro.sample("centre", dist.Normal(0.0, 10.0))
    spread = numpyro.sample("spread", dist.HalfNormal(5.0))
    with numpyro.plate("groups", n_group):
        level = numpyro.sample("level", dist.Normal(centre, spread))
    with numpyro.plate("rows", X.shape[0]):
        mu = numpyro.deterministic("mu", level[group] + X[:, 0])
        numpyro.sample("y", dist.Normal(mu, 0.5), obs=y)


def intercepts_and_slopes(X, y=None, *, group, n_group):
    """Two effects of each group, which go together, written without a plate."""
    centre = numpyro.sample("centre", dist.Normal(0.0, 10.0).expand([2]).to_event(1))
    effects = dist.MultivariateNormal(centre, jnp.array([[4.0, 1.5], [1.5, 1.0]]))
    effect = numpyro.sample("effect", effects.expand([n_group]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(effect[group, 0] + effect[group, 1] * X[:, 0], 0.5), obs=y)


def classes_of_groups(X, y=None, *, group, n_group):
    with numpyro.plate("groups", n_group):
        level = numpyro.sample("level", dist.Normal(0.0, 2.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Bernoulli(logits=level[group] + X[:, 0]), obs=y)


def centred_groups(X, y=None, *, group, n_group):
    with numpyro.plate("groups", n_group):
        level = numpyro.sample("level", dist.Normal(0.0, 2.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal((level - level.sum() / 10)[group], 0.5), obs=y)


def counted_groups(X, y=None, *, group, n_group):
    with numpyro.plate("groups", n_group):
        level = numpyro.sample("level", dist.Normal(0.0, 2.0 / n_group))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(level[group], 0.5), obs=y)


def walking_groups(X, y=None, *, group, n_group):
    level = numpyro.sample("level", dist.GaussianRandomWalk(1.0, n_group))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(level[group], 0.5), obs=y)


def averaged_groups(X, y=None, *, group, n_group):
    with numpyro.plate("groups", n_group):
        level = numpyro.sample("level", dist.Normal(0.0, 2.0))
    numpyro.deterministic("average", level.mean())
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(level[group], 0.5), obs=y)


def walk(X, y=None):
    """A level that moves by a step for each row."""
    scale = numpyro.sample("scale", dist.HalfNormal(1.0))
    level = numpyro.sample("level", dist.GaussianRandomWalk(scale, X.shape[0]))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(level, 0.3), obs=y)


def steps(X, y=None):
    """The same, written by its steps."""
    scale = numpyro.sample("scale", dist.HalfNormal(1.0))
    with numpyro.plate("rows", X.shape[0]):
        step = numpyro.sample("step", dist.Normal(0.0, scale))
    level = numpyro.deterministic("level", jnp.cumsum(step))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(level, 0.3), obs=y)


def local_trend(X, y=None):
    """A level and its slope, which both move by random steps."""
    scale = numpyro.sample("scale", dist.HalfNormal(1.0))

    def step(state, x):
        level, slope = state
        slope = numpyro.sample("slope", dist.Normal(slope, scale))
        level = numpyro.sample("level", dist.Normal(level + slope, scale))
        return (level, slope), level

    _, levels = scan(step, (0.0, 0.0), X)
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(levels, scale), obs=y)


def autoregression(X, y=None):
    """Each outcome depends on the two before it."""
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    scale = numpyro.sample("scale", dist.HalfNormal(1.0))

    def step(before, now):
        first, second = before
        x, outcome = now
        outcome = numpyro.sample("y", dist.Normal(coef[0] * second + coef[1] * first + x[0], scale), obs=outcome)
        return (second, outcome), None

    scan(step, (0.0, 0.0), (X, y))


def gaussian_process(X, y=None):
    """The outcomes have a joint distribution: a smooth function of X with noise."""
    scale = numpyro.sample("scale", dist.HalfNormal(1.0))
    distance = (X[:, None, :] - X[None, :, :]) / scale
    covariance = jnp.exp(-0.5 * (distance**2).sum(axis=-1)) + 0.1 * jnp.eye(len(X))
    numpyro.sample("y", dist.MultivariateNormal(0.0, covariance), obs=y)


def latent_process(X, y=None):
    """The same with the function as a latent site."""
    scale = numpyro.sample("scale", dist.HalfNormal(1.0))
    distance = (X[:, None, :] - X[None, :, :]) / scale
    covariance = jnp.exp(-0.5 * (distance**2).sum(axis=-1)) + 1e-6 * jnp.eye(len(X))
    f = numpyro.sample("f", dist.MultivariateNormal(0.0, covariance))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(f, jnp.sqrt(0.1)), obs=y)


def covariance_of_trend(times, scales):
    """Return the covariance of a local linear trend, whose level and slope start at zero, and of its noise."""
    of_level, of_slope, of_noise = scales
    n = len(times)
    sums = jnp.tril(jnp.ones((n, n)))
    twice = sums @ sums
    return of_level**2 * sums @ sums.T + of_slope**2 * twice @ twice.T + of_noise**2 * jnp.eye(n)


def marginal_trend(X, y=None):
    """A local linear trend without latent sites of rows."""
    scales = numpyro.sample("scales", dist.HalfNormal(1.0).expand([3]).to_event(1))
    numpyro.sample("y", dist.MultivariateNormal(0.0, covariance_of_trend(X, scales)), obs=y)


def directions(X, y=None):
    """A latent distribution for which no conditional distribution is known."""
    shares = numpyro.sample("shares", dist.Dirichlet(jnp.ones(X.shape[0])))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(shares, 0.3), obs=y)


def centred_walk(X, y=None):
    """The walk, with its mean over all rows taken out."""
    scale = numpyro.sample("scale", dist.HalfNormal(1.0))
    level = numpyro.sample("level", dist.GaussianRandomWalk(scale, X.shape[0]))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(level - level.mean(), 0.3), obs=y)


def spread_walk(X, y=None):
    """A walk whose steps are the smaller the more rows there are."""
    scale = numpyro.sample("scale", dist.HalfNormal(1.0))
    level = numpyro.sample("level", dist.GaussianRandomWalk(scale / X.shape[0], X.shape[0]))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(level, 0.3), obs=y)


def panel(X, y=None, *, time, n_time, shop, n_shop):
    """A walk for each of several shops, whose rows are in any order."""
    scale = numpyro.sample("scale", dist.HalfNormal(1.0))
    walks = dist.GaussianRandomWalk(scale, n_time).expand([n_shop]).to_event(1)
    level = numpyro.sample("level", walks)
    with numpyro.plate("rows", X.shape[0]):
        mu = numpyro.deterministic("mu", level[shop, time])
        numpyro.sample("y", dist.Normal(mu, 0.3), obs=y)


def centred_panel(X, y=None, *, time, n_time, shop, n_shop):
    scale = numpyro.sample("scale", dist.HalfNormal(1.0))
    level = numpyro.sample("level", dist.GaussianRandomWalk(scale, n_time).expand([n_shop]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(level[shop, time] - level.mean(), 0.3), obs=y)
