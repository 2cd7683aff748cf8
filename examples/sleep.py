"""
A subject that the fit has not seen
===================================

Eighteen subjects slept three hours a night for nine days, and their reaction times were measured every day. What is to
be expected of another subject?
"""

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd

from skaimz import NumPyroImpactRegressor
from skaimz.inference import MCMC

# %%
# Reaction times in milliseconds, with a line for each subject: G. Belenky and others (2003), Patterns of performance
# degradation and restoration during sleep restriction and subsequent recovery, Journal of Sleep Research 12, as in
# the data set ``sleepstudy`` of the R package lme4.

TIMES = """
249.6 258.7 250.8 321.4 356.9 414.7 382.2 290.1 430.6 466.4
222.7 205.3 203.0 204.7 207.7 216.0 213.6 217.7 224.3 237.3
199.1 194.3 234.3 232.8 229.3 220.5 235.4 255.8 261.0 247.5
321.5 300.4 283.9 285.1 285.8 297.6 280.2 318.3 305.3 354.0
287.6 285.0 301.8 320.1 316.3 293.3 290.1 334.8 293.7 371.6
234.9 242.8 273.0 309.8 317.5 310.0 454.2 346.8 330.3 253.9
283.8 289.6 276.8 299.8 297.2 338.2 332.0 348.8 333.4 362.0
265.5 276.2 243.4 254.7 279.0 284.2 305.5 331.5 335.7 377.3
241.6 273.9 254.5 270.8 251.5 254.6 245.5 235.3 235.8 237.2
312.4 313.8 291.6 346.1 365.7 391.8 404.3 416.7 455.9 458.9
236.1 230.3 238.9 254.9 250.7 269.8 281.6 308.1 336.3 351.6
256.3 243.5 256.2 255.5 268.9 329.7 379.4 362.9 394.5 389.1
250.5 300.1 269.9 280.6 271.8 304.6 287.7 266.6 321.5 347.6
221.7 298.2 326.9 346.9 348.7 352.8 354.4 360.4 375.6 388.5
271.9 268.4 257.2 277.7 314.8 317.2 298.1 348.1 340.3 366.5
225.3 234.5 238.9 240.5 267.5 344.2 281.1 347.6 365.2 372.2
269.9 272.4 277.9 281.8 279.2 284.5 259.3 304.6 350.8 369.5
269.4 273.5 297.6 310.6 287.2 329.6 334.5 343.2 369.1 364.1
"""
times = np.array([line.split() for line in TIMES.split("\n")[1:-1]], float)
names = [f"subject {number}" for number in range(1, 19)]
table = pd.DataFrame({"day": np.tile(np.arange(10.0), 18), "subject": np.repeat(names, 10)})
reaction = times.ravel()

# %%
# The kernel
# ----------
#
# Each subject has an intercept and a slope, which are drawn from a population. With ``unknown="new"``, a subject that
# the fit has not seen is another draw from that population.


def kernel(X, y=None, *, subject, n_subject):
    centre = numpyro.sample("centre", dist.Normal(jnp.array([250.0, 0.0]), jnp.array([100.0, 20.0])).to_event(1))
    spread = numpyro.sample("spread", dist.HalfNormal(jnp.array([50.0, 20.0])).to_event(1))
    noise = numpyro.sample("noise", dist.HalfNormal(50.0))
    with numpyro.plate("subjects", n_subject):
        effect = numpyro.sample("effect", dist.Normal(centre, spread).to_event(1))
    mu = numpyro.deterministic("mu", effect[subject, 0] + effect[subject, 1] * X[:, 0])
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(mu, noise), obs=y)


model = NumPyroImpactRegressor(
    kernel,
    column_args={"subject": {"columns": "subject", "unknown": "new"}},
    inference=MCMC(num_warmup=500, num_samples=1000, num_chains=2),
    random_state=0,
)
model.fit(table, reaction)

# %%
# A known and a new subject
# -------------------------
#
# The intervals of the new subject hold what is not known of the population, the spread between subjects, and, for a
# measurement, the noise.

days = np.arange(10.0)
subjects = {"known": names[1], "new": "somebody else"}
figure, axes = plt.subplots(1, 2, figsize=(8.0, 4.0), sharey=True, layout="constrained")
for ax, (kind, name) in zip(axes, subjects.items(), strict=True):
    rows = pd.DataFrame({"day": days, "subject": name})
    expected = model.sample_posterior_predictive(rows, in_sample=False, return_sites=["mu"])["predictions"]["mu"]
    lower, upper = model.predict_interval(rows, coverage=0.9).T
    mean, spread = expected.mean(("chain", "draw")), expected.std(("chain", "draw"))
    print(f"{kind:6} mean {mean[0]:6.1f} on day 0, {(mean[9] - mean[0]) / 9:5.1f} more each day; sd {spread[0]:5.1f}")
    ax.fill_between(days, lower, upper, color="#0072B2", alpha=0.2, lw=0, label="90 % of measurements")
    ends = expected.quantile([0.05, 0.95], ("chain", "draw"))
    ax.fill_between(days, *ends, color="#0072B2", alpha=0.4, lw=0, label="90 % of means")
    ax.plot(days, mean, color="#0072B2", lw=2, label="mean")
    ax.set(xlabel="Day", title=f"A {kind} subject")
axes[0].plot(days, times[1], "o", color="black", ms=4, label="measured")
axes[0].set_ylabel("Reaction time in ms")
axes[0].legend(frameon=False, loc="upper left")
for ax in axes:
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
