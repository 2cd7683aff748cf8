"""MLflow: fits tracked, and models logged, registered, loaded and served.

Models have the flavour of :mod:`mlflow.sklearn`, which does all the work, with predictions of its own for
:mod:`mlflow.pyfunc` and the scoring server: mean, quantiles, intervals or draws, chosen by a parameter of the call.

MLflow itself is optional (``pip install 'skaimz[mlflow]'``) and imported when a function here is first called.
"""

from skaimz.mlflow._autolog import autolog
from skaimz.mlflow._flavour import _load_pyfunc as _load_pyfunc  # the models name this module, and MLflow calls this
from skaimz.mlflow._flavour import load_model, log_model, save_model
from skaimz.mlflow._record import log_fit

__all__ = ["autolog", "load_model", "log_fit", "log_model", "save_model"]
