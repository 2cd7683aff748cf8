"""Several threads at once.

NumPyro's effect handlers are one stack for the whole process: of two threads that run models side by side, each would
see the sites of the other. But kernels run in Python only while they are traced, so that is where threads take turns;
compiled programs, and the compiler, run side by side.
"""

import functools
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

__all__ = ["one_at_a_time", "shared"]

P = ParamSpec("P")
R = TypeVar("R")

# A thread may wait for this lock while others wait, inside JAX, for what it traces. The other way round must not be:
# who holds the lock calls no program that another thread may be tracing. So no two threads wait for each other.
_HANDLERS = threading.RLock()


def one_at_a_time(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function that enters NumPyro's handlers, or what JAX traces of it, run in one thread at a time."""

    @functools.wraps(function)
    def alone(*args: P.args, **kwargs: P.kwargs) -> R:
        with _HANDLERS:
            return function(*args, **kwargs)

    return alone


def shared(maxsize: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Cache as ``functools.lru_cache`` does, but give threads that ask at once one answer, and not one each.

    For functions that make programs, each of which would be compiled. They must be quick, and trace nothing.
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
