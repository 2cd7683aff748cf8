"""Draws in a Zarr store that is complete or says that it is not."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from skaimz.sampling.plan import Batch, Plan
from skaimz.sampling.sinks import Field, bytes_of, in_batch

__all__ = ["RowDigest", "ZarrSink", "store_state"]

METADATA = "zarr.json"
COMPLETE, INCOMPLETE = "complete", "incomplete"
# Batches that may wait for the writer.
QUEUE = 2


class RowDigest:
    """Rows that are hashed as they are read, in order and once, so that a resumed call knows them again.

    It is sliced like the array that it holds; reads that do not continue the last one are not counted.
    """

    def __init__(self, array: Any):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self._hash = hashlib.blake2b(digest_size=16)
        self._next = 0
        self._at: dict[int, str] = {}

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, where: Any) -> np.ndarray:
        part = where[0] if isinstance(where, tuple) else where
        piece = np.asarray(self.array[where])
        if part.start == self._next and part.stop is not None:
            self._hash.update(np.ascontiguousarray(piece).data)
            self._next = part.stop
            self._at[part.stop] = self._hash.hexdigest()
        return piece

    def until(self, stop: int) -> str:
        """Return the digest of the rows before ``stop``, and forget those of shorter parts."""
        found = self._at[stop]
        self._at = {place: digest for place, digest in self._at.items() if place >= stop}
        return found


class ZarrSink:
    """Draws as arrays of a Zarr 3 group, a chunk for each batch.

    The store is made beside its place and moved there, so that it is whole from the start. Its root says ``state:
    incomplete`` and how many batches are written until the last one is: a call that was killed finds its place again.
    A batch counts only once all its chunks are files.

    Parameters
    ----------
    path : Path
        Folder of the store; new, empty, or left by the same call.
    group : str
        Group of the arrays.
    fields : sequence of Field
    plan : Plan
    fingerprint : str
        Of everything that the draws follow from but the rows and the kernel.
    rows : dict of str to RowDigest
        The rows.
    skeleton : callable
        Writes groups, coordinates and attributes to a folder, to which the arrays are added.
    compressors : Zarr codec or sequence of such, optional
        Draws are nearly random bits, which compress badly and slowly: none by default.

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
        rows: Mapping[str, RowDigest],
        skeleton: Callable[[Path], None],
        compressors: Any = None,
    ):
        self.path, self.fields, self.plan, self.rows = path, fields, plan, rows
        self._needed = bytes_of(fields, plan)
        self._folder = path / group
        if not _holds_anything(path):
            try:
                self._create(group, fingerprint, skeleton, compressors)
            except OSError as error:
                raise self._failed(error) from error
        if store_state(path) is None:
            raise FileExistsError(f"`output_dir` {str(path)!r} holds files that are no draws: choose a new folder.")
        self._metadata = json.loads((path / METADATA).read_text())
        attributes = self._metadata["attributes"]
        if attributes["fingerprint"] != fingerprint:
            raise self._foreign()
        # Zarr writes chunks aside and renames them; a killed call may have left one there.
        for unfinished in path.rglob("*.partial"):
            unfinished.unlink()
        self._known_rows, self._written = attributes["rows"], attributes["batches_written"]
        # The last batch that was written is computed again and compared, which tells whether this is the same call.
        self.done = max(0, self._written - 1)
        for batch in plan.batches()[: 0 if plan.whole else self.done]:
            for array in rows.values():
                array[batch.rows]
        # Every chunk becomes a file, those of zeros too, so that what is missing can be seen.
        with zarr.config.set({"array.write_empty_chunks": True}):
            self._arrays = {
                field.name: zarr.open_array(path, path=f"{group}/{field.name}", mode="r+") for field in fields
            }
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="skaimz-writer")
        self._under_way: list[tuple[Future, dict[str, np.ndarray]]] = []
        self._free: dict[tuple[str, tuple[int, ...]], list[np.ndarray]] = {}
        self._broken = False

    def _create(self, group: str, fingerprint: str, skeleton: Callable[[Path], None], compressors: Any) -> None:
        aside = self.path.with_name(f".{self.path.name}.new")
        existing = next(parent for parent in self.path.parents if parent.exists())
        free = shutil.disk_usage(existing).free
        if compressors is None and self._needed > free:
            raise OSError(errno.ENOSPC, f"only {free} bytes are free")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        try:
            skeleton(aside)
            parent = zarr.open_group(aside, path=group, mode="r+")
            for field in self.fields:
                self._create_array(parent, field, compressors)
            metadata = json.loads((aside / METADATA).read_text())
            metadata["attributes"] |= {
                "state": INCOMPLETE,
                "fingerprint": fingerprint,
                "rows": "",
                "batches_written": 0,
            }
            _replace(aside / METADATA, metadata)
            if self.path.exists():
                self.path.rmdir()
            aside.rename(self.path)
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
                fill_value=0,
                dimension_names=("chain", "draw", *field.dims),
            )
        except (TypeError, ValueError) as error:
            if compressors is None:
                raise
            raise ValueError(
                f"`compressors` must be one or more codecs of Zarr 3 (`zarr.codecs`), got {compressors!r}."
            ) from error

    def open(self, batch: Batch) -> dict[str, np.ndarray]:
        """Return buffers for a batch; waits while too many are being written."""
        while len(self._under_way) >= QUEUE:
            self._settle()
        buffers = {}
        for field in in_batch(self.fields, self.plan, batch):
            shape = field.of_batch(batch)
            free = self._free.get((field.name, shape))
            buffers[field.name] = free.pop() if free else np.empty(shape, field.dtype)
        return buffers

    def close(self, batch: Batch, arrays: dict[str, np.ndarray]) -> None:
        """Hand a full batch to the writer."""
        digest = "".join(rows.until(batch.rows.stop) for rows in self.rows.values())
        self._under_way.append((self._writer.submit(self._write, batch, arrays, digest), arrays))

    def finish(self) -> None:
        """Wait for the writer, and mark the store as complete."""
        while self._under_way:
            self._settle()
        self._writer.shutdown()
        try:
            self._record(state=COMPLETE)
        except OSError as error:
            raise self._failed(error) from error

    def abandon(self) -> None:
        """Stop writing; the store stays incomplete."""
        self._writer.shutdown(cancel_futures=True)

    def _settle(self) -> None:
        """Wait for the oldest batch, and keep its buffers for another."""
        future, arrays = self._under_way.pop(0)
        try:
            future.result()
        except FileExistsError:
            raise
        except OSError as error:
            raise self._failed(error) from error
        for name, array in arrays.items():
            self._free.setdefault((name, array.shape), []).append(array)

    def _write(self, batch: Batch, arrays: Mapping[str, np.ndarray], digest: str) -> None:
        """Write a batch, or compare it with what is there; after a failure nothing more is written."""
        if self._broken:
            return
        self._broken = True
        for field in in_batch(self.fields, self.plan, batch):
            place, drawn = self._place(field, batch), arrays[field.name]
            stored = self._arrays[field.name]
            if batch.number < self._written:
                there = np.asarray(stored[place]).reshape(drawn.shape)
                if digest != self._known_rows or not _nearly_equal(there, drawn):
                    raise self._foreign()
            else:
                chains = place[0].stop - place[0].start
                self._write_part(field, place, drawn.reshape(chains, -1, *drawn.shape[1:]))
        if batch.number >= self._written:
            self._record(batches_written=batch.number + 1, rows=digest)
        self._broken = False

    def _write_part(self, field: Field, place: tuple[slice, ...], part: np.ndarray) -> None:
        """Write a chunk: as a file where it is one as it stands, which saves a copy, and through Zarr otherwise."""
        array = self._arrays[field.name]
        if array.compressors or part.shape != array.chunks:
            array[place] = part
            return
        numbers = ((where.start or 0) // size for where, size in zip(place, array.chunks, strict=True))
        path = self._folder.joinpath(field.name, "c", *map(str, numbers))
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f"{path.name}.partial")
        with aside.open("wb", buffering=0) as file:
            unwritten = part.reshape(-1).view(np.uint8).data
            while unwritten:
                unwritten = unwritten[file.write(unwritten) :]
        aside.replace(path)

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

    def _record(self, **attributes: Any) -> None:
        self._metadata["attributes"] |= attributes
        _replace(self.path / METADATA, self._metadata)

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


def _nearly_equal(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether draws are the same but for rounding, which depends on the number of devices."""
    first, second = (array.astype(np.result_type(array, np.float32), copy=False) for array in (first, second))
    return bool(np.isclose(first, second, rtol=1e-3, equal_nan=True).mean() >= 0.99)


def _holds_anything(path: Path) -> bool:
    return path.exists() and (not path.is_dir() or any(path.iterdir()))


def _replace(path: Path, metadata: dict[str, Any]) -> None:
    """Write metadata in one step: a reader sees the old or the new."""
    aside = path.with_suffix(".new")
    aside.write_text(json.dumps(metadata, indent=2))
    os.replace(aside, path)
