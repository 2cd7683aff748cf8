"""Draws from a normal approximation, weighted by the posterior, whose moments give a better approximation."""

from typing import NamedTuple

import numpy as np

from skaimz.inference.importance import LARGEST_K_HAT, Weights, weigh
from skaimz.inference.mode import Mode
from skaimz.inference.target import Target
from skaimz.runtime import Purpose, generator_of

__all__ = ["HOPELESS_K_HAT", "Proposals", "weighted"]

# Weighted draws for each draw that is returned. With many rows the posterior is nearly normal and the weights nearly
# equal, so that one is enough.
PROPOSALS = 4
PROPOSAL_ROWS = 2**28
# Weighted draws must be worth this share of their number. A smaller share means that the posterior has places that few
# draws have come to, such as small scales of groups, whatever k-hat says of the weights.
LEAST_EFFICIENCY = 0.5
# Degrees of freedom of the approximation: a normal distribution, and one with heavier tails if these are too light.
DEGREES_OF_FREEDOM = (np.inf, 7.0)
# Rounds of improving the approximation by its weighted draws. Draws with a greater k-hat are too few to improve it.
ADAPTATIONS = 2
HOPELESS_K_HAT = 1.5


class Proposals(NamedTuple):
    """Draws of a normal approximation, and their weights."""

    positions: np.ndarray
    weights: Weights

    @property
    def efficiency(self) -> float:
        """Effective number of draws, as a share of their number."""
        return self.weights.ess / len(self.positions)

    @property
    def pass_check(self) -> bool:
        """Whether the weighted draws represent the posterior."""
        return self.weights.k_hat <= LARGEST_K_HAT and self.efficiency >= LEAST_EFFICIENCY

    def moments(self, before: Mode) -> Mode:
        """Return an approximation with the mean and covariance of the weighted draws.

        A few effective draws determine a covariance badly. The earlier approximation therefore counts as much as one
        effective draw for each coordinate.
        """
        weight, size = self.weights.weight, self.positions.shape[1]
        share = self.weights.ess / (self.weights.ess + size)
        mean = weight @ self.positions
        away = self.positions - mean
        covariance = share * (away.T * weight) @ away + (1 - share) * before.root @ before.root.T
        return Mode(share * mean + (1 - share) * before.middle, np.linalg.cholesky(covariance), "")


def weighted(target: Target, mode: Mode, num_samples: int, seed: int) -> Proposals:
    """Draw from an approximation, weight the draws by the posterior, and improve it if the weights are too uneven.

    The first approximation is a normal distribution, or a multivariate t distribution if the posterior's tails are too
    heavy for it. The next have the mean and covariance of the weighted draws.
    """
    best = _best(target, mode, num_samples, seed, 0)
    for turn in range(ADAPTATIONS):
        if best.pass_check or best.weights.k_hat > HOPELESS_K_HAT:
            break
        better = _best(target, best.moments(mode), num_samples, seed, turn + 1)
        best = max(best, better, key=lambda each: (each.pass_check, each.efficiency))
    return best


def _best(target: Target, mode: Mode, num_samples: int, seed: int, turn: int) -> Proposals:
    """Return weighted draws from the first family of approximations that passes its check, or else from the best."""
    number = num_samples * int(np.clip(PROPOSAL_ROWS // (target.n_rows * num_samples), 1, PROPOSALS))
    tried = []
    for freedom in DEGREES_OF_FREEDOM:
        tried.append(_proposed(target, mode, freedom, number, generator_of(seed, Purpose.PROPOSAL, turn)))
        if tried[-1].pass_check:
            return tried[-1]
    return max(tried, key=lambda each: each.efficiency)


def _proposed(target: Target, mode: Mode, freedom: float, number: int, rng: np.random.Generator) -> Proposals:
    v = rng.standard_normal((number, target.size))
    if np.isfinite(freedom):
        v *= np.sqrt(freedom / rng.chisquare(freedom, size=(number, 1)))
        log_q = -(freedom + target.size) / 2 * np.log1p(np.square(v).sum(axis=1) / freedom)
    else:
        log_q = -np.square(v).sum(axis=1) / 2
    positions = mode.middle + v @ mode.root.T
    with np.errstate(all="ignore"):
        return Proposals(positions, weigh(target.log_densities(positions) - log_q))
