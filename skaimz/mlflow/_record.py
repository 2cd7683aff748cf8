"""Logging of the results of a fit."""

import inspect
import numbers
import tempfile
import textwrap
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from skaimz.inference import MCMC, SVI, Auto, resolve_inference
from skaimz.mlflow._flavour import final_estimator
from skaimz.mlflow._optional import needs_mlflow

__all__ = ["kernel_source", "log_fit", "metrics_of", "parameters_of", "record_fit", "record_parameters", "thinned"]

# Number of losses that are logged at most: enough for a plot, and one request to the server.
MOST_POINTS = 1000


@needs_mlflow
def log_fit(model: BaseEstimator, *, posterior: bool = True) -> None:
    """Log the results of a fit to the active run, or else to a new one, which becomes active.

    :func:`autolog` does this for every ``fit``. Call this function after ``partial_fit``, or to log a search or a
    Pipeline with all its parameters. :func:`log_model` logs the model itself.

    =========== ================================================================================================
    parameters  ``get_params(deep=True)``; the settings of ``inference`` as ``inference__<name>``, also if it is a
                name; the numbers of rows and features, and the seed
    metrics     ``loss`` by step, from 1 (1000 evenly spaced steps where there are more); of SVI ``loss_final``,
                ``loss_is_finite``, ``guide_is_settled``, ``guide_move`` and ``k_hat``; of MCMC ``r_hat_max``,
                ``ess_min`` and ``num_divergences``
    artifacts   ``kernel.py``, the source of the kernel without that of functions it calls; ``diagnostics.json``,
                diagnostics by site; ``posterior.nc``, the result of ``to_datatree``
    tags        ``estimator_name`` and ``estimator_class``
    =========== ================================================================================================

    Parameters
    ----------
    model : estimator, Pipeline or search
        Fitted estimator of this package, or a Pipeline or search that ends in one. The results are those of the best
        estimator of a search.
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
    """Log the parameters of a model that ends in an estimator. The model need not be fitted."""
    from mlflow.utils.autologging_utils import MlflowAutologgingQueueingClient

    kind = type(model)
    with MlflowAutologgingQueueingClient() as client:
        client.log_params(run_id, parameters_of(model, estimator))
        client.set_tags(
            run_id, {"estimator_name": kind.__name__, "estimator_class": f"{kind.__module__}.{kind.__qualname__}"}
        )


def record_fit(run_id: str, estimator: Any, posterior: bool) -> None:
    """Log the results of a fitted estimator."""
    import mlflow
    from mlflow.utils.autologging_utils import MlflowAutologgingQueueingClient

    result = estimator.fit_result_
    facts = {"n_rows": result.n_rows, "seed": estimator.seed_}
    if hasattr(estimator, "n_features_in_"):
        facts["n_features"] = estimator.n_features_in_
    with MlflowAutologgingQueueingClient() as client:
        client.log_params(run_id, facts)
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
    """Return all parameters of a model, and the settings of the estimator's ``inference``, as text."""
    parameters = model.get_params(deep=True)
    settings: dict[str, Any] = {}
    for name, value in parameters.items():
        if name.rpartition("__")[2] == "inference" and value is estimator.inference:
            settings |= {f"{name}__{setting}": number for setting, number in _settings(value).items()}
    return {name: _text(value) for name, value in (settings | parameters).items()}


def _settings(inference: Any) -> dict[str, Any]:
    named: dict[Any, Callable] = {"auto": Auto, "svi": SVI, "mcmc": MCMC}
    if isinstance(inference, str) and inference in named:
        return named[inference]().get_params()
    settings: Any = resolve_inference(inference)
    # Parameters of another sampler, if it has any, are among those of the estimator.
    return settings.get_params() if isinstance(settings, Auto | SVI | MCMC) else {}


def _text(value: Any) -> str:
    if inspect.isroutine(value) or isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    # The default representation contains an address, which differs in every run.
    return _text(type(value)) if type(value).__repr__ is object.__repr__ else str(value)


def thinned(losses: np.ndarray | None) -> dict[int, float]:
    """Return the losses of at most 1000 steps, counted from 1, which include the first and the last."""
    if losses is None:
        return {}
    # MLflow interprets metrics of step 0 as those of a model that is logged in the same run.
    steps = np.linspace(1, len(losses), min(len(losses), MOST_POINTS)).round().astype(int)
    return {int(step): float(losses[step - 1]) for step in steps}


def metrics_of(diagnostics: Mapping[str, Any]) -> dict[str, float]:
    """Return diagnostics that are numbers, and the worst value of those that have one for each site."""
    metrics = {name: float(value) for name, value in diagnostics.items() if isinstance(value, numbers.Real)}
    for name, worst in (("r_hat", max), ("ess", min)):
        values = [value for value in diagnostics.get(name, {}).values() if value is not None]
        if values:
            metrics[f"{name}_{worst.__name__}"] = float(worst(values))
    return metrics


def kernel_source(kernel: Any) -> str:
    """Return the source of a function, or of the class of an object, without partials and handlers around it."""
    source = kernel
    while isinstance(source, partial) or (hasattr(source, "fn") and not inspect.isroutine(source)):
        source = source.func if isinstance(source, partial) else source.fn
    if not inspect.isroutine(source):
        source = type(source)
    try:
        return textwrap.dedent(inspect.getsource(source))
    except (OSError, TypeError) as error:
        return f"# The source of {_text(source)} is not available: {error}.\n"
