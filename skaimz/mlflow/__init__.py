"""MLflow: track fits, and log, register, load and serve models.

Models have the flavour of :mod:`mlflow.sklearn`, which saves and loads them. In addition, :mod:`mlflow.pyfunc` and the
scoring server predict means, quantiles, intervals or draws, as a parameter of the call says.

MLflow is optional (``pip install 'skaimz[mlflow]'``). It is imported when a function of this module is first called.
"""

from skaimz.mlflow._autolog import autolog
from skaimz.mlflow._flavour import _load_pyfunc as _load_pyfunc  # MLflow calls it by its name in this module
from skaimz.mlflow._flavour import load_model, log_model, save_model
from skaimz.mlflow._record import log_fit

__all__ = ["autolog", "load_model", "log_fit", "log_model", "save_model"]
