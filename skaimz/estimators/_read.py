"""From rows that a user passes to a call: checks of X, and arguments of the kernel that are columns of it."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted, validate_data

from skaimz.estimators._arguments import check_names_of_arguments
from skaimz.estimators._columns import (
    Naming,
    culprits_named,
    in_numbers,
    number_of_codes,
    open_arguments,
    split_columns,
)
from skaimz.estimators._constructor import check_parameters
from skaimz.estimators._entries import without_entries
from skaimz.estimators._input import as_input, check_row_shape, input_checks
from skaimz.estimators._model import Call, Model
from skaimz.estimators._new_levels import counts_of, with_new_levels
from skaimz.kernels import flattened, kernel_parameters
from skaimz.rows import as_table, loaded, open_rows
from skaimz.sampling import Part

__all__ = ["read", "read_training_table", "split"]


def read(
    model: Model,
    X: Any,
    arrays: Mapping[str, Any],
    *,
    random_state: Any = None,
    part: Part | None = None,
    prior: bool = False,
) -> Call:
    """Check the rows and arguments of a call.

    Parameters
    ----------
    model : Model
    X : array-like, Zarr array, or iterable of mappings
    arrays : dict
        The kernel's further arguments. Those that come with X join them.
    random_state : int, RandomState, JAX key or None, default=None
        Seed of the call; the model's where None.
    part : Part, optional
        Where the rows lie in a larger table.
    prior : bool, default=False
        Whether the call needs no posterior draws. An estimator without a fit learns categories from these rows.
    """
    arrays = flattened(arrays)
    if not prior:
        check_is_fitted(model.owner)
    elif model.spec is None:
        check_parameters(model.owner)
        if model.kernel is None:
            raise ValueError("The default kernel is scaled to its training data: call `fit` before its prior.")
    model, X, arrays = without_entries(model, X, arrays)
    check_names_of_arguments(arrays, *model.names)
    seed = model.seed_of(random_state)
    lazy = open_rows(X, model.names[0], keeps_whole=model.owner.kernel is not None, allow_nan=model.allow_nan)
    if lazy is None:
        table, columns, levels = _read_table(model, X, arrays, learn=prior)
        source = _indexable(as_table(X))
        return Call(model, as_input(model, table), {**columns, **arrays}, seed, source, arrays, part, levels=levels)
    rows, more = lazy
    outcomes, weight = (more.pop(name, None) for name in (model.names[1], "sample_weight"))
    n_features = getattr(model.owner, "n_features_in_", None)
    if (model.owner.kernel is None and rows.ndim != 2) or n_features not in (None, *rows.shape[1:2]):
        raise ValueError(f"X has the shape {rows.shape}, but {n_features} features are expected.")
    check_row_shape(model, rows.shape)
    source = rows
    known, levels = with_new_levels(model, rows)
    rows, columns, _ = split(model, rows, known, {**more, **arrays}, learn=False)
    columns |= counts_of(model, levels)
    if model.dtype is not None:
        rows = rows.then(lambda part: as_input(model, part))
    return Call(model, rows, {**columns, **more, **arrays}, seed, source, arrays, part, outcomes, weight, levels)


def read_training_table(
    model: Model, X: Any, y: Any, given: Collection[str], *, reset: bool, **checks: Any
) -> tuple[np.ndarray, np.ndarray, dict[str, Any], dict[str, Any]]:
    """Check training data in memory as scikit-learn does; ``checks`` are arguments of its check of y.

    Returns
    -------
    X, y : array
    columns : dict
        Arguments of the kernel that are columns of X.
    categories : dict
    """
    X = as_table(X)
    columns: dict[str, Any] = {}
    categories = {} if reset else dict(model.categories or {})
    if model.column_args is not None:
        validate_data(model.owner, X, y, reset=reset, skip_check_array=True)
        X, columns, categories = split(model, X, None if reset else model.categories, given, learn=reset)
    with culprits_named(X, y):
        X = in_numbers("X", X)
        of_X, of_y = input_checks(model, X, reset=reset), {"dtype": None, "ensure_2d": False, **checks}
        if model.column_args is None:
            has_columns = of_X["ensure_2d"]
            if reset and not has_columns:
                vars(model.owner).pop("n_features_in_", None)
            X, y = validate_data(
                model.owner, X, y, reset=reset, validate_separately=(of_X, of_y), ensure_2d=has_columns
            )
        else:
            X = check_array(X, estimator=model.owner, input_name="X", **of_X)
            y = check_array(y, estimator=model.owner, input_name="y", **of_y)
        check_consistent_length(X, y)
    if not reset:
        check_row_shape(model, X.shape)
    return as_input(model, X, reset=reset), y, columns, categories


def split(
    model: Model, X: Any, known: Any, given: Collection[str], *, learn: bool
) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Take the kernel's arguments that are columns of X out of it, and count the codes of their categories.

    Parameters
    ----------
    model : Model
    X : array, data frame or LazyRows
    known : dict or None
        Categories that are known.
    given : collection of str
        Arguments that the call passes itself.
    learn : bool
        Whether to learn categories from the rows.
    """
    if model.column_args is None:
        return X, {}, dict(known or {})
    X = _indexable(X)
    if len(X.shape) != 2:
        raise ValueError(f"X must have two dimensions, rows and columns, got the shape {tuple(X.shape)}.")
    names = getattr(model.owner, "feature_names_in_", None)
    kernel = model.owner.kernel
    parameters = kernel_parameters(kernel) if kernel is not None else {}
    counts = {name.removeprefix("n_"): p.default is p.empty for name, p in parameters.items() if name.startswith("n_")}
    needed = frozenset(name for name, has_no_default in counts.items() if has_no_default)
    naming = Naming(frozenset(counts), needed - {name.removeprefix("n_") for name in given})
    uncounted = sorted(set(open_arguments(model.column_args)) - naming.required)
    if uncounted:
        raise ValueError(
            f"`column_args` makes unknown categories of {uncounted[0]!r} new levels, for which the kernel needs a "
            f"parameter `n_{uncounted[0]}` without default, the number of levels, which is not passed by name."
        )
    X, columns, categories = split_columns(X, model.column_args, known, names, learn=learn, naming=naming)
    for name, count in number_of_codes(model.column_args, categories).items():
        if name in needed:
            columns[f"n_{name}"] = count
    return X, columns, categories


def _read_table(
    model: Model, X: Any, given: Collection[str], *, learn: bool
) -> tuple[np.ndarray, dict[str, Any], dict[str, np.ndarray]]:
    """Check rows in memory. Where no `fit` has seen columns, there is nothing to compare theirs with."""
    X = as_table(loaded(X))
    columns: dict[str, Any] = {}
    levels: dict[str, np.ndarray] = {}
    knows_columns = hasattr(model.owner, "n_features_in_")
    if model.column_args is not None:
        if knows_columns:
            validate_data(model.owner, X, reset=False, skip_check_array=True)
        known, levels = with_new_levels(model, X)
        X, columns, _ = split(model, X, known, given, learn=learn)
        columns |= counts_of(model, levels)
    with culprits_named(X):
        X = in_numbers("X", X)
        checks = input_checks(model, X, reset=False)
        if model.column_args is None and knows_columns:
            X = validate_data(model.owner, X, reset=False, **checks)
        else:
            X = check_array(X, estimator=model.owner, input_name="X", **checks)
    check_row_shape(model, X.shape)
    return X, columns, levels


def _indexable(X: Any) -> Any:
    return X if hasattr(X, "shape") else np.asarray(X, dtype=object)
