"""Rows of Dask collections: an estimator's methods block by block, wherever Dask runs them.

Blocks end where tiles of the sampling core end, whose random numbers follow from their place among all rows. So what is
found is that of one call on one machine, however the rows are chunked and whichever worker takes a block.
"""

import contextlib
import copy
import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr
from tqdm.auto import tqdm

from skaimz.dask.arguments import between, by_row
from skaimz.dask.rows import Rows
from skaimz.datatree import open_draws, with_more_rows
from skaimz.effects import Contrast, EffectTree, joined, resolve_contrast, warn_of_unreached
from skaimz.exceptions import NoRowsError
from skaimz.sampling import Part, Store

__all__ = ["averages_in_blocks", "draws_in_blocks", "draws_to_store", "rows_in_blocks"]

# Parts that are joined at a time.
JOINED = 16
# Seconds between two looks at what is written.
LOOK = 0.5


def rows_in_blocks(estimator: Any, method: str, X: Any, arguments: Mapping[str, Any]) -> Any:
    """Call a method that returns something for each row on blocks of rows, lazily.

    Parameters
    ----------
    estimator : NumPyroImpactRegressor or NumPyroImpactClassifier
        Sent once to each worker that takes a block.
    method : str
        Returns an array with the rows first, or several.
    X : dask array, DataFrame or Series
        Its first row is computed at once, for the types and shapes of what is returned.
    arguments : dict
        What in it is a collection or an array, and as long as X, is cut into the same blocks.

    Returns
    -------
    dask array, or a tuple or list of them
        With the chunks of X.
    """
    rows, estimator, arguments = by_row(estimator, method, X, arguments)
    first = _first(estimator, method, rows, arguments, 1)
    several = isinstance(first, tuple | list)
    blocks = list(_blocks(estimator, _call_on_block, method, rows, arguments, len(first) if several else None))
    if not several:
        return _array(blocks, first, rows.lengths)
    return type(first)(
        _array([(length, block[i]) for length, block in blocks], part, rows.lengths) for i, part in enumerate(first)
    )


def draws_in_blocks(estimator: Any, method: str, X: Any, arguments: Mapping[str, Any]) -> xr.DataTree:
    """Call a method that returns a tree of draws on blocks of rows, lazily.

    Parameters
    ----------
    estimator, X, arguments
        As in :func:`rows_in_blocks`.
    method : str
        Takes ``return_datatree``, without which it returns arrays of shape ``(n_chains, n_draws, ...)`` by site.

    Returns
    -------
    xarray.DataTree
        With lazy arrays that have the chunks of X along their rows; sites without rows come from the first block.
    """
    index = X.index.compute() if hasattr(X, "index") else None
    rows, estimator, arguments = by_row(estimator, method, X, arguments)
    # Two numbers of rows tell which dimension they are.
    one, two = (_first(estimator, method, rows, arguments, n) for n in (1, min(2, rows.n_rows)))
    blocks = list(_blocks(estimator, _call_on_block, method, rows, {**arguments, "return_datatree": False}))
    lengths = tuple(length for length in rows.lengths if length)

    def lazy(name: str, shape: Sequence[int], dtype: np.dtype, axis: int | None) -> da.Array:
        if axis is None:
            return da.from_delayed(blocks[0][1][name], shape, dtype)
        sizes = lambda length: (*shape[:axis], length, *shape[axis + 1 :])  # noqa: E731
        parts = [da.from_delayed(block[name], sizes(length), dtype) for length, block in blocks]
        return da.concatenate(parts, axis).rechunk({axis: lengths})

    return with_more_rows(one, two, rows.n_rows, index, lazy)


