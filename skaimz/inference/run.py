"""One door to both kinds of inference."""

import contextlib
import dataclasses
from typing import Any

import jax
import numpy as np

from skaimz.exceptions import GuideWarning, warn_user
from skaimz.inference import densities
from skaimz.inference.auto import chains_of, draw_again, fit_auto, needs_variational
from skaimz.inference.checkpoint import checkpoint_of
from skaimz.inference.chunks import Watch
from skaimz.inference.data import Data, bucket, in_double, loaded, merged, padded, refuse_discrete
from skaimz.inference.diagnostics import warn_of_chains
from skaimz.inference.engine import continue_by_protocol, fit_by_protocol
from skaimz.inference.explore import explore
from skaimz.inference.importance import LARGEST_K_HAT, weigh
from skaimz.inference.mcmc import check_chains_can_run, continue_chains, fit_mcmc, given_start
from skaimz.inference.minibatches import minibatches, needs_stream, total_weight
from skaimz.inference.protocol import Sampler
from skaimz.inference.recipes import refuse_other_models
from skaimz.inference.result import FitResult, check_same_sites
from skaimz.inference.settings import MCMC, SVI, Auto
from skaimz.inference.svi import continue_svi, draw_from_guide, fit_svi, units_of
from skaimz.inference.target import refuse_outside
from skaimz.kernels import Inputs, TracedKernel

__all__ = ["fit", "log_densities", "partial_fit", "resume"]

# Draws whose densities by guide and posterior are compared, and the fewest that tell anything.
COMPARED_DRAWS = 1000
FEWEST_COMPARED = 100


def fit(
    traced: TracedKernel,
    hyperparameters: dict[str, Any],
    inputs: Inputs,
    weight: Any,
    settings: Auto | SVI | MCMC | Sampler,
    seed: int,
    *,
    verbose: int = 0,
) -> FitResult:
    """Draw from the posterior of a kernel given data.

    Parameters
    ----------
    traced : TracedKernel
    hyperparameters : dict
        The kernel's numeric hyperparameters.
    inputs : Inputs
        Arguments, the output among the rows.
        Rows may be anything with ``shape`` and ``dtype`` that gives arrays when it is sliced by rows. Where they are
        not all in memory, and more than ``shuffle.WINDOW_ROWS``, minibatches are made from as many rows at a time.
        Otherwise all of them are loaded.
    weight : array of shape (n_rows,) or None
        Factor on each row's log-likelihood, which may be read a part at a time, too.
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
    n_rows = len(inputs.rows[traced.spec.input])
    if weight is not None:
        _check_weighted(traced, "`sample_weight`")
    data = Data(hyperparameters, inputs.rows, inputs.whole, weight)
    checkpoint = checkpoint_of(getattr(settings, "checkpoint_dir", None), traced, data, settings, seed)
    watch = Watch(verbose, getattr(settings, "callback", None), getattr(settings, "time_budget", None), checkpoint)
    if isinstance(settings, Auto) and needs_variational(traced):
        settings = SVI(num_samples=settings.num_samples).checked()
    if isinstance(settings, SVI):
        result = fit_svi(traced, data, n_rows, settings, seed, watch=watch)
        if not needs_stream(data, n_rows):
            result = _compared(traced, data, n_rows, settings, result)
    elif isinstance(settings, Auto):
        refuse_discrete(traced.spec, "Automatic inference")
        result = fit_auto(traced, data, n_rows, settings, seed, watch)
    else:
        data, places = merged(traced, loaded(data, n_rows))
        data = padded(traced, data, len(data.rows[traced.spec.input]))
        if isinstance(settings, MCMC):
            result = _fit_chains(traced, data, n_rows, settings, seed, watch, places)
        else:
            result = fit_by_protocol(traced, data, n_rows, settings, seed, watch, places)
    if not watch.stopped:
        checkpoint.remove()
    return dataclasses.replace(result, seen=_seen(weight, n_rows), n_given=n_rows)


def _fit_chains(
    traced: TracedKernel, data: Data, n_rows: int, settings: MCMC, seed: int, watch: Watch, places: np.ndarray
) -> FitResult:
    """Run Markov chains, in units of the posterior where the sampler's numbers are ours."""
    check_chains_can_run(traced, settings)
    if settings.moves_in_own_units:
        result = fit_mcmc(traced, data, n_rows, settings, seed, watch=watch, warn=False)
        if result.diagnostics["stuck_chains"] or not result.diagnostics["finite"]:
            refuse_outside(traced, [in_double(data)], seed, places)
        warn_of_chains(result.diagnostics)
        return result
    exploration = explore(traced, data, seed, places)
    dense = settings.sampler_options.get("dense_mass", True) is not False  # type: ignore[union-attr]
    units = exploration.units(dense=dense)
    dtype = data.rows[traced.spec.input].dtype

    def starts(chain: int) -> dict[str, np.ndarray]:
        begin = exploration.begin(units, seed, chain)
        if settings.init_params is not None:
            begin = units.coordinates(given_start(settings, chain, begin))
        return {name: np.asarray(v, dtype) for name, v in begin.items()}

    placed = data._replace(units=jax.tree.map(lambda array: np.asarray(array, dtype), units))
    return fit_mcmc(traced, placed, n_rows, settings, seed, starts=starts, watch=watch)


