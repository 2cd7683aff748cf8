"""Methods of the regressor for the whole distribution of outcomes."""

import numbers
from collections.abc import Sequence
from typing import Literal

import numpy as np

from skaimz.estimators._arguments import check_numbers_of, check_probabilities
from skaimz.estimators._distributions import CdfAt, Excess, Intervals, ProbabilitiesOfRange, Quantiles, TailMeans
from skaimz.estimators._model import Model
from skaimz.estimators._predictive_distribution import PredictiveDistribution
from skaimz.estimators._questions import answer_by_row
from skaimz.estimators._types import Argument, Rows

__all__ = ["PredictiveMethods"]


class PredictiveMethods:
    """Base of estimators whose outcomes are numbers."""

    def predict_quantiles(
        self,
        X: Rows,
        quantiles: Sequence[float] = (0.05, 0.5, 0.95),
        *,
        method: Literal["exact", "draws"] = "exact",
        in_sample: bool = False,
        **arrays: Argument,
    ) -> np.ndarray:
        """Return quantiles of the posterior predictive.

        Given a posterior draw, the distribution of an outcome is known. The posterior predictive is the mixture of
        these distributions over all draws. Its cdf is inverted, to about 1e-6 of the standard deviation in double
        precision, and to a few rounding errors in single precision. The result has no random error of its own, and does
        not depend on the other rows.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        quantiles : sequence of float, default=(0.05, 0.5, 0.95)
            Probabilities between 0 and 1. The quantiles for 0 and 1 are the ends of the support.
        method : {"exact", "draws"}, default="exact"
            "draws" draws one outcome for each posterior draw, and returns the quantiles of these outcomes.
        in_sample : bool, default=False
            Whether these are the rows of the fit, of whose own latent sites the posterior has draws.
        **arrays : array or scalar
            The kernel's further arguments.

        Returns
        -------
        array of shape (n_rows, n_quantiles) or (n_rows, n_outputs, n_quantiles)
            The least numbers at which the cdf reaches the probabilities. Where rows have several outputs, the quantiles
            are those of each output.

        Warns
        -----
        MonteCarloWarning
            If no cdf of the output's distribution is known: the quantiles are then those of drawn outcomes.

        Examples
        --------
        >>> import numpy as np
        >>> from skaimz import NumPyroImpactRegressor
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(100, 2))
        >>> y = X @ [1.0, -2.0] + rng.normal(scale=0.1, size=100)
        >>> model = NumPyroImpactRegressor(random_state=0).fit(X, y)
        >>> model.predict_quantiles(X[:3], [0.1, 0.5, 0.9]).shape
        (3, 3)
        """
        question = Quantiles(check_probabilities("quantiles", quantiles, closed=True), method, in_sample=in_sample)
        return answer_by_row(Model.of(self), question, X, arrays)

    def predict_interval(
        self,
        X: Rows,
        coverage: float | Sequence[float] = 0.9,
        *,
        kind: Literal["equal-tailed", "shortest"] = "equal-tailed",
        of: Literal["outcome", "mean"] = "outcome",
        method: Literal["exact", "draws"] = "exact",
        in_sample: bool = False,
        **arrays: Argument,
    ) -> np.ndarray:
        """Return intervals of the posterior predictive.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        coverage : float or sequence of float, default=0.9
            Probability that an interval holds the outcome.
        kind : {"equal-tailed", "shortest"}, default="equal-tailed"
            Outcomes are below and above an equal-tailed interval with the same probability. The shortest interval is
            the one of highest density if the density has a single peak. It needs a continuous outcome.
        of : {"outcome", "mean"}, default="outcome"
            "mean" gives intervals of the expected outcome of each row, which show the uncertainty of the parameters
            without the noise of the outcome. They are quantiles over the posterior draws.
        method : {"exact", "draws"}, default="exact"
            As in :meth:`predict_quantiles`.
        in_sample : bool, default=False
            Whether these are the rows of the fit, of whose own latent sites the posterior has draws.
        **arrays : array or scalar
            The kernel's further arguments.

        Returns
        -------
        array of shape (n_rows, 2), or (n_rows, 2, n_levels) for a sequence
            Lower and upper ends. Outputs with several values a row have their axis after the rows.

        Warns
        -----
        MonteCarloWarning
            As in :meth:`predict_quantiles`.

        Examples
        --------
        >>> import numpy as np
        >>> from skaimz import NumPyroImpactRegressor
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(100, 2))
        >>> y = X @ [1.0, -2.0] + rng.normal(scale=0.1, size=100)
        >>> model = NumPyroImpactRegressor(random_state=0).fit(X, y)
        >>> lower, upper = model.predict_interval(X, coverage=0.9).T
        >>> bool(0.8 < np.mean((lower < y) & (y < upper)) < 1.0)
        True
        """
        is_one = isinstance(coverage, numbers.Real)
        levels = check_probabilities("coverage", [coverage] if is_one else coverage, closed=False)
        intervals = answer_by_row(Model.of(self), Intervals(levels, kind, method, of, in_sample), X, arrays)
        return intervals[..., 0] if is_one else intervals

    def predict_cdf(
        self, X: Rows, y: Rows, *, strict: bool = False, in_sample: bool = False, **arrays: Argument
    ) -> np.ndarray:
        """Return the probability that an outcome is at most ``y``: the cdf of the posterior predictive.

        At the observed outcomes these are the values of the probability integral transform (PIT). If predictions are
        calibrated, the PIT of a continuous outcome is uniform.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        y : float or array-like of shape (n_rows,) or (n_rows, n_outputs)
            Numbers, one for all rows or one for each outcome.
        strict : bool, default=False
            Return the probability that the outcome is less than ``y``. It differs for numbers that have a probability
            of their own, such as counts.
        in_sample : bool, default=False
            Whether these are the rows of the fit, of whose own latent sites the posterior has draws.
        **arrays : array or scalar
            The kernel's further arguments.

        Returns
        -------
        array of shape (n_rows,) or (n_rows, n_outputs)

        Warns
        -----
        MonteCarloWarning
            If no cdf of the output's distribution is known: the probabilities are then shares of drawn outcomes.

        Examples
        --------
        >>> import numpy as np
        >>> from skaimz import NumPyroImpactRegressor
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(100, 2))
        >>> y = X @ [1.0, -2.0] + rng.normal(scale=0.1, size=100)
        >>> model = NumPyroImpactRegressor(random_state=0).fit(X, y)
        >>> model.predict_cdf([[0.0, 0.0]], 1.0).round(3).tolist()
        [1.0]
        """
        return answer_by_row(Model.of(self), CdfAt(y, strict, in_sample), X, arrays)

    def predict_proba_above(
        self, X: Rows, threshold: float | Sequence[float], *, in_sample: bool = False, **arrays: Argument
    ) -> np.ndarray:
        """Return the probability that an outcome is greater than a threshold.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        threshold : float or sequence of float
            Thresholds for all rows. :meth:`predict_cdf` takes one for each row.
        in_sample : bool, default=False
            Whether these are the rows of the fit, of whose own latent sites the posterior has draws.
        **arrays : array or scalar
            The kernel's further arguments.

        Returns
        -------
        array of shape (n_rows,), or (n_rows, n_thresholds) for a sequence
            Outputs with several values a row have their axis after the rows.

        Warns
        -----
        MonteCarloWarning
            As in :meth:`predict_cdf`.

        Examples
        --------
        >>> import numpy as np
        >>> from skaimz import NumPyroImpactRegressor
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(100, 2))
        >>> y = X @ [1.0, -2.0] + rng.normal(scale=0.1, size=100)
        >>> model = NumPyroImpactRegressor(random_state=0).fit(X, y)
        >>> model.predict_proba_above([[1.0, 0.0]], [0.0, 2.0]).round(3).tolist()
        [[1.0, 0.0]]
        """
        levels = check_numbers_of("threshold", threshold)
        question = ProbabilitiesOfRange(levels, [np.inf] * len(levels), in_sample)
        probabilities = answer_by_row(Model.of(self), question, X, arrays)
        return probabilities[..., 0] if np.ndim(threshold) == 0 else probabilities

    def predict_proba_between(
        self, X: Rows, lower: float, upper: float, /, *, in_sample: bool = False, **arrays: Argument
    ) -> np.ndarray:
        """Return the probability that an outcome is greater than one number and at most another.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        lower, upper : float
        in_sample : bool, default=False
            Whether these are the rows of the fit, of whose own latent sites the posterior has draws.
        **arrays : array or scalar
            The kernel's further arguments.

        Returns
        -------
        array of shape (n_rows,) or (n_rows, n_outputs)

        Warns
        -----
        MonteCarloWarning
            As in :meth:`predict_cdf`.

        Examples
        --------
        >>> import numpy as np
        >>> from skaimz import NumPyroImpactRegressor
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(100, 2))
        >>> y = X @ [1.0, -2.0] + rng.normal(scale=0.1, size=100)
        >>> model = NumPyroImpactRegressor(random_state=0).fit(X, y)
        >>> model.predict_proba_between([[0.0, 0.0]], -1.0, 1.0).round(1).tolist()
        [1.0]
        """
        (first,), (last,) = check_numbers_of("lower", [lower]), check_numbers_of("upper", [upper])
        if first > last:
            raise ValueError(f"`lower` must not be greater than `upper`, got {lower!r} and {upper!r}.")
        return answer_by_row(Model.of(self), ProbabilitiesOfRange([first], [last], in_sample), X, arrays)[..., 0]

    def predict_expected_shortfall(
        self,
        X: Rows,
        probability: float = 0.05,
        *,
        tail: Literal["lower", "upper"] = "lower",
        in_sample: bool = False,
        **arrays: Argument,
    ) -> np.ndarray:
        """Return the mean of the lowest outcomes, such as of the worst 5 %.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        probability : float, default=0.05
            Share of the outcomes that are averaged: those below the quantile of this probability.
        tail : {"lower", "upper"}, default="lower"
            "upper" averages the highest outcomes instead.
        in_sample : bool, default=False
            Whether these are the rows of the fit, of whose own latent sites the posterior has draws.
        **arrays : array or scalar
            The kernel's further arguments.

        Returns
        -------
        array of shape (n_rows,) or (n_rows, n_outputs)
            Infinite if the tail has no finite mean.

        Warns
        -----
        MonteCarloWarning
            As in :meth:`predict_quantiles`.

        Examples
        --------
        >>> import numpy as np
        >>> from skaimz import NumPyroImpactRegressor
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(100, 2))
        >>> y = X @ [1.0, -2.0] + rng.normal(scale=0.1, size=100)
        >>> model = NumPyroImpactRegressor(random_state=0).fit(X, y)
        >>> model.predict_expected_shortfall([[0.0, 0.0]], 0.5).round(1).tolist()  # minus 0.8 standard deviations
        [-0.1]
        """
        (share,) = check_probabilities("probability", [probability], closed=False)
        return answer_by_row(Model.of(self), TailMeans([share], tail, in_sample), X, arrays)[..., 0]

    def predict_excess(
        self, X: Rows, threshold: float | Sequence[float], *, in_sample: bool = False, **arrays: Argument
    ) -> np.ndarray:
        """Return by how much an outcome is expected to exceed a threshold: the mean of ``max(y - threshold, 0)``.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        threshold : float or sequence of float
            Finite thresholds for all rows.
        in_sample : bool, default=False
            Whether these are the rows of the fit, of whose own latent sites the posterior has draws.
        **arrays : array or scalar
            The kernel's further arguments.

        Returns
        -------
        array of shape (n_rows,), or (n_rows, n_thresholds) for a sequence
            Outputs with several values a row have their axis after the rows.

        Warns
        -----
        MonteCarloWarning
            As in :meth:`predict_quantiles`.

        Examples
        --------
        >>> import numpy as np
        >>> from skaimz import NumPyroImpactRegressor
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(100, 2))
        >>> y = X @ [1.0, -2.0] + rng.normal(scale=0.1, size=100)
        >>> model = NumPyroImpactRegressor(random_state=0).fit(X, y)
        >>> model.predict_excess([[0.0, 0.0]], [0.0, 1.0]).round(2).tolist()  # first 0.4 standard deviations
        [[0.04, 0.0]]
        """
        levels = check_numbers_of("threshold", threshold)
        if not np.isfinite(levels).all():
            raise ValueError(f"`threshold` must be finite, got {threshold!r}.")
        excess = answer_by_row(Model.of(self), Excess(levels, in_sample), X, arrays)
        return excess[..., 0] if np.ndim(threshold) == 0 else excess

    def predict_distribution(self, X: Rows, **arrays: Argument) -> PredictiveDistribution:
        """Return the distributions of the outcomes of rows, from which nothing is computed yet.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        **arrays : array or scalar
            The kernel's further arguments.

        Returns
        -------
        PredictiveDistribution
            With the methods ``mean``, ``var``, ``std``, ``cdf``, ``sf``, ``ppf``, ``median``, ``interval``, ``excess``,
            ``pdf``, ``logpdf`` and ``sample``. It can be indexed by rows.

        Examples
        --------
        >>> import numpy as np
        >>> from skaimz import NumPyroImpactRegressor
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(100, 2))
        >>> y = X @ [1.0, -2.0] + rng.normal(scale=0.1, size=100)
        >>> model = NumPyroImpactRegressor(random_state=0).fit(X, y)
        >>> model.predict_distribution([[1.0, 0.0]]).ppf([0.05, 0.95]).round(1).tolist()
        [[0.8, 1.2]]
        """
        return PredictiveDistribution(Model.of(self), X, arrays)
