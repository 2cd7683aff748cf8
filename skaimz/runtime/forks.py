"""Refusal to run in a process that was forked after JAX had started.

A forked process lacks the threads of JAX, and a computation would wait for them forever. The package imports this
module before modules that start threads, because the number of threads may be the only sign of a fork.
"""

import os
import sys
import threading
from pathlib import Path

__all__ = ["refuse_fork"]

# The process that this one was forked from, if JAX had started there.
_forked_from: int | None = None
# Whether this package has used JAX in this process.
_in_use = False


def refuse_fork() -> None:
    """Raise RuntimeError in a process that was forked from one in which JAX had started."""
    global _in_use
    _in_use = True
    if _forked_from is not None:
        raise RuntimeError(
            f"This process ({os.getpid()}) was forked from one ({_forked_from}) in which JAX has threads, and would "
            "wait for them forever. Use joblib's backend 'loky' or 'threading', or start processes with the method "
            "'spawn' (for joblib's backend 'multiprocessing', set JOBLIB_START_METHOD=spawn in the environment)."
        )


def _note_fork() -> None:
    """Remember the parent of a process that has just been forked, if JAX had started there."""
    global _forked_from
    if _in_use or _jax_has_started():
        _forked_from = os.getppid()


def _jax_has_started() -> bool:
    # JAX starts when devices or arrays are first used. It has no public function that tells whether it has started.
    bridge = sys.modules.get("jax._src.xla_bridge")
    return bool(getattr(bridge, "backends_are_initialized", bool)())


def _has_lost_threads() -> bool:
    """Whether Python started all threads of this process. A process in which JAX itself started has other threads."""
    tasks = Path("/proc/self/task")
    return tasks.exists() and len(list(tasks.iterdir())) <= threading.active_count()


if hasattr(os, "register_at_fork"):  # not on Windows, where no process is forked
    os.register_at_fork(after_in_child=_note_fork)
    # This process may have been forked before it imported this package.
    if _has_lost_threads():
        _note_fork()
