"""Codes of groups that are out of range: JAX would take another group's value without a word."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
import zarr
import zoo_inputs

from skaimz import NumPyroImpactRegressor
from skaimz.exceptions import UnreachedOutputWarning
from skaimz.inference import SVI

pytestmark = [
    pytest.mark.filterwarnings("ignore::skaimz.exceptions.FitWarning"),
    pytest.mark.usefixtures("quick_compilation"),
]

X = np.zeros((6, 1))
Y = np.zeros(6)
GROUP = np.array([0, 1, 2, 2, 1, 0])
LEVEL = np.array([10.0, 20.0, 30.0])
TABLE = np.array([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]])
DRAWS = {"z": np.array([2, 2])}


def observed(mean, X, y):
    numpyro.sample("z", dist.Categorical(probs=jnp.ones(3) / 3))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(mean + 0.0 * X[:, 0], 1.0), obs=y)


def of_fixed_length(X, y=None, *, group):
    """The number of groups is known to the kernel alone."""
    observed(jnp.asarray(LEVEL)[group], X, y)


def of_columns(X, y=None, *, group):
    """Columns that index axes of unequal length."""
    observed(jnp.asarray(TABLE)[group[:, 0], group[:, 1]], X, y)


def row_by_row(X, y=None, *, group):
    observed(jax.vmap(lambda code: jnp.asarray(LEVEL)[code])(group), X, y)


def taken(X, y=None, *, group):
    observed(jnp.take(jnp.asarray(LEVEL), group), X, y)


def scattered(X, y=None, *, group):
    """Weights that are one at the group's place."""
    each = jax.vmap(lambda code: jnp.zeros(3).at[code].set(1.0) @ jnp.asarray(LEVEL))
    observed(each(jnp.atleast_1d(group)), X, y)


def of_ready_table(X, y=None, *, group, table):
    observed(table[group], X, y)


def in_a_function(X, y=None, *, group):
    observed(jax.jit(lambda code: jnp.asarray(LEVEL)[code])(group), X, y)


def counted_from_one(X, y=None, *, group):
    observed(jnp.asarray(LEVEL)[group - 1], X, y)


def padded(X, y=None, *, group):
    """Looks out for missing groups itself."""
    observed(jnp.where(group < 0, 0.0, jnp.asarray(LEVEL)[group]), X, y)


def clipped(X, y=None, *, group):
    observed(jnp.asarray(LEVEL)[jnp.clip(group, 0, 2)], X, y)


def filled(X, y=None, *, group):
    observed(jnp.asarray(LEVEL).at[group].get(mode="fill", fill_value=-1.0), X, y)


def from_the_end(X, y=None, *, group):
    observed(jnp.asarray(LEVEL)[-1] + 0.0 * group, X, y)


def by_site(X, y=None, *, group):
    z = numpyro.sample("w", dist.Categorical(probs=jnp.ones(3) / 3))
    observed(jnp.asarray(LEVEL)[z] + 0.0 * group, X, y)


def model_of(kernel, posterior=DRAWS, **parameters):
    return NumPyroImpactRegressor(kernel, posterior=posterior, random_state=0, **parameters)


SINGLE = [of_fixed_length, row_by_row, in_a_function, taken, scattered]


@pytest.mark.filterwarnings("ignore:The kernel runs on all rows at once:skaimz.exceptions.SpeedWarning")
@pytest.mark.parametrize("kernel", SINGLE)
@pytest.mark.parametrize("wrong", [3, 7, -1])
def test_codes_out_of_range(kernel, wrong):
    model = model_of(kernel)
    np.testing.assert_allclose(model.predict(X, group=GROUP), LEVEL[GROUP])
    codes = GROUP.copy()
    codes[4] = wrong
    message = (
        f"Argument 'group' holds {wrong} in row 4, but the kernel uses it as an index of 3 entries, .* from 0 to 2"
    )
    calls = {
        "predict": lambda: model.predict(X, group=codes),
        "in parts": lambda: model.sample_posterior_predictive(X, in_sample=False, group=zarr.array(codes)),
        "prior": lambda: model.sample_prior_predictive(X, num_samples=2, group=codes),
        "density": lambda: model.log_predictive_density(X, Y, group=codes),
        "scenario": lambda: model.estimate_effect(X, group=GROUP, scenarios={"other": {"arguments": {"group": codes}}}),
        "fit": lambda: model_of(kernel, None, inference=SVI(num_steps=2)).fit(X, Y, group=codes),
    }
    for door, call in calls.items():
        with pytest.raises(ValueError, match=message):
            pytest.fail(f"{door}: {call()}")


def test_codes_of_a_table_that_is_passed():
    model = model_of(of_ready_table)
    np.testing.assert_allclose(model.predict(X, group=GROUP, table=LEVEL), LEVEL[GROUP])
    with pytest.raises(ValueError, match=r"Argument 'group' holds 2 in row 2, .* index of 2 entries"):
        model.predict(X, group=GROUP, table=LEVEL[:2])


