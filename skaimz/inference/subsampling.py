"""Kernels whose plates draw minibatches: which fits let them, and which give them all rows."""

from typing import Any

import numpyro.infer

from skaimz.inference.samplers import parts_of
from skaimz.inference.settings import MCMC, SVI
from skaimz.kernels import TracedKernel

__all__ = ["as_fitted"]


def as_fitted(traced: TracedKernel, settings: Any) -> TracedKernel:
    """Return a kernel as a fit runs it.

    Its plates draw minibatches in a variational fit that has none of its own, and for the sampler ``HMCECS``. All other
    fits need a density without random numbers: there, plates hold the rows that they are given.
    """
    if isinstance(settings, SVI):
        draws = settings.batch_size is None
    else:
        sampler = settings.sampler if isinstance(settings, MCMC) else None
        draws = any(isinstance(part, numpyro.infer.HMCECS) for part in parts_of(sampler))
    return traced.with_subsampling() if draws else traced
