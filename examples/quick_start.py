"""
Quick start: predictions with intervals
=======================================

A regression of the diabetes data with heavy-tailed noise. The model is a function; everything else is scikit-learn.
"""

import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist
from sklearn.datasets import load_diabetes
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skaimz import NumPyroImpactRegressor

# %%
# The kernel
# ----------
#
# A kernel describes how outcomes arise. The plate declares the rows independent, and ``obs=y`` marks the outcome.


def progression(X, y=None):
    intercept = numpyro.sample("intercept", dist.Normal(150.0, 50.0))
    coef = numpyro.sample("coef", dist.Normal(0.0, 20.0).expand([X.shape[1]]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(50.0))
    with numpyro.plate("patients", X.shape[0]):
        numpyro.sample("y", dist.StudentT(5.0, intercept + X @ coef, sigma), obs=y)


# %%
# Fit and predict
# ---------------
#
# The mean is deterministic. The standard deviation and the intervals include the uncertainty of the parameters and the
# noise of the outcome.

X, y = load_diabetes(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
scaler = StandardScaler().fit(X_train)
model = NumPyroImpactRegressor(progression, random_state=0).fit(scaler.transform(X_train), y_train)
mean, std = model.predict(scaler.transform(X_test), return_std=True)
intervals = model.predict_interval(scaler.transform(X_test), coverage=[0.5, 0.9])
inside = (intervals[:, 0, 1] <= y_test) & (y_test <= intervals[:, 1, 1])
print(f"{inside.mean():.0%} of {len(y_test)} patients held out lie in their 90 % interval")

# %%
# Plot
# ----

order = np.argsort(mean)
rank = np.arange(len(order))
figure, ax = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
for level, alpha, name in ((1, 0.15, "90 %"), (0, 0.3, "50 %")):
    lower, upper = intervals[order, :, level].T
    ax.fill_between(rank, lower, upper, color="#0072B2", alpha=alpha, linewidth=0, label=f"{name} interval")
ax.plot(rank, mean[order], color="#0072B2", label="mean")
ax.scatter(rank, y_test[order], s=14, color="#D55E00", label="observed", zorder=3)
ax.set(xlabel="Patients held out, by predicted progression", ylabel="Disease progression after one year")
ax.legend(frameon=False, loc="upper left")
for side in ("top", "right"):
    ax.spines[side].set_visible(False)

# %%
# In a pipeline
# -------------
#
# The estimator works wherever scikit-learn takes one. All folds share the programs that were compiled above.

pipeline = make_pipeline(StandardScaler(), model)
scores = cross_val_score(pipeline, X, y, cv=5)
print(f"R2 of 5 folds: {scores.mean():.2f} +- {scores.std():.2f}")
