"""
Groups that learn from each other
=================================

Forty schools have 2 to 39 pupils each. A hierarchical kernel shrinks the levels of small schools, which would be
exaggerated otherwise.
"""

import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd

from skaimz import NumPyroImpactRegressor
from skaimz.inference import MCMC

# %%
# The schools are simulated, so that the truth is known.

rng = np.random.default_rng(0)
sizes = rng.integers(2, 40, size=40)
truth = rng.normal(500.0, 25.0, size=40)
pupils = pd.DataFrame({"hours": rng.normal(size=sizes.sum()), "school": np.repeat(np.arange(40), sizes)})
pupils["school"] = pupils["school"].map("school {:02d}".format)
grade = truth.repeat(sizes) + 20.0 * pupils["hours"] + rng.normal(scale=60.0, size=len(pupils))

# %%
# The kernel
# ----------
#
# The column ``school`` reaches the kernel as integer codes, and ``n_school`` is the number of schools. Offsets have a
# unit scale, which chains explore more easily than the levels themselves.


def grades(X, y=None, *, school, n_school):
    centre = numpyro.sample("centre", dist.Normal(500.0, 100.0))
    spread = numpyro.sample("spread", dist.HalfNormal(50.0))
    coef = numpyro.sample("coef", dist.Normal(0.0, 50.0).expand([X.shape[1]]).to_event(1))
    noise = numpyro.sample("noise", dist.HalfNormal(100.0))
    with numpyro.plate("schools", n_school):
        offset = numpyro.sample("offset", dist.Normal(0.0, 1.0))
        level = numpyro.deterministic("level", centre + spread * offset)
    with numpyro.plate("pupils", X.shape[0]):
        numpyro.sample("y", dist.Normal(level[school] + X @ coef, noise), obs=y)


chains = MCMC(num_warmup=500, num_samples=1000, num_chains=2)
model = NumPyroImpactRegressor(grades, column_args={"school": "school"}, inference=chains, random_state=0)
model.fit(pupils, grade)
print(model.describe().drop(columns="rows stand alone").to_string())

# %%
# The levels
# ----------
#
# Deterministic sites are computed from the draws in each call.

tree = model.sample_posterior_predictive(pupils, return_sites=["level"])
level = tree["posterior_predictive"]["level"].stack(sample=("chain", "draw")).to_numpy()
pooled, (lower, upper) = level.mean(axis=1), np.quantile(level, [0.05, 0.95], axis=1)
alone = (grade - 20.0 * pupils["hours"]).groupby(pupils["school"]).mean().to_numpy()
for name, found in (("each school alone", alone), ("hierarchical", pooled)):
    print(f"{name:18} root mean squared error {np.sqrt(np.mean((found - truth) ** 2)):5.1f}")

# %%
# Small schools are shrunk towards the centre, and large ones hardly at all. The estimates of each school alone even use
# the true effect of an hour.

order = np.argsort(sizes, kind="stable")
place = np.arange(40)
figure, ax = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
ax.vlines(place, lower[order], upper[order], color="#0072B2", alpha=0.4, lw=3, label="90 % interval")
ax.plot(place, pooled[order], "o", color="#0072B2", ms=5, label="hierarchical")
ax.plot(place, alone[order], "x", color="#D55E00", ms=6, label="each alone")
ax.plot(place, truth[order], "_", color="black", ms=10, label="truth")
ax.set_xticks(place[::5], sizes[order][::5])
ax.set(xlabel="Schools, by their number of pupils", ylabel="Level of the school")
ax.legend(frameon=False, ncols=2)
for side in ("top", "right"):
    ax.spines[side].set_visible(False)
