"""From what a user passes to what a kernel takes."""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from numbers import Number
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, column_or_1d

from skaimz.kernels import (
    Index,
    Inputs,
    KernelSpec,
    Site,
    as_floats,
    as_numbers,
    check_index,
    finite,
    flattened,
    freeze,
    kernel_parameters,
    narrowed,
    nested,
    within,
)
from skaimz.rows import LazyRows, check_numbers, lazy_rows

__all__ = [
    "PRIOR_DRAWS",
    "RESERVED",
    "Rules",
    "check_choice",
    "check_count",
    "check_indices",
    "check_names_of_arguments",
    "check_numbers_of",
    "check_outcome",
    "check_probabilities",
    "check_weight",
    "is_fixed",
    "join_arguments",
    "kernel_inputs",
    "refuse_as_index",
    "seed_of",
    "without_single_column",
]

# Draws from the prior where nothing says how many.
PRIOR_DRAWS = 1000
# Names of arguments of the estimators' methods, which a kernel argument cannot have as well.
RESERVED = frozenset(
    """
    X y along average baseline batch_size by checks classes compressors condition contrast coverage draw_dtype
    elasticity in_sample intervention kind method n_samples num_chains num_samples of output_dir pairs probability
    progress quantiles random_state return_datatree return_groups return_sites return_std sample_weight scenarios
    shard_axis store strict tail threshold where
    """.split()
)
SUPPORT_CHECKS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "positive": lambda y: y > 0,
    "nonnegative": lambda y: y >= 0,
    "unit_interval": lambda y: (y >= 0) & (y <= 1),
    "nonnegative_integer": lambda y: (y >= 0) & (y == np.floor(y)),
    "positive_integer": lambda y: (y > 0) & (y == np.floor(y)),
    "boolean": lambda y: (y == 0) | (y == 1),
}


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Refuse a value that is none of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"`{name}` must be one of {list(choices)}, got {value!r}.")


