"""Folders for draws that were not given a place: one for each estimator, removed on demand or at exit."""

import atexit
import contextlib
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["FoldersMixin", "place"]

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
def place(owner: Any, output_dir: Any) -> Iterator[Path]:
    """Give the place of a store: the one that was asked for, or a fresh one, which goes if what is done there fails."""
    if output_dir is not None:
        yield Path(output_dir).resolve()
        return
    path = _new_folder(owner)
    try:
        yield path
    except BaseException:
        shutil.rmtree(path.parent, ignore_errors=True)
        raise


@atexit.register
def _remove_all() -> None:
    """Remove the folders of all estimators of this process."""
    for folder in list(_ALL):
        shutil.rmtree(folder, ignore_errors=True)
    _ALL.clear()
    _FOLDERS.clear()


class FoldersMixin:
    """An estimator's folder."""

    @property
    def temp_dir_(self) -> str:
        """Folder of the draws that were stored without an ``output_dir``."""
        folder = _FOLDERS.get(self)
        if folder is None:
            raise AttributeError("There is no `temp_dir_`: no draws were stored without an `output_dir`.")
        return str(folder)

    def cleanup(self) -> None:
        """Remove the draws that this estimator stored without an ``output_dir``; trees of them cannot be read then.

        At the end of the process they are removed in any case.
        """
        folder = _FOLDERS.pop(self, None)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
            _ALL.discard(folder)

    @staticmethod
    def cleanup_all() -> None:
        """Do what :meth:`cleanup` does, for all estimators of this process."""
        _remove_all()
