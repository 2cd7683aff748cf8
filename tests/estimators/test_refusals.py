"""Every refusal names the argument, what was given and what to do."""

import functools
import gc
import weakref

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import zoo
from sklearn.exceptions import NotFittedError

from skaimz import NumPyroImpactClassifier, NumPyroImpactRegressor
from skaimz.inference import SVI

X = np.random.default_rng(0).normal(size=(20, 2))
y = X[:, 0]


def normal(X, y, name="y"):
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0))
    numpyro.sample(name, dist.Normal(X[:, 0] * coef, 1.0), obs=y)


def no_y(X):
    pass


def other_default(X, y=0):
    normal(X, y)


def default_input(X=0, y=None):
    normal(X, y)


def positional(X, /, y=None):
    normal(X, y)


def starred(X, *more, y=None):
    normal(X, y)


def reserved(X, y=None, *, quantiles=None):
    normal(X, y)


def never_observed(X, y=None):
    normal(X, None)


def chain(X, y=None):
    numpyro.deterministic("chain", X[:, 0])
    normal(X, y)


def no_rows(X, y=None):
    numpyro.sample("y", dist.Normal(np.zeros(7), 1.0), obs=None if y is None else y[:7])


def positive(X, y=None):
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0))
    numpyro.sample("y", dist.Exponential(numpyro.deterministic("rate", 1.0 + 0.0 * coef * X[:, 0])), obs=y)


def grouped(X, y=None, *, group, table):
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0))
    numpyro.sample("y", dist.Normal(X[:, 0] * coef + table[group], 1.0), obs=y)


KERNELS = [
    (no_y, ValueError, r"Kernel must accept 'X' and 'y' as argument\(s\)\. Modify the kernel signature or set "
     r"`param_input` and `param_output` accordingly\."),
    (other_default, ValueError, "'y' must have no default or the default None"),
    (default_input, ValueError, "'X' must have no default or the default None"),
    (positional, ValueError, "'X' must not be positional-only"),
    (starred, ValueError, r"must not take `\*more`"),
    (reserved, ValueError, "'quantiles' has the name of a setting"),
    (never_observed, ValueError, r"never observes its output.*numpyro.sample\('y', ..., obs=y\)"),
    (chain, ValueError, "'chain' is the name of a dimension"),
    (no_rows, ValueError, r"'y' observes the argument 'y', but without an outcome it has the shape \(7\)"),
    ("linear", TypeError, "`kernel` must be a callable NumPyro model or None, got 'linear'"),
    (dict, TypeError, "`kernel` must be a callable"),
    (positive, ValueError, "outside the support of the kernel's output 'y', a Exponential distribution: they must "
     "be positive"),
]  # fmt: skip


@pytest.mark.parametrize(("kernel", "error", "message"), KERNELS)
def test_kernels(kernel, error, message, quick):
    with pytest.raises(error, match=message):
        NumPyroImpactRegressor(kernel, inference=quick).fit(X, y)


PARAMETERS = [
    ({"inference": "vi"}, ValueError, "`inference` must be 'auto', 'svi', 'mcmc'.* got 'vi'"),
    ({"dtype": "float16"}, ValueError, "`dtype` must be None, 'float32' or 'float64', got 'float16'"),
    ({"verbose": -1}, ValueError, "`verbose` must be a non-negative integer, got -1"),
    ({"param_input": 3}, TypeError, "`param_input` must be a string, got 3"),
    ({"random_state": -1}, ValueError, "`random_state` must lie between"),
    ({"random_state": "a"}, ValueError, "'a' cannot be used to seed"),
    ({"column_args": {"z": 0}}, TypeError, "Unknown argument 'z'"),
    ({"column_args": {"z": "a"}}, ValueError, "X has no column names"),
    ({"column_args": {"z": 2}}, ValueError, "gives column 2, but X has 2 columns"),
    ({"column_args": ["a"]}, TypeError, "`column_args` must map"),
    ({"column_args": {"z": 0.5}}, TypeError, "by name or position, got 0.5"),
    ({"column_args": {"z": [0, 1]}}, ValueError, "takes every column of X"),
    ({"posterior": {"coef": np.ones(3)}, "kernel": None}, ValueError, "`posterior` needs a `kernel`"),
    ({"kernel": None, "param_input": "Z"}, ValueError, "the default has X and y"),
]


