"""From training data, as a user passes them to ``fit``, to what a fitted estimator keeps."""

import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from skaimz import inference
from skaimz.datatree import draws_from
from skaimz.estimators._arguments import is_fixed, join_arguments, seed_of
from skaimz.estimators._constructor import check_parameters, kernel_of
from skaimz.estimators._entries import without_entries
from skaimz.estimators._growth import digests_of_rows, rows_to_keep
from skaimz.estimators._increments import check_continuation
from skaimz.estimators._missing import check_can_be_left_out, drawn_missing, filled, shaped_like, weighted_by
from skaimz.estimators._model import Call, Model, precision_of
from skaimz.estimators._persistence import before_tracing, describe_inputs
from skaimz.estimators._posterior import match_draws
from skaimz.estimators._training import Learner, TrainingData
from skaimz.exceptions import OutputWarning, let_go, warn_user
from skaimz.inference import FitResult
from skaimz.kernels import OBSERVED, check_row_count, flattened, float_type
from skaimz.rows import Scratch, comes_in_pieces

__all__ = ["fit_kernel", "fit_part", "unchanged_on_error"]


@dataclass(frozen=True)
class _Task:
    """What is asked of a fit beside its data.

    Attributes
    ----------
    before : FitResult or None
        What a fit in parts goes on from.
    in_parts : bool
        Whether further rows may follow.
    classes : array of shape (n_classes,), list of them, or None
        Labels of each output of a classifier, of which y need not have all.
    progress : bool
        Whether to show a progress bar.
    """

    before: FitResult | None = None
    in_parts: bool = False
    classes: Any = None
    progress: bool = False


def fit_kernel(estimator: Any, data: TrainingData, *, classes: Any = None, progress: bool = False) -> None:
    """Fit an estimator; it is left as it was if that fails.

    Parameters
    ----------
    estimator : KernelEstimator
    data : TrainingData
    classes : array of shape (n_classes,), list of them, or None
        Labels of each output of a classifier, of which y need not have all.
    progress : bool, default=False
    """
    _fit(estimator, data, _Task(classes=classes, progress=progress))


def fit_part(estimator: Any, data: TrainingData, classes: Any = None) -> None:
    """Let an estimator go on learning from further rows; it is left as it was if that fails."""
    check_continuation(estimator)
    _fit(estimator, data, _Task(getattr(estimator, "fit_result_", None), in_parts=True, classes=classes))


def _fit(estimator: Any, data: TrainingData, task: _Task) -> None:
    with unchanged_on_error(estimator), Scratch() as scratch:
        check_parameters(estimator)
        settings = inference.resolve_inference(estimator.inference)
        data = _learned(estimator, data, settings, task, scratch)
        y, observed = filled(data.y, estimator.missing_outcomes)
        if observed is not None and estimator.kernel is None:
            # The default kernel is scaled to its weighted data, and has one outcome for each row.
            data, observed = dataclasses.replace(data, weight=weighted_by(observed, data.weight)), None
        if task.before is None:
            estimator.seed_ = _seed(estimator, settings)
        with precision_of(estimator.dtype or float_type(data.X.dtype)):
            result = _inferred(estimator, dataclasses.replace(data, y=y), observed, settings, task)
        estimator.inference_ = settings
        estimator.fit_result_ = result
        estimator.posterior_ = result.draws
        if estimator.missing_outcomes == "impute":
            estimator.posterior_ = {**result.draws, **drawn_missing(_call(estimator, data), data.y)}


def _learned(estimator: Any, data: TrainingData, settings: Any, task: _Task, scratch: Scratch) -> TrainingData:
    """Check training data, and let the estimator know their columns, categories and labels."""
    model, reset = Model.of(estimator), task.before is None
    model, X, arrays = without_entries(model, data.X, flattened(data.arrays), reset=reset)
    data = dataclasses.replace(data, X=X, arrays=arrays).taken_apart(model.names)
    if estimator.posterior is None:
        data = data.with_arrays(join_arguments(data.arrays, getattr(settings, "own_arguments", ())))
    data = data.with_arrays(flattened(data.arrays))
    learner = Learner(model, estimator._unlearned_outcome if reset else model.outcome, reset, task.classes)
    # Without minibatches every step sees all rows. Where draws are given, one row tells what fits them.
    uses_parts = estimator.posterior is not None or getattr(settings, "batch_size", None) is not None
    data = learner.open(data, scratch) if uses_parts and comes_in_pieces(data.X) else learner.load(data)
    estimator.categories_ = learner.categories
    if learner.outcome.labels is not None:
        estimator.classes_ = learner.outcome.labels
    if reset:
        estimator.arguments_ = before_tracing(model.names[0], data.y)
    return data


def _seed(estimator: Any, settings: Any) -> int:
    if getattr(settings, "checkpoint_dir", None) is not None and not is_fixed(estimator.random_state):
        raise ValueError(
            "`checkpoint_dir` needs an integer `random_state`, so that the same fit can be found again, got "
            f"{estimator.random_state!r}."
        )
    return seed_of(estimator.random_state)


def _call(estimator: Any, data: TrainingData) -> Call:
    return Call(Model.of(estimator), data.X, data.arrays, estimator.seed_, data.X, data.arrays)


def _inferred(estimator: Any, data: TrainingData, observed: Any, settings: Any, task: _Task) -> FitResult:
    """Trace the kernel, let the estimator know what it is, and infer the posterior or take that which was given."""
    if task.before is None:
        estimator.kernel_ = kernel_of(estimator, data.X, data.y, data.weight)
    call = _call(estimator, data)
    traced, hyperparameters, inputs = call.traced
    spec = traced.spec
    check_row_count(traced, hyperparameters, inputs, *call.model.names)
    estimator.kernel_spec_ = spec
    estimator.arguments_ = {**describe_inputs(inputs, traced), **digests_of_rows(spec, inputs)}
    y = call.model.outcome.check(data.y, spec)
    estimator.rows_of_fit_ = rows_to_keep(spec, inputs, y)
    if spec.changes_outcome:
        warn_user(
            f"The kernel's output {spec.output!r} observes something that is computed from y, or y in another "
            "order: predictions are of that, not of y. Pass y as the kernel observes it, for example by "
            "scikit-learn's `TransformedTargetRegressor`.",
            OutputWarning,
        )
    if observed is not None:
        # Draws that are given need this as well: forecasts go on from the outcomes of the fit.
        observed = shaped_like(y, observed)
        check_can_be_left_out(call, observed)
    if estimator.posterior is not None:
        return FitResult("injected", match_draws(draws_from(estimator.posterior), spec, {}), n_rows=len(data.X))
    rows = {**inputs.rows, spec.output_parameter: y}
    if observed is not None:
        rows[OBSERVED] = observed
    given = inference.Data(hyperparameters, rows, inputs.whole, data.weight)
    if task.in_parts:
        return inference.partial_fit(traced, given, settings, estimator.seed_, task.before)
    return inference.fit(traced, given, settings, estimator.seed_, verbose=task.progress)


@contextlib.contextmanager
def unchanged_on_error(estimator: Any) -> Iterator[None]:
    """Give an estimator back the attributes that it had if an error occurs."""
    before = dict(estimator.__dict__)
    try:
        yield
    except BaseException as error:
        estimator.__dict__ = before
        let_go(error)
        raise
