"""Scorers of predictive distributions, and the base class of all scorers."""

import math
import numbers
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator

from skaimz import sampling
from skaimz.estimators import (
    LogDensities,
    Model,
    NumPyroImpactClassifier,
    NumPyroImpactRegressor,
    Question,
    Scores,
    SklearnObject,
    among_classes,
    answer_by_row,
    check_probabilities,
    check_weight,
    last_step,
)

__all__ = [
    "ELPD",
    "IntervalCoverage",
    "LogPredictiveDensity",
    "NegBrierScore",
    "NegCRPS",
    "NegIntervalWidth",
    "NegPinballLoss",
    "Scorer",
    "elpd",
]

EITHER = (NumPyroImpactRegressor, NumPyroImpactClassifier)


class ELPD(NamedTuple):
    """Expected log predictive density of new rows.

    Attributes
    ----------
    elpd : float
        Sum over the rows of their log predictive densities.
    se : float
        Standard error of the sum, from the variance between rows.
    """

    elpd: float
    se: float


def elpd(estimator: BaseEstimator, X: ArrayLike, y: ArrayLike, **arrays: ArrayLike) -> ELPD:
    """Return the sum of the log predictive densities of held-out rows, with its standard error.

    Parameters
    ----------
    estimator : estimator, Pipeline or search
        Estimator of this package, or a Pipeline or search that ends in one, fitted to other rows.
    X : array-like of shape (n_rows, n_features)
    y : array-like of shape (n_rows,) or (n_rows, n_outputs)
    **arrays : array-like
        Further arguments of the kernel.

    Returns
    -------
    ELPD
        The sum of ``log_predictive_density`` over the rows, and its standard error ``sqrt(n * V)``, where ``V`` is the
        variance between rows, as in ArviZ.

    Raises
    ------
    TypeError
        If the estimator is not one of this package.

    References
    ----------
    A. Vehtari, A. Gelman and J. Gabry (2017), Practical Bayesian model evaluation using leave-one-out cross-validation
    and WAIC, Statistics and Computing 27, equations 1 and 23.

    Examples
    --------
    >>> import numpy as np
    >>> from skaimz import NumPyroImpactRegressor, metrics
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 2))
    >>> y = X @ [1.0, -2.0] + rng.normal(scale=0.1, size=200)
    >>> model = NumPyroImpactRegressor(random_state=0).fit(X[:100], y[:100])
    >>> score = metrics.elpd(model, X[100:], y[100:])
    >>> abs(score.elpd - 88.4) < 4 * score.se  # 100 times the negative entropy of the noise
    True
    """
    model, X = _model_of(estimator, X, EITHER, "elpd")
    densities = np.asarray(model.log_predictive_density(X, y, **arrays), np.float64)
    return ELPD(float(densities.sum()), float(np.sqrt(len(densities) * densities.var())))


class Scorer(SklearnObject):
    """Base class of the scorers.

    A scorer is no estimator, but it has parameters that can be set, searched and cloned as those of an estimator.
    """

    def __call__(
        self,
        estimator: BaseEstimator,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        **arrays: ArrayLike,
    ) -> float:
        """Score a fitted estimator.

        Parameters
        ----------
        estimator : estimator, Pipeline or search
            Fitted estimator. The earlier steps of a Pipeline transform X. The score of a search is that of its best
            estimator.
        X : array-like of shape (n_rows, n_features)
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
        sample_weight : array-like of shape (n_rows,), optional
            Weights of the rows.
        **arrays : array-like
            Further arguments of the kernel.

        Returns
        -------
        float
            The score. Greater is better.

        Raises
        ------
        TypeError
            If the scorer does not support the estimator.
        ValueError
            If a parameter of the scorer, y or the weights are invalid.
        """
        return self._score(estimator, X, y, sample_weight, arrays)

    def _score(self, estimator: Any, X: Any, y: Any, sample_weight: Any, arrays: dict[str, Any]) -> float:
        """Return the score."""
        raise NotImplementedError

    def set_score_request(self, **requests: bool | str | None) -> Self:
        """Set which metadata searches and cross-validation of scikit-learn pass on to the scorer.

        Parameters
        ----------
        **requests : bool, str or None
            For ``sample_weight`` and any argument of the kernel: True to pass it on, False not to pass it on, None to
            raise an error if it is present, or the name under which the caller passes it. Requests for other metadata
            stay as they are.

        Returns
        -------
        self

        Raises
        ------
        RuntimeError
            If metadata routing is not enabled.
        """
        return self._set_request("score", requests)

    def _routed(self) -> list[str]:
        return ["score"]

    def _metadata_of(self, method: str) -> tuple[list[str], bool]:
        return ["sample_weight"], True

    def _accept_sample_weight(self) -> bool:
        """Return whether the scorer accepts weights, which scikit-learn asks if metadata routing is not enabled."""
        return True


