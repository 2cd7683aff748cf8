"""Draws and log densities as xarray trees: in memory, or streamed to a store."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from sklearn.utils.validation import check_consistent_length

from skaimz import sampling
from skaimz.estimators._arguments import check_count
from skaimz.estimators._blocks import drawn
from skaimz.estimators._collect import Destination, collect
from skaimz.estimators._posterior import check_interventions
from skaimz.estimators._temporary import FoldersMixin
from skaimz.kernels import Inputs, KernelSpec, TracedKernel
from skaimz.rows import LazyRows, lazy_rows

__all__ = ["DrawsMixin", "index_of"]


class DrawsMixin(FoldersMixin):
    """Predictive draws of every site, and the log likelihood."""

    kernel: Any
    param_output: str
    verbose: int
    kernel_spec_: KernelSpec
    _read: Callable[..., tuple[Any, dict[str, Any]]]
    _check_parameters: Callable[[], None]
    _encode: Callable[..., np.ndarray]
    _prepare: Callable[..., sampling.Job]
    _precision: Callable[[Any], AbstractContextManager]
    _seed_of_call: Callable[[Any], int]
    _trace: Callable[..., tuple[TracedKernel, dict[str, Any], Inputs]]

    def _shows(self, progress: bool | None) -> bool:
        return self.verbose > 0 if progress is None else progress

    @drawn
    def sample_posterior_predictive(
        self,
        X: Any,
        *,
        intervention: Mapping[str, Any] | None = None,
        condition: Mapping[str, Any] | None = None,
        in_sample: bool = True,
        return_sites: str | Sequence[str] | None = None,
        shard_axis: str = "obs",
        batch_size: int | None = None,
        store: str = "auto",
        output_dir: Any = None,
        compressors: Any = None,
        random_state: Any = None,
        progress: bool | None = None,
        **arrays: Any,
    ) -> Any:
        """Run the kernel once for each posterior draw.

        The draws follow from the kernel, the posterior, the rows and the seed alone: not from the batch size, the
        number of devices, the axis that is sharded or the store.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features), Zarr array, or iterable of mappings
            An array of any kind, memory-mapped ones included; or anything that can be iterated over repeatedly and
            gives mappings of the kernel's arguments, the input among them, to arrays of some rows. Dask collections,
            too, with ``pip install 'skaimz[dask]'``.
        intervention : dict of str to array, optional
            Sample sites to set by the do-operator: a scalar, an array for the whole site, or one entry for each row.
        condition : dict of str to array, optional
            Sites to fix at values, in the same forms. What follows in the kernel sees them, and they can be returned.
            What comes before keeps its distribution: nothing is inferred from the values, so this is not
            the conditional distribution given them.
        in_sample : bool, default=True
            Whether these are the rows of the fit: latent sites with an entry for each row then have their posterior
            draws. Otherwise they are drawn anew given the other sites.
        return_sites : str or sequence of str, optional
            What to return; the output and all deterministic sites where None. A site that mixes rows makes the kernel
            run on all of them at once.
        shard_axis : {"obs", "draw"}, default="obs"
            What is spread over JAX's devices, where there are several: rows or draws.
        batch_size : int, optional
            Rows that are handed on at a time, rounded to whole tiles; as many as make 32 MiB where None. It changes
            speed and memory, and is the length of a chunk on disk.
        store : {"auto", "zarr", "memory"}, default="auto"
            Where draws go. ``"auto"`` is memory up to 1 GiB where no ``output_dir`` is given, and Zarr otherwise. Draws
            of Dask collections are lazy arrays, unless ``"zarr"`` or an ``output_dir`` is asked for: then the workers
            write the store, a batch each, and the call returns when all are there.
        output_dir : path-like, optional
            Folder of the store: new, empty, or left by the same call, which then goes on where it ended. A folder of
            the estimator's own where None; see ``temp_dir_`` and :meth:`cleanup`. Workers that write to it must share
            it.
        compressors : Zarr codec or sequence of Zarr codecs, optional
            Draws are nearly random bits, which take long to compress and hardly shrink: none by default.
        random_state : int, RandomState, JAX key or None, default=None
            Seed of this call; the estimator's own where None.
        progress : bool, optional
            Show a progress bar; where None, if ``verbose`` is positive.
        **arrays : array or scalar
            The kernel's further arguments.

        Returns
        -------
        xarray.DataTree
            With the groups ``posterior`` and ``posterior_predictive`` (``predictions`` out of sample), lazy where it
            is on disk. Variables have the dimensions ``chain``, ``draw`` and those of their plates. A classifier's
            output holds codes, positions in ``classes_``.

        Raises
        ------
        ValueError
            If an argument cannot be used, a site is unknown, or intervened on and asked for.
        FileExistsError
            If ``output_dir`` holds anything but draws of the same call.
        OSError
            If draws cannot be written; the store is then marked as incomplete. If a worker does not see the folder.

        Warns
        -----
        SpeedWarning
            If rows depend on one another, so that the kernel runs on all at once and draws are sharded.
        FixedSiteWarning
            If ``condition`` fixes a site that depends on latent sites of the rows, which the output depends on, too.

        Examples
        --------
        >>> import numpy as np
        >>> from skaimz import NumPyroImpactRegressor
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(100, 2))
        >>> y = X @ [1.0, -2.0] + rng.normal(scale=0.1, size=100)
        >>> model = NumPyroImpactRegressor(random_state=0).fit(X, y)
        >>> tree = model.sample_posterior_predictive(X[:3], in_sample=False)
        >>> dict(tree["predictions"]["y"].sizes)
        {'chain': 1, 'draw': 1000, 'rows': 3}
        """
        settings = Destination(store, output_dir, shard_axis, batch_size, compressors, self._shows(progress))
        return self._posterior_predictive(
            X, intervention, condition, in_sample, return_sites, random_state, arrays, settings
        )

    def sample_posterior_predictive_on_batch(
        self,
        X: Any,
        *,
        intervention: Mapping[str, Any] | None = None,
        condition: Mapping[str, Any] | None = None,
        in_sample: bool = True,
        return_sites: str | Sequence[str] | None = None,
        return_datatree: bool = True,
        random_state: Any = None,
        **arrays: Any,
    ) -> Any:
        """Run the kernel once for each posterior draw, and keep the draws in memory.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        intervention, condition, in_sample, return_sites, random_state, **arrays
            As in :meth:`sample_posterior_predictive`, which gives the same draws.
        return_datatree : bool, default=True
            Return a tree; otherwise a dict of arrays of shape ``(n_chains, n_draws, ...)``.

        Returns
        -------
        xarray.DataTree or dict
            With the groups ``posterior`` and ``posterior_predictive`` (``predictions`` out of sample).

        Examples
        --------
        >>> import numpy as np
        >>> from skaimz import NumPyroImpactRegressor
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(100, 2))
        >>> y = X @ [1.0, -2.0] + rng.normal(scale=0.1, size=100)
        >>> model = NumPyroImpactRegressor(random_state=0).fit(X, y)
        >>> draws = model.sample_posterior_predictive_on_batch(X[:3], return_datatree=False)
        >>> draws["y"].shape
        (1, 1000, 3)
        """
        return self._posterior_predictive(
            X, intervention, condition, in_sample, return_sites, random_state, arrays, Destination(), return_datatree
        )

    @drawn
    def sample_prior_predictive(
        self,
        X: Any,
        *,
        num_samples: int = 1000,
        intervention: Mapping[str, Any] | None = None,
        condition: Mapping[str, Any] | None = None,
        return_sites: str | Sequence[str] | None = None,
        shard_axis: str = "obs",
        batch_size: int | None = None,
        store: str = "auto",
        output_dir: Any = None,
        compressors: Any = None,
        random_state: Any = None,
        progress: bool | None = None,
        **arrays: Any,
    ) -> Any:
        """Run the kernel on draws from its prior; the estimator need not be fitted.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features), Zarr array, or iterable of mappings
        num_samples : int, default=1000
        return_sites : str or sequence of str, optional
            Site or sites to return; the output, all deterministic and all latent sites where None.
        intervention, condition, shard_axis, batch_size, store, output_dir, compressors, random_state, progress
            As in :meth:`sample_posterior_predictive`.
        **arrays : array or scalar
            The kernel's further arguments.

        Returns
        -------
        xarray.DataTree
            With the group ``prior_predictive``.

        Examples
        --------
        >>> import numpyro
        >>> import numpyro.distributions as dist
        >>> from skaimz import NumPyroImpactRegressor
        >>> def kernel(X, y=None):
        ...     slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
        ...     with numpyro.plate("rows", X.shape[0]):
        ...         numpyro.sample("y", dist.Normal(slope * X[:, 0], 1.0), obs=y)
        >>> tree = NumPyroImpactRegressor(kernel, random_state=0).sample_prior_predictive([[1.0]], num_samples=500)
        >>> sorted(tree["prior_predictive"].data_vars)
        ['slope', 'y']
        """
        settings = Destination(store, output_dir, shard_axis, batch_size, compressors, self._shows(progress))
        return self._prior_predictive(
            X, num_samples, intervention, condition, return_sites, random_state, arrays, settings
        )

    def sample_prior_predictive_on_batch(
        self,
        X: Any,
        *,
        num_samples: int = 1000,
        intervention: Mapping[str, Any] | None = None,
        condition: Mapping[str, Any] | None = None,
        return_sites: str | Sequence[str] | None = None,
        return_datatree: bool = True,
        random_state: Any = None,
        **arrays: Any,
    ) -> Any:
        """Run the kernel on draws from its prior, and keep the results in memory.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        num_samples, intervention, condition, return_sites, random_state, **arrays
            As in :meth:`sample_prior_predictive`, which gives the same draws.
        return_datatree : bool, default=True
            Return a tree; otherwise a dict of arrays of shape ``(1, num_samples, ...)``.

        Returns
        -------
        xarray.DataTree or dict
            With the group ``prior_predictive``.

        Examples
        --------
        >>> import numpyro
        >>> import numpyro.distributions as dist
        >>> from skaimz import NumPyroImpactRegressor
        >>> def kernel(X, y=None):
        ...     slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
        ...     with numpyro.plate("rows", X.shape[0]):
        ...         numpyro.sample("y", dist.Normal(slope * X[:, 0], 1.0), obs=y)
        >>> model = NumPyroImpactRegressor(kernel, random_state=0)
        >>> draws = model.sample_prior_predictive_on_batch([[1.0]], num_samples=500, return_datatree=False)
        >>> draws["slope"].shape, draws["y"].shape
        ((1, 500), (1, 500, 1))
        """
        return self._prior_predictive(
            X, num_samples, intervention, condition, return_sites, random_state, arrays, Destination(), return_datatree
        )

    @drawn
    def log_likelihood(
        self,
        X: Any,
        y: Any = None,
        *,
        in_sample: bool = True,
        shard_axis: str = "obs",
        batch_size: int | None = None,
        store: str = "auto",
        output_dir: Any = None,
        compressors: Any = None,
        progress: bool | None = None,
        **arrays: Any,
    ) -> Any:
        """Return the log density of outcomes for each posterior draw and row.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features), Zarr array, or iterable of mappings
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            May be left out where X is an iterable of mappings that hold it.
        in_sample, shard_axis, batch_size, store, output_dir, compressors, progress, **arrays
            As in :meth:`sample_posterior_predictive`.

        Returns
        -------
        xarray.DataTree
            With the groups ``posterior`` and ``log_likelihood``.

        Examples
        --------
        >>> import numpy as np
        >>> from skaimz import NumPyroImpactRegressor
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(100, 2))
        >>> y = X @ [1.0, -2.0] + rng.normal(scale=0.1, size=100)
        >>> model = NumPyroImpactRegressor(random_state=0).fit(X, y)
        >>> tree = model.log_likelihood(X, y)
        >>> dict(tree["log_likelihood"]["y"].sizes)
        {'chain': 1, 'draw': 1000, 'rows': 100}
        """
        settings = Destination(store, output_dir, shard_axis, batch_size, compressors, self._shows(progress))
        return self._log_likelihood(X, y, in_sample, arrays, settings)

    def log_likelihood_on_batch(
        self, X: Any, y: Any = None, *, in_sample: bool = True, return_datatree: bool = True, **arrays: Any
    ) -> Any:
        """Return the log density of outcomes for each posterior draw and row, in memory.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        y, in_sample, **arrays
            As in :meth:`log_likelihood`.
        return_datatree : bool, default=True
            Return a tree; otherwise a dict of arrays of shape ``(n_chains, n_draws, n_rows)``.

        Returns
        -------
        xarray.DataTree or dict
            With the groups ``posterior`` and ``log_likelihood``.

        Examples
        --------
        >>> import numpyro
        >>> import numpyro.distributions as dist
        >>> from skaimz import NumPyroImpactRegressor
        >>> def kernel(X, y=None):
        ...     slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
        ...     with numpyro.plate("rows", X.shape[0]):
        ...         numpyro.sample("y", dist.Normal(slope * X[:, 0], 1.0), obs=y)
        >>> model = NumPyroImpactRegressor(kernel, posterior={"slope": [1.0, 2.0]}, random_state=0)
        >>> found = model.log_likelihood_on_batch([[1.0]], [1.0], return_datatree=False, in_sample=False)
        >>> found["y"].round(3).tolist()  # of one row by each of two draws
        [[[-0.919], [-1.419]]]
        """
        return self._log_likelihood(X, y, in_sample, arrays, Destination(), return_datatree)

    # Behind the public methods

    def _posterior_predictive(
        self,
        X: Any,
        intervention: Mapping[str, Any] | None,
        condition: Mapping[str, Any] | None,
        in_sample: bool,
        return_sites: str | Sequence[str] | None,
        random_state: Any,
        arrays: Mapping[str, Any],
        settings: Destination,
        as_tree: bool = True,
    ) -> Any:
        settings.check()
        index = index_of(X)
        X, arrays = self._read(X, arrays)
        with self._precision(X.dtype):
            job = self._prepare(
                X,
                arrays,
                in_sample=in_sample,
                intervention=intervention,
                condition=condition,
                random_state=random_state,
            )
            names = _check_sites(job, return_sites)
            group = "posterior_predictive" if in_sample else "predictions"
            return collect(self, job, sampling.Quantity("values", names), group, index, settings, as_tree)

    def _prior_predictive(
        self,
        X: Any,
        num_samples: int,
        intervention: Mapping[str, Any] | None,
        condition: Mapping[str, Any] | None,
        return_sites: str | Sequence[str] | None,
        random_state: Any,
        arrays: Mapping[str, Any],
        settings: Destination,
        as_tree: bool = True,
    ) -> Any:
        settings.check()
        num_samples = check_count("num_samples", num_samples)
        index = index_of(X)
        X, arrays = self._read_for_prior(X, arrays)
        with self._precision(X.dtype):
            job = self._prepare_prior(X, arrays, num_samples, intervention, condition, random_state)
            asked = return_sites
            if return_sites is None:
                latents = (site.name for site in job.spec.latents)
                asked = [name for name in (*job.spec.return_sites, *latents) if name not in job.intervention]
            quantity = sampling.Quantity("values", _check_sites(job, asked))
            return collect(self, job, quantity, "prior_predictive", index, settings, as_tree)

    def _read_for_prior(
        self, X: Any, arrays: Mapping[str, Any], *, beside: Collection[str] = ()
    ) -> tuple[Any, dict[str, Any]]:
        """Check the rows of a call that needs no fit."""
        if not hasattr(self, "kernel_"):
            self._check_parameters()
            if self.kernel is None:
                raise ValueError("The default kernel is scaled to its training data: call `fit` before its prior.")
        return self._read(X, arrays, fitted=False, beside=beside)

    def _prepare_prior(
        self,
        X: Any,
        arrays: Mapping[str, Any],
        num_samples: int,
        intervention: Mapping[str, Any] | None = None,
        condition: Mapping[str, Any] | None = None,
        random_state: Any = None,
    ) -> sampling.Job:
        """Return a pass in which all latent sites are drawn from the prior."""
        traced, hyperparameters, inputs = self._trace(X, arrays)
        improper = traced.spec.improper_latents
        if improper:
            raise ValueError(f"The priors of {list(improper)} are improper, and cannot be drawn from.")
        job = sampling.Job(
            traced,
            sampling.Posterior(hyperparameters, {}, {}, num_samples),
            inputs,
            self._seed_of_call(random_state),
            {},
            sampling.site_values(traced.spec, "intervention", intervention, len(X)),
            sampling.site_values(traced.spec, "condition", condition, len(X)),
            getattr(self, "_part", None),
        )
        check_interventions(job)
        return job

    def _log_likelihood(
        self, X: Any, y: Any, in_sample: bool, arrays: Mapping[str, Any], settings: Destination, as_tree: bool = True
    ) -> Any:
        settings.check()
        index = index_of(X)
        X, arrays = self._read(X, arrays, beside=[self.param_output])
        came_along = arrays.pop(self.param_output, None)
        y = came_along if y is None else y
        if y is None:
            raise ValueError("`log_likelihood` needs outcomes: pass y.")
        with self._precision(X.dtype):
            job = self._prepare(X, arrays, in_sample=in_sample)
            sampling.check_densities(job.spec)
            rows = lazy_rows(y)
            if rows is not None:
                dtype = X.dtype
                y = LazyRows(rows, lambda part, start: self._encode(part, job.spec, dtype, start))
            else:
                y = self._encode(y, job.spec, X.dtype, job.first_row)
            check_consistent_length(X, y)
            job = job.with_rows({job.spec.output_parameter: y})
            quantity = sampling.Quantity("log density", (job.spec.output,))
            return collect(self, job, quantity, "log_likelihood", index, settings, as_tree)


def index_of(X: Any) -> Any:
    """Return a data frame's labels of rows, None for anything else."""
    return X.index if hasattr(X, "iloc") else None


def _check_sites(job: sampling.Job, asked: str | Sequence[str] | None) -> tuple[str, ...]:
    spec = job.spec
    sites = {site.name: site for site in spec.sites}
    if asked is None:
        asked = [name for name in spec.return_sites if name not in job.intervention]
    names = tuple(dict.fromkeys([asked] if isinstance(asked, str) or not isinstance(asked, Iterable) else asked))
    for name in names:
        if name not in sites:
            raise ValueError(f"`return_sites` names {name!r}, which is not a site of the kernel: {list(sites)}.")
        if name in job.intervention:
            raise ValueError(f"`return_sites` names {name!r}, which `intervention` sets: its value is the one given.")
    return names
