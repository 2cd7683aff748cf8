"""Predictions, outcomes and scores row by row."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.utils.validation import check_consistent_length

from skaimz import sampling
from skaimz.estimators._model import Call
from skaimz.estimators._questions import Question
from skaimz.exceptions import OutputWarning, warn_user
from skaimz.kernels import KernelSpec
from skaimz.runtime import Purpose, generator_of

__all__ = [
    "Classes",
    "LogDensities",
    "LogProbabilities",
    "Means",
    "Moments",
    "Outcomes",
    "Probabilities",
    "Scores",
    "among_classes",
    "refuse_part",
]


@dataclass(frozen=True)
class Means(Question[np.ndarray]):
    """Means of the posterior predictive."""

    in_sample: bool = False

    def answer(self, call: Call) -> np.ndarray:
        """Return the mean of each row."""
        with call.precision():
            mean = sampling.mean(predictive_job(call, self.in_sample))
        _warn_unless_finite(mean)
        return mean


@dataclass(frozen=True)
class Moments(Question[tuple[np.ndarray, np.ndarray]]):
    """Means and standard deviations of the posterior predictive."""

    in_sample: bool = False

    def answer(self, call: Call) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean and the standard deviation of each row."""
        with call.precision():
            mean, variance = sampling.moments(predictive_job(call, self.in_sample))
        _warn_unless_finite(mean)
        return mean, np.sqrt(variance)


@dataclass(frozen=True)
class Outcomes(Question[np.ndarray]):
    """Outcomes drawn from the posterior predictive.

    Attributes
    ----------
    n_samples : int
    """

    n_samples: int

    def answer(self, call: Call) -> np.ndarray:
        """Return the outcomes of each row, on the last axis."""
        with call.precision():
            job = call.job()
            posterior = job.posterior
            rng = generator_of(job.seed, Purpose.CHOSEN_DRAWS)
            chosen = rng.permutation(posterior.n_draws)[: self.n_samples]
            if self.n_samples > posterior.n_draws:
                chosen = rng.integers(posterior.n_draws, size=self.n_samples)
            draws = {name: draw[chosen] for name, draw in posterior.draws.items()}
            job = replace(job, posterior=posterior._replace(draws=draws, n_draws=self.n_samples, n_chains=1))
            outcome = call.model.outcome
            return outcome.decode(outcome.draw(job))


@dataclass(frozen=True)
class Probabilities(Question[np.ndarray | list[np.ndarray]]):
    """Class probabilities of the posterior predictive."""

    in_sample: bool = False

    def answer(self, call: Call) -> np.ndarray | list[np.ndarray]:
        """Return the probability of each class, in a list where a row has several outputs."""
        with call.precision():
            probabilities = sampling.probabilities(predictive_job(call, self.in_sample))
        if np.isnan(probabilities).any():
            warn_user(
                f"Class probabilities of {np.count_nonzero(np.isnan(probabilities).any(axis=-1))} rows are NaN: a "
                "parameter of the output's distribution is NaN for some posterior draws.",
                OutputWarning,
            )
        return among_classes(probabilities, call.model.outcome.class_counts)


@dataclass(frozen=True)
class LogProbabilities(Question[np.ndarray | list[np.ndarray]]):
    """Logarithms of class probabilities."""

    in_sample: bool = False

    def answer(self, call: Call) -> np.ndarray | list[np.ndarray]:
        """Return the logarithm of each class's probability, in a list where a row has several outputs."""
        probabilities = Probabilities(self.in_sample).answer(call)
        with np.errstate(divide="ignore"):
            return list(map(np.log, probabilities)) if isinstance(probabilities, list) else np.log(probabilities)


