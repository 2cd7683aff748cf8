"""All that is known about a fitted estimator, as the groups of one tree by ArviZ's names."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import xarray as xr
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from skaimz import inference
from skaimz.datatree import data_to_dataset, draws_to_dataset, storable_labels, to_tree, with_labels
from skaimz.estimators._arguments import PRIOR_DRAWS, check_weight
from skaimz.estimators._blocks import in_memory
from skaimz.estimators._collect import Destination
from skaimz.estimators._draws import index_of
from skaimz.inference import FitResult
from skaimz.kernels import Inputs, KernelSpec, TracedKernel
from skaimz.rows.lazy import open_rows

__all__ = ["TreeMixin"]

NEEDS_OUTCOME = ("log_likelihood", "observed_data")
NEEDS_ROWS = ("posterior_predictive", "prior", "prior_predictive", "constant_data")
WHEREVER_IT_FITS = Destination("auto")


class TreeMixin:
    """Conversion of a fitted estimator to a tree."""

    param_input: str
    kernel_spec_: KernelSpec
    posterior_: dict[str, np.ndarray]
    fit_result_: FitResult
    inference_: Any
    _read: Callable[..., tuple[Any, dict[str, Any]]]
    _encode: Callable[..., np.ndarray]
    _trace: Callable[..., tuple[TracedKernel, dict[str, Any], Inputs]]
    _precision: Callable[[Any], AbstractContextManager]
    _seed_of_call: Callable[[Any], int]
    _posterior_predictive: Callable[..., xr.DataTree]
    _prior_predictive: Callable[..., xr.DataTree]
    _log_likelihood: Callable[..., xr.DataTree]
    _saved_groups: Callable[[], dict[str, xr.Dataset]]
    _saved_attributes: Callable[[], dict[str, Any]]

    @in_memory
    def to_datatree(
        self,
        X: Any = None,
        y: Any = None,
        *,
        return_groups: Sequence[str] | None = None,
        sample_weight: Any = None,
        random_state: Any = None,
        **arrays: Any,
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
        wanted = _check_groups(return_groups, X is not None, y is not None)
        if return_groups is None and self.kernel_spec_.improper_latents:
            wanted = [name for name in wanted if not name.startswith("prior")]
        if return_groups is None and self.kernel_spec_.unscored is not None:
            wanted = [name for name in wanted if name != "log_likelihood"]
        found = self._saved_groups()
        if X is not None:
            index = index_of(X)
            rows = X if index is None else X.reset_index(drop=True)
            seed = self._seed_of_call(random_state)
            self._add_groups(found, wanted, rows, y, sample_weight, seed, arrays)
            if index is not None:
                # The tree is made to be written.
                labels = storable_labels(index)
                found = {name: with_labels(dataset, self.kernel_spec_, labels) for name, dataset in found.items()}
        return to_tree(found, self._saved_attributes())

    def _add_groups(
        self,
        found: dict[str, xr.Dataset],
        wanted: Sequence[str],
        X: Any,
        y: Any,
        sample_weight: Any,
        seed: int,
        arrays: Mapping[str, Any],
    ) -> None:
        """Add what follows from the rows of the fit."""
        self._check_rows_of_fit(X)
        index, output = index_of(X), self.kernel_spec_.output
        if self.posterior_:
            found["posterior"] = draws_to_dataset(self.posterior_, self.kernel_spec_, index)
        if "posterior_predictive" in wanted:
            tree = self._posterior_predictive(X, None, None, True, None, seed, arrays, WHEREVER_IT_FITS)
            drawn = tree["posterior_predictive"].to_dataset()
            found["posterior_predictive"] = drawn[[output]]
            found["posterior"] = found["posterior"].merge(drawn.drop_vars(output))
        if "prior" in wanted or "prior_predictive" in wanted:
            tree = self._prior_predictive(X, PRIOR_DRAWS, None, None, None, seed, arrays, WHEREVER_IT_FITS)
            drawn = tree["prior_predictive"].to_dataset()
            both = {"prior": drawn.drop_vars(output), "prior_predictive": drawn[[output]]}
            found |= {name: dataset for name, dataset in both.items() if name in wanted}
        if "log_likelihood" in wanted:
            tree = self._log_likelihood(X, y, True, arrays, WHEREVER_IT_FITS)
            found["log_likelihood"] = tree["log_likelihood"].to_dataset()
        X, arrays = self._read(X, arrays)
        with self._precision(X.dtype):
            traced, hyperparameters, inputs = self._trace(X, arrays)
            spec = traced.spec
            site = spec[output]
            row_dim = site.dims[site.row_axis or 0]
            if "constant_data" in wanted:
                dims: dict[str, tuple[str, ...]] = {spec.input: (row_dim, "feature")}
                names = getattr(self, "feature_names_in_", ())
                # Columns that are arguments of the kernel have left X.
                labels = {"feature": names} if len(names) == X.shape[1] else {}
                found["constant_data"] = data_to_dataset(
                    inputs.rows, inputs.whole, row_dim, index, dims=dims, labels=labels
                )
            if y is None:
                return
            y = self._encode(y, spec, X.dtype)
            check_consistent_length(X, y)
            if "observed_data" in wanted:
                # A kernel may bring the outcomes that it is given into another shape before it observes them.
                as_given = y.shape == tuple(len(y) if size is None else size for size in site.shape)
                dims = {output: site.dims} if as_given else {}
                found["observed_data"] = data_to_dataset({output: y}, {}, row_dim, index, dims=dims)
            # The density of a kernel that draws minibatches of its own is itself an estimate.
            has_density = self.fit_result_.method == "svi" and self.posterior_ and not spec.subsamples
            if "log_likelihood" in wanted and has_density:
                weight = None
                if sample_weight is not None:
                    weight = check_weight(sample_weight, X)
                inputs = Inputs({**inputs.rows, spec.output_parameter: y}, inputs.whole, inputs.static)
                data = inference.Data(hyperparameters, inputs.rows, inputs.whole, weight)
                densities = inference.log_densities(traced, data, self.inference_, self.fit_result_)
                found["sample_stats"] = found["sample_stats"].merge(draws_to_dataset(densities))

    def _check_rows_of_fit(self, X: Any) -> None:
        if open_rows(X, self.param_input) is not None:
            raise ValueError(
                "`to_datatree` takes rows in memory: pass `numpy.asarray(X)`, or leave X out and call "
                "`sample_posterior_predictive` and `log_likelihood`, which stream."
            )
        result, n_rows = self.fit_result_, len(X)
        # After `partial_fit` they may be those of the last minibatch or of all calls, or any others between.
        if result.method != "injected" and not result.n_rows <= n_rows <= max(result.n_rows, result.n_given):
            known = f"{result.n_rows}" if result.n_given <= result.n_rows else f"{result.n_rows} to {result.n_given}"
            raise ValueError(
                f"`to_datatree` takes the rows of the fit, of which there were {known}, but X has {n_rows}. For others "
                "call `sample_posterior_predictive` and `log_likelihood` with `in_sample=False`."
            )


def _check_groups(groups: Sequence[str] | None, with_rows: bool, with_outcome: bool) -> Sequence[str]:
    """Return the groups to compute."""
    if with_outcome and not with_rows:
        raise ValueError("`to_datatree` got y without X: pass the rows that the outcomes belong to.")
    known = (*NEEDS_ROWS, *NEEDS_OUTCOME)
    possible = (*NEEDS_ROWS * with_rows, *NEEDS_OUTCOME * with_outcome)
    if groups is None:
        return possible
    if isinstance(groups, str):
        raise TypeError(
            f"`return_groups` must be a sequence of names, got {groups!r}: write `return_groups=[{groups!r}]`."
        )
    for name in groups:
        if name not in known:
            raise ValueError(f"`return_groups` names {name!r}, which is none of {list(known)}.")
        if name not in possible:
            raise ValueError(
                f"`return_groups` names {name!r}, which needs {'X and y' if name in NEEDS_OUTCOME else 'X'}."
            )
    return groups
