"""Posterior draws: from elsewhere, drawn afresh, and whether they fit a kernel, its rows and what is intervened on."""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Self

import numpy as np
import xarray as xr
from sklearn.utils.validation import check_is_fitted

from skaimz import inference, sampling
from skaimz.datatree import FlatDraws, draws_from, draws_to_dataset, to_tree
from skaimz.estimators._arguments import check_count, seed_of
from skaimz.estimators._persistence import abstract_inputs
from skaimz.exceptions import FixedSiteWarning, HeldLatentWarning, PosteriorWarning, UnreachedOutputWarning, warn_user
from skaimz.inference import FitResult
from skaimz.inference.diagnostics import check_chains
from skaimz.kernels import KernelSpec, check_index, in_type_of, trace_kernel

__all__ = ["PosteriorMixin", "check_interventions", "check_local", "match_draws"]

# Attribute of trees that says from which inference state their draws were taken.
OF_STATE = "of_state"


class PosteriorMixin:
    """Posterior draws that come from elsewhere, or afresh from the inference state."""

    kernel: Any
    kernel_: Any
    kernel_spec_: KernelSpec
    inference_: Any
    fit_result_: FitResult
    posterior_: dict[str, np.ndarray]
    arguments_: dict[str, Any]
    seed_: int
    random_state: Any
    verbose: int
    _check_parameters: Callable[[], None]
    _precision: Callable[[Any], AbstractContextManager]
    _unchanged_on_error: Callable[[], AbstractContextManager]

    def set_posterior_sample(self, draws: Any, num_chains: int = 1) -> Self:
        """Take posterior draws that were made elsewhere; the estimator then counts as fitted.

        Parameters
        ----------
        draws : mapping, xarray.Dataset, xarray.DataTree, an object with a ``posterior`` group or numpyro.infer.MCMC
            In a mapping of site names to arrays the leading axis is the draws of all chains, or the two leading axes
            are chains and draws, as in ``posterior_`` and in what NumPyro's ``get_samples(group_by_chain=True)``
            returns; xarray objects have the dimensions ``chain`` and ``draw``; a NumPyro ``MCMC`` object that has run
            has its own chains. After :meth:`sample_posterior` of the same fit, what is known of the fit stays.
        num_chains : int, default=1
            Chains that the leading axis of a mapping's arrays holds one after the other.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If the draws are empty, 0-dimensional or unequal in number, or do not fit the kernel's sites.

        Warns
        -----
        PosteriorWarning
            If the output site is among them, a latent site is missing, or a site is not the kernel's.

        Examples
        --------
        >>> import numpy as np
        >>> import numpyro
        >>> import numpyro.distributions as dist
        >>> from skaimz import NumPyroImpactRegressor
        >>> def kernel(X, y=None):
        ...     slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
        ...     with numpyro.plate("rows", X.shape[0]):
        ...         numpyro.sample("y", dist.Normal(slope * X[:, 0], 1.0), obs=y)
        >>> model = NumPyroImpactRegressor(kernel, random_state=0)
        >>> model = model.set_posterior_sample({"slope": [1.0, 2.0, 3.0]})
        >>> model.predict([[10.0]]).tolist()
        [20.0]
        """
        with self._unchanged_on_error():
            if not hasattr(self, "kernel_"):
                self._check_parameters()
                if self.kernel is None:
                    raise ValueError("`set_posterior_sample` needs a `kernel`, or a fitted default one.")
            arrays = draws_from(draws, num_chains)
            if hasattr(self, "kernel_spec_"):
                params = self.fit_result_.params if hasattr(self, "fit_result_") else {}
                arrays = match_draws(arrays, self.kernel_spec_, params)
                own = getattr(draws, "attrs", {}).get(OF_STATE)
                if own is not None and own == _digest(self.fit_result_.state):
                    self.fit_result_ = _with_draws(self.fit_result_, arrays)
                else:
                    n_rows = self.fit_result_.n_rows if hasattr(self, "fit_result_") else 0
                    self.fit_result_ = FitResult("injected", arrays, params, n_rows=n_rows)
            else:
                self.seed_ = seed_of(self.random_state)
            self.posterior_ = arrays
        return self

    def sample_posterior(self, num_samples: int = 1000, *, random_state: Any = None) -> xr.DataTree:
        """Take fresh draws from the fitted inference state.

        Variational guides and closed forms are drawn from anew, weighted draws are chosen anew by their weights, and
        Markov chains go on from where they ended.

        Parameters
        ----------
        num_samples : int, default=1000
            Draws to take, from each chain for MCMC.
        random_state : int, RandomState, JAX key or None, default=None
            Seed of this call, for all but Markov chains; the estimator's own where None.

        Returns
        -------
        xarray.DataTree
            With a ``posterior`` group, whose variables have the dimensions ``chain`` and ``draw``. The estimator's own
            draws stay; hand these to ``set_posterior_sample`` to use them.

        Examples
        --------
        >>> import numpy as np
        >>> from skaimz import NumPyroImpactRegressor
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(100, 2))
        >>> y = X @ [1.0, -2.0] + rng.normal(scale=0.1, size=100)
        >>> model = NumPyroImpactRegressor(random_state=0).fit(X, y)
        >>> dict(model.sample_posterior(200)["posterior"].sizes)["draw"]
        200
        """
        check_is_fitted(self)
        if getattr(self, "fit_result_", None) is None or not self.fit_result_.state:
            raise ValueError(
                "`sample_posterior` needs an inference state, and these posterior draws were made elsewhere. Call "
                "`fit` without `posterior`."
            )
        num_samples = check_count("num_samples", num_samples)
        result = self.fit_result_
        spec = self.kernel_spec_
        seed = self.seed_ if random_state is None else seed_of(random_state)
        with self._precision(self.arguments_["rows"][spec.input][1]):
            inputs = abstract_inputs(self.arguments_, result.n_rows)
            traced, _ = trace_kernel(self.kernel_, inputs, spec.input, spec.output_parameter)
            draws = inference.resume(traced, result, self.inference_, seed, num_samples, verbose=self.verbose)
        return to_tree({"posterior": draws_to_dataset(draws, spec)}, {"seed": seed, OF_STATE: _digest(result.state)})


