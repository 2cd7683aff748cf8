"""Equality of kernels by value.

Kernels that do the same thing share a compiled program: clones, unpickled copies in worker processes, closures that one
factory made twice. Python compares functions by identity, so this module reduces a kernel to a hashable value, which is
equal for kernels that behave the same, and to the numbers in it, which become arguments of the program.
"""

import copy
import functools
import hashlib
import inspect
import pickle
import sys
import types
import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import jax
import numpy as np

__all__ = ["ByValue", "Kernel", "freeze", "has_parameters", "split_kernel", "splits"]


def _is_array(value: object) -> bool:
    # A subclass of NumPy's array may have attributes that matter as well.
    plain = type(value) in (np.ndarray, np.memmap) or isinstance(value, np.generic | jax.Array)
    return plain and not isinstance(value, np.str_ | np.bytes_)


def _is_number(value: object) -> bool:
    if _is_array(value):
        return bool(np.issubdtype(np.asarray(value).dtype, np.number))
    return isinstance(value, int | float) and not isinstance(value, bool)


def has_parameters(value: object) -> bool:
    """Whether ``value`` has the methods ``get_params`` and ``set_params``, with the signatures of scikit-learn."""
    if isinstance(value, type) or not (hasattr(value, "get_params") and hasattr(value, "set_params")):
        return False
    try:
        inspect.signature(value.get_params).bind(deep=False)
    except (TypeError, ValueError):
        return False
    return True


def _importable(value: Any) -> bool:
    """Whether importing the module and name of a function or class gives that very object, or JAX's wrapper of it."""
    named: Any = sys.modules.get(value.__module__) if value.__module__ != "__main__" else None
    for name in value.__qualname__.split("."):
        named = getattr(named, name, None)
    return named is value or _function_in(named) is value


def _function_in(value: Any) -> Any:
    """Return the function that JAX's compiled functions and functions with derivatives of their own are made of."""
    while isinstance(value, jax.custom_jvp | jax.custom_vjp) or type(value).__name__ == "PjitFunction":
        # A copy of a compiled function has this state, but not the attribute `__wrapped__`.
        value = value.__reduce_ex__(4)[2]["fun"] if type(value).__name__ == "PjitFunction" else value.fun
    return value


@dataclass(frozen=True)
class _Same:
    """Equal only to the same object, which it keeps alive so that no other object gets its ``id``."""

    value: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def freeze(value: Any, _path: tuple[int, ...] = ()) -> Hashable:
    """Return a hashable substitute for ``value``, which is equal for values that behave the same.

    A function that can be imported by name is its own substitute. Any other function (in ``__main__``, in a notebook, a
    lambda, a closure) is described by its code, its defaults, its closure and the globals that it reads.
    """
    if isinstance(value, float | complex):
        return type(value).__name__, repr(value)  # 0.0 and -0.0 compare equal, but behave differently
    if value is None or isinstance(value, str | bytes | bool | int | np.dtype | types.ModuleType | types.CodeType):
        return type(value).__name__, value
    # A copy of JAX's wrapper of a function is another object, while the function still refers to the original.
    function = _function_in(value)
    mark = id(value) if function is value else -id(function)
    if mark in _path:
        return "cycle", _path.index(mark)
    inner = functools.partial(freeze, _path=(*_path, mark))
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
    # Attributes that Python itself sets, such as `__module__`, do not matter, but special methods do.
    body = {name: part for name, part in vars(value).items() if not name.startswith("__") or callable(part)}
    body.pop("_abc_impl", None)
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
        return "a name that is not bound yet"  # such as a function that is defined after the kernel


