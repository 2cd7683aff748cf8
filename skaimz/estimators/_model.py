"""The model that a fit makes, and one call of it on rows. All that follows a fit takes one of the two."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd

from skaimz import sampling
from skaimz.datatree import draws_from
from skaimz.estimators._arguments import Rules, check_indices, is_fixed, kernel_inputs, refuse_as_index, seed_of
from skaimz.estimators._columns import Columns
from skaimz.estimators._concrete import check_shapes_seen, warn_of_seen
from skaimz.estimators._encoders import encoder_for
from skaimz.estimators._growth import (
    check_growth,
    levels_for,
    past_for,
    prior_levels,
    warn_of_order,
    warn_of_rows_of_fit,
)
from skaimz.estimators._lengths import lengths_checked
from skaimz.estimators._outcomes import Outcome
from skaimz.estimators._posterior import check_interventions, check_of_rows, match_draws
from skaimz.exceptions import SpeedWarning, warn_user
from skaimz.inference import FitResult, guide_function
from skaimz.kernels import (
    Inputs,
    KernelSpec,
    Site,
    TracedKernel,
    float_type,
    in_type_of,
    narrowed,
    plain_array,
    restored_leaf,
    trace_kernel,
)
from skaimz.sampling import Part

__all__ = ["Call", "Model", "Traced", "precision_of", "unobserved"]


def unobserved(output: str) -> str:
    """Return the name of the draws of missing outcomes, which NumPyro gives them too."""
    return f"{output}_unobserved"


def precision_of(dtype: Any) -> AbstractContextManager:
    """Return a context in which JAX computes in the precision of a type. Nothing is set globally."""
    return jax.enable_x64(np.dtype(dtype) == np.float64)


def _as_learned(site: Site, array: Any) -> Any:
    """Return a parameter or a state of a layer in the type that the kernel has it in."""
    if site.dtype.startswith("key<"):
        return restored_leaf(array, site.dtype)
    return in_type_of(site, f"Parameter {site.name!r}", np.asarray(array))


def _add_sizes(error: Exception, inputs: Inputs, n_rows: int) -> None:
    """Add the arguments whose size may not be that of the rows to an error of the kernel."""
    lengths = {name: len(array) for name, array in inputs.whole.items() if len(array) != n_rows}
    if lengths:
        error.add_note(f"X has {n_rows} rows. These arguments have another length, and were passed whole: {lengths}.")
    counts = {name: value for name, value in inputs.static if isinstance(value, int) and not isinstance(value, bool)}
    if counts:
        error.add_note(f"X has {n_rows} rows, and these arguments are whole numbers: {counts}.")


def _takes_a_table(kernel: Callable, inputs: Inputs, names: tuple[str, str]) -> bool:
    """Whether a kernel runs on an X of one column, in place of one of one dimension."""
    X = np.asarray(inputs.rows[names[0]][:])[:, None]
    try:
        trace_kernel(kernel, replace(inputs, rows={**inputs.rows, names[0]: X}), *names)
    except Exception:
        return False
    return True


class Traced(NamedTuple):
    """A kernel traced on the arguments of a call.

    Attributes
    ----------
    kernel : TracedKernel
    hyperparameters : dict
    inputs : Inputs
    """

    kernel: TracedKernel
    hyperparameters: dict[str, Any]
    inputs: Inputs

    @property
    def spec(self) -> KernelSpec:
        """The kernel's description."""
        return self.kernel.spec