class _DistributionScorer(Scorer):
    """Base class of the scorers that average over rows, and over the outputs of a row."""

    _estimators: tuple[type, ...] = (NumPyroImpactRegressor,)

    def _score(self, estimator: Any, X: Any, y: Any, sample_weight: Any, arrays: dict[str, Any]) -> float:
        model, X = _model_of(estimator, X, self._estimators, type(self).__name__)
        scores = answer_by_row(Model.of(model), self._question(y), X, arrays)
        return _weighted_mean(np.asarray(scores), sample_weight)

    def _question(self, y: Any) -> Question[np.ndarray]:
        return Scores(y, self._rule)

    def _rule(self, job: sampling.Job, y: np.ndarray, class_counts: list[int] | None) -> np.ndarray:
        """Return the score of every row and output."""
        raise NotImplementedError


class LogPredictiveDensity(_DistributionScorer):
    """Log density of outcomes under the posterior predictive, averaged over rows.

    The score of a row is ``log(mean(p))``, where ``p`` are the densities of its outcome given each posterior draw. This
    logarithmic score is proper. For classes it is the negative log loss. If a row has several outputs, their joint
    density is scored. An output that has fewer classes than the kernel then has all classes of the kernel.

    See Also
    --------
    elpd : The sum over rows, with a standard error.

    References
    ----------
    T. Gneiting and A. E. Raftery (2007), Strictly proper scoring rules, prediction, and estimation, Journal of the
    American Statistical Association 102, section 4.1.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.model_selection import cross_val_score
    >>> from skaimz import NumPyroImpactRegressor, metrics
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(100, 2))
    >>> y = X @ [1.0, -2.0] + rng.normal(scale=0.1, size=100)
    >>> model = NumPyroImpactRegressor(random_state=0)
    >>> scores = cross_val_score(model, X, y, cv=2, scoring=metrics.LogPredictiveDensity())
    >>> bool(abs(scores.mean() - 0.9) < 0.2)  # the negative entropy of the noise is 0.88
    True
    """

    _estimators = EITHER

    def _question(self, y: Any) -> Question[np.ndarray]:
        return LogDensities(y)


class NegCRPS(_DistributionScorer):
    """Negative continuous ranked probability score of the posterior predictive.

    The score of an outcome is ``E|Y - y| - E|Y - Y'| / 2``, where ``Y`` and ``Y'`` are independent and have the
    posterior predictive distribution. It is the integral of ``(F(x) - (x >= y))**2``, where ``F`` is the cdf, which is
    computed by quadrature, or as a sum for counts. It is proper and has the unit of y. If a row has several outputs,
    each is scored by itself. Where no cdf is known, the distribution is that of drawn outcomes, one for each posterior
    draw, with a ``MonteCarloWarning``.

    References
    ----------
    T. Gneiting and A. E. Raftery (2007), Strictly proper scoring rules, prediction, and estimation, Journal of the
    American Statistical Association 102, equation 21.
    A. Jordan, F. Krüger and S. Lerch (2019), Evaluating probabilistic forecasts with scoringRules, Journal of
    Statistical Software 90(12), equation 3.

    Examples
    --------
    >>> import numpy as np
    >>> from skaimz import NumPyroImpactRegressor, metrics
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(100, 2))
    >>> y = X @ [1.0, -2.0] + rng.normal(scale=0.1, size=100)
    >>> model = NumPyroImpactRegressor(random_state=0).fit(X, y)
    >>> -0.07 < metrics.NegCRPS()(model, X, y) < -0.04
    True
    """

    def _rule(self, job: sampling.Job, y: np.ndarray, class_counts: list[int] | None) -> np.ndarray:
        return -sampling.crps_of_cdf(job, y)