def _compared(traced: TracedKernel, data: Data, n_rows: int, settings: SVI, result: FitResult) -> FitResult:
    """Hold the guide against the posterior by the ratio of their densities at its draws, and warn where it is far."""
    spec = traced.spec
    n_draws = min(settings.num_samples, COMPARED_DRAWS)
    if n_draws < FEWEST_COMPARED or not spec.latents or spec.subsamples or not result.diagnostics["loss_is_finite"]:
        return result
    units = result.data["units"]
    data = padded(traced, loaded(data, n_rows), n_rows)._replace(units=units)
    some = dataclasses.replace(result, draws={name: draw[:, :n_draws] for name, draw in result.draws.items()})
    found = densities.log_densities(traced, data, some, settings)
    if "log_q" not in found:
        return result
    k_hat = weigh(np.ravel(found["log_p"] - found["log_q"])).k_hat
    if k_hat > LARGEST_K_HAT:
        # The same words for every fit, so that a search warns once.
        warn_user(
            "The guide is far from the posterior: the importance ratios of its draws have a k-hat above "
            f"{LARGEST_K_HAT} (`fit_result_.diagnostics['k_hat']`), so that intervals may be too narrow. Use "
            "`inference='auto'`, or a richer guide, such as `SVI(guide='auto_multivariate_normal')`.",
            GuideWarning,
        )
    return dataclasses.replace(result, diagnostics={**result.diagnostics, "k_hat": k_hat})


