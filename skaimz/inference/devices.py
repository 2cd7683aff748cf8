"""Rows of a fit on all devices of this process: each computes with a part of them."""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from skaimz.inference.data import Data

__all__ = ["over_devices", "spread"]

ROWS = "rows"
# A device has at least so many: fewer take less time than devices need to exchange sums.
LEAST_ROWS = 1024


def over_devices(data: Data, *, row_axis: int = 0) -> Data:
    """Put rows and their weights on the devices, a part on each; what all rows share goes wherever it is needed.

    Parameters
    ----------
    data : Data
    row_axis : int, default=0
        Axis of the rows in each array.

    Returns
    -------
    Data
    """
    first = next(iter(data.rows.values()))
    sharding = _sharding(first.shape[row_axis], row_axis)
    rows, weight = jax.device_put((data.rows, data.weight), sharding)
    return data._replace(rows=rows, weight=weight)


def spread(tree: Any) -> Any:
    """Cut the rows of arrays inside a compiled program in the same way."""
    leaves = jax.tree.leaves(tree)
    sharding = _sharding(leaves[0].shape[0], 0)
    return tree if sharding is None else jax.lax.with_sharding_constraint(tree, sharding)


def _sharding(n_rows: int, row_axis: int) -> NamedSharding | None:
    """Return how rows are cut into equal parts, for as many devices as that allows; None for one device."""
    devices = jax.local_devices()
    most = min(len(devices), max(n_rows // LEAST_ROWS, 1))
    number = max(count for count in range(1, most + 1) if n_rows % count == 0)
    if number == 1:
        return None
    mesh = Mesh(np.array(devices[:number]), (ROWS,))
    return NamedSharding(mesh, PartitionSpec(*(None,) * row_axis, ROWS))
