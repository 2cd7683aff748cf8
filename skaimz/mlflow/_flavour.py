"""Models as MLflow keeps them: the flavour of scikit-learn, with more than one kind of prediction."""

from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from skaimz.estimators import NumPyroImpactClassifier, NumPyroImpactRegressor
from skaimz.metrics._scorers import last_step
from skaimz.mlflow._optional import needs_mlflow

__all__ = ["final_estimator", "infer_signature", "load_model", "log_model", "save_model"]

Prediction = Callable[[Any, Any, Mapping[str, Any]], Any]
# What the last bit of a prediction rests on. MLflow finds what a model imports, but leaves out what that requires.
PINNED = ("jax", "jaxlib", "numpy", "numpyro", "scikit-learn", "skaimz")


class Parameter(NamedTuple):
    """A parameter of a call, as MLflow describes it; lists have the shape (-1,)."""

    type: str
    default: Any
    shape: tuple[int, ...] | None = None


def _draws(model: Any, X: Any, asked: Mapping[str, Any]) -> Any:
    return model.sample_y(X, asked["n_samples"], asked["random_state"])


# What each value of the parameter `output` returns.
REGRESSION: dict[str, Prediction] = {
    "mean": lambda model, X, asked: model.predict(X),
    "quantiles": lambda model, X, asked: model.predict_quantiles(X, asked["quantiles"]),
    "interval": lambda model, X, asked: model.predict_interval(X, asked["coverage"]),
    "draws": _draws,
}
CLASSIFICATION: dict[str, Prediction] = {
    "label": lambda model, X, asked: model.predict(X),
    "proba": lambda model, X, asked: model.predict_proba(X),
    "draws": _draws,
}
OF_DRAWS = {"n_samples": Parameter("long", 1), "random_state": Parameter("long", None)}
OF_REGRESSION = {
    "output": Parameter("string", "mean"),
    "quantiles": Parameter("double", [0.05, 0.5, 0.95], (-1,)),
    "coverage": Parameter("double", 0.9),
    **OF_DRAWS,
}
OF_CLASSIFICATION = {"output": Parameter("string", "label"), **OF_DRAWS}


@needs_mlflow
def save_model(
    model: Any,
    path: Any,
    *,
    signature: Any = None,
    input_example: Any = None,
    mlflow_model: Any = None,
    **options: Any,
) -> None:
    """Save a fitted model as a folder in MLflow's format.

    The folder has the flavours ``sklearn`` (a cloudpickle, so that kernels of a notebook or script go along) and
    ``python_function``, whose ``predict(data, params)`` takes these parameters:

    ================ ============================================================= =====================
    parameter        meaning                                                       default
    ================ ============================================================= =====================
    ``output``       ``"mean"``, ``"quantiles"``, ``"interval"`` or ``"draws"``;   ``"mean"``
                     of classifiers ``"label"``, ``"proba"`` or ``"draws"``        ``"label"``
    ``quantiles``    probabilities of the quantiles                                ``[0.05, 0.5, 0.95]``
    ``coverage``     probability that the interval holds the outcome               ``0.9``
    ``n_samples``    outcomes to draw for each row                                 ``1``
    ``random_state`` seed of the drawn outcomes                                    that of the estimator
    ================ ============================================================= =====================

    Parameters
    ----------
    model : estimator, Pipeline or search
        Fitted; an estimator of this package, or what ends in one.
    path : str or Path
        A folder that does not exist yet, or is empty.
    signature : mlflow.models.ModelSignature, optional
        Types of input and output. Where None, they follow from ``input_example``; without that, only the parameters
        are declared, and input reaches the model as it comes. A signature without parameters is given those above.
    input_example : array or data frame, optional
        Some rows as ``predict`` takes them, which are saved, too.
    mlflow_model : mlflow.models.Model, optional
        The description that the flavours are added to.
    **options : object
        Whatever else :func:`mlflow.sklearn.save_model` takes: ``code_paths`` for a kernel that lives in a module of
        your own, ``pip_requirements``, ``extra_pip_requirements``, ``conda_env``, ``metadata``. Without requirements,
        MLflow finds what the model imports in a process of its own, which takes some seconds, and the versions of
        JAX, NumPyro, NumPy, scikit-learn and this package are pinned besides.

    Raises
    ------
    TypeError
        If the model does not end in an estimator of this package.
    sklearn.exceptions.NotFittedError
        If it is not fitted.
    ImportError
        If MLflow is not installed.

    Notes
    -----
    Arguments of the kernel that are no columns of X do not pass through ``python_function``: give them by
    ``column_args``.
    """
    import mlflow.sklearn
    from mlflow.models import Model, ModelSignature

    check_is_fitted(final_estimator(model))
    if signature is None and input_example is not None:
        # MLflow takes an example of input with one of parameters as a pair.
        signature = infer_signature(model, input_example[0] if isinstance(input_example, tuple) else input_example)
    elif signature is None or signature.params is None:
        signature = ModelSignature(
            inputs=signature and signature.inputs, outputs=signature and signature.outputs, params=_schema(model)
        )
    if options.get("pip_requirements") is None and options.get("conda_env") is None:
        pinned = [f"{name}=={version(name)}" for name in PINNED]
        options["extra_pip_requirements"] = [*pinned, *(options.get("extra_pip_requirements") or [])]
    described = Model() if mlflow_model is None else mlflow_model
    mlflow.sklearn.save_model(
        model,
        path,
        mlflow_model=described,
        serialization_format=mlflow.sklearn.SERIALIZATION_FORMAT_CLOUDPICKLE,
        signature=signature,
        input_example=input_example,
        pyfunc_predict_fn="predict",
        **options,
    )
    # MLflow's own predictions know no parameters: all else of the flavour stays.
    described.flavors[mlflow.pyfunc.FLAVOR_NAME][mlflow.pyfunc.MAIN] = __package__
    described.save(Path(path) / "MLmodel")


