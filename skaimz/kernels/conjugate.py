"""Linear regression with a normal prior on the coefficients, given the noise: a posterior in closed form."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import scipy.linalg

__all__ = ["ConjugatePosterior"]

# The noise is integrated over numerically: on a coarse grid of its logarithm, and on a fine one where the density is.
COARSE = np.linspace(-36.0, 6.0, 4201)
FINE_POINTS = 4001
DEEPEST = 40.0


class ConjugatePosterior(NamedTuple):
    """Posterior of coefficients and noise of ``outcome ~ Normal(design @ coefficients, noise)``.

    Coefficients have independent normal priors around zero, and the noise any prior. Given the noise, the coefficients
    are normal; their covariance comes from one singular value decomposition (Gelman et al., Bayesian Data Analysis, 3rd
    edition, 2013, section 14.2), in which no difference of large numbers is taken.

    Attributes
    ----------
    squares : array of shape (n_values,)
        Squared singular values of the weighted design, its columns multiplied by the prior's standard deviations.
    vectors : array of shape (n_coefficients, n_values)
        Its right singular vectors.
    fitted : array of shape (n_values,)
        Outcomes in terms of the left singular vectors.
    residual : number
        Sum of squared residuals of least squares, weighted.
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
        """Reduce rows, which come block by block as design, outcome and weight, to what the posterior depends on.

        A triangle takes the place of all rows so far: that of their QR decomposition, with the outcome as the last
        column (Demmel, Grigori, Hoemmen and Langou, SIAM Journal on Scientific Computing 34(1), 2012).
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
            Logarithm of the prior density of the noise's logarithm.

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
        # One draw from each of as many equal parts of the distribution.
        places = (rng.permutation(num_samples) + rng.uniform(size=num_samples)) / num_samples
        noise = np.exp(np.interp(places * cumulative[-1], cumulative, grid))
        variance = noise[:, None] ** 2
        mean = self.fitted * np.sqrt(self.squares) / (variance + self.squares)
        shrunk = np.sqrt(variance / (variance + self.squares)) - 1.0
        # A symmetric root of the covariance, which depends on no sign or order of singular vectors.
        z = rng.standard_normal((num_samples, len(self.spreads)))
        coefficients = mean @ self.vectors.T + z + (shrunk * (z @ self.vectors)) @ self.vectors.T
        return coefficients * self.spreads, noise

    def _log_density(self, log_noise: np.ndarray) -> np.ndarray:
        """Return the log density of outcomes at logarithms of the noise, the coefficients integrated out."""
        variance = np.exp(2 * log_noise)[:, None]
        spread = np.log1p(self.squares / variance).sum(axis=1)
        distance = self.residual / variance[:, 0] + (self.fitted**2 / (variance + self.squares)).sum(axis=1)
        return -self.total_weight * log_noise - (spread + distance) / 2
