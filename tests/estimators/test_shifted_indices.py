"""Codes to which a kernel adds a number before it indexes by them, such as codes that count from 1."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from skaimz import NumPyroImpactRegressor

pytestmark = pytest.mark.usefixtures("quick_compilation")

X = np.zeros((6, 1))
GROUP = np.array([0, 1, 2, 2, 1, 0])
LEVEL = np.array([10.0, 20.0, 30.0])
TABLE = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])


def observed(mean, X, y):
    numpyro.sample("z", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(mean + 0.0 * X[:, 0], 1.0), obs=y)


def from_one(X, y=None, *, group):
    observed(jnp.asarray(LEVEL)[group - 1], X, y)


def from_minus_one(X, y=None, *, group):
    observed(jnp.asarray(LEVEL)[1 + group], X, y)


def in_a_table(X, y=None, *, group):
    observed(jnp.asarray(TABLE)[group - 1, 0], X, y)


def in_two_steps(X, y=None, *, group):
    observed(jnp.take(jnp.asarray(LEVEL), (group - 3)[:, None] + 1, axis=0)[:, 0], X, y)


def of_the_input(X, y=None):
    observed(jnp.asarray(LEVEL)[X[:, 0].astype(int) - 1], X, y)


def with_a_start(X, y=None, *, group):
    """The level of the week before, with a value of its own for the first week."""
    observed(jnp.where(group > 0, jnp.asarray(LEVEL)[group - 1], 0.0), X, y)


def of_either(X, y=None, *, group, is_late):
    observed(jnp.asarray(LEVEL)[jnp.where(is_late, group - 1, group)], X, y)


def counted_from_the_last_row(X, y=None, *, group, back):
    """The index of a row depends on the number of rows; the code of a group does not."""
    observed(jnp.asarray(LEVEL)[group] + X[back + X.shape[0], 0], X, y)


def model_of(kernel):
    return NumPyroImpactRegressor(kernel, posterior={"z": np.zeros(2)}, random_state=0)


@pytest.mark.parametrize(
    ("kernel", "first", "values"),
    [
        (from_one, 1, LEVEL),
        (from_minus_one, -1, LEVEL),
        (in_a_table, 1, TABLE[:, 0]),
        (in_two_steps, 2, LEVEL),
    ],
)
def test_codes_are_compared_with_the_range_that_the_kernel_reads(kernel, first, values):
    model = model_of(kernel)
    np.testing.assert_allclose(model.predict(X, group=GROUP + first), values[GROUP])
    for wrong in (first - 1, first + 3):
        codes = GROUP + first
        codes[4] = wrong
        message = (
            f"'group' holds {wrong} in row 4, .* index of 3 entries, .* from {first} to {first + 2}.*from {first}\\."
        )
        with pytest.raises(ValueError, match=message):
            model.predict(X, group=codes)


def test_a_column_of_x():
    np.testing.assert_allclose(model_of(of_the_input).predict(X + GROUP[:, None] + 1.0), LEVEL[GROUP])
    with pytest.raises(ValueError, match=r"'X' holds 0.0 in row 0, .* uses it, minus 1, as .* from 1 to 3"):
        model_of(of_the_input).predict(X + GROUP[:, None])


@pytest.mark.parametrize(
    ("kernel", "arguments", "expected"),
    [
        (with_a_start, {"group": GROUP}, np.array([0.0, 10.0, 20.0, 20.0, 10.0, 0.0])),
        (of_either, {"group": GROUP, "is_late": GROUP > 0}, np.array([10.0, 10.0, 20.0, 20.0, 10.0, 10.0])),
    ],
)
def test_kernels_that_choose_between_codes_are_left_alone(kernel, arguments, expected):
    np.testing.assert_allclose(model_of(kernel).predict(X, **arguments), expected)


@pytest.mark.filterwarnings("ignore:The kernel runs on all rows at once:skaimz.exceptions.SpeedWarning")
def test_an_index_that_depends_on_the_number_of_rows_hides_no_other():
    model = model_of(counted_from_the_last_row)
    np.testing.assert_allclose(model.predict(X, group=GROUP, back=-1 - GROUP), LEVEL[GROUP])
    with pytest.raises(ValueError, match="'group' holds 3 in row 2"):
        model.predict(X, group=GROUP + 1, back=-1 - GROUP)
