"""Grids over all that can be searched: the same as a loop written by hand, and as few programs as there are shapes."""

from collections import Counter

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import zoo
from joblib.externals.loky import get_reusable_executor
from sklearn.datasets import load_diabetes
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, KFold, ParameterGrid
from sklearn.preprocessing import StandardScaler

from skaimz import NumPyroImpactRegressor
from skaimz.inference import SVI

pytestmark = pytest.mark.filterwarnings("ignore::skaimz.exceptions.FitWarning")

PROGRAMS = ("jit(init)", "jit(advance)", "jit(draw)", "jit(compute)", "jit(prior)", "jit(potential)")
FOLDS = KFold(3)

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 2))
exposure = rng.uniform(1.0, 3.0, size=60)
y = exposure * (X @ [1.0, -0.5]) + rng.normal(scale=0.3, size=60)


class Exposed(zoo.Shrinkage):
    """A kernel of two inputs, whose numbers can be searched."""

    def __call__(self, X, y=None, *, exposure):
        coef = numpyro.sample("coef", dist.Normal(0.0, self.prior_scale).expand([X.shape[1]]).to_event(1))
        with numpyro.plate("rows", X.shape[0]):
            numpyro.sample("y", dist.Normal(exposure * (X @ coef), self.noise), obs=y)


def heavy_tailed(X, y=None, *, exposure):
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.StudentT(4.0, exposure * (X @ coef), 0.3), obs=y)


def estimator(kernel=None, *, column_args=None, prior_scale=1.0, **settings):
    kernel = Exposed(prior_scale, 0.3) if kernel is None else kernel
    settings = {"num_steps": 40, "num_samples": 20, "learning_rate": 0.1, **settings}
    return NumPyroImpactRegressor(kernel, column_args=column_args, inference=SVI(**settings), random_state=0)


def by_hand(grid):
    """Score all settings on all folds with fresh objects, the second input given by name."""
    scores = []
    for setting in ParameterGrid(grid):
        for train, test in FOLDS.split(X):
            model = estimator(**{name.rpartition("__")[2]: value for name, value in setting.items()})
            model.fit(X[train], y[train], exposure=exposure[train])
            scores.append(r2_score(y[test], model.predict(X[test], exposure=exposure[test])))
    return np.reshape(scores, (-1, 3))


def split_scores(search):
    return np.column_stack([search.cv_results_[f"split{fold}_test_score"] for fold in range(search.n_splits_)])


# What is searched, and how often each of the programs is compiled that were not there before.
GRIDS = [
    ({"inference__num_steps": [20, 40], "inference__learning_rate": [0.03, 0.3]}, (1, 1, 1, 1)),
    ({"kernel__prior_scale": [0.01, 0.1, 1.0]}, (0, 0, 0, 0)),
    ({"inference__guide": ["auto_normal", "auto_delta"]}, (1, 1, 1, 0)),
    ({"inference__optim": ["adam", "sgd"], "inference__learning_rate": [0.001, 0.003]}, (1, 1, 1, 0)),
    ({"kernel": [Exposed(0.01, 0.3), Exposed(1.0, 0.3), heavy_tailed]}, (1, 1, 1, 1)),
]


def test_grids_are_loops_written_by_hand(compilations):
    model = estimator(column_args={"exposure": 2})
    for grid, times in GRIDS:
        compilations.clear()
        search = GridSearchCV(model, grid, cv=FOLDS, error_score="raise").fit(np.column_stack([X, exposure]), y)
        # A kernel's prior and density are looked at once, as its predictions are compiled once.
        assert [compilations.count(name) for name in PROGRAMS] == [*times, times[-1], times[-1]], grid
        assert set(compilations) <= {*PROGRAMS}, grid
        compilations.clear()
        expected = by_hand(grid)
        np.testing.assert_array_equal(split_scores(search), expected)
        assert len(np.unique(expected)) == expected.size, grid
        assert search.best_index_ == expected.mean(axis=1).argmax(), grid
        assert compilations == []


@pytest.fixture
def _no_workers_left():
    yield
    get_reusable_executor().shutdown(wait=True)


@pytest.mark.slow
@pytest.mark.usefixtures("_no_workers_left")
def test_diabetes_in_one_process_and_in_two(compilations):
    """24 settings x 5 folds."""
    X, y = load_diabetes(return_X_y=True)
    X, y = StandardScaler().fit_transform(X).astype(np.float32), ((y - y.mean()) / y.std()).astype(np.float32)
    grid = {
        "kernel__prior_scale": [0.01, 0.1, 1.0, 10.0],
        "inference__learning_rate": [0.01, 0.03, 0.1],
        "inference__num_steps": [30, 60],
    }
    model = NumPyroImpactRegressor(zoo.Shrinkage(noise=0.7), inference=SVI(num_samples=50), random_state=0)
    alone = GridSearchCV(model, grid, cv=5, error_score="raise").fit(X, y)
    assert Counter(compilations) == dict.fromkeys(PROGRAMS, 1)
    together = GridSearchCV(model, grid, cv=5, n_jobs=2, error_score="raise").fit(X, y)
    assert split_scores(alone).shape == (24, 5)
    np.testing.assert_array_equal(split_scores(together), split_scores(alone))
    assert together.best_params_ == alone.best_params_
    np.testing.assert_array_equal(together.predict(X), alone.predict(X))
    assert alone.best_score_ > 0.4
