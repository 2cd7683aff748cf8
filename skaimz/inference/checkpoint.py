"""Files from which a fit that was killed goes on to the same draws."""

import os
import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import skaimz
from skaimz.inference.data import Data, in_memory
from skaimz.kernels import TracedKernel, digest

__all__ = ["Checkpoint", "SaveFile", "arrays_of", "checkpoint_of", "named"]

# A save waits for this many seconds after the last one, and for so many times the seconds that the last one took.
LEAST_WAIT = 1.0
WAIT_BY_COST = 20.0
# Of rows that are not in memory, so many at each end stand for all.
SAMPLED_ROWS = 1024

Arrays = Mapping[str, np.ndarray]


class SaveFile:
    """A file of a checkpoint, for one of the things that a fit computes.

    Parameters
    ----------
    path : Path or None
        None if nothing is to be saved.
    """

    def __init__(self, path: Path | None):
        self.path = path
        self._next = 0.0

    def load(self) -> dict[str, np.ndarray] | None:
        """Return what was saved, or None.

        Raises
        ------
        ValueError
            If the file cannot be read.
        """
        if self.path is None or not self.path.exists():
            return None
        try:
            with self.path.open("rb") as file:
                return dict(np.load(file, allow_pickle=False))
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"The checkpoint {str(self.path)!r} cannot be read: {error}. Delete it to fit from the start."
            ) from error

    def save(self, arrays: Callable[[], Arrays], *, now: bool = False) -> None:
        """Save the arrays that a function returns, if enough time has passed since the last save, or ``now``."""
        begun = time.monotonic()
        if self.path is None or (begun < self._next and not now):
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # A reader finds the old file or the new one, never a part of one.
        with tempfile.NamedTemporaryFile(dir=self.path.parent, delete=False) as file:
            np.savez(file, **arrays())  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        os.replace(file.name, self.path)
        ended = time.monotonic()
        self._next = ended + max(LEAST_WAIT, WAIT_BY_COST * (ended - begun))


class Checkpoint:
    """A folder that belongs to one fit; no folder if nothing is to be saved."""

    def __init__(self, folder: Path | None = None):
        self.folder = folder

    def file(self, name: str) -> SaveFile:
        """Return the file of a name."""
        return SaveFile(None if self.folder is None else self.folder / f"{name}.npz")

    def within(self, name: str) -> "Checkpoint":
        """Return a checkpoint whose files share no names with those of others."""
        return Checkpoint(None if self.folder is None else self.folder / name)

    def remove(self) -> None:
        """Delete the folder, once the fit is complete."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def named(**groups: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Name the arrays of several groups, so that one file can hold them."""
    return {f"{name} {i}": array for name, arrays in groups.items() for i, array in enumerate(arrays)}


def arrays_of(saved: Arrays, name: str) -> tuple[np.ndarray, ...]:
    """Return the arrays of one group by the name that :func:`named` gave it."""
    count = sum(key.rpartition(" ")[0] == name for key in saved)
    return tuple(saved[f"{name} {i}"] for i in range(count))


def checkpoint_of(folder: Any, traced: TracedKernel, data: Data, settings: Any, seed: int) -> Checkpoint:
    """Return the checkpoint of a fit, in a folder whose name differs from that of any other fit.

    Parameters
    ----------
    folder : path-like or None
        The user's folder, which fits may share.
    traced : TracedKernel
    data : Data
    settings : Auto, SVI or MCMC
        Checked settings.
    seed : int

    Returns
    -------
    Checkpoint
    """
    if folder is None:
        return Checkpoint()
    onlookers = ("callback", "time_budget", "checkpoint_dir")
    own_settings = {name: value for name, value in settings.get_params().items() if name not in onlookers}
    rows = {name: _content(array) for name, array in data.rows.items()}
    weight = None if data.weight is None else _content(data.weight)
    versions = (skaimz.__version__, jax.__version__)
    kernel = (traced.kernel.function, traced.constants, data.hyperparameters)
    name = digest((kernel, rows, data.whole, weight, type(settings), own_settings, seed, versions))
    return Checkpoint(Path(folder) / f"fit-{name[:20]}")


def _content(array: Any) -> Any:
    """Return an array, or, for one that is not in memory, a sample that stands for it."""
    if in_memory(array):
        return array
    n_rows = len(array)
    first, last = slice(0, min(SAMPLED_ROWS, n_rows)), slice(max(n_rows - SAMPLED_ROWS, 0), n_rows)
    return array.shape, str(array.dtype), np.asarray(array[first]), np.asarray(array[last])
