"""What MLflow is told about a fit."""

import inspect
import numbers
import tempfile
import textwrap
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skaimz.inference import MCMC, SVI, Auto, resolve_inference
from skaimz.mlflow._flavour import final_estimator
from skaimz.mlflow._optional import needs_mlflow

__all__ = ["kernel_source", "log_fit", "metrics_of", "parameters_of", "record_fit", "record_parameters", "thinned"]

# Points of a curve of losses: more than a screen has, and one request to the server.
MOST_POINTS = 1000


@needs_mlflow
def log_fit(model: Any, *, posterior: bool = True) -> None:
    """Log what a fit left behind to the active run, or to a new one that becomes active.

    :func:`autolog` does this on every ``fit``; call it after ``partial_fit``, and where a search or a Pipeline is to be
    logged with all its parameters. :func:`log_model` logs the model itself.

    =========== ================================================================================================
    parameters  ``get_params(deep=True)``; the settings that ``inference`` stands for, as ``inference__<name>``;
                the numbers of rows and features, and the seed
    metrics     ``loss`` by step, from 1 (1000 evenly spaced steps where there are more); of SVI ``loss_final``,
                ``loss_is_finite``, ``guide_is_settled``, ``guide_move`` and ``k_hat``; of MCMC ``r_hat_max``,
                ``ess_min`` and ``num_divergences``
    artifacts   ``kernel.py``, the source of the kernel, without that of functions it calls; ``diagnostics.json``,
                by site; ``posterior.nc``, what ``to_datatree`` returns
    tags        ``estimator_name`` and ``estimator_class``
    =========== ================================================================================================

    Parameters
    ----------
    model : estimator, Pipeline or search
        Fitted; an estimator of this package, or what ends in one. Of a search the best estimator is logged.
    posterior : bool, default=True
        Whether to write the posterior draws.

    Raises
    ------
    TypeError
        If the model does not end in an estimator of this package.
    sklearn.exceptions.NotFittedError
        If it is not fitted.
    ImportError
        If MLflow is not installed.
    """
    import mlflow

    estimator = final_estimator(model)
    check_is_fitted(estimator, "fit_result_")
    run_id = (mlflow.active_run() or mlflow.start_run()).info.run_id
    record_parameters(run_id, getattr(model, "best_estimator_", model), estimator)
    record_fit(run_id, estimator, posterior)


def record_parameters(run_id: str, model: Any, estimator: Any) -> None:
    """Log the parameters of a model, fitted or not, that ends in an estimator."""
    from mlflow.utils.autologging_utils import MlflowAutologgingQueueingClient

    kind = type(model)
    with MlflowAutologgingQueueingClient() as client:
        client.log_params(run_id, parameters_of(model, estimator))
        client.set_tags(
            run_id, {"estimator_name": kind.__name__, "estimator_class": f"{kind.__module__}.{kind.__qualname__}"}
        )


def record_fit(run_id: str, estimator: Any, posterior: bool) -> None:
    """Log what a fitted estimator learned."""
    import mlflow
    from mlflow.utils.autologging_utils import MlflowAutologgingQueueingClient

    result = estimator.fit_result_
    seen = {"n_rows": result.n_rows, "n_features": estimator.n_features_in_, "seed": estimator.seed_}
    with MlflowAutologgingQueueingClient() as client:
        client.log_params(run_id, seen)
        for step, loss in thinned(result.losses).items():
            client.log_metrics(run_id, {"loss": loss}, step)
        client.log_metrics(run_id, metrics_of(result.diagnostics))
    mlflow.log_text(kernel_source(estimator.kernel_), "kernel.py", run_id)
    mlflow.log_dict(result.diagnostics, "diagnostics.json", run_id)
    if posterior:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "posterior.nc"
            estimator.to_datatree().to_netcdf(path, engine="h5netcdf")
            mlflow.log_artifact(str(path), run_id=run_id)


def parameters_of(model: Any, estimator: Any) -> dict[str, str]:
    """Return all parameters as text, and what the estimator's ``inference`` stands for."""
    given = model.get_params(deep=True)
    found: dict[str, Any] = {}
    for name, value in given.items():
        if name.rpartition("__")[2] == "inference" and value is estimator.inference:
            found |= {f"{name}__{setting}": each for setting, each in _settings(value).items()}
    return {name: _text(value) for name, value in (found | given).items()}


def _settings(inference: Any) -> dict[str, Any]:
    named: dict[Any, Callable] = {"auto": Auto, "svi": SVI, "mcmc": MCMC}
    if isinstance(inference, str) and inference in named:
        return named[inference]().get_params()
    settings: Any = resolve_inference(inference)
    # The parameters of another sampler are among those of the estimator, where it has any.
    return settings.get_params() if isinstance(settings, Auto | SVI | MCMC) else {}


def _text(value: Any) -> str:
    if inspect.isroutine(value) or isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    # An address would differ in every run.
    return _text(type(value)) if type(value).__repr__ is object.__repr__ else str(value)


def thinned(losses: np.ndarray | None) -> dict[int, float]:
    """Return losses by step, counted from 1, with the first and the last among no more than 1000 steps."""
    if losses is None:
        return {}
    # MLflow takes metrics of step 0 for those of the model that is logged with them.
    steps = np.linspace(1, len(losses), min(len(losses), MOST_POINTS)).round().astype(int)
    return {int(step): float(losses[step - 1]) for step in steps}


def metrics_of(diagnostics: Mapping[str, Any]) -> dict[str, float]:
    """Return diagnostics as numbers: those by site by their worst."""
    found = {name: float(value) for name, value in diagnostics.items() if isinstance(value, numbers.Real)}
    for name, worst in (("r_hat", max), ("ess", min)):
        known = [value for value in diagnostics.get(name, {}).values() if value is not None]
        if known:
            found[f"{name}_{worst.__name__}"] = float(worst(known))
    return found


def kernel_source(kernel: Any) -> str:
    """Return the source of the function, or of the class of the object, behind partials and handlers."""
    behind = kernel
    while isinstance(behind, partial) or (hasattr(behind, "fn") and not inspect.isroutine(behind)):
        behind = behind.func if isinstance(behind, partial) else behind.fn
    if not inspect.isroutine(behind):
        behind = type(behind)
    try:
        return textwrap.dedent(inspect.getsource(behind))
    except (OSError, TypeError) as error:
        return f"# The source of {_text(behind)} is not available: {error}.\n"
