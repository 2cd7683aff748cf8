"""Types of what users pass to public methods."""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import jax
import numpy as np
import numpyro
import xarray as xr
from numpy.typing import ArrayLike

__all__ = ["Argument", "Column", "Contrast", "Draws", "Folder", "RandomState", "Rows", "Scenario"]

# Arrays of any library, data frames, Zarr arrays, Dask collections, or an iterable of mappings of names to arrays.
Rows: TypeAlias = ArrayLike | Iterable[Mapping[str, ArrayLike]]
# An argument of a kernel: an array, a number, a text, or a mapping of these.
Argument: TypeAlias = ArrayLike | Mapping[str, Any] | None
RandomState: TypeAlias = int | np.random.RandomState | jax.Array | None
Folder: TypeAlias = str | os.PathLike[str] | None
# Values that sites, columns or arguments are set to.
Scenario: TypeAlias = Mapping[str, Mapping[Any, Any]] | xr.DataTree
# A column by name or position.
Column: TypeAlias = str | int
# A contrast by name, or a function of the scenario's array and the baseline's.
Contrast: TypeAlias = str | Callable[[np.ndarray, np.ndarray], np.ndarray]
Draws: TypeAlias = Mapping[str, ArrayLike] | xr.Dataset | xr.DataTree | numpyro.infer.MCMC
