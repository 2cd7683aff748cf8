"""Some of the problems of `make trust`: fits are right, or they warn."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import trust

RUNGS = {
    "birth_weight_grams": "mode",
    "columns_in_mixed_units": "mode",
    "correlation_09999": "mode",
    "default_no_noise": "exact",
    "default_confounded_097": "exact",
    "logistic_separated": "mode",
    "spector": "mode",
    "negative_binomial_exposure": "mode",
    "eight_schools_non_centred": "variational",
    "random_walk_level": "long nuts",
}


@pytest.mark.parametrize("name", RUNGS)
def test_posteriors_are_the_references(name):
    found = trust.run_here(name, "auto")
    assert found["rung"] == RUNGS[name]
    assert found["warnings"] == []
    assert not trust.is_wrong(found), found
    # The interval of an average effect holds what it says of the reference posterior.
    assert abs(found["mass"] - trust.INTERVAL) < 0.05


def test_what_is_wrong_is_called_wrong():
    right = {"error": 0.1, "least": 0.95, "most": 1.05}
    assert not trust.is_wrong(right)
    for name, value in {"error": 0.2, "least": 0.85, "most": 1.15}.items():
        assert trust.is_wrong({**right, name: value})
        assert trust.is_wrong({**right, name: float("nan")})
