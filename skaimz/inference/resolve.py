"""From the ``inference`` parameter of an estimator to checked settings."""

from typing import Any

import numpyro.infer
from numpyro.contrib import einstein
from numpyro.infer.mcmc import MCMCKernel

from skaimz.inference.protocol import Sampler
from skaimz.inference.recipes import refuse_what_is_no_recipe
from skaimz.inference.settings import MCMC, SVI, Auto
from skaimz.inference.stein import SteinVI

__all__ = ["resolve_inference"]

NAMED: dict[str, type[Auto | SVI | MCMC]] = {"auto": Auto, "svi": SVI, "mcmc": MCMC}


def resolve_inference(inference: Any) -> Auto | SVI | MCMC | Sampler:
    """Turn the ``inference`` parameter of an estimator into checked settings.

    Parameters
    ----------
    inference : {"auto", "svi", "mcmc"}, Auto, SVI, MCMC, Sampler, or NumPyro SVI, SteinVI or MCMC
        Ready NumPyro objects are read as recipes and left as they are, whether they have run or not: the fit begins
        anew. What they hold beside their settings is kept with the settings (``own_models``, ``own_arguments``), or
        refused.

    Returns
    -------
    Auto, SVI, MCMC or Sampler

    Raises
    ------
    ValueError, TypeError
        If it is none of these, or a setting in it is wrong.
    """
    if isinstance(inference, str) and inference in NAMED:
        inference = NAMED[inference]()
    refuse_what_is_no_recipe(inference)
    if isinstance(inference, numpyro.infer.SVI):
        settings = SVI(guide=inference.guide, optim=inference.optim, loss=inference.loss).checked()
        settings.own_arguments = tuple(inference.static_kwargs.items())
        return settings._holding([("The NumPyro SVI object", inference.model)], settings)
    if isinstance(inference, einstein.SteinVI):
        inference = SteinVI.of(inference)
    if isinstance(inference, numpyro.infer.MCMC):
        names = ("sampler", "num_warmup", "num_samples", "num_chains", "thinning", "chain_method")
        inference = MCMC(**{name: getattr(inference, name) for name in names})
    if isinstance(inference, Auto | SVI | MCMC):
        return inference.checked()
    if isinstance(inference, MCMCKernel):
        name = type(inference).__name__
        raise TypeError(
            f"`inference` is NumPyro's sampler {name}, which does not say how many draws to take: give "
            f"`skaimz.inference.MCMC({name}(kernel))`."
        )
    if isinstance(inference, Sampler) and not isinstance(inference, type):
        check = getattr(inference, "check", None)
        if check is not None:
            check()
        return inference
    raise ValueError(
        "`inference` must be 'auto', 'svi', 'mcmc', a skaimz.inference.Auto, SVI or MCMC, another object with the "
        f"method `sample` of skaimz.inference.Sampler, or a NumPyro SVI, SteinVI or MCMC object, got {inference!r}."
    )
