"""Compiled programs do not pile up."""

import functools
import gc
import sys

import numpy as np
import pytest
import zoo

from skaimz import NumPyroImpactRegressor
from skaimz.inference import SVI, densities, mcmc, svi, target
from skaimz.kernels import trace
from skaimz.sampling import programs


@pytest.mark.parametrize("cache", [
    svi._programs, target._programs, densities._program, mcmc._programs,
    programs._program, programs._prior_program, programs.runs_fused, trace._trace,
], ids=lambda cache: f"{cache.__module__}.{cache.__name__}")  # fmt: skip
def test_caches_have_a_bound(cache):
    assert 0 < cache.cache_info().maxsize <= 256


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's list of memory maps")
@pytest.mark.filterwarnings("ignore::skaimz.exceptions.FitWarning")
def test_programs_that_are_dropped_free_their_code(monkeypatch):
    """Each fit has a new shape, so that its programs replace those of the fit before."""

    def memory_maps():
        gc.collect()
        with open("/proc/self/maps") as lines:
            return sum(1 for _ in lines)

    for module, name in ((svi, "_programs"), (target, "_programs"), (densities, "_program")):
        monkeypatch.setattr(module, name, functools.lru_cache(maxsize=1)(getattr(module, name).__wrapped__))
    counts = []
    for n_features in range(1, 8):
        X = np.ones((20, n_features)) * np.arange(20)[:, None]
        NumPyroImpactRegressor(zoo.conjugate, inference=SVI(num_steps=5, num_samples=5)).fit(X, X[:, 0])
        counts.append(memory_maps())
    # The first fits also fill JAX's own caches. The programs of one fit hold about 345 memory maps: about 235 for its
    # steps and 110 for the search for its units.
    assert counts[-1] - counts[2] < 100
