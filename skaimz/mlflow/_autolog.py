"""Automatic logging of fits."""

import logging
import sys
from collections.abc import Mapping
from functools import partial
from types import FrameType
from typing import Any, NamedTuple

from skaimz.estimators import ImpactEstimator
from skaimz.mlflow._flavour import infer_signature, log_model
from skaimz.mlflow._optional import needs_mlflow
from skaimz.mlflow._record import record_fit, record_parameters

__all__ = ["autolog"]

INTEGRATION = "skaimz"
# A fit that these modules of scikit-learn call is logged: that of a Pipeline, or that of a search with the best
# parameters. A fit that any other module of scikit-learn calls is one of many, such as that of a fold, and is not
# logged.
TRANSPARENT = {
    "sklearn.base",
    "sklearn.pipeline",
    "sklearn.model_selection._search",
    "sklearn.model_selection._search_successive_halving",
}

logger = logging.getLogger(__name__)


@needs_mlflow
def autolog(
    *,
    log_models: bool = True,
    log_input_examples: bool = False,
    log_posterior: bool = True,
    registered_model_name: str | None = None,
    extra_tags: Mapping[str, str] | None = None,
    disable: bool = False,
    exclusive: bool = False,
    silent: bool = False,
) -> None:
    """Log every later ``fit`` of the estimators of this package.

    A fit is logged to the active run. If there is none, it gets a new run, which ends with the fit and has the status
    finished or failed. :func:`log_fit` describes what is logged. The fitted model is logged as well.

    Parameters
    ----------
    log_models : bool, default=True
        Whether to log the fitted model, with a signature that is inferred from the first five rows of X.
    log_input_examples : bool, default=False
        Whether to save these rows with the model.
    log_posterior : bool, default=True
        Whether to write the posterior draws.
    registered_model_name : str, optional
        Register each model as a new version under this name.
    extra_tags : mapping of str to str, optional
        Tags of new runs.
    disable : bool, default=False
        Stop logging.
    exclusive : bool, default=False
        Do not log to runs that the user has started.
    silent : bool, default=False
        Suppress messages of MLflow.

    Raises
    ------
    ImportError
        If MLflow is not installed.

    Notes
    -----
    The fit of a Pipeline is logged without the model, which is not complete before the Pipeline is, and so is the last
    fit of a search, with the best parameters. Either call :func:`log_model` with the Pipeline or the search, or enable
    :func:`mlflow.sklearn.autolog` as well. MLflow's function then creates the run and logs the parameters, the
    candidates and the model in the form of ``mlflow.sklearn``, and this function adds the losses, the diagnostics, the
    kernel and the posterior of the best estimator.

    Other fits that scikit-learn calls, such as those of the folds of a cross-validation or a search, are not logged.
    Neither are fits in worker processes, nor ``partial_fit``.
    """
    from mlflow.utils.autologging_utils import autologging_integration

    # MLflow reads names and defaults from this signature, and looks up their values at the start of a fit.
    def enable(disable: bool = False, exclusive: bool = False, silent: bool = False) -> None:
        _patch_fit(
            Settings(log_models, log_input_examples, log_posterior, registered_model_name), dict(extra_tags or {})
        )

    autologging_integration(INTEGRATION)(enable)(disable=disable, exclusive=exclusive, silent=silent)


class Settings(NamedTuple):
    """What to log."""

    models: bool
    input_examples: bool
    posterior: bool
    registered_model_name: str | None


def _patch_fit(settings: Settings, tags: dict[str, str]) -> None:
    from mlflow.utils.autologging_utils import safe_patch, with_managed_run
    from mlflow.utils.mlflow_tags import MLFLOW_AUTOLOGGING

    in_run = with_managed_run(INTEGRATION, partial(_fit_and_log, settings), {**tags, MLFLOW_AUTOLOGGING: INTEGRATION})

    def fit(original: Any, estimator: Any, /, *args: Any, **kwargs: Any) -> Any:
        # Only the callers show whether this fit is logged, so MLflow must not start a run before they are known.
        if _scikit_learn_callers() - TRANSPARENT:
            return original(estimator, *args, **kwargs)
        return in_run(original, estimator, *args, **kwargs)

    safe_patch(INTEGRATION, ImpactEstimator, "fit", fit)


def _fit_and_log(settings: Settings, original: Any, estimator: Any, /, *args: Any, **kwargs: Any) -> Any:
    import mlflow
    from mlflow.utils.autologging_utils import get_instance_method_first_arg_value

    run: Any = mlflow.active_run()
    run_id = run.info.run_id
    if "mlflow.sklearn" not in _modules_on_the_stack():
        record_parameters(run_id, estimator, estimator)
    result = original(estimator, *args, **kwargs)
    record_fit(run_id, estimator, settings.posterior)
    if settings.models and not _scikit_learn_callers():
        _log_model(settings, estimator, get_instance_method_first_arg_value(original, args, kwargs))
    return result


def _log_model(settings: Settings, estimator: Any, X: Any) -> None:
    from mlflow.utils.autologging_utils import INPUT_EXAMPLE_SAMPLE_ROWS, resolve_input_example_and_signature

    # If MLflow cannot infer a signature from the rows, it logs a warning and continues.
    example, signature = resolve_input_example_and_signature(
        lambda: X[:INPUT_EXAMPLE_SAMPLE_ROWS],
        lambda rows: infer_signature(estimator, rows),
        settings.input_examples,
        True,
        logger,
    )
    log_model(
        estimator,
        input_example=example,
        signature=signature or None,
        registered_model_name=settings.registered_model_name,
    )


def _scikit_learn_callers() -> set[str]:
    return {name for name in _modules_on_the_stack() if name.startswith("sklearn.")}


def _modules_on_the_stack() -> set[str]:
    """Return the modules of all functions on the call stack.

    The stack shows which classes of scikit-learn have called ``fit``. A patch of these classes would replace the patch
    of ``mlflow.sklearn``.
    """
    names = set()
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        names.add(frame.f_globals.get("__name__", ""))
        frame = frame.f_back
    return names
