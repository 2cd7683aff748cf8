"""One door to both kinds of inference."""

from typing import Any

import numpy as np

from skaimz.inference.data import Data, bucket, pad_rows
from skaimz.inference.mcmc import continue_chains, fit_mcmc
from skaimz.inference.result import FitResult
from skaimz.inference.settings import MCMC, SVI
from skaimz.inference.svi import draw_from_guide, fit_svi
from skaimz.kernels import Inputs, TracedKernel

__all__ = ["fit", "resume"]


def fit(
    traced: TracedKernel,
    numbers: dict[str, Any],
    inputs: Inputs,
    weight: np.ndarray | None,
    settings: SVI | MCMC,
    seed: int,
    *,
    verbose: int = 0,
) -> FitResult:
    """Draw from the posterior of a kernel given data.

    Parameters
    ----------
    traced : TracedKernel
    numbers : dict
        The kernel's numeric hyperparameters.
    inputs : Inputs
        Arguments, the output among the rows.
    weight : array of shape (n_rows,) or None
        Factor on each row's log-likelihood.
    settings : SVI or MCMC
        Checked settings.
    seed : int
        Below 2**32.
    verbose : int, default=0
        Show a progress bar where positive.

    Returns
    -------
    FitResult
    """
    spec = traced.spec
    n_rows = len(inputs.rows[spec.input])
    if weight is not None and not spec[spec.output].rows_are_batched:
        raise ValueError(
            f"`sample_weight` needs an output whose log density has an entry for each row, but the rows of "
            f"{spec.output!r} are on an event axis."
        )
    data = _padded(traced, Data(numbers, inputs.rows, inputs.whole, weight), n_rows)
    if isinstance(settings, SVI):
        return fit_svi(traced, data, n_rows, settings, seed, verbose=verbose)
    return fit_mcmc(traced, data, n_rows, settings, seed, verbose=verbose)


def resume(
    traced: TracedKernel, result: FitResult, settings: SVI | MCMC, seed: int, num_samples: int, *, verbose: int = 0
) -> dict[str, np.ndarray]:
    """Take fresh draws ``(n_chains, num_samples, ...)`` from the state in which a fit ended.

    A fitted guide is drawn from with ``seed``; Markov chains go on with their own random numbers.
    """
    data = _padded(traced, Data(**result.data), result.n_rows)
    if isinstance(settings, SVI):
        return draw_from_guide(traced, data, result, settings, seed, num_samples)
    return continue_chains(traced, data, result, settings, num_samples, verbose)


def _padded(traced: TracedKernel, data: Data, n_rows: int) -> Data:
    """Bring rows to the bucket's length, with weight zero beyond the real ones, where that is exact."""
    spec = traced.spec
    if not spec.can_be_padded:
        weight = None if data.weight is None else np.broadcast_to(data.weight, n_rows)
        return data._replace(rows={name: pad_rows(array, n_rows) for name, array in data.rows.items()}, weight=weight)
    size = bucket(n_rows)
    weight = np.zeros(size, data.rows[spec.input].dtype)
    weight[:n_rows] = 1.0 if data.weight is None else np.broadcast_to(data.weight[:n_rows], n_rows)
    return data._replace(rows={name: pad_rows(array, size) for name, array in data.rows.items()}, weight=weight)
