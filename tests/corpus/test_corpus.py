"""A few models of the corpus. `make corpus` examines all."""

import dataclasses

import pytest
from corpus.case import every_case
from corpus.compare import examine

CASES = every_case()
# Chains, labels and exact probabilities; a guide function; an autoguide without an exact mean of rows.
SHORT = ("covtype", "minipyro", "zero-inflated Poisson, VI")


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("name", SHORT)
def test_agrees_with_numpyro(name):
    finding = examine(CASES[name])
    assert finding.agrees_with(CASES[name]), finding


@pytest.mark.usefixtures("quick_compilation")
def test_differences_are_found():
    """A fit of other outcomes is told from NumPyro's fit of the case's own."""
    case = CASES["minipyro"]

    class Other(case.estimator):
        def fit(self, X, y, **arrays):
            return super().fit(X, y + 0.5, **arrays)

    finding = examine(dataclasses.replace(case, estimator=Other))
    assert finding.verdict == "differs"
    assert finding.why.startswith("posterior means: loc")
