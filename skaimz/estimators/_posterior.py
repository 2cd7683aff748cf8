"""Whether posterior draws fit a kernel, its rows, and what is intervened on."""

import warnings
from collections.abc import Mapping

import numpy as np

from skaimz import sampling
from skaimz.exceptions import HeldLatentWarning, PosteriorWarning, UnreachedOutputWarning
from skaimz.kernels import KernelSpec

__all__ = ["check_interventions", "check_local", "match_draws"]


def match_draws(draws: Mapping[str, np.ndarray], spec: KernelSpec) -> dict[str, np.ndarray]:
    """Keep the draws ``(n_chains, n_draws, ...)`` of a kernel's latent sites.

    Raises
    ------
    ValueError
        If none is left, or the draws of a site have another shape than the site.

    Warns
    -----
    PosteriorWarning
        If the output or a foreign site is dropped, or a latent site has no draws.
    """
    sites = {site.name: site for site in spec.sites}
    latents = {site.name: site for site in spec.latents}
    foreign = sorted(draws.keys() - sites.keys())
    missing = sorted(latents.keys() - draws.keys())
    if spec.output in draws:
        _warn(f"Posterior draws of the output site {spec.output!r} are left out: outcomes are predicted, not given.")
    if foreign:
        _warn(f"Posterior draws of {foreign} are left out: the kernel has no such sites.")
    if missing:
        _warn(f"Latent sites {missing} have no posterior draws: they are drawn from their prior given the others.")
    kept = {name: np.asarray(draws[name]) for name in latents if name in draws}
    if not kept and latents:
        raise ValueError(f"None of the posterior draws {sorted(draws)} is of a latent site: {sorted(latents)}.")
    for name, draw in kept.items():
        site = latents[name]
        fits = draw.ndim - 2 == len(site.shape) and all(
            expected in (None, size) for expected, size in zip(site.shape, draw.shape[2:], strict=True)
        )
        if not fits:
            expected = tuple("n_rows" if size is None else size for size in site.shape)
            raise ValueError(
                f"Posterior draws of {name!r} have the shape {draw.shape[2:]} a draw, but the site has {expected}."
            )
    return kept


def _warn(message: str) -> None:
    warnings.warn(message, PosteriorWarning, stacklevel=4)


def check_interventions(job: sampling.Pass) -> None:
    """Warn where an intervention cannot do what it is meant to do."""
    for name in job.intervention:
        found = sampling.influence(job, name)
        if found is None:
            continue
        reaches, held = found
        if not reaches:
            warnings.warn(
                f"The intervention on {name!r} cannot change the output {job.spec.output!r}: nothing that this is "
                "computed from depends on it. (NumPyro's `do` does not reach sites in the body of a `scan`.)",
                UnreachedOutputWarning,
                stacklevel=5,
            )
        if held:
            warnings.warn(
                f"Latent sites {held} depend on {name!r}, and keep their posterior draws, which were made without the "
                "intervention: what it does through them is not seen. Intervene on them too, or leave them out of the "
                "posterior to have them drawn anew.",
                HeldLatentWarning,
                stacklevel=5,
            )


def check_local(spec: KernelSpec, local: Mapping[str, np.ndarray], n_rows: int) -> dict[str, np.ndarray]:
    for name, draw in local.items():
        fitted = draw.shape[1 + (spec[name].row_axis or 0)]
        if fitted != n_rows:
            raise ValueError(
                f"Latent site {name!r} has draws for the {fitted} rows of the fit, but X has {n_rows} rows: pass those "
                "rows, or `in_sample=False`."
            )
    return dict(local)
