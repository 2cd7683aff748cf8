"""Slopes per unit of a column before the steps of a Pipeline: the chain rule.

The steps say in which direction the kernel's inputs move when the column moves. The column then becomes an argument of
the kernel, which moves the inputs in this direction, and the estimator differentiates along the argument.
"""

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from skaimz.effects import EffectTree
from skaimz.estimators import Model, read
from skaimz.kernels import kernel_parameters, numbers_in
from skaimz.pipeline._steps import Steps
from skaimz.pipeline._table import Table

__all__ = ["along_columns"]

# Steps of the differences, as shares of the standard deviation of the column or of the row's own size.
SIZES = tuple(10.0**-power for power in range(2, 10))
# Largest difference between the derivatives with a step and with half of it, as a share of the largest derivative:
# where no further steps are tried, and where the derivatives are accepted after all steps.
CLOSE, AGREES = 1e-7, 1e-3
# Largest difference, as the same share, from the derivative with a very small step, which has larger rounding errors.
# It tells jumps that happen to look like a slope: a floor rises by 10 over 10 units and by 5 over 5.
NEAR = 1e-2
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
    return estimator.estimate_slope(column.rows_at(column.values), name, **options, **arrays)


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
        table.series(name, "`along`")  # refuses a column that is not there
        values = numbers_in(np.asarray(table.columns.values(name)))
        if values is None or values.dtype.kind == "b":
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
        self.lowest, self.highest = float(np.nanmin(self.values)), float(np.nanmax(self.values))
        self.unit = float(np.nanstd(self.values)) or max(abs(self.lowest), abs(self.highest)) or 1.0

    def rows_at(self, values: np.ndarray) -> Any:
        """Return the rows, transformed, with other values in the column."""
        return self.steps.transform(self.table.with_floats(self.name, values))

    def inputs_at(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """Return the kernel's arguments that come from the rows, with other values in the column."""
        call = read(Model.of(self.steps.estimator), self.rows_at(values), {})
        inputs = {call.model.names[0]: call.X, **call.arrays}
        return {name: np.asarray(array[:]) for name, array in inputs.items() if np.ndim(array)}

    def directions(self) -> dict[str, np.ndarray]:
        """Return the derivatives of the inputs that move with the column, for each row.

        Each entry has the derivative that differs least between a step and half of it.
        """
        present = self.inputs_at(self.values)
        found = {name: np.full(array.shape, np.nan) for name, array in present.items()}
        gaps = {name: np.full(array.shape, np.inf) for name, array in present.items()}
        for estimates, new_gaps in self._estimates(present):
            for name, gap in gaps.items():
                is_better = new_gaps[name] < gap
                np.copyto(found[name], estimates[name], where=is_better)
                np.copyto(gap, new_gaps[name], where=is_better)
            if self._has_settled(found, gaps, CLOSE):
                break
        moving = {name: np.nan_to_num(array) for name, array in found.items() if array[self.counts].any()}
        if not self._has_settled(found, gaps, AGREES) or (not moving and self._jumps()):
            raise ValueError(
                f"`along` needs a column that the steps of the Pipeline follow smoothly, but with {self.name!r} they "
                "change the kernel's inputs in steps, as bins and codes do, or with an infinite slope, as the square "
                "root does at zero. Use `estimate_effect`, or leave such rows out with `where`."
            )
        return moving

    def _estimates(self, present: "_Inputs") -> Iterator[tuple["_Inputs", "_Inputs"]]:
        """Return derivatives, and how much they differ between a step and half of it; infinite where they are wrong."""
        eps = max((np.finfo(each.dtype).eps for each in present.values() if each.dtype.kind == "f"), default=0.0)
        for difference, steps_of in self._ways():
            near = self._attempt(difference, present, steps_of(float(np.sqrt(eps))))
            if near is None:
                continue
            for size in SIZES:
                whole, half = (self._attempt(difference, present, steps_of(size) / parts) for parts in (1, 2))
                if whole is None or half is None:
                    continue
                # Both differences have errors of the second order in the step, which the extrapolation takes away.
                estimates = {name: (4 * half[name] - whole[name]) / 3 for name in near}
                is_near = {
                    name: np.abs(estimates[name] - array) <= NEAR * self._largest(array) for name, array in near.items()
                }
                yield (
                    estimates,
                    {name: np.where(is_near[name], np.abs(half[name] - whole[name]), np.inf) for name in near},
                )

    def _ways(self) -> Iterator[tuple["_Difference", Callable[[float], np.ndarray]]]:
        """Return formulas, and functions of a size that return a step for each row, or zero to leave the row out."""
        values, unit = self.values, self.unit
        # Numbers far from zero have gaps that are larger than small steps.
        coarse = 2.0**10 * np.spacing(np.abs(np.nan_to_num(values)))

        def counted(steps: np.ndarray) -> np.ndarray:
            return np.where(self.counts, steps, 0.0)

        def everywhere(size: float) -> np.ndarray:
            return counted(np.maximum(size * unit, coarse))

        # The domain of logarithms and powers ends at zero, and their columns may range over many sizes.
        def relative(size: float) -> np.ndarray:
            return counted(np.where(values == 0, 0.0, np.maximum(size * np.minimum(unit, np.abs(values)), coarse)))

        # Transformers may refuse values beyond those of the fit.
        def inside(size: float) -> np.ndarray:
            steps = everywhere(size)
            return np.where((values - steps >= self.lowest) & (values + steps <= self.highest), steps, 0.0)

        def inward(size: float) -> np.ndarray:
            return np.where(values > (self.lowest + self.highest) / 2, -1, 1) * everywhere(size)

        yield from ((_central, everywhere), (_central, relative), (_central, inside), (_inward, inward))

    def _attempt(self, difference: "_Difference", present: "_Inputs", steps: np.ndarray) -> "_Inputs | None":
        """Return derivatives, NaN for rows that are left out; None if a step leaves the domain of a transformer."""
        try:
            with np.errstate(all="ignore"):
                return difference(self, present, steps)
        except ValueError:
            return None

    def _largest(self, derivatives: np.ndarray) -> float:
        return float(np.nanmax(np.abs(derivatives[self.counts]), initial=0.0))

    def _has_settled(self, found: Mapping[str, np.ndarray], gaps: Mapping[str, np.ndarray], share: float) -> bool:
        """Whether all derivatives that count agree within a share of the largest one."""
        return all((gaps[name][self.counts] <= share * self._largest(array)).all() for name, array in found.items())

    def _jumps(self) -> bool:
        """Whether the inputs change with the column although no derivative does."""
        lowest, highest = self.lowest, self.highest
        try:
            low, high = (
                self.inputs_at(np.where(np.isnan(self.values), np.nan, value))
                for value in (lowest, highest if highest > lowest else highest + self.unit)
            )
        except ValueError:
            return False
        return any(not np.array_equal(low[name], high[name]) for name in low)


_Inputs = dict[str, np.ndarray]
_Difference = Callable[[_Column, _Inputs, np.ndarray], _Inputs]


def _central(column: _Column, present: _Inputs, steps: np.ndarray) -> _Inputs:
    """Return differences between both sides of the present values."""
    below, above = column.values - steps, column.values + steps
    low, high = column.inputs_at(below), column.inputs_at(above)
    return {name: _quotients(high[name], low[name], above - below) for name in present}


def _inward(column: _Column, present: _Inputs, steps: np.ndarray) -> _Inputs:
    """Return the slopes, at the present values, of parabolas through them and two values on one side."""
    near, far = column.values + steps, column.values + 2 * steps
    inputs_near, inputs_far = column.inputs_at(near), column.inputs_at(far)
    to_near, to_far, between = near - column.values, far - column.values, far - near
    return {
        name: _quotients(inputs_near[name], array, to_near * between / to_far)
        - _quotients(inputs_far[name], array, to_far * between / to_near)
        for name, array in present.items()
    }


def _quotients(new: np.ndarray, old: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Return changes divided by a number for each row, NaN where it is zero."""
    return np.subtract(new, old, dtype=np.float64) / by.reshape(-1, *(1,) * (new.ndim - 1))
