"""A soak: 200 calls with random row counts, batch sizes, shard axes and stores, on 4 virtual devices.

First each kind of call is made once, so that all programs are compiled. It prints what the process holds after the
first 20 calls that follow and after the last, and what is left in its temporary folder.
"""

import gc
import itertools
import os
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from skaimz import NumPyroImpactRegressor
from skaimz.exceptions import PosteriorWarning, SpeedWarning

N_CALLS, N_FIRST = 200, 20


def normal(X, y=None):
    coef = numpyro.sample("coef", dist.Normal().expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        shift = numpyro.sample("shift", dist.Normal())
        numpyro.sample("y", dist.Normal(X @ coef + shift, 1.0), obs=y)


def counts(X, y=None):
    coef = numpyro.sample("coef", dist.Normal().expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Poisson(jnp.exp(0.1 * (X @ coef))), obs=y)


def running(X, y=None):
    coef = numpyro.sample("coef", dist.Normal().expand([X.shape[1]]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(jnp.cumsum(X @ coef), 1.0), obs=y)


def resident():
    gc.collect()
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def call(rng, folder, kernel, n_draws, method, shard_axis):
    """Make one call and check its result's shape."""
    # A kernel whose rows interact compiles for every number of rows.
    n_rows = 1500 if kernel is running else int(rng.integers(1, 6000))
    X = rng.normal(size=(n_rows, 3)).astype(np.float32)
    posterior = {"coef": rng.normal(size=(n_draws, 3)).astype(np.float32)}
    model = NumPyroImpactRegressor(kernel, posterior=posterior, random_state=int(rng.integers(100)))
    model.fit(X, np.ones(n_rows, np.float32))
    if method == "mean":
        assert model.predict(X).shape == (n_rows,)
    elif method == "quantiles":
        assert model.predict_quantiles(X).shape == (n_rows, 3)
    else:
        store = str(rng.choice(["memory", "zarr", "folder"]))
        where = {"output_dir": folder / "draws"} if store == "folder" else {"store": store}
        batch_size = int(rng.integers(1, 8000)) if rng.random() < 0.5 else None
        tree = model.sample_posterior_predictive(
            X, in_sample=False, shard_axis=shard_axis, batch_size=batch_size, **where
        )
        drawn = tree["predictions"]["y"]
        assert drawn.shape == (1, n_draws, n_rows)
        assert np.isfinite(drawn.to_numpy()).all()
        tree.close()
        model.cleanup()
        shutil.rmtree(folder / "draws", ignore_errors=True)


def main():
    warnings.simplefilter("ignore", SpeedWarning)
    warnings.simplefilter("ignore", PosteriorWarning)
    folder = Path(tempfile.mkdtemp())
    tempfile.tempdir = str(folder)
    rng = np.random.default_rng(0)
    kinds = list(itertools.product((normal, counts, running), (1, 64), ("draws", "quantiles", "mean"), ("obs", "draw")))
    for kind in kinds:
        call(rng, folder, *kind)
    first = 0.0
    for number in range(N_CALLS):
        call(rng, folder, *kinds[rng.integers(len(kinds))])
        if number + 1 == N_FIRST:
            first = resident()
    last = resident()
    left = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    print(f"- {N_CALLS} calls on {jax.device_count()} devices")
    print(f"- memory after {N_FIRST} calls {first:.0f} MiB, after the last {last:.0f} MiB: {last / first - 1:+.1%}")
    print(f"- files left behind: {left or 'none'}")
    shutil.rmtree(folder)
    sys.exit(bool(left) or last > 1.05 * first)


if __name__ == "__main__":
    main()