def draws_to_store(
    estimator: Any, method: str, X: Any, arguments: Mapping[str, Any], destination: Mapping[str, Any]
) -> xr.DataTree:
    """Call a method that streams draws to a Zarr store, batch by batch; each is written by the worker that draws it.

    Parameters
    ----------
    estimator, X, arguments
        As in :func:`rows_in_blocks`.
    method : str
        Opens a store for all rows where it is given the first of them, and writes a batch of it where it is given the
        store and the batch's rows; it then returns the digest of these.
    destination : dict
        Arguments of the method that say where draws go and how they are computed.

    Returns
    -------
    xarray.DataTree
        Of the store: the one that the same call on arrays writes.
    """
    rows, estimator, arguments = by_row(estimator, method, X, arguments)
    index = X.index.compute() if hasattr(X, "index") else None
    one, here = dask.compute(rows.between(0, 1), between(arguments, 0, 1))
    store = _call(estimator, method, one, {**here, **destination}, Part(0, rows.n_rows, index))
    given = {**arguments, "shard_axis": destination["shard_axis"], "store": dask.delayed(store, traverse=False)}
    sent = dask.delayed(estimator, pure=False, traverse=False)
    batches = store.plan.batches()
    digests: dict[int, str] = {}
    with _watched(store, len(batches), destination["progress"]):
        # Nothing is written before all that is there has been compared.
        for is_old in (True, False):
            tasks = {}
            for number, (start, stop) in enumerate((batch.rows.start, batch.rows.stop) for batch in batches):
                if (number in store.written) is is_old:
                    part, here = rows.between(start, stop), between(given, start, stop)
                    tasks[number] = _write(sent, method, part, here, Part(start, rows.n_rows))
            digests |= zip(tasks, dask.compute(*tasks.values()), strict=True)
    store.finish(digests[batch.number] for batch in batches)
    return open_draws(store.path)


def averages_in_blocks(
    estimator: Any, method: str, X: Any, arguments: Mapping[str, Any], name: str, contrast: Contrast | None
) -> EffectTree:
    """Estimate effects over blocks of rows, and join them to effects over all rows.

    Parameters
    ----------
    estimator, X, arguments
        As in :func:`rows_in_blocks`.
    method : str
        Returns effects that are averages over rows.
    name, contrast
        As in :func:`skaimz.effects.joined`.

    Returns
    -------
    EffectTree
        Computed: it is small.
    """
    rows, estimator, arguments = by_row(estimator, method, X, arguments)
    parts = [block for _, block in _blocks(estimator, _averages, method, rows, arguments)]
    while len(parts) > 1:
        parts = [_join(parts[start : start + JOINED]) for start in range(0, len(parts), JOINED)]
    (found,) = dask.compute(parts[0])
    if found is None:
        raise NoRowsError("No row is left to average over: `where` or `sample_weight` leaves out all of them.")
    found = joined([found], name, contrast)
    warn_of_unreached(found.attrs.pop("unreached"))
    return found


def _blocks(
    estimator: Any, call: Callable[..., Any], method: str, rows: Rows, arguments: Any, n_results: int | None = None
) -> Iterator[tuple[int, Any]]:
    """Yield the length of each block and what is found for it, delayed."""
    sent = dask.delayed(estimator, pure=False, traverse=False)
    delayed = dask.delayed(call, pure=False, nout=n_results)
    bounds = rows.bounds()
    for start, stop in itertools.pairwise(bounds):
        part = Part(start, rows.n_rows)
        yield stop - start, delayed(sent, method, rows.between(start, stop), between(arguments, start, stop), part)


def _call(estimator: Any, method: str, X: Any, arguments: Mapping[str, Any], part: Part) -> Any:
    """Call a method on rows, which get the random numbers of their place."""
    here = copy.copy(estimator)
    here._part = part
    return getattr(here, method)(X, **arguments)


def _call_on_block(estimator: Any, method: str, X: Any, arguments: Mapping[str, Any], part: Part) -> Any:
    """Call a method on a block; errors tell which rows it has."""
    try:
        return _call(estimator, method, X, arguments, part)
    except ValueError as error:
        last = part.first + len(X) - 1
        error.add_note(f"This was found in the block of the rows {part.first} to {last}, of {part.total} rows of X.")
        raise


def _first(estimator: Any, method: str, rows: Rows, arguments: Any, count: int) -> Any:
    """Call a method on the first rows, at once."""
    X, here = dask.compute(rows.between(0, count), between(arguments, 0, count))
    return _call(estimator, method, X, here, Part(0, rows.n_rows))


_write = dask.delayed(_call_on_block, pure=False)


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


def _averages(*given: Any) -> EffectTree | None:
    try:
        return _call_on_block(*given)
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
