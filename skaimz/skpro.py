"""Estimators as probabilistic regressors of skpro.

Install skpro with ``pip install 'skaimz[skpro]'``. Its pipelines, searches and scores then take estimators of this
package, and their distributions are exact: nothing is drawn but what ``sample`` returns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from skpro.distributions.base import BaseDistribution
from skpro.regression.base import BaseProbaRegressor

from skaimz.estimators import NumPyroImpactRegressor, PredictiveDistribution

__all__ = ["SkproDistribution", "SkproRegressor"]


class SkproRegressor(BaseProbaRegressor):
    """A regressor of skpro around one of this package.

    Parameters
    ----------
    estimator : NumPyroImpactRegressor
        Fitted as a copy, which is the attribute ``estimator_``.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from skaimz import NumPyroImpactRegressor
    >>> from skaimz.skpro import SkproRegressor
    >>> rng = np.random.default_rng(0)
    >>> X = pd.DataFrame({"dose": rng.normal(size=100)})
    >>> y = pd.DataFrame({"effect": 2.0 * X["dose"] + rng.normal(scale=0.1, size=100)})
    >>> model = SkproRegressor(NumPyroImpactRegressor(random_state=0)).fit(X, y)
    >>> model.predict_interval(X, coverage=0.9).columns.tolist()
    [('effect', 0.9, 'lower'), ('effect', 0.9, 'upper')]
    """

    _tags = {  # noqa: RUF012  (skpro reads it from the class)
        "authors": ["skaimz"],
        "capability:multioutput": True,
        "capability:missing": False,
    }

    def __init__(self, estimator: NumPyroImpactRegressor):
        self.estimator = estimator
        super().__init__()

    def _fit(self, X: pd.DataFrame, y: pd.DataFrame) -> SkproRegressor:
        self.columns_ = y.columns
        self.estimator_ = clone(self.estimator).fit(_named(X), y.iloc[:, 0] if y.shape[1] == 1 else y)
        return self

    def _predict(self, X: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame(self.estimator_.predict(_named(X)), index=X.index, columns=self.columns_)

    def _predict_proba(self, X: pd.DataFrame) -> SkproDistribution:
        distribution = self.estimator_.predict_distribution(_named(X))
        return SkproDistribution(distribution, index=X.index, columns=self.columns_)

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Return parameters of the objects that skpro's own tests take."""
        return [{"estimator": NumPyroImpactRegressor(random_state=seed)} for seed in (0, 1)]


def _named(X: pd.DataFrame) -> pd.DataFrame:
    """Return rows whose columns all have text for names, if some of them have."""
    return X if X.columns.map(type).nunique() == 1 else X.rename(columns=str)