def check_count(name: str, value: Any) -> int:
    """Return a positive integer, or refuse what is none."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
        raise ValueError(f"`{name}` must be a positive integer, got {value!r}.")
    return int(value)


def check_weight(weight: Any, X: Any, dtype: Any) -> np.ndarray:
    """Return the weight of each row of X as floats of a type, ones for None, or refuse what is none."""
    if weight is not None and not isinstance(weight, Number):
        weight = as_floats("sample_weight", as_numbers("sample_weight", weight), dtype)
    return _check_sample_weight(weight, X, dtype=dtype, ensure_non_negative=True)


def check_probabilities(name: str, values: Any, closed: bool) -> list[float]:
    """Return one or more probabilities, 0 and 1 among them where ``closed``, or refuse what is none."""
    try:
        levels = np.atleast_1d(np.asarray(values, dtype=float))
    except (TypeError, ValueError) as error:
        raise TypeError(f"`{name}` must be one or more probabilities between 0 and 1, got {values!r}.") from error
    inside = (levels >= 0) & (levels <= 1) if closed else (levels > 0) & (levels < 1)
    if levels.ndim != 1 or len(levels) == 0 or not inside.all():
        raise ValueError(f"`{name}` must be one or more probabilities between 0 and 1, got {values!r}.")
    return levels.tolist()


def check_numbers_of(name: str, values: Any) -> list[float]:
    """Return one or more numbers, infinite ones among them, or refuse what is none."""
    try:
        found = np.atleast_1d(np.asarray(values, dtype=float))
    except (TypeError, ValueError) as error:
        raise TypeError(f"`{name}` must be one or more numbers, got {values!r}.") from error
    if found.ndim != 1 or len(found) == 0 or np.isnan(found).any():
        raise ValueError(f"`{name}` must be one or more numbers, got {values!r}.")
    return found.tolist()


class Rules(NamedTuple):
    """How arguments of a kernel are sorted and checked.

    Attributes
    ----------
    rows, whole : collection of str
        Names of the arguments that are row-aligned and whole, as far as `fit` or the user has told.
    dtype : type
        Type of floats.
    allow_nan : bool
        Whether arrays may have missing entries.
    """

    rows: Collection[str]
    whole: Collection[str]
    dtype: Any
    allow_nan: bool


def kernel_inputs(
    kernel: Callable, X: np.ndarray, arrays: Mapping[str, Any], names: tuple[str, str], rules: Rules
) -> Inputs:
    """Sort a kernel's arguments into rows, whole arrays and static values, and check them.

    Parameters
    ----------
    kernel : callable
    X : array of shape (n_rows, ...)
    arrays : dict
        Arguments beyond X and y by name.
    names : tuple of str
        Parameters for the input and the outcome.
    rules : Rules

    Returns
    -------
    Inputs
        Without the output.
    """
    arrays = flattened(arrays)
    check_names_of_arguments(arrays, *names)
    own = {next(iter(nested({name: None}))) for name in names}
    parameters = {name: parameter for name, parameter in kernel_parameters(kernel).items() if name not in own}
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    present = nested(arrays)
    unknown = [name for name in present if name not in parameters and name not in own and not open_ended]
    if unknown:
        raise TypeError(f"Unknown argument {unknown[0]!r}: beyond X and y the kernel takes {sorted(parameters)}.")
    required = [
        name
        for name, parameter in parameters.items()
        if parameter.default is inspect.Parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
    ]
    missing = [name for name in required if present.get(name) is None]
    if missing:
        raise TypeError(
            f"Missing argument {missing[0]!r} of the kernel: pass `{missing[0]}=...`, or name a column of X in "
            "`column_args`."
        )
    rows: dict[str, Any] = {names[0]: X}
    whole: dict[str, Any] = {}
    static: list[tuple[str, Any]] = []
    for name, value in sorted(arrays.items()):
        if value is None or isinstance(value, str | bytes | bool | np.bool_):
            static.append((name, value.item() if isinstance(value, np.generic) else value))
            continue
        if isinstance(value, Number | np.generic):
            static.append((name, _number(name, value, rules.dtype)))
            continue
        array = _numeric(name, value, rules)
        if array.ndim == 0:
            static.append((name, array.item()))
        elif within(name, rules.whole):
            whole[name] = array[:]
        elif len(array) == len(X):
            rows[name] = array
        elif name in rules.rows:
            raise ValueError(f"Argument {name!r} has {len(array)} rows, but X has {len(X)}.")
        else:
            whole[name] = array[:]
    return Inputs(rows, whole, tuple(static))


def check_indices(spec: KernelSpec, inputs: Inputs, hyperparameters: Mapping[str, Any], first: int) -> Inputs:
    """Refuse what the kernel uses as an index and is out of range; rows that are read in parts are checked then."""
    rows, n_rows = dict(inputs.rows), len(inputs.rows[spec.input])
    for index in spec.indices:
        match index.kind:
            case "argument" if isinstance(rows.get(index.name), LazyRows):
                rows[index.name] = _within(f"Argument {index.name!r}", rows[index.name], index, n_rows)
            case "argument" if index.name in (known := rows | inputs.whole):
                row = first if index.name in rows else None
                check_index(f"Argument {index.name!r}", known[index.name], index, n_rows, row)
            case "parameter":
                check_index(
                    f"The kernel's parameter {index.name!r}", np.asarray(hyperparameters[index.name]), index, n_rows
                )
            case "constant" if index.name < 0:  # counted from the end, on purpose
                check_index("A constant of the kernel", np.asarray(-1 - index.name), index, n_rows)
            case "constant":
                check_index("A constant, or an argument that is one number,", np.asarray(index.name), index, n_rows)
    return replace(inputs, rows=rows)


def refuse_as_index(inputs: Inputs, param_input: str, error: Exception) -> None:
    """Explain an error that JAX raises where an index is not an integer."""
    if not any(text in str(error) for text in ("Indexer must have integer", "boolean indices must be concrete")):
        return
    arrays = {**inputs.rows, **inputs.whole, **{name: np.asarray(value) for name, value in inputs.static}}
    kinds = {name: str(array.dtype) for name, array in arrays.items() if array.dtype.kind in "fb"}
    if len(kinds) > 1:
        kinds.pop(param_input, None)
    raise TypeError(
        f"The kernel uses an array as an index that does not hold integers. Of its arguments these do not: {kinds}. "
        "Pass codes of groups as integers, for example by `.astype(int)`, or name their column in `column_args` with "
        "'categories'."
    ) from error


def _within(what: str, rows: LazyRows, index: Index, n_rows: int) -> LazyRows:
    def checked(part: np.ndarray, start: int) -> np.ndarray:
        part = rows.convert(part, start)
        check_index(what, part, index, n_rows, start)
        return part

    return LazyRows(rows.source, checked)


def check_names_of_arguments(arrays: Mapping[str, Any], param_input: str, param_output: str) -> None:
    """Refuse names of further arguments that mean something else, and that a kernel with ``**kwargs`` would take."""
    own = {param_input: "X", param_output: "y"}
    for name in nested(arrays):
        if name in own:
            raise TypeError(f"{name!r} is the kernel's parameter that takes {own[name]}: it cannot be passed by name.")
        if name in RESERVED:
            raise TypeError(f"{name!r} is a setting of other methods, and no argument of the kernel: leave it out.")


def join_arguments(arrays: Mapping[str, Any], own: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return the kernel's arguments of a fit, and those that a ready inference object brings along.

    Raises
    ------
    ValueError
        If one is given in both, with other values.
    """
    for name, value in own:
        if name in arrays and freeze(arrays[name]) != freeze(value):
            raise ValueError(
                f"The argument {name!r} is {value!r} in the NumPyro object given as `inference`, and another in this "
                "call. Leave it out in one of them."
            )
    return {**dict(own), **arrays}


def _number(name: str, value: Any, dtype: np.dtype) -> int | float:
    """Return an argument that is one number, if it fits beside floats of X's precision."""
    what = f"Argument {name!r}"
    number = as_numbers(what, value)
    # A float that is not finite may be meant: it is a bound that does not bind, or a mark.
    narrowed(what, number if isinstance(value, float | np.floating) else finite(what, number), dtype)
    return float(number) if number.dtype.kind == "f" else number.item()


