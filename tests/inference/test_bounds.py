"""Compiled programs do not pile up."""

import gc
import sys

import numpy as np
import pytest
import zoo

from skaimz import NumPyroImpactRegressor
from skaimz.inference import SVI, mcmc, svi
from skaimz.kernels import trace
from skaimz.sampling import programs


@pytest.mark.parametrize("cache", [
    svi._programs, mcmc._programs, programs._program, programs._prior_program, programs.runs_fused, trace._trace,
], ids=lambda cache: f"{cache.__module__}.{cache.__name__}")  # fmt: skip
def test_caches_have_a_bound(cache):
    assert 0 < cache.cache_info().maxsize <= 256


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's list of memory maps")
@pytest.mark.filterwarnings("ignore::skaimz.exceptions.FitWarning")
def test_programs_that_are_dropped_free_their_code(monkeypatch):
    import functools

    def memory_maps():
        gc.collect()
        with open("/proc/self/maps") as lines:
            return sum(1 for _ in lines)

    monkeypatch.setattr(svi, "_programs", functools.lru_cache(maxsize=1)(svi._programs.__wrapped__))
    counts = []
    for n_features in range(1, 5):
        X = np.ones((20, n_features)) * np.arange(20)[:, None]
        NumPyroImpactRegressor(zoo.conjugate, inference=SVI(num_steps=5, num_samples=5)).fit(X, X[:, 0])
        counts.append(memory_maps())
    assert counts[-1] - counts[1] < 200  # a set of programs holds some 500
