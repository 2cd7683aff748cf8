"""Posterior probabilities of the states of discrete latent sites."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.validation import check_consistent_length

from skaimz import sampling
from skaimz.estimators._model import Call
from skaimz.estimators._questions import Question
from skaimz.inference import log_likelihoods, state_probabilities
from skaimz.kernels import KernelSpec, MarginalKernel, Site, summed_out

__all__ = ["StatePosterior", "States", "needs_all_rows", "summed_log_likelihood"]


@dataclass(frozen=True, repr=False)
class StatePosterior:
    """What outcomes tell of the states of discrete latent sites.

    Attributes
    ----------
    probabilities : dict of str to array of shape (n_rows, ..., n_states)
        Posterior probabilities of each site's states, averaged over posterior draws. Sites without an entry for each
        row have their own shape instead of the rows.
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
    return state_probabilities(*_given(job))


def needs_all_rows(spec: KernelSpec) -> bool:
    """Whether discrete sites with an entry for each row can be summed out, but not row by row."""
    by_row = [site for site in spec.discrete if site.row_axis is not None and site not in spec.summed]
    return bool(by_row) and all(site.states is not None for site in spec.discrete)


def summed_log_likelihood(job: sampling.Job) -> dict[str, np.ndarray]:
    """Return log densities of the outcomes of a job, where :func:`needs_all_rows`, by the name of the output.

    Their shape is ``(n_chains, n_draws, n_rows)``, or ``(n_chains, n_draws)`` where rows depend on one another.
    """
    posterior = job.posterior
    densities = log_likelihoods(*_given(job), posterior.n_draws)
    return {job.spec.output: densities.reshape(posterior.n_chains, -1, *densities.shape[1:])}


def _given(job: sampling.Job) -> tuple[MarginalKernel, tuple, dict[str, Any], dict[str, Any]]:
    """Return the kernel without its discrete sites, its arguments, its params, and draws of its latent sites."""
    traced = summed_out(job.traced)
    rows = {name: np.asarray(array[:]) for name, array in job.inputs.rows.items()}
    draws = {**job.posterior.draws, **job.local}
    missing = [site.name for site in traced.spec.latents if site.name not in draws]
    if missing:
        raise ValueError(f"Discrete sites cannot be summed out without posterior draws of {missing}.")
    known = {site.name: draws[site.name] for site in traced.spec.latents}
    return traced, (job.posterior.hyperparameters, rows, job.inputs.whole), job.posterior.params, known
