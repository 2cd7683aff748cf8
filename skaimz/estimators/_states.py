"""Posterior probabilities of the states of discrete latent sites."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.validation import check_consistent_length

from skaimz import sampling
from skaimz.estimators._model import Call
from skaimz.estimators._questions import Question
from skaimz.inference import state_probabilities
from skaimz.kernels import Site, summed_out

__all__ = ["StatePosterior", "States"]


@dataclass(frozen=True, repr=False)
class StatePosterior:
    """What outcomes tell of the states of discrete latent sites.

    Attributes
    ----------
    probabilities : dict of str to array of shape (n_rows, ..., n_states)
        Posterior probabilities of each site's states, averaged over posterior draws. Sites without an entry for each
        row have their own shape in the place of the rows.
    states : dict of str to array of shape (n_states,)
        The values that the last axis stands for.

    Examples
    --------
    >>> import numpy as np
    >>> from skaimz.estimators import StatePosterior
    >>> posterior = StatePosterior({"z": np.array([[0.9, 0.1], [0.2, 0.8]])}, {"z": np.array([0, 1])})
    >>> posterior.most_probable("z").tolist()
    [0, 1]
    """

    probabilities: Mapping[str, np.ndarray]
    states: Mapping[str, np.ndarray]

    def __repr__(self) -> str:
        shapes = {name: probabilities.shape for name, probabilities in self.probabilities.items()}
        return f"StatePosterior({shapes})"

    def most_probable(self, site: str) -> np.ndarray:
        """Return the most probable state of each entry of a site.

        Parameters
        ----------
        site : str

        Returns
        -------
        array of shape (n_rows, ...)
        """
        return self.states[site][self.probabilities[site].argmax(axis=-1)]


@dataclass(frozen=True)
class States(Question[StatePosterior]):
    """Probabilities of states given outcomes; the fields are those of the public method."""

    y: Any = None
    in_sample: bool = True

    def answer(self, call: Call) -> StatePosterior:
        """Return the probabilities of the states of all discrete sites."""
        sites = call.spec.discrete
        if not sites:
            latents = [site.name for site in call.spec.latents]
            raise ValueError(f"The kernel has no discrete latent sites: {latents} are continuous.")
        y = call.outcomes if self.y is None else self.y
        if y is None:
            raise ValueError("`infer_discrete` needs outcomes: pass y.")
        with call.precision():
            job = call.job(in_sample=self.in_sample, sums_states=True)
            y = call.encode(y)
            check_consistent_length(call.X, y)
            job = job.with_rows({call.spec.output_parameter: y})
            of_rows = set(sites) <= set(call.spec.summed)
            probabilities = _of_rows(job, sites) if of_rows else _of_all(job)
        return StatePosterior(probabilities, {site.name: np.array(site.states, site.dtype) for site in sites})


def _of_rows(job: sampling.Job, sites: tuple[Site, ...]) -> dict[str, np.ndarray]:
    """Return the probabilities of sites of single rows, tile by tile."""
    sampling.check_densities(job.spec)
    names = tuple(site.name for site in sites)
    return dict(zip(names, sampling.expectation(job, sampling.StateProbabilities(names)), strict=True))


def _of_all(job: sampling.Job) -> dict[str, np.ndarray]:
    """Return the probabilities of sites that rows share, of groups, or of a chain, given all rows."""
    traced = summed_out(job.traced)
    rows = {name: np.asarray(array[:]) for name, array in job.inputs.rows.items()}
    arguments = (job.posterior.hyperparameters, rows, job.inputs.whole)
    draws = {**job.posterior.draws, **job.local}
    known = {site.name: draws[site.name] for site in traced.spec.latents if site.name in draws}
    missing = [site.name for site in traced.spec.latents if site.name not in draws]
    if missing:
        raise ValueError(f"`infer_discrete` needs posterior draws of {missing}, which the states depend on.")
    return state_probabilities(traced, arguments, job.posterior.params, known, job.seed)