@needs_mlflow
def log_model(model: Any, name: str = "model", *, registered_model_name: str | None = None, **options: Any) -> Any:
    """Log a fitted model to the tracking server, in the active run if there is one.

    Parameters
    ----------
    model : estimator, Pipeline or search
        Fitted; an estimator of this package, or what ends in one.
    name : str, default="model"
        Name of the logged model.
    registered_model_name : str, optional
        Also register it as a new version under this name.
    **options : object
        What :func:`save_model` takes (``signature``, ``input_example``, ``code_paths``, ...), or MLflow's
        ``Model.log`` (``tags``, ``step``, ``model_type``, ...).

    Returns
    -------
    mlflow.models.model.ModelInfo
        Among others ``model_uri``, to load it by.

    Raises
    ------
    TypeError
        If the model does not end in an estimator of this package.
    sklearn.exceptions.NotFittedError
        If it is not fitted.
    ImportError
        If MLflow is not installed.
    """
    from mlflow.models import Model

    import skaimz.mlflow

    # Before MLflow makes an entry for what cannot be saved.
    check_is_fitted(final_estimator(model))
    return Model.log(
        artifact_path=None,
        name=name,
        flavor=skaimz.mlflow,
        registered_model_name=registered_model_name,
        model=model,
        **options,
    )


@needs_mlflow
def load_model(model_uri: str, dst_path: str | None = None) -> Any:
    """Load a model that was saved or logged.

    Parameters
    ----------
    model_uri : str
        A folder, or an address of MLflow's, as in ``"models:/name/1"`` or ``"runs:/<run_id>/model"``.
    dst_path : str, optional
        Existing folder to download to.

    Returns
    -------
    estimator, Pipeline or search
        What was saved. It predicts as the original does, to the bit on the same machine with the same versions of its
        libraries. :func:`mlflow.pyfunc.load_model` gives the form with parameters instead.

    Raises
    ------
    TypeError
        If the model does not end in an estimator of this package.
    ImportError
        If MLflow is not installed.

    Notes
    -----
    Loading runs code that the model holds: load from sources that you trust only.
    """
    import mlflow.sklearn

    model = mlflow.sklearn.load_model(model_uri, dst_path)
    final_estimator(model)
    return model


def _load_pyfunc(path: str) -> "Predictions":
    """Load the form that :mod:`mlflow.pyfunc` calls; MLflow finds this function by its name."""
    return Predictions(load_model(path))


class Predictions:
    """Predictions of a model, of the kind that the parameters of a call ask for."""

    def __init__(self, model: Any):
        self.model = model

    def get_raw_model(self) -> Any:
        """Return the model itself, for ``PyFuncModel.get_raw_model``."""
        return self.model

    def predict(self, data: Any, params: Mapping[str, Any] | None = None) -> Any:
        """Return predictions as an array with a row for each row of the data."""
        estimator, X = last_step(self.model, data)
        outputs, parameters = _offered(estimator)
        asked = {name: parameter.default for name, parameter in parameters.items()} | dict(params or {})
        if asked["output"] not in outputs:
            raise ValueError(f"`output` must be one of {list(outputs)}, got {asked['output']!r}.")
        return outputs[asked["output"]](estimator, X, asked)


def final_estimator(model: Any) -> Any:
    """Return the estimator of this package that a Pipeline or fitted search ends in."""
    estimator = model
    while not isinstance(estimator, NumPyroImpactRegressor | NumPyroImpactClassifier):
        if isinstance(estimator, Pipeline):
            estimator = estimator.steps[-1][1]
        elif hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        else:
            raise TypeError(
                "`model` must be a NumPyroImpactRegressor or NumPyroImpactClassifier, or a Pipeline or fitted search "
                f"that ends in one, got {model!r}. Use mlflow.sklearn for others."
            )
    return estimator


def infer_signature(model: Any, X: Any) -> Any:
    """Return MLflow's signature of a model from some rows of input."""
    import mlflow.models
    from mlflow.types import ColSpec, Schema
    from mlflow.types.schema import AnyType

    # MLflow declares categories by the type of their labels, and then refuses categories.
    of_categories = [name for name, dtype in getattr(X, "dtypes", {}).items() if isinstance(dtype, pd.CategoricalDtype)]
    example = X.astype(dict.fromkeys(of_categories, str)) if of_categories else X
    signature = mlflow.models.infer_signature(example, model.predict(X))
    signature.params = _schema(model)
    if of_categories:
        signature.inputs = Schema(
            [
                ColSpec(AnyType(), each.name, each.required) if each.name in of_categories else each
                for each in signature.inputs.inputs
            ]
        )
    return signature


def _offered(estimator: Any) -> tuple[dict[str, Prediction], dict[str, Parameter]]:
    """Return the outputs that an estimator has, and the parameters that choose among them."""
    if isinstance(estimator, NumPyroImpactClassifier):
        return CLASSIFICATION, OF_CLASSIFICATION
    return REGRESSION, OF_REGRESSION


def _schema(model: Any) -> Any:
    from mlflow.types import ParamSchema, ParamSpec

    parameters = _offered(final_estimator(model))[1].items()
    return ParamSchema([ParamSpec(name, each.type, each.default, each.shape) for name, each in parameters])
