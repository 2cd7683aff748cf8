"""Outcomes that are missing: which entries they are, what stands in for them, and draws of them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_consistent_length

from skaimz import sampling
from skaimz.estimators._model import Call, unobserved
from skaimz.kernels import as_numbers, plain_array, uses_of_outcome
from skaimz.rows import LazyRows

__all__ = [
    "accuracy_of_observed",
    "check_can_be_left_out",
    "drawn_missing",
    "filled",
    "r2_of_observed",
    "shaped_like",
    "weighted_by",
]

# Rows among which a value is looked for that stands in for missing ones, if rows are read in parts.
FIRST_ROWS = 2**13


def is_missing(y: np.ndarray) -> np.ndarray:
    """Return which entries of coded outcomes are missing: NaN, and codes of classes below zero."""
    return np.isnan(y) if y.dtype.kind == "f" else y < 0


def filled(y: Any, rule: str) -> tuple[Any, Any]:
    """Return coded outcomes with an observed value in place of missing ones, and which entries are observed.

    ``rule`` is the estimator's ``missing_outcomes``.
    The latter is None if all entries are observed. Of outcomes that are read in parts, this is not known.
    """
    if rule in ("error", "keep"):
        return y, None
    if isinstance(y, LazyRows):
        if rule == "impute":
            raise ValueError("`missing_outcomes='impute'` needs outcomes in memory: pass `numpy.asarray(y)`.")
        value = _observed_value(y[:FIRST_ROWS])
        return y.then(lambda part: np.where(is_missing(part), value, part)), y.then(lambda part: ~is_missing(part))
    missing = is_missing(y)
    if not missing.any():
        return y, None
    return np.where(missing, _observed_value(y), y).astype(y.dtype), ~missing


def _observed_value(y: np.ndarray) -> np.ndarray:
    """Return an outcome of one row: that of a row without missing entries, or else the first of each column."""
    observed = ~is_missing(y).reshape(len(y), -1)
    if not observed.any():
        raise ValueError(f"y has no outcome: all entries of its {len(y)} first rows are missing.")
    complete = observed.all(axis=1)
    if complete.any():
        return y[complete.argmax()]
    entries = y.reshape(len(y), -1)
    value = entries[observed.argmax(axis=0), np.arange(entries.shape[1])]
    return np.where(observed.any(axis=0), value, entries[observed][0]).astype(y.dtype).reshape(y.shape[1:])


def check_can_be_left_out(call: Call, observed: Any) -> None:
    """Refuse missing outcomes that something else than their own density depends on.

    Parameters
    ----------
    call : Call
    observed : array or LazyRows
        Which entries are observed.
    """
    traced, hyperparameters, inputs = call.traced
    spec = traced.spec
    use = uses_of_outcome(traced, hyperparameters, inputs)
    reason = None
    if use.sites:
        reason = f"the density of {use.sites} depends on other outcomes as well"
    elif not spec[spec.output].rows_are_batched:
        reason = f"the rows of {spec.output!r} share one density"
    elif spec.changes_outcome and spec.fit_mixing is not None:
        reason = f"{spec.output!r} observes something that is computed from y, and {spec.fit_mixing}"
    elif _has_partial_rows(observed):
        if use.is_joint:
            reason = f"the entries of a row of {spec.output!r} share one density, and some of a row are missing"
        elif not use.is_as_given:
            reason = f"{spec.output!r} observes y in another order, and some entries of a row are missing"
    if reason is not None:
        raise ValueError(
            f"Missing outcomes cannot be left out, because {reason}. Leave out their rows, write them as latent sites "
            "in the kernel, or set `missing_outcomes='keep'` if the kernel masks them itself."
        )


def _has_partial_rows(observed: Any) -> bool:
    """Return whether some rows have observed and missing entries; rows that are read in parts may have."""
    if len(observed.shape) == 1:
        return False
    if isinstance(observed, LazyRows):
        return True
    by_row = observed.reshape(len(observed), -1)
    return bool((by_row.any(axis=1) & ~by_row.all(axis=1)).any())


def drawn_missing(call: Call, y: Any) -> dict[str, np.ndarray]:
    """Draw missing outcomes of the rows of a fit, given each posterior draw.

    Parameters
    ----------
    call : Call
        After the fit.
    y : array of shape (n_rows, ...)
        Coded outcomes.

    Returns
    -------
    dict of str to array of shape (n_chains, n_draws, n_missing)
        Entries are in the order of ``numpy.argwhere(is_missing(y))``. Nothing if none is missing.
    """
    missing = is_missing(y)
    rows = np.flatnonzero(missing.reshape(len(y), -1).any(axis=1))
    if not len(rows):
        return {}
    with call.precision():
        job = call.job(in_sample=True)
        if job.spec.rows_mix is None:
            job, missing = _only(job, rows), missing[rows]
        drawn = sampling.outcomes(job)
    # A column of outcomes has become an array of one dimension.
    drawn = drawn[missing.reshape(drawn.shape[:-1])]
    return {unobserved(job.spec.output): np.moveaxis(drawn, -1, 0).reshape(job.posterior.n_chains, -1, len(drawn))}


def weighted_by(observed: Any, weight: Any) -> Any:
    """Return the weights of rows, zero for those whose only outcome is missing."""

    def weights(part: np.ndarray, start: int) -> np.ndarray:
        counts = part.reshape(len(part), -1).all(axis=1)
        return np.asarray(counts * (1.0 if weight is None else weight[start : start + len(part)]))

    return LazyRows(observed, weights) if isinstance(observed, LazyRows) else weights(observed, 0)


def shaped_like(y: Any, observed: Any) -> Any:
    """Return which entries of outcomes are observed in their shape: a column may have become one dimension."""
    row = y.shape[1:]
    if isinstance(observed, LazyRows):
        return observed.then(lambda part: part.reshape(len(part), *row))
    return observed.reshape(len(observed), *row)


def r2_of_observed(y: Any, predicted: np.ndarray, sample_weight: Any) -> float:
    """Return the coefficient of determination of observed outcomes, averaged over the columns of y."""
    y = as_numbers("y", y).astype(np.float64).reshape(len(y), -1)
    predicted, weight = (
        predicted.reshape(len(predicted), -1),
        np.broadcast_to(1.0 if sample_weight is None else np.asarray(sample_weight), len(y)),
    )
    check_consistent_length(y, predicted)
    columns = ((column, mean, ~np.isnan(column)) for column, mean in zip(y.T, predicted.T, strict=True))
    return float(np.mean([r2_score(column[o], mean[o], sample_weight=weight[o]) for column, mean, o in columns]))


def accuracy_of_observed(y: Any, predicted: np.ndarray, sample_weight: Any) -> float:
    """Return the share of rows with observed outcomes of which all are right."""
    y = plain_array(y)
    observed = ~np.asarray(pd.isna(y)).reshape(len(y), -1)
    check_consistent_length(y, predicted)
    right = (np.asarray(y == predicted).reshape(len(y), -1) | ~observed).all(axis=1)
    counts = observed.any(axis=1) * (1.0 if sample_weight is None else np.asarray(sample_weight))
    return float(np.average(right, weights=counts))


def _only(job: sampling.Job, rows: np.ndarray) -> sampling.Job:
    """Return a job with some of its rows, and the draws of their own latent sites."""
    arguments = {name: np.asarray(array[:])[rows] for name, array in job.inputs.rows.items()}
    local = {name: np.take(draws, rows, 1 + (job.spec[name].row_axis or 0)) for name, draws in job.local.items()}
    return replace(job.with_rows(arguments), local=local)
