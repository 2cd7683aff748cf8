"""Signatures of models whose X is no table of floats."""

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import skaimz.mlflow
from skaimz import NumPyroImpactRegressor

DRAWS = {"level": np.arange(20.0).reshape(4, 5)}
rng = np.random.default_rng(0)


def of_levels(X, y=None):
    level = numpyro.sample("level", dist.Normal(0.0, 1.0).expand([5]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(level[X.reshape(X.shape[0], -1)].sum(axis=1), 1.0), obs=y)


@pytest.mark.parametrize("shape", [(12,), (12, 2, 3)])
def test_signature(shape, mlflow, tmp_path):
    X = rng.integers(5, size=shape)
    model = NumPyroImpactRegressor(of_levels, posterior=DRAWS, random_state=0).fit(X, np.zeros(12))
    skaimz.mlflow.save_model(model, tmp_path / "model", input_example=X[:3], pip_requirements=["skaimz"])
    loaded = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    (of_X,) = loaded.metadata.signature.inputs.inputs
    assert of_X.type == np.int64
    assert of_X.shape == (-1, *shape[1:])
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    np.testing.assert_allclose(model.predict(X), DRAWS["level"].mean(axis=0)[X].reshape(12, -1).sum(axis=1))
