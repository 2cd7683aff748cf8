"""Draws in a Zarr store, which records whether it is complete."""

import errno
import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import Store as Files

from skaimz.kernels import stored_name
from skaimz.sampling.layout import Field, Layout
from skaimz.sampling.places import MARKS, METADATA, Place, place_of
from skaimz.sampling.plan import Batch, Plan

__all__ = ["Store", "readable", "store_state"]

COMPLETE, INCOMPLETE = "complete", "incomplete"
# Attribute of stores in which every chunk is a file, even if its values are all equal. A missing file is a lost chunk.
ALL_CHUNKS = "all_chunks"
# By this attribute of the CF conventions xarray reads numbers in double precision: sums of float16 soon overflow.
READ_AS_DOUBLE = {"scale_factor": 1.0}


class Store:
    """Draws as arrays of a Zarr 3 group, with a chunk for each batch.

    A store is made elsewhere and then moved to its place, so that it is never seen half made. Its root has the
    attribute ``state: incomplete`` until all batches are written. A batch counts as written once it has a mark: a file
    with the digest of its rows, which is made after all chunks of the batch. Chunks and marks appear whole and at once,
    too. So batches may be written in any order, by any number of processes, even the same batch by two at once, and a
    call that continues another knows what was done. A store can be pickled for processes that share the place.

    Parameters
    ----------
    place : Folder or Location
        Place of the store; new, empty, or left by an equal call.
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
        If the place holds anything else.
    OSError
        If the store cannot be written, or the disk is too small.
    """

    def __init__(
        self,
        place: Place,
        group: str,
        layout: Layout,
        fingerprint: str,
        skeleton: Callable[[Path], None],
        compressors: Any = None,
    ):
        self.place, self.group, self.layout = place, group, layout
        if place.is_free(fingerprint):
            try:
                self._create(fingerprint, skeleton, compressors)
            except OSError as error:
                # Another call may have made the store at the same time.
                if store_state(place) is None:
                    raise self._failed(error) from error
        state = store_state(place)
        if state is None:
            raise FileExistsError(
                f"`output_dir` {str(place)!r} holds files that are no draws of this package: choose a new folder."
            )
        if _attributes(place)["fingerprint"] != fingerprint:
            raise self._foreign()
        self.written = frozenset(range(len(self.plan.batches())) if state == COMPLETE else self.marked())
        self.compared = max(self.written, default=None)

    @property
    def plan(self) -> Plan:
        """How the whole table is cut up."""
        return self.layout.plan

    def _create(self, fingerprint: str, skeleton: Callable[[Path], None], compressors: Any) -> None:
        free = self.place.room()
        if compressors is None and free is not None and self.layout.nbytes > free:
            raise OSError(errno.ENOSPC, f"only {free} bytes are free")
        with self.place.made(fingerprint) as folder:
            with zarr.config.set({"array.write_empty_chunks": True}):
                skeleton(folder)
            parent = zarr.open_group(folder, path=self.group, mode="r+")
            for field in self.layout.fields:
                self._create_array(parent, field, compressors)
            metadata = json.loads((folder / METADATA).read_text())
            metadata["attributes"] |= {"state": INCOMPLETE, "fingerprint": fingerprint, ALL_CHUNKS: True}
            (folder / METADATA).write_text(json.dumps(metadata, indent=2))

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
            files = self.place.files()
            return {
                field.name: zarr.open_array(files, path=f"{self.group}/{stored_name(field.name)}", mode="r+")
                for field in self.layout.fields
            }

    def batch_at(self, row: int) -> Batch:
        """Return the batch that begins at a row, for plans that are cut by rows."""
        number = row // self.plan.batch_rows
        stop = min(row + self.plan.batch_rows, self.plan.n_rows)
        return Batch(number, slice(row, stop), slice(0, self.plan.n_draws))

    def marked(self) -> list[int]:
        """Return the numbers of the batches that have a mark."""
        return [int(name) for name in self.place.names(MARKS) if name.isdecimal()]

    def is_due(self, batch: Batch, digest: str) -> bool:
        """Whether a batch is to be computed, in order to be written or to be compared.

        Raises
        ------
        FileExistsError
            If it was written for other rows, whose ``digest`` differs.
        """
        try:
            marked = self.place.read(_mark_of(batch)).decode()
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
                self.place.write(_mark_of(batch), digest.encode())
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
                metadata = json.loads(self.place.read(METADATA))
                metadata["attributes"] |= {"state": COMPLETE, "rows": rows}
                self.place.write(METADATA, json.dumps(metadata, indent=2).encode())
            self.place.clear()
        except OSError as error:
            raise self._failed(error) from error

    def _rows_when_complete(self) -> str | None:
        """Return the digest of all rows, which replaces the marks when a store is complete; None before."""
        try:
            return _attributes(self.place).get("rows")
        except OSError:
            return None

    def _put_array(self, field: Field, batch: Batch, drawn: np.ndarray) -> None:
        """Compare or write one array of a batch; whole chunks are written past Zarr, which saves a copy."""
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
        key = "/".join([self.group, stored_name(field.name), "c", *map(str, numbers)])
        self.place.write(key, chunk.reshape(-1).view(np.uint8).data, new_folders=True)

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
            if store_state(self.place) == INCOMPLETE
            else ""
        )
        return type(error)(
            error.errno,
            f"Draws of {self.layout.nbytes} bytes could not be written to {str(self.place)!r}: "
            f"{error.strerror or error}.{continuation}",
        )

    def _foreign(self) -> FileExistsError:
        return FileExistsError(
            f"`output_dir` {str(self.place)!r} holds the output of another call: choose a new folder. Only a call with "
            "the same kernel, posterior, rows, seed and settings can continue one."
        )


def store_state(where: Any) -> str | None:
    """Return ``"complete"``, ``"incomplete"``, or None where there are no draws of this package."""
    try:
        attributes = _attributes(place_of(where))
        return attributes["state"] if "fingerprint" in attributes else None
    except (OSError, ValueError, TypeError, LookupError):
        return None


def readable(place: Place) -> Files:
    """Return a Zarr store to read complete draws from. To read a missing chunk is an error."""
    return place.complete_files() if _attributes(place).get(ALL_CHUNKS) else place.files()


def _attributes(place: Place) -> dict[str, Any]:
    return json.loads(place.read(METADATA))["attributes"]


def _mark_of(batch: Batch) -> str:
    return f"{MARKS}/{batch.number}"


def _no_draw(dtype: np.dtype) -> Any:
    """Return the fill value: what Zarr alone reads for missing draws. It should not pass for a draw."""
    if dtype.kind in "iu":
        return np.iinfo(dtype).max
    return np.nan if dtype.kind in "fc" else np.zeros((), dtype)[()]


def _nearly_equal(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether draws are equal up to rounding, which depends on the number of devices."""
    first, second = (array.astype(np.result_type(array, np.float32), copy=False) for array in (first, second))
    return bool(np.isclose(first, second, rtol=1e-3, equal_nan=True).mean() >= 0.99)
