"""
Whom should the next campaign reach?
====================================

This example analyses a simulated test with three arms and a million customers.

Customers received nothing, an e-mail or a voucher, at random. The table shows by how much each raises the share of
buyers in each segment. The second figure shows how much of the voucher's effect comes from the customers who respond
most.
"""

import sys
import time
from pathlib import Path

import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd

from skaimz import NumPyroImpactClassifier
from skaimz.inference import SVI
from skaimz.plotting import EffectDisplay

mpl.use("Agg")

SEGMENTS, ARMS = ["new", "regular", "loyal"], ["nothing", "e-mail", "voucher"]
# The simulation adds these numbers to the log odds of buying: a row for each segment, a column for each arm.
TRUTH = np.array([[0.0, 0.10, 0.60], [0.0, 0.20, 0.30], [0.0, 0.25, 0.00]])


def buying(X, y=None, *, segment, arm, n_segment, n_arm):
    """Whether a customer buys; segments respond differently to an arm."""
    base = numpyro.sample("base", dist.Normal(-2.0, 1.0).expand([n_segment]).to_event(1))
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    response = numpyro.sample("response", dist.Normal(0.0, 0.5).expand([n_segment, n_arm - 1]).to_event(2))
    # The other arms are compared with the first.
    effect = jnp.concatenate([jnp.zeros((n_segment, 1)), response], axis=1)
    with numpyro.plate("customers", X.shape[0]):
        numpyro.sample("y", dist.Bernoulli(logits=base[segment] + X @ coef + effect[segment, arm]), obs=y)


def simulate(n_rows):
    rng = np.random.default_rng(0)
    segment, arm = rng.choice(3, n_rows, p=[0.5, 0.3, 0.2]), rng.integers(3, size=n_rows)
    X = rng.standard_normal((n_rows, 2), dtype=np.float32)
    base = np.array([-2.5, -2.0, -1.2])[segment] + X @ [0.4, 0.2]
    chance = lambda arm: 1 / (1 + np.exp(-(base + TRUTH[segment, arm])))  # noqa: E731
    rows = pd.DataFrame(X, columns=["visits", "basket"])
    rows["segment"] = pd.Categorical.from_codes(segment, SEGMENTS)
    rows["arm"] = pd.Categorical.from_codes(arm, ARMS)
    bought = (rng.random(n_rows) < chance(arm)).astype(int)
    return rows, bought, {name: chance(code) - chance(0) for code, name in enumerate(ARMS)}


def main(folder, n_rows=1_000_000):
    folder.mkdir(exist_ok=True)
    rows, bought, true_effects = simulate(n_rows)
    settings = SVI(batch_size=min(8192, n_rows), num_steps=3000, learning_rate=0.02, num_samples=300)
    columns = {"segment": "segment", "arm": "arm"}
    model = NumPyroImpactClassifier(buying, column_args=columns, inference=settings, dtype="float32", random_state=0)
    start = time.perf_counter()
    model.fit(rows, bought)
    fitted = time.perf_counter()
    scenarios = {name: {"columns": {"arm": name}} for name in ARMS[1:]}
    asked = {"baseline": {"columns": {"arm": "nothing"}}, "scenarios": scenarios}
    effects = model.estimate_effect(rows, by="segment", **asked)
    lift = model.estimate_effect(rows, contrast="lift", by="segment", **asked).summary()
    end = time.perf_counter()

    table = effects.summary()
    shown = 100 * table[["mean", "lower", "upper"]]
    shown["truth"] = [100 * true_effects[arm][rows["segment"] == segment].mean() for arm, segment in table.index]
    shown["lift in %"] = lift["mean"]
    shown["P(> 0)"] = table["p_positive"]
    print(f"Share of buyers, percentage points gained over sending nothing ({n_rows:,} customers)\n")
    print(shown.round(2).to_string())
    print(f"\nFitted in {fitted - start:.0f} s, effects of {3 * n_rows:,} rows and scenarios in {end - fitted:.0f} s")

    display = EffectDisplay.from_effects(effects)
    display.ax_.set_xlabel("Change of the probability of buying")
    display.figure_.savefig(folder / "marketing_segments.png", dpi=150)
    some = rows.sample(min(20_000, n_rows), random_state=0)
    asked["scenarios"] = {"voucher": scenarios["voucher"]}
    display = EffectDisplay.from_estimator(model, some, kind="uplift", **asked)
    display.ax_.set_xlabel("Customers sent a voucher, the most responsive first, in %")
    display.ax_.set_ylabel("Gain in the share of buyers")
    display.figure_.savefig(folder / "marketing_uplift.png", dpi=150)
    print(f"Figures: {folder / 'marketing_segments.png'}, {folder / 'marketing_uplift.png'}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "build"))
