"""From the rows that a user passes to checked arrays and the kernel's arguments."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import numpy as np
from sklearn.utils.validation import check_array, check_is_fitted, check_X_y, validate_data

from skaimz.estimators._arguments import check_names_of_arguments
from skaimz.estimators._columns import Columns, Naming, culprits_named, in_numbers, number_of_codes, split_columns
from skaimz.kernels import as_floats, flattened, kernel_parameters
from skaimz.rows import as_table, loaded, open_rows

__all__ = ["FLOATS", "DataMixin"]

FLOATS = {"float32": np.float32, "float64": np.float64}


class DataMixin:
    """Checks of X and y, and arguments of the kernel that are columns of X."""

    kernel: Callable | None
    param_input: str
    param_output: str
    column_args: Mapping[str, Any] | None
    dtype: str | None
    arguments_: dict[str, Any]

    def _validate(
        self, X: Any, y: Any, given: Collection[str], *, reset: bool, **checks: Any
    ) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        """Check training data as scikit-learn does, and remember the columns and their categories."""
        checks = {"dtype": [np.float64, np.float32], "multi_output": True, **checks}
        X = as_table(X)
        if reset:
            self.categories_: dict[str, Any] = {}
        if self.column_args is None:
            with culprits_named(X, y):
                X, y = validate_data(self, in_numbers(X), y, reset=reset, **checks)
            return self._cast(X, reset), y, {}
        validate_data(self, X, y, reset=reset, skip_check_array=True)
        known = None if reset else self.categories_
        X, columns, self.categories_ = self._split_columns(X, known, given, learn=reset)
        with culprits_named(X, y):
            X, y = check_X_y(in_numbers(X), y, estimator=self, **checks)
        return self._cast(X, reset), y, columns

    def _split_columns(
        self, X: Any, known: Any, given: Collection[str], *, learn: bool
    ) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """Take the kernel's arguments that are columns of X out of it, and count the codes of their categories.

        ``given`` are the arguments that a call passes itself.
        """
        X = X if hasattr(X, "shape") else np.asarray(X, dtype=object)
        if len(X.shape) != 2:
            raise ValueError(f"X must have two dimensions, rows and columns, got the shape {tuple(X.shape)}.")
        names = getattr(self, "feature_names_in_", None)
        parameters = kernel_parameters(self.kernel) if self.kernel is not None else {}
        counts = {
            name.removeprefix("n_"): p.default is p.empty for name, p in parameters.items() if name.startswith("n_")
        }
        asked = frozenset(name for name, has_no_default in counts.items() if has_no_default)
        naming = Naming(frozenset(counts), asked - {name.removeprefix("n_") for name in given})
        X, columns, categories = split_columns(X, self.column_args, known, names, learn=learn, naming=naming)
        for name, count in number_of_codes(self.column_args, categories).items():
            if name in asked:
                columns[f"n_{name}"] = count
        return X, columns, categories

    def _columns_of(self, X: Any) -> Columns:
        """Return where the columns of X, as the user passed it, end up."""
        lazy = open_rows(X, self.param_input)
        X = as_table(X) if lazy is None else lazy[0]
        X = X if hasattr(X, "shape") else np.asarray(X, dtype=object)
        names = getattr(self, "feature_names_in_", None)
        return Columns(X, self.column_args, names, getattr(self, "categories_", {}))

    def _read(
        self, X: Any, arrays: Mapping[str, Any], *, fitted: bool = True, beside: Collection[str] = ()
    ) -> tuple[Any, dict[str, Any]]:
        """Check the rows of a call; the kernel's arguments that came with them join the others.

        So do outcomes and weights that are named ``beside`` them; other methods leave these out.
        """
        arrays = flattened(arrays)
        check_names_of_arguments(arrays, self.param_input, self.param_output)
        if fitted:
            check_is_fitted(self)
        lazy = open_rows(X, self.param_input)
        known = getattr(self, "categories_", None)
        if lazy is None:
            X, columns = self._read_table(X, known, arrays, learn=not fitted)
            return self._cast(X), {**columns, **arrays}
        rows, more = lazy
        left_out = {self.param_output, "sample_weight"}.difference(beside)
        more = {name: rows for name, rows in more.items() if name not in left_out}
        n_features = getattr(self, "n_features_in_", rows.shape[-1])
        if rows.ndim != 2 or rows.shape[1] != n_features:
            raise ValueError(f"X has the shape {rows.shape}, but {n_features} features are expected.")
        rows, columns, _ = self._split_columns(rows, known, {**more, **arrays}, learn=False)
        return rows if self.dtype is None else rows.floats("X", FLOATS[self.dtype]), {**columns, **more, **arrays}

    def _read_table(
        self, X: Any, known: Any, given: Collection[str], *, learn: bool
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Check rows that are all there; where no `fit` has seen columns, there is nothing to compare theirs with."""
        floats = [np.float64, np.float32]
        X = as_table(loaded(X))
        columns: dict[str, Any] = {}
        if hasattr(self, "n_features_in_"):
            if self.column_args is None:
                with culprits_named(X):
                    return validate_data(self, in_numbers(X), reset=False, dtype=floats), columns
            validate_data(self, X, reset=False, skip_check_array=True)
        if self.column_args is not None:
            X, columns, _ = self._split_columns(X, known, given, learn=learn)
        with culprits_named(X):
            return check_array(in_numbers(X), dtype=floats, estimator=self, input_name="X"), columns

    def _precision(self, dtype: np.dtype) -> Any:
        """Return a context in which JAX computes in the precision of ``dtype``; nothing is set globally."""
        return jax.enable_x64(np.dtype(dtype) == np.float64)

    def _cast(self, X: np.ndarray, reset: bool = True) -> np.ndarray:
        """Bring rows to the precision that is asked for; an inference that goes on keeps its own."""
        dtype = self.dtype if reset else self.arguments_["rows"][self.param_input][1]
        return X if dtype is None else as_floats("X", X, FLOATS[dtype])