@pytest.mark.parametrize(("parameters", "error", "message"), PARAMETERS)
def test_parameters(parameters, error, message, quick):
    with pytest.raises(error, match=message):
        NumPyroImpactRegressor(**{"kernel": zoo.conjugate, "inference": quick, **parameters}).fit(X, y)


DATA = [
    (X[:, 0], y, {}, "Expected 2D array, got 1D array"),
    (np.where(X > 1, np.nan, X), y, {}, "Input X contains NaN"),
    (X, np.where(y > 0, np.inf, y), {}, "Input y contains infinity"),
    (X[:0], y[:0], {}, "0 sample"),
    (X, y[:-1], {}, r"inconsistent numbers of samples: \[20, 19\]"),
    (X, np.stack([y, y], axis=1), {}, r"y should be a 1d array, got an array of shape \(20, 2\)"),
    (X, None, {}, "requires y to be passed"),
    (X, y, {"sample_weight": -np.ones(20)}, "Negative values"),
    (X, y, {"sample_weight": np.zeros(20)}, "at least one non-zero"),
    (X, y, {"sample_weight": np.ones(3)}, "sample_weight.shape"),
]


@pytest.mark.parametrize(("X", "y", "arguments", "message"), DATA)
def test_data(X, y, arguments, message, quick):
    with pytest.raises(ValueError, match=message):
        NumPyroImpactRegressor(zoo.conjugate, inference=quick).fit(X, y, **arguments)


@pytest.mark.parametrize(("model", "y"), [(NumPyroImpactRegressor(), X), (NumPyroImpactClassifier(), X > 0)])
def test_default_kernel_has_one_output(model, y):
    with pytest.raises(ValueError, match=r"The default kernel has one output, but y has the shape \(20, 2\)"):
        model.fit(X, y)


@pytest.mark.parametrize(("name", "message"), [
    ("inference__num_steps", "`inference` is 'auto', which has no parameters. Give settings, as in `inference=SVI"),
    ("kernel__scale", "`kernel` is None, which has no parameters. Give an object with `set_params`"),
    ("inverence__num_steps", "Invalid parameter 'inverence'"),
])  # fmt: skip
def test_parameters_of_what_has_none(name, message):
    with pytest.raises(ValueError, match=message):
        NumPyroImpactRegressor().set_params(**{name: 5})
    model = NumPyroImpactRegressor().set_params(inference=SVI(), inference__num_steps=5)
    assert model.inference.num_steps == 5


def branching(X, y=None):
    coef = numpyro.sample("coef", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(X[:, 0] if coef > 0 else X[:, 1], 1), obs=y)


def with_numpy(X, y=None):
    coef = numpyro.sample("coef", dist.HalfNormal())
    numpyro.sample("y", dist.Normal(np.log(coef) * X[:, 0], 1), obs=y)


@pytest.mark.parametrize("kernel", [branching, with_numpy])
def test_errors_of_tracing_say_what_to_write(kernel, quick):
    for _ in range(2):
        with pytest.raises(TypeError) as caught:
            NumPyroImpactRegressor(kernel, inference=quick).fit(X, y)
        assert sum("write `jnp.where(condition, a, b)`" in note for note in caught.value.__notes__) == 1


ARGUMENTS = [
    ({"group": np.zeros(20, int)}, TypeError, "Missing argument 'table'"),
    ({"group": None, "table": np.ones(3)}, TypeError, "Missing argument 'group'"),
    ({"group": np.zeros(20, int), "table": [[1, 2], [3]]}, ValueError, "'table' is not an array.*unequal"),
    ({"group": np.zeros(20, int), "table": np.array(["a"])}, ValueError, "'table' must be numeric.*encode"),
    ({"group": np.zeros(20, int), "table": [1.0, np.nan]}, ValueError, "'table' contains NaN or infinity"),
    ({"group": np.zeros(20, int), "table": np.ones(3), "other": 1}, TypeError, "Unknown argument 'other'"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), ARGUMENTS)
