"""The code on the pages of the documentation runs, and prints the output that the pages show."""

import contextlib
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

from skaimz import NumPyroImpactRegressor

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
GUIDE = sorted(path for path in (DOCS / "guide").glob("*.md") if path.stem != "index")
PAGES = [
    DOCS / "index.md",
    DOCS / "large.md",
    *sorted(path for path in (DOCS / "concepts").glob("*.md") if path.stem != "index"),
]
# A block of Python, and the block of text directly after it, which is its output.
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n^```text\n(.*?)^```$)?", re.DOTALL | re.MULTILINE)
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
    return [(match[1], text.count("\n", 0, match.start(1)), match[2]) for match in BLOCK.finditer(text)]


def run(path, capsys, before=(), steps=()):
    """Run the blocks of a page in order, in a module of their own, so that their classes can be pickled."""
    name = "docs_" + re.sub(r"\W", "_", str(path.relative_to(ROOT).with_suffix("")))
    module = sys.modules[name] = types.ModuleType(name)
    namespace = vars(module)
    namespace.update(before)
    found = blocks(path)
    assert found, f"{path} has no code"
    for number, (code, line, expected) in enumerate(found):
        for step in steps[number : number + 1]:
            namespace.update(step())
        exec(compile("\n" * line + code, str(path), "exec"), namespace)
        printed = capsys.readouterr().out
        if expected is not None:
            assert NUMBER.sub("", printed).split() == NUMBER.sub("", expected).split(), f"{path}:{line + 1}\n{printed}"
            numbers = ([float(each) for each in NUMBER.findall(text)] for text in (printed, expected))
            np.testing.assert_allclose(*numbers, rtol=0.05, atol=0.05, err_msg=f"{path}:{line + 1}")
        else:
            assert not printed, f"{path}:{line + 1} prints output that no block of text shows:\n{printed}"
    return namespace


@pytest.fixture(scope="module")
def model_of_the_guide():
    """Names that the first page of the guide defines for all others, with one fit."""
    return {}


def test_index_of_the_guide(capsys, model_of_the_guide):
    namespace = run(DOCS / "guide" / "index.md", capsys)
    model_of_the_guide.update((key, value) for key, value in namespace.items() if not key.startswith("__"))
    assert abs(namespace["model"].posterior_["effect"].mean() - 2.0) < 0.2


@pytest.mark.filterwarnings("ignore:`apply_async` is deprecated")  # of joblib 1.5, by its own backend for Dask
@pytest.mark.parametrize("path", GUIDE, ids=lambda path: path.stem)
def test_guide(path, capsys, model_of_the_guide):
    if not model_of_the_guide:
        test_index_of_the_guide(capsys, model_of_the_guide)
    run(path, capsys, model_of_the_guide)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_pages(path, capsys):
    run(path, capsys)


def test_readme(capsys):
    def experiment():
        rng = np.random.default_rng(0)
        men = pd.DataFrame({"train": rng.integers(2, size=60), "education": rng.integers(3, size=60)})
        model = NumPyroImpactRegressor(zoo.conjugate, posterior={"coef": rng.normal(size=(20, 2))})
        return {"men": men, "model": model.fit(men, men["train"])}

    found = run(ROOT / "README.md", capsys, steps=[dict, experiment])
    assert len(found["effects"].summary()) == 3


def test_broken_links_are_found(tmp_path):
    spec = importlib.util.spec_from_file_location("check_links", DOCS / "check_links.py")
    check_links = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(check_links)
    good = '<a href="b.html#there">b</a><a href="#top" id="top">a</a><a href="https://num.pyro.ai/">n</a>'
    (tmp_path / "b.html").write_text('<p id="there"></p>')
    (tmp_path / "a.html").write_text(good)
    assert check_links.broken(tmp_path) == []
    bad = ["b.html#nowhere", "#nowhere", "c.html", "no.png", "https:/num.pyro.ai", "htp://num.pyro.ai"]
    (tmp_path / "a.html").write_text(good + "".join(f'<a href="{address}">x</a>' for address in bad))
    assert check_links.broken(tmp_path) == [f"a.html: {address}" for address in bad]
