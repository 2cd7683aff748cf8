"""How outcomes are coded for a kernel: numbers stay numbers, class labels become codes."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, column_or_1d

from skaimz import sampling
from skaimz.estimators._arguments import check_outcome, without_single_column
from skaimz.estimators._columns import in_numbers
from skaimz.kernels import KernelSpec, as_floats, finite, kernel_parameters, unmasked
from skaimz.rows import LazyRows, Reader, check_numbers, pieces_of

__all__ = ["Codes", "Labels", "Numbers", "Outcome"]

# A row whose drawn classes do not exist is drawn again at most this often, each time with the seed moved on by a step.
MOST_ATTEMPTS, SEED_STEP = 100, 0x9E3779B9
# Code of missing labels.
MISSING_CODE = -1
CLASS_DISTRIBUTIONS = {distribution.__name__ for distribution in sampling.CLASS_DISTRIBUTIONS}


class Outcome:
    """Base of the ways to code outcomes.

    Attributes
    ----------
    labels : list of array, array or None
        Class labels in the order of their codes; None where outcomes stand for themselves.
    class_counts : list of int or None
        Number of classes of each output, None where that is unknown.
    """

    labels: Any = None
    class_counts: list[int] | None = None
    # Keyword arguments of scikit-learn's check of training outcomes.
    checks: ClassVar[Mapping[str, Any]] = {}

    def prepare(self, y: Any) -> Any:
        """Return training outcomes for scikit-learn's checks."""
        return y

    def learn(
        self, y: np.ndarray, dtype: Any, classes: Any = None, *, allow_missing: bool = False
    ) -> "tuple[Outcome, np.ndarray]":
        """Return the coding that checked training outcomes ask for, and the outcomes in it.

        Missing outcomes are NaN, or -1 among codes of classes.
        """
        raise NotImplementedError

    def learn_in_parts(
        self, y: Any, dtype: Any, classes: Any = None, *, allow_missing: bool = False
    ) -> "tuple[Outcome, Reader]":
        """Return the coding that training outcomes ask for, and a function that reads a part of them in it."""
        raise NotImplementedError

    def extra_arguments(self, kernel: Callable) -> dict[str, Any]:
        """Return arguments of the kernel that follow from the outcomes."""
        return {}

    def check(self, y: Any, spec: KernelSpec, first: int = 0) -> Any:
        """Check coded outcomes, the first of which belongs to row ``first``, against the kernel's output site."""
        return check_outcome(y if spec[spec.output].event_shape else without_single_column(y), spec, first)

    def encode(
        self, y: Any, spec: KernelSpec, dtype: Any, first: int = 0, *, allow_missing: bool = False
    ) -> np.ndarray:
        """Check and code outcomes as a user passes them, the first of which belongs to row ``first``."""
        raise NotImplementedError

    def draw(self, job: sampling.Job) -> np.ndarray:
        """Draw outcomes of shape ``(n_rows, ..., n_draws)``."""
        return sampling.outcomes(job)

    def decode(self, outcomes: np.ndarray) -> np.ndarray:
        """Return drawn outcomes as a user knows them."""
        return outcomes


class Numbers(Outcome):
    """Outcomes that are numbers."""

    checks: ClassVar[Mapping[str, Any]] = {"allow_nd": True}

    def prepare(self, y: Any) -> Any:
        """Convert numbers that are stored as objects."""
        return in_numbers("y", y)

    def learn(
        self, y: np.ndarray, dtype: Any, classes: Any = None, *, allow_missing: bool = False
    ) -> tuple[Outcome, np.ndarray]:
        """Convert outcomes to floats of a type."""
        y = as_floats("y", y, dtype)
        # scikit-learn looks for missing numbers before it converts objects.
        return self, finite("y", y, allow_nan=allow_missing)

    def learn_in_parts(
        self, y: Any, dtype: Any, classes: Any = None, *, allow_missing: bool = False
    ) -> tuple[Outcome, Reader]:
        """Return a function that converts a part of the outcomes to floats of a type."""

        def read(part: np.ndarray, start: int) -> np.ndarray:
            return as_floats("y", check_numbers("y", part, start, allow_nan=allow_missing), dtype, start)

        return self, read

    def check(self, y: Any, spec: KernelSpec, first: int = 0) -> Any:
        """Check outcomes; class codes become integers."""
        y = super().check(y, spec, first)
        if spec[spec.output].n_classes is None:
            return y
        return y.then(_whole_numbers) if isinstance(y, LazyRows) else _whole_numbers(y)

    def encode(
        self, y: Any, spec: KernelSpec, dtype: Any, first: int = 0, *, allow_missing: bool = False
    ) -> np.ndarray:
        """Check outcomes and convert them to floats of a type."""
        y = check_array(
            in_numbers("y", unmasked(y)),
            ensure_2d=False,
            ensure_all_finite="allow-nan" if allow_missing else True,
            allow_nd=True,
            dtype=[np.float64, np.float32],
            input_name="y",
        )
        return self.check(as_floats("y", y, dtype, first), spec, first)


