"""The input of every engine: a kernel, its data, and how the fit runs."""

import dataclasses
from dataclasses import dataclass, field

import jax
import numpy as np

from skaimz.inference.chunks import Watch
from skaimz.inference.data import Data, Units, loaded, merged, padded
from skaimz.kernels import TracedKernel

__all__ = ["Problem"]


@dataclass(frozen=True)
class Problem:
    """A posterior to draw from, and how the fit runs.

    Attributes
    ----------
    traced : TracedKernel
    data : Data
        Rows and weights. They may be read in windows until :meth:`padded` or :meth:`distinct` loads them.
    n_rows : int
        Number of the user's rows, without padding.
    seed : int
        Below 2**32.
    watch : Watch
        Shows progress, stops the fit and saves its state.
    places : array of shape (n_rows,) or None
        Where each of the user's rows is among the rows of ``data``, so that an error can name it; None if unknown.
    """

    traced: TracedKernel
    data: Data
    n_rows: int
    seed: int
    watch: Watch = field(default_factory=Watch)
    places: np.ndarray | None = None

    @property
    def dtype(self) -> np.dtype:
        """Type of the floats among the rows."""
        return self.data.float_type

    def of(self, data: Data, places: np.ndarray | None = None) -> "Problem":
        """Return the same problem for other data."""
        return dataclasses.replace(self, data=data, places=places)

    def in_units(self, units: Units | None) -> "Problem":
        """Return the problem in other coordinates, in the precision of the rows."""
        units = jax.tree.map(lambda array: np.asarray(array, self.dtype), units)
        return dataclasses.replace(self, data=self.data._replace(units=units))

    def loaded(self) -> "Problem":
        """Return the problem with its rows in memory, in their order."""
        return self.of(loaded(self.data, self.n_rows), np.arange(self.n_rows))

    def padded(self) -> "Problem":
        """Return the problem with its rows in memory, in their order, and padded."""
        problem = self.loaded()
        return problem.of(padded(self.traced, problem.data, self.n_rows), problem.places)

    def distinct(self) -> "Problem":
        """Return the problem with its distinct rows in memory, and padded; see :func:`merged`."""
        data, places = merged(self.traced, loaded(self.data, self.n_rows))
        return self.of(padded(self.traced, data, len(data.rows[self.traced.spec.input])), places)