@dataclass(frozen=True)
class Model:
    """A kernel with what a fit has learned.

    Attributes
    ----------
    owner : estimator
        scikit-learn checks the columns of X against it.
    kernel : callable or None
        None for the default kernel before `fit`.
    names : tuple of str
        The kernel's parameters for the input and the outcome.
    column_args : mapping or None
        Columns of X that hold arguments of the kernel: the estimator's parameter of that name.
    whole_args : sequence of str
        Arguments that the user declares to be whole.
    allow_nan : bool
        Whether X and further arguments may have missing entries.
    missing_outcomes : {"error", "ignore", "impute", "keep"}
        What a fit does with missing outcomes.
    outcome : Outcome
        How outcomes are coded.
    arguments : dict of str to dict
        How `fit` classified each argument (``rows``, ``whole``, ``static``). Later calls reuse it.
    categories : dict or None
        Categories of the arguments that are columns of X; None before `fit`.
    draws : dict of str to array of shape (n_chains, n_draws, ...), or None
        Posterior draws; None where there is no posterior yet.
    imputed : dict of str to array of shape (n_chains, n_draws, n_missing)
        Draws of missing outcomes.
    result : FitResult or None
        None before `fit`, and for injected draws that have not been matched to a kernel yet.
    spec : KernelSpec or None
        The description of the kernel on the training data.
    seed : int
    dtype : str or None
        Precision of all arithmetic, "float32" or "float64"; that of X where None.
    guide : callable or None
        Guide function of the variational fit that made the draws, if it had one.
    past : dict of str to array, or None
        The rows of the fit with their outcomes, if predictions for new rows depend on them.
    """

    owner: Any
    kernel: Callable | None
    names: tuple[str, str]
    column_args: Mapping[str, Any] | None
    whole_args: Sequence[str]
    allow_nan: bool
    missing_outcomes: str
    outcome: Outcome
    arguments: Mapping[str, Mapping[str, Any]]
    categories: Mapping[str, Any] | None
    draws: Mapping[str, np.ndarray] | None
    imputed: Mapping[str, np.ndarray]
    result: FitResult | None
    spec: KernelSpec | None
    seed: int
    dtype: str | None
    guide: Callable | None = None
    past: Mapping[str, np.ndarray] | None = None

    @classmethod
    def of(cls, estimator: Any) -> Model:
        """Return the model of an estimator, fitted or not."""
        fitted = vars(estimator)
        arguments = fitted.get("arguments_")
        if arguments is None:
            # Draws from the prior see the static arguments of a NumPyro SVI object, as its fit would.
            static = getattr(estimator.inference, "static_kwargs", {}) if estimator.posterior is None else {}
            arguments = {"static": static}
        draws, spec = fitted.get("posterior_"), fitted.get("kernel_spec_")
        imputed: dict[str, np.ndarray] = {}
        if draws is not None and spec is not None and unobserved(spec.output) in draws:
            draws = dict(draws)
            imputed = {unobserved(spec.output): draws.pop(unobserved(spec.output))}
        if draws is None and estimator.posterior is not None:
            draws = draws_from(estimator.posterior)
        seed = fitted.get("seed_")
        if seed is None:
            # A `random_state` with a state of its own is not drawn from before `fit`.
            seed = seed_of(estimator.random_state) if is_fixed(estimator.random_state) else 0
        return cls(
            owner=estimator,
            kernel=fitted.get("kernel_", estimator.kernel),
            # The input comes first among the rows. It is an entry of the parameter if that takes a mapping.
            names=(next(iter(arguments.get("rows", ())), estimator.param_input), estimator.param_output),
            column_args=estimator.column_args,
            whole_args=estimator.whole_args or (),
            allow_nan=bool(estimator.allow_nan),
            missing_outcomes=estimator.missing_outcomes,
            outcome=estimator._outcome(),
            arguments=arguments,
            categories=fitted.get("categories_"),
            draws=draws,
            imputed=imputed,
            result=fitted.get("fit_result_"),
            spec=spec,
            seed=seed,
            dtype=estimator.dtype,
            guide=guide_function(fitted.get("inference_")),
            past=fitted.get("rows_of_fit_"),
        )

    @property
    def has_draws(self) -> bool:
        """Whether there are posterior draws."""
        return self.draws is not None

    @property
    def whole(self) -> Collection[str]:
        """Arguments that are passed whole, however many entries they have; all entries of a mapping among them."""
        return {*self.arguments.get("whole", ()), *self.whole_args}

    @property
    def precision(self) -> np.dtype:
        """Type of the floats of a fit: that of its rows, or the one that the estimator is set to if they are whole."""
        of_rows = np.dtype(self.arguments["rows"][self.names[0]][1])
        return of_rows if of_rows.kind == "f" else np.dtype(self.dtype or np.float64)

    @property
    def fit_rows(self) -> int | None:
        """Number of rows of the fit; None if it is not known."""
        if self.past is not None:
            return len(self.past[self.names[0]])
        return (self.result and self.result.n_rows) or None

    def seed_of(self, random_state: Any) -> int:
        """Return the seed of one call: its own, or else the model's."""
        return self.seed if random_state is None else seed_of(random_state)

    def posterior_for(self, spec: KernelSpec) -> tuple[Mapping[str, np.ndarray], dict[str, Any]]:
        """Return posterior draws that fit a kernel, and the values of its parameters and states of layers."""
        assert self.draws is not None
        if self.result is None:
            return match_draws(self.draws, spec, {}), {}
        return self.draws, spec.values_of(self.result.params, _as_learned)


