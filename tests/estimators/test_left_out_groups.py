"""Scores of groups that cross-validation leaves out, for houses in counties of very different size."""

import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
from sklearn.model_selection import GroupKFold, cross_validate

from skaimz import NumPyroImpactRegressor
from skaimz.inference import SVI
from skaimz.metrics import IntervalCoverage, LogPredictiveDensity

N_COUNTIES, N_HOUSES, BETWEEN, NOISE = 60, 600, 0.8, 0.5


def radon(X, y=None, *, county, n_county):
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfNormal(2.0))
    coef = numpyro.sample("coef", dist.Normal(0.0, 2.0).expand([2]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(2.0))
    with numpyro.plate("counties", n_county):
        alpha = numpyro.sample("alpha", dist.Normal(mu, tau))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(alpha[county] + X @ coef, sigma), obs=y)


def test_radon_in_counties_that_were_left_out():
    rng = np.random.default_rng(85)
    many = rng.choice(N_COUNTIES, N_HOUSES - N_COUNTIES, p=rng.dirichlet(np.full(N_COUNTIES, 2.0)))
    county = np.concatenate([np.arange(N_COUNTIES), many])
    table = pd.DataFrame({"floor": rng.random(N_HOUSES) < 0.2, "uranium": rng.normal(size=N_COUNTIES)[county]})
    table = table.astype(float).assign(county=[f"county {number}" for number in county])
    level = 1.4 + rng.normal(scale=BETWEEN, size=N_COUNTIES)
    y = level[county] + table[["floor", "uranium"]] @ [-0.7, 0.4] + rng.normal(scale=NOISE, size=N_HOUSES)
    model = NumPyroImpactRegressor(
        radon,
        column_args={"county": {"columns": "county", "unknown": "new"}},
        inference=SVI(guide="auto_multivariate_normal", num_steps=3000, num_samples=400),
        random_state=0,
    )
    scoring = {"density": LogPredictiveDensity(), "coverage": IntervalCoverage(0.9)}
    scores = cross_validate(model, table, y, groups=county, cv=GroupKFold(2), scoring=scoring)
    # A house in a new county varies by the spread between counties and the noise.
    sd = np.hypot(BETWEEN, NOISE)
    entropy = 0.5 * np.log(2 * np.pi * np.e * sd**2)
    np.testing.assert_allclose(scores["test_density"], -entropy, atol=0.2)
    np.testing.assert_allclose(scores["test_coverage"], 0.9, atol=0.08)
