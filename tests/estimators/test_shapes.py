"""X and y of any shape, X of integers and booleans, and arguments that are passed whole."""

import dask.array as da
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
import zarr
from scipy import stats
from zoo import linear

from skaimz import NumPyroImpactRegressor
from skaimz.inference import SVI, Auto

NOISE = 0.5
rng = np.random.default_rng(0)
SERIES = rng.normal(size=60)
SEQUENCES = rng.normal(size=(60, 4, 3))
LEVELS = rng.integers(5, size=(60, 1))
LEVEL = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])


def of_series(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(slope * X, NOISE), obs=y)


def of_sequences(X, y=None):
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([X.shape[2]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X.mean(axis=1) @ coef, NOISE), obs=y)


def of_levels(X, y=None):
    level = numpyro.sample("level", dist.Normal(0.0, 1.0).expand([5]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(level[X[:, 0]], NOISE), obs=y)


def of_marks(X, y=None):
    level = numpyro.sample("level", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(jnp.where(X[:, 0] & ~X[:, 1], *level), NOISE), obs=y)


def of_tables(X, y=None):
    """Each row has a table of outcomes."""
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X * coef, NOISE).to_event(2), obs=y)


def with_whole(X, y=None, *, centres, nets):
    """Distances from centres, of which there are as many as rows; the edges of a net are looked up in them."""
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    near = jnp.abs(X[:, :1] - centres[None, :]).min(axis=1) + nets["edges"]["weight"].sum() * nets["offset"]
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(slope * near, NOISE), obs=y)


def fitted(kernel, X, y, inference="auto", **settings):
    return NumPyroImpactRegressor(kernel, inference=inference, random_state=0, **settings).fit(X, y)


def ridge(Z, y):
    """Return the posterior mean and covariance of normal slopes with unit prior and known noise."""
    covariance = np.linalg.inv(np.eye(Z.shape[1]) + Z.T @ Z / NOISE**2)
    return covariance @ Z.T @ y / NOISE**2, covariance


@pytest.fixture(scope="module")
def of_rank_3():
    y = SEQUENCES.mean(axis=1) @ [1.0, -1.0, 2.0] + NOISE * np.random.default_rng(1).normal(size=60)
    return fitted(of_sequences, SEQUENCES, y), y


@pytest.fixture(scope="module")
def of_integers():
    y = LEVEL[LEVELS[:, 0]] + NOISE * np.random.default_rng(2).normal(size=60)
    return fitted(of_levels, LEVELS, y), y


def test_sequences(of_rank_3):
    model, y = of_rank_3
    Z = SEQUENCES.mean(axis=1)
    mean, covariance = ridge(Z, y)
    coef = model.posterior_["coef"].reshape(-1, 3)
    np.testing.assert_allclose(coef.mean(axis=0), mean, atol=4 * np.sqrt(covariance.diagonal().max() / len(coef)))
    np.testing.assert_allclose(np.cov(coef.T), covariance, rtol=0.3, atol=0.2 * covariance.max())
    np.testing.assert_allclose(model.predict(SEQUENCES), Z @ coef.mean(axis=0), atol=1e-5)
    density = model.log_likelihood(SEQUENCES, y)["log_likelihood"]["y"].to_numpy()[0]
    np.testing.assert_allclose(density, stats.norm.logpdf(y, coef @ Z.T, NOISE), atol=1e-4)
    assert model.n_features_in_ == 4  # as scikit-learn counts
    assert model.predict_interval(SEQUENCES[:7]).shape == (7, 2)


def test_sequences_are_read_from_anywhere(of_rank_3, tmp_path):
    model, y = of_rank_3
    stored = zarr.create_array(tmp_path / "X.zarr", shape=SEQUENCES.shape, chunks=(7, 4, 3), dtype="f8")
    stored[:] = SEQUENCES
    expected = model.predict(SEQUENCES)
    np.testing.assert_array_equal(model.predict(stored), expected)
    np.testing.assert_array_equal(model.predict(da.from_array(SEQUENCES, chunks=(11, 2, 3))).compute(), expected)
    draws = model.sample_posterior_predictive(SEQUENCES)["posterior_predictive"]["y"]
    written = model.sample_posterior_predictive(SEQUENCES, output_dir=tmp_path / "draws")["posterior_predictive"]["y"]
    np.testing.assert_array_equal(written, draws)
    batches = SVI(num_steps=30, batch_size=16)
    in_memory = fitted(of_sequences, SEQUENCES, y, batches).posterior_["coef"]
    np.testing.assert_array_equal(fitted(of_sequences, stored, y, batches).posterior_["coef"], in_memory)


