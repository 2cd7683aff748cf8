"""The code on the pages of the documentation runs, and prints the output that the pages show."""

import contextlib
import copy
import functools
import importlib.util
import re
import sys
import types
from pathlib import Path

import distributed
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import zoo

from skaimz import NumPyroImpactRegressor, exceptions

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
# A block of Python, and the block of text directly after it, which is its output; or a file that a page shows.
BLOCK = re.compile(
    r"^```(?:python\n(?P<code>.*?)|\{literalinclude\} (?P<file>\w+\.py)\n.*?)^```$"
    r"(?:\n\n^```text\n(?P<output>.*?)^```$)?",
    re.DOTALL | re.MULTILINE,
)
# The calls on the page about MLflow, which start a database, are those of the tests in tests/mlflow.
NOT_RUN = {DOCS / "mlflow.md"}
PAGES = sorted(
    path for path in {*DOCS.rglob("*.md")} - NOT_RUN if "_build" not in path.parts and BLOCK.search(path.read_text())
)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_compilation")]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """Run a page in a folder of its own, plot without a screen, and leave no cluster running."""
    monkeypatch.chdir(tmp_path)
    mpl.use("Agg")
    yield
    with contextlib.suppress(ValueError):  # where there is none
        distributed.default_client().shutdown()


def blocks(path):
    """Return the blocks of a page, each with the number of lines before it and its output."""
    text = path.read_text()
    for match in BLOCK.finditer(text):
        code = match["code"] if match["file"] is None else path.with_name(match["file"])
        yield code, text.count("\n", 0, match.start()) + 1, match["output"]


@functools.cache
def names_of(path):
    """Return the names that a file defines which several pages show. It runs once."""
    module = sys.modules[f"docs_{path.stem}"] = types.ModuleType(f"docs_{path.stem}")
    exec(compile(path.read_text(), str(path), "exec"), vars(module))
    return {name: value for name, value in vars(module).items() if not name.startswith("__")}


def run(path, capsys, steps=()):
    """Run the blocks of a page in order, in an empty module, so that their classes can be pickled."""
    name = "docs_" + re.sub(r"\W", "_", str(path.relative_to(ROOT).with_suffix("")))
    module = sys.modules[name] = types.ModuleType(name)
    namespace = vars(module)
    found = list(blocks(path))
    assert found, f"{path} has no code"
    for number, (code, line, expected) in enumerate(found):
        for step in steps[number : number + 1]:
            namespace.update(step())
        if isinstance(code, Path):
            # A generator begins where the file leaves it, whatever other pages have drawn from it.
            shared = names_of(code)
            namespace.update({name: copy.deepcopy(shared[name]) if name == "rng" else shared[name] for name in shared})
            continue
        exec(compile("\n" * line + code, str(path), "exec"), namespace)
        printed = capsys.readouterr().out
        if expected is not None:
            assert NUMBER.sub("", printed).split() == NUMBER.sub("", expected).split(), f"{path}:{line + 1}\n{printed}"
            numbers = ([float(each) for each in NUMBER.findall(text)] for text in (printed, expected))
            np.testing.assert_allclose(*numbers, rtol=0.05, atol=0.05, err_msg=f"{path}:{line + 1}")
        else:
            assert not printed, f"{path}:{line + 1} prints output that no block of text shows:\n{printed}"
    return namespace


def test_the_model_of_the_guide():
    assert abs(names_of(DOCS / "guide" / "clinics.py")["model"].posterior_["effect"].mean() - 2.0) < 0.2


@pytest.mark.filterwarnings("ignore:`apply_async` is deprecated")  # of joblib 1.5, by its own backend for Dask
@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(DOCS).with_suffix("")))
def test_pages_run_alone(path, capsys):
    run(path, capsys)


def test_every_warning_has_a_section():
    text = (DOCS / "guide" / "warnings.md").read_text()
    assert sorted(re.findall(r"^### `(\w+)`$", text, re.MULTILINE)) == sorted(exceptions.__all__)
    for section in re.split(r"^### ", text, flags=re.MULTILINE)[1:]:
        name = section[1 : section.index("`", 1)]
        says_what_to_do = "**What to do:**" in " ".join(section.split())
        assert says_what_to_do or name == "FitWarning" or name.endswith("Error"), name


def test_readme(capsys):
    def experiment():
        rng = np.random.default_rng(0)
        men = pd.DataFrame({"train": rng.integers(2, size=60), "education": rng.integers(3, size=60)})
        model = NumPyroImpactRegressor(zoo.conjugate, posterior={"coef": rng.normal(size=(20, 2))})
        return {"men": men, "model": model.fit(men, men["train"])}

    found = run(ROOT / "README.md", capsys, steps=[dict, experiment])
    assert len(found["effects"].summary()) == 3


def load(name):
    """Return a module of the documentation's own code."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_broken_links_are_found(tmp_path):
    check_links = load("check_links")
    good = '<a href="b.html#there">b</a><a href="#top" id="top">a</a><a href="https://num.pyro.ai/">n</a>'
    (tmp_path / "b.html").write_text('<p id="there"></p>')
    (tmp_path / "a.html").write_text(good)
    assert check_links.broken(tmp_path) == []
    bad = ["b.html#nowhere", "#nowhere", "c.html", "no.png", "https:/num.pyro.ai", "htp://num.pyro.ai"]
    (tmp_path / "a.html").write_text(good + "".join(f'<a href="{address}">x</a>' for address in bad))
    assert check_links.broken(tmp_path) == [f"a.html: {address}" for address in bad]


def test_pictures_show_the_tables():
    pictures = load("pictures")
    for name, draw in pictures.PICTURES.items():
        assert (DOCS / "_static" / name).read_text() == draw(), f"run `python docs/pictures.py`: {name} is old"
    times = {name: theirs / ours for name, _, theirs, ours in pictures.work()}
    # The home page says these numbers in words.
    assert max(times.values()) == pytest.approx(220, abs=0.5)
    assert min(times.values()) == pytest.approx(0.9, abs=0.05)
    assert pictures.outcomes()[0][1:] == (56, 0, 3)


def test_pages_that_do_not_fit_are_found(tmp_path):
    check_pages = load("check_pages")
    chromium = check_pages.browser()
    if chromium is None:
        pytest.skip("Chromium is not installed")
    (tmp_path / "good.html").write_text("<pre>short</pre>")
    (tmp_path / "cut.html").write_text(f"<pre style='overflow: auto'>{'long ' * 20}</pre>")
    (tmp_path / "wide.html").write_text("<div style='width: 500px; height: 1em'></div>")
    found = check_pages.too_wide(tmp_path, chromium)
    assert [line.partition(":")[0] for line in found] == ["cut.html at 390", "wide.html at 390"]


def test_the_models_that_work_are_those_of_the_table():
    counts = (ROOT / "benchmarks" / "tables" / "corpus.md").read_text().splitlines()[-1]
    models, works, refused = map(int, re.fullmatch(r"(\d+) models: (\d+) works, (\d+) refused\.", counts).groups())
    readme, home = ((path / name).read_text() for path, name in ((ROOT, "README.md"), (DOCS, "index.md")))
    assert f"Of {models} models" in readme
    assert f"{works} work and\n  agree with NumPyro's own runs; {refused} are refused" in readme
    assert f"[{works} of {models}](corpus.md)" in home
