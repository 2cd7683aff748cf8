"""A plot of the prior and the posterior of latent sites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from skaimz.plotting.checks import check_estimator
from skaimz.plotting.density import ANYWHERE, bounds_of, draw_density, widened
from skaimz.plotting.sites import elements, global_sites, site_of
from skaimz.plotting.style import COLOURS, legend_of_panels, new_panels

if TYPE_CHECKING:
    from skaimz.plotting.types import Axes, AxesLike, RandomState

__all__ = ["PriorPosteriorDisplay"]

PRIOR, POSTERIOR = COLOURS[4], COLOURS[0]
# The axis shows the prior up to this number of posterior widths on either side of the posterior.
MOST_WIDTHS = 2
# The axis shows the prior between these quantiles at most.
OUTERMOST = (0.005, 0.995)


class PriorPosteriorDisplay:
    """Prior and posterior densities of latent sites.

    Parameters
    ----------
    prior, posterior : dict of str to array of shape (n_chains, n_draws, ...)
        Draws by site. Only sites that both have are shown.
    bounds : dict of str to tuple of float, optional
        Smallest and largest value of sites that have bounds, beyond which densities are zero.

    Attributes
    ----------
    axes_ : array of shape (n_panels,) of matplotlib.axes.Axes
        Axes of the latest plot, one for each element of a site.
    figure_ : matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If the draws of a site differ in shape.

    Notes
    -----
    The horizontal axis shows the whole posterior, and the prior up to two widths of the posterior on either side. A
    posterior that is much narrower than its prior therefore remains visible, and only a part of the prior is shown.

    Examples
    --------
    >>> import numpy as np
    >>> from skaimz import NumPyroImpactRegressor
    >>> from skaimz.plotting import PriorPosteriorDisplay
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 2))
    >>> y = X @ [1.0, 2.0] + rng.normal(size=200)
    >>> model = NumPyroImpactRegressor(random_state=0).fit(X, y)
    >>> display = PriorPosteriorDisplay.from_estimator(model, X, "beta")
    >>> [ax.get_xlabel() for ax in display.axes_]
    ['beta[0]', 'beta[1]']
    """

    def __init__(
        self,
        prior: Mapping[str, ArrayLike],
        posterior: Mapping[str, ArrayLike],
        *,
        bounds: Mapping[str, tuple[float, float]] | None = None,
    ):
        shared = [name for name in posterior if name in prior]
        self.prior, self.posterior = ({name: np.asarray(of[name]) for name in shared} for of in (prior, posterior))
        self.bounds = dict(bounds or {})
        for name in shared:
            shapes = self.prior[name].shape, self.posterior[name].shape
            if min(map(len, shapes)) < 2 or shapes[0][2:] != shapes[1][2:]:
                raise ValueError(
                    f"Draws of {name!r} must have the shape (n_chains, n_draws, ...), with the same for each draw of "
                    f"prior and posterior, got {shapes[0]} and {shapes[1]}."
                )

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: ArrayLike,
        sites: str | Sequence[str] | None = None,
        *,
        num_samples: int = 1000,
        random_state: RandomState = None,
        ax: AxesLike | None = None,
        **arrays: ArrayLike,
    ) -> Self:
        """Compare draws from the prior with the posterior draws of an estimator.

        Parameters
        ----------
        estimator : NumPyroImpactRegressor or NumPyroImpactClassifier, or Pipeline or search that ends in one
            Fitted.
        X : array-like of shape (n_rows, n_features)
            Rows to run the kernel on. Sites without an entry for each row do not depend on them.
        sites : str or sequence of str, optional
            Latent sites, or single elements of them, as in ``"coef[0]"``. All sites without an entry for each row if
            None.
        num_samples : int, default=1000
            Number of draws from the prior.
        random_state : int, RandomState, JAX key or None, default=None
            Seed of these draws; that of the estimator if None.
        ax : matplotlib.axes.Axes or array of them, optional
            Arguments of :meth:`plot`.
        **arrays : array-like
            Further arguments of the kernel.

        Returns
        -------
        PriorPosteriorDisplay

        Raises
        ------
        TypeError
            If the estimator is not one of this package.
        ValueError
            If a site is unknown, there are too many elements for a plot, or a prior is improper.
        """
        estimator, X = check_estimator(estimator, X, "sample_posterior", cls.__name__)
        check_is_fitted(estimator, "posterior_")
        posterior = estimator.posterior_
        sites = global_sites(estimator) if sites is None else [sites] if isinstance(sites, str) else list(sites)
        names = list(dict.fromkeys(site_of(name, posterior) for name in sites))
        prior = estimator.sample_prior_predictive_on_batch(
            X,
            num_samples=num_samples,
            return_sites=names,
            return_datatree=False,
            random_state=random_state,
            **arrays,
        )
        spec = getattr(estimator, "kernel_spec_", None)
        bounds = {} if spec is None else {name: bounds_of(spec[name].support) for name in names}
        return cls(prior, posterior, bounds=bounds).plot(sites, ax=ax)

    @classmethod
    def from_draws(
        cls,
        prior: Mapping[str, ArrayLike],
        posterior: Mapping[str, ArrayLike],
        sites: str | Sequence[str] | None = None,
        *,
        bounds: Mapping[str, tuple[float, float]] | None = None,
        ax: AxesLike | None = None,
    ) -> Self:
        """Compare existing draws.

        Parameters
        ----------
        prior, posterior, bounds
            Arguments of the class.
        sites, ax
            Arguments of :meth:`plot`.

        Returns
        -------
        PriorPosteriorDisplay
        """
        return cls(prior, posterior, bounds=bounds).plot(sites, ax=ax)

    def plot(self, sites: str | Sequence[str] | None = None, *, ax: AxesLike | None = None) -> Self:
        """Draw the plot.

        Parameters
        ----------
        sites : str or sequence of str, optional
            Sites and elements of sites (``"coef[0]"``); all sites if None.
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
        after = elements(self.posterior, sites)
        before = elements(self.prior, sites)
        self.axes_ = new_panels(ax, len(after))
        self.figure_ = self.axes_[0].figure
        for panel, label in zip(self.axes_, after, strict=True):
            bounds = self.bounds.get(site_of(label, self.posterior), ANYWHERE)
            _draw(panel, label, before[label].ravel(), after[label].ravel(), bounds)
        legend_of_panels(self.axes_)
        return self


