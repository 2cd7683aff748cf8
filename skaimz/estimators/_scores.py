"""Outcomes held against the posterior predictive."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from sklearn.utils.validation import check_consistent_length

from skaimz import sampling
from skaimz.estimators._blocks import row_by_row

__all__ = ["ScoresMixin"]


class ScoresMixin:
    """Densities and other scores of outcomes, row by row."""

    _read: Callable[..., tuple[Any, dict[str, Any]]]
    _encode: Callable[..., np.ndarray]
    _prepare: Callable[..., sampling.Job]
    _precision: Callable[[Any], AbstractContextManager]

    def log_predictive_density(self, X: Any, y: Any, **arrays: Any) -> np.ndarray:
        """Return the log density of outcomes under the posterior predictive.

        It is ``log(mean(p))``, where ``p`` are the densities of an outcome under the posterior draws; probabilities
        where outcomes are discrete.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            New rows: latent sites with an entry for each row are drawn given the others, as in :meth:`predict`.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            Outcomes; several on one row are scored together, by their joint density.
        **arrays : array or scalar
            The kernel's further arguments.

        Returns
        -------
        array of shape (n_rows,)

        Raises
        ------
        ValueError
            If y does not fit the kernel's output, or the output has one density for all rows.

        See Also
        --------
        skaimz.metrics.elpd : Its sum over the rows, with a standard error.
        skaimz.metrics.LogPredictiveDensity : Its average over the rows, as a scorer.
        log_likelihood : The same for each draw.

        References
        ----------
        A. Gelman, J. Hwang and A. Vehtari (2014), Understanding predictive information criteria for Bayesian models,
        Statistics and Computing 24.

        Examples
        --------
        >>> import numpy as np
        >>> from skaimz import NumPyroImpactRegressor
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(100, 2))
        >>> y = X @ [1.0, -2.0] + rng.normal(scale=0.1, size=100)
        >>> model = NumPyroImpactRegressor(random_state=0).fit(X, y)
        >>> typical, impossible = model.log_predictive_density(X[:2], [y[0], y[1] + 5.0])
        >>> bool(typical > 0 > impossible)
        True
        """
        return self._scored(X, y, sampling.log_predictive, **arrays)

    @row_by_row
    def _scored(
        self, X: Any, y: Any, _rule: Callable[[sampling.Job, np.ndarray], np.ndarray], **arrays: Any
    ) -> np.ndarray:
        """Return what a rule makes of a pass over new rows, and of their outcomes in the kernel's terms."""
        X, arrays = self._read(X, arrays)
        with self._precision(X.dtype):
            job = self._prepare(X, arrays)
            y = self._encode(y, job.spec, X.dtype, job.first_row)
            check_consistent_length(X, y)
            return _rule(job, y)
