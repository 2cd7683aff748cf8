"""The rooms of the package, and which of them may import which."""

import ast
from pathlib import Path

import pytest

import skaimz

PACKAGE = Path(skaimz.__file__).parent
# Each room with those below it that it may import.
ROOMS = {
    "exceptions": set(),
    "runtime": set(),
    "kernels": {"exceptions", "runtime"},
    "rows": {"kernels", "dask"},
    "inference": {"exceptions", "kernels", "runtime"},
    "sampling": {"exceptions", "kernels", "runtime"},
    "datatree": {"exceptions", "kernels", "sampling"},
    "checks": {"inference"},
    "effects": {"exceptions", "sampling", "datatree"},
    "dask": {"exceptions", "kernels", "rows", "sampling", "datatree", "effects"},
    "estimators": {
        "exceptions", "runtime", "kernels", "rows", "inference", "sampling", "datatree", "checks", "effects", "dask",
    },
    "simulation_calibration": {"exceptions", "checks", "estimators"},
    "metrics": {"estimators", "sampling", "rows"},
    "plotting": {"effects"},
    "mlflow": {"estimators", "inference", "metrics"},
    "__init__": {"runtime", "datatree", "estimators"},
}  # fmt: skip
FOREIGN = {"kernels": {"sklearn", "xarray"}, "inference": {"sklearn", "xarray"}, "sampling": {"sklearn", "xarray"}}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ([node.module] if node.module != "skaimz" else (f"skaimz.{alias.name}" for alias in node.names))


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rooms(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in imports(path):
        top, *rest = name.split(".")
        if top == "skaimz" and rest:
            assert rest[0] in ROOMS[room] | {room}, f"{path} imports {name}"
        assert top not in FOREIGN.get(room, set()), f"{path} imports {name}"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_datatree_alone_builds_xarray_objects(path):
    if path == PACKAGE / "datatree.py":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            assert name not in {"Dataset", "DataArray", "DataTree", "from_dict"}, f"{path}:{node.lineno} calls {name}"


def test_modules_stay_small():
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 500, path
