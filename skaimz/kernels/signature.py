"""The arguments of a kernel: their names, and mappings among them."""

import functools
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

__all__ = ["check_signature", "flattened", "kernel_parameters", "nested", "within"]

# Separates the name of an argument from the name of an entry, if the argument is a mapping.
SEPARATOR = "."


def kernel_parameters(kernel: Callable) -> dict[str, inspect.Parameter]:
    """Return the parameters of a kernel, which partials and NumPyro handlers may be wrapped around."""
    return dict(inspect.signature(_unwrapped(kernel)).parameters)


def _unwrapped(kernel: Callable) -> Callable:
    unwrapped = kernel
    while not inspect.isfunction(unwrapped) and hasattr(unwrapped, "fn") and not isinstance(unwrapped, type):
        unwrapped = unwrapped.fn
    return unwrapped


def _has_value(kernel: Callable) -> set[str]:
    """Return the parameters of a kernel that a partial has set, which no call needs to pass."""
    function = _unwrapped(kernel)
    return set(function.keywords) if isinstance(function, functools.partial) else set()


def check_signature(kernel: Callable, param_input: str, param_output: str, reserved: Iterable[str] = ()) -> None:
    """Raise an error if an object cannot be called as a kernel.

    Parameters
    ----------
    kernel : object
    param_input, param_output : str
        Names of the parameters that take the input and the output.
    reserved : iterable of str, optional
        Names that no other parameter may have.

    Raises
    ------
    TypeError
        If the object is no function.
    ValueError
        If its parameters are not those of a kernel.
    """
    if not callable(kernel) or isinstance(kernel, type):
        raise TypeError(f"`kernel` must be a callable NumPyro model or None, got {kernel!r}.")
    parameters = kernel_parameters(kernel)
    if not {param_input, param_output} <= parameters.keys():
        raise ValueError(
            f"Kernel must accept {param_input!r} and {param_output!r} as argument(s). Modify the kernel signature or "
            "set `param_input` and `param_output` accordingly."
        )
    for parameter in parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            raise ValueError(f"Kernel must not take `*{parameter.name}`: its arguments are passed by name.")
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise ValueError(f"Kernel argument {parameter.name!r} must not be positional-only: it is passed by name.")
    for name, why in ((param_input, "rows are always passed"), (param_output, "predictions pass None")):
        default = parameters[name].default
        if default is not inspect.Parameter.empty and default is not None:
            raise ValueError(f"Kernel argument {name!r} must have no default or the default None: {why}.")
    taken = sorted(set(reserved) & (parameters.keys() - {param_input, param_output} - _has_value(kernel)))
    if taken:
        raise ValueError(
            f"Kernel argument {taken[0]!r} has the name of a setting of the estimators' methods: rename it, or set it "
            f"by `functools.partial(kernel, {taken[0]}=...)`."
        )


def flattened(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments by name. Entries of an argument that is a mapping have names such as ``"data.age"``."""
    flat: dict[str, Any] = {}
    for name, value in arguments.items():
        if not isinstance(value, Mapping):
            flat[name] = value
            continue
        wrong = [key for key in value if not isinstance(key, str) or not key or SEPARATOR in key]
        if wrong or not value:
            what = f"has the key {wrong[0]!r}" if wrong else "is empty"
            raise ValueError(
                f"Argument {name!r} is a mapping that {what}: it must map names without {SEPARATOR!r} to arrays or "
                "numbers."
            )
        flat |= flattened({f"{name}{SEPARATOR}{key}": entry for key, entry in value.items()})
    return flat


def nested(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments as they were before :func:`flattened`, with dicts for mappings."""
    tree: dict[str, Any] = {}
    for name, value in arguments.items():
        *path, last = name.split(SEPARATOR)
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    return tree


def within(name: str, names: Collection[str]) -> bool:
    """Whether a name of :func:`flattened` is one of some names, or that of an entry of one."""
    parts = name.split(SEPARATOR)
    return any(SEPARATOR.join(parts[:length]) in names for length in range(1, len(parts) + 1))
