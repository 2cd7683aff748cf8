"""Chunks of steps, between which Python can show progress, call back, stop and be interrupted."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tqdm.auto import tqdm

from skaimz.inference.checkpoint import Checkpoint

__all__ = ["CHUNK_STEPS", "Progress", "Watch", "run_in_chunks"]

CHUNK_STEPS = 1024
CHUNK_SECONDS = 0.25


class Progress(NamedTuple):
    """Progress of a fit, as passed to its ``callback``.

    Attributes
    ----------
    phase : str
        ``"SVI"``, ``"MCMC warm-up"`` or ``"MCMC"``.
    done, total : int
        Steps, of all chains together.
    loss : float or None
        Loss of the last step of a variational fit.
    divergences : int or None
        Steps of Markov chains that diverged after adaptation.
    """

    phase: str
    done: int
    total: int
    loss: float | None = None
    divergences: int | None = None


class Watch:
    """Progress bar, callback, time budget and checkpoint of a fit.

    Parameters
    ----------
    verbose : int, default=0
        Show a progress bar where positive.
    callback : callable, optional
        Called with a :class:`Progress` after each chunk; the fit stops if it returns True.
    time_budget : float, optional
        Seconds, from now on, after which the fit stops.
    checkpoint : Checkpoint, optional
        Where the fit saves its state.
    """

    def __init__(
        self,
        verbose: int = 0,
        callback: Callable[[Progress], Any] | None = None,
        time_budget: float | None = None,
        checkpoint: Checkpoint | None = None,
    ):
        self.verbose = verbose
        self.checkpoint = checkpoint or Checkpoint()
        self.callback = callback
        self.stopped = ""
        self._deadline = None if time_budget is None else time.monotonic() + time_budget
        self._lock = threading.RLock()

    @contextlib.contextmanager
    def phase(self, name: str, total: int) -> Iterator["Phase"]:
        """Begin a phase with a number of steps, which several threads may take."""
        with tqdm(total=total, desc=name, disable=not self.verbose) as bar:
            yield Phase(self, name, total, bar)

    def stop(self, reason: str) -> None:
        """Let the fit stop after the current chunks, and note the first reason."""
        self.stopped = self.stopped or reason

    def check(self, progress: Progress) -> None:
        """Pass progress to the callback, and stop the fit if the callback or the time budget says so."""
        if self.callback is not None and self.callback(progress) is True:
            self.stop("the callback returned True")
        if self._deadline is not None and time.monotonic() > self._deadline:
            self.stop("the time budget was spent")


class Phase:
    """Steps of one kind, counted over all threads that take them."""

    def __init__(self, watch: Watch, name: str, total: int, bar: Any):
        self.watch, self.name, self.total, self._bar = watch, name, total, bar
        self.done = 0
        self._divergences: dict[int, int] = {}

    def skip(self, count: int) -> None:
        """Count steps that were taken before."""
        with self.watch._lock:
            self.done += count
            self._bar.update(count)

    def advance(self, count: int, loss: float | None = None, divergences: tuple[int, int] | None = None) -> None:
        """Count steps; ``divergences`` are a chain's number and how many of its steps have diverged."""
        with self.watch._lock:
            self.done += count
            self._bar.update(count)
            diverged = None
            if divergences is not None:
                self._divergences[divergences[0]] = divergences[1]
                diverged = sum(self._divergences.values())
            shown = f"loss {loss:.4g}" if loss is not None else "" if diverged is None else f"{diverged} divergences"
            self._bar.set_postfix_str(shown, refresh=False)
            self.watch.check(Progress(self.name, self.done, self.total, loss, diverged))


def run_in_chunks(
    step: Callable[[int, int], Any], total: int, *, watch: Watch | None = None, first: int = 256, done: int = 0
) -> int:
    """Call ``step(start, count)`` until ``total`` steps are done, a fraction of a second for each call.

    The lengths of chunks follow the clock, so a step must not depend on its chunk. ``step`` must wait for its result.

    Parameters
    ----------
    step : callable
    total : int
    watch : Watch, optional
        Ends the work after the chunk in which it is stopped.
    first : int, default=256
        Length of the first chunk.
    done : int, default=0
        Steps that were taken before.

    Returns
    -------
    int
        Number of steps that are done.
    """
    count = first
    while done < total and not (watch is not None and watch.stopped):
        count = min(count, total - done)
        start = time.perf_counter()
        step(done, count)
        elapsed = max(time.perf_counter() - start, 1e-9)
        done += count
        # The first chunk may have waited for the compiler: grow back fast.
        count = min(CHUNK_STEPS, 8 * count, max(1, round(count * CHUNK_SECONDS / elapsed)))
    return done
