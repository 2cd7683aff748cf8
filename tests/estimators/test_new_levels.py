"""Levels of arguments that a fit did not see."""

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import series
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score

from skaimz import NumPyroImpactClassifier, NumPyroImpactRegressor
from skaimz.inference import SVI

N_DRAWS = 4000
RNG = np.random.default_rng(0)
TABLE = pd.DataFrame({"x": RNG.normal(size=60), "group": np.repeat(["a", "b", "c", "d", "e", "f"], 10)})
EFFECTS = {"a": -3.0, "b": -1.0, "c": 0.0, "d": 1.0, "e": 2.0, "f": 4.0}
Y = TABLE["x"] + TABLE["group"].map(EFFECTS) + RNG.normal(scale=0.5, size=60)
OPEN = {"group": {"columns": "group", "unknown": "new"}}
# Draws with a centre of 1, a spread of 2, and levels that are known.
DRAWS = {
    "centre": np.full(N_DRAWS, 1.0),
    "spread": np.full(N_DRAWS, 2.0),
    "level": np.tile(list(EFFECTS.values()), (N_DRAWS, 1)),
}


def fitted(kernel=series.groups, draws=DRAWS, column_args=OPEN, estimator=NumPyroImpactRegressor, y=Y):
    return estimator(kernel, column_args=column_args, posterior=draws, random_state=0).fit(TABLE, y)


@pytest.fixture(scope="module")
def model():
    return fitted()


def rows(*labels, x=0.0):
    return pd.DataFrame({"x": x, "group": list(labels)})


def drawn(model, X, site="mu", **settings):
    tree = model.sample_posterior_predictive(X, in_sample=False, return_sites=[site], **settings)
    return tree["predictions"][site].to_numpy()[0]


def test_a_new_group_has_the_distribution_of_the_population(model):
    mean, std = model.predict(rows("new", "a", x=3.0), return_std=True)
    # Of a new group: centre + x, and the spread between groups beside the noise.
    np.testing.assert_allclose(mean, [4.0, 0.0], atol=4 * 2.0 / np.sqrt(N_DRAWS))
    np.testing.assert_allclose(std, [np.hypot(2.0, 0.5), 0.5], rtol=0.05)
    assert mean[1] == pytest.approx(0.0, abs=1e-5)
    expected = drawn(model, rows("new", "a", x=3.0))
    np.testing.assert_allclose(expected.std(axis=0), [2.0, 0.0], atol=0.1)
    ends = np.quantile(expected[:, 0], [0.05, 0.95])
    np.testing.assert_allclose(ends, 4.0 + 2.0 * np.array([-1.645, 1.645]), atol=0.2)


def test_a_label_is_one_level_in_every_call(model):
    alone, many = drawn(model, rows("new")), drawn(model, rows("z", "new", "a", "new", "other"))
    # The last bit may differ between programs for one new level and for several.
    np.testing.assert_allclose(alone[:, 0], many[:, 1], rtol=1e-6, atol=1e-6)
    assert np.array_equal(many[:, 1], many[:, 3])
    new = many[:, [0, 1, 4]]
    np.testing.assert_allclose(np.corrcoef(new.T), np.eye(3), atol=0.06)
    assert not np.array_equal(drawn(model, rows("new"), random_state=1)[:, 0], alone[:, 0])


def test_sites_of_levels_keep_the_levels_of_the_fit(model):
    level = drawn(model, rows("new", "other", "more"), site="level")
    np.testing.assert_array_equal(level, DRAWS["level"].astype(level.dtype))


def test_batches_and_blocks_see_the_same_levels(model, tmp_path):
    X = pd.concat([rows(*"abc"), rows("new", "other")] * 900, ignore_index=True)
    expected = drawn(model, X)
    stored = model.sample_posterior_predictive(
        X, in_sample=False, return_sites=["mu"], store="zarr", output_dir=tmp_path / "draws", batch_size=1024
    )
    np.testing.assert_array_equal(stored["predictions"]["mu"].to_numpy()[0], expected)
    lazy = model.predict(dd.from_pandas(X, npartitions=3))
    np.testing.assert_array_equal(lazy.compute(), model.predict(X))


def test_numbers_are_labels_too():
    table = TABLE.assign(group=TABLE["group"].map(ord))
    model = NumPyroImpactRegressor(series.groups, column_args=OPEN, posterior=DRAWS, random_state=0).fit(table, Y)
    one, other = (drawn(model, pd.DataFrame({"x": [0.0], "group": [label]})) for label in (200, 200.0))
    assert np.array_equal(one, other)
    assert one.std() == pytest.approx(2.0, rel=0.05)


