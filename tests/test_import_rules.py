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
    "simulation_calibration": {"exceptions", "runtime", "checks", "estimators"},
    "metrics": {"kernels", "estimators", "sampling", "rows"},
    "pipeline": {"exceptions", "kernels", "rows", "datatree", "effects", "estimators"},
    "plotting": {"effects", "estimators", "pipeline"},
    "mlflow": {"estimators", "inference"},
    "skpro": {"estimators"},
    "sktime": {"estimators", "skpro"},
    "__init__": {
        "runtime", "datatree", "estimators",
        # Modules that users find by tab completion; they are imported when they are used.
        "effects", "exceptions", "inference", "metrics", "mlflow", "pipeline", "plotting", "simulation_calibration",
    },
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


# Methods of named tuples, the results of NumPyro's nested sampler, which it does not give otherwise, and the method of
# `SklearnObject` that its subclasses in other rooms call.
SHARED = {"_replace", "_fields", "_asdict", "_results", "_set_request"}


def is_private(name):
    return name.startswith("_") and not name.startswith("__") and name not in SHARED


def own_names(room):
    """Return the names that a room binds: functions, classes, attributes, parameters and variables."""
    names = set()
    for path in room:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
                names.add(node.name)
            elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
                names.add(node.id if isinstance(node, ast.Name) else node.attr)
    return names


def files_by_room():
    rooms = {}
    for path in PACKAGE.rglob("*.py"):
        rooms.setdefault(path.relative_to(PACKAGE).parts[0].removesuffix(".py"), []).append(path)
    return rooms


@pytest.mark.parametrize("room", sorted(files_by_room()))
def test_private_names_stay_in_their_room(room):
    rooms = files_by_room()
    own = own_names(rooms[room])
    others = {name for other, paths in rooms.items() if other != room for name in own_names(paths)}
    for path in rooms[room]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and is_private(node.attr):
                assert node.attr in own or node.attr not in others, f"{path}:{node.lineno} uses {node.attr}"
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("skaimz."):
                _, home, *modules = node.module.split(".")
                names = [*modules, *(alias.name for alias in node.names)]
                assert home == room or not any(map(is_private, names)), f"{path}:{node.lineno} imports {names}"


# Docstrings of the public methods take most of the room, and each method is one call below its docstring.
LONG = {"estimators/_learning.py": 750, "estimators/_base.py": 700}


def test_modules_stay_small():
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).as_posix()
        assert len(path.read_text().splitlines()) <= LONG.get(name, 500), path


# Their functions and methods are called by users, by keyword.
PUBLIC = (
    "estimators/_base.py",
    "estimators/_learning.py",
    "mlflow/_autolog.py",
    "pipeline/_effects.py",
    "plotting/",
    "simulation_calibration.py",
)


def test_parameter_lists_stay_short():
    for path in PACKAGE.rglob("*.py"):
        is_public = path.relative_to(PACKAGE).as_posix().startswith(PUBLIC)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and (is_private(node.name) or not is_public):
                names = [arg.arg for arg in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
                count = len(names) - (names[:1] in (["self"], ["cls"]))
                assert count <= 6, f"{path}:{node.lineno} {node.name} has {count} parameters"
