"""What a person sees of results: texts and HTML of estimators, fits, effects and checks; names to complete."""

import subprocess
import sys

import numpy as np
import pytest

import skaimz
from skaimz import NumPyroImpactRegressor
from skaimz.inference import SVI


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100, 2))
    y = X @ [1.0, -2.0] + rng.normal(scale=0.1, size=100)
    y[0] += 20.0
    return X, y


@pytest.fixture(scope="module")
def model(rows):
    return NumPyroImpactRegressor(random_state=0).fit(*rows)


def test_checks_show_the_verdict_first_and_all_of_the_advice(model, rows):
    table = model.diagnose(*rows, checks=["p_mean", "p_max"])
    lines = repr(table).splitlines()
    assert lines[0] == "2 checks: 1 bad, 1 good."
    assert lines[-1] == f"p_max of y: {table.loc['p_max', 'advice']}"
    assert len(lines[-1]) > 80
    html = table._repr_html_()
    assert html.startswith("<p><b>2 checks: 1 bad, 1 good.</b></p>")
    assert table.loc["p_max", "advice"] in html
    # A part of the table is a table of pandas.
    assert "checks:" not in repr(table[["site", "verdict"]])


def test_effects_show_their_summary(model, rows):
    effects = model.estimate_effect(
        rows[0], scenarios={"<more>": {"columns": {1: lambda x: x + 1}}}, contrast="difference"
    )
    mean = effects.summary()["mean"].iloc[0]
    assert repr(effects).splitlines()[0].startswith("Difference, with 90 % intervals")
    assert f"{mean:.2f}" in repr(effects)
    html = effects._repr_html_()
    assert f"{mean:.2f}" in html
    assert "&lt;more&gt;" in html
    many = model.estimate_effect(rows[0], scenarios={"more": {"columns": {1: lambda x: x + 1}}}, average=False)
    assert "Group: /more" in repr(many)


def test_fits_show_facts(model, rows):
    assert repr(model.fit_result_) == "FitResult(independent, 1 x 1000 draws)"
    facts = str(model.fit_result_).splitlines()
    assert facts[1].split() == ["method", "exact"]
    assert "<th>method</th><td>exact</td>" in model.fit_result_._repr_html_()
    html = model._repr_html_()
    assert "<b>Fitted</b>: method: exact" in html
    assert "sk-container" in html
    assert "<td>latent</td>" in html
    assert "<b>Fitted</b>" not in NumPyroImpactRegressor()._repr_html_()


def test_public_names_complete_from_the_package():
    assert set(dir(skaimz)) >= {"pipeline", "metrics", "plotting", "inference", "mlflow", "NumPyroImpactRegressor"}
    code = (
        "import sys, skaimz; before = set(sys.modules); assert 'skaimz.metrics' not in before; skaimz.metrics.NegCRPS;"
        "assert not {'matplotlib', 'mlflow'} & set(sys.modules); [getattr(skaimz, name) for name in dir(skaimz)]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'metric'"):
        skaimz.metric  # noqa: B018


def test_one_keyword_shows_progress_everywhere(rows, capfd):
    model = NumPyroImpactRegressor(inference=SVI(num_steps=300, num_samples=99), random_state=0)
    calls = {
        "SVI": lambda progress: model.fit(*rows, progress=progress),
        "batch": lambda progress: model.sample_posterior_predictive(rows[0], progress=progress),
        "2/2": lambda progress: skaimz.simulation_calibration.simulation_based_calibration(
            model, rows[0], num_replications=2, progress=progress
        ),
    }
    for words, call in calls.items():
        call(False)
        assert not capfd.readouterr().err
        call(True)
        assert words in capfd.readouterr().err
    model.set_params(verbose=1).fit(*rows)
    assert "SVI" in capfd.readouterr().err
    model.fit(*rows, progress=False)
    assert not capfd.readouterr().err
