"""Trees of effects, and their summary."""

import math
import warnings
from collections.abc import Mapping
from html import escape
from typing import Any, Self

import numpy as np
import pandas as pd
import xarray as xr

from skaimz.datatree import CHAIN_AND_DRAW, to_tree
from skaimz.exceptions import EffectWarning, warn_user

__all__ = ["VARIABLES", "EffectTree"]

# Trees of more effects are shown as xarray does.
MOST_SHOWN = 40
VARIABLES = ("effect", "scenario", "baseline")


class EffectTree(xr.DataTree):
    """Draws of effects: a DataTree with a group for each comparison, and a summary.

    Each group holds the variables ``effect``, ``scenario`` and ``baseline``. Their dimensions are ``chain`` and
    ``draw``, then those of the rows or of groups of rows, then those of the output. ``total_weight`` is the total
    weight of the rows that are averaged: their number, if they have no weights.
    """

    __slots__ = ()

    def __repr__(self) -> str:  # type: ignore[override]
        table = self._short_summary()
        return super().__repr__() if table is None else f"{self._title()}\n\n{table.to_string()}"

    def _repr_html_(self) -> str:
        table = self._short_summary()
        if table is None:
            return super()._repr_html_()
        draws = f"<details><summary>Draws</summary>{super()._repr_html_()}</details>"
        return f"<b>{escape(self._title())}</b>{table.to_html(border=0)}{draws}"

    def _title(self) -> str:
        contrast = str(self.attrs.get("contrast", "effect")).capitalize()
        return f"{contrast}, with 90 % intervals; `summary()` has other levels."

    def _short_summary(self) -> pd.DataFrame | None:
        """Return the summary with few digits, None for many effects, for draws on disk, and for parts of the tree."""
        datasets = [node.to_dataset() for node in self.children.values()]
        if not datasets or any("effect" not in dataset or dataset["effect"].chunks for dataset in datasets):
            return None
        n_draws = math.prod(datasets[0]["effect"].sizes[dim] for dim in CHAIN_AND_DRAW)
        if sum(dataset["effect"].size for dataset in datasets) > MOST_SHOWN * n_draws:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `summary` warns when a user calls it
            table = self.summary()
        digits = 3 - int(np.floor(np.log10(np.nanmax(np.abs(table["sd"]), initial=1e-12))))
        return table.round({column: max(0, digits) for column in table.columns[:-1]}).round({"p_positive": 3})

    @classmethod
    def of(cls, groups: Mapping[Any, xr.Dataset], attrs: Mapping[Any, Any]) -> Self:
        """Join datasets of effects, one for each comparison."""
        return to_tree(groups, attrs, cls)

    def summary(
        self,
        level: float = 0.9,
        *,
        interval: str = "eti",
        rope: tuple[float, float] | None = None,
        variable: str = "effect",
    ) -> pd.DataFrame:
        """Summarise the draws of every effect.

        Parameters
        ----------
        level : float, default=0.9
            Posterior probability of the interval.
        interval : {"eti", "hdi"}, default="eti"
            The equal-tailed interval, or the shortest, which is the highest-density interval if there is one mode.
        rope : pair of float, optional
            Region of practical equivalence, whose effects are too small to matter.
        variable : {"effect", "scenario", "baseline"}, default="effect"
            What to summarise.

        Returns
        -------
        pandas.DataFrame
            A row for every effect, indexed by the comparison and by the labels of groups and outputs. The columns are
            ``mean``, ``sd``, ``median``, ``lower``, ``upper``, ``p_positive`` (the posterior probability that the
            effect is positive or, for ratios, above 1) and, with ``rope``, ``p_rope`` (that it lies in the region).

        Raises
        ------
        ValueError
            If an argument cannot be used.

        Warns
        -----
        EffectWarning
            If some draws of an effect are NaN; its summary is NaN.

        References
        ----------
        J. K. Kruschke (2018), Rejecting or accepting parameter values in Bayesian estimation, Advances in Methods and
        Practices in Psychological Science 1(2), on regions of practical equivalence.

        Examples
        --------
        >>> import numpy as np
        >>> from skaimz import NumPyroImpactRegressor
        >>> rng = np.random.default_rng(0)
        >>> X = np.column_stack([rng.normal(size=200), rng.integers(2, size=200)])
        >>> y = X @ [1.0, 2.0] + rng.normal(scale=0.1, size=200)
        >>> model = NumPyroImpactRegressor(random_state=0).fit(X, y)
        >>> scenarios = {"treated": {"columns": {1: 1}}}
        >>> effects = model.estimate_effect(X, baseline={"columns": {1: 0}}, scenarios=scenarios)
        >>> effects.summary()["mean"].round(1)
        comparison
        treated    2.0
        Name: mean, dtype: float64
        """
        if not 0 < level < 1:
            raise ValueError(f"`level` must lie between 0 and 1, got {level!r}.")
        if interval not in INTERVALS:
            raise ValueError(f"`interval` must be one of {sorted(INTERVALS)}, got {interval!r}.")
        if rope is not None and not (np.shape(rope) == (2,) and rope[0] <= rope[1]):
            raise ValueError(f"`rope` must be a lower and an upper bound, got {rope!r}.")
        groups: list[tuple[str | None, Any]] = [*self.children.items()] or [(self.name, self)]
        if any(variable not in node.data_vars for _, node in groups):
            raise ValueError(
                f"`variable` must be one of {list(VARIABLES)} that all comparisons have, got {variable!r}."
            )
        neutral = 1.0 if variable == "effect" and self.root.attrs.get("contrast") == "ratio" else 0.0
        tables = []
        for name, node in groups:
            labels, draws = _labelled(name, node.to_dataset()[variable])
            # A ratio to zero is infinite, and its standard deviation NaN.
            with np.errstate(invalid="ignore"):
                columns = _statistics(draws, level, interval, neutral)
            if rope is not None:
                columns["p_rope"] = ((draws >= rope[0]) & (draws <= rope[1])).mean(axis=1)
            missing = np.isnan(draws)
            if missing.any():
                # Comparing or sorting would hide NaN.
                columns = {key: np.where(missing.any(axis=1), np.nan, column) for key, column in columns.items()}
                warn_user(
                    f"{missing.sum()} of {missing.size} draws of {name!r} are NaN, and so are the summaries of their "
                    "effects. A parameter of the output's distribution is NaN for some posterior draws, or "
                    "infinite averages are subtracted, or a ratio is of zero to zero.",
                    EffectWarning,
                )
            tables.append(pd.DataFrame(columns, labels))
        return pd.concat(tables)


