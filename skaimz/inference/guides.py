"""Guides: NumPyro's own and users', read as recipes, bound to a kernel, and drawn from."""

import copy
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers
from numpyro.infer import autoguide

from skaimz.inference.data import Data, weighted_guide, weighted_model, whitened_model
from skaimz.inference.precision import start_in_precision
from skaimz.inference.recipes import OwnModel, blocks_around, rewrapped, stand_in
from skaimz.kernels import TracedKernel, restored_leaf

__all__ = [
    "CORRELATED",
    "GUIDES",
    "blank_guide",
    "check_kind",
    "draws_of",
    "guide_function",
    "is_autoguide",
    "kind_of",
    "leaves_sites",
    "make_guide",
    "match_params",
    "models_of",
    "needs_data",
    "refuse_left",
]

GUIDES: dict[str, type[autoguide.AutoGuide]] = {
    "auto_normal": autoguide.AutoNormal,
    "auto_diagonal_normal": autoguide.AutoDiagonalNormal,
    "auto_multivariate_normal": autoguide.AutoMultivariateNormal,
    "auto_lowrank": autoguide.AutoLowRankMultivariateNormal,
    "auto_laplace": autoguide.AutoLaplaceApproximation,
    "auto_delta": autoguide.AutoDelta,
    "auto_iaf": autoguide.AutoIAFNormal,
    "auto_bnaf": autoguide.AutoBNAFNormal,
}
# Guides with correlated coordinates.
CORRELATED = (
    autoguide.AutoMultivariateNormal,
    autoguide.AutoLaplaceApproximation,
    autoguide.AutoIAFNormal,
    autoguide.AutoBNAFNormal,
)
# Guides whose first spread can be set.
WITH_SCALE = (
    autoguide.AutoNormal,
    autoguide.AutoDiagonalNormal,
    autoguide.AutoMultivariateNormal,
    autoguide.AutoLowRankMultivariateNormal,
)
# These guides look at the data again when they are drawn from.
WITH_DATA = (
    autoguide.AutoLaplaceApproximation,
    autoguide.AutoDAIS,
    autoguide.AutoSemiDAIS,
)
# These are made of more than a model.
WITH_PARTS = (
    autoguide.AutoGuideList,
    autoguide.AutoSemiDAIS,
    autoguide.AutoSurrogateLikelihoodDAIS,
)
# Folded into the key of draws from priors.
LEFT = 2**32 - 1
# Attributes that autoguides fill when they first run, and those that they add.
FILLED = frozenset("_prototype_frames _prototype_frame_full_sizes _event_dims _cond_indep_stacks plates".split())
ADDED = frozenset(
    """
    _init_locs _loss_fn _potential_fn_gen _potential_fn _postprocess_fn _prototype_plate_sizes _init_latent
    _unpack_latent latent_dim _pack_local_latent _unpack_local_latent _local_latent_dim _local_plate
    prototype_local_guide_trace prototype_local_model_trace _surrogate_potential_fn _surrogate_prototype_trace
    """.split()
)


def kind_of(guide: Any) -> type:
    """Return the class of a guide, or the guide itself if it is a class."""
    return guide if isinstance(guide, type) else type(guide)


def is_autoguide(guide: Any) -> bool:
    """Whether a guide is one of NumPyro's, or the class of one."""
    return issubclass(kind_of(guide), autoguide.AutoGuide)


def guide_function(settings: Any) -> Callable | None:
    """Return the guide of a variational fit, if it is a function that its user wrote."""
    guide = getattr(settings, "guide", None)
    return None if guide is None or is_autoguide(guide) else guide


def needs_data(guide: Any) -> bool:
    """Whether drawing from a guide needs rows: for the guide itself, or for the priors of sites that it leaves out."""
    return not is_autoguide(guide) or issubclass(kind_of(guide), WITH_DATA) or leaves_sites(guide)


def leaves_sites(guide: Any) -> bool:
    """Whether an autoguide may cover only some sites of its model and leave the others to their priors."""
    return isinstance(guide, autoguide.AutoGuideList) or (
        isinstance(guide, autoguide.AutoGuide) and bool(blocks_around(guide.model)[1])
    )


