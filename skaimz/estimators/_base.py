"""What a fitted kernel answers: draws, densities and effects."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from skaimz.effects import EffectTree
from skaimz.estimators import _temporary
from skaimz.estimators._arguments import check_count
from skaimz.estimators._draws import (
    Destination,
    DrawQuestion,
    LogLikelihood,
    PosteriorPredictive,
    PriorPredictive,
    answer_with_draws,
)
from skaimz.estimators._effects import Effect, Slope, answer_with_effects
from skaimz.estimators._learning import KernelEstimator
from skaimz.estimators._model import Model
from skaimz.estimators._predictions import LogDensities, Outcomes
from skaimz.estimators._questions import answer_by_row, frees_on_error, in_memory, request_for
from skaimz.estimators._scenarios import Over
from skaimz.estimators._states import StatePosterior, States
from skaimz.estimators._types import Argument, Column, Contrast, Folder, RandomState, Rows, Scenario

__all__ = ["ImpactEstimator"]


class ImpactEstimator(KernelEstimator):
    """Base of the estimators over NumPyro kernels."""

    def sample_y(self, X: Rows, n_samples: int = 1, random_state: RandomState = None, **arrays: Argument) -> np.ndarray:
        """Draw outcomes from the posterior predictive.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        n_samples : int, default=1
            Outcomes a row. Up to the number of posterior draws, each comes from another draw.
        random_state : int, RandomState, JAX key or None, default=None
            Seed of this call; the estimator's own where None, so that two calls agree.
        **arrays : array or scalar
            The kernel's further arguments.

        Returns
        -------
        array of shape (n_rows, n_samples) or (n_rows, n_outputs, n_samples)

        Examples
        --------
        >>> import numpy as np
        >>> from skaimz import NumPyroImpactRegressor
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(100, 2))
        >>> y = X @ [1.0, -2.0] + rng.normal(scale=0.1, size=100)
        >>> model = NumPyroImpactRegressor(random_state=0).fit(X, y)
        >>> model.sample_y(X[:3], n_samples=5).shape
        (3, 5)
        """
        question = Outcomes(check_count("n_samples", n_samples))
        return answer_by_row(Model.of(self), question, X, arrays, random_state)

    def sample_posterior_predictive(
        self,
        X: Rows,
        *,
        intervention: Mapping[str, ArrayLike] | None = None,
        condition: Mapping[str, ArrayLike] | None = None,
        in_sample: bool = True,
        return_sites: str | Sequence[str] | None = None,
        shard_axis: str = "obs",
        batch_size: int | None = None,
        store: str = "auto",
        output_dir: Folder = None,
        compressors: Any = None,
        draw_dtype: str | None = None,
        random_state: RandomState = None,
        progress: bool | None = None,
        **arrays: Argument,
    ) -> xr.DataTree:
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
            Where draws go. ``"auto"`` is memory up to 1 GiB, and Zarr above or with ``output_dir`` or ``draw_dtype``.
            Draws of Dask collections are lazy arrays, unless a store is asked for: then the workers write its batches.
        output_dir : path-like or URL, optional
            Folder of the store, or URL as ``"s3://bucket/draws"`` (``pip install 'skaimz[remote]'``): new, empty, or
            left by the same call, which then goes on where it ended. A folder of the estimator's own where None; see
            ``temp_dir_`` and :meth:`cleanup`. Workers that write to it must share it.
        compressors : Zarr codec or sequence of Zarr codecs, optional
            Draws are nearly random bits, which take long to compress and hardly shrink: none by default.
        draw_dtype : {"float16", "float32"}, optional
            Write draws that are floats to a store in this type, in which they take less room. ``"float16"`` changes a
            number by up to 0.05 % of it, or by up to 3e-8 if it is below 6e-5. Draws above 65504 are refused.
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
        question = PosteriorPredictive(intervention, condition, in_sample, return_sites)
        place = Destination(store, output_dir, shard_axis, batch_size, compressors, self._shows(progress), draw_dtype)
        return answer_with_draws(Model.of(self), question, X, arrays, random_state, place)

    def sample_posterior_predictive_on_batch(
        self,
        X: Rows,
        *,
        intervention: Mapping[str, ArrayLike] | None = None,
        condition: Mapping[str, ArrayLike] | None = None,
        in_sample: bool = True,
        return_sites: str | Sequence[str] | None = None,
        return_datatree: bool = True,
        random_state: RandomState = None,
        **arrays: Argument,
    ) -> xr.DataTree | dict[str, np.ndarray]:
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
        question = PosteriorPredictive(intervention, condition, in_sample, return_sites)
        return self._on_batch(question, X, arrays, random_state, return_datatree)

    def sample_prior_predictive(
        self,
        X: Rows,
        *,
        num_samples: int = 1000,
        intervention: Mapping[str, ArrayLike] | None = None,
        condition: Mapping[str, ArrayLike] | None = None,
        return_sites: str | Sequence[str] | None = None,
        shard_axis: str = "obs",
        batch_size: int | None = None,
        store: str = "auto",
        output_dir: Folder = None,
        compressors: Any = None,
        draw_dtype: str | None = None,
        random_state: RandomState = None,
        progress: bool | None = None,
        **arrays: Argument,
    ) -> xr.DataTree:
        """Run the kernel on draws from its prior; the estimator need not be fitted.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features), Zarr array, or iterable of mappings
        num_samples : int, default=1000
        return_sites : str or sequence of str, optional
            Site or sites to return; the output, all deterministic and all latent sites where None.
        intervention, condition, shard_axis, batch_size, store, output_dir, compressors, draw_dtype, random_state
            As in :meth:`sample_posterior_predictive`.
        progress, **arrays
            As in :meth:`sample_posterior_predictive`.

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
        question = PriorPredictive(num_samples, intervention, condition, return_sites)
        place = Destination(store, output_dir, shard_axis, batch_size, compressors, self._shows(progress), draw_dtype)
        return answer_with_draws(Model.of(self), question, X, arrays, random_state, place)

    def sample_prior_predictive_on_batch(
        self,
        X: Rows,
        *,
        num_samples: int = 1000,
        intervention: Mapping[str, ArrayLike] | None = None,
        condition: Mapping[str, ArrayLike] | None = None,
        return_sites: str | Sequence[str] | None = None,
        return_datatree: bool = True,
        random_state: RandomState = None,
        **arrays: Argument,
    ) -> xr.DataTree | dict[str, np.ndarray]:
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
        question = PriorPredictive(num_samples, intervention, condition, return_sites)
        return self._on_batch(question, X, arrays, random_state, return_datatree)

    def log_likelihood(
        self,
        X: Rows,
        y: Rows | None = None,
        *,
        in_sample: bool = True,
        shard_axis: str = "obs",
        batch_size: int | None = None,
        store: str = "auto",
        output_dir: Folder = None,
        compressors: Any = None,
        draw_dtype: str | None = None,
        progress: bool | None = None,
        **arrays: Argument,
    ) -> xr.DataTree:
        """Return the log density of outcomes for each posterior draw and row.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features), Zarr array, or iterable of mappings
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            May be left out where X is an iterable of mappings that hold it.
        in_sample, shard_axis, batch_size, store, output_dir, compressors, draw_dtype, progress, **arrays
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
        place = Destination(store, output_dir, shard_axis, batch_size, compressors, self._shows(progress), draw_dtype)
        return answer_with_draws(Model.of(self), LogLikelihood(y, in_sample), X, arrays, None, place)

    def infer_discrete(
        self, X: Rows, y: Rows | None = None, *, in_sample: bool = True, **arrays: Argument
    ) -> StatePosterior:
        """Return what outcomes tell of the states of discrete latent sites, such as the components of a mixture.

        Given a posterior draw, the probabilities follow from Bayes' rule. They are averaged over the draws.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            May be left out where X is an iterable of mappings that hold it.
        in_sample, **arrays
            As in :meth:`log_likelihood`.

        Returns
        -------
        StatePosterior
            Probabilities, exact given the posterior draws.

        Examples
        --------
        >>> import numpy as np
        >>> import numpyro
        >>> import numpyro.distributions as dist
        >>> from skaimz import NumPyroImpactRegressor
        >>> def kernel(X, y=None):
        ...     shift = numpyro.sample("shift", dist.Normal(0.0, 5.0))
        ...     with numpyro.plate("rows", X.shape[0]):
        ...         z = numpyro.sample("z", dist.Bernoulli(0.3))
        ...         numpyro.sample("y", dist.Normal(shift + 6.0 * z, 1.0), obs=y)
        >>> y = np.array([0.2, 6.1, -0.5, 0.3, 5.7, -0.1])
        >>> model = NumPyroImpactRegressor(kernel, random_state=0).fit(np.zeros((6, 1)), y)
        >>> model.infer_discrete(np.zeros((6, 1)), y).most_probable("z").tolist()
        [0, 1, 0, 0, 1, 0]
        """
        request = request_for(Model.of(self), States(in_memory(y), in_sample), arrays, None)
        with frees_on_error():
            return request.question.answer(request.read(in_memory(X)))

    def log_likelihood_on_batch(
        self,
        X: Rows,
        y: Rows | None = None,
        *,
        in_sample: bool = True,
        return_datatree: bool = True,
        **arrays: Argument,
    ) -> xr.DataTree | dict[str, np.ndarray]:
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
        return self._on_batch(LogLikelihood(y, in_sample), X, arrays, None, return_datatree)

    def log_predictive_density(self, X: Rows, y: Rows, **arrays: Argument) -> np.ndarray:
        """Return the log density of outcomes under the posterior predictive.

        It is ``log(mean(p))``, where ``p`` are the densities of an outcome under the posterior draws; probabilities
        where outcomes are discrete.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            New rows: latent sites with an entry for each row are drawn given the others, as in :meth:`predict`.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            Outcomes; several on one row are scored together, by their joint density.
        **arrays : array or scalar
            The kernel's further arguments.

        Returns
        -------
        array of shape (n_rows,)

        Raises
        ------
        ValueError
            If y does not fit the kernel's output, or the output has one density for all rows.

        See Also
        --------
        skaimz.metrics.elpd : Its sum over the rows, with a standard error.
        skaimz.metrics.LogPredictiveDensity : Its average over the rows, as a scorer.
        log_likelihood : The same for each draw.

        References
        ----------
        A. Gelman, J. Hwang and A. Vehtari (2014), Understanding predictive information criteria for Bayesian models,
        Statistics and Computing 24.

        Examples
        --------
        >>> import numpy as np
        >>> from skaimz import NumPyroImpactRegressor
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(100, 2))
        >>> y = X @ [1.0, -2.0] + rng.normal(scale=0.1, size=100)
        >>> model = NumPyroImpactRegressor(random_state=0).fit(X, y)
        >>> typical, impossible = model.log_predictive_density(X[:2], [y[0], y[1] + 5.0])
        >>> bool(typical > 0 > impossible)
        True
        """
        return answer_by_row(Model.of(self), LogDensities(y), X, arrays)

    def estimate_effect(
        self,
        X: Rows | None = None,
        *,
        scenarios: Mapping[str, Scenario],
        baseline: Scenario | None = None,
        contrast: Contrast = "difference",
        of: str | Mapping[str, float] = "mean",
        where: Mapping[Any, Any] | ArrayLike | None = None,
        by: Column | Sequence[Column] | Mapping[str, ArrayLike] | None = None,
        average: bool = True,
        pairs: bool = False,
        in_sample: bool = False,
        sample_weight: ArrayLike | None = None,
        random_state: RandomState = None,
        **arrays: Argument,
    ) -> EffectTree:
        """Estimate what scenarios change, with the posterior's uncertainty.

        For each posterior draw the expected outcome of every row is computed under each scenario and under the
        baseline, averaged over rows, and contrasted. All scenarios run in one pass over the rows, and share posterior
        draws and random numbers row by row; no draws of rows are kept unless ``average=False`` asks for them.

        This answers what the *model* expects under other inputs or interventions. Whether that is a causal effect
        rests on the model and the data's design (no unmeasured confounding, overlap): nothing here identifies causes
        from data alone. A row's noise is not inferred from its observed outcome either, so an effect on a row is that
        on its expected outcome, not a counterfactual of the unit itself.

        Latent sites with an entry for each row are drawn anew for new rows. The spread of an average then contains the
        noise of one such draw for each row, which falls with the square root of the number of rows.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows to average over; left out where ``baseline`` and ``scenarios`` are trees of draws.
        scenarios : dict of str to dict, or of str to DataTree
            Named scenarios. Each is a mapping with one or more of:

            - ``"columns"``: columns of X by name or position, each with its new value;
            - ``"arguments"``: the kernel's arguments by name (X itself among them), each with its new value;
            - ``"intervention"``: sample sites to set by the do-operator;
            - ``"condition"``: sites to fix. Sites before them keep their distributions: nothing is inferred from the
              values, so that this does not condition on them in the sense of probability.

            A new value of a column or an argument is a scalar, an array with an entry for each row, or a function of
            the current values. Or predictive draws that were made before, from :meth:`sample_posterior_predictive`.
        baseline : dict or DataTree, optional
            What scenarios are compared with, in the same form; the rows as they are where None.
        contrast : {"difference", "ratio", "lift"} or callable, default="difference"
            How averages are compared, draw by draw; lift is the change in percent of the baseline. Ratio and lift are
            meant for baselines that are positive. A function takes the scenario's array and the baseline's and returns
            one of their shape.
        of : {"mean", "outcome"} or dict, default="mean"
            What is averaged over rows: expected outcomes or drawn ones. Expected outcomes of labels are probabilities.
            ``{"quantile": 0.9}`` averages that quantile of each row's outcome, and ``{"above": 10.0}`` the probability
            that the outcome is greater than 10, both exact given a posterior draw.
        where : dict or array of bool of shape (n_rows,), optional
            Rows to average over: those where columns of X, or arguments, have the given values, or those marked.
            ``{"treated": 1}`` gives the effect on the treated (ATT), ``{"treated": 0}`` that on the untreated (ATC).
        by : str, int, list of them, or dict of str to array, optional
            Columns of X or arguments, or named arrays, by whose values rows are grouped, with an average for each.
        average : bool, default=True
            False gives each row's own effect; draws of rows are then held in memory.
        pairs : bool, default=False
            Compare each two of the baseline and the scenarios, rather than scenarios with the baseline.
        in_sample : bool, default=False
            Whether these are the rows of the fit: latent sites with an entry for each row then have their posterior
            draws.
        sample_weight : array-like of shape (n_rows,), optional
            Weight of each row in the averages. It may come with X where that is an iterable of mappings.
        random_state : int, RandomState, JAX key or None, default=None
            Seed of this call; the estimator's own where None.
        **arrays : array or scalar
            The kernel's further arguments.

        Returns
        -------
        EffectTree
            A DataTree with a group for each comparison, holding draws of ``effect``, ``scenario`` and ``baseline`` with
            the dimensions ``chain`` and ``draw`` and those of the groups and the output. Its ``summary()`` is a
            DataFrame. An estimator without a fit uses 1000 draws from the prior, and the tree's attribute
            ``posterior`` says so.

        Raises
        ------
        ValueError, TypeError
            If an argument cannot be used, or names what is not there.

        Warns
        -----
        RatioWarning
            If a ratio or lift is to averages that are not positive.
        UnreachedOutputWarning
            If an intervention, or another change of a scenario, cannot change the output.
        HeldLatentWarning
            If a latent site depends on an intervention, and keeps posterior draws that were made without it.
        FixedSiteWarning
            If ``"condition"`` fixes a site that depends on latent sites of the rows, which the output depends on, too.
        PairingWarning
            If trees of draws do not belong together.

        Examples
        --------
        >>> import numpy as np
        >>> from skaimz import NumPyroImpactRegressor
        >>> rng = np.random.default_rng(0)
        >>> X = np.column_stack([rng.normal(size=200), rng.integers(2, size=200)])
        >>> y = X @ [1.0, 2.0] + rng.normal(scale=0.1, size=200)
        >>> model = NumPyroImpactRegressor(random_state=0).fit(X, y)
        >>> off, on = {"columns": {1: 0}}, {"columns": {1: 1}}
        >>> treated = model.estimate_effect(X, baseline=off, scenarios={"treatment": on}, where={1: 1})
        >>> round(float(treated["treatment"]["effect"].mean()), 1)
        2.0
        """
        over = Over(where, by, average, in_sample, sample_weight)
        question = Effect(scenarios, baseline, contrast, of, pairs, over)
        return answer_with_effects(Model.of(self), question, X, arrays, random_state)

    def estimate_slope(
        self,
        X: Rows,
        along: Column | Sequence[Column],
        *,
        elasticity: bool = False,
        where: Mapping[Any, Any] | ArrayLike | None = None,
        by: Column | Sequence[Column] | Mapping[str, ArrayLike] | None = None,
        average: bool = True,
        in_sample: bool = False,
        sample_weight: ArrayLike | None = None,
        random_state: RandomState = None,
        **arrays: Argument,
    ) -> EffectTree:
        """Estimate how the expected outcome changes with a continuous input.

        The derivative is taken by automatic differentiation for each row and posterior draw, and averaged over rows.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows to average over.
        along : str, int or list of them
            Column of X, by name or position, or argument of the kernel; several give a group each.
        elasticity : bool, default=False
            Give the relative change of the expected outcome for a relative change of the input, ``slope * input /
            expected outcome``, rather than its change for a unit's change.
        where, by, average, in_sample, sample_weight, random_state
            As in :meth:`estimate_effect`.
        **arrays : array or scalar
            The kernel's further arguments.

        Returns
        -------
        EffectTree
            With a group for each input, holding draws of ``effect``.

        Raises
        ------
        ValueError
            If an input is not continuous, the expected outcome changes with it in steps alone, or through draws that
            have no derivative, or rows of the kernel do not stand alone.

        Warns
        -----
        UnreachedOutputWarning
            If the expected outcome does not depend on an input.

        Examples
        --------
        >>> import numpy as np
        >>> from skaimz import NumPyroImpactRegressor
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(200, 2))
        >>> y = X @ [1.0, 2.0] + rng.normal(scale=0.3, size=200)
        >>> model = NumPyroImpactRegressor(random_state=0).fit(X, y)
        >>> round(float(model.estimate_slope(X, 1)["1"]["effect"].mean()), 1)
        2.0
        """
        over = Over(where, by, average, in_sample, sample_weight)
        return answer_with_effects(Model.of(self), Slope(along, elasticity, over), X, arrays, random_state)

    @property
    def temp_dir_(self) -> str:
        """Folder of the draws that were stored without an ``output_dir``."""
        folder = _temporary.folder_of(self)
        if folder is None:
            raise AttributeError("There is no `temp_dir_`: no draws were stored without an `output_dir`.")
        return str(folder)

    def cleanup(self) -> None:
        """Remove the draws that this estimator stored without an ``output_dir``; trees of them cannot be read then.

        Reading them raises ``FileNotFoundError``. At the end of the process they are removed in any case. A process
        that was forked leaves those that were stored before to the one that stored them.

        Warns
        -----
        CleanupWarning
            If some could not be removed. Another call tries again.
        """
        _temporary.remove_folder(self)

    @staticmethod
    def cleanup_all() -> None:
        """Do what :meth:`cleanup` does, for all estimators of this process."""
        _temporary.remove_all()

    # Behind the public methods

    def _on_batch(
        self, question: DrawQuestion, X: Any, arrays: Mapping[str, Any], random_state: Any, return_datatree: bool
    ) -> xr.DataTree | dict[str, np.ndarray]:
        request = request_for(Model.of(self), question, arrays, random_state)
        with frees_on_error():
            call = request.read(X)
            return question.tree(call) if return_datatree else question.answer(call)