def _statistics(draws: np.ndarray, level: float, interval: str, neutral: float) -> dict[str, np.ndarray]:
    lower, upper = INTERVALS[interval](draws, level)
    return {
        "mean": draws.mean(axis=1),
        "sd": draws.std(axis=1, ddof=1) if draws.shape[1] > 1 else np.full(len(draws), np.nan),
        "median": np.median(draws, axis=1),
        "lower": lower,
        "upper": upper,
        "p_positive": (draws > neutral).mean(axis=1),
    }


def _labelled(name: str | None, effect: xr.DataArray) -> tuple[pd.Index, np.ndarray]:
    """Return the labels of a comparison's effects, and their draws on the last axis."""
    dims = [str(dim) for dim in effect.dims if dim not in CHAIN_AND_DRAW]
    sizes = [effect.sizes[dim] for dim in dims]
    draws = effect.transpose(*dims, *CHAIN_AND_DRAW).to_numpy()
    draws = draws.reshape(int(np.prod(sizes)), -1)
    columns: dict[str, Any] = {"comparison": np.full(len(draws), name, object)}
    for dim, place in zip(dims, np.unravel_index(np.arange(len(draws)), sizes or (1,)), strict=False):
        # Groups by several variables have these as labels, rather than a number.
        own = [str(other) for other, c in effect.coords.items() if c.dims == (dim,) and other != dim]
        columns |= {label: effect[label].to_numpy()[place] for label in own or [dim]}
    frame = pd.DataFrame(columns)
    index = pd.Index(frame["comparison"]) if len(frame.columns) == 1 else pd.MultiIndex.from_frame(frame)
    return index, draws.astype(np.float64)


def _equal_tailed(draws: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    lower, upper = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=1)
    return lower, upper


def _shortest(draws: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the shortest interval with the share ``level`` of the draws."""
    ordered = np.sort(draws, axis=1)
    n_draws = ordered.shape[1]
    inside = min(int(np.floor(level * n_draws)), n_draws - 1)
    widths = ordered[:, inside:] - ordered[:, : n_draws - inside]
    start = widths.argmin(axis=1)
    rows = np.arange(len(ordered))
    return ordered[rows, start], ordered[rows, start + inside]


INTERVALS = {"eti": _equal_tailed, "hdi": _shortest}
