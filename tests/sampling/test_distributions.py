"""Every distribution of NumPyro as an outcome: what predictions make of it, against NumPyro's own sampler."""

import re
from pathlib import Path

import pytest
from distributions import EXAMPLES, TITLES, answers, of_numpyro, table

TABLE = Path(__file__).parents[2] / "benchmarks" / "tables" / "distributions.md"
# One of each kind; `make distributions` compares all of them.
FEW = ["Normal", "Poisson", "Dirichlet", "CategoricalLogits", "VonMises", "TwoSidedTruncatedDistribution"]
# They tell of packages that may be there or not.
NEEDS_MORE = re.compile(r"tensorflow_probability")


def test_no_distribution_is_left_out():
    assert EXAMPLES.keys() == set(of_numpyro())


@pytest.mark.parametrize("name", FEW)
def test_what_is_said_of_an_outcome_is_what_numpyro_draws(name):
    found = answers(name)
    assert not {key: each for key, each in found.items() if each.word == "wrong"}
    assert all(each.why for each in found.values() if each.word == "refused")
    if not NEEDS_MORE.search(" ".join(each.why for each in found.values())):
        # The documentation says the same; numbers of notes are those of the whole table.
        (row,) = (line for line in TABLE.read_text().splitlines() if line.startswith(f"| `{name}` |"))
        (here,) = (line for line in table({name: found}).splitlines() if line.startswith(f"| `{name}` |"))
        assert re.sub(r"\(\d+\)", "", row) == re.sub(r"\(\d+\)", "", here)
        assert row.count("|") == 2 + len(TITLES)
