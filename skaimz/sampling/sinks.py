"""Where draws go, in memory."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from skaimz.sampling.plan import Batch, Plan

__all__ = ["Field", "MemorySink", "bytes_of", "in_batch"]


class Field(NamedTuple):
    """An array of draws.

    Attributes
    ----------
    name : str
    shape : tuple of int
        For one draw and all rows.
    dtype : numpy.dtype
    row_axis : int or None
        In ``shape``.
    dims : tuple of str
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    row_axis: int | None
    dims: tuple[str, ...]

    def of_rows(self, n_rows: int) -> "Field":
        """Return the array for another number of rows."""
        axis = self.row_axis
        return self._replace(shape=tuple(n_rows if i == axis else size for i, size in enumerate(self.shape)))

    def of_batch(self, batch: Batch) -> tuple[int, ...]:
        """Return the shape of a batch's part, draws first."""
        return (batch.draws.stop - batch.draws.start, *self.of_rows(batch.rows.stop - batch.rows.start).shape)

    def place(self, batch: Batch) -> tuple[slice, ...]:
        """Return where a batch's part lies, draws first."""
        rows = [slice(None)] * len(self.shape)
        if self.row_axis is not None:
            rows[self.row_axis] = batch.rows
        return (batch.draws, *rows)


def in_batch(fields: Sequence[Field], plan: Plan, batch: Batch) -> list[Field]:
    """Return the fields that a batch has a part of: those without rows come once."""
    return [field for field in fields if plan.whole or batch.number == 0 or field.row_axis is not None]


def bytes_of(fields: Sequence[Field], plan: Plan) -> int:
    """Return the bytes of all draws."""
    return sum(int(np.prod(field.shape)) * field.dtype.itemsize for field in fields) * plan.n_draws


class MemorySink:
    """Draws as NumPy arrays of shape ``(n_chains, n_draws, ...)``.

    Attributes
    ----------
    due : list of Batch
        What is to be computed.
    """

    def __init__(self, fields: Sequence[Field], plan: Plan):
        self.fields, self.plan, self.due = fields, plan, plan.batches()
        self._flat = {field.name: np.empty((plan.n_draws, *field.shape), field.dtype) for field in fields}

    def open(self, batch: Batch) -> dict[str, np.ndarray]:
        """Return the arrays that a batch goes to."""
        fields = in_batch(self.fields, self.plan, batch)
        return {field.name: self._flat[field.name][field.place(batch)] for field in fields}

    def close(self, batch: Batch, arrays: Mapping[str, np.ndarray]) -> None:
        """Take a full batch: its arrays are in place."""

    def abandon(self) -> None:
        """Let go of the arrays, which an error that is kept would keep alive."""
        self._flat.clear()

    def finish(self) -> dict[str, np.ndarray]:
        """Return the arrays, chains apart."""
        chains = self.plan.n_chains
        return {name: array.reshape(chains, -1, *array.shape[1:]) for name, array in self._flat.items()}
