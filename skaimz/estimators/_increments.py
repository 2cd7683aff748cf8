"""Whether an inference can go on with further rows."""

from typing import Any

from skaimz.inference import SVI, resolve_inference
from skaimz.kernels import freeze

__all__ = ["check_continuation"]


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
    if not isinstance(settings, SVI):
        return None  # refused in any case
    if not isinstance(before, SVI):
        return "kind of inference"
    if freeze(settings.guide) != freeze(before.guide):
        return "guide"
    return None if freeze(settings.optim) == freeze(before.optim) else "optimiser"