class SkproDistribution(BaseDistribution):
    """A distribution of skpro for the outcomes of some rows.

    Parameters
    ----------
    distribution : PredictiveDistribution
        Distributions of the rows.
    outputs : list of int, optional
        Numbers of the outputs that are the columns. All of them where None.
    index, columns : pandas.Index, optional
        Labels of the rows and of the outputs. Without labels, this is one number's distribution.
    """

    _tags = {  # noqa: RUF012
        "authors": ["skaimz"],
        "capabilities:exact": ["mean", "var", "energy", "pdf", "log_pdf", "pmf", "log_pmf", "cdf", "ppf"],
        "capabilities:approx": ["pdfnorm"],
        "distr:measuretype": "mixed",
        "distr:paramtype": "nonparametric",
    }

    def __init__(
        self,
        distribution: PredictiveDistribution,
        outputs: Sequence[int] | None = None,
        index: Any = None,
        columns: Any = None,
    ):
        self.distribution, self.outputs = distribution, outputs
        super().__init__(index=index, columns=columns)
        self.set_tags(**{"distr:measuretype": "discrete" if distribution.is_discrete else "continuous"})

    def _iloc(self, rowidx: Any = None, colidx: Any = None) -> SkproDistribution:
        if all(place is not None and np.ndim(place) == 0 for place in (rowidx, colidx)):
            return self._iat(rowidx, colidx)
        rows, columns = (
            np.arange(length) if place is None else np.atleast_1d(np.arange(length)[place])
            for length, place in zip(self.shape, (rowidx, colidx), strict=True)
        )
        all_rows = rowidx is None or np.array_equal(rows, np.arange(len(self)))
        return SkproDistribution(
            self.distribution if all_rows else self.distribution[rows],
            self._columns()[columns].tolist(),
            self.index[rows],
            self.columns[columns],
        )

    def _iat(self, rowidx: int, colidx: int) -> SkproDistribution:
        return SkproDistribution(self.distribution[[rowidx]], [int(self._columns()[colidx])])

    def _columns(self) -> np.ndarray:
        """Return the numbers of the outputs that are columns."""
        every = np.arange(int(np.prod(self.distribution.shape[1:])))
        return every if self.outputs is None else every[list(self.outputs)]

    def _ask(self, method: Callable[..., np.ndarray], numbers: Any = None) -> np.ndarray:
        """Return what a method gives for the columns, with a number for each of them where it takes one."""
        shape, columns = self.distribution.shape, self._columns()
        if numbers is None:
            results = method()
        else:
            # Other outputs get the same numbers as the first column, and are left out again.
            numbers = np.reshape(numbers, (shape[0], len(columns)))
            every = np.repeat(numbers[:, :1], int(np.prod(shape[1:])), axis=1)
            every[:, columns] = numbers
            results = method(every.reshape(shape))
        return np.reshape(results, (shape[0], -1))[:, columns].reshape(self.shape)

    def _mean(self) -> np.ndarray:
        return self._ask(self.distribution.mean)

    def _var(self) -> np.ndarray:
        return self._ask(self.distribution.var)

    def _cdf(self, x: Any) -> np.ndarray:
        return self._ask(self.distribution.cdf, x)

    def _surv(self, x: Any) -> np.ndarray:
        return self._ask(self.distribution.sf, x)

    def _ppf(self, p: Any) -> np.ndarray:
        return self._ask(lambda levels: self.distribution.ppf(levels[..., None])[..., 0], p)

    def _log_pdf(self, x: Any) -> np.ndarray:
        if len(self.distribution.shape) > 1:
            raise NotImplementedError("Rows with several outputs have a joint density, and none for each output.")
        return self._ask(self.distribution.logpdf, x)

    def _pdf(self, x: Any) -> np.ndarray:
        return np.exp(self._log_pdf(x))

    _pmf, _log_pmf = _pdf, _log_pdf

    def _energy_x(self, x: Any) -> np.ndarray:
        return self._of_rows(self._distance(x))

    def _energy_self(self) -> np.ndarray:
        # The CRPS at any number is the mean distance to it less half the mean distance of two outcomes.
        median = self._ask(self.distribution.median)
        return self._of_rows(2 * (self._distance(median) - self._ask(self.distribution.crps, median)))

    def _distance(self, x: Any) -> np.ndarray:
        """Return the mean distance of outcomes to numbers."""
        return 2 * self._ask(self.distribution.excess, x) - self._mean() + x

    def _of_rows(self, energies: np.ndarray) -> np.ndarray:
        return energies.sum(axis=1, keepdims=True) if self.ndim else energies

    def _sample(self, n_samples: int | None = None) -> Any:
        # skpro draws by NumPy's global generator, so that two samples differ and `numpy.random.seed` repeats them.
        seed = np.random.randint(2**31 - 1)  # noqa: NPY002
        drawn = self.distribution.sample(1 if n_samples is None else n_samples, random_state=seed)
        by_draw = np.moveaxis(drawn, -1, 0).reshape(drawn.shape[-1], len(self.distribution), -1)[..., self._columns()]
        if not self.ndim:
            return by_draw[0, 0, 0] if n_samples is None else pd.DataFrame(by_draw[:, 0, 0])
        tables = [pd.DataFrame(each, index=self.index, columns=self.columns) for each in by_draw]
        return tables[0] if n_samples is None else pd.concat(tables, keys=range(n_samples))
