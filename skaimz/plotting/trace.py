"""A plot of the course of an inference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from skaimz.plotting.checks import check_estimator, check_values
from skaimz.plotting.sites import elements, global_sites
from skaimz.plotting.style import COLOURS, OBSERVED, legend_above, legend_of_panels, new_panels, tint

if TYPE_CHECKING:
    from skaimz.plotting.types import Axes, AxesLike

__all__ = ["TraceDisplay"]

# A loss that falls by less than this, in nats, has settled.
LEAST_RANGE = 3.0
CHAIN_COLOURS = COLOURS[:-1]


class TraceDisplay:
    """The loss of a variational fit at each step, or the draws of Markov chains.

    The loss often falls by orders of magnitude before it settles. The vertical axis therefore covers the range of the
    loss in the last half of the steps, at least 3 nats, and twice that range above it. The label of the horizontal axis
    says how many steps at the beginning are above the plot.

    Parameters
    ----------
    losses : array-like of shape (n_steps,), optional
        Losses of a variational fit.
    draws : dict of str to array of shape (n_chains, n_draws, ...), optional
        Draws of chains by site, instead of losses.
    diverging : array-like of shape (n_chains, n_draws), optional
        Whether the trajectory of a chain diverged.

    Attributes
    ----------
    axes_ : array of shape (n_panels,) of matplotlib.axes.Axes
        Axes of the latest plot: one for losses, or one for each element of a site.
    figure_ : matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If shapes do not match, or no loss is finite.

    Examples
    --------
    >>> import numpy as np
    >>> from skaimz import NumPyroImpactRegressor
    >>> from skaimz.plotting import TraceDisplay
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 2))
    >>> y = X @ [1.0, 2.0] + rng.normal(size=200)
    >>> model = NumPyroImpactRegressor(inference="svi", random_state=0).fit(X, y)
    >>> TraceDisplay.from_estimator(model).axes_[0].get_ylabel()
    'Loss'
    """

    def __init__(
        self,
        *,
        losses: ArrayLike | None = None,
        draws: Mapping[str, ArrayLike] | None = None,
        diverging: ArrayLike | None = None,
    ):
        if (losses is None) == (draws is None):
            raise ValueError("Give either `losses` or `draws`.")
        self.losses = None if losses is None else check_values("losses", losses, (None,)).astype(np.float64)
        if self.losses is not None and not np.isfinite(self.losses).any():
            raise ValueError("`losses` must hold a finite value.")
        self.draws = None if draws is None else {name: np.asarray(draw) for name, draw in draws.items()}
        self.diverging = None
        for name, draw in (self.draws or {}).items():
            if draw.ndim < 2:
                raise ValueError(f"Draws of {name!r} must have a chain and a draw axis, got the shape {draw.shape}.")
            if diverging is not None:
                self.diverging = check_values("diverging", diverging, draw.shape[:2]).astype(bool)

    @classmethod
    def from_estimator(
        cls, estimator: BaseEstimator, sites: str | Sequence[str] | None = None, *, ax: AxesLike | None = None
    ) -> Self:
        """Show the losses of a variational fit, or else the posterior draws of the estimator as chains.

        Parameters
        ----------
        estimator : NumPyroImpactRegressor or NumPyroImpactClassifier, or Pipeline or search that ends in one
            Fitted.
        sites : str or sequence of str, optional
            Latent sites whose chains are shown, or single elements of them, as in ``"coef[0]"``. All sites without an
            entry for each row if None.
        ax : matplotlib.axes.Axes or array of them, optional
            Arguments of :meth:`plot`.

        Returns
        -------
        TraceDisplay

        Raises
        ------
        TypeError
            If the estimator is not one of this package.
        ValueError
            If ``sites`` is passed for a variational fit, or a site is unknown, or there are too many elements for a
            plot.
        """
        estimator, _ = check_estimator(estimator, None, "sample_posterior", cls.__name__)
        check_is_fitted(estimator, "posterior_")
        result = getattr(estimator, "fit_result_", None)
        if result is not None and result.losses is not None:
            if sites is not None:
                raise ValueError(
                    "`sites` chooses which chains to show, but this fit is variational: the plot shows its loss."
                )
            return cls(losses=result.losses).plot(ax=ax)
        diverging = None if result is None else result.sample_stats.get("diverging")
        chosen = global_sites(estimator) if sites is None else sites
        return cls(draws=estimator.posterior_, diverging=diverging).plot(chosen, ax=ax)

    @classmethod
    def from_draws(
        cls,
        draws: Mapping[str, ArrayLike],
        sites: str | Sequence[str] | None = None,
        *,
        diverging: ArrayLike | None = None,
        ax: AxesLike | None = None,
    ) -> Self:
        """Show draws of chains.

        Parameters
        ----------
        draws, diverging
            Arguments of the class.
        sites, ax
            Arguments of :meth:`plot`.

        Returns
        -------
        TraceDisplay
        """
        return cls(draws=draws, diverging=diverging).plot(sites, ax=ax)

    @classmethod
    def from_losses(cls, losses: ArrayLike, *, ax: AxesLike | None = None) -> Self:
        """Show losses.

        Parameters
        ----------
        losses : array-like of shape (n_steps,)
        ax : matplotlib.axes.Axes, optional

        Returns
        -------
        TraceDisplay
        """
        return cls(losses=losses).plot(ax=ax)

    def plot(self, sites: str | Sequence[str] | None = None, *, ax: AxesLike | None = None) -> Self:
        """Draw the plot.

        Parameters
        ----------
        sites : str or sequence of str, optional
            Sites and elements of sites (``"coef[0]"``) whose chains are shown; all sites if None.
        ax : matplotlib.axes.Axes or array of them, optional
            Axes to draw on: a single axes, which is divided if there are several panels, or an axes for each panel. A
            new figure if None.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a site is unknown, there are too many elements for a plot, or the number of axes does not match.
        """
        if self.losses is not None:
            self.axes_ = new_panels(ax, 1)
            _draw_losses(self.axes_[0], self.losses)
        else:
            chosen = elements(self.draws or {}, sites)
            self.axes_ = new_panels(ax, len(chosen))
            for panel, (label, chains) in zip(self.axes_, chosen.items(), strict=True):
                self._draw_chains(panel, label, chains)
            if self.axes_[0].get_legend_handles_labels()[0]:
                legend_of_panels(self.axes_)
        self.figure_ = self.axes_[0].figure
        return self

    def _draw_chains(self, ax: Axes, label: str, chains: np.ndarray) -> None:
        # Chains have no labels if two of them have the same colour, or if there is only one.
        named = 1 < len(chains) <= len(CHAIN_COLOURS)
        for i, draws in enumerate(chains):
            name = f"Chain {i + 1}" if named else None
            ax.plot(draws, color=CHAIN_COLOURS[i % len(CHAIN_COLOURS)], lw=0.7, label=name)
        if self.diverging is not None and self.diverging.any():
            _mark(ax, np.flatnonzero(self.diverging.any(axis=0)), OBSERVED, "Divergence")
        ax.margins(x=0)
        ax.set_xlabel("Draw")
        ax.set_ylabel(label)


def _draw_losses(ax: Axes, losses: np.ndarray) -> None:
    steps = np.arange(1, len(losses) + 1)
    finite = np.isfinite(losses)
    window = max(1, len(losses) // 50)
    mean = _running_mean(losses, window)
    ax.plot(steps, np.where(finite, losses, np.nan), color=tint(COLOURS[0], 0.35), lw=0.7, label="Each step")
    ax.plot(steps, mean, color=COLOURS[0], lw=2, label=f"Mean of {window} steps")
    if not finite.all():
        _mark(ax, steps[~finite], COLOURS[1], "Not finite")
    low, high = _limits(losses)
    ax.set_ylim(low, high)
    ax.margins(x=0)
    above = int(np.argmin(mean > high))
    ax.set_xlabel(f"Step (the loss of the first {above} is above the picture)" if above else "Step")
    ax.set_ylabel("Loss")
    legend_above(ax)


def _limits(losses: np.ndarray) -> tuple[float, float]:
    """Return the limits of the axis for losses, as the class describes them."""
    finite = losses[np.isfinite(losses)]
    tail = finite[len(finite) // 2 :]
    low, high = tail.min(), np.quantile(tail, 0.99)
    extent = max(high - low, LEAST_RANGE)
    top = min(high + 2 * extent, max(finite.max(), low + LEAST_RANGE))
    return low - 0.05 * (top - low), top + 0.05 * (top - low)


def _running_mean(losses: np.ndarray, window: int) -> np.ndarray:
    """Return the mean of the finite losses in a window around each step, which is shorter at both ends."""
    finite = np.isfinite(losses)

    def sums(values: np.ndarray) -> np.ndarray:
        # Summed from the end, so that the large losses of the first steps do not reduce the precision of the last ones.
        return np.concatenate([np.cumsum(values[::-1])[::-1], [0]])

    steps = np.arange(len(losses))
    first, last = np.maximum(steps - window // 2, 0), np.minimum(steps + (window + 1) // 2, len(losses))
    total, count = (
        sum_from[first] - sum_from[last] for sum_from in (sums(np.where(finite, losses, 0.0)), sums(finite))
    )
    return np.divide(total, count, out=np.full(len(losses), np.nan), where=count > 0)


def _mark(ax: Axes, steps: np.ndarray, colour: str, label: str) -> None:
    """Mark steps on the horizontal axis."""
    heights = np.full(len(steps), 0.02)
    ax.plot(steps, heights, "|", color=colour, ms=8, mew=1, transform=ax.get_xaxis_transform(), label=label)