def test_more_levels_than_the_fit_had_can_be_counted_by_hand():
    group = TABLE["group"].map(ord).to_numpy() - ord("a")
    X = TABLE[["x"]].to_numpy()
    model = NumPyroImpactRegressor(series.groups, posterior=DRAWS, random_state=0).fit(X, Y, group=group, n_group=6)
    mean, std = model.predict(np.zeros((2, 1)), group=np.array([6, 0]), n_group=8, return_std=True)
    np.testing.assert_allclose(mean, [1.0, -3.0], atol=4 * 2.0 / np.sqrt(N_DRAWS))
    np.testing.assert_allclose(std, [np.hypot(2.0, 0.5), 0.5], rtol=0.05)


def test_effects_that_go_together():
    draws = {"centre": np.tile([1.0, -1.0], (N_DRAWS, 1)), "effect": np.zeros((N_DRAWS, 6, 2))}
    model = fitted(series.intercepts_and_slopes, draws)
    mean, std = model.predict(rows("new", x=2.0), return_std=True)
    assert mean[0] == pytest.approx(-1.0, abs=4 * 4.0 / np.sqrt(N_DRAWS))
    assert std[0] == pytest.approx(np.sqrt(4.0 + 4.0 * 1.5 + 4.0 * 1.0 + 0.25), rel=0.05)


def test_classes_of_a_new_group():
    y = np.where(Y > 1.0, "high", "low")
    draws = {"level": np.zeros((N_DRAWS, 6))}
    model = fitted(series.classes_of_groups, draws, estimator=NumPyroImpactClassifier, y=y)
    probability = model.predict_proba(rows("new", "a", x=1.0))[:, 1]
    # The logistic function averaged over a normal distribution, by quadrature.
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    expected = (weights / (1.0 + np.exp(-1.0 - 2.0 * nodes))).sum() / weights.sum()
    np.testing.assert_allclose(probability, [expected, 1.0 / (1.0 + np.exp(-1.0))], atol=0.02)


@pytest.mark.parametrize(
    ("kernel", "reason"),
    [
        (series.centred_groups, "'reduce_sum' may mix levels"),
        (series.counted_groups, "uses the number of levels as a value"),
        (series.walking_groups, "site 'level'"),
    ],
)
def test_levels_that_depend_on_one_another_are_refused(kernel, reason):
    model = fitted(kernel, {"level": DRAWS["level"][:10]})
    assert np.isfinite(model.predict(rows("a"))).all()
    with pytest.raises(ValueError, match=f"(?s)'group' has levels that were not there.*{reason}.*'categories'"):
        model.predict(rows("new"))


def test_sites_that_mix_levels_are_refused_by_name():
    model = fitted(series.averaged_groups, {"level": DRAWS["level"][:10]})
    assert np.isfinite(model.predict(rows("new"))).all()
    with pytest.raises(ValueError, match=r"(?s)'average'.*new levels of 'group'.*`return_sites`"):
        model.sample_posterior_predictive(rows("new"), in_sample=False)
    assert set(drawn(model, rows("new"), "y").shape) == {10, 1}


def test_other_refusals(model):
    with pytest.raises(ValueError, match="'unknown': 'new'"):
        fitted(column_args={"group": "group"}).predict(rows("new"))
    with pytest.raises(ValueError, match=r"an `unknown` of \['error', 'new', 'next'\]"):
        fitted(column_args={"group": {"columns": "group", "unknown": "ignore"}})
    with pytest.raises(ValueError, match="without `unknown_value`"):
        fitted(column_args={"group": {**OPEN["group"], "unknown_value": 6}})
    with pytest.raises(ValueError, match=r"parameter `n_group` without default"):
        model.predict(rows("new"), n_group=9)
    with pytest.raises(ValueError, match="missing values"):
        model.predict(rows("new", None))
    with pytest.raises(ValueError, match="another kind than its categories"):
        model.predict(pd.DataFrame({"x": [0.0], "group": [3]}))


def test_groups_are_left_out_by_cross_validation():
    model = NumPyroImpactRegressor(
        series.groups, column_args=OPEN, inference=SVI(num_steps=300, num_samples=50), random_state=0
    )
    folds = GroupKFold(3)
    scores = cross_val_score(model, TABLE, Y, groups=TABLE["group"], cv=folds)
    assert np.isfinite(scores).all()
    search = GridSearchCV(model, {"inference__num_samples": [20, 50]}, cv=folds).fit(TABLE, Y, groups=TABLE["group"])
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_describe_shows_what_grows(model):
    table = model.describe()
    assert table.loc[["centre", "level", "mu"], "grows with"].tolist() == ["", "group", "rows"]
