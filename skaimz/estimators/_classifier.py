"""The classifier."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d, validate_data

from skaimz import sampling
from skaimz.estimators._arguments import check_outcome
from skaimz.estimators._base import ImpactEstimator
from skaimz.kernels import KernelSpec, kernel_parameters
from skaimz.kernels.default import LinearClassification

__all__ = ["NumPyroImpactClassifier"]

CLASS_LAWS = {law.__name__ for law in sampling.CLASS_LAWS}


class NumPyroImpactClassifier(ClassifierMixin, ImpactEstimator):
    """Bayesian classification with any NumPyro model.

    Parameters
    ----------
    kernel : callable, optional
        A NumPyro model ``kernel(X, y=None, *, ...)`` whose output site has a Bernoulli, categorical or ordered law and
        observes ``y`` through ``obs=``. It sees classes as the integers 0, 1, ...; a parameter named ``n_classes`` is
        given their number. None stands for a weakly informative logistic regression.
    param_input, param_output : str, default="X", "y"
        Names of the kernel's parameters for the input and the outcome.
    column_args : dict, optional
        Columns of X, by name or position (or lists of them), that hold further arguments of the kernel. They do not
        reach the kernel's X.
    inference : str, SVI, MCMC or NumPyro object, default="svi"
        ``"svi"``, ``"mcmc"``, settings (:class:`skaimz.inference.SVI`, :class:`skaimz.inference.MCMC`), or a NumPyro
        ``SVI`` or ``MCMC`` object, which is read as a recipe.
    posterior : mapping, Dataset or DataTree, optional
        Posterior draws made elsewhere, as in :meth:`set_posterior_sample`. Nothing is then inferred.
    dtype : {"float32", "float64"}, optional
        Precision of all arithmetic; that of X where None.
    random_state : int, RandomState, JAX key or None, default=None
        Source of the one seed that decides every random number.
    verbose : int, default=0
        Show a progress bar where positive.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
        Labels in the order of the kernel's classes.
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
    seed_ : int
        The seed that ``random_state`` gave.
    n_features_in_ : int
        Number of columns of X.
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

    _default_kernel = LinearClassification

    def _check_data(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32], multi_output=True)
        check_classification_targets(y)
        if y.ndim == 2 and y.shape[1] > 1:
            raise ValueError(f"y should be a 1d array, got an array of shape {y.shape} instead.")
        self.classes_, codes = np.unique(column_or_1d(y, warn=True), return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y must hold at least 2 classes, got 1 class: {self.classes_[0]!r}.")
        return self._cast(X), codes.astype(np.int32)

    def _check_outcome(self, y: np.ndarray, spec: KernelSpec) -> np.ndarray:
        site = spec[spec.output]
        if site.law not in CLASS_LAWS:
            raise ValueError(
                f"A classifier's output must have a Bernoulli, categorical or ordered law, but site {site.name!r} has "
                f"{site.law}. Use NumPyroImpactRegressor for numbers."
            )
        if site.n_classes is None and len(self.classes_) > 2:
            raise ValueError(f"A Bernoulli output has 2 classes, but y has {len(self.classes_)}.")
        if site.n_classes not in (None, len(self.classes_)):
            raise ValueError(
                f"The kernel's output {site.name!r} has {site.n_classes} classes, but y has {len(self.classes_)}. Give "
                "the kernel a parameter `n_classes`, which is passed the number of classes of y."
            )
        return super()._check_outcome(y, spec)

    def _encode(self, y: Any, spec: KernelSpec) -> np.ndarray:
        labels = column_or_1d(y)
        classes = getattr(self, "classes_", None)
        if classes is None:
            return check_outcome(np.asarray(labels), spec)
        unknown = sorted(set(labels.tolist()) - set(classes.tolist()), key=str)
        if unknown:
            raise ValueError(f"y holds labels that were not there in `fit`: {unknown}. Known are {classes.tolist()}.")
        return np.searchsorted(classes, labels).astype(np.int32)

    def _extra_arguments(self, kernel: Callable) -> dict[str, Any]:
        parameter = kernel_parameters(kernel).get("n_classes")
        asked = parameter is not None and parameter.default is parameter.empty and hasattr(self, "classes_")
        return {"n_classes": len(self.classes_)} if asked else {}

    def predict_proba(self, X: Any, **arrays: Any) -> np.ndarray:
        """Return posterior predictive class probabilities.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        **arrays : array or scalar
            The kernel's further arguments.

        Returns
        -------
        array of shape (n_rows, n_classes)
        """
        X, arrays = self._read(X, arrays)
        with self._precision(X.dtype):
            job = self._prepare(X, arrays)
            return sampling.probabilities(job)

    def predict_log_proba(self, X: Any, **arrays: Any) -> np.ndarray:
        """Return the logarithm of :meth:`predict_proba`.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        **arrays : array or scalar
            The kernel's further arguments.

        Returns
        -------
        array of shape (n_rows, n_classes)
        """
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X, **arrays))

    def predict(self, X: Any, **arrays: Any) -> np.ndarray:
        """Return the most probable label of each row.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        **arrays : array or scalar
            The kernel's further arguments.

        Returns
        -------
        array of shape (n_rows,)
        """
        return self._label_outcomes(self.predict_proba(X, **arrays).argmax(axis=-1))

    def score(self, X: Any, y: Any, sample_weight: Any = None, **arrays: Any) -> float:
        """Return the accuracy of :meth:`predict`.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        y : array-like of shape (n_rows,)
        sample_weight : array-like of shape (n_rows,), optional
        **arrays : array or scalar
            The kernel's further arguments.

        Returns
        -------
        float
        """
        return float(accuracy_score(y, self.predict(X, **arrays), sample_weight=sample_weight))

    def _label_outcomes(self, outcomes: np.ndarray) -> np.ndarray:
        # Draws from elsewhere without a fit know no labels: the kernel's integers then stand for themselves.
        return self.classes_[outcomes] if hasattr(self, "classes_") else outcomes

    def _saved_attrs(self) -> dict[str, Any]:
        return {"classes": json.dumps(self.classes_.tolist()), "classes_dtype": self.classes_.dtype.str}

    def _restore_attrs(self, attrs: Mapping[Any, Any]) -> None:
        self.classes_ = np.asarray(json.loads(attrs["classes"]), dtype=np.dtype(attrs["classes_dtype"]))
