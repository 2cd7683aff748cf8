"""Contrasts, slopes, and the tree and table that an answer is."""

import pickle

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zoo
from effects_reference import COEF, N_CHAINS, N_DRAWS, N_ROWS, X, effect_of, model_of, normal

from skaimz.effects import EffectTree
from skaimz.exceptions import EffectWarning, PosteriorWarning, RatioWarning

EXPOSURE = np.random.default_rng(1).uniform(1, 2, N_ROWS)
MOVED = X + [1.0, 0.0]  # noqa: RUF005 (these are arrays)
SCENARIO = {"new": {"columns": {0: lambda x: x + 1}}}


@pytest.fixture(scope="module")
def poisson():
    return model_of(zoo.poisson)


@pytest.fixture(scope="module")
def rates():
    """Average rates of the scenario and the baseline."""
    return [(EXPOSURE * np.exp(COEF @ rows.T)).mean(axis=1) for rows in (MOVED, X)]


# Contrasts


@pytest.mark.parametrize(
    ("contrast", "name", "expected"),
    [
        ("difference", "difference", lambda a, b: a - b),
        ("ratio", "ratio", lambda a, b: a / b),
        ("lift", "lift", lambda a, b: 100 * (a - b) / b),
        (lambda a, b: np.log(a) - np.log(b), "<lambda>", lambda a, b: np.log(a / b)),
    ],
)
def test_contrasts(poisson, rates, contrast, name, expected):
    effects = poisson.estimate_effect(X, scenarios=SCENARIO, contrast=contrast, exposure=EXPOSURE)
    # Contrasts of averages: a ratio of rates is not the average of the rows' ratios.
    np.testing.assert_allclose(effect_of(effects), expected(*rates), rtol=1e-6)
    assert effects.attrs["contrast"] == name


def test_contrasts_with_nothing():
    model = model_of(zoo.conjugate)
    one = {"columns": {0: 1.0, 1: 0.0}}
    zero = {"columns": {0: 0.0, 1: 0.0}}
    with pytest.warns(RatioWarning, match="are not positive"):
        effects = model.estimate_effect(X, baseline=zero, scenarios={"new": one}, contrast="ratio")
    assert np.isinf(effect_of(effects)).all()
    assert effects.summary()["p_positive"].item() == (COEF[:, 0] > 0).mean()


def test_contrasts_of_another_shape_are_refused(poisson):
    with pytest.raises(ValueError, match=r"`contrast` must return an array with the shape of its arguments.*for 'new'"):
        poisson.estimate_effect(X, scenarios=SCENARIO, contrast=lambda a, b: (a - b).mean(), exposure=EXPOSURE)


# Slopes


