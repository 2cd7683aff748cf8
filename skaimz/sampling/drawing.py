"""All draws of sites, or of log densities: planned here, and computed into a sink."""

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
from skaimz.sampling.job import Job, Quantity
from skaimz.sampling.plan import Batch, Step, make_plan
from skaimz.sampling.programs import Launcher, with_global_latents
from skaimz.sampling.proofs import host_distribution_of
from skaimz.sampling.sinks import Field, MemorySink, bytes_of
from skaimz.sampling.store import Store
from skaimz.sampling.tile_loop import run_steps, to_place
from skaimz.sampling.writer import ZarrSink

__all__ = ["Drawing"]

# A batch is handed on, or written, as one: large enough to write fast, small enough that a few fit in memory.
BATCH_BYTES = 2**25


class _Sink(Protocol):
    due: list[Batch]

    def open(self, batch: Batch) -> dict[str, np.ndarray]: ...

    def close(self, batch: Batch, arrays: dict[str, np.ndarray]) -> None: ...


class Drawing:
    """Draws that are planned and not yet computed.

    Parameters
    ----------
    job : Job
    quantity : Quantity
        Values or log densities.
    shard_draws : bool, default=False
        Spread draws over devices, rather than rows.
    batch_size : int, optional
        Rows of a batch; of the same number of bytes, whatever part of the rows these are, where None.
    paired : bool, default=False
        Whether a row's random numbers must not depend on the other rows' values, so that passes can be compared row by
        row; slower for distributions that the host draws from otherwise.

    Attributes
    ----------
    fields : list of Field
    plan : Plan
    launch : callable
        Starts the computation of a step.
    """

    def __init__(
        self,
        job: Job,
        quantity: Quantity,
        *,
        shard_draws: bool = False,
        batch_size: int | None = None,
        paired: bool = False,
    ):
        self.job = job = with_global_latents(job)
        spec, posterior = job.spec, job.posterior
        whole = spec.rows_mix is not None or any(spec[name].mixing for name in quantity.names)
        n_devices = jax.local_device_count()
        # Rows that must stay together leave the draws to be spread.
        self.shard_draws = (shard_draws or whole) and n_devices > 1
        plan = make_plan(
            spec,
            job.n_rows,
            posterior.n_draws,
            n_chains=posterior.n_chains,
            shards=1 if self.shard_draws else n_devices,
            whole=whole,
            part=job.part,
        )
        self._host, self._paired = self._host_distribution(quantity), paired
        self._without_values: list[str] = []
        on_host = self._host is not None
        if on_host:
            # Generators of the host are read in one order, whatever is wanted of the draws.
            quantity = Quantity(quantity.kind, quantity.names)
        self.launch = Launcher(job, quantity, plan, shard_draws=self.shard_draws, on_host=on_host)
        self._draw_axis = -1 if quantity.draws_last else 0
        described = zip(quantity.names, self.launch.shapes(), quantity.row_axes(spec), strict=True)
        self.fields = [self._field(*parts) for parts in described]
        total = job.part.total if job.part else job.n_rows
        self._of_all = [field.of_rows(total) for field in self.fields], replace(plan, n_rows=total, first_tile=0)
        row_bytes = bytes_of(*self._of_all) // total
        self.plan = plan.in_batches(batch_size or max(1, BATCH_BYTES // max(1, row_bytes)))

    @property
    def nbytes(self) -> int:
        """Bytes of all draws."""
        return bytes_of(self.fields, self.plan)

    def store(
        self,
        path: Path,
        group: str,
        skeleton: Callable[[Path, dict[str, int]], None],
        *,
        labels: bytes = b"",
        compressors: Any = None,
    ) -> Store:
        """Open a Zarr store for all rows that these are a part of, new or left by the same call.

        ``skeleton`` is given a folder and the length of every dimension. ``labels`` stand for what it writes: two calls
        are the same only if they are.
        """
        fields, plan = self._of_all
        plan = plan.in_batches(self.plan.batch_rows)
        sizes = {"chain": plan.n_chains, "draw": plan.n_draws // plan.n_chains}
        for field in fields:
            sizes.update(zip(field.dims, field.shape, strict=True))
        told = fingerprint(self.job, group, fields, plan, labels)
        return Store(path, group, fields, plan, told, lambda folder: skeleton(folder, sizes), compressors)

    def to_store(self, store: Store, *, progress: bool = False) -> None:
        """Compute into a store what it does not have yet."""
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
        """Compute the batch of a store that these rows are, where it is due, and return the digest of the rows."""
        if not store.path.exists():
            raise FileNotFoundError(
                errno.ENOENT,
                f"`output_dir` {str(store.path)!r} is not there for a worker: it must lie on a file system that all "
                "workers and this process share",
            )
        rows, draws = slice(0, self.plan.n_rows), slice(0, self.plan.n_draws)
        batch = store.batch_at(self.job.first_row)
        digest = RowDigests(self.job, self.plan.in_batches(self.plan.n_rows)).of(Batch(0, rows, draws))
        if store.is_due(batch, digest):
            sink = MemorySink(self.fields, self.plan)
            self.into(sink)
            store.put(batch, sink.open(Batch(batch.number, rows, draws)), digest)
        return digest

    def into(self, sink: _Sink, *, progress: bool = False) -> None:
        """Compute what the sink does not have yet."""
        total = len(self.plan.batches())
        with tqdm(total=total, initial=total - len(sink.due), disable=not progress, unit="batch") as bar:

            def end(batch: Batch, arrays: dict[str, np.ndarray]) -> None:
                sink.close(batch, arrays)
                bar.update()

            run_steps(self.plan, sink.due, self.launch, self._finish, start=sink.open, end=end)
        if self._without_values:
            warn_of_absent(self._without_values[0])

    def _host_distribution(self, quantity: Quantity) -> HostDistribution | None:
        """Return the sampler of outcomes on the host, where nothing that is asked for is computed from them."""
        job, output, names = self.job, self.job.spec.output, quantity.names
        order = [site.name for site in job.spec.sites]
        is_last = output in names and all(order.index(name) <= order.index(output) for name in names)
        return host_distribution_of(job) if quantity.kind == "values" and is_last else None

    def _field(self, name: str, shape: Any, row_axis: int | None) -> Field:
        site = self.job.spec[name]
        dtype = np.dtype(site.dtype) if isinstance(shape, dict) else np.dtype(shape.dtype)
        one = list(jax.tree.leaves(shape)[0].shape)
        del one[self._draw_axis]
        axis = None if row_axis is None else row_axis - (self._draw_axis == 0)
        sizes = tuple(self.job.n_rows if i == axis else size for i, size in enumerate(one))
        return Field(name, sizes, dtype, axis, site.dims[: len(sizes)])

    def _finish(self, arrays: Mapping[str, np.ndarray], batch: Batch, step: Step, parts: tuple) -> None:
        """Put a step's draws in their place."""
        for field, part in zip(self.fields, parts, strict=True):
            if field.name in arrays:
                axis = None if field.row_axis is None else 1 + field.row_axis
                drawn = self.bring(field, step, part)
                to_place(arrays[field.name], drawn, batch, step, axis)
                if field.name == self.job.spec.output and lacks_values(drawn):
                    self._without_values.append(field.name)

    def bring(self, field: Field, step: Step, part: Any) -> np.ndarray:
        """Wait for a site's draws, leave out padding among them, and draw what the host draws."""
        count = step.draws.stop - step.draws.start
        of_step = (slice(count),) if self._draw_axis == 0 else (..., slice(count))
        own = jax.tree.map(lambda array: np.asarray(array)[of_step], part)
        return self._draw_outcomes(step, own, field) if isinstance(own, dict) else own

    def reduced(self, reduce: Callable[..., np.ndarray], *companions: np.ndarray) -> np.ndarray:
        """Reduce the draws of one site, a step at a time.

        Parameters
        ----------
        reduce : callable
            From draws of some rows, of shape ``(n_rows, ..., n_draws)``, and the same rows of each companion to an
            array with as many rows.
        *companions : array of shape (n_rows, ...)

        Returns
        -------
        array of shape (n_rows, ...)
        """
        (field,) = self.fields
        axis, n_rows, n_draws = field.row_axis, self.plan.n_rows, self.plan.n_draws
        assert axis is not None
        no_draws = np.empty((0, *field.shape[:axis], *field.shape[axis + 1 :], n_draws), field.dtype)
        none = reduce(no_draws, *(array[:0] for array in companions))
        result = np.empty((n_rows, *none.shape[1:]), none.dtype)

        def finish(_: Any, batch: Batch, step: Step, parts: tuple) -> None:
            drawn = self.bring(field, step, parts[0])
            drawn = drawn if self._draw_axis == -1 else np.ascontiguousarray(np.moveaxis(drawn, 0, -1))
            by_row = np.moveaxis(drawn, axis, 0)[: step.rows.stop - step.rows.start]
            result[step.rows] = reduce(by_row, *(array[step.rows] for array in companions))

        run_steps(self.plan, [Batch(0, slice(0, n_rows), slice(0, n_draws))], self.launch, finish)
        return result

    def _draw_outcomes(self, step: Step, parameters: dict[str, np.ndarray], field: Field) -> np.ndarray:
        """Draw outcomes tile by tile, each with a generator of its own.

        A generator that rejects goes on with other numbers for all that follows, so rows that are to be compared with
        those of another pass have their own ones.
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
                own = (first - start,) if self._paired else ()
                generator = generator_of(self.job.seed, Purpose.OUTCOME, int(number), step.draws.start, *own)
                rows = (*before, slice(first, min(first + together, stop)))
                here = {name: np.ascontiguousarray(array[rows]) for name, array in parameters.items()}
                drawn.append(self._host.draw(generator, here, field.dtype))
        return drawn[0] if len(drawn) == 1 else np.concatenate(drawn, axis=axis)
