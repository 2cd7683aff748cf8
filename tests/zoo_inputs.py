"""Kernels with a second input or several labels a row. They live in a module, so that they can be pickled by name."""

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist


def shifted(X, y=None, *, offset):
    """A known shift of each row's mean."""
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ coef + offset, 0.5), obs=y)


def shifted_twice(X, y=None, *, offsets, level):
    """Two known shifts, as an array with two dimensions, and one constant."""
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ coef + offsets @ jnp.array([1.0, 10.0]) + level, 0.5), obs=y)


def open_ended(X, y=None, **arguments):
    """Any number of known shifts."""
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ coef + sum(arguments.values()), 0.5), obs=y)


def by_group(X, y=None, *, group, n_group):
    """A level for each group of rows."""
    level = numpyro.sample("level", dist.Normal(0.0, 5.0).expand([n_group]).to_event(1))
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ coef + level[group], 0.5), obs=y)


def with_table(X, y=None, *, group, table):
    """Known levels of groups of rows."""
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ coef + table[group], 0.5), obs=y)


def by_two_groups(X, y=None, *, groups, n_groups):
    """A level for each group in each of two columns."""
    level = numpyro.sample("level", dist.Normal(0.0, 5.0).expand([2, n_groups]).to_event(2))
    mean = level[0][groups[:, 0]] + level[1][groups[:, 1]]
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(mean + 0.0 * X[:, 0], 0.5), obs=y)


def shifted_logistic(X, y=None, *, offset):
    coef = numpyro.sample("coef", dist.Normal(0.0, 2.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Bernoulli(logits=X @ coef + offset), obs=y)


def switches(X, y=None):
    """Three switches a row."""
    coef = numpyro.sample("coef", dist.Normal(0.0, 2.0).expand([X.shape[1], 3]).to_event(2))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Bernoulli(logits=X @ coef).to_event(1), obs=y)


def two_labels(X, y=None, *, n_classes):
    """Two labels a row."""
    coef = numpyro.sample("coef", dist.Normal(0.0, 2.0).expand([X.shape[1], 2 * n_classes]).to_event(2))
    logits = (X @ coef).reshape(X.shape[0], 2, n_classes)
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Categorical(logits=logits).to_event(1), obs=y)


def of_four_classes(X, y=None):
    """Two labels a row, each with four classes whatever the data."""
    two_labels(X, y, n_classes=4)
