"""Contents of ready NumPyro objects beside their settings, and the contents that a fit refuses."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import numpyro.infer
from numpyro import handlers
from numpyro.infer.svi import SVIRunResult
from numpyro.primitives import Messenger

from skaimz.kernels import split_kernel

__all__ = ["OwnModel", "blocks_around", "refuse_other_models", "refuse_what_is_no_recipe", "rewrapped", "stand_in"]

# Description of the object that holds a model, and the model.
OwnModel = tuple[str, Any]


def stand_in(*args: Any, **kwargs: Any) -> None:
    """Stand in for a model where only settings are read."""


def blocks_around(model: Any) -> tuple[Any, tuple[Callable[[Any], bool], ...]]:
    """Return the model inside ``handlers.block`` and ``handlers.seed``, and what each block hides, outermost first.

    A seed decides only where the sites of a blocked model begin, and a fit has its own.
    """
    hidden = []
    while type(model) in (handlers.block, handlers.seed):
        if type(model) is handlers.block:
            hidden.append(model.hide_fn)
        model = model.fn
    return model, tuple(hidden)


def rewrapped(model: Callable, hidden: Iterable[Callable[[Any], bool]]) -> Callable:
    """Return a model inside blocks that hide the same sites as others; see :func:`blocks_around`."""
    for hide in reversed(tuple(hidden)):
        model = handlers.block(model, hide_fn=hide)
    return model


def refuse_other_models(models: Iterable[OwnModel], kernel: Callable) -> None:
    """Refuse ready objects of a model other than the estimator's kernel, which is the one that is fitted.

    Two models are the same if they differ in numeric hyperparameters alone. The fit uses those of the estimator's
    kernel.

    Raises
    ------
    ValueError
        If an object is of another model.
    """
    for holder, model in models:
        if model is None or model is stand_in:
            continue
        if split_kernel(model)[0] != split_kernel(kernel)[0]:
            raise ValueError(
                f"{holder} is built on {_described(model)}, which is not the estimator's kernel, {_described(kernel)}: "
                "the fit would follow the kernel and ignore that model. Give that model as `kernel`, or build the "
                "object on the kernel."
            )


def refuse_what_is_no_recipe(ready: Any) -> None:
    """Refuse NumPyro objects with contents that a fit would ignore.

    Raises
    ------
    ValueError
        If there are such contents; the message says what to write instead.
    """
    if isinstance(ready, SVIRunResult):
        raise ValueError(
            "`inference` is a finished SVIRunResult, which does not know its guide: give "
            "`inference=skaimz.inference.SVI(guide=guide, init_params=result.params)` to go on from its parameters, "
            "with `num_steps=0` to draw from the guide as it is."
        )
    if not isinstance(ready, numpyro.infer.MCMC):
        return
    if ready.postprocess_fn is not None:
        raise ValueError(
            "The NumPyro MCMC object has a `postprocess_fn`, which would replace the values of the kernel's latent "
            "sites. Leave it out, and write what it computes into the kernel as `numpyro.deterministic` sites."
        )
    if ready.post_warmup_state is not None:
        raise ValueError(
            "The NumPyro MCMC object has a `post_warmup_state`, from which it would go on without adaptation. A fit "
            "begins anew: set `mcmc.post_warmup_state = None`, and give `skaimz.inference.MCMC(init_params=...)` to "
            "choose where chains begin, or give the object as `posterior` after its `run` to take its draws."
        )


def _described(model: Any) -> str:
    if isinstance(model, Messenger):
        return f"`handlers.{type(model).__name__}` of {_described(model.fn)}"
    if isinstance(model, functools.partial):
        return f"a partial of {_described(model.func)}"
    name = getattr(model, "__name__", None)
    return f"`{name}`" if isinstance(name, str) else f"an object of class {type(model).__name__}"
