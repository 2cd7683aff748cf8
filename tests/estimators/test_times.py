"""Times and durations have no number before a unit is chosen: they are refused, and remain labels and groups."""

import numpy as np
import pandas as pd
import pytest
import zoo

from skaimz import NumPyroImpactClassifier, NumPyroImpactRegressor, metrics

X, Y = np.arange(12.0)[:, None], np.arange(12.0)
KINDS = {"m8[s]": "duration", "m8[ms]": "duration", "M8[D]": "time"}


@pytest.fixture(scope="module")
def model():
    return NumPyroImpactRegressor(zoo.conjugate, posterior={"coef": [[1.0]]}, random_state=0).fit(X, Y)


@pytest.mark.parametrize("kind", KINDS)
def test_neither_rows_nor_outcomes_nor_scores_take_them(model, kind):
    calls = [
        lambda: NumPyroImpactRegressor(random_state=0).fit(X.astype(int).astype(kind), Y),
        lambda: NumPyroImpactRegressor(random_state=0).fit(X, Y.astype(int).astype(kind)),
        lambda: model.predict(X.astype(int).astype(kind)),
        lambda: metrics.NegCRPS()(model, X, Y.astype(int).astype(kind)),
        lambda: model.log_predictive_density(X, Y.astype(int).astype(kind)),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=f"must be numeric, got an array of type .*Convert {KINDS[kind]}s to"):
            call()


def test_columns_of_a_frame_are_named():
    frame = pd.DataFrame({"a": Y, "d": pd.to_timedelta(Y, unit="D")})
    with pytest.raises(ValueError, match=r"its column 'd' holds durations: .*total_seconds"):
        NumPyroImpactRegressor(random_state=0).fit(frame, Y)


def test_ranks_take_the_numbers_that_fits_take():
    effect, treatment, y = [3.0, 3, 2, 2, 1, 1], [1, 0] * 3, np.ma.masked_array([5.0, 1, 3, 2, 1, 9e9], [0] * 5 + [1])
    with pytest.raises(ValueError, match="`y` is nan in row 5"):
        metrics.qini_score(y, effect, treatment)
    with pytest.raises(ValueError, match="`y` must be numeric, got an array of type timedelta64"):
        metrics.qini_score(pd.to_timedelta([5, 1, 3, 2, 1, 2], unit="D"), effect, treatment)
    with pytest.raises(ValueError, match="sample_weight"):
        metrics.qini_score(
            [5.0, 1, 3, 2, 1, 2], effect, treatment, sample_weight=np.ones(6).astype(int).astype("m8[s]")
        )


def test_they_can_be_labels():
    days = np.where(Y > 5, np.datetime64("2020-01-02"), np.datetime64("2020-01-01"))
    assert set(NumPyroImpactClassifier(random_state=0).fit(X, days).predict(X)) <= set(days)