def _digest(state: Sequence[np.ndarray]) -> str:
    return hashlib.blake2b(b"".join(np.asarray(array).tobytes() for array in state), digest_size=16).hexdigest()


def _with_draws(result: FitResult, draws: dict[str, np.ndarray]) -> FitResult:
    """Return what is known of a fit, with other draws from the state in which it ended."""
    judged = check_chains(draws, None) if result.method == "mcmc" else {}
    n_draws = next(iter(draws.values())).shape[1]
    return dataclasses.replace(
        result, draws=draws, sample_stats={}, diagnostics=result.diagnostics | judged, num_samples=n_draws
    )


def _by_chain(draws: Mapping[str, np.ndarray], spec: KernelSpec) -> dict[str, np.ndarray]:
    """Return draws ``(n_chains, n_draws, ...)``, where those of a mapping may have had an axis of chains before."""
    axes = {site.name: len(site.shape) for site in spec.latents if site.name in draws}
    sizes = {draws[name].shape[:3] for name, n_axes in axes.items() if draws[name].ndim == n_axes + 3}
    had_chains = isinstance(draws, FlatDraws) and len(sizes) == 1 and all(draws[n].ndim == axes[n] + 3 for n in axes)
    if not had_chains or min(next(iter(sizes))[:2]) > 1:
        return dict(draws)
    # What was taken for the draws of one chain, or of as many as there are, are the chains.
    return {name: draw.reshape(-1, *draw.shape[2:]) for name, draw in draws.items() if draw.ndim > 2}