def _freeze_object(value: Any, inner: Callable) -> Hashable:
    leaves, structure = jax.tree.flatten(value)
    if not (len(leaves) == 1 and leaves[0] is value):
        return "pytree", inner(type(value)), _freeze_structure(structure, inner), inner(leaves)
    function = _function_in(value)
    if function is not value:
        rules = vars(value) if isinstance(value, jax.custom_jvp | jax.custom_vjp) else {}
        rules = {name: rule for name, rule in rules.items() if isinstance(rule, types.FunctionType)}
        return "wrapped", type(value).__name__, inner(function), inner(rules)
    if _is_value(type(value)):
        compared = {each.name: getattr(value, each.name) for each in fields(value) if each.compare}
        return "dataclass", inner(type(value)), inner(compared)
    if isinstance(value, weakref.ref):
        return ("weak reference",)
    if hasattr(value, "__array__"):  # such as a data frame
        return "frame", type(value), hashlib.sha256(pickle.dumps(value)).digest()
    if type(value).__hash__ is not object.__hash__ and _is_hashable(value):
        return "hashable", inner(type(value)), value
    slots = {name for base in type(value).__mro__ for name in np.atleast_1d(vars(base).get("__slots__", ())).tolist()}
    state = {name: getattr(value, name) for name in sorted(slots - {"__dict__", "__weakref__"}) if hasattr(value, name)}
    if (state or hasattr(value, "__dict__")) and type(value).__module__ != "builtins":
        return "object", inner(type(value)), inner(state | getattr(value, "__dict__", {}))
    return _Same(value)


def _freeze_structure(structure: Any, inner: Callable) -> Hashable:
    """Freeze the structure of a tree, whose nodes may hold anything, such as the activation functions of a network."""
    node = structure.node_data()
    children = tuple(_freeze_structure(child, inner) for child in structure.children())
    return None if node is None else (inner(node[0]), inner(node[1]), children)


def _is_value(kind: type) -> bool:
    """Whether objects of a class are equal and hashed by their fields, such as modules of flax.linen."""
    parameters = getattr(kind, "__dataclass_params__", None)
    return parameters is not None and parameters.eq and (parameters.frozen or parameters.unsafe_hash)


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
    """Any object with a key, which is hashable and equal for objects that behave the same."""

    key: Hashable
    value: Any = field(compare=False, repr=False)

    @classmethod
    def of(cls, value: Any) -> "ByValue":
        """Freeze any object."""
        return cls(freeze(value), value)


@dataclass(frozen=True)
class Kernel:
    """A kernel without its numbers, equal to every kernel that differs in its numbers only.

    Attributes
    ----------
    key : hashable
        Equal for kernels that behave the same.
    function : callable
        The kernel as the user passed it.
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
    """Split a kernel into its behaviour and its numbers.

    Parameters
    ----------
    function : callable
        A function, a ``functools.partial``, or a callable object with ``get_params`` and ``set_params`` as in
        scikit-learn.
    traced : callable, optional
        Whether a hyperparameter is to be an argument of the program, given its value.

    Returns
    -------
    kernel : Kernel
    hyperparameters : dict of str to number or array
    """
    behaviour: Hashable
    if isinstance(function, functools.partial):
        parameters, behaviour = function.keywords, ("partial", freeze(function.func), freeze(function.args))
    elif has_parameters(function):
        instance: Any = function
        parameters, behaviour = instance.get_params(deep=True), ("object", freeze(type(function)))
    else:
        return Kernel(freeze(function), function, ()), {}
    hyperparameters = {name: value for name, value in sorted(parameters.items()) if traced(value)}
    # The parameters of a nested object follow it as `<name>__<parameter>`, so that the object adds only its type to the
    # key, which must not contain its numbers.
    nested = {name.partition("__")[0] for name in parameters if "__" in name and has_parameters(function)}
    static = {
        name: type(value) if name in nested and has_parameters(value) else value
        for name, value in sorted(parameters.items())
        if name not in hyperparameters
    }
    return Kernel((behaviour, freeze(static)), function, tuple(hyperparameters)), hyperparameters


def _is_float(value: object) -> bool:
    return _is_number(value) and not np.issubdtype(np.asarray(value).dtype, np.integer)


def splits(function: Callable) -> Iterator[tuple[Kernel, dict[str, Any]]]:
    """Split a kernel with all of its numbers as arguments of the program, then without integers, and at last with none.

    A number that decides a shape or a branch cannot be an argument. Integers are the most likely to do so.
    """
    names = None
    for is_argument in (_is_number, _is_float, lambda value: False):
        kernel, hyperparameters = split_kernel(function, is_argument)
        if hyperparameters.keys() != names:
            names = hyperparameters.keys()
            yield kernel, hyperparameters
