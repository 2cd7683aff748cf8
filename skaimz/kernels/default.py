"""The kernels behind ``kernel=None``: weakly informative Bayesian linear and logistic regression."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpyro
import numpyro.distributions as dist

from skaimz.kernels.conjugate import ConjugatePosterior

__all__ = ["LinearClassification", "LinearRegression"]

# Lower bound of the noise, as a share of the outcome's standard deviation: the density of an exact fit is unbounded.
LEAST_NOISE = 1e-9
# Prior standard deviation of standardised coefficients.
COEFFICIENT_SPREAD = 2.5
# Number of rows that are read at a time.
BLOCK_ROWS = 2**16


def _moments(values: Any, weight: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return weighted means and standard deviations of columns, 1 as the standard deviation of a constant column.

    The moments of blocks of rows are merged by the formulas of Chan, Golub and LeVeque (Updating formulae and a
    pairwise algorithm for computing sample variances, Stanford 1979, STAN-CS-79-773).
    """
    total, mean, squares = 0.0, np.zeros(values.shape[1:]), np.zeros(values.shape[1:])
    for start in range(0, len(values), BLOCK_ROWS):
        part = slice(start, start + BLOCK_ROWS)
        block = values[part].astype(np.float64)
        factor = None if weight is None else weight[part].astype(np.float64)
        count = len(block) if factor is None else factor.sum()
        if not count:
            continue
        block_mean = np.average(block, axis=0, weights=factor)
        shift = block_mean - mean
        squares = squares + count * np.average((block - block_mean) ** 2, axis=0, weights=factor)
        squares = squares + shift**2 * (total * count / (total + count))
        mean = mean + shift * (count / (total + count))
        total += count
    if not total:
        raise ValueError("`sample_weight` is zero for every row.")
    scale = np.sqrt(squares / total)
    varies = scale > 1e-12 * np.maximum(np.abs(mean), 1e-300)
    scale = np.where(varies, scale, 1.0)
    # Rounded, by about 1e-11 of the scale, so that neither the order of rows nor weights instead of repeated rows
    # change the result.
    step = 2.0 ** (np.floor(np.log2(np.where(varies | (mean == 0), scale, np.abs(mean)))) - 36)
    return np.round(mean / step) * step, np.where(varies, np.round(scale / step) * step, 1.0)


class _Standardised:
    """A kernel whose hyperparameters are means and standard deviations of the training data."""

    _names: tuple[str, ...]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._names}

    def set_params(self, **params: Any) -> "_Standardised":
        vars(self).update(params)
        return self


