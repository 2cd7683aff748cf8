"""What a notebook shows of an estimator."""

from html import escape
from typing import Any

from sklearn.utils import estimator_html_repr

from skaimz.estimators._describe import description_of
from skaimz.estimators._model import Model
from skaimz.inference import facts_of

__all__ = ["html_of"]


def html_of(estimator: Any) -> str:
    """Return scikit-learn's diagram and, after a fit, how the posterior was made and a table of the kernel's sites."""
    diagram, model = estimator_html_repr(estimator), Model.of(estimator)
    if model.spec is None or model.result is None:
        return diagram
    facts = {name: fact for name, fact in facts_of(model.result).items() if name != "draws"}
    lines = "; ".join(f"{escape(name)}: {escape(fact)}" for name, fact in facts.items())
    table = description_of(model).drop(index="inference").to_html(border=0)
    return f"{diagram}<div><b>Fitted</b>: {lines}<details><summary>Kernel</summary>{table}</details></div>"
