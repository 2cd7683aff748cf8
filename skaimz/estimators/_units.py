"""Scenarios that may be stated in other units than those of their columns."""

from typing import Any

import numpy as np
import pandas as pd

from skaimz.estimators._model import Call
from skaimz.exceptions import UnitsWarning, warn_user
from skaimz.kernels import numbers_in, plain_array

__all__ = ["warn_of_units"]

# A value that is further outside of the present ones than so many times their range may have other units.
FAR = 10.0
# Rounding errors of a mean of 0 and a standard deviation of 1, in units of the type's precision.
ROUNDING = 1e3
# Fewer values may have any mean and standard deviation by chance.
FEWEST = 5


def warn_of_units(call: Call, column: Any, value: Any) -> None:
    """Warn of new values of a column that seems to be scaled, or from whose present values they are very far.

    A function of the present values has their units, and labels have none. Rows that are read in parts are not
    examined.

    Parameters
    ----------
    call : Call
    column : str or int
    value : array-like or callable
        What a scenario sets the column to.
    """
    in_memory = isinstance(call.source, np.ndarray | pd.DataFrame) and not isinstance(call.source, np.memmap)
    if callable(value) or not in_memory or call.part is not None or call.columns.categories_of(column) is not None:
        return
    new, present = numbers_in(plain_array(value)), call.columns.values(column)
    if new is None or present.dtype.kind not in "iuf" or len(present) < FEWEST:
        return
    remedy = "State scenarios in the units before the steps of a Pipeline by `skaimz.pipeline.estimate_effect`"
    if present.dtype.kind == "f":
        mean, deviation = present.mean(dtype=np.float64), present.std(dtype=np.float64)
        if max(abs(mean), abs(deviation - 1)) < ROUNDING * np.finfo(present.dtype).eps:
            warn_user(
                f"A scenario gives column {column!r} values, but the column is scaled: its mean is 0 and its standard "
                f"deviation 1, so that the values count in standard deviations. {remedy}. If you mean standard "
                "deviations, give a function of the present values, such as `lambda z: z + 1`.",
                UnitsWarning,
            )
            return
    least, greatest = float(np.min(present)), float(np.max(present))
    width = greatest - least
    beyond = (new < least - FAR * width) | (new > greatest + FAR * width)
    if width > 0 and beyond.any():
        warn_user(
            f"A scenario gives column {column!r} the value {new[beyond].flat[0]}, very far from its values in X, which "
            f"are between {least:.6g} and {greatest:.6g}: they may have other units. {remedy}.",
            UnitsWarning,
        )
