"""A NumPyro model of the corpus, with data and the inference that its users would run."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skaimz import NumPyroImpactRegressor

__all__ = ["Case", "every_case"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A kernel as its user would write it, small simulated data, and how it is fitted.

    Attributes
    ----------
    name : str
        Unique in the corpus.
    source : str
        Where a model of this structure is found in NumPyro's repository, such as ``"examples/baseball.py"``.
    construct : str
        A few words on what is special.
    kernel : callable
        A function at module level, whose first two parameters are the input and the outcome.
    data : callable
        Returns X, y and a dictionary of further arguments, the same ones at each call, which NumPyro and skaimz are
        given as they are. Both compute in double precision, unless X is a float32.
    at_prediction : mapping
        Arguments that have another value after the fit, such as ``is_training``.
    inference : callable
        Returns the settings, new at each call: a NumPyro ``MCMC`` or ``SVI`` object, or ``skaimz.inference.MCMC`` or
        ``SVI`` with a sampler, guide, optimiser and loss that are objects of NumPyro.
    estimator : type
    settings : mapping
        Further parameters of the estimator, such as ``param_input``.
    local : mapping of str to str
        Sites whose posterior means are not compared, and why. Predictions and log likelihoods still depend on them.
    kernel_of_all_rows : callable or None
        What NumPyro predicts with, if that is another kernel than the fitted one, such as one without minibatches.
    states : callable or None
        Returns draws of discrete sites, given draws of the others and the arguments, where a factor or another observed
        site tells something of the states: NumPyro's `Predictive` draws them from their prior.
    refused : str or None
        One sentence why the model cannot work, for a model that skaimz must refuse.
    """

    name: str
    source: str
    construct: str
    kernel: Callable
    data: Callable[[], tuple[Any, Any, dict[str, Any]]]
    inference: Callable[[], Any]
    estimator: type = NumPyroImpactRegressor
    settings: Mapping[str, Any] = field(default_factory=dict)
    at_prediction: Mapping[str, Any] = field(default_factory=dict)
    local: Mapping[str, str] = field(default_factory=dict)
    kernel_of_all_rows: Callable | None = None
    states: Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]] | None = None
    refused: str | None = None

    @property
    def names(self) -> tuple[str, str]:
        """The kernel's parameters for the input and the outcome."""
        return self.settings.get("param_input", "X"), self.settings.get("param_output", "y")

    def model(self) -> Any:
        """Return an estimator that is not fitted."""
        return self.estimator(self.kernel, inference=self.inference(), random_state=0, **self.settings)


def every_case() -> dict[str, Case]:
    """Return the cases of all files of models, by name."""
    folder = Path(__file__).parent
    paths = sorted([*folder.glob("models_*.py"), *folder.glob("notebooks_*.py")])
    modules = [importlib.import_module(f"corpus.{path.stem}") for path in paths]
    cases = [case for module in modules for case in module.CASES]
    named = {case.name: case for case in cases}
    assert len(named) == len(cases), "Two cases have the same name."
    return named
