"""
Two years of carbon dioxide
===========================

The air on Mauna Loa has been measured since 1958. How well can its carbon dioxide be forecast two years ahead, and do
the intervals hold what was measured then?
"""

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
from sklearn.model_selection import TimeSeriesSplit

from skaimz import NumPyroImpactRegressor
from skaimz.metrics import backtest

# %%
# Monthly means in parts per million from 1982 to 2001: C. D. Keeling and T. P. Whorf (2004), Atmospheric CO2
# concentrations derived from flask air samples at sites in the SIO network, Carbon Dioxide Information Analysis Center,
# in the public domain, as in the data set ``co2`` of statsmodels.

CO2 = """
340.7 341.6 342.7 343.5 344.0 343.3 341.9 339.6 338.0 337.9 339.3 340.4 341.3 342.5 343.2 344.9 345.6 345.3 343.8 342.2
339.9 340.0 341.2 343.0 343.7 344.4 345.2 347.4 347.4 346.7 345.2 343.3 341.1 341.5 342.8 344.1 344.9 345.9 347.4 348.3
348.8 348.2 346.4 344.3 343.0 342.8 344.2 345.6 346.2 346.8 347.7 349.5 350.1 349.4 347.8 345.8 344.8 344.1 345.6 346.9
348.0 348.5 349.5 350.8 351.7 351.2 349.4 348.1 346.4 346.4 347.9 348.9 350.4 351.8 352.1 353.6 354.2 353.8 352.2 350.3
348.8 349.0 350.0 351.4 352.8 353.0 353.6 355.4 355.6 355.1 353.9 351.6 349.9 350.0 351.2 352.5 353.6 354.6 355.5 356.2
357.1 356.1 354.7 352.9 350.9 351.2 352.7 354.1 354.7 355.6 357.2 358.6 359.2 358.2 356.0 353.9 352.1 352.2 353.7 355.0
355.9 356.7 357.9 359.1 359.5 359.1 357.0 354.9 353.0 353.4 354.2 355.4 356.7 357.2 358.4 359.3 360.2 359.5 357.4 355.3
353.8 354.1 355.4 356.8 358.3 358.9 359.9 361.2 361.6 360.9 359.5 357.4 355.9 356.0 357.6 359.1 360.0 360.9 361.6 363.4
363.7 363.2 361.8 359.4 358.0 357.8 359.5 360.7 362.0 363.2 364.1 364.7 365.3 364.9 363.5 361.3 359.4 359.6 360.7 362.4
363.1 363.9 364.6 366.3 366.7 365.5 364.4 362.5 360.2 360.8 362.4 364.2 365.3 366.2 367.4 368.5 369.1 368.8 367.6 365.7
363.9 364.3 365.6 366.9 368.1 368.8 369.6 371.0 370.8 370.2 369.0 366.7 364.7 365.1 366.6 367.9 369.0 369.4 370.4 371.5
371.6 371.6 369.9 368.0 366.5 366.7 368.1 369.4 370.2 371.3 372.1 372.8 373.8 373.1 371.3 369.4 367.9 368.0 369.4 371.0
"""
co2 = np.array(CO2.split(), float)
months = pd.period_range("1982-01", periods=240, freq="M")
years = np.arange(240)[:, None] / 12

# %%
# The kernel
# ----------
#
# A line, a season of two waves a year and half a year long, a walk around the line, and noise. The walk is a part of
# the covariance of the outcomes, whose distribution in the last two years is that given the years before.


def kernel(X, y=None):
    level = numpyro.sample("level", dist.Normal(340.0, 10.0))
    slope = numpyro.sample("slope", dist.Normal(0.0, 5.0))
    waves = numpyro.sample("waves", dist.Normal(0.0, 5.0).expand([4]).to_event(1))
    step = numpyro.sample("step", dist.HalfNormal(2.0))
    noise = numpyro.sample("noise", dist.HalfNormal(1.0))
    time = X[:, 0]
    angle = 2 * jnp.pi * time
    season = jnp.stack([jnp.sin(angle), jnp.cos(angle), jnp.sin(2 * angle), jnp.cos(2 * angle)], axis=1) @ waves
    walk = step**2 * jnp.minimum(time[:, None], time[None, :])
    covariance = walk + noise**2 * jnp.eye(len(X))
    numpyro.sample("y", dist.MultivariateNormal(level + slope * time + season, covariance), obs=y)


model = NumPyroImpactRegressor(kernel, random_state=0).fit(years[:216], co2[:216])

# %%
# The last two years
# ------------------

mean, lower, upper = model.predict(years[216:]), *model.predict_interval(years[216:], 0.9).T
held = (lower < co2[216:]) & (co2[216:] < upper)
print(f"mean absolute error {np.abs(mean - co2[216:]).mean():.2f} ppm, {held.sum()} of 24 months in 90 % intervals")

figure, ax = plt.subplots(figsize=(8.0, 4.0), layout="constrained")
when = months.to_timestamp()
ax.fill_between(when[216:], lower, upper, color="#0072B2", alpha=0.25, lw=0, label="90 % of months")
ax.plot(when[216:], mean, color="#0072B2", lw=2, label="forecast")
ax.plot(when, co2, color="black", lw=1, label="measured")
ax.axvline(when[216], color="grey", lw=0.8)
ax.set(xlim=(pd.Timestamp("1995-01-01"), when[-1]), ylim=(355.0, 376.0), ylabel="Carbon dioxide in ppm")
ax.legend(frameon=False, loc="upper left")
for side in ("top", "right"):
    ax.spines[side].set_visible(False)

# %%
# Five times two years
# --------------------
#
# Errors of neighbouring months are alike, so that two years say little of the intervals. ``backtest`` repeats the
# forecast from five origins, each with a fit on the ten years before.

table = backtest(model, years, co2, TimeSeriesSplit(5, test_size=24, max_train_size=120))
table["held"] = table.eval("lower < y < upper")
table["year ahead"] = (table["step"] + 11) // 12
print(f"{table['held'].mean():.0%} of {len(table)} months in 90 % intervals")
print(table.groupby("year ahead")["held"].mean().map("{:.0%}".format).to_string())
