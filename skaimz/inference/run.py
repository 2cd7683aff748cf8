"""The functions that fit a kernel, go on with a fit, and draw from it, whatever the kind of inference."""

import dataclasses
from typing import Any

import jax
import numpy as np

from skaimz.exceptions import GuideWarning, warn_user
from skaimz.inference.auto import chains_of, draw_again, fit_auto, needs_variational
from skaimz.inference.checkpoint import checkpoint_of
from skaimz.inference.chunks import Watch
from skaimz.inference.data import Data, in_double, padded
from skaimz.inference.densities import log_densities
from skaimz.inference.diagnostics import warn_of_chains
from skaimz.inference.engine import continue_by_protocol, fit_by_protocol
from skaimz.inference.explore import explore
from skaimz.inference.importance import LARGEST_K_HAT, weigh
from skaimz.inference.mcmc import check_chains_can_run, continue_chains, fit_mcmc, given_start
from skaimz.inference.minibatches import needs_stream, total_weight
from skaimz.inference.prior import refuse_outside
from skaimz.inference.problem import Problem
from skaimz.inference.protocol import Sampler
from skaimz.inference.recipes import refuse_other_models
from skaimz.inference.result import FitResult, check_same_sites
from skaimz.inference.settings import MCMC, SVI, Auto
from skaimz.inference.states import fitted_kernel, state_draws, with_states, without_states
from skaimz.inference.subsampling import as_fitted
from skaimz.inference.svi import continue_svi, draw_from_guide, fit_svi
from skaimz.kernels import MarginalKernel, TracedKernel

__all__ = ["fit", "partial_fit", "resume"]

Settings = Auto | SVI | MCMC | Sampler

# Draws whose densities by guide and posterior are compared, and the fewest that allow a conclusion.
COMPARED_DRAWS = 1000
FEWEST_COMPARED = 100


def fit(traced: TracedKernel, data: Data, settings: Settings, seed: int, *, verbose: int = 0) -> FitResult:
    """Draw from the posterior of a kernel given data.

    Parameters
    ----------
    traced : TracedKernel
    data : Data
        Arguments of the kernel, the output among the rows. Rows and weights may be anything with ``shape`` and
        ``dtype`` that gives arrays when it is sliced by rows. SVI in minibatches and automatic inference read rows in
        windows if they are not in memory and more than ``shuffle.WINDOW_ROWS``. Otherwise all rows are loaded.
    settings : Auto, SVI, MCMC or Sampler
        Checked settings.
    seed : int
        Below 2**32.
    verbose : int, default=0
        Show a progress bar where positive.

    Returns
    -------
    FitResult

    Raises
    ------
    RuntimeError
        If JAX runs as several processes.
    ValueError
        If a ready NumPyro object in the settings is of another model.
    """
    _refuse_processes()
    refuse_other_models(getattr(settings, "own_models", ()), traced.kernel.function)
    n_rows = len(data.rows[traced.spec.input])
    traced = _as_fitted(traced, settings, data)
    if data.weight is not None:
        _check_weighted(traced, "`sample_weight`")
    checkpoint = checkpoint_of(getattr(settings, "checkpoint_dir", None), traced, data, settings, seed)
    watch = Watch(verbose, getattr(settings, "callback", None), getattr(settings, "time_budget", None), checkpoint)
    problem = Problem(traced, data, n_rows, seed, watch)
    if isinstance(settings, Auto) and needs_variational(traced):
        settings = SVI(num_samples=settings.num_samples).checked()
    if isinstance(settings, SVI):
        result = fit_svi(problem, settings)
        if not needs_stream(data, n_rows):
            result = _compared(problem, settings, result)
    elif isinstance(settings, Auto):
        result = fit_auto(problem, settings)
    elif isinstance(settings, MCMC):
        result = _fit_chains(problem, settings)
    else:
        result = fit_by_protocol(problem.distinct(), settings)
    if not watch.stopped:
        checkpoint.remove()
    result = with_states(traced, data, result, seed)
    return dataclasses.replace(result, seen=_seen(data.weight, n_rows), n_given=n_rows)


