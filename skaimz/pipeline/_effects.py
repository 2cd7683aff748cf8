"""Effects and slopes through a Pipeline: scenarios change its rows before the first step."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from skaimz.datatree import row_coordinates
from skaimz.effects import EffectTree
from skaimz.estimators import applied, check_order, marked
from skaimz.pipeline._labels import warn_of_unknown_labels
from skaimz.pipeline._slopes import along_columns
from skaimz.pipeline._steps import Steps
from skaimz.pipeline._table import Table

__all__ = ["estimate_effect", "estimate_slope"]


def estimate_effect(
    pipeline: Any,
    X: Any,
    *,
    scenarios: Mapping[str, Mapping[str, Any]],
    baseline: Mapping[str, Any] | None = None,
    where: Mapping[Any, Any] | ArrayLike | None = None,
    by: Any = None,
    **options: Any,
) -> EffectTree:
    """Estimate what scenarios change, where a scenario changes columns before they are scaled, encoded or imputed.

    Each scenario changes the rows, the steps of the Pipeline transform them, and the last step compares the transformed
    rows as :meth:`skaimz.NumPyroImpactRegressor.estimate_effect` does: with the same posterior draws and random numbers
    for each row.

    Parameters
    ----------
    pipeline : Pipeline, search or estimator
        Fitted, with an estimator of this package as the last step.
    X : data frame or array-like of shape (n_rows, n_features)
        Rows as the Pipeline takes them.
    scenarios : dict of str to dict
        Named scenarios, with the keys ``"columns"``, ``"arguments"``, ``"intervention"`` and ``"condition"``. Columns
        are those of ``X``, and have its units. Among the arguments, the kernel's input (``"X"``) stands for rows as the
        Pipeline takes them. A new value may be a function of the current values, of which it gets a copy, with
        integers of 64 bits.
    baseline : dict, optional
        What scenarios are compared with; the rows as they are if None.
    where : dict or array of bool of shape (n_rows,), optional
        Rows to average over: those where columns of ``X``, or arguments, have the given values, or those marked.
        Missing values equal nothing, and text finds times, as in pandas.
    by : str, int, list of them, or dict of str to array, optional
        Columns of ``X``, or arguments, by whose values rows are grouped.
    **options : object
        Further arguments of the method: ``contrast``, ``of``, ``average``, ``pairs``, ``in_sample``, ``sample_weight``,
        ``random_state``, and the kernel's further arguments.

    Returns
    -------
    EffectTree

    Raises
    ------
    ValueError, TypeError
        If an argument cannot be used, or names what is not there; if a series has the row labels of ``X`` in another
        order than ``X``; if a column of text is given other values than text.

    Warns
    -----
    UnknownLabelWarning
        If the steps treat a label in a scenario, text or a number, as they treat labels that they do not know.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skaimz import NumPyroImpactRegressor
    >>> from skaimz.pipeline import estimate_effect
    >>> rng = np.random.default_rng(0)
    >>> homes = pd.DataFrame({"area": rng.normal(100.0, 20.0, 300), "age": rng.uniform(0.0, 50.0, 300)})
    >>> price = 3.0 * homes["area"] - 2.0 * homes["age"] + rng.normal(size=300)
    >>> pipe = make_pipeline(StandardScaler(), NumPyroImpactRegressor(random_state=0)).fit(homes, price)
    >>> larger = {"columns": {"area": lambda area: area + 10}}
    >>> effects = estimate_effect(pipe, homes, scenarios={"10 square metres more": larger})
    >>> round(float(effects.summary()["mean"].iloc[0]))
    30
    """
    steps = Steps(pipeline)
    table, name = Table(X, steps.names), steps.estimator.param_input

    def transformed(scenario: Any) -> Any:
        """Return a scenario that gives the estimator the rows that the scenario leads to."""
        _check_order_of_arguments(scenario, table)
        if not _changes_rows(scenario, name):
            return scenario
        arguments, rows = dict(scenario.get("arguments", {})), table
        if name in arguments:
            value = arguments.pop(name)
            what = f"the argument {name!r}"
            value = applied(value, table.rows, what) if callable(value) else value
            check_order(f"What a scenario makes of {what}", value, table.rows)
            rows = Table(value, steps.names)
        new = {column: rows.new_values(column, value) for column, value in scenario.get("columns", {}).items()}
        warn_of_unknown_labels(steps, rows, new)
        others = {key: values for key, values in scenario.items() if key != "columns"}
        return {**others, "arguments": {**arguments, name: steps.transform(rows.replaced(new))}}

    check_order("`sample_weight`", options.get("sample_weight"), table.rows)
    mask, groups = _marked(where, table, options), _groups(by, table, options)
    if isinstance(scenarios, Mapping):
        scenarios = {key: transformed(each) for key, each in scenarios.items()}
    tree = steps.estimator.estimate_effect(
        steps.transform(X), scenarios=scenarios, baseline=transformed(baseline), where=mask, by=groups, **options
    )
    return tree if options.get("average", True) else _labelled(tree, table, mask)


def estimate_slope(
    pipeline: Any,
    X: Any,
    along: Any,
    *,
    where: Mapping[Any, Any] | ArrayLike | None = None,
    by: Any = None,
    **options: Any,
) -> EffectTree:
    """Estimate how the expected outcome changes with a continuous column, per unit of the column before the steps.

    The expected outcome is differentiated automatically, as :meth:`skaimz.NumPyroImpactRegressor.estimate_slope` does.
    The steps are differentiated numerically, by differences with one extrapolation that stay within the domain of the
    steps. Compared with derivatives in closed form, the errors were below 1e-11 of the largest derivative in the column
    for scalers, polynomials, logarithms, roots and Box-Cox powers, and below 1e-7 of it for splines. Derivatives that
    differ by more than 1e-3 of it between a step and half of it are refused.

    Jumps of a step, such as those of bins and of ``floor``, have no slope and are not counted: a column that changes
    the kernel's inputs by jumps alone, or a row exactly at a jump, is refused. At a kink, such as that of ``abs`` at
    zero, the slope is the mean of the slopes on both sides.

    Parameters
    ----------
    pipeline : Pipeline, search or estimator
        Fitted, with an estimator of this package as the last step.
    X : data frame or array-like of shape (n_rows, n_features)
        Rows as the Pipeline takes them.
    along : str, int or list of them
        Column of ``X`` by name or position, or argument of the kernel; several give a group each.
    where, by
        As in :func:`estimate_effect`.
    **options : object
        Further arguments of the method: ``elasticity``, ``average``, ``in_sample``, ``sample_weight``,
        ``random_state``, and the kernel's further arguments.

    Returns
    -------
    EffectTree
        With a group for each input.

    Raises
    ------
    ValueError
        If a column is not continuous, is missing in a row, or has an infinite slope in one, or if the steps of the
        Pipeline or the expected outcome follow it only in jumps.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skaimz import NumPyroImpactRegressor
    >>> from skaimz.pipeline import estimate_slope
    >>> rng = np.random.default_rng(0)
    >>> homes = pd.DataFrame({"area": rng.normal(100.0, 20.0, 300), "age": rng.uniform(0.0, 50.0, 300)})
    >>> price = 3.0 * homes["area"] - 2.0 * homes["age"] + rng.normal(size=300)
    >>> pipe = make_pipeline(StandardScaler(), NumPyroImpactRegressor(random_state=0)).fit(homes, price)
    >>> round(float(estimate_slope(pipe, homes, "area")["area"]["effect"].mean()))
    3
    """
    steps = Steps(pipeline)
    table = Table(X, steps.names)
    check_order("`sample_weight`", options.get("sample_weight"), table.rows)
    mask = _marked(where, table, options)
    options = {**options, "where": mask, "by": _groups(by, table, options)}
    tree = along_columns(steps, table, list(along) if isinstance(along, list | tuple) else [along], options)
    return tree if options.get("average", True) else _labelled(tree, table, mask)


def _check_order_of_arguments(scenario: Any, table: Table) -> None:
    """Check values of arguments against the labels of the rows, which the steps may lose."""
    arguments = scenario.get("arguments") if isinstance(scenario, Mapping) else None
    for name, value in arguments.items() if isinstance(arguments, Mapping) else ():
        check_order(f"A scenario's value for the argument {name!r}", value, table.rows)


def _changes_rows(scenario: Any, name: str) -> bool:
    """Whether a scenario changes the rows of the Pipeline; the estimator refuses what is no scenario."""
    if not isinstance(scenario, Mapping) or isinstance(scenario, xr.DataTree):
        return False
    columns, arguments = scenario.get("columns", {}), scenario.get("arguments", {})
    if not isinstance(columns, Mapping) or not isinstance(arguments, Mapping):
        return False
    return bool(columns) or name in arguments


def _values(name: Any, table: Table, arrays: Mapping[str, Any], what: str) -> Any:
    """Return a column, or an argument of the kernel with a value for each row."""
    if not table.has(name) and name in arrays and np.shape(arrays[name]) == (table.n_rows,):
        return arrays[name]
    return table.series(name, what)


def _marked(where: Any, table: Table, arrays: Mapping[str, Any]) -> Any:
    """Return `where` as a mask of rows."""
    if where is None:
        return None
    return marked(where, table.rows, table.n_rows, lambda name: _values(name, table, arrays, "`where`"))


def _groups(by: Any, table: Table, arrays: Mapping[str, Any]) -> Any:
    """Return `by` as a dict of arrays."""
    names: Sequence[Any] = by if isinstance(by, list | tuple) else [by]
    for key, values in (by if isinstance(by, Mapping) else {}).items():
        check_order(f"The series {key!r} in `by`", values, table.rows)
    if by is None or isinstance(by, Mapping) or any(hasattr(name, "__array__") and np.ndim(name) for name in names):
        return by  # which the estimator reads, or refuses
    return {str(name): _values(name, table, arrays, "`by`") for name in names}


def _labelled(tree: EffectTree, table: Table, mask: Any) -> EffectTree:
    """Return effects of single rows with the labels of a data frame, which the steps may have lost."""
    if table.index is None:
        return tree
    labels = table.index if mask is None else table.index[np.asarray(mask)]
    groups = {}
    for name, node in tree.children.items():
        dataset = node.to_dataset()
        dim = str(dataset["effect"].dims[2])
        bare = dataset.drop_vars([each for each, labels_ in dataset.coords.items() if labels_.dims == (dim,)])
        taken = {str(each) for each in (*bare.dims, *bare.data_vars)} - {dim}
        groups[name] = bare.assign_coords(row_coordinates(dim, labels, taken))
    return EffectTree.of(groups, tree.attrs)
