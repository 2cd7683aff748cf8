"""Questions about the whole distribution of outcomes, row by row."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from skaimz import sampling
from skaimz.estimators._arguments import check_choice
from skaimz.estimators._model import Call
from skaimz.estimators._predictions import predictive_job
from skaimz.estimators._questions import Question
from skaimz.exceptions import OutputWarning, warn_user
from skaimz.kernels import as_floats, finite

__all__ = ["CdfAt", "Excess", "Intervals", "ProbabilitiesOfRange", "Quantiles", "TailMeans", "outcome_shape"]


@dataclass(frozen=True)
class Quantiles(Question[np.ndarray]):
    """Quantiles of the posterior predictive.

    Attributes
    ----------
    levels : sequence of float, or array with an entry for each outcome and level
    method : {"exact", "draws"}
        Whether the cdf is inverted, or outcomes are drawn and sorted.
    of : {"outcome", "mean"}
        Whether the quantiles are those of outcomes, or those of their expectation over the posterior draws.
    in_sample : bool
        Whether these are the rows of the fit.
    """

    levels: ArrayLike
    method: str = "exact"
    of: str = "outcome"
    in_sample: bool = False

    def __post_init__(self) -> None:
        check_choice("method", self.method, ("exact", "draws"))
        check_choice("of", self.of, ("outcome", "mean"))

    def answer(self, call: Call) -> np.ndarray:
        """Return the quantiles of each row, on the last axis."""
        of_outcomes = sampling.quantiles if self.method == "exact" else sampling.outcome_quantiles
        with call.precision():
            quantiles = (sampling.mean_quantiles if self.of == "mean" else of_outcomes)(
                predictive_job(call, self.in_sample), _points(call, "quantiles", self.levels)
            )
        _warn_of_nan(quantiles, "quantiles")
        return quantiles


def _points(call: Call, name: str, numbers: ArrayLike) -> np.ndarray:
    """Return numbers that all outcomes share, as they are, or those of each outcome on the last axis."""
    found = np.asarray(numbers)
    if found.ndim < 2:
        return found
    return np.stack([_for_each_outcome(call, name, each) for each in np.moveaxis(found, -1, 0)], axis=-1)


def outcome_shape(call: Call) -> tuple[int, ...]:
    """Return the shape of the outcomes of a call's rows, rows first."""
    output = call.spec[call.spec.output]
    shape = tuple(call.n_rows if size is None else size for size in output.shape)
    axis = output.row_axis or 0
    return (call.n_rows, *shape[:axis], *shape[axis + 1 :])


def _for_each_outcome(call: Call, name: str, numbers: np.ndarray) -> np.ndarray:
    """Return a number for each outcome of the rows of a call."""
    shape = outcome_shape(call)
    try:
        return np.broadcast_to(numbers, shape)
    except ValueError as error:
        raise ValueError(
            f"{name} has the shape {numbers.shape}, but the outcomes of these rows have {shape}."
        ) from error


def _warn_of_nan(results: np.ndarray, what: str) -> None:
    if np.isnan(results).any():
        warn_user(
            f"{np.count_nonzero(np.isnan(results))} {what} are NaN: a parameter of the output's distribution is NaN or "
            "impossible for some posterior draws. Look at these rows, and at the posterior draws.",
            OutputWarning,
        )


@dataclass(frozen=True)
class CdfAt(Question[np.ndarray]):
    """Probabilities that outcomes are at most some numbers.

    Attributes
    ----------
    y : array-like
        Numbers, one or several for each row.
    strict : bool
        Whether outcomes are to be less than the numbers.
    in_sample : bool
        Whether these are the rows of the fit.
    """

    y: Any
    strict: bool = False
    in_sample: bool = False

    def answer(self, call: Call) -> np.ndarray:
        """Return the probability of each row."""
        y = finite("y", as_floats("y", np.asarray(self.y), call.dtype))
        points = _for_each_outcome(call, "y", y)[..., None]
        with call.precision():
            probabilities = sampling.cdf(predictive_job(call, self.in_sample), points, strict=self.strict)[..., 0]
        _warn_of_nan(probabilities, "probabilities")
        return probabilities


