"""Digests that are the same in every process."""

import hashlib
import re
import types
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import numpy as np

from skaimz.kernels.identity import freeze

__all__ = ["digest"]

ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def digest(value: Any) -> str:
    """Return a hexadecimal digest, which is equal for values that behave the same, also in another process.

    The digest of a function depends on its code and on the functions of its own module that it calls.

    Parameters
    ----------
    value : object

    Returns
    -------
    str
    """
    sha = hashlib.sha256()
    for word in _words(freeze(value), ()):
        sha.update(_encoded(word) + b"\0")
    return sha.hexdigest()


def _words(value: Any, path: tuple[int, ...]) -> Iterator[str | bytes]:
    """Yield the parts of a frozen value in a fixed order."""
    if id(value) in path:
        yield f"cycle {path.index(id(value))}"
        return
    path = (*path, id(value))
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, tuple | list):
        yield f"{len(value)} items"
        for item in value:
            yield from _words(item, path)
    elif isinstance(value, frozenset | set):
        yield from sorted(b"".join(_encoded(word) for word in _words(item, path)) for item in value)
    elif isinstance(value, Mapping):
        yield f"{len(value)} pairs"
        for key in sorted(value, key=str):
            yield str(key)
            yield from _words(value[key], path)
    elif isinstance(value, types.CodeType):
        yield from _of_code(value, path)
    elif isinstance(value, types.FunctionType):
        yield from _of_function(value, path)
    elif isinstance(value, type):
        yield value.__qualname__
        for name, part in sorted(vars(value).items()):
            if isinstance(part, types.FunctionType):
                yield name
                yield from _of_code(part.__code__, path)
    elif isinstance(value, types.ModuleType):
        yield value.__name__
    elif isinstance(value, np.ndarray | np.generic):
        yield f"{value.dtype} {value.shape}"
        yield value.tobytes()
    else:
        yield ADDRESS.sub("", repr(value))


def _encoded(word: str | bytes) -> bytes:
    return word.encode() if isinstance(word, str) else word


def _of_function(function: types.FunctionType, path: tuple[int, ...]) -> Iterator[str | bytes]:
    yield from _of_code(function.__code__, path)
    yield from _words(_defaults(function), path)
    for name in sorted(_names(function.__code__) & function.__globals__.keys()):
        called = function.__globals__[name]
        if isinstance(called, types.FunctionType) and called.__module__ == function.__module__:
            yield name
            yield from _words(called, path)


def _defaults(function: types.FunctionType) -> Hashable:
    return freeze((function.__defaults__, function.__kwdefaults__))


def _of_code(code: types.CodeType, path: tuple[int, ...]) -> Iterator[str | bytes]:
    yield code.co_code
    yield " ".join((*code.co_names, *code.co_varnames, *code.co_freevars))
    yield from _words(code.co_consts, path)


def _names(code: types.CodeType) -> set[str]:
    nested = (const for const in code.co_consts if isinstance(const, types.CodeType))
    return set(code.co_names).union(*map(_names, nested))
