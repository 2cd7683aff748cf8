"""Numbers that a user passes: what they are does not depend on how they are stored, and none is cut on its way."""

import decimal
import fractions
import functools
import re

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
import scipy.stats
import zarr

from skaimz import NumPyroImpactRegressor
from skaimz.exceptions import OutputWarning
from skaimz.inference import SVI

pytestmark = pytest.mark.usefixtures("quick_compilation")

LARGE = np.array([2_000_000_000, 3_000_000_000, 5_000_000_000])
ROWS = np.zeros((3, 1))
RATE = np.exp(-20.0)


def by_exposure(X, y=None, *, exposure=1, shift=0.0):
    """An exposure, of which each unit counts a little."""
    b = numpyro.sample("b", dist.Normal(0.0, 1.0))
    n = numpyro.sample("n", dist.Poisson(2.0))
    mean = exposure * jnp.exp(-20.0) + b * X[:, 0] + shift + n * jnp.exp(-20.0)
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def model_of(posterior=None, **parameters):
    posterior = {"b": np.ones(4), "n": np.zeros(4, int)} if posterior is None else posterior
    return NumPyroImpactRegressor(by_exposure, posterior=posterior, random_state=0, **parameters)


# Whole numbers beside rows in single precision


CONTAINERS = {
    "int64": np.asarray,
    "uint64": lambda values: values.astype("u8"),
    "other order of bytes": lambda values: values.astype(">i8"),
    "list": np.ndarray.tolist,
    "Int64": lambda values: pd.array(values, dtype="Int64"),
    "arrow": pa.array,
    "polars": pl.Series,
    "zarr": zarr.array,
    "objects": lambda values: values.astype(object),
}


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)
def test_large_whole_numbers(container):
    np.testing.assert_allclose(model_of().predict(ROWS, exposure=container(LARGE)), LARGE * RATE)
    with pytest.raises(
        ValueError, match=r"'exposure' holds [35]000000000 in row [12], too large for u?int32.* float64"
    ):
        model_of().predict(ROWS.astype("f4"), exposure=container(LARGE))


def test_whole_numbers_that_fit_are_taken_beside_single_precision():
    limits = np.array([2**31 - 1, -(2**31), 0])
    np.testing.assert_allclose(model_of().predict(ROWS.astype("f4"), exposure=limits), limits * RATE, rtol=1e-6)
    limits = np.array([2**32 - 1, 2**31, 0], "u8")
    np.testing.assert_allclose(model_of().predict(ROWS.astype("f4"), exposure=limits), limits * RATE, rtol=1e-6)
    large = LARGE.astype(float)
    np.testing.assert_allclose(model_of().predict(ROWS.astype("f4"), exposure=large), LARGE * RATE, rtol=1e-6)


