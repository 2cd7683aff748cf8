"""One table that says whether a fit, its priors and its predictions can be trusted."""

import functools
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from skaimz import sampling
from skaimz.checks import Finding, as_table, fit, outcomes, unknown
from skaimz.datatree import FlatDraws, draws_from
from skaimz.estimators._arguments import PRIOR_DRAWS
from skaimz.estimators._blocks import in_memory
from skaimz.inference import FitResult
from skaimz.kernels import KernelSpec

__all__ = ["DiagnoseMixin"]


class DiagnoseMixin:
    """Checks of a fit."""

    posterior: Any
    _read: Callable[..., tuple[Any, dict[str, Any]]]
    _trace: Callable[..., tuple[Any, dict[str, Any], Any]]
    _encode: Callable[..., np.ndarray]
    _prepare: Callable[..., sampling.Job]
    _prepare_prior: Callable[..., sampling.Job]
    _precision: Callable[[Any], AbstractContextManager]
    _seed_of_call: Callable[[Any], int]

    @in_memory
    def diagnose(
        self,
        X: Any = None,
        y: Any = None,
        *,
        checks: Iterable[str] | None = None,
        random_state: Any = None,
        **arrays: Any,
    ) -> pd.DataFrame:
        """Check whether the fit can be trusted, and whether prior and predictions suit the outcomes.

        Nothing is computed but what the checks that are asked for need.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features), optional
            The rows of the fit.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs), optional
            Their outcomes.
        checks : sequence of str, optional
            Names of checks, from the table below. Where None, all that what is given allows and that apply to the kind
            of inference.
        random_state : int, RandomState, JAX key or None, default=None
            Seed of outcomes that are drawn; the estimator's own where None.
        **arrays : array or scalar
            The kernel's further arguments, which go with X.

        Returns
        -------
        pandas.DataFrame
            With the names of the checks as its index and the columns ``site`` (empty where a check is of the whole
            fit), ``value``, ``threshold`` (the nearer one of two), ``verdict`` ("good", "bad" or "unknown") and
            ``advice``, which says what to do about a bad value, or why nothing is known. A site with several elements
            has the value of the worst.

        Raises
        ------
        ValueError
            If a name is not that of a check, or a check needs X or y and there is none.
        ImportError
            If ``"k_hat"`` is asked for by name and ArviZ is not installed.

        Notes
        -----
        ===============  =====  ===================================================================  ==============
        check            needs  value                                                                good
        ===============  =====  ===================================================================  ==============
        ``r_hat``               rank-normalised, folded split r-hat of a latent site (Vehtari 2021)  up to 1.01
        ``ess``                 bulk effective sample size of a latent site                          100 a chain
        ``ess_tail``            the smaller effective sample size of its 5 % and 95 % quantiles      100 a chain
        ``divergences``         steps that diverged                                                  0
        ``energy``              E-BFMI of the worst chain (Betancourt 2016)                          at least 0.3
        ``guide``               largest move of the guide in its last steps, in its own sds          up to 0.5
        ``importance``          Pareto shape of the ratios of posterior to approximation             up to 0.7
        ``prior_edge``   X      share of the prior below the posterior median of a latent site       0.01 to 0.99
        ``prior_mean``   X, y   prior predictive p-value of the outcomes' mean (Box 1980)            0.01 to 0.99
        ``prior_sd``     X, y   the same of their standard deviation                                 at least 0.01
        ``prior_width``  X, y   width of the prior predictive over that of the outcomes              up to 100
        ``p_mean``       X, y   posterior predictive p-value of the outcomes' mean (Gelman 1996)     0.025 to 0.975
        ``p_sd``         X, y   the same of their standard deviation                                 0.025 to 0.975
        ``p_min``        X, y   the same of the least outcome                                        0.025 to 0.975
        ``p_max``        X, y   the same of the greatest outcome                                     0.025 to 0.975
        ``k_hat``        X, y   Pareto shape of the worst row in leave-one-out (Vehtari 2024)        up to 0.7
        ===============  =====  ===================================================================  ==============

        The first three are of Markov chains and of draws that were made elsewhere, ``divergences`` and ``energy`` of a
        fit by MCMC, ``guide`` of one by SVI, ``importance`` of SVI and of weighted draws. Asked for by name elsewhere,
        they are "unknown". ``energy`` looks at the steps that are kept: thinning makes it look better than it is.

        *p-values* are ``P(R > T) + P(R = T) / 2`` for a statistic over the rows, ``T`` of the observed outcomes and
        ``R`` of those that are drawn for the same rows, one set for each of the posterior draws, or for 1000 draws from
        the prior. Outcomes of classifiers count as their codes, places in ``classes_``. Such p-values
        are close to 1/2 where the kernel is free to fit the statistic, and so call fewer fits bad than their level
        says.

        ``prior_edge`` does not change when a site is put on another scale, by a logarithm for one. Each of k elements
        may lie in a k-th of the tails, so that a site with many is not called bad by chance alone. Latent sites with an
        entry for each row are left out.

        ``prior_width`` is the median over prior draws of ``sqrt((m_s - m)**2 + d_s**2) / d``, with the mean ``m_s`` and
        standard deviation ``d_s`` of drawn outcomes, the median ``m`` of these means, and the standard deviation ``d``
        of the observed outcomes. That up to 100 is good is a choice of this package: the check is to find priors that
        are absurd.

        ``k_hat`` is that of ``arviz_stats.loo``, good up to ``min(1 - 1 / log10(S), 0.7)`` for ``S`` draws. It needs
        ``pip install 'skaimz[arviz]'``.

        Drawn outcomes and log densities are reduced tile by tile, and not held for all rows, but for the log densities
        of a kernel whose rows depend on one another. ``k_hat`` fits a tail for every row, which takes the longest.

        References
        ----------
        A. Vehtari, A. Gelman, D. Simpson, B. Carpenter and P.-C. Bürkner (2021), Rank-normalization, folding, and
        localization: an improved R-hat for assessing convergence of MCMC, Bayesian Analysis 16(2).

        M. Betancourt (2016), Diagnosing suboptimal cotangent disintegrations in Hamiltonian Monte Carlo,
        arXiv:1604.00695.

        G. E. P. Box (1980), Sampling and Bayes' inference in scientific modelling and robustness, Journal of the Royal
        Statistical Society A 143(4).

        A. Gelman, X.-L. Meng and H. Stern (1996), Posterior predictive assessment of model fitness via realized
        discrepancies, Statistica Sinica 6.

        A. Vehtari, D. Simpson, A. Gelman, Y. Yao and J. Gabry (2024), Pareto smoothed importance sampling, Journal of
        Machine Learning Research 25(72).

        Examples
        --------
        >>> import numpy as np
        >>> from skaimz import NumPyroImpactRegressor
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(100, 2))
        >>> y = X @ [1.0, -2.0] + rng.normal(scale=0.1, size=100)
        >>> y[0] += 20.0  # far from all others
        >>> model = NumPyroImpactRegressor(inference="svi", random_state=0).fit(X, y)
        >>> table = model.diagnose(X, y, checks=["importance", "p_mean", "p_max"])
        >>> table["verdict"].to_dict()
        {'importance': 'good', 'p_mean': 'good', 'p_max': 'bad'}
        >>> print(table.loc["p_max", "advice"])
        The greatest outcome is greater than replicated ones: look at that row, or use a distribution with heavier
        tails.
        """
        check_is_fitted(self)
        given = {"X": X is not None, "y": y is not None}
        if X is None and (given["y"] or arrays):
            raise ValueError("`diagnose` needs the rows that outcomes or arguments go with: pass X.")
        asked = _asked(checks, given)
        evidence = _Evidence(self, X, y, arrays, self._seed_of_call(random_state))
        findings: list[Finding] = []
        for name in asked:
            found = CHECKS[name].find(evidence)
            if not isinstance(found, str):
                findings.extend(found)
            elif checks is not None:
                findings.append(unknown(name, "", found))
        return as_table(findings)


