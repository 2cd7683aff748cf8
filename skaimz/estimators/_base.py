"""What both estimators share: fitting, posterior draws, persistence and description."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

import numpy as np
from sklearn.utils.metaestimators import available_if

from skaimz import inference, sampling
from skaimz.datatree import draws_from
from skaimz.estimators._arguments import (
    RESERVED,
    check_count,
    check_indices,
    check_outcome,
    is_fixed,
    join_arguments,
    kernel_inputs,
    refuse_as_index,
    seed_of,
    without_single_column,
)
from skaimz.estimators._blocks import row_by_row
from skaimz.estimators._data import FLOATS
from skaimz.estimators._describe import DescribeMixin
from skaimz.estimators._diagnose import DiagnoseMixin
from skaimz.estimators._draws import DrawsMixin
from skaimz.estimators._effects import EffectsMixin
from skaimz.estimators._increments import check_continuation, learns_in_parts
from skaimz.estimators._parameters import Parameters, copy_of
from skaimz.estimators._persistence import PersistenceMixin, describe_inputs
from skaimz.estimators._posterior import PosteriorMixin, check_interventions, check_local, match_draws
from skaimz.estimators._routing import RoutingMixin
from skaimz.estimators._scores import ScoresMixin
from skaimz.estimators._training import TrainingData, TrainingMixin
from skaimz.estimators._tree import TreeMixin
from skaimz.exceptions import OutputWarning, SpeedWarning, let_go, warn_user
from skaimz.inference import FitResult
from skaimz.kernels import (
    WITHIN_A_PLATE,
    Inputs,
    KernelSpec,
    TracedKernel,
    check_row_count,
    check_signature,
    flattened,
    narrowed,
    trace_kernel,
)
from skaimz.rows.sources import reads_in_parts
from skaimz.rows.spool import Scratch

__all__ = ["ImpactEstimator"]


class ImpactEstimator(
    TrainingMixin,
    DescribeMixin,
    DiagnoseMixin,
    DrawsMixin,
    EffectsMixin,
    ScoresMixin,
    PosteriorMixin,
    TreeMixin,
    PersistenceMixin,
    RoutingMixin,
    Parameters,
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
        inference: Any = "auto",
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

    def fit(self, X: Any, y: Any = None, *, sample_weight: Any = None, **arrays: Any) -> Self:
        """Infer the posterior of the kernel's latent sites.

        Where X is a memory-mapped, Zarr or Dask array, a Dask data frame, or an iterable of mappings, and inference is
        by minibatches (``SVI(batch_size=...)``), rows are read a part at a time, and kept on the disk while the fit
        lasts where that makes them quicker to read again. Otherwise they are loaded into memory. What is found is the
        same.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Input; float32 stays float32, everything else becomes float64. Or anything that can be iterated over
            repeatedly and gives mappings of names to arrays with some of the rows: X, y, sample_weight and further
            arguments.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs), optional
            Outcome, in the shape of the kernel's output site. It may be left out where it comes with X.
        sample_weight : array-like of shape (n_rows,), optional
            Non-negative factor on each row's log-likelihood: a weight of 2 counts a row twice, 0 not at all. That which
            comes with X where None.
        **arrays : array or scalar
            The kernel's further arguments by name. Arrays whose first axis has ``n_rows`` entries are row-aligned,
            other arrays are passed whole, scalars and strings are constants of the program. A mapping is passed as a
            dict, of which each entry is one of these; its name in messages and scenarios is ``argument.entry``.

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
        with self._unchanged_on_error():
            self._fit(TrainingData(X, y, sample_weight, arrays))
        return self

    @available_if(learns_in_parts)
    def partial_fit(self, X: Any, y: Any = None, *, sample_weight: Any = None, **arrays: Any) -> Self:
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
        return self._partial_fit(X, y, sample_weight, arrays)

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any, arrays: Mapping[str, Any], **checks: Any) -> Self:
        check_continuation(self)
        before = getattr(self, "fit_result_", None)
        with self._unchanged_on_error():
            self._fit(TrainingData(X, y, sample_weight, dict(arrays)), before=before, in_parts=True, **checks)
        return self

    def _fit(
        self, data: TrainingData, *, before: FitResult | None = None, in_parts: bool = False, **checks: Any
    ) -> None:
        self._check_parameters()
        settings = inference.resolve_inference(self.inference)
        data = self._take_apart(data)
        if self.posterior is None:
            data = data._replace(arrays=join_arguments(data.arrays, getattr(settings, "own_arguments", ())))
        data = data._replace(arrays=flattened(data.arrays))
        # Without minibatches every step sees all rows. Where draws are given, one row tells what fits them.
        reads_parts = self.posterior is not None or getattr(settings, "batch_size", None) is not None
        with Scratch() as scratch:
            if reads_parts and reads_in_parts(data.X):
                data = self._open(data, scratch, reset=before is None, **checks)
            else:
                data = self._load(data, reset=before is None, **checks)
            self._infer(data, settings, before, in_parts)

    def _infer(self, data: TrainingData, settings: Any, before: FitResult | None, in_parts: bool) -> None:
        """Infer the posterior from checked training data."""
        X, y, weight, arrays = data
        if before is None:
            if getattr(settings, "checkpoint_dir", None) is not None and not is_fixed(self.random_state):
                raise ValueError(
                    "`checkpoint_dir` needs an integer `random_state`, so that the same fit can be found again, got "
                    f"{self.random_state!r}."
                )
            self.seed_ = seed_of(self.random_state)
            self.arguments_: dict[str, Any] = {}
        with self._precision(X.dtype):
            if before is None:
                self.kernel_ = self._make_kernel(X, y, weight)
            traced, hyperparameters, inputs = self._trace(X, arrays)
            check_row_count(traced, hyperparameters, inputs, self.param_input, self.param_output)
            self.kernel_spec_ = traced.spec
            self.arguments_ = describe_inputs(inputs)
            y = self._check_outcome(y, traced.spec)
            if traced.spec.changes_outcome:
                warn_user(
                    f"The kernel's output {traced.spec.output!r} observes something that is computed from y: what is "
                    "predicted is that, not y. Pass y as the kernel observes it, for example by scikit-learn's "
                    "`TransformedTargetRegressor`.",
                    OutputWarning,
                )
            if self.posterior is None:
                inputs = Inputs({**inputs.rows, traced.spec.output_parameter: y}, inputs.whole, inputs.static)
                fitted = inference.Data(hyperparameters, inputs.rows, inputs.whole, weight)
                if in_parts:
                    result = inference.partial_fit(traced, fitted, settings, self.seed_, before)
                else:
                    result = inference.fit(traced, fitted, settings, self.seed_, verbose=self.verbose)
            else:
                draws = match_draws(draws_from(self.posterior), traced.spec, {})
                result = FitResult("injected", draws, n_rows=len(X))
        self.inference_ = settings
        self.fit_result_ = result
        self.posterior_ = result.draws

    @contextlib.contextmanager
    def _unchanged_on_error(self) -> Iterator[None]:
        before = dict(self.__dict__)
        try:
            yield
        except BaseException as error:
            self.__dict__ = before
            let_go(error)
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

    def _check_outcome(self, y: Any, spec: KernelSpec, first: int = 0) -> Any:
        return check_outcome(y if spec[spec.output].event_shape else without_single_column(y), spec, first)

    def _make_kernel(self, X: Any, y: Any, weight: Any) -> Callable:
        if self.kernel is not None:
            return copy_of(self.kernel)
        if (self.param_input, self.param_output) != ("X", "y"):
            raise ValueError("`param_input` and `param_output` rename arguments of a kernel; the default has X and y.")
        y = without_single_column(y)
        if len(y.shape) > 1:
            raise ValueError(
                f"The default kernel has one output, but y has the shape {y.shape}. Give a `kernel`, or fit each "
                "output alone with scikit-learn's MultiOutputRegressor or MultiOutputClassifier."
            )
        return self._default_kernel.of({"X": X, "y": y}, weight, len(getattr(self, "classes_", ())))

    def _extra_arguments(self, kernel: Callable) -> dict[str, Any]:
        """Return kernel arguments that the estimator itself knows."""
        return {}

    # Inputs

    def _trace(self, X: np.ndarray, arrays: Mapping[str, Any]) -> tuple[TracedKernel, dict[str, Any], Inputs]:
        """Sort and check the kernel's arguments, and trace it on them; static ones of the fit hold on."""
        known = getattr(self, "arguments_", {})
        # Before a fit, draws from the prior see what a ready NumPyro SVI object will have the fit see.
        static = known.get("static", getattr(self.inference, "static_kwargs", {}) if self.posterior is None else {})
        kernel: Any = getattr(self, "kernel_", self.kernel)
        inputs = kernel_inputs(
            kernel,
            X,
            {**static, **self._extra_arguments(kernel), **arrays},
            param_input=self.param_input,
            param_output=self.param_output,
            known=known,
        )
        try:
            traced, hyperparameters = trace_kernel(kernel, inputs, self.param_input, self.param_output)
        except Exception as error:
            refuse_as_index(inputs, self.param_input, error)
            short = {name: len(array) for name, array in inputs.whole.items()}
            if short:
                part = getattr(self, "_part", None)
                n_rows = part.total if part else len(X)
                error.add_note(
                    f"X has {n_rows} rows. These arguments have another length, and were passed whole: {short}."
                )
            raise
        if traced.spec[traced.spec.output].row_axis is None:
            raise ValueError(
                f"The kernel's output site {traced.spec.output!r} has no value for each row of X. {WITHIN_A_PLATE}"
            )
        part = getattr(self, "_part", None)
        return traced, hyperparameters, check_indices(traced.spec, inputs, hyperparameters, part.first if part else 0)

    def _described(self, X: Any, arrays: Mapping[str, Any]) -> KernelSpec:
        """Return the description of the kernel on rows of a call, fitted or not."""
        X, arrays = self._read(X, arrays) if self.__sklearn_is_fitted__() else self._read_for_prior(X, arrays)
        with self._precision(X.dtype):
            return self._trace(X, arrays)[0].spec

    def _prepare(
        self,
        X: Any,
        arrays: Mapping[str, Any],
        *,
        in_sample: bool = False,
        intervention: Mapping[str, Any] | None = None,
        condition: Mapping[str, Any] | None = None,
        random_state: Any = None,
    ) -> sampling.Job:
        """Return all that the sampling core needs for checked rows."""
        traced, hyperparameters, inputs = self._trace(X, arrays)
        spec, part = traced.spec, getattr(self, "_part", None)
        if spec.rows_mix is not None and part is not None:
            raise ValueError(
                "Dask collections are computed block by block, but the kernel's rows may depend on one another: "
                f"{spec.rows_mix}. Pass them in one, as `X.compute()`."
            )
        if spec.rows_mix is not None:
            warn_user(
                f"The kernel runs on all rows at once, because its rows may depend on one another: {spec.rows_mix}.",
                SpeedWarning,
            )
        draws, params = self._fitted_state(spec)
        n_chains, n_draws = next(iter(draws.values())).shape[:2] if draws else (1, self.fit_result_.num_samples)
        flat = {
            name: narrowed(f"The array of posterior draws of {name!r}", draw.reshape(-1, *draw.shape[2:]), X.dtype)
            for name, draw in draws.items()
        }
        local = {site.name: flat.pop(site.name) for site in spec.local_latents if site.name in flat}
        if in_sample:
            check_local(spec, local, part.total if part else len(X))
        params = {name: narrowed(f"Parameter {name!r}", np.asarray(value), X.dtype) for name, value in params.items()}
        posterior = sampling.Posterior(hyperparameters, params, flat, n_chains * n_draws, n_chains)
        job = sampling.Job(
            traced,
            posterior,
            inputs,
            self._seed_of_call(random_state),
            local if in_sample else {},
            sampling.site_values(spec, "intervention", intervention, len(X)),
            sampling.site_values(spec, "condition", condition, len(X)),
            part,
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
        return match_draws(draws, spec, {}), {}

    def _seed_of_call(self, random_state: Any) -> int:
        """Return the seed of one call: its own, or the estimator's."""
        if random_state is not None:
            return seed_of(random_state)
        if hasattr(self, "seed_"):
            return self.seed_
        # Without a fit nothing has been drawn from a source of randomness that changes as it is drawn from.
        return seed_of(self.random_state) if is_fixed(self.random_state) else 0

    def _encode(self, y: Any, spec: KernelSpec, dtype: Any, first: int = 0) -> np.ndarray:
        """Bring outcomes, the first of which is that of row ``first``, into the kernel's terms; floats in ``dtype``."""
        raise NotImplementedError

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "posterior_") or self.posterior is not None

    # Draws

    @row_by_row
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

    def _draw_outcomes(self, job: sampling.Job) -> np.ndarray:
        return sampling.outcomes(job)

    def _label_outcomes(self, outcomes: np.ndarray) -> np.ndarray:
        return outcomes