def _draw(ax: Axes, label: str, prior: np.ndarray, posterior: np.ndarray, bounds: tuple[float, float]) -> None:
    grid = np.linspace(*_window(prior, posterior, bounds), 300)
    for name, draws, colour, style in (("Prior", prior, PRIOR, "--"), ("Posterior", posterior, POSTERIOR, "-")):
        heights = draw_density(ax, draws, grid, bounds, color=colour, lw=1.5, ls=style, label=name)
        if heights is not None:
            ax.fill_between(grid, heights, color=colour, alpha=0.2, lw=0)
    ax.set_xlim(grid[0], grid[-1])
    ax.set_ylim(bottom=0)
    ax.set_xlabel(label)
    ax.set_ylabel("Density")


def _window(prior: np.ndarray, posterior: np.ndarray, bounds: tuple[float, float]) -> tuple[float, float]:
    """Return the limits of the horizontal axis, as the notes of the class describe them."""
    low, high = widened(posterior.min(), posterior.max())
    width = (high - low) if np.ptp(posterior) else np.inf
    first, last = widened(*np.quantile(prior, OUTERMOST))
    low, high = min(low, max(first, low - MOST_WIDTHS * width)), max(high, min(last, high + MOST_WIDTHS * width))
    low, high = np.clip([low, high], *bounds)
    return float(low), float(high)
