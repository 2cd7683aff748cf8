"""From rows that a user passes to a call: checks of X, and arguments of the kernel that are columns of it."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from sklearn.utils.validation import check_array, check_is_fitted, check_X_y, validate_data

from skaimz.estimators._arguments import check_names_of_arguments
from skaimz.estimators._columns import Naming, culprits_named, in_numbers, number_of_codes, split_columns
from skaimz.estimators._model import Call, Model
from skaimz.kernels import as_floats, flattened, kernel_parameters
from skaimz.rows import as_table, loaded, open_rows
from skaimz.sampling import Part

__all__ = ["FLOATS", "cast", "read", "read_training_table", "split"]

FLOATS = {"float32": np.float32, "float64": np.float64}


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
    check_names_of_arguments(arrays, *model.names)
    if not prior:
        check_is_fitted(model.owner)
    elif model.spec is None:
        model.owner._check_parameters()
        if model.kernel is None:
            raise ValueError("The default kernel is scaled to its training data: call `fit` before its prior.")
    seed = model.seed_of(random_state)
    lazy = open_rows(X, model.names[0])
    if lazy is None:
        table, columns = _read_table(model, X, arrays, learn=prior)
        return Call(model, cast(model, table), {**columns, **arrays}, seed, _indexable(as_table(X)), arrays, part)
    rows, more = lazy
    outcomes, weight = (more.pop(name, None) for name in (model.names[1], "sample_weight"))
    n_features = getattr(model.owner, "n_features_in_", rows.shape[-1])
    if rows.ndim != 2 or rows.shape[1] != n_features:
        raise ValueError(f"X has the shape {rows.shape}, but {n_features} features are expected.")
    source = rows
    rows, columns, _ = split(model, rows, model.categories, {**more, **arrays}, learn=False)
    rows = rows if model.dtype is None else rows.floats("X", FLOATS[model.dtype])
    return Call(model, rows, {**columns, **more, **arrays}, seed, source, arrays, part, outcomes, weight)


def read_training_table(
    model: Model, X: Any, y: Any, given: Collection[str], *, reset: bool, **checks: Any
) -> tuple[np.ndarray, np.ndarray, dict[str, Any], dict[str, Any]]:
    """Check training data in memory as scikit-learn does.

    Returns
    -------
    X, y : array
    columns : dict
        Arguments of the kernel that are columns of X.
    categories : dict
    """
    checks = {"dtype": [np.float64, np.float32], "multi_output": True, **checks}
    X = as_table(X)
    if model.column_args is None:
        with culprits_named(X, y):
            X, y = validate_data(model.owner, in_numbers(X), y, reset=reset, **checks)
        return cast(model, X, reset=reset), y, {}, {} if reset else dict(model.categories or {})
    validate_data(model.owner, X, y, reset=reset, skip_check_array=True)
    X, columns, categories = split(model, X, None if reset else model.categories, given, learn=reset)
    with culprits_named(X, y):
        X, y = check_X_y(in_numbers(X), y, estimator=model.owner, **checks)
    return cast(model, X, reset=reset), y, columns, categories


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
    X, columns, categories = split_columns(X, model.column_args, known, names, learn=learn, naming=naming)
    for name, count in number_of_codes(model.column_args, categories).items():
        if name in needed:
            columns[f"n_{name}"] = count
    return X, columns, categories


def cast(model: Model, X: np.ndarray, *, reset: bool = True) -> np.ndarray:
    """Convert rows to the precision that the estimator is set to; an inference that goes on keeps its own."""
    dtype = model.dtype if reset else model.arguments["rows"][model.names[0]][1]
    return X if dtype is None else as_floats("X", X, FLOATS[dtype])


def _read_table(model: Model, X: Any, given: Collection[str], *, learn: bool) -> tuple[np.ndarray, dict[str, Any]]:
    """Check rows in memory. Where no `fit` has seen columns, there is nothing to compare theirs with."""
    floats = [np.float64, np.float32]
    X = as_table(loaded(X))
    columns: dict[str, Any] = {}
    if hasattr(model.owner, "n_features_in_"):
        if model.column_args is None:
            with culprits_named(X):
                return validate_data(model.owner, in_numbers(X), reset=False, dtype=floats), columns
        validate_data(model.owner, X, reset=False, skip_check_array=True)
    if model.column_args is not None:
        X, columns, _ = split(model, X, model.categories, given, learn=learn)
    with culprits_named(X):
        return check_array(in_numbers(X), dtype=floats, estimator=model.owner, input_name="X"), columns


def _indexable(X: Any) -> Any:
    return X if hasattr(X, "shape") else np.asarray(X, dtype=object)
