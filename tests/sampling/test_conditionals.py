"""Joint distributions that are split into what is known and what is new."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

from skaimz.sampling.conditionals import split

N, KNOWN = 7, 4


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def matrix(n=N, seed=0):
    factor = np.random.default_rng(seed).normal(size=(n, n))
    return factor @ factor.T + np.eye(n)


LOC = np.linspace(-1.0, 2.0, N)
TRANSITION = np.array([[0.8, 0.3], [-0.2, 0.5]])
JOINT = {
    "covariance": lambda: dist.MultivariateNormal(LOC, matrix()),
    "precision": lambda: dist.MultivariateNormal(LOC, precision_matrix=matrix()),
    "cholesky": lambda: dist.MultivariateNormal(0.5, scale_tril=np.linalg.cholesky(matrix())),
    "batches": lambda: dist.MultivariateNormal(np.stack([LOC, -LOC]), matrix()),
    "low rank": lambda: dist.LowRankMultivariateNormal(LOC, matrix()[:, :2], np.arange(1.0, N + 1)),
    "student": lambda: dist.MultivariateStudentT(4.0, LOC, np.linalg.cholesky(matrix())),
    "walk": lambda: dist.GaussianRandomWalk(0.7, N),
    "walks": lambda: dist.GaussianRandomWalk(np.array([0.7, 1.3]), N),
    "states": lambda: dist.GaussianStateSpace(N, TRANSITION, covariance_matrix=matrix(2)),
    "started": lambda: dist.GaussianStateSpace(N, TRANSITION, covariance_matrix=matrix(2), initial_value=np.ones(2)),
}


@pytest.mark.parametrize("name", JOINT)
def test_the_joint_density_is_that_of_both_parts(name):
    joint = JOINT[name]()
    value = joint.sample(jax.random.key(1))
    place = joint.event_dim
    known, new = jnp.split(value, [KNOWN], axis=-place)
    parts = split(joint, known, place)
    found = parts.first.log_prob(known) + parts.rest.log_prob(new)
    np.testing.assert_allclose(found, joint.log_prob(value), rtol=1e-9)
    assert parts.rest.shape() == new.shape


def test_a_student_distribution_of_one_new_entry():
    # Ding (2016), On the conditional distribution of the multivariate t distribution.
    covariance, known = matrix(3, seed=2), np.array([0.5, -2.0])
    joint = dist.MultivariateStudentT(5.0, np.zeros(3), np.linalg.cholesky(covariance))
    rest = split(joint, known, 1).rest
    inverse = np.linalg.inv(covariance[:2, :2])
    mean = covariance[2, :2] @ inverse @ known
    scale = (5.0 + known @ inverse @ known) / 7.0 * (covariance[2, 2] - covariance[2, :2] @ inverse @ covariance[:2, 2])
    expected = stats.t(7.0, mean, np.sqrt(scale))
    np.testing.assert_allclose(rest.log_prob(np.array([0.3])), expected.logpdf(0.3), rtol=1e-9)


def test_new_areas_depend_on_their_neighbours():
    adjacency = np.diag(np.ones(4), 1) + np.diag(np.ones(4), -1)
    known = np.array([1.0, -2.0, 3.0])
    rest = split(dist.CAR(LOC[:5], 0.9, 2.0, adjacency), known, 1).rest
    precision = 2.0 * (np.diag(adjacency.sum(axis=1)) - 0.9 * adjacency)
    covariance = np.linalg.inv(precision)
    weights = covariance[3:, :3] @ np.linalg.inv(covariance[:3, :3])
    np.testing.assert_allclose(rest.mean, LOC[3:5] + weights @ (known - LOC[:3]))
    np.testing.assert_allclose(rest.covariance_matrix, covariance[3:, 3:] - weights @ covariance[:3, 3:])


def test_other_distributions_are_refused():
    with pytest.raises(ValueError, match=r"Dirichlet, joins all entries.*MultivariateNormal, .*GaussianRandomWalk"):
        split(dist.Dirichlet(np.ones(3)), np.array([0.2, 0.3]), 1)
    with pytest.raises(ValueError, match="GaussianStateSpace, joins all entries"):
        split(JOINT["states"](), np.ones((N, 1)), 1)
