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

# A label that no column has.
NOBODYS = "a label that is in no data\0"
# Looking at more would cost more than it tells.
MOST_LABELS = 20


def warn_of_unknown_labels(steps: Steps, table: Table, new: Mapping[Any, np.ndarray]) -> None:
    """Warn of labels in a scenario that the steps treat like a label that is in no data, as encoders do on request.

    Only labels that the column does not have are tried. An encoder that refuses unknown labels needs no warning.
    """
    for column, values in new.items():
        if numbers_in(values) is not None or values.dtype.kind in "mM":
            continue
        present = set(table.columns.values(column))
        absent = [label for label in pd.unique(values[~pd.isna(values)]) if label not in present]
        for label in absent[:MOST_LABELS]:
            known, unknown = (_first_row(steps, table, column, each) for each in (label, NOBODYS))
            if known is not None and unknown is not None and np.array_equal(known, unknown, equal_nan=True):
                warn_user(
                    f"A scenario gives column {column!r} the label {str(label)!r}, which no row has, and which the "
                    "steps of the Pipeline treat as they treat labels that they do not know. The scenario is then one "
                    f"of no label. The rows have {sorted(map(str, present))[:MOST_LABELS]}.",
                    UnknownLabelWarning,
                )


def _first_row(steps: Steps, table: Table, column: Any, label: Any) -> np.ndarray | None:
    """Return the first row, transformed, with a label in a column; None where the steps refuse the label."""
    first = Table(table.rows[:1], steps.names)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            row = steps.transform(first.replaced({column: first.new_values(column, label)}))
        return np.asarray(row, dtype=np.float64)
    except (TypeError, ValueError):
        return None