def _as_fitted(traced: TracedKernel, settings: Settings, data: Data | None) -> TracedKernel:
    """Return the kernel as the model that a fit draws from."""
    fitted = fitted_kernel(traced, settings, data)
    # The sum over states needs all rows: a factor on a minibatch would scale the density within the sum.
    return fitted if isinstance(fitted, MarginalKernel) else as_fitted(fitted, settings)


def _fit_chains(problem: Problem, settings: MCMC) -> FitResult:
    """Run Markov chains, in units of the posterior unless the settings have numbers in the kernel's units."""
    check_chains_can_run(problem.traced, settings)
    if settings.moves_in_own_units:
        # NumPyro differentiates the kernel as it is, without the protection of `steady` against large weights.
        problem = problem.padded()
        result = fit_mcmc(problem, settings)
        if result.diagnostics["stuck_chains"] or not result.diagnostics["finite"]:
            refuse_outside(problem.traced, [in_double(problem.data)], problem.seed, problem.places)
    else:
        problem = problem.distinct()
        exploration = explore(problem)
        dense = settings.sampler_options.get("dense_mass", True) is not False  # type: ignore[union-attr]
        units = exploration.units(dense=dense)

        def starts(chain: int) -> dict[str, np.ndarray]:
            begin = exploration.begin(units, problem.seed, chain)
            if settings.init_params is not None:
                begin = units.coordinates(given_start(settings, chain, begin))
            return {name: np.asarray(v, problem.dtype) for name, v in begin.items()}

        result = fit_mcmc(problem.in_units(units), settings, starts=starts)
    warn_of_chains(result.diagnostics)
    return result


def _compared(problem: Problem, settings: SVI, result: FitResult) -> FitResult:
    """Compare guide and posterior by the ratio of their densities at the guide's draws; warn if they differ much."""
    spec = problem.traced.spec
    n_draws = min(settings.num_samples, COMPARED_DRAWS)
    if n_draws < FEWEST_COMPARED or not spec.latents or spec.subsamples or not result.diagnostics["loss_is_finite"]:
        return result
    some = dataclasses.replace(result, draws={name: draw[:, :n_draws] for name, draw in result.draws.items()})
    densities = log_densities(problem.traced, problem.loaded().data, settings, some)
    if "log_q" not in densities:
        return result
    k_hat = weigh(np.ravel(densities["log_p"] - densities["log_q"])).k_hat
    if k_hat > LARGEST_K_HAT:
        # The same text for every fit, so that a search warns once.
        warn_user(
            "The guide is far from the posterior: the importance ratios of its draws have a k-hat above "
            f"{LARGEST_K_HAT} (`fit_result_.diagnostics['k_hat']`), so that intervals may be too narrow. Use "
            "`inference='auto'`, or a richer guide, such as `SVI(guide='auto_multivariate_normal')`.",
            GuideWarning,
        )
    return dataclasses.replace(result, diagnostics={**result.diagnostics, "k_hat": k_hat})


def partial_fit(traced: TracedKernel, data: Data, settings: Settings, seed: int, before: FitResult | None) -> FitResult:
    """Pass once over rows in minibatches, going on with an earlier fit.

    The log-likelihood of each minibatch is scaled to the settings' ``total_rows``, or to all rows seen so far.

    Parameters
    ----------
    traced, data, settings, seed
        As in :func:`fit`, but the settings are those of variational inference.
    before : FitResult or None
        The earlier fit, of the same kernel and settings; None in the first call.

    Returns
    -------
    FitResult
    """
    assert isinstance(settings, SVI)
    _refuse_processes()
    refuse_other_models(settings.own_models, traced.kernel.function)
    traced = fitted_kernel(traced, settings, data)
    spec = traced.spec
    if not spec.rowless or spec.minibatch_mixing is not None:
        local = [site.name for site in spec.local_latents]
        reason = f"latent sites {local} have an entry for each row" if local else spec.minibatch_mixing
        raise ValueError(f"`partial_fit` needs a kernel whose rows stand alone given its latent sites, but {reason}.")
    _check_weighted(traced, "`partial_fit`")
    n_rows = len(data.rows[spec.input])
    added = _seen(data.weight, n_rows)
    seen, n_given = added, n_rows
    if before is not None:
        seen, n_given = seen + before.seen, n_given + before.n_given
        check_same_sites(traced, before)
    scale = (settings.total_rows or seen) / added
    result = continue_svi(Problem(traced, data, n_rows, seed), settings, before, scale)
    return dataclasses.replace(result, seen=seen, n_given=n_given)


