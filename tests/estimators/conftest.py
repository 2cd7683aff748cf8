import pytest
from zoo import conjugate

from skaimz import NumPyroImpactRegressor
from skaimz.inference import SVI


@pytest.fixture(scope="session")
def quick():
    """Settings for tests in which the quality of the fit does not matter."""
    return SVI(num_steps=100, num_samples=200)


@pytest.fixture(scope="session")
def fitted(linear_data):
    """A regressor on a conjugate kernel, fitted well."""
    X, y = linear_data
    settings = SVI(guide="auto_multivariate_normal", num_steps=3000, num_samples=2000)
    return NumPyroImpactRegressor(conjugate, inference=settings, random_state=0).fit(X, y)