class _Evidence:
    """What checks look at, each part computed when a check first asks for it."""

    def __init__(self, model: Any, X: Any, y: Any, arrays: Mapping[str, Any], seed: int):
        self.model, self.given, self.seed = model, (X, y, arrays), seed

    @functools.cached_property
    def result(self) -> FitResult:
        """What a fit left behind; of draws that were made elsewhere there is nothing else."""
        model = self.model
        if hasattr(model, "fit_result_"):
            return model.fit_result_
        draws = model.posterior_ if hasattr(model, "posterior_") else draws_from(model.posterior)
        if isinstance(draws, FlatDraws) and all(draw.ndim > 2 for draw in draws.values()):
            if self.given[0] is None:
                raise ValueError(
                    "`diagnose` needs rows to tell whether posterior draws that were given as a mapping have an axis "
                    f"of chains ({ {name: draw[0].shape for name, draw in draws.items()} }): pass X."
                )
            X, arrays = self.rows
            with model._precision(X.dtype):
                draws, _ = model._fitted_state(model._trace(X, arrays)[0].spec)
        return FitResult("injected", draws)

    @functools.cached_property
    def rows(self) -> tuple[Any, dict[str, Any]]:
        X, _, arrays = self.given
        return self.model._read(X, arrays)

    def precision(self) -> AbstractContextManager:
        return self.model._precision(self.rows[0].dtype)

    @functools.cached_property
    def predictive(self) -> sampling.Job:
        with self.precision():
            return self.model._prepare(*self.rows, in_sample=True, random_state=self.seed)

    @functools.cached_property
    def prior(self) -> sampling.Job | str:
        """A pass with draws from the prior, or why there can be none."""
        with self.precision():
            spec = self.model._trace(*self.rows)[0].spec
            if spec.improper_latents:
                return f"The priors of {list(spec.improper_latents)} are improper, and cannot be drawn from."
            return self.model._prepare_prior(*self.rows, PRIOR_DRAWS, random_state=self.seed)

    def outcomes(self, spec: KernelSpec) -> np.ndarray:
        y = self.model._encode(self.given[1], spec, self.rows[0].dtype)
        check_consistent_length(self.rows[0], y)
        return y

    @functools.cached_property
    def replicated(self) -> tuple[sampling.Summary, sampling.Summary]:
        job = self.predictive
        with self.precision():
            return sampling.summaries(job, self.outcomes(job.spec))

    @functools.cached_property
    def of_prior(self) -> tuple[sampling.Summary, sampling.Summary]:
        job = self.prior
        assert not isinstance(job, str)
        with self.precision():
            return sampling.summaries(job, self.outcomes(job.spec))


