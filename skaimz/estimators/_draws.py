"""Draws and log densities as xarray trees, for one batch of rows in memory."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from sklearn.utils.validation import validate_data

from skaimz import sampling
from skaimz.datatree import draws_to_dataset, to_tree
from skaimz.kernels import Inputs, KernelSpec, TracedKernel

__all__ = ["DrawsMixin"]


class DrawsMixin:
    """Predictive draws of every site, and the log likelihood."""

    kernel: Any
    random_state: Any
    _check_rows: Callable[[Any], np.ndarray]
    _check_parameters: Callable[[], None]
    _encode: Callable[[Any, KernelSpec], np.ndarray]
    _cast: Callable[[np.ndarray], np.ndarray]
    _posterior_for: Callable[..., tuple[sampling.Posterior, dict[str, np.ndarray], int]]
    _precision: Callable[[Any], Any]
    _seed_from: Callable[[Any], int]
    _split_columns: Callable[[np.ndarray, Mapping[str, Any]], tuple[np.ndarray, dict[str, Any]]]
    _trace: Callable[..., tuple[TracedKernel, dict[str, Any], Inputs]]

    def sample_posterior_predictive_on_batch(
        self,
        X: Any,
        *,
        intervention: Mapping[str, Any] | None = None,
        condition: Mapping[str, Any] | None = None,
        in_sample: bool = True,
        return_sites: Sequence[str] | None = None,
        return_datatree: bool = True,
        random_state: Any = None,
        **arrays: Any,
    ) -> Any:
        """Run the kernel once for each posterior draw.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        intervention : dict of str to array, optional
            Sample sites to set by the do-operator: a scalar, an array for the whole site, or one entry for each row.
        condition : dict of str to array, optional
            Sites to fix at values as if they had been drawn.
        in_sample : bool, default=True
            Whether these are the rows of the fit: latent sites with an entry for each row then have their posterior
            draws. Otherwise they are drawn anew given the other sites.
        return_sites : sequence of str, optional
            Sites to return; the output and all deterministic sites where None.
        return_datatree : bool, default=True
            Return a tree; otherwise a dict of arrays of shape ``(n_chains, n_draws, ...)``.
        random_state : int, RandomState, JAX key or None, default=None
            Seed of this call; the estimator's own where None.
        **arrays : array or scalar
            The kernel's further arguments.

        Returns
        -------
        xarray.DataTree or dict
            With the groups ``posterior`` and ``posterior_predictive`` (``predictions`` out of sample).

        Raises
        ------
        ValueError
            If a site is unknown, or intervened on and asked for.
        """
        index = _index_of(X)
        X = self._check_rows(X)
        with self._precision(X.dtype):
            traced, numbers, inputs = self._trace(*self._split_columns(X, arrays))
            posterior, local, seed = self._posterior_for(traced, numbers, X.dtype)
            seed = seed if random_state is None else self._seed_from(random_state)
            names = _check_sites(traced.spec, return_sites, intervention or {}, condition or {})
            local = _check_local(traced.spec, local, len(X)) if in_sample else {}
            found = sampling.sample_sites(
                traced, posterior, inputs, seed, names, local=local, intervention=intervention, condition=condition
            )
        group = "posterior_predictive" if in_sample else "predictions"
        return self._tree({group: found}, posterior, traced.spec, index, seed, return_datatree, local)

    def sample_prior_predictive_on_batch(
        self,
        X: Any,
        *,
        num_samples: int = 1000,
        intervention: Mapping[str, Any] | None = None,
        condition: Mapping[str, Any] | None = None,
        return_sites: Sequence[str] | None = None,
        return_datatree: bool = True,
        random_state: Any = None,
        **arrays: Any,
    ) -> Any:
        """Run the kernel on draws from its prior; the estimator need not be fitted.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        num_samples : int, default=1000
        intervention, condition : dict of str to array, optional
            As in :meth:`sample_posterior_predictive_on_batch`.
        return_sites : sequence of str, optional
            Sites to return; the output, all deterministic and all latent sites where None.
        return_datatree : bool, default=True
            Return a tree; otherwise a dict of arrays of shape ``(1, num_samples, ...)``.
        random_state : int, RandomState, JAX key or None, default=None
            Seed of this call; the estimator's own where None.
        **arrays : array or scalar
            The kernel's further arguments.

        Returns
        -------
        xarray.DataTree or dict
            With the group ``prior_predictive``.
        """
        if not isinstance(num_samples, int | np.integer) or isinstance(num_samples, bool) or num_samples < 1:
            raise ValueError(f"`num_samples` must be a positive integer, got {num_samples!r}.")
        index = _index_of(X)
        if not hasattr(self, "kernel_"):
            self._check_parameters()
            if self.kernel is None:
                raise ValueError("The default kernel is scaled to its training data: call `fit` before its prior.")
        X = self._cast(validate_data(self, X, reset=False, dtype=[np.float64, np.float32]))
        with self._precision(X.dtype):
            traced, numbers, inputs = self._trace(*self._split_columns(X, arrays))
            spec = traced.spec
            seed = getattr(self, "seed_", None)
            if random_state is not None or seed is None:
                seed = self._seed_from(self.random_state if random_state is None else random_state)
            latents = tuple(site.name for site in spec.latents)
            asked = (*spec.return_sites, *latents) if return_sites is None else return_sites
            asked = [name for name in asked if return_sites is not None or name not in (intervention or {})]
            names = _check_sites(spec, asked, intervention or {}, condition or {})
            posterior = sampling.Posterior(numbers, {}, {}, int(num_samples))
            found = sampling.sample_sites(
                traced, posterior, inputs, seed, names, intervention=intervention, condition=condition
            )
        return self._tree({"prior_predictive": found}, posterior, spec, index, seed, return_datatree, {})

    def log_likelihood_on_batch(
        self, X: Any, y: Any, *, in_sample: bool = True, return_datatree: bool = True, **arrays: Any
    ) -> Any:
        """Return the log density of outcomes for each posterior draw and row.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
        in_sample : bool, default=True
            Whether these are the rows of the fit.
        return_datatree : bool, default=True
            Return a tree; otherwise a dict of arrays of shape ``(n_chains, n_draws, n_rows)``.
        **arrays : array or scalar
            The kernel's further arguments.

        Returns
        -------
        xarray.DataTree or dict
            With the groups ``posterior`` and ``log_likelihood``.
        """
        index = _index_of(X)
        X = self._check_rows(X)
        with self._precision(X.dtype):
            traced, numbers, inputs = self._trace(*self._split_columns(X, arrays))
            spec = traced.spec
            posterior, local, seed = self._posterior_for(traced, numbers, X.dtype)
            local = _check_local(spec, local, len(X)) if in_sample else {}
            y = self._encode(y, spec)
            if len(y) != len(X):
                raise ValueError(f"X has {len(X)} rows, but y has {len(y)}.")
            observed = Inputs({**inputs.rows, spec.output_parameter: y}, inputs.whole, inputs.static)
            found = sampling.log_densities(traced, posterior, observed, seed, local=local)
        groups = {"log_likelihood": {spec.output: found}}
        return self._tree(groups, posterior, spec, index, seed, return_datatree, local)

    def _tree(
        self,
        groups: Mapping[str, Mapping[str, np.ndarray]],
        posterior: sampling.Posterior,
        spec: KernelSpec,
        index: Any,
        seed: int,
        as_tree: bool,
        local: Mapping[str, np.ndarray],
    ) -> Any:
        chains = next((draw.shape[0] for draw in getattr(self, "posterior_", {}).values()), 1)
        chains = chains if posterior.n_draws % chains == 0 and posterior.draws else 1
        apart = {
            group: {name: array.reshape(chains, -1, *array.shape[1:]) for name, array in arrays.items()}
            for group, arrays in groups.items()
        }
        if not as_tree:
            return next(iter(apart.values()))
        datasets: dict[str, xr.Dataset] = {
            group: draws_to_dataset(arrays, spec, index) for group, arrays in apart.items()
        }
        if posterior.draws:
            own = {
                name: draw.reshape(chains, -1, *draw.shape[1:])
                for name, draw in (posterior.draws | dict(local)).items()
            }
            datasets = {"posterior": draws_to_dataset(own, spec, index), **datasets}
        return to_tree(datasets, {"seed": seed})


def _index_of(X: Any) -> Any:
    """Return a data frame's labels of rows, None for anything else."""
    return X.index if hasattr(X, "iloc") else None


