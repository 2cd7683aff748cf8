"""Draws in a Zarr store, which records whether it is complete."""

import errno
import functools
import glob
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.storage import LocalStore

from skaimz.kernels import stored_name
from skaimz.sampling.layout import Field, Layout
from skaimz.sampling.plan import Batch, Plan

__all__ = ["Store", "readable", "store_state"]

METADATA = "zarr.json"
COMPLETE, INCOMPLETE = "complete", "incomplete"
# Folder of the marks of written batches.
MARKS = ".batches"
# Attribute of stores in which every chunk is a file, even if its values are all equal. A missing file is a lost chunk.
ALL_CHUNKS = "all_chunks"
# By this attribute of the CF conventions xarray reads numbers in double precision: sums of float16 soon overflow.
READ_AS_DOUBLE = {"scale_factor": 1.0}


class Store:
    """Draws as arrays of a Zarr 3 group, with a chunk for each batch.

    A store is made under another name and then renamed, so that it is never seen half made. Its root has the attribute
    ``state: incomplete`` until all batches are written. A batch counts as written once it has a mark: a file with the
    digest of its rows, which is made after all chunks of the batch. Chunks and marks are also written under other names
    and then renamed. So batches may be written in any order, by any number of processes, even the same batch by two at
    once, and a call that continues another knows what was done. A store can be pickled for processes that share the
    file system.

    Parameters
    ----------
    path : Path
        Folder of the store; new, empty, or left by an equal call.
    group : str
        Group of the arrays.
    layout : Layout
        Layout of the whole table.
    fingerprint : str
        Hash of everything that the draws depend on, except the rows and the kernel.
    skeleton : callable
        Writes groups, coordinates and attributes to a folder, to which the arrays are added.
    compressors : Zarr codec or sequence of such, optional
        By default there is no compression: draws are nearly random bits, which compress badly and slowly.

    Attributes
    ----------
    written : frozenset of int
        Batches that had been written when the store was opened.
    compared : int or None
        A written batch that is computed again and compared, to tell whether the calls are equal.

    Raises
    ------
    FileExistsError
        If the folder holds anything else.
    OSError
        If the store cannot be written, or the disk is too small.
    """

    def __init__(
        self,
        path: Path,
        group: str,
        layout: Layout,
        fingerprint: str,
        skeleton: Callable[[Path], None],
        compressors: Any = None,
    ):
        self.path, self.group, self.layout = path, group, layout
        if not _holds_anything(path):
            try:
                self._create(fingerprint, skeleton, compressors)
            except OSError as error:
                # Another call may have made the store at the same time.
                if store_state(path) is None:
                    raise self._failed(error) from error
        state = store_state(path)
        if state is None:
            raise FileExistsError(
                f"`output_dir` {str(path)!r} holds files that are no draws of this package: choose a new folder."
            )
        attributes = json.loads((path / METADATA).read_text())["attributes"]
        if attributes["fingerprint"] != fingerprint:
            raise self._foreign()
        self.written = frozenset(range(len(self.plan.batches())) if state == COMPLETE else self.marked())
        self.compared = max(self.written, default=None)

    @property
    def plan(self) -> Plan:
        """How the whole table is cut up."""
        return self.layout.plan

    def _create(self, fingerprint: str, skeleton: Callable[[Path], None], compressors: Any) -> None:
        aside = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}.new")
        existing = next(parent for parent in self.path.parents if parent.exists())
        free = shutil.disk_usage(existing).free
        if compressors is None and self.layout.nbytes > free:
            raise OSError(errno.ENOSPC, f"only {free} bytes are free")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with zarr.config.set({"array.write_empty_chunks": True}):
                skeleton(aside)
            parent = zarr.open_group(aside, path=self.group, mode="r+")
            for field in self.layout.fields:
                self._create_array(parent, field, compressors)
            metadata = json.loads((aside / METADATA).read_text())
            metadata["attributes"] |= {"state": INCOMPLETE, "fingerprint": fingerprint, ALL_CHUNKS: True}
            _replace(aside / METADATA, json.dumps(metadata, indent=2).encode())
            (aside / MARKS).mkdir()
            if self.path.exists():
                self.path.rmdir()
            aside.rename(self.path)
            # Remove what calls left that were killed while they made a store.
            for other in self.path.parent.glob(f".{glob.escape(self.path.name)}.*.new"):
                shutil.rmtree(other, ignore_errors=True)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _create_array(self, parent: Any, field: Field, compressors: Any) -> None:
        plan, shape = self.plan, field.shape
        per_chain = plan.n_draws // plan.n_chains
        chunks = [plan.n_chains, per_chain, *shape]
        if plan.whole:
            chunks[:2] = 1, plan.step_draws
        elif field.row_axis is not None:
            chunks[2 + field.row_axis] = min(plan.batch_rows, plan.n_rows)
        try:
            parent.create_array(
                stored_name(field.name),
                shape=(plan.n_chains, per_chain, *shape),
                chunks=tuple(max(1, size) for size in chunks),
                dtype=field.dtype,
                compressors=compressors,
                fill_value=_no_draw(field.dtype),
                dimension_names=("chain", "draw", *field.dims),
                attributes=READ_AS_DOUBLE if field.dtype == np.float16 else None,
            )
        except (TypeError, ValueError) as error:
            if compressors is None:
                raise
            raise ValueError(
                f"`compressors` must be one or more codecs of Zarr 3 (`zarr.codecs`), got {compressors!r}."
            ) from error

    @functools.cached_property
    def _arrays(self) -> dict[str, zarr.Array]:
        with zarr.config.set({"array.write_empty_chunks": True}):
            return {
                field.name: zarr.open_array(self.path, path=f"{self.group}/{stored_name(field.name)}", mode="r+")
                for field in self.layout.fields
            }

    def batch_at(self, row: int) -> Batch:
        """Return the batch that begins at a row, for plans that are cut by rows."""
        number = row // self.plan.batch_rows
        stop = min(row + self.plan.batch_rows, self.plan.n_rows)
        return Batch(number, slice(row, stop), slice(0, self.plan.n_draws))

    def marked(self) -> list[int]:
        """Return the numbers of the batches that have a mark."""
        marks = self.path / MARKS
        return [int(mark.name) for mark in marks.iterdir() if mark.name.isdecimal()] if marks.exists() else []

    def is_due(self, batch: Batch, digest: str) -> bool:
        """Whether a batch is to be computed, in order to be written or to be compared.

        Raises
        ------
        FileExistsError
            If it was written for other rows, whose ``digest`` differs.
        """
        try:
            marked = self._mark_of(batch).read_text()
        except FileNotFoundError:
            marked = None
        if marked not in (None, digest):
            raise self._foreign()
        if batch.number in self.written:
            return batch.number == self.compared
        return marked is None and self._rows_when_complete() is None

    def put(self, batch: Batch, arrays: Mapping[str, np.ndarray], digest: str) -> None:
        """Write a batch that is due, or compare it with the draws in the store.

        Parameters
        ----------
        batch : Batch
        arrays : dict of str to array of shape (n_draws, ...)
        digest : str
            Digest of the batch's rows.

        Raises
        ------
        FileExistsError
            If the store holds other draws.
        OSError
            If the batch cannot be written.
        """
        if not self.is_due(batch, digest):
            return
        try:
            for field in self.layout.fields_in(batch):
                self._put_array(field, batch, arrays[field.name])
            if batch.number not in self.written:
                _replace(self._mark_of(batch), digest.encode())
        except FileExistsError:
            raise
        except OSError as error:
            # Another call may have completed the store, and removed unfinished files as it did.
            if batch.number in self.written or self._rows_when_complete() is None:
                raise self._failed(error) from error

    def finish(self, digests: Iterable[str]) -> None:
        """Mark the store as complete, with the digests of the rows of all batches in order."""
        rows = hashlib.blake2b("".join(digests).encode(), digest_size=16).hexdigest()
        known = self._rows_when_complete()
        if known not in (None, rows):
            raise self._foreign()
        try:
            if known is None:
                metadata = json.loads((self.path / METADATA).read_text())
                metadata["attributes"] |= {"state": COMPLETE, "rows": rows}
                _replace(self.path / METADATA, json.dumps(metadata, indent=2).encode())
            shutil.rmtree(self.path / MARKS, ignore_errors=True)
            # Remove files that killed calls did not finish.
            for unfinished in self.path.rglob("*.partial"):
                unfinished.unlink(missing_ok=True)
        except OSError as error:
            raise self._failed(error) from error

    def _rows_when_complete(self) -> str | None:
        """Return the digest of all rows, which replaces the marks when a store is complete; None before."""
        try:
            return json.loads((self.path / METADATA).read_text())["attributes"].get("rows")
        except OSError:
            return None

    def _mark_of(self, batch: Batch) -> Path:
        return self.path / MARKS / str(batch.number)

    def _put_array(self, field: Field, batch: Batch, drawn: np.ndarray) -> None:
        """Compare or write one array of a batch; uncompressed whole chunks are written as files, which saves a copy."""
        place, array = self._place(field, batch), self._arrays[field.name]
        if batch.number in self.written:
            if not _nearly_equal(np.asarray(array[place]).reshape(drawn.shape), drawn):
                raise self._foreign()
            return
        chunk = drawn.reshape(place[0].stop - place[0].start, -1, *drawn.shape[1:])
        if array.compressors or chunk.shape != array.chunks:
            array[place] = chunk
            return
        numbers = ((where.start or 0) // size for where, size in zip(place, array.chunks, strict=True))
        path = self.path.joinpath(self.group, stored_name(field.name), "c", *map(str, numbers))
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, chunk.reshape(-1).view(np.uint8).data)

    def _place(self, field: Field, batch: Batch) -> tuple[slice, ...]:
        """Return where a batch lies in an array with an axis of chains. A batch of some draws is from one chain."""
        draws, *rest = field.place(batch)
        per_chain = self.plan.n_draws // self.plan.n_chains
        chains, within = slice(0, self.plan.n_chains), slice(0, per_chain)
        if self.plan.whole:
            chain = draws.start // per_chain
            chains = slice(chain, chain + 1)
            within = slice(draws.start - chain * per_chain, draws.stop - chain * per_chain)
        return (chains, within, *rest)

    def _failed(self, error: OSError) -> OSError:
        """Return an error that says what could not be written, and how much space it needs."""
        continuation = (
            " The store is marked as incomplete; the same call with the same `output_dir` goes on from it."
            if store_state(self.path) == INCOMPLETE
            else ""
        )
        return type(error)(
            error.errno,
            f"Draws of {self.layout.nbytes} bytes could not be written to {str(self.path)!r}: "
            f"{error.strerror or error}.{continuation}",
        )

    def _foreign(self) -> FileExistsError:
        return FileExistsError(
            f"`output_dir` {str(self.path)!r} holds the output of another call: choose a new folder. Only a call with "
            "the same kernel, posterior, rows, seed and settings can continue one."
        )


