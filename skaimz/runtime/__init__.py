"""How the package uses JAX: compiled programs, one lock for tracing, forked processes and random keys."""

from skaimz.runtime.forks import refuse_fork  # isort: skip  (before JAX, which starts threads)

from skaimz.runtime import constants  # noqa: F401  (corrects a cache of JAX)
from skaimz.runtime.compiled import compiled
from skaimz.runtime.generator import fused_key
from skaimz.runtime.keys import Purpose, generator_of, key_of
from skaimz.runtime.threads import one_at_a_time, shared

__all__ = ["Purpose", "compiled", "fused_key", "generator_of", "key_of", "one_at_a_time", "refuse_fork", "shared"]
