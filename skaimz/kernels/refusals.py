"""Messages about kernels that cannot be traced or used."""

import contextlib
import functools
import inspect
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from skaimz.kernels.names import refuse_equal_names

__all__ = [
    "WITHIN_A_PLATE",
    "RowCountError",
    "arrays_of_one_length",
    "check_names",
    "compare_sites",
    "explain",
    "unobserved_output",
]

WITHIN_A_PLATE = (
    "Write it within a plate of the rows, `with numpyro.plate('rows', X.shape[0])`, and bring outcomes into the shape "
    "that the kernel observes before `fit`."
)


def arrays_of_one_length(kernel: Any, n_rows: int) -> str | None:
    """Return a message about arrays with an entry for each row that the kernel uses from outside, None without any."""
    variables: list[tuple[str, Any]] = []
    while isinstance(kernel, functools.partial):
        variables += kernel.keywords.items()
        kernel = kernel.func
    variables += getattr(kernel, "__dict__", {}).items()
    with contextlib.suppress(TypeError, ValueError):
        outer = inspect.getclosurevars(kernel if inspect.isroutine(kernel) else type(kernel).__call__)
        variables += [*outer.nonlocals.items(), *outer.globals.items()]
    arrays = [(name, value) for name, value in variables if isinstance(value, list | np.ndarray | jax.Array)]
    names = [name for name, value in arrays if np.shape(value)[:1] == (n_rows,)]
    if not names:
        return None
    return (
        f"The kernel runs on {n_rows} rows and on no other number: it uses {names}, which have an entry for each row, "
        f"from outside of its arguments. Make them arguments, as in `kernel(X, y=None, *, {names[0]})`, and pass them "
        "by name to `fit` and to later calls, with an entry for each of their rows."
    )


def explain(error: Exception) -> None:
    """Add a remedy to an error of JAX, which mentions only JAX's own functions, or of a missing outcome."""
    if "NoneType" in str(error):
        error.add_note(
            "Predictions run a kernel without an outcome, which is None there: write, for example, "
            "`obs=None if y is None else y[rows]`."
        )
    if isinstance(error, jax.errors.JAXTypeError):
        error.add_note(
            "A kernel runs on arrays without values: write `jnp.where(condition, a, b)` instead of `if`, and call "
            "functions of `jax.numpy` instead of those of NumPy. For what follows from arguments alone, such as a "
            "number of groups, call NumPy's, as in `len(np.unique(group))`: NumPyro cannot run `jnp.unique` either."
        )


def unobserved_output(
    param_output: str,
    observed: Sequence[str],
    scoring: Sequence[str],
    shapes: Sequence[Mapping[str, tuple]],
    n_rows: tuple[int, int],
) -> str:
    """Return a message about a kernel without an output.

    Parameters
    ----------
    param_output : str
        Kernel parameter of the outcome.
    observed, scoring : sequence of str
        Sites that observe the outcome, and sites that exist only with one.
    shapes : sequence of dict
        Shapes of sites by number of rows.
    n_rows : pair of int
    """
    if not observed and scoring:
        return (
            f"Kernel scores its outcome by {scoring[0]!r}, but has no site to predict it from: where "
            f"{param_output!r} is None, write `numpyro.sample({param_output!r}, ...)`, or "
            f"`numpyro.deterministic({param_output!r}, ...)`, with a value for each row of X."
        )
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
        f"Site {name!r} observes the argument {param_output!r}, but without an outcome it has the shape "
        f"({', '.join(sizes)}): it needs a value for each row of X. {WITHIN_A_PLATE}"
    )


class RowCountError(ValueError):
    """The sites of a kernel depend on the number of rows."""


def compare_sites(few: int, sites: Collection[str] | None, many: int, others: Collection[str]) -> None:
    """Refuse a kernel whose sites depend on the number of rows.

    Parameters
    ----------
    few, many : int
        Two numbers of rows.
    sites : collection of str or None
        Sites with ``few`` rows; None if the kernel does not run on them.
    others : collection of str
        Sites with ``many`` rows.
    """
    for name in sorted(set(others if sites is None else sites) ^ set(others)):
        here, there = (few, many) if sites is not None and name in sites else (many, few)
        raise RowCountError(
            f"Site {name!r} is in the kernel on {here} rows, and is not on {there}. The number of rows must not decide "
            "which sites exist, because predictions are made for some rows at a time: let an argument decide, or write "
            "one site for all rows, in a plate or in the body of a `scan`, where a loop makes a site for each row."
        )


def check_names(templates: Mapping[str, tuple]) -> None:
    """Refuse site names that a tree of draws cannot use, and sites with rows on more than one axis."""
    refuse_equal_names(templates)
    for name, shape in templates.items():
        if name in ("chain", "draw"):
            raise ValueError(f"Site name {name!r} is the name of a dimension of draws: rename the site.")
        if sum(size is None for size in shape) > 1:
            raise ValueError(f"Site {name!r} has the rows on more than one axis.")
