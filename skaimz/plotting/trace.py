"""A picture of how an inference went."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skaimz.plotting.checks import check_estimator, check_values
from skaimz.plotting.sites import elements, global_sites
from skaimz.plotting.style import COLOURS, OBSERVED, legend_above, legend_of_panels, new_panels, tint

__all__ = ["TraceDisplay"]

# Losses are in nats, of which fewer than so many are of no concern: a loss that falls by less has settled.
LEAST_RANGE = 3.0
CHAIN_COLOURS = COLOURS[:-1]


class TraceDisplay:
    """The loss of a variational fit step by step, or the draws of Markov chains.

    The loss falls by orders of magnitude before it settles, so the vertical axis shows where it settled: the range of
    the last half of the steps, at least 3 nats, and twice as much above it. How many first steps are out of the picture
    is said below it.

    Parameters
    ----------
    losses : array-like of shape (n_steps,), optional
        Losses of a variational fit.
    draws : dict of str to array of shape (n_chains, n_draws, ...), optional
        Draws of chains by site; given instead of losses.
    diverging : array-like of shape (n_chains, n_draws), optional
        Where a chain's trajectory diverged.

    Attributes
    ----------
    axes_ : array of shape (n_panels,) of matplotlib.axes.Axes
        Where it was last drawn: one axes for losses, one for each element of a site.
    figure_ : matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If shapes do not fit together, or no loss is finite.

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

    def __init__(self, *, losses: Any = None, draws: Mapping[str, Any] | None = None, diverging: Any = None):
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
    def from_estimator(cls, estimator: Any, sites: str | Sequence[str] | None = None, *, ax: Any = None) -> Self:
        """Show the losses of a variational fit, or the draws of chains, also of those made elsewhere.

        Parameters
        ----------
        estimator : NumPyroImpactRegressor or NumPyroImpactClassifier
            Fitted.
        sites : str or sequence of str, optional
            Latent sites to show the chains of, or single elements of them, as in ``"coef[0]"``. All sites without an
            entry for each row where None.
        ax : matplotlib.axes.Axes or array of them, optional
            As in :meth:`plot`.

        Returns
        -------
        TraceDisplay

        Raises
        ------
        TypeError
            If the estimator is not one of this package.
        ValueError
            If ``sites`` are given for a variational fit, unknown, or too many.
        """
        check_estimator(estimator, "sample_posterior", cls.__name__)
        check_is_fitted(estimator, "posterior_")
        result = getattr(estimator, "fit_result_", None)
        if result is not None and result.losses is not None:
            if sites is not None:
                raise ValueError(
                    "`sites` chooses what is shown of chains, but this fit is variational, and has a loss."
                )
            return cls(losses=result.losses).plot(ax=ax)
        diverging = None if result is None else result.sample_stats.get("diverging")
        chosen = global_sites(estimator) if sites is None else sites
        return cls(draws=estimator.posterior_, diverging=diverging).plot(chosen, ax=ax)

    @classmethod
    def from_draws(
        cls,
        draws: Mapping[str, Any],
        sites: str | Sequence[str] | None = None,
        *,
        diverging: Any = None,
        ax: Any = None,
    ) -> Self:
        """Show draws of chains.

        Parameters
        ----------
        draws, diverging
            As in the class.
        sites, ax
            As in :meth:`plot`.

        Returns
        -------
        TraceDisplay
        """
        return cls(draws=draws, diverging=diverging).plot(sites, ax=ax)

    @classmethod
    def from_losses(cls, losses: Any, *, ax: Any = None) -> Self:
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

    def plot(self, sites: str | Sequence[str] | None = None, *, ax: Any = None) -> Self:
        """Draw.

        Parameters
        ----------
        sites : str or sequence of str, optional
            Sites and elements of sites (``"coef[0]"``) to show the chains of; all where None.
        ax : matplotlib.axes.Axes or array of them, optional
            Where to draw: an axes, whose place is divided where there are several panels, or an axes for each panel. A
            new figure where None.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a site is unknown, there are too many elements for a picture, or another number of axes.
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

    def _draw_chains(self, ax: Any, label: str, chains: np.ndarray) -> None:
        # Colours that come again name no chain, and a single chain needs no name.
        named = 1 < len(chains) <= len(CHAIN_COLOURS)
        for i, draws in enumerate(chains):
            name = f"Chain {i + 1}" if named else None
            ax.plot(draws, color=CHAIN_COLOURS[i % len(CHAIN_COLOURS)], lw=0.7, label=name)
        if self.diverging is not None and self.diverging.any():
            _mark(ax, np.flatnonzero(self.diverging.any(axis=0)), OBSERVED, "Divergence")
        ax.margins(x=0)
        ax.set_xlabel("Draw")
        ax.set_ylabel(label)


def _draw_losses(ax: Any, losses: np.ndarray) -> None:
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
    """Return ends of the axis for losses, which show where they settled."""
    finite = losses[np.isfinite(losses)]
    tail = finite[len(finite) // 2 :]
    low, high = tail.min(), np.quantile(tail, 0.99)
    extent = max(high - low, LEAST_RANGE)
    top = min(high + 2 * extent, max(finite.max(), low + LEAST_RANGE))
    return low - 0.05 * (top - low), top + 0.05 * (top - low)


def _running_mean(losses: np.ndarray, window: int) -> np.ndarray:
    """Return the mean of the finite losses around each step, of fewer at the ends."""
    finite = np.isfinite(losses)

    def sums(values: np.ndarray) -> np.ndarray:
        # Added up from the end, so that the large losses of the first steps cost the last ones no digits.
        return np.concatenate([np.cumsum(values[::-1])[::-1], [0]])

    places = np.arange(len(losses))
    first, last = np.maximum(places - window // 2, 0), np.minimum(places + (window + 1) // 2, len(losses))
    total, count = (each[first] - each[last] for each in (sums(np.where(finite, losses, 0.0)), sums(finite)))
    return np.divide(total, count, out=np.full(len(losses), np.nan), where=count > 0)


def _mark(ax: Any, places: np.ndarray, colour: str, label: str) -> None:
    """Mark places on the horizontal axis."""
    heights = np.full(len(places), 0.02)
    ax.plot(places, heights, "|", color=colour, ms=8, mew=1, transform=ax.get_xaxis_transform(), label=label)
