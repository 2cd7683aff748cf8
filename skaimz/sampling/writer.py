"""Writing a store from one process: batch after batch, on a thread, while the next batches are computed."""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from skaimz.sampling.digests import RowDigests
from skaimz.sampling.plan import Batch
from skaimz.sampling.store import Store

__all__ = ["ZarrSink"]


class ZarrSink:
    """Draws that go to a store.

    Parameters
    ----------
    store : Store
    rows : RowDigests
        Digests of the rows that draws are computed from. The rows of batches that are already written are read at once.

    Attributes
    ----------
    due : list of Batch
        Batches to compute, and before them the written batch that is computed again to be compared.

    Raises
    ------
    FileExistsError
        If the store has draws for other rows.
    """

    def __init__(self, store: Store, rows: RowDigests):
        self.store, self.rows = store, rows
        self._digests: dict[int, str] = {}
        # Before anything is written, the rows of all written batches are compared, and one of the batches is.
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
        """Return buffers for a batch, after waiting while too many batches are being written."""
        while len(self._under_way) >= self.store.plan.limits.batches_queued:
            self._settle()
        buffers = {}
        for field in self.store.layout.fields_in(batch):
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
        """Wait until the oldest batch is written, and keep its buffers for another batch."""
        future, arrays = self._under_way.pop(0)
        future.result()
        for name, array in arrays.items():
            self._free.setdefault((name, array.shape), []).append(array)

    def _write(self, batch: Batch, arrays: Mapping[str, np.ndarray]) -> None:
        """Write a batch, unless an earlier one failed or did not match the draws in the store."""
        if self._broken:
            return
        self._broken = True
        self._digests[batch.number] = digest = self.rows.of(batch)
        self.store.put(batch, arrays, digest)
        self._broken = False