def test_slopes_and_elasticities_of_rates(poisson):
    rate = EXPOSURE * np.exp(COEF @ X.T)
    slopes = poisson.estimate_slope(X, [0, "exposure"], exposure=EXPOSURE)
    assert list(slopes.children) == ["0", "exposure"]
    np.testing.assert_allclose(effect_of(slopes, "0"), (COEF[:, :1] * rate).mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(effect_of(slopes, "exposure"), (rate / EXPOSURE).mean(axis=1), rtol=1e-6)
    relative = poisson.estimate_slope(X, [1, "exposure"], elasticity=True, exposure=EXPOSURE)
    np.testing.assert_allclose(effect_of(relative, "1"), COEF[:, 1] * X[:, 1].mean(), rtol=1e-6)
    np.testing.assert_allclose(effect_of(relative, "exposure"), 1.0, rtol=1e-6)
    assert (slopes.attrs["contrast"], relative.attrs["contrast"]) == ("slope", "elasticity")


def test_slopes_of_probabilities_by_group_and_row():
    model = model_of(zoo.logistic)
    means = 1 / (1 + np.exp(-COEF @ X.T))
    expected = COEF[:, :1] * means * (1 - means)
    group = np.arange(N_ROWS) % 2
    slopes = model.estimate_slope(X, 0, by={"half": group})
    for half in (0, 1):
        found = slopes["0"]["effect"].sel(half=half).to_numpy().ravel()
        np.testing.assert_allclose(found, expected[:, group == half].mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(effect_of(model.estimate_slope(X, 0, average=False), "0"), expected, rtol=1e-6)
    treated = model.estimate_slope(X, 0, where=X[:, 1] > 0)
    np.testing.assert_allclose(effect_of(treated, "0"), expected[:, X[:, 1] > 0].mean(axis=1), rtol=1e-6)


@pytest.mark.parametrize("case", ["network", "sensors", "softmax", "two outputs"])
def test_slopes_are_those_of_finite_differences(case):
    kernel, draws = {
        "network": (zoo.network, {"first": normal(2, 32), "second": normal(32, 32), "last": normal(32)}),
        "sensors": (zoo.sensors, {"slope": normal(3, 1)}),
        "softmax": (zoo.with_three_classes, {"alpha": normal(3), "beta": normal(2, 3)}),
        "two outputs": (zoo.two_outputs, {"coef": normal(2, 2)}),
    }[case]
    model, step = model_of(kernel, draws), 1e-5
    slopes = model.estimate_slope(X, 0)
    around = model.estimate_effect(
        X, baseline={"columns": {0: lambda x: x - step}}, scenarios={"new": {"columns": {0: lambda x: x + step}}}
    )
    np.testing.assert_allclose(effect_of(slopes, "0"), effect_of(around) / (2 * step), rtol=1e-4, atol=1e-6)
    assert slopes["0"]["effect"].dims == around["new"]["effect"].dims


def test_elasticities_of_rows_on_another_axis():
    relative = model_of(zoo.sensors, {"slope": normal(3, 1)}).estimate_slope(X, 0, elasticity=True)
    np.testing.assert_allclose(effect_of(relative, "0"), 1.0, rtol=1e-9)


# The tree


@pytest.fixture(scope="module")
def grouped():
    by = {"town": np.array(["x", "y"])[np.arange(N_ROWS) % 2], "year": 2000 + np.arange(N_ROWS) % 3}
    scenarios = {**SCENARIO, "other": {"columns": {1: 0.0}}}
    return model_of(zoo.two_outputs, {"coef": normal(2, 2)}).estimate_effect(X, scenarios=scenarios, by=by)


def test_labels_of_several_groupings(grouped):
    effect = grouped["new"]["effect"]
    assert effect.dims == ("chain", "draw", "group", "y_dim_1")
    pairs = list(zip(effect["town"].to_numpy(), effect["year"].to_numpy(), strict=True))
    assert pairs == [(town, year) for town in "xy" for year in (2000, 2001, 2002)]
    table = grouped.summary()
    assert table.index.names == ["comparison", "town", "year", "y_dim_1"]
    assert len(table) == 2 * 6 * 2
    draws = effect.sel(group=4, y_dim_1=1).to_numpy()
    np.testing.assert_allclose(table.loc[("new", "y", 2001, 1), "mean"], draws.mean())
    alone = grouped["other"].summary()
    pd.testing.assert_frame_equal(alone, table.loc[["other"]])


def test_labels_of_one_grouping_and_of_rows():
    model = model_of(zoo.conjugate)
    effects = model.estimate_effect(X, scenarios=SCENARIO, by={"half": np.arange(N_ROWS) % 2 == 0})
    assert effects.summary().index.tolist() == [("new", False), ("new", True)]
    rows = model.estimate_effect(X, scenarios=SCENARIO, average=False, where=np.arange(N_ROWS) < 3).summary()
    assert rows.index.tolist() == [("new", 0), ("new", 1), ("new", 2)]
    assert rows.index.names == ["comparison", "rows"]
    np.testing.assert_allclose(rows["mean"], COEF[:, 0].mean())


def test_rows_with_an_index_of_several_levels():
    index = pd.MultiIndex.from_arrays([np.arange(N_ROWS) // 2, np.arange(N_ROWS) % 2], names=["home", "person"])
    frame = pd.DataFrame(X, index=index, columns=["a", "b"])
    model = model_of(zoo.conjugate, fitted=False)
    effects = model.estimate_effect(frame, scenarios=SCENARIO, average=False, where=np.arange(N_ROWS) < 2)
    assert effects["new"]["effect"].sel(home=0).sizes["person"] == 2
    assert effects.summary().index.tolist()[0][-2:] == (0, 0)


def test_trees_survive(grouped, tmp_path):
    again = pickle.loads(pickle.dumps(grouped))
    assert isinstance(again, EffectTree)
    pd.testing.assert_frame_equal(again.summary(), grouped.summary())
    grouped.to_netcdf(tmp_path / "effects.nc", engine="h5netcdf")
    with xr.open_datatree(tmp_path / "effects.nc", engine="h5netcdf") as stored:
        xr.testing.assert_equal(stored.load(), xr.DataTree.from_dict(grouped.to_dict()))
        assert stored.attrs["contrast"] == "difference"


@pytest.mark.filterwarnings("ignore:.*Zarr (V|format )3 specification")  # which old versions say of strings
def test_trees_survive_in_zarr(grouped, tmp_path):
    grouped.to_zarr(tmp_path / "effects", consolidated=False)
    stored = xr.open_datatree(tmp_path / "effects", engine="zarr", consolidated=False).load()
    xr.testing.assert_equal(stored, xr.DataTree.from_dict(grouped.to_dict()))


def test_chains_are_kept(grouped):
    assert grouped["new"]["effect"].shape[:2] == (N_CHAINS, N_DRAWS // N_CHAINS)
    assert set(grouped.attrs) >= {"created_at", "creation_library", "seed", "posterior", "of", "contrast"}


# The table


def tree_of(draws, contrast="difference"):
    effect = xr.DataArray(np.reshape(draws, (2, -1)), dims=("chain", "draw"))
    return EffectTree.of({"new": xr.Dataset({"effect": effect, "scenario": effect + 1})}, {"contrast": contrast})


DRAWS = np.random.default_rng(5).gamma(2.0, size=1000) - 0.5


def test_summary():
    (row,) = tree_of(DRAWS).summary(0.8, rope=(-0.1, 0.2)).to_dict("records")
    expected = {
        "mean": DRAWS.mean(),
        "sd": DRAWS.std(ddof=1),
        "median": np.median(DRAWS),
        "lower": np.quantile(DRAWS, 0.1),
        "upper": np.quantile(DRAWS, 0.9),
        "p_positive": (DRAWS > 0).mean(),
        "p_rope": ((DRAWS >= -0.1) & (DRAWS <= 0.2)).mean(),
    }
    assert row == pytest.approx(expected)
    assert list(row) == list(expected)


def test_ratios_are_positive_effects_above_one():
    assert tree_of(DRAWS, "ratio").summary()["p_positive"].item() == (DRAWS > 1).mean()
    assert tree_of(DRAWS, "ratio")["new"].summary()["p_positive"].item() == (DRAWS > 1).mean()
    scenario = tree_of(DRAWS, "ratio").summary(variable="scenario")
    assert scenario["p_positive"].item() == (DRAWS + 1 > 0).mean()
    assert scenario["mean"].item() == pytest.approx(DRAWS.mean() + 1)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.999])
def test_shortest_intervals_are_those_of_arviz(level):
    arviz = pytest.importorskip("arviz_stats.base").array_stats
    table = tree_of(DRAWS).summary(level, interval="hdi")
    found = table[["lower", "upper"]].to_numpy()[0]
    np.testing.assert_allclose(found, arviz.hdi(DRAWS, prob=level, method="nearest"), rtol=1e-12)
    equal = tree_of(DRAWS).summary(level)
    # With all draws inside, it is their range.
    assert level == 0.999 or np.diff(found).item() < (equal["upper"] - equal["lower"]).item()


def test_one_draw_has_no_spread():
    effect = xr.DataArray([[2.0]], dims=("chain", "draw"))
    tree = EffectTree.of({"new": xr.Dataset({"effect": effect})}, {})
    table = tree.summary(interval="hdi")
    assert table[["lower", "upper", "median"]].to_numpy().tolist() == [[2.0, 2.0, 2.0]]
    assert table["sd"].isna().all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"level": 1.0}, "`level` must lie between 0 and 1, got 1.0"),
        ({"interval": "central"}, "`interval` must be one of"),
        ({"rope": (1.0, 0.0)}, "`rope` must be a lower and an upper bound"),
        ({"rope": 1.0}, "`rope` must be a lower and an upper bound"),
        ({"variable": "baseline"}, "`variable` must be one of"),
    ],
)
def test_summaries_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        tree_of(DRAWS).summary(**settings)