class NegPinballLoss(_DistributionScorer):
    """Negative pinball loss of predicted quantiles, averaged over the quantiles.

    The loss of a quantile ``q`` with probability ``p`` is ``max(p * (y - q), (p - 1) * (y - q))``. Its expectation is
    smallest for the true quantile.

    Parameters
    ----------
    quantiles : sequence of float, default=(0.05, 0.5, 0.95)
        Probabilities between 0 and 1.

    References
    ----------
    R. Koenker and G. Bassett (1978), Regression quantiles, Econometrica 46.

    Examples
    --------
    >>> import numpy as np
    >>> from skaimz import NumPyroImpactRegressor, metrics
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(100, 2))
    >>> y = X @ [1.0, -2.0] + rng.normal(scale=0.1, size=100)
    >>> model = NumPyroImpactRegressor(random_state=0).fit(X, y)
    >>> -0.05 < metrics.NegPinballLoss(quantiles=[0.1, 0.9])(model, X, y) < 0
    True
    """

    def __init__(self, quantiles: Sequence[float] = (0.05, 0.5, 0.95)):
        self.quantiles = quantiles

    def _rule(self, job: sampling.Job, y: np.ndarray, class_counts: list[int] | None) -> np.ndarray:
        quantiles = check_probabilities("quantiles", self.quantiles, closed=True)
        gaps = y[..., None] - sampling.quantiles(job, quantiles)
        levels = np.asarray(quantiles)
        with np.errstate(invalid="ignore"):
            # The quantiles for 0 and 1 may be infinite, and have no loss then.
            above, below = np.where(levels > 0, levels * gaps, 0), np.where(levels < 1, (levels - 1) * gaps, 0)
        return -np.maximum(above, below).mean(axis=-1)


class IntervalCoverage(_DistributionScorer):
    """Share of outcomes inside their predicted interval.

    The share is ``coverage`` if predictions are calibrated. A greater share is not better. Use this score beside
    :class:`NegIntervalWidth`, and not as the objective of a search.

    Parameters
    ----------
    coverage : float, default=0.9
        Probability of the equal-tailed interval, as in ``predict_interval``.

    References
    ----------
    T. Gneiting, F. Balabdaoui and A. E. Raftery (2007), Probabilistic forecasts, calibration and sharpness, Journal of
    the Royal Statistical Society B 69.

    Examples
    --------
    >>> import numpy as np
    >>> from skaimz import NumPyroImpactRegressor, metrics
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(100, 2))
    >>> y = X @ [1.0, -2.0] + rng.normal(scale=0.1, size=100)
    >>> model = NumPyroImpactRegressor(random_state=0).fit(X, y)
    >>> 0.8 < metrics.IntervalCoverage(coverage=0.9)(model, X, y) < 1.0
    True
    """

    def __init__(self, coverage: float = 0.9):
        self.coverage = coverage

    def _rule(self, job: sampling.Job, y: np.ndarray, class_counts: list[int] | None) -> np.ndarray:
        lower, upper = _interval(job, self.coverage)
        # An interval with an end that is NaN neither contains nor misses an outcome.
        return np.where(np.isnan(lower) | np.isnan(upper), np.nan, (lower <= y) & (y <= upper))


