"""Programs are shared: what compiles, and what does not, counted."""

import numpy as np
import pytest
import zoo
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score

from skaimz import NumPyroImpactRegressor
from skaimz.inference import MCMC, SVI

pytestmark = pytest.mark.filterwarnings("ignore::skaimz.exceptions.FitWarning")

rng = np.random.default_rng(0)
X = rng.normal(size=(103, 3))
y = X @ [1.0, 2.0, 3.0] + rng.normal(size=103)


@pytest.fixture
def warm():
    model = NumPyroImpactRegressor(zoo.Shrinkage(), inference=SVI(num_steps=100, num_samples=50), random_state=0)
    model.fit(X, y).predict(X)
    return model


def test_clones_and_other_numbers_compile_nothing(warm, compilations):
    clone(warm).fit(X, y)
    clone(warm).set_params(inference__num_steps=77, inference__learning_rate=0.01).fit(X, y)
    clone(warm).set_params(kernel__prior_scale=3.0, kernel__noise=0.1, random_state=9).fit(X, y).predict(X)
    assert compilations == []


def test_row_counts_compile_nothing(warm, compilations):
    clone(warm).fit(X[:97], y[:97])
    for n_rows in (1, 2, 50, 103):
        warm.predict(X[:n_rows])
    warm.predict(np.tile(X, (30, 1)))
    assert compilations == []


def test_a_whole_grid_compiles_nothing_more(warm, compilations):
    grid = {"kernel__prior_scale": [0.1, 1.0], "inference__learning_rate": [0.01, 0.05]}
    search = GridSearchCV(clone(warm), grid, cv=5).fit(X, y)
    assert search.best_params_["kernel__prior_scale"] == 1.0
    cross_val_score(clone(warm), X, y)
    assert compilations == []


def test_predict_compiles_one_program(compilations):
    model = NumPyroImpactRegressor(zoo.linear, inference=SVI(num_steps=100, num_samples=77), random_state=0).fit(X, y)
    compilations.clear()
    model.predict(X)
    assert compilations == ["jit(compute)"]


def test_chains_compile_once(compilations):
    model = NumPyroImpactRegressor(
        zoo.conjugate, inference=MCMC(num_warmup=20, num_samples=20, num_chains=2), random_state=0
    ).fit(X, y)
    assert compilations
    compilations.clear()
    clone(model).fit(X, y)
    clone(model).set_params(inference__num_samples=33, inference__thinning=2).fit(X[:-5], y[:-5])
    assert compilations == []


def test_padding_does_not_change_the_fit(monkeypatch):
    """The same loss with rows padded to a bucket as without."""
    settings = SVI(num_steps=50, num_samples=50)
    padded = NumPyroImpactRegressor(zoo.linear, inference=settings, random_state=0).fit(X, y)
    monkeypatch.setattr("skaimz.inference.data.bucket", lambda n_rows: n_rows)
    exact = NumPyroImpactRegressor(zoo.linear, inference=settings, random_state=0).fit(X, y)
    np.testing.assert_allclose(padded.fit_result_.losses, exact.fit_result_.losses, rtol=1e-12)
    np.testing.assert_allclose(padded.posterior_["coef"], exact.posterior_["coef"], rtol=1e-10)
