"""A plot of effects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator

from skaimz import pipeline
from skaimz.effects import EffectTree
from skaimz.estimators import unwrapped
from skaimz.plotting.checks import check_level
from skaimz.plotting.density import draw_density, widened
from skaimz.plotting.style import COLOURS, new_axes

if TYPE_CHECKING:
    from skaimz.plotting.types import Axes

__all__ = ["EffectDisplay"]

UNITS = {"difference": "Effect", "ratio": "Ratio", "lift": "Lift in %", "slope": "Slope", "elasticity": "Elasticity"}
# The labels of more effects would not be legible.
MOST_INTERVALS = 60


class EffectDisplay:
    """Effects with their uncertainty.

    Parameters
    ----------
    effects : EffectTree
        Result of ``estimate_effect`` or ``estimate_slope``.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Axes of the latest plot.
    figure_ : matplotlib.figure.Figure

    Examples
    --------
    >>> import numpy as np
    >>> from skaimz import NumPyroImpactRegressor
    >>> from skaimz.plotting import EffectDisplay
    >>> rng = np.random.default_rng(0)
    >>> X = np.column_stack([rng.normal(size=200), rng.integers(2, size=200)])
    >>> y = X @ [1.0, 2.0] + rng.normal(size=200)
    >>> model = NumPyroImpactRegressor(random_state=0).fit(X, y)
    >>> off, on = {"columns": {1: 0}}, {"columns": {1: 1}}
    >>> display = EffectDisplay.from_estimator(model, X, baseline=off, scenarios={"treatment": on})
    >>> display.ax_.get_xlabel()
    'Effect'
    """

    def __init__(self, effects: EffectTree):
        self.effects = effects

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: ArrayLike,
        *,
        kind: str = "interval",
        level: float = 0.9,
        ax: Axes | None = None,
        **options: Any,
    ) -> Self:
        """Estimate effects and draw them.

        Parameters
        ----------
        estimator : NumPyroImpactRegressor or NumPyroImpactClassifier, or Pipeline or search that ends in one
        X : array-like of shape (n_rows, n_features)
        kind, level, ax
            Arguments of :meth:`plot`.
        **options : object
            Arguments of ``estimate_effect``, or of :func:`skaimz.pipeline.estimate_effect`. The default of ``average``
            is False if ``kind`` is ``"uplift"``.

        Returns
        -------
        EffectDisplay
        """
        if kind == "uplift":
            options = {"average": False, **options}
        steps, model = unwrapped(estimator)
        effects = pipeline.estimate_effect(estimator, X, **options) if steps else model.estimate_effect(X, **options)
        return cls.from_effects(effects, kind=kind, level=level, ax=ax)

    @classmethod
    def from_effects(
        cls, effects: EffectTree, *, kind: str = "interval", level: float = 0.9, ax: Axes | None = None
    ) -> Self:
        """Draw existing estimates of effects.

        Parameters
        ----------
        effects : EffectTree
        kind, level, ax
            Arguments of :meth:`plot`.

        Returns
        -------
        EffectDisplay
        """
        return cls(effects).plot(kind, level=level, ax=ax)

    def plot(self, kind: str = "interval", *, level: float = 0.9, ax: Axes | None = None) -> Self:
        """Draw the plot.

        Parameters
        ----------
        kind : {"interval", "density", "uplift"}, default="interval"
            ``"interval"`` shows the median and intervals of each effect, and ``"density"`` its posterior density.
            ``"uplift"``, for effects of rows (``average=False``), shows the total effect of treating a growing share of
            the rows, in descending order of their expected effects.
        level : float, default=0.9
            Posterior probability of the equal-tailed intervals.
        ax : matplotlib.axes.Axes, optional
            Axes to draw on; a new figure if None.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If there are too many effects for a plot, or if an uplift curve is to show effects that are not those of
            rows or are not differences.
        """
        drawers = {"interval": self._draw_intervals, "density": self._draw_densities, "uplift": self._draw_uplift}
        if kind not in drawers:
            raise ValueError(f"`kind` must be one of {sorted(drawers)}, got {kind!r}.")
        level = check_level("level", level)
        if kind != "uplift":
            count = len(self.effects.summary(level))
            if count > MOST_INTERVALS:
                raise ValueError(f"A picture of {count} effects is not legible: draw {MOST_INTERVALS} at most.")
        else:
            self._check_rows()
        self.ax_ = new_axes(ax, height=max(2.2, 1.2 + 0.38 * count) if kind == "interval" else 4.0)
        self.figure_ = self.ax_.figure
        drawers[kind](level)
        return self

    @property
    def _unit(self) -> str:
        return UNITS.get(self.effects.attrs["contrast"], self.effects.attrs["contrast"])

    @property
    def _neutral(self) -> float:
        return 1.0 if self.effects.attrs["contrast"] == "ratio" else 0.0

    def _draw_intervals(self, level: float) -> None:
        wide, half = self.effects.summary(level), self.effects.summary(0.5)
        places = np.arange(len(wide))[::-1]
        names = wide.index.get_level_values(0)
        colours = dict(zip(dict.fromkeys(names), _cycled(COLOURS), strict=False))
        ax = self.ax_
        for place, name, (_, outer), (_, inner) in zip(places, names, wide.iterrows(), half.iterrows(), strict=True):
            colour, height = colours[name], [place, place]
            ax.plot([outer["lower"], outer["upper"]], height, color=colour, lw=1.5)
            ax.plot([inner["lower"], inner["upper"]], height, color=colour, lw=4.5, solid_capstyle="butt")
            ax.plot(outer["median"], place, "o", color="white", mec=colour, mew=1.5, ms=6)
        ax.set_yticks(places, [_label(label) for label in wide.index])
        ax.set_ylim(-0.7, len(wide) - 0.3)
        ax.axvline(self._neutral, color="0.6", lw=1, zorder=0)
        ax.set_xlabel(self._unit)
        ax.set_title(f"Median, 50 % and {100 * level:g} % intervals", loc="left")

    def _draw_densities(self, level: float) -> None:
        summary = self.effects.summary(level)
        ax = self.ax_
        for label, draws, colour in zip(summary.index, self._draws(), _cycled(COLOURS), strict=False):
            grid = np.linspace(*widened(draws.min(), draws.max()), 200)
            heights = draw_density(ax, draws, grid, color=colour, label=_label(label))
            if heights is not None:
                inside = (grid >= summary.loc[label, "lower"]) & (grid <= summary.loc[label, "upper"])
                ax.fill_between(grid, heights, where=inside, color=colour, alpha=0.2, lw=0)
        ax.axvline(self._neutral, color="0.6", lw=1, zorder=0)
        ax.set_ylim(bottom=0)
        ax.set_xlabel(self._unit)
        ax.set_ylabel("Posterior density")
        ax.set_title(f"Shaded: {100 * level:g} % intervals", loc="left")
        if len(summary) > 1:
            ax.legend(frameon=False)

    def _check_rows(self) -> None:
        """Raise ValueError if effects cannot be summed over rows."""
        for node in self.effects.children.values():
            sizes = [size for dim, size in node["effect"].sizes.items() if dim not in ("chain", "draw")]
            if len(sizes) != 1 or sizes[0] < 2:
                raise ValueError("An uplift curve needs the effects of rows: estimate them with `average=False`.")
        contrast = self.effects.attrs["contrast"]
        if contrast in ("ratio", "lift"):
            raise ValueError(f"An uplift curve adds up differences, and cannot show `contrast={contrast!r}`.")

    def _draw_uplift(self, level: float) -> None:
        ax = self.ax_
        for (name, node), colour in zip(self.effects.children.items(), _cycled(COLOURS), strict=False):
            effect = node["effect"]
            draws = effect.transpose("chain", "draw", ...).to_numpy()
            draws = draws.reshape(-1, draws.shape[-1])
            order = np.argsort(-draws.mean(axis=0), kind="stable")
            n_rows = draws.shape[1]
            gain = np.zeros((len(draws), n_rows + 1))
            np.cumsum(draws[:, order], axis=1, out=gain[:, 1:])
            gain /= n_rows
            share = 100 * np.arange(n_rows + 1) / n_rows
            lower, upper = np.quantile(gain, [(1 - level) / 2, (1 + level) / 2], axis=0)
            mean = gain.mean(axis=0)
            ax.plot(share, mean, color=colour, label=name)
            ax.fill_between(share, lower, upper, color=colour, alpha=0.2, lw=0)
            ax.plot([0, 100], [0, mean[-1]], color=colour, ls="--", lw=1)
        ax.axhline(0, color="0.6", lw=1, zorder=0)
        ax.set_xlabel("Rows treated, largest expected effect first, in %")
        ax.set_ylabel("Effect for each row of all")
        ax.set_title(f"Band: {100 * level:g} % interval. Dashed: rows in random order", loc="left")
        if len(self.effects.children) > 1:
            ax.legend(frameon=False)

    def _draws(self) -> list[np.ndarray]:
        """Return the draws of every effect in the order of the summary."""
        draws: list[np.ndarray] = []
        for node in self.effects.children.values():
            effect = node["effect"].transpose(..., "chain", "draw").to_numpy()
            draws.extend(effect.reshape(-1, effect.shape[-2] * effect.shape[-1]))
        return draws


def _label(label: object) -> str:
    return ", ".join(map(str, label)) if isinstance(label, tuple) else str(label)


def _cycled(colours: tuple[str, ...]) -> list[str]:
    return list(colours) * (1 + MOST_INTERVALS // len(colours))
