"""Categories in columns of X that the fit did not see, and that are new levels of their argument."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from skaimz.estimators._columns import arguments_of, columns_of, open_arguments
from skaimz.estimators._matching import ROUNDING, comparable, countable, places
from skaimz.estimators._model import Model
from skaimz.kernels import plain_array
from skaimz.rows import LazyRows, as_table

__all__ = ["counts_of", "with_new_levels"]


def with_new_levels(model: Model, X: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """Return the categories of a call's columns, new ones among them, and numbers that identify the new ones.

    The number of new levels is rounded up to a power of two, so that few programs serve all calls. It is exact if the
    kernel takes arrays that are passed whole, which may have an entry for each level.
    """
    if model.categories is None or not open_arguments(model.column_args):
        return model.categories, {}
    found = _new_categories(model, X if hasattr(X, "shape") else np.asarray(X, dtype=object))
    every = {name: [np.concatenate([model.categories[name][0], labels])] for name, labels in found.items()}
    exact = any(shape for shape, _ in model.arguments.get("whole", {}).values())
    sizes = {name: len(labels) if exact else 2 ** (len(labels) - 1).bit_length() for name, labels in found.items()}
    numbers = {name: _numbers_of(labels, sizes[name]) for name, labels in found.items()}
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
        if argument.unknown == "error" or categories is None:
            continue
        column = columns_of(X, argument.places[0])
        array = plain_array(column[:] if isinstance(column, LazyRows) else column)
        array = array[~np.asarray(pd.isna(array))]
        here, there = comparable(array), comparable(categories)
        # Values of another kind than the categories are errors, which `split_columns` raises.
        if (countable(array) is None) == (countable(categories) is None) and _is_time(here) == _is_time(there):
            labels = np.asarray(here.unique())
            is_next = argument.unknown == "next"
            labels = labels[places(there, labels, rounded=is_next) == -1]
            if len(labels):
                found[argument.name] = _steps_to(argument.name, there, labels) if is_next else labels
    return found


def _steps_to(name: str, known: pd.Series, labels: np.ndarray) -> np.ndarray:
    """Return all levels between the last known one and the last of some labels, in regular steps."""
    index, last = pd.Index(known), pd.Index(labels).max()
    if not (_is_time(known) or pd.api.types.is_numeric_dtype(known)) or len(index) < 2:
        raise ValueError(
            f"Argument {name!r} must hold numbers or times in `fit`, at least two, for new ones to follow, and holds "
            f"{index[:3].tolist()}. Convert text by `pandas.to_datetime`, periods by `.dt.to_timestamp()`."
        )
    following, step = pd.Index([]), _regular_step(index)
    if step is not None:
        following = index[-1] + step * np.arange(1, max(0, int((last - index[-1]) / step + 0.5)) + 1)
    elif _is_time(known) and len(index) > 2 and (frequency := pd.DatetimeIndex(index, freq="infer").freq) is not None:
        following = pd.date_range(index[-1], last, freq=frequency)[1:]
    strange = labels[places(index.append(pd.Index(following)), labels, rounded=True) == -1]
    if len(strange):
        raise ValueError(
            f"Argument {name!r} has {strange.tolist()}, which are no regular steps after {index[-1]!r}, the last one "
            "of the fit. The levels of the fit must have regular steps too: list them all with 'categories'."
        )
    return np.asarray(following)


def _regular_step(index: pd.Index) -> Any:
    """Return the step between values; None if steps differ by more than rounding."""
    steps = np.diff(index)
    if index.dtype.kind != "f":
        return steps[0] if len(set(steps.tolist())) == 1 else None
    step = (index[-1] - index[0]) / len(steps)
    return step if np.abs(steps - step).max() <= ROUNDING * abs(step) else None


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
