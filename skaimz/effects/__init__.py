"""Effects: contrasts between scenarios, for rows or averaged over them, with their uncertainty."""

from skaimz.effects.contrasts import Contrast, resolve_contrast
from skaimz.effects.draws import effects_of_draws
from skaimz.effects.estimate import (
    Comparisons,
    Target,
    contrasts_of,
    is_nothing,
    row_contrasts,
    warn_of_unreached,
)
from skaimz.effects.join import joined
from skaimz.effects.tree import EffectTree

__all__ = [
    "Comparisons",
    "Contrast",
    "EffectTree",
    "Target",
    "contrasts_of",
    "effects_of_draws",
    "is_nothing",
    "joined",
    "resolve_contrast",
    "row_contrasts",
    "warn_of_unreached",
]