def test_large_numbers_at_every_door():
    single = model_of(dtype="float32")
    frame = pd.DataFrame({"x": np.zeros(3), "exposure": LARGE})
    by_column = model_of(dtype="float32", column_args={"exposure": "exposure"})
    small = frame.assign(exposure=LARGE // 4)
    calls = {
        "a number for all rows": lambda: single.predict(ROWS, exposure=3_000_000_000),
        "a number of NumPy's": lambda: single.predict(ROWS, exposure=np.int64(3_000_000_000)),
        "whole": lambda: single.predict(ROWS[:2], exposure=LARGE),
        "a column": lambda: by_column.predict(frame),
        "a scenario's column": lambda: by_column.estimate_effect(
            small, scenarios={"more": {"columns": {"exposure": lambda v: 4 * v}}}
        ),
        "a scenario's number": lambda: by_column.estimate_effect(
            small, scenarios={"more": {"columns": {"exposure": 3_000_000_000}}}
        ),
        "a scenario's argument": lambda: single.estimate_effect(
            ROWS, exposure=LARGE // 4, scenarios={"more": {"arguments": {"exposure": LARGE}}}
        ),
        "an intervention": lambda: single.sample_posterior_predictive(
            ROWS, in_sample=False, intervention={"n": 3_000_000_000}
        ),
        "a condition": lambda: single.sample_posterior_predictive(
            ROWS, in_sample=False, condition={"n": 3_000_000_000}
        ),
        "the posterior": lambda: model_of({"b": np.ones(3), "n": LARGE}, dtype="float32").predict(ROWS),
        "rows that are read in parts": lambda: single.predict(Batches(X=ROWS, exposure=LARGE)),
    }
    for door, call in calls.items():
        with pytest.raises(ValueError, match=r"too large for u?int32"):
            pytest.fail(f"{door}: {call()}")


class Batches:
    """Rows that are read in parts."""

    def __init__(self, **arrays):
        self.arrays = arrays

    def __iter__(self):
        for part in (slice(0, 2), slice(2, None)):
            yield {name: array[part] for name, array in self.arrays.items()}


class Scaled:
    """A kernel with a number of its own."""

    def __init__(self, exposure=1):
        self.exposure = exposure

    def get_params(self, deep=True):
        return {"exposure": self.exposure}

    def set_params(self, **parameters):
        for name, value in parameters.items():
            setattr(self, name, value)
        return self

    def __call__(self, X, y=None):
        by_exposure(X, y, exposure=self.exposure)


@pytest.mark.parametrize("kernel", [Scaled(LARGE[1]), functools.partial(by_exposure, exposure=3_000_000_000)])
def test_numbers_of_the_kernel_itself(kernel):
    model = NumPyroImpactRegressor(kernel, posterior={"b": np.ones(4), "n": np.zeros(4, int)})
    np.testing.assert_allclose(model.predict(ROWS), LARGE[1] * RATE)
    with pytest.raises(ValueError, match="kernel's parameter 'exposure' holds 3000000000, too large for int32"):
        model.predict(ROWS.astype("f4"))


# Floats beyond single precision


def test_floats_beyond_single_precision():
    single = model_of(dtype="float32")
    huge = np.array([1.0, 1e39, -1e300])
    np.testing.assert_allclose(model_of().predict(ROWS, shift=huge), huge)
    calls = {
        "X": lambda: single.predict(np.array([[1e39]])),
        "a part of X": lambda: single.sample_posterior_predictive(zarr.array(np.array([[1e39]])), in_sample=False),
        "an argument": lambda: single.predict(ROWS, shift=huge),
        "a number": lambda: single.predict(ROWS, shift=1e39),
        "y": lambda: single.log_predictive_density(ROWS, huge),
        "y of the fit": lambda: single.fit(ROWS, huge),
        "the posterior": lambda: model_of({"b": huge, "n": np.zeros(3, int)}, dtype="float32").predict(ROWS),
        "an intervention": lambda: single.sample_posterior_predictive(ROWS, in_sample=False, intervention={"b": 1e39}),
        "a scenario": lambda: single.estimate_effect(ROWS, scenarios={"more": {"columns": {0: 1e39}}}),
    }
    for door, call in calls.items():
        with pytest.raises(ValueError, match=r"-?1e\+39.*too large for float32"):
            pytest.fail(f"{door}: {call()}")


# How numbers are stored


SPEND = np.array([12.5, 0.25, 3.0])
EXACT = [decimal.Decimal(str(each)) for each in SPEND]
FORMS = {
    "decimals": EXACT,
    "fractions": [fractions.Fraction(each) for each in EXACT],
    "decimals of arrow": pd.array(EXACT, dtype=pd.ArrowDtype(pa.decimal128(12, 2))),
    "decimals of an arrow array": pa.array(EXACT),
    "Float64": pd.array(SPEND, dtype="Float64"),
    "objects": SPEND.astype(object),
    "float16": SPEND.astype("f2"),
    "bfloat16": np.asarray(jnp.asarray(SPEND, "bfloat16")),
    "longdouble": SPEND.astype(np.longdouble),
    "other order of bytes": SPEND.astype(">f8"),
    "polars": pl.Series(EXACT),
    "category": pd.Categorical(SPEND),
    "numbers of several types": [decimal.Decimal("12.5"), 0.25, 3],
}


@pytest.mark.parametrize("values", FORMS.values(), ids=FORMS)
def test_numbers_are_numbers_however_they_are_stored(values):
    np.testing.assert_allclose(model_of().predict(ROWS, shift=values, exposure=0), SPEND)


@pytest.mark.parametrize("form", [form for form in FORMS if form not in ("category", "bfloat16")])
def test_columns_of_numbers_are_numbers_however_they_are_stored(form):
    frame = pd.DataFrame({"x": np.zeros(3), "shift": pd.Series(FORMS[form])})
    model = model_of(column_args={"shift": "shift"}).fit(frame, SPEND)
    assert model.categories_ == {"shift": [None]}
    np.testing.assert_allclose(model.predict(frame, exposure=0), SPEND)
    # The other storage of the same numbers is read as the same.
    np.testing.assert_allclose(model.predict(frame.assign(shift=SPEND), exposure=0), SPEND)
    effect = model.estimate_effect(frame, scenarios={"twice": {"columns": {"shift": lambda v: 2.0 * v}}})
    assert float(effect["twice"]["effect"].mean()) == pytest.approx(SPEND.mean())


def test_decimals_have_the_slope_that_least_squares_finds():
    rng = np.random.default_rng(0)
    spend = rng.gamma(1.0, 4.0, size=60).round(2)
    x = rng.normal(size=60)
    y = 3.0 + 0.5 * spend + rng.normal(scale=0.1, size=60)
    least = np.linalg.lstsq(np.column_stack([np.ones(60), x, spend]), y, rcond=None)[0]
    frame = pd.DataFrame({"x": x, "spend": [decimal.Decimal(str(each)) for each in spend]})
    model = NumPyroImpactRegressor(random_state=0).fit(frame, y)
    new = pd.DataFrame({"x": [0.0, 0.0], "spend": [decimal.Decimal(0), decimal.Decimal(1)]})
    assert np.diff(model.predict(new)).item() == pytest.approx(least[2], abs=1e-3)


@pytest.mark.parametrize("scalar", [decimal.Decimal("2.5"), fractions.Fraction(5, 2), np.float16(2.5), np.array(2.5)])
def test_one_number_for_all_rows(scalar):
    np.testing.assert_allclose(model_of().predict(ROWS, shift=scalar, exposure=0), 2.5)


def test_a_bound_that_does_not_bind_is_a_number():
    with pytest.warns(OutputWarning, match="3 predictions are not finite"):
        assert np.isposinf(model_of().predict(ROWS, shift=np.inf)).all()


QUANTITIES = {
    "numbers stored as text": ["12.5", "0.25", "3"],
    "durations": pd.to_timedelta([12.5, 0.25, 3.0], unit="h"),
    "times": pd.date_range("2024-03-30", periods=3),
}


@pytest.mark.parametrize(("kind", "values"), QUANTITIES.items(), ids=QUANTITIES)
def test_what_may_be_a_quantity_or_a_label_is_refused(kind, values):
    frame = pd.DataFrame({"x": np.zeros(3), "shift": values})
    message = f"the kernel's argument 'shift', holds {kind}, which may be quantities or labels.*'categories'.*`n_shift`"
    for given in (frame, pl.from_pandas(frame)):
        with pytest.raises(ValueError, match=message):
            model_of(column_args={"shift": "shift"}).fit(given, SPEND)
    with pytest.raises(ValueError, match=r"Argument 'shift' must be numeric.*Convert"):
        model_of().predict(ROWS, shift=frame["shift"])


LEVELS = {"level": np.array([[5.0, 6.0, 7.0]])}


def by_label(X, y=None, *, label, n_label):
    level = numpyro.sample("level", dist.Normal(0.0, 5.0).expand([n_label]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(level[label] + 0.0 * X[:, 0], 1.0), obs=y)


@pytest.mark.parametrize("values", [*QUANTITIES.values(), EXACT, SPEND, [30, 10, 20]], ids=str)
def test_the_kernel_says_that_a_column_holds_labels(values):
    """It asks for their number; then they are labels, however they are stored, with codes in their order."""
    frame = pd.DataFrame({"x": np.zeros(3), "label": values})
    model = NumPyroImpactRegressor(by_label, column_args={"label": "label"}, posterior=LEVELS).fit(frame, SPEND)
    order = [2, 0, 1] if values is not QUANTITIES["times"] else [0, 1, 2]
    if values is QUANTITIES["numbers stored as text"]:
        order = [1, 0, 2]  # of text
    np.testing.assert_allclose(model.predict(frame), LEVELS["level"][0, order])


def test_labels_of_another_kind_are_not_unknown_labels():
    setting = {"label": {"columns": "label", "categories": [1, 2], "unknown_value": 2}}
    model = NumPyroImpactRegressor(by_label, column_args=setting, posterior=LEVELS)
    frame = pd.DataFrame({"x": np.zeros(3), "label": [1, 2, 9]})
    np.testing.assert_allclose(model.fit(frame, SPEND).predict(frame), [5.0, 6.0, 7.0])
    np.testing.assert_allclose(model.predict(frame.astype({"label": float})), [5.0, 6.0, 7.0])
    with pytest.raises(
        ValueError, match=r"'label', holds values of another kind than its categories: str \(1\) and int"
    ):
        model.predict(frame.astype({"label": str}))


# Missing values


MISSING = {
    "masked": np.ma.masked_array(SPEND, [False, True, False]),
    "masked integers": np.ma.masked_array([1, 2, 3], [False, True, False]),
    "Int64": pd.array([1, None, 3], dtype="Int64"),
    "boolean": pd.array([True, None, False], dtype="boolean"),
    "decimals": [EXACT[0], None, EXACT[2]],
    "arrow": pa.array([1, None, 3]),
    "polars": pl.Series([1, None, 3]),
}


@pytest.mark.parametrize("values", MISSING.values(), ids=MISSING)
def test_missing_numbers(values):
    with pytest.raises(ValueError, match="Argument 'shift' contains NaN or infinity, first in row 1"):
        model_of().predict(ROWS, shift=values)


def test_masked_arrays_are_not_read_under_their_mask():
    masked = np.ma.masked_array(np.ones((3, 1)), [[False], [True], [False]])
    plain = NumPyroImpactRegressor(random_state=0, inference=SVI(num_steps=10))
    calls = {
        "Input X contains NaN": lambda: model_of().predict(masked),
        "X contains NaN": lambda: plain.fit(masked, SPEND),
        "Input y contains NaN": lambda: plain.fit(ROWS, masked[:, 0]),
        "Input y contains NaN.": lambda: plain.fit(ROWS, [1.0, None, 2.0]),
        "y contains NaN.": lambda: model_of().log_predictive_density(ROWS, masked[:, 0]),
        "sample_weight contains NaN": lambda: plain.fit(ROWS, SPEND, sample_weight=masked[:, 0]),
        "`sample_weight` must be 3 finite": lambda: model_of().estimate_effect(
            ROWS, scenarios={"more": {"columns": {0: 1.0}}}, sample_weight=masked[:, 0]
        ),
        "gives column 0 contains NaN": lambda: model_of().estimate_effect(
            ROWS, scenarios={"more": {"columns": {0: masked[:, 0]}}}
        ),
    }
    for message, call in calls.items():
        with pytest.raises(ValueError, match=re.escape(message)):
            call()
    np.testing.assert_allclose(model_of().predict(np.ma.masked_array(np.ones((2, 1))), exposure=0), 1.0)


# Scenarios and sites keep the kind of numbers that the kernel knows


def by_index(X, y=None, *, group, treated):
    table = jnp.array([1.0, 10.0, 100.0])
    z = numpyro.sample("z", dist.Categorical(probs=jnp.ones(3) / 3))
    mean = table[group] + jnp.where(~treated, 0.0, 1000.0) + table[z] + 0.0 * X[:, 0]
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)


@pytest.mark.parametrize("draws", [[0, 0], [0.0, 0.0], [decimal.Decimal(0)] * 2])
def test_an_index_stays_an_index_and_a_mark_a_mark(draws):
    model = NumPyroImpactRegressor(by_index, posterior={"z": draws}, random_state=0)
    given = {"group": np.array([0, 1, 2]), "treated": np.array([False, True, False])}
    np.testing.assert_allclose(model.predict(ROWS, **given), np.array([1.0, 10.0, 100.0]) + [0.0, 1000.0, 0.0] + 1.0)
    effect = model.estimate_effect(
        ROWS,
        **given,
        baseline={"arguments": {"group": 0.0, "treated": 0}},
        scenarios={"other": {"arguments": {"group": [2.0, 2.0, 2.0], "treated": 1.0}, "intervention": {"z": 1.0}}},
    )
    assert effect["other"]["effect"].to_numpy().ravel() == pytest.approx(99.0 + 1000.0 + 9.0)


def test_whole_outcomes_and_their_density():
    counts = [decimal.Decimal(2), decimal.Decimal(0), decimal.Decimal(5)]
    found = model_of({"b": np.zeros(2), "n": np.zeros(2, int)}).log_predictive_density(ROWS, counts, exposure=0)
    np.testing.assert_allclose(found, scipy.stats.norm.logpdf([2.0, 0.0, 5.0]))


def test_sparse_arguments():
    with pytest.raises(ValueError, match=r"Argument 'shift' must be numeric.*Convert sparse arrays by `.toarray\(\)`"):
        model_of().predict(ROWS, shift=scipy.sparse.csr_array(np.eye(3)))
