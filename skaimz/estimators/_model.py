"""The model that a fit makes, and one call of it on rows. All that follows a fit takes one of the two."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import numpy as np

from skaimz import sampling
from skaimz.datatree import draws_from
from skaimz.estimators._arguments import check_indices, is_fixed, kernel_inputs, refuse_as_index, seed_of
from skaimz.estimators._columns import Columns
from skaimz.estimators._encoders import encoder_for
from skaimz.estimators._outcomes import Outcome
from skaimz.estimators._posterior import check_interventions, check_local, match_draws
from skaimz.exceptions import SpeedWarning, warn_user
from skaimz.inference import FitResult, guide_function
from skaimz.kernels import (
    WITHIN_A_PLATE,
    Inputs,
    KernelSpec,
    Site,
    TracedKernel,
    in_type_of,
    narrowed,
    restored_leaf,
    trace_kernel,
)
from skaimz.sampling import Part

__all__ = ["Call", "Model", "Traced", "precision_of"]


def precision_of(dtype: Any) -> AbstractContextManager:
    """Return a context in which JAX computes in the precision of a type. Nothing is set globally."""
    return jax.enable_x64(np.dtype(dtype) == np.float64)


def _as_learned(site: Site, array: Any) -> Any:
    """Return a parameter or a state of a layer in the type that the kernel has it in."""
    if site.dtype.startswith("key<"):
        return restored_leaf(array, site.dtype)
    return in_type_of(site, f"Parameter {site.name!r}", np.asarray(array))


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
    outcome : Outcome
        How outcomes are coded.
    arguments : dict of str to dict
        How `fit` classified each argument (``rows``, ``whole``, ``static``). Later calls reuse it.
    categories : dict or None
        Categories of the arguments that are columns of X; None before `fit`.
    draws : dict of str to array of shape (n_chains, n_draws, ...), or None
        Posterior draws; None where there is no posterior yet.
    result : FitResult or None
        None before `fit`, and for injected draws that have not been matched to a kernel yet.
    spec : KernelSpec or None
        The description of the kernel on the training data.
    seed : int
    dtype : str or None
        Precision of all arithmetic, "float32" or "float64"; that of X where None.
    guide : callable or None
        Guide function of the variational fit that made the draws, if it had one.
    """

    owner: Any
    kernel: Callable | None
    names: tuple[str, str]
    column_args: Mapping[str, Any] | None
    outcome: Outcome
    arguments: Mapping[str, Mapping[str, Any]]
    categories: Mapping[str, Any] | None
    draws: Mapping[str, np.ndarray] | None
    result: FitResult | None
    spec: KernelSpec | None
    seed: int
    dtype: str | None
    guide: Callable | None = None

    @classmethod
    def of(cls, estimator: Any) -> Model:
        """Return the model of an estimator, fitted or not."""
        fitted = vars(estimator)
        arguments = fitted.get("arguments_")
        if arguments is None:
            # Draws from the prior see the static arguments of a NumPyro SVI object, as its fit would.
            static = getattr(estimator.inference, "static_kwargs", {}) if estimator.posterior is None else {}
            arguments = {"static": static}
        draws = fitted.get("posterior_")
        if draws is None and estimator.posterior is not None:
            draws = draws_from(estimator.posterior)
        seed = fitted.get("seed_")
        if seed is None:
            # A `random_state` with a state of its own is not drawn from before `fit`.
            seed = seed_of(estimator.random_state) if is_fixed(estimator.random_state) else 0
        return cls(
            owner=estimator,
            kernel=fitted.get("kernel_", estimator.kernel),
            names=(estimator.param_input, estimator.param_output),
            column_args=estimator.column_args,
            outcome=estimator._outcome(),
            arguments=arguments,
            categories=fitted.get("categories_"),
            draws=draws,
            result=fitted.get("fit_result_"),
            spec=fitted.get("kernel_spec_"),
            seed=seed,
            dtype=estimator.dtype,
            guide=guide_function(fitted.get("inference_")),
        )

    @property
    def has_draws(self) -> bool:
        """Whether there are posterior draws."""
        return self.draws is not None

    @property
    def whole(self) -> Mapping[str, Any]:
        """Arguments that are passed whole, however many entries they have."""
        return self.arguments.get("whole", {})

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

    def precision(self) -> AbstractContextManager:
        """Return a context in which JAX computes in the precision of the rows."""
        return precision_of(self.X.dtype)

    @functools.cached_property
    def traced(self) -> Traced:
        """The kernel traced on the call's arguments, which are sorted and checked."""
        model = self.model
        param_input, param_output = model.names
        kernel: Any = model.kernel
        given = {**model.arguments.get("static", {}), **model.outcome.extra_arguments(kernel), **self.arrays}
        inputs = kernel_inputs(kernel, self.X, given, names=model.names, known=model.arguments)
        with self.precision():
            try:
                traced, hyperparameters = trace_kernel(kernel, inputs, param_input, param_output)
            except Exception as error:
                refuse_as_index(inputs, param_input, error)
                lengths = {name: len(array) for name, array in inputs.whole.items()}
                if lengths:
                    error.add_note(
                        f"X has {self.total_rows} rows. These arguments have another length, and were passed whole: "
                        f"{lengths}."
                    )
                raise
        spec = traced.spec
        if spec[spec.output].row_axis is None:
            raise ValueError(
                f"The kernel's output site {spec.output!r} has no value for each row of X. {WITHIN_A_PLATE}"
            )
        return Traced(traced, hyperparameters, check_indices(spec, inputs, hyperparameters, self.first_row))

    @property
    def spec(self) -> KernelSpec:
        """The kernel's description on the call's arguments."""
        return self.traced.spec

    def encode(self, y: Any) -> np.ndarray:
        """Return outcomes of the rows as the kernel takes them."""
        return self.model.outcome.encode(y, self.spec, self.X.dtype, self.first_row)

    def job(
        self,
        *,
        in_sample: bool = False,
        intervention: Mapping[str, Any] | None = None,
        condition: Mapping[str, Any] | None = None,
        has_outcome: bool = False,
    ) -> sampling.Job:
        """Return the sampling core's job with posterior draws.

        Parameters
        ----------
        in_sample : bool, default=False
            Whether these are the rows of the fit, whose row-aligned latent sites have posterior draws.
        intervention, condition : dict of str to array, optional
            Values that sites are set to, by the do-operator or in place of a draw.
        has_outcome : bool, default=False
            Whether the caller adds outcomes, which a guide may need.
        """
        spec = self.spec
        if spec.rows_mix is not None:
            if self.part is not None:
                raise ValueError(
                    "Dask collections are computed block by block, but the kernel's rows may depend on one another: "
                    f"{spec.rows_mix}. Compute them first: pass `X.compute()`."
                )
            warn_user(
                f"The kernel runs on all rows at once, because its rows may depend on one another: {spec.rows_mix}.",
                SpeedWarning,
            )
        draws, params = self.model.posterior_for(spec)
        result = self.model.result
        n_chains, n_draws = next(iter(draws.values())).shape[:2] if draws else (1, result.num_samples if result else 1)
        flat = {
            name: narrowed(f"The array of posterior draws of {name!r}", draw.reshape(-1, *draw.shape[2:]), self.X.dtype)
            for name, draw in draws.items()
        }
        local = {site.name: flat.pop(site.name) for site in spec.local_latents if site.name in flat}
        if in_sample:
            check_local(spec, local, self.total_rows)
        posterior = sampling.Posterior(self.traced.hyperparameters, params, flat, n_chains * n_draws, n_chains)
        job = self._job(posterior, local if in_sample else {}, intervention, condition)
        encoder = None if in_sample else encoder_for(self.model, job, has_outcome=has_outcome)
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
        return self._job(posterior, {}, intervention, condition)

    def _job(
        self,
        posterior: sampling.Posterior,
        local: Mapping[str, np.ndarray],
        intervention: Mapping[str, Any] | None,
        condition: Mapping[str, Any] | None,
    ) -> sampling.Job:
        job = sampling.Job(
            self.traced.kernel,
            posterior,
            self.traced.inputs,
            self.seed,
            local,
            sampling.site_values(self.spec, "intervention", intervention, self.n_rows),
            sampling.site_values(self.spec, "condition", condition, self.n_rows),
            self.part,
        )
        if job.settings:
            check_interventions(job)
        return job

    def with_rows(self, X: Any, arrays: Mapping[str, Any]) -> Call:
        """Return the call with other values of the input and the arguments; ``columns`` still describes X as passed."""
        return replace(self, X=X, arrays=arrays)
