"""What tells one call from another: a hash of what all rows share, and one of each batch's rows."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from skaimz.sampling.job import Job
from skaimz.sampling.plan import Batch, Plan
from skaimz.sampling.sinks import Field

__all__ = ["RowDigests", "fingerprint"]

# Bytes of a hash.
SIZE = 16
# Numbers that are summed where draws are compared with those of an earlier call.
SUMMED = 4096


def fingerprint(job: Job, group: str, fields: Sequence[Field], plan: Plan, labels: bytes) -> str:
    """Return a hash of all that draws follow from but the kernel and the rows.

    ``fields`` and ``plan`` are those of all rows, and ``labels`` stands for what is stored beside the draws.
    """
    posterior, settings = job.posterior, job.settings
    whole = {name: value for name, value in settings.items() if job.spec[name].row_axis is None}
    layout = (plan.n_rows, plan.n_chains, plan.n_draws, plan.tile_rows, plan.batch_rows)
    names = (sorted(job.intervention), sorted(job.condition), sorted(job.local))
    told = hashlib.blake2b(labels, digest_size=SIZE)
    told.update(repr((group, list(fields), layout, job.seed, names)).encode())
    for arrays in (posterior.hyperparameters, posterior.params, posterior.draws, job.inputs.whole, whole):
        for name, array in sorted(arrays.items()):
            told.update(repr((name, np.shape(array))).encode())
            told.update(_summed(array))
    return told.hexdigest()


class RowDigests:
    """All of a pass that is cut by rows, hashed batch by batch, so that a resumed call knows it again.

    Attributes
    ----------
    arrays : dict
        The rows. They are hashed as they are read, in order and once, since to read them may take long.
    """

    def __init__(self, job: Job, plan: Plan):
        self.job = job
        self.arrays = {name: _Hashed(array, plan.batch_rows) for name, array in sorted(job.inputs.rows.items())}
        self._known: dict[int, str] = {}

    def of(self, batch: Batch) -> str:
        """Return the digest of a batch's rows, which are read where that has not been done."""
        first = batch.rows.start
        if first not in self._known:
            told = hashlib.blake2b(digest_size=SIZE)
            for array in self.arrays.values():
                told.update(array.digest(batch.rows))
            for piece in self._in_memory(batch.rows):
                told.update(piece)
            self._known[first] = told.hexdigest()
        return self._known[first]

    def _in_memory(self, rows: slice) -> list[Any]:
        """Return what sites are set to in these rows, and sums of their own latent sites' draws."""
        job = self.job
        pieces: list[Any] = []
        for name, values in sorted(job.settings.items()):
            axis = job.spec[name].row_axis
            if axis is not None:
                pieces.append(np.ascontiguousarray(values[(*(slice(None),) * axis, rows)]).data)
        for _, draws in sorted(job.local_in(rows).items()):
            pieces.append(_summed(draws))
        return pieces


class _Hashed:
    """An array of rows whose batches are hashed as they are read, from their first row to their last.

    It is sliced like the array that it holds.
    """

    def __init__(self, array: Any, batch_rows: int):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self._batch_rows = batch_rows
        self._hash, self._next = hashlib.blake2b(digest_size=SIZE), 0
        self._digests: dict[int, bytes] = {}

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, where: Any) -> np.ndarray:
        part = where[0] if isinstance(where, tuple) else where
        piece = np.asarray(self.array[where])
        start, stop, _ = part.indices(len(self))
        first = start - start % self._batch_rows
        if first in self._digests:
            return piece
        if start == first:
            self._hash, self._next = hashlib.blake2b(digest_size=SIZE), first
        if start == self._next:
            self._hash.update(np.ascontiguousarray(piece).data)
            self._next = stop
            if stop == min(first + self._batch_rows, len(self)):
                self._digests[first] = self._hash.digest()
        return piece

    def digest(self, rows: slice) -> bytes:
        """Return the digest of a batch's rows."""
        if rows.start not in self._digests:
            self[rows]
        return self._digests[rows.start]


def _summed(array: Any) -> bytes:
    """Return sums of an array's blocks: to hash every byte of a large posterior takes longer than to read it."""
    flat = np.ravel(array)
    return np.add.reduceat(flat, np.arange(0, flat.size, SUMMED), dtype=np.float64).tobytes() if flat.size else b""
