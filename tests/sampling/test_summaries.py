"""Statistics of drawn outcomes, reduced tile by tile, against those of all draws at once."""

import numpy as np
import pytest
import zoo

from skaimz import NumPyroImpactRegressor, sampling
from skaimz.estimators import Model, read

rng = np.random.default_rng(0)
COEF = {"coef": rng.normal(size=(6, 2))}
CASES = {
    "several tiles": (zoo.conjugate, COEF, 2500, {}),
    "two outputs": (zoo.two_outputs, {"coef": rng.normal(size=(6, 2, 2))}, 30, {}),
    "rows on the second axis": (zoo.sensors, {"slope": rng.normal(size=(6, 3, 1))}, 30, {}),
    "counts drawn by NumPy": (zoo.poisson, COEF, 2500, {"exposure": 2.0}),
    "rows that mix": (zoo.centring, COEF, 30, {}),
}


@pytest.mark.filterwarnings("ignore::skaimz.exceptions.SpeedWarning")
@pytest.mark.parametrize(("kernel", "draws", "n_rows", "arrays"), CASES.values(), ids=CASES)
def test_summaries_are_those_of_the_draws(kernel, draws, n_rows, arrays):
    X = np.random.default_rng(1).normal(size=(n_rows, 2))
    model = NumPyroImpactRegressor(kernel, random_state=3).set_posterior_sample(draws, num_chains=2)
    drawn = model.sample_posterior_predictive_on_batch(X, return_datatree=False, **arrays)["y"]
    drawn = drawn.reshape(-1, *drawn.shape[2:])
    axis = 1 + (kernel is zoo.sensors)
    y = np.moveaxis(drawn[2], axis - 1, 0)  # one of the draws is what was observed
    call = read(Model.of(model), X, arrays)
    with call.precision():
        observed, found = sampling.summaries(call.job(in_sample=True), y)
    for name in ("mean", "std", "min", "max"):
        statistic = getattr(drawn.astype(float), name)(axis=axis)
        got = getattr(found, name.replace("std", "sd"))
        np.testing.assert_allclose(got, statistic, rtol=1e-10, atol=1e-12)
        one = getattr(observed, name.replace("std", "sd"))
        np.testing.assert_allclose(one, statistic[2], rtol=1e-10, atol=1e-12)
        if kernel is zoo.poisson:
            assert one == got[2]  # to the last digit, so that ties are seen
