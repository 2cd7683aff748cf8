"""Rows of a fit spread over all devices of this process."""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from skaimz.inference.data import Data

__all__ = ["over_devices", "spread"]

ROWS = "rows"
# Least rows of a device. Fewer take less time than the exchange of sums between devices.
LEAST_ROWS = 1024


def over_devices(data: Data, *, row_axis: int = 0) -> Data:
    """Spread rows and their weights over the devices; other arrays go wherever they are needed.

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
    """Spread the rows of arrays inside a compiled program in the same way."""
    leaves = jax.tree.leaves(tree)
    sharding = _sharding(leaves[0].shape[0], 0)
    return tree if sharding is None else jax.lax.with_sharding_constraint(tree, sharding)


def _sharding(n_rows: int, row_axis: int) -> NamedSharding | None:
    """Return the sharding of rows into equal shares, on as many devices as possible; None for one device."""
    devices = jax.local_devices()
    most = min(len(devices), max(n_rows // LEAST_ROWS, 1))
    number = max(count for count in range(1, most + 1) if n_rows % count == 0)
    if number == 1:
        return None
    mesh = Mesh(np.array(devices[:number]), (ROWS,))
    return NamedSharding(mesh, PartitionSpec(*(None,) * row_axis, ROWS))
