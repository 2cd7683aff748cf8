"""Any NumPyro model as a scikit-learn estimator."""

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from skaimz import runtime  # noqa: F401  (before all others: it notes forked processes)
from skaimz.datatree import open_draws
from skaimz.estimators import NumPyroImpactClassifier, NumPyroImpactRegressor

if TYPE_CHECKING:
    from skaimz import effects, exceptions, inference, metrics, mlflow, pipeline, plotting, simulation_calibration

__all__ = [
    "NumPyroImpactClassifier",
    "NumPyroImpactRegressor",
    "__version__",
    "effects",
    "exceptions",
    "inference",
    "metrics",
    "mlflow",
    "open_draws",
    "pipeline",
    "plotting",
    "simulation_calibration",
]

__version__ = version("skaimz")


def __getattr__(name: str) -> Any:
    """Import a public module when it is first used."""
    if name in __all__:
        return importlib.import_module(f"skaimz.{name}")
    raise AttributeError(f"module 'skaimz' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, for tab completion."""
    return __all__
