"""The classifier."""

import dataclasses
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, column_or_1d

from skaimz import sampling
from skaimz.estimators._arguments import check_outcome, without_single_column
from skaimz.estimators._base import ImpactEstimator
from skaimz.estimators._blocks import row_by_row
from skaimz.estimators._increments import learns_in_parts
from skaimz.estimators._labels import restored_labels, stored_labels
from skaimz.estimators._routing import setter
from skaimz.exceptions import OutputWarning, warn_user
from skaimz.kernels import KernelSpec, kernel_parameters
from skaimz.kernels.default import LinearClassification
from skaimz.rows import Reader, loaded, pieces_of

__all__ = ["NumPyroImpactClassifier"]

# Outcomes that cannot be are drawn anew so often at most, each time from a seed at this distance.
MOST_ATTEMPTS, NEXT_SEED = 100, 0x9E3779B9
CLASS_DISTRIBUTIONS = {distribution.__name__ for distribution in sampling.CLASS_DISTRIBUTIONS}


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
    inference : str, Auto, SVI, MCMC, Sampler or NumPyro object, default="auto"
        ``"svi"``, ``"mcmc"``, settings (:class:`skaimz.inference.SVI`, :class:`skaimz.inference.MCMC`), or a NumPyro
        ``SVI`` or ``MCMC`` object of the kernel. Such an object is read as a recipe, whether it has run or not: the fit
        begins anew, and leaves it as it is. Static arguments of a NumPyro ``SVI`` are arguments of the kernel. What
        else it holds and a fit would ignore, such as another model, is refused.
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

    set_predict_proba_request = setter("predict_proba")
    set_predict_log_proba_request = setter("predict_log_proba")

    @available_if(learns_in_parts)
    def partial_fit(
        self, X: Any, y: Any = None, classes: Any = None, *, sample_weight: Any = None, **arrays: Any
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
        return self._partial_fit(X, y, sample_weight, arrays, classes=classes)

    def _check_data(
        self, X: Any, y: Any, given: Collection[str], *, reset: bool, classes: Any = None
    ) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        X, y, columns = self._validate(X, y, given, reset=reset)
        y = without_single_column(y)
        found = _labels_in([y])
        self._learn_classes(found if classes is None else classes, len(found), reset=reset, given=classes is not None)
        return X, self._codes(y), columns

    def _outcome_reader(self, y: Any, dtype: Any, *, reset: bool, classes: Any = None) -> Reader:
        if classes is not None or reset:
            # Labels that are known beforehand are compared with each part as it is read.
            found = classes if classes is not None else _labels_in(_checked_labels(*part) for part in _numbered(y))
            n_outputs = 1 if len(y.shape) == 1 else y.shape[1]
            self._learn_classes(found, n_outputs, reset=reset, given=classes is not None)
        return lambda part, start: self._codes(_checked_labels(part, start))

    def _learn_classes(self, classes: Any, n_outputs: int, *, reset: bool, given: bool) -> None:
        """Remember the labels of each output, or compare those that are given with those known."""
        labels = [classes] if given and n_outputs == 1 else classes
        if len(labels) != n_outputs:
            raise ValueError(
                f"`classes` must be a list with the labels of each of the {n_outputs} outputs of y, got {classes!r}."
            )
        found = list(map(np.unique, labels))
        if reset:
            for labels in found:
                if len(labels) < 2:
                    raise ValueError(f"y must hold at least 2 classes, got 1 class: {labels.tolist()}.")
            self.classes_ = found[0] if n_outputs == 1 else found
        elif given and not all(map(np.array_equal, found, self._classes)):
            known = [labels.tolist() for labels in self._classes]
            raise ValueError(f"`classes` are {classes!r}, but were {known[0] if n_outputs == 1 else known} before.")

    def _check_outcome(self, y: np.ndarray, spec: KernelSpec, first: int = 0) -> np.ndarray:
        site, most = spec[spec.output], self._most_classes
        if site.distribution not in CLASS_DISTRIBUTIONS:
            raise ValueError(
                "A classifier's output must have a Bernoulli, categorical or ordered distribution, but site "
                f"{site.name!r} has "
                f"{site.distribution}. Use NumPyroImpactRegressor for numbers."
            )
        if site.n_classes is None and most > 2:
            raise ValueError(f"A Bernoulli output has 2 classes, but y has {most}.")
        # Of several outputs, some may have fewer classes than the kernel: it is then read given that none is beyond.
        fits = site.n_classes is None or site.n_classes == most or (y.ndim == 2 and site.n_classes > most)
        if not fits:
            raise ValueError(
                f"The kernel's output {site.name!r} has {site.n_classes} classes, but y has {most}. Give the kernel a "
                "parameter `n_classes`, which is passed the number of classes of y."
            )
        return super()._check_outcome(y, spec, first)

    def _encode(self, y: Any, spec: KernelSpec, dtype: Any, first: int = 0) -> np.ndarray:
        labels = np.asarray(y) if spec[spec.output].event_shape else column_or_1d(y)
        return check_outcome(self._codes(labels) if hasattr(self, "classes_") else labels, spec, first)

    @property
    def _classes(self) -> list[np.ndarray]:
        """Labels of each output."""
        return self.classes_ if isinstance(self.classes_, list) else [self.classes_]

    @property
    def _class_counts(self) -> list[int] | None:
        """Number of classes of each output, None where no fit has told them."""
        return list(map(len, self._classes)) if hasattr(self, "classes_") else None

    @property
    def _most_classes(self) -> int:
        return max(map(len, self._classes))

    def _codes(self, y: np.ndarray) -> np.ndarray:
        """Return the places of labels among the classes."""
        outputs, codes = _outputs(y), []
        if len(outputs) != len(self._classes):
            raise ValueError(f"y has {len(outputs)} output(s), but had {len(self._classes)} in `fit`.")
        for labels, classes in zip(outputs, self._classes, strict=True):
            unknown = sorted(set(labels.tolist()) - set(classes.tolist()), key=str)
            if unknown:
                raise ValueError(
                    f"y holds labels that were not there in `fit`: {unknown}. Known are {classes.tolist()}."
                )
            codes.append(np.searchsorted(classes, labels).astype(np.int32))
        return codes[0] if y.ndim == 1 else np.column_stack(codes)

    def _extra_arguments(self, kernel: Callable) -> dict[str, Any]:
        parameter = kernel_parameters(kernel).get("n_classes")
        asked = parameter is not None and parameter.default is parameter.empty and hasattr(self, "classes_")
        return {"n_classes": self._most_classes} if asked else {}

    @row_by_row
    def predict_proba(self, X: Any, **arrays: Any) -> Any:
        """Return posterior predictive class probabilities.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
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
        X, arrays = self._read(X, arrays)
        with self._precision(X.dtype):
            job = self._prepare(X, arrays)
            found = sampling.probabilities(job)
        if np.isnan(found).any():
            warn_user(
                f"Class probabilities of {np.count_nonzero(np.isnan(found).any(axis=-1))} rows are NaN: a parameter of "
                "the output's distribution is no number for some posterior draws.",
                OutputWarning,
            )
        return found if found.ndim == 2 else among_classes(found, self._class_counts)

    @row_by_row
    def predict_log_proba(self, X: Any, **arrays: Any) -> Any:
        """Return the logarithm of :meth:`predict_proba`.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
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
        found = self.predict_proba(X, **arrays)
        with np.errstate(divide="ignore"):
            return [np.log(each) for each in found] if isinstance(found, list) else np.log(found)

    @row_by_row
    def predict(self, X: Any, **arrays: Any) -> np.ndarray:
        """Return the most probable label of each row.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
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
        found = self.predict_proba(X, **arrays)
        missing = [np.isnan(each).any(axis=-1) for each in (found if isinstance(found, list) else [found])]
        if np.any(missing):
            row = int(np.any(missing, axis=0).argmax())
            raise ValueError(f"Row {row} has no most probable class: its class probabilities are NaN.")
        codes = [each.argmax(axis=-1) for each in found] if isinstance(found, list) else found.argmax(axis=-1)
        return self._label_outcomes(np.column_stack(codes) if isinstance(codes, list) else codes)

    def score(self, X: Any, y: Any, sample_weight: Any = None, **arrays: Any) -> float:
        """Return the accuracy of :meth:`predict`.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            A row with several outputs counts as right where all of them are.
        sample_weight : array-like of shape (n_rows,), optional
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
        y, predicted, sample_weight = map(loaded, (y, self.predict(X, **arrays), sample_weight))
        if predicted.ndim == 1:
            return float(accuracy_score(y, predicted, sample_weight=sample_weight))
        y = np.asarray(y)
        check_consistent_length(y, predicted, sample_weight)
        if y.shape != predicted.shape:
            raise ValueError(f"y has the shape {y.shape}, but predictions have {predicted.shape}.")
        return float(np.average((y == predicted).all(axis=1), weights=sample_weight))

    def _draw_outcomes(self, job: sampling.Job) -> np.ndarray:
        """Draw codes of classes that y had, and anew where one of a row's is of no class of its output."""
        drawn = super()._draw_outcomes(job)
        if not hasattr(self, "classes_"):
            return drawn
        counts = np.array([len(classes) for classes in self._classes])[:, None]
        for attempt in range(MOST_ATTEMPTS):
            impossible = drawn.reshape(len(drawn), len(counts), -1) >= counts
            if not impossible.any():
                return drawn
            again = dataclasses.replace(job, seed=(job.seed + NEXT_SEED * (attempt + 1)) % 2**32)
            drawn = np.where(impossible.any(axis=1, keepdims=True), super()._draw_outcomes(again), drawn)
        raise ValueError(
            f"The kernel's output {job.spec.output!r} draws classes that y did not have, again and again: give the "
            "kernel no more classes than y has."
        )

    def _label_outcomes(self, outcomes: np.ndarray) -> np.ndarray:
        # Draws from elsewhere without a fit know no labels: the kernel's integers then stand for themselves.
        if not hasattr(self, "classes_"):
            return outcomes
        if sampling.lacks_values(outcomes):
            raise ValueError(
                "There is no label to draw for some rows: their class probabilities are NaN for some posterior draws. "
                "Look at the rows for which `predict_proba` gives NaN."
            )
        if not isinstance(self.classes_, list):
            return self.classes_[outcomes]
        labels = [classes[outcomes[:, i]] for i, classes in enumerate(self.classes_)]
        mixed = len({each.dtype.kind for each in labels}) > 1
        return np.stack([each.astype(object) if mixed else each for each in labels], axis=1)

    def _saved_attrs(self) -> dict[str, Any]:
        return {
            "classes": json.dumps(list(map(stored_labels, self._classes))),
            "several_outputs": int(isinstance(self.classes_, list)),
        }

    def _restore_attrs(self, attrs: Mapping[Any, Any]) -> None:
        classes: Any = list(map(restored_labels, json.loads(attrs["classes"])))
        self.classes_ = classes if attrs["several_outputs"] else classes[0]


def among_classes(probabilities: np.ndarray, counts: Sequence[int] | None) -> list[np.ndarray]:
    """Return the probabilities of each output's classes, given that none occurs that the kernel alone has.

    Parameters
    ----------
    probabilities : array of shape (n_rows, n_outputs, n_classes)
    counts : sequence of int or None
        Number of classes of each output; all of the kernel's where None.

    Returns
    -------
    list of array of shape (n_rows, count)
    """
    counts = counts or [probabilities.shape[-1]] * probabilities.shape[1]
    possible = [probabilities[:, output, :count] for output, count in enumerate(counts)]
    return [each / each.sum(axis=-1, keepdims=True) for each in possible]


def _numbered(y: Any) -> Iterator[tuple[np.ndarray, int]]:
    """Yield the parts of y, each with the number of its first row."""
    start = 0
    for part in pieces_of("y", y):
        yield part, start
        start += len(part)


def _labels_in(parts: Iterable[np.ndarray]) -> list[np.ndarray]:
    """Return the distinct labels of each output in all parts of y."""
    found: list[np.ndarray] = []
    for y in parts:
        outputs = _outputs(y)
        for labels in outputs:
            check_classification_targets(labels)
        here = list(map(np.unique, outputs))
        found = list(map(np.union1d, found, here)) if found else here
    return found


def _checked_labels(y: np.ndarray, start: int) -> np.ndarray:
    missing = pd.isna(y)
    if missing.any():
        raise ValueError(f"y has no label in row {start + int(np.argwhere(missing)[0, 0])}.")
    return without_single_column(y)


def _outputs(y: np.ndarray) -> Sequence[np.ndarray]:
    """Return the outcomes of each output, each with a type of its own."""
    if y.ndim == 1:
        return [y]
    return [np.asarray(labels.tolist()) if y.dtype == object else labels for labels in y.T]
