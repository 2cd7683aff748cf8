"""Draws into the place that was asked for."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import pandas as pd

from skaimz import sampling
from skaimz.datatree import draws_to_dataset, open_draws, storable_labels, to_tree, write_skeleton
from skaimz.estimators import _temporary
from skaimz.estimators._arguments import check_count
from skaimz.exceptions import SpeedWarning, warn_user

__all__ = ["Destination", "collect"]

# Draws that together are no larger stay in memory, unless told otherwise.
MEMORY_BUDGET = 2**30


class Destination(NamedTuple):
    """Where draws go and how they are computed; none of it changes a draw."""

    store: Any = "memory"
    output_dir: Any = None
    shard_axis: str = "obs"
    batch_size: int | None = None
    compressors: Any = None
    progress: bool = False

    def check(self) -> None:
        """Refuse what makes no sense."""
        if not isinstance(self.store, sampling.Store) and self.store not in ("auto", "zarr", "memory"):
            raise ValueError(f"`store` must be 'auto', 'zarr' or 'memory', got {self.store!r}.")
        if self.shard_axis not in ("obs", "draw"):
            raise ValueError(f"`shard_axis` must be 'obs' or 'draw', got {self.shard_axis!r}.")
        if self.store == "memory" and self.output_dir is not None:
            raise ValueError(f"`output_dir` needs a store on disk, got {self.output_dir!r} and `store='memory'`.")
        if self.batch_size is not None:
            check_count("batch_size", self.batch_size)


def collect(
    owner: Any,
    job: sampling.Job,
    quantity: sampling.PerDraw,
    group: str,
    index: Any,
    settings: Destination,
    as_tree: bool,
) -> Any:
    """Compute draws into the store that is asked for, and return them as a tree or a dict.

    Rows that are a part of more come from a Dask collection: then a worker's draws are a batch of the store that
    ``settings`` hold, and what is returned is the digest of its rows; or a store is opened for all rows, and returned.
    """
    drawing = sampling.Drawing(job, quantity, shard_draws=settings.shard_axis == "draw", batch_size=settings.batch_size)
    mixing = [name for name in quantity.names if job.spec[name].mixing]
    if drawing.plan.whole and job.part is not None:
        raise ValueError(
            "Dask collections are computed block by block, but the kernel's rows may depend on one another: "
            f"{job.spec.rows_mix or job.spec[mixing[0]].mixing}. Pass them in one, as `X.compute()`."
        )
    if isinstance(settings.store, sampling.Store):
        return drawing.to_batch(settings.store)
    if job.spec.rows_mix is None and mixing:
        warn_user(
            f"The kernel runs on all rows at once, because site {mixing[0]!r} may mix them: "
            f"{job.spec[mixing[0]].mixing}. Leave it out of `return_sites` to run tile by tile.",
            SpeedWarning,
        )
    small = drawing.nbytes <= MEMORY_BUDGET and settings.output_dir is None
    in_memory = settings.store == "memory" or (settings.store == "auto" and small)
    attrs = {
        "seed": job.seed,
        "output": job.spec.output,
        "batch_size": drawing.plan.batch_rows,
        "n_devices": jax.local_device_count(),
        "shard_axis": "draw" if drawing.shard_draws else "obs",
    }
    if not in_memory:
        return _store(owner, job, drawing, group, index if job.part is None else job.part.labels, settings, attrs)
    found = drawing.in_memory(progress=settings.progress)
    if not as_tree:
        return found
    local = job.local_in(slice(0, job.n_rows))
    return to_tree({**_known(job, local, index), group: draws_to_dataset(found, job.spec, index)}, attrs)


def _known(job: sampling.Job, local: Mapping[str, Any], index: Any) -> dict[str, Any]:
    """Return the group of the draws that a kernel is run with."""
    known = {
        name: array.reshape(job.posterior.n_chains, -1, *array.shape[1:])
        for name, array in {**job.posterior.draws, **local}.items()
    }
    return {"posterior": draws_to_dataset(known, job.spec, index)} if known else {}


def _store(
    owner: Any,
    job: sampling.Job,
    drawing: sampling.Drawing,
    group: str,
    index: Any,
    settings: Destination,
    attrs: dict[str, Any],
) -> Any:
    """Stream draws to a Zarr store and open it; or return it, where the rows are a part of all."""
    index = None if index is None else storable_labels(index)
    others = _known(job, job.local, index)
    with _temporary.place(owner, settings.output_dir) as path:
        store = drawing.store(
            path,
            group,
            lambda folder, sizes: write_skeleton(
                folder, group, sizes, others, attrs | {"artifact_path": str(path)}, job.spec, index
            ),
            labels=_bytes_of(index),
            compressors=settings.compressors,
        )
        if job.part is not None:
            return store
        drawing.to_store(store, progress=settings.progress)
    return open_draws(path)


def _bytes_of(labels: Any) -> bytes:
    """Return what labels of rows are compared by, where a call goes on."""
    if labels is None:
        return b""
    if isinstance(labels, pd.DataFrame):
        return repr([(name, _bytes_of(labels[name].to_numpy())) for name in labels]).encode()
    return repr(labels.dtype).encode() + (
        repr(labels.tolist()).encode() if labels.dtype.hasobject else labels.tobytes()
    )
