"""Quantities of which all draws are kept: planned here, and computed into memory, into a store, or into a reduction."""

import errno
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from tqdm.auto import tqdm

from skaimz.runtime import Purpose, generator_of
from skaimz.sampling.digests import RowDigests, fingerprint
from skaimz.sampling.host_distributions import HostDistribution, lacks_values, warn_of_absent
from skaimz.sampling.job import Job
from skaimz.sampling.layout import Field, Layout
from skaimz.sampling.places import Place
from skaimz.sampling.plan import Batch, Plan, Step, make_plan
from skaimz.sampling.programs import Launcher, with_global_latents
from skaimz.sampling.proofs import host_distribution_of
from skaimz.sampling.quantities import PerDraw
from skaimz.sampling.rounding import as_stored, stored_dtype
from skaimz.sampling.sinks import MemorySink
from skaimz.sampling.states import warn_of_drawn_states
from skaimz.sampling.store import Store
from skaimz.sampling.tile_loop import Sink, run_steps, to_place
from skaimz.sampling.writer import ZarrSink

__all__ = ["Drawing"]


class _Sink(Sink, Protocol):
    due: list[Batch]


class Drawing:
    """Draws that are planned but not yet computed.

    Parameters
    ----------
    job : Job
    quantity : PerDraw
    shard_draws : bool, default=False
        Whether to spread draws over devices, rather than rows.
    batch_size : int, optional
        Least number of rows of a batch. By default it follows from the bytes that a batch may have.
    paired : bool, default=False
        Whether a row's random numbers must not depend on the values of other rows, so that jobs can be compared row by
        row. This is slower for distributions that NumPy draws from.
    draw_dtype : numpy.dtype, optional
        Type in which wider floats are kept. By default all draws keep the type in which they are computed.

    Attributes
    ----------
    layout : Layout
    launch : callable
        Starts the computation of a step.
    """

    def __init__(
        self,
        job: Job,
        quantity: PerDraw,
        *,
        shard_draws: bool = False,
        batch_size: int | None = None,
        paired: bool = False,
        draw_dtype: np.dtype | None = None,
    ):
        warn_of_drawn_states(job, quantity)
        self.job = job = with_global_latents(job)
        spec = job.spec
        whole = spec.rows_mix is not None or any(spec[name].mixing for name in quantity.names)
        n_devices = jax.local_device_count()
        # Rows that must stay together cannot be spread over devices, but draws can.
        self.shard_draws = (shard_draws or whole) and n_devices > 1
        plan = make_plan(job, shards=1 if self.shard_draws else n_devices, whole=whole)
        self._host, self._paired = self._host_distribution(quantity), paired
        self._draw_dtype = draw_dtype
        self._without_values: list[str] = []
        on_host = self._host is not None
        if on_host:
            # NumPy's generators fill arrays in one order, which must not depend on where the draws are wanted.
            quantity = replace(quantity, draws_last=False)
        self.launch = Launcher(job, quantity, plan, shard_draws=self.shard_draws, on_host=on_host)
        self._draw_axis = -1 if quantity.draws_last else 0
        described = zip(quantity.names, self.launch.shapes(), quantity.row_axes(spec), strict=True)
        layout = Layout(tuple(self._field(*each) for each in described), plan)
        table = layout.of_rows(job.total_rows)
        # A batch has the same number of bytes whatever part of the table the rows are.
        row_bytes = table.nbytes // job.total_rows
        batch_rows = batch_size or max(1, job.limits.batch_bytes // max(1, row_bytes))
        self.layout, self._table = layout.in_batches(batch_rows), table.in_batches(batch_rows)

    @property
    def fields(self) -> tuple[Field, ...]:
        """The arrays of draws."""
        return self.layout.fields

    @property
    def plan(self) -> Plan:
        """How the job is cut up."""
        return self.layout.plan

    @property
    def nbytes(self) -> int:
        """Bytes of all draws."""
        return self.layout.nbytes

    def in_memory(self, *, progress: bool = False) -> dict[str, np.ndarray]:
        """Compute all draws and return them, by site, in arrays of shape ``(n_chains, n_draws, ...)``."""
        sink = MemorySink(self.layout)
        try:
            self.into(sink, progress=progress)
        except BaseException:
            sink.abandon()
            raise
        return sink.finish()

    def store(
        self,
        place: Place,
        group: str,
        skeleton: Callable[[Path, dict[str, int]], None],
        *,
        labels: bytes = b"",
        compressors: Any = None,
    ) -> Store:
        """Open a Zarr store for all rows of the table, either a new one or one that an equal call has left.

        Parameters
        ----------
        place, group, compressors
            As in :class:`Store`.
        skeleton : callable
            Writes groups, coordinates and attributes, given a folder and the length of every dimension.
        labels : bytes, default=b""
            Digest of what ``skeleton`` writes. Calls are equal only if these are.
        """
        plan = self._table.plan
        sizes = {"chain": plan.n_chains, "draw": plan.n_draws // plan.n_chains}
        for field in self._table.fields:
            sizes.update(zip(field.dims, field.shape, strict=True))
        digest = fingerprint(self.job, group, self._table, labels)
        return Store(place, group, self._table, digest, lambda folder: skeleton(folder, sizes), compressors)

    def to_store(self, store: Store, *, progress: bool = False) -> None:
        """Compute the batches that a store lacks, and write them."""
        rows = RowDigests(self.job, self.plan)
        self.launch.read_from(rows.arrays)
        sink = ZarrSink(store, rows)
        try:
            self.into(sink, progress=progress)
            sink.finish()
        except BaseException:
            sink.abandon()
            raise

    def to_batch(self, store: Store) -> str:
        """Compute and write the one batch of a store that the rows are, if it is due; return the digest of the rows."""
        if not store.place.exists():
            raise FileNotFoundError(
                errno.ENOENT,
                f"`output_dir` {str(store.place)!r} does not exist for a worker: it must be on a file system that all "
                "workers and this process share",
            )
        rows, draws = slice(0, self.plan.n_rows), slice(0, self.plan.n_draws)
        batch = store.batch_at(self.job.first_row)
        digest = RowDigests(self.job, self.plan.in_batches(self.plan.n_rows)).of(Batch(0, rows, draws))
        if store.is_due(batch, digest):
            sink = MemorySink(self.layout)
            self.into(sink)
            store.put(batch, sink.open(Batch(batch.number, rows, draws)), digest)
        return digest

    def into(self, sink: _Sink, *, progress: bool = False) -> None:
        """Compute the batches that are due in a sink."""
        total = len(self.plan.batches())
        with tqdm(total=total, initial=total - len(sink.due), disable=not progress, unit="batch") as bar:
            run_steps(self.plan, sink.due, self.launch, self._finish, sink=_Counted(sink, bar))
        if self._without_values:
            warn_of_absent(self._without_values[0])

    def _host_distribution(self, quantity: PerDraw) -> HostDistribution | None:
        """Return NumPy's sampler of outcomes, if none of the quantity's sites is computed from them."""
        job, output, names = self.job, self.job.spec.output, quantity.names
        order = [site.name for site in job.spec.sites]
        if job.past is not None:
            return None
        is_last = output in names and all(order.index(name) <= order.index(output) for name in names)
        return host_distribution_of(job) if quantity.has_outcomes and is_last else None

    def _field(self, name: str, shape: Any, row_axis: int | None) -> Field:
        site = self.job.spec[name]
        dtype = np.dtype(site.dtype) if isinstance(shape, dict) else np.dtype(shape.dtype)
        one_draw = list(jax.tree.leaves(shape)[0].shape)
        del one_draw[self._draw_axis]
        axis = None if row_axis is None else row_axis - (self._draw_axis == 0)
        sizes = tuple(self.job.n_rows if i == axis else size for i, size in enumerate(one_draw))
        return Field(name, sizes, stored_dtype(dtype, self._draw_dtype), axis, site.dims_of(len(sizes)))

    def _finish(self, arrays: Mapping[str, np.ndarray], batch: Batch, step: Step, results: tuple) -> None:
        """Put a step's draws in their place."""
        for field, result in zip(self.fields, results, strict=True):
            if field.name in arrays:
                axis = None if field.row_axis is None else 1 + field.row_axis
                drawn = self.bring(field, step, result)
                to_place(arrays[field.name], as_stored(field.name, drawn, field.dtype), batch, step, axis)
                if field.name == self.job.spec.output and lacks_values(drawn):
                    self._without_values.append(field.name)

    def bring(self, field: Field, step: Step, result: Any) -> np.ndarray:
        """Wait for a site's draws, remove padding among them, and draw outcomes that NumPy draws."""
        count = step.draws.stop - step.draws.start
        of_step = (slice(count),) if self._draw_axis == 0 else (..., slice(count))
        own = jax.tree.map(lambda array: np.asarray(array)[of_step], result)
        return self._draw_outcomes(step, own, field) if isinstance(own, dict) else own

    def reduced(self, reduce: Callable[..., np.ndarray], *companions: np.ndarray) -> np.ndarray:
        """Reduce the draws of one site, a step at a time.

        Parameters
        ----------
        reduce : callable
            Takes draws of some rows, of shape ``(n_rows, ..., n_draws)``, and the same rows of each companion. Returns
            an array with as many rows.
        *companions : array of shape (n_rows, ...)

        Returns
        -------
        array of shape (n_rows, ...)
        """
        (field,) = self.fields
        axis, n_rows, n_draws = field.row_axis, self.plan.n_rows, self.plan.n_draws
        assert axis is not None
        no_rows = np.empty((0, *field.shape[:axis], *field.shape[axis + 1 :], n_draws), field.dtype)
        none = reduce(no_rows, *(array[:0] for array in companions))
        reduced = np.empty((n_rows, *none.shape[1:]), none.dtype)

        def finish(_: Any, batch: Batch, step: Step, results: tuple) -> None:
            drawn = self.bring(field, step, results[0])
            drawn = drawn if self._draw_axis == -1 else np.ascontiguousarray(np.moveaxis(drawn, 0, -1))
            by_row = np.moveaxis(drawn, axis, 0)[: step.rows.stop - step.rows.start]
            reduced[step.rows] = reduce(by_row, *(array[step.rows] for array in companions))

        run_steps(self.plan, [Batch(0, slice(0, n_rows), slice(0, n_draws))], self.launch, finish)
        return reduced

    def _draw_outcomes(self, step: Step, parameters: dict[str, np.ndarray], field: Field) -> np.ndarray:
        """Draw outcomes tile by tile, each tile with its own generator.

        A sampler that rejects takes more numbers from its generator for some rows, which changes the numbers of all
        rows after them. So each row has its own generator if rows are to be compared with those of another job.
        """
        assert self._host is not None
        size, axis = self.plan.tile_rows, 1 + (field.row_axis or 0)
        before = (slice(None),) * axis
        length = step.rows.stop - step.rows.start
        together = 1 if self._paired else size
        drawn = []
        for number, start in zip(step.tiles, range(0, length, size), strict=False):
            stop = min(start + size, length)
            for first in range(start, stop, together):
                row = (first - start,) if self._paired else ()
                generator = generator_of(self.job.seed, Purpose.OUTCOME, int(number), step.draws.start, *row)
                rows = (*before, slice(first, min(first + together, stop)))
                of_rows = {name: np.ascontiguousarray(array[rows]) for name, array in parameters.items()}
                drawn.append(self._host.draw(generator, of_rows, np.dtype(self.job.spec[field.name].dtype)))
        return drawn[0] if len(drawn) == 1 else np.concatenate(drawn, axis=axis)


class _Counted:
    """A sink whose closed batches are counted by a progress bar."""

    def __init__(self, sink: Sink, bar: tqdm):
        self.open, self._sink, self._bar = sink.open, sink, bar

    def close(self, batch: Batch, target: Any) -> None:
        """Close a batch and count it."""
        self._sink.close(batch, target)
        self._bar.update()