def check_kind(guide: Any) -> None:
    """Refuse objects that are no guides, and classes of guides that cannot be made from a model alone."""
    if not callable(guide):
        raise TypeError(f"SVI: `guide` must be a name, an autoguide or a function, got {guide!r}.")
    if isinstance(guide, type) and issubclass(guide, WITH_PARTS):
        raise TypeError(
            f"SVI: {guide.__name__} is made of more than a model: give an object of it as `guide`, not its class."
        )
    if isinstance(guide, autoguide.AutoGuideList) and not len(guide):
        raise TypeError("SVI: an AutoGuideList without parts guides nothing: `append` a guide of each latent site.")


def models_of(guide: Any) -> list[OwnModel]:
    """Return the models that a guide and its parts were given, without blocks around them."""
    if not isinstance(guide, autoguide.AutoGuide):
        return []
    own = [(f"The guide {type(guide).__name__}", blocks_around(guide.model)[0])]
    parts = guide if isinstance(guide, autoguide.AutoGuideList) else ()
    return own + [each for part in parts for each in models_of(part)]


def blank_guide(guide: autoguide.AutoGuide) -> autoguide.AutoGuide:
    """Copy an autoguide as it was before it first ran.

    Of its model, only the blocks around it are kept.
    """
    blank = copy.copy(guide)
    attributes = vars(blank)
    for name in FILLED & attributes.keys():
        attributes[name] = {}
    for name in ADDED & attributes.keys():
        del attributes[name]
    hidden = blocks_around(guide.model)[1]
    blank.model = rewrapped(stand_in, hidden) if hidden else None
    blank.prototype_trace = None
    if isinstance(blank, autoguide.AutoGuideList):
        blank._guides = [blank_guide(part) if isinstance(part, autoguide.AutoGuide) else part for part in guide]
    if isinstance(blank, autoguide.AutoSemiDAIS) and isinstance(blank.global_guide, autoguide.AutoGuide):
        blank.global_guide = blank_guide(blank.global_guide)
        # Its model is a part of the kernel, and is run as it is.
        blank.global_guide.model = guide.global_guide.model
    return blank


