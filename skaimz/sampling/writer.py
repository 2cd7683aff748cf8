"""One process that writes a store: batch after batch, on a thread, while the next ones are computed."""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from skaimz.sampling.digests import RowDigests
from skaimz.sampling.plan import Batch
from skaimz.sampling.sinks import in_batch
from skaimz.sampling.store import Store

__all__ = ["ZarrSink"]

# Batches that may wait for the writer.
QUEUE = 2


class ZarrSink:
    """Draws that go to a store.

    Parameters
    ----------
    store : Store
    rows : RowDigests
        Of the rows that draws are computed from; those of batches that the store has already are read at once.

    Attributes
    ----------
    due : list of Batch
        What is to be computed, first of all the batch that is compared with what is there.

    Raises
    ------
    FileExistsError
        If the store has draws of other rows.
    """

    def __init__(self, store: Store, rows: RowDigests):
        self.store, self.rows = store, rows
        self._digests: dict[int, str] = {}
        # Nothing is written before all that is there has been compared.
        self.due: list[Batch] = []
        for batch in store.plan.batches():
            if batch.number == store.compared:
                self.due.insert(0, batch)
            elif batch.number not in store.written:
                self.due.append(batch)
            else:
                self._digests[batch.number] = rows.of(batch)
                store.is_due(batch, rows.of(batch))
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="skaimz-writer")
        self._under_way: list[tuple[Future, dict[str, np.ndarray]]] = []
        self._free: dict[tuple[str, tuple[int, ...]], list[np.ndarray]] = {}
        self._broken = False

    def open(self, batch: Batch) -> dict[str, np.ndarray]:
        """Return buffers for a batch; waits while too many are being written."""
        while len(self._under_way) >= QUEUE:
            self._settle()
        buffers = {}
        for field in in_batch(self.store.fields, self.store.plan, batch):
            shape = field.of_batch(batch)
            free = self._free.get((field.name, shape))
            buffers[field.name] = free.pop() if free else np.empty(shape, field.dtype)
        return buffers

    def close(self, batch: Batch, arrays: dict[str, np.ndarray]) -> None:
        """Hand a full batch to the writer."""
        self._under_way.append((self._writer.submit(self._write, batch, arrays), arrays))

    def finish(self) -> None:
        """Wait for the writer, and mark the store as complete."""
        while self._under_way:
            self._settle()
        self._writer.shutdown()
        self.store.finish(digest for _, digest in sorted(self._digests.items()))

    def abandon(self) -> None:
        """Stop writing; the store stays incomplete."""
        self._writer.shutdown(cancel_futures=True)

    def _settle(self) -> None:
        """Wait for the oldest batch, and keep its buffers for another."""
        future, arrays = self._under_way.pop(0)
        future.result()
        for name, array in arrays.items():
            self._free.setdefault((name, array.shape), []).append(array)

    def _write(self, batch: Batch, arrays: Mapping[str, np.ndarray]) -> None:
        """Write a batch; after a failure, or where other draws are there, nothing more is written."""
        if self._broken:
            return
        self._broken = True
        self._digests[batch.number] = digest = self.rows.of(batch)
        self.store.put(batch, arrays, digest)
        self._broken = False