Found = list[Finding] | str


def _of_fit(check: Callable[[FitResult], Found]) -> Callable[[_Evidence], Found]:
    return lambda evidence: check(evidence.result)


def _prior_edge(evidence: _Evidence) -> Found:
    job, draws = evidence.prior, evidence.predictive.posterior.draws
    if isinstance(job, str):
        return [unknown("prior_edge", site, job) for site in draws]
    with evidence.precision():
        prior = sampling.with_global_latents(job).posterior.draws
    return [outcomes.prior_edge(site, draw, prior[site]) for site, draw in draws.items()]


def _of_prior(name: str, check: Callable[..., Finding]) -> Callable[[_Evidence], Found]:
    def find(evidence: _Evidence) -> Found:
        job = evidence.prior
        if isinstance(job, str):
            return [unknown(name, evidence.predictive.spec.output, job)]
        return [check(name, job.spec.output, *evidence.of_prior)]

    return find


def _of_outcomes(name: str) -> Callable[[_Evidence], Found]:
    return lambda evidence: [outcomes.tail(name, evidence.predictive.spec.output, *evidence.replicated)]


def _k_hat(evidence: _Evidence) -> Found:
    job = evidence.predictive
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
    with evidence.precision():
        shapes = sampling.log_densities_reduced(
            job, evidence.outcomes(job.spec), lambda densities: outcomes.pareto_shapes(densities, efficiency)
        )
    return [outcomes.influence(output.name, shapes, job.posterior.n_draws)]


class _Check(NamedTuple):
    """How a check is made, and what must be given for it."""

    find: Callable[[_Evidence], Found]
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


def _asked(checks: Any, given: Mapping[str, bool]) -> list[str]:
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
