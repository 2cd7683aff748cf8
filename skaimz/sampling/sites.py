"""All draws of sites, or of log densities: planned here, and computed into a sink."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from tqdm.auto import tqdm

from skaimz.sampling.laws import HostLaw
from skaimz.sampling.passes import Pass, Quantity
from skaimz.sampling.plan import Batch, Step, make_plan
from skaimz.sampling.programs import OUTCOMES, Launcher, with_global_latents
from skaimz.sampling.proofs import host_law_of
from skaimz.sampling.sinks import Field, bytes_of
from skaimz.sampling.store import RowDigest, ZarrSink
from skaimz.sampling.stream import run_steps, to_place

__all__ = ["Drawing"]

# A batch is handed on, or written, as one: large enough to write fast, small enough that a few fit in memory.
BATCH_BYTES = 2**25
# Numbers that are summed where a posterior is compared with that of an earlier call.
SUMMED = 4096


class _Sink(Protocol):
    done: int

    def open(self, batch: Batch) -> dict[str, np.ndarray]: ...

    def close(self, batch: Batch, arrays: dict[str, np.ndarray]) -> None: ...


class Drawing:
    """Draws that are planned and not yet computed.

    Parameters
    ----------
    job : Pass
    quantity : Quantity
        Values or log densities.
    shard_draws : bool, default=False
        Spread draws over devices, rather than rows.
    batch_size : int, optional
        Rows of a batch.
    paired : bool, default=False
        Whether a row's random numbers must not depend on the other rows' values, so that passes can be compared row by
        row; slower for laws that the host draws from otherwise.

    Attributes
    ----------
    fields : list of Field
    plan : Plan
    launch : callable
        Starts the computation of a step.
    """

    def __init__(
        self,
        job: Pass,
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
        self._host, self._paired = self._host_law(quantity), paired
        on_host = self._host is not None
        if on_host:
            # Generators of the host are read in one order, whatever is wanted of the draws.
            quantity = Quantity(quantity.kind, quantity.names)
        self.launch = Launcher(job, quantity, plan, shard_draws=self.shard_draws, on_host=on_host)
        self._draw_axis = -1 if quantity.draws_last else 0
        described = zip(quantity.names, self.launch.shapes(), quantity.row_axes(spec), strict=True)
        self.fields = [self._field(*parts) for parts in described]
        row_bytes = sum(
            posterior.n_draws * int(np.prod(field.shape)) * field.dtype.itemsize // job.n_rows for field in self.fields
        )
        self.plan = plan.in_batches(batch_size or max(1, BATCH_BYTES // max(1, row_bytes)))

    @property
    def nbytes(self) -> int:
        """Bytes of all draws."""
        return bytes_of(self.fields, self.plan)

    @property
    def sizes(self) -> dict[str, int]:
        """Length of every dimension."""
        chains, posterior = self.plan.n_chains, self.job.posterior
        sizes = {"chain": chains, "draw": posterior.n_draws // chains}
        for field in self.fields:
            sizes.update(zip(field.dims, field.shape, strict=True))
        return sizes

    def to_store(
        self,
        path: Path,
        group: str,
        skeleton: Callable[[Path], None],
        *,
        labels: bytes = b"",
        compressors: Any = None,
        progress: bool = False,
    ) -> None:
        """Compute into a Zarr store, or go on with one that the same call has left; see :class:`ZarrSink`.

        ``labels`` stand for what ``skeleton`` writes: two calls are the same only if they are.
        """
        rows = {name: RowDigest(array) for name, array in sorted(self.job.inputs.rows.items())}
        self.launch.read_from(rows)
        fingerprint = self._fingerprint(group, labels)
        sink = ZarrSink(path, group, self.fields, self.plan, fingerprint, rows, skeleton, compressors)
        try:
            self.into(sink, progress=progress)
            sink.finish()
        except BaseException:
            sink.abandon()
            raise

    def _fingerprint(self, group: str, labels: bytes) -> str:
        """Return a hash of all that a store follows from but the kernel and the rows."""
        job, plan = self.job, self.plan
        told = hashlib.blake2b(labels, digest_size=16)
        layout = (plan.n_rows, plan.n_chains, plan.n_draws, plan.tile_rows, plan.batch_rows)
        told.update(
            repr((group, self.fields, layout, job.seed, sorted(job.intervention), sorted(job.condition))).encode()
        )
        posterior = job.posterior
        groups = (posterior.numbers, posterior.params, posterior.draws, job.inputs.whole, job.local, job.settings)
        for arrays in groups:
            for name, array in sorted(arrays.items()):
                told.update(repr((name, np.shape(array))).encode())
                told.update(_summed(array))
        return told.hexdigest()

    def into(self, sink: _Sink, *, progress: bool = False) -> None:
        """Compute what the sink does not have yet."""
        batches = self.plan.batches()
        with tqdm(total=len(batches), initial=sink.done, disable=not progress, unit="batch") as bar:

            def end(batch: Batch, arrays: dict[str, np.ndarray]) -> None:
                sink.close(batch, arrays)
                bar.update()

            run_steps(self.plan, batches[sink.done :], self.launch, self._finish, start=sink.open, end=end)

    def _host_law(self, quantity: Quantity) -> HostLaw | None:
        """Return the sampler of outcomes on the host, where nothing that is asked for is computed from them."""
        job, output, names = self.job, self.job.spec.output, quantity.names
        order = [site.name for site in job.spec.sites]
        is_last = output in names and all(order.index(name) <= order.index(output) for name in names)
        return host_law_of(job) if quantity.kind == "values" and is_last else None

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
                to_place(arrays[field.name], self.bring(field, step, part), batch, step, axis)

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
                seeds = np.random.SeedSequence((self.job.seed, OUTCOMES, int(number), step.draws.start, *own))
                generator = np.random.Generator(np.random.SFC64(seeds))
                rows = (*before, slice(first, min(first + together, stop)))
                here = {name: np.ascontiguousarray(array[rows]) for name, array in parameters.items()}
                drawn.append(self._host.draw(generator, here, field.dtype))
        return drawn[0] if len(drawn) == 1 else np.concatenate(drawn, axis=axis)


def _summed(array: Any) -> bytes:
    """Return sums of an array's blocks: to hash every byte of a large posterior takes longer than to read it."""
    flat = np.ravel(array)
    return np.add.reduceat(flat, np.arange(0, flat.size, SUMMED), dtype=np.float64).tobytes() if flat.size else b""
