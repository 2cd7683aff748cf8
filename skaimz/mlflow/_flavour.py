"""Models in MLflow's format: the flavour of scikit-learn, with several kinds of predictions."""

from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from skaimz.estimators import NumPyroImpactClassifier, NumPyroImpactRegressor, last_step, unwrapped
from skaimz.mlflow._optional import needs_mlflow

__all__ = ["final_estimator", "infer_signature", "load_model", "log_model", "save_model"]

Prediction = Callable[[Any, Any, Mapping[str, Any]], Any]
# Packages whose versions decide the last digits of predictions. MLflow finds the packages that a model imports, but not
# those that they require.
PINNED = ("jax", "jaxlib", "numpy", "numpyro", "scikit-learn", "skaimz")


class Parameter(NamedTuple):
    """A parameter of a prediction, as MLflow describes it. Lists have the shape (-1,)."""

    type: str
    default: Any
    shape: tuple[int, ...] | None = None


def _draws(model: Any, X: Any, values: Mapping[str, Any]) -> Any:
    return model.sample_y(X, values["n_samples"], values["random_state"])


# The prediction for each value of the parameter `output`.
REGRESSION: dict[str, Prediction] = {
    "mean": lambda model, X, values: model.predict(X),
    "quantiles": lambda model, X, values: model.predict_quantiles(X, values["quantiles"]),
    "interval": lambda model, X, values: model.predict_interval(X, values["coverage"]),
    "draws": _draws,
}
CLASSIFICATION: dict[str, Prediction] = {
    "label": lambda model, X, values: model.predict(X),
    "proba": lambda model, X, values: model.predict_proba(X),
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
    model: BaseEstimator,
    path: str | Path,
    *,
    signature: Any = None,
    input_example: Any = None,
    mlflow_model: Any = None,
    **options: Any,
) -> None:
    """Save a fitted model as a folder in MLflow's format.

    The folder has the flavours ``sklearn`` (a cloudpickle, which includes kernels of a notebook or script) and
    ``python_function``, whose ``predict(data, params)`` takes these parameters:

    ================ ============================================================= =====================
    parameter        meaning                                                       default
    ================ ============================================================= =====================
    ``output``       ``"mean"``, ``"quantiles"``, ``"interval"`` or ``"draws"``;   ``"mean"``
                     of classifiers ``"label"``, ``"proba"`` or ``"draws"``        ``"label"``
    ``quantiles``    probabilities of the quantiles                                ``[0.05, 0.5, 0.95]``
    ``coverage``     probability that the interval contains the outcome            ``0.9``
    ``n_samples``    outcomes to draw for each row                                 ``1``
    ``random_state`` seed of the drawn outcomes                                    that of the estimator
    ================ ============================================================= =====================

    Parameters
    ----------
    model : estimator, Pipeline or search
        Fitted estimator of this package, or a Pipeline or search that ends in one.
    path : str or Path
        A folder that does not exist, or is empty.
    signature : mlflow.models.ModelSignature, optional
        Types of input and output. If None, they are inferred from ``input_example``. Without an example, only the
        parameters are declared, and MLflow passes the input on unchanged. The parameters above are added to a signature
        without parameters.
    input_example : array or data frame, optional
        Some rows of X, which are saved with the model.
    mlflow_model : mlflow.models.Model, optional
        The description of the model, to which the flavours are added.
    **options : object
        Further arguments of :func:`mlflow.sklearn.save_model`: ``code_paths`` for a kernel in a module of your own,
        ``pip_requirements``, ``extra_pip_requirements``, ``conda_env``, ``metadata``. Without requirements, MLflow
        loads the model in another process to find the packages that it imports, which takes some seconds. The versions
        of JAX, NumPyro, NumPy, scikit-learn and this package are added to them.

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
    ``python_function`` passes only X to the model. Further arguments of the kernel must therefore be columns of X,
    which ``column_args`` names.
    """
    import mlflow.sklearn
    from mlflow.models import Model, ModelSignature

    check_is_fitted(final_estimator(model))
    if signature is None and input_example is not None:
        # A pair is an example of the input and one of the parameters.
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
    # Predictions of mlflow.sklearn have no parameters. The rest of its flavour stays.
    described.flavors[mlflow.pyfunc.FLAVOR_NAME][mlflow.pyfunc.MAIN] = __package__
    described.save(Path(path) / "MLmodel")