def make_guide(
    setting: Any, traced: TracedKernel, whitened: bool, present: Any = None
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the model of ``Data``'s fields that is fitted, and the guide that a setting describes.

    A ``whitened`` model has coordinates in the data's units for its latent sites; see :func:`whitened_model`.
    """
    model = weighted_model(traced, present)
    if not traced.spec.latents:
        return model, _nothing_latent
    if whitened:
        # A point estimate is the mode of the kernel's own density, whatever the coordinates.
        model = whitened_model(traced, present, jacobian=setting is not autoguide.AutoDelta)
        options = {"init_scale": 1.0} if issubclass(setting, WITH_SCALE) else {}
        return model, setting(model, init_loc_fn=functools.partial(_at_zero), **options)
    if isinstance(setting, type):
        return model, setting(model)
    return model, _bound(setting, model, traced, present)


def draws_of(
    fitted: tuple[Callable, Callable],
    traced: TracedKernel,
    params: Mapping[str, Any],
    data: Data,
    key: Any,
    num_samples: int,
) -> dict[str, Any]:
    """Return draws ``(num_samples, ...)`` of the latent sites, by a model and its guide.

    Sites that the guide leaves to their priors are drawn from these, given the others, as NumPyro's losses do.
    """
    model, guide = fitted
    latents = [site.name for site in traced.spec.latents]
    own = _own_draws(guide, params, data, key, num_samples)
    draws = {name: own[name] for name in latents if name in own}
    left = [name for name in latents if name not in draws]
    if not left:
        return draws

    def rest(key: Any, draw: Mapping[str, Any]) -> dict[str, Any]:
        values = {**params, **draw}
        with handlers.trace() as trace, handlers.seed(rng_seed=key), handlers.substitute(data=values):
            model(*data)
        return {name: trace[name]["value"] for name in left}

    keys = jax.random.split(jax.random.fold_in(key, LEFT), num_samples)
    return draws | jax.vmap(rest)(keys, draws)


def match_params(start: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters to start from in the precision of a fit's own.

    Raises
    ------
    ValueError
        If there is none of a name, or it has another shape.
    """
    unknown = sorted(start.keys() - own.keys())
    if unknown:
        raise ValueError(
            f"SVI: `init_params` has {unknown}, but the parameters of the guide and the kernel are {sorted(own)}."
        )
    matched = {}
    structure: Any
    needed: Any
    for name, value in start.items():
        leaves, structure = jax.tree.flatten(value)
        likes, needed = jax.tree.flatten(own[name])
        if structure == needed:
            leaves = [restored_leaf(leaf, like.dtype) for leaf, like in zip(leaves, likes, strict=True)]
        shapes = [
            jax.tree.unflatten(needed, map(jnp.shape, likes)),
            jax.tree.unflatten(structure, map(jnp.shape, leaves)),
        ]
        if structure != needed or list(map(jnp.shape, leaves)) != list(map(jnp.shape, likes)):
            raise ValueError(
                f"SVI: the parameter {name!r} of `init_params` has the shape {shapes[1]}, but that of the fit has "
                f"{shapes[0]}."
            )
        matched[name] = jax.tree.unflatten(needed, map(_as_like, leaves, likes))
    return matched


def _as_like(leaf: Any, like: Any) -> Any:
    """Return an array in the type of another."""
    return leaf if jax.dtypes.issubdtype(like.dtype, jax.dtypes.extended) else jnp.asarray(leaf, like.dtype)


def refuse_left(guide: Callable, traced: TracedKernel, data: Data, sums_out: bool) -> None:
    """Refuse a guide that leaves latent sites to priors which say nothing of their posterior.

    Parameters
    ----------
    guide : callable
        As returned by :func:`make_guide`.
    traced : TracedKernel
    data : Data
    sums_out : bool
        Whether the loss sums discrete sites out.

    Raises
    ------
    ValueError
        If such a prior is improper, or the loss sums the site out.
    """
    improper = traced.spec.improper_latents
    discrete = [site.name for site in traced.spec.latents if not np.issubdtype(site.dtype, np.floating)]
    if not improper and not (sums_out and discrete):
        return
    with handlers.block(), handlers.trace() as trace, handlers.seed(rng_seed=0):
        guide(*data)
    for names, why, remedy in (
        (improper, "are improper and cannot be drawn from", "give them a proper prior"),
        (discrete if sums_out else (), "are not their posterior, because the loss sums them out", "use another loss"),
    ):
        left = [name for name in names if name not in trace]
        if left:
            raise ValueError(
                f"SVI: the guide leaves {left} to their priors, which {why}. Draw these sites in the guide, or "
                f"{remedy}."
            )


def _bound(setting: Any, model: Callable, traced: TracedKernel, present: Any) -> Callable[..., Any]:
    """Return the guide that a blank one or a function describes, for a model of ``Data``'s fields."""
    if not isinstance(setting, autoguide.AutoGuide):
        return weighted_guide(setting, traced, present)
    guide = copy.deepcopy(setting)
    if hasattr(guide, "init_loc_fn"):
        guide.init_loc_fn = start_in_precision(guide.init_loc_fn)
    guide.model = rewrapped(model, blocks_around(setting.model)[1])
    if isinstance(guide, autoguide.AutoGuideList):
        guide._guides = [_bound(part, model, traced, present) for part in setting]
    if isinstance(guide, autoguide.AutoSemiDAIS):
        if guide.global_guide is None:
            # The local functions then have the kernel's arguments.
            guide.local_model = weighted_guide(guide.local_model, traced, present)
            if guide.local_guide is not None:
                guide.local_guide = weighted_guide(guide.local_guide, traced, present)
        else:
            guide.global_guide.model = weighted_guide(guide.global_guide.model, traced, present)
    return guide


def _own_draws(guide: Callable, params: Mapping, data: Data, key: Any, num_samples: int) -> dict[str, Any]:
    if isinstance(guide, autoguide.AutoGuideList):
        keys = jax.random.split(key, len(guide))
        parts = (_own_draws(part, params, data, key, num_samples) for part, key in zip(guide, keys, strict=True))
        return {name: value for part in parts for name, value in part.items()}
    if isinstance(guide, autoguide.AutoGuide):
        # NumPyro's distributions promote ranks here, which JAX may have been told to refuse.
        with jax.numpy_rank_promotion("allow"):
            return guide.sample_posterior(key, params, *data, sample_shape=(num_samples,))

    def one(key: Any) -> dict[str, Any]:
        with handlers.trace() as trace, handlers.seed(rng_seed=key), handlers.substitute(data=params):
            guide(*data)
        return {name: site["value"] for name, site in trace.items() if site["type"] == "sample"}

    return jax.vmap(one)(jax.random.split(key, num_samples))


def _at_zero(site: dict[str, Any]) -> Any:
    """Start a guide at the middle of its units."""
    return jnp.zeros(site["fn"].shape()) if site["type"] == "sample" and not site["is_observed"] else None


def _nothing_latent(*data: Any) -> None:
    """Guide a kernel that has parameters alone."""
