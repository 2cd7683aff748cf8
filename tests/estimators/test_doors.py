"""Numbers of any kind in any container: a call gives what float64 NumPy gives, or one of our errors.

The suite tries a few examples, and `make doors` many.
"""

import decimal
import itertools
import tempfile
import traceback
from typing import NamedTuple

import dask.array as da
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import zarr
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from skaimz import NumPyroImpactRegressor

pytestmark = [
    # What scikit-learn's own look at half precision says before it refuses infinities.
    pytest.mark.filterwarnings("ignore:invalid value encountered in reduce"),
    pytest.mark.filterwarnings("ignore::skaimz.exceptions.OutputWarning"),
    pytest.mark.filterwarnings("ignore::skaimz.exceptions.UnitsWarning"),
    pytest.mark.filterwarnings("ignore::skaimz.exceptions.FitWarning"),
]

N_ROWS = 5
X = np.array([[0.5], [-1.0], [2.0], [0.25], [-0.125]])
TOLERANCE = {"float64": 1e-12, "float32": 1e-5}
FEW = settings(max_examples=settings.default.max_examples // 2)


def kernel(X, y=None, *, value=0.0):
    b = numpyro.sample("b", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        level = numpyro.sample("level", dist.Normal(0.0, 1.0))
        mean = numpyro.deterministic("mean", b * X[:, 0] + 1.0 * value + level)
        numpyro.sample("y", dist.Laplace(mean, 2.0), obs=y)


def flat_kernel(X, y=None, *, value=0.0):
    b = numpyro.sample("b", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Laplace(b * X[:, 0] + 1.0 * value, 2.0), obs=y)


def model_of(precision, kernel=flat_kernel, draws=(1.0, 1.0), **parameters):
    return NumPyroImpactRegressor(kernel, posterior={"b": draws}, dtype=precision, random_state=0, **parameters)


# What is passed


class Case(NamedTuple):
    """Numbers in a container, and what they are in float64, missing ones NaN."""

    value: object
    expected: np.ndarray
    is_integer: bool
    container: str


INTEGERS = [f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)]
FLOATS = ["f2", "f4", "f8", "g"]
DTYPES = ["?", *INTEGERS, *FLOATS]
LARGE = {"f2": 6e4, "f4": 3e37, "f8": 1e100, "g": 1e100}
EDGES = [0, 1, 2**24 + 1, 2**31 - 1, 2**31, 2**32, -(2**31), -(2**31) - 1]


def elements(dtype):
    if dtype == "?":
        return st.booleans()
    if dtype in INTEGERS:
        bounds = np.iinfo(dtype)
        edges = [edge for edge in (*EDGES, bounds.min, bounds.max) if bounds.min <= edge <= bounds.max]
        return st.integers(max(bounds.min, -100), 100) | st.sampled_from(edges)
    rare = [0.0, -0.0, 0.1, 1e-3, LARGE[dtype], -LARGE[dtype], np.inf, -np.inf, np.nan, 1e39, 65504.0]
    return st.floats(-1e3, 1e3, width=16) | st.sampled_from(rare)


def listed(array, missing):
    return [None if gone else each for each, gone in zip(array.tolist(), missing, strict=True)]


def exact(number):
    return None if number is None else decimal.Decimal(repr(number) if isinstance(number, float) else int(number))


def named(dtype, signed="Int", truth="boolean"):
    """Return the name that pandas and polars have for a type of NumPy's."""
    kinds = {"b": truth, "i": signed, "u": "UInt", "f": "Float"}
    return kinds[dtype.kind] + ("" if dtype.kind == "b" else str(8 * dtype.itemsize))


def nullable(array, missing):
    values = pd.array(array, dtype=named(array.dtype))
    values[missing] = pd.NA
    return values


def of_arrow(array, missing):
    return pa.array(array, mask=missing)


def on_disk(array):
    with tempfile.TemporaryFile() as file:
        mapped = np.memmap(file, array.dtype, "w+", shape=array.shape)
    mapped[:] = array
    return mapped


# From an array, and a mark for each missing number, to a container.
CONTAINERS = {
    "NumPy": lambda array, missing: array,
    "other order of bytes": lambda array, missing: array.astype(array.dtype.newbyteorder("S")),
    "read-only": lambda array, missing: np.frombuffer(array.tobytes(), array.dtype),
    "every other": lambda array, missing: np.repeat(array, 2)[::2],
    "backwards": lambda array, missing: array[::-1].copy()[::-1],
    "list": lambda array, missing: array.tolist(),
    "tuple": lambda array, missing: tuple(array.tolist()),
    "list of NumPy's numbers": lambda array, missing: list(array),
    "JAX": lambda array, missing: jnp.asarray(array),
    "Dask": lambda array, missing: da.from_array(array, chunks=2),
    "memory map": lambda array, missing: on_disk(array),
    "Zarr": lambda array, missing: zarr.array(array, chunks=(2,)),
    "pandas": lambda array, missing: pd.Series(array),
    "labelled backwards": lambda array, missing: pd.Series(array, index=range(N_ROWS, 0, -1)),
    "masked": np.ma.masked_array,
    "objects": lambda array, missing: np.where(missing, None, array.astype(object)),
    "objects with NA": lambda array, missing: np.where(missing, pd.NA, array.astype(object)),
    "series with NA": lambda array, missing: pd.Series(np.where(missing, pd.NA, array.astype(object)), dtype=object),
    "list with None": listed,
    "decimals": lambda array, missing: [exact(each) for each in listed(array, missing)],
    "nullable": lambda array, missing: pd.Series(nullable(array, missing)),
    "nullable array": nullable,
    "pandas of Arrow": lambda array, missing: pd.Series(pd.arrays.ArrowExtensionArray(of_arrow(array, missing))),
    "Arrow": of_arrow,
    "Arrow in chunks": lambda array, missing: pa.chunked_array(
        [of_arrow(array[part], missing[part]) for part in (slice(0, 2), slice(2, None))]
    ),
    "polars": lambda array, missing: pl.Series(
        listed(array, missing), dtype=getattr(pl, named(array.dtype, truth="Boolean"))
    ),
}
FROM_MASKED_ON = list(CONTAINERS)[list(CONTAINERS).index("masked") :]  # these take missing numbers
IN_FRAMES = tuple(name for name in FROM_MASKED_ON if name not in ("masked", "list with None", "nullable array"))
OF_NUMPY = ("NumPy", "every other", "backwards", "list of NumPy's numbers", "read-only", "masked")


def holds(container, dtype):
    """Whether there is such a container of such numbers."""
    if dtype == "g":
        return container in OF_NUMPY
    if dtype == "f2":
        return container not in ("nullable", "nullable array", "polars", "pandas of Arrow", "Arrow", "Arrow in chunks")
    if container == "JAX":
        return np.dtype(dtype).itemsize <= 4
    return container != "other order of bytes" or np.dtype(dtype).itemsize > 1


@st.composite
def cases(draw, containers=tuple(CONTAINERS)):
    container = draw(st.sampled_from(containers))
    dtype = draw(st.sampled_from([each for each in DTYPES if holds(container, each)]))
    missing = np.zeros(N_ROWS, bool)
    if container in FROM_MASKED_ON and draw(st.integers(0, 3)) == 0:
        missing = np.array(draw(st.lists(st.booleans(), min_size=N_ROWS, max_size=N_ROWS)))
    with np.errstate(over="ignore"):
        array = np.array(draw(st.lists(elements(dtype), min_size=N_ROWS, max_size=N_ROWS)), dtype)
        expected = np.where(missing, np.nan, array.astype(np.float64))
    event(container)
    return Case(CONTAINERS[container](array, missing), expected, array.dtype.kind in "iu", container)


def is_refused_by_us(error, names):
    """Whether an error was raised by this package or scikit-learn's checks, and says what it is about."""
    raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
    by_us = any(f"/{package}/" in raised_in for package in ("skaimz", "sklearn"))
    return by_us and any(name in str(error) for name in names)


def check(case, precision, names, call, expected, *, allowed=True):
    """Assert that a call gives what NumPy gives in float64, or one of our errors, and no other outcome.

    ``allowed`` says that the numbers mean something there; those that do, and fit the precision, are not refused.
    """
    numbers = case.expected
    finite = bool(np.isfinite(numbers).all())
    with np.errstate(over="ignore"):
        fits = finite and np.isfinite(numbers.astype(precision)).all()
    if precision == "float32" and case.is_integer:
        fits = fits and (numbers >= -(2**31)).all() and (numbers < 2**31).all()
    refusal = None
    try:
        found = np.asarray(call())
    except (ValueError, TypeError) as error:
        refusal = error
    if refusal is not None:
        assert is_refused_by_us(refusal, names), "".join(traceback.format_exception(refusal))
        assert not (fits and allowed), refusal
        event("refused")
        return
    assert finite
    assert allowed
    scale = max(1.0, np.abs(numbers).max())
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE[precision], atol=TOLERANCE[precision] * scale)


