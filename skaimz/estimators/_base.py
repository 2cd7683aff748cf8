"""What both estimators share: fitting, posterior draws, persistence and description."""

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

import jax
import numpy as np
import pandas as pd
import xarray as xr
from sklearn.base import BaseEstimator, clone
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, column_or_1d

from skaimz import inference, sampling
from skaimz.datatree import draws_from, draws_to_dataset, to_tree
from skaimz.estimators._arguments import RESERVED, check_count, check_outcome, kernel_inputs
from skaimz.estimators._data import FLOATS, DataMixin
from skaimz.estimators._diagnose import DiagnoseMixin
from skaimz.estimators._draws import DrawsMixin
from skaimz.estimators._effects import EffectsMixin
from skaimz.estimators._increments import check_continuation, learns_in_parts
from skaimz.estimators._persistence import PersistenceMixin, abstract_inputs, describe_inputs
from skaimz.estimators._posterior import check_interventions, check_local, match_draws
from skaimz.estimators._routing import RoutingMixin
from skaimz.estimators._scores import ScoresMixin
from skaimz.exceptions import SpeedWarning
from skaimz.inference import FitResult
from skaimz.kernels import Inputs, KernelSpec, TracedKernel, check_signature, kernel_parameters, trace_kernel

__all__ = ["ImpactEstimator"]


