"""How values of a column are compared with categories."""

from typing import Any

import numpy as np
import pandas as pd

from skaimz.kernels import numbers_in

__all__ = ["ROUNDING", "comparable", "countable", "places"]

# Part of a step that is rounding, where levels follow one another in regular steps.
ROUNDING = 1e-3


def countable(array: np.ndarray) -> np.ndarray | None:
    """Return numbers, with 0 and 1 for booleans; None for other values."""
    numbers = numbers_in(array)
    return numbers if numbers is None or numbers.dtype.kind != "b" else numbers.astype(np.int64)


def comparable(array: np.ndarray) -> Any:
    """Return a column's values as they are compared with categories."""
    numbers = countable(array)
    return pd.Series(array).infer_objects() if numbers is None else pd.Series(numbers)


def places(categories: Any, values: Any, *, rounded: bool = False) -> np.ndarray:
    """Return the places of values among categories, -1 where there is none.

    Parameters
    ----------
    categories, values : array or Series
    rounded : bool, default=False
        Whether fractions are compared up to rounding, as far as it tells apart all categories.
    """
    index = pd.Index(categories)
    if rounded and index.dtype.kind == "f" and len(index) > 1 and index.is_monotonic_increasing:
        return index.get_indexer(pd.Index(values), method="nearest", tolerance=ROUNDING * float(np.diff(index).min()))
    return index.get_indexer(pd.Index(values))
