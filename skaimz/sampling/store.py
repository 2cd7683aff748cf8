"""Draws in a Zarr store that is complete or says that it is not."""

import errno
import functools
import glob
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.storage import LocalStore

from skaimz.sampling.plan import Batch, Plan
from skaimz.sampling.sinks import Field, bytes_of, in_batch

__all__ = ["Store", "readable", "store_state"]

METADATA = "zarr.json"
COMPLETE, INCOMPLETE = "complete", "incomplete"
# Folder of the marks of batches that are written.
MARKS = ".batches"
# Attribute of stores in which every chunk is a file, those of equal values too: a chunk that has none was lost.
ALL_CHUNKS = "all_chunks"


class Store:
    """Draws as arrays of a Zarr 3 group, a chunk for each batch.

    The store is made beside its place and moved there, so that it is whole from the start. Its root says ``state:
    incomplete`` until all batches are written. A batch is written once it has a mark: a file with the digest of its
    rows, made when all its chunks are files. Chunks and marks are written aside and renamed. So batches may be written
    in any order by any number of processes, a batch by two of them at once, and a call that was killed finds what was
    done. A store can be pickled, for processes that share the file system.

    Parameters
    ----------
    path : Path
        Folder of the store; new, empty, or left by the same call.
    group : str
        Group of the arrays.
    fields : sequence of Field
    plan : Plan
        Of all rows, as are the fields.
    fingerprint : str
        Of everything that the draws follow from but the rows and the kernel.
    skeleton : callable
        Writes groups, coordinates and attributes to a folder, to which the arrays are added.
    compressors : Zarr codec or sequence of such, optional
        Draws are nearly random bits, which compress badly and slowly: none by default.

    Attributes
    ----------
    written : frozenset of int
        Batches that had been written when the store was opened.
    compared : int or None
        One of them, to be computed again and compared, which tells whether this is the same call.

    Raises
    ------
    FileExistsError
        If the folder holds anything else.
    OSError
        If it cannot be written, or is too small.
    """

    def __init__(
        self,
        path: Path,
        group: str,
        fields: Sequence[Field],
        plan: Plan,
        fingerprint: str,
        skeleton: Callable[[Path], None],
        compressors: Any = None,
    ):
        self.path, self.group, self.fields, self.plan = path, group, fields, plan
        self._needed = bytes_of(fields, plan)
        if not _holds_anything(path):
            try:
                self._create(fingerprint, skeleton, compressors)
            except OSError as error:
                # Another call may have made it at the same time.
                if store_state(path) is None:
                    raise self._failed(error) from error
        state = store_state(path)
        if state is None:
            raise FileExistsError(f"`output_dir` {str(path)!r} holds files that are no draws: choose a new folder.")
        attributes = json.loads((path / METADATA).read_text())["attributes"]
        if attributes["fingerprint"] != fingerprint:
            raise self._foreign()
        self.written = frozenset(range(len(plan.batches())) if state == COMPLETE else self.marked())
        self.compared = max(self.written, default=None)

    def _create(self, fingerprint: str, skeleton: Callable[[Path], None], compressors: Any) -> None:
        aside = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}.new")
        existing = next(parent for parent in self.path.parents if parent.exists())
        free = shutil.disk_usage(existing).free
        if compressors is None and self._needed > free:
            raise OSError(errno.ENOSPC, f"only {free} bytes are free")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with zarr.config.set({"array.write_empty_chunks": True}):
                skeleton(aside)
            parent = zarr.open_group(aside, path=self.group, mode="r+")
            for field in self.fields:
                self._create_array(parent, field, compressors)
            metadata = json.loads((aside / METADATA).read_text())
            metadata["attributes"] |= {"state": INCOMPLETE, "fingerprint": fingerprint, ALL_CHUNKS: True}
            _replace(aside / METADATA, json.dumps(metadata, indent=2).encode())
            (aside / MARKS).mkdir()
            if self.path.exists():
                self.path.rmdir()
            aside.rename(self.path)
            # Of calls that were killed here.
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
                field.name,
                shape=(plan.n_chains, per_chain, *shape),
                chunks=tuple(max(1, size) for size in chunks),
                dtype=field.dtype,
                compressors=compressors,
                fill_value=_no_draw(field.dtype),
                dimension_names=("chain", "draw", *field.dims),
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
                field.name: zarr.open_array(self.path, path=f"{self.group}/{field.name}", mode="r+")
                for field in self.fields
            }

    def batch_at(self, row: int) -> Batch:
        """Return the batch that begins with a row; rows stand alone."""
        number = row // self.plan.batch_rows
        stop = min(row + self.plan.batch_rows, self.plan.n_rows)
        return Batch(number, slice(row, stop), slice(0, self.plan.n_draws))

    def marked(self) -> list[int]:
        """Return the batches that have a mark by now."""
        marks = self.path / MARKS
        return [int(mark.name) for mark in marks.iterdir() if mark.name.isdecimal()] if marks.exists() else []

    def is_due(self, batch: Batch, digest: str) -> bool:
        """Whether a batch is to be computed, to be written or compared.

        Raises
        ------
        FileExistsError
            If it was written from other rows, by their ``digest``.
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
        """Write a batch that is due, or compare it with what is there.

        Parameters
        ----------
        batch : Batch
        arrays : dict of str to array of shape (n_draws, ...)
        digest : str
            Of the batch's rows.

        Raises
        ------
        FileExistsError
            If other draws are there.
        OSError
            If it cannot be written.
        """
        if not self.is_due(batch, digest):
            return
        try:
            for field in in_batch(self.fields, self.plan, batch):
                self._put_part(field, batch, arrays[field.name])
            if batch.number not in self.written:
                _replace(self._mark_of(batch), digest.encode())
        except FileExistsError:
            raise
        except OSError as error:
            # Another call may have completed the store, which removes what others have under way.
            if batch.number in self.written or self._rows_when_complete() is None:
                raise self._failed(error) from error

    def finish(self, digests: Iterable[str]) -> None:
        """Mark the store as complete; given the digests of all batches' rows in order."""
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
            # What was not written to its end, by calls that were killed.
            for unfinished in self.path.rglob("*.partial"):
                unfinished.unlink(missing_ok=True)
        except OSError as error:
            raise self._failed(error) from error

    def _rows_when_complete(self) -> str | None:
        """Return the digest of all rows, which a store has in place of its marks once it is complete."""
        try:
            return json.loads((self.path / METADATA).read_text())["attributes"].get("rows")
        except OSError:
            return None

    def _mark_of(self, batch: Batch) -> Path:
        return self.path / MARKS / str(batch.number)

    def _put_part(self, field: Field, batch: Batch, drawn: np.ndarray) -> None:
        """Compare, or write: as a file where a chunk is one as it stands, which saves a copy, and else through Zarr."""
        place, array = self._place(field, batch), self._arrays[field.name]
        if batch.number in self.written:
            if not _nearly_equal(np.asarray(array[place]).reshape(drawn.shape), drawn):
                raise self._foreign()
            return
        part = drawn.reshape(place[0].stop - place[0].start, -1, *drawn.shape[1:])
        if array.compressors or part.shape != array.chunks:
            array[place] = part
            return
        numbers = ((where.start or 0) // size for where, size in zip(place, array.chunks, strict=True))
        path = self.path.joinpath(self.group, field.name, "c", *map(str, numbers))
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, part.reshape(-1).view(np.uint8).data)

    def _place(self, field: Field, batch: Batch) -> tuple[slice, ...]:
        """Return where a batch lies in an array, chains apart; a batch of fewer than all draws is of one chain."""
        draws, *rest = field.place(batch)
        per_chain = self.plan.n_draws // self.plan.n_chains
        chains, within = slice(0, self.plan.n_chains), slice(0, per_chain)
        if self.plan.whole:
            chain = draws.start // per_chain
            chains = slice(chain, chain + 1)
            within = slice(draws.start - chain * per_chain, draws.stop - chain * per_chain)
        return (chains, within, *rest)

    def _failed(self, error: OSError) -> OSError:
        """Say what could not be written, and how much room it needs."""
        what_is_there = (
            " What is there is marked as incomplete; the same call with the same `output_dir` goes on from it."
            if store_state(self.path) == INCOMPLETE
            else ""
        )
        return type(error)(
            error.errno,
            f"Draws of {self._needed} bytes could not be written to {str(self.path)!r}: {error.strerror or error}."
            + what_is_there,
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
    """Return a Zarr store to read complete draws from, in which a chunk that is gone is an error."""
    attributes = json.loads((path / METADATA).read_text())["attributes"]
    return (_Whole if attributes.get(ALL_CHUNKS) else LocalStore)(path, read_only=True)


class _Whole(LocalStore):
    """A folder in which every chunk is a file. Zarr itself gives a chunk without one the fill value."""

    async def get(self, key: str, *args: Any, **kwargs: Any) -> Any:
        return self._found(key, await super().get(key, *args, **kwargs))

    def get_sync(self, key: str, **kwargs: Any) -> Any:
        # Versions of Zarr before 3.1.6 have no such method, and do not ask for it.
        return self._found(key, super().get_sync(key, **kwargs))

    def _found(self, key: str, content: Any) -> Any:
        name = key.rpartition("/")[2]
        # Zarr looks for several files of metadata, of which a group has one.
        if content is None and name != METADATA and not name.startswith("."):
            raise FileNotFoundError(
                errno.ENOENT,
                "Draws that were stored are gone: by `cleanup()`, because the process that stored them without an "
                "`output_dir` has ended, or because the folder was removed or changed. Sample them again, into a new "
                "folder",
                str(self.root / key),
            )
        return content


def _no_draw(dtype: np.dtype) -> Any:
    """Return what is read, by who opens a store otherwise, where a draw is gone: no number that is taken for one."""
    if dtype.kind in "iu":
        return np.iinfo(dtype).max
    return np.nan if dtype.kind in "fc" else np.zeros((), dtype)[()]


def _nearly_equal(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether draws are the same but for rounding, which depends on the number of devices."""
    first, second = (array.astype(np.result_type(array, np.float32), copy=False) for array in (first, second))
    return bool(np.isclose(first, second, rtol=1e-3, equal_nan=True).mean() >= 0.99)


def _holds_anything(path: Path) -> bool:
    return path.exists() and (not path.is_dir() or any(path.iterdir()))


def _replace(path: Path, content: Any) -> None:
    """Write a file in one step: a reader sees the old or the new, and of two writers one wins."""
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
