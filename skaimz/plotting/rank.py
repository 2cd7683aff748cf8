"""A plot of the results of simulation-based calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binom

from skaimz.plotting.checks import check_level, check_values
from skaimz.plotting.sites import check_panels
from skaimz.plotting.style import COLOURS, OBSERVED, legend_of_panels, new_panels, tint

if TYPE_CHECKING:
    from skaimz.plotting.types import Axes, AxesLike

__all__ = ["RankDisplay"]

# Least expected number of replications in a bin, where there are enough of them, and limits of the number of bins.
LEAST_EXPECTED, FEWEST_BINS, MOST_BINS = 20, 5, 20


class Ranks(Protocol):
    """The result of a simulation-based calibration."""

    @property
    def ranks(self) -> Mapping[str, ArrayLike]:
        """Ranks of each quantity."""

    @property
    def n_draws(self) -> int:
        """Number of posterior draws."""


class RankDisplay:
    """Histograms of ranks from simulation-based calibration.

    In simulation-based calibration, a parameter is drawn from its prior, and data are simulated with it. If the
    inference is correct, the rank of the parameter among posterior draws is uniform. A histogram that is high at both
    ends shows posteriors that are too narrow, one that is high in the middle posteriors that are too wide, and a slope
    a bias. The band contains the count of uniform ranks in each bin with a given probability. Its limits are quantiles
    of the binomial distribution.

    Parameters
    ----------
    ranks : dict of str to array of int of shape (n_replications,)
        Ranks of each quantity, from 0 to ``n_draws``.
    n_draws : int
        Number of posterior draws among which the parameter is ranked.

    Attributes
    ----------
    axes_ : array of shape (n_panels,) of matplotlib.axes.Axes
        Axes of the latest plot, one for each quantity.
    figure_ : matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If ranks are not integers from 0 to ``n_draws``.

    Notes
    -----
    There are 5 to 20 bins, with at least 20 expected replications in each if there are enough replications. If
    possible, the number of bins divides that of the possible ranks, ``n_draws + 1``, so that all bins have the same
    band. Therefore 99 or 999 draws are better than 100 or 1000.

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

    def __init__(self, ranks: Mapping[str, ArrayLike], n_draws: int):
        self.n_draws = int(n_draws)
        self.ranks = {name: check_values(f"ranks[{name!r}]", of, (None,)) for name, of in ranks.items()}
        for name, values in self.ranks.items():
            are_integers = values.dtype.kind in "iu" and len(values)
            if not are_integers or values.min() < 0 or values.max() > self.n_draws:
                raise ValueError(f"The ranks of {name!r} must be integers from 0 to `n_draws`={n_draws}.")

    @classmethod
    def from_result(
        cls,
        result: Ranks,
        quantities: str | Sequence[str] | None = None,
        *,
        level: float = 0.99,
        ax: AxesLike | None = None,
    ) -> Self:
        """Show the result of a simulation-based calibration.

        Parameters
        ----------
        result : object
            Result with the attributes ``ranks`` and ``n_draws``.
        quantities, level, ax
            Arguments of :meth:`plot`.

        Returns
        -------
        RankDisplay
        """
        return cls.from_ranks(result.ranks, result.n_draws, quantities, level=level, ax=ax)

    @classmethod
    def from_ranks(
        cls,
        ranks: Mapping[str, ArrayLike],
        n_draws: int,
        quantities: str | Sequence[str] | None = None,
        *,
        level: float = 0.99,
        ax: AxesLike | None = None,
    ) -> Self:
        """Show ranks.

        Parameters
        ----------
        ranks, n_draws
            Arguments of the class.
        quantities, level, ax
            Arguments of :meth:`plot`.

        Returns
        -------
        RankDisplay
        """
        return cls(ranks, n_draws).plot(quantities, level=level, ax=ax)

    def plot(
        self, quantities: str | Sequence[str] | None = None, *, level: float = 0.99, ax: AxesLike | None = None
    ) -> Self:
        """Draw the plot.

        Parameters
        ----------
        quantities : str or sequence of str, optional
            Names of the quantities to show; all if None.
        level : float, default=0.99
            Probability that the band contains the count of uniform ranks, for each bin by itself.
        ax : matplotlib.axes.Axes or array of them, optional
            Axes to draw on: a single axes, which is divided if there are several panels, or an axes for each panel. A
            new figure if None.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a quantity is unknown, there are too many for a plot, or the number of axes does not match.
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

    def _draw(self, ax: Axes, name: str, level: float) -> None:
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
    """Return the first rank of each bin, and the number of ranks."""
    most = min(max(n_replications // LEAST_EXPECTED, FEWEST_BINS), MOST_BINS, n_ranks)
    divisors = [count for count in range(most, most // 2, -1) if n_ranks % count == 0]
    return np.linspace(0, n_ranks, (divisors[0] if divisors else most) + 1).round().astype(int)
