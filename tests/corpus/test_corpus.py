"""A few models of the corpus, one of each kind. `make corpus` examines all."""

import dataclasses

import numpy as np
import pytest
from corpus.case import every_case
from corpus.compare import examine

CASES = every_case()
SHORT = ("baseball, partially pooled with logit",)


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("name", SHORT)
def test_agrees_with_numpyro(name):
    finding = examine(CASES[name])
    assert finding.agrees_with(CASES[name]), finding


@pytest.mark.usefixtures("quick_compilation")
def test_differences_are_found():
    """A fit of other data is told from NumPyro's fit of the case's data."""
    case = CASES["baseball, fully pooled"]

    class Other(case.estimator):
        def fit(self, X, y, **arrays):
            return super().fit(X, np.minimum(y + 5, X), **arrays)

    finding = examine(dataclasses.replace(case, estimator=Other))
    assert finding.verdict == "differs"
    assert finding.why.startswith("posterior means: phi")
