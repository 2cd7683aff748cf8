"""Methods on Dask collections return lazy arrays, which equal the result of one call for any chunks."""

import dask.array as da
import dask.dataframe as dd
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
import zoo

from skaimz import NumPyroImpactClassifier, NumPyroImpactRegressor, metrics
from skaimz.inference import SVI

pytestmark = pytest.mark.usefixtures("in_this_thread")

N_ROWS, N_DRAWS = 5000, 60
CHUNKS = [(5000,), (1, 4999), (2047, 1, 2952), (700, 1300, 1000, 2000), (0, 3000, 0, 2000)]


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).normal(size=(N_ROWS, 2))


def draws(*shape, seed=1):
    return 0.3 * np.random.default_rng(seed).normal(size=(N_DRAWS, *shape))


@pytest.fixture(scope="module")
def conjugate():
    return NumPyroImpactRegressor(zoo.conjugate, random_state=0).set_posterior_sample({"coef": draws(2)})


@pytest.fixture(scope="module")
def poisson():
    return NumPyroImpactRegressor(zoo.poisson, random_state=0).set_posterior_sample({"coef": draws(2)})


METHODS = {
    "predict": {},
    "predict_quantiles": {"quantiles": [0.1, 0.5]},
    "predict_interval": {"coverage": 0.8},
    "sample_y": {"n_samples": 7, "random_state": 3},
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("chunks", CHUNKS, ids=str)
def test_arrays(conjugate, X, method, chunks):
    call = getattr(conjugate, method)
    found = call(da.from_array(X, chunks=(chunks, 1)), **METHODS[method])
    assert isinstance(found, da.Array)
    assert found.chunks[0] == tuple(size for size in chunks if size)
    expected = call(X, **METHODS[method])
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found.compute(), expected)


def test_outcomes_that_the_host_draws(poisson, X):
    """NumPy's generators are seeded for each tile, so blocks must consist of whole tiles."""
    exposure = np.linspace(0.5, 2.0, N_ROWS)
    expected = poisson.predict_quantiles(X, exposure=exposure)
    rows = da.from_array(X, chunks=(1234, 2))
    for given in (exposure, da.from_array(exposure, chunks=999), pd.Series(exposure)):
        np.testing.assert_array_equal(poisson.predict_quantiles(rows, exposure=given).compute(), expected)


def test_several_arrays(conjugate, X):
    mean, std = conjugate.predict(da.from_array(X, chunks=(3000, 2)), return_std=True)
    expected = conjugate.predict(X, return_std=True)
    np.testing.assert_array_equal(mean.compute(), expected[0])
    np.testing.assert_array_equal(std.compute(), expected[1])


def test_a_source_of_randomness_is_drawn_from_once(conjugate, X):
    """Each block gets the same seed, and finding types and shapes draws none."""
    found = conjugate.sample_y(da.from_array(X, chunks=(1000, 2)), 3, random_state=np.random.RandomState(5))
    np.testing.assert_array_equal(found.compute(), conjugate.sample_y(X, 3, random_state=np.random.RandomState(5)))


def test_outcomes_go_with_their_rows(conjugate, X):
    y = X[:, 0]
    rows = da.from_array(X, chunks=(3000, 2))
    for given in (y, da.from_array(y, chunks=700)):
        found = conjugate.log_predictive_density(rows, given).compute()
        np.testing.assert_array_equal(found, conjugate.log_predictive_density(X, y))


def test_single_precision(conjugate, X):
    found = conjugate.predict(da.from_array(X.astype(np.float32), chunks=(3000, 2)))
    assert found.dtype == found.compute().dtype == np.float32


def test_classes(X):
    labels = np.where(X[:, 0] > 0, "up", "down")
    model = NumPyroImpactClassifier(random_state=0).fit(X[:200], labels[:200])
    rows = da.from_array(X, chunks=(3000, 2))
    np.testing.assert_array_equal(model.predict(rows).compute(), model.predict(X))
    np.testing.assert_array_equal(model.predict_proba(rows).compute(), model.predict_proba(X))
    assert model.score(rows, labels) == model.score(X, labels)


@pytest.fixture(scope="module")
def frame(X):
    generator = np.random.default_rng(2)
    return pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "months": generator.uniform(1, 3, N_ROWS)})


@pytest.fixture(scope="module")
def counting(frame):
    """A fitted model with an argument that is a column of X."""
    some = frame[:200]
    model = NumPyroImpactRegressor(zoo.poisson, column_args={"exposure": "months"}, random_state=0)
    return model.fit(some, np.random.default_rng(3).poisson(some["months"]))


@pytest.mark.parametrize("partitions", [1, 3])
def test_frames(counting, frame, partitions):
    collection = dd.from_pandas(frame, npartitions=partitions)
    found = counting.predict_interval(collection)
    assert isinstance(found, da.Array)
    assert len(found.chunks[0]) == partitions
    np.testing.assert_array_equal(found.compute(), counting.predict_interval(frame))


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # of pandas, in Dask
def test_files(counting, frame, tmp_path):
    dd.from_pandas(frame, npartitions=3).to_parquet(tmp_path / "rows")
    np.testing.assert_array_equal(counting.predict(dd.read_parquet(tmp_path / "rows")), counting.predict(frame))


