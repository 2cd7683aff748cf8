"""Draws that are kept in memory."""

from collections.abc import Mapping

import numpy as np

from skaimz.sampling.layout import Layout
from skaimz.sampling.plan import Batch

__all__ = ["MemorySink"]


class MemorySink:
    """Draws as NumPy arrays of shape ``(n_chains, n_draws, ...)``.

    Attributes
    ----------
    due : list of Batch
        Batches to compute.
    """

    def __init__(self, layout: Layout):
        self.layout, self.due = layout, layout.plan.batches()
        self._flat = {field.name: np.empty((layout.plan.n_draws, *field.shape), field.dtype) for field in layout.fields}

    def open(self, batch: Batch) -> dict[str, np.ndarray]:
        """Return views of the arrays, to be filled by a batch."""
        return {field.name: self._flat[field.name][field.place(batch)] for field in self.layout.fields_in(batch)}

    def close(self, batch: Batch, arrays: Mapping[str, np.ndarray]) -> None:
        """Do nothing: a full batch is already in its place."""

    def abandon(self) -> None:
        """Release the arrays, which a stored error would otherwise keep alive."""
        self._flat.clear()

    def finish(self) -> dict[str, np.ndarray]:
        """Return the arrays with an axis of chains."""
        chains = self.layout.plan.n_chains
        return {name: array.reshape(chains, -1, *array.shape[1:]) for name, array in self._flat.items()}
