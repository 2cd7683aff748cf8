"""Folders for draws that were not given a place: one for each estimator, removed on demand or at exit."""

import atexit
import contextlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from skaimz.exceptions import CleanupWarning, warn_user
from skaimz.sampling import Folder, Place, place_of

__all__ = ["folder_of", "place", "remove_all", "remove_folder"]

# Beside the estimators rather than in them: predicting must leave an estimator as it was.
_FOLDERS: weakref.WeakKeyDictionary[Any, Path] = weakref.WeakKeyDictionary()
# A tree that reads from a folder may outlive the estimator, so folders are removed at exit and not with their owner.
_ALL: set[Path] = set()


def _new_folder(owner: Any) -> Path:
    """Return a fresh place for a store, inside the owner's folder."""
    folder = _FOLDERS.get(owner)
    if folder is None or not folder.exists():
        folder = Path(tempfile.mkdtemp(prefix="skaimz-"))
        _FOLDERS[owner] = folder
        _ALL.add(folder)
    return Path(tempfile.mkdtemp(dir=folder)) / "draws"


@contextlib.contextmanager
def place(owner: Any, output_dir: Any) -> Iterator[Place]:
    """Give the place of a store: the one that was asked for, or a fresh one, which goes if what is done there fails."""
    if output_dir is not None:
        yield place_of(output_dir)
        return
    path = _new_folder(owner)
    try:
        yield Folder(path)
    except BaseException:
        shutil.rmtree(path.parent, ignore_errors=True)
        raise


def _remove(folders: Iterable[Path]) -> None:
    """Remove folders and forget them; what cannot be removed is told, and stays known."""
    for folder in list(folders):
        # As much as can be, and then once more for the reason why some cannot.
        shutil.rmtree(folder, ignore_errors=True)
        try:
            if folder.exists():
                shutil.rmtree(folder)
        except OSError as error:
            warn_user(
                f"Draws in {str(folder)!r} could not be removed: {error}. What is left is tried again by the next "
                "`cleanup()` and at the end of the process.",
                CleanupWarning,
            )
            continue
        _ALL.discard(folder)
        for owner in [owner for owner, own in _FOLDERS.items() if own == folder]:
            del _FOLDERS[owner]


@atexit.register
def remove_all() -> None:
    """Remove the folders of all estimators of this process."""
    _remove(_ALL)


def _forget() -> None:
    """Leave the folders of the process that this one was forked from to that one."""
    _ALL.clear()
    _FOLDERS.clear()


if hasattr(os, "register_at_fork"):  # not on Windows, where no process is forked
    os.register_at_fork(after_in_child=_forget)


def folder_of(owner: Any) -> Path | None:
    """Return the folder of an estimator, where it has one."""
    return _FOLDERS.get(owner)


def remove_folder(owner: Any) -> None:
    """Remove the folder of an estimator."""
    _remove({_FOLDERS[owner]} if owner in _FOLDERS else ())