def match_draws(draws: Mapping[str, np.ndarray], spec: KernelSpec, params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Keep the draws ``(n_chains, n_draws, ...)`` of a kernel's latent sites; ``params`` are what a fit has learned.

    Those of a mapping may have an axis of chains before, which their shapes tell.

    Raises
    ------
    ValueError
        If none is left, or the draws of a site have another shape than the site.

    Warns
    -----
    PosteriorWarning
        If the output or a foreign site is dropped, a latent site has no draws or draws that are not finite, or a
        parameter has not been learned.
    """
    draws = _by_chain(draws, spec)
    sites = {site.name: site for site in spec.sites}
    latents = {site.name: site for site in spec.latents}
    foreign = sorted(draws.keys() - sites.keys())
    missing = sorted(latents.keys() - draws.keys())
    if spec.output in draws:
        warn_user(
            f"Posterior draws of the output site {spec.output!r} are left out: outcomes are predicted, not given.",
            PosteriorWarning,
        )
    if foreign:
        warn_user(
            f"Posterior draws of {foreign} are left out: the kernel has no such sites.",
            PosteriorWarning,
        )
    if missing:
        warn_user(
            f"Latent sites {missing} have no posterior draws: they are drawn from their prior given the others.",
            PosteriorWarning,
        )
    unlearned = [site.name for site in spec.sites if site.kind == "param" and site.name not in params]
    if unlearned:
        warn_user(
            f"Parameters {unlearned} keep their first value: posterior draws do not hold what `numpyro.param` stands "
            "for. Write their values into the kernel.",
            PosteriorWarning,
        )
    kept = {
        name: in_type_of(site, f"The array of posterior draws of {name!r}", draws[name])
        for name, site in latents.items()
        if name in draws
    }
    if not kept and latents:
        raise ValueError(f"None of the posterior draws {sorted(draws)} is of a latent site: {sorted(latents)}.")
    for index in spec.indices:
        if index.kind == "site" and index.name in kept and index.length is not None:
            check_index(f"The array of posterior draws of {index.name!r}", kept[index.name], index, 0)
    for name, draw in kept.items():
        site = latents[name]
        fits = draw.ndim - 2 == len(site.shape) and all(
            expected in (None, size) for expected, size in zip(site.shape, draw.shape[2:], strict=True)
        )
        if not fits:
            expected = tuple("n_rows" if size is None else size for size in site.shape)
            raise ValueError(
                f"Posterior draws of {name!r} have the shape {draw.shape[2:]} a draw, but the site has {expected}."
            )
    wrong = {name: int((~np.isfinite(draw)).sum()) for name, draw in kept.items() if draw.dtype.kind == "f"}
    wrong = {name: count for name, count in wrong.items() if count}
    if wrong:
        warn_user(
            f"Some posterior draws are infinite or NaN (numbers by site: {wrong}): what follows from them is, too. "
            "Leave these draws out.",
            PosteriorWarning,
        )
    return kept


def check_interventions(job: sampling.Job) -> None:
    """Warn where an intervention or a condition cannot do what it may be meant to do."""
    for name in job.condition:
        upstream = sampling.upstream_of(job, name)
        if upstream and name != job.spec.output:
            warn_user(
                f"`condition` fixes {name!r}, and latent sites {upstream}, on which it and the output depend, keep "
                "their distributions: outcomes are those of rows that are given the value, as with `intervention`, "
                f"not of rows that happen to have it. For these let the kernel take {name!r} as an argument.",
                FixedSiteWarning,
            )
    for name in job.intervention:
        found = sampling.influence(job, name)
        if found is None:
            continue
        reaches, held = found
        if not reaches:
            warn_user(
                f"The intervention on {name!r} cannot change the output {job.spec.output!r}: nothing that this is "
                "computed from depends on it. (NumPyro's `do` does not reach sites in the body of a `scan`.)",
                UnreachedOutputWarning,
            )
        if held:
            warn_user(
                f"Latent sites {held} depend on {name!r}, and keep their posterior draws, which were made without the "
                "intervention: what it does through them is not seen. Intervene on them too, or leave them out of the "
                "posterior to have them drawn anew.",
                HeldLatentWarning,
            )


def check_local(spec: KernelSpec, local: Mapping[str, np.ndarray], n_rows: int) -> None:
    """Refuse draws of row-aligned latent sites that are not for the rows of a call, or those that these belong to."""
    for name, draw in local.items():
        found = draw.shape[1 + (spec[name].row_axis or 0)]
        if found != n_rows:
            raise ValueError(
                f"Latent site {name!r} has draws for the {found} rows of the fit, but X has {n_rows} rows: pass those "
                "rows, or `in_sample=False`."
            )
