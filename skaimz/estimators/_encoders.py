"""Whether the guide of a fit draws the latent sites of new rows, and a warning where it cannot."""

from typing import Any

from skaimz import sampling
from skaimz.exceptions import OutputWarning, warn_user
from skaimz.kernels import ByValue

__all__ = ["encoder_for"]


def encoder_for(model: Any, job: sampling.Job, *, has_outcome: bool) -> sampling.Encoder | None:
    """Return the encoder that draws the latent sites of a job's rows, or None where they have their prior.

    Parameters
    ----------
    model : Model
    job : Job
    has_outcome : bool
        Whether the caller adds outcomes to the job.

    Warns
    -----
    OutputWarning
        If the guide computes these sites from the data of a row, and cannot for this call.
    """
    is_of_fit = model.result is not None and model.result.method == "svi"
    if model.guide is None or not is_of_fit or not job.spec.local_latents:
        return None
    encoder = sampling.encoder_of(ByValue.of(model.guide), job.traced, job.described()[0])
    if encoder is None:
        return None
    why = f"its rows may depend on one another: {encoder.mixing}" if encoder.mixing else None
    if encoder.needs_outcome and not has_outcome:
        why = "it needs the outcome, which this call does not have"
    if why is None:
        return encoder
    warn_user(
        f"Latent sites {list(encoder.sites)} of new rows are drawn from their prior, and not from the guide, because "
        f"{why}. Let the guide compute them from the inputs of a row alone, or take draws for "
        "the rows of the fit by `sample_posterior_predictive`.",
        OutputWarning,
    )
    return None
