"""What scenarios change, how they are paired, and which rows and outputs an effect is of."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr
import zoo
from effects_reference import COEF, N_CHAINS, N_DRAWS, N_ROWS, WEIGHTS, X, averaged, effect_of, model_of, normal

from skaimz import NumPyroImpactClassifier, NumPyroImpactRegressor
from skaimz.exceptions import SpeedWarning

FRAME = pd.DataFrame(X, columns=["age", "treated"], index=[f"r{i}" for i in range(N_ROWS)])
EXPOSURE = np.random.default_rng(1).uniform(1, 2, N_ROWS)
SCRIPT = Path(__file__).with_name("devices_script.py")


def changed(column, value):
    moved = X.copy()
    moved[:, column] = value
    return moved


def rate(X=X, exposure=EXPOSURE):
    return exposure * np.exp(COEF @ X.T)


@pytest.fixture(scope="module")
def poisson():
    return model_of(zoo.poisson)


@pytest.fixture(scope="module")
def of_frames():
    """The same, which has seen the names of columns."""
    model = NumPyroImpactRegressor(zoo.poisson, posterior={"coef": COEF}, random_state=3)
    model.fit(FRAME, np.zeros(N_ROWS), exposure=EXPOSURE)
    return model.set_posterior_sample({"coef": COEF}, N_CHAINS)


# What is changed


@pytest.mark.parametrize(
    "value",
    [2.0, np.linspace(0, 1, N_ROWS), lambda x: x + 1, lambda x: np.zeros(len(x), int)],
    ids=["one", "by row", "function", "function that gives integers"],
)
@pytest.mark.parametrize("column", ["age", 0])
def test_columns(of_frames, column, value):
    effects = of_frames.estimate_effect(FRAME, scenarios={"new": {"columns": {column: value}}}, exposure=EXPOSURE)
    new = changed(0, value(X[:, 0]) if callable(value) else value)
    np.testing.assert_allclose(effect_of(effects), averaged(rate(new) - rate()), rtol=1e-6)
    for part, expected in (("scenario", rate(new)), ("baseline", rate())):
        by_chain = averaged(expected).reshape(N_CHAINS, -1)
        np.testing.assert_allclose(effects["new"][part], by_chain, rtol=1e-6)


@pytest.mark.parametrize(
    "value", [2, 2.5, np.full(N_ROWS, 3), lambda e: 2 * e], ids=["integer", "one", "by row", "function"]
)
def test_arguments(poisson, value):
    effects = poisson.estimate_effect(X, scenarios={"new": {"arguments": {"exposure": value}}}, exposure=EXPOSURE)
    new = rate(exposure=value(EXPOSURE) if callable(value) else value)
    np.testing.assert_allclose(effect_of(effects), averaged(new - rate()), rtol=1e-6)


@pytest.mark.parametrize(
    "value",
    [2, np.full(N_ROWS, 3), lambda e: 2 * e, zarr.array(2 * EXPOSURE, chunks=(128,))],
    ids=["one", "by row", "function", "zarr"],
)
@pytest.mark.parametrize("form", ["zarr", "list", "series"])
def test_arguments_of_other_kinds(poisson, form, value):
    kinds = {"zarr": lambda e: zarr.array(e, chunks=(128,)), "list": list, "series": pd.Series}
    scenarios = {"new": {"arguments": {"exposure": value}}}
    effects = poisson.estimate_effect(X, scenarios=scenarios, exposure=kinds[form](EXPOSURE))
    new = rate(exposure=value(EXPOSURE) if callable(value) else value[:] if np.ndim(value) else value)
    np.testing.assert_allclose(effect_of(effects), averaged(new - rate()), rtol=1e-6)


def test_arguments_that_are_one_number(poisson):
    scenarios = {"new": {"arguments": {"exposure": lambda e: 2 * e}}, "by row": {"arguments": {"exposure": EXPOSURE}}}
    effects = poisson.estimate_effect(X, scenarios=scenarios, exposure=3.0)
    np.testing.assert_allclose(effect_of(effects), averaged(rate(exposure=3.0)), rtol=1e-6)
    np.testing.assert_allclose(effect_of(effects, "by row"), averaged(rate() - rate(exposure=3.0)), rtol=1e-6)


@pytest.mark.parametrize("form", ["array", "frame", "function", "zarr"])
def test_other_rows(poisson, of_frames, form):
    value = {
        "array": X + 0.5,
        "frame": FRAME + 0.5,
        "function": lambda rows: rows + 0.5,
        "zarr": zarr.array(X + 0.5, chunks=(100, 2)),
    }[form]
    scenario = {"arguments": {"X": value}, "columns": {0: lambda x: 2 * x}}
    model, rows = (of_frames, FRAME) if form == "frame" else (poisson, X)
    effects = model.estimate_effect(rows, scenarios={"new": scenario}, exposure=EXPOSURE)
    new = X + 0.5
    new[:, 0] *= 2
    np.testing.assert_allclose(effect_of(effects), averaged(rate(new) - rate()), rtol=1e-6)


def test_columns_that_are_arguments():
    """They do not reach the kernel's X, and their categories become codes."""
    draws = {"coef": COEF[:, :1], "slope": normal(), "levels": normal(3)}
    frame = pd.DataFrame({"x": X[:, 0], "where": pd.Categorical(np.array(["a", "b", "c"])[np.arange(N_ROWS) % 3]),
                          "dose": EXPOSURE})  # fmt: skip
    settings = {"column_args": {"dose": "dose", "centre": "where"}, "random_state": 3}
    model = NumPyroImpactRegressor(zoo.dosed, posterior=draws, **settings)
    scenarios = {
        "b": {"columns": {"where": "b"}},
        "twice": {"columns": {"dose": lambda dose: 2 * dose}},
        "shifted": {"arguments": {"X": frame.assign(x=frame["x"] + 1, dose=0.0)}},
    }
    effects = model.fit(frame, np.zeros(N_ROWS)).estimate_effect(frame, scenarios=scenarios)
    levels, slope = draws["levels"], draws["slope"]
    share = np.bincount(np.arange(N_ROWS) % 3) / N_ROWS
    np.testing.assert_allclose(effect_of(effects, "b"), levels[:, 1] - levels @ share, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(effect_of(effects, "twice"), slope * EXPOSURE.mean(), rtol=1e-6)
    np.testing.assert_allclose(effect_of(effects, "shifted"), COEF[:, 0] - slope * EXPOSURE.mean(), rtol=1e-6)


@pytest.mark.filterwarnings("ignore::skaimz.exceptions.PosteriorWarning")
def test_interventions_and_conditions():
    model = model_of(zoo.mediated, {"b": (b := normal(3))})
    scenarios = {
        "t": {"intervention": {"t": 2.0}},
        "both": {"intervention": {"t": 2.0, "m": 1.0}},
        "by row": {"intervention": {"t": 1.0 + X[:, 0]}},
        "fixed": {"intervention": {"t": 2.0}, "condition": {"m": 1.0}},
    }
    baseline = {"intervention": {"t": 1.0}}
    effects = model.estimate_effect(X, baseline=baseline, scenarios=scenarios)
    total = b[:, 0] * b[:, 1] + b[:, 2]
    # The mediator's noise is the same in both, so the effect is exact draw by draw.
    np.testing.assert_allclose(effect_of(effects, "t"), total, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(effect_of(effects, "by row"), total * X[:, 0].mean(), rtol=1e-6, atol=1e-9)
    levels = effects["both"]["scenario"].to_numpy().ravel()
    np.testing.assert_allclose(levels, b[:, 1] + 2 * b[:, 2], rtol=1e-6)
    np.testing.assert_array_equal(effects["fixed"]["scenario"], effects["both"]["scenario"])


def test_all_pairs():
    scenarios = {str(k): {"columns": {0: float(k)}} for k in (1, 3)}
    effects = model_of(zoo.conjugate).estimate_effect(X, baseline={"columns": {0: 0.0}}, scenarios=scenarios,
                                                      pairs=True)  # fmt: skip
    assert list(effects.children) == ["1 - baseline", "3 - baseline", "3 - 1"]
    for name, step in zip(effects.children, (1, 3, 2), strict=True):
        np.testing.assert_allclose(effect_of(effects, name), step * COEF[:, 0], rtol=1e-9)


def test_many_scenarios_in_one_pass():
    scenarios = {f"s{k}": {"columns": {0: float(k)}} for k in range(12)}
    effects = model_of(zoo.logistic).estimate_effect(X, baseline={"columns": {0: 0.0}}, scenarios=scenarios)
    assert list(effects.children) == list(scenarios)
    np.testing.assert_array_equal(effect_of(effects, "s0"), 0.0)
    for k in range(12):
        means = 1 / (1 + np.exp(-COEF @ changed(0, k).T))
        np.testing.assert_allclose(effects[f"s{k}"]["scenario"].to_numpy().ravel(), averaged(means), rtol=1e-6)


# Pairing


@pytest.mark.filterwarnings("ignore::skaimz.exceptions.PosteriorWarning")
@pytest.mark.parametrize("kernel", [zoo.conjugate, zoo.poisson, zoo.mediated, zoo.truncated])
@pytest.mark.parametrize("average", [True, False])
def test_a_scenario_does_not_differ_from_itself(kernel, average):
    arrays = {"exposure": EXPOSURE} if kernel is zoo.poisson else {}
    model = model_of(kernel, {"b": normal(3)} if kernel is zoo.mediated else None)
    scenario = {"columns": {0: 0.5}}
    settings = {"of": "outcome", "average": average, **arrays}
    effects = model.estimate_effect(X, baseline=scenario, scenarios={"same": scenario}, **settings)
    np.testing.assert_array_equal(effect_of(effects, "same"), 0.0)
    assert effects["same"]["scenario"].std() > 0


def test_rows_that_do_not_change_have_no_effect_on_outcomes(poisson):
    moved = np.where(np.arange(N_ROWS) % 2, 3.0, X[:, 0])
    scenario = {"new": {"columns": {0: moved}}}
    effects = poisson.estimate_effect(X, scenarios=scenario, of="outcome", average=False, exposure=EXPOSURE)
    effect = effects["new"]["effect"].to_numpy()
    np.testing.assert_array_equal(effect[..., ::2], 0.0)
    assert (effect[..., 1::2] != 0).mean() > 0.5


def test_outcomes_are_those_that_are_drawn_elsewhere():
    model = model_of(zoo.conjugate)
    drawn = model.sample_posterior_predictive(X, in_sample=False)["predictions"]["y"].to_numpy()
    effects = model.estimate_effect(X, scenarios={"same": {}}, of="outcome", average=False)
    np.testing.assert_array_equal(effects["same"]["baseline"], drawn)
    other = model.estimate_effect(X, scenarios={"same": {}}, of="outcome", average=False, random_state=8)
    assert (other["same"]["baseline"] != drawn).mean() > 0.99
    assert (effects.attrs["seed"], other.attrs["seed"]) == (3, 8)


def test_effects_are_the_same_on_several_devices(tmp_path):
    paths = {n_devices: tmp_path / f"{n_devices}.pickle" for n_devices in (1, 4)}
    running = []
    for n_devices, path in paths.items():
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={n_devices}"
        search = os.pathsep.join(filter(None, [str(SCRIPT.parent.parent), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": search}
        running.append(subprocess.Popen([sys.executable, SCRIPT, path], env=environment))
    assert [process.wait() for process in running] == [0, 0]
    found = {}
    for n_devices, path in paths.items():
        counted, found[n_devices] = pickle.loads(path.read_bytes())
        assert counted == n_devices
    assert found[1].keys() == found[4].keys()
    for name, expected in found[1].items():
        np.testing.assert_allclose(found[4][name], expected, rtol=1e-9, atol=1e-9, err_msg=name)


# Which rows, and what outputs


def test_targets(of_frames):
    """The whole, the treated, the untreated, a mask, and weights."""
    frame = FRAME.assign(treated=(X[:, 1] > 0) * 1.0)
    rows = frame.to_numpy()
    scenario = {"columns": {"treated": 1}}
    new, old = (rate(np.column_stack([X[:, 0], np.full(N_ROWS, t)])) for t in (1.0, 0.0))
    treated = rows[:, 1] == 1
    targets = {
        "ate": ({}, np.ones(N_ROWS)),
        "att": ({"where": {"treated": 1}}, treated),
        "atc": ({"where": {"treated": 0}}, ~treated),
        "mask": ({"where": X[:, 0] > 1}, X[:, 0] > 1),
        "weights": ({"sample_weight": WEIGHTS}, WEIGHTS),
        "both": ({"sample_weight": WEIGHTS, "where": {1: 1}}, WEIGHTS * treated),
    }
    for name, (settings, weights) in targets.items():
        effects = of_frames.estimate_effect(
            frame, baseline={"columns": {"treated": 0}}, scenarios={"new": scenario}, exposure=EXPOSURE, **settings
        )
        np.testing.assert_allclose(
            effect_of(effects), np.average(new - old, axis=1, weights=weights), rtol=1e-6, err_msg=name
        )


@pytest.mark.parametrize("kernel", ["affine", "curved"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_groups_of_rows(kernel, dtype):
    group = np.array(["b", "a", "c"])[np.arange(N_ROWS) % 3]
    model = model_of(zoo.conjugate if kernel == "affine" else zoo.logistic)
    link = (lambda eta: eta) if kernel == "affine" else (lambda eta: 1 / (1 + np.exp(-eta)))
    effects = model.estimate_effect(
        X.astype(dtype), scenarios={"new": {"columns": {0: lambda x: x + 1}}}, by={"site": group},
        where=group != "c", sample_weight=WEIGHTS,
    )  # fmt: skip
    effect = effects["new"]["effect"]
    assert effect.dims == ("chain", "draw", "site")
    assert effect.shape == (N_CHAINS, N_DRAWS // N_CHAINS, 2)
    assert effect["site"].to_numpy().tolist() == ["a", "b"]
    means = link(COEF @ changed(0, X[:, 0] + 1).T) - link(COEF @ X.T)
    for name in "ab":
        expected = np.average(means[:, group == name], axis=1, weights=WEIGHTS[group == name])
        tolerance = 1e-4 if dtype == np.float32 else 1e-9
        np.testing.assert_allclose(effect.sel(site=name).to_numpy().ravel(), expected, rtol=tolerance, atol=tolerance)


def test_rows_alone(of_frames):
    effects = of_frames.estimate_effect(
        FRAME, scenarios={"new": {"columns": {"age": 1.0}}}, average=False, where=X[:, 0] > 0, exposure=EXPOSURE
    )
    effect = effects["new"]["effect"]
    assert effect.dims == ("chain", "draw", "rows")
    assert effect["rows"].to_numpy().tolist() == FRAME.index[X[:, 0] > 0].tolist()
    expected = rate(changed(0, 1.0)) - rate()
    np.testing.assert_allclose(effect_of(effects), expected[:, X[:, 0] > 0], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("average", [True, False])
def test_rows_on_another_axis(average):
    draws = {"slope": normal(3, 1)}
    model = model_of(zoo.sensors, draws)
    effects = model.estimate_effect(X, scenarios={"new": {"columns": {0: lambda x: x + 2}}}, average=average)
    effect = effects["new"]["effect"]
    assert effect.dims == (("chain", "draw", "sensors") if average else ("chain", "draw", "rows", "sensors"))
    expected = 2 * draws["slope"][:, :, 0] if average else np.repeat(2 * draws["slope"][:, None, :, 0], N_ROWS, axis=1)
    np.testing.assert_allclose(effect_of(effects), expected, rtol=1e-6)


@pytest.mark.parametrize("kernel", [zoo.two_outputs, zoo.correlated])
def test_outputs_of_several_numbers(kernel):
    draws = {"coef": normal(2, 2)} if kernel is zoo.two_outputs else {"slope": normal()}
    effects = model_of(kernel, draws).estimate_effect(X, scenarios={"new": {"columns": {0: lambda x: x + 1}}})
    expected = (
        draws["coef"][:, 0] if kernel is zoo.two_outputs else np.column_stack([draws["slope"], np.zeros(N_DRAWS)])
    )
    np.testing.assert_allclose(effect_of(effects), expected, rtol=1e-6, atol=1e-9)
    assert effects["new"]["effect"].dims == ("chain", "draw", "y_dim_1")


@pytest.mark.parametrize("average", [True, False])
def test_expected_outcomes_of_classes_are_probabilities(average):
    draws = {"alpha": normal(3), "beta": normal(2, 3)}
    labels = np.array(["high", "low", "mid"])
    model = NumPyroImpactClassifier(zoo.softmax, posterior=draws, random_state=3)
    model.fit(X, labels[np.arange(N_ROWS) % 3])
    effects = model.estimate_effect(X, scenarios={"new": {"columns": {0: 1.0}}}, average=average)
    effect = effects["new"]["effect"]
    assert effect.dims[-1] == "class"
    assert effect["class"].to_numpy().tolist() == labels.tolist()

    def probabilities(rows):
        odds = np.exp(np.einsum("np,dpk->dnk", rows, draws["beta"]) + draws["alpha"][:, None])
        return odds / odds.sum(axis=-1, keepdims=True)

    expected = probabilities(changed(0, 1.0)) - probabilities(X)
    np.testing.assert_allclose(effect_of(effects), expected.mean(axis=1) if average else expected, rtol=1e-5, atol=1e-9)


def test_ordered_classes_without_a_classifier():
    draws = {"coef": COEF, "first": normal(), "gap": np.abs(normal())}
    effects = model_of(zoo.ordered, draws).estimate_effect(X, scenarios={"new": {"columns": {0: 1.0}}})
    assert effects["new"]["effect"]["class"].to_numpy().tolist() == [0, 1, 2]
    below = [1 / (1 + np.exp(-(draws["first"][:, None] - COEF @ rows.T))) for rows in (changed(0, 1.0), X)]
    np.testing.assert_allclose(effect_of(effects)[:, 0], (below[0] - below[1]).mean(axis=1), rtol=1e-5)


@pytest.mark.parametrize("kernel", [zoo.running, zoo.running_counts])
def test_kernels_whose_rows_interact(kernel):
    """Rows come whole, and those that an effect is of are chosen afterwards."""
    slope = normal()
    with pytest.warns(SpeedWarning, match="all rows at once"):
        effects = model_of(kernel, {"slope": slope}).estimate_effect(
            X, scenarios={"new": {"columns": {0: lambda x: x + 0.1}}}, where=X[:, 1] > 0
        )

    def link(eta):
        return eta if kernel is zoo.running else np.exp(1 + np.tanh(eta))

    new, old = (link(slope[:, None] * np.cumsum(x)) for x in (X[:, 0] + 0.1, X[:, 0]))
    np.testing.assert_allclose(effect_of(effects), (new - old)[:, X[:, 1] > 0].mean(axis=1), rtol=1e-6)


def test_local_latents_in_and_out_of_sample():
    """An effect of each row enters a ratio: drawn for these rows, or anew."""
    draws = {"coef": COEF, "effect": 100 + normal(N_ROWS)}
    model = model_of(zoo.random_effects, draws)
    scenario = {"new": {"columns": {0: 1.0}}}
    settings = {"scenarios": scenario, "contrast": "ratio"}
    within = model.estimate_effect(X, in_sample=True, **settings)
    means = [(COEF @ rows.T + draws["effect"]).mean(axis=1) for rows in (changed(0, 1.0), X)]
    np.testing.assert_allclose(effect_of(within), means[0] / means[1], rtol=1e-6)
    beyond = model.estimate_effect(X[:-1], scenarios=scenario)
    # What is drawn anew is the same in both scenarios.
    expected = (COEF @ (changed(0, 1.0) - X)[:-1].T).mean(axis=1)
    np.testing.assert_allclose(effect_of(beyond), expected, rtol=1e-6)
    assert abs(beyond["new"]["baseline"].mean()) < 5


@pytest.mark.parametrize("source", ["zarr", "batches", "memory map"])
@pytest.mark.parametrize("kernel", [zoo.conjugate, zoo.poisson])
def test_rows_that_are_read_in_parts(kernel, source, tmp_path):
    arrays = {} if kernel is zoo.conjugate else {"exposure": EXPOSURE}
    parts = [slice(start, start + 300) for start in range(0, N_ROWS, 300)]
    rows, more = X, arrays
    if source == "zarr":
        rows = zarr.array(X, chunks=(128, 2))
        more = {name: zarr.array(array, chunks=(128,)) for name, array in arrays.items()}
    elif source == "memory map":
        np.save(tmp_path / "X.npy", X)
        rows = np.load(tmp_path / "X.npy", mmap_mode="r")
    else:
        whole = {"X": X, **arrays}
        rows, more = [{name: array[part] for name, array in whole.items()} for part in parts], {}
        rows = _Batches(rows)
    settings = {"scenarios": {"new": {"columns": {1: lambda x: x + 1}}}, "where": X[:, 0] > 0}
    model = model_of(kernel)
    found = model.estimate_effect(rows, **settings, by=None, **more)
    expected = model.estimate_effect(X, **settings, **arrays)
    np.testing.assert_allclose(effect_of(found), effect_of(expected), rtol=1e-9)
    assert (effect_of(found) != 0).all()


class _Batches:
    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_draws_have_the_precision_of_the_rows(dtype):
    effects = model_of(zoo.logistic).estimate_effect(
        X.astype(dtype), scenarios={"new": {"columns": {0: 1.0}}}, average=False
    )
    assert effects["new"]["effect"].dtype == dtype


def test_effects_of_the_prior():
    model = model_of(zoo.conjugate, fitted=False)
    effects = model.estimate_effect(X, scenarios={"new": {"columns": {0: lambda x: x + 1}}})
    assert effects.attrs["posterior"] == "prior"
    effect = effect_of(effects)
    assert effect.shape == (1000,)
    assert abs(effect.mean()) < 0.15
    assert abs(effect.std() - 1) < 0.1
    assert model_of(zoo.conjugate).estimate_effect(X, scenarios={"new": {}}).attrs["posterior"] == "posterior"