precisions = st.sampled_from(["float64", "float32"])


# The doors


@FEW
@given(cases(), precisions)
def test_arguments(case, precision):
    expected = X[:, 0] + case.expected
    check(case, precision, ["'value'"], lambda: model_of(precision).predict(X, value=case.value), expected)


def framed(case, form):
    """A table with the numbers as a column."""
    if form == "array":
        return np.column_stack([X.astype(object), np.asarray(pd.Series(case.value), object)])
    if case.container == "polars":
        return pl.DataFrame({"x": X[:, 0], "value": case.value})
    if case.container.startswith("Arrow"):
        return pa.table({"x": X[:, 0], "value": case.value})
    return pd.DataFrame({"x": X[:, 0], "value": pd.Series(case.value)})


forms = st.sampled_from(["frame", "array"])


@FEW
@given(cases(IN_FRAMES), precisions, forms)
def test_columns(case, precision, form):
    model = model_of(precision, column_args={"value": 1})
    expected = X[:, 0] + case.expected
    check(case, precision, ["'value'"], lambda: model.predict(framed(case, form)), expected)


def of_two_columns(X, y=None):
    flat_kernel(X[:, :1], y, value=X[:, 1])


@FEW
@given(cases(IN_FRAMES), precisions, forms)
def test_rows(case, precision, form):
    model = model_of(precision, of_two_columns)
    as_floats = case._replace(is_integer=False)  # the input is
    check(as_floats, precision, ["X"], lambda: model.predict(framed(case, form)), X[:, 0] + case.expected)


