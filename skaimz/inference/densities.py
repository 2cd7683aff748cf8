"""Log densities of posterior draws, which show how near an approximate posterior is to the exact one."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.flatten_util import ravel_pytree
from numpyro import handlers
from numpyro.distributions import Delta, biject_to
from numpyro.infer import autoguide
from numpyro.infer.util import log_density, potential_energy, unconstrain_fn

from skaimz.inference.data import Data, padded, weighted_model
from skaimz.inference.guides import make_guide
from skaimz.inference.result import FitResult
from skaimz.inference.settings import SVI
from skaimz.kernels import ByValue, TracedKernel
from skaimz.runtime import compiled, one_at_a_time, shared

__all__ = ["log_densities"]

PROGRAMS_KEPT = 24
# Guides that are points, or whose density needs an integral or an unknown inverse.
WITHOUT_DENSITY = (
    autoguide.AutoDelta,
    autoguide.AutoDAIS,
    autoguide.AutoSemiDAIS,
    autoguide.AutoBNAFNormal,
)


def log_densities(traced: TracedKernel, data: Data, settings: SVI, result: FitResult) -> dict[str, np.ndarray]:
    """Return the log densities of a variational fit's draws, by the kernel and by the guide.

    Parameters
    ----------
    traced : TracedKernel
    data : Data
        All rows of the fit, in memory.
    settings : SVI
        Checked settings of the fit.
    result : FitResult
        What the fit returned.

    Returns
    -------
    dict of str to array of shape (n_chains, n_draws)
        ``log_p``, the joint density of latent sites and outcomes by the kernel, and ``log_q``, the density of the
        latent sites by the guide, if it is known. Both are densities of the latent sites themselves, without
        transformation.
    """
    draws = {name: draw.reshape(-1, *draw.shape[2:]) for name, draw in result.draws.items()}
    n_chains = next(iter(result.draws.values())).shape[0]
    data = padded(traced, data._replace(units=result.data["units"]), len(data.rows[traced.spec.input]))
    densities = _program(traced, ByValue.of(settings.guide))(draws, dict(result.params), data)
    return {name: np.array(density).reshape(n_chains, -1) for name, density in densities.items()}


@shared(maxsize=PROGRAMS_KEPT)
def _program(traced: TracedKernel, guide: ByValue) -> Callable[..., dict[str, Any]]:
    @compiled
    @one_at_a_time
    def densities(draws: Mapping[str, Any], params: Mapping[str, Any], data: Data) -> dict[str, Any]:
        _, fitted = make_guide(guide.value, traced, data.units is not None)
        own = {site.name for site in traced.spec.sites if site.kind == "param"}
        of_model = {name: value for name, value in params.items() if name in own}
        model = handlers.substitute(weighted_model(traced), data=of_model)
        of_guide = _density_of(fitted, model, params, data, {site.name for site in traced.spec.latents})

        def one(draw: Mapping[str, Any]) -> dict[str, Any]:
            log_p = log_density(model, data, {}, dict(draw))[0]
            if of_guide is None:
                return {"log_p": log_p}
            if data.units is None:
                return {"log_p": log_p, "log_q": of_guide(draw)}
            position = unconstrain_fn(model, data, {}, dict(draw))
            # The difference of the two densities is that of the transformations from unconstrained space.
            stretched = -potential_energy(model, data, {}, position) - log_p + data.units.log_volume()
            return {"log_p": log_p, "log_q": of_guide(data.units.coordinates(position)) - stretched}

        # Draw by draw, so that memory holds the rows once.
        return jax.lax.map(one, dict(draws))

    return densities


def _density_of(
    guide: Callable, model: Callable, params: Mapping, data: Data, latents: set[str]
) -> Callable[[Mapping], Any] | None:
    """Return the log density of a guide as a function of latent sites, or None if it is not known.

    Sites that the guide leaves to their priors have those of the model, given the others.
    """
    if isinstance(guide, WITHOUT_DENSITY):
        return None
    # An autoguide learns the model's sites from a first run.
    with handlers.seed(rng_seed=0), handlers.substitute(data=dict(params)), handlers.trace() as trace:
        guide(*data)
    if isinstance(guide, autoguide.AutoContinuous):
        distribution = guide.get_posterior(params)
        own = latents & guide.prototype_trace.keys()
        transforms = {name: biject_to(guide.prototype_trace[name]["fn"].support) for name in own}

        def density(draw: Mapping[str, Any]) -> Any:
            raw = {name: transforms[name].inv(draw[name]) for name in own}
            stretched = sum(transforms[name].log_abs_det_jacobian(raw[name], draw[name]).sum() for name in own)
            # NumPyro's diagonal normal has a density for each element.
            log_q = distribution.log_prob(ravel_pytree(raw)[0]).sum()
            return log_q - stretched + _of_priors(model, data, draw, latents - own)

        return density
    sampled = {name: site["fn"] for name, site in trace.items() if site["type"] == "sample"}
    if not sampled.keys() <= latents or any(map(_is_point, sampled.values())):
        return None

    def density_of_sites(draw: Mapping[str, Any]) -> Any:
        own = log_density(guide, data, {}, {**params, **draw})[0]
        return own + _of_priors(model, data, draw, latents - sampled.keys())

    return density_of_sites


def _is_point(distribution: Any) -> bool:
    while hasattr(distribution, "base_dist"):
        distribution = distribution.base_dist
    return isinstance(distribution, Delta)


def _of_priors(model: Callable, data: Data, draw: Mapping[str, Any], left: set[str]) -> Any:
    """Return the log density of some latent sites by their priors, given the others."""
    if not left:
        return 0.0
    with handlers.trace() as trace, handlers.substitute(data=dict(draw)):
        model(*data)
    total: Any = 0.0
    for name in left:
        density, scale = trace[name]["fn"].log_prob(trace[name]["value"]), trace[name]["scale"]
        total = total + (density if scale is None else scale * density).sum()
    return total
