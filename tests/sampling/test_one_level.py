"""Distributions of single levels against the same distributions, built for the level alone."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from skaimz.sampling.one_level import of_one_level

KEY = jax.random.key(3)
N = 4
A, B = jnp.linspace(0.5, 2.0, N), jnp.linspace(1.0, 3.0, N)
ROWS = jnp.arange(12.0).reshape(N, 3) / 4 + 0.5
MATRICES = jnp.eye(2) * A[:, None, None]

# By name: what gives the distribution of some levels, whose parameters are the entries of arrays.
CASES = {
    "scalars": lambda a, b, rows, m: dist.Normal(0.0, 2.0).expand([len(a)]),
    "constants": lambda a, b, rows, m: dist.Normal(jnp.zeros(len(a)), 2.0),
    "scale": lambda a, b, rows, m: dist.Normal(0.0, a),
    "both": lambda a, b, rows, m: dist.Normal(a, b),
    "beta": lambda a, b, rows, m: dist.Beta(a, b),
    "gamma": lambda a, b, rows, m: dist.Gamma(a, b),
    "student": lambda a, b, rows, m: dist.StudentT(3.0 + a, a, b),
    "lognormal": lambda a, b, rows, m: dist.LogNormal(a, b),
    "truncated": lambda a, b, rows, m: dist.TruncatedNormal(a, b, low=a),
    "uniform": lambda a, b, rows, m: dist.Uniform(-a, b),
    "halfcauchy": lambda a, b, rows, m: dist.HalfCauchy(a),
    "pareto": lambda a, b, rows, m: dist.Pareto(a, b),
    "inflated": lambda a, b, rows, m: dist.ZeroInflatedPoisson(a / 4, b),
    "categorical": lambda a, b, rows, m: dist.Categorical(logits=rows),
    "binomial": lambda a, b, rows, m: dist.Binomial(7, logits=a),
    "affine": lambda a, b, rows, m: dist.TransformedDistribution(
        dist.StudentT(4.0), dist.transforms.AffineTransform(a, b)
    ),
    "mixture": lambda a, b, rows, m: dist.MixtureSameFamily(dist.Categorical(logits=rows), dist.Normal(rows, 0.1)),
    "components": lambda a, b, rows, m: dist.MixtureGeneral(
        dist.Categorical(logits=rows[:, :2]), [dist.Normal(a, 0.1), dist.Laplace(b, 0.1)]
    ),
    "dirichlet": lambda a, b, rows, m: dist.Dirichlet(rows),
    "vector": lambda a, b, rows, m: dist.MultivariateNormal(jnp.zeros(2), covariance_matrix=m),
    "shared matrix": lambda a, b, rows, m: dist.MultivariateNormal(rows[:, :2], covariance_matrix=jnp.eye(2)),
    "multivariate student": lambda a, b, rows, m: dist.MultivariateStudentT(3.0 + a, rows[:, :2], m),
    "walk": lambda a, b, rows, m: dist.GaussianRandomWalk(a, 5),
    "correlation": lambda a, b, rows, m: dist.LKJCholesky(3, a),
}


@pytest.mark.parametrize("name", CASES)
def test_a_level_is_drawn_as_if_it_were_alone(name):
    whole, place = CASES[name](A, B, ROWS, MATRICES), 2
    alone = CASES[name](*(array[place : place + 1] for array in (A, B, ROWS, MATRICES)))
    one = jax.jit(lambda level: of_one_level(whole, 0, level).sample(KEY))(place)
    np.testing.assert_allclose(one, alone.sample(KEY), rtol=1e-5, atol=1e-6)


def test_levels_on_other_axes():
    column = dist.Normal(A, 0.1).expand([3, N])
    one = of_one_level(column.to_event(2), 1, 1)
    assert one.shape() == (3, 1)
    np.testing.assert_allclose(one.sample(KEY), A[1] + 0.1 * jax.random.normal(KEY, (3, 1)), rtol=1e-5)
    row = of_one_level(dist.Normal(ROWS, 0.1), 0, 3)
    np.testing.assert_allclose(row.sample(KEY), ROWS[3:] + 0.1 * jax.random.normal(KEY, (1, 3)), rtol=1e-5)


class Foreign(dist.Distribution):
    """A distribution that does not say which of its attributes are parameters."""

    support = dist.constraints.real

    def __init__(self, places):
        self.places = places
        super().__init__(places.shape)

    def sample(self, key, sample_shape=()):
        return self.places + jax.random.normal(key, (*sample_shape, *self.batch_shape))


def test_parameters_that_are_not_known_are_refused():
    with pytest.raises(ValueError, match=r"which parameters of its distribution, Foreign, belong.*'categories'"):
        of_one_level(Foreign(A), 0, 1)