def _check_sites(
    spec: KernelSpec, asked: Sequence[str] | None, intervention: Mapping[str, Any], condition: Mapping[str, Any]
) -> tuple[str, ...]:
    sites = {site.name: site for site in spec.sites}
    samples = [name for name, site in sites.items() if site.kind in ("latent", "output", "observed")]
    for argument, values in (("intervention", intervention), ("condition", condition)):
        for name in values:
            if name not in samples:
                raise ValueError(f"`{argument}` names {name!r}, which is not a sample site of the kernel: {samples}.")
    names = spec.return_sites if asked is None else tuple(asked)
    if asked is None:
        names = tuple(name for name in names if name not in intervention)
    for name in names:
        if name not in sites:
            raise ValueError(f"`return_sites` names {name!r}, which is not a site of the kernel: {list(sites)}.")
        if name in intervention:
            raise ValueError(f"`return_sites` names {name!r}, which `intervention` sets: its value is the one given.")
    return names


def _check_local(spec: KernelSpec, local: Mapping[str, np.ndarray], n_rows: int) -> dict[str, np.ndarray]:
    for name, draw in local.items():
        fitted = draw.shape[1 + (spec[name].row_axis or 0)]
        if fitted != n_rows:
            raise ValueError(
                f"Latent site {name!r} has draws for the {fitted} rows of the fit, but X has {n_rows} rows: pass those "
                "rows, or `in_sample=False`."
            )
    return dict(local)