def test_arguments(arguments, error, message, quick):
    with pytest.raises(error, match=message):
        NumPyroImpactRegressor(grouped, inference=quick).fit(X, y, **arguments)


def test_arguments_of_unequal_length_are_named(quick):
    with pytest.raises(TypeError) as caught:
        NumPyroImpactRegressor(grouped, inference=quick).fit(X, y, group=np.zeros(19, int), table=np.ones(3))
    assert any("X has 20 rows" in note and "'group': 19" in note for note in caught.value.__notes__)
    model = NumPyroImpactRegressor(grouped, inference=quick)
    model.fit(X, y, group=np.zeros(20, int), table=np.ones(3))
    with pytest.raises(ValueError, match="Argument 'group' has 19 rows, but X has 20"):
        model.predict(X, group=np.zeros(19, int), table=np.ones(3))


@pytest.mark.parametrize("method", ["predict", "predict_quantiles", "predict_interval", "sample_y"])
def test_unfitted(method):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        getattr(NumPyroImpactRegressor(), method)(X)


@pytest.mark.parametrize("method", ["describe", "to_datatree", "sample_posterior"])
def test_unfitted_without_data(method):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        getattr(NumPyroImpactRegressor(), method)()


@pytest.mark.parametrize(("method", "arguments", "message"), [
    ("predict_quantiles", {"quantiles": [0.5, 1.5]}, "`quantiles` must be one or more probabilities"),
    ("predict_quantiles", {"quantiles": []}, "`quantiles` must be one or more"),
    ("predict_interval", {"coverage": 1.0}, "`coverage` must be one or more"),
    ("sample_y", {"n_samples": 0}, "`n_samples` must be a positive integer, got 0"),
    ("sample_y", {"n_samples": 1.5}, "`n_samples` must be a positive integer"),
])  # fmt: skip
def test_prediction_arguments(fitted, method, arguments, message):
    with pytest.raises(ValueError, match=message):
        getattr(fitted, method)(X, **arguments)


def test_features(fitted):
    with pytest.raises(ValueError, match="X has 3 features, but NumPyroImpactRegressor is expecting 2"):
        fitted.predict(np.ones((2, 3)))


@pytest.mark.parametrize(("kernel", "y", "message"), [
    (zoo.conjugate, np.arange(20) % 2,
     "must have a Bernoulli, categorical or ordered distribution, but site 'y' has Normal"),
    (zoo.logistic, np.arange(20) % 3, "A Bernoulli output has 2 classes, but y has 3"),
    (zoo.logistic, np.zeros(20), r"at least 2 classes, got 1 class: \[0.0\]"),
    (zoo.logistic, X[:, 0], "Unknown label type"),
])  # fmt: skip
def test_classes(kernel, y, message, quick):
    with pytest.raises(ValueError, match=message):
        NumPyroImpactClassifier(kernel, inference=quick).fit(X, y)


def test_kernels_behind_partials_are_seen(quick):
    with pytest.raises(ValueError, match="'y' must have no default or the default None"):
        NumPyroImpactRegressor(functools.partial(other_default), inference=quick).fit(X, y)
    with pytest.raises(ValueError, match="'y' must have no default or the default None"):
        NumPyroImpactRegressor(numpyro.handlers.scale(other_default, scale=2.0), inference=quick).fit(X, y)


# Names that a kernel takes, or would take, and that do not belong to its further arguments


def by_other_names(features, target=None, shift=5.0):
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", features.shape[0]):
        mean = features[:, 0] * coef + (0.0 if shift is None else shift)
        numpyro.sample("target", dist.Normal(mean, 1.0), obs=target)


def open_ended(features, target=None, **more):
    by_other_names(features, target, **more)


