"""The arrays that draws are kept in."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from skaimz.sampling.plan import Batch, Plan

__all__ = ["Field", "Layout"]


class Field(NamedTuple):
    """An array of draws.

    Attributes
    ----------
    name : str
    shape : tuple of int
        Shape for one draw and all rows.
    dtype : numpy.dtype
    row_axis : int or None
        Axis of the rows in ``shape``.
    dims : tuple of str
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    row_axis: int | None
    dims: tuple[str, ...]

    def of_rows(self, n_rows: int) -> "Field":
        """Return the field for another number of rows."""
        axis = self.row_axis
        return self._replace(shape=tuple(n_rows if i == axis else size for i, size in enumerate(self.shape)))

    def of_batch(self, batch: Batch) -> tuple[int, ...]:
        """Return the shape of a batch of the array, draws first."""
        return (batch.draws.stop - batch.draws.start, *self.of_rows(batch.rows.stop - batch.rows.start).shape)

    def place(self, batch: Batch) -> tuple[slice, ...]:
        """Return the slices of the array that hold a batch, draws first."""
        slices = [slice(None)] * len(self.shape)
        if self.row_axis is not None:
            slices[self.row_axis] = batch.rows
        return (batch.draws, *slices)


class Layout(NamedTuple):
    """All arrays of some draws, and the plan by which they are filled."""

    fields: tuple[Field, ...]
    plan: Plan

    @property
    def nbytes(self) -> int:
        """Bytes of all draws."""
        return sum(int(np.prod(field.shape)) * field.dtype.itemsize for field in self.fields) * self.plan.n_draws

    def fields_in(self, batch: Batch) -> list[Field]:
        """Return the fields that a batch fills; those without rows are filled by the first batch of their draws."""
        plan = self.plan
        return [field for field in self.fields if plan.whole or batch.number == 0 or field.row_axis is not None]

    def of_rows(self, n_rows: int) -> "Layout":
        """Return the layout for the whole table that the rows are a part of."""
        fields = tuple(field.of_rows(n_rows) for field in self.fields)
        return Layout(fields, replace(self.plan, n_rows=n_rows, first_tile=0))

    def in_batches(self, batch_rows: int) -> "Layout":
        """Return the layout with batches of at least ``batch_rows`` rows."""
        return self._replace(plan=self.plan.in_batches(batch_rows))
