"""
Which prior? A search by predictive density
===========================================

Held-out rows can answer how wide a prior should be. This example searches a prior for eighty patients of the diabetes
data.
"""

import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist
from sklearn.base import BaseEstimator
from sklearn.datasets import load_diabetes
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import shuffle

from skaimz import NumPyroImpactRegressor
from skaimz.inference import SVI
from skaimz.metrics import LogPredictiveDensity

# %%
# The kernel
# ----------
#
# A kernel that is an object has hyperparameters, which a search sets by name. New numbers need no new compilation.
# Coefficients have a unit scale, so that one learning rate suits every scale of the prior.


class Shrunk(BaseEstimator):
    """Linear regression on any number of columns; ``prior_scale`` is the scale of the coefficients' prior."""

    def __init__(self, prior_scale=1.0, heavy_tails=False):
        self.prior_scale = prior_scale
        self.heavy_tails = heavy_tails

    def __call__(self, X, y=None):
        intercept = numpyro.sample("intercept", dist.Normal(0.0, 1.0))
        unit = numpyro.sample("unit", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
        sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
        mean = intercept + self.prior_scale * (X @ unit)
        distribution = dist.StudentT(4.0, mean, sigma) if self.heavy_tails else dist.Normal(mean, sigma)
        with numpyro.plate("patients", X.shape[0]):
            numpyro.sample("y", distribution, obs=y)


# %%
# The search
# ----------
#
# The log predictive density evaluates the whole predictive distribution, both its centre and its width.

X, y = shuffle(*load_diabetes(return_X_y=True), n_samples=80, random_state=0)
y = (y - y.mean()) / y.std()
settings = SVI(num_steps=3000, num_samples=300)
model = NumPyroImpactRegressor(Shrunk(), inference=settings, random_state=0)
pipeline = make_pipeline(StandardScaler(), model)
kernel = "numpyroimpactregressor__kernel"
scales = [0.01, 0.03, 0.1, 0.3, 1.0]
grid = {f"{kernel}__prior_scale": scales, f"{kernel}__heavy_tails": [False, True]}
search = GridSearchCV(pipeline, grid, scoring=LogPredictiveDensity(), cv=5).fit(X, y)
print({name.removeprefix(f"{kernel}__"): value for name, value in search.best_params_.items()})

# %%
# A narrow prior underfits, and a wide prior overfits.

results = search.cv_results_
figure, ax = plt.subplots(figsize=(7.0, 3.8), layout="constrained")
for tails, colour, name in ((False, "#0072B2", "normal noise"), (True, "#D55E00", "Student noise")):
    chosen = np.asarray(results[f"param_{kernel}__heavy_tails"] == tails, bool)
    mean = results["mean_test_score"][chosen]
    error = results["std_test_score"][chosen] / np.sqrt(search.n_splits_)
    ax.errorbar(scales, mean, yerr=error, color=colour, marker="o", capsize=3, label=name)
ax.set_xscale("log")
ax.set(xlabel="Scale of the coefficients' prior", ylabel="Log predictive density of a patient")
ax.legend(frameon=False)
for side in ("top", "right"):
    ax.spines[side].set_visible(False)
