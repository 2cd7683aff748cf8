"""What packages, workflows and forms state agrees with the rest of the repository."""

import importlib.util
import re
import shutil
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = sorted(name.rpartition(" ")[2] for name in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", name))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")
FIELDS = {"markdown", "textarea", "input", "dropdown", "checkboxes"}
MARKDOWN = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]


def load(path):
    return yaml.safe_load(path.read_text())


def release_script():
    spec = importlib.util.spec_from_file_location("release", ROOT / ".ci" / "release.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def steps(path):
    return [step for job in load(path)["jobs"].values() for step in job["steps"]]


def python_versions(path):
    """Return the versions that a workflow sets up, those of its matrix in their place."""
    for job in load(path)["jobs"].values():
        for step in job["steps"]:
            version = step.get("with", {}).get("python-version")
            if version == "${{ matrix.python }}":
                yield from job["strategy"]["matrix"]["python"]
            elif version:
                yield version


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_are_complete(path):
    workflow = load(path)
    # YAML 1.1 reads the key "on" as true.
    assert set(workflow) >= {"name", True, "permissions", "jobs"}
    for job in workflow["jobs"].values():
        assert job["runs-on"]
        assert job["timeout-minutes"]
        assert set(job) <= {"runs-on", "timeout-minutes", "strategy", "needs", "environment", "permissions", "steps"}
        assert job.get("needs") in {None, *workflow["jobs"]}
    for step in steps(path):
        assert ("uses" in step) != ("run" in step)
        assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|release/v1)", step.get("uses", "a/b@v1"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_call_make_targets_that_exist(path):
    targets = set(re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split())
    for step in steps(path):
        assert set(re.findall(r"\bmake ([\w-]+)", step.get("run", ""))) <= targets


def test_python_versions_agree():
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    oldest = PYTHONS[0]
    assert load(ROOT / ".github/workflows/test.yml")["jobs"]["test"]["strategy"]["matrix"]["python"] == PYTHONS
    assert PROJECT["requires-python"] == f">={oldest}"
    assert tools["mypy"]["python_version"] == oldest
    assert tools["ruff"]["target-version"] == "py" + oldest.replace(".", "")
    for path in WORKFLOWS:
        assert set(python_versions(path)) <= set(PYTHONS)


def test_read_the_docs_builds_what_make_docs_builds():
    settings = load(ROOT / ".readthedocs.yaml")
    assert settings["version"] == 2
    assert settings["build"]["tools"]["python"] in PYTHONS
    assert (ROOT / settings["sphinx"]["configuration"]).is_file()
    (install,) = settings["python"]["install"]
    assert set(install["extra_requirements"]) <= set(PROJECT["optional-dependencies"])


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_issue_forms(path):
    form = load(path)
    assert form["name"]
    assert form["description"]
    names = [field.get("id") for field in form["body"] if field["type"] != "markdown"]
    assert len(set(names)) == len(names)
    for field in form["body"]:
        assert field["type"] in FIELDS
        assert field["attributes"]["value" if field["type"] == "markdown" else "label"]


def test_citation_names_this_version():
    citation = load(ROOT / "CITATION.cff")
    assert set(citation) >= {"cff-version", "message", "title", "authors"}
    assert str(citation["version"]) == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]


def test_source_distributions_contain_what_the_manifest_names():
    manifest = [line.split() for line in (ROOT / "MANIFEST.in").read_text().splitlines()]
    named = {name for command, *names in manifest if command in ("include", "graft") for name in names}
    assert named >= {"docs", "examples", "tests", "CHANGES.md"}
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_links_work_outside_of_the_repository():
    for path in MARKDOWN:
        text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
        links = re.findall(r"\]\(([^)]+)\)", text) + re.findall(r"^\[[^\]]+\]: (\S+)$", text, re.MULTILINE)
        assert links
        assert [link for link in links if not link.startswith(("https://", "#"))] == []
        # What is linked in this repository exists.
        for link in links:
            if match := re.match(r"https://[\w.]+/OWNER/skaimz/(?:blob/|tree/)?main/([^#]+)", link):
                assert (ROOT / match[1]).exists(), f"{path.name}: {link}"


# Pages for maintainers name files of the repository.
@pytest.mark.parametrize("name", ["docs/design.md", "CONTRIBUTING.md"])
def test_files_that_pages_name_exist(name):
    pattern = r"`((?:skaimz|tests|benchmarks|docs|examples|\.ci|\.github)/[\w./-]+)`"
    named = set(re.findall(pattern, (ROOT / name).read_text()))
    assert named
    assert [path for path in sorted(named) if "_build" not in path and not (ROOT / path).exists()] == []


def test_the_glossary_has_every_word():
    words = re.findall(r"^\| (\w+) \|", (ROOT / "docs" / "design.md").read_text(), re.MULTILINE)
    expected = "tile step batch minibatch part block window chunk piece kernel site draw job quantity rung engine"
    assert set(words) >= set(expected.split())


def test_links_name_no_owner_until_a_release_fills_it(tmp_path):
    assert all(address.startswith("https://github.com/OWNER/skaimz") for address in PROJECT["urls"].values())
    release = release_script()
    for name in release.FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    assert {path.relative_to(tmp_path).as_posix() for path in release.fill(tmp_path, "someone")} == set(release.FILES)
    for name in release.FILES:
        assert "/OWNER/" not in (tmp_path / name).read_text()
    assert "https://github.com/someone/skaimz" in (tmp_path / "README.md").read_text()


def test_tags_must_name_the_version():
    with pytest.raises(SystemExit):
        release_script().main(["someone", "--tag", "v0.0.0"])