class LinearRegression(_Standardised):
    """Linear regression on standardised columns.

    The model is ``y ~ Normal(intercept + X @ coef, sigma)``. The standardised intercept has a standard normal prior,
    and standardised coefficients have normal priors with standard deviation 2.5. ``sigma`` divided by the standard
    deviation of ``y`` is ``tau`` plus a billionth, where ``tau`` has an exponential prior with mean 1. These priors
    follow Gelman, Hill and Vehtari, Regression and Other Stories, 2020, section 9.5.

    Parameters
    ----------
    x_mean, x_scale : array of shape (n_features,)
    y_mean, y_scale : number
    """

    _names = ("x_mean", "x_scale", "y_mean", "y_scale")

    def __init__(self, x_mean: Any, x_scale: Any, y_mean: Any, y_scale: Any):
        self.x_mean, self.x_scale, self.y_mean, self.y_scale = x_mean, x_scale, y_mean, y_scale

    @classmethod
    def of(cls, rows: Mapping[str, Any], weight: Any, n_classes: int | None) -> "LinearRegression":
        """Compute the hyperparameters from training data and the weights of its rows."""
        y = rows["y"]
        return cls(*(np.asarray(m, y.dtype) for m in (*_moments(rows["X"], weight), *_moments(y, weight))))

    def __call__(self, X: Any, y: Any = None) -> None:
        """Run the model."""
        alpha = numpyro.sample("alpha", dist.Normal(0.0, 1.0))
        beta = numpyro.sample("beta", dist.Normal(0.0, COEFFICIENT_SPREAD).expand([X.shape[1]]).to_event(1))
        tau = numpyro.sample("tau", dist.Exponential(1.0))
        coef = numpyro.deterministic("coef", self.y_scale * beta / self.x_scale)
        numpyro.deterministic("intercept", self.y_mean + self.y_scale * alpha - self.x_mean @ coef)
        sigma = numpyro.deterministic("sigma", self.y_scale * (tau + LEAST_NOISE))
        # Columns are centred because a mean far from zero would cost digits.
        mu = self.y_mean + self.y_scale * alpha + (X - self.x_mean[None, :]) @ coef
        with numpyro.plate("rows", X.shape[0]):
            numpyro.sample("y", dist.Normal(mu, sigma), obs=y)

    def closed_form(self, X: Any, y: Any, weight: Any) -> ConjugatePosterior:
        """Return the posterior given the data, which are read block by block. :meth:`draw` samples from it."""

        def blocks() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
            for start in range(0, len(y), BLOCK_ROWS):
                part = slice(start, start + BLOCK_ROWS)
                Z = (np.asarray(X[part], np.float64) - self.x_mean) / self.x_scale
                outcome = (np.asarray(y[part], np.float64) - self.y_mean) / self.y_scale
                factor = None if weight is None else np.asarray(weight[part], np.float64)
                yield np.column_stack([np.ones(len(Z)), Z]), outcome, factor

        spreads = np.full(1 + len(self.x_mean), COEFFICIENT_SPREAD)
        spreads[0] = 1.0
        return ConjugatePosterior.of(blocks(), spreads)

    @staticmethod
    def draw(posterior: ConjugatePosterior, num_samples: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Draw the latent sites from the posterior that :meth:`closed_form` returns."""

        def log_prior(log_noise: np.ndarray) -> np.ndarray:
            # The density of tau, transformed to that of the logarithm of the noise.
            beyond = np.exp(log_noise) - LEAST_NOISE
            return np.where(beyond > 0, log_noise - beyond, -np.inf)

        coefficients, noise = posterior.draw(num_samples, rng, log_prior)
        return {"alpha": coefficients[:, 0], "beta": coefficients[:, 1:], "tau": noise - LEAST_NOISE}


class LinearClassification(_Standardised):
    """Logistic regression on standardised columns, multinomial for more than two classes.

    Standardised coefficients and intercepts have normal priors with standard deviation 2.5 (Gelman, Jakulin, Pittau and
    Su, Annals of Applied Statistics 2(4), 2008, who use Cauchy distributions).

    Parameters
    ----------
    x_mean, x_scale : array of shape (n_features,)
    n_classes : int
    """

    _names = ("x_mean", "x_scale", "n_classes")

    def __init__(self, x_mean: Any, x_scale: Any, n_classes: int):
        self.x_mean, self.x_scale, self.n_classes = x_mean, x_scale, n_classes

    @classmethod
    def of(cls, rows: Mapping[str, Any], weight: Any, n_classes: int | None) -> "LinearClassification":
        """Compute the hyperparameters from training data and the weights of its rows."""
        assert n_classes is not None
        X = rows["X"]
        mean, scale = (np.asarray(moment, X.dtype) for moment in _moments(X, weight))
        return cls(mean, scale, n_classes)

    def __call__(self, X: Any, y: Any = None) -> None:
        """Run the model."""
        Z = (X - self.x_mean[None, :]) / self.x_scale[None, :]
        outputs = () if self.n_classes == 2 else (self.n_classes,)
        alpha = numpyro.sample("alpha", dist.Normal(0.0, 2.5).expand(outputs).to_event(len(outputs)))
        shape = (X.shape[1], *outputs)
        beta = numpyro.sample("beta", dist.Normal(0.0, 2.5).expand(shape).to_event(len(shape)))
        logits = Z @ beta + (alpha[None, :] if outputs else alpha)
        with numpyro.plate("rows", X.shape[0]):
            distribution = dist.Bernoulli(logits=logits) if not outputs else dist.Categorical(logits=logits)
            numpyro.sample("y", distribution, obs=y)
