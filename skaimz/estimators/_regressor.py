"""The regressor."""

from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import r2_score

from skaimz.estimators._base import ImpactEstimator
from skaimz.estimators._bases import RegressorMixin
from skaimz.estimators._missing import r2_of_observed
from skaimz.estimators._model import Model
from skaimz.estimators._outcomes import Numbers
from skaimz.estimators._predictions import Means, Moments, refuse_part
from skaimz.estimators._predictive_methods import PredictiveMethods
from skaimz.estimators._questions import Question, answer_by_row
from skaimz.estimators._types import Argument, Rows
from skaimz.kernels.default import LinearRegression
from skaimz.rows import loaded

__all__ = ["NumPyroImpactRegressor"]


class NumPyroImpactRegressor(RegressorMixin, PredictiveMethods, ImpactEstimator):
    """Bayesian regression with any NumPyro model.

    Parameters
    ----------
    kernel : callable, optional
        A NumPyro model ``kernel(X, y=None, *, ...)`` whose output site observes ``y`` through ``obs=``: a function, a
        ``functools.partial``, a handler-wrapped function, or an object with ``__call__``, ``get_params`` and
        ``set_params``, whose numbers can then be searched as ``kernel__<name>``. None stands for a weakly informative
        linear regression.
    param_input, param_output : str, default="X", "y"
        Names of the kernel's parameters for the input and the outcome.
    column_args : dict, optional
        Columns of X that hold further arguments of the kernel, and do not reach its X. Each argument is given a column
        by name or position, a list of them for an argument with two dimensions, or a mapping with ``columns`` and, if
        wanted, ``categories``, ``unknown`` and ``unknown_value``. Labels arrive as integer codes: places among the
        given categories, those of the column's type, or its sorted distinct values in ``fit``. Other categories are
        refused, have the code ``unknown_value``, or, with ``unknown="new"``, are new levels, whose latent sites are
        drawn from their distribution given all other sites. The kernel's parameter ``n_<argument>``, where it has one
        without default, is given the number of codes; then the column holds labels, whatever its type. Otherwise text
        and columns with ``categories`` are labels, and numbers are numbers, however they are stored. Times, durations
        and numbers that are stored as text could be either, and are refused.
    whole_args : sequence of str, optional
        Names of the kernel's arguments that are passed whole, even if their first axis has as many entries as X has
        rows. Other arrays of that length have an entry for each row.
    allow_nan : bool, default=False
        Whether X and further arguments of the kernel may have missing entries. A kernel of your own gets them as NaN,
        and must replace them, for example by latent sites; the default kernel takes none.
    missing_outcomes : {"error", "ignore", "impute", "keep"}, default="error"
        What a fit does with outcomes that are NaN, None or masked: it refuses them, leaves each missing entry of y out
        of the likelihood, leaves them out and adds draws of them to ``posterior_``, in the order of
        ``numpy.argwhere``, as the site ``"<output>_unobserved"``, or gives them to the kernel, which must mask them.
        The kernel gets NaN then.
    inference : str, Auto, SVI, MCMC, Sampler or NumPyro object, default="auto"
        ``"svi"``, ``"mcmc"``, settings (:class:`skaimz.inference.SVI`, :class:`skaimz.inference.MCMC`), or a NumPyro
        ``SVI``, ``SteinVI`` or ``MCMC`` object of the kernel. Such an object is read as a recipe, whether it has run or
        not: the fit begins anew, and leaves it as it is. Static arguments of a NumPyro ``SVI`` are arguments of the
        kernel. What else it holds and a fit would ignore, such as another model, is refused.
    posterior : mapping, Dataset, DataTree or numpyro.infer.MCMC, optional
        Posterior draws made elsewhere, as in :meth:`set_posterior_sample`; a NumPyro ``MCMC`` object that has run gives
        those of its chains. Nothing is then inferred.
    dtype : {"float32", "float64"}, optional
        Precision of all arithmetic; that of X where None.
    random_state : int, RandomState, JAX key or None, default=None
        Source of the one seed that decides every random number.
    verbose : int, default=0
        Show progress bars of fits and of draws where positive.

    Attributes
    ----------
    posterior_ : dict of str to array of shape (n_chains, n_draws, ...)
        Posterior draws of the latent sites.
    fit_result_ : FitResult
        Parameters, losses, sampler statistics and diagnostics; plain arrays only.
    categories_ : dict of str to list of array
        Categories of each column of the arguments in ``column_args``, in the order of their codes; None for numbers.
    kernel_ : callable
        The kernel that was fitted.
    kernel_spec_ : KernelSpec
        Its sites, found by abstract tracing.
    arguments_ : dict
        Shapes and types of its arguments, and the values of static ones.
    rows_of_fit_ : dict of str to array, or None
        The rows of the fit and their outcomes, if predictions for new rows depend on them.
    seed_ : int
        The seed that ``random_state`` gave.
    n_features_in_ : int
        Length of the second axis of X: for a table, its number of columns. Absent if X has one dimension.
    feature_names_in_ : array of str
        Names of the columns, where X had any.

    See Also
    --------
    NumPyroImpactClassifier : The same for classes.

    Notes
    -----
    ``predict`` is deterministic: it averages the conditional mean of the output site over posterior draws, rather than
    random outcomes. Only a distribution without a closed mean is averaged over outcomes, and then every row sees the
    same random numbers, so that its prediction does not depend on other rows.

    Examples
    --------
    >>> import numpy as np
    >>> from skaimz import NumPyroImpactRegressor
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(100, 2))
    >>> y = X @ [1.0, -2.0] + rng.normal(scale=0.1, size=100)
    >>> model = NumPyroImpactRegressor(random_state=0).fit(X, y)
    >>> model.predict(X[:1]).shape
    (1,)
    >>> model.score(X, y) > 0.99
    True
    """

    _default_kernel = LinearRegression

    _unlearned_outcome = Numbers()

    @overload
    def predict(
        self, X: Rows, *, return_std: Literal[False] = False, in_sample: bool = False, **arrays: Argument
    ) -> np.ndarray: ...

    @overload
    def predict(
        self, X: Rows, *, return_std: Literal[True], in_sample: bool = False, **arrays: Argument
    ) -> tuple[np.ndarray, np.ndarray]: ...

    def predict(
        self, X: Rows, *, return_std: bool = False, in_sample: bool = False, **arrays: Argument
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Return the posterior predictive mean.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        return_std : bool, default=False
            Also return the posterior predictive standard deviation, which includes the outcome's noise: by the
            distribution of total variance, the mean of conditional variances plus the variance of conditional means.
        in_sample : bool, default=False
            Whether these are the rows of the fit, of whose own latent sites the posterior has draws.
        **arrays : array or scalar
            The kernel's further arguments.

        Returns
        -------
        mean : array of shape (n_rows,) or (n_rows, n_outputs)
        std : array of the same shape
            Only with ``return_std=True``.

        Examples
        --------
        >>> import numpy as np
        >>> from skaimz import NumPyroImpactRegressor
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(100, 2))
        >>> y = X @ [1.0, -2.0] + rng.normal(scale=0.1, size=100)
        >>> model = NumPyroImpactRegressor(random_state=0).fit(X, y)
        >>> mean, std = model.predict([[1.0, 0.0]], return_std=True)
        >>> mean.round(1).tolist(), std.round(1).tolist()
        ([1.0], [0.1])
        """
        question: Question[Any] = Moments(in_sample) if return_std else Means(in_sample)
        return answer_by_row(Model.of(self), question, X, arrays)

    def score(
        self,
        X: Rows,
        y: Rows,
        sample_weight: ArrayLike | None = None,
        *,
        in_sample: bool = False,
        **arrays: Argument,
    ) -> float:
        """Return the coefficient of determination of :meth:`predict`.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
        sample_weight : array-like of shape (n_rows,), optional
        in_sample : bool, default=False
            Whether these are the rows of the fit, of whose own latent sites the posterior has draws.
        **arrays : array or scalar
            The kernel's further arguments.

        Returns
        -------
        float

        Examples
        --------
        >>> import numpy as np
        >>> from skaimz import NumPyroImpactRegressor
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(100, 2))
        >>> y = X @ [1.0, -2.0] + rng.normal(scale=0.1, size=100)
        >>> model = NumPyroImpactRegressor(random_state=0).fit(X, y)
        >>> round(model.score(X, y), 2)
        1.0
        """
        refuse_part(Model.of(self).spec)
        # Each is computed once, rather than whenever scikit-learn looks at it.
        predict: Any = self.predict
        outcomes: Any
        outcomes, predicted, sample_weight = map(loaded, (y, predict(X, in_sample=in_sample, **arrays), sample_weight))
        if self.missing_outcomes != "error":
            return r2_of_observed(outcomes, predicted, sample_weight)
        if np.ndim(predicted) > 2:
            outcomes, predicted = (np.reshape(array, (len(array), -1)) for array in (outcomes, predicted))
        return float(r2_score(outcomes, predicted, sample_weight=sample_weight))
