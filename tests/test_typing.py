"""Mistakes in a user's script that a type checker finds."""

import re
import subprocess
import sys

import pytest

pytest.importorskip("mypy")

SCRIPT = """
import numpy as np
import xarray as xr
from skaimz import NumPyroImpactClassifier, NumPyroImpactRegressor
from skaimz.inference import SVI

X, y = np.zeros((3, 2)), np.zeros(3)
model = NumPyroImpactRegressor(inference=SVI(num_steps=10)).fit(X, y)
mean: np.ndarray = model.predict(X)
mean, sd = model.predict(X, return_std=True)
tree: xr.DataTree = model.sample_posterior_predictive(X)
effects: xr.DataTree = model.estimate_effect(X, scenarios={})
advice: str = model.diagnose().loc["r_hat", "advice"]
draws: np.ndarray = model.posterior_["beta"]
labels: np.ndarray = NumPyroImpactClassifier().fit(X, y).predict(X)
"""
MISTAKES = {
    "model.predikt(X)": 'has no attribute "predikt"',
    "model.estimate_effects(X)": 'has no attribute "estimate_effects"',
    "model.estimate_effect(X, scenario={})": 'Missing named argument "scenarios"',
    "model.to_datatree(X, y, return_group=[1], return_groups=1)": 'Argument "return_groups"',
    "NumPyroImpactRegressor(kernl=None)": 'Unexpected keyword argument "kernl"',
    "SVI(num_step=1)": 'Unexpected keyword argument "num_step"',
    "model.predict(X, return_std=True).mean()": 'has no attribute "mean"',
    "model.posterior['beta'], model.posterior_sample_": 'has no attribute "posterior_sample_"',
}


def complaints(tmp_path, lines):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT + "\n".join(lines) + "\n")
    settings = ["--strict", "--no-error-summary", "--cache-dir", str(tmp_path / "cache")]
    run = subprocess.run(
        [sys.executable, "-m", "mypy", *settings, str(path)], capture_output=True, text=True, check=False
    )
    assert not run.stderr
    n_right = SCRIPT.count("\n")
    found = {}
    for line, message in re.findall(r"script\.py:(\d+): error: (.*)", run.stdout):
        found.setdefault(int(line) - n_right - 1, []).append(message)
    return found


def test_mistakes_are_found_and_nothing_else(tmp_path):
    found = complaints(tmp_path, MISTAKES)
    assert sorted(found) == list(range(len(MISTAKES)))
    for (line, expected), messages in zip(MISTAKES.items(), (found[place] for place in sorted(found)), strict=True):
        assert any(expected in message for message in messages), (line, messages)