class NegIntervalWidth(_DistributionScorer):
    """Negative width of predicted intervals, in the unit of y.

    Among calibrated predictions, those with the narrowest intervals are best. The score does not depend on the
    outcomes.

    Parameters
    ----------
    coverage : float, default=0.9
        Probability of the equal-tailed interval, as in ``predict_interval``.

    References
    ----------
    T. Gneiting, F. Balabdaoui and A. E. Raftery (2007), Probabilistic forecasts, calibration and sharpness, Journal of
    the Royal Statistical Society B 69.

    Examples
    --------
    >>> import numpy as np
    >>> from skaimz import NumPyroImpactRegressor, metrics
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(100, 2))
    >>> y = X @ [1.0, -2.0] + rng.normal(scale=0.1, size=100)
    >>> model = NumPyroImpactRegressor(random_state=0).fit(X, y)
    >>> -0.4 < metrics.NegIntervalWidth(coverage=0.9)(model, X, y) < -0.3  # 3.29 standard deviations
    True
    """

    def __init__(self, coverage: float = 0.9):
        self.coverage = coverage

    def _rule(self, job: sampling.Job, y: np.ndarray, class_counts: list[int] | None) -> np.ndarray:
        lower, upper = _interval(job, self.coverage)
        return lower - upper


class NegBrierScore(_DistributionScorer):
    """Negative Brier score of predicted class probabilities.

    The score of an outcome is the sum of ``(p_c - (y == c))**2`` over the classes ``c``. For two classes it is half of
    that sum, as is customary, which is the square of the second class. The score is proper. If a row has several
    outputs, each is scored by itself, with the probabilities that ``predict_proba`` returns for its classes.

    References
    ----------
    G. W. Brier (1950), Verification of forecasts expressed in terms of probability, Monthly Weather Review 78.

    Examples
    --------
    >>> import numpy as np
    >>> from skaimz import NumPyroImpactClassifier, metrics
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 2))
    >>> y = np.where(X[:, 0] > 0, "up", "down")
    >>> model = NumPyroImpactClassifier(random_state=0).fit(X, y)
    >>> -0.25 < metrics.NegBrierScore()(model, X, y) < 0  # a coin has 0.25
    True
    """

    _estimators = (NumPyroImpactClassifier,)

    def _rule(self, job: sampling.Job, y: np.ndarray, class_counts: list[int] | None) -> np.ndarray:
        probabilities = among_classes(sampling.probabilities(job), class_counts)
        if not isinstance(probabilities, list):
            return _brier_of(probabilities, y)
        return np.stack([_brier_of(*output) for output in zip(probabilities, y.T, strict=True)], axis=1)


def _brier_of(probabilities: np.ndarray, codes: np.ndarray) -> np.ndarray:
    n_classes = probabilities.shape[-1]
    squares = (probabilities - np.eye(n_classes)[codes]) ** 2
    return -squares.sum(axis=-1) / (2 if n_classes == 2 else 1)


def _model_of(estimator: Any, X: Any, wanted: tuple[type, ...], caller: str) -> tuple[Any, Any]:
    """Return the last estimator, which must be of this package, and X as the earlier steps transform it."""
    model, X = last_step(estimator, X)
    if not isinstance(model, wanted):
        names = " or ".join(kind.__name__ for kind in wanted)
        within = "" if model is estimator else f" within a {type(estimator).__name__}"
        raise TypeError(
            f"`{caller}` takes a {names}, or a Pipeline or fitted search that ends in one, but was given a "
            f"{type(model).__name__}{within}."
        )
    return model, X


def _weighted_mean(scores: np.ndarray, sample_weight: Any) -> float:
    """Average over outputs and rows."""
    by_row = scores.reshape(len(scores), -1).mean(axis=1, dtype=np.float64)
    if sample_weight is None:
        return float(by_row.mean())
    weight = check_weight(sample_weight, by_row, np.float64)
    # A row with weight zero does not count even if its score is infinite.
    counted = weight > 0
    return float(np.average(by_row[counted], weights=weight[counted]))


def _interval(job: sampling.Job, coverage: Any) -> np.ndarray:
    """Return the lower and the upper ends of intervals."""
    level = float(coverage) if isinstance(coverage, numbers.Real) else math.nan
    if not 0 < level < 1:
        raise ValueError(f"`coverage` must be a probability between 0 and 1, got {coverage!r}.")
    tail = (1 - level) / 2
    return np.moveaxis(sampling.quantiles(job, [tail, 1 - tail]), -1, 0)
