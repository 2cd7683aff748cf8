"""Types in the signatures of displays, for type checkers: matplotlib is optional, and is not imported for them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import jax
    from matplotlib.axes import Axes

    AxesLike: TypeAlias = Axes | Sequence[Axes] | np.ndarray
    RandomState: TypeAlias = int | np.random.RandomState | jax.Array | None

__all__ = ["Axes", "AxesLike", "RandomState"]
