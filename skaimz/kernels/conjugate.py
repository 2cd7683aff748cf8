"""The posterior of linear regression in closed form, for a normal prior on the coefficients and any on the noise."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import scipy.linalg

__all__ = ["ConjugatePosterior"]

# The logarithm of the noise is integrated over numerically: a coarse grid finds where its density is not negligible,
# and a fine grid covers that range.
COARSE = np.linspace(-36.0, 6.0, 4201)
FINE_POINTS = 4001
DEEPEST = 40.0


class ConjugatePosterior(NamedTuple):
    """Posterior of coefficients and noise of ``outcome ~ Normal(design @ coefficients, noise)``.

    Coefficients have independent normal priors with mean zero, and the noise may have any prior. Given the noise, the
    posterior of the coefficients is normal (Gelman et al., Bayesian Data Analysis, 3rd edition, 2013, section 14.2).
    Its covariance comes from a singular value decomposition, which avoids differences of large numbers.

    Attributes
    ----------
    squares : array of shape (n_values,)
        Squared singular values of the weighted design, whose columns are multiplied by the prior standard deviations.
    vectors : array of shape (n_coefficients, n_values)
        Right singular vectors of that design.
    fitted : array of shape (n_values,)
        Products of the outcomes with the left singular vectors.
    residual : number
        Weighted sum of squared residuals of the least squares fit.
    total_weight : number
    spreads : array of shape (n_coefficients,)
        Standard deviations of the priors.
    """

    squares: np.ndarray
    vectors: np.ndarray
    fitted: np.ndarray
    residual: np.ndarray
    total_weight: np.ndarray
    spreads: np.ndarray

    @classmethod
    def of(
        cls, blocks: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray | None]], spreads: np.ndarray
    ) -> "ConjugatePosterior":
        """Compute the posterior from blocks of rows, each a design, outcomes and weights.

        The triangular factor of a QR decomposition, with the outcome as the last column, replaces the rows that have
        been read (Demmel, Grigori, Hoemmen and Langou, SIAM Journal on Scientific Computing 34(1), 2012).
        """
        size, total = len(spreads), 0.0
        triangle = np.zeros((0, size + 1))
        for design, outcome, weight in blocks:
            root = np.ones(len(outcome)) if weight is None else np.sqrt(weight)
            rows = root[:, None] * np.column_stack([design * spreads, outcome])
            triangle = scipy.linalg.qr(np.concatenate([triangle, rows]), mode="r")[0][: size + 1]
            total += len(outcome) if weight is None else weight.sum()
        left, values, right = np.linalg.svd(triangle[:, :size], full_matrices=False)
        fitted = left.T @ triangle[:, size]
        residual = np.square(triangle[:, size] - left @ fitted).sum()
        return cls(values**2, right.T, fitted, residual, np.asarray(total), spreads)

    def draw(
        self, num_samples: int, rng: np.random.Generator, log_prior: Callable[[np.ndarray], np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw coefficients ``(num_samples, n_coefficients)`` and noise ``(num_samples,)``.

        Parameters
        ----------
        num_samples : int
        rng : numpy.random.Generator
        log_prior : callable
            Log prior density of the logarithm of the noise.

        Returns
        -------
        coefficients, noise : array
        """
        coarse = self._log_density(COARSE) + log_prior(COARSE)
        inside = COARSE[coarse > coarse.max() - DEEPEST]
        step = COARSE[1] - COARSE[0]
        grid = np.linspace(inside[0] - step, inside[-1] + step, FINE_POINTS)
        density = self._log_density(grid) + log_prior(grid)
        weight = np.exp(density - density.max())
        cumulative = np.concatenate([[0.0], np.cumsum((weight[1:] + weight[:-1]) / 2)])
        # Stratified: one draw from each of `num_samples` parts of equal probability.
        probabilities = (rng.permutation(num_samples) + rng.uniform(size=num_samples)) / num_samples
        noise = np.exp(np.interp(probabilities * cumulative[-1], cumulative, grid))
        variance = noise[:, None] ** 2
        mean = self.fitted * np.sqrt(self.squares) / (variance + self.squares)
        shrunk = np.sqrt(variance / (variance + self.squares)) - 1.0
        # The symmetric root of the covariance does not depend on the signs and the order of singular vectors.
        z = rng.standard_normal((num_samples, len(self.spreads)))
        coefficients = mean @ self.vectors.T + z + (shrunk * (z @ self.vectors)) @ self.vectors.T
        return coefficients * self.spreads, noise

    def _log_density(self, log_noise: np.ndarray) -> np.ndarray:
        """Return the log density of the outcomes given the logarithm of the noise, with coefficients integrated out."""
        variance = np.exp(2 * log_noise)[:, None]
        spread = np.log1p(self.squares / variance).sum(axis=1)
        distance = self.residual / variance[:, 0] + (self.fitted**2 / (variance + self.squares)).sum(axis=1)
        return -self.total_weight * log_noise - (spread + distance) / 2