@dataclass(frozen=True)
class ProbabilitiesOfRange(Question[np.ndarray]):
    """Probabilities that outcomes are in a range.

    Attributes
    ----------
    above, upto : sequence of float
        Probabilities are those of outcomes that are greater than the first, and at most the second. Infinite where
        there is no bound.
    in_sample : bool
        Whether these are the rows of the fit.
    """

    above: Sequence[float]
    upto: Sequence[float]
    in_sample: bool = False

    def answer(self, call: Call) -> np.ndarray:
        """Return the probabilities of each row, ranges on the last axis."""
        bounds = np.concatenate([self.above, self.upto])
        with call.precision():
            cdf = sampling.cdf(predictive_job(call, self.in_sample), bounds)
        count = len(self.above)
        probabilities = cdf[..., count:] - cdf[..., :count]
        _warn_of_nan(probabilities, "probabilities")
        return probabilities


@dataclass(frozen=True)
class Intervals(Question[np.ndarray]):
    """Intervals of the posterior predictive.

    Attributes
    ----------
    coverage : sequence of float
    kind : {"equal-tailed", "shortest"}
    method, of : str
        As in :class:`Quantiles`.
    in_sample : bool
        Whether these are the rows of the fit.
    """

    coverage: Sequence[float]
    kind: str = "equal-tailed"
    method: str = "exact"
    of: str = "outcome"
    in_sample: bool = False

    def __post_init__(self) -> None:
        Quantiles((), self.method, self.of)
        check_choice("kind", self.kind, ("equal-tailed", "shortest"))
        if self.kind == "shortest" and (self.method, self.of) != ("exact", "outcome"):
            raise ValueError("The shortest interval is one of exact distributions: leave out `method` and `of`.")

    def answer(self, call: Call) -> np.ndarray:
        """Return lower and upper ends of each row, levels of coverage on the last axis."""
        if self.kind == "shortest":
            with call.precision():
                intervals = sampling.shortest_intervals(predictive_job(call, self.in_sample), self.coverage)
            _warn_of_nan(intervals, "ends of intervals")
            return intervals
        tails = (1 - np.asarray(self.coverage)) / 2
        levels = np.concatenate([tails, 1 - tails]).tolist()
        ends = Quantiles(levels, self.method, self.of, self.in_sample).answer(call)
        return ends.reshape(*ends.shape[:-1], 2, len(tails))


@dataclass(frozen=True)
class Excess(Question[np.ndarray]):
    """By how much outcomes are expected to exceed thresholds.

    Attributes
    ----------
    thresholds : sequence of float, or array with an entry for each outcome and threshold
    in_sample : bool
        Whether these are the rows of the fit.
    """

    thresholds: ArrayLike
    in_sample: bool = False

    def answer(self, call: Call) -> np.ndarray:
        """Return the expectation of each row, thresholds on the last axis."""
        with call.precision():
            thresholds = _points(call, "threshold", self.thresholds)
            excess = sampling.excess(predictive_job(call, self.in_sample), thresholds)
        _warn_of_nan(excess, "expectations")
        return excess


@dataclass(frozen=True)
class TailMeans(Question[np.ndarray]):
    """Means of the lowest or the highest outcomes.

    Attributes
    ----------
    shares : sequence of float
        Probabilities of the tails.
    tail : {"lower", "upper"}
    in_sample : bool
        Whether these are the rows of the fit.
    """

    shares: Sequence[float]
    tail: str
    in_sample: bool = False

    def __post_init__(self) -> None:
        check_choice("tail", self.tail, ("lower", "upper"))

    def answer(self, call: Call) -> np.ndarray:
        """Return the mean of each row, shares on the last axis."""
        with call.precision():
            means = sampling.tail_means(predictive_job(call, self.in_sample), self.shares, upper=self.tail == "upper")
        _warn_of_nan(means, "means")
        return means
