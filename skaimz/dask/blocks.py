"""Answers for Dask collections: block by block, wherever Dask runs them.

Blocks end where tiles of the sampling core end, whose random numbers follow from their place among all rows. So the
answer is that of one call on one machine, however the rows are chunked and whichever worker takes a block.
"""

import contextlib
import dataclasses
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr
from tqdm.auto import tqdm

from skaimz.dask.arguments import by_row, rows_between, with_rows, without_rows
from skaimz.datatree import open_draws, with_more_rows
from skaimz.effects import Contrast, EffectTree, joined, resolve_contrast, warn_of_unreached
from skaimz.exceptions import NoRowsError
from skaimz.kernels import stored_name
from skaimz.sampling import Part, Place, Store

__all__ = ["averages_in_blocks", "draws_in_blocks", "draws_to_store", "rows_in_blocks"]

# Number of partial averages that one task joins.
JOINED = 16
# Seconds between updates of the progress bar.
LOOK = 0.5


class _Table:
    """The rows of a request's collection, and all that a block needs of the request.

    Parameters
    ----------
    request : Request
    X : Dask collection
    """

    def __init__(self, request: Any, X: Any):
        self.rows, self._cuttable = by_row(request, X)
        self.request = _without_row_data(self._cuttable)
        self._sent = dask.delayed(self.request, pure=False, traverse=False)

    def parts(self, start: int, stop: int) -> tuple[Any, Any]:
        """Return rows from ``start`` to ``stop``, and the same rows of arguments and settings, as delayed objects."""
        arrays, question = dict(self._cuttable.arrays), self._cuttable.question
        return self.rows.between(start, stop), rows_between({"arrays": arrays, "question": question}, start, stop)

    def first(self, work: Callable[[Any, Any], Any], count: int, labels: Any = None) -> Any:
        """Apply a function to the question and a call on the first rows, at once."""
        X, parts = dask.compute(*self.parts(0, count))
        return _work(work, self.request, X, parts, Part(0, self.rows.n_rows, labels))

    def block(self, work: Callable[[Any, Any], Any], start: int, stop: int, n_results: int | None = None) -> Any:
        """Apply a function to the question and a call on a block of rows, delayed."""
        delayed = dask.delayed(_on_block, pure=False, nout=n_results)
        return delayed(work, self._sent, *self.parts(start, stop), Part(start, self.rows.n_rows))

    def blocks(self, work: Callable[[Any, Any], Any], n_results: int | None = None) -> Iterator[tuple[int, Any]]:
        """Yield the length of each block and the delayed result of a function of it."""
        for start, stop in itertools.pairwise(self.rows.bounds()):
            yield stop - start, self.block(work, start, stop, n_results)


def _without_row_data(request: Any) -> Any:
    """Return a request without its rows, which is small enough to be sent with each block."""
    return dataclasses.replace(
        request, arrays=without_rows(dict(request.arrays)), question=without_rows(request.question)
    )


def _work(work: Callable[[Any, Any], Any], request: Any, X: Any, parts: Any, part: Part) -> Any:
    parts = parts or {}
    arrays = with_rows(dict(request.arrays), parts.get("arrays"))
    question = with_rows(request.question, parts.get("question"))
    request = dataclasses.replace(request, arrays=arrays, question=question)
    return work(question, request.read(X, part))


def _on_block(work: Callable[[Any, Any], Any], request: Any, X: Any, parts: Any, part: Part) -> Any:
    """Work on a block; errors tell which rows it has."""
    try:
        return _work(work, request, X, parts, part)
    except ValueError as error:
        last = part.first + len(X) - 1
        error.add_note(f"This was found in the block of the rows {part.first} to {last}, of {part.total} rows of X.")
        raise


def _answer(question: Any, call: Any) -> Any:
    return question.answer(call)


def rows_in_blocks(request: Any, X: Any) -> Any:
    """Answer a question that has an entry for each row, lazily.

    Parameters
    ----------
    request : Request
        Sent once to each worker that takes a block. Arguments and settings that are collections or arrays as long as X
        are cut into the same blocks.
    X : dask array, DataFrame or Series
        Its first row is computed at once, for the types and shapes of the answer.

    Returns
    -------
    dask array, or a tuple or list of them
        With the chunks of X.
    """
    table = _Table(request, X)
    lengths = table.rows.lengths
    first = table.first(_answer, 1)
    several = isinstance(first, tuple | list)
    blocks = list(table.blocks(_answer, len(first) if several else None))
    if not several:
        return _array(blocks, first, lengths)
    return type(first)(
        _array([(length, block[place]) for length, block in blocks], part, lengths) for place, part in enumerate(first)
    )


