"""Equality of kernels by value.

A compiled program is worth sharing between every two kernels that do the same thing: clones, unpickled copies
in worker processes, closures made twice by one factory. Python compares functions by identity, so this module
reduces a kernel to a hashable value that is equal for equal behaviour, and to the numbers in it, which enter
the program as arguments rather than as constants.
"""

import copy
import functools
import hashlib
import inspect
import pickle
import sys
import types
import weakref
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

__all__ = ["ByValue", "Kernel", "freeze", "has_parameters", "split_kernel"]


def _is_array(value: object) -> bool:
    # Subclasses of NumPy's array know more than their numbers.
    plain = type(value) in (np.ndarray, np.memmap) or isinstance(value, np.generic | jax.Array)
    return plain and not isinstance(value, np.str_ | np.bytes_)


def _is_number(value: object) -> bool:
    if _is_array(value):
        return bool(np.issubdtype(np.asarray(value).dtype, np.number))
    return isinstance(value, int | float) and not isinstance(value, bool)


def has_parameters(value: object) -> bool:
    """Whether ``value`` speaks scikit-learn's parameter protocol, rather than having methods of the same names."""
    if isinstance(value, type) or not (hasattr(value, "get_params") and hasattr(value, "set_params")):
        return False
    try:
        inspect.signature(value.get_params).bind(deep=False)
    except (TypeError, ValueError):
        return False
    return True


def _importable(value: Any) -> bool:
    """Whether a function or class is what its module and name lead to, and so is its own identity."""
    found = sys.modules.get(value.__module__) if value.__module__ != "__main__" else None
    for name in value.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is value


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
    if isinstance(value, float | complex):
        return type(value).__name__, repr(value)  # tells apart what compares equal: 0.0 and -0.0
    if value is None or isinstance(value, str | bytes | bool | int | np.dtype | types.ModuleType | types.CodeType):
        return type(value).__name__, value
    if id(value) in _path:
        return "cycle", _path.index(id(value))
    inner = functools.partial(freeze, _path=(*_path, id(value)))
    if isinstance(value, type):
        return _freeze_class(value, inner)
    if _is_array(value):
        return _freeze_array(value, inner)
    if isinstance(value, tuple | list):
        return inner(type(value)), tuple(map(inner, value))
    if isinstance(value, set | frozenset):
        return inner(type(value)), frozenset(map(inner, value))
    if isinstance(value, Mapping):
        return inner(type(value)), tuple((inner(k), inner(v)) for k, v in value.items())
    if isinstance(value, property):
        return "property", inner(value.fget)
    if isinstance(value, staticmethod | classmethod):
        return type(value).__name__, inner(value.__func__)
    if isinstance(value, types.FunctionType):
        return _freeze_function(value, inner)
    if isinstance(value, types.MethodType):
        return "method", inner(value.__func__), inner(value.__self__)
    if isinstance(value, functools.partial):
        return "partial", inner(value.func), inner(value.args), inner(value.keywords)
    if has_parameters(value):
        return "object", inner(type(value)), inner(value.get_params(deep=False))
    return _freeze_object(value, inner)


def _freeze_class(value: type, inner: Callable) -> Hashable:
    if _importable(value):
        return "class", value
    # Whatever its methods do, by what they read; names that Python itself sets say nothing about that.
    body = {name: part for name, part in vars(value).items() if not name.startswith("__") or callable(part)}
    return "class", value.__qualname__, inner(value.__bases__), inner(body)


def _freeze_array(value: Any, inner: Callable) -> Hashable:
    if isinstance(value, jax.Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        return "key", str(value.dtype), inner(jax.random.key_data(value))
    array = np.asarray(value)
    if array.dtype.hasobject:
        return "array", array.shape, inner(array.ravel().tolist())
    return (
        np.ndarray if isinstance(value, np.ndarray) else type(value),
        getattr(value, "weak_type", False),
        array.shape,
        str(array.dtype),
        hashlib.sha256(array.tobytes()).digest(),
    )


def _freeze_function(value: types.FunctionType, inner: Callable) -> Hashable:
    if _importable(value):
        return "function", value, inner(vars(value))
    code = value.__code__
    names = sorted(_global_names(code) & value.__globals__.keys())
    read = {name: value.__globals__[name] for name in names}
    cells = [_contents(cell) for cell in value.__closure__ or ()]
    return "code", code, *map(inner, (value.__defaults__, value.__kwdefaults__ or {}, cells, read, vars(value)))


def _contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return "a name that is not bound yet"


def _freeze_object(value: Any, inner: Callable) -> Hashable:
    leaves, structure = jax.tree.flatten(value)
    if not (len(leaves) == 1 and leaves[0] is value) and _is_hashable(structure):
        return "pytree", inner(type(value)), structure, inner(leaves)
    if isinstance(value, weakref.ref):
        return ("weak reference",)
    if hasattr(value, "__array__"):  # a data frame, or the like
        return "frame", type(value), hashlib.sha256(pickle.dumps(value)).digest()
    if type(value).__hash__ is not object.__hash__ and _is_hashable(value):
        return "hashable", inner(type(value)), value
    slots = {name for base in type(value).__mro__ for name in np.atleast_1d(vars(base).get("__slots__", ())).tolist()}
    state = {name: getattr(value, name) for name in sorted(slots - {"__dict__", "__weakref__"}) if hasattr(value, name)}
    if (state or hasattr(value, "__dict__")) and type(value).__module__ != "builtins":
        return "object", inner(type(value)), inner(state | getattr(value, "__dict__", {}))
    return _Same(value)


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


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
    hyperparameters : tuple of str
        Names of the hyperparameters that are arguments of a compiled program.
    """

    key: Hashable
    function: Callable = field(compare=False, repr=False)
    hyperparameters: tuple[str, ...]

    def bind(self, hyperparameters: Mapping[str, Any]) -> Callable:
        """Return the kernel with its hyperparameters replaced by ``hyperparameters``."""
        if not hyperparameters:
            return self.function
        if isinstance(self.function, functools.partial):
            inner = self.function
            return functools.partial(inner.func, *inner.args, **{**inner.keywords, **hyperparameters})
        bound: Any = copy.deepcopy(self.function)
        return bound.set_params(**hyperparameters)


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
    hyperparameters : dict of str to number or array
    """
    whole: Any = function
    rest: Hashable
    listed: set[str] = set()
    if isinstance(function, functools.partial):
        parameters, rest = function.keywords, ("partial", freeze(function.func), freeze(function.args))
    elif has_parameters(function):
        parameters, rest = whole.get_params(deep=True), ("object", freeze(type(function)))
        # An object whose own parameters are listed too is described by those: its numbers must not enter the key.
        listed = {name.partition("__")[0] for name in parameters if "__" in name}
    else:
        return Kernel(freeze(function), function, ()), {}
    hyperparameters = {name: value for name, value in sorted(parameters.items()) if traced(value)}
    static = {
        name: type(value) if name in listed and has_parameters(value) else value
        for name, value in sorted(parameters.items())
        if name not in hyperparameters
    }
    return Kernel((rest, freeze(static)), function, tuple(hyperparameters)), hyperparameters


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
