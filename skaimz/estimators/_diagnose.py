"""Checks of a fit, its prior and its predictions, and what they look at."""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_consistent_length

from skaimz import sampling
from skaimz.checks import Finding, as_table, fit, outcomes, unknown
from skaimz.datatree import FlatDraws
from skaimz.estimators._arguments import PRIOR_DRAWS
from skaimz.estimators._model import Call, Model
from skaimz.estimators._read import read
from skaimz.inference import FitResult

__all__ = ["Evidence", "findings_of"]


def findings_of(evidence: "Evidence", checks: Iterable[str] | None) -> pd.DataFrame:
    """Return a table of the named checks, or of all checks that X and y allow."""
    known = {"X": evidence.X is not None, "y": evidence.y is not None}
    if not known["X"] and (known["y"] or evidence.arrays):
        raise ValueError("`diagnose` needs the rows that outcomes or arguments go with: pass X.")
    findings: list[Finding] = []
    for name in _names_of(checks, known):
        finding = CHECKS[name].find(evidence)
        if not isinstance(finding, str):
            findings.extend(finding)
        elif checks is not None:
            findings.append(unknown(name, "", finding))
    return as_table(findings)


class Evidence:
    """What checks look at. Each part is computed when a check first needs it.

    Parameters
    ----------
    model : Model
    X, y : array-like or None
        The rows of the fit and their outcomes.
    arrays : dict
        The kernel's further arguments.
    seed : int
        Seed for drawing outcomes.
    """

    def __init__(self, model: Model, X: Any, y: Any, arrays: Mapping[str, Any], seed: int):
        self.model, self.X, self.y, self.arrays, self.seed = model, X, y, arrays, seed

    @functools.cached_property
    def call(self) -> Call:
        """The rows, checked."""
        return read(self.model, self.X, self.arrays, random_state=self.seed)

    @functools.cached_property
    def result(self) -> FitResult:
        """The result of the fit; for injected draws, a result with these draws alone."""
        if self.model.result is not None:
            return self.model.result
        draws = self.model.draws
        assert draws is not None
        if isinstance(draws, FlatDraws) and all(draw.ndim > 2 for draw in draws.values()):
            if self.X is None:
                raise ValueError(
                    "`diagnose` needs rows to tell whether posterior draws that were given as a mapping have an axis "
                    f"of chains ({ {name: draw[0].shape for name, draw in draws.items()} }): pass X."
                )
            draws, _ = self.model.posterior_for(self.call.spec)
        return FitResult("injected", dict(draws))

    @functools.cached_property
    def posterior_job(self) -> sampling.Job:
        """The job with posterior draws."""
        with self.call.precision():
            return self.call.job(in_sample=True)

    @functools.cached_property
    def prior_job(self) -> sampling.Job | str:
        """The job with draws from the prior, or why there can be none."""
        improper = self.call.spec.improper_latents
        if improper:
            return f"The priors of {list(improper)} are improper, and cannot be drawn from."
        with self.call.precision():
            return self.call.prior_job(PRIOR_DRAWS)

    @functools.cached_property
    def outcomes(self) -> np.ndarray:
        """The outcomes as the kernel takes them."""
        y = self.call.encode(self.y)
        check_consistent_length(self.call.X, y)
        return y

    @functools.cached_property
    def posterior_summaries(self) -> tuple[sampling.Summary, sampling.Summary]:
        """Summaries of the observed outcomes, and of outcomes drawn from the posterior predictive."""
        with self.call.precision():
            return sampling.summaries(self.posterior_job, self.outcomes)

    @functools.cached_property
    def prior_summaries(self) -> tuple[sampling.Summary, sampling.Summary]:
        """Summaries of the observed outcomes, and of outcomes drawn from the prior predictive."""
        job = self.prior_job
        assert not isinstance(job, str)
        with self.call.precision():
            return sampling.summaries(job, self.outcomes)


Findings = list[Finding] | str


def _of_fit(check: Callable[[FitResult], Findings]) -> Callable[[Evidence], Findings]:
    return lambda evidence: check(evidence.result)


