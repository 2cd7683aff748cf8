"""Warnings of skaimz, one class a cause, so that each can be silenced alone, and the errors of its own.

All other errors are Python's and scikit-learn's: ``ValueError``, ``TypeError``, ``OSError`` and
:class:`sklearn.exceptions.NotFittedError`.
"""

import contextlib
import sys
import traceback
import warnings

from sklearn.exceptions import ConvergenceWarning

__all__ = [
    "CleanupWarning",
    "DivergenceWarning",
    "EffectWarning",
    "EffectiveSampleSizeWarning",
    "FitWarning",
    "FixedSiteWarning",
    "GuideWarning",
    "HeldLatentWarning",
    "IncompleteDrawsError",
    "LocalGuideWarning",
    "NoRowsError",
    "NonFiniteLossWarning",
    "OutputWarning",
    "PairingWarning",
    "PosteriorWarning",
    "RHatWarning",
    "RatioWarning",
    "SpeedWarning",
    "StoppedFitWarning",
    "StuckChainWarning",
    "UnreachedOutputWarning",
    "UnsettledGuideWarning",
]


class FitWarning(ConvergenceWarning):
    """A fit ended, but its result should not be trusted as it is."""


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
    """Draws are so correlated that few of them count."""


class LocalGuideWarning(FitWarning):
    """Minibatches are used with a guide that has parameters for each row."""


class CleanupWarning(UserWarning):
    """Draws that were stored for the time of a process could not be removed."""


class OutputWarning(UserWarning):
    """What is returned is not quite what was asked for."""


class PosteriorWarning(OutputWarning):
    """Injected draws and the kernel's latent sites do not match."""


class SpeedWarning(UserWarning):
    """The answer is right, but a slower way had to be taken."""


class EffectWarning(UserWarning):
    """An effect may not be what it was meant to be."""


class PairingWarning(EffectWarning):
    """Draws of a scenario and of its baseline do not belong together."""


class RatioWarning(EffectWarning):
    """A ratio, or a lift, is to averages that are not positive."""


class UnreachedOutputWarning(EffectWarning):
    """An intervention, a scenario or an input cannot change the output."""


class HeldLatentWarning(EffectWarning):
    """A latent site that depends on an intervention keeps posterior draws that were made without it."""


class FixedSiteWarning(EffectWarning):
    """A site is fixed by `condition`, and latent sites that it depends on keep their distributions."""


class NoRowsError(ValueError):
    """An average was asked for over rows of which there are none."""


class IncompleteDrawsError(RuntimeError):
    """Stored draws were not written to the end."""


def warn_user(message: str, category: type[Warning]) -> None:
    """Warn at the line outside this package that led here, however deep inside the cause was found."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "skaimz":
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def let_go(error: BaseException) -> None:
    """Let go of what functions of this package held when they were left by an error.

    Who keeps the error, as notebooks do with the last one, would keep all draws that a call had made so far.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_globals.get("__name__", "").partition(".")[0] == "skaimz":
            # Those that are still running are not left yet.
            with contextlib.suppress(RuntimeError):
                frame.clear()
