"""One lock for all threads that run kernels in Python, and a cache that threads share.

NumPyro keeps its effect handlers on one stack for the whole process. If two threads ran models at the same time, each
would see the sites of the other. Kernels run in Python only while they are traced, so threads take turns there. The
compiler and compiled programs run in parallel.
"""

import functools
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

__all__ = ["one_at_a_time", "shared"]

P = ParamSpec("P")
R = TypeVar("R")

# Avoids deadlocks by an order: a thread that traces a program, and so holds JAX's lock of that program, may wait for
# this lock, but a thread that holds this lock must not call a program that another thread may be tracing.
_HANDLER_LOCK = threading.RLock()


def one_at_a_time(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function that enters NumPyro's handlers, or that JAX traces, run in one thread at a time."""

    @functools.wraps(function)
    def alone(*args: P.args, **kwargs: P.kwargs) -> R:
        with _HANDLER_LOCK:
            return function(*args, **kwargs)

    return alone


def shared(maxsize: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Cache like ``functools.lru_cache``, but compute each result once even if several threads need it at once.

    It is meant for functions that create programs, since each of two equal programs would be compiled. A lock is held
    while the function runs, so it must be fast. It must not trace either: tracing waits for the lock of the handlers,
    whose holder may wait for this one.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        cached = functools.lru_cache(maxsize)(function)
        lock = threading.Lock()

        @functools.wraps(function)
        def look_up(*args: P.args, **kwargs: P.kwargs) -> R:
            with lock:
                return cached(*args, **kwargs)  # type: ignore[arg-type]

        vars(look_up).update(cache_info=cached.cache_info, cache_clear=cached.cache_clear)
        return look_up

    return decorate