@dataclass(frozen=True)
class Call:
    """Checked rows and arguments of one call.

    Attributes
    ----------
    model : Model
    X : array or LazyRows
        Rows as the kernel takes them.
    arrays : dict
        The kernel's further arguments, among them those that are columns of X.
    seed : int
    source : array, data frame or LazyRows
        X as the user passed it.
    passed : dict
        Arguments as the user passed them.
    part : Part, optional
        Where the rows lie in a larger table.
    outcomes, weight : array, optional
        Outcomes and weights of the rows that came with an iterable X.
    levels : dict of str to array of shape (n_new, 2)
        Numbers that identify levels that the fit did not see, by the name of the argument.
    """

    model: Model
    X: Any
    arrays: Mapping[str, Any]
    seed: int
    source: Any
    passed: Mapping[str, Any]
    part: Part | None = None
    outcomes: Any = None
    weight: Any = None
    levels: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.X)

    @property
    def first_row(self) -> int:
        """Number of the first row in the larger table."""
        return self.part.first if self.part else 0

    @property
    def total_rows(self) -> int:
        """Number of rows of the larger table."""
        return self.part.total if self.part else self.n_rows

    @property
    def row_labels(self) -> Any:
        """Labels of the rows of a data frame, None for anything else."""
        return self.source.index if hasattr(self.source, "iloc") else None

    @functools.cached_property
    def columns(self) -> Columns:
        """Where the columns of X, as the user passed it, end up."""
        names = getattr(self.model.owner, "feature_names_in_", None)
        return Columns(self.source, self.model.column_args, names, dict(self.model.categories or {}))

    @property
    def dtype(self) -> np.dtype:
        """Type of floats: the estimator's `dtype` if it is set, else the type of the rows, float64 for integers."""
        return np.dtype(self.model.dtype or float_type(self.X.dtype))

    def precision(self) -> AbstractContextManager:
        """Return a context in which JAX computes in the precision of the rows."""
        return precision_of(self.dtype)

    @functools.cached_property
    def traced(self) -> Traced:
        """The kernel traced on the call's arguments, which are sorted and checked."""
        with lengths_checked(self):
            return self._traced()

    def _traced(self) -> Traced:
        model = self.model
        param_input, param_output = model.names
        kernel: Any = model.kernel
        given = {**model.arguments.get("static", {}), **model.outcome.extra_arguments(kernel), **self.arrays}
        inputs = kernel_inputs(
            kernel,
            self.X,
            given,
            model.names,
            Rules(model.arguments.get("rows", ()), model.whole, self.dtype, model.allow_nan),
        )
        outcome: Any = model.arguments.get("outcome")
        observed = model.arguments.get("observed")
        inputs = replace(inputs, outcome=None if outcome is None else tuple(outcome), observed=observed)
        with self.precision():
            try:
                traced, hyperparameters = trace_kernel(kernel, inputs, param_input, param_output)
            except Exception as error:
                refuse_as_index(inputs, param_input, error)
                if len(self.X.shape) == 1 and _takes_a_table(kernel, inputs, model.names):
                    raise ValueError(
                        f"The kernel does not run on these rows ({type(error).__name__}: {error}). "
                        "X has one dimension, and the kernel takes a table (Expected 2D array, got 1D array instead): "
                        "reshape your data by `X.reshape(-1, 1)` if it has one column, or by `X.reshape(1, -1)` if it "
                        "is one row."
                    ) from error
                only_rows = None if model.spec is None else model.spec.only_rows
                if only_rows not in (None, self.n_rows):
                    raise ValueError(
                        f"The kernel runs on the {only_rows} rows of the fit alone, and X has {self.n_rows}: take the "
                        f"number of rows from {param_input!r} in the kernel, or pass arguments that fit these rows."
                    ) from error
                _add_sizes(error, inputs, self.total_rows)
                raise
        warn_of_seen(traced)
        return Traced(traced, hyperparameters, check_indices(traced.spec, inputs, hyperparameters, self.first_row))

    @property
    def spec(self) -> KernelSpec:
        """The kernel's description on the call's arguments."""
        return self.traced.spec

    def encode(self, y: Any, *, may_lack: bool = False) -> np.ndarray:
        """Return outcomes of the rows as the kernel takes them; some may be missing if the kernel masks them."""
        may_lack = may_lack and self.model.missing_outcomes == "keep"
        if self.model.missing_outcomes != "error" and not may_lack and pd.isna(plain_array(y)).any():
            raise ValueError(
                "y has missing outcomes, which a fit leaves out, but which have no density and no score: pass the rows "
                "with outcomes alone, with `in_sample=False` where the method has it."
            )
        return self.model.outcome.encode(y, self.spec, self.dtype, self.first_row, allow_missing=may_lack)

    def job(
        self,
        *,
        in_sample: bool = False,
        sums_states: bool = False,
        intervention: Mapping[str, Any] | None = None,
        condition: Mapping[str, Any] | None = None,
        has_outcome: bool = False,
    ) -> sampling.Job:
        """Return the sampling core's job with posterior draws.

        Parameters
        ----------
        in_sample : bool, default=False
            Whether these are the rows of the fit, whose row-aligned latent sites have posterior draws.
        sums_states : bool, default=False
            Whether discrete sites of the rows are summed out even if they have posterior draws.
        intervention, condition : dict of str to array, optional
            Values that sites are set to, by the do-operator or in place of a draw.
        has_outcome : bool, default=False
            Whether the caller adds outcomes, which a guide may need.
        """
        spec = self.spec
        check_shapes_seen(self.traced.kernel, self.model.draws or {})
        if spec.rows_mix is not None and self.part is not None:
            raise ValueError(
                "Dask collections are computed block by block, but the kernel's rows may depend on one another: "
                f"{spec.rows_mix}. Compute them first: pass `X.compute()`."
            )
        draws, params = self.model.posterior_for(spec)
        result = self.model.result
        n_chains, n_draws = next(iter(draws.values())).shape[:2] if draws else (1, result.num_samples if result else 1)
        flat = {
            name: narrowed(f"The array of posterior draws of {name!r}", draw.reshape(-1, *draw.shape[2:]), self.dtype)
            for name, draw in draws.items()
        }
        past = None if in_sample else past_for(self, draws)
        if spec.rows_mix is not None and not spec.needs_past and not self.traced.kernel.seen:
            why = f"because its rows may depend on one another: {spec.rows_mix}."
            warn_user(f"The kernel runs on all rows at once, {why}", SpeedWarning)
        growing = [site.name for site in spec.latents if site.follows_rows and site.name in flat]
        of_rows = {name: flat.pop(name) for name in growing if past is None}
        if sums_states:
            of_rows = {name: draw for name, draw in of_rows.items() if spec[name] not in spec.summed}
        local: dict[str, np.ndarray] = {}
        if in_sample:
            check_of_rows(spec, of_rows, self.model.fit_rows, self.total_rows)
            warn_of_order(self)
            local = {name: draw for name, draw in of_rows.items() if spec[name].row_axis is not None}
            flat |= {name: draw for name, draw in of_rows.items() if name not in local}
        else:
            warn_of_rows_of_fit(self, draws)
        posterior = sampling.Posterior(self.traced.hyperparameters, params, flat, n_chains * n_draws, n_chains)
        growth = past, levels_for(self, flat)
        job = self._job(posterior, local, intervention, condition, growth)
        encoder = None if in_sample or past is not None else encoder_for(self.model, job, has_outcome=has_outcome)
        if encoder is None:
            return job
        assert result is not None
        return replace(job, encoder=encoder, posterior=posterior._replace(params={**result.params, **params}))

    def prior_job(
        self,
        num_samples: int,
        *,
        intervention: Mapping[str, Any] | None = None,
        condition: Mapping[str, Any] | None = None,
    ) -> sampling.Job:
        """Return the sampling core's job in which all latent sites are drawn from the prior."""
        improper = self.spec.improper_latents
        if improper:
            raise ValueError(f"The priors of {list(improper)} are improper, and cannot be drawn from.")
        posterior = sampling.Posterior(self.traced.hyperparameters, {}, {}, num_samples)
        return self._job(posterior, {}, intervention, condition, (None, prior_levels(self)))

    def _job(
        self,
        posterior: sampling.Posterior,
        local: Mapping[str, np.ndarray],
        intervention: Mapping[str, Any] | None,
        condition: Mapping[str, Any] | None,
        growth: tuple[sampling.Past | None, Mapping[str, sampling.Levels]],
    ) -> sampling.Job:
        past, levels = growth
        job = sampling.Job(
            self.traced.kernel,
            posterior,
            self.traced.inputs,
            self.seed,
            local,
            sampling.site_values(self.spec, "intervention", intervention, self.n_rows),
            sampling.site_values(self.spec, "condition", condition, self.n_rows),
            self.part,
            past=past,
            levels=levels,
        )
        job = check_growth(job)
        if job.settings:
            check_interventions(job)
        return job

    def with_rows(self, X: Any, arrays: Mapping[str, Any]) -> Call:
        """Return the call with other values of the input and the arguments; ``columns`` still describes X as passed."""
        return replace(self, X=X, arrays=arrays)