def test_columns_have_their_own_range():
    codes = np.column_stack([GROUP % 2, GROUP + 1])
    model = model_of(of_columns)
    np.testing.assert_allclose(model.predict(X, group=codes), TABLE[codes[:, 0], codes[:, 1]])
    for column, length in enumerate(TABLE.shape):
        wrong = codes.copy()
        wrong[5, column] = length
        with pytest.raises(ValueError, match=f"'group' holds {length} in row 5, .* index of {length} entries"):
            model.predict(X, group=wrong)


def test_groups_that_count_from_one_are_not_taken_for_others():
    frame = pd.DataFrame({"a": np.zeros(6), "group": GROUP + 1})
    levels = {"coef": np.zeros((1, 1)), "level": LEVEL[None]}
    model = model_of(zoo_inputs.by_group, levels, column_args={"group": "group"})
    with pytest.raises(ValueError, match="Argument 'group' holds 3 in row 2"):
        model.fit(frame, Y, n_group=3)
    # Where the number of groups is not given, the kernel's asking for it says that the column holds labels.
    np.testing.assert_allclose(model.fit(frame, Y).predict(frame), LEVEL[GROUP])
    marks = frame.assign(group=GROUP > 0)
    model.set_params(posterior=levels | {"level": LEVEL[None, :2]})
    np.testing.assert_allclose(model.fit(marks, Y).predict(marks), LEVEL[(GROUP > 0).astype(int)])


EXPECTED = {
    counted_from_one: (GROUP + 1, LEVEL[GROUP]),
    padded: (np.where(GROUP == 2, -1, GROUP), np.where(GROUP == 2, 0.0, LEVEL[GROUP])),
    clipped: (GROUP + 1, LEVEL[np.minimum(GROUP + 1, 2)]),
    filled: (GROUP + 1, np.where(GROUP == 2, -1.0, LEVEL[np.minimum(GROUP + 1, 2)])),
    from_the_end: (GROUP, np.full(6, 30.0)),
}


@pytest.mark.parametrize("kernel", EXPECTED)
def test_kernels_that_mind_their_range_are_left_alone(kernel):
    codes, expected = EXPECTED[kernel]
    np.testing.assert_allclose(model_of(kernel).predict(X, group=codes), expected)


@pytest.mark.parametrize("kernel", SINGLE)
def test_one_code_for_all_rows(kernel):
    if kernel is row_by_row:
        pytest.skip("one number has no rows")
    np.testing.assert_allclose(model_of(kernel).predict(X, group=2), 30.0)
    with pytest.raises(ValueError, match=r"argument that is one number, holds 7, .* index of 3 entries"):
        model_of(kernel).predict(X, group=7)


def test_values_of_sites():
    draws = {"w": np.array([0, 2]), "z": np.array([0, 0])}
    model = model_of(by_site, draws)
    np.testing.assert_allclose(model.predict(X, group=GROUP), 20.0)
    with pytest.raises(ValueError, match="posterior draws of 'w' holds 3, but the kernel uses it as an index of 3"):
        model_of(by_site, draws | {"w": np.array([0, 3])}).predict(X, group=GROUP)
    for setting in ("intervention", "condition"):
        with pytest.raises(
            ValueError, match=f"`{setting}` gives site 'w' holds -1, but the kernel uses it as an index"
        ):
            model.sample_posterior_predictive(X, group=GROUP, in_sample=False, **{setting: {"w": -1}})
    # No table is indexed by this one.
    with pytest.warns(UnreachedOutputWarning):
        model.sample_posterior_predictive(X, group=GROUP, in_sample=False, intervention={"z": 7})


@pytest.mark.parametrize(("codes", "kind"), [(GROUP * 1.0, "float64"), (GROUP > 0, "bool")])
def test_an_index_must_hold_integers(codes, kind):
    with pytest.raises(TypeError, match=f"as an index that does not hold integers.*'group': '{kind}'"):
        model_of(of_fixed_length).predict(X, group=codes)


def categorical(X, y=None):
    b = numpyro.sample("b", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Categorical(logits=b * jnp.arange(3.0) + X[:, :1]), obs=y)


@pytest.mark.parametrize("wrong", [3.0, -1.0])
def test_outcomes_that_are_no_class(wrong):
    model = model_of(categorical, {"b": np.zeros(2)})
    np.testing.assert_allclose(model.log_predictive_density(X, GROUP), np.log(1 / 3), rtol=1e-6)
    outcomes = np.where(np.arange(6) == 4, wrong, GROUP)
    with pytest.raises(ValueError, match=r"y must hold classes from 0 to 2.* Row 4"):
        model.log_predictive_density(X, outcomes)
    with pytest.raises(ValueError, match=r"y must hold classes from 0 to 2.* Row 4"):
        model_of(categorical, None, inference=SVI(num_steps=2)).fit(X, outcomes)
