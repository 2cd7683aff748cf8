"""An estimator over a kernel: its parameters, how it is fitted, and what the fit leaves behind."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skaimz import inference
from skaimz.datatree import draws_from, draws_to_dataset, to_tree
from skaimz.estimators._arguments import check_count, seed_of
from skaimz.estimators._constructor import check_parameters
from skaimz.estimators._describe import description_of
from skaimz.estimators._diagnose import Evidence, findings_of
from skaimz.estimators._fitting import fit_kernel, fit_part, unchanged_on_error
from skaimz.estimators._html import html_of
from skaimz.estimators._increments import learns_in_parts
from skaimz.estimators._model import Model, precision_of
from skaimz.estimators._outcomes import Outcome
from skaimz.estimators._parameters import SklearnObject, setter
from skaimz.estimators._persistence import check_picklable, inputs_again, restore
from skaimz.estimators._posterior import OF_STATE, digest_of, match_draws, with_draws
from skaimz.estimators._questions import in_memory
from skaimz.estimators._training import TrainingData
from skaimz.estimators._tree import RowsOfFit, tree_of
from skaimz.estimators._types import Argument, Draws, RandomState, Rows
from skaimz.inference import FitResult
from skaimz.kernels import (
    KernelSpec,
    kernel_parameters,
    trace_kernel,
)

__all__ = ["KernelEstimator"]

# Parameters of the methods that are not metadata: the data, and what changes the kind of answer.
NOT_METADATA = frozenset({"self", "X", "y", "classes", "return_std", "in_sample", "progress"})
ROUTED = ("fit", "partial_fit", "predict", "predict_proba", "predict_log_proba", "score")


class KernelEstimator(SklearnObject):
    """Base of estimators that learn the posterior of a NumPyro kernel."""

    kernel_: Any
    kernel_spec_: KernelSpec
    posterior_: dict[str, np.ndarray]
    fit_result_: FitResult
    categories_: dict[str, Any]
    arguments_: dict[str, Any]
    _html_repr = html_of
    seed_: int
    inference_: Any

    _default_kernel: Any
    _unlearned_outcome: Outcome

    set_fit_request = setter("fit")
    set_partial_fit_request = setter("partial_fit")
    set_predict_request = setter("predict")
    set_score_request = setter("score")

    def __init__(
        self,
        kernel: Callable | None = None,
        *,
        param_input: str = "X",
        param_output: str = "y",
        column_args: Mapping[str, Any] | None = None,
        whole_args: Sequence[str] | None = None,
        allow_nan: bool = False,
        missing_outcomes: str = "error",
        inference: Any = "auto",
        posterior: Draws | None = None,
        dtype: str | None = None,
        random_state: RandomState = None,
        verbose: int = 0,
    ):
        self.kernel = kernel
        self.param_input = param_input
        self.param_output = param_output
        self.column_args = column_args
        self.whole_args = whole_args
        self.allow_nan = allow_nan
        self.missing_outcomes = missing_outcomes
        self.inference = inference
        self.posterior = posterior
        self.dtype = dtype
        self.random_state = random_state
        self.verbose = verbose

    def fit(
        self,
        X: Rows,
        y: Rows | None = None,
        *,
        sample_weight: ArrayLike | None = None,
        progress: bool | None = None,
        **arrays: Argument,
    ) -> Self:
        """Infer the posterior of the kernel's latent sites.

        Where X is a memory-mapped, Zarr or Dask array, a Dask data frame, or an iterable of mappings, and inference is
        by minibatches (``SVI(batch_size=...)``), rows are read a part at a time, and kept on the disk while the fit
        lasts where that makes them quicker to read again. Otherwise they are loaded into memory. What is found is the
        same.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features), or (n_rows, ...) or a mapping with a kernel of your own
            Input. Other floats than float32 become float64. A kernel of your own is given integers and booleans as they
            are, so that it can use them as indices; for the default kernel they become float64. A mapping of names to
            arrays reaches it as a dict. Or anything that can be
            iterated over repeatedly and gives mappings of names to arrays with some of the rows: X, y, sample_weight
            and further arguments.
        y : array-like of shape (n_rows,) or (n_rows, ...), optional
            Outcome, in the shape of the kernel's output site. It may be left out where it comes with X.
        sample_weight : array-like of shape (n_rows,), optional
            Non-negative factor on each row's log-likelihood: a weight of 2 counts a row twice, 0 not at all. That which
            comes with X where None.
        progress : bool, optional
            Show a progress bar; where None, if ``verbose`` is positive.
        **arrays : array or scalar
            The kernel's further arguments by name. Arrays whose first axis has ``n_rows`` entries are row-aligned,
            other arrays, and those in ``whole_args``, are passed whole, scalars and strings are constants of the
            program. A mapping is passed as a dict, of which each entry is one of these; its name in messages and
            scenarios is ``argument.entry``.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If the kernel, a parameter or the data cannot be used. The estimator is then left as it was.
        ImportError
            If rows are a Dask collection, and Dask is not installed.
        OSError
            If rows are kept on the disk, and it is too small.

        Warns
        -----
        FitWarning
            If the result should not be trusted; see :mod:`skaimz.exceptions`.

        Examples
        --------
        >>> import numpy as np
        >>> from skaimz import NumPyroImpactRegressor
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(100, 2))
        >>> y = X @ [1.0, -2.0] + rng.normal(scale=0.1, size=100)
        >>> model = NumPyroImpactRegressor(random_state=0).fit(X, y)
        >>> model.fit_result_.diagnostics["rung"]  # the default kernel's posterior has a closed form
        'exact'
        >>> model.posterior_["beta"].shape  # chains, draws, columns
        (1, 1000, 2)
        """
        fit_kernel(self, TrainingData(X, y, sample_weight, arrays), progress=self._shows(progress))
        return self

    @available_if(learns_in_parts)
    def partial_fit(
        self, X: Rows, y: Rows | None = None, *, sample_weight: ArrayLike | None = None, **arrays: Argument
    ) -> Self:
        """Go on learning from further rows: one pass over them by variational inference.

        Rows are taken in the settings' ``batch_size`` (all at once where None), in a random order, with an optimiser
        step for each minibatch. Its log-likelihood is scaled to the settings' ``total_rows``, or to all rows given so
        far: where rows are given more than once, give ``total_rows``. The learning rate falls over the settings'
        ``num_steps``, among which the steps of an earlier ``fit`` count. With a ``batch_size``, rows that are not in
        memory are read a part at a time, as in :meth:`fit`.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features), or iterable of mappings
        y : array-like of shape (n_rows,) or (n_rows, n_outputs), optional
            It may be left out where it comes with X.
        sample_weight : array-like of shape (n_rows,), optional
            Non-negative factor on each row's log-likelihood.
        **arrays : array or scalar
            The kernel's further arguments.

        Returns
        -------
        self
            After ``fit`` or ``partial_fit`` the inference goes on from where it ended.

        Raises
        ------
        AttributeError
            If inference is not variational: there is no such method then.
        ValueError
            If the posterior was made elsewhere, rows of the kernel do not stand alone given its latent sites, or
            kernel, guide or optimiser are not those that the inference began with.

        Examples
        --------
        >>> import numpy as np
        >>> from skaimz import NumPyroImpactRegressor
        >>> from skaimz.inference import SVI
        >>> rng = np.random.default_rng(0)
        >>> model = NumPyroImpactRegressor(inference=SVI(batch_size=64, total_rows=640), random_state=0)
        >>> for _ in range(10):
        ...     X = rng.normal(size=(64, 1))
        ...     model = model.partial_fit(X, 2.0 * X[:, 0] + rng.normal(size=64))
        >>> len(model.fit_result_.losses)
        10
        """
        fit_part(self, TrainingData(X, y, sample_weight, arrays))
        return self

    def set_posterior_sample(self, draws: Draws, num_chains: int = 1) -> Self:
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
        with unchanged_on_error(self):
            if not hasattr(self, "kernel_"):
                check_parameters(self)
                if self.kernel is None:
                    raise ValueError("`set_posterior_sample` needs a `kernel`, or a fitted default one.")
            arrays = draws_from(draws, num_chains)
            model = Model.of(self)
            if model.spec is None:
                self.seed_ = seed_of(self.random_state)
            else:
                result = model.result or FitResult("injected", {})
                arrays = match_draws(arrays, model.spec, result.params)
                state = getattr(draws, "attrs", {}).get(OF_STATE)
                if state is not None and state == digest_of(result.state):
                    self.fit_result_ = with_draws(result, arrays)
                else:
                    self.fit_result_ = FitResult("injected", arrays, result.params, n_rows=result.n_rows)
            self.posterior_ = arrays
        return self

    def sample_posterior(
        self, num_samples: int = 1000, *, random_state: RandomState = None, progress: bool | None = None
    ) -> xr.DataTree:
        """Take fresh draws from the fitted inference state.

        Variational guides and closed forms are drawn from anew, weighted draws are chosen anew by their weights, and
        Markov chains go on from where they ended.

        Parameters
        ----------
        num_samples : int, default=1000
            Draws to take, from each chain for MCMC.
        random_state : int, RandomState, JAX key or None, default=None
            Seed of this call, for all but Markov chains; the estimator's own where None.
        progress : bool, optional
            As in :meth:`fit`.

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
        model = Model.of(self)
        result, spec = model.result, model.spec
        if result is None or spec is None or not result.state:
            raise ValueError(
                "`sample_posterior` needs an inference state, and these posterior draws were made elsewhere. Call "
                "`fit` without `posterior`."
            )
        num_samples = check_count("num_samples", num_samples)
        seed = model.seed_of(random_state)
        with precision_of(model.precision):
            inputs = inputs_again(model.arguments, result)
            traced, _ = trace_kernel(self.kernel_, inputs, spec.input, spec.output_parameter)
            draws = inference.resume(traced, result, self.inference_, seed, num_samples, verbose=self._shows(progress))
        return to_tree({"posterior": draws_to_dataset(draws, spec)}, {"seed": seed, OF_STATE: digest_of(result.state)})

    def describe(self) -> pd.DataFrame:
        """Tell what the kernel consists of.

        Returns
        -------
        pandas.DataFrame
            A row for every argument and site of the kernel, with its kind, distribution, shape, dimensions, and the
            number of chains and draws that the posterior holds of it, and what its axes grow with: rows, or levels of
            an argument. Another row tells how these draws were made: for automatic inference which way answered, and
            what its check gave. A last one tells of rows of the fit that predictions depend on, and that are kept.

        Examples
        --------
        >>> import numpy as np
        >>> from skaimz import NumPyroImpactRegressor
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(100, 2))
        >>> y = X @ [1.0, -2.0] + rng.normal(scale=0.1, size=100)
        >>> model = NumPyroImpactRegressor(random_state=0).fit(X, y)
        >>> model.describe().loc["alpha", ["kind", "distribution", "draws"]].tolist()
        ['latent', 'Normal', '1 x 1000']
        """
        check_is_fitted(self, "kernel_spec_")
        return description_of(Model.of(self))

    def diagnose(
        self,
        X: Rows | None = None,
        y: Rows | None = None,
        *,
        checks: Iterable[str] | None = None,
        random_state: RandomState = None,
        **arrays: Argument,
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
        The greatest outcome is greater than replicated ones: look at that row, or give the output heavier tails.
        """
        check_is_fitted(self)
        model = Model.of(self)
        evidence = Evidence(model, in_memory(X), in_memory(y), in_memory(arrays), model.seed_of(random_state))
        return findings_of(evidence, checks)

    def to_datatree(
        self,
        X: Rows | None = None,
        y: Rows | None = None,
        *,
        return_groups: Sequence[str] | None = None,
        sample_weight: ArrayLike | None = None,
        random_state: RandomState = None,
        **arrays: Argument,
    ) -> xr.DataTree:
        """Return posterior draws and all else that is known, as data without code.

        The tree is what ArviZ takes, and what :meth:`from_datatree` makes an estimator of again. It can be written with
        ``to_netcdf`` or ``to_zarr``.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features), optional
            The rows of the fit. With them the tree has the groups ``posterior_predictive``, ``prior``,
            ``prior_predictive`` and ``constant_data``, and deterministic sites join the ``posterior``.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs), optional
            The outcomes of the fit. With them the tree has the groups ``log_likelihood`` and ``observed_data``, and
            after variational inference ``sample_stats`` has the log densities of the draws.
        return_groups : sequence of str, optional
            Which of these groups to compute; all where None (but those from an improper prior, and
            log densities of rows that :meth:`log_likelihood` refuses).
        sample_weight : array-like of shape (n_rows,), optional
            The weights of the fit, which are a part of the density ``log_p``.
        random_state : int, RandomState, JAX key or None, default=None
            Seed of the predictive draws; the estimator's own where None.
        **arrays : array or scalar
            The kernel's further arguments.

        Returns
        -------
        xarray.DataTree
            Always with the groups ``posterior``, ``params``, ``hyperparameters`` and, but for posteriors made
            elsewhere, ``sample_stats``: for MCMC the statistics of each step (``diverging``, ``energy``,
            ``tree_depth``, ``lp``, ...); for variational inference the ``loss`` of each step and, with y, ``log_p``,
            the log density of each draw and of y by the kernel, and ``log_q``, that of the draw by the guide (where it
            is known), which are the arguments of ``arviz_stats.loo_approximate_posterior``. A classifier's outcomes are
            codes, positions in ``classes_``. Draws of rows that exceed 1 GiB are on disk, until :meth:`cleanup`.

        Raises
        ------
        ValueError
            If a group is unknown or needs what was not given, or X cannot be the rows of the fit.

        Examples
        --------
        >>> import numpy as np
        >>> from skaimz import NumPyroImpactRegressor
        >>> X = np.linspace(0.0, 1.0, 50)[:, None]
        >>> y = 2.0 * X[:, 0] + np.random.default_rng(0).normal(scale=0.1, size=50)
        >>> model = NumPyroImpactRegressor(random_state=0).fit(X, y)
        >>> tree = model.to_datatree(X, y, return_groups=["log_likelihood", "observed_data"])
        >>> dict(tree["log_likelihood"]["y"].sizes)
        {'chain': 1, 'draw': 1000, 'rows': 50}
        """
        check_is_fitted(self, "kernel_spec_")
        model = Model.of(self)
        X, y, sample_weight, arrays = map(in_memory, (X, y, sample_weight, arrays))
        rows = RowsOfFit(X, y, sample_weight, arrays, model.seed_of(random_state))
        return tree_of(model, self.inference_, rows, return_groups)

    @classmethod
    def from_datatree(cls, kernel: Callable | None, tree: xr.DataTree) -> Self:
        """Rebuild a fitted estimator from its data and its kernel.

        Parameters
        ----------
        kernel : callable or None
            The kernel that the draws belong to; None for the default one.
        tree : xarray.DataTree
            What :meth:`to_datatree` returned, possibly written to netCDF or Zarr and opened again.

        Returns
        -------
        estimator
            Predicts as the original does, to the bit. It has no inference state, so ``sample_posterior`` is refused.

        Examples
        --------
        >>> import numpy as np
        >>> from skaimz import NumPyroImpactRegressor
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(100, 2))
        >>> y = X @ [1.0, -2.0] + rng.normal(scale=0.1, size=100)
        >>> model = NumPyroImpactRegressor(random_state=0).fit(X, y)
        >>> again = NumPyroImpactRegressor.from_datatree(None, model.to_datatree())
        >>> bool((again.predict(X) == model.predict(X)).all())
        True
        """
        return restore(cls, kernel, tree)

    # Behind the public methods

    def _shows(self, progress: bool | None) -> bool:
        return self.verbose > 0 if progress is None else progress

    def _outcome(self) -> Outcome:
        """Return how outcomes are coded."""
        return self._unlearned_outcome

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = bool(self.allow_nan)
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "posterior_") or self.posterior is not None

    def __getstate__(self) -> dict[str, Any]:
        state: Any = super().__getstate__()
        return {**state, "inference": inference.picklable(state["inference"])}

    def __reduce_ex__(self, protocol: Any) -> Any:
        check_picklable(self.kernel)
        return super().__reduce_ex__(protocol)

    def _routed(self) -> list[str]:
        return [method for method in ROUTED if hasattr(type(self), method)]

    def _metadata_of(self, method: str) -> tuple[list[str], bool]:
        own = inspect.signature(getattr(type(self), method)).parameters.values()
        names = [p.name for p in own if p.kind is not p.VAR_KEYWORD and p.name not in NOT_METADATA]
        try:
            parameters = kernel_parameters(self.kernel) if self.kernel is not None else {}
        except (TypeError, ValueError):
            parameters = {}  # not a function, which `fit` refuses
        taken = {self.param_input, self.param_output}
        of_kernel = [p.name for p in parameters.values() if p.kind is not p.VAR_KEYWORD and p.name not in taken]
        return [*names, *of_kernel], any(p.kind is p.VAR_KEYWORD for p in parameters.values())