@needs_mlflow
def log_model(
    model: BaseEstimator, name: str = "model", *, registered_model_name: str | None = None, **options: Any
) -> Any:
    """Log a fitted model to the tracking server, in the active run if there is one.

    Parameters
    ----------
    model : estimator, Pipeline or search
        Fitted estimator of this package, or a Pipeline or search that ends in one.
    name : str, default="model"
        Name of the logged model.
    registered_model_name : str, optional
        Name under which the model is also registered as a new version.
    **options : object
        Further arguments of :func:`save_model` (``signature``, ``input_example``, ``code_paths``, ...) and of MLflow's
        ``Model.log`` (``tags``, ``step``, ``model_type``, ...).

    Returns
    -------
    mlflow.models.model.ModelInfo
        Its attribute ``model_uri`` is the address for :func:`load_model`.

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

    # Checked before MLflow creates an entry for the model.
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
def load_model(model_uri: str, dst_path: str | None = None) -> BaseEstimator:
    """Load a model that was saved or logged.

    Parameters
    ----------
    model_uri : str
        A folder, or an address such as ``"models:/name/1"`` or ``"runs:/<run_id>/model"``.
    dst_path : str, optional
        Existing folder to download to.

    Returns
    -------
    estimator, Pipeline or search
        The saved model. On the same machine and with the same versions of libraries, its predictions are bit by bit
        those of the original. Use :func:`mlflow.pyfunc.load_model` instead for predictions with parameters.

    Raises
    ------
    TypeError
        If the model does not end in an estimator of this package.
    ImportError
        If MLflow is not installed.

    Notes
    -----
    Loading runs code that the model contains. Load models only from sources that you trust.
    """
    import mlflow.sklearn

    model = mlflow.sklearn.load_model(model_uri, dst_path)
    final_estimator(model)
    return model


def _load_pyfunc(path: str) -> "Predictions":
    """Load a model for :mod:`mlflow.pyfunc`, which finds this function by its name."""
    return Predictions(load_model(path))


class Predictions:
    """A model whose predictions depend on parameters of the call."""

    def __init__(self, model: Any):
        self.model = model

    def get_raw_model(self) -> Any:
        """Return the model itself, for ``PyFuncModel.get_raw_model``."""
        return self.model

    def predict(self, data: Any, params: Mapping[str, Any] | None = None) -> Any:
        """Return predictions as an array with a row for each row of the data."""
        estimator, X = last_step(self.model, data)
        outputs, parameters = _outputs_and_parameters(estimator)
        values = {name: parameter.default for name, parameter in parameters.items()} | dict(params or {})
        if values["output"] not in outputs:
            raise ValueError(f"`output` must be one of {list(outputs)}, got {values['output']!r}.")
        return outputs[values["output"]](estimator, X, values)


def final_estimator(model: Any) -> Any:
    """Return the estimator of this package that a Pipeline or fitted search ends in."""
    _, estimator = unwrapped(model)
    if not isinstance(estimator, NumPyroImpactRegressor | NumPyroImpactClassifier):
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

    # MLflow infers the type of labels for a categorical column, and then refuses a categorical column.
    of_categories = [name for name, dtype in getattr(X, "dtypes", {}).items() if isinstance(dtype, pd.CategoricalDtype)]
    example = X.astype(dict.fromkeys(of_categories, str)) if of_categories else X
    signature = mlflow.models.infer_signature(example, model.predict(X))
    signature.params = _schema(model)
    if of_categories:
        signature.inputs = Schema(
            [
                ColSpec(AnyType(), column.name, column.required) if column.name in of_categories else column
                for column in signature.inputs.inputs
            ]
        )
    return signature


def _outputs_and_parameters(estimator: Any) -> tuple[dict[str, Prediction], dict[str, Parameter]]:
    """Return the kinds of predictions of an estimator, and the parameters of predictions."""
    if isinstance(estimator, NumPyroImpactClassifier):
        return CLASSIFICATION, OF_CLASSIFICATION
    return REGRESSION, OF_REGRESSION


def _schema(model: Any) -> Any:
    from mlflow.types import ParamSchema, ParamSpec

    _, parameters = _outputs_and_parameters(final_estimator(model))
    return ParamSchema(
        [ParamSpec(name, parameter.type, parameter.default, parameter.shape) for name, parameter in parameters.items()]
    )
