"""Effects on as many devices as there are; see tests/sampling/devices_script.py."""

import pickle
import sys
import warnings
from pathlib import Path

import jax
import numpy as np
import zoo
from effects_reference import X, effect_of, model_of, normal

from skaimz.exceptions import PosteriorWarning, SpeedWarning
from skaimz.sampling import Limits, limits

ROWS = X[:275]
SCENARIOS = {"new": {"columns": {0: np.where(np.arange(275) % 3, 1.0, ROWS[:, 0])}}}
CASES = {
    "outcomes": (zoo.conjugate, None, {"of": "outcome"}),
    "curved": (zoo.logistic, None, {"by": {"third": np.arange(275) % 3}}),
    "on the host": (zoo.poisson, None, {"of": "outcome", "exposure": np.ones(275), "average": False}),
    "drawn effects": (zoo.mediated, {"b": normal(3)}, {"of": "outcome"}),
    "rows second": (zoo.sensors, {"slope": normal(3, 1)}, {"of": "outcome"}),
    "all rows at once": (zoo.running, {"slope": normal()}, {}),
}

if __name__ == "__main__":
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", SpeedWarning)
    warnings.simplefilter("ignore", PosteriorWarning)
    limits.DEFAULT = Limits(most_tile_rows=32)
    found = {}
    for name, (kernel, draws, settings) in CASES.items():
        found[name] = effect_of(model_of(kernel, draws).estimate_effect(ROWS, scenarios=SCENARIOS, **settings))
    found["slopes"] = effect_of(model_of(zoo.logistic).estimate_slope(ROWS, 1), "1")
    Path(sys.argv[1]).write_bytes(pickle.dumps((jax.local_device_count(), found)))
