"""Log densities of posterior draws, by which an approximate posterior is held against the exact one."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.flatten_util import ravel_pytree
from numpyro import handlers
from numpyro.distributions import biject_to
from numpyro.infer import autoguide
from numpyro.infer.util import log_density, potential_energy, unconstrain_fn

from skaimz.inference.data import Data, weighted_model
from skaimz.inference.guides import make_guide
from skaimz.inference.result import FitResult
from skaimz.inference.settings import SVI
from skaimz.kernels import ByValue, TracedKernel, compiled, one_at_a_time, shared

__all__ = ["log_densities"]

PROGRAMS_KEPT = 24
# Guides that are points, or whose density is an integral or needs an inverse that is not known.
WITHOUT_DENSITY = (
    autoguide.AutoDelta,
    autoguide.AutoDAIS,
    autoguide.AutoSemiDAIS,
    autoguide.AutoBNAFNormal,
    autoguide.AutoGuideList,
)


def log_densities(traced: TracedKernel, data: Data, result: FitResult, settings: SVI) -> dict[str, np.ndarray]:
    """Return the log densities of a variational fit's draws.

    Parameters
    ----------
    traced : TracedKernel
    data : Data
        All rows of the fit.
    result : FitResult
    settings : SVI
        Checked settings.

    Returns
    -------
    dict of str to array of shape (n_chains, n_draws)
        ``log_p``, the joint density of latent sites and outcomes by the kernel, and ``log_q``, the density of the
        latent sites by the guide, where that is known. Both are densities of the latent sites themselves, without
        transformation.
    """
    draws = {name: draw.reshape(-1, *draw.shape[2:]) for name, draw in result.draws.items()}
    n_chains = next(iter(result.draws.values())).shape[0]
    found = _program(traced, ByValue.of(settings.guide))(draws, dict(result.params), data)
    return {name: np.array(density).reshape(n_chains, -1) for name, density in found.items()}


@shared(maxsize=PROGRAMS_KEPT)
def _program(traced: TracedKernel, guide: ByValue) -> Callable[..., dict[str, Any]]:
    @compiled
    @one_at_a_time
    def densities(draws: Mapping[str, Any], params: Mapping[str, Any], data: Data) -> dict[str, Any]:
        _, fitted = make_guide(guide.value, traced, data.units is not None)
        own = {site.name for site in traced.spec.sites if site.kind == "param"}
        of_model = {name: value for name, value in params.items() if name in own}
        model = handlers.substitute(weighted_model(traced), data=of_model)
        of_guide = _density_of(fitted, params, data, {site.name for site in traced.spec.latents})

        def one(draw: Mapping[str, Any]) -> dict[str, Any]:
            log_p = log_density(model, data, {}, dict(draw))[0]
            if of_guide is None:
                return {"log_p": log_p}
            if data.units is None:
                return {"log_p": log_p, "log_q": of_guide(draw)}
            position = unconstrain_fn(model, data, {}, dict(draw))
            # Of what the density gains on unconstrained space, the constraints' transformations are the reason.
            stretched = -potential_energy(model, data, {}, position) - log_p + data.units.log_volume()
            return {"log_p": log_p, "log_q": of_guide(data.units.coordinates(position)) - stretched}

        # Draw by draw, so that memory holds the rows once.
        return jax.lax.map(one, dict(draws))

    return densities


def _density_of(guide: Callable, params: Mapping, data: Data, latents: set[str]) -> Callable[[Mapping], Any] | None:
    """Return the log density of a guide as a function of latent sites, or None where it is not known."""
    if isinstance(guide, WITHOUT_DENSITY):
        return None
    # An autoguide learns the model's sites from a first run.
    with handlers.seed(rng_seed=0), handlers.substitute(data=dict(params)), handlers.trace() as trace:
        guide(*data)
    if isinstance(guide, autoguide.AutoContinuous):
        law = guide.get_posterior(params)
        transforms = {name: biject_to(guide.prototype_trace[name]["fn"].support) for name in latents}

        def density(draw: Mapping[str, Any]) -> Any:
            raw = {name: transforms[name].inv(value) for name, value in draw.items()}
            stretched = sum(transforms[name].log_abs_det_jacobian(raw[name], draw[name]).sum() for name in draw)
            return law.log_prob(ravel_pytree(raw)[0]) - stretched

        return density
    sampled = {name for name, site in trace.items() if site["type"] == "sample"}
    if sampled != latents:
        return None
    return lambda draw: log_density(guide, data, {}, {**params, **draw})[0]
