"""The posterior predictive distribution of some rows, as an object that computes what it is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.utils import _safe_indexing

from skaimz import sampling
from skaimz.estimators._arguments import check_count, check_numbers_of, check_probabilities
from skaimz.estimators._distributions import CdfAt, Excess, Intervals, Quantiles, outcome_shape
from skaimz.estimators._model import Model
from skaimz.estimators._predictions import LogDensities, Means, Moments, Outcomes, Scores
from skaimz.estimators._questions import Question, answer_by_row, request_for
from skaimz.kernels import flattened

__all__ = ["PredictiveDistribution"]


class PredictiveDistribution:
    """Distributions of the outcomes of some rows, which nothing is computed for before a method is called.

    :meth:`NumPyroImpactRegressor.predict_distribution` returns it. Methods return an array with an entry for each row.
    Where rows have several outputs, these are an axis after the rows, and each has its own distribution. An index, as
    in ``distribution[:10]``, gives the distributions of some of the rows.

    Examples
    --------
    >>> import numpy as np
    >>> from skaimz import NumPyroImpactRegressor
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(100, 2))
    >>> y = X @ [1.0, -2.0] + rng.normal(scale=0.1, size=100)
    >>> distribution = NumPyroImpactRegressor(random_state=0).fit(X, y).predict_distribution(X)
    >>> len(distribution), distribution[:2].ppf([0.1, 0.5, 0.9]).shape
    (100, (2, 3))
    """

    def __init__(self, model: Model, X: Any, arrays: Mapping[str, Any], chosen: np.ndarray | None = None):
        self._model, self._X, self._arrays = model, X, flattened(arrays)
        call = request_for(model, Means(), self._arrays, None).read(X)
        self._of_rows = set(call.traced.inputs.rows)
        self._call_shape = outcome_shape(call)
        self._is_discrete = np.dtype(call.spec[call.spec.output].dtype).kind in "iub"
        # Rows that depend on one another are computed together, whichever of them are asked for.
        self._depend = call.spec.rows_mix is not None
        self._chosen = chosen

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows, and of outputs where rows have several."""
        n_rows, *outputs = self._call_shape
        return (n_rows if self._chosen is None else len(self._chosen), *outputs)

    @property
    def is_discrete(self) -> bool:
        """Whether outcomes are whole numbers, so that :meth:`pdf` returns their probabilities."""
        return self._is_discrete

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"PredictiveDistribution of {len(self)} rows"

    def __getitem__(self, rows: Any) -> PredictiveDistribution:
        """Return the distributions of some rows: a slice, numbers of rows, or a mask."""
        chosen = np.atleast_1d(np.arange(len(self))[rows])
        if self._depend:
            if len(np.unique(chosen)) < len(chosen):
                raise ValueError("Rows that depend on one another can be chosen once, but the index repeats one.")
            chosen = chosen if self._chosen is None else self._chosen[chosen]
            return PredictiveDistribution(self._model, self._X, self._arrays, chosen)
        arrays = {
            name: _safe_indexing(array, chosen) if name in self._of_rows and np.ndim(array) else array
            for name, array in self._arrays.items()
        }
        return PredictiveDistribution(self._model, _safe_indexing(self._X, chosen), arrays)

    def _ask(self, question: Question[Any], random_state: Any = None) -> Any:
        answer = answer_by_row(self._model, question, self._X, self._arrays, random_state)
        if self._chosen is None:
            return answer
        return tuple(each[self._chosen] for each in answer) if isinstance(answer, tuple) else answer[self._chosen]

    def _of_all(self, numbers: Any) -> Any:
        """Return numbers of the rows that were asked for, among any numbers of the others."""
        if self._chosen is None or np.ndim(numbers) == 0:
            return numbers
        own = np.asarray(numbers)
        every = np.full((self._call_shape[0], *own.shape[1:]), own.flat[0])
        every[self._chosen] = own
        return every

    def _for_each(self, y: Any) -> Any:
        """Return an outcome for each row, which may be the same for all."""
        return y if np.ndim(y) else np.full(self.shape, y)

    def mean(self) -> np.ndarray:
        """Return the means, as ``predict`` does."""
        return self._ask(Means())

    def var(self) -> np.ndarray:
        """Return the variances."""
        return self._ask(Moments())[1] ** 2

    def std(self) -> np.ndarray:
        """Return the standard deviations."""
        return self._ask(Moments())[1]

    def cdf(self, y: Any) -> np.ndarray:
        """Return the probability that each outcome is at most ``y``, a number or one for each outcome."""
        return self._ask(CdfAt(self._of_all(y)))

    def sf(self, y: Any) -> np.ndarray:
        """Return the probability that each outcome is greater than ``y``."""
        return 1 - self.cdf(y)

    def ppf(self, quantiles: Any) -> np.ndarray:
        """Return quantiles; several probabilities are the last axis.

        All outcomes share the probabilities, unless these have an axis for the rows, and for the outputs if there are
        several: then each outcome has its own.
        """
        shape = np.shape(quantiles)
        levels = np.reshape(check_probabilities("quantiles", np.ravel(quantiles), closed=True), shape or (1,))
        found = self._ask(Quantiles(levels if len(shape) < 2 else self._of_all(levels)))
        return found if shape else found[..., 0]

    def median(self) -> np.ndarray:
        """Return the medians."""
        return self.ppf(0.5)

    def interval(self, coverage: float | Sequence[float] = 0.9, *, kind: str = "equal-tailed") -> np.ndarray:
        """Return lower and upper ends of intervals, in the shape that ``predict_interval`` gives them."""
        found = self._ask(Intervals(check_probabilities("coverage", coverage, closed=False), kind))
        return found if np.ndim(coverage) else found[..., 0]

    def excess(self, threshold: Any) -> np.ndarray:
        """Return the mean of ``max(y - threshold, 0)``, where the threshold is a number or one for each outcome."""
        thresholds = np.reshape(check_numbers_of("threshold", np.ravel(threshold)), (*np.shape(threshold), 1))
        return self._ask(Excess(thresholds if np.ndim(threshold) == 0 else self._of_all(thresholds)))[..., 0]

    def crps(self, y: Any) -> np.ndarray:
        """Return the continuous ranked probability score of outcomes, ``E|Y - y| - E|Y - Y'| / 2``."""
        return self._ask(
            Scores(self._of_all(self._for_each(y)), lambda job, y, class_counts: sampling.crps_of_cdf(job, y))
        )

    def logpdf(self, y: Any) -> np.ndarray:
        """Return the logarithm of the density at outcomes, or of the probability of whole numbers.

        The density of a row with several outputs is their joint one.
        """
        return self._ask(LogDensities(self._of_all(self._for_each(y))))

    def pdf(self, y: Any) -> np.ndarray:
        """Return the density at outcomes, or the probability of whole numbers."""
        return np.exp(self.logpdf(y))

    def sample(self, n_samples: int = 1, *, random_state: Any = None) -> np.ndarray:
        """Return drawn outcomes, on the last axis, as ``sample_y`` does."""
        return self._ask(Outcomes(check_count("n_samples", n_samples)), random_state)
