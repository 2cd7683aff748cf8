"""scikit-learn's searches on Dask's workers, through joblib: the scores of one process, also where a worker dies."""

import itertools

import clusters
import joblib
import numpy as np
import parallel_script
import pytest
import zoo
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score

from skaimz import NumPyroImpactRegressor
from skaimz.inference import SVI
from skaimz.simulation_calibration import simulation_based_calibration

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::skaimz.exceptions.FitWarning")]

# Index arrays of a kilobyte and more, which joblib sends as data of their own.
N_ROWS = 400


@pytest.fixture(scope="module", autouse=True)
def client():
    with clusters.processes(2) as client:
        yield client


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N_ROWS, 2))
    return X, X @ [1.0, -2.0] + rng.normal(scale=0.5, size=N_ROWS)


def estimator(kernel):
    return NumPyroImpactRegressor(kernel, inference=SVI(num_steps=50, num_samples=20), random_state=0)


def searched(data, kernel=None, cv=3):
    grid = [{"kernel__prior_scale": [0.01, 1.0], "inference__learning_rate": [0.02, 0.1]}, {"kernel": [zoo.conjugate]}]
    if kernel is not None:
        grid = [{"kernel": [kernel], "inference__learning_rate": [0.02, 0.1]}]
    return GridSearchCV(estimator(zoo.Shrinkage()), grid, cv=cv, error_score="raise").fit(*data)


def assert_same(found, expected):
    assert found.best_params_ == expected.best_params_
    for fold in range(3):
        name = f"split{fold}_test_score"
        np.testing.assert_array_equal(found.cv_results_[name], expected.cv_results_[name])


@pytest.fixture(scope="module")
def expected(data):
    return searched(data)


@pytest.mark.parametrize("scattered", [False, True])
def test_a_search(data, expected, scattered):
    with joblib.parallel_config("dask", **({"scatter": list(data)} if scattered else {})):
        found = searched(data)
    assert_same(found, expected)
    np.testing.assert_array_equal(found.predict(data[0]), expected.predict(data[0]))


def test_folds_and_replications(data):
    def work():
        ranks = simulation_based_calibration(
            estimator(zoo.conjugate), data[0][:20], num_replications=4, num_draws=9, random_state=0
        ).ranks
        return cross_val_score(estimator(zoo.conjugate), *data, cv=3, error_score="raise"), ranks

    alone = work()
    with joblib.parallel_config("dask"):
        scores, ranks = work()
    np.testing.assert_array_equal(scores, alone[0])
    for name in ("coef[0]", "coef[1]"):
        np.testing.assert_array_equal(ranks[name], alone[1][name])


def test_a_worker_that_is_killed_changes_nothing(client, data, tmp_path):
    """Where rows and folds lie on all workers: what joblib sends by itself lies on one, and dies with it."""
    client.amm.stop()  # would keep one copy of each
    mark = tmp_path / "killed"
    kernel = clusters.KernelKilledOnce(str(mark))
    folds = list(KFold(3).split(data[0]))
    alone = searched(data, kernel, folds)
    assert not mark.exists()
    with joblib.parallel_config("dask", scatter=[*data, *itertools.chain.from_iterable(folds)]):
        found = searched(data, kernel, folds)
    assert mark.exists()
    for fold in range(3):
        name = f"split{fold}_test_score"
        np.testing.assert_array_equal(found.cv_results_[name], alone.cv_results_[name])


def test_kernels_of_the_main_module(client):
    """And each worker compiles a program once."""
    found = parallel_script.run("dask", client.scheduler.address, on_stdin=True)
    parallel_script.check_same(found)
    assert len({process for process, *_ in found["fits"]}) > 1