def test_fits_load_what_they_are_given(counting, frame):
    some = frame[:200]
    y = np.random.default_rng(3).poisson(some["months"])
    model = NumPyroImpactRegressor(zoo.poisson, column_args={"exposure": "months"}, random_state=0)
    model.fit(dd.from_pandas(some, npartitions=2), da.from_array(y, chunks=70))
    assert model.feature_names_in_.tolist() == counting.feature_names_in_.tolist()
    np.testing.assert_array_equal(model.posterior_["coef"], counting.posterior_["coef"])


def test_an_argument_that_is_passed_replaces_a_column(frame):
    """In fits that read rows piece by piece as in others."""
    some, exposure = frame[:200], np.full(200, 5.0)
    y = np.random.default_rng(3).poisson(some["months"])
    settings = SVI(batch_size=50, num_steps=20, num_samples=20)
    model = NumPyroImpactRegressor(zoo.poisson, inference=settings, column_args={"exposure": "months"}, random_state=0)
    expected = model.fit(some, y, exposure=exposure).posterior_["coef"]
    found = model.fit(dd.from_pandas(some, npartitions=2), y, exposure=exposure).posterior_["coef"]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def with_whole(X, y=None, *, knots):
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ coef + knots.sum(), 1.0), obs=y)


def with_more(X, y=None, *, knots=None):
    with_whole(X, y, knots=np.zeros(1) if knots is None else knots)


@pytest.mark.parametrize("known", ["draws", "a fit without the argument"])
def test_an_array_as_long_as_a_block_is_no_argument_of_rows(X, known):
    model = NumPyroImpactRegressor(with_more, random_state=0).set_posterior_sample({"coef": draws(2)})
    if known == "a fit without the argument":
        model.set_params(posterior={"coef": draws(2)}).fit(X, X[:, 0])
    knots = np.linspace(0.0, 1.0, 2048)  # the length of the first block
    rows = da.from_array(X, chunks=(1000, 2))
    for given in (knots, da.from_array(knots, chunks=500)):
        np.testing.assert_array_equal(model.predict(rows, knots=given).compute(), model.predict(X, knots=knots))
    asked = {"scenarios": {"on": {"arguments": {"knots": knots}}}}
    found, expected = (model.estimate_effect(each, **asked)["on"]["effect"] for each in (rows, X))
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    np.testing.assert_allclose(found, knots.sum(), rtol=1e-9)
    asked = {"knots": knots, "scenarios": {"on": {"arguments": {"knots": np.ones(3)}}}}
    found = model.estimate_effect(rows, **asked)["on"]["effect"]
    np.testing.assert_allclose(found, 3.0 - knots.sum(), rtol=1e-9)


def test_what_was_whole_in_the_fit_stays_whole(X):
    """Its length here equals the number of rows by chance."""
    knots = np.linspace(0.0, 1.0, N_ROWS)
    model = NumPyroImpactRegressor(with_whole, posterior={"coef": draws(2)}, random_state=0)
    model.fit(X[:50], X[:50, 0], knots=knots)
    found = model.predict(da.from_array(X, chunks=(1000, 2)), knots=knots)
    np.testing.assert_array_equal(found.compute(), model.predict(X, knots=knots))


def test_nothing_is_computed_but_the_first_row(conjugate, X):
    seen = []

    def load(block, block_info=None):
        seen.append(block_info[0]["chunk-location"][0])
        return block

    rows = da.from_array(X, chunks=(1000, 2)).map_blocks(load, dtype=X.dtype, meta=np.empty((0, 0)))
    found = conjugate.predict(rows)
    assert set(seen) == {0}
    found[:10].compute()
    # The first block ends with a tile, in the third chunk.
    assert set(seen) == {0, 1, 2}


def test_refusals(conjugate, X):
    rows = da.from_array(X, chunks=(3000, 2))
    mixing = NumPyroImpactRegressor(zoo.centring, random_state=0).set_posterior_sample({"coef": draws(2)})
    with pytest.raises(ValueError, match=r"block by block, but the kernel's rows may depend on one another"):
        mixing.predict(rows)
    with pytest.raises(TypeError, match=r"Unknown argument 'exposure'"):
        conjugate.predict(rows, exposure=da.ones(4999))
    with pytest.raises(ValueError, match=r"no rows"):
        conjugate.predict(rows[:0])


def test_a_score_computes_each_block_once(conjugate, X):
    blocks = []

    def noted(block):
        blocks.append(len(block))
        return block

    rows = da.from_array(X, chunks=(1000, 2)).map_blocks(noted, dtype=X.dtype, meta=np.empty((0, 0)))
    assert conjugate.score(rows, X[:, 0]) == conjugate.score(X, X[:, 0])
    # The first one also tells of types and shapes.
    assert len(blocks) == 1 + -(-len(X) // 1000)


@pytest.mark.parametrize("scorer", [
    metrics.NegCRPS(), metrics.LogPredictiveDensity(), metrics.IntervalCoverage(0.5), metrics.QiniScore(1),
], ids=lambda scorer: type(scorer).__name__)  # fmt: skip
def test_scorers(conjugate, X, scorer):
    X = np.column_stack([X[:, 0], X[:, 1] > 0])
    y = X @ [1.0, 0.5] + np.random.default_rng(1).normal(size=N_ROWS)
    given = X, y, X[:, 1] + 0.5
    assert scorer(conjugate, *(da.from_array(each, chunks=2500) for each in given)) == scorer(conjugate, *given)


def test_elpd(conjugate, X):
    found = metrics.elpd(conjugate, da.from_array(X, chunks=(2500, 2)), X[:, 0])
    assert found == metrics.elpd(conjugate, X, X[:, 0])