class Codes(Outcome):
    """Classes before a fit: `learn` finds their labels, and until then outcomes are the kernel's own codes."""

    def learn(
        self, y: np.ndarray, dtype: Any, classes: Any = None, *, allow_missing: bool = False
    ) -> tuple[Outcome, np.ndarray]:
        """Return the labels, which ``classes`` may name, and the codes of outcomes."""
        y = without_single_column(y) if allow_missing else _checked_labels(y, 0)
        present = _labels_in([y])
        outcome = self._of(present if classes is None else classes, len(present), named=classes is not None)
        return outcome, outcome.codes(y)

    def learn_in_parts(
        self, y: Any, dtype: Any, classes: Any = None, *, allow_missing: bool = False
    ) -> tuple[Outcome, Reader]:
        """Return the labels, which ``classes`` may name, and a function that codes a part of the outcomes."""
        checked = _with_missing if allow_missing else _checked_labels
        labels = classes if classes is not None else self._labels_of(y, checked)
        outcome = self._of(labels, 1 if len(y.shape) == 1 else y.shape[1], named=classes is not None)
        return outcome, lambda part, start: outcome.codes(checked(part, start))

    def _labels_of(self, y: Any, checked: Reader) -> Any:
        """Return the labels in all pieces of the outcomes."""
        return _labels_in(checked(*part) for part in _numbered(y))

    def _of(self, labels: Any, n_outputs: int, *, named: bool) -> "Labels":
        """Return the coding with the labels of each output, which the user may have named."""
        for classes in (by_output := _by_output(labels, n_outputs, named=named)):
            if len(classes) < 2:
                raise ValueError(f"y must hold at least 2 classes, got 1 class: {classes.tolist()}.")
        return Labels(by_output[0] if n_outputs == 1 else by_output)

    def encode(
        self, y: Any, spec: KernelSpec, dtype: Any, first: int = 0, *, allow_missing: bool = False
    ) -> np.ndarray:
        """Check codes."""
        return check_outcome(np.asarray(y) if spec[spec.output].event_shape else column_or_1d(y), spec, first)


class Labels(Codes):
    """Classes with the labels of the training outcomes.

    Parameters
    ----------
    labels : array, or list of arrays
        Sorted labels; a list has those of each of several outputs.
    """

    def __init__(self, labels: Any):
        self.labels = labels
        self.by_output: list[np.ndarray] = labels if isinstance(labels, list) else [labels]
        self.class_counts = list(map(len, self.by_output))

    def _labels_of(self, y: Any, checked: Reader) -> Any:
        """Return the known labels: each part is compared with them when it is read."""
        return self.by_output

    def _of(self, labels: Any, n_outputs: int, *, named: bool) -> "Labels":
        """Return this coding; labels that the user names again must be the same."""
        if named and not all(map(np.array_equal, _by_output(labels, n_outputs, named=True), self.by_output)):
            known = [classes.tolist() for classes in self.by_output]
            raise ValueError(f"`classes` are {labels!r}, but were {known[0] if n_outputs == 1 else known} before.")
        return self

    def extra_arguments(self, kernel: Callable) -> dict[str, Any]:
        """Return the number of classes, where the kernel has a parameter for it without default."""
        parameter = kernel_parameters(kernel).get("n_classes")
        is_needed = parameter is not None and parameter.default is parameter.empty
        return {"n_classes": max(map(len, self.by_output))} if is_needed else {}

    def check(self, y: Any, spec: KernelSpec, first: int = 0) -> Any:
        """Check codes and that the kernel's output has their number of classes."""
        site, most = spec[spec.output], max(map(len, self.by_output))
        if site.distribution not in CLASS_DISTRIBUTIONS:
            raise ValueError(
                "A classifier's output must have a Bernoulli, categorical or ordered distribution, but site "
                f"{site.name!r} has {site.distribution}. Use NumPyroImpactRegressor for numbers."
            )
        if site.n_classes is None and most > 2:
            raise ValueError(f"A Bernoulli output has 2 classes, but y has {most}.")
        # One of several outputs may have fewer classes than the kernel. Its probabilities are then conditional on
        # these classes.
        fits = site.n_classes is None or site.n_classes == most or (y.ndim == 2 and site.n_classes > most)
        if not fits:
            raise ValueError(
                f"The kernel's output {site.name!r} has {site.n_classes} classes, but y has {most}. Give the kernel a "
                "parameter `n_classes`, which is passed the number of classes of y."
            )
        return super().check(y, spec, first)

    def encode(
        self, y: Any, spec: KernelSpec, dtype: Any, first: int = 0, *, allow_missing: bool = False
    ) -> np.ndarray:
        """Return the codes of labels."""
        labels = np.asarray(y) if spec[spec.output].event_shape else column_or_1d(y)
        return check_outcome(self.codes(_checked_labels(labels, first)), spec, first)

    def codes(self, y: np.ndarray) -> np.ndarray:
        """Return the positions of labels among the classes, -1 for missing ones."""
        outputs, codes = outputs_of(y), []
        if len(outputs) != len(self.by_output):
            raise ValueError(f"y has {len(outputs)} output(s), but had {len(self.by_output)} in `fit`.")
        for labels, classes in zip(outputs, self.by_output, strict=True):
            labels, present = _present(labels)
            unknown = sorted(set(labels.tolist()) - set(classes.tolist()), key=str)
            if unknown:
                raise ValueError(f"y holds labels that `fit` did not see: {unknown}. Known are {classes.tolist()}.")
            codes.append(np.full(len(present), MISSING_CODE, np.int32))
            codes[-1][present] = np.searchsorted(classes, labels)
        return codes[0] if y.ndim == 1 else np.column_stack(codes)

    def draw(self, job: sampling.Job) -> np.ndarray:
        """Draw codes; a row is drawn again where one of its outputs gets a class that the output does not have."""
        drawn = super().draw(job)
        counts = np.array(self.class_counts)[:, None]
        for attempt in range(MOST_ATTEMPTS):
            impossible = drawn.reshape(len(drawn), len(counts), -1) >= counts
            if not impossible.any():
                return drawn
            again = dataclasses.replace(job, seed=(job.seed + SEED_STEP * (attempt + 1)) % 2**32)
            drawn = np.where(impossible.any(axis=1, keepdims=True), super().draw(again), drawn)
        raise ValueError(
            f"The kernel's output {job.spec.output!r} keeps drawing classes that y did not have: give the kernel no "
            "more classes than y has."
        )

    def decode(self, outcomes: np.ndarray) -> np.ndarray:
        """Return the labels of codes."""
        if sampling.lacks_values(outcomes):
            raise ValueError(
                "There is no label to draw for some rows: their class probabilities are NaN for some posterior draws. "
                "Look at the rows for which `predict_proba` gives NaN."
            )
        if not isinstance(self.labels, list):
            return self.labels[outcomes]
        labels = [classes[outcomes[:, output]] for output, classes in enumerate(self.labels)]
        mixed = len({array.dtype.kind for array in labels}) > 1
        return np.stack([array.astype(object) if mixed else array for array in labels], axis=1)