class ImpactEstimator(
    DataMixin, DiagnoseMixin, DrawsMixin, EffectsMixin, ScoresMixin, PersistenceMixin, RoutingMixin, BaseEstimator
):
    """Base of the estimators over NumPyro kernels."""

    _default_kernel: Any

    def __init__(
        self,
        kernel: Callable | None = None,
        *,
        param_input: str = "X",
        param_output: str = "y",
        column_args: Mapping[str, Any] | None = None,
        inference: Any = "svi",
        posterior: Any = None,
        dtype: str | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.kernel = kernel
        self.param_input = param_input
        self.param_output = param_output
        self.column_args = column_args
        self.inference = inference
        self.posterior = posterior
        self.dtype = dtype
        self.random_state = random_state
        self.verbose = verbose

    # Fitting

    def fit(self, X: Any, y: Any, *, sample_weight: Any = None, **arrays: Any) -> Self:
        """Infer the posterior of the kernel's latent sites.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Input; float32 stays float32, everything else becomes float64.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            Outcome, in the shape of the kernel's output site.
        sample_weight : array-like of shape (n_rows,), optional
            Non-negative factor on each row's log-likelihood: a weight of 2 counts a row twice, 0 not at all.
        **arrays : array or scalar
            The kernel's further arguments by name. Arrays whose first axis has ``n_rows`` entries are row-aligned,
            other arrays are passed whole, scalars and strings are constants of the program.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If the kernel, a parameter or the data cannot be used. The estimator is then left as it was.

        Warns
        -----
        FitWarning
            If the result should not be trusted; see :mod:`skaimz.exceptions`.
        """
        with self._unchanged_on_error():
            self._fit(X, y, sample_weight, arrays)
        return self

    @available_if(learns_in_parts)
    def partial_fit(self, X: Any, y: Any, *, sample_weight: Any = None, **arrays: Any) -> Self:
        """Go on learning from further rows: one pass over them by variational inference.

        Rows are taken in the settings' ``batch_size`` (all at once where None), in a random order, with an optimiser
        step for each minibatch. Its log-likelihood is scaled to the settings' ``total_rows``, or to all rows given so
        far: where rows are given more than once, give ``total_rows``. The learning rate falls over the settings'
        ``num_steps``, among which the steps of an earlier ``fit`` count.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
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
        """
        return self._partial_fit(X, y, sample_weight, arrays)

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any, arrays: Mapping[str, Any], **checks: Any) -> Self:
        check_continuation(self)
        with self._unchanged_on_error():
            self._fit(X, y, sample_weight, arrays, before=getattr(self, "fit_result_", None), in_parts=True, **checks)
        return self

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        arrays: Mapping[str, Any],
        *,
        before: FitResult | None = None,
        in_parts: bool = False,
        **checks: Any,
    ) -> None:
        self._check_parameters()
        settings = inference.resolve_inference(self.inference)
        X, y, columns = self._check_data(X, y, reset=before is None, **checks)
        arrays = {**columns, **arrays}
        weight = None
        if sample_weight is not None:
            weight = _check_sample_weight(sample_weight, X, dtype=X.dtype, ensure_non_negative=True)
        if before is None:
            self.seed_ = _seed_of(self.random_state)
            self.arguments_: dict[str, Any] = {}
        with self._precision(X.dtype):
            if before is None:
                self.kernel_ = self._make_kernel(X, y, weight)
            traced, numbers, inputs = self._trace(X, arrays)
            self.kernel_spec_ = traced.spec
            self.arguments_ = describe_inputs(inputs)
            y = self._check_outcome(y, traced.spec)
            if self.posterior is None:
                inputs = Inputs({**inputs.rows, traced.spec.output_parameter: y}, inputs.whole, inputs.static)
                given = (traced, numbers, inputs, weight, settings, self.seed_)
                if in_parts:
                    result = inference.partial_fit(*given, before)
                else:
                    result = inference.fit(*given, verbose=self.verbose)
            else:
                draws = match_draws(draws_from(self.posterior), traced.spec)
                result = FitResult("injected", draws, n_rows=len(X))
        self.inference_ = settings
        self.fit_result_ = result
        self.posterior_ = result.draws

    @contextlib.contextmanager
    def _unchanged_on_error(self) -> Iterator[None]:
        before = dict(self.__dict__)
        try:
            yield
        except BaseException:
            self.__dict__ = before
            raise

    def _check_parameters(self) -> None:
        for name in ("param_input", "param_output"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"`{name}` must be a string, got {getattr(self, name)!r}.")
        if self.dtype is not None and self.dtype not in FLOATS:
            raise ValueError(f"`dtype` must be None, 'float32' or 'float64', got {self.dtype!r}.")
        if not isinstance(self.verbose, int | np.integer) or self.verbose < 0:
            raise ValueError(f"`verbose` must be a non-negative integer, got {self.verbose!r}.")
        if self.kernel is not None:
            check_signature(self.kernel, self.param_input, self.param_output, RESERVED)
        elif self.posterior is not None:
            raise ValueError(
                "`posterior` needs a `kernel`: the default kernel is scaled to its training data, which draws from "
                "elsewhere do not know."
            )

    def _check_data(self, X: Any, y: Any, *, reset: bool) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        """Return checked rows, outcomes in the kernel's terms, and its arguments that are columns of X."""
        raise NotImplementedError

    def _check_outcome(self, y: np.ndarray, spec: KernelSpec) -> np.ndarray:
        if y.ndim == 2 and y.shape[1] == 1 and not spec[spec.output].event_shape:
            y = column_or_1d(y, warn=True)
        return check_outcome(y, spec)

    def _make_kernel(self, X: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> Callable:
        if self.kernel is not None:
            return clone(self.kernel, safe=False)
        if (self.param_input, self.param_output) != ("X", "y"):
            raise ValueError("`param_input` and `param_output` rename arguments of a kernel; the default has X and y.")
        y = column_or_1d(y, warn=True)
        return self._default_kernel.of({"X": X, "y": y}, weight, len(getattr(self, "classes_", ())))

    def _extra_arguments(self, kernel: Callable) -> dict[str, Any]:
        """Return kernel arguments that the estimator itself knows."""
        return {}

    # Inputs

    def _trace(self, X: np.ndarray, arrays: Mapping[str, Any]) -> tuple[TracedKernel, dict[str, Any], Inputs]:
        """Sort and check the kernel's arguments, and trace it on them; static ones of the fit hold on."""
        known = getattr(self, "arguments_", {})
        kernel: Any = getattr(self, "kernel_", self.kernel)
        inputs = kernel_inputs(
            kernel,
            X,
            {**known.get("static", {}), **self._extra_arguments(kernel), **arrays},
            param_input=self.param_input,
            param_output=self.param_output,
            known=known,
        )
        try:
            traced, numbers = trace_kernel(kernel, inputs, self.param_input, self.param_output)
        except Exception as error:
            short = {name: len(array) for name, array in inputs.whole.items()}
            if short:
                error.add_note(
                    f"X has {len(X)} rows. These arguments have another length, and were passed whole: {short}."
                )
            raise
        if traced.spec[traced.spec.output].row_axis is None:
            raise ValueError(f"The kernel's output site {traced.spec.output!r} has no value for each row of X.")
        return traced, numbers, inputs

    def _prepare(
        self,
        X: Any,
        arrays: Mapping[str, Any],
        *,
        in_sample: bool = False,
        intervention: Mapping[str, Any] | None = None,
        condition: Mapping[str, Any] | None = None,
        random_state: Any = None,
    ) -> sampling.Pass:
        """Return all that the sampling core needs for checked rows."""
        traced, numbers, inputs = self._trace(X, arrays)
        spec = traced.spec
        if spec.rows_mix is not None:
            warnings.warn(
                f"The kernel runs on all rows at once, because its rows may depend on one another: {spec.rows_mix}.",
                SpeedWarning,
                stacklevel=4,
            )
        draws, params = self._fitted_state(spec)
        n_chains, n_draws = next(iter(draws.values())).shape[:2] if draws else (1, self.fit_result_.num_samples)
        flat = {name: _as_float(draw.reshape(-1, *draw.shape[2:]), X.dtype) for name, draw in draws.items()}
        local = {site.name: flat.pop(site.name) for site in spec.local_latents if site.name in flat}
        params = {name: _as_float(value, X.dtype) for name, value in params.items()}
        posterior = sampling.Posterior(numbers, params, flat, n_chains * n_draws, n_chains)
        job = sampling.Pass(
            traced,
            posterior,
            inputs,
            self._seed_of_call(random_state),
            check_local(spec, local, len(X)) if in_sample else {},
            sampling.site_values(spec, "intervention", intervention, len(X)),
            sampling.site_values(spec, "condition", condition, len(X)),
        )
        check_interventions(job)
        return job

    def _fitted_state(self, spec: KernelSpec) -> tuple[dict, dict]:
        """Return posterior draws, and the values of ``param`` sites."""
        if hasattr(self, "fit_result_"):
            params = {site.name for site in spec.sites if site.kind == "param"}
            return self.posterior_, {name: value for name, value in self.fit_result_.params.items() if name in params}
        draws = getattr(self, "posterior_", None)
        if draws is None:
            draws = draws_from(self.posterior)
        return match_draws(draws, spec), {}

    def _seed_of_call(self, random_state: Any) -> int:
        """Return the seed of one call: its own, or the estimator's."""
        if random_state is not None:
            return _seed_of(random_state)
        if hasattr(self, "seed_"):
            return self.seed_
        # Without a fit nothing has been drawn from a source of randomness that changes as it is drawn from.
        fixed = isinstance(self.random_state, int | np.integer | jax.Array)
        return _seed_of(self.random_state) if fixed else 0

    def _encode(self, y: Any, spec: KernelSpec) -> np.ndarray:
        """Bring outcomes into the kernel's terms."""
        raise NotImplementedError

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "posterior_") or self.posterior is not None

    # Draws

    def sample_y(self, X: Any, n_samples: int = 1, random_state: Any = None, **arrays: Any) -> np.ndarray:
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
        """
        X, arrays = self._read(X, arrays)
        n_samples = check_count("n_samples", n_samples)
        with self._precision(X.dtype):
            job = self._prepare(X, arrays, random_state=random_state)
            posterior = job.posterior
            rng = np.random.default_rng(job.seed)
            chosen = rng.permutation(posterior.n_draws)[:n_samples]
            if n_samples > posterior.n_draws:
                chosen = rng.integers(posterior.n_draws, size=n_samples)
            draws = {name: draw[chosen] for name, draw in posterior.draws.items()}
            posterior = posterior._replace(draws=draws, n_draws=n_samples, n_chains=1)
            return self._label_outcomes(self._draw_outcomes(dataclasses.replace(job, posterior=posterior)))

    def _draw_outcomes(self, job: sampling.Pass) -> np.ndarray:
        return sampling.outcomes(job)

    def _label_outcomes(self, outcomes: np.ndarray) -> np.ndarray:
        return outcomes

    def set_posterior_sample(self, draws: Any, num_chains: int = 1) -> Self:
        """Take posterior draws that were made elsewhere; the estimator then counts as fitted.

        Parameters
        ----------
        draws : mapping, xarray.Dataset, xarray.DataTree or an object with a ``posterior`` group
            In a mapping of site names to arrays the leading axis is the draws of all chains; xarray objects have the
            dimensions ``chain`` and ``draw``.
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
        """
        with self._unchanged_on_error():
            if not hasattr(self, "kernel_"):
                self._check_parameters()
                if self.kernel is None:
                    raise ValueError("`set_posterior_sample` needs a `kernel`, or a fitted default one.")
            arrays = draws_from(draws, num_chains)
            if hasattr(self, "kernel_spec_"):
                arrays = match_draws(arrays, self.kernel_spec_)
                params = self.fit_result_.params if hasattr(self, "fit_result_") else {}
                n_rows = self.fit_result_.n_rows if hasattr(self, "fit_result_") else 0
                self.fit_result_ = FitResult("injected", arrays, params, n_rows=n_rows)
            else:
                self.seed_ = _seed_of(self.random_state)
            self.posterior_ = arrays
        return self

    def sample_posterior(self, num_samples: int = 1000, *, random_state: Any = None) -> xr.DataTree:
        """Take fresh draws from the fitted inference state.

        Variational guides are drawn from anew; Markov chains go on from where they ended.

        Parameters
        ----------
        num_samples : int, default=1000
            Draws to take, from each chain for MCMC.
        random_state : int, RandomState, JAX key or None, default=None
            Seed of this call, for variational guides; the estimator's own where None.

        Returns
        -------
        xarray.DataTree
            With a ``posterior`` group, whose variables have the dimensions ``chain`` and ``draw``. The estimator's own
            draws stay; hand these to ``set_posterior_sample`` to use them.
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
        seed = self.seed_ if random_state is None else _seed_of(random_state)
        with self._precision(result.data["rows"][spec.input].dtype):
            inputs = abstract_inputs(self.arguments_, result.n_rows)
            traced, _ = trace_kernel(self.kernel_, inputs, spec.input, spec.output_parameter)
            draws = inference.resume(traced, result, self.inference_, seed, num_samples, verbose=self.verbose)
        return to_tree({"posterior": draws_to_dataset(draws, spec)}, {"seed": seed})

    # Description

    def describe(self) -> pd.DataFrame:
        """Tell what the kernel consists of.

        Returns
        -------
        pandas.DataFrame
            A row for every argument and site of the kernel, with its kind, law, shape, dimensions, and the number of
            chains and draws that the posterior holds of it.
        """
        check_is_fitted(self, "kernel_spec_")
        spec = self.kernel_spec_
        records: list[dict[str, Any]] = []
        for name in kernel_parameters(self.kernel_):
            role = {spec.input: "input", spec.output_parameter: "outcome"}.get(name, "argument")
            by_row = name in self.arguments_["rows"] or name == spec.output_parameter
            records.append({"name": name, "kind": role, "dims": "rows, ..." if by_row else ""})
        for site in spec.sites:
            shape = tuple("n_rows" if size is None else size for size in site.shape)
            record = {"name": site.name, "kind": site.kind, "law": site.law or "", "shape": _bracketed(shape)}
            draws = self.posterior_.get(site.name)
            if draws is not None:
                record["draws"] = f"{draws.shape[0]} x {draws.shape[1]}"
            records.append(record | {"dims": ", ".join(site.dims), "rows stand alone": site.mixing is None})
        columns = ["kind", "law", "shape", "dims", "draws", "rows stand alone"]
        return pd.DataFrame.from_records(records, index="name").reindex(columns=columns).fillna("")


def _seed_of(random_state: Any) -> int:
    """Reduce any source of randomness to one integer below 2**32."""
    if isinstance(random_state, jax.Array):
        is_key = jax.dtypes.issubdtype(random_state.dtype, jax.dtypes.prng_key)
        words = np.asarray(jax.random.key_data(random_state) if is_key else random_state).ravel()
        return int(np.random.SeedSequence(words.tolist()).generate_state(1)[0]) if words.any() else 0
    if isinstance(random_state, int | np.integer) and not isinstance(random_state, bool):
        if not 0 <= random_state < 2**32:
            raise ValueError(f"`random_state` must lie between 0 and 2**32 - 1, got {random_state}.")
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31))


def _as_float(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return array.astype(dtype, copy=False) if array.dtype.kind == "f" else array


def _bracketed(shape: Sequence[Any]) -> str:
    return "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"