def test_sequences_are_saved(of_rank_3):
    model, y = of_rank_3
    tree = model.to_datatree(SEQUENCES, y, return_groups=["constant_data", "observed_data"])
    assert dict(tree["constant_data"]["X"].sizes) == {"rows": 60, "X_dim_0": 4, "X_dim_1": 3}
    again = NumPyroImpactRegressor.from_datatree(of_sequences, tree)
    np.testing.assert_array_equal(again.predict(SEQUENCES), model.predict(SEQUENCES))
    with pytest.raises(ValueError, match="have the shape"):
        again.predict(SEQUENCES[:, :, :2])


def test_series():
    y = 2.0 * SERIES + NOISE * rng.normal(size=60)
    model = fitted(of_series, pd.Series(SERIES), y)
    mean, covariance = ridge(SERIES[:, None], y)
    assert abs(model.posterior_["slope"].mean() - mean[0]) < 4 * np.sqrt(covariance[0, 0] / 1000)
    np.testing.assert_allclose(model.predict(SERIES), SERIES * model.posterior_["slope"].mean(), atol=1e-6)
    assert not hasattr(model, "n_features_in_")
    again = NumPyroImpactRegressor.from_datatree(of_series, model.to_datatree(SERIES, y))
    np.testing.assert_array_equal(again.predict(SERIES), model.predict(SERIES))
    with pytest.raises(ValueError, match=r"X has the shape \(60, 1\), but the rows that the estimator was fitted to"):
        model.predict(SERIES[:, None])
    # The next fit may have columns, and then counts them.
    assert model.set_params(kernel=linear, inference=SVI(num_steps=1)).fit(SERIES[:, None], y).n_features_in_ == 1
    with pytest.raises(ValueError, match="Reshape your data"):
        model.predict(SERIES)


def test_integers_are_indices(of_integers, tmp_path):
    model, y = of_integers
    level = model.posterior_["level"].mean(axis=(0, 1))
    counts = np.bincount(LEVELS[:, 0], minlength=5)
    exact = np.bincount(LEVELS[:, 0], y, minlength=5) / NOISE**2 / (1 + counts / NOISE**2)
    np.testing.assert_allclose(level, exact, atol=4 * NOISE / np.sqrt(counts.min() * 1000))
    for X in (LEVELS, LEVELS.tolist(), pd.DataFrame(LEVELS), LEVELS.astype(">i2")):
        np.testing.assert_allclose(model.predict(X), level[LEVELS[:, 0]], atol=1e-6)
    np.testing.assert_allclose(
        model.predict(da.from_array(LEVELS, chunks=20)).compute(), level[LEVELS[:, 0]], atol=1e-6
    )
    with pytest.raises(TypeError, match="uses an array as an index that does not hold integers"):
        model.predict(LEVELS.astype(float))
    with pytest.raises(ValueError, match="5"):
        model.predict(LEVELS + 5)
    settings = SVI(num_steps=30, batch_size=16)
    in_memory = fitted(of_levels, LEVELS, y, settings).posterior_["level"]
    parts = [{"X": LEVELS[start : start + 25], "y": y[start : start + 25]} for start in range(0, 60, 25)]
    streamed = NumPyroImpactRegressor(of_levels, inference=settings, random_state=0).fit(_Batches(parts))
    np.testing.assert_array_equal(streamed.posterior_["level"], in_memory)


class _Batches:
    def __init__(self, parts):
        self.parts = parts

    def __iter__(self):
        return iter(self.parts)


def test_integers_in_single_precision(of_integers):
    _, y = of_integers
    model = fitted(of_levels, LEVELS, y, SVI(num_steps=10), dtype="float32")
    assert model.posterior_["level"].dtype == np.float32
    assert model.predict(LEVELS).dtype == np.float32
    with pytest.raises(ValueError, match=r"X holds 42949673.. in row 0, too large for int32"):
        model.predict(LEVELS + 2**32)


