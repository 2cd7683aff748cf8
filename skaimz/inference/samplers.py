"""NumPyro's samplers as recipes: the settings of a sampler with another model, and without its past."""

import copy
import functools
from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpyro.infer
from numpyro.infer.gibbs import Gibbs
from numpyro.infer.mcmc import MCMCKernel

from skaimz.inference.precision import in_precision, start_in_precision
from skaimz.inference.recipes import stand_in

__all__ = [
    "SAMPLERS",
    "check_number_of_chains",
    "check_ready",
    "draws_discrete",
    "own_model",
    "parts_of",
    "sampler_in_precision",
    "with_model",
]

SAMPLERS: dict[str, type[MCMCKernel]] = {
    "nuts": numpyro.infer.NUTS,
    "hmc": numpyro.infer.HMC,
    "sa": numpyro.infer.SA,
    "barker": numpyro.infer.BarkerMH,
    "aies": numpyro.infer.AIES,
    "ess": numpyro.infer.ESS,
}
# Samplers that need a gradient, or move through a continuous space.
CONTINUOUS = (numpyro.infer.HMC, numpyro.infer.SA, numpyro.infer.BarkerMH, numpyro.infer.AIES, numpyro.infer.ESS)
# Moves of ensembles that need two chains in the other half.
PAIRED = frozenset({"make_de_move", "make_differential_move"})
# Attributes that samplers set when they are initialised. They must exist before.
LEARNED = frozenset(
    """
    _init_fn _sample_fn _potential_fn _potential_fn_gen _postprocess_fn _inv_transforms _dynamic_support
    _batch_log_density _num_chains _support_sizes_flat _subsample_plate_sizes _gibbs_update _prepared_model
    """.split()
)
# Attributes that samplers add when they are initialised.
ADDED = frozenset({"_num_warmup", "_wa_update", "batch_log_density"})


def draws_discrete(sampler: MCMCKernel, names: Collection[str]) -> bool:
    """Whether a sampler draws discrete sites itself, rather than moving through the density without them."""
    if isinstance(sampler, numpyro.infer.HMCGibbs) and not isinstance(sampler, numpyro.infer.DiscreteHMCGibbs):
        return any(name in names for name in sampler._gibbs_sites or ())
    return not isinstance(sampler, CONTINUOUS)


def own_model(sampler: MCMCKernel) -> Any:
    """Return the model of a sampler; None for a sampler of some other density."""
    model: Any = getattr(sampler, "model", None)
    while _is_wrapped(model):
        model = model.args[0]
    return model


def check_ready(sampler: MCMCKernel, num_chains: int) -> None:
    """Refuse a ready sampler that holds what a fit would ignore.

    Raises
    ------
    ValueError
        If it has a potential instead of a model, or was initialised for another number of chains and cannot be
        used for ``num_chains``.
    """
    name = type(sampler).__name__
    if own_model(sampler) is None:
        raise ValueError(
            f"MCMC: the sampler {name} has no model but a density of its own, such as `potential_fn`, which says "
            f"nothing of the kernel's sites. Build it on the kernel, as in `{name}(kernel)`, or give its draws as "
            "`posterior`."
        )
    if own_model(with_model(sampler, stand_in)) is not stand_in:
        raise ValueError(
            f"MCMC: the sampler {name} cannot be given another model. Let it keep its model as `_model`, as NumPyro's "
            "samplers do, or implement `wrap_model`."
        )
    initialised = getattr(sampler, "_num_chains", None)
    if sampler.is_ensemble_kernel and initialised not in (None, num_chains):
        raise ValueError(
            f"MCMC: the sampler {name} has run with {initialised} chains, which its moves remember, but there are "
            f"`num_chains`={num_chains}. Give a new sampler, or as many chains."
        )


def check_number_of_chains(sampler: MCMCKernel, num_chains: int) -> None:
    """Refuse an ensemble of too few chains, or of an odd number."""
    if not sampler.is_ensemble_kernel:
        return
    if num_chains % 2:
        raise ValueError(f"MCMC: an ensemble needs an even number of chains, got `num_chains`={num_chains}.")
    moves = {move.__name__ for move in getattr(sampler, "_moves", ())}
    if num_chains < 4 and moves & PAIRED:
        raise ValueError(
            f"MCMC: the sampler {type(sampler).__name__} moves along the difference of two chains of the other half of "
            f"its ensemble, and needs at least 4 chains, got `num_chains`={num_chains}."
        )


def with_model(sampler: MCMCKernel, model: Callable) -> MCMCKernel:
    """Return a sampler of a model with the settings of another sampler, and without its past.

    Parameters
    ----------
    sampler : MCMCKernel
    model : callable

    Returns
    -------
    MCMCKernel
    """
    bound: Any
    try:
        bound = sampler.wrap_model(lambda old: _replaced(old, model))
    except NotImplementedError:
        bound = copy.copy(sampler)
        bound._model = model
    if isinstance(bound, Gibbs) and hasattr(bound, "inner_kernel"):
        bound.inner_kernel = bound.blocks[-1][0]
    if any(isinstance(part, numpyro.infer.HMCECS) for part in parts_of(bound)):
        # Its handler of the likelihood changes in a fit, and would be shared.
        bound = copy.deepcopy(bound)
    for part in parts_of(bound):
        if getattr(part, "model", None) is not None:
            _forget(part)
    return bound


def sampler_in_precision(sampler: MCMCKernel) -> MCMCKernel:
    """Bring the arrays of a sampler that :func:`with_model` returned to JAX's current precision."""
    for part in parts_of(sampler):
        for name, value in vars(part).items():
            change = start_in_precision if name == "_init_strategy" else in_precision
            setattr(part, name, change(value))
    return sampler


def _is_wrapped(model: Any) -> bool:
    """Whether a model is one within NumPyro's own functions, by which samplers of several blocks condition it."""
    module = getattr(model.func, "__module__", None) if isinstance(model, functools.partial) else None
    return str(module).startswith("numpyro.infer.")


def _replaced(old: Any, model: Callable) -> Callable:
    if not _is_wrapped(old):
        return model
    return functools.partial(old.func, _replaced(old.args[0], model), *old.args[1:], **old.keywords)


def parts_of(sampler: Any) -> Iterator[Any]:
    """Yield a sampler and the samplers inside it; nothing for what is no sampler of NumPyro's."""
    if not isinstance(sampler, MCMCKernel):
        return
    yield sampler
    for value in vars(sampler).values():
        for part in value if isinstance(value, tuple) else (value,):
            yield from parts_of(part)


def _forget(sampler: Any) -> None:
    attributes = vars(sampler)
    if isinstance(sampler, numpyro.infer.MixedHMC):
        sizes = sampler._support_sizes_flat
        if sizes is not None and sampler._num_discrete_updates == len(sizes):
            # The default, which is one update for each discrete value of the data that the sampler has met.
            sampler._num_discrete_updates = None
    if isinstance(sampler, numpyro.infer.MixedHMC | numpyro.infer.HMCECS):
        sampler._gibbs_sites = ()
    if isinstance(sampler, numpyro.infer.HMCECS):
        estimator = sampler._estimator
        estimator.method = estimator.params = estimator.gibbs_state = None
        estimator.likelihoods, estimator.subsample_plates = {}, {}
    for name in LEARNED & attributes.keys():
        attributes[name] = None
    for name in ADDED & attributes.keys():
        del attributes[name]
