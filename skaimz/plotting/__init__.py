"""Pictures, in scikit-learn's form: matplotlib is imported when one is drawn."""

from skaimz.plotting.effect import EffectDisplay

__all__ = ["EffectDisplay"]
