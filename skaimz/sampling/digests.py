"""Hashes by which a call is recognised when it resumes: one of what all rows share, and one of each batch's rows."""

import hashlib
from typing import Any

import numpy as np

from skaimz.kernels import named_leaves, plain_leaf
from skaimz.sampling.job import Job
from skaimz.sampling.layout import Layout
from skaimz.sampling.plan import Batch, Plan

__all__ = ["RowDigests", "fingerprint"]

# Bytes of a hash.
SIZE = 16
# Numbers in each sum, where posterior draws are compared with those of an earlier call.
SUMMED = 4096


def fingerprint(job: Job, group: str, layout: Layout, labels: bytes) -> str:
    """Return a hash of everything that draws depend on, except the kernel and the rows.

    ``layout`` is that of the whole table, and ``labels`` is a digest of what is stored beside the draws.
    """
    posterior, settings, plan = job.posterior, job.settings, layout.plan
    whole = {name: value for name, value in settings.items() if job.spec[name].row_axis is None}
    counts = (plan.n_rows, plan.n_chains, plan.n_draws, plan.tile_rows, plan.batch_rows)
    names = (sorted(job.intervention), sorted(job.condition), sorted(job.local))
    digest = hashlib.blake2b(labels, digest_size=SIZE)
    digest.update(repr((group, list(layout.fields), counts, job.seed, names)).encode())
    past = dict(job.past.rows) if job.past else {}
    for arrays in (posterior.hyperparameters, posterior.params, posterior.draws, job.inputs.whole, whole, past):
        for name, value in sorted(arrays.items()):
            for leaf, array in named_leaves(name, value).items():
                digest.update(repr((leaf, np.shape(array))).encode())
                digest.update(_sums(plain_leaf(array)))
    return digest.hexdigest()


class RowDigests:
    """Hashes of everything in a job that is cut by rows, batch by batch.

    Attributes
    ----------
    arrays : dict
        The row-aligned arguments. They are hashed as they are read, in order, because reading them twice may take long.
    """

    def __init__(self, job: Job, plan: Plan):
        self.job = job
        self.arrays = {name: _Hashed(array, plan.batch_rows) for name, array in sorted(job.inputs.rows.items())}
        self._known: dict[int, str] = {}

    def of(self, batch: Batch) -> str:
        """Return the digest of a batch's rows, which are read now if they have not been read before."""
        first = batch.rows.start
        if first not in self._known:
            digest = hashlib.blake2b(digest_size=SIZE)
            for array in self.arrays.values():
                digest.update(array.digest(batch.rows))
            for content in self._in_memory(batch.rows):
                digest.update(content)
            self._known[first] = digest.hexdigest()
        return self._known[first]

    def _in_memory(self, rows: slice) -> list[Any]:
        """Return the values that sites are set to in these rows, and sums of the draws of row-aligned latent sites."""
        job = self.job
        contents: list[Any] = []
        for name, values in sorted(job.settings.items()):
            axis = job.spec[name].row_axis
            if axis is not None:
                contents.append(np.ascontiguousarray(values[(*(slice(None),) * axis, rows)]).data)
        for _, draws in sorted(job.local_in(rows).items()):
            contents.append(_sums(draws))
        return contents


class _Hashed:
    """An array that is sliced like the one that it wraps, and hashes each batch whose rows are read in order."""

    def __init__(self, array: Any, batch_rows: int):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self._batch_rows = batch_rows
        self._hash, self._next = hashlib.blake2b(digest_size=SIZE), 0
        self._digests: dict[int, bytes] = {}

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, where: Any) -> np.ndarray:
        rows = where[0] if isinstance(where, tuple) else where
        content = np.asarray(self.array[where])
        start, stop, _ = rows.indices(len(self))
        first = start - start % self._batch_rows
        if first in self._digests:
            return content
        if start == first:
            self._hash, self._next = hashlib.blake2b(digest_size=SIZE), first
        if start == self._next:
            self._hash.update(np.ascontiguousarray(content).data)
            self._next = stop
            if stop == min(first + self._batch_rows, len(self)):
                self._digests[first] = self._hash.digest()
        return content

    def digest(self, rows: slice) -> bytes:
        """Return the digest of a batch's rows."""
        if rows.start not in self._digests:
            self[rows]
        return self._digests[rows.start]


def _sums(array: Any) -> bytes:
    """Return sums of consecutive numbers, because hashing every byte of a large posterior takes too long."""
    flat = np.ravel(array)
    return np.add.reduceat(flat, np.arange(0, flat.size, SUMMED), dtype=np.float64).tobytes() if flat.size else b""
