"""The one loop over tiles: steps are launched ahead and finished on threads, and batches are closed in order."""

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from skaimz.sampling.plan import Batch, Plan, Step

__all__ = ["Sink", "run_steps", "to_place"]


class Sink(Protocol):
    """Where batches go."""

    def open(self, batch: Batch) -> Any:
        """Return what the steps of a batch are to fill."""

    def close(self, batch: Batch, target: Any) -> None:
        """Take a batch that all of its steps have filled."""


def run_steps(
    plan: Plan,
    batches: Iterable[Batch],
    launch: Callable[[Step], Any],
    finish: Callable[[Any, Batch, Step, Any], Any],
    *,
    sink: Sink | None = None,
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
        Runs on a thread, waits for a step and does the host's work. It is passed what ``sink`` has opened for the batch
        (None without a sink), the batch, the step, and what ``launch`` returned.
    sink : Sink, optional
        Opens and closes batches, in order.
    take : callable
        Takes what ``finish`` returned, in order.
    """
    under_way: deque[tuple[Batch, Any, Future | None]] = deque()

    def settle(most: int) -> None:
        while len(under_way) > most:
            batch, target, future = under_way.popleft()
            if future is not None:
                take(future.result())
            elif sink is not None:
                sink.close(batch, target)

    with ThreadPoolExecutor(plan.limits.workers, thread_name_prefix="skaimz") as pool:
        try:
            for batch in batches:
                target = None if sink is None else sink.open(batch)
                for step in plan.steps(batch):
                    under_way.append((batch, target, pool.submit(finish, target, batch, step, launch(step))))
                    settle(plan.limits.steps_ahead)
                under_way.append((batch, target, None))
            settle(0)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            # A stored error keeps the variables of this function alive.
            under_way.clear()


def to_place(target: np.ndarray, results: np.ndarray, batch: Batch, step: Step, row_axis: int | None) -> None:
    """Copy a step's rows to their place among those of a batch, without the padding."""
    if row_axis is None:
        target[...] = results
        return
    start, length = step.rows.start - batch.rows.start, step.rows.stop - step.rows.start
    before = (slice(None),) * row_axis
    target[(*before, slice(start, start + length))] = results[(*before, slice(0, length))]
