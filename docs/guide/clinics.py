import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd

from skaimz import NumPyroImpactRegressor
from skaimz.inference import SVI

rng = np.random.default_rng(0)
patients = pd.DataFrame(
    {
        "age": rng.normal(size=400),
        "weight": rng.normal(size=400),
        "treated": rng.integers(2, size=400),
        "clinic": rng.choice(["north", "south", "west"], size=400),
    }
)
recovery = 1.0 + 0.5 * patients["age"] + 2.0 * patients["treated"] + rng.normal(scale=0.5, size=400)
seen, new = patients[:300], patients[300:]
y_seen, y_new = recovery[:300], recovery[300:]


def kernel(X, y=None, *, treated, clinic, n_clinic):
    effect = numpyro.sample("effect", dist.Normal(0.0, 2.0))
    coef = numpyro.sample("coef", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    with numpyro.plate("clinics", n_clinic):
        level = numpyro.sample("level", dist.Normal(0.0, 2.0))
    with numpyro.plate("patients", X.shape[0]):
        numpyro.sample("y", dist.Normal(level[clinic] + effect * treated + X @ coef, sigma), obs=y)


model = NumPyroImpactRegressor(
    kernel,
    column_args={"treated": "treated", "clinic": "clinic"},
    inference=SVI(num_steps=3000, num_samples=500),
    random_state=0,
)
model.fit(seen, y_seen)
