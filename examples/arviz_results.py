"""
Reading results with ArviZ
==========================

ArviZ reads the trees that skaimz returns. This example summarises and plots a posterior, and compares two models by
leave-one-out cross-validation.
"""

import arviz_plots
import arviz_stats
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist

from skaimz import NumPyroImpactRegressor
from skaimz.inference import MCMC

# %%
# The data have a few outliers, so noise with heavy tails may fit better.

plt.rcParams["figure.constrained_layout.use"] = True
rng = np.random.default_rng(0)
X = rng.normal(size=(150, 2))
y = 1.0 + X @ [2.0, -1.0] + rng.standard_t(2.5, size=150)


def kernel(X, y=None, *, heavy_tails):
    intercept = numpyro.sample("intercept", dist.Normal(0.0, 5.0))
    coef = numpyro.sample("coef", dist.Normal(0.0, 5.0).expand([2]).to_event(1), infer={"event_dims": ["feature"]})
    sigma = numpyro.sample("sigma", dist.HalfNormal(3.0))
    mean = intercept + X @ coef
    distribution = dist.StudentT(3.0, mean, sigma) if heavy_tails else dist.Normal(mean, sigma)
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", distribution, obs=y)


chains = MCMC(num_warmup=500, num_samples=1000, num_chains=4)
models = {
    name: NumPyroImpactRegressor(kernel, inference=chains, random_state=0).fit(X, y, heavy_tails=tails)
    for name, tails in (("normal", False), ("Student", True))
}

# %%
# The posterior
# -------------
#
# Plates and ``event_dims`` name the dimensions.

tree = models["Student"].to_datatree()
print(arviz_stats.summary(tree, kind="stats").to_string())

# %%

plots = arviz_plots.plot_dist(tree, col_wrap=2, figure_kwargs={"figsize": (8.0, 5.0)})

# %%
# Which model?
# ------------
#
# ``log_likelihood`` returns the log density of every row under every draw. From these, ArviZ estimates how well each
# model predicts a row that it has not seen.

scores = {name: arviz_stats.loo(model.log_likelihood(X, y)) for name, model in models.items()}
table = arviz_stats.compare(scores)
print(table[["rank", "elpd", "se", "elpd_diff", "dse"]].round(1).to_string())
plots = arviz_plots.plot_compare(table, figure_kwargs={"figsize": (7.0, 2.5)})