def draws_in_blocks(request: Any, X: Any) -> xr.DataTree:
    """Return a tree of draws with lazy arrays.

    Parameters
    ----------
    request, X
        As in :func:`rows_in_blocks`; the answer is arrays of shape ``(n_chains, n_draws, ...)`` by site.

    Returns
    -------
    xarray.DataTree
        Its arrays have the chunks of X along their rows; sites without rows come from the first block.
    """
    index = X.index.compute() if hasattr(X, "index") else None
    table = _Table(request, X)
    # Answers for one row and for two tell which dimension is that of rows: its length differs.
    one, two = (table.first(_tree, n) for n in (1, min(2, table.rows.n_rows)))
    blocks = list(table.blocks(_stored_answer))
    lengths = tuple(length for length in table.rows.lengths if length)

    def lazy(name: str, shape: Sequence[int], dtype: np.dtype, axis: int | None) -> da.Array:
        if axis is None:
            return da.from_delayed(blocks[0][1][name], shape, dtype)
        sizes = lambda length: (*shape[:axis], length, *shape[axis + 1 :])  # noqa: E731
        parts = [da.from_delayed(block[name], sizes(length), dtype) for length, block in blocks]
        return da.concatenate(parts, axis).rechunk({axis: lengths})

    return with_more_rows(one, two, table.rows.n_rows, index, lazy)


def _stored_answer(question: Any, call: Any) -> dict[str, np.ndarray]:
    """Return draws by the names that their sites have in trees."""
    return {stored_name(name): array for name, array in question.answer(call).items()}


def _tree(question: Any, call: Any) -> xr.DataTree:
    return question.tree(call)


def draws_to_store(request: Any, X: Any, destination: Any, place: Place) -> xr.DataTree:
    """Stream draws to a Zarr store, batch by batch; each is written by the worker that draws it.

    Parameters
    ----------
    request, X
        As in :func:`rows_in_blocks`. The question opens a store for all rows, and writes a batch of it.
    destination : Destination
        Where draws go and how they are computed.
    place : Folder or Location
        Place of the store.

    Returns
    -------
    xarray.DataTree
        Of the store: the one that the same call on arrays writes.
    """
    table = _Table(request, X)
    index = X.index.compute() if hasattr(X, "index") else None
    store = table.first(lambda question, call: question.open_store(call, destination, place), 1, index)
    write = dask.delayed(_Write(destination, store), pure=False, traverse=False)
    batches = store.plan.batches()
    digests: dict[int, str] = {}
    with _watched(store, len(batches), destination.progress):
        # Batches that are there already are only compared, before any other is written.
        for is_old in (True, False):
            tasks = {
                number: table.block(write, batch.rows.start, batch.rows.stop)
                for number, batch in enumerate(batches)
                if (number in store.written) is is_old
            }
            digests |= zip(tasks, dask.compute(*tasks.values()), strict=True)
    store.finish(digests[batch.number] for batch in batches)
    return open_draws(store.place)


@dataclasses.dataclass(frozen=True)
class _Write:
    """What workers do with a batch of a store."""

    destination: Any
    store: Store

    def __call__(self, question: Any, call: Any) -> str:
        return question.write_batch(call, self.destination, self.store)


def averages_in_blocks(request: Any, X: Any, name: str, contrast: Contrast | None) -> EffectTree:
    """Estimate effects over blocks of rows, and join them to effects over all rows.

    Parameters
    ----------
    request, X
        As in :func:`rows_in_blocks`; the answer is effects that are averages over rows.
    name, contrast
        As in :func:`skaimz.effects.joined`.

    Returns
    -------
    EffectTree
        Computed: it is small.
    """
    parts = [block for _, block in _Table(request, X).blocks(_averages)]
    while len(parts) > 1:
        parts = [_join(parts[start : start + JOINED]) for start in range(0, len(parts), JOINED)]
    (total,) = dask.compute(parts[0])
    if total is None:
        raise NoRowsError("No row is left to average over: `where` or `sample_weight` leaves out all of them.")
    total = joined([total], name, contrast)
    warn_of_unreached(total.attrs.pop("unreached"))
    return total


@contextlib.contextmanager
def _watched(store: Store, n_batches: int, progress: bool) -> Iterator[None]:
    """Show how many batches are written, as the store tells, whichever of Dask's schedulers runs them."""
    done = threading.Event()
    with tqdm(total=n_batches, initial=len(store.written), disable=not progress, unit="batch") as bar:

        def look() -> None:
            while not done.wait(LOOK):
                bar.update(len({*store.written, *store.marked()}) - bar.n)

        watcher = threading.Thread(target=look, name="skaimz-progress", daemon=True)
        if progress:
            watcher.start()
        try:
            yield
            bar.update(n_batches - bar.n)
        finally:
            done.set()
            if progress:
                watcher.join()


def _averages(question: Any, call: Any) -> EffectTree | None:
    try:
        return question.answer(call)
    except NoRowsError:
        return None


@dask.delayed(pure=True)
def _join(parts: Sequence[EffectTree | None]) -> EffectTree | None:
    found = [part for part in parts if part is not None]
    if not found:
        return None
    are_contrasts = all("scenario" in node.data_vars for node in found[0].children.values())
    return joined(found, *(resolve_contrast("difference") if are_contrasts else ("slope", None)))


def _array(blocks: Sequence[tuple[int, Any]], example: np.ndarray, lengths: Sequence[int]) -> da.Array:
    parts = [da.from_delayed(block, (length, *example.shape[1:]), example.dtype) for length, block in blocks]
    return da.concatenate(parts).rechunk({0: tuple(length for length in lengths if length)})
