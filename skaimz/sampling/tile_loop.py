"""The one loop over tiles: steps are launched ahead, finished on threads, and batches closed in order."""

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import joblib
import numpy as np

from skaimz.sampling.plan import Batch, Plan, Step

__all__ = ["run_steps", "to_place"]

# Steps under way: enough for the device to have work while results are brought home, few enough to stop at once.
AHEAD = 3
# Cores that this process may use, which on a cluster are fewer than there are.
WORKERS = min(8, joblib.cpu_count())


def run_steps(
    plan: Plan,
    batches: Iterable[Batch],
    launch: Callable[[Step], Any],
    finish: Callable[[Any, Batch, Step, Any], Any],
    *,
    start: Callable[[Batch], Any] = lambda _: None,
    end: Callable[[Batch, Any], None] = lambda *_: None,
    take: Callable[[Any], None] = lambda _: None,
) -> None:
    """Compute batches.

    Parameters
    ----------
    plan : Plan
    batches : iterable of Batch
    launch : callable
        Starts a step on the device and does not wait for it.
    finish : callable
        Waits for a step on a thread and does what the host has to do, given what ``start`` gave for the batch, the
        batch, the step and what ``launch`` gave.
    start, end : callable
        Open and close a batch, in order.
    take : callable
        Takes what ``finish`` returned, in order.
    """
    under_way: deque[tuple[Batch, Any, Future | None]] = deque()

    def settle(most: int) -> None:
        while len(under_way) > most:
            batch, place, future = under_way.popleft()
            if future is None:
                end(batch, place)
            else:
                take(future.result())

    with ThreadPoolExecutor(WORKERS, thread_name_prefix="skaimz") as pool:
        try:
            for batch in batches:
                place = start(batch)
                for step in plan.steps(batch):
                    under_way.append((batch, place, pool.submit(finish, place, batch, step, launch(step))))
                    settle(AHEAD)
                under_way.append((batch, place, None))
            settle(0)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            # An error that is kept keeps this function, too.
            under_way.clear()


def to_place(target: np.ndarray, piece: np.ndarray, batch: Batch, step: Step, row_axis: int | None) -> None:
    """Copy a step's rows to their place among those of a batch; padding is left out."""
    if row_axis is None:
        target[...] = piece
        return
    start, length = step.rows.start - batch.rows.start, step.rows.stop - step.rows.start
    before = (slice(None),) * row_axis
    target[(*before, slice(start, start + length))] = piece[(*before, slice(0, length))]
