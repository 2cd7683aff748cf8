"""The classifier."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import accuracy_score
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_consistent_length

from skaimz.estimators._base import ImpactEstimator
from skaimz.estimators._bases import ClassifierMixin
from skaimz.estimators._fitting import fit_part
from skaimz.estimators._increments import learns_in_parts
from skaimz.estimators._missing import accuracy_of_observed
from skaimz.estimators._model import Model
from skaimz.estimators._outcomes import Codes, Labels, Outcome
from skaimz.estimators._parameters import setter
from skaimz.estimators._predictions import Classes, LogProbabilities, Probabilities
from skaimz.estimators._questions import answer_by_row
from skaimz.estimators._training import TrainingData
from skaimz.estimators._types import Argument, Rows
from skaimz.kernels.default import LinearClassification
from skaimz.rows import loaded

__all__ = ["NumPyroImpactClassifier"]


class NumPyroImpactClassifier(ClassifierMixin, ImpactEstimator):
    """Bayesian classification with any NumPyro model.

    Parameters
    ----------
    kernel : callable, optional
        A NumPyro model ``kernel(X, y=None, *, ...)`` whose output site has a Bernoulli, categorical or ordered
        distribution and observes ``y`` through ``obs=``. It sees classes as the integers 0, 1, ...; a parameter named
        ``n_classes`` is given their number. None stands for a weakly informative logistic regression.
    param_input, param_output : str, default="X", "y"
        Names of the kernel's parameters for the input and the outcome.
    column_args : dict, optional
        Columns of X that hold further arguments of the kernel, and do not reach its X: see NumPyroImpactRegressor.
    whole_args : sequence of str, optional
        Names of the kernel's arguments that are passed whole, even if their first axis has as many entries as X has
        rows. Other arrays of that length have an entry for each row.
    allow_nan : bool, default=False
        Whether X and further arguments of the kernel may have missing entries. A kernel of your own gets them as NaN,
        and must replace them, for example by latent sites; the default kernel takes none.
    missing_outcomes : {"error", "ignore", "impute"}, default="error"
        What a fit does with outcomes that are NaN, None or masked: it refuses them, leaves each missing entry of y out
        of the likelihood, or leaves them out and adds draws of them to ``posterior_``, in the order of
        ``numpy.argwhere``, as the site ``"<output>_unobserved"``.
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
    classes_ : array of shape (n_classes,), or list of such arrays
        Labels in the order of the kernel's classes; a list where y has several outputs.
    categories_ : dict of str to list of array
        Categories of each column of the arguments in ``column_args``, in the order of their codes; None for numbers.
    posterior_ : dict of str to array of shape (n_chains, n_draws, ...)
        Posterior draws of the latent sites.
    fit_result_ : FitResult
        Parameters, losses, sampler statistics and diagnostics; plain arrays only.
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
    NumPyroImpactRegressor : The same for numbers.

    Notes
    -----
    ``predict_proba`` averages the class probabilities of the output site over posterior draws; no outcome is drawn.

    Examples
    --------
    >>> import numpy as np
    >>> from skaimz import NumPyroImpactClassifier
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 2))
    >>> y = np.where(X[:, 0] > 0, "up", "down")
    >>> model = NumPyroImpactClassifier(random_state=0).fit(X, y)
    >>> model.predict([[3.0, 0.0], [-3.0, 0.0]]).tolist()
    ['up', 'down']
    """

    classes_: Any

    _default_kernel = LinearClassification
    _unlearned_outcome = Codes()

    set_predict_proba_request = setter("predict_proba")
    set_predict_log_proba_request = setter("predict_log_proba")

    @available_if(learns_in_parts)
    def partial_fit(
        self,
        X: Rows,
        y: Rows | None = None,
        classes: ArrayLike | Sequence[ArrayLike] | None = None,
        *,
        sample_weight: ArrayLike | None = None,
        **arrays: Argument,
    ) -> Self:
        """Go on learning from further rows: one pass over them by variational inference.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features), or iterable of mappings
        y : array-like of shape (n_rows,) or (n_rows, n_outputs), optional
            It may be left out where it comes with X.
        classes : array-like of shape (n_classes,), or list of them, optional
            All labels that will ever occur, for each output: needed in the first call, and the same in later ones.
        sample_weight : array-like of shape (n_rows,), optional
            Non-negative factor on each row's log-likelihood.
        **arrays : array or scalar
            The kernel's further arguments.

        Returns
        -------
        self

        See Also
        --------
        NumPyroImpactRegressor.partial_fit : On minibatches and how they are scaled.
        """
        if classes is None and not hasattr(self, "fit_result_"):
            raise ValueError("`classes` must name all labels that will ever occur in the first call of `partial_fit`.")
        fit_part(self, TrainingData(X, y, sample_weight, arrays), classes)
        return self

    def predict_proba(self, X: Rows, *, in_sample: bool = False, **arrays: Argument) -> np.ndarray | list[np.ndarray]:
        """Return posterior predictive class probabilities.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        in_sample : bool, default=False
            Whether these are the rows of the fit, of whose own latent sites the posterior has draws.
        **arrays : array or scalar
            The kernel's further arguments.

        Returns
        -------
        array of shape (n_rows, n_classes), or list of such arrays
            A list has an array for each of several outputs. Where an output has fewer classes than the kernel, these
            are probabilities given that none of the others occurs.

        Examples
        --------
        >>> import numpy as np
        >>> from skaimz import NumPyroImpactClassifier
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(200, 2))
        >>> y = np.where(X[:, 0] > 0, "up", "down")
        >>> model = NumPyroImpactClassifier(random_state=0).fit(X, y)
        >>> model.predict_proba([[3.0, 0.0]]).round(1).tolist()  # of each of `classes_`
        [[0.0, 1.0]]
        """
        return answer_by_row(Model.of(self), Probabilities(in_sample), X, arrays)

    def predict_log_proba(
        self, X: Rows, *, in_sample: bool = False, **arrays: Argument
    ) -> np.ndarray | list[np.ndarray]:
        """Return the logarithm of :meth:`predict_proba`.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        in_sample : bool, default=False
            Whether these are the rows of the fit, of whose own latent sites the posterior has draws.
        **arrays : array or scalar
            The kernel's further arguments.

        Returns
        -------
        array of shape (n_rows, n_classes), or list of such arrays
            A list has an array for each of several outputs.

        Examples
        --------
        >>> import numpy as np
        >>> from skaimz import NumPyroImpactClassifier
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(200, 2))
        >>> y = np.where(X[:, 0] > 0, "up", "down")
        >>> model = NumPyroImpactClassifier(random_state=0).fit(X, y)
        >>> bool(np.allclose(model.predict_log_proba(X), np.log(model.predict_proba(X))))
        True
        """
        return answer_by_row(Model.of(self), LogProbabilities(in_sample), X, arrays)

    def predict(self, X: Rows, *, in_sample: bool = False, **arrays: Argument) -> np.ndarray:
        """Return the most probable label of each row.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        in_sample : bool, default=False
            Whether these are the rows of the fit, of whose own latent sites the posterior has draws.
        **arrays : array or scalar
            The kernel's further arguments.

        Returns
        -------
        array of shape (n_rows,) or (n_rows, n_outputs)

        Examples
        --------
        >>> import numpy as np
        >>> from skaimz import NumPyroImpactClassifier
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(200, 2))
        >>> y = np.where(X[:, 0] > 0, "up", "down")
        >>> model = NumPyroImpactClassifier(random_state=0).fit(X, y)
        >>> model.predict([[3.0, 0.0]]).tolist()
        ['up']
        """
        return answer_by_row(Model.of(self), Classes(in_sample), X, arrays)

    def score(
        self,
        X: Rows,
        y: Rows,
        sample_weight: ArrayLike | None = None,
        *,
        in_sample: bool = False,
        **arrays: Argument,
    ) -> float:
        """Return the accuracy of :meth:`predict`.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            A row with several outputs counts as right where all of them are.
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
        >>> from skaimz import NumPyroImpactClassifier
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(200, 2))
        >>> y = np.where(X[:, 0] > 0, "up", "down")
        >>> model = NumPyroImpactClassifier(random_state=0).fit(X, y)
        >>> model.score(X, y) > 0.9
        True
        """
        # Each is computed once, rather than whenever scikit-learn looks at it.
        y, predicted, sample_weight = map(loaded, (y, self.predict(X, in_sample=in_sample, **arrays), sample_weight))
        if self.missing_outcomes != "error":
            return accuracy_of_observed(y, predicted, sample_weight)
        if predicted.ndim == 1:
            return float(accuracy_score(y, predicted, sample_weight=sample_weight))
        y = np.asarray(y)
        check_consistent_length(y, predicted, sample_weight)
        if y.shape != predicted.shape:
            raise ValueError(f"y has the shape {y.shape}, but predictions have {predicted.shape}.")
        weights: Any = sample_weight
        return float(np.average((y == predicted).all(axis=1), weights=weights))

    def _outcome(self) -> Outcome:
        # Draws that were made elsewhere, without a fit, know no labels.
        return Labels(self.classes_) if hasattr(self, "classes_") else self._unlearned_outcome
