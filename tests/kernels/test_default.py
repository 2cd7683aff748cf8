"""The default kernels standardise columns, so that results do not depend on units."""

import jax
import numpy as np
import pytest
from numpyro import handlers
from numpyro.infer.util import log_density

from skaimz.kernels import Inputs, split_kernel, trace_kernel
from skaimz.kernels.default import LinearClassification, LinearRegression

N, D = 20, 3
_random = np.random.default_rng(1)
X = _random.normal(size=(N, D)) * [1.0, 5.0, 0.1] + [0.0, 3.0, -2.0]
Y = X @ [1.0, -0.5, 4.0] + _random.normal(size=N)
LATENTS = {"alpha": np.array(0.3), "beta": np.array([0.5, -1.0, 0.2]), "tau": np.array(0.7)}


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def density(kernel, rows, latents):
    return float(log_density(kernel, (), rows, latents)[0])


def classification_latents(n_classes):
    outputs = () if n_classes == 2 else (n_classes,)
    random = np.random.default_rng(2)
    return {"alpha": random.normal(size=outputs), "beta": random.normal(size=(D, *outputs))}


@pytest.mark.parametrize("scale", [1.0, 1000.0, np.array([1e-3, 10.0, 7.0])], ids=["same", "thousand", "by column"])
@pytest.mark.parametrize("shift", [0.0, -50.0, np.array([1.0, -2.0, 300.0])], ids=["none", "all", "by column"])
@pytest.mark.parametrize(("y_scale", "y_shift"), [(1.0, 0.0), (0.01, 5.0), (250.0, -1e3)])
def test_regression_does_not_see_units(scale, shift, y_scale, y_shift):
    rows = {"X": X, "y": Y}
    other = {"X": X * scale + shift, "y": Y * y_scale + y_shift}
    before = density(LinearRegression.of(rows, None, None), rows, LATENTS)
    after = density(LinearRegression.of(other, None, None), other, LATENTS)
    # The density of y is divided by the factor between the units.
    assert after == pytest.approx(before - N * np.log(y_scale), rel=1e-9)


@pytest.mark.parametrize("n_classes", [2, 3, 5])
@pytest.mark.parametrize(
    ("scale", "shift"), [(1000.0, 0.0), (np.array([1e-3, 10.0, 7.0]), np.array([1.0, -2.0, 300.0]))]
)
def test_classification_does_not_see_units(n_classes, scale, shift):
    y = np.arange(N) % n_classes
    rows, other = {"X": X, "y": y}, {"X": X * scale + shift, "y": y}
    latents = classification_latents(n_classes)
    before = density(LinearClassification.of(rows, None, n_classes), rows, latents)
    after = density(LinearClassification.of(other, None, n_classes), other, latents)
    assert after == pytest.approx(before, rel=1e-9)


def test_regression_is_the_model_that_it_says():
    rows = {"X": X, "y": Y}
    kernel = LinearRegression.of(rows, None, None)
    with handlers.seed(rng_seed=0), handlers.substitute(data=LATENTS), handlers.trace() as trace:
        kernel(X)
    slope, intercept, sigma = (np.asarray(trace[name]["value"]) for name in ("coef", "intercept", "sigma"))
    np.testing.assert_allclose(slope, Y.std() * LATENTS["beta"] / X.std(0))
    np.testing.assert_allclose(sigma, 0.7 * Y.std())
    np.testing.assert_allclose(trace["y"]["fn"].mean, intercept + X @ slope)
    np.testing.assert_allclose(trace["y"]["fn"].variance, sigma**2)


def test_regression_has_the_priors_that_it_says():
    with handlers.seed(rng_seed=0), handlers.trace() as trace:
        LinearRegression.of({"X": X, "y": Y}, None, None)(X)
    assert (trace["alpha"]["fn"].loc, trace["alpha"]["fn"].scale) == (0.0, 1.0)
    np.testing.assert_array_equal(trace["beta"]["fn"].variance, np.full(D, 2.5**2))
    assert trace["tau"]["fn"].rate == 1.0


@pytest.mark.parametrize("n_classes", [2, 4])
def test_classification_is_the_model_that_it_says(n_classes):
    kernel, latents = LinearClassification.of({"X": X}, None, n_classes), classification_latents(n_classes)
    with handlers.seed(rng_seed=0), handlers.substitute(data=latents), handlers.trace() as trace:
        kernel(X)
    logits = (X - X.mean(0)) / X.std(0) @ latents["beta"] + latents["alpha"]
    np.testing.assert_allclose(trace["y"]["fn"].logits, logits, rtol=1e-9)
    assert trace["y"]["value"].shape == (N,)
    for name in ("alpha", "beta"):
        np.testing.assert_array_equal(trace[name]["fn"].variance, np.full(latents[name].shape, 2.5**2))