def test_incremental_fits_of_integers(of_integers):
    _, y = of_integers
    model = NumPyroImpactRegressor(of_levels, inference=SVI(batch_size=20, total_rows=60), random_state=0)
    for _ in range(2):
        model.partial_fit(LEVELS, y)
    assert len(model.fit_result_.losses) == 6
    np.testing.assert_allclose(
        model.predict(LEVELS), model.posterior_["level"].mean(axis=(0, 1))[LEVELS[:, 0]], atol=1e-6
    )


def test_effects_on_a_table_of_integers(of_integers):
    model, _ = of_integers
    level = model.posterior_["level"][0]
    effect = model.estimate_effect(LEVELS, scenarios={"top": {"columns": {0: 4}}})["top"]["effect"]
    np.testing.assert_allclose(effect.to_numpy()[0], level[:, 4] - level[:, LEVELS[:, 0]].mean(axis=1), atol=1e-5)
    slopes = fitted(linear, LEVELS, LEVEL[LEVELS[:, 0]] + rng.normal(size=60))
    coef = slopes.posterior_["coef"][0, :, 0]
    np.testing.assert_allclose(slopes.estimate_slope(LEVELS, along=0)["0"]["effect"].to_numpy()[0], coef, rtol=1e-5)
    half = {"more": {"columns": {0: lambda column: column + 0.5}}}
    effect = slopes.estimate_effect(LEVELS, scenarios=half)["more"]["effect"]
    np.testing.assert_allclose(effect.to_numpy()[0], 0.5 * coef, atol=1e-5)


def test_booleans():
    marks = rng.integers(2, size=(60, 2)).astype(bool)
    y = np.where(marks[:, 0] & ~marks[:, 1], 1.0, -1.0) + NOISE * rng.normal(size=60)
    model = fitted(of_marks, marks, y)
    level = model.posterior_["level"].mean(axis=(0, 1))
    np.testing.assert_allclose(model.predict(marks), np.where(marks[:, 0] & ~marks[:, 1], *level), atol=1e-6)


def test_outcomes_of_rank_3():
    X = rng.normal(size=(60, 2, 3))
    y = X * [1.0, -1.0, 2.0] + NOISE * rng.normal(size=X.shape)
    model = fitted(of_tables, X, y, Auto(num_samples=500))
    coef = model.posterior_["coef"].mean(axis=(0, 1))
    exact = (X * y).sum(axis=(0, 1)) / NOISE**2 / (1 + (X**2).sum(axis=(0, 1)) / NOISE**2)
    np.testing.assert_allclose(coef, exact, atol=0.05)
    predicted = model.predict(X)
    np.testing.assert_allclose(predicted, X * coef, atol=1e-5)
    of_outputs = 1 - ((y - predicted) ** 2).sum(axis=0) / ((y - y.mean(axis=0)) ** 2).sum(axis=0)
    np.testing.assert_allclose(model.score(X, y), of_outputs.mean())
    assert model.log_likelihood(X[:5], y[:5], in_sample=False)["log_likelihood"]["y"].shape == (1, 500, 5)


def test_whole_arguments():
    """An array of as many entries as X has rows, and nested arrays, count for every row."""
    X = rng.normal(size=(12, 1))
    centres, weight, offset = rng.normal(size=12), rng.normal(size=12), rng.normal(size=12)
    nets = {"edges": {"weight": weight}, "offset": offset}
    near = np.abs(X - centres).min(axis=1) + weight.sum() * offset
    model = NumPyroImpactRegressor(
        with_whole, whole_args=("centres", "nets.edges"), inference=SVI(num_steps=50), random_state=0
    ).fit(X, near, centres=centres, nets=nets)
    assert sorted(model.arguments_["whole"]) == ["centres", "nets.edges.weight"]
    assert sorted(model.arguments_["rows"]) == ["X", "nets.offset"]
    slope = model.posterior_["slope"].mean()
    np.testing.assert_allclose(model.predict(X, centres=centres, nets=nets), slope * near, rtol=1e-5)
    lazy = model.predict(da.from_array(X, chunks=5), centres=da.from_array(centres), nets=nets)
    np.testing.assert_allclose(lazy.compute(), slope * near, rtol=1e-5)
    again = NumPyroImpactRegressor.from_datatree(with_whole, model.to_datatree())
    np.testing.assert_array_equal(
        again.predict(X, centres=centres, nets=nets), model.predict(X, centres=centres, nets=nets)
    )
    # Scenarios give a whole argument a new value, of any length.
    fewer = {"fewer": {"arguments": {"centres": centres[:1]}}}
    effect = model.estimate_effect(X, scenarios=fewer, centres=centres, nets=nets)["fewer"]["effect"]
    gain = (np.abs(X[:, 0] - centres[0]) - np.abs(X - centres).min(axis=1)).mean()
    np.testing.assert_allclose(effect.to_numpy()[0], model.posterior_["slope"][0] * gain, rtol=1e-4)