def _seen(weight: Any, n_rows: int) -> float:
    """Return the number of rows, each counted by its weight."""
    seen = total_weight(weight, n_rows)
    if seen == 0:
        raise ValueError("`sample_weight` is zero for every row.")
    return seen


def _refuse_processes() -> None:
    """Raise RuntimeError where JAX runs as several processes, in each of which a fit would see other rows."""
    if jax.process_count() > 1:
        raise RuntimeError(
            f"JAX runs as {jax.process_count()} processes (`jax.distributed`), and a fit is not spread over them: each "
            "would learn from its own rows alone. Fit in a process of its own, and pass the fitted estimator on; its "
            "predictions use the devices of the process that they are made in."
        )


def _check_weighted(traced: TracedKernel, what: str) -> None:
    output = traced.spec[traced.spec.output]
    if not output.rows_are_batched:
        raise ValueError(
            f"{what} needs an output whose log density has an entry for each row, but the rows of {output.name!r} are "
            "on an event axis."
        )
    if isinstance(traced, MarginalKernel) and traced.drawn:
        raise ValueError(
            f"{what} needs rows that stand alone, but {traced.spec.fit_mixing}. Leave it out, or repeat rows."
        )
    if traced.subsampling:
        raise ValueError(
            f"{what} would not reach the site {output.name!r}, because the kernel draws minibatches of its own: set "
            "`SVI(batch_size=...)`, for minibatches of skaimz, or use another inference, which sees all rows."
        )
    if traced.spec.unweighted is not None:
        raise ValueError(
            f"{what} would not reach the site {traced.spec.unweighted!r}, whose density depends on rows and has no "
            "entry for each: write it with one, within a plate over the rows, or without the outcome."
        )


def resume(
    traced: TracedKernel, result: FitResult, settings: Settings, seed: int, num_samples: int, *, verbose: int = 0
) -> dict[str, np.ndarray]:
    """Take fresh draws ``(n_chains, num_samples, ...)`` from the state in which a fit ended.

    ``seed`` decides the draws of a fitted guide and the choice among weighted draws. Markov chains go on with their own
    random numbers.
    """
    data = Data(**result.data) if result.data else None
    traced = _as_fitted(traced, settings, data)
    draws = _resume(traced, without_states(traced, result), settings, seed, num_samples, verbose=verbose)
    first = len(next((draw.reshape(-1, *draw.shape[2:]) for draw in result.draws.values()), ()))
    return draws | state_draws(traced, result, draws, seed, first=first)


def _resume(
    traced: TracedKernel, result: FitResult, settings: Settings, seed: int, num_samples: int, *, verbose: int
) -> dict[str, np.ndarray]:
    if result.method == "independent" and isinstance(settings, Auto):
        return draw_again(result, seed, num_samples)
    problem = Problem(traced, Data(**result.data), result.n_rows, seed, Watch(verbose))
    if isinstance(settings, Auto) and result.method == "mcmc":
        with jax.enable_x64(True):
            draws = continue_chains(problem, chains_of(settings, result.diagnostics["rung"]), result, num_samples)
        return {name: draw.astype(result.draws[name].dtype) for name, draw in draws.items()}
    if isinstance(settings, Auto):
        settings = SVI().checked()
    if isinstance(settings, SVI):
        return draw_from_guide(problem, settings, result, num_samples)
    problem = problem.of(padded(traced, problem.data, len(problem.data.rows[traced.spec.input])))
    if isinstance(settings, MCMC):
        return continue_chains(problem, settings, result, num_samples)
    return continue_by_protocol(problem, settings, result, num_samples)