def renamed(kernel):
    return NumPyroImpactRegressor(
        kernel, param_input="features", param_output="target", posterior={"coef": np.ones(4)}, random_state=0
    )


@pytest.mark.parametrize("kernel", [by_other_names, open_ended])
def test_input_and_output_cannot_be_passed_by_name(kernel):
    model, zeros = renamed(kernel), np.zeros(20)
    on_batch = {"in_sample": False, "return_datatree": False}
    calls = {
        "predict": lambda **more: model.predict(X, **more),
        "draws": lambda **more: model.sample_posterior_predictive_on_batch(X, **on_batch, **more),
        "prior": lambda **more: model.sample_prior_predictive(X, num_samples=2, **more),
        "outcomes": lambda **more: model.sample_y(X, **more),
        "density": lambda **more: model.log_predictive_density(X, y, **more),
        "likelihood": lambda **more: model.log_likelihood(X, y, in_sample=False, **more),
        "score": lambda **more: model.score(X, y, **more),
        "effect": lambda **more: model.estimate_effect(X, scenarios={"a": {}}, **more),
        "scenario": lambda **more: model.estimate_effect(X, scenarios={"a": {"arguments": more}}),
        "fit": lambda **more: model.fit(X, y, **more),
    }
    for method, call in calls.items():
        given = {"target": zeros} if method == "scenario" else {"features": X + 100.0}
        with pytest.raises(TypeError, match=f"'{next(iter(given))}' is the kernel's parameter that takes [Xy]"):
            pytest.fail(f"{method}: {call(**given)}")
        with pytest.raises(TypeError, match="'target' is the kernel's parameter that takes y: it cannot be passed by"):
            pytest.fail(f"{method}: {call(target=zeros)}")
    with pytest.raises(TypeError, match="'features' is the kernel's parameter that takes X"):
        model.set_params(column_args={"features": 1}).predict(X)


def test_settings_of_other_methods_do_not_reach_a_kernel_that_takes_anything():
    for name in ("sample_weight", "random_state", "y", "intervention"):
        with pytest.raises(TypeError, match=f"'{name}' is a setting of other methods"):
            renamed(open_ended).predict(X, **{name: 1.0})


def test_none_is_a_value():
    model = renamed(by_other_names)
    np.testing.assert_allclose(model.predict(X), X[:, 0] + 5.0)
    np.testing.assert_allclose(model.predict(X, shift=None), X[:, 0])
    model.fit(X, y, shift=None)
    np.testing.assert_allclose(model.predict(X), X[:, 0])  # a constant of the fit holds on
    np.testing.assert_allclose(model.predict(X, shift=np.ones(20)), X[:, 0] + 1.0)
    again = NumPyroImpactRegressor.from_datatree(by_other_names, model.to_datatree())
    np.testing.assert_allclose(again.predict(X), X[:, 0])
    changes = {"none": {"arguments": {"shift": None}}, "two": {"arguments": {"shift": 2.0}}}
    effect = model.estimate_effect(X, shift=3.0, scenarios=changes)
    assert [float(effect[name]["effect"].mean()) for name in changes] == pytest.approx([-3.0, -1.0])


# Errors that come again


def of_three_columns(X, y=None):
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ coef, 1.0), obs=y)


def with_a_branch(X, y=None):
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X[:, 0] if coef > 0 else -X[:, 0], 1.0), obs=y)


class Rows(np.ndarray):
    """Rows that can be watched."""


@pytest.mark.parametrize("kernel", [of_three_columns, with_a_branch])
def test_an_error_is_a_new_one_each_time_and_keeps_no_rows(kernel):
    told = []
    for _ in range(3):
        X = np.ones((10, 2)).view(Rows)
        watched = weakref.ref(X)
        with pytest.raises(TypeError) as caught:
            NumPyroImpactRegressor(kernel, inference="svi").fit(X, np.arange(10.0))
        told.append((str(caught.value), caught.value.__notes__, len(caught.traceback)))
        del X, caught
        gc.collect()
        assert watched() is None
    assert told[1:] == told[:-1]