doors = st.sampled_from(["argument", "column", "input"])
kinds = st.sampled_from(["f8", "f4", "i8", "i1"])


@FEW
@given(cases(), precisions, doors, kinds)
def test_scenarios(case, precision, door, kind):
    base = np.array([1, 2, 3, 4, 5], kind)
    frame = pd.DataFrame({"x": X[:, 0], "value": base})
    with np.errstate(over="ignore", invalid="ignore"):
        expected = case.expected.mean() - (X[:, 0].mean() if door == "input" else base.mean())

    def effect():
        if door == "argument":
            changes = {"arguments": {"value": case.value}}
            tree = model_of(precision).estimate_effect(X, value=base, scenarios={"new": changes})
        else:
            model = model_of(precision, column_args={"value": "value"})
            changes = {"columns": {"x" if door == "input" else "value": case.value}}
            tree = model.estimate_effect(frame, scenarios={"new": changes})
        return tree["new"]["effect"].to_numpy().ravel()

    # Whole numbers among floats are floats.
    case = case._replace(is_integer=case.is_integer and door != "input" and kind.startswith("i"))
    check(case, precision, ["'value'", "'x'"], effect, expected)


@FEW
@given(cases(), precisions, st.sampled_from(["intervention", "condition"]))
def test_interventions(case, precision, setting):
    def mean():
        found = model_of(precision, kernel).sample_posterior_predictive_on_batch(
            X, in_sample=False, return_datatree=False, return_sites="mean", **{setting: {"level": case.value}}
        )
        return found["mean"][0, 0]

    case = case._replace(is_integer=False)  # the site is continuous
    check(case, precision, ["'level'"], mean, X[:, 0] + case.expected)


@FEW
@given(cases(), precisions)
def test_posterior(case, precision):
    # Draws that are not finite are what they are, and a warning says so of predictions.
    assume(np.isfinite(case.expected).all())
    case = case._replace(is_integer=False)
    check(
        case, precision, ["'b'"], lambda: model_of(precision, draws=case.value).predict([[1.0]]), case.expected.mean()
    )


@FEW
@given(cases(), precisions)
def test_outcomes(case, precision):
    expected = -np.abs(case.expected - X[:, 0]) / 2.0 - np.log(4.0)
    case = case._replace(is_integer=False)
    check(case, precision, ["y"], lambda: model_of(precision).log_predictive_density(X, case.value), expected)


@FEW
@given(cases(), precisions)
def test_weights(case, precision):
    numbers = case.expected
    allowed = bool(np.isfinite(numbers).all() and (numbers >= 0).all() and numbers.any())
    expected = np.average(X[:, 0], weights=numbers / numbers.max()) if allowed else None

    def effect():
        tree = model_of(precision).estimate_effect(
            X, scenarios={"twice": {"columns": {0: lambda x: 2.0 * x}}}, sample_weight=case.value
        )
        return tree["twice"]["effect"].to_numpy().ravel()

    # An average does not grow with its weights.
    shrunk = np.where(np.isfinite(numbers), np.clip(numbers, -1, 1), numbers)
    case = case._replace(expected=shrunk, is_integer=False)
    check(case, precision, ["`sample_weight`"], effect, expected, allowed=allowed)


@FEW
@given(cases(), st.sampled_from(["y", "sample_weight"]))
def test_fits(case, door):
    """The fit is that on NumPy's float64."""
    numbers = case.expected
    allowed = bool(np.isfinite(numbers).all() and np.abs(numbers).max() < 1e9)
    if door == "sample_weight":
        allowed = allowed and bool((numbers >= 0).all() and (numbers > 0).sum() > 2)
    assume(allowed or not np.isfinite(numbers).all() or (door == "sample_weight" and (numbers < 0).any()))

    def predicted(values):
        given = {"y": np.arange(5.0), "sample_weight": None, door: values}
        return NumPyroImpactRegressor(random_state=0).fit(X, **given).predict(X)

    expected = predicted(numbers) if allowed else None
    check(case, "float64", [door], lambda: predicted(case.value), expected, allowed=allowed)


def test_there_are_containers_of_all_numbers():
    made = {
        (container, dtype): CONTAINERS[container](np.ones(N_ROWS, dtype), np.zeros(N_ROWS, bool))
        for container, dtype in itertools.product(CONTAINERS, DTYPES)
        if holds(container, dtype)
    }
    assert len(made) > 200
    for value in made.values():
        assert [float(each) for each in np.asarray(value)] == [1.0] * N_ROWS