def partial_fit(
    traced: TracedKernel,
    hyperparameters: dict[str, Any],
    inputs: Inputs,
    weight: Any,
    settings: Auto | SVI | MCMC | Sampler,
    seed: int,
    before: FitResult | None,
) -> FitResult:
    """Pass once over rows in minibatches, going on with an earlier fit.

    The log-likelihood of each minibatch is scaled to the settings' ``total_rows``, or to all rows seen so far.

    Parameters
    ----------
    traced : TracedKernel
    numbers, inputs, weight, settings, seed
        As in :func:`fit`, but for settings of variational inference alone.
    before : FitResult or None
        The earlier fit, of the same kernel and settings; None in the first call.

    Returns
    -------
    FitResult
    """
    assert isinstance(settings, SVI)
    _refuse_processes()
    refuse_other_models(settings.own_models, traced.kernel.function)
    spec = traced.spec
    if not spec.can_be_padded:
        local = [site.name for site in spec.local_latents]
        reason = f"latent sites {local} have an entry for each row" if local else spec.fit_mixing
        raise ValueError(f"`partial_fit` needs a kernel whose rows stand alone given its latent sites, but {reason}.")
    _check_weighted(traced, "`partial_fit`")
    n_rows = len(inputs.rows[spec.input])
    added = _seen(weight, n_rows)
    seen = added + (0.0 if before is None else before.seen)
    size = min(settings.batch_size or n_rows, n_rows)
    data, scale = Data(hyperparameters, inputs.rows, inputs.whole, weight), (settings.total_rows or seen) / added
    if before is None:
        units = units_of(traced, data, n_rows, dataclasses.replace(settings, batch_size=size), seed, scale)
    else:
        units = before.data["units"]
        check_same_sites(traced, before)
    chunks = minibatches(
        data._replace(units=units),
        n_rows,
        size,
        -(-n_rows // size),
        seed,
        epoch=0 if before is None else len(before.losses),  # type: ignore[arg-type]
        padded_size=bucket(size),
        scale=scale,
    )
    fall = settings.num_steps
    if settings.num_epochs is not None and before is not None:
        # An earlier fit fell over its own epochs, whatever the number of steps would be.
        fall = before.fall
    elif settings.num_epochs is not None and settings.total_rows is not None:
        fall = settings.num_epochs * -(-settings.total_rows // size)
    with contextlib.closing(chunks):
        result = continue_svi(traced, chunks, before, settings, seed, fall)
    return dataclasses.replace(result, seen=seen, n_given=n_rows + (0 if before is None else before.n_given))


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
    if traced.spec.unweighted is not None:
        raise ValueError(
            f"{what} would not reach the site {traced.spec.unweighted!r}, whose density depends on rows and has no "
            "entry for each: write it with one, within a plate over the rows, or without the outcome."
        )


def resume(
    traced: TracedKernel,
    result: FitResult,
    settings: Auto | SVI | MCMC | Sampler,
    seed: int,
    num_samples: int,
    *,
    verbose: int = 0,
) -> dict[str, np.ndarray]:
    """Take fresh draws ``(n_chains, num_samples, ...)`` from the state in which a fit ended.

    A fitted guide is drawn from with ``seed``, which also chooses among weighted draws; Markov chains go on with their
    own random numbers.
    """
    if result.method == "independent" and isinstance(settings, Auto):
        return draw_again(result, seed, num_samples)
    if isinstance(settings, Auto) and result.method == "mcmc":
        with jax.enable_x64(True):
            data, chains = Data(**result.data), chains_of(settings, result.diagnostics["rung"])
            draws = continue_chains(traced, data, result, chains, num_samples, Watch(verbose))
        return {name: draw.astype(result.draws[name].dtype) for name, draw in draws.items()}
    if isinstance(settings, Auto):
        settings = SVI().checked()
    if isinstance(settings, SVI):
        return draw_from_guide(traced, result, settings, seed, num_samples)
    data = Data(**result.data)
    data = padded(traced, data, len(data.rows[traced.spec.input]))
    if not isinstance(settings, MCMC):
        return continue_by_protocol(traced, data, result, settings, seed, num_samples, Watch(verbose))
    return continue_chains(traced, data, result, settings, num_samples, Watch(verbose))


def log_densities(
    traced: TracedKernel,
    hyperparameters: dict[str, Any],
    inputs: Inputs,
    weight: Any,
    settings: SVI,
    result: FitResult,
) -> dict[str, np.ndarray]:
    """Return the log densities of a variational fit's draws, by the kernel and by the guide.

    Parameters
    ----------
    traced : TracedKernel
    numbers, inputs, weight, settings
        As in :func:`fit`.
    result : FitResult
        What the fit returned.

    Returns
    -------
    dict of str to array of shape (n_chains, n_draws)
        ``log_p`` and, where the guide's density is known, ``log_q``.
    """
    n_rows = len(inputs.rows[traced.spec.input])
    data = Data(hyperparameters, inputs.rows, inputs.whole, weight, result.data["units"])
    data = padded(traced, data, n_rows)
    return densities.log_densities(traced, data, result, settings)
