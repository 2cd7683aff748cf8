"""What a kernel can be called with."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

__all__ = ["check_signature", "flattened", "kernel_parameters", "nested"]

# Stands between the name of an argument that is a mapping and the name of an entry.
WITHIN = "."


def kernel_parameters(kernel: Callable) -> dict[str, inspect.Parameter]:
    """Return the parameters that a kernel can be called with, behind partials and handlers."""
    unwrapped = kernel
    while not inspect.isfunction(unwrapped) and hasattr(unwrapped, "fn") and not isinstance(unwrapped, type):
        unwrapped = unwrapped.fn
    return dict(inspect.signature(unwrapped).parameters)


def check_signature(kernel: Callable, param_input: str, param_output: str, reserved: Iterable[str] = ()) -> None:
    """Raise ValueError or TypeError where a kernel cannot be called as kernels are."""
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
    if parameters[param_input].default is not inspect.Parameter.empty:
        raise ValueError(f"Kernel argument {param_input!r} must not have a default: it is always given.")
    if parameters[param_output].default is not None:
        raise ValueError(
            f"Kernel argument {param_output!r} must have the default None: without it the kernel is asked to predict."
        )
    taken = sorted(set(reserved) & (parameters.keys() - {param_input, param_output}))
    if taken:
        raise ValueError(f"Kernel argument {taken[0]!r} is a reserved name: rename this argument of the kernel.")


def flattened(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments by name, the entries of those that are mappings by names such as ``"data.age"``."""
    found: dict[str, Any] = {}
    for name, value in arguments.items():
        if not isinstance(value, Mapping):
            found[name] = value
            continue
        strange = [key for key in value if not isinstance(key, str) or not key or WITHIN in key]
        if strange or not value:
            what = f"has the key {strange[0]!r}" if strange else "is empty"
            raise ValueError(
                f"Argument {name!r} is a mapping that {what}: it must map names without {WITHIN!r} to arrays or "
                "numbers."
            )
        found |= flattened({f"{name}{WITHIN}{key}": each for key, each in value.items()})
    return found


def nested(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return what :func:`flattened` was given, mappings as dicts."""
    found: dict[str, Any] = {}
    for name, value in arguments.items():
        *path, last = name.split(WITHIN)
        place = found
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value
    return found
