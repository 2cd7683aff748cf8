"""Whether an inference can go on with further rows."""

from typing import Any

from skaimz.inference import SVI, resolve_inference
from skaimz.kernels import freeze

__all__ = ["check_continuation", "learns_in_parts"]


def learns_in_parts(model: Any) -> bool:
    """Whether the estimator has a method ``partial_fit``; the reason where not is an error."""
    if not isinstance(resolve_inference(model.inference), SVI):
        raise ValueError("`partial_fit` needs variational inference: `inference='svi'` or an SVI object.")
    return True


def check_continuation(model: Any) -> None:
    """Refuse ``partial_fit`` where there is nothing to go on with, or not in the way in which it was begun."""
    if model.posterior is not None:
        raise ValueError("`partial_fit` infers a posterior, and cannot where draws are given as `posterior`.")
    if not hasattr(model, "posterior_"):
        return
    result = getattr(model, "fit_result_", None)
    if result is None or not result.state:
        raise ValueError(
            "`partial_fit` needs an inference state to go on with, and these posterior draws were made elsewhere. Call "
            "`fit` to start afresh."
        )
    changed = _changed(model)
    if changed is not None:
        raise ValueError(
            f"`partial_fit` cannot go on with another {changed} than that of the fit. Call `fit` to start afresh."
        )


def _changed(model: Any) -> str | None:
    """Return what is not as it was when the inference began; its pace and its number of draws may differ."""
    is_default = isinstance(model.kernel_, model._default_kernel)
    if (model.kernel is None) != is_default or not (is_default or freeze(model.kernel) == freeze(model.kernel_)):
        return "kernel"
    settings, before = resolve_inference(model.inference), model.inference_
    if type(settings) is not type(before):
        return "kind of inference"
    names = {"guide": "guide", "optim": "optimiser"}
    return next((what for name, what in names.items() if _frozen(settings, name) != _frozen(before, name)), None)


def _frozen(settings: Any, name: str) -> Any:
    return freeze(getattr(settings, name))
