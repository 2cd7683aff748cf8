import matplotlib
import numpy as np
import pytest
import zoo

from skaimz import NumPyroImpactRegressor

matplotlib.use("Agg")
from matplotlib import pyplot as plt


@pytest.fixture(autouse=True)
def _fresh_figures():
    """Use matplotlib's default settings, whatever a matplotlibrc says, and close all figures."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        yield
    plt.close("all")


@pytest.fixture(scope="session")
def rows():
    return np.random.default_rng(0).normal(size=(40, 2))


@pytest.fixture(scope="session")
def model(rows):
    """A regressor with posterior draws from normal distributions with means 0 and 2."""
    coef = np.random.default_rng(1).normal([0.0, 2.0], 0.1, size=(200, 2))
    model = NumPyroImpactRegressor(zoo.conjugate, posterior={"coef": coef}, random_state=0)
    return model.fit(rows, rows @ [0.0, 2.0])


@pytest.fixture(autouse=True, scope="module")
def _quickly(quick_compilation):
    """Compile quickly, because fits have few rows."""
