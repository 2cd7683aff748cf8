"""A Pipeline as data without code: its last step as a tree of draws, and the steps before it in the format of skops."""

import json
import os
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from sklearn.pipeline import Pipeline

from skaimz.datatree import arrays_to_dataset, write_tree
from skaimz.estimators import NumPyroImpactClassifier, NumPyroImpactRegressor
from skaimz.pipeline._steps import Steps

__all__ = ["load", "save"]

# The group with the steps, and the attribute with the names of all of them.
STEPS = "steps"
# Types that transformers of scikit-learn hold, and that skops does not know as harmless.
HARMLESS = (
    "numpy.dtype",
    "scipy._lib.array_api_compat.numpy._aliases.asarray",
    "scipy.interpolate._bsplines.BSpline",
)
CLASSES = {each.__name__: each for each in (NumPyroImpactRegressor, NumPyroImpactClassifier)}


def save(pipeline: Any, path: str | os.PathLike[str], *, trusted: Collection[str] = ()) -> None:
    """Save a fitted Pipeline as a folder of data, without code.

    The folder is a Zarr store with the tree of the last step's ``to_datatree()``, and with the other steps as skops
    writes them. The kernel is not in it: :func:`load` takes it from your code.

    Parameters
    ----------
    pipeline : Pipeline, search or estimator
        Fitted, with an estimator of this package as the last step. Of a search, the best Pipeline is saved.
    path : path-like
        A folder that does not exist yet.
    trusted : collection of str, optional
        Types that skops does not trust by itself, such as ``"my_module.MyTransformer"``, and that you do.

    Raises
    ------
    ValueError
        If a step cannot be saved without code. The message names the step, and what in it is code.
    FileExistsError
        If there is something at ``path``.
    ImportError
        If skops is not installed.

    See Also
    --------
    skaimz.mlflow.save_model : Saves any Pipeline, with code.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skaimz import NumPyroImpactRegressor
    >>> from skaimz.pipeline import load, save
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(50.0, 10.0, size=(100, 2))
    >>> y = X @ [1.0, -2.0] + rng.normal(scale=0.1, size=100)
    >>> pipe = make_pipeline(StandardScaler(), NumPyroImpactRegressor(random_state=0)).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(pipe, f"{folder}/pipeline")
    ...     again = load(f"{folder}/pipeline")
    >>> bool((again.predict(X) == pipe.predict(X)).all())
    True
    """
    steps, target = Steps(pipeline), Path(path)
    if target.exists():
        raise FileExistsError(f"There is something at {str(target)!r}: give a folder that does not exist.")
    transformers = [(name, step) for before in steps.before for name, step in before.steps]
    names = [*(name for name, _ in transformers), steps.last_name]
    if len(set(names)) < len(names):
        raise ValueError(f"Steps of nested Pipelines must have different names to be saved, but are named {names}.")
    saved = {f"step_{number}": _bytes_of(name, step, trusted) for number, (name, step) in enumerate(transformers)}
    tree = steps.estimator.to_datatree()
    groups = {str(name): node.to_dataset() for name, node in tree.children.items()}
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as folder:
        # A folder with this name is complete.
        unfinished = Path(folder) / "tree"
        write_tree(unfinished, {**groups, STEPS: arrays_to_dataset(saved)}, {**tree.attrs, STEPS: json.dumps(names)})
        unfinished.rename(target)


def load(path: str | os.PathLike[str], *, kernel: Callable | None = None, trusted: Collection[str] = ()) -> Pipeline:
    """Load a Pipeline that :func:`save` has saved. No code of the folder is run.

    Parameters
    ----------
    path : path-like
    kernel : callable, optional
        The kernel of the last step; None if it is the default kernel.
    trusted : collection of str, optional
        As in :func:`save`. Other types are refused.

    Returns
    -------
    Pipeline
        Predicts as the original does, to the bit.

    Raises
    ------
    FileNotFoundError
        If there is nothing at ``path``.
    ValueError
        If the folder holds no Pipeline, or another kernel's draws.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"There is no folder {os.fspath(path)!r}.")
    with xr.open_datatree(os.fspath(path), engine="zarr", consolidated=False) as opened:
        tree = opened.load()
    if STEPS not in tree.attrs:
        raise ValueError(f"{os.fspath(path)!r} holds no Pipeline that `skaimz.pipeline.save` has saved.")
    *names, last = json.loads(tree.attrs[STEPS])
    group = tree[STEPS]
    transformers = [
        (name, _from_bytes(name, group[f"step_{number}"].to_numpy(), trusted)) for number, name in enumerate(names)
    ]
    return Pipeline([*transformers, (last, CLASSES[tree.attrs["estimator"]].from_datatree(kernel, tree))])


def _skops() -> Any:
    try:
        import skops.io
    except ImportError as error:
        raise ImportError("Steps of a Pipeline are saved by skops: `pip install 'skaimz[skops]'`.") from error
    return skops.io


def _bytes_of(name: str, step: Any, trusted: Collection[str]) -> np.ndarray:
    """Return a step in the format of skops, or refuse it where that would hold code."""
    if isinstance(step, str):  # "passthrough"
        return np.frombuffer(step.encode(), np.uint8)
    io = _skops()
    remedy = "Save the Pipeline with code, by `cloudpickle` or `skaimz.mlflow.save_model`"
    try:
        data = io.dumps(step)
        untrusted = sorted({*io.get_untrusted_types(data=data)} - {*HARMLESS, *trusted})
    except Exception as error:
        raise ValueError(f"Step {name!r}, {step!r}, cannot be saved without code ({error}). {remedy}.") from error
    if untrusted:
        raise ValueError(
            f"Step {name!r}, {step!r}, cannot be saved without code: it holds {untrusted}, which skops does not trust. "
            f"{remedy}, or pass `trusted={untrusted}` here and to `load` if you trust these types."
        )
    return np.frombuffer(data, np.uint8)


def _from_bytes(name: str, data: np.ndarray, trusted: Collection[str]) -> Any:
    if data.tobytes() == b"passthrough":
        return "passthrough"
    io = _skops()
    untrusted = sorted({*io.get_untrusted_types(data=data.tobytes())} - {*HARMLESS, *trusted})
    if untrusted:
        raise ValueError(f"Step {name!r} holds {untrusted}, which may run code: pass `trusted=` if you trust them.")
    return io.loads(data.tobytes(), trusted=[*HARMLESS, *trusted])
