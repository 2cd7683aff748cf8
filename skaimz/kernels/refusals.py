"""What is said of kernels that cannot be traced, or not be used."""

import contextlib
import functools
import inspect
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import numpy as np

__all__ = [
    "WITHIN_A_PLATE",
    "RowCountError",
    "check_names",
    "compare_sites",
    "explained",
    "of_one_length",
    "refuse_fitted_alone",
    "refuse_mutable",
    "unobserved_output",
]

WITHIN_A_PLATE = (
    "Write it within a plate of the rows, `with numpyro.plate('rows', X.shape[0])`, and bring outcomes into the shape "
    "that the kernel observes before `fit`."
)


def of_one_length(kernel: Any, n_rows: int) -> str | None:
    """Say that a kernel holds arrays with an entry for each row of the fit; None where no such array is found."""
    held: list[tuple[str, Any]] = []
    while isinstance(kernel, functools.partial):
        held += kernel.keywords.items()
        kernel = kernel.func
    held += getattr(kernel, "__dict__", {}).items()
    with contextlib.suppress(TypeError, ValueError):
        variables = inspect.getclosurevars(kernel if inspect.isroutine(kernel) else type(kernel).__call__)
        held += [*variables.nonlocals.items(), *variables.globals.items()]
    arrays = [(name, value) for name, value in held if isinstance(value, list | np.ndarray | jax.Array)]
    names = [name for name, value in arrays if np.shape(value)[:1] == (n_rows,)]
    if not names:
        return None
    return (
        f"The kernel runs on {n_rows} rows and on no other number: it uses {names}, which have an entry for each row, "
        f"from outside of its arguments. Make them arguments, as in `kernel(X, y=None, *, {names[0]})`, and pass them "
        "by name to `fit` and to later calls, with an entry for each of their rows."
    )


def explained(error: Exception) -> Exception:
    """Add to an error of JAX's, which speaks of its own functions, what to do about it in a kernel."""
    if isinstance(error, jax.errors.JAXTypeError):
        error.add_note(
            "A kernel runs on arrays without values: write `jnp.where(condition, a, b)` in the place of `if`, and call "
            "functions of `jax.numpy` in the place of NumPy's."
        )
    return error


def unobserved_output(
    param_output: str, observed: Sequence[str], shapes: Sequence[Mapping[str, tuple]], n_rows: tuple[int, int]
) -> str:
    """Say why no site is the output: it has not the rows that it needs, or there is none."""
    if not observed:
        return (
            f"Kernel never observes its output: no sample site takes the argument {param_output!r} as `obs`. "
            f"Write `numpyro.sample({param_output!r}, ..., obs={param_output})`."
        )
    name = observed[-1]
    sizes = [
        str(first) if first == second else f"n_rows {'+' if second > n_rows[1] else '-'} {abs(second - n_rows[1])}"
        for first, second in zip(shapes[0][name], shapes[1].get(name, ()), strict=False)
    ]
    return (
        f"Site {name!r} observes the argument {param_output!r}, but has the shape ({', '.join(sizes)}) where there is "
        f"no outcome: it needs a value for each row of X. {WITHIN_A_PLATE}"
    )


class RowCountError(ValueError):
    """The sites of a kernel depend on the number of rows."""


def compare_sites(few: int, sites: Collection[str] | None, many: int, others: Collection[str]) -> None:
    """Refuse a kernel whose sites depend on the number of rows."""
    for name in sorted(set(others if sites is None else sites) ^ set(others)):
        here, there = (few, many) if sites is not None and name in sites else (many, few)
        raise RowCountError(
            f"Site {name!r} is in the kernel on {here} rows, and is not on {there}. Which sites there are must not "
            "depend on the number of rows, because predictions are made of some rows at a time. Let an argument decide."
        )


def refuse_fitted_alone(output: str, found: Mapping[str, Any], messages: Mapping[str, Any]) -> None:
    """Refuse latent sites that a fit has and a prediction has not."""
    for name, message in messages.items():
        if message["type"] == "sample" and not message["is_observed"] and name not in found:
            raise ValueError(
                f"Latent site {name!r} is in the kernel only where there is an outcome, so that predictions of "
                f"{output!r} would not know it. Draw it whether there is an outcome or not."
            )


def refuse_mutable(found: Mapping[str, Any]) -> None:
    """Refuse layers with state that a fit would change."""
    mutable = [name for name, message in found.items() if message.kind == "mutable"]
    if mutable:
        raise ValueError(
            f"The kernel has mutable state {mutable}, which a prediction would not know from the fit. Use layers "
            "without state, such as layer normalisation in the place of batch normalisation."
        )


def check_names(templates: Mapping[str, tuple]) -> None:
    """Refuse names that a tree of draws cannot hold, and sites whose rows have no axis of their own."""
    for name, shape in templates.items():
        if "/" in name:
            raise ValueError(f"Site name {name!r} contains '/', which separates groups of a DataTree: rename the site.")
        if name in ("chain", "draw"):
            raise ValueError(f"Site name {name!r} is the name of a dimension of draws: rename the site.")
        if sum(size is None for size in shape) > 1:
            raise ValueError(f"Site {name!r} has the rows on more than one axis.")
