"""Categories in columns of X that the fit did not see, and that are new levels of their argument."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from skaimz.estimators._columns import arguments_of, columns_of, comparable, countable
from skaimz.estimators._model import Model
from skaimz.kernels import plain_array
from skaimz.rows import LazyRows, as_table

__all__ = ["counts_of", "open_arguments", "with_new_levels"]


def open_arguments(column_args: Mapping[str, Any] | None) -> list[str]:
    """Return the arguments whose unknown categories are new levels."""
    settings = (column_args or {}).items()
    return [name for name, setting in settings if isinstance(setting, Mapping) and setting.get("unknown") == "new"]


def with_new_levels(model: Model, X: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """Return the categories of a call's columns, new ones among them, and numbers that identify the new ones.

    The number of new levels is rounded up to a power of two, so that few programs serve all calls.
    """
    if model.categories is None or not open_arguments(model.column_args):
        return model.categories, {}
    found = _new_categories(model, X if hasattr(X, "shape") else np.asarray(X, dtype=object))
    every = {name: [np.concatenate([model.categories[name][0], labels])] for name, labels in found.items()}
    numbers = {name: _numbers_of(labels, 2 ** (len(labels) - 1).bit_length()) for name, labels in found.items()}
    return {**model.categories, **every}, numbers


def counts_of(model: Model, levels: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Return the kernel's arguments for the number of levels, where there are new ones."""
    categories = model.categories or {}
    return {f"n_{name}": len(categories[name][0]) + len(numbers) for name, numbers in levels.items()}


def _new_categories(model: Model, X: Any) -> dict[str, np.ndarray]:
    """Return the categories that the fit did not see, by argument."""
    found: dict[str, np.ndarray] = {}
    X = as_table(X)
    names = getattr(X, "columns", getattr(model.owner, "feature_names_in_", None))
    for argument in arguments_of(model.column_args, X.shape[1], None if names is None else list(names)):
        (categories, *_) = (model.categories or {}).get(argument.name, [None])
        if not argument.is_open or categories is None:
            continue
        column = columns_of(X, argument.places[0])
        array = plain_array(column[:] if isinstance(column, LazyRows) else column)
        array = array[~np.asarray(pd.isna(array))]
        here, there = comparable(array), comparable(categories)
        # Values of another kind than the categories are errors, which `split_columns` raises.
        if (countable(array) is None) == (countable(categories) is None) and _is_time(here) == _is_time(there):
            labels = np.asarray(here.unique())
            labels = labels[pd.Index(there).get_indexer(pd.Index(labels)) == -1]
            if len(labels):
                found[argument.name] = labels
    return found


def _is_time(values: pd.Series) -> bool:
    return getattr(values.dtype, "kind", "O") in "mM"


def _numbers_of(labels: np.ndarray, count: int) -> np.ndarray:
    """Return two numbers for each label, the same in every process, and zeros up to a number of labels."""
    numbers = np.zeros((count, 2), np.uint32)
    for place, label in enumerate(pd.Index(labels).tolist()):
        # Equal numbers are equal labels, whatever their type.
        is_number = isinstance(label, int | float) and float(label) == label
        text = repr(float(label)) if is_number else repr(label)
        numbers[place] = np.frombuffer(hashlib.blake2b(text.encode(), digest_size=8).digest(), "<u4")
    return numbers
