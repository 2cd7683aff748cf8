"""Draws into the place that was asked for."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

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

    store: str = "memory"
    output_dir: Any = None
    shard_axis: str = "obs"
    batch_size: int | None = None
    compressors: Any = None
    progress: bool = False

    def check(self) -> None:
        """Refuse what makes no sense."""
        if self.store not in ("auto", "zarr", "memory"):
            raise ValueError(f"`store` must be 'auto', 'zarr' or 'memory', got {self.store!r}.")
        if self.shard_axis not in ("obs", "draw"):
            raise ValueError(f"`shard_axis` must be 'obs' or 'draw', got {self.shard_axis!r}.")
        if self.store == "memory" and self.output_dir is not None:
            raise ValueError(f"`output_dir` needs a store on disk, got {self.output_dir!r} and `store='memory'`.")
        if self.batch_size is not None:
            check_count("batch_size", self.batch_size)


def collect(
    owner: Any,
    job: sampling.Pass,
    quantity: sampling.Quantity,
    group: str,
    index: Any,
    settings: Destination,
    as_tree: bool,
) -> Any:
    """Compute draws into the store that is asked for, and return them as a tree or a dict."""
    drawing = sampling.Drawing(job, quantity, shard_draws=settings.shard_axis == "draw", batch_size=settings.batch_size)
    mixing = [name for name in quantity.names if job.spec[name].mixing]
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
        "batch_size": drawing.plan.batch_rows,
        "n_devices": jax.local_device_count(),
        "shard_axis": "draw" if drawing.shard_draws else "obs",
    }
    in_store = index if in_memory or index is None else storable_labels(index)
    known = {
        name: array.reshape(job.posterior.n_chains, -1, *array.shape[1:])
        for name, array in {**job.posterior.draws, **job.local}.items()
    }
    others = {"posterior": draws_to_dataset(known, job.spec, in_store)} if known else {}
    if in_memory:
        sink = sampling.MemorySink(drawing.fields, drawing.plan)
        drawing.into(sink, progress=settings.progress)
        found = sink.finish()
        if not as_tree:
            return found
        return to_tree({**others, group: draws_to_dataset(found, job.spec, index)}, attrs)
    return _store(owner, drawing, group, in_store, settings, others, attrs)


def _store(
    owner: Any,
    drawing: sampling.Drawing,
    group: str,
    index: Any,
    settings: Destination,
    others: Mapping[str, Any],
    attrs: dict[str, Any],
) -> Any:
    """Stream draws to a Zarr store and open it."""
    is_temporary = settings.output_dir is None
    path = _temporary.new_folder(owner) if is_temporary else Path(settings.output_dir).resolve()
    sizes = drawing.sizes
    try:
        drawing.to_store(
            path,
            group,
            lambda folder: write_skeleton(
                folder, group, sizes, others, attrs | {"artifact_path": str(path)}, drawing.job.spec, index
            ),
            labels=b"" if index is None else repr(index.dtype).encode() + "\0".join(map(str, index)).encode(),
            compressors=settings.compressors,
            progress=settings.progress,
        )
    except BaseException:
        if is_temporary:
            shutil.rmtree(path.parent, ignore_errors=True)
        raise
    return open_draws(path)
