"""A picture of what the data taught about latent sites."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skaimz.plotting.checks import check_estimator
from skaimz.plotting.density import ANYWHERE, bounds_of, draw_density, widened
from skaimz.plotting.sites import elements, global_sites, site_of
from skaimz.plotting.style import COLOURS, legend_of_panels, new_panels

__all__ = ["PriorPosteriorDisplay"]

PRIOR, POSTERIOR = COLOURS[4], COLOURS[0]
# The prior is shown to so many widths of the posterior on either side.
MOST_WIDTHS = 2
# Quantiles between which a prior is worth showing.
OUTERMOST = (0.005, 0.995)


class PriorPosteriorDisplay:
    """Densities of latent sites before and after the data.

    Parameters
    ----------
    prior, posterior : dict of str to array of shape (n_chains, n_draws, ...)
        Draws by site. Sites that only one of them has are left out.
    bounds : dict of str to tuple of float, optional
        Smallest and largest value of a site, where it has such, which densities do not cross.

    Attributes
    ----------
    axes_ : array of shape (n_panels,) of matplotlib.axes.Axes
        Where it was last drawn, one axes for each element of a site.
    figure_ : matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If the draws of a site differ in shape.

    Notes
    -----
    The horizontal axis shows the posterior, and the prior up to two widths of the posterior on either side, so that a
    posterior that is much narrower than its prior is still seen: such a prior runs out of the picture, close to zero.

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
        prior: Mapping[str, Any],
        posterior: Mapping[str, Any],
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
        estimator: Any,
        X: Any,
        sites: str | Sequence[str] | None = None,
        *,
        num_samples: int = 1000,
        random_state: Any = None,
        ax: Any = None,
        **arrays: Any,
    ) -> Self:
        """Draw from the prior, and compare with the posterior draws of an estimator.

        Parameters
        ----------
        estimator : NumPyroImpactRegressor or NumPyroImpactClassifier
            Fitted.
        X : array-like of shape (n_rows, n_features)
            Rows to run the kernel on; any will do for sites without an entry for each row.
        sites : str or sequence of str, optional
            Latent sites, or single elements of them, as in ``"coef[0]"``. All sites without an entry for each row where
            None.
        num_samples : int, default=1000
            Draws from the prior.
        random_state : int, RandomState, JAX key or None, default=None
            Seed of these draws; the estimator's own where None.
        ax : matplotlib.axes.Axes or array of them, optional
            As in :meth:`plot`.
        **arrays : array or scalar
            The kernel's further arguments.

        Returns
        -------
        PriorPosteriorDisplay

        Raises
        ------
        TypeError
            If the estimator is not one of this package.
        ValueError
            If sites are unknown or too many, or a prior is improper.
        """
        check_estimator(estimator, "sample_posterior", cls.__name__)
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
        prior: Mapping[str, Any],
        posterior: Mapping[str, Any],
        sites: str | Sequence[str] | None = None,
        *,
        bounds: Mapping[str, tuple[float, float]] | None = None,
        ax: Any = None,
    ) -> Self:
        """Compare draws that were made before.

        Parameters
        ----------
        prior, posterior, bounds
            As in the class.
        sites, ax
            As in :meth:`plot`.

        Returns
        -------
        PriorPosteriorDisplay
        """
        return cls(prior, posterior, bounds=bounds).plot(sites, ax=ax)

    def plot(self, sites: str | Sequence[str] | None = None, *, ax: Any = None) -> Self:
        """Draw.

        Parameters
        ----------
        sites : str or sequence of str, optional
            Sites and elements of sites (``"coef[0]"``); all where None.
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
        after = elements(self.posterior, sites)
        before = elements(self.prior, sites)
        self.axes_ = new_panels(ax, len(after))
        self.figure_ = self.axes_[0].figure
        for panel, label in zip(self.axes_, after, strict=True):
            bounds = self.bounds.get(site_of(label, self.posterior), ANYWHERE)
            _draw(panel, label, before[label].ravel(), after[label].ravel(), bounds)
        legend_of_panels(self.axes_)
        return self


def _draw(ax: Any, label: str, prior: np.ndarray, posterior: np.ndarray, bounds: tuple[float, float]) -> None:
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
    """Return ends of the horizontal axis: the posterior, and what of the prior leaves it wide enough to be seen."""
    low, high = widened(posterior.min(), posterior.max())
    width = (high - low) if np.ptp(posterior) else np.inf
    first, last = widened(*np.quantile(prior, OUTERMOST))
    low, high = min(low, max(first, low - MOST_WIDTHS * width)), max(high, min(last, high + MOST_WIDTHS * width))
    low, high = np.clip([low, high], *bounds)
    return float(low), float(high)
