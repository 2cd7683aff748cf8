"""The examples run, and print results within the expected ranges."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _closed():
    """Close the pictures of an example."""
    yield
    plt.close("all")


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def numbers(line):
    return [float(number) for number in re.findall(r"-?\d+\.\d+", line)]


def test_job_training(tmp_path, capsys):
    load("job_training").main(tmp_path)
    experiment, survey = capsys.readouterr().out.split("Survey controls")
    for printed, naive in ((experiment, 1.794), (survey, -15.205)):
        assert numbers(next(line for line in printed.splitlines() if "difference" in line)) == [naive]
    everyone = numbers(next(line for line in experiment.splitlines() if "all men" in line))
    assert everyone[:2] == pytest.approx([1.68, 0.63], abs=0.1)
    # Without the experiment's controls, adjusting for covariates removes the difference of -15; uncertainty is larger.
    untrained = numbers(next(line for line in survey.splitlines() if "untrained" in line))
    assert abs(untrained[0]) < 1.5 < 2 * untrained[1]
    assert (tmp_path / "job_training.png").stat().st_size > 10_000


def test_marketing(tmp_path, capsys):
    load("marketing").main(tmp_path, n_rows=60_000)
    lines = capsys.readouterr().out.splitlines()
    rows = [numbers(line)[:4] for line in lines if re.match(r"(e-mail|voucher| )\s+(new|regular|loyal)", line)]
    mean, lower, upper, truth = np.array(rows).T
    assert len(rows) == 6
    spread = (upper - lower) / (2 * 1.645)
    assert (abs(mean - truth) / spread < 4).all()
    for picture in ("marketing_segments.png", "marketing_uplift.png"):
        assert (tmp_path / picture).stat().st_size > 10_000


def test_sleep(capsys):
    mpl.use("Agg")
    load("sleep")
    known, new = map(numbers, capsys.readouterr().out.splitlines())
    # lme4 finds a mean of 251.4 on the first day and 10.5 more each day, with sds between subjects of 24.7 and 5.9.
    assert new[:2] == pytest.approx([251.4, 10.5], rel=0.1)
    assert 20.0 < new[2] < 36.0
    assert known[2] < 0.7 * new[2]


def test_seat_belts(capsys):
    mpl.use("Agg")
    load("seat_belts")
    petrol, law, _, reduction = map(numbers, capsys.readouterr().out.splitlines())
    # Durbin and Koopman (2001), by maximum likelihood: -0.29140 (0.09832) and -0.23773 (0.04632).
    assert petrol == pytest.approx([-0.291, 0.098], abs=0.03)
    assert law == pytest.approx([-0.238, 0.046], abs=0.005)
    middle, low, high = reduction
    assert low < 100 * (1 - np.exp(-0.23773)) < high
    # The 23 months after the law had 30,399 drivers, and the same months of the year before, those of 1982, 37,464.
    assert middle == pytest.approx(100 * (1 - 30_399 / 37_464), abs=2.0)


def test_co2(capsys):
    mpl.use("Agg")
    load("co2")
    last, each, *_ = capsys.readouterr().out.splitlines()
    assert numbers(last)[0] < 0.6
    assert int(re.search(r"(\d+) of 24", last)[1]) >= 20
    # Five times two years: errors within two years are alike.
    assert 80 <= int(re.match(r"\d+", each)[0]) <= 100


def test_murder_rates():
    # In a process of its own, in which the kernel belongs to the main module.
    text = subprocess.run(
        [sys.executable, str(EXAMPLES / "murder_rates.py")], capture_output=True, text=True, check=True
    ).stdout
    routed, in_column = text.split("Exposure as a column of X")
    scores = [[numbers(line) for line in part.splitlines() if "density" in line] for part in (routed, in_column)]
    assert len(scores[0]) == 6
    assert scores[0] == scores[1]
    # Counties vary more than a Poisson distribution allows.
    assert max(score for _, score in scores[0][:3]) < min(score for _, score in scores[0][3:]) - 0.05
    here, there = numbers(next(line for line in text.splitlines() if line.startswith("Expected")))
    assert here == there