def store_state(path: Path) -> str | None:
    """Return ``"complete"``, ``"incomplete"``, or None where there are no draws of this package."""
    try:
        attributes = json.loads((path / METADATA).read_text())["attributes"]
        return attributes["state"] if "fingerprint" in attributes else None
    except (OSError, ValueError, TypeError, LookupError):
        return None


def readable(path: Path) -> LocalStore:
    """Return a Zarr store to read complete draws from. To read a missing chunk is an error."""
    attributes = json.loads((path / METADATA).read_text())["attributes"]
    return (_Whole if attributes.get(ALL_CHUNKS) else LocalStore)(path, read_only=True)


class _Whole(LocalStore):
    """A folder in which every chunk is a file. Zarr alone would fill a missing chunk with the fill value."""

    async def get(self, key: str, *args: Any, **kwargs: Any) -> Any:
        return self._checked(key, await super().get(key, *args, **kwargs))

    def get_sync(self, key: str, **kwargs: Any) -> Any:
        # Zarr before 3.1.6 has no such method, and does not call it.
        return self._checked(key, super().get_sync(key, **kwargs))

    def _checked(self, key: str, content: Any) -> Any:
        name = key.rpartition("/")[2]
        # Zarr tries several names of metadata files, of which a group has one.
        if content is None and name != METADATA and not name.startswith("."):
            raise FileNotFoundError(
                errno.ENOENT,
                "Stored draws are missing: they were removed by `cleanup()`, or at the end of the process that stored "
                "them without an `output_dir`, or the folder was removed or changed. Sample them again, into a new "
                "folder",
                str(self.root / key),
            )
        return content


def _no_draw(dtype: np.dtype) -> Any:
    """Return the fill value: what Zarr alone reads for missing draws. It should not pass for a draw."""
    if dtype.kind in "iu":
        return np.iinfo(dtype).max
    return np.nan if dtype.kind in "fc" else np.zeros((), dtype)[()]


def _nearly_equal(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether draws are equal up to rounding, which depends on the number of devices."""
    first, second = (array.astype(np.result_type(array, np.float32), copy=False) for array in (first, second))
    return bool(np.isclose(first, second, rtol=1e-3, equal_nan=True).mean() >= 0.99)


def _holds_anything(path: Path) -> bool:
    return path.exists() and (not path.is_dir() or any(path.iterdir()))


def _replace(path: Path, content: Any) -> None:
    """Replace a file atomically: a reader sees the old or the new content, and of two writers the last one wins."""
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
