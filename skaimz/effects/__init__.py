"""Effects: contrasts between scenarios, for rows or averaged over them, with their uncertainty."""

from skaimz.effects.contrasts import Contrast, resolve_contrast
from skaimz.effects.draws import effects_of_draws
from skaimz.effects.estimate import (
    AveragedRows,
    Comparisons,
    contrasts_of,
    is_unchanged,
    row_contrasts,
    warn_of_unreached,
)
from skaimz.effects.join import joined
from skaimz.effects.tree import EffectTree

__all__ = [
    "AveragedRows",
    "Comparisons",
    "Contrast",
    "EffectTree",
    "contrasts_of",
    "effects_of_draws",
    "is_unchanged",
    "joined",
    "resolve_contrast",
    "row_contrasts",
    "warn_of_unreached",
]
