"""A new source of rows is one file and one entry in the list of sources."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zoo
from rows import feather_rows
from rows.feather_rows import FeatherFile, FeatherRows, open_feather

from skaimz import NumPyroImpactRegressor
from skaimz.inference import SVI
from skaimz.rows import RowSource, sources, spool

N_ROWS, BLOCK, WINDOW = 600, 32, 128
rng = np.random.default_rng(0)
X = rng.normal(size=(N_ROWS, 2))
EXPOSURE = rng.uniform(1, 2, size=N_ROWS)
Y = rng.poisson(EXPOSURE * np.exp(X @ [0.3, -0.2])).astype(float)
SETTINGS = SVI(batch_size=50, num_steps=30, num_samples=20)

pytestmark = pytest.mark.usefixtures("quick_compilation", "small_windows")


def model():
    return NumPyroImpactRegressor(zoo.poisson, inference=SETTINGS, random_state=0)


@pytest.fixture(scope="module")
def expected():
    return model().fit(X, Y, exposure=EXPOSURE)


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "SOURCES", [*sources.SOURCES, open_feather])
    table = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "count": Y, "months": EXPOSURE})
    table.to_feather(tmp_path / "rows", chunksize=90, compression="uncompressed")
    return FeatherFile(str(tmp_path / "rows"), {"X": ["a", "b"], "y": "count", "exposure": "months"})


def test_the_source_is_short():
    assert len(Path(feather_rows.__file__).read_text().splitlines()) < 60


@pytest.mark.parametrize("slice_cost", ["rows", "pieces", "computation"])
def test_fits_and_predictions_are_those_of_arrays(file, expected, slice_cost, monkeypatch):
    """Whatever the source states about its costs."""
    monkeypatch.setattr(FeatherRows, "slice_cost", slice_cost)
    if slice_cost == "rows":
        monkeypatch.setattr(spool.Scratch, "file", None)
    fitted = model().fit(file)
    np.testing.assert_allclose(fitted.fit_result_.losses, expected.fit_result_.losses, rtol=1e-9)
    np.testing.assert_allclose(fitted.posterior_["coef"], expected.posterior_["coef"], rtol=1e-9)
    np.testing.assert_array_equal(fitted.predict(file), fitted.predict(X, exposure=EXPOSURE))
    densities = fitted.log_likelihood(X, Y, exposure=EXPOSURE)["log_likelihood"]["y"]
    np.testing.assert_array_equal(fitted.log_likelihood(file)["log_likelihood"]["y"], densities)


def test_all_rows_at_once(file, expected):
    settings = SVI(num_steps=30, num_samples=20)
    fitted = model().set_params(inference=settings).fit(file)
    again = model().set_params(inference=settings).fit(X, Y, exposure=EXPOSURE)
    np.testing.assert_array_equal(fitted.posterior_["coef"], again.posterior_["coef"])


class Doubled(RowSource):
    """One array, computed from another as its rows are read."""

    def __init__(self, half):
        self.half = half

    shape = property(lambda self: self.half.shape)
    dtype = property(lambda self: self.half.dtype)
    lengths = property(lambda self: [400, 200])

    def __getitem__(self, rows):
        return 2 * self.half[rows]


@pytest.mark.parametrize("slice_cost", ["rows", "pieces", "computation"])
def test_each_array_may_have_a_source_of_its_own(expected, slice_cost, monkeypatch):
    monkeypatch.setattr(Doubled, "slice_cost", slice_cost)
    x, y, exposure = (Doubled(array / 2) for array in (X, Y, EXPOSURE))
    fitted = model().fit(x, y, exposure=exposure)
    np.testing.assert_allclose(fitted.posterior_["coef"], expected.posterior_["coef"], rtol=1e-9)
    np.testing.assert_array_equal(fitted.predict(x, exposure=exposure), fitted.predict(X, exposure=EXPOSURE))
    assert fitted.score(x, Y, exposure=exposure) == pytest.approx(fitted.score(X, Y, exposure=EXPOSURE))
