"""A picture of simulation-based calibration."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from scipy.stats import binom

from skaimz.plotting.checks import check_level, check_values
from skaimz.plotting.sites import check_panels
from skaimz.plotting.style import COLOURS, OBSERVED, legend_of_panels, new_panels, tint

__all__ = ["RankDisplay"]

# A bin is to expect so many replications, and a histogram to have so many bins.
LEAST_EXPECTED, FEWEST_BINS, MOST_BINS = 20, 5, 20


class RankDisplay:
    """Histograms of ranks from simulation-based calibration.

    Of data that were simulated with a parameter drawn from its prior, the rank of that parameter among posterior draws
    is uniform if the inference is right. A histogram that is high at both ends belongs to posteriors that are too
    narrow, one that is high in the middle to posteriors that are too wide, and a slope to a bias. The band holds the
    counts that are expected of uniform ranks, of each bin by itself: quantiles of the binomial distribution.

    Parameters
    ----------
    ranks : dict of str to array of int of shape (n_replications,)
        Ranks of each quantity, from 0 to ``n_draws``.
    n_draws : int
        Posterior draws that a rank is among.

    Attributes
    ----------
    axes_ : array of shape (n_panels,) of matplotlib.axes.Axes
        Where it was last drawn, one axes for each quantity.
    figure_ : matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If ranks are no whole numbers from 0 to ``n_draws``.

    Notes
    -----
    There are 5 to 20 bins, each of which expects 20 replications where there are enough of them. Their number divides
    that of the possible ranks, ``n_draws + 1``, where it has such a divisor, since bins of equally many ranks have the
    same band: 99 or 999 draws are better than 100 or 1000.

    References
    ----------
    S. Talts, M. Betancourt, D. Simpson, A. Vehtari and A. Gelman (2018), Validating Bayesian inference algorithms with
    simulation-based calibration, arXiv:1804.06788, section 4.

    Examples
    --------
    >>> import numpy as np
    >>> from skaimz.plotting import RankDisplay
    >>> ranks = {"slope": np.random.default_rng(0).integers(100, size=200)}
    >>> display = RankDisplay.from_ranks(ranks, n_draws=99)
    >>> display.axes_[0].get_xlabel()
    'Rank of slope'
    """

    def __init__(self, ranks: Mapping[str, Any], n_draws: int):
        self.n_draws = int(n_draws)
        self.ranks = {name: check_values(f"ranks[{name!r}]", of, (None,)) for name, of in ranks.items()}
        for name, found in self.ranks.items():
            whole = found.dtype.kind in "iu" and len(found)
            if not whole or found.min() < 0 or found.max() > self.n_draws:
                raise ValueError(f"The ranks of {name!r} must be integers from 0 to `n_draws`={n_draws}.")

    @classmethod
    def from_result(
        cls, result: Any, quantities: str | Sequence[str] | None = None, *, level: float = 0.99, ax: Any = None
    ) -> Self:
        """Show the result of a simulation-based calibration.

        Parameters
        ----------
        result : object
            With the attributes ``ranks`` and ``n_draws``.
        quantities, level, ax
            As in :meth:`plot`.

        Returns
        -------
        RankDisplay
        """
        return cls.from_ranks(result.ranks, result.n_draws, quantities, level=level, ax=ax)

    @classmethod
    def from_ranks(
        cls,
        ranks: Mapping[str, Any],
        n_draws: int,
        quantities: str | Sequence[str] | None = None,
        *,
        level: float = 0.99,
        ax: Any = None,
    ) -> Self:
        """Show ranks.

        Parameters
        ----------
        ranks, n_draws
            As in the class.
        quantities, level, ax
            As in :meth:`plot`.

        Returns
        -------
        RankDisplay
        """
        return cls(ranks, n_draws).plot(quantities, level=level, ax=ax)

    def plot(self, quantities: str | Sequence[str] | None = None, *, level: float = 0.99, ax: Any = None) -> Self:
        """Draw.

        Parameters
        ----------
        quantities : str or sequence of str, optional
            Names of the quantities to show; all where None.
        level : float, default=0.99
            Probability that a count of uniform ranks lies within the band, for each bin by itself.
        ax : matplotlib.axes.Axes or array of them, optional
            Where to draw: an axes, whose place is divided where there are several panels, or an axes for each panel. A
            new figure where None.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a quantity is unknown, there are too many for a picture, or another number of axes.
        """
        level = check_level("level", level)
        names = list(self.ranks) if quantities is None else [quantities] if isinstance(quantities, str) else quantities
        unknown = [name for name in names if name not in self.ranks]
        if unknown:
            raise ValueError(f"`quantities` names {unknown}, but there are ranks of {list(self.ranks)}.")
        check_panels(len(names))
        self.axes_ = new_panels(ax, len(names))
        self.figure_ = self.axes_[0].figure
        for panel, name in zip(self.axes_, names, strict=True):
            self._draw(panel, name, level)
        legend_of_panels(self.axes_)
        return self

    def _draw(self, ax: Any, name: str, level: float) -> None:
        ranks = self.ranks[name]
        edges = _edges(self.n_draws + 1, len(ranks))
        share = np.diff(edges) / (self.n_draws + 1)
        lower, upper = (binom.ppf(tail, len(ranks), share) for tail in ((1 - level) / 2, (1 + level) / 2))
        counts = np.histogram(ranks, edges - 0.5)[0]
        ends = edges - 0.5
        uniform = f"{100 * level:g} % if uniform"
        ax.stairs(upper, ends, baseline=lower, fill=True, color=tint(OBSERVED, 0.2), label=uniform)
        ax.stairs(counts, ends, baseline=None, color=COLOURS[0], lw=1.5, label="Ranks")
        ax.set_xlim(ends[0], ends[-1])
        ax.set_ylim(0, 1.1 * max(counts.max(), upper.max()))
        ax.set_xlabel(f"Rank of {name}")
        ax.set_ylabel("Replications")


def _edges(n_ranks: int, n_replications: int) -> np.ndarray:
    """Return first ranks of the bins, and what follows the last rank."""
    most = min(max(n_replications // LEAST_EXPECTED, FEWEST_BINS), MOST_BINS, n_ranks)
    even = [count for count in range(most, most // 2, -1) if n_ranks % count == 0]
    return np.linspace(0, n_ranks, (even[0] if even else most) + 1).round().astype(int)