def _numeric(name: str, value: Any, rules: Rules) -> Any:
    """Return an argument as an array of numbers that fit beside floats of X's precision."""
    what = f"Argument {name!r}"
    rows, dtype, allow_nan = lazy_rows(value), rules.dtype, rules.allow_nan
    if rows is None:
        return check_numbers(what, value, 0, dtype, allow_nan=allow_nan)
    return rows.numbers(what, dtype, allow_nan=allow_nan)


def without_single_column(y: Any) -> Any:
    """Return outcomes in one dimension, with scikit-learn's warning where they are a column."""
    if y.shape[1:] != (1,):
        return y
    if isinstance(y, LazyRows):
        column_or_1d(y[:1], warn=True)
        return y.then(np.ravel)
    return column_or_1d(y, warn=True)


def check_outcome(y: Any, spec: KernelSpec, first: int = 0) -> Any:
    """Check an outcome, that of row ``first`` on, against the kernel's output site, and give it its kind of numbers."""
    site: Site = spec[spec.output]
    of_row = site.event_shape if spec.outcome is None else spec.outcome
    if spec.observes_bounds and spec.outcome is None:
        raise ValueError(
            f"The kernel's output {site.name!r} is interval-censored: it observes the lower and the upper bound of "
            f"each value, on the last axis of y, got an array of shape {y.shape}."
        )
    # Where it observes a part of y, something computed from y, or not all of y, y itself may lie outside its support.
    observes_all = spec.outcome is None and not spec.changes_outcome and not spec.masks
    if y.shape[1:] != of_row:
        expected = "".join(f", {size}" for size in of_row) or ","
        what = "y has the wrong shape" if of_row else "y should be a 1d array"
        raise ValueError(
            f"{what}, got an array of shape {y.shape} instead: the kernel's output site {site.name!r} "
            f"{'has' if spec.outcome is None else 'observes a part of y, which has'} the shape (n_rows{expected})."
        )
    if isinstance(y, LazyRows):
        return LazyRows(y, lambda part, start: _outcome_values(part, site, first + start, strict=observes_all))
    return _outcome_values(y, site, first, strict=observes_all)


def _outcome_values(y: np.ndarray, site: Site, start: int, *, strict: bool) -> np.ndarray:
    """Give outcomes the kind of numbers that a site has, if they are all such numbers.

    Outcomes, the first of which is that of the row ``start``, are refused outside the support of the site if this is
    ``strict``. Missing ones, if there are any, are left to the kernel.
    """
    missing = np.isnan(y) if y.dtype.kind == "f" else np.zeros((), bool)
    whole = (y == np.floor(y)) & (np.abs(y) < 2**31)
    if not strict:
        return y.astype(jnp.result_type(int)) if np.issubdtype(site.dtype, np.integer) and whole.all() else y
    if site.support is not None:
        inside = SUPPORT_CHECKS[site.support](y) | missing
        if not inside.all():
            raise ValueError(
                f"y has values outside the support of the kernel's output {site.name!r}, a {site.distribution} "
                f"distribution: they must be {site.support.replace('_', ' ')}, and in row {_first_row(~inside, start)} "
                "are not."
            )
    strange = (y < 0) | (y >= (site.n_classes or np.inf))
    if site.n_classes is not None and strange.any():
        raise ValueError(
            f"y must hold classes from 0 to {site.n_classes - 1}: the kernel's output {site.name!r} is a "
            f"{site.distribution}. "
            f"Row {_first_row(strange, start)} holds another."
        )
    if np.issubdtype(site.dtype, np.integer):
        inside = whole | missing
        if not inside.all():
            raise ValueError(
                f"y must hold integers below 2**31: the kernel's output {site.name!r} is a {site.distribution} "
                f"distribution, and row {_first_row(~inside, start)} has none."
            )
        return y if missing.any() else y.astype(jnp.result_type(int))
    return y


def _first_row(where: np.ndarray, start: int) -> int:
    return start + int(np.argwhere(where)[0, 0])


def is_fixed(random_state: Any) -> bool:
    """Whether a source of randomness gives the same seed each time."""
    return isinstance(random_state, int | np.integer | jax.Array)


def seed_of(random_state: Any) -> int:
    """Reduce any source of randomness to one integer below 2**32."""
    if isinstance(random_state, jax.Array):
        is_key = jax.dtypes.issubdtype(random_state.dtype, jax.dtypes.prng_key)
        words = np.asarray(jax.random.key_data(random_state) if is_key else random_state).ravel()
        return int(np.random.SeedSequence(words.tolist()).generate_state(1)[0]) if words.any() else 0
    if isinstance(random_state, int | np.integer) and not isinstance(random_state, bool):
        if not 0 <= random_state < 2**32:
            raise ValueError(f"`random_state` must lie between 0 and 2**32 - 1, got {random_state}.")
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31))
