"""What X may be: a table of floats for the default kernel, any array of numbers for a kernel of the user's own."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from skaimz.kernels import as_floats, float_type, narrowed

__all__ = ["FLOATS", "as_input", "check_row_shape", "input_checks", "is_table", "keeps_whole", "whole_type"]

FLOATS = {"float32": np.float32, "float64": np.float64}


def is_table(X: Any) -> bool:
    """Whether X has two dimensions, rows and columns."""
    return len(X.shape) == 2


def input_checks(model: Any, X: Any, *, reset: bool) -> dict[str, Any]:
    """Return the keyword arguments with which scikit-learn checks X in memory.

    Parameters
    ----------
    model : Model
    X : array-like or data frame
    reset : bool
        Whether X may have other rows than those of an earlier fit.
    """
    if model.owner.kernel is None:
        return {"dtype": [np.float64, np.float32], "ensure_2d": True}
    known = None if reset else _row_shape(model)
    return {
        "dtype": whole_type(X) or [np.float64, np.float32],
        "allow_nd": True,
        "ensure_all_finite": "allow-nan" if model.allow_nan else True,
        # If rows have columns, scikit-learn refuses an X of one dimension, and tells how to reshape it.
        "ensure_2d": bool(known) or _rank(X) != 1,
    }


def whole_type(X: Any) -> np.dtype | None:
    """Return the type of an X of integers or booleans, None for any other."""
    if hasattr(X, "iloc"):
        types = list(X.dtypes) if X.ndim == 2 else [X.dtype]
        # Types of pandas' own may hold missing values.
        if not types or not all(isinstance(dtype, np.dtype) for dtype in types):
            return None
        dtype = np.result_type(*types)
    else:
        try:
            dtype = np.asarray(X if isinstance(X, list | tuple) else X[:0]).dtype
        except (TypeError, ValueError, IndexError):
            return None  # scikit-learn refuses it
    # JAX accepts only the byte order of the machine.
    return dtype.newbyteorder("=") if dtype.kind in "biu" else None


def as_input(model: Any, X: Any, *, reset: bool = True) -> np.ndarray:
    """Return checked rows in the types that the kernel is given: integers stay, floats have the model's precision.

    Parameters
    ----------
    model : Model
    X : array
    reset : bool, default=True
        Whether the rows are of a fit that begins anew, or of a later call; an inference that goes on keeps the type of
        its first rows.
    """
    precision = (model.dtype or float_type(X.dtype)) if reset else model.precision
    return narrowed("X", X, precision) if keeps_whole(model, X.dtype, reset=reset) else as_floats("X", X, precision)


def keeps_whole(model: Any, dtype: np.dtype, *, reset: bool) -> bool:
    """Return whether rows of a type are integers or booleans that the kernel is given as they are."""
    is_whole = dtype.kind in "biu" and model.owner.kernel is not None
    return is_whole and (reset or np.dtype(model.arguments["rows"][model.names[0]][1]).kind in "biu")


def check_row_shape(model: Any, shape: tuple[int, ...]) -> None:
    """Refuse rows of another shape than those of the fit; scikit-learn compares the number of columns itself."""
    known = _row_shape(model)
    if known is not None and shape[1:] != known and (len(shape) != 2 or len(known) != 1):
        raise ValueError(
            f"X has the shape {tuple(shape)}, but the rows that the estimator was fitted to have the shape {known}: "
            f"pass an X of the shape {('n_rows', *known)}.".replace("'", "")
        )


def _rank(X: Any) -> int | None:
    """Return the number of dimensions, None for lists of unequal lengths, which scikit-learn refuses."""
    try:
        return np.ndim(X)
    except ValueError:
        return None


def _row_shape(model: Any) -> tuple[int, ...] | None:
    described: Mapping[str, Any] = model.arguments.get("rows", {})
    row = described.get(model.names[0])
    return None if row is None else tuple(row[0])
