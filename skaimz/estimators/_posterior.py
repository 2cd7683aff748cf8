"""Posterior draws: whether they fit a kernel, its rows, and the sites that a call sets."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from skaimz import sampling
from skaimz.datatree import FlatDraws
from skaimz.exceptions import FixedSiteWarning, HeldLatentWarning, PosteriorWarning, UnreachedOutputWarning, warn_user
from skaimz.inference import FitResult
from skaimz.inference.diagnostics import check_chains
from skaimz.kernels import KernelSpec, check_index, in_type_of, own_names

__all__ = ["OF_STATE", "check_interventions", "check_of_rows", "digest_of", "match_draws", "with_draws"]

# Attribute of trees that says from which inference state their draws were taken.
OF_STATE = "of_state"


def digest_of(state: Sequence[np.ndarray]) -> str:
    """Return a digest of an inference state."""
    return hashlib.blake2b(b"".join(np.asarray(array).tobytes() for array in state), digest_size=16).hexdigest()


def with_draws(result: FitResult, draws: dict[str, np.ndarray]) -> FitResult:
    """Return what is known of a fit, with other draws from the state in which it ended."""
    judged = check_chains(draws, None) if result.method == "mcmc" else {}
    n_draws = next(iter(draws.values())).shape[1]
    return dataclasses.replace(
        result, draws=draws, sample_stats={}, diagnostics=result.diagnostics | judged, num_samples=n_draws
    )


def _by_chain(draws: Mapping[str, np.ndarray], spec: KernelSpec) -> dict[str, np.ndarray]:
    """Return draws ``(n_chains, n_draws, ...)``, where those of a mapping may have had an axis of chains before."""
    axes = {site.name: len(site.shape) for site in spec.latents if site.name in draws}
    sizes = {draws[name].shape[:3] for name, n_axes in axes.items() if draws[name].ndim == n_axes + 3}
    had_chains = isinstance(draws, FlatDraws) and len(sizes) == 1 and all(draws[n].ndim == axes[n] + 3 for n in axes)
    if not had_chains or min(next(iter(sizes))[:2]) > 1:
        return dict(draws)
    # What was taken for the draws of one chain, or of as many as there are, are the chains.
    return {name: draw.reshape(-1, *draw.shape[2:]) for name, draw in draws.items() if draw.ndim > 2}


def match_draws(draws: Mapping[str, np.ndarray], spec: KernelSpec, params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Keep the draws ``(n_chains, n_draws, ...)`` of a kernel's latent sites; ``params`` are what a fit has learned.

    Those of a mapping may have an axis of chains before, which their shapes tell.

    Raises
    ------
    ValueError
        If none is left, or the draws of a site have another shape than the site.

    Warns
    -----
    PosteriorWarning
        If the output or a foreign site is dropped, a latent site has no draws or draws that are not finite, or a
        parameter has not been learned.
    """
    sites = {site.name: site for site in spec.every_site}
    named = own_names(draws, sites)
    draws = _by_chain(FlatDraws(named) if isinstance(draws, FlatDraws) else named, spec)
    latents = {site.name: site for site in spec.latents}
    foreign = sorted(draws.keys() - sites.keys())
    missing = sorted(latents.keys() - draws.keys() - {site.name for site in spec.summed})
    if spec.output in draws:
        warn_user(
            f"Posterior draws of the output site {spec.output!r} are left out: outcomes are predicted, not given.",
            PosteriorWarning,
        )
    if foreign:
        warn_user(
            f"Posterior draws of {foreign} are left out: the kernel has no such sites.",
            PosteriorWarning,
        )
    if missing:
        warn_user(
            f"Latent sites {missing} have no posterior draws: they are drawn from their prior given the others.",
            PosteriorWarning,
        )
    unlearned = sorted(spec.learned.keys() - params.keys())
    if unlearned:
        warn_user(
            f"Parameters {unlearned} keep their first value: posterior draws do not hold what `numpyro.param` stands "
            "for. Write their values into the kernel.",
            PosteriorWarning,
        )
    kept = {
        name: in_type_of(site, f"The array of posterior draws of {name!r}", draws[name])
        for name, site in latents.items()
        if name in draws
    }
    if not kept and (missing or draws):
        raise ValueError(f"None of the posterior draws {sorted(draws)} is of a latent site: {sorted(latents)}.")
    for index in spec.indices:
        if index.kind == "site" and index.name in kept and index.length is not None:
            check_index(f"The array of posterior draws of {index.name!r}", kept[index.name], index, 0)
    for name, draw in kept.items():
        site = latents[name]
        if not site.allows(draw.shape[2:]):
            raise ValueError(
                f"Posterior draws of {name!r} have the shape {draw.shape[2:]} a draw, but the site has "
                f"{site.written_shape}."
            )
    wrong = {name: int((~np.isfinite(draw)).sum()) for name, draw in kept.items() if draw.dtype.kind == "f"}
    wrong = {name: count for name, count in wrong.items() if count}
    if wrong:
        warn_user(
            f"Some posterior draws are infinite or NaN (numbers by site: {wrong}): what follows from them is, too. "
            "Leave these draws out.",
            PosteriorWarning,
        )
    return kept


def check_interventions(job: sampling.Job) -> None:
    """Warn where an intervention or a condition cannot do what it may be meant to do."""
    for name in job.condition:
        upstream = sampling.upstream_of(job, name)
        if upstream and name != job.spec.output:
            warn_user(
                f"`condition` fixes {name!r}, and latent sites {upstream}, on which it and the output depend, keep "
                "their distributions: outcomes are those of rows that are given the value, as with `intervention`, "
                f"not of rows that happen to have it. For these let the kernel take {name!r} as an argument.",
                FixedSiteWarning,
            )
    for name in job.intervention:
        found = sampling.influence(job, name)
        if found is None:
            continue
        reaches, held = found
        if not reaches:
            warn_user(
                f"The intervention on {name!r} cannot change the output {job.spec.output!r}: nothing that this is "
                "computed from depends on it. (NumPyro's `do` does not reach sites in the body of a `scan`.)",
                UnreachedOutputWarning,
            )
        if held:
            warn_user(
                f"Latent sites {held} depend on {name!r}, and keep their posterior draws, which were made without the "
                "intervention: what it does through them is not seen. Intervene on them too, or leave them out of the "
                "posterior to have them drawn anew.",
                HeldLatentWarning,
            )


def check_of_rows(spec: KernelSpec, draws: Mapping[str, np.ndarray], fit_rows: int | None, n_rows: int) -> None:
    """Refuse draws of the latent sites of rows that are not for the rows of a call.

    Parameters
    ----------
    spec : KernelSpec
    draws : dict of str to array of shape (n_draws, ...)
        Draws of sites whose number of entries follows from the number of rows.
    fit_rows : int or None
        Number of rows of the fit, if it is known.
    n_rows : int
        Number of rows of the call, or of those that its part belongs to.
    """
    for name, draw in draws.items():
        axis = spec[name].row_axis
        found = fit_rows if axis is None else draw.shape[1 + axis]
        if found not in (None, n_rows):
            raise ValueError(
                f"Latent site {name!r} has draws for the {found} rows of the fit, but X has {n_rows} rows: pass those "
                "rows, or `in_sample=False`."
            )
