"""Processes that are forked before and after JAX has started. This file, run as a script, is such a process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import skaimz

PLACES = [str(Path(__file__).parents[1]), str(Path(skaimz.__file__).parents[1])]


def predict(how):
    import numpy as np
    import zoo

    from skaimz import NumPyroImpactRegressor

    model = NumPyroImpactRegressor(zoo.conjugate, posterior={"coef": np.ones((5, 2))})
    calls = {"predict": lambda: model.predict([[1.0, 2.0]]), "fit": lambda: NumPyroImpactRegressor().fit(*how[1:])}
    try:
        return calls[how[0]]()
    except RuntimeError as error:
        return error


def in_fork(name, *how):
    if os.fork() == 0:
        try:
            print(name, predict(how), flush=True)
        finally:
            # Leaving in any other way would wait for JAX's threads.
            os._exit(0)
    os.wait()


def main(order):
    import jax
    import numpy as np

    if order == "imported first":
        import skaimz.estimators  # noqa: F401

        in_fork("before JAX:", "predict")
    jax.devices()
    in_fork("after devices:", "predict")
    if order == "imported first":
        X = jax.numpy.ones((4, 2))
        in_fork("after an array:", "fit", X, X[:, 0])
        in_fork("after an array:", "fit", np.asarray(X), np.arange(4.0))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
@pytest.mark.parametrize("order", ["imported first", "imported in the fork"])
def test_a_fork_is_refused_where_jax_has_started(order):
    command = [sys.executable, "-W", "ignore", __file__, order]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(PLACES)}
    # The test fails by a timeout if a process hangs.
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    found = done.stdout.splitlines()
    if order == "imported first":
        assert found.pop(0) == "before JAX: [3.]"
        assert len(found) == 3
    assert found
    for line in found:
        assert "was forked from one" in line
        assert "JOBLIB_START_METHOD=spawn" in line


if __name__ == "__main__":
    main(sys.argv[1])
