"""Warnings and errors of skaimz. Each cause of a warning has a class of its own, by which it can be silenced.

All other errors are those of Python and scikit-learn: ``ValueError``, ``TypeError``, ``OSError`` and
:class:`sklearn.exceptions.NotFittedError`.
"""

import contextlib
import sys
import traceback
import warnings

from sklearn.exceptions import ConvergenceWarning

__all__ = [
    "CleanupWarning",
    "ConcreteKernelWarning",
    "DivergenceWarning",
    "EffectWarning",
    "EffectiveSampleSizeWarning",
    "FitWarning",
    "FixedSiteWarning",
    "GuideWarning",
    "HeldLatentWarning",
    "IncompleteDrawsError",
    "LocalGuideWarning",
    "MonteCarloWarning",
    "NoRowsError",
    "NonFiniteLossWarning",
    "OutputWarning",
    "PairingWarning",
    "PosteriorWarning",
    "RHatWarning",
    "RatioWarning",
    "RowsOfFitWarning",
    "SpeedWarning",
    "StateWarning",
    "StoppedFitWarning",
    "StuckChainWarning",
    "UnitsWarning",
    "UnknownLabelWarning",
    "UnreachedOutputWarning",
    "UnsettledGuideWarning",
]


class FitWarning(ConvergenceWarning):
    """A fit has ended, but its result may be wrong."""


class NonFiniteLossWarning(FitWarning):
    """The loss of a variational fit was infinite or not a number."""


class UnsettledGuideWarning(FitWarning):
    """The guide of a variational fit was still moving at its last steps."""


class GuideWarning(FitWarning):
    """The guide of a variational fit is far from the posterior: an importance check failed."""


class StoppedFitWarning(FitWarning):
    """A fit was stopped by its callback or its time budget before its last step."""


class StuckChainWarning(FitWarning):
    """A Markov chain never moved, or has draws that are not finite."""


class DivergenceWarning(FitWarning):
    """Some Hamiltonian trajectories diverged."""


class RHatWarning(FitWarning):
    """Chains disagree: the split r-hat of some latent exceeds 1.01."""


class EffectiveSampleSizeWarning(FitWarning):
    """The draws are so correlated that their effective number is small."""


class LocalGuideWarning(FitWarning):
    """A fit uses minibatches although its guide has parameters for each row."""


class CleanupWarning(UserWarning):
    """Temporary files with draws could not be removed."""


class OutputWarning(UserWarning):
    """A result differs from what the arguments of the call ask for."""


class MonteCarloWarning(OutputWarning):
    """Quantiles or probabilities are those of drawn outcomes, because no cdf of the outcome's distribution is known."""


class PosteriorWarning(OutputWarning):
    """Posterior draws that were passed do not match the latent sites of the kernel."""


class StateWarning(OutputWarning):
    """States of discrete latent sites were drawn: they could not be summed out, or are not those given the outcomes."""


class RowsOfFitWarning(OutputWarning):
    """The rows of the fit were passed, and taken for new rows, or in another order."""


class SpeedWarning(UserWarning):
    """A result is correct, but its computation was slower than usual."""


class ConcreteKernelWarning(SpeedWarning):
    """A kernel needs the values of its arguments while it is traced, so that programs serve these values alone."""


class EffectWarning(UserWarning):
    """An estimated effect may not be the intended one."""


class PairingWarning(EffectWarning):
    """Draws of a scenario and its baseline have different seeds, posteriors or groups, so that they are not paired."""


class RatioWarning(EffectWarning):
    """A ratio or a lift divides by averages that are not positive."""


class UnreachedOutputWarning(EffectWarning):
    """An intervention, a scenario or an input cannot change the output."""


class HeldLatentWarning(EffectWarning):
    """A latent site depends on an intervention, but its posterior draws were made without the intervention."""


class FixedSiteWarning(EffectWarning):
    """`condition` fixes a site, but the latent sites that the site depends on keep their distributions."""


class UnitsWarning(EffectWarning):
    """A scenario's value may be in other units than its column, which seems to be scaled."""


class UnknownLabelWarning(EffectWarning):
    """The steps of a Pipeline treat a label in a scenario as one that they do not know."""


class NoRowsError(ValueError):
    """An average cannot be computed because no rows are selected."""


class IncompleteDrawsError(RuntimeError):
    """Stored draws are incomplete."""


def warn_user(message: str, category: type[Warning]) -> None:
    """Issue a warning that refers to the user's line of code that called this package."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "skaimz":
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def let_go(error: BaseException) -> None:
    """Delete the local variables of functions of this package that have ended with an error.

    The traceback of an error keeps the local variables of all functions that it passed through. A notebook keeps the
    last error, and with it would keep all draws that an interrupted call had made. The lines of the traceback stay, and
    so do the variables of all other functions, such as the user's code, kernels and libraries, for debuggers to show.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_globals.get("__name__", "").partition(".")[0] == "skaimz":
            # Functions that still run, such as the caller of this one, keep their variables.
            with contextlib.suppress(RuntimeError):
                frame.clear()