@pytest.mark.parametrize("kernel", [LinearRegression, LinearClassification])
def test_weights_count_as_repetitions(kernel):
    counts = np.arange(N) % 4
    weighted = kernel.of({"X": X, "y": Y}, counts.astype(float), 2).get_params()
    repeated = kernel.of({"X": np.repeat(X, counts, 0), "y": np.repeat(Y, counts)}, None, 2).get_params()
    plain = kernel.of({"X": X, "y": Y}, None, 2).get_params()
    assert weighted.keys() == repeated.keys()
    for name in weighted:
        np.testing.assert_allclose(weighted[name], repeated[name], rtol=1e-12)
    assert not np.allclose(weighted["x_mean"], plain["x_mean"])
    assert not np.allclose(weighted["x_scale"], plain["x_scale"])


def test_equal_weights_change_nothing():
    plain = LinearRegression.of({"X": X, "y": Y}, None, None).get_params()
    weighted = LinearRegression.of({"X": X, "y": Y}, np.full(N, 7.0), None).get_params()
    for name in plain:
        np.testing.assert_allclose(weighted[name], plain[name], rtol=1e-12)


@pytest.mark.parametrize("constant", [0.0, 1.0, 0.1, -3.3, 1e8, 1e-8])
def test_constant_columns_have_scale_one(constant):
    rows = {"X": np.column_stack([X[:, 0], np.full(N, constant)]), "y": np.full(N, constant)}
    params = LinearRegression.of(rows, None, None).get_params()
    assert params["x_scale"][1] == 1.0
    assert params["y_scale"] == 1.0
    np.testing.assert_allclose(params["x_mean"][1], constant)
    np.testing.assert_allclose(params["x_scale"][0], X[:, 0].std())


@pytest.mark.parametrize("constant", [0.1, -3.3, 1e-8, 123456.789])
def test_constant_columns_of_single_precision_have_scale_one(constant):
    rows = {"X": np.full((1001, 2), constant, np.float32), "y": np.full(1001, constant, np.float32)}
    params = LinearRegression.of(rows, None, None).get_params()
    np.testing.assert_array_equal(params["x_scale"], 1.0)
    assert params["y_scale"] == 1.0


@pytest.mark.parametrize("constant", [-3.3, 1e-8, 123456.789])
def test_weighted_constant_columns_of_single_precision_have_scale_one(constant):
    weight = np.linspace(0.1, 1.0, 1001, dtype=np.float32)
    rows = {"X": np.full((1001, 2), constant, np.float32), "y": np.full(1001, constant, np.float32)}
    np.testing.assert_array_equal(LinearRegression.of(rows, weight, None).get_params()["x_scale"], 1.0)


@pytest.mark.parametrize("unit", [1e-9, 1e9])
def test_small_and_large_units_are_not_taken_for_constants(unit):
    params = LinearRegression.of({"X": X * unit, "y": Y * unit}, None, None).get_params()
    np.testing.assert_allclose(params["x_scale"], X.std(0) * unit)
    np.testing.assert_allclose(params["y_scale"], Y.std() * unit)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_types_follow_the_data(dtype):
    params = LinearRegression.of({"X": X.astype(dtype), "y": Y.astype(dtype)}, None, None).get_params()
    assert {value.dtype.name for value in params.values()} == {dtype}


def test_folds_share_one_program():
    halves = [{"X": X[half], "y": Y[half]} for half in (slice(0, 10), slice(10, 20))]
    one, other = (LinearRegression.of(rows, None, None) for rows in halves)
    assert split_kernel(one)[0] == split_kernel(other)[0]
    assert split_kernel(one)[1].keys() == {"x_mean", "x_scale", "y_mean", "y_scale"}
    assert not np.allclose(split_kernel(one)[1]["x_mean"], split_kernel(other)[1]["x_mean"])


@pytest.mark.parametrize(
    ("kernel", "output_shape"),
    [
        (LinearRegression.of({"X": X, "y": Y}, None, None), (None,)),
        (LinearClassification.of({"X": X}, None, 2), (None,)),
        (LinearClassification.of({"X": X}, None, 3), (None,)),
    ],
    ids=["regression", "two classes", "three classes"],
)
def test_rows_stand_alone(kernel, output_shape):
    spec = trace_kernel(kernel, Inputs({"X": X}, {}), "X", "y")[0].spec
    assert spec.rows_mix is None
    assert spec.can_be_padded
    assert spec["y"].shape == output_shape
    assert spec["y"].dims == ("rows",)
