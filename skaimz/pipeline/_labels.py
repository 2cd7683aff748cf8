"""Labels in scenarios that the steps of a Pipeline do not know."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from skaimz.exceptions import UnknownLabelWarning, warn_user
from skaimz.kernels import numbers_in
from skaimz.pipeline._steps import Steps
from skaimz.pipeline._table import Table

__all__ = ["warn_of_unknown_labels"]

# A text that no column has.
NOBODYS = "a label that is in no data\0"
# Numbers that no row has are so far below and above those of the column, and never symmetric around zero.
BELOW, ABOVE = 2.0**31, 2.0**33
# Looking at more would cost more than it tells.
MOST_LABELS = 20


def warn_of_unknown_labels(steps: Steps, table: Table, new: Mapping[Any, np.ndarray]) -> None:
    """Warn of labels in a scenario that the steps treat like a label that is in no data, as encoders do on request.

    Only labels that the column does not have are tried. An encoder that refuses unknown labels needs no warning. A
    number is a label where the steps make the same of a very small and a very large number that no row has.
    """
    for column, values in new.items():
        if values.dtype.kind in "mM":
            continue
        found, present = numbers_in(values), table.columns.values(column)
        labels = pd.unique(values[~pd.isna(values)] if found is None else found[~np.isnan(found)])
        absent = labels[~pd.Index(labels).isin(present)]
        if not len(absent):
            continue
        nobodys = [NOBODYS] if found is None else _numbers_of_nobody(present)
        unknown, *others = (_first_row(steps, table, column, each) for each in nobodys)
        if unknown is None or not all(_are_equal(unknown, other) for other in others):
            continue
        # Steps that leave a column of numbers out make the same of all numbers.
        if found is not None and _are_equal(unknown, _first_row(steps, table, column, None)):
            continue
        for label in absent[:MOST_LABELS]:
            if _are_equal(unknown, _first_row(steps, table, column, label)):
                shown = [str(each) for each in _sorted(pd.unique(present))[:MOST_LABELS]]
                warn_user(
                    f"A scenario gives column {column!r} the label {str(label)!r}, which no row has, and which the "
                    "steps of the Pipeline treat as they treat labels that they do not know. The scenario is then one "
                    f"of no label. The rows have {shown}.",
                    UnknownLabelWarning,
                )


def _numbers_of_nobody(present: np.ndarray) -> list[float]:
    """Return a number far below and one far above those of a column and zero."""
    numbers = numbers_in(present)
    finite = np.zeros(1) if numbers is None else np.append(numbers[np.isfinite(numbers)], 0.0)
    lowest, highest = float(finite.min()), float(finite.max())
    return [lowest - max(BELOW, abs(lowest)), highest + max(ABOVE, 4 * abs(highest))]


def _sorted(labels: np.ndarray) -> list:
    try:
        return sorted(labels)
    except TypeError:
        return sorted(map(str, labels))


def _are_equal(row: np.ndarray, other: np.ndarray | None) -> bool:
    return other is not None and np.array_equal(row, other, equal_nan=True)


def _first_row(steps: Steps, table: Table, column: Any, label: Any) -> np.ndarray | None:
    """Return the first row, transformed, with a label in a column, or as it is; None where the steps refuse the label.

    The row is as it is with the label None.
    """
    first = Table(table.rows[:1], steps.names)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rows = first.rows if label is None else first.replaced({column: first.new_values(column, label)})
            row = steps.transform(rows)
        return np.asarray(row, dtype=np.float64)
    except (TypeError, ValueError):
        return None
