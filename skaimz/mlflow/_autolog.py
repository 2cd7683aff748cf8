"""Runs of MLflow for fits that nobody told it about."""

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
# Through these a fit is still the one that the user asked for: a Pipeline's, or a search's with the best parameters.
# All others of scikit-learn's modules make one fit of many.
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
    """Log every ``fit`` of the estimators of this package, from now on.

    A fit is logged to the active run, or to a run of its own where there is none, which ends with the fit: as finished,
    or as failed. What is logged :func:`log_fit` describes; the model is logged beside it.

    Parameters
    ----------
    log_models : bool, default=True
        Whether to log the fitted model, with a signature that is inferred from its first five rows.
    log_input_examples : bool, default=False
        Whether to save those rows with the model.
    log_posterior : bool, default=True
        Whether to write the posterior draws.
    registered_model_name : str, optional
        Register each model as a new version under this name.
    extra_tags : mapping of str to str, optional
        Tags of the runs that are made.
    disable : bool, default=False
        Log no longer.
    exclusive : bool, default=False
        Log nothing to runs that were started elsewhere.
    silent : bool, default=False
        Suppress messages of MLflow.

    Raises
    ------
    ImportError
        If MLflow is not installed.

    Notes
    -----
    A fit within a Pipeline, and a search's last one with the best parameters, are logged, but not the model: it is not
    ready before the Pipeline or the search is. Call :func:`log_model` with the whole; or enable
    :func:`mlflow.sklearn.autolog`, too: it then makes the run and logs parameters, candidates and the model in the form
    of ``mlflow.sklearn``, and this function adds losses, diagnostics, kernel and posterior of the best.

    No other fit that scikit-learn makes is logged, of the folds of a cross-validation or a search, say; nor are those
    of worker processes, nor ``partial_fit``.
    """
    from mlflow.utils.autologging_utils import autologging_integration

    # MLflow reads these names and defaults from the signature, and looks up their values when a fit begins.
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
        # Whether there is to be a run is known here only, so that MLflow is not left to start one.
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

    # MLflow says so where the rows give no signature, and goes on.
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
    """Return the modules that the call under way has come through.

    A second patch of scikit-learn's own classes would take the place of mlflow.sklearn's, so that who calls is asked
    instead.
    """
    names = set()
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        names.add(frame.f_globals.get("__name__", ""))
        frame = frame.f_back
    return names