def outputs_of(y: np.ndarray) -> Sequence[np.ndarray]:
    """Return the outcomes of each output, each with a type of its own."""
    if y.ndim == 1:
        return [y]
    return [_plain(labels) if not np.asarray(pd.isna(labels)).any() else labels for labels in y.T]


def _plain(labels: np.ndarray) -> np.ndarray:
    """Return labels that are objects in a type of NumPy."""
    return np.asarray(labels.tolist()) if labels.dtype == object else labels


def _present(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels of one output that are not missing, and where they are."""
    present = ~np.asarray(pd.isna(labels))
    return (labels if present.all() else _plain(labels[present])), present


def _by_output(labels: Any, n_outputs: int, *, named: bool) -> list[np.ndarray]:
    """Return the sorted labels of each output."""
    labels = [labels] if named and n_outputs == 1 else labels
    if len(labels) != n_outputs:
        raise ValueError(
            f"`classes` must be a list with the labels of each of the {n_outputs} outputs of y, got {labels!r}."
        )
    return list(map(np.unique, labels))


def _labels_in(parts: Iterable[np.ndarray]) -> list[np.ndarray]:
    """Return the distinct labels of each output in all parts of y."""
    labels: list[np.ndarray] = []
    for y in parts:
        outputs = [_present(output)[0] for output in outputs_of(y)]
        for output in outputs:
            check_classification_targets(output)
        here = list(map(np.unique, outputs))
        labels = list(map(np.union1d, labels, here)) if labels else here
    return labels


def _numbered(y: Any) -> Iterator[tuple[np.ndarray, int]]:
    """Yield the parts of y, each with the number of its first row."""
    start = 0
    for part in pieces_of("y", y):
        yield part, start
        start += len(part)


def _checked_labels(y: np.ndarray, start: int) -> np.ndarray:
    missing = pd.isna(y)
    if missing.any():
        raise ValueError(f"y has no label in row {start + int(np.argwhere(missing)[0, 0])}.")
    return without_single_column(y)


def _with_missing(y: np.ndarray, start: int) -> np.ndarray:
    return without_single_column(y)


def _whole_numbers(y: np.ndarray) -> np.ndarray:
    """Return class codes as integers."""
    if (y != np.floor(y)).any():
        raise ValueError(
            f"y must hold whole numbers, the codes of the output's classes, got {y[y != np.floor(y)].flat[0]}. Use "
            "NumPyroImpactClassifier for labels of other kinds."
        )
    return y.astype(np.int32)