@dataclass(frozen=True)
class Classes(Question[np.ndarray]):
    """Most probable classes."""

    in_sample: bool = False

    def answer(self, call: Call) -> np.ndarray:
        """Return the most probable label of each row and output."""
        probabilities = Probabilities(self.in_sample).answer(call)
        by_output = probabilities if isinstance(probabilities, list) else [probabilities]
        missing = np.any([np.isnan(output).any(axis=-1) for output in by_output], axis=0)
        if missing.any():
            row = call.first_row + int(missing.argmax())
            raise ValueError(f"Row {row} has no most probable class: its class probabilities are NaN.")
        codes = [output.argmax(axis=-1) for output in by_output]
        return call.model.outcome.decode(np.column_stack(codes) if isinstance(probabilities, list) else codes[0])


@dataclass(frozen=True)
class Scores(Question[np.ndarray]):
    """Scores of outcomes against the posterior predictive.

    Attributes
    ----------
    y : array-like
        Outcomes as a user passes them.
    rule : callable
        From a job, the outcomes as the kernel takes them and the number of classes of each output (None where unknown)
        to a score of each row.
    """

    y: Any
    rule: Callable[[sampling.Job, np.ndarray, list[int] | None], np.ndarray]

    def answer(self, call: Call) -> np.ndarray:
        """Return the score of each row."""
        refuse_part(call.spec)
        with call.precision():
            return self.rule(call.job(), _outcomes(call, self.y), call.model.outcome.class_counts)


@dataclass(frozen=True)
class LogDensities(Question[np.ndarray]):
    """Logarithms of the posterior predictive densities of outcomes.

    Attributes
    ----------
    y : array-like
        Outcomes as a user passes them.
    """

    y: Any

    def answer(self, call: Call) -> np.ndarray:
        """Return the log density of each row."""
        with call.precision():
            return sampling.log_predictive(call.job(), _outcomes(call, self.y))


def _outcomes(call: Call, y: Any) -> np.ndarray:
    y = call.encode(y)
    check_consistent_length(call.X, y)
    return y


def refuse_part(spec: KernelSpec | None) -> None:
    """Refuse to compare outcomes with predictions if these are of a part of the outcomes."""
    if spec is not None and spec.outcome is not None:
        shape = ", ".join(["n_rows", *map(str, spec[spec.output].event_shape)])
        raise ValueError(
            f"The kernel's output {spec.output!r} observes a part of y, and predictions are of that part, of the shape "
            f"({shape}): compare it with the predictions yourself. `log_predictive_density` scores all of y."
        )


def predictive_job(call: Call, in_sample: bool) -> sampling.Job:
    """Return the job of a call's rows, which may be those of the fit.

    Where rows have no latent sites of their own, but a joint distribution of outcomes, the rows of the fit are
    predicted like any others: given the outcomes of the fit.
    """
    spec = call.spec
    own = bool(spec.growing_latents)
    if in_sample and not own and spec.rows_mix is not None and spec[spec.output].is_scanned:
        raise ValueError(
            "`in_sample=True` uses posterior draws of latent sites of the rows, and the kernel has none: the outcome "
            "of a row depends on those before it. Predict the rows that follow those of the fit."
        )
    return call.job(in_sample=in_sample and (own or not spec.outcomes_depend))


def among_classes(probabilities: np.ndarray, counts: Sequence[int] | None) -> np.ndarray | list[np.ndarray]:
    """Return class probabilities of each output, given that no class occurs that only the kernel has.

    Parameters
    ----------
    probabilities : array of shape (n_rows, n_classes) or (n_rows, n_outputs, n_classes)
    counts : sequence of int or None
        Number of classes of each output; all of the kernel's where None.

    Returns
    -------
    array, or list of array of shape (n_rows, count) where there are several outputs
    """
    if probabilities.ndim == 2:
        return probabilities
    counts = counts or [probabilities.shape[-1]] * probabilities.shape[1]
    possible = [probabilities[:, output, :count] for output, count in enumerate(counts)]
    return [output / output.sum(axis=-1, keepdims=True) for output in possible]


def _warn_unless_finite(mean: np.ndarray) -> None:
    if not np.isfinite(mean).all():
        warn_user(
            f"{np.count_nonzero(~np.isfinite(mean))} predictions are not finite: the output has no finite mean for "
            "some posterior draws. Use `predict_quantiles`.",
            OutputWarning,
        )