def _prior_edge(evidence: Evidence) -> Findings:
    job, draws = evidence.prior_job, evidence.posterior_job.posterior.draws
    if isinstance(job, str):
        return [unknown("prior_edge", site, job) for site in draws]
    with evidence.call.precision():
        prior = sampling.with_global_latents(job).posterior.draws
    return [outcomes.prior_edge(site, draw, prior[site]) for site, draw in draws.items()]


def _of_prior(name: str, check: Callable[..., Finding]) -> Callable[[Evidence], Findings]:
    def find(evidence: Evidence) -> Findings:
        job = evidence.prior_job
        if isinstance(job, str):
            return [unknown(name, evidence.posterior_job.spec.output, job)]
        return [check(name, job.spec.output, *evidence.prior_summaries)]

    return find


def _of_outcomes(name: str) -> Callable[[Evidence], Findings]:
    return lambda evidence: [outcomes.tail(name, evidence.posterior_job.spec.output, *evidence.posterior_summaries)]


def _k_hat(evidence: Evidence) -> Findings:
    job = evidence.posterior_job
    output = job.spec[job.spec.output]
    if not outcomes.has_arviz():
        return [unknown("k_hat", output.name, outcomes.NEEDS_ARVIZ)]
    if not output.rows_are_batched:
        return [unknown("k_hat", output.name, "The output has one density for all rows: none can be left out.")]
    if job.spec.unscored is not None:
        return [unknown("k_hat", output.name, f"Rows have no log density of their own: {job.spec.unscored}.")]
    n_chains = job.posterior.n_chains
    draws = {**job.posterior.draws, **job.local}
    efficiency = outcomes.efficiency(
        {name: draw.reshape(n_chains, -1, *draw.shape[1:]) for name, draw in draws.items()}
    )
    with evidence.call.precision():
        shapes = sampling.log_densities_reduced(
            job, evidence.outcomes, lambda densities: outcomes.pareto_shapes(densities, efficiency)
        )
    return [outcomes.influence(output.name, shapes, job.posterior.n_draws)]


class _Check(NamedTuple):
    """How a check is made, and what must be given for it."""

    find: Callable[[Evidence], Findings]
    needs: tuple[str, ...] = ()


OF_FIT = (fit.r_hat, fit.ess, fit.ess_tail, fit.divergences, fit.energy, fit.guide, fit.importance)
OF_PRIOR = {
    "prior_mean": outcomes.prior_tail,
    "prior_sd": outcomes.prior_tail,
    "prior_width": outcomes.prior_width,
}
CHECKS = {
    **{check.__name__: _Check(_of_fit(check)) for check in OF_FIT},
    "prior_edge": _Check(_prior_edge, ("X",)),
    **{name: _Check(_of_prior(name, check), ("X", "y")) for name, check in OF_PRIOR.items()},
    **{name: _Check(_of_outcomes(name), ("X", "y")) for name in ("p_mean", "p_sd", "p_min", "p_max")},
    "k_hat": _Check(_k_hat, ("X", "y")),
}


def _names_of(checks: Any, given: Mapping[str, bool]) -> list[str]:
    """Return the names of the checks to make."""
    if checks is None:
        return [name for name, check in CHECKS.items() if all(given[part] for part in check.needs)]
    if isinstance(checks, str):
        raise ValueError(f"`checks` must be a sequence of names, got the text {checks!r}: write [{checks!r}].")
    asked = list(dict.fromkeys(checks))
    strange = [name for name in asked if name not in CHECKS]
    if strange:
        raise ValueError(f"`checks` names {strange[0]!r}, which is not one of {list(CHECKS)}.")
    for part in given:
        lacking = [name for name in asked if part in CHECKS[name].needs and not given[part]]
        if lacking:
            raise ValueError(f"The checks {lacking} need {part}: pass the rows of the fit, and their outcomes.")
    if "k_hat" in asked and not outcomes.has_arviz():
        raise ImportError(outcomes.NEEDS_ARVIZ)
    return asked
