"""Where a store is: in a folder, or at a URL of an object store."""

import contextlib
import errno
import functools
import glob
import importlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

from zarr.abc.store import Store as Files
from zarr.storage import FsspecStore, LocalStore

__all__ = ["MARKS", "METADATA", "Folder", "Location", "Place", "place_of"]

METADATA = "zarr.json"
# Folder of the marks of written batches.
MARKS = ".batches"
# Beside the marks at a URL: the fingerprint of the call that the store belongs to.
CLAIM = f"{MARKS}/call"
# Other processes write too: what a file system has listed before does not count.
FRESH = {"use_listings_cache": False}


class Folder:
    """A folder. A new store appears in it at once, because a folder can be renamed."""

    def __init__(self, path: Path):
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def exists(self) -> bool:
        """Whether this process sees the place."""
        return self.path.exists()

    def is_free(self, fingerprint: str) -> bool:
        """Whether a store can be made here."""
        return not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir()))

    def room(self) -> int | None:
        """Return how many bytes are free, if that is known."""
        return shutil.disk_usage(next(parent for parent in self.path.parents if parent.exists())).free

    @contextlib.contextmanager
    def made(self, fingerprint: str) -> Iterator[Path]:
        """Give another folder, in which a store is made that then moves here."""
        aside = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}.new")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield aside
            (aside / MARKS).mkdir()
            if self.path.exists():
                self.path.rmdir()
            aside.rename(self.path)
            # Remove what calls left that were killed while they made a store.
            for other in self.path.parent.glob(f".{glob.escape(self.path.name)}.*.new"):
                shutil.rmtree(other, ignore_errors=True)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def files(self) -> Files:
        """Return the place as Zarr writes to it."""
        return LocalStore(self.path)

    def complete_files(self) -> Files:
        """Return the place as Zarr reads from it, where no chunk may be missing."""
        return _WholeFolder(self.path, read_only=True)

    def names(self, folder: str) -> list[str]:
        """Return the names of the files in a folder, none if there is no such folder."""
        path = self.path / folder
        return [file.name for file in path.iterdir()] if path.exists() else []

    def read(self, key: str) -> bytes:
        """Return the content of a file."""
        return (self.path / key).read_bytes()

    def write(self, key: str, content: Any, *, new_folders: bool = False) -> None:
        """Replace a file: a reader sees the old or the new content, and of two writers the last one wins."""
        path = self.path / key
        if new_folders:
            path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
        try:
            with aside.open("wb", buffering=0) as file:
                unwritten = memoryview(content)
                while unwritten:
                    unwritten = unwritten[file.write(unwritten) :]
            os.replace(aside, path)
        except OSError:
            aside.unlink(missing_ok=True)
            raise

    def clear(self) -> None:
        """Remove the marks, and files that killed calls did not finish."""
        shutil.rmtree(self.path / MARKS, ignore_errors=True)
        for unfinished in self.path.rglob("*.partial"):
            unfinished.unlink(missing_ok=True)


