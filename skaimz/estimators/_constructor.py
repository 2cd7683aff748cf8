"""The parameters of an estimator: checks that do not depend on data, and the kernel that a fit uses."""

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import is_classifier

from skaimz.estimators._arguments import RESERVED, without_single_column
from skaimz.estimators._input import FLOATS
from skaimz.estimators._parameters import copy_of
from skaimz.kernels import check_signature, kernel_parameters, within

__all__ = ["check_parameters", "kernel_of"]

MISSING_OUTCOMES = ("error", "ignore", "impute", "keep")


def check_parameters(estimator: Any) -> None:
    """Refuse parameters of an estimator that cannot be used."""
    names = (estimator.param_input, estimator.param_output)
    for name, value in zip(("param_input", "param_output"), names, strict=True):
        if not isinstance(value, str):
            raise TypeError(f"`{name}` must be a string, got {value!r}.")
    if estimator.dtype is not None and estimator.dtype not in FLOATS:
        raise ValueError(f"`dtype` must be None, 'float32' or 'float64', got {estimator.dtype!r}.")
    if estimator.missing_outcomes not in MISSING_OUTCOMES:
        raise ValueError(
            f"`missing_outcomes` must be one of {list(MISSING_OUTCOMES)}, got {estimator.missing_outcomes!r}."
        )
    if estimator.missing_outcomes == "keep" and (estimator.kernel is None or is_classifier(estimator)):
        raise ValueError(
            "`missing_outcomes='keep'` needs a regressor with a `kernel` that masks NaN in its outcome: use 'ignore'."
        )
    if not isinstance(estimator.verbose, int | np.integer) or estimator.verbose < 0:
        raise ValueError(f"`verbose` must be a non-negative integer, got {estimator.verbose!r}.")
    if estimator.kernel is not None:
        check_signature(estimator.kernel, *names, RESERVED)
    elif estimator.allow_nan:
        raise ValueError("`allow_nan` needs a `kernel` that replaces missing entries: the default kernel has no rule.")
    elif estimator.posterior is not None:
        raise ValueError(
            "`posterior` needs a `kernel`: the default kernel is scaled to its training data, which draws from "
            "elsewhere do not know."
        )
    _check_whole_args(estimator.whole_args, estimator.kernel, names)


def kernel_of(estimator: Any, X: Any, y: Any, weight: Any) -> Callable:
    """Return a copy of an estimator's kernel, or the default one, scaled to checked training data."""
    if estimator.kernel is not None:
        return copy_of(estimator.kernel)
    if (estimator.param_input, estimator.param_output) != ("X", "y"):
        raise ValueError("`param_input` and `param_output` rename arguments of a kernel; the default has X and y.")
    y = without_single_column(y)
    if len(y.shape) > 1:
        raise ValueError(
            f"The default kernel has one output, but y has the shape {y.shape}. Give a `kernel`, or fit each "
            "output alone with scikit-learn's MultiOutputRegressor or MultiOutputClassifier."
        )
    return estimator._default_kernel.of({"X": X, "y": y}, weight, len(getattr(estimator, "classes_", ())))


def _check_whole_args(whole_args: Any, kernel: Callable | None, names: tuple[str, str]) -> None:
    """Refuse what cannot be names of a kernel's arguments beside its input and its output, which have the ``names``."""
    if whole_args is None:
        return
    if isinstance(whole_args, str) or not all(isinstance(name, str) for name in whole_args):
        raise TypeError(f"`whole_args` must be a sequence of names of the kernel's arguments, got {whole_args!r}.")
    parameters = {} if kernel is None else kernel_parameters(kernel)
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    possible = sorted(parameters.keys() - set(names))
    for name in whole_args:
        if not within(name, possible):
            raise ValueError(f"`whole_args` names {name!r}: beyond X and y the kernel takes {possible}.")