@pytest.mark.parametrize(
    ("whole_args", "error", "message"),
    [
        ("centres", TypeError, "`whole_args` must be a sequence of names"),
        (
            ["weights"],
            ValueError,
            r"`whole_args` names 'weights': beyond X and y the kernel takes \['centres', 'nets'\]",
        ),
        (["X"], ValueError, "`whole_args` names 'X'"),
    ],
)
def test_refused_whole_arguments(whole_args, error, message):
    with pytest.raises(error, match=message):
        NumPyroImpactRegressor(with_whole, whole_args=whole_args).fit(LEVELS, SERIES)


def test_refused_shapes(of_rank_3):
    model, y = of_rank_3
    with pytest.raises(ValueError, match="Found array with dim 3"):
        NumPyroImpactRegressor().fit(SEQUENCES, y)
    with pytest.raises(ValueError, match=r"does not run on these rows .*X has one dimension.*reshape your data"):
        NumPyroImpactRegressor(linear).fit(SERIES, y)
    with pytest.raises(ValueError, match=r"A scenario names column 0, but X has the shape \(60, 4, 3\)"):
        model.estimate_effect(SEQUENCES, scenarios={"more": {"columns": {0: 1.0}}})
    with pytest.raises(ValueError, match=r"`along` names column 0, but X has the shape \(60, 4, 3\)"):
        model.estimate_slope(SEQUENCES, along=0)
    with pytest.raises(ValueError, match="X must have two dimensions, rows and columns"):
        NumPyroImpactRegressor(of_sequences, column_args={"group": 0}).fit(SEQUENCES, y)
    with pytest.raises(ValueError, match="X has 2 features"):
        model.predict(SEQUENCES[:, :2])
    moved = model.estimate_effect(SEQUENCES, scenarios={"more": {"arguments": {"X": lambda X: X + 1.0}}})["more"]
    np.testing.assert_allclose(moved["effect"].to_numpy()[0], model.posterior_["coef"][0].sum(axis=1), rtol=1e-4)


def later_values(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    before = jnp.ones((X.shape[0], 2)) if y is None else y[:, :-1]
    with numpyro.plate("rows", X.shape[0], dim=-2):
        numpyro.sample("y", dist.Normal(slope * before, 1.0), obs=None if y is None else y[:, 1:])


def test_a_kernel_may_observe_a_part_of_the_outcome():
    """Each value follows from the one before: the posterior is that of a regression through the origin."""
    y = np.random.default_rng(3).normal(size=(50, 3))
    model = NumPyroImpactRegressor(later_values, random_state=0).fit(np.zeros((50, 1)), y)
    precision = 1 + (y[:, :-1] ** 2).sum()
    assert model.posterior_["slope"].mean() == pytest.approx(
        (y[:, :-1] * y[:, 1:]).sum() / precision, abs=0.15 / precision**0.5
    )
    assert model.posterior_["slope"].std() == pytest.approx(precision**-0.5, rel=0.1)
    found = model.predict(np.zeros((4, 1)))
    np.testing.assert_allclose(found, np.full((4, 2), model.posterior_["slope"].mean()), rtol=1e-5)
    with pytest.raises(ValueError, match=r"got an array of shape \(50, 2\).*\(n_rows, 3\)"):
        model.log_likelihood(np.zeros((50, 1)), y[:, 1:])
