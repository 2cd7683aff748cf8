"""Equality of kernels by value.

A compiled program is worth sharing between every two kernels that do the same thing: clones, unpickled copies
in worker processes, closures made twice by one factory. Python compares functions by identity, so this module
reduces a kernel to a hashable value that is equal for equal behaviour, and to the numbers in it, which enter
the program as arguments rather than as constants.
"""

import copy
import functools
import hashlib
import types
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

__all__ = ["ByValue", "Kernel", "freeze", "split_kernel"]

Number = bool | int | float | complex


def _is_array(value: object) -> bool:
    return isinstance(value, np.ndarray | np.generic | jax.Array) and not isinstance(value, np.str_ | np.bytes_)


def _is_number(value: object) -> bool:
    if _is_array(value):
        return bool(np.issubdtype(np.asarray(value).dtype, np.number))
    return isinstance(value, int | float) and not isinstance(value, bool)


def has_parameters(value: object) -> bool:
    """Whether ``value`` speaks scikit-learn's parameter protocol."""
    return hasattr(value, "get_params") and hasattr(value, "set_params") and not isinstance(value, type)


def _importable(function: Any) -> bool:
    """Whether a function is the one that its module and name lead to, and so is its own identity."""
    module = getattr(function, "__module__", None)
    return module not in (None, "__main__") and "<" not in function.__qualname__


@dataclass(frozen=True)
class _Same:
    """Equal only to the same object; keeps it alive, so that its ``id`` is not given to another."""

    value: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def freeze(value: Any, _path: tuple[int, ...] = ()) -> Hashable:
    """Return a hashable stand-in for ``value``, equal for values that behave the same.

    Functions that can be imported by name stand for themselves. Other functions (in ``__main__``, in a notebook,
    lambdas, closures) are described by their code, defaults, closure and the globals that they read.
    """
    if value is None or isinstance(value, str | bytes | Number | type | np.dtype | types.ModuleType | types.CodeType):
        return type(value).__name__, value
    if id(value) in _path:
        return "cycle", _path.index(id(value))
    inner = functools.partial(freeze, _path=(*_path, id(value)))
    if _is_array(value):
        array = np.asarray(value)
        return "array", array.shape, array.dtype.str, hashlib.sha256(np.ascontiguousarray(array).data).digest()
    if isinstance(value, tuple | list):
        return type(value).__name__, tuple(map(inner, value))
    if isinstance(value, set | frozenset):
        return type(value).__name__, frozenset(map(inner, value))
    if isinstance(value, Mapping):
        return type(value).__name__, tuple((inner(k), inner(v)) for k, v in value.items())
    if isinstance(value, types.FunctionType):
        if _importable(value):
            return "function", value
        code = value.__code__
        names = sorted(_global_names(code) & value.__globals__.keys())
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        read = {name: value.__globals__[name] for name in names}
        return "code", code, inner(value.__defaults__), inner(value.__kwdefaults__ or {}), inner(cells), inner(read)
    if isinstance(value, types.MethodType):
        return "method", value.__func__, inner(value.__self__)
    if isinstance(value, functools.partial):
        return "partial", inner(value.func), inner(value.args), inner(value.keywords)
    if has_parameters(value):
        return "object", inner(type(value)), inner(value.get_params(deep=False))
    if type(value).__hash__ not in (None, object.__hash__):
        return "hashable", value
    if hasattr(value, "__dict__") and type(value).__module__ != "builtins":
        return "object", type(value), inner(vars(value))
    return _Same(value)


def _global_names(code: types.CodeType) -> set[str]:
    nested = (const for const in code.co_consts if isinstance(const, types.CodeType))
    return set(code.co_names).union(*map(_global_names, nested))


@dataclass(frozen=True)
class ByValue:
    """Any object, made hashable and equal to those that behave the same."""

    key: Hashable
    value: Any = field(compare=False, repr=False)

    @classmethod
    def of(cls, value: Any) -> "ByValue":
        """Freeze any object."""
        return cls(freeze(value), value)


@dataclass(frozen=True)
class Kernel:
    """A kernel without its numbers; equal to every kernel that differs in nothing but those.

    Attributes
    ----------
    key : hashable
        What the kernel does, by value.
    function : callable
        The kernel as the user gave it.
    numbers : tuple of str
        Names of the hyperparameters that are arguments of a compiled program.
    """

    key: Hashable
    function: Callable = field(compare=False, repr=False)
    numbers: tuple[str, ...]

    def bind(self, numbers: Mapping[str, Any]) -> Callable:
        """Return the kernel with its hyperparameters replaced by ``numbers``."""
        if not numbers:
            return self.function
        if isinstance(self.function, functools.partial):
            inner = self.function
            return functools.partial(inner.func, *inner.args, **{**inner.keywords, **numbers})
        return copy.deepcopy(self.function).set_params(**numbers)


def split_kernel(function: Callable, traced: Callable[[Any], bool] = _is_number) -> tuple[Kernel, dict[str, Any]]:
    """Split a kernel into what it does and the numbers it does it with.

    Parameters
    ----------
    function : callable
        A function, a ``functools.partial``, a wrapped function, or an object with ``__call__`` and scikit-learn's
        ``get_params`` and ``set_params``.
    traced : callable, optional
        Which hyperparameter values to take out as numbers.

    Returns
    -------
    kernel : Kernel
    numbers : dict of str to number or array
    """
    if isinstance(function, functools.partial):
        parameters, rest = function.keywords, ("partial", freeze(function.func), freeze(function.args))
    elif has_parameters(function):
        parameters, rest = function.get_params(deep=True), ("object", freeze(type(function)))
    else:
        return Kernel(freeze(function), function, ()), {}
    numbers = {name: value for name, value in sorted(parameters.items()) if traced(value)}
    # A parameter that has parameters of its own is described by those: its numbers must not enter the key.
    static = {
        name: type(value) if has_parameters(value) else value
        for name, value in sorted(parameters.items())
        if name not in numbers
    }
    return Kernel((rest, freeze(static)), function, tuple(numbers)), numbers


def number_policies() -> tuple[Callable[[Any], bool], ...]:
    """Which hyperparameters to try as arguments of the program, from most to fewest.

    A number that decides a shape or a branch cannot be traced. Integers are the likelier ones, so they are given up
    first.
    """
    return (
        _is_number,
        lambda value: _is_number(value) and not np.issubdtype(np.asarray(value).dtype, np.integer),
        lambda value: False,
    )
