"""Fits agree, whatever the number of devices that rows and chains are spread over."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from skaimz import NumPyroImpactRegressor
from skaimz.inference import MCMC, SVI
from skaimz.inference.data import Data
from skaimz.inference.devices import LEAST_ROWS, over_devices

RNG = np.random.default_rng(8)
N_ROWS = 5000
X = RNG.normal(size=(N_ROWS, 2))
Y = X @ [1.0, -2.0] + RNG.normal(size=N_ROWS)
FITS = {
    "auto": "auto",
    "all rows": SVI(num_steps=200),
    "minibatches": SVI(num_steps=200, batch_size=4096),
    "chains": MCMC(num_warmup=60, num_samples=60, num_chains=4),
}


def kernel(X, y=None):
    coef = numpyro.sample("coef", dist.Normal(0, 5).expand([2]).to_event(1))
    noise = numpyro.sample("noise", dist.HalfNormal(2))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ coef, noise), obs=y)


def run(path):
    """Save the draws of every fit, and on how many devices rows lie."""
    from warnings import simplefilter

    simplefilter("ignore")  # short chains are judged
    found = {}
    for name, inference in FITS.items():
        model = NumPyroImpactRegressor(kernel, inference=inference, random_state=0).fit(X, Y)
        found |= {f"{name} {site}": draws for site, draws in model.posterior_.items()}
    for n_rows in (LEAST_ROWS, 4 * LEAST_ROWS, 6 * LEAST_ROWS):
        data = over_devices(Data({}, {"X": np.zeros((n_rows, 2))}, {}, np.ones(n_rows)))
        found[f"{n_rows} rows"] = len(data.rows["X"].sharding.device_set), len(data.weight.addressable_shards)
    np.savez(path, **found)


@pytest.fixture(scope="module")
def draws(tmp_path_factory):
    folder, found = tmp_path_factory.mktemp("devices"), {}
    for number in (1, 2, 4):
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={number}"
        path = folder / f"{number}.npz"
        subprocess.run(
            [sys.executable, "-c", f"import test_devices as t; t.run({str(path)!r})"],
            cwd=Path(__file__).parent,
            env={**os.environ, "XLA_FLAGS": flags},
            check=True,
        )
        found[number] = dict(np.load(path))
    return found


@pytest.mark.parametrize("number", [2, 4])
@pytest.mark.parametrize("name", FITS)
def test_draws_do_not_depend_on_the_number_of_devices(draws, name, number):
    assert jax.local_device_count() == 1
    for site in ("coef", "noise"):
        # The steps of a chain magnify rounding.
        np.testing.assert_allclose(draws[number][f"{name} {site}"], draws[1][f"{name} {site}"], rtol=1e-6)


def test_rows_lie_on_as_many_devices_as_they_fill(draws):
    expected = {1: (1, 1, 1), 2: (1, 2, 2), 4: (1, 4, 4)}
    for number, counts in expected.items():
        for n_rows, count in zip((LEAST_ROWS, 4 * LEAST_ROWS, 6 * LEAST_ROWS), counts, strict=True):
            assert draws[number][f"{n_rows} rows"].tolist() == [count, count]