@pytest.mark.parametrize("interval", ["eti", "hdi"])
def test_nan_among_draws_is_nan_in_the_summary(interval):
    """It is neither above nor below anything, and has no place in an order."""
    coef = COEF.copy()
    coef[0] = np.nan
    scenarios = {"bad": {"columns": {0: 1.0}}}
    with pytest.warns(PosteriorWarning, match=r"infinite or NaN \(numbers by site: {'coef': 2}\)"):
        effects = model_of(zoo.conjugate, {"coef": coef}).estimate_effect(X, scenarios=scenarios)
    with pytest.warns(EffectWarning, match="1 of 20 draws of 'bad' are NaN"):
        table = effects.summary(interval=interval, rope=(-0.1, 0.1))
    assert table.loc["bad"].isna().all()
    # Of several effects the others keep theirs.
    by_row = model_of(zoo.conjugate).estimate_effect(X, scenarios=SCENARIO, average=False)
    by_row["new"]["effect"][:, 0, 3] = np.nan
    with pytest.warns(EffectWarning):
        table = by_row.summary(interval=interval)
    assert np.flatnonzero(table.isna().all(axis=1)).tolist() == [3]
    np.testing.assert_allclose(table["median"].iloc[0], np.median(effect_of(by_row)[:, 0]))
