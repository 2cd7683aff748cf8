"""Draws of a few kernels on as many devices as there are: a program of its own, since devices are counted at the start.

Run as ``python devices_script.py FILE`` with ``tests`` on the path. The file then holds the number of devices, and for
every case a dict of arrays by quantity, way and variable.
"""

import pickle
import sys
import warnings
from pathlib import Path

import jax
import numpy as np
import zoo

from skaimz import NumPyroImpactRegressor
from skaimz.exceptions import SpeedWarning
from skaimz.sampling import Limits, limits

# Tiles of few rows: 275 rows are 9 of them, the last not full, and so more than one step on 8 devices.
TILE_ROWS, N_ROWS, N_CHAINS, N_DRAWS = 32, 275, 3, 21

rng = np.random.default_rng(0)
X = rng.normal(size=(N_ROWS, 2))


def normal(*shape, n_draws=N_DRAWS):
    return rng.normal(scale=0.5, size=(n_draws, *shape))


# Kernels with their posterior draws, whether these include local latents, and what else than draws is computed.
CASES = {
    "drawn effects": (
        zoo.grouped,
        {"level": normal(), "spread": abs(normal()), "effect": normal(4)},
        False,
        ["reduced"],
    ),
    "on the host": (zoo.sensor_counts, {"slope": normal(), "shift": normal(4), "jitter": normal(3, 4)}, False, []),
    "given, on the host": (
        zoo.sensor_counts,
        {"slope": normal(), "shift": normal(N_ROWS), "jitter": normal(3, N_ROWS)},
        True,
        ["densities"],
    ),
    "rows second": (zoo.sensors, {"slope": normal(3, 1)}, True, ["reduced"]),
    "one draw": (zoo.sensors, {"slope": normal(3, 1, n_draws=1)}, True, []),
    "vectors": (zoo.two_outputs, {"coef": normal(2, 2)}, True, ["densities"]),
    "all rows at once": (zoo.running, {"slope": normal()}, True, ["densities"]),
    "all at once, on the host": (zoo.running_counts, {"slope": normal()}, True, ["reduced"]),
    "every shape": (zoo.many_shapes, {"coef": normal(2)}, True, []),
}
OUTCOMES = {
    "given, on the host": rng.poisson(3, (N_ROWS, 3)).astype(float),
    "vectors": rng.normal(size=(N_ROWS, 2)),
    "all rows at once": rng.normal(size=N_ROWS),
}
IN_SINGLE_PRECISION = ("one draw",)
WAYS = {
    "at once": {"shard_axis": "obs"},
    "tile by tile": {"shard_axis": "obs", "batch_size": 1},
    "draws apart": {"shard_axis": "draw", "store": "zarr", "batch_size": 100},
}


def arrays(tree, group):
    return {name: variable.to_numpy() for name, variable in tree[group].data_vars.items()}


def compute(name):
    """Return draws of a case computed in every way, and what else it asks for."""
    kernel, draws, in_sample, more = CASES[name]
    model = NumPyroImpactRegressor(kernel, random_state=3, dtype="float32" if name in IN_SINGLE_PRECISION else None)
    n_draws = len(next(iter(draws.values())))
    model.set_posterior_sample(draws, num_chains=N_CHAINS if n_draws == N_DRAWS else 1)
    group = "posterior_predictive" if in_sample else "predictions"
    found = {
        ("draws", way): arrays(model.sample_posterior_predictive(X, in_sample=in_sample, **settings), group)
        for way, settings in WAYS.items()
    }
    if "densities" in more:
        for way in ("at once", "draws apart"):
            tree = model.log_likelihood(X, OUTCOMES[name], in_sample=in_sample, **WAYS[way])
            found["log likelihood", way] = arrays(tree, "log_likelihood")
    if "reduced" in more:
        mean, std = model.predict(X, return_std=True)
        found["reduced", "at once"] = {"mean": mean, "std": std, "quantiles": model.predict_quantiles(X, [0.1, 0.5])}
    model.cleanup()
    return found


if __name__ == "__main__":
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", SpeedWarning)
    limits.DEFAULT = Limits(most_tile_rows=TILE_ROWS)
    results = {name: compute(name) for name in CASES}
    Path(sys.argv[1]).write_bytes(pickle.dumps((jax.local_device_count(), results)))
