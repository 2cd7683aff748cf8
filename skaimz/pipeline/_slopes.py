"""Slopes per unit of a column before the steps of a Pipeline: the chain rule.

The steps say in which direction the kernel's inputs move when the column moves. The column then becomes an argument of
the kernel, which moves the inputs in this direction, and the estimator differentiates along the argument.
"""

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from skaimz.effects import EffectTree
from skaimz.estimators import Model, read
from skaimz.kernels import kernel_parameters, numbers_in
from skaimz.pipeline._steps import Steps
from skaimz.pipeline._table import Table

__all__ = ["along_columns"]

# Steps of the central differences, in standard deviations of the column. A row has the first one that agrees with half
# of it.
STEPS = (1e-2, 1e-3, 1e-4, 1e-5)
# Largest difference between the derivatives with a step and with half of it, as a share of the largest derivative.
AGREES = 1e-3
# What an argument with the present values of the column, or with the direction of an input, is named.
PRESENT, DIRECTION = "present ", "direction of "


class _MovedKernel:
    """A kernel with a column of the table as a further argument, with which its inputs move linearly.

    Parameters
    ----------
    kernel : callable
    column : str
        Name of the argument.
    inputs : sequence of str
        Arguments that move.
    """

    def __init__(self, kernel: Callable, column: str, inputs: Sequence[str]):
        self.kernel, self.column, self.inputs = kernel, column, tuple(inputs)

    @property
    def __signature__(self) -> inspect.Signature:
        own = [each for each in kernel_parameters(self.kernel).values() if each.kind is not each.VAR_KEYWORD]
        return inspect.Signature([*own, inspect.Parameter("more_arguments", inspect.Parameter.VAR_KEYWORD)])

    def __call__(self, **arguments: Any) -> Any:
        change = arguments.pop(self.column) - arguments.pop(PRESENT + self.column)
        for name in self.inputs:
            direction = arguments.pop(DIRECTION + name)
            arguments[name] = arguments[name] + change.reshape(-1, *(1,) * (direction.ndim - 1)) * direction
        return self.kernel(**arguments)


def along_columns(steps: Steps, table: Table, along: Sequence[Any], options: Mapping[str, Any]) -> EffectTree:
    """Return slopes along columns of a table, or arguments of the kernel.

    Parameters
    ----------
    steps : Steps
    table : Table
    along : sequence of str or int
    options : dict
        Further arguments of the method, the kernel's among them; ``where`` is a mask.
    """
    if not along:
        raise ValueError("`along` must name at least one input.")
    groups: dict[str, Any] = {}
    attrs: Mapping[Any, Any] = {}
    for name in along:
        if "/" in str(name):
            raise ValueError(f"The name of an input in `along` must be a string without '/', got {name!r}.")
        is_argument = not table.has(name) and name in options
        tree = (
            steps.estimator.estimate_slope(steps.transform(table.rows), name, **options)
            if is_argument
            else _along_column(_Column(steps, table, name, options.get("where")), options)
        )
        (groups[str(name)],) = (node.to_dataset() for node in tree.children.values())
        attrs = tree.attrs
    return EffectTree.of(groups, attrs)


def _along_column(column: "_Column", options: Mapping[str, Any]) -> EffectTree:
    directions = column.directions()
    name = f"column {column.name}".replace(".", " ")  # a dot would separate names of nested arguments
    estimator: Any = copy.copy(column.steps.estimator)
    kernel = getattr(estimator, "kernel_", estimator.kernel)
    estimator.kernel_ = _MovedKernel(kernel, name, list(directions))
    values = np.nan_to_num(column.values)
    arrays = {name: values, PRESENT + name: values, **{DIRECTION + key: array for key, array in directions.items()}}
    return estimator.estimate_slope(column.rows_at(0.0), name, **options, **arrays)


class _Column:
    """A column of numbers before the steps, and what the steps make of it.

    Parameters
    ----------
    steps : Steps
    table : Table
    name : str or int
    where : array of bool of shape (n_rows,), optional
        Rows that matter.
    """

    def __init__(self, steps: Steps, table: Table, name: Any, where: Any):
        values = numbers_in(np.asarray(table.columns.values(name)))
        if values is None or values.dtype.kind == "b":
            table.series(name, "`along`")  # refuses a column that is not there
            raise ValueError(f"`along` needs a continuous column, but {name!r} does not hold numbers.")
        self.steps, self.table, self.name = steps, table, name
        self.values = values.astype(np.float64)
        self.counts = np.ones(len(values), bool) if where is None else np.asarray(where)
        missing = np.isnan(self.values) & self.counts
        if missing.any():
            raise ValueError(
                f"`along` names column {name!r}, which is missing in {missing.sum()} rows, where there is nothing that "
                "could change: leave these rows out with `where`."
            )
        self.unit = float(np.nanstd(self.values)) or float(np.nanmax(np.abs(self.values))) or 1.0

    def rows_at(self, shift: float) -> Any:
        """Return the rows, transformed, with the column moved by a number."""
        return self.steps.transform(self.table.with_floats(self.name, self.values + shift))

    def inputs_at(self, shift: float) -> dict[str, np.ndarray]:
        """Return the kernel's arguments that come from the rows."""
        call = read(Model.of(self.steps.estimator), self.rows_at(shift), {})
        inputs = {call.model.names[0]: call.X, **call.arrays}
        return {name: np.asarray(array[:]) for name, array in inputs.items() if np.ndim(array)}

    def directions(self) -> dict[str, np.ndarray]:
        """Return the derivatives of the inputs that move with the column, for each row."""
        found = {name: np.full(array.shape, np.nan) for name, array in self.inputs_at(0.0).items()}
        for step in STEPS:
            whole, half = (self._differences(size * self.unit) for size in (step, step / 2))
            for name, array in found.items():
                scale = np.abs(half[name][self.counts]).max(initial=0.0)
                agrees = np.abs(half[name] - whole[name]) <= AGREES * scale
                array[:] = np.where(np.isnan(array) & agrees, (4 * half[name] - whole[name]) / 3, array)
            if not any(np.isnan(array).any() for array in found.values()):
                break
        is_rough = any(np.isnan(array[self.counts]).any() for array in found.values())
        moving = {name: np.nan_to_num(array) for name, array in found.items() if array[self.counts].any()}
        at, beyond = self.inputs_at(0.0), self.inputs_at(self.unit)
        if is_rough or (not moving and any(not np.array_equal(at[name], beyond[name]) for name in at)):
            raise ValueError(
                f"`along` needs a column that the steps of the Pipeline follow smoothly, but with {self.name!r} they "
                "change the kernel's inputs in steps, as bins and codes do. Use `estimate_effect`."
            )
        return moving

    def _differences(self, shift: float) -> dict[str, np.ndarray]:
        """Return central differences."""
        below, above = self.inputs_at(-shift), self.inputs_at(shift)
        return {name: (above[name].astype(np.float64) - below[name]) / (2 * shift) for name in above}
