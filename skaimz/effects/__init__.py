"""What scenarios change: contrasts of expected outcomes, averaged over rows, with their uncertainty."""

from skaimz.effects.contrasts import resolve_contrast
from skaimz.effects.draws import effects_of_draws
from skaimz.effects.estimate import Target, contrasts_of, row_contrasts
from skaimz.effects.tree import EffectTree

__all__ = [
    "EffectTree",
    "Target",
    "contrasts_of",
    "effects_of_draws",
    "resolve_contrast",
    "row_contrasts",
]