class Location:
    """A URL of an object store. Its objects appear whole and at once, but cannot be renamed.

    The first object of a store names the call that makes it, and the metadata of the whole are the last. So a store is
    never seen half made, and only an equal call goes on with one that was not made to the end.
    """

    def __init__(self, url: str):
        self.url = url.rstrip("/")

    def __str__(self) -> str:
        return self.url

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.url,)

    @functools.cached_property
    def _opened(self) -> tuple[Any, str]:
        """The file system of the URL and the path in it."""
        if set(self.url) & set("*?[]"):
            raise ValueError(
                f"{self.url!r} has one of the characters '*?[]', which stand for patterns: leave them out."
            )
        try:
            filesystem, root = importlib.import_module("fsspec.core").url_to_fs(self.url, **FRESH)
        except ImportError as error:
            raise ImportError(
                f"{self.url!r} needs another package: {error}. `pip install 'skaimz[remote]'` brings those for S3; for "
                "other services install fsspec and its package for the service."
            ) from error
        except ValueError as error:
            raise ValueError(f"{self.url!r} is no URL that draws can be written to or read from: {error}.") from error
        return filesystem, root.rstrip("/")

    def exists(self) -> bool:
        """Whether this process sees a store at the place."""
        return self._has(METADATA)

    def is_free(self, fingerprint: str) -> bool:
        """Whether a store can be made here: there is nothing, or an equal call has begun to make it."""
        try:
            return not self._has(METADATA) and self.read(CLAIM).decode() == fingerprint
        except FileNotFoundError:
            return not self.names("")

    def room(self) -> int | None:
        """Return None: nobody knows."""
        return None

    @contextlib.contextmanager
    def made(self, fingerprint: str) -> Iterator[Path]:
        """Give a folder, in which a store is made that is then copied here."""
        with tempfile.TemporaryDirectory(prefix="skaimz-") as folder:
            yield Path(folder)
            self._write_new(CLAIM, fingerprint.encode())
            # Another call may have been faster.
            if self._has(METADATA) or self.read(CLAIM).decode() != fingerprint:
                return
            keys = [path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()]
            for key in sorted(keys, key=lambda key: key == METADATA):
                content = Path(folder, key).read_bytes()
                self._write_new(key, content) if key == METADATA else self.write(key, content)

    def files(self) -> Files:
        """Return the place as Zarr writes to it."""
        return FsspecStore.from_url(self.url, storage_options=FRESH)

    def complete_files(self) -> Files:
        """Return the place as Zarr reads from it, where no chunk may be missing."""
        return _WholeLocation.from_url(self.url, storage_options=FRESH, read_only=True)

    def names(self, folder: str) -> list[str]:
        """Return the names below a path, none if there are none."""
        filesystem, root = self._opened
        path = f"{root}/{folder}".rstrip("/")
        try:
            names = [name.rpartition("/")[2] for name in filesystem.ls(path, detail=False) if name.rstrip("/") != path]
        except FileNotFoundError:
            return []
        return names

    def read(self, key: str) -> bytes:
        """Return the content of an object."""
        filesystem, root = self._opened
        return filesystem.cat_file(f"{root}/{key}")

    def write(self, key: str, content: Any, *, new_folders: bool = False) -> None:
        """Replace an object: a reader sees the old or the new content, and of two writers the last one wins."""
        filesystem, root = self._opened
        filesystem.pipe_file(f"{root}/{key}", bytes(content))

    def clear(self) -> None:
        """Remove the marks."""
        filesystem, root = self._opened
        # Not everybody who may write may remove.
        with contextlib.suppress(OSError):
            filesystem.rm(f"{root}/{MARKS}", recursive=True)

    def _has(self, key: str) -> bool:
        filesystem, root = self._opened
        return bool(filesystem.exists(f"{root}/{key}"))

    def _write_new(self, key: str, content: bytes) -> None:
        """Write an object unless there is one; of two writers the first one wins."""
        filesystem, root = self._opened
        try:
            filesystem.pipe_file(f"{root}/{key}", content, mode="create")
        except OSError:
            if not self._has(key):
                raise


Place: TypeAlias = Folder | Location


def place_of(where: Any) -> Place:
    """Return the place that a path or a URL names."""
    if isinstance(where, Folder | Location):
        return where
    name = str(where)
    if "://" in name and not name.startswith("file://"):
        return Location(name)
    return Folder(Path(name.removeprefix("file://") if "://" in name else where).resolve())


class _Whole:
    """Files of which every chunk is there. Zarr alone would fill a missing chunk with the fill value."""

    async def get(self, key: str, *args: Any, **kwargs: Any) -> Any:
        return self._checked(key, await super().get(key, *args, **kwargs))  # type: ignore[misc]

    def get_sync(self, key: str, **kwargs: Any) -> Any:
        # Zarr before 3.1.6 has no such method, and does not call it. It calls this one for folders alone.
        return self._checked(key, super().get_sync(key, **kwargs))  # type: ignore[misc]

    def _checked(self, key: str, content: Any) -> Any:
        name = key.rpartition("/")[2]
        # Zarr tries several names of metadata files, of which a group has one.
        if content is None and name != METADATA and not name.startswith("."):
            files: Any = self
            raise FileNotFoundError(
                errno.ENOENT,
                "Stored draws are missing: they were removed by `cleanup()`, or at the end of the process that stored "
                "them without an `output_dir`, or the folder was removed or changed. Sample them again, into a new "
                "folder",
                f"{files.root if isinstance(files, LocalStore) else files.path}/{key}",
            )
        return content


class _WholeFolder(_Whole, LocalStore):
    pass


class _WholeLocation(_Whole, FsspecStore):
    pass
