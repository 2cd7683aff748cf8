"""Short runs of NumPyro's inference, as functions that make new objects."""

from collections.abc import Callable
from typing import Any

import numpyro
from numpyro.infer import MCMC, NUTS, Trace_ELBO

from skaimz.inference import SVI

__all__ = ["nuts", "svi"]


def nuts(kernel: Callable, *, warmup: int = 300, draws: int = 300, **options: Any) -> Callable[[], MCMC]:
    """Return a function that makes two chains of NUTS."""
    return lambda: MCMC(NUTS(kernel, **options), num_warmup=warmup, num_samples=draws, num_chains=2, progress_bar=False)


def svi(
    guide: Callable[[], Any], *, steps: int = 2000, rate: float = 0.01, loss: Any = None, optim: Any = None
) -> Callable[[], SVI]:
    """Return a function that makes settings of SVI from a function that makes a guide."""
    return lambda: SVI(
        guide=guide(),
        optim=optim or numpyro.optim.Adam(rate),
        loss=loss or Trace_ELBO(),
        num_steps=steps,
        num_samples=500,
    )
